"""Shops that are changing: what a refresh says of them, and where it writes it."""

from __future__ import annotations

import polars as pl

from core.months import month_label
from core.retailers.refresh.month import ScoredMonth
from core.segments.changing import find_changing
from core.segments.published import UNASSIGNED

CHANGING = "segment_changing.csv"
COLUMNS = ("entity", "segment", "candidate", "since", "against_past", "evidence")


def changing_shops(scored: ScoredMonth, block: pl.DataFrame) -> pl.DataFrame | None:
    """Return the shops whose recent months follow another segment than their own.

    Parameters
    ----------
    scored : ScoredMonth
        The month that came.
    block : DataFrame
        Of the ledger, of that month: the settled segments are what shops are known by.

    Returns
    -------
    DataFrame or None
        `COLUMNS`, the strongest evidence first: the shop, its settled segment, the one
        that it seems to go to, the month since which (YYYY-MM), what it sold since then
        over what its own past foretells, and the natural logarithm of the odds of a
        change. None where that cannot be told, see
        `core.segments.changing.find_changing`.
    """
    shops = scored.features.select(pl.col("shop_id").alias("entity"))
    known = shops.join(block.select("entity", "settled"), on="entity", how="left")
    settled = known["settled"].fill_null(UNASSIGNED).to_numpy()
    found = find_changing(scored.months, settled.astype("int64"))
    if found["evidence"].is_null().all():
        return None
    since = pl.col("since_t").map_elements(month_label, return_dtype=pl.String)
    return (
        pl.concat([known.rename({"settled": "segment"}), found], how="horizontal")
        .filter("is_changing")
        .with_columns(since=since)
        .sort("evidence", "entity", descending=[True, False])
        .select(COLUMNS)
    )
