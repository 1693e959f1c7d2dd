"""Experiments on segments, before they begin: sizes, how long, and who is treated.

One metric is named beforehand. Every segment is a question of its own, so each is sized
with its own mean and variance at the error rate divided by the number of segments
(Bonferroni); the readout decides by Holm, which never needs more. Sizes are those of
statsmodels. What a segment cannot show with the users that it has is said, not hidden.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from core.errors import ConfigError, SchemaError, did_you_mean, listed
from core.evaluation.multiple import FloatArray

TREATED, CONTROL = "treatment", "control"
ARMS = (CONTROL, TREATED)
# Standardised difference of means above which two arms count as unlike (Austin, 2009).
UNLIKE = 0.1


class Metric(BaseModel):
    """What is measured of each user.

    Attributes
    ----------
    name : str
        Column with its value per user; of a ratio, its numerator.
    kind : {'proportion', 'mean', 'ratio'}
        Yes or no (1 or 0, true or false); a number per user; or a sum over users of
        `name` divided by that of `denominator`, such as revenue per order.
    denominator : str, optional
        Of a ratio.
    better : {'higher', 'lower'}
    pre : str, optional
        Column with the same quantity before the experiment; it reduces the variance
        (CUPED). Not for a ratio.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: Literal["proportion", "mean", "ratio"] = "mean"
    denominator: str | None = None
    better: Literal["higher", "lower"] = "higher"
    pre: str | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Metric:
        if (self.kind == "ratio") != (self.denominator is not None):
            raise ValueError("a ratio, and nothing else, has a `denominator`")
        if self.kind == "ratio" and self.pre is not None:
            raise ValueError("`pre` is for a mean or a proportion, not a ratio")
        return self

    @property
    def label(self) -> str:
        """What tables call it, such as `orders`, or `items per orders` of a ratio."""
        return f"{self.name} per {self.denominator}" if self.denominator else self.name

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that hold it."""
        named = (self.name, self.denominator, self.pre)
        return tuple(name for name in named if name is not None)


class Guardrail(Metric):
    """What must not become worse by more than a margin.

    Attributes
    ----------
    margin : float
        Largest relative loss that is accepted, such as 0.02.
    """

    margin: float = Field(0.02, gt=0, lt=1)


class SegmentDesign(BaseModel):
    """What a segment measures instead of the others.

    Attributes
    ----------
    metric : Metric, optional
        The one that decides there; default the experiment's.
    guardrails : tuple of Guardrail, optional
        Default the experiment's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: Metric | None = None
    guardrails: tuple[Guardrail, ...] | None = None


class Experiment(BaseModel):
    """The design of one experiment.

    Attributes
    ----------
    name : str
        Also the salt of the assignment: another name, another draw.
    metric : Metric
        The one that decides.
    effect : float
        Smallest relative change of it that is worth finding, such as 0.1.
    guardrails : tuple of Guardrail
    also : tuple of Metric
        Looked at, and no part of the decision.
    alpha, power : float
        Error rate over all segments, and chance to find `effect` in one of them.
    treated_share : float
        Share of the users that is treated.
    strata : tuple of str
        Columns beside the segment within which the arms are balanced.
    segments : dict of str to SegmentDesign
        Segments with a deciding metric or guardrails of their own. `metric` is looked
        at in them, too, and read for all segments together.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    metric: Metric
    effect: float = Field(gt=0, lt=10)
    guardrails: tuple[Guardrail, ...] = ()
    also: tuple[Metric, ...] = ()
    alpha: float = Field(0.05, gt=0, lt=0.5)
    power: float = Field(0.8, gt=0.5, lt=1)
    treated_share: float = Field(0.5, gt=0, lt=1)
    strata: tuple[str, ...] = ()
    segments: dict[str, SegmentDesign] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _mean_one_thing(self) -> Self:
        known: dict[str, tuple[Any, ...]] = {}
        for metric in self._all():
            meant = (metric.kind, *metric.columns)
            if known.setdefault(metric.label, meant) != meant:
                raise ValueError(
                    f"`{metric.label}` is described in two ways; expected one `kind` "
                    "and one `pre` everywhere"
                )
        return self

    def _all(self) -> list[Metric]:
        own = [metric for s in self.segments for metric in self.measured_in(s)]
        return [self.metric, *self.guardrails, *self.also, *own]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """All metrics, each label once: `metric`, guardrails, `also`, the segments'."""
        named = {metric.label: metric for metric in reversed(self._all())}
        return tuple(reversed(named.values()))

    def metric_of(self, segment: str) -> Metric:
        """Return the metric that decides in a segment."""
        own = self.segments.get(segment)
        return self.metric if own is None or own.metric is None else own.metric

    def guardrails_of(self, segment: str) -> tuple[Guardrail, ...]:
        """Return the guardrails of a segment."""
        own = self.segments.get(segment)
        if own is None or own.guardrails is None:
            return self.guardrails
        return own.guardrails

    def measured_in(self, segment: str) -> tuple[Metric, ...]:
        """Return what is measured in a segment: metric, guardrails, and the others."""
        own = (self.metric_of(segment), *self.guardrails_of(segment))
        return (*own, self.metric, *self.also)


