"""From a table to hdbscan's cluster hierarchy, independent of the order of its rows.

hdbscan condenses the hierarchy and selects the clusters; what comes before (core
distances and spanning tree) is computed here, for three reasons. It is exact, it takes
seconds where hdbscan's own trees take minutes in 25 dimensions, and equal distances,
which hdbscan resolves by the order of the rows, are resolved by their values:

* Rows are sorted, and equal rows are one point that counts several times.
* Edges of equal weight are ordered by their ends; those that tie equal rows come
  first, one by one. So equal rows enter and leave every cluster together, and no
  cluster is split between rows that are equal.
* Clusters are numbered by descending size; of equally large ones, the one with the
  lexicographically smallest row comes first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from core.clustering.condensed import Points, Tree, canonical_tree, condense
from core.clustering.neighbours import FloatArray, IntArray, NeighbourIndex
from core.clustering.spanning import Edges, spanning_tree

LISTED = 6
"""Neighbours looked up beyond those that the core distances need: each one spares
the spanning tree searches."""


class Hierarchy(NamedTuple):
    """What fitting learns.

    Attributes
    ----------
    points : Points
    core : ndarray of shape (n_points,), float64
        Distance to the `min_samples`-th nearest row, the row itself included: the
        core distance of `hdbscan.prediction`.
    fit_core : ndarray of shape (n_points,), float64
        Distance to the next one: the core distance of `hdbscan.HDBSCAN.fit`.
    tree : Tree
    model : hdbscan.HDBSCAN
        Fitted, with the rows in the table's order and the clusters' final numbers.
    """

    points: Points
    core: FloatArray
    fit_core: FloatArray
    tree: Tree
    model: Any


def build_hierarchy(
    table: FloatArray,
    min_cluster_size: int,
    min_samples: int,
    selection_method: str,
    n_jobs: int | None = None,
) -> Hierarchy:
    """Cluster the rows of a table.

    Parameters
    ----------
    table : ndarray of shape (n_rows, n_features)
        Finite, without negative zeros, of at least ``min_samples + 1`` rows.
    min_cluster_size, min_samples, selection_method
        As hdbscan's.
    n_jobs : int, optional
        Threads; None for one per processor.
    """
    points = _different_rows(table)
    index = NeighbourIndex(points.values)
    nearest = index.query(points.values, min_samples + 1 + LISTED, n_jobs)
    core = _distance_of(nearest.distances, points.counts[nearest.indices], min_samples)
    fit_core = _distance_of(
        nearest.distances, points.counts[nearest.indices], min_samples + 1
    )
    edges = spanning_tree(points.values, fit_core, nearest, n_jobs)
    model = condense(
        table,
        _edges_of_rows(edges, points, fit_core),
        min_cluster_size=min_cluster_size,
        min_samples=min_samples,
        cluster_selection_method=selection_method,
        gen_min_span_tree=True,
    )
    tree = canonical_tree(model, points)
    return Hierarchy(points, core, fit_core, tree, model)


def _different_rows(table: FloatArray) -> Points:
    """Sort the rows and count the equal ones."""
    order = np.lexsort(table.T[::-1])
    ranked = table[order]
    is_new = np.ones(len(table), dtype=bool)
    is_new[1:] = (ranked[1:] != ranked[:-1]).any(axis=1)
    starts = np.flatnonzero(is_new)
    point_of_row = np.empty(len(table), dtype=np.intp)
    point_of_row[order] = np.cumsum(is_new) - 1
    counts = np.diff(np.append(starts, len(table)))
    return Points(ranked[starts], counts, point_of_row)


def _distance_of(distances: FloatArray, counts: IntArray, rank: int) -> FloatArray:
    """Return the distance of the `rank`-th nearest row, equal rows counted each."""
    position = (np.cumsum(counts, axis=1) >= rank).argmax(axis=1)
    found: FloatArray = distances[np.arange(len(distances)), position]
    return found


def _edges_of_rows(edges: Edges, points: Points, core: FloatArray) -> FloatArray:
    """Return the spanning tree of all rows, sorted, as hdbscan takes it.

    The first row of every point carries its edges; the others hang on that one.
    """
    by_point = np.argsort(points.point_of_row, kind="stable")
    starts = np.concatenate([[0], np.cumsum(points.counts)[:-1]])
    row_of_point = by_point[starts]
    copies = np.delete(by_point, starts)
    owner = points.point_of_row[copies]
    table = np.concatenate(
        [
            np.column_stack([row_of_point[owner], copies, core[owner]]),
            np.column_stack(
                [row_of_point[edges.first], row_of_point[edges.second], edges.weight]
            ),
        ]
    )
    # Stable: among equal weights, equal rows are tied first, then edges in order.
    return table[np.argsort(table[:, 2], kind="stable")]
