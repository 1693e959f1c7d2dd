"""Experiments on segments, after they have ended: what is known, and what to do.

The order matters. First the numbers of users are held against the plan: where they do
not fit (sample ratio mismatch), something went wrong before any result, and nothing
else is read. Then the deciding metric, segment by segment, each decision corrected for
the number of segments (Holm). Then the guardrails, each of which has to be shown not
to be worse than its margin; that nothing was found does not show it.

Relative changes have intervals by Fieller (1954), which also hold where the mean is
near 0 or known badly, and say so where a change cannot be estimated. A quantity known
from before the experiment reduces the variance (CUPED: Deng, Xu, Kohavi and Walker,
2013). A ratio is taken as its linearised values per user (delta method). The total is
weighted by the segments' shares of all users (post-stratification), so that an arm
that happens to hold more of one segment does not move it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from core.errors import SchemaError, did_you_mean, listed
from core.evaluation.experiment_plan import (
    ARMS,
    CONTROL,
    TREATED,
    Experiment,
    Guardrail,
    Metric,
    MetricValues,
    measured_users,
    metric_columns,
)
from core.evaluation.multiple import FloatArray, benjamini_hochberg, holm
from core.segments.ledger import is_month
from core.tables.plain import read_table

# Below this p-value the numbers of users do not fit the plan (Fabijan et al., 2019).
MISMATCH = 0.001
# Users in an arm below which nothing is claimed.
MIN_ARM = 30
TOTAL = "all segments"
Decision = Literal["launch", "iterate", "stop", "no readout"]

CHANGES: dict[str, Any] = {
    "segment": pl.String,
    "metric": pl.String,
    "n_control": pl.Int64,
    "n_treated": pl.Int64,
    "control": pl.Float64,
    "treated": pl.Float64,
    "change": pl.Float64,
    "change_low": pl.Float64,
    "change_high": pl.Float64,
    "relative": pl.Float64,
    "relative_low": pl.Float64,
    "relative_high": pl.Float64,
    "p_value": pl.Float64,
    "adjusted_p": pl.Float64,
}


LIFTS: dict[str, Any] = {
    "cycle": pl.String,
    "segment": pl.String,
    "lift": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}
"""Columns of a table of lifts: YYYY-MM, a segment's name, and the relative change of
the metric that decides there, with its interval; positive where it is better."""


class ArmMean(NamedTuple):
    """The mean of one arm: its value, its squared standard error, its users."""

    mean: float
    squared_error: float
    n: int


@dataclass(frozen=True)
class Readout:
    """What an experiment has shown.

    Attributes
    ----------
    mismatch_p : float
        Of the numbers of users against the plan; below `MISMATCH` nothing is decided.
    changes : DataFrame
        Columns `CHANGES`: a row per segment and metric measured in it, and of all
        segments together where all measure it. Adjusted p-values are Holm's over the
        metrics that decide in the segments, and over a guardrail's segments;
        Benjamini and Hochberg's where a metric is only looked at.
        Nulls where something cannot be estimated.
    decisions : DataFrame
        `segment`, `decision` and `reason`, a row per segment.
    """

    mismatch_p: float
    changes: pl.DataFrame
    decisions: pl.DataFrame

    def lifts(self, experiment: Experiment, cycle: str) -> pl.DataFrame:
        """Return what the segments gained, columns `LIFTS`.

        Without those of which nothing can be said.
        """
        rows = []
        for segment in self.decisions["segment"]:
            metric = experiment.metric_of(segment)
            row = self.changes.row(
                by_predicate=(pl.col("segment") == segment)
                & (pl.col("metric") == metric.label),
                named=True,
            )
            ends = row["relative_low"], row["relative_high"]
            if None in ends or self.mismatch_p < MISMATCH:
                continue
            sign = 1 if metric.better == "higher" else -1
            low, high = sorted(sign * end for end in ends)
            rows.append((cycle, segment, sign * row["relative"], low, high))
        return pl.DataFrame(rows, LIFTS, orient="row")


def read_out(
    users: pl.DataFrame, experiment: Experiment, id_column: str, segment_column: str
) -> Readout:
    """Return what the users of an experiment have shown.

    Parameters
    ----------
    users : DataFrame
        One row per user with id, segment, `arm` (`control`, `treatment`), and every
        metric of the experiment.
    experiment : Experiment
    id_column, segment_column : str

    Raises
    ------
    SchemaError
        If a column is missing or cannot be meant.
    """
    table = measured_users(users, experiment, [id_column, segment_column, "arm"])
    strange = sorted(set(table["arm"].cast(pl.String).unique()) - set(ARMS))
    if strange:
        raise SchemaError(
            f"column `arm` holds `{strange[0]}`; expected `{CONTROL}` or `{TREATED}`."
        )
    mismatch = _mismatch(table, experiment, segment_column)
    segments = [
        (str(segment), own)
        for (segment,), own in sorted(table.group_by([segment_column]))
    ]
    rows: list[dict[str, Any]] = []
    deciding = []
    for metric in experiment.metrics:
        arms = {
            segment: _arm_means(own, metric)
            for segment, own in segments
            if metric.label in {m.label for m in experiment.measured_in(segment)}
        }
        own_rows = [
            {"segment": segment, "metric": metric.label, **_change(pair, experiment)}
            for segment, pair in arms.items()
        ]
        is_main = [
            experiment.metric_of(segment).label == metric.label for segment in arms
        ]
        deciding += list(compress(own_rows, is_main))
        others = [
            row for row, is_own in zip(own_rows, is_main, strict=True) if not is_own
        ]
        is_explored = metric in (experiment.metric, *experiment.also)
        _adjust(others, benjamini_hochberg if is_explored else holm)
        rows += own_rows
        if len(arms) == len(segments):
            total = _change(_post_stratified(arms), experiment)
            rows.append({"segment": TOTAL, "metric": metric.label, **total})
    _adjust(deciding, holm)
    changes = pl.DataFrame(rows, schema=CHANGES)
    decisions = [
        {"segment": segment, **_decide(changes, segment, experiment, mismatch)}
        for segment, _ in segments
    ]
    return Readout(mismatch, changes, pl.DataFrame(decisions))


def read_lifts(path: str | Path) -> pl.DataFrame:
    """Read the lifts that experiments have found, cycle by cycle.

    Returns
    -------
    DataFrame
        Columns `LIFTS`, cycles ascending; without rows whose lift is empty.

    Raises
    ------
    SourceError, SchemaError
        If it cannot be read, lacks a column, or a cycle is no month.
    """
    table = read_table(path, ["cycle", "segment"])
    for name in LIFTS:
        if name not in table.columns or not (
            name in ("cycle", "segment") or table[name].dtype.is_numeric()
        ):
            raise SchemaError(
                f"`{path}` has no column `{name}`, or one of text; expected "
                f"{listed(list(LIFTS))}, the last three as numbers."
                f"{did_you_mean(name, table.columns)}"
            )
    for cycle in table["cycle"]:
        if not is_month(cycle or ""):
            raise SchemaError(
                f"`{path}`: the cycle `{cycle}` is no month; expected YYYY-MM, such as "
                "2024-05."
            )
    own = table.drop_nulls("low").select(pl.col(c).cast(t) for c, t in LIFTS.items())
    return own.sort("cycle", maintain_order=True)


def _mismatch(
    table: pl.DataFrame, experiment: Experiment, segment_column: str
) -> float:
    """Return the p-value of arms as unequal as these, over all and by segment."""
    share = experiment.treated_share
    counts = table.group_by(segment_column).agg(
        pl.len().alias("n"), (pl.col("arm") == TREATED).sum().alias("treated")
    )
    n, treated = table.height, int(counts["treated"].sum())
    overall = stats.binomtest(treated, n, share).pvalue
    expected = counts["n"].to_numpy() * share
    spread = expected * (1 - share)
    statistic = float(((counts["treated"].to_numpy() - expected) ** 2 / spread).sum())
    by_segment = stats.chi2.sf(statistic, counts.height)
    return float(min(1.0, 2 * min(overall, by_segment)))


def _arm_means(own: pl.DataFrame, metric: Metric) -> dict[str, ArmMean]:
    is_treated = (own["arm"] == TREATED).to_numpy()
    values, below = metric_columns(own, metric)
    if metric.pre is not None:
        values = _without_past(values, own[metric.pre].to_numpy(), is_treated)
    found = {}
    for arm, is_in in ((CONTROL, ~is_treated), (TREATED, is_treated)):
        found[arm] = _mean_of(values[is_in], None if below is None else below[is_in])
    return found


def _mean_of(values: FloatArray, below: FloatArray | None) -> ArmMean:
    found = MetricValues.of(values, below)
    return ArmMean(found.mean, found.variance / max(found.n, 1), found.n)


def _without_past(
    values: NDArray[np.float64],
    past: NDArray[np.float64],
    is_treated: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return values less what users' past says of them; a user without one is average.

    The slope is that within the arms, so that the treatment has no part in it.
    """
    known = np.isfinite(past)
    if known.sum() < 3:
        return values
    past = np.where(known, past, past[known].mean())
    away, outcome = past - past.mean(), values.copy()
    for is_in in (is_treated, ~is_treated):
        if is_in.any():
            away[is_in] -= away[is_in].mean()
            outcome[is_in] -= outcome[is_in].mean()
    scatter = float(away @ away)
    if scatter == 0:
        return values
    slope = float(away @ outcome) / scatter
    adjusted: NDArray[np.float64] = values - slope * (past - past.mean())
    return adjusted


