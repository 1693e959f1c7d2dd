"""Label and strength of new rows, from arrays alone.

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
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from core.clustering.neighbours import FloatArray, IntArray, NeighbourIndex

CELLS = 4_000_000
"""Neighbours looked at together: bounds the memory to about 200 MB."""


class Assignment(NamedTuple):
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


class Joins(NamedTuple):
    """Where rows join the training rows.

    Attributes
    ----------
    point : ndarray of shape (n_rows,), intp
        The training point.
    reach : ndarray of shape (n_rows,), float64
        At which mutual reachability distance; 0 stands for an equal row, whatever the
        core distances.
    """

    point: IntArray
    reach: FloatArray


@dataclass(frozen=True, eq=False)
class Assigner:
    """What it takes to assign rows; see `core.clustering.hierarchy` for the terms.

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

    def assign(self, rows: FloatArray, n_jobs: int | None = None) -> Assignment:
        """Return label and strength of every row, a block of rows at a time.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_features), float64
            Finite.
        n_jobs : int, optional
            Threads; None for one per processor.
        """
        labels = np.full(len(rows), -1, dtype=np.int64)
        strengths = np.zeros(len(rows))
        step = max(1, CELLS // (2 * self.min_samples))
        if not len(self.max_lambda):
            return Assignment(labels, strengths)
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            labels[part], strengths[part] = self.labels_at(
                self.join(rows[part], n_jobs)
            )
        return Assignment(labels, strengths)

    def labels_at(self, joins: Joins) -> Assignment:
        """Return label and strength of rows, from where they join the training rows."""
        point, reach = joins
        is_known = reach == 0.0
        # An equal row has no finite lambda; it takes the fitted values below.
        lam = 1.0 / np.where(is_known, 1.0, reach)
        cluster = self._cluster_at(point, lam)
        cluster[is_known] = self.parent[point[is_known]]
        labels = self.cluster_label[cluster]
        strengths = relative_strength(labels, lam, self.max_lambda)
        strengths[is_known] = self.strength[point[is_known]]
        return Assignment(labels.astype(np.int64), strengths)

    def join(self, rows: FloatArray, n_jobs: int | None = None) -> Joins:
        """Return where each row joins: the same for every choice of clusters.

        Memory grows with the number of rows, `2 * min_samples` neighbours each.
        """
        near = self._index.query(rows, self.min_samples + 1, n_jobs)
        distances, indices = near
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
                rows[rest], own_core[rest], n_jobs
            )
        is_known = distances[:, 0] == 0.0
        point[is_known], reach[is_known] = indices[is_known, 0], 0.0
        return Joins(point, reach)

    def _widely_joined_point(
        self, rows: FloatArray, own_core: FloatArray, n_jobs: int | None
    ) -> tuple[IntArray, FloatArray]:
        """Look among the ``2 * min_samples`` nearest training rows."""
        distances, indices = self._index.query(rows, 2 * self.min_samples, n_jobs)
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
