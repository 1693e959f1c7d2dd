"""States of shops as tables and sentences."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from core.retailers.prepare import Prepared
from core.segments.states import STATES


def state_table(prepared: Prepared) -> pl.DataFrame:
    """Return the rows of ``shop_states.csv``.

    Returns
    -------
    DataFrame
        A row per shop: ``shop_id, state, first_month, last_month`` (YYYY-MM), and what
        the state follows from, as `core.segments.states.LifeCycle.states` tells it. All
        but the id is null for a shop that never sold.
    """
    months = prepared.shops.select("shop_id", "first_month", "last_month")
    known = months.join(
        prepared.states, on="shop_id", how="left", maintain_order="left"
    )
    return known.select("shop_id", "state", pl.exclude("shop_id", "state"))


def state_counts(states: pl.Series) -> dict[str, int]:
    """Return how many shops are in each state, in the order of a life.

    >>> state_counts(pl.Series(["active", "lapsed", "active", None]))
    {'new': 0, 'active': 2, 'reviving': 0, 'slowing': 0, 'lapsed': 1}
    """
    return {state: int((states == state).sum()) for state in STATES}


def states_line(counts: Mapping[str, int]) -> str:
    """Say how many shops are in which state.

    >>> states_line({"new": 0, "active": 1200, "lapsed": 30})
    'States: 1,200 active; 30 lapsed.'
    """
    told = "; ".join(f"{n:,} {state}" for state, n in counts.items() if n)
    return f"States: {told}."
