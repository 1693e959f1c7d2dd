"""Exact nearest neighbours, in few dimensions by a tree and in many by matrix products.

A kd-tree prunes nearly everything in a latent space of 5 dimensions and hardly anything
among 25 features (measured on 60,000 rows: some 5 ms per row, against 0.1 ms for a
blocked product). A product finds the neighbours but rounds their distances, so those
of the chosen ones are computed again, from the differences: equal rows are at 0
exactly.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

TREE_DIMENSIONS = 12
"""Up to here the kd-tree is used (20,000 points: 0.1 ms per row, as by products)."""

TREE_POINTS = 256
"""Up to here it is used in any case: products take 1 ms to begin."""

SPARE = 4
"""Candidates beyond the `k` wanted, against rounding at the edge."""

FAR = 300.0
"""Norm, in neighbour distances, from which a product's rounding (some 2e-15 of the
squared norm) could change a neighbour distance by more than 1e-10 of itself."""

BLOCK = 4_000_000
"""Numbers held at once where distances are computed again."""


class Neighbours(NamedTuple):
    """Nearest neighbours of some rows, by distance and, where that ties, by index.

    Attributes
    ----------
    distances : ndarray of shape (n_rows, k), float64
        Euclidean; inf where there is no further neighbour within the limit.
    indices : ndarray of shape (n_rows, k), intp
        Into the points of the index; their number where there is none.
    """

    distances: FloatArray
    indices: IntArray


class NeighbourIndex:
    """A set of points that can be asked for the nearest ones to any row.

    The answer for a row does not depend on the other rows asked about, nor on the
    number of threads.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_features)
        Finite, not empty.
    """

    def __init__(self, points: FloatArray) -> None:
        self.points = np.ascontiguousarray(points, dtype=np.float64)
        self._tree: Any = None
        if points.shape[1] <= TREE_DIMENSIONS or len(points) <= TREE_POINTS:
            # Of the leaf sizes and ways to split that the tree offers, the fastest to
            # ask by 5% and the fastest to build.
            self._tree = cKDTree(self.points, leafsize=32, balanced_tree=False)
        else:
            # Rounding grows with the norm, so most rows should be near the origin.
            self._centre = np.median(self.points, axis=0)
            self._search = NearestNeighbors(algorithm="brute")
            self._search.fit(self.points - self._centre)

    def query(self, rows: FloatArray, k: int, within: float = np.inf) -> Neighbours:
        """Return the `k` nearest points (all, if there are fewer) of every row.

        The tree takes every processor; products are left to OpenMP, which does so
        unless ``OMP_NUM_THREADS`` is set. The result does not depend on it.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_features)
            Finite.
        k : int
            At least 1.
        within : float
            Points farther away may be left out.
        """
        k = min(k, len(self.points))
        if self._tree is None:
            return self._by_product(rows, k)
        distances, indices = self._tree.query(
            rows,
            k=k,
            workers=os.cpu_count() or 1,
            # The limit is exclusive and compared after squaring.
            distance_upper_bound=within * (1 + 1e-12),
        )
        shape = (len(rows), k)  # for one neighbour the tree drops the axis
        return _ties_by_index(distances.reshape(shape), indices.reshape(shape))

    def _by_product(self, rows: FloatArray, k: int) -> Neighbours:
        """Find neighbours through products, then measure their distances exactly."""
        centred = rows - self._centre
        indices = self._search.kneighbors(
            centred, min(k + SPARE, len(self.points)), return_distance=False
        )
        found = _sorted(_measure(rows, self.points, indices), indices)
        distances = found.distances[:, :k].copy()
        indices = found.indices[:, :k].copy()
        norms = np.sqrt(np.einsum("ij,ij->i", centred, centred))
        for row in np.flatnonzero(norms > FAR * distances[:, -1]):
            exact = cdist(rows[row : row + 1], self.points, "sqeuclidean")[0]
            nearest = np.argpartition(exact, k - 1)[None, :k]
            measured = _measure(rows[row : row + 1], self.points, nearest)
            distances[row], indices[row] = (
                values[0] for values in _sorted(measured, nearest)
            )
        return Neighbours(distances, indices)


def _measure(rows: FloatArray, points: FloatArray, indices: IntArray) -> FloatArray:
    """Return the distances of rows from their own list of points, in blocks."""
    distances = np.empty(indices.shape)
    step = max(1, BLOCK // (indices.shape[1] * rows.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        difference = points[indices[part]] - rows[part, None, :]
        squares = np.einsum("ijk,ijk->ij", difference, difference)
        distances[part] = np.sqrt(squares)
    return distances


def _sorted(distances: FloatArray, indices: IntArray) -> Neighbours:
    """Sort every row's neighbours by distance, then index."""
    order = np.lexsort((indices, distances), axis=-1)
    return Neighbours(
        np.take_along_axis(distances, order, axis=-1),
        np.take_along_axis(indices, order, axis=-1),
    )


def _ties_by_index(distances: FloatArray, indices: IntArray) -> Neighbours:
    """Order equal distances, which a tree returns as it comes across them, by index."""
    tied = np.flatnonzero((distances[:, 1:] == distances[:, :-1]).any(axis=1))
    if len(tied):
        distances[tied], indices[tied] = _sorted(distances[tied], indices[tied])
    return Neighbours(distances, indices)
