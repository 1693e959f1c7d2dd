"""How far segments of baskets differ in what they were not made from.

Features that took part in the assignment, or that follow from one that did, are checks
of its definition and stand apart; so does what is only explored, the shares by aisle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from core.baskets.features import BEHAVIOUR, SCORES
from core.errors import listed
from core.evaluation.multiple import benjamini_hochberg
from core.evaluation.separation import SIZES, separation, split_gaps, tied_metrics
from core.rules.grammar import RuleSet

# The same quantity under two names: freq_score = 1 / (1 + mean_days_between_orders).
SAME = {
    "freq_score": "mean_days_between_orders",
    "mean_days_between_orders": "freq_score",
    "loyalty_score": "reorder_ratio",
    "reorder_ratio": "loyalty_score",
}
# Of error, and of false findings among aisles.
ALPHA = 0.05


@dataclass(frozen=True)
class Validation:
    """How far segments differ, and whether halves of the customers agree.

    Attributes
    ----------
    metrics : DataFrame
        Columns of `core.evaluation.separation.SEPARATION` without `tied_by`: first the
        behaviour that took no part in the assignment (`role` is "evidence"; p-values
        adjusted by Holm), then shares by aisle ("exploration"; by Benjamini and
        Hochberg).
    definition_checks : DataFrame
        The same columns with `tied_by`, of what segments were made from.
    split_gaps : DataFrame
        Columns of `core.evaluation.separation.GAPS`: means of the behaviour and the
        scores in two random halves of the customers.
    """

    metrics: pl.DataFrame
    definition_checks: pl.DataFrame
    split_gaps: pl.DataFrame

    @cached_property
    def lines(self) -> list[str]:
        """What the tables say, a sentence each."""
        return [*_evidence(self.metrics), *_explored(self.metrics), *self._checks()]

    def _checks(self) -> Iterator[str]:
        if tied := self.definition_checks["metric"].to_list():
            yield (
                f"{listed(tied)} took part in the "
                "assignment, or follow from what did: they check the definition and "
                "prove nothing."
            )
        medians = self.split_gaps.group_by("metric").agg(pl.median("relative_gap"))
        rows = medians.drop_nulls().sort("relative_gap", "metric").rows()
        if rows:
            yield (
                "The means of two random halves of each segment differ by "
                f"{rows[len(rows) // 2][1]:.2%} in the middle metric, and by "
                f"{rows[-1][1]:.2%} in `{rows[-1][0]}`."
            )


def validate_segments(
    features: pl.DataFrame, segment: pl.Series, rules: RuleSet, seed: int = 42
) -> Validation:
    """Return how far segments differ in features that they were not made from.

    Parameters
    ----------
    features : DataFrame
        `core.baskets.features.customer_features`: `customer_id`, `BEHAVIOUR`, `SCORES`
        and any shares by aisle, which are explored.
    segment : Series of str, shape (n_customers,)
        In the order of the rows; customers without a segment are left out.
    rules : RuleSet
        That placed them: its features, what is the same under another name, and what
        has the ranks of one of them (`core.evaluation.separation.TIED`) are tied.
    seed : int, default 42
        Of the random halves; they depend on the order of the rows.
    """
    table = features.with_columns(segment.alias("segment"))
    used = [f.name for f in rules.features if f.name in features.columns]
    known = (*BEHAVIOUR, *(score.name for score in SCORES))
    behaviour = [name for name in known if name in features.columns]
    behaviour = list(dict.fromkeys([*behaviour, *used]))
    numeric = [n for n in behaviour if _is_number(features.schema[n])]
    found = separation(table, "segment", numeric, _tied(table, numeric, used))
    is_evidence = pl.col("role") == "evidence"
    aisles = [
        name
        for name, dtype in features.schema.items()
        if name.startswith("aisle_") and name not in behaviour and _is_number(dtype)
    ]
    return Validation(
        metrics=pl.concat(
            [found.filter(is_evidence), _exploration(table, aisles)]
        ).drop("tied_by"),
        definition_checks=found.filter(~is_evidence),
        split_gaps=split_gaps(table, "segment", numeric, seed),
    )


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype == pl.Boolean


def _tied(table: pl.DataFrame, metrics: list[str], used: list[str]) -> dict[str, str]:
    scores = [name for name in used if _is_number(table.schema[name])]
    tied = tied_metrics(table, metrics, scores)
    return tied | {
        SAME[name]: name for name in scores if SAME.get(name) in {*metrics} - {*scores}
    }


def _exploration(table: pl.DataFrame, aisles: list[str]) -> pl.DataFrame:
    found = separation(table, "segment", aisles, {})
    p_values = found["kruskal_p"].to_numpy()
    adjusted = np.full(len(p_values), np.nan)
    is_tested = ~np.isnan(p_values)
    adjusted[is_tested] = benjamini_hochberg(p_values[is_tested])
    return found.with_columns(
        pl.lit("exploration").alias("role"),
        pl.Series("adjusted_p", adjusted, pl.Float64, nan_to_null=True),
    )


def _evidence(metrics: pl.DataFrame) -> Iterator[str]:
    own = metrics.filter(pl.col("role") == "evidence")
    shown = own.filter(pl.col("adjusted_p") < ALPHA)
    if not shown.height:
        yield (
            f"In none of the {own.height} behaviours that took no part in the "
            "assignment do segments differ by more than chance."
        )
        return
    by_size: Mapping[str, list[str]] = {
        size: shown.filter(pl.col("effect") == size)["metric"].to_list()
        for size in (*(name for _, name in SIZES), "negligible")
    }
    sizes = "; ".join(
        f"{size} in {listed(names, 20)}" for size, names in by_size.items() if names
    )
    yield (
        f"Segments differ by more than chance in {shown.height} of the {own.height} "
        f"behaviours that took no part in the assignment: {sizes}."
    )


def _explored(metrics: pl.DataFrame) -> Iterator[str]:
    own = metrics.filter(pl.col("role") == "exploration")
    shown = own.filter(pl.col("adjusted_p") < ALPHA)
    if own.height:
        first = own.row(0, named=True)
        largest = (
            f"; the largest effect is {first['eta_squared']:.3f}, {first['effect']}, "
            f"in `{first['metric']}`"
            if shown.height
            else ""
        )
        yield (
            f"Explored: {shown.height} of {own.height} aisles differ at a false "
            f"discovery rate of {ALPHA:.0%}{largest}. Test such a finding on new data "
            "before you use it."
        )
