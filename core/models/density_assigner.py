"""Label and strength of new rows, and the nearest segment of unassigned ones.

The rule is that of `hdbscan.prediction.approximate_predict`, for all rows at once:

1. The row's core distance is that to its ``min_samples + 1``-th nearest training row.
2. Of the ``2 * min_samples`` nearest, the row joins the one at the smallest mutual
   reachability distance ``d`` (the largest of both core distances and the distance);
   of several, the nearest.
3. It belongs to the cluster of the hierarchy that this neighbour left last, unless the
   neighbour was still joined more closely (lambda above ``1 / d``): then to the first
   cluster above that was born before ``1 / d``.
4. Its label is that of the selected cluster that this one is or lies in, else -1.

**Strength** is ``min(1, d_min / d)`` in the row's cluster, with ``1 / d_min`` the
largest lambda at which the selected cluster itself loses a row or a part; 1 means as
dense as the cluster's densest level, and noise has 0. For a training row, ``d`` is its
own core distance, so one definition serves fit and prediction.

Three things differ from `approximate_predict`, each where its answer cannot be meant:

* A row equal to a training row has that row's fitted label. (It gives the same nearly
  always; not where rounding or a tie moves the row up to its cluster's parent.)
* A selected cluster that splits before it loses any row: hdbscan 0.8.44 looks the
  selected clusters up by their rows' smallest cluster id, finds one of the parts
  instead and calls the other part noise.
* A cluster with more than `min_samples` equal rows has an infinite lambda, by which
  hdbscan divides: everybody in it gets strength 0. Here the largest finite one counts.

What comes back may have been altered: every array's kind, length and range is checked,
and the hierarchy must lead upwards to its root, so that no walk through it is endless.

Nearest neighbours are exact, in few dimensions by a tree and in many by matrix
products: a kd-tree prunes nearly everything in a latent space of 5 dimensions and
hardly anything among 25 features (measured on 60,000 rows: some 5 ms per row, against
0.1 ms for a blocked product). A product finds the neighbours but rounds their
distances, so those of the chosen ones are computed again, from the differences: equal
rows are at 0 exactly.

A density segment can have any shape, so its centre may lie outside it. What stands for
it are shops from its denser half, at most 64, spread over the whole of it. The distance
of a shop to a segment is that to the nearest of them, in the latent space.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from core.artifacts.arrays import Arrays, Meta, State
from core.errors import ArtifactError, listed

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

CELLS = 4_000_000
"""Neighbours looked at together: bounds the memory to about 200 MB."""
TREE_DIMENSIONS = 12
"""Up to here the kd-tree is used (20,000 points: 0.1 ms per row, as by products)."""
TREE_POINTS = 256
"""Up to here it is used in any case: products take 1 ms to begin."""
SPARE = 4
"""Candidates beyond the `k` wanted, against rounding at the edge."""
FEW = 16
"""Up to as many rows are compared with every point: products take longer to begin."""
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

    @cached_property
    def _products(self) -> tuple[FloatArray, Any]:
        """A centre, and a search among the points without it."""
        from sklearn.neighbors import NearestNeighbors

        # Rounding grows with the norm, so most rows should be near the origin.
        centre = np.median(self.points, axis=0)
        search = NearestNeighbors(algorithm="brute")
        return centre, search.fit(self.points - centre)

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
            return (self._by_measure if len(rows) <= FEW else self._by_product)(rows, k)
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
        centre, search = self._products
        centred = rows - centre
        indices = search.kneighbors(
            centred, min(k + SPARE, len(self.points)), return_distance=False
        )
        found = _sorted(_measure(rows, self.points, indices), indices)
        distances = found.distances[:, :k].copy()
        indices = found.indices[:, :k].copy()
        norms = np.sqrt(np.einsum("ij,ij->i", centred, centred))
        is_far = norms > FAR * distances[:, -1]
        if is_far.any():
            distances[is_far], indices[is_far] = self._by_measure(rows[is_far], k)
        return Neighbours(distances, indices)

    def _by_measure(self, rows: FloatArray, k: int) -> Neighbours:
        """Find neighbours by their distances from every point."""
        n_near = min(k + SPARE, len(self.points))
        nearest = np.empty((len(rows), n_near), dtype=np.intp)
        step = max(1, BLOCK // len(self.points))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            exact = cdist(rows[part], self.points, "sqeuclidean")
            nearest[part] = np.argpartition(exact, n_near - 1, axis=1)[:, :n_near]
        found = _sorted(_measure(rows, self.points, nearest), nearest)
        return Neighbours(found.distances[:, :k], found.indices[:, :k])


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


class DensityAssignment(NamedTuple):
    """Cluster and strength of each row.

    Attributes
    ----------
    labels : ndarray of shape (n_rows,), int64
        From 0, by descending size at fit; -1 is noise.
    strengths : ndarray of shape (n_rows,), float64
        In [0, 1]; 0 for noise.
    """

    labels: npt.NDArray[np.int64]
    strengths: FloatArray


@dataclass(frozen=True, eq=False)
class Assigner:
    """What it takes to assign rows; see `core.models.hierarchy` for the terms.

    Attributes
    ----------
    min_samples : int
    points : ndarray of shape (n_points, n_features), float64
        The different training rows.
    counts : ndarray of shape (n_points,)
        How often each occurs.
    core : ndarray of shape (n_points,)
        Distance to the `min_samples`-th nearest training row, itself included.
    parent : ndarray of shape (n_points,)
        The cluster each left last.
    leaves_at : ndarray of shape (n_points,)
        The lambda at which it did; may be inf.
    strength : ndarray of shape (n_points,)
        Fitted strength.
    cluster_parent, cluster_birth, cluster_label : ndarray of shape (n_tree_clusters,)
        The hierarchy; cluster 0 is its root, and parents come before children.
    max_lambda : ndarray of shape (n_clusters,)
        Of each label.
    """

    min_samples: int
    points: FloatArray
    counts: IntArray
    core: FloatArray
    parent: IntArray
    leaves_at: FloatArray
    strength: FloatArray
    cluster_parent: IntArray
    cluster_birth: FloatArray
    cluster_label: IntArray
    max_lambda: FloatArray
    _index: NeighbourIndex = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", NeighbourIndex(self.points))

    def assign(self, rows: FloatArray) -> DensityAssignment:
        """Return label and strength of every row, a block of rows at a time.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_features), float64
            Finite, scaled as the training rows were.
        """
        rows = without_tiny(rows)
        if not len(self.max_lambda):
            return DensityAssignment(
                np.full(len(rows), -1, dtype=np.int64), np.zeros(len(rows))
            )
        point = self._equal_points(rows)
        labels = self.cluster_label[self.parent[point]].astype(np.int64)
        strengths = self.strength[point]
        new = np.flatnonzero(point < 0)
        step = max(1, CELLS // (2 * self.min_samples))
        for start in range(0, len(new), step):
            part = new[start : start + step]
            labels[part], strengths[part] = self._labels_at(*self._join(rows[part]))
        return DensityAssignment(labels, strengths)

    @cached_property
    def _point_of_values(self) -> dict[bytes, int]:
        """The index of each point, by its values."""
        points = self.points + 0.0  # -0.0 is 0.0
        return {values.tobytes(): point for point, values in enumerate(points)}

    def _equal_points(self, rows: FloatArray) -> IntArray:
        """Return the training point that each row is equal to; -1 for none.

        Looked up, since most rows of a training run are known: searching for them as
        for new ones took most of the labelling.
        """
        find = self._point_of_values.get
        same_zeros = np.asarray(rows, dtype=np.float64) + 0.0
        return np.array([find(row.tobytes(), -1) for row in same_zeros], dtype=np.intp)

    def _labels_at(self, point: IntArray, reach: FloatArray) -> DensityAssignment:
        """Return label and strength of rows, from where they join the training rows."""
        lam = 1.0 / reach
        labels = self.cluster_label[self._cluster_at(point, lam)]
        strengths = relative_strength(labels, lam, self.max_lambda)
        return DensityAssignment(labels.astype(np.int64), strengths)

    def _join(self, rows: FloatArray) -> tuple[IntArray, FloatArray]:
        """Return the training point that each row joins, and the distance there.

        The rows are equal to no point. The distance is the mutual reachability
        distance. Memory grows with the number of rows, `2 * min_samples` neighbours
        each.
        """
        distances, indices = self._index.query(rows, self.min_samples + 1)
        everyone = np.arange(len(rows))
        seen = np.cumsum(self.counts[indices], axis=1)
        own_core = distances[everyone, (seen > self.min_samples).argmax(axis=1)]
        # None joins below its own core distance. Where a neighbour reaches that, the
        # first such one decides and the farther ones need not be looked up.
        reaches = (self.core[indices] <= own_core[:, None]) & (
            distances <= own_core[:, None]
        )
        first = reaches.argmax(axis=1)
        point, reach = indices[everyone, first], own_core
        rest = np.flatnonzero(~reaches[everyone, first])
        if len(rest):
            point[rest], reach[rest] = self._widely_joined_point(
                rows[rest], own_core[rest]
            )
        return point, reach

    def _widely_joined_point(
        self, rows: FloatArray, own_core: FloatArray
    ) -> tuple[IntArray, FloatArray]:
        """Look among the ``2 * min_samples`` nearest training rows."""
        distances, indices = self._index.query(rows, 2 * self.min_samples)
        counts = self.counts[indices]
        reach = np.maximum(np.maximum(self.core[indices], distances), own_core[:, None])
        reach[np.cumsum(counts, axis=1) - counts >= 2 * self.min_samples] = np.inf
        first = reach.argmin(axis=1)
        everyone = np.arange(len(rows))
        return indices[everyone, first], reach[everyone, first]

    def _cluster_at(self, point: IntArray, lam: FloatArray) -> IntArray:
        """Return the cluster of the hierarchy that holds each row at its lambda."""
        cluster = self.parent[point]
        rising = np.flatnonzero(self.leaves_at[point] > lam)
        while len(rising):
            at = cluster[rising]
            rising = rising[(at > 0) & (self.cluster_birth[at] >= lam[rising])]
            cluster[rising] = self.cluster_parent[cluster[rising]]
        return cluster

    def get_state(self) -> State:
        """Return what `assign` needs as named arrays and JSON-able values.

        Each array is in the smallest dtype that holds it exactly: ``points`` is float32
        where that loses nothing (a latent space usually is float32), integers are
        int32, the rest is float64.
        """
        arrays = {name: getattr(self, name) for name in ARRAYS}
        for name in INTEGER_ARRAYS:
            arrays[name] = arrays[name].astype(np.int32)
        with np.errstate(over="ignore", under="ignore"):
            short = arrays["points"].astype(np.float32)
        if np.array_equal(short, arrays["points"]):
            arrays["points"] = short
        return arrays, {"format": FORMAT, "min_samples": int(self.min_samples)}

    @classmethod
    def from_state(cls, arrays: Arrays, meta: Meta) -> Self:
        """Return an assigner that assigns exactly as the one of the state.

        Raises
        ------
        ArtifactError
            If an array is missing, not numeric, of another length than it must have, or
            holds what fitting never leaves.
        """
        if meta.get("format") != FORMAT:
            raise _refused(f"their format is {meta.get('format')!r}, expected {FORMAT}")
        min_samples = meta.get("min_samples")
        if type(min_samples) is not int or not 1 <= min_samples < 2**31:
            raise _refused(
                f"`min_samples` is {min_samples!r}; expected a whole number from 1"
            )
        given = {name: _array(arrays, name) for name in ARRAYS}
        _check_shapes(given)
        _check_points(given, min_samples)
        _check_clusters(given)
        return cls(min_samples=min_samples, **given)


TINY = 1e-100
"""Smaller values count as 0: the square of their difference would underflow."""


def without_tiny(table: FloatArray) -> FloatArray:
    """Return the table with 0 for values next to it, itself where there are none."""
    is_tiny = np.abs(table) < TINY
    if not is_tiny[table != 0.0].any():
        return table
    return np.where(is_tiny, 0.0, table)


def relative_strength(
    labels: IntArray, lam: FloatArray, max_lambda: FloatArray
) -> FloatArray:
    """Return ``min(1, lambda / max_lambda of the label)``; 0 for label -1.

    Parameters
    ----------
    labels : ndarray of shape (n_rows,)
        -1 is noise.
    lam : ndarray of shape (n_rows,)
        1 / distance at which each row joins; may be inf.
    max_lambda : ndarray of shape (n_clusters,)
        Finite and positive.
    """
    largest = np.append(max_lambda, 1.0)[labels]
    strengths: FloatArray = np.minimum(lam, largest)
    strengths /= largest
    strengths[labels < 0] = 0.0
    return strengths


FORMAT = 1
POINT_ARRAYS = ("counts", "core", "parent", "leaves_at", "strength")
CLUSTER_ARRAYS = ("cluster_parent", "cluster_birth", "cluster_label")
INTEGER_ARRAYS = ("counts", "parent", "cluster_parent", "cluster_label")
ARRAYS = ("points", *POINT_ARRAYS, *CLUSTER_ARRAYS, "max_lambda")


def _refused(finding: str) -> ArtifactError:
    """Return the error for a state that fitting cannot have left."""
    return ArtifactError(
        f"the saved clusters are unusable: {finding}. Train the clusters again."
    )


def _array(arrays: Mapping[str, npt.NDArray[Any]], name: str) -> npt.NDArray[Any]:
    """Return one array as intp or float64."""
    if name not in arrays:
        missing = [key for key in ARRAYS if key not in arrays]
        raise _refused(f"missing {listed(missing)}")
    array = np.asarray(arrays[name])
    is_integer = name in INTEGER_ARRAYS
    if array.dtype.kind not in ("i" if is_integer else "f"):
        kind = "whole numbers" if is_integer else "floats"
        raise _refused(f"`{name}` is of dtype {array.dtype}; expected {kind}")
    return array.astype(np.intp if is_integer else np.float64)


def _check_shapes(given: Mapping[str, npt.NDArray[Any]]) -> None:
    """Refuse arrays whose shapes do not fit together."""
    points = given["points"]
    if points.ndim != 2 or 0 in points.shape:
        raise _refused(f"`points` has the shape {points.shape}; expected rows, columns")
    n_clusters = len(given["cluster_parent"]) if given["cluster_parent"].ndim else 0
    lengths = dict.fromkeys(POINT_ARRAYS, len(points))
    lengths |= dict.fromkeys(CLUSTER_ARRAYS, n_clusters)
    for name, length in lengths.items():
        if given[name].shape != (length,) or not length:
            raise _refused(
                f"`{name}` has the shape {given[name].shape}; expected ({length},)"
            )
    if given["max_lambda"].ndim != 1:
        raise _refused(f"`max_lambda` has the shape {given['max_lambda'].shape}")


def _check_points(given: Mapping[str, npt.NDArray[Any]], min_samples: int) -> None:
    """Refuse impossible values of what belongs to the points."""
    n_clusters = len(given["cluster_parent"])
    # NaN fails every comparison.
    sound = {
        "points": np.abs(given["points"]) <= 1e30,
        "counts": (given["counts"] >= 1) & (given["counts"] < 2**31),
        "core": (given["core"] >= 0.0) & (given["core"] < np.inf),
        "parent": (given["parent"] >= 0) & (given["parent"] < n_clusters),
        "leaves_at": given["leaves_at"] > 0.0,
        "strength": (given["strength"] >= 0.0) & (given["strength"] <= 1.0),
    }
    _refuse_unsound(sound)
    if given["counts"].sum() <= min_samples:
        raise _refused(
            f"it holds {given['counts'].sum()} rows; expected more than "
            f"`min_samples` = {min_samples}"
        )


def _check_clusters(given: Mapping[str, npt.NDArray[Any]]) -> None:
    """Refuse a hierarchy with loops, gaps, or parents that are born too late."""
    parent, birth = given["cluster_parent"], given["cluster_birth"]
    label, n_labels = given["cluster_label"], len(given["max_lambda"])
    ids = np.arange(len(parent))
    sound = {
        "cluster_parent": (parent >= 0) & (parent < np.maximum(ids, 1)),
        "cluster_birth": (birth > 0.0) & (birth < np.inf) | (ids == 0) & (birth == 0.0),
        "cluster_label": (label >= -1) & (label < n_labels) & ((ids > 0) | (label < 0)),
        "max_lambda": (given["max_lambda"] > 0.0) & (given["max_lambda"] < np.inf),
    }
    _refuse_unsound(sound)
    above = label[parent]
    _refuse_unsound(
        {
            "cluster_birth": birth >= birth[parent],
            "cluster_label": (above < 0) | (above == label),
            "strength": (given["strength"] == 0.0) | (label[given["parent"]] >= 0),
        }
    )
    # Each label starts at exactly one cluster.
    starts = np.sort(label[(label >= 0) & (above < 0)])
    if not np.array_equal(starts, np.arange(n_labels)):
        raise _refused(f"`cluster_label` does not hold each of {n_labels} labels once")


def _refuse_unsound(sound: Mapping[str, npt.NDArray[np.bool_]]) -> None:
    """Name the first array with an impossible value, and where it is."""
    for name, holds in sound.items():
        if not holds.all():
            where = ", ".join(str(i) for i in np.argwhere(~holds)[0])
            raise _refused(f"`{name}` holds an impossible value (at index {where})")


MOST = 64
"""Exemplars of one segment."""
NOWHERE = -1
"""Nearest segment where there is none to name."""
ROWS_AT_ONCE = 100_000


@dataclass(frozen=True, eq=False)
class Exemplars:
    """Points that stand for segments.

    Attributes
    ----------
    points : ndarray of shape (n_exemplars, n_dimensions), float64
        Latent vectors.
    segment : ndarray of shape (n_exemplars,), int64
        The segment of each, ascending from 0; every segment has one at least.
    """

    points: FloatArray
    segment: IntArray
    _trees: list[Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # One tree per segment: up to 64 points are searched in half a microsecond, and
        # the answer for a row does not depend on the rows beside it.
        trees = [
            cKDTree(self.points[self.segment == s]) for s in range(self.n_segments)
        ]
        object.__setattr__(self, "_trees", trees)

    @property
    def n_segments(self) -> int:
        """The number of segments."""
        return int(self.segment.max(initial=-1)) + 1

    def nearest(
        self, rows: FloatArray, labels: IntArray
    ) -> tuple[IntArray, FloatArray]:
        """Return the nearest segment other than a row's own, and how far it is.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_dimensions), float64
            Latent vectors.
        labels : ndarray of shape (n_rows,), int64
            Each row's own segment; -1: none, so every segment may be the nearest.

        Returns
        -------
        nearest : ndarray of shape (n_rows,), int64
            Of several, the one with the lowest number; -1 where there is no other.
        distance : ndarray of shape (n_rows,), float64
            Euclidean; NaN where there is no other.
        """
        nearest = np.full(len(rows), NOWHERE, dtype=np.int64)
        distance = np.full(len(rows), np.nan)
        for start in range(0, len(rows) if self.n_segments else 0, ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            found = np.stack(
                [tree.query(rows[part], workers=-1)[0] for tree in self._trees]
            )
            own = labels[part]
            members = np.flatnonzero(own >= 0)
            found[own[members], members] = np.inf
            best = found.argmin(axis=0)
            distance[part] = found[best, np.arange(len(own))]
            nearest[part] = best
        is_alone = np.isinf(distance)
        nearest[is_alone], distance[is_alone] = NOWHERE, np.nan
        return nearest, distance

    def get_state(self) -> State:
        """Return the arrays, and JSON-able values (none)."""
        return {"points": self.points, "segment": self.segment}, {}

    @classmethod
    def from_state(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the exemplars of a state.

        Raises
        ------
        ArtifactError
            For arrays that `choose_exemplars` cannot have left.
        """
        if not _is_sound(arrays.get("points"), arrays.get("segment")):
            raise ArtifactError(
                "the saved exemplars are unusable: expected finite `points` and one "
                "`segment` from 0 for each. Train the clusters again."
            )
        return cls(arrays["points"], arrays["segment"])


