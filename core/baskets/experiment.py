"""A run's experiment: what it measures, how large, how long, and who is treated.

The metrics are those that the playbook names for each segment. They are known of every
customer, whoever orders or not: what somebody ordered within `horizon_days`
(`outcomes`), so that an experiment loses nobody who stopped ordering. Now they tell
means and variances; after the experiment, the same columns of the days in which it ran
decide, and what is known now is the past that reduces their variance (CUPED).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from math import ceil
from typing import Final, TypeVar

import numpy as np
import polars as pl
import yaml

from core.artifacts.folder import StageWriter
from core.baskets.files import ARMS, BALANCE, DESIGN, EXPERIMENT
from core.config import ExperimentOptions
from core.errors import ConfigError, did_you_mean, listed
from core.evaluation.experiment_plan import (
    TREATED,
    Experiment,
    Guardrail,
    Metric,
    assign_arms,
    guardrail_sizes,
    parse_experiment,
    plan_sizes,
    smallest_total_effect,
)
from core.evaluation.experiment_readout import TOTAL, balance_table
from core.yaml_text import YamlDumper

OUTCOMES: Final = ("orders", "is_active", "items", "reordered_items", "new_items")
"""Columns of `outcomes`, which the playbook may name beside the features."""
BAND: Final = "activity_band"
BANDS: Final = ("low", "middle", "high")
# Beyond half a year an experiment is no plan.
ARRIVAL_WEEKS: Final = 26
M = TypeVar("M", bound=Metric)


def timeline(orders: pl.LazyFrame, seed: int) -> pl.DataFrame:
    """Return the orders by day before the end of the data.

    Parameters
    ----------
    orders : LazyFrame
        `order_id`, `customer_id`, `order_number`, `days_since_prior_order` and
        `order_day` (null where the source has no dates).
    seed : int
        See below.

    Returns
    -------
    DataFrame
        `order_id`, `customer_id`, `day` (0 on the last day, negative before) and
        `start`, the day from which arrivals are counted. Without dates nobody knows
        what the last day was: every customer's days end with the last order, which is
        left out, and arrivals count from a day drawn between the first and the last.
    """
    gap = pl.col("days_since_prior_order").fill_null(0).cum_sum()
    table = (
        orders.sort("customer_id", "order_number")
        .select("order_id", "customer_id", "order_day", gap.over("customer_id"))
        .collect()
    )
    if table["order_day"].null_count() == 0:
        day = pl.col("order_day") - pl.col("order_day").max()
        return table.select(
            "order_id", "customer_id", day.alias("day"), start=-7 * ARRIVAL_WEEKS + 1
        )
    ends = table.group_by("customer_id", maintain_order=True).agg(
        end=pl.col("days_since_prior_order").max()
    )
    drawn = pl.Series("drawn", np.random.default_rng(seed).random(ends.height))
    day = pl.col("days_since_prior_order") - pl.col("end")
    return (
        table.join(ends.with_columns(drawn), on="customer_id")
        .filter(
            pl.int_range(pl.len()).over("customer_id")
            < pl.len().over("customer_id") - 1
        )
        .select(
            "order_id",
            "customer_id",
            day.alias("day"),
            (-pl.col("drawn") * pl.col("end")).floor().alias("start"),
        )
    )


def outcomes(
    days: pl.DataFrame, items: pl.LazyFrame, horizon_days: int
) -> pl.DataFrame:
    """Return what each customer did in the last days; nothing is 0.

    Parameters
    ----------
    days : DataFrame
        See `timeline`.
    items : LazyFrame
        `order_id` and `reordered` (0 or 1).
    horizon_days : int

    Returns
    -------
    DataFrame
        `customer_id`, and per customer in the last `horizon_days` days:

        ``orders`` : number of orders
        ``is_active`` : 1 if there was any, else 0
        ``items`` : number of items
        ``reordered_items``, ``new_items`` : those bought before, and the others
    """
    recent = days.lazy().filter(pl.col("day") > -horizon_days)
    bought = (
        items.select("order_id", "reordered")
        .join(recent.select("order_id", "customer_id"), on="order_id")
        .group_by("customer_id")
        .agg(
            pl.len().cast(pl.Int64).alias("items"),
            pl.col("reordered").cast(pl.Int64).sum().alias("reordered_items"),
        )
    )
    found = (
        days.lazy()
        .select("customer_id")
        .unique()
        .join(recent.group_by("customer_id").len("orders"), "customer_id", "left")
        .join(bought, "customer_id", "left")
        .with_columns(
            pl.col("orders", "items", "reordered_items").fill_null(0).cast(pl.Int64)
        )
        .with_columns(
            is_active=(pl.col("orders") > 0).cast(pl.Int64),
            new_items=pl.col("items") - pl.col("reordered_items"),
        )
        .select("customer_id", *OUTCOMES)
        .sort("customer_id")
    )
    return found.collect(engine="streaming")


def arrivals(days: pl.DataFrame) -> pl.DataFrame:
    """Return who came when, over at most half a year: `customer_id` and `date`."""
    epoch = pl.lit(date(1970, 1, 1))
    since = pl.col("day") - pl.col("start")
    return days.filter(since >= 0, since < 7 * ARRIVAL_WEEKS).select(
        "customer_id", (epoch + pl.duration(days=since)).alias("date")
    )


@dataclass(frozen=True)
class ExperimentPlan:
    """What a run plans.

    Attributes
    ----------
    design : Experiment
        As the verb `experiment readout` takes it.
    table : DataFrame
        A row per segment: `core.evaluation.experiment_plan.SIZES`; `guardrail`,
        `margin`, `guardrail_needed` and `smallest_margin` of its guardrail; and
        `weeks_in_all`, with those that are looked at after the last user has come.
    arms : DataFrame
        `customer_id`, `segment`, `activity_band`, `arm`, and every metric as it is now,
        named with `_before`.
    balance : DataFrame
        See `core.evaluation.experiment_readout.balance_table`.
    lines : list of str
        The plan in words.
    """

    design: Experiment
    table: pl.DataFrame
    arms: pl.DataFrame
    balance: pl.DataFrame
    lines: list[str]

    def write(self, out: StageWriter) -> None:
        """Write design, sizes, arms and balance."""
        design = self.design.model_dump(mode="json", exclude_none=True)
        text = yaml.dump(design, Dumper=YamlDumper, sort_keys=False, allow_unicode=True)
        out.path(DESIGN).write_text(text, encoding="utf-8")
        out.write_csv(EXPERIMENT, self.table, float_precision=4)
        self.arms.write_parquet(out.path(ARMS), compression="zstd")
        out.write_csv(BALANCE, self.balance, float_precision=4)


def plan_experiment(
    features: pl.DataFrame,
    segment: pl.Series,
    orders: pl.LazyFrame,
    items: pl.LazyFrame,
    plays: Mapping[str, tuple[Metric, Guardrail]],
    options: ExperimentOptions,
    *,
    name: str,
    horizon_days: int,
    seed: int = 0,
) -> ExperimentPlan:
    """Plan an experiment on the segments of a run.

    Parameters
    ----------
    features : DataFrame
        `customer_id` and the features, a row per customer.
    segment : Series
        Names of the segments of the same customers; null takes no part.
    orders, items : LazyFrame
        See `timeline` and `outcomes`.
    plays : mapping of str to (Metric, Guardrail)
        By the name of the segment: its primary and its guardrail, of the playbook.
    options : ExperimentOptions
        Its `metric`, if any, decides in all segments instead.
    name : str
        Of the experiment, and the salt of the draw.
    horizon_days : int
        Days for which a customer is looked at.
    seed : int
        Draws where arrivals are counted from, where orders have no dates.

    Raises
    ------
    ConfigError
        If a metric is neither a feature nor one of `OUTCOMES`.
    """
    days = timeline(orders, seed)
    users = (
        features.with_columns(segment.alias("segment"))
        .drop_nulls("segment")
        .join(outcomes(days, items, horizon_days), on="customer_id", how="left")
        .with_columns(pl.col(OUTCOMES).fill_null(0))
        .with_columns(_bands(pl.col("orders")).alias(BAND))
    )
    present = set(users["segment"])
    own_plays = {own: play for own, play in plays.items() if own in present}
    design = _design(users.columns, own_plays, options, name)
    measured = sorted({c for m in design.metrics for c in m.columns} & {*users.columns})
    past = [f"{column}_before" for column in measured]
    users = users.with_columns(pl.col(measured).name.suffix("_before"))
    known = users.drop_nulls(measured)
    at = "customer_id", "segment"
    came = arrivals(days)
    table = plan_sizes(known, design, *at, None if came.is_empty() else came)
    table = _with_guardrails(table, guardrail_sizes(known, design, *at), horizon_days)
    arms = assign_arms(users, design, *at).with_columns(users[past])
    looked_at = ["freq_score", "loyalty_score", *measured]
    drawn = users.with_columns(arms["arm"])
    balance = balance_table(drawn, list(dict.fromkeys(looked_at)), "segment")
    n_unknown = users.height - known.height
    lines = list(_lines(design, table, arms, balance, horizon_days, n_unknown))
    if total := smallest_total_effect(known, design, *at):
        lines.append(
            f"All segments together could show a change of {total:.1%} of "
            f"`{design.metric.label}`."
        )
    return ExperimentPlan(design, table, arms, balance, lines)


def _bands(activity: pl.Expr) -> pl.Expr:
    """Return in which third a customer's activity is; equal ones stay together."""
    rank = activity.rank("average") / pl.len()
    low, middle, high = map(pl.lit, BANDS)
    return (
        pl.when(rank <= 1 / 3)
        .then(low)
        .when(rank <= 2 / 3)
        .then(middle)
        .otherwise(high)
    )


