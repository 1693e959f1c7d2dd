"""Features of a customer from orders and items: facts per customer, then formulas.

Both are expressions that queries and NumPy evaluate alike
(`core.axes.features.expressions`): the columns that facts are summed from
(`core.axes.features.facts`), and the features, formulas over the facts.

As for shops (`core.retailers.monthly`), amounts are summed as whole millionths, times
as whole seconds: neither the order of the rows nor the number of threads can move a
mean across a threshold.

An item line is a *purchase* if its quantity, in whole millionths, is above 0. One with
nothing but a refund, as intake makes it of a negative line, counts as returned and
nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from core.axes.features import catalog
from core.axes.features.expressions import (
    Expression,
    as_float,
    at_least,
    at_most,
    col,
    count_of,
    equal,
    is_null,
    largest,
    log,
    millionths,
    total,
    when,
    whole,
)
from core.tables.exact import MILLIONTHS

SECONDS_PER_DAY = 86_400
DAYS_PER_MONTH = 30.44
# Whole, so that a customer on the edge of a month falls on one side everywhere.
SECONDS_PER_MONTH = 2_630_016
RECENT_DAYS = 90
RECENT_SECONDS = RECENT_DAYS * SECONDS_PER_DAY
# Lower bounds in months of the lifecycle stages after the first.
LIFECYCLE_MONTHS = (3, 12, 24)
LIFECYCLE_STAGES = ("new", "developing", "settled", "veteran")
MASTERED_LINES = 3
TOP_SHARE = 5
# Whole as amounts are, so that a sum is the same in any order.
LINE_LOG_UNIT = 1e-10


# What else is taken of the orders: fact, column, and how it is summarised.
ORDER_SUMMARIES = (
    ("first_age", "age", "max"),
    ("last_age", "age", "min"),
    ("age_sum", "age", "sum"),
    ("gap_std", "gap", "std"),
    ("value_max", "value", "max"),
    ("value_median", "value", "median"),
    ("value_std", "value", "std"),
    ("value_micro", "value_micro", "sum"),
)


def channel_count(place: int) -> str:
    """Return the column that counts orders through the known channel at a place."""
    return f"n_channel_{place}"


@cache
def order_columns(
    absent: tuple[str, ...], channels: tuple[str, ...]
) -> dict[str, Expression]:
    """Return what is summed over the orders of a customer (`gap` is not).

    Parameters
    ----------
    absent : tuple of str
        Optional columns that are left alone.
    channels : tuple of str
        The known channels.

    Returns
    -------
    dict of str to Expression
        Over `value`, `discount_amount` and `source` of an order, its `age` in whole
        seconds, `hour` and `weekday`, and what
        `core.axes.features.facts.with_neighbours` adds.
    """
    columns = _time_columns() | _value_columns()
    if "discount_amount" not in absent:
        columns |= _discount_columns()
    if "source" not in absent:
        columns |= _channel_columns(channels)
    return columns


def _time_columns() -> dict[str, Expression]:
    """Return the gap to the order before, and what kind of moment an order is of."""
    age, hour = col("age"), col("hour")
    since_first = col("first_of_customer") - age
    month = since_first // SECONDS_PER_MONTH
    # Of the months since the first order, only whole ones are counted.
    n_months = col("first_of_customer") // SECONDS_PER_MONTH
    in_whole_month = count_of(month < n_months)
    return {
        "gap": (col("previous_age") - age) / SECONDS_PER_DAY,
        "n_recent": count_of(age <= RECENT_SECONDS),
        "n_before": count_of((age > RECENT_SECONDS) & (age <= 2 * RECENT_SECONDS)),
        "n_weekend": count_of(col("weekday") >= 6),
        "n_business": count_of((hour >= 9) & (hour <= 17)),
        "n_morning": count_of(hour < 12),
        "n_afternoon": count_of((hour >= 12) & (hour < 17)),
        "n_evening": count_of(hour >= 17),
        "n_in_months": in_whole_month,
        "month_sum": month * in_whole_month,
    }


def _value_columns() -> dict[str, Expression]:
    """Return what the slope of the value and the count of splurges are summed from."""
    n, value = as_float(col("n_of_customer")), as_float(col("value_micro"))
    from_middle = as_float(col("place")) - (n + 1) / 2
    return {
        "value_moment": from_middle * col("value"),
        "n_splurges": count_of(value * n > 2 * as_float(col("value_of_customer"))),
    }


def _discount_columns() -> dict[str, Expression]:
    """Return discounts, and the value of what was bought without one."""
    discount = col("discount_amount")
    has_discount = discount > 0
    share = when(has_discount, discount / (col("value") + discount), 0.0)
    return {
        "n_discounted": count_of(has_discount),
        "discount_micro": millionths(when(has_discount, discount, 0.0)),
        "discount_share": share,
        "full_price_micro": when(has_discount, 0, col("value_micro")),
    }


def _channel_columns(channels: Sequence[str]) -> dict[str, Expression]:
    """Return which known channel an order came through, and whether that changed."""
    source, previous = col("source"), col("previous_source")
    is_pair = ~is_null(source) & ~is_null(previous)
    return {
        "n_with_channel": count_of(~is_null(source)),
        "n_channel_pairs": count_of(is_pair),
        "n_switches": count_of(is_pair & ~equal(source, previous)),
        **{
            channel_count(place): count_of(equal(source, channel))
            for place, channel in enumerate(channels)
        },
    }


@cache
def line_columns(absent: tuple[str, ...]) -> dict[str, Expression]:
    """Return what is summed over the item lines of a customer.

    `price_bought` is the price where the line is a purchase, else null.

    Parameters
    ----------
    absent : tuple of str
        Optional columns that are left alone.
    """
    is_bought = millionths(col("quantity")) > 0
    columns = {
        "price_bought": when(is_bought, col("price")),
        "n_lines": count_of(is_bought),
        "price_micro": millionths(when(is_bought, col("price"), 0.0)),
    }
    if "refund_amount" not in absent:
        refund = col("refund_amount")
        is_refunded = refund > 0
        columns["n_refunded"] = count_of(is_refunded)
        columns["refund_micro"] = millionths(when(is_refunded, refund, 0.0))
    return columns


@cache
def product_columns() -> dict[str, Expression]:
    """Return what is summed over the products that a customer bought.

    Of a product's `quantity_micro`, its number of orders `n`, its `rank` by quantity,
    and the `total` and number of products, `n_of_customer`.
    """
    quantity, n, rank = col("quantity_micro"), col("n"), col("rank")
    share = as_float(quantity) / as_float(col("total"))
    is_top = equal(rank, 1) | (rank * TOP_SHARE <= col("n_of_customer"))
    return {
        "square_sum": whole(share * share * 1e12),
        "n_repeated": count_of(n > 1),
        "repeat_orders": n * count_of(n > 1),
        "top_micro": quantity * count_of(is_top),
    }


@cache
def category_columns() -> dict[str, Expression]:
    """Return what is summed over the categories that a customer bought from.

    Of a category's number of purchases, `n`.
    """
    n = as_float(col("n"))
    return {
        "line_log": whole(n * log(n) / LINE_LOG_UNIT),
        "n_mastered": count_of(n >= MASTERED_LINES),
    }


# Facts, in the units of the features.
n_orders = col("n_orders")
n_gaps = n_orders - 1
has_two = n_orders >= 2
days_since_last = col("last_age") / SECONDS_PER_DAY
tenure_days = col("first_age") / SECONDS_PER_DAY
tenure_months = col("first_age") / SECONDS_PER_MONTH
lifetime_value = col("value_micro") / MILLIONTHS
average_value = lifetime_value / n_orders
mean_gap = (tenure_days - days_since_last) / at_least(n_gaps, 1)
# An order an hour ago is not 700 orders a month.
orders_per_month = n_orders / at_least(tenure_months, 1)
recent_per_month = col("n_recent") / (RECENT_DAYS / DAYS_PER_MONTH)
value_consistency = when(
    lifetime_value > 0, 1 / (1 + col("value_std") / average_value), 1.0
)
discount_rate = col("n_discounted") / n_orders
n_discounted = at_least(col("n_discounted"), 1)


def has_tenure(n_months: int) -> Expression:
    """Return whether a tenure reaches a number of months, in whole seconds."""
    return col("first_age") >= n_months * SECONDS_PER_MONTH


def n_true(*conditions: Expression) -> Expression:
    """Return how many of the conditions hold."""
    return total(*(count_of(condition) for condition in conditions))


def slope(moment: Expression, n: Expression) -> Expression:
    """Return the least-squares slope over 1..n.

    Parameters
    ----------
    moment : Expression
        Sum of (i - (n + 1) / 2) y_i.
    n : Expression
        Number of points; without two of them the slope is 0.
    """
    spread = n * (n * n - 1) / 12
    return when(n >= 2, moment / at_least(spread, 0.5), 0.0)


def _frequency_trend() -> Expression:
    """Return the slope of orders per whole month since the first order."""
    n_months = col("first_age") // SECONDS_PER_MONTH
    middle = (n_months - 1) / 2
    return slope(col("month_sum") - middle * col("n_in_months"), n_months)


def _gap_trend() -> Expression:
    """Return the slope of the gaps, in days per gap.

    With times t_0..t_G the sum of i (t_i - t_{i-1}) is (G + 1) t_G - sum t: the gaps
    themselves are not needed.
    """
    weighted = col("age_sum") - n_orders * col("last_age")
    span = col("first_age") - col("last_age")
    return slope((weighted - span * n_orders / 2) / SECONDS_PER_DAY, n_gaps)


def _churn_risk() -> Expression:
    """Return days since the last order over twice the mean gap, at most 1."""
    risk = days_since_last / (2 * when(mean_gap > 0, mean_gap))
    # All orders at one moment: any wait is longer than usual.
    without_gap = as_float(count_of(days_since_last > 0))
    return when(has_two, when(mean_gap > 0, at_most(risk, 1), without_gap))


def _phase(condition: Expression) -> Expression:
    """Return a yes or no as 1 or 0, null below two orders."""
    return when(has_two, as_float(count_of(condition)))


def _full_price_comfort() -> Expression:
    """Return the share of the value bought without a discount."""
    by_value = col("full_price_micro") / at_least(col("value_micro"), 1)
    is_paid = col("value_micro") > 0
    return when(is_paid, by_value, 1 - discount_rate)


n_products = col("n_products")
concentration = col("square_sum") / 1e12
repeat_rate = col("n_repeated") / n_products
loyalty_index = col("top_micro") / col("quantity_micro")
n_categories = col("n_categories")
n_lines = when(col("n_lines") > 0, col("n_lines"))
average_price = col("price_micro") / MILLIONTHS / n_lines


def _category_diversity() -> Expression:
    """Return the entropy of the lines' categories over that of equal shares."""
    n = col("category_lines")
    entropy = log(n) - col("line_log_sum") * LINE_LOG_UNIT / n
    evenness = at_most(at_least(entropy / log(at_least(n_categories, 2)), 0), 1)
    return evenness * (1 - as_float(count_of(equal(n_categories, 1))))


