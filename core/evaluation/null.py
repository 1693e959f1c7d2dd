"""A first check that density structure is there at all, against data without any.

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

from core.errors import ModelError
from core.evaluation.copula import fit_gaussian_copula
from core.evaluation.quality import (
    FloatArray,
    IntArray,
    LabelSummary,
    check_matrix,
    label_summary,
    principal_scores,
)

Clusterer = Callable[[FloatArray], IntArray]

# Largest p that still counts; with 19 nulls it is met only if none reaches the data.
SIGNIFICANCE = 0.05
# In nats: what two equal clusters of 7% of the shops each would score.
MIN_EXCESS = 0.1


@dataclass(frozen=True)
class StructureCheck:
    """How the data's structure score stands against data without structure.

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
        Shops looked at (a random sample where there are more than `max_rows`).
    clusters : LabelSummary
        What the clustering found in those shops.
    """

    statistic: float
    null_statistics: tuple[float, ...]
    p_value: float
    excess: float
    required_excess: float
    is_structured: bool
    n_rows: int
    clusters: LabelSummary

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
    X: FloatArray,
    cluster: Clusterer,
    *,
    n_null: int = 19,
    seed: int = 0,
    max_rows: int = 5000,
    on_step: Callable[[int, int], None] | None = None,
    min_excess: float = MIN_EXCESS,
    n_components: int | None = 5,
) -> StructureCheck:
    """Compare the structure score of `X` with that of Gaussian-copula nulls.

    Each null goes the whole way of the data: principal components fitted anew, then
    `cluster`. Structure is reported only if none of 19 nulls (at most 5% of more)
    reaches the data's score, *and* the score lies above the largest of them by a
    margin: at least `min_excess`, and at least the standard deviation of the nulls'
    scores. The margin is there because p alone calls one structureless data set in
    twenty structured, and because a difference of some shops is no finding.

    Parameters
    ----------
    X : ndarray of float64, shape (n_shops, n_features)
        Scaled features, finite.
    cluster : callable
        From ndarray (n_rows, n_columns) to int labels (n_rows,), -1 for noise; the
        same for data and nulls. It sees at most `max_rows` rows, so a smallest
        cluster size meant for all shops should be scaled down by the caller or, kept
        as it is, looks for groups of at least that share of the sample.
    n_null : int, default 19
        Nulls; fewer than 19 can never reach p <= 0.05 and are refused.
    seed : int
        Of the sample of rows and of the nulls.
    max_rows : int, default 5000
        Larger tables are sampled without replacement to this many rows.
    on_step : callable, optional
        Called with (clusterings done, clusterings in all) after each.
    min_excess : float, default 0.1
        In nats: what two equal clusters of 7% of the shops each would score.
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
    check_matrix(X)
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
    return _judge(summary, scores, min_excess)


def _judge(
    summary: LabelSummary, null_scores: list[float], min_excess: float
) -> StructureCheck:
    """Weigh the data's score against the nulls'."""
    score = summary.structure_score
    nulls = np.array(null_scores)
    p_value = (1 + int((nulls >= score).sum())) / (len(nulls) + 1)
    excess = score - float(nulls.max())
    required = required_excess(null_scores, min_excess)
    return StructureCheck(
        statistic=score,
        null_statistics=tuple(null_scores),
        p_value=p_value,
        excess=excess,
        required_excess=required,
        is_structured=p_value <= SIGNIFICANCE and excess >= required,
        n_rows=summary.n_shops,
        clusters=summary,
    )


def required_excess(
    null_scores: Sequence[float], min_excess: float = MIN_EXCESS
) -> float:
    """Return by how much a score has to exceed the largest of the nulls'.

    At least `min_excess`, and at least their standard deviation.
    """
    return max(min_excess, float(np.std(null_scores, ddof=1)))


def _summary_of(
    X: FloatArray, cluster: Clusterer, n_components: int | None
) -> LabelSummary:
    """Cluster one table the way the data goes, and count."""
    seen = X if n_components is None else principal_scores(X, n_components)[0]
    return label_summary(cluster(seen))