def _post_stratified(arms: Mapping[str, Mapping[str, ArmMean]]) -> dict[str, ArmMean]:
    sizes = np.array([sum(mean.n for mean in pair.values()) for pair in arms.values()])
    weights = sizes / sizes.sum()
    total = {}
    for arm in ARMS:
        own = [pair[arm] for pair in arms.values()]
        total[arm] = ArmMean(
            float(weights @ [mean.mean for mean in own]),
            float(weights**2 @ [mean.squared_error for mean in own]),
            sum(mean.n for mean in own),
        )
    return total


def _change(arms: Mapping[str, ArmMean], experiment: Experiment) -> dict[str, Any]:
    """Return a difference of two arms, with intervals, as a row of `CHANGES`."""
    control, treated = arms[CONTROL], arms[TREATED]
    row: dict[str, Any] = {
        "n_control": control.n,
        "n_treated": treated.n,
        "control": _known(control.mean),
        "treated": _known(treated.mean),
    }
    variance = control.squared_error + treated.squared_error
    if min(control.n, treated.n) < MIN_ARM or not variance > 0:
        return row
    freedom = variance**2 / sum(
        mean.squared_error**2 / (mean.n - 1) for mean in (control, treated)
    )
    change, error = treated.mean - control.mean, math.sqrt(variance)
    wide = float(stats.t.ppf(1 - experiment.alpha / 2, freedom))
    low, high = fieller(control, treated, wide)
    return row | {
        "change": change,
        "change_low": change - wide * error,
        "change_high": change + wide * error,
        "relative": None if low is None else change / control.mean,
        "relative_low": low,
        "relative_high": high,
        "p_value": float(2 * stats.t.sf(abs(change) / error, freedom)),
    }


