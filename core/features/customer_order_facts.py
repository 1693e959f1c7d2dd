"""From order rows to one row of facts per customer, as Narwhals expressions.

As for shops (`core.features.monthly`), the engine does what grows with the rows, and
amounts are summed as whole millionths, times as whole seconds: neither the order of the
rows nor the number of threads can move a mean across a threshold. Standard deviations
are the engine's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw

from core.features.customer_definitions import (
    MILLIONTHS,
    RECENT_DAYS,
    SECONDS_PER_DAY,
    SECONDS_PER_MONTH,
)

Rows = nw.LazyFrame[Any]

RECENT_SECONDS = RECENT_DAYS * SECONDS_PER_DAY
ONE = nw.lit(1)


def channel_count(place: int) -> str:
    """Return the column that counts orders through the known channel at a place."""
    return f"n_channel_{place}"


def millionths(name: str) -> nw.Expr:
    """Return an amount or quantity in whole millionths, exact in a sum.

    A customer's sum may reach 9.2e12 units, far above what intake lets through.
    """
    return (nw.col(name) * MILLIONTHS).round().cast(nw.Int64)


def count_of(condition: nw.Expr) -> nw.Expr:
    """Return 1 where a condition holds and 0 where it does not or is null."""
    return nw.when(condition).then(ONE).otherwise(nw.lit(0)).cast(nw.Int64)


def order_facts(
    orders: Rows,
    *,
    now: nw.Expr,
    absent: Sequence[str],
    channels: Sequence[str],
) -> Rows:
    """Sum the orders of each customer.

    Parameters
    ----------
    orders : LazyFrame
        ``customer_id, order_id, order_date, total_price`` and, unless absent,
        ``discount_amount`` (null: none) and ``source`` (null: not known).
    now : Expr
        The reference date, a value or a column; no order is later.
    absent : sequence of str
        Optional columns that are left alone.
    channels : sequence of str
        The known channels.

    Returns
    -------
    LazyFrame
        One row per customer. ``*_age`` are whole seconds before `now`, gaps
        days, ``*_micro`` whole millionths of an amount, ``n_*`` orders.
    """
    columns = _time_columns() | _value_columns()
    if "discount_amount" not in absent:
        columns |= _discount_columns()
    if "source" not in absent:
        columns |= _channel_columns(channels)
    lines = _with_neighbours(_lines(orders, now, absent), absent)
    return (
        lines.with_columns(**columns)
        .group_by("customer_id")
        .agg(
            nw.len().alias("n_orders"),
            nw.col("age").max().alias("first_age"),
            nw.col("age").min().alias("last_age"),
            nw.col("age").sum().alias("age_sum"),
            nw.col("gap").std(ddof=0).alias("gap_std"),
            nw.col("value").max().alias("value_max"),
            nw.col("value").median().alias("value_median"),
            nw.col("value").std(ddof=0).alias("value_std"),
            nw.col("value_micro").sum(),
            *(nw.col(name).sum() for name in columns if name != "gap"),
        )
    )


def _lines(orders: Rows, now: nw.Expr, absent: Sequence[str]) -> Rows:
    """Select what is used, with the age in seconds and the value in millionths."""
    optional = [c for c in ("discount_amount", "source") if c not in absent]
    age = (now - nw.col("order_date")).dt.total_seconds()
    return orders.select(
        "customer_id",
        "order_id",
        "order_date",
        *optional,
        value=nw.col("total_price"),
        value_micro=millionths("total_price"),
        age=age.cast(nw.Int64),
    )


def _with_neighbours(lines: Rows, absent: Sequence[str]) -> Rows:
    """Add to each order its place among, and the totals of, its customer's orders."""
    # Orders of one moment are put in order by their id.
    in_order = {"order_by": ("order_date", "order_id")}
    before = {"previous_age": "age"}
    if "source" not in absent:
        before["previous_source"] = "source"
    shifted = {
        name: nw.col(source).shift(1).over("customer_id", **in_order)
        for name, source in before.items()
    }
    return lines.with_columns(
        place=nw.col("age").cum_count().over("customer_id", **in_order),
        n_of_customer=nw.len().over("customer_id"),
        first_of_customer=nw.col("age").max().over("customer_id"),
        value_of_customer=nw.col("value_micro").sum().over("customer_id"),
        **shifted,
    )


def _time_columns() -> dict[str, nw.Expr]:
    """Return the gap to the order before, and what kind of moment an order is of."""
    age, hour = nw.col("age"), nw.col("order_date").dt.hour()
    since_first = nw.col("first_of_customer") - age
    month = since_first // SECONDS_PER_MONTH
    # Of the months since the first order, only whole ones are counted.
    n_months = nw.col("first_of_customer") // SECONDS_PER_MONTH
    in_whole_month = count_of(month < n_months)
    return {
        "gap": (nw.col("previous_age") - age) / SECONDS_PER_DAY,
        "n_recent": count_of(age <= RECENT_SECONDS),
        "n_before": count_of((age > RECENT_SECONDS) & (age <= 2 * RECENT_SECONDS)),
        "n_weekend": count_of(nw.col("order_date").dt.weekday() >= 6),
        "n_business": count_of((hour >= 9) & (hour <= 17)),
        "n_morning": count_of(hour < 12),
        "n_afternoon": count_of((hour >= 12) & (hour < 17)),
        "n_evening": count_of(hour >= 17),
        "n_in_months": in_whole_month,
        "month_sum": month * in_whole_month,
    }


def _value_columns() -> dict[str, nw.Expr]:
    """Return what the slope of the value and the count of splurges are summed from."""
    n, value = nw.col("n_of_customer"), nw.col("value_micro").cast(nw.Float64)
    from_middle = nw.col("place").cast(nw.Float64) - (n.cast(nw.Float64) + 1) / 2
    twice_mean = 2 * nw.col("value_of_customer").cast(nw.Float64)
    return {
        "value_moment": from_middle * nw.col("value"),
        "n_splurges": count_of(value * n.cast(nw.Float64) > twice_mean),
    }


def _discount_columns() -> dict[str, nw.Expr]:
    """Return discounts, and the value of what was bought without one."""
    discount = nw.col("discount_amount")
    has_discount = discount > 0
    before_discount = nw.col("value") + discount
    share = nw.when(has_discount).then(discount / before_discount)
    return {
        "n_discounted": count_of(has_discount),
        "discount_micro": nw.when(has_discount).then(millionths("discount_amount")),
        "discount_share": share.otherwise(nw.lit(0.0)),
        "full_price_micro": nw.when(has_discount)
        .then(nw.lit(0))
        .otherwise(nw.col("value_micro")),
    }


def _channel_columns(channels: Sequence[str]) -> dict[str, nw.Expr]:
    """Return which known channel an order came through, and whether that changed."""
    source, previous = nw.col("source"), nw.col("previous_source")
    is_pair = ~source.is_null() & ~previous.is_null()
    return {
        "n_with_channel": count_of(~source.is_null()),
        "n_channel_pairs": count_of(is_pair),
        "n_switches": count_of(is_pair & (source != previous)),
        **{
            channel_count(place): count_of(source == nw.lit(channel))
            for place, channel in enumerate(channels)
        },
    }
