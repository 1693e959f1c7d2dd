"""How far segments differ in metrics, and whether a half of the entities says the same.

Segments always differ in what they were cut by, so a metric that took part in the
assignment, or that follows from one that did, proves nothing: it is a check of the
definition, and stands apart. Such metrics are found by name and by rank correlation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from core.evaluation.multiple import holm

FloatArray = NDArray[np.float64]
# Of |Spearman's rho| with a score of the assignment, from which a metric is tied to it.
TIED = 0.9
# Eta squared from which an effect has this name (Cohen, 1988).
SIZES = ((0.14, "large"), (0.06, "medium"), (0.01, "small"))
SEPARATION: dict[str, Any] = {
    "metric": pl.String,
    "role": pl.String,
    "tied_by": pl.String,
    "n": pl.Int64,
    "f": pl.Float64,
    "p_value": pl.Float64,
    "kruskal": pl.Float64,
    "kruskal_p": pl.Float64,
    "adjusted_p": pl.Float64,
    "eta_squared": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "effect": pl.String,
}
GAPS: dict[str, Any] = {
    "segment": pl.String,
    "metric": pl.String,
    "half_a": pl.Float64,
    "half_b": pl.Float64,
    "relative_gap": pl.Float64,
}


def tied_metrics(
    table: pl.DataFrame, metrics: Sequence[str], scores: Sequence[str]
) -> dict[str, str]:
    """Return which metrics follow from the scores of an assignment, and from which.

    Parameters
    ----------
    table : DataFrame
        One row per entity.
    metrics, scores : sequence of str
        Numeric columns: what is to be tested, and what segments were made from.

    Returns
    -------
    dict of str to str
        A metric that is a score itself, or whose ranks are those of a score but for
        little (`TIED`), to that score.
    """
    tied = {name: name for name in metrics if name in scores}
    numbers = table.select(
        pl.col([*{*metrics, *scores}]).cast(pl.Float64).fill_nan(None)
    )
    for metric, score in product(metrics, scores):
        if metric in tied:
            continue
        known = numbers.select(metric, score).drop_nulls()
        rho = known.select(pl.corr(metric, score, method="spearman")).item()
        if rho is not None and abs(rho) >= TIED:
            tied[metric] = score
    return tied


def separation(
    table: pl.DataFrame,
    segment_column: str,
    metrics: Sequence[str],
    tied: Mapping[str, str],
    confidence: float = 0.95,
) -> pl.DataFrame:
    r"""Return how much of each metric's variance lies between the segments.

    Parameters
    ----------
    table : DataFrame
        One row per entity with its segment and the numeric `metrics`; entities without
        a segment, or without a metric, are left out of it.
    segment_column : str
    metrics : sequence of str
    tied : mapping
        As `tied_metrics` gives them: checks of the definition, not evidence.
    confidence : float
        Of the interval.

    Returns
    -------
    DataFrame
        Columns `SEPARATION`, evidence first, the largest effect first: one-way analysis
        of variance (`f`, `p_value`), Kruskal-Wallis (of ranks), eta squared with an
        interval, and Holm's p-value of Kruskal-Wallis over the metrics that are
        evidence. Null where a metric has one value or one segment.

    Notes
    -----
    Eta squared is :math:`1 - W / T` with W the mean square within segments and T that
    around the grand mean. Its standard error comes from the influence of each entity,
    :math:`(W (y - \mu)^2 / T - (y - \mu_g)^2) / T`, so neither equal variances nor
    normal values are assumed; near 0 the interval is cut off there.
    """
    rows = []
    for metric in metrics:
        known = table.select(
            pl.col(segment_column).cast(pl.String), pl.col(metric).cast(pl.Float64)
        )
        known = known.drop_nulls().filter(pl.col(metric).is_not_nan())
        row = {
            "metric": metric,
            "role": "definition" if metric in tied else "evidence",
            "tied_by": tied.get(metric),
            "n": known.height,
        }
        groups = [
            own[metric].to_numpy() for _, own in sorted(known.group_by(segment_column))
        ]
        rows.append(row | _tested(groups, confidence))
    found = pl.DataFrame(rows, schema=SEPARATION)
    return _with_holm(found).sort(
        pl.col("role") != "evidence", -pl.col("eta_squared"), nulls_last=True
    )


def _tested(groups: Sequence[FloatArray], confidence: float) -> dict[str, Any]:
    values = np.concatenate(groups) if groups else np.empty(0)
    n, k = len(values), len(groups)
    total = float(((values - values.mean()) ** 2).mean()) if n else 0.0
    if k < 2 or n <= k or total == 0:
        return {}
    own_means = np.concatenate([np.full(len(own), own.mean()) for own in groups])
    inner = (values - own_means) ** 2
    within = float(inner.mean())
    eta = 1 - within / total
    influence = (within / total * (values - values.mean()) ** 2 - inner) / total
    wide = stats.norm.ppf((1 + confidence) / 2) * influence.std(ddof=1) / math.sqrt(n)
    statistic = math.inf if within == 0 else eta / (1 - eta) * (n - k) / (k - 1)
    kruskal = stats.kruskal(*groups)
    return {
        "f": statistic,
        "p_value": float(stats.f.sf(statistic, k - 1, n - k)),
        "kruskal": float(kruskal.statistic),
        "kruskal_p": float(kruskal.pvalue),
        "eta_squared": eta,
        "low": max(0.0, eta - wide),
        "high": min(1.0, eta + wide),
        "effect": next((name for at, name in SIZES if eta >= at), "negligible"),
    }


def _with_holm(found: pl.DataFrame) -> pl.DataFrame:
    is_tested = (found["role"] == "evidence") & found["kruskal_p"].is_not_null()
    adjusted = np.full(found.height, np.nan)
    adjusted[is_tested.to_numpy()] = holm(
        found["kruskal_p"].filter(is_tested).to_numpy()
    )
    return found.with_columns(pl.Series("adjusted_p", adjusted, nan_to_null=True))


def split_gaps(
    table: pl.DataFrame, segment_column: str, metrics: Sequence[str], seed: int
) -> pl.DataFrame:
    """Return how far two random halves of every segment are apart in their means.

    Parameters
    ----------
    table : DataFrame
        One row per entity; the halves depend on the order of the rows.
    segment_column : str
    metrics : sequence of str
        Numeric columns.
    seed : int

    Returns
    -------
    DataFrame
        Columns `GAPS`, a row per metric and segment; the gap is relative to the first
        half, and null where its mean is 0.
    """
    half = np.random.default_rng(seed).random(table.height) < 0.5
    names = list(metrics)
    means = [
        table.filter(is_in)
        .group_by(pl.col(segment_column).cast(pl.String).alias("segment"))
        .agg(pl.col(names).cast(pl.Float64).mean())
        .unpivot(names, index="segment", variable_name="metric", value_name=name)
        for name, is_in in (("half_a", half), ("half_b", ~half))
    ]
    gap = (pl.col("half_a") - pl.col("half_b")).abs() / pl.col("half_a").abs()
    return (
        means[0]
        .join(means[1], on=["segment", "metric"])
        .with_columns(pl.when(pl.col("half_a") != 0).then(gap).alias("relative_gap"))
        .sort("metric", "segment")
        .select(list(GAPS))
    )