def choose_exemplars(
    rows: FloatArray, labels: IntArray, strengths: FloatArray
) -> Exemplars:
    """Choose at most 64 exemplars of every segment.

    Of a segment's members at or above its median strength the densest comes first, then
    always the one farthest from those chosen (Gonzalez, 1985): so a long segment is
    represented from end to end, by shops well inside it.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_dimensions), float64
        Latent vectors of the shops that the segments were found among.
    labels : ndarray of shape (n_rows,), int64
        From 0; -1 is noise, which has no exemplar.
    strengths : ndarray of shape (n_rows,), float64
        How dense each shop's surroundings are.
    """
    chosen = [
        _spread(rows, np.flatnonzero(labels == segment), strengths)
        for segment in range(int(labels.max(initial=-1)) + 1)
    ]
    places = np.concatenate([np.zeros(0, dtype=np.intp), *chosen])
    return Exemplars(
        np.asarray(rows[places], dtype=np.float64), labels[places].astype(np.int64)
    )


def _spread(
    rows: FloatArray, members: npt.NDArray[np.intp], strengths: FloatArray
) -> npt.NDArray[np.intp]:
    """Return exemplars of one segment, as places in `rows`; of equals, the first."""
    own = strengths[members]
    dense = members[own >= np.median(own)]
    points = rows[dense]
    next_one = int(strengths[dense].argmax())
    chosen: list[int] = []
    gap = np.full(len(dense), np.inf)
    while len(chosen) < MOST and gap[next_one] > 0.0:
        chosen.append(next_one)
        step = points - points[next_one]
        gap = np.minimum(gap, np.einsum("ij,ij->i", step, step))
        next_one = int(gap.argmax())
    return dense[chosen]


def _is_sound(
    points: npt.NDArray[Any] | None, segment: npt.NDArray[Any] | None
) -> bool:
    """Whether arrays can be exemplars."""
    if points is None or segment is None or points.ndim != 2:
        return False
    if points.dtype != np.float64 or segment.dtype != np.int64:
        return False
    if segment.shape != (len(points),) or not np.isfinite(points).all():
        return False
    ids = np.unique(segment)
    return np.array_equal(ids, np.arange(len(ids)))
