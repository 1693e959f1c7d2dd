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


class Linkage(NamedTuple):
    """What holds for every `min_cluster_size` and selection method.

    Attributes
    ----------
    table : ndarray of shape (n_rows, n_features), float64
        The rows as given.
    min_samples : int
    points : Points
    core : ndarray of shape (n_points,), float64
        Distance to the `min_samples`-th nearest row, the row itself included: the
        core distance of `hdbscan.prediction`.
    fit_core : ndarray of shape (n_points,), float64
        Distance to the next one: the core distance of `hdbscan.HDBSCAN.fit`.
    edges : ndarray of shape (n_rows - 1, 3), float64
        The spanning tree of the rows (two rows and the distance), sorted.
    """

    table: FloatArray
    min_samples: int
    points: Points
    core: FloatArray
    fit_core: FloatArray
    edges: FloatArray


class Hierarchy(NamedTuple):
    """What fitting learns.

    Attributes
    ----------
    linkage : Linkage
    tree : Tree
    model : hdbscan.HDBSCAN
        Fitted, with the rows in the table's order and the clusters' final numbers.
    """

    linkage: Linkage
    tree: Tree
    model: Any


def build_linkage(
    table: FloatArray, min_samples: int, n_jobs: int | None = None
) -> Linkage:
    """Link the rows of a table by the spanning tree that every clustering starts from.

    Parameters
    ----------
    table : ndarray of shape (n_rows, n_features)
        Finite, without negative zeros, of at least ``min_samples + 1`` rows.
    min_samples : int
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
    of_rows = _edges_of_rows(edges, points, fit_core)
    return Linkage(table, min_samples, points, core, fit_core, of_rows)


def build_hierarchy(
    linkage: Linkage, min_cluster_size: int, selection_method: str
) -> Hierarchy:
    """Condense a linkage and select its clusters, as hdbscan does."""
    model = condense(
        linkage.table,
        linkage.edges,
        min_cluster_size=min_cluster_size,
        min_samples=linkage.min_samples,
        cluster_selection_method=selection_method,
        gen_min_span_tree=True,
    )
    return Hierarchy(linkage, canonical_tree(model, linkage.points), model)


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
