"""What sets each segment apart today, beside what months that came after say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from core.evaluation.effects import EFFECTS, ERROR_RATE
from core.evaluation.later import LaterEffects

UNTESTED = "descriptive only, not tested"
N_STRONGEST = 5
_PAIR = ["segment", "feature"]
_FIGURES = ["n", "median", "rest_median", "effect"]


def profile_table(
    today: pl.DataFrame,
    tested: LaterEffects | None,
    why_not: str | None,
    names: Mapping[int, str],
) -> pl.DataFrame:
    """Put every difference of today beside its test on later months.

    Parameters
    ----------
    today : DataFrame
        `core.evaluation.effects.effects_against_rest` of the published segments, not
        tested: what made them cannot test them.
    tested : LaterEffects or None
    why_not : str or None
        Why there is no test, where there is none.
    names : mapping of segment to name

    Returns
    -------
    DataFrame
        One row per segment (ascending) and feature, the clearest first: ``segment``,
        ``segment_name``, ``feature``; ``n``, ``median``, ``rest_median`` and ``effect``
        of today; ``later_n``, ``later_median``, ``later_rest_median``,
        ``later_effect``, ``low``, ``high``, ``p_value`` and ``adjusted_p`` of the test;
        ``status``: "tested", or "descriptive only, not tested: " and the reason. What
        shops did later (``later_growth``, say) has no figures of today.
    """
    later = pl.DataFrame(schema=EFFECTS) if tested is None else tested.effects
    later = later.drop("n_rest").rename({name: f"later_{name}" for name in _FIGURES})
    joined = today.select(*_PAIR, *_FIGURES).join(
        later, on=_PAIR, how="full", coalesce=True
    )
    is_tested = pl.col("adjusted_p").is_not_null()
    reason = pl.format(f"{UNTESTED}: {{}}", _reason(tested, why_not))
    name = pl.col("segment").replace_strict(names, return_dtype=pl.String)
    return (
        joined.with_columns(
            segment_name=name,
            status=pl.when(is_tested).then(pl.lit("tested")).otherwise(reason),
            order=pl.coalesce("effect", "later_effect").abs(),
        )
        .sort("segment", "order", "feature", descending=[False, True, False])
        .select("segment", "segment_name", pl.exclude("segment", "segment_name"))
        .drop("order")
    )


def _reason(tested: LaterEffects | None, why_not: str | None) -> pl.Expr:
    """Return why a row is not tested."""
    if tested is None:
        return pl.lit(why_not)
    found = tested.matches.filter("is_tested")["segment"].to_list()
    return (
        pl.when(~pl.col("segment").is_in(found))
        .then(pl.lit("the segment was not found again"))
        .when(pl.col("feature").is_in(tested.left_out))
        .then(pl.lit(f"not known from {tested.n_months} months"))
        .when(pl.col("later_n").is_null())
        .then(pl.lit("volume is described, not clustered"))
        .otherwise(pl.lit("too few shops"))
    )


def strongest(
    profiles: pl.DataFrame, features: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Return the five clearest differences of today of every segment.

    Parameters
    ----------
    profiles : DataFrame
        Of `profile_table`.
    features : sequence of str
        Those that count; volume, for one, is not clustered.

    Returns
    -------
    dict
        By segment (as text, for JSON), rows as plain values, the clearest first.
    """
    kept = profiles.filter(
        pl.col("effect").is_not_null(), pl.col("feature").is_in(list(features))
    )
    return {
        str(segment): table.head(N_STRONGEST).drop("segment", "segment_name").to_dicts()
        for (segment,), table in kept.group_by(["segment"], maintain_order=True)
    }


def later_facts(tested: LaterEffects | None, why_not: str | None) -> dict[str, Any]:
    """Return what the test was as plain values; ``why_not`` where there was none."""
    if tested is None:
        return {"why_not": why_not}
    adjusted = tested.effects["adjusted_p"].drop_nulls()
    return {
        "why_not": None,
        "cut": tested.cut,
        "n_months": tested.n_months,
        "n_shops": tested.n_shops,
        "n_segments": tested.matches.height,
        "n_found_again": int(tested.matches["is_tested"].sum()),
        "n_comparisons": len(adjusted),
        "n_clear": int((adjusted <= ERROR_RATE).sum()),
        "matches": tested.matches.to_dicts(),
        "left_out": tested.left_out,
    }