def parse_experiment(tree: Any, where: str) -> Experiment:
    """Return the design that a YAML file holds.

    Raises
    ------
    ConfigError
        Naming the key and what was expected.
    """
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        lines = []
        for found in error.errors():
            key = ".".join(str(part) for part in found["loc"]) or "the file"
            if found["type"] == "extra_forbidden":
                known = [*Experiment.model_fields, *Guardrail.model_fields]
                hint = did_you_mean(str(found["loc"][-1]), known)
                lines.append(f"unknown key `{key}`.{hint}")
            else:
                text = found["msg"].removeprefix("Value error, ")
                lines.append(f"`{key}`: {text[0].lower()}{text[1:]}.")
        raise ConfigError(f"{where}: " + " ".join(lines)) from None


# A variance needs two users.
FEWEST_TREATED = 2


@dataclass(frozen=True)
class MetricValues:
    """A metric's values as a mean per user, whatever its kind.

    Attributes
    ----------
    mean, variance : float
        Of one user; a ratio's variance is that of its linearised values. NaN where
        they cannot be told.
    n : int
    """

    mean: float
    variance: float
    n: int

    @classmethod
    def of(cls, values: FloatArray, below: FloatArray | None = None) -> Self:
        """Return them for some users.

        Parameters
        ----------
        values : ndarray of float, shape (n_users,)
        below : ndarray of float, shape (n_users,), optional
            Denominators of a ratio.
        """
        n = len(values)
        if n == 0 or (below is not None and below.sum() <= 0):
            return cls(math.nan, math.nan, n)
        mean = float(values.mean())
        if below is not None:
            mean = float(values.sum() / below.sum())
            values = (values - mean * below) / below.mean()
        return cls(mean, float(values.var(ddof=1)) if n > 1 else math.nan, n)


def measured_users(
    table: pl.DataFrame, experiment: Experiment, columns: Sequence[str]
) -> pl.DataFrame:
    """Return a table whose metrics are numbers, or say what is wrong with it.

    Parameters
    ----------
    table : DataFrame
        One row per user.
    experiment : Experiment
    columns : sequence of str
        Others that must be there and without gaps: id, segment, arm, strata.

    Raises
    ------
    SchemaError
        If a column is not there, holds a gap or no number, a proportion is neither 0
        nor 1, or an id (the first of `columns`) stands there twice.
    """
    measures = {name for metric in experiment.metrics for name in metric.columns}
    before = {metric.pre for metric in experiment.metrics} - {None}
    require_columns(table, [*columns, *sorted(measures - before)], given=before)
    table = table.with_columns([_as_number(table, name) for name in sorted(measures)])
    for metric in experiment.metrics:
        is_yes_or_no = table[metric.name].is_in([0.0, 1.0]).all()
        if metric.kind == "proportion" and not is_yes_or_no:
            raise SchemaError(
                f"column `{metric.name}` is a proportion and holds other values than 0 "
                "and 1; expected yes or no per user, or `kind: mean`."
            )
    return table


