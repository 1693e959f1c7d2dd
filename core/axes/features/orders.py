"""Features of a customer's orders: facts per customer, then frequency, value, hours.

As for shops (`core.retailers.monthly`), the engine does what grows with the rows, and
amounts are summed as whole millionths, times as whole seconds: neither the order of the
rows nor the number of threads can move a mean across a threshold. Standard deviations
are the engine's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw

from core.axes.features.definitions import (
    CHANNEL_SHARE,
    DAYS_PER_MONTH,
    LIFECYCLE_MONTHS,
    MILLIONTHS,
    NO_CHANNEL,
    ONE_ORDER,
    RECENT_DAYS,
    SECONDS_PER_DAY,
    SECONDS_PER_MONTH,
    CustomerFeature,
    at_least,
    sharing,
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


# Facts, in the units of the features.
n_orders = nw.col("n_orders")
n_gaps = n_orders - 1
has_two = n_orders >= 2
days_since_last = nw.col("last_age") / SECONDS_PER_DAY
tenure_days = nw.col("first_age") / SECONDS_PER_DAY
tenure_months = nw.col("first_age") / SECONDS_PER_MONTH
lifetime_value = nw.col("value_micro") / MILLIONTHS
average_value = lifetime_value / n_orders
mean_gap = (tenure_days - days_since_last) / at_least(n_gaps, 1)
# An order an hour ago is not 700 orders a month.
orders_per_month = n_orders / at_least(tenure_months, 1)
recent_per_month = nw.col("n_recent") / (RECENT_DAYS / DAYS_PER_MONTH)
value_consistency = (
    nw.when(lifetime_value > 0)
    .then(1 / (1 + nw.col("value_std") / average_value))
    .otherwise(nw.lit(1.0))
)
discount_rate = nw.col("n_discounted") / n_orders
n_discounted = at_least(nw.col("n_discounted"), 1)


def has_tenure(n_months: int) -> nw.Expr:
    """Return whether a tenure reaches a number of months, in whole seconds."""
    return nw.col("first_age") >= n_months * SECONDS_PER_MONTH


def n_true(*conditions: nw.Expr) -> nw.Expr:
    """Return how many of the conditions hold."""
    return nw.sum_horizontal(*(condition.cast(nw.Int64) for condition in conditions))


def slope(moment: nw.Expr, n: nw.Expr) -> nw.Expr:
    """Return the least-squares slope over 1..n.

    Parameters
    ----------
    moment : Expr
        Sum of (i - (n + 1) / 2) y_i.
    n : Expr
        Number of points; without two of them the slope is 0.
    """
    spread = n * (n * n - 1) / 12
    return nw.when(n >= 2).then(moment / at_least(spread, 0.5)).otherwise(nw.lit(0.0))


def _frequency_trend() -> nw.Expr:
    """Return the slope of orders per whole month since the first order."""
    n_months = nw.col("first_age") // SECONDS_PER_MONTH
    middle = (n_months - 1) / 2
    return slope(nw.col("month_sum") - middle * nw.col("n_in_months"), n_months)


def _gap_trend() -> nw.Expr:
    """Return the slope of the gaps, in days per gap.

    With times t_0..t_G the sum of i (t_i - t_{i-1}) is (G + 1) t_G - sum t: the gaps
    themselves are not needed.
    """
    weighted = nw.col("age_sum") - n_orders * nw.col("last_age")
    span = nw.col("first_age") - nw.col("last_age")
    return slope((weighted - span * n_orders / 2) / SECONDS_PER_DAY, n_gaps)


def _churn_risk() -> nw.Expr:
    """Return days since the last order over twice the mean gap, at most 1."""
    risk = days_since_last / (2 * nw.when(mean_gap > 0).then(mean_gap))
    # All orders at one moment: any wait is longer than usual.
    without_gap = (days_since_last > 0).cast(nw.Float64)
    risk = nw.when(mean_gap > 0).then(risk.clip(upper_bound=1)).otherwise(without_gap)
    return nw.when(has_two).then(risk)


def _phase(condition: nw.Expr) -> nw.Expr:
    """Return a yes or no as 1 or 0, null below two orders."""
    return nw.when(has_two).then(condition.cast(nw.Float64))


def _full_price_comfort() -> nw.Expr:
    """Return the share of the value bought without a discount."""
    by_value = nw.col("full_price_micro") / at_least(nw.col("value_micro"), 1)
    is_paid = nw.col("value_micro") > 0
    return nw.when(is_paid).then(by_value).otherwise(1 - discount_rate)


FREQUENCY = (
    CustomerFeature(
        "orders_per_month",
        "orders per month",
        "orders / tenure in months, counted as at least one month",
        scale="log",
        of_facts=orders_per_month,
    ),
    CustomerFeature(
        "avg_days_between_orders",
        "days",
        "days from first to last order / (orders - 1); the tenure with one order",
        scale="log",
        of_facts=nw.when(has_two).then(mean_gap).otherwise(tenure_days),
    ),
    CustomerFeature(
        "purchase_consistency",
        "ratio, 0 to 1",
        "1 / (1 + population standard deviation / mean of the gaps between orders); 0 "
        "with one order or all at one moment",
        of_facts=nw.when(has_two & (mean_gap > 0))
        .then(1 / (1 + nw.col("gap_std") / nw.when(mean_gap > 0).then(mean_gap)))
        .otherwise(nw.lit(0.0)),
    ),
    CustomerFeature(
        "recent_orders_90d",
        "orders",
        "orders of the last 90 days",
        scale="log",
        of_facts=nw.col("n_recent"),
    ),
    CustomerFeature(
        "days_since_last_purchase",
        "days",
        "from the last order to the reference date",
        scale="log",
        of_facts=days_since_last,
    ),
    CustomerFeature(
        "total_orders", "orders", "number of orders", scale="log", of_facts=n_orders
    ),
)

VALUE = (
    CustomerFeature(
        "lifetime_value",
        "currency",
        "sum of `total_price`; refunds are not taken off",
        scale="log",
        of_facts=lifetime_value,
    ),
    CustomerFeature(
        "avg_order_value",
        "currency",
        "lifetime_value / orders",
        scale="log",
        of_facts=average_value,
    ),
    CustomerFeature(
        "median_order_value",
        "currency",
        "median of `total_price`",
        scale="log",
        of_facts=nw.col("value_median"),
    ),
    CustomerFeature(
        "max_order_value",
        "currency",
        "largest `total_price`",
        scale="log",
        of_facts=nw.col("value_max"),
    ),
    CustomerFeature(
        "value_trend",
        "currency per order",
        "least-squares slope of `total_price` over the number of the order, by date "
        "and then by `order_id`; 0 below 3 orders",
        of_facts=nw.when(n_orders >= 3)
        .then(slope(nw.col("value_moment"), n_orders))
        .otherwise(nw.lit(0.0)),
    ),
    CustomerFeature(
        "value_consistency",
        "ratio, 0 to 1",
        "1 / (1 + population standard deviation / mean of `total_price`); 1 if nothing "
        "was paid",
        of_facts=value_consistency,
    ),
    CustomerFeature(
        "spend_consistency",
        "ratio, 0 to 1",
        "value_consistency",
        of_facts=value_consistency,
    ),
    CustomerFeature(
        "big_splurge_rate",
        "share of orders",
        "orders above twice the customer's mean `total_price` / orders",
        of_facts=nw.col("n_splurges") / n_orders,
    ),
)

DISCOUNTS = (
    CustomerFeature(
        "discount_rate",
        "share of orders",
        "orders with a `discount_amount` above 0 / orders",
        of_facts=discount_rate,
    ),
    CustomerFeature(
        "avg_discount_amount",
        "currency",
        "mean `discount_amount` of the orders with one; 0 without any",
        scale="log",
        of_facts=nw.col("discount_micro") / MILLIONTHS / n_discounted,
    ),
    CustomerFeature(
        "avg_discount_pct",
        "share of the price",
        "mean over the orders with a discount of `discount_amount` / "
        "(`total_price` + `discount_amount`); 0 without any",
        of_facts=nw.col("discount_share") / n_discounted,
    ),
    CustomerFeature(
        "full_price_ratio",
        "share of orders",
        "1 - discount_rate",
        of_facts=1 - discount_rate,
    ),
    CustomerFeature(
        "discount_dependency",
        "share of orders",
        "discount_rate",
        of_facts=discount_rate,
    ),
    CustomerFeature(
        "discount_hunt_score",
        "share of the price",
        "discount_rate x avg_discount_pct: the mean discount over all orders",
        of_facts=nw.col("discount_share") / n_orders,
    ),
    CustomerFeature(
        "full_price_comfort",
        "share of the value",
        "`total_price` of the orders without a discount / lifetime_value; 1 - "
        "discount_rate if nothing was paid",
        of_facts=_full_price_comfort(),
    ),
)

CADENCE = (
    CustomerFeature(
        "weekend_vs_weekday_ratio",
        "ratio",
        "orders of Saturday and Sunday / orders of other days, counted as at least one",
        scale="log",
        of_facts=nw.col("n_weekend") / at_least(n_orders - nw.col("n_weekend"), 1),
    ),
    CustomerFeature(
        "weekend_rate",
        "share of orders",
        "orders of Saturday and Sunday / orders",
        of_facts=nw.col("n_weekend") / n_orders,
    ),
    *(
        CustomerFeature(
            name,
            "share of orders",
            f"orders {when} / orders",
            needs=("order_time",),
            of_facts=nw.col(fact) / n_orders,
        )
        for name, when, fact in (
            ("business_hours_ratio", "from 9:00 to 17:59", "n_business"),
            ("morning_share", "before 12:00", "n_morning"),
            ("afternoon_share", "from 12:00 to 16:59", "n_afternoon"),
            ("evening_share", "from 17:00", "n_evening"),
        )
    ),
)

MATURITY = (
    CustomerFeature(
        "tenure_months",
        "months of 30.44 days",
        "from the first order to the reference date",
        of_facts=tenure_months,
    ),
    CustomerFeature(
        "maturity_score",
        "points, 0 to 5",
        "tenure of 24 months 2, of 12 months 1; and 20 orders 3, 10 orders 2, 5 orders "
        "1",
        of_facts=n_true(
            *(has_tenure(n_months) for n_months in (12, 24)),
            *(n_orders >= n for n in (5, 10, 20)),
        ),
    ),
    CustomerFeature(
        "lifecycle_stage_rank",
        "stage, 0 to 3",
        "lifecycle_stage as a number: tenure below 3, 12, 24 months, or longer",
        of_facts=n_true(*(has_tenure(n_months) for n_months in LIFECYCLE_MONTHS)),
    ),
    CustomerFeature(
        "orders_per_tenure_month",
        "orders per month",
        "orders_per_month",
        scale="log",
        of_facts=orders_per_month,
    ),
    CustomerFeature(
        "acceleration",
        "ratio",
        "orders per month of the last 90 days / orders_per_month; 0 below 6 months' "
        "tenure",
        scale="log",
        of_facts=nw.when(has_tenure(6))
        .then(recent_per_month / orders_per_month)
        .otherwise(nw.lit(0.0)),
    ),
)

TRAJECTORY = (
    CustomerFeature(
        "order_frequency_trend",
        "orders per month, per month",
        "least-squares slope of the orders in each whole month since the first order "
        "over the number of the month; 0 below two whole months",
        of_facts=nw.when(has_two).then(_frequency_trend()),
    ),
    CustomerFeature(
        "recency_momentum",
        "days per order",
        "minus the least-squares slope of the gaps between orders over their number: "
        "above 0 they become shorter; 0 below 3 orders",
        of_facts=nw.when(has_two).then(0 - _gap_trend()),
    ),
    CustomerFeature(
        "acceleration_phase",
        "0 or 1",
        "1 if the last 90 days have more than 1.5 times the orders of the 90 before",
        of_facts=_phase(nw.col("n_recent") > 1.5 * nw.col("n_before")),
    ),
    CustomerFeature(
        "deceleration_phase",
        "0 or 1",
        "1 if the last 90 days have less than half the orders of the 90 before",
        of_facts=_phase(nw.col("n_recent") < 0.5 * nw.col("n_before")),
    ),
    CustomerFeature(
        "churn_risk_score",
        "ratio, 0 to 1",
        "days_since_last_purchase / (2 x mean gap), at most 1; with all orders at one "
        "moment 1 if any time has passed since",
        of_facts=_churn_risk(),
    ),
)

CHANNELS = (
    CustomerFeature(
        CHANNEL_SHARE,
        "share of orders",
        "one feature for each known channel: its orders / orders with a channel",
    ),
    CustomerFeature(
        "channel_diversity",
        "ratio, 0 to 1",
        "1 - sum of squared channel shares; channels that are not known are one",
    ),
    CustomerFeature(
        "channel_switching_rate",
        "share of orders",
        "orders through another channel than the order before / orders that follow "
        "one, both with a channel; 0 without such a pair",
        of_facts=nw.when(nw.col("n_with_channel") > 0).then(
            nw.col("n_switches") / at_least(nw.col("n_channel_pairs"), 1)
        ),
    ),
)

ORDER_FEATURES = (
    *FREQUENCY,
    *VALUE,
    *sharing(DISCOUNTS, needs=("discount_amount",)),
    *CADENCE,
    *MATURITY,
    *sharing(TRAJECTORY, null=ONE_ORDER, needs=()),
    *sharing(CHANNELS, null=NO_CHANNEL, needs=("source",)),
)
