"""hdbscan's hierarchy of clusters: built from the spanning tree, condensed, selected.

hdbscan is imported in this module only, and only when something is fitted.

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
import numpy.typing as npt

from core.models.density_assigner import (
    FloatArray,
    IntArray,
    NeighbourIndex,
    Neighbours,
)
from core.models.spanning_tree import Edges, spanning_tree


class Points(NamedTuple):
    """The different rows of a table, in lexicographic order.

    Attributes
    ----------
    values : ndarray of shape (n_points, n_features), float64
    counts : ndarray of shape (n_points,), intp
        Rows of the table that are equal to the point.
    point_of_row : ndarray of shape (n_rows,), intp
        Index of each row's point.
    """

    values: FloatArray
    counts: IntArray
    point_of_row: IntArray


class Tree(NamedTuple):
    """hdbscan's condensed tree as arrays; cluster 0 is the root, parents come first.

    Attributes
    ----------
    parent : ndarray of shape (n_points,), intp
        The cluster that each point leaves last.
    leaves_at : ndarray of shape (n_points,), float64
        Lambda (1 / distance) at which it leaves; inf if more than `min_samples` rows
        are equal to it.
    cluster_parent : ndarray of shape (n_tree_clusters,), intp
        0 for the root itself.
    cluster_birth : ndarray of shape (n_tree_clusters,), float64
        Lambda at which a cluster splits off its parent; 0 for the root.
    cluster_label : ndarray of shape (n_tree_clusters,), intp
        Label of the selected cluster that it is, or lies in; -1 for neither.
    max_lambda : ndarray of shape (n_clusters,), float64
        Largest finite lambda at which something leaves the selected cluster itself,
        for a part that splits off it (as hdbscan has it) or a row.
    """

    parent: IntArray
    leaves_at: FloatArray
    cluster_parent: IntArray
    cluster_birth: FloatArray
    cluster_label: IntArray
    max_lambda: FloatArray


def condense(table: FloatArray, edges: FloatArray, **options: Any) -> Any:
    """Return an `HDBSCAN` that holds what its `fit` would have found on these edges."""
    from hdbscan import HDBSCAN
    from hdbscan._hdbscan_linkage import label
    from hdbscan.hdbscan_ import _tree_to_labels

    model = HDBSCAN(**options)
    (
        model.labels_,
        model.probabilities_,
        model.cluster_persistence_,
        model._condensed_tree,
        model._single_linkage_tree,
    ) = _tree_to_labels(
        table,
        label(edges),
        min_cluster_size=model.min_cluster_size,
        cluster_selection_method=model.cluster_selection_method,
    )
    model._min_spanning_tree = edges
    model._raw_data = table
    model._all_finite = True
    return model


def canonical_tree(model: Any, points: Points) -> Tree:
    """Renumber the model's clusters by size, in place; return its tree as arrays."""
    raw = model._condensed_tree
    n_rows = len(points.point_of_row)
    is_cluster = raw["child"] >= n_rows
    n_clusters = int(is_cluster.sum()) + 1
    cluster_parent = np.zeros(n_clusters, dtype=np.intp)
    child = raw["child"][is_cluster] - n_rows
    cluster_parent[child] = raw["parent"][is_cluster] - n_rows
    parent_of_row = np.empty(n_rows, dtype=np.intp)
    parent_of_row[raw["child"][~is_cluster]] = raw["parent"][~is_cluster] - n_rows

    order = _label_order(model.labels_, points)
    new_label = np.append(np.argsort(order), -1)
    selected = _selected(model.labels_, parent_of_row, cluster_parent)[order]
    model.labels_ = new_label[model.labels_]
    model.cluster_persistence_ = np.asarray(model.cluster_persistence_)[order]
    cluster_label = np.full(n_clusters, -1, dtype=np.intp)
    cluster_label[selected] = np.arange(len(selected))
    for cluster in range(1, n_clusters):
        above = cluster_label[cluster_parent[cluster]]
        if above >= 0:
            cluster_label[cluster] = above
    # hdbscan numbers the selected clusters by their ids, so these are put in the
    # order of our labels; parents keep coming before their children.
    old_id = np.lexsort((np.arange(n_clusters), cluster_label))
    new_id = np.argsort(old_id)
    raw["parent"] = new_id[raw["parent"] - n_rows] + n_rows
    raw["child"][is_cluster] = new_id[child] + n_rows
    return _tree_arrays(raw, points, cluster_label[old_id])


def _label_order(labels: IntArray, points: Points) -> IntArray:
    """Return hdbscan's labels by descending size, then by their smallest row."""
    is_member = labels >= 0
    sizes = np.bincount(labels[is_member])
    smallest = np.full(len(sizes), len(points.counts))
    np.minimum.at(smallest, labels[is_member], points.point_of_row[is_member])
    return np.lexsort((smallest, -sizes))