def _refund_rate() -> Expression:
    """Return refunds over lifetime value; where nothing was paid, 1 if any."""
    refunds = col("refund_micro")
    rate = refunds / MILLIONTHS / when(lifetime_value > 0, lifetime_value)
    return when(lifetime_value > 0, rate, _is_above_0(refunds))


def _is_above_0(fact: Expression) -> Expression:
    """Return 1 or 0, null where the fact is."""
    return when(fact >= 0, as_float(count_of(fact > 0)))


def _returned_share() -> Expression:
    """Return lines with a refund over lines bought, or over themselves if more."""
    n = largest(col("n_lines"), col("n_refunded"))
    return col("n_refunded") / at_least(n, 1)


def _price_variance() -> Expression:
    """Return the coefficient of variation of the unit prices."""
    is_paid = average_price > 0
    # A null price spread, of no purchase, stays null.
    return col("price_std") / when(is_paid, average_price, 1.0)


FORMULAS: dict[str, Expression] = {
    "orders_per_month": orders_per_month,
    "avg_days_between_orders": when(has_two, mean_gap, tenure_days),
    "purchase_consistency": when(
        has_two & (mean_gap > 0),
        1 / (1 + col("gap_std") / when(mean_gap > 0, mean_gap)),
        0.0,
    ),
    "recent_orders_90d": col("n_recent"),
    "days_since_last_purchase": days_since_last,
    "total_orders": n_orders,
    "lifetime_value": lifetime_value,
    "avg_order_value": average_value,
    "median_order_value": col("value_median"),
    "max_order_value": col("value_max"),
    "value_trend": when(n_orders >= 3, slope(col("value_moment"), n_orders), 0.0),
    "value_consistency": value_consistency,
    "spend_consistency": value_consistency,
    "big_splurge_rate": col("n_splurges") / n_orders,
    "discount_rate": discount_rate,
    "avg_discount_amount": col("discount_micro") / MILLIONTHS / n_discounted,
    "avg_discount_pct": col("discount_share") / n_discounted,
    "full_price_ratio": 1 - discount_rate,
    "discount_dependency": discount_rate,
    "discount_hunt_score": col("discount_share") / n_orders,
    "full_price_comfort": _full_price_comfort(),
    "weekend_vs_weekday_ratio": col("n_weekend")
    / at_least(n_orders - col("n_weekend"), 1),
    "weekend_rate": col("n_weekend") / n_orders,
    **{
        name: col(fact) / n_orders
        for name, fact in (
            ("business_hours_ratio", "n_business"),
            ("morning_share", "n_morning"),
            ("afternoon_share", "n_afternoon"),
            ("evening_share", "n_evening"),
        )
    },
    "tenure_months": tenure_months,
    "maturity_score": n_true(
        *(has_tenure(n_months) for n_months in (12, 24)),
        *(n_orders >= n for n in (5, 10, 20)),
    ),
    "lifecycle_stage_rank": n_true(
        *(has_tenure(n_months) for n_months in LIFECYCLE_MONTHS)
    ),
    "orders_per_tenure_month": orders_per_month,
    "acceleration": when(has_tenure(6), recent_per_month / orders_per_month, 0.0),
    "order_frequency_trend": when(has_two, _frequency_trend()),
    "recency_momentum": when(has_two, 0 - _gap_trend()),
    "acceleration_phase": _phase(col("n_recent") > 1.5 * col("n_before")),
    "deceleration_phase": _phase(col("n_recent") < 0.5 * col("n_before")),
    "churn_risk_score": _churn_risk(),
    "channel_switching_rate": when(
        col("n_with_channel") > 0,
        col("n_switches") / at_least(col("n_channel_pairs"), 1),
    ),
    "unique_categories": n_categories,
    "category_diversity": _category_diversity(),
    "primary_category_dominance": col("main_category_micro") / col("category_micro"),
    "categories_mastered": col("n_mastered"),
    "category_switching": n_categories,
    "unique_products": n_products,
    "product_diversity": 1 - concentration,
    "exploration_breadth": n_products / n_lines,
    "repeat_product_rate": repeat_rate,
    "avg_repurchase_count": col("repeat_orders") / at_least(col("n_repeated"), 1),
    "loyalty_index": loyalty_index,
    "purchase_variety": 1 - loyalty_index,
    "unique_products_vs_orders": n_products / n_orders,
    "product_concentration": concentration,
    "exploration_vs_loyalty": 1 - concentration,
    "avg_item_price": average_price,
    "price_variance": _price_variance(),
    "refund_rate": _refund_rate(),
    "items_returned_pct": _returned_share(),
    "total_refunds": col("refund_micro") / MILLIONTHS,
    "has_returns": _is_above_0(col("n_refunded")),
}
"""Features by name, over one row of facts per customer; those of the channels depend on
how many are known."""