def _design(
    columns: list[str],
    plays: Mapping[str, tuple[Metric, Guardrail]],
    options: ExperimentOptions,
    name: str,
) -> Experiment:
    metric = _measured(Metric(name=options.metric or "orders"), columns)
    segments = {}
    for segment, (primary, guardrail) in plays.items():
        own = metric if options.metric else _measured(primary, columns)
        guard = _measured(guardrail, columns)
        segments[segment] = {
            "metric": own.model_dump(),
            "guardrails": [guard.model_dump()] if guard.label != own.label else [],
        }
    tree = {
        "name": name,
        "metric": metric.model_dump(),
        "effect": options.effect,
        "alpha": options.alpha,
        "power": options.power,
        "strata": [BAND],
        "segments": segments,
    }
    return parse_experiment(tree, "`baskets.experiment`")


def _measured(metric: M, columns: list[str]) -> M:
    """Return a metric with its past, or say that nobody computes it."""
    for column in metric.columns:
        if column not in columns:
            raise ConfigError(
                f"the experiment's metric `{column}` is not computed."
                f"{did_you_mean(column, columns)} Expected a feature or one of "
                f"{listed(OUTCOMES)}."
            )
    if metric.kind == "ratio":
        return metric
    return metric.model_copy(update={"pre": f"{metric.name}_before"})