def require_columns(
    table: pl.DataFrame, columns: Sequence[str], given: Collection[str | None] = ()
) -> None:
    """Say which column is not there or has gaps, and which id stands twice.

    Parameters
    ----------
    table : DataFrame
        One row per user.
    columns : sequence of str
        The id first; without gaps.
    given : collection of str
        Columns that must be there, and may have gaps.

    Raises
    ------
    SchemaError
    """
    if not table.height:
        raise SchemaError("the table of users has no rows; expected one per user.")
    for name in [*columns, *given]:
        if name not in table.columns:
            raise SchemaError(
                f"column `{name}` is not in the table of users; it has "
                f"{listed(table.columns, 12)}.{did_you_mean(str(name), table.columns)}"
            )
    for name in columns:
        n_gaps = table[name].null_count()
        if n_gaps:
            raise SchemaError(
                f"column `{name}` is empty for {n_gaps:,} of {table.height:,} users; "
                "expected a value for each: fill in 0 where nothing happened, or leave "
                "these users out."
            )
    if n_twice := table.height - table[columns[0]].n_unique():
        raise SchemaError(
            f"column `{columns[0]}` names {n_twice:,} users twice; expected one row "
            "per user."
        )


def _as_number(table: pl.DataFrame, name: str) -> pl.Series:
    column = table[name]
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise SchemaError(
            f"column `{name}` holds {column.dtype}; expected numbers, one per user."
        )
    numbers = column.cast(pl.Float64)
    if not numbers.drop_nulls().is_finite().all():
        raise SchemaError(f"column `{name}` holds NaN or infinity; expected numbers.")
    return numbers


def metric_columns(
    users: pl.DataFrame, metric: Metric
) -> tuple[FloatArray, FloatArray | None]:
    """Return a metric's values, and those of a ratio's denominator."""
    below = metric.denominator
    return (
        users[metric.name].to_numpy(),
        None if below is None else users[below].to_numpy(),
    )


SIZES: dict[str, Any] = {
    "segment": pl.String,
    "metric": pl.String,
    "n_users": pl.Int64,
    "baseline": pl.Float64,
    "deviation": pl.Float64,
    "needed": pl.Int64,
    "needed_treated": pl.Int64,
    "smallest_effect": pl.Float64,
    "weeks": pl.Int64,
    "can_be_tested": pl.Boolean,
    "reason": pl.String,
}