def fieller(
    control: ArmMean, treated: ArmMean, critical: float
) -> tuple[float | None, float | None]:
    """Return the interval of a relative change; None twice if it has no bounds.

    Parameters
    ----------
    control, treated : ArmMean
    critical : float
        Quantile of the normal or Student distribution, such as 1.96.

    Returns
    -------
    low, high : float or None
        Of treated / control - 1. None where the mean of the control cannot be told
        from 0 at that level, so that any change is possible.

    References
    ----------
    Fieller (1954), Some problems in interval estimation.
    """
    if control.mean <= 0:
        return None, None
    g = critical**2 * control.squared_error / control.mean**2
    if g >= 1:
        return None, None
    ratio = treated.mean / control.mean
    inner = (
        treated.squared_error
        + ratio**2 * control.squared_error
        - g * treated.squared_error
    )
    half = critical / control.mean * math.sqrt(inner)
    return (ratio - half) / (1 - g) - 1, (ratio + half) / (1 - g) - 1


def _adjust(
    rows: Sequence[dict[str, Any]], adjust: Callable[[list[float]], FloatArray]
) -> None:
    """Adjust the p-values of rows for the number of segments tested."""
    tested = [row for row in rows if "p_value" in row]
    found = adjust([row["p_value"] for row in tested])
    for row, p in zip(tested, found, strict=True):
        row["adjusted_p"] = float(p)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _decide(
    changes: pl.DataFrame, segment: str, experiment: Experiment, mismatch: float
) -> dict[str, str]:
    """Return what to do in a segment, and why."""
    if mismatch < MISMATCH:
        return _said(
            "no readout",
            "the numbers of users in the arms do not fit the plan "
            f"(p = {mismatch:.1g}): find out why before anything is read",
        )
    own = {
        row["metric"]: row
        for row in changes.filter(pl.col("segment") == segment).iter_rows(named=True)
    }
    metric = experiment.metric_of(segment)
    main = own[metric.label]
    if main["p_value"] is None:
        return _said(
            "iterate",
            f"fewer than {MIN_ARM} users in an arm, or all with one value: nothing can "
            "be said",
        )
    states = {
        guardrail.label: guardrail_state(own[guardrail.label], guardrail)
        for guardrail in experiment.guardrails_of(segment)
    }
    worse = [name for name, state in states.items() if state == "harmed"]
    is_clear = main["adjusted_p"] < experiment.alpha
    if is_clear and (main["change"] > 0) != (metric.better == "higher"):
        worse.insert(0, metric.label)
    if worse:
        return _said("stop", f"{listed(worse)} became worse")
    unshown = [name for name, state in states.items() if state == "not shown"]
    if is_clear and unshown:
        text = "is not shown to stay within its margin"
        return _said("iterate", f"{listed(unshown)} {text}")
    if is_clear:
        return _said("launch", f"`{metric.label}` became better")
    return _said("iterate", f"no change of `{metric.label}` is shown")


