"""Minutes from dispatch to delivery, as a channel tells them."""

from __future__ import annotations

import polars as pl

from core.tables.cells import LARGEST, ParsedRows
from core.tables.columns import flagged
from core.tables.times import instant

BEGIN, END = "dispatched_time", "delivered_time"
OFFSETS = {BEGIN: "dispatched_offset", END: "delivered_offset"}


def with_minutes(parsed: ParsedRows, zone: str) -> pl.LazyFrame:
    """Return orders as read, with `delivery_minutes`: null where unknown or below 0.

    Parameters
    ----------
    parsed : ParsedRows
        Orders with minutes, with the times of both ends, or with neither.
    zone : str
        Of times without an offset.
    """
    minutes = pl.col("delivery_minutes")
    rows = parsed.rows.with_columns(_minutes(parsed, zone).alias("delivery_minutes"))
    found = {"unusable_delivery": ~minutes.is_between(0, LARGEST)}
    return rows.with_columns(
        flagged(parsed.spec, found),
        pl.when(minutes.is_between(0, LARGEST)).then(minutes).alias("delivery_minutes"),
    ).drop(OFFSETS, strict=False)


def _minutes(parsed: ParsedRows, zone: str) -> pl.Expr:
    """Return the minutes of delivery as received, or those that passed on the way."""
    known = [pl.lit(None, pl.Float64)]
    if "delivery_minutes" in parsed.columns:
        known.insert(0, pl.col("delivery_minutes"))
    if set(OFFSETS) <= set(parsed.columns):
        begin, end = (
            instant(pl.col(name), parsed.spec.has_any([OFFSETS[name]]), zone)
            for name in (BEGIN, END)
        )
        known.insert(-1, (end - begin).dt.total_seconds() / 60)
    return pl.coalesce(known)
