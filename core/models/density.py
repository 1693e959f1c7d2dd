"""Density clusters by hdbscan, and the default options for a number of rows.

See `core.models.density_assigner` for what a strength means and how new rows are
assigned, and `core.models.hierarchy` for why the rows' order does not matter.

A cluster of 50 shops is small among 5,000 and a quarter of 200, so the smallest size
follows the number of shops. How far to smooth, no rule knows beforehand: too little
lets a bridge of in-between shops join two groups, too much dissolves small ones. So a
few degrees are tried, and the clusters that tell most shops apart are taken: those with
the highest structure score, coverage x ln(effective clusters).

Taking the highest of several scores favours finding clusters, in data without any as
well. That is why every null of the structure check and of the certificate goes through
the same choice.

A refit may stay near the labels that shops already have: of the degrees whose score is
within `TOLERANCE` of the best, the one that agrees most with them is taken, and what
that costs in score is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.metrics import adjusted_rand_score

from core.config import ClusteringConfig
from core.errors import ConfigError, ModelError, did_you_mean
from core.models import density_assigner
from core.models.hierarchy import (
    Hierarchy,
    Listing,
    build_hierarchy,
    build_linkage,
    list_neighbours,
)
from core.models.preprocessing import checked_matrix

SELECTION_METHODS = ("eom", "leaf")


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
        follow hdbscan's other definition.
    assigner_ : core.models.density_assigner.Assigner
        What is saved, and assigns rows without hdbscan.
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
    ) -> None:
        self.min_cluster_size = min_cluster_size
        self.min_samples = min_samples
        self.selection_method = selection_method

    def fit(self, X: Any, y: None = None, listing: Listing | None = None) -> Self:
        """Find the clusters.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers on comparable scales.
        y : None
            Ignored.
        listing : Listing, optional
            `core.models.hierarchy.list_neighbours` of the same table, for this
            `min_samples` or a larger one. None: they are looked for.

        Raises
        ------
        ConfigError
            For an impossible parameter.
        ModelError
            For a table that is not numeric and finite, or has too few rows.
        """
        table, min_samples = self._checked(X), int(self.min_samples)
        listing = listing or list_neighbours(table, min_samples)
        linkage = build_linkage(table, min_samples, listing)
        found = build_hierarchy(
            linkage, int(self.min_cluster_size), self.selection_method
        )
        self.assigner_ = _assigner(found)
        point, tree = linkage.points.point_of_row, found.tree
        self.n_features_in_ = table.shape[1]
        self.labels_ = tree.cluster_label[tree.parent[point]].astype(np.int64)
        self.strengths_ = self.assigner_.strength[point]
        self.n_clusters_ = len(tree.max_lambda)
        self.hdbscan_ = found.model
        return self

    def assign(self, X: Any) -> density_assigner.DensityAssignment:
        """Return the cluster and the strength of rows, new ones or those of `fit`.

        Memory does not grow with the number of rows beyond `X` and the answer.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers, scaled as in `fit`.

        Returns
        -------
        DensityAssignment
            ``labels`` (int64; -1 is noise) and ``strengths`` (float64; 0 for noise).

        Raises
        ------
        ModelError
            Before `fit`, and for a table that is not numeric and finite or has other
            columns.
        """
        if not hasattr(self, "assigner_"):
            raise ModelError(
                "this `DensityClusterer` has no clusters yet; call `fit` first."
            )
        return self.assigner_.assign(checked_matrix(self, X, is_fit=False))

    def _checked(self, X: Any) -> density_assigner.FloatArray:
        """Return the table to fit, or say why it cannot be."""
        self._check_options()
        table = density_assigner.without_tiny(checked_matrix(self, X, is_fit=True))
        self._check_size(len(table))
        return table

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


def _assigner(found: Hierarchy) -> density_assigner.Assigner:
    """Put together what assigning takes, with the strengths of the training rows."""
    tree, linkage = found.tree, found.linkage
    lam = np.full(len(linkage.fit_core), np.finfo(np.float64).max)
    np.divide(1.0, linkage.fit_core, out=lam, where=linkage.fit_core > 0.0)
    labels = tree.cluster_label[tree.parent]
    return density_assigner.Assigner(
        min_samples=linkage.min_samples,
        points=linkage.points.values,
        counts=linkage.points.counts,
        core=linkage.core,
        strength=density_assigner.relative_strength(labels, lam, tree.max_lambda),
        **tree._asdict(),
    )


SIZE_BOUNDS = (10, 50)
SMOOTHING = (5, 10, 30, 100)
# More neighbours than a twentieth of the shops would smooth whole groups away.
LARGEST_SHARE = 0.05
# A million shops with 200 neighbours each take 2 GB.
LARGEST_DEGREE = 200
# The degree is chosen on so many shops: each degree costs a spanning tree.
MAX_ROWS = 10_000
# Share of the highest score within which degrees of smoothing count as equally good:
# another seed of the encoder alone moves the score by up to 6.5% (six populations of
# the built-in generator, 2,000 shops). The price is measured in
# `core.models.autoencoder.estimator`.
TOLERANCE = 0.05


def smallest_size(n_shops: int) -> int:
    """Return the fewest shops in a cluster by default.

    >>> [smallest_size(n) for n in (100, 1_000, 4_000, 60_000)]
    [10, 20, 50, 600]
    """
    low, high = SIZE_BOUNDS
    return max(min(max(n_shops // 50, low), high), n_shops // 100)


@dataclass(frozen=True)
class DensityFit:
    """Clusters, and what it cost to have them near earlier ones.

    Attributes
    ----------
    clusterer : DensityClusterer
        Fitted to all rows; its parameters are the options taken.
    kept_score : float
        Structure score of the degree of smoothing taken, over the highest of those
        tried; 1 where it is the best one, or none was to choose.
    agreement : float or None
        Adjusted Rand index of its clusters with the labels to stay near, over all rows,
        -1 as one more group; None without such labels.
    """

    clusterer: DensityClusterer
    kept_score: float = 1.0
    agreement: float | None = None


def fit_density(
    X: npt.NDArray[Any],
    options: ClusteringConfig,
    seed: int,
    near: npt.NDArray[np.integer] | None = None,
) -> DensityClusterer:
    """Cluster rows as `choose_density` does; return the clusterer alone."""
    return choose_density(X, options, seed, near).clusterer


def choose_density(
    X: npt.NDArray[Any],
    options: ClusteringConfig,
    seed: int,
    near: npt.NDArray[np.integer] | None = None,
) -> DensityFit:
    """Cluster rows with the options named, and defaults for the others.

    Parameters
    ----------
    X : ndarray of float, shape (n_rows, n_columns)
        Finite, on comparable scales.
    options : ClusteringConfig
        Without a `min_cluster_size`, it is `smallest_size`. Without `min_samples`, the
        one of `SMOOTHING` (up to 5% of the rows) with the highest coverage x
        ln(effective clusters) of at most 10,000 rows; the smallest where several are
        as high. With more rows it grows in proportion, up to 200: over denser rows, the
        same number of neighbours would smooth less.
    seed : int
        Draws the rows to choose on where there are more.
    near : ndarray of int, shape (n_rows,), optional
        Labels that the rows already have, -1 for none. Without `min_samples`, the one
        whose clusters agree most with them is taken, of those whose score is at least
        1 - `TOLERANCE` of the highest; of several, the one with the higher score.

    Raises
    ------
    ConfigError, ModelError
        As `core.models.density.DensityClusterer.fit`; also where `near` has another
        length than `X`.
    """
    if near is not None and len(near) != len(X):
        raise ModelError(
            f"`near` labels {len(near):,} rows; expected one label for each of "
            f"{len(X):,}."
        )
    size, method = options.min_cluster_size, options.selection_method
    size = smallest_size(len(X)) if size is None else size
    if options.min_samples is not None:
        fitted = DensityClusterer(size, options.min_samples, method).fit(X)
        return DensityFit(fitted, agreement=_agreement(near, fitted))
    rows, places = X, np.arange(len(X))
    if len(X) > MAX_ROWS:
        drawn = np.random.default_rng(seed).choice(len(X), MAX_ROWS, replace=False)
        places = np.sort(drawn)
        rows = X[places]
    share = len(rows) / len(X)
    least = max(min(size, SIZE_BOUNDS[0]), round(size * share))
    degrees = [n for n in SMOOTHING if n <= LARGEST_SHARE * len(rows)] or [SMOOTHING[0]]
    tried = _fitted(rows, least, degrees, method)
    chosen, kept_score = _best_of(tried, None if near is None else near[places])
    if rows is not X:
        # As many neighbours per row: over all rows they reach as far as in the draw.
        degree = min(round(chosen.min_samples / share), LARGEST_DEGREE)
        chosen = DensityClusterer(size, degree, method).fit(X)
    return DensityFit(chosen, kept_score, _agreement(near, chosen))


def _fitted(
    rows: npt.NDArray[Any], size: int, degrees: list[int], method: str
) -> list[DensityClusterer]:
    """Return a clusterer for each degree of smoothing; neighbours are found once."""
    each = [DensityClusterer(size, n, method) for n in degrees]
    table = each[-1]._checked(rows)
    listing = list_neighbours(table, degrees[-1])
    return [clusterer.fit(rows, listing=listing) for clusterer in each]


def _best_of(
    tried: list[DensityClusterer], near: npt.NDArray[np.integer] | None
) -> tuple[DensityClusterer, float]:
    """Return the clusterer to take, and its score over the highest."""
    scores = [structure_score(clusterer.labels_) for clusterer in tried]
    highest = max(scores)
    if near is None or highest == 0.0:
        return tried[scores.index(highest)], 1.0
    good = [i for i, s in enumerate(scores) if s >= (1.0 - TOLERANCE) * highest]
    agreements = {i: _agreement(near, tried[i]) for i in good}
    best = max(good, key=lambda i: (agreements[i], scores[i]))
    return tried[best], scores[best] / highest


def _agreement(
    near: npt.NDArray[np.integer] | None, clusterer: DensityClusterer
) -> float | None:
    """Return the adjusted Rand index with earlier labels; None where there are none.

    Rounded, so that equal clusters agree alike however they are numbered.
    """
    if near is None:
        return None
    return round(float(adjusted_rand_score(near, clusterer.labels_)), 12)


def structure_score(labels: npt.NDArray[np.integer]) -> float:
    """Return coverage x ln(effective clusters) = coverage x entropy of the sizes.

    Rounded to 12 digits, so that equal clusters score alike however they are numbered.
    """
    sizes = np.bincount(labels[labels >= 0])
    shares = sizes[sizes > 0] / max(sizes.sum(), 1)
    coverage = sizes.sum() / max(len(labels), 1)
    return round(float(-coverage * (shares * np.log(shares)).sum()), 12) + 0.0