def _said(decision: Decision, reason: str) -> dict[str, str]:
    return {"decision": decision, "reason": reason}


def guardrail_state(
    row: Mapping[str, Any], guardrail: Guardrail
) -> Literal["safe", "not shown", "harmed"]:
    """Return whether a guardrail is shown not to be worse than its margin.

    Parameters
    ----------
    row : mapping
        Its row of `CHANGES`.
    guardrail : Guardrail

    Returns
    -------
    {'safe', 'not shown', 'harmed'}
        Safe if the whole interval lies above the loss that is accepted; harmed if it
        does not, and lies below no change altogether.
    """
    low, high = row.get("relative_low"), row.get("relative_high")
    if low is None or high is None:
        return "not shown"
    if guardrail.better == "lower":
        low, high = -high, -low
    if low > -guardrail.margin:
        return "safe"
    return "harmed" if high < 0 else "not shown"


def balance_table(
    users: pl.DataFrame, columns: Sequence[str], segment_column: str | None = None
) -> pl.DataFrame:
    """Return how alike two arms are: standardised differences of means.

    Parameters
    ----------
    users : DataFrame
        With `arm` and numeric `columns`.
    columns : sequence of str
    segment_column : str, optional
        Also within every segment.

    Returns
    -------
    DataFrame
        `segment`, `column`, `control`, `treated` (means) and `difference` (in pooled
        standard deviations; null where these are 0).
    """
    parts = [(TOTAL, users)]
    if segment_column is not None:
        groups = sorted(users.group_by([segment_column]))
        parts += [(str(segment), part) for (segment,), part in groups]
    rows = [
        (segment, column, *_alike(part, column))
        for segment, part in parts
        for column in columns
    ]
    schema = {
        "segment": pl.String,
        "column": pl.String,
        "control": pl.Float64,
        "treated": pl.Float64,
        "difference": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _alike(
    part: pl.DataFrame, column: str
) -> tuple[float | None, float | None, float | None]:
    """Return the means of both arms, and their standardised difference."""
    values = [
        part.filter(pl.col("arm") == arm)[column].drop_nulls().to_numpy().astype(float)
        for arm in ARMS
    ]
    if min(map(len, values)) < 2:
        return None, None, None
    control, treated = (float(own.mean()) for own in values)
    spread = math.sqrt(sum(own.var(ddof=1) for own in values) / 2)
    is_spread = spread > 1e-9 * max(abs(control), abs(treated))
    return control, treated, (treated - control) / spread if is_spread else None
