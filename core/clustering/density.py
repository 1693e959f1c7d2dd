"""Clusters of equal density, found by hdbscan, with one definition of strength.

See `core.clustering.prediction` for what a strength means and how new rows are
assigned, and `core.clustering.hierarchy` for why the rows' order does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClusterMixin

from core.clustering.hierarchy import (
    Hierarchy,
    Linkage,
    build_hierarchy,
    build_linkage,
)
from core.clustering.neighbours import FloatArray
from core.clustering.prediction import (
    Assigner,
    Assignment,
    Joins,
    relative_strength,
)
from core.clustering.state import (
    FORMAT,
    assigner_arrays,
    restored_assigner,
    whole_number,
)
from core.errors import ArtifactError, ConfigError, ModelError, did_you_mean
from core.features.matrix import checked_matrix

SELECTION_METHODS = ("eom", "leaf")

TINY = 1e-100
"""Smaller values count as 0: the square of their difference would underflow."""


class DensityClusterer(ClusterMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """Find clusters of any shape by their density; leave the rest as noise.

    The labels are those of `hdbscan.HDBSCAN` with an exact spanning tree, numbered by
    descending size (equally large clusters by their lexicographically smallest row).
    They do not depend on the order of the rows, and equal rows share a label. A single
    cluster that holds everything is never returned: such data is all noise.

    Parameters
    ----------
    min_cluster_size : int
        Fewest rows in a cluster, at least 2.
    min_samples : int
        Neighbours that make a density estimate, at least 1. More smooths more, and
        leaves more noise.
    selection_method : {'eom', 'leaf'}
        Which clusters of the hierarchy are taken: the most persistent ones (excess of
        mass), or the smallest.
    n_jobs : int or None
        Threads that search up to 12 columns; None or -1 for one per processor. More
        columns are searched by matrix products, which follow ``OMP_NUM_THREADS``. The
        result does not depend on it.

    Attributes
    ----------
    labels_ : ndarray of shape (n_rows,), int64
        Cluster of each row, from 0; -1 is noise.
    strengths_ : ndarray of shape (n_rows,), float64
        How dense the row's surroundings are, against the densest of its cluster, in
        [0, 1]; 0 for noise. What `assign` returns for the same rows.
    n_clusters_ : int
        Number of clusters; 0 if everything is noise.
    hdbscan_ : hdbscan.HDBSCAN
        The same clusters as hdbscan's own object, for its plots; its `probabilities_`
        follow hdbscan's other definition. Neither it nor `labels_` and `strengths_`
        are part of the state.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Their names, if a frame was passed to `fit`.

    Examples
    --------
    >>> monthly_sales = [[1.0], [1.1], [1.2], [9.0], [9.1], [9.2], [9.3], [30.0]]
    >>> clusterer = DensityClusterer(min_cluster_size=3, min_samples=1)
    >>> clusterer.fit_predict(monthly_sales).tolist()
    [1, 1, 1, 0, 0, 0, 0, -1]
    >>> clusterer.assign([[9.05], [20.0]]).labels.tolist()
    [0, -1]
    """

    def __init__(
        self,
        min_cluster_size: int = 50,
        min_samples: int = 10,
        selection_method: str = "eom",
        n_jobs: int | None = None,
    ) -> None:
        self.min_cluster_size = min_cluster_size
        self.min_samples = min_samples
        self.selection_method = selection_method
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: None = None) -> Self:
        """Find the clusters.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers on comparable scales.
        y : None
            Ignored.

        Raises
        ------
        ConfigError
            For an impossible parameter.
        ModelError
            For a table that is not numeric and finite, or has too few rows.
        """
        return self.fit_linked(self.link(X))

    def link(self, X: Any) -> Linkage:
        """Return what the clusters of every `min_cluster_size` and method start from.

        Most of the time of `fit` goes here. Parameters and errors are those of `fit`.
        """
        self._check_options()
        table = _without_tiny(checked_matrix(self, X, is_fit=True))
        self._check_size(len(table))
        return build_linkage(table, int(self.min_samples), self._n_threads())

    def fit_linked(self, linkage: Linkage) -> Self:
        """Find the clusters of rows that `link` has linked; the rest of `fit`.

        Parameters
        ----------
        linkage : Linkage
            Of this clusterer, or of another one with the same `min_samples`.

        Raises
        ------
        ConfigError
            For an impossible parameter, or another `min_samples` than the linkage's.
        ModelError
            For fewer rows than one cluster needs.
        """
        self._check_options()
        if linkage.min_samples != self.min_samples:
            raise ConfigError(
                f"`min_samples` is {self.min_samples}, but the rows were linked with "
                f"{linkage.min_samples}. Link them again."
            )
        self._check_size(len(linkage.table))
        found = build_hierarchy(
            linkage, int(self.min_cluster_size), self.selection_method
        )
        self._assigner = _assigner(found)
        point, tree = linkage.points.point_of_row, found.tree
        self.n_features_in_ = linkage.table.shape[1]
        self.labels_ = tree.cluster_label[tree.parent[point]].astype(np.int64)
        self.strengths_ = self._assigner.strength[point]
        self.n_clusters_ = len(tree.max_lambda)
        self.hdbscan_ = found.model
        return self

    def assign(self, X: Any) -> Assignment:
        """Return the cluster and the strength of rows, new ones or those of `fit`.

        Memory does not grow with the number of rows beyond `X` and the answer.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers, scaled as in `fit`.

        Returns
        -------
        Assignment
            ``labels`` (int64; -1 is noise) and ``strengths`` (float64; 0 for noise).

        Raises
        ------
        ModelError
            Before `fit`, and for a table that is not numeric and finite or has other
            columns.
        """
        table = self._rows_to_assign(X)
        return self._assigner.assign(table, self._n_threads())

    def join(self, X: Any) -> Joins:
        """Return where rows join the training rows, which most of `assign` is about.

        It holds for every clusterer of the same linkage. Parameters and errors are
        those of `assign`; memory grows with the number of rows.
        """
        return self._assigner.join(self._rows_to_assign(X), self._n_threads())

    def labels_at(self, joins: Joins) -> Assignment:
        """Return the cluster and the strength of rows that `join` has joined."""
        self._require_fitted()
        return self._assigner.labels_at(joins)

    def get_state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Return what `assign` needs as named arrays and JSON-able values."""
        self._require_fitted()
        meta: dict[str, Any] = {
            "format": FORMAT,
            "min_cluster_size": int(self.min_cluster_size),
            "min_samples": self._assigner.min_samples,
            "selection_method": self.selection_method,
        }
        if hasattr(self, "feature_names_in_"):
            meta["feature_names"] = [str(name) for name in self.feature_names_in_]
        return assigner_arrays(self._assigner), meta

    @classmethod
    def from_state(
        cls, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]
    ) -> Self:
        """Return a clusterer that assigns exactly as the one `get_state` was asked of.

        Raises
        ------
        ArtifactError
            For a state that is not whole, or not one that fitting leaves.
        """
        if meta.get("format") != FORMAT:
            raise ArtifactError(
                f"the saved clusters have the format {meta.get('format')!r}; expected "
                f"{FORMAT}. Train the clusters again."
            )
        clusterer = cls(
            min_cluster_size=whole_number(meta, "min_cluster_size", 2),
            min_samples=whole_number(meta, "min_samples", 1),
            selection_method=str(meta.get("selection_method")),
        )
        clusterer._assigner = restored_assigner(arrays, clusterer.min_samples)
        clusterer.n_clusters_ = len(clusterer._assigner.max_lambda)
        clusterer.n_features_in_ = clusterer._assigner.points.shape[1]
        if "feature_names" in meta:
            names = meta["feature_names"]
            if not isinstance(names, list) or len(names) != clusterer.n_features_in_:
                raise ArtifactError(
                    f"the saved clusters name other features than their "
                    f"{clusterer.n_features_in_} columns. Train the clusters again."
                )
            clusterer.feature_names_in_ = np.array(names, dtype=object)
        return clusterer

    def _rows_to_assign(self, X: Any) -> FloatArray:
        """Return a table that fits the training rows, or refuse it."""
        self._require_fitted()
        return _without_tiny(checked_matrix(self, X, is_fit=False))

    def _require_fitted(self) -> None:
        """Refuse what only a fitted clusterer can do."""
        if not hasattr(self, "n_clusters_"):
            raise ModelError(
                "this `DensityClusterer` has no clusters yet; call `fit` first."
            )

    def _check_options(self) -> None:
        """Refuse impossible parameters."""
        for name, smallest in (("min_cluster_size", 2), ("min_samples", 1)):
            value = getattr(self, name)
            is_whole = isinstance(value, int | np.integer) and value is not True
            if not is_whole or value < smallest:
                raise ConfigError(
                    f"`{name}` is {value!r}; expected a whole number of at least "
                    f"{smallest}."
                )
        if self.selection_method not in SELECTION_METHODS:
            raise ConfigError(
                f"`selection_method` is {self.selection_method!r}; expected `eom` or "
                f"`leaf`.{did_you_mean(str(self.selection_method), SELECTION_METHODS)}"
            )

    def _check_size(self, n_rows: int) -> None:
        """Refuse a table that no cluster fits into."""
        if n_rows < self.min_cluster_size:
            raise ModelError(
                f"n_samples = {n_rows:,} row(s) are fewer than one cluster needs: "
                f"`min_cluster_size` is {self.min_cluster_size:,}. Bring more rows or "
                "lower `clustering.min_cluster_size`."
            )
        if n_rows <= self.min_samples:
            raise ModelError(
                f"n_samples = {n_rows:,} row(s) have no {self.min_samples:,} "
                f"neighbours each: `min_samples` is {self.min_samples:,}. Bring more "
                f"than {self.min_samples:,} rows or lower `clustering.min_samples` "
                "(and `clustering.min_cluster_size`)."
            )

    def _n_threads(self) -> int | None:
        """Return the number of threads; None for one per processor."""
        if self.n_jobs is None or self.n_jobs == -1:
            return None
        if not isinstance(self.n_jobs, int | np.integer) or self.n_jobs < 1:
            raise ConfigError(
                f"`n_jobs` is {self.n_jobs!r}; expected a number of threads, or None "
                "or -1 for one per processor."
            )
        return int(self.n_jobs)


def _without_tiny(table: FloatArray) -> FloatArray:
    """Return the table with 0 for values next to it, itself where there are none."""
    is_tiny = np.abs(table) < TINY
    if not is_tiny[table != 0.0].any():
        return table
    return np.where(is_tiny, 0.0, table)


def _assigner(found: Hierarchy) -> Assigner:
    """Put together what assigning takes, with the strengths of the training rows."""
    tree, linkage = found.tree, found.linkage
    lam = np.full(len(linkage.fit_core), np.finfo(np.float64).max)
    np.divide(1.0, linkage.fit_core, out=lam, where=linkage.fit_core > 0.0)
    labels = tree.cluster_label[tree.parent]
    return Assigner(
        min_samples=linkage.min_samples,
        points=linkage.points.values,
        counts=linkage.points.counts,
        core=linkage.core,
        strength=relative_strength(labels, lam, tree.max_lambda),
        **tree._asdict(),
    )
