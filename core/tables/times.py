"""Times of orders as local times, daylight saving included.

Zones are converted once, when orders are read; what is computed later needs whole days
and hours only, which every engine counts alike.
"""

from __future__ import annotations

import zoneinfo
from datetime import datetime

import polars as pl

from core.errors import ConfigError, did_you_mean
from core.tables.cells import ParsedRows
from core.tables.columns import TableSpec, flagged


def time_zone(name: str, key: str) -> str:
    """Return the name of a zone that Polars knows.

    Raises
    ------
    ConfigError
        If it knows none of that name; `key` is the option that has it.
    """
    try:
        pl.Series([datetime(2024, 1, 1)]).dt.replace_time_zone(name)
    except pl.exceptions.PolarsError:
        known = zoneinfo.available_timezones()
        raise ConfigError(
            f"`{key}` is `{name}`, which is no time zone; expected one of the IANA "
            f"data base, such as `Europe/Berlin`.{did_you_mean(name, known)}"
        ) from None
    return name


def are_days_only(parsed: ParsedRows) -> bool:
    """Return whether all orders of a table are dated at midnight: days without times.

    A single order may be of midnight by chance.
    """
    if parsed.settled is not None:
        return not parsed.settled.has_times
    moment = pl.col("order_time")
    is_midnight = moment.dt.truncate("1d") == moment
    facts = parsed.rows.select(moment.count(), is_midnight.all().alias("all"))
    n_dated, is_all = facts.collect(engine="streaming").row(0)
    return bool(n_dated > 1 and is_all)


def with_local_times(
    rows: pl.LazyFrame, spec: TableSpec, zone: str, local: str, *, has_times: bool
) -> pl.LazyFrame:
    """Return orders with local times, and the numbers of their days.

    Parameters
    ----------
    rows : polars.LazyFrame
        The orders as read: `order_time` with an offset is in UTC already.
    spec : TableSpec
        Has the repairs `with_offset`, `ambiguous_time` and `skipped_time`.
    zone : str
        Of times without an offset.
    local : str
        The zone wanted.
    has_times : bool
        Whether orders have a time of day. Days stay as they are.

    Returns
    -------
    polars.LazyFrame
        The rows, in which `order_time` is local, and `order_day` counts from
        1970-01-01. Times that clocks skip or repeat are flagged as repairs.
    """
    moment = pl.col("order_time")
    if has_times:
        is_utc, walled = spec.has_any(["with_offset"]), _walled(moment, zone)
        is_twice = walled != _walled(moment, zone, "latest")
        # In the same zone, a time that occurs twice is shown by the same hour.
        found = {
            "ambiguous_time": is_twice & ~is_utc & (zone != local),
            "skipped_time": walled.is_null() & moment.is_not_null() & ~is_utc,
        }
        there = instant(moment, is_utc, zone).dt.convert_time_zone(local)
        rows = rows.with_columns(flagged(spec, found), there.dt.replace_time_zone(None))
    return rows.with_columns(moment.dt.epoch("d").cast(pl.Int32).alias("order_day"))


def _walled(naive: pl.Expr, zone: str, ambiguous: str = "earliest") -> pl.Expr:
    """Return times that clocks of a zone show, in UTC; null where they skip them."""
    there = naive.dt.replace_time_zone(
        zone,
        ambiguous=ambiguous,  # type: ignore[arg-type] # one of two literals
        non_existent="null",
    )
    return there.dt.convert_time_zone("UTC")


def instant(naive: pl.Expr, is_utc: pl.Expr, zone: str) -> pl.Expr:
    """Return moments in UTC: those in UTC as they are, others by their zone.

    A time that clocks skip was written by one that was not set forward yet: it has the
    offset of the day before.
    """
    day = pl.duration(days=1)
    there = pl.coalesce(_walled(naive, zone), _walled(naive - day, zone) + day)
    return pl.when(is_utc).then(naive.dt.replace_time_zone("UTC")).otherwise(there)
