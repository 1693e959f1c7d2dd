"""Orders of customers in the order of time, and what does not count as one.

Orders with dates are numbered by them, and their days, hours and gaps follow; orders
with numbers keep what they tell, as far as it can be so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from core.baskets.schema import ID, ORDER_COLUMNS
from core.config import DataConfig
from core.tables.cells import ParsedRows, latest_moment
from core.tables.columns import FLAGS, ROW, TableSpec, flagged
from core.tables.staging import Part, checked_part, has_fault, later_rows
from core.tables.times import are_days_only, with_local_times

MOST_GAP, HOURS = 10_000, 24
# 1970-01-01, where 0 is Sunday.
THURSDAY = 4
RECEIVED = "received_id"


@dataclass(frozen=True)
class Orders:
    """Orders that count, in the order of time, and all ids that were received.

    Attributes
    ----------
    rows : DataFrame
        `ORDER_COLUMNS`, and `eval_set` if it was received; ids are places from 0.
    places : DataFrame
        `order_id` as received, each once, and `order`: its place in `rows`, null where
        it was set aside.
    customers : DataFrame
        `customer_id` (text) and `n_orders`, ascending.
    part : Part
        The account, and the rows set aside.
    notes : list of str
    """

    rows: pl.DataFrame
    places: pl.DataFrame
    customers: pl.DataFrame
    part: Part
    notes: list[str]


def put_in_order(
    parsed: ParsedRows,
    returned: pl.LazyFrame,
    zone: str,
    data: DataConfig,
    *,
    of_lines: bool = False,
) -> Orders:
    """Check orders, and put each customer's in the order of time.

    Parameters
    ----------
    parsed : ParsedRows
        Orders as read, with `order_time`, or with `order_number` and
        `days_since_prior_order`.
    returned : LazyFrame
        `order_id` of those of which nothing was bought.
    zone : str
        The local zone, which is that of times without an offset.
    data : DataConfig
        Policies.
    of_lines : bool
        Whether rows are what lines of items say of their order: those of one customer
        and order are one, of which the earliest counts.

    Raises
    ------
    SchemaError
        If no order counts.
    """
    spec = parsed.spec
    rows, keys, notes = _with_times(parsed, zone)
    nothing = returned.with_columns(is_returned=pl.lit(value=True))
    rows = rows.join(nothing, on="order_id", how="left")
    rows = rows.with_columns(flagged(spec, {"only_returns": pl.col("is_returned")}))
    first = ["order_id", *keys]
    found = rows.drop("is_returned").select(*first, pl.exclude(first)).collect()
    if of_lines:
        same = found.filter(pl.struct("order_id", ID).is_duplicated())
        found = found.join(later_rows(same, ["order_id", ID]), on=ROW, how="anti")
    sound = found.filter(~has_fault(spec))
    later = later_rows(sound.filter(pl.col("order_id").is_duplicated()), ["order_id"])
    is_later = pl.col(ROW).is_in(later[ROW].implode())
    found = found.with_columns(flagged(spec, {"repeated_order": is_later}))
    kept, aside = found.filter(~has_fault(spec)), found.filter(has_fault(spec))
    customers = kept.group_by(ID).agg(n_orders=pl.len()).sort(ID)
    kept = _numbered(kept, customers, keys)
    kept = _dated(kept) if "order_time" in keys else _gapped(kept, parsed)
    checked = pl.concat([kept.select(ROW, FLAGS), aside.select(ROW, FLAGS)])
    columns = [pl.col(name).cast(dtype) for name, dtype in ORDER_COLUMNS.items()]
    sets = ["eval_set"] if "eval_set" in parsed.columns else []
    return Orders(
        kept.select(*columns, *sets),
        _places(kept, aside),
        customers,
        checked_part(parsed, checked.lazy(), data, is_needed=True),
        notes,
    )


def _with_times(
    parsed: ParsedRows, zone: str
) -> tuple[pl.LazyFrame, list[str], list[str]]:
    """Return orders with what tells their times, what they are sorted by, and notes."""
    spec, hour = parsed.spec, "order_hour_of_day"
    if "order_time" not in parsed.columns:
        rows = _with_possible_gaps(parsed.rows, spec)
        if hour in parsed.columns:
            rows = _with_possible_hours(rows, spec)
        return rows, ["order_number"], []
    has_times, moment = not are_days_only(parsed), pl.col("order_time")
    rows = _with_days(parsed, zone, has_times=has_times)
    if has_times:
        time = moment.dt.hour() + moment.dt.minute() / 60
        return rows.with_columns(time.alias(hour)), ["order_time"], []
    if hour in parsed.columns:
        return _with_possible_hours(rows, spec), ["order_time", hour], []
    return (
        rows.with_columns(pl.lit(None, pl.Float64).alias(hour)),
        ["order_time"],
        [
            f"{parsed.name}: all orders are dated at midnight: they have days without "
            "times, so that hours are unknown."
        ],
    )


def _with_days(parsed: ParsedRows, zone: str, *, has_times: bool) -> pl.LazyFrame:
    """Return orders with local times and days, flagged where they are in the future."""
    spec, moment = parsed.spec, pl.col("order_time")
    rows = with_local_times(parsed.rows, spec, zone, zone, has_times=has_times)
    return rows.with_columns(flagged(spec, {"future_order": moment > latest_moment()}))


def _with_possible_gaps(rows: pl.LazyFrame, spec: TableSpec) -> pl.LazyFrame:
    """Return orders with gaps null where they cannot be, flagged so."""
    gap = pl.col("days_since_prior_order")
    is_gap = gap.is_between(0, MOST_GAP)
    return rows.with_columns(
        flagged(spec, {"unusable_gap": ~is_gap}), pl.when(is_gap).then(gap)
    )


def _with_possible_hours(rows: pl.LazyFrame, spec: TableSpec) -> pl.LazyFrame:
    """Return orders with hours null where they cannot be, flagged so."""
    hour = pl.col("order_hour_of_day")
    is_hour = ((hour >= 0) & (hour < HOURS)).fill_null(value=False)
    return rows.with_columns(
        flagged(spec, {"unusable_hour": ~is_hour}), pl.when(is_hour).then(hour)
    )


def _numbered(
    orders: pl.DataFrame, customers: pl.DataFrame, keys: Sequence[str]
) -> pl.DataFrame:
    """Return orders by customer and time, with whole numbers as ids.

    Of equal times, the shorter order id comes first, which of numbers is the smaller.
    """
    places = customers.select(ID).with_row_index("customer")
    length = pl.col("order_id").str.len_bytes().alias("length")
    in_order = (
        orders.join(places, on=ID)
        .sort("customer", *keys, length, "order_id")
        .rename({"order_id": RECEIVED})
        .drop(ID)
    )
    number = pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("customer")
    return in_order.with_row_index("order_id").with_columns(number=number)


def _dated(orders: pl.DataFrame) -> pl.DataFrame:
    """Return what days tell of orders that are numbered."""
    day = pl.col("order_day")
    return orders.with_columns(
        days_since_prior_order=day.diff().over("customer").cast(pl.Float64),
        order_dow=((day + THURSDAY) % 7).cast(pl.Int8),
    ).rename({"customer": ID, "number": "order_number"})


def _gapped(orders: pl.DataFrame, parsed: ParsedRows) -> pl.DataFrame:
    """Return what numbered orders tell, without the gap of a first order."""
    spec, gap = parsed.spec, pl.col("days_since_prior_order")
    is_first = pl.col("number") == 1
    was_told = spec.has_any(["unusable_gap"])
    found = {
        "missing_gap": gap.is_null() & ~is_first & ~was_told,
        "first_gap": gap.is_not_null() & is_first,
        "renumbered": pl.col("number") != pl.col("order_number"),
    }
    unknown = [
        pl.lit(None, ORDER_COLUMNS[name]).alias(name)
        for name in ("order_dow", "order_hour_of_day", "order_day")
        if name not in parsed.columns
    ]
    return orders.with_columns(
        flagged(spec, found), pl.when(~is_first).then(gap), *unknown
    ).select(
        pl.exclude("customer", "number", "order_number"),
        pl.col("customer").alias(ID),
        pl.col("number").alias("order_number"),
    )


def _places(kept: pl.DataFrame, aside: pl.DataFrame) -> pl.DataFrame:
    """Return every order id as received, and its place, null where it was set aside."""
    known = kept.select(pl.col(RECEIVED).alias("order_id"), order="order_id")
    others = aside.select(pl.col("order_id").drop_nulls().unique())
    others = others.join(known, on="order_id", how="anti")
    return pl.concat([known, others], how="diagonal")
