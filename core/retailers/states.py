"""States of shops as tables and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import polars as pl

from core.retailers.prepare import JUDGED_COLUMNS, Prepared
from core.segments.published import UNASSIGNED
from core.segments.states import LAPSED, STATES


def state_table(prepared: Prepared) -> pl.LazyFrame:
    """Return the rows of ``shop_states.csv``.

    Returns
    -------
    LazyFrame
        A row per shop: ``shop_id, state, first_month, last_month`` (YYYY-MM), and what
        the state follows from, as `core.segments.states.LifeCycle.states` tells it. All
        but the id is null for a shop that never sold.
    """
    told = ("shop_id", "state", "first_month", "last_month")
    return prepared.shops.select(*told, pl.exclude(JUDGED_COLUMNS))


def state_mix(scored: Path, column: str = "segment") -> pl.DataFrame:
    """Return of which states the shops of each segment are.

    Parameters
    ----------
    scored : Path
        Parquet file with `column` and ``state`` of labelled shops.
    column : str
        ``segment``, or ``sub_segment``.

    Returns
    -------
    DataFrame
        `column`, ``n_shops``, then ``share_new`` to ``share_lapsed``, of its shops
        whose state is known (null where none is), by ascending segment, the unassigned
        last.
    """
    shares = [
        (pl.col("state") == state).mean().alias(f"share_{state}") for state in STATES
    ]
    labels = pl.scan_parquet(scored, glob=False).select(column, "state")
    n_shops = pl.len().cast(pl.Int64).alias("n_shops")
    is_last = pl.col(column).cast(pl.String) == str(UNASSIGNED)
    return labels.group_by(column).agg(n_shops, *shares).collect().sort(is_last, column)


FLOWS_SCHEMA: Final = pl.Schema(
    {"month": pl.String, "from": pl.String, "to": pl.String, "n_shops": pl.Int64}
)
"""Columns of the flows of several months, see `state_flows`."""


def flows_of_month(month: str, before: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """Return `state_flows` of a month (YYYY-MM) as `FLOWS_SCHEMA`."""
    flows = state_flows(before, now).select(pl.lit(month).alias("month"), pl.all())
    return flows.cast(FLOWS_SCHEMA)


def state_flows(before: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """Count how many shops went from which state to which.

    Parameters
    ----------
    before, now : DataFrame
        ``shop_id, state`` of the shops that had ever sold by two months.

    Returns
    -------
    DataFrame
        ``from`` (null: had not sold yet), ``to``, ``n_shops``, in the order of a life;
        without a row where no state is known.
    """
    then = before.select("shop_id", pl.col("state").alias("from"))
    order = pl.Enum(STATES)
    return (
        now.join(then, on="shop_id", how="left")
        .drop_nulls("state")
        .group_by(pl.col("from").cast(order), pl.col("state").cast(order).alias("to"))
        .agg(n_shops=pl.len().cast(pl.Int64))
        .sort("from", "to")
    )


def n_lapsed_and_back(flows: pl.DataFrame) -> tuple[int, int]:
    """Return how many shops have lapsed, and how many came back from it."""
    has_lapsed, had_lapsed = pl.col("to") == LAPSED, pl.col("from") == LAPSED
    both = pl.col("n_shops")
    lapsed = flows.select(both.filter(has_lapsed & ~had_lapsed.fill_null(False)).sum())
    back = flows.select(both.filter(had_lapsed & ~has_lapsed).sum())
    return int(lapsed.item()), int(back.item())


def state_counts(states: pl.DataFrame | pl.LazyFrame) -> dict[str, int]:
    """Return how many shops are in each state, in the order of a life.

    >>> state_counts(pl.DataFrame({"state": ["active", "lapsed", "active", None]}))
    {'new': 0, 'active': 2, 'reviving': 0, 'slowing': 0, 'lapsed': 1}
    """
    found = states.lazy().group_by("state").agg(n=pl.len()).collect()
    n_in = dict(found.iter_rows())
    return {state: n_in.get(state, 0) for state in STATES}


def states_lines(n_in: Mapping[str, int]) -> list[str]:
    """Say how many shops are in which state, if that is known.

    >>> states_lines({"new": 0, "active": 2, "lapsed": 1})
    ['States of shops: 2 active; 1 lapsed.']
    """
    told = [f"{n:,} {state}" for state, n in n_in.items() if n]
    return [f"States of shops: {'; '.join(told)}."] if told else []