def _selected(
    labels: IntArray, parent_of_row: IntArray, cluster_parent: IntArray
) -> IntArray:
    """Return the selected cluster of each label: where its rows' clusters meet.

    hdbscan's own `_select_clusters` takes the smallest id among these clusters, which
    is another cluster where the selected one splits before it loses a single row.
    """
    selected = np.empty(labels.max(initial=-1) + 1, dtype=np.intp)
    pairs = np.unique(np.column_stack([labels, parent_of_row])[labels >= 0], axis=0)
    ends = np.searchsorted(pairs[:, 0], np.arange(len(selected) + 1))
    for label in range(len(selected)):
        clusters = set(pairs[ends[label] : ends[label + 1], 1].tolist())
        while len(clusters) > 1:
            lowest = max(clusters)  # parents come first, so it holds no other one
            clusters.remove(lowest)
            clusters.add(int(cluster_parent[lowest]))
        selected[label] = clusters.pop()
    return selected


def _tree_arrays(
    raw: npt.NDArray[Any], points: Points, cluster_label: IntArray
) -> Tree:
    """Split a condensed tree into arrays per point and per cluster."""
    n_rows = len(points.point_of_row)
    is_cluster = raw["child"] >= n_rows
    parent, child = raw["parent"] - n_rows, raw["child"]
    cluster_parent = np.zeros(len(cluster_label), dtype=np.intp)
    cluster_birth = np.zeros(len(cluster_label))
    cluster_parent[child[is_cluster] - n_rows] = parent[is_cluster]
    cluster_birth[child[is_cluster] - n_rows] = raw["lambda_val"][is_cluster]
    point = points.point_of_row[child[~is_cluster]]
    point_parent = np.empty(len(points.counts), dtype=np.intp)
    leaves_at = np.empty(len(points.counts))
    point_parent[point] = parent[~is_cluster]
    leaves_at[point] = raw["lambda_val"][~is_cluster]

    is_selected = cluster_label >= 0
    is_selected &= cluster_label[cluster_parent] != cluster_label
    max_lambda = np.empty(cluster_label.max(initial=-1) + 1)
    max_lambda[cluster_label[is_selected]] = cluster_birth[is_selected]
    counted = is_selected[parent] & np.isfinite(raw["lambda_val"])
    np.maximum.at(
        max_lambda, cluster_label[parent[counted]], raw["lambda_val"][counted]
    )
    return Tree(
        point_parent,
        leaves_at,
        cluster_parent,
        cluster_birth,
        cluster_label,
        max_lambda,
    )


LISTED = 6
"""Neighbours looked up beyond those that the core distances need: each one spares
the spanning tree searches."""


class Listing(NamedTuple):
    """The different rows of a table with their nearest ones, for several linkages.

    Attributes
    ----------
    points : Points
    nearest : Neighbours
        Of every point, itself included.
    """

    points: Points
    nearest: Neighbours


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


def list_neighbours(table: FloatArray, min_samples: int) -> Listing:
    """List the nearest rows of every row: as many as linkages of a degree need.

    Parameters
    ----------
    table : ndarray of shape (n_rows, n_features)
        Finite, without negative zeros, of at least ``min_samples + 1`` rows.
    min_samples : int
        The largest degree of smoothing.
    """
    points = _different_rows(table)
    index = NeighbourIndex(points.values)
    return Listing(points, index.query(points.values, min_samples + 1 + LISTED))


def build_linkage(table: FloatArray, min_samples: int, listing: Listing) -> Linkage:
    """Link the rows of a table by the spanning tree that every clustering starts from.

    Parameters
    ----------
    table : ndarray of shape (n_rows, n_features)
        As for `list_neighbours`.
    min_samples : int
        As hdbscan's.
    listing : Listing
        Of the table, for this degree of smoothing or a larger one.
    """
    (points, listed), k = listing, min_samples + 1 + LISTED
    nearest = Neighbours(listed.distances[:, :k], listed.indices[:, :k])
    core = _distance_of(nearest, points.counts, min_samples)
    fit_core = _distance_of(nearest, points.counts, min_samples + 1)
    edges = spanning_tree(points.values, fit_core, nearest)
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


def _distance_of(nearest: Neighbours, counts: IntArray, rank: int) -> FloatArray:
    """Return the distance of the `rank`-th nearest row, equal rows counted each."""
    if counts.max() == 1:
        return nearest.distances[:, rank - 1].copy()
    seen = np.cumsum(counts[nearest.indices], axis=1)
    position = (seen >= rank).argmax(axis=1)
    found: FloatArray = nearest.distances[np.arange(len(position)), position]
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