def _with_guardrails(
    sizes: pl.DataFrame, guardrails: pl.DataFrame, horizon_days: int
) -> pl.DataFrame:
    own = guardrails.select(
        "segment",
        pl.col("metric").alias("guardrail"),
        "margin",
        pl.col("needed").alias("guardrail_needed"),
        "smallest_margin",
    )
    return sizes.join(own, "segment", "left", maintain_order="left").with_columns(
        weeks_in_all=pl.col("weeks") + ceil(horizon_days / 7)
    )


def _lines(
    design: Experiment,
    table: pl.DataFrame,
    arms: pl.DataFrame,
    balance: pl.DataFrame,
    horizon_days: int,
    n_unknown: int,
) -> Iterator[str]:
    tested = table.filter("can_be_tested")
    yield (
        f"{tested.height} of {table.height} segments can be tested alone: a change of "
        f"{design.effect:.0%} of each one's primary KPI, error rate {design.alpha:g} "
        f"over all segments, power {design.power:.0%}."
    )
    for row in table.filter(~pl.col("can_be_tested")).iter_rows(named=True):
        shown = row["smallest_effect"]
        most = "" if shown is None else f"; all of them could show {shown:.0%}"
        reason = row["reason"].replace(" users", " customers")
        yield f"`{row['segment']}` cannot be tested alone: {reason}{most}."
    for row in table.iter_rows(named=True):
        if (row["guardrail_needed"] or 0) > row["n_users"]:
            yield (
                f"`{row['segment']}`: to show that `{row['guardrail']}` falls by at "
                f"most {row['margin']:.0%}, {row['guardrail_needed']:,} customers are "
                f"needed; its {row['n_users']:,} can show at most "
                f"{row['smallest_margin']:.0%}."
            )
    weeks = tested["weeks_in_all"].drop_nulls().to_list()
    if weeks:
        yield (
            f"It takes {max(weeks)} weeks: until enough customers have ordered, and "
            f"{horizon_days} days after the last of them did."
        )
    n_treated = int((arms["arm"] == TREATED).sum())
    everyone = pl.col("segment") == TOTAL
    off, own = (
        max(balance.filter(part)["difference"].abs().drop_nulls(), default=0.0)
        for part in (everyone, ~everyone)
    )
    yield (
        f"Arms: {arms.height - n_treated:,} in control, {n_treated:,} treated, drawn "
        f"within segment and activity band; over all they differ by at most {off:.2f} "
        f"standard deviations, within a segment by {own:.2f}."
    )
    if n_unknown:
        yield (
            f"{n_unknown:,} customers without one of the KPIs have an arm, and are not "
            "counted in the sizes."
        )
