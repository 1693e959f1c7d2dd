"""Data without structure (a Gaussian copula), and a first check against it.

One population that keeps every feature's own distribution (ties, zeros and all) and
the rank correlations between features, and holds nothing else.

Missing values are kept as they come, together: each row drawn gets the whole pattern
of missing values of a row of the data (a short history leaves several features unknown
at once, and once they are filled in such entities sit in one place of the feature
space; a null without that would make a group of every set of new entities). How many
values a row lacks is one more column of the copula, so that what goes with a short
history goes with it in the null as well. Which of several patterns of equally many
missing values goes with what is not kept.

HDBSCAN finds clusters in structureless data too. So the same clustering runs on the
data and on nulls that keep every feature's own distribution and the rank correlations
between features, and hold nothing else (a Gaussian copula). What it finds beyond them
is structure; the rest is what one population of that shape looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from core.errors import ModelError
from core.evaluation import quality

BoolArray = npt.NDArray[np.bool_]

_CALIBRATION_ROUNDS = 4


@dataclass(frozen=True)
class GaussianCopula:
    """A Gaussian copula: given marginals and rank correlations, nothing else.

    Attributes
    ----------
    sorted_columns : ndarray of float64, shape (n_entities, n_features)
        Each column sorted by itself: its empirical quantiles, ties and all; NaN last.
    root : ndarray of float64, shape (n_features, n_features)
        Symmetric square root of the latent normal correlation matrix; one more row and
        column, for the number of missing values, where `patterns` are given.
    patterns : ndarray of bool, shape (n_entities, n_features), or None
        Which values each row of the data lacks, rows with fewest first; None where no
        value is missing.
    """

    sorted_columns: quality.FloatArray
    root: quality.FloatArray
    patterns: BoolArray | None = None

    def sample(self, rng: np.random.Generator) -> quality.FloatArray:
        """Draw a table of the same shape; each column is a permutation of its own.

        So are its missing values, and the rows' patterns of them.
        """
        shape = len(self.sorted_columns), len(self.root)
        latent = rng.standard_normal(shape) @ self.root
        return _with_ranks_of(latent, self.sorted_columns, self.patterns)


def fit_gaussian_copula(
    X: quality.FloatArray, rng: np.random.Generator
) -> GaussianCopula:
    """Learn the copula whose samples have the rank correlations of `X`.

    The latent correlation of two normals with Spearman's rho is ``2 sin(pi rho / 6)``
    (Pearson, 1907). Ties weaken the rank correlation of what is drawn (a column that
    is 80% zero shows little of a strong dependence), so the latent correlations are
    corrected in a few rounds by what a draw falls short of the data, then projected
    to the nearest positive semidefinite matrix with a unit diagonal.

    Parameters
    ----------
    X : ndarray of float64, shape (n_entities, n_features)
        NaN where a value is missing; else finite. The correlation of two columns is
        taken over the rows in which both are known.
    rng : numpy.random.Generator
        Draws the trial samples of the correction.

    Raises
    ------
    ModelError
        Where `X` is not two-dimensional, is empty or holds infinite values.
    """
    _check_table(X)
    columns = np.sort(X, axis=0)
    is_missing = np.isnan(X)
    patterns = None
    if is_missing.any():
        # By how many are missing, then by which: equal patterns side by side.
        order = np.lexsort((*is_missing.T, is_missing.sum(axis=1)))
        patterns = is_missing[order]
    target = _rank_correlation(X, patterns is not None)
    latent = 2 * np.sin(np.pi * target / 6)
    root = _root_of_nearest_correlation(latent)
    has_ties = (np.diff(columns, axis=0) == 0).mean(axis=0) > 0.01 if len(X) > 1 else []
    if patterns is not None or np.any(has_ties):
        # The same normals in every round: the correction follows ties, not luck.
        normals = rng.standard_normal((len(X), len(root)))
        for _ in range(_CALIBRATION_ROUNDS):
            drawn = _with_ranks_of(normals @ root, columns, patterns)
            reached = _rank_correlation(drawn, patterns is not None)
            latent = np.clip(latent + (target - reached), -1, 1)
            root = _root_of_nearest_correlation(latent)
    return GaussianCopula(columns, root, patterns)


def _check_table(X: quality.FloatArray) -> None:
    """Refuse what is not a table of numbers, missing ones allowed."""
    if X.ndim != 2 or 0 in X.shape:
        raise ModelError(
            f"the feature matrix has shape {X.shape}; expected at least one row "
            "and one feature (column)."
        )
    if n_bad := int(np.isinf(X).sum()):
        raise ModelError(
            f"the feature matrix holds {n_bad:,} infinite values out of {X.size:,}; "
            "expected numbers, or NaN where a value is not known."
        )


def _with_ranks_of(
    latent: quality.FloatArray,
    sorted_columns: quality.FloatArray,
    patterns: BoolArray | None,
) -> quality.FloatArray:
    """Return each sorted column put into the order of the latent one.

    The last latent column, where there are `patterns`, deals them out.
    """
    if patterns is not None:
        is_missing = np.empty_like(patterns)
        is_missing[np.argsort(latent[:, -1], kind="stable")] = patterns
        # Behind all known values, as NaN is in the sorted columns.
        latent = np.where(is_missing, np.inf, latent[:, :-1])
    order = np.argsort(latent, axis=0, kind="stable")
    table = np.empty_like(sorted_columns)
    np.put_along_axis(table, order, sorted_columns, axis=0)
    return table


def _rank_correlation(X: quality.FloatArray, has_count: bool) -> quality.FloatArray:
    """Return Spearman's rho with mean ranks for ties; 0 for a constant column.

    Ranks are taken within the known values of a column, correlations over the rows in
    which both columns are known. `has_count` adds the number of missing values of each
    row as a last column.
    """
    if has_count:
        X = np.column_stack([X, np.isnan(X).sum(axis=1)])
    is_known = (~np.isnan(X)).astype(np.float64)
    n_known = np.maximum(is_known.sum(axis=0), 1)
    ranks = np.nan_to_num(rankdata(X, axis=0, nan_policy="omit"))
    ranks = (ranks - ranks.sum(axis=0) / n_known) * is_known
    n_both = np.maximum(is_known.T @ is_known, 1)
    sums = ranks.T @ is_known  # of the row's column, over rows where both are known
    products = ranks.T @ ranks - sums * sums.T / n_both
    squares = (ranks**2).T @ is_known - sums**2 / n_both
    lengths = np.sqrt(np.clip(squares, 0, None))
    scale = lengths * lengths.T
    # Rounding leaves about 1e-16 of the squares where a column does not vary.
    varies = scale > 1e-9 * np.maximum(n_both, len(X))
    rho: quality.FloatArray = np.clip(
        np.divide(products, scale, out=np.zeros_like(scale), where=varies), -1, 1
    )
    np.fill_diagonal(rho, 1.0)
    return rho


def _root_of_nearest_correlation(matrix: quality.FloatArray) -> quality.FloatArray:
    """Clip negative eigenvalues, restore the unit diagonal, take the square root."""
    values, vectors = np.linalg.eigh(matrix)
    clipped = (vectors * np.clip(values, 0, None)) @ vectors.T
    lengths = np.sqrt(np.diag(clipped))
    values, vectors = np.linalg.eigh(clipped / np.outer(lengths, lengths))
    root: quality.FloatArray = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return root


Clusterer = Callable[[quality.FloatArray], quality.IntArray]

# Largest p that still counts; with 19 nulls it is met only if none reaches the data.
SIGNIFICANCE = 0.05
# In nats: what two equal clusters of 7% of the entities each would score.
MIN_EXCESS = 0.1


@dataclass(frozen=True)
class StructureCheck:
    """The structure score of the data, against data without structure.

    Attributes
    ----------
    statistic : float
        T, the structure score of the data: coverage x ln(effective clusters), nats.
    null_statistics : tuple of float
        The same of each null.
    p_value : float
        (1 + number of nulls with a score of at least T) / (nulls + 1).
    excess : float
        T minus the largest of the nulls' scores.
    required_excess : float
        What `excess` has to reach.
    is_structured : bool
        Whether p is at most 0.05 and the excess reaches what is required.
    n_rows : int
        Entities looked at (a random sample where there are more than `max_rows`).
    clusters : LabelSummary
        What the clustering found in those entities.
    """

    statistic: float
    null_statistics: tuple[float, ...]
    p_value: float
    excess: float
    required_excess: float
    is_structured: bool
    n_rows: int
    clusters: quality.LabelSummary

    @property
    def verdict(self) -> str:
        """The finding in words."""
        if self.is_structured:
            return "density structure beyond what structureless data shows"
        return "no density structure beyond what structureless data shows"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON and for the report."""
        return {**asdict(self), "verdict": self.verdict}