def plan_sizes(
    users: pl.DataFrame,
    experiment: Experiment,
    id_column: str,
    segment_column: str,
    arrivals: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Return how many users each segment needs, and whether it has them.

    Parameters
    ----------
    users : DataFrame
        One row per user with id, segment, and the metric as it is now.
    experiment : Experiment
    id_column, segment_column : str
    arrivals : DataFrame, optional
        When users came by: `id_column` and a column `date`, of some weeks. How fast the
        users of each segment arrive tells how long it takes.

    Returns
    -------
    DataFrame
        Columns `SIZES`, a row per segment: the metric that decides there, users, its
        mean and standard deviation, users needed in both arms and in the treated one,
        the smallest relative effect that all its users could show (null if the mean is
        0), weeks until the needed users have come (null if unknown or never), and
        whether it can be tested alone, else why not.
    """
    table = measured_users(users, experiment, [id_column, segment_column])
    n_segments = table[segment_column].n_unique()
    alpha = experiment.alpha / n_segments
    curves = (
        None
        if arrivals is None
        else _curves(table, arrivals, id_column, segment_column)
    )
    rows = []
    for (segment,), own in sorted(table.group_by([segment_column])):
        metric = experiment.metric_of(str(segment))
        values = MetricValues.of(*metric_columns(own, metric))
        size, weeks = _needed(values, metric, experiment, alpha), None
        if size.needed is not None and size.needed > own.height:
            reason = f"it needs {size.needed:,} users and has {own.height:,}"
            size = size._replace(reason=reason)
        elif size.needed is not None and curves is not None:
            size, weeks = _with_weeks(size, curves.get(segment, []))
        rows.append(
            {
                "segment": str(segment),
                "metric": metric.label,
                "n_users": own.height,
                "baseline": values.mean,
                "deviation": math.sqrt(values.variance),
                "needed": size.needed,
                "needed_treated": size.treated,
                "smallest_effect": _smallest_effect(values, experiment, alpha),
                "weeks": weeks,
                "can_be_tested": size.reason is None,
                "reason": size.reason,
            }
        )
    return pl.DataFrame(rows, schema=SIZES).with_columns(
        pl.col("baseline", "deviation").fill_nan(None)
    )


class _Size(NamedTuple):
    """Users needed in both arms, in the treated one, and why it cannot be tested."""

    needed: int | None
    treated: int | None
    reason: str | None


def _needed(
    values: MetricValues, metric: Metric, experiment: Experiment, alpha: float
) -> _Size:
    from statsmodels.stats.power import NormalIndPower
    from statsmodels.stats.proportion import samplesize_proportions_2indep_onetail

    if not values.variance >= 0 or values.mean == 0:
        return _Size(None, None, "its metric is 0, or known of one user alone")
    if values.variance == 0:
        return _Size(None, None, "its metric is the same for every user")
    ratio = experiment.treated_share / (1 - experiment.treated_share)
    sign = 1 if metric.better == "higher" else -1
    change = sign * experiment.effect * values.mean
    if metric.kind == "proportion":
        if not 0 < values.mean + change < 1:
            reason = f"a share of {values.mean:.0%} cannot change by {change:+.0%}"
            return _Size(None, None, reason)
        # The first arm of this formula is the one that changes.
        n_treated = samplesize_proportions_2indep_onetail(
            change,
            values.mean,
            experiment.power,
            1 / ratio,
            alpha,
            alternative="two-sided",
        )
    else:
        size = abs(change) / math.sqrt(values.variance)
        test = NormalIndPower()
        n_treated = FEWEST_TREATED
        # The solver finds nothing below a few users.
        if test.power(size, n_treated, alpha, 1 / ratio) < experiment.power:
            n_treated = test.solve_power(
                size, power=experiment.power, alpha=alpha, ratio=1 / ratio
            )
    treated, control = math.ceil(n_treated), math.ceil(n_treated / ratio)
    return _Size(treated + control, treated, None)


def _with_weeks(size: _Size, curve: Sequence[int]) -> tuple[_Size, int | None]:
    """Return after how many weeks the needed users have come; else why never."""
    needed = size.needed or 0
    weeks = next((i + 1 for i, n in enumerate(curve) if n >= needed), None)
    if weeks is not None:
        return size, weeks
    came = f"{curve[-1]:,} came in {len(curve)} weeks" if curve else "none came"
    return size._replace(reason=f"it needs {needed:,} users, and {came}"), None


def smallest_total_effect(
    users: pl.DataFrame, experiment: Experiment, id_column: str, segment_column: str
) -> float | None:
    """Return the relative change of `metric` that all users together could show.

    Weighted by the segments' shares, as the readout does: differences between segments
    are no noise. None where the mean or the variance is 0.

    Parameters
    ----------
    users, experiment, id_column, segment_column
        See `plan_sizes`.
    """
    table = measured_users(users, experiment, [id_column, segment_column])
    parts = [
        MetricValues.of(*metric_columns(own, experiment.metric))
        for _, own in table.group_by(segment_column)
    ]
    known = [part for part in parts if part.variance >= 0]
    n = sum(part.n for part in known)
    if not n:
        return None
    mean = sum(part.n * part.mean for part in known) / n
    within = sum(part.n * part.variance for part in known) / n
    return _smallest_effect(MetricValues(mean, within, n), experiment, experiment.alpha)


GUARDRAIL_SIZES: dict[str, Any] = {
    "segment": pl.String,
    "metric": pl.String,
    "margin": pl.Float64,
    "needed": pl.Int64,
    "smallest_margin": pl.Float64,
}


def guardrail_sizes(
    users: pl.DataFrame, experiment: Experiment, id_column: str, segment_column: str
) -> pl.DataFrame:
    """Return how many users it takes to show that guardrails are safe.

    Parameters
    ----------
    users, experiment, id_column, segment_column
        See `plan_sizes`.

    Returns
    -------
    DataFrame
        Columns `GUARDRAIL_SIZES`, a row per segment and guardrail: the users of both
        arms with whom a guardrail that does not change is shown to stay within its
        margin, at the experiment's power, and the smallest margin that all users of the
        segment could show. Null where the guardrail's mean or variance is 0.
    """
    table = measured_users(users, experiment, [id_column, segment_column])
    rows = []
    for (segment,), own in sorted(table.group_by([segment_column])):
        for guardrail in experiment.guardrails_of(str(segment)):
            values = MetricValues.of(*metric_columns(own, guardrail))
            smallest = _smallest_effect(values, experiment, experiment.alpha)
            needed = (
                None
                if smallest is None
                else math.ceil(values.n * (smallest / guardrail.margin) ** 2)
            )
            row = (str(segment), guardrail.label, guardrail.margin, needed, smallest)
            rows.append(row)
    return pl.DataFrame(rows, schema=GUARDRAIL_SIZES, orient="row")


def _smallest_effect(
    values: MetricValues, experiment: Experiment, alpha: float
) -> float | None:
    """Return the relative change that all users of a segment could show."""
    from scipy.stats import norm

    if not values.variance > 0 or values.mean == 0:
        return None
    share = experiment.treated_share
    z = norm.ppf(1 - alpha / 2) + norm.ppf(experiment.power)
    error = math.sqrt(values.variance / values.n * (1 / share + 1 / (1 - share)))
    return float(z * error / abs(values.mean))


def _curves(
    users: pl.DataFrame, arrivals: pl.DataFrame, id_column: str, segment_column: str
) -> dict[Any, list[int]]:
    """Return by segment how many different users had come after each week."""
    for name in (id_column, "date"):
        if name not in arrivals.columns:
            raise SchemaError(
                f"column `{name}` is not in the table of arrivals; it has "
                f"{listed(arrivals.columns, 12)}."
            )
    days = arrivals.select(
        pl.col(id_column).cast(users.schema[id_column], strict=False),
        pl.col("date").cast(pl.Date),
    ).drop_nulls()
    if not days.height:
        raise SchemaError("the table of arrivals has no rows; expected visits by date.")
    start: date = days["date"].min()  # type: ignore[assignment]
    week = ((pl.col("date") - start).dt.total_days() // 7).alias("week")
    first = days.group_by(id_column).agg(week.min())
    n_weeks = int(days.select(week.max()).item()) + 1
    joined = users.select(id_column, segment_column).join(first, on=id_column)
    return {
        segment: np.cumsum(np.bincount(own["week"], minlength=n_weeks)).tolist()
        for (segment,), own in joined.group_by([segment_column])
    }


def assign_arms(
    users: pl.DataFrame,
    experiment: Experiment,
    id_column: str,
    segment_column: str,
    earlier: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Return every user's arm: the same for the same ids, balanced in every stratum.

    Within a stratum (segment and `experiment.strata`) users are put into the order of a
    hash of experiment and id, and the arms are dealt out along it, so that no stratum
    is off its share by a whole user.

    Parameters
    ----------
    users : DataFrame
        One row per user.
    experiment : Experiment
    id_column, segment_column : str
    earlier : DataFrame, optional
        An assignment of before (`id_column`, `arm`): its users keep their arms, and
        those who have joined since are dealt out after them.

    Returns
    -------
    DataFrame
        `id_column`, `segment_column`, the strata and `arm`, in the order of `users`.
    """
    strata = [segment_column, *experiment.strata]
    require_columns(users, [id_column, *strata])
    kept = {} if earlier is None else dict(earlier.select(id_column, "arm").iter_rows())
    ranks = pl.Series(
        "rank",
        [
            hashlib.sha256(f"{experiment.name}\0{user}".encode()).hexdigest()
            for user in users[id_column]
        ],
        dtype=pl.String,
    )
    arms: dict[Any, str] = {}
    for _, own in (
        users.with_columns(ranks).sort("rank").group_by(strata, maintain_order=True)
    ):
        n_treated = n = 0
        members = own[id_column].to_list()
        for user in [u for u in members if u in kept]:
            arms[user] = kept[user]
            n, n_treated = n + 1, n_treated + (kept[user] == TREATED)
        # The first of a stratum falls to either arm by the hash, not always to one.
        shift = int(own["rank"][0][:8], 16) / 2**32
        for user in [u for u in members if u not in kept]:
            n += 1
            due = math.floor(n * experiment.treated_share + shift)
            arms[user] = TREATED if due > n_treated else CONTROL
            n_treated += arms[user] == TREATED
    arm = pl.Series("arm", [arms[user] for user in users[id_column]], dtype=pl.String)
    return users.select(id_column, *strata, arm)
