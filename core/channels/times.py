"""Times of orders as local times, daylight saving included.

Zones are converted once, when orders are read; what is computed later needs whole days
and hours only, which every engine counts alike.
"""

from __future__ import annotations

import polars as pl

from core.channels.staging import flagged
from core.tables.cells import LARGEST, ParsedRows
from core.tables.columns import TableSpec

DELIVERY = ("dispatched_time", "delivered_time")
OFFSETS = {
    "order_time": "with_offset",
    "dispatched_time": "dispatched_offset",
    "delivered_time": "delivered_offset",
}


def are_days_only(parsed: ParsedRows) -> bool:
    """Return whether all orders of a table are dated at midnight: days without times.

    A single order may be of midnight by chance.
    """
    moment = pl.col("order_time")
    is_midnight = moment.dt.truncate("1d") == moment
    facts = parsed.rows.select(moment.count(), is_midnight.all().alias("all"))
    n_dated, is_all = facts.collect(engine="streaming").row(0)
    return bool(n_dated > 1 and is_all)


def with_local_times(
    parsed: ParsedRows, zone: str, local: str, *, has_times: bool
) -> pl.LazyFrame:
    """Return orders with local times, day and hour numbers, and minutes of delivery.

    Parameters
    ----------
    parsed : ParsedRows
        The orders as read: times with an offset are in UTC already.
    zone : str
        Of times without an offset.
    local : str
        The zone wanted.
    has_times : bool
        Whether orders have a time of day. Days stay as they are.

    Returns
    -------
    polars.LazyFrame
        The rows, in which `order_time` is local; `order_day` counts from 1970-01-01,
        `order_hour` from 0 to 23 (null without times); `delivery_minutes` is null where
        unknown or below 0. Times that clocks skip or repeat are flagged as repairs.
    """
    spec, moment = parsed.spec, pl.col("order_time")
    found, hour = {}, pl.lit(None, pl.Int32)
    rows = parsed.rows.with_columns(_minutes(parsed, zone).alias("delivery_minutes"))
    minutes = pl.col("delivery_minutes")
    found["unusable_delivery"] = ~minutes.is_between(0, LARGEST)
    if has_times:
        plain, walled = ~_has_offset(spec, "order_time"), _walled(moment, zone)
        is_twice = walled != _walled(moment, zone, "latest")
        # In the same zone, a time that occurs twice is shown by the same hour.
        found["ambiguous_time"] = is_twice & plain & (zone != local)
        found["skipped_time"] = walled.is_null() & moment.is_not_null() & plain
        there = _instant(spec, "order_time", zone).dt.convert_time_zone(local)
        rows = rows.with_columns(flagged(spec, found), there.dt.replace_time_zone(None))
        hour = moment.dt.hour().cast(pl.Int32)
    else:
        rows = rows.with_columns(flagged(spec, found))
    return rows.with_columns(
        moment.dt.epoch("d").cast(pl.Int32).alias("order_day"),
        hour.alias("order_hour"),
        pl.when(minutes.is_between(0, LARGEST)).then(minutes).alias("delivery_minutes"),
    ).drop(DELIVERY, strict=False)


def _minutes(parsed: ParsedRows, zone: str) -> pl.Expr:
    """Return the minutes of delivery as received, or those that passed on the way."""
    known = [pl.lit(None, pl.Float64)]
    if "delivery_minutes" in parsed.columns:
        known.insert(0, pl.col("delivery_minutes"))
    if set(DELIVERY) <= set(parsed.columns):
        begin, end = (_instant(parsed.spec, name, zone) for name in DELIVERY)
        known.insert(-1, (end - begin).dt.total_seconds() / 60)
    return pl.coalesce(known)


def _has_offset(spec: TableSpec, name: str) -> pl.Expr:
    return spec.has_any([OFFSETS[name]])


def _walled(naive: pl.Expr, zone: str, ambiguous: str = "earliest") -> pl.Expr:
    """Return times that clocks of a zone show, in UTC; null where they skip them."""
    there = naive.dt.replace_time_zone(
        zone,
        ambiguous=ambiguous,  # type: ignore[arg-type] # one of two literals
        non_existent="null",
    )
    return there.dt.convert_time_zone("UTC")


def _instant(spec: TableSpec, name: str, zone: str) -> pl.Expr:
    """Return moments in UTC: with an offset as they are, others by their zone.

    A time that clocks skip was written by one that was not set forward yet: it has the
    offset of the day before.
    """
    naive, day = pl.col(name), pl.duration(days=1)
    there = pl.coalesce(_walled(naive, zone), _walled(naive - day, zone) + day)
    is_utc = _has_offset(spec, name)
    return pl.when(is_utc).then(naive.dt.replace_time_zone("UTC")).otherwise(there)