def structure_check(
    X: quality.FloatArray,
    cluster: Clusterer,
    *,
    n_null: int = 19,
    seed: int = 0,
    max_rows: int = 5000,
    on_step: Callable[[int, int], None] | None = None,
    n_components: int | None = 5,
) -> StructureCheck:
    """Compare the structure score of `X` with that of Gaussian-copula nulls.

    Each null goes the whole way of the data: principal components fitted anew, then
    `cluster`. Structure is reported only if none of 19 nulls (at most 5% of more)
    reaches the data's score, *and* the score lies above the largest of them by a
    margin: at least `MIN_EXCESS`, and at least the standard deviation of the nulls'
    scores. The margin is there because p alone calls one structureless data set in
    twenty structured, and because a difference of some entities is no finding.

    Parameters
    ----------
    X : ndarray of float64, shape (n_entities, n_features)
        Scaled features, finite.
    cluster : callable
        From ndarray (n_rows, n_columns) to int labels (n_rows,), -1 for noise; the
        same for data and nulls. It sees at most `max_rows` rows, so a smallest
        cluster size meant for all entities should be scaled down by the caller or, kept
        as it is, looks for groups of at least that share of the sample.
    n_null : int, default 19
        Nulls; fewer than 19 can never reach p <= 0.05 and are refused.
    seed : int
        Of the sample of rows and of the nulls.
    max_rows : int, default 5000
        Larger tables are sampled without replacement to this many rows.
    on_step : callable, optional
        Called with (clusterings done, clusterings in all) after each.
    n_components : int or None, default 5
        Principal components handed to `cluster`; ``None`` hands over the features
        themselves, for a `cluster` with a representation of its own.

    Raises
    ------
    ModelError
        For fewer than 19 nulls, or an `X` that is empty or not finite.

    Notes
    -----
    Groups that show in the distribution of single features, in features moving
    together monotonically, or in both, are kept by the null and so do not count: two
    groups that one feature tells apart are found by looking at that feature. A bend
    or a ring in one population is not Gaussian dependence, and can count as
    structure. The check looks at principal components, not at the latent space.

    Measured on 312 structureless data sets of 13 kinds (600 to 5,000 rows, 6 to 25
    columns; HDBSCAN with clusters of at least 50): 4 were called structured, all of
    them raw shares of six parts that sum to 1; by p alone it would have been 9.
    """
    if n_null < round(1 / SIGNIFICANCE) - 1:
        raise ModelError(
            f"`n_null` is {n_null}; with fewer than 19 nulls no score can be "
            "significant at 0.05. Pass 19 or more."
        )
    quality.check_matrix(X)
    rng = np.random.default_rng(seed)
    if len(X) > max_rows:
        X = X[np.sort(rng.choice(len(X), max_rows, replace=False))]
    copula = fit_gaussian_copula(X, rng)
    summary = _summary_of(X, cluster, n_components)
    scores: list[float] = []
    for done in range(n_null):
        if on_step is not None:
            on_step(done + 1, n_null + 1)
        null = _summary_of(copula.sample(rng), cluster, n_components)
        scores.append(null.structure_score)
    if on_step is not None:
        on_step(n_null + 1, n_null + 1)
    return _judge(summary, scores)


def _judge(summary: quality.LabelSummary, null_scores: list[float]) -> StructureCheck:
    score = summary.structure_score
    nulls = np.array(null_scores)
    p_value = (1 + int((nulls >= score).sum())) / (len(nulls) + 1)
    excess = score - float(nulls.max())
    required = required_excess(null_scores)
    return StructureCheck(
        statistic=score,
        null_statistics=tuple(null_scores),
        p_value=p_value,
        excess=excess,
        required_excess=required,
        is_structured=p_value <= SIGNIFICANCE and excess >= required,
        n_rows=summary.n_entities,
        clusters=summary,
    )


def required_excess(null_scores: Sequence[float]) -> float:
    """Return by how much a score has to exceed the largest of the nulls'.

    At least `MIN_EXCESS`, and at least their standard deviation.
    """
    return max(MIN_EXCESS, float(np.std(null_scores, ddof=1)))


def _summary_of(
    X: quality.FloatArray, cluster: Clusterer, n_components: int | None
) -> quality.LabelSummary:
    """Cluster one table as the data is clustered, and summarise its labels."""
    seen = X if n_components is None else quality.principal_scores(X, n_components)[0]
    return quality.label_summary(cluster(seen))
