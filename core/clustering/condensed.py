"""hdbscan's part: condense the hierarchy, select the clusters, number them by size.

hdbscan is imported in this module only, and only when something is fitted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from core.clustering.neighbours import FloatArray, IntArray


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