@cache
def feature_expressions(
    absent: tuple[str, ...], channels: tuple[str, ...]
) -> dict[str, Expression]:
    """Return every feature that data allow, and `customer_tenure_days`.

    Parameters
    ----------
    absent, channels : tuple of str
        As in `core.axes.features.catalog.features_available`.
    """
    found: dict[str, Expression] = {}
    for name in catalog.FEATURES:
        if catalog.why_skipped(name, absent, channels) is not None:
            continue
        if name == catalog.CHANNEL_SHARE:
            found |= _channel_shares(channels)
        elif name == "channel_diversity":
            found[name] = _channel_diversity(len(channels))
        else:
            found[name] = FORMULAS[name]
    return {**found, "customer_tenure_days": tenure_days}


def _channel_shares(channels: Sequence[str]) -> dict[str, Expression]:
    """Return the share of each known channel in the orders with a channel."""
    n = col("n_with_channel")
    n = when(n > 0, n)
    return {
        catalog.channel_share(channel): col(channel_count(place)) / n
        for place, channel in enumerate(channels)
    }


def _channel_diversity(n_channels: int) -> Expression:
    """Return 1 - the sum of squared shares, channels not known being one."""
    known = [col(channel_count(place)) for place in range(n_channels)]
    n = col("n_with_channel")
    squares = [count * count for count in (*known, n_other(n_channels))]
    return 1 - total(*squares) / when(n > 0, n * n)


def n_other(n_channels: int) -> Expression:
    """Return the number of orders through a channel that is not known."""
    known = (col(channel_count(place)) for place in range(n_channels))
    return col("n_with_channel") - total(*known)
