"""Features of a customer from orders and items: facts per customer, then formulas.

As for shops (`core.retailers.monthly`), the engine does what grows with the rows, and
amounts are summed as whole millionths, times as whole seconds: neither the order of the
rows nor the number of threads can move a mean across a threshold. Standard deviations
are the engine's own.

An item line is a *purchase* if its quantity, in whole millionths, is above 0. One with
nothing but a refund, as intake makes it of a negative line, counts as returned and
nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw

from core.tables.exact import MILLIONTHS, millionths

SECONDS_PER_DAY = 86_400
DAYS_PER_MONTH = 30.44
# Whole, so that a customer on the edge of a month falls on one side everywhere.
SECONDS_PER_MONTH = 2_630_016
RECENT_DAYS = 90
# Lower bounds in months of the lifecycle stages after the first.
LIFECYCLE_MONTHS = (3, 12, 24)
LIFECYCLE_STAGES = ("new", "developing", "settled", "veteran")

Rows = nw.LazyFrame[Any]

RECENT_SECONDS = RECENT_DAYS * SECONDS_PER_DAY
ONE = nw.lit(1)


def channel_count(place: int) -> str:
    """Return the column that counts orders through the known channel at a place."""
    return f"n_channel_{place}"


def count_of(condition: nw.Expr) -> nw.Expr:
    """Return 1 where a condition holds and 0 where it does not or is null."""
    return nw.when(condition).then(ONE).otherwise(nw.lit(0)).cast(nw.Int64)


def at_least(expression: nw.Expr, bound: float) -> nw.Expr:
    """Return the expression, raised to a bound; null stays null."""
    return expression.clip(lower_bound=bound)


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


MASTERED_LINES = 3
TOP_SHARE = 5


def line_facts(items: Rows, *, absent: Sequence[str]) -> Rows:
    """Sum the item lines of each customer.

    Parameters
    ----------
    items : LazyFrame
        ``customer_id, quantity, price`` and, unless absent, ``refund_amount`` (null:
        none).
    absent : sequence of str
        Optional columns that are left alone.

    Returns
    -------
    LazyFrame
        ``customer_id, n_lines`` (purchases), ``price_micro`` (sum of unit prices in
        millionths), ``price_std``, and ``n_refunded, refund_micro``.
    """
    is_bought = millionths("quantity") > 0
    columns = {
        "n_lines": count_of(is_bought),
        "price_micro": nw.when(is_bought).then(millionths("price")),
    }
    if "refund_amount" not in absent:
        is_refunded = nw.col("refund_amount") > 0
        columns["n_refunded"] = count_of(is_refunded)
        columns["refund_micro"] = nw.when(is_refunded).then(millionths("refund_amount"))
    return (
        items.with_columns(**columns, price_bought=nw.when(is_bought).then("price"))
        .group_by("customer_id")
        .agg(
            nw.col("price_bought").std(ddof=0).alias("price_std"),
            *(nw.col(name).sum() for name in columns),
        )
    )


def product_facts(items: Rows) -> Rows:
    """Sum the products that each customer bought.

    Returns
    -------
    LazyFrame
        ``customer_id, n_products, quantity_micro``, ``square_sum`` (of quantity shares,
        in whole 1e-12), ``n_repeated`` (products in at least two orders),
        ``repeat_orders`` (their orders), ``top_micro`` (quantity of the best fifth of
        the products, rounded down, at least one).
    """
    products = (
        items.with_columns(quantity_micro=millionths("quantity"))
        .filter(nw.col("quantity_micro") > 0)
        .group_by("customer_id", "product_id")
        .agg(nw.col("quantity_micro").sum(), nw.col("order_id").n_unique().alias("n"))
    )
    quantity, n = nw.col("quantity_micro"), nw.col("n").cast(nw.Int64)
    # Equal quantities may change places: that changes no sum.
    ranked = products.with_columns(
        total=quantity.sum().over("customer_id"),
        n_of_customer=nw.len().over("customer_id").cast(nw.Int64),
        rank=quantity.rank("ordinal", descending=True).over("customer_id"),
    )
    share = quantity.cast(nw.Float64) / nw.col("total").cast(nw.Float64)
    is_top = (nw.col("rank") == 1) | (
        nw.col("rank") * TOP_SHARE <= nw.col("n_of_customer")
    )
    columns = {
        "square_sum": (share * share * 1e12).round().cast(nw.Int64),
        "n_repeated": count_of(n > 1),
        "repeat_orders": n * count_of(n > 1),
        "top_micro": quantity * count_of(is_top),
    }
    return (
        ranked.with_columns(**columns)
        .group_by("customer_id")
        .agg(
            nw.len().alias("n_products"),
            quantity.sum(),
            *(nw.col(name).sum() for name in columns),
        )
    )


def category_facts(items: Rows) -> Rows:
    """Sum the categories that each customer bought from.

    Returns
    -------
    LazyFrame
        ``customer_id, n_categories, category_lines`` (purchases with a category),
        ``line_log_sum`` (of n ln n over its categories), ``category_micro`` and
        ``main_category_micro`` (quantity of all and of the largest), ``n_mastered``.
    """
    categories = (
        items.with_columns(quantity_micro=millionths("quantity"))
        .filter((nw.col("quantity_micro") > 0) & ~nw.col("category").is_null())
        .group_by("customer_id", "category")
        .agg(nw.col("quantity_micro").sum(), nw.len().alias("n"))
    )
    n = nw.col("n").cast(nw.Float64)
    return (
        categories.with_columns(
            line_log=n * n.log(),
            is_mastered=count_of(nw.col("n") >= MASTERED_LINES),
            main_micro=nw.col("quantity_micro"),
        )
        .group_by("customer_id")
        .agg(
            nw.len().alias("n_categories"),
            nw.col("n").sum().alias("category_lines"),
            nw.col("line_log").sum().alias("line_log_sum"),
            nw.col("quantity_micro").sum().alias("category_micro"),
            nw.col("main_micro").max().alias("main_category_micro"),
            nw.col("is_mastered").sum().alias("n_mastered"),
        )
    )


n_products = nw.col("n_products")
concentration = nw.col("square_sum") / 1e12
repeat_rate = nw.col("n_repeated") / n_products
loyalty_index = nw.col("top_micro") / nw.col("quantity_micro")
n_categories = nw.col("n_categories")
n_lines = nw.when(nw.col("n_lines") > 0).then(nw.col("n_lines"))
average_price = nw.col("price_micro") / MILLIONTHS / n_lines


def _category_diversity() -> nw.Expr:
    """Return the entropy of the lines' categories over that of equal shares."""
    n = nw.col("category_lines")
    entropy = n.log() - nw.col("line_log_sum") / n
    evenness = (entropy / at_least(n_categories, 2).log()).clip(0, 1)
    is_one = (n_categories == 1).cast(nw.Float64)
    return evenness * (1 - is_one)


def _refund_rate() -> nw.Expr:
    """Return refunds over lifetime value; where nothing was paid, 1 if any."""
    refunds = nw.col("refund_micro")
    rate = refunds / MILLIONTHS / nw.when(lifetime_value > 0).then(lifetime_value)
    return (
        nw.when(lifetime_value > 0).then(rate).otherwise((refunds > 0).cast(nw.Float64))
    )


def _returned_share() -> nw.Expr:
    """Return lines with a refund over lines bought, or over themselves if more."""
    n = nw.max_horizontal("n_lines", "n_refunded")
    return nw.col("n_refunded") / at_least(n, 1)


def _price_variance() -> nw.Expr:
    """Return the coefficient of variation of the unit prices."""
    is_paid = average_price > 0
    # A null price spread, of no purchase, stays null.
    return nw.col("price_std") / nw.when(is_paid).then(average_price).otherwise(
        nw.lit(1.0)
    )


FORMULAS: dict[str, nw.Expr] = {
    "orders_per_month": orders_per_month,
    "avg_days_between_orders": nw.when(has_two).then(mean_gap).otherwise(tenure_days),
    "purchase_consistency": nw.when(has_two & (mean_gap > 0))
    .then(1 / (1 + nw.col("gap_std") / nw.when(mean_gap > 0).then(mean_gap)))
    .otherwise(nw.lit(0.0)),
    "recent_orders_90d": nw.col("n_recent"),
    "days_since_last_purchase": days_since_last,
    "total_orders": n_orders,
    "lifetime_value": lifetime_value,
    "avg_order_value": average_value,
    "median_order_value": nw.col("value_median"),
    "max_order_value": nw.col("value_max"),
    "value_trend": nw.when(n_orders >= 3)
    .then(slope(nw.col("value_moment"), n_orders))
    .otherwise(nw.lit(0.0)),
    "value_consistency": value_consistency,
    "spend_consistency": value_consistency,
    "big_splurge_rate": nw.col("n_splurges") / n_orders,
    "discount_rate": discount_rate,
    "avg_discount_amount": nw.col("discount_micro") / MILLIONTHS / n_discounted,
    "avg_discount_pct": nw.col("discount_share") / n_discounted,
    "full_price_ratio": 1 - discount_rate,
    "discount_dependency": discount_rate,
    "discount_hunt_score": nw.col("discount_share") / n_orders,
    "full_price_comfort": _full_price_comfort(),
    "weekend_vs_weekday_ratio": nw.col("n_weekend")
    / at_least(n_orders - nw.col("n_weekend"), 1),
    "weekend_rate": nw.col("n_weekend") / n_orders,
    **{
        name: nw.col(fact) / n_orders
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
    "acceleration": nw.when(has_tenure(6))
    .then(recent_per_month / orders_per_month)
    .otherwise(nw.lit(0.0)),
    "order_frequency_trend": nw.when(has_two).then(_frequency_trend()),
    "recency_momentum": nw.when(has_two).then(0 - _gap_trend()),
    "acceleration_phase": _phase(nw.col("n_recent") > 1.5 * nw.col("n_before")),
    "deceleration_phase": _phase(nw.col("n_recent") < 0.5 * nw.col("n_before")),
    "churn_risk_score": _churn_risk(),
    "channel_switching_rate": nw.when(nw.col("n_with_channel") > 0).then(
        nw.col("n_switches") / at_least(nw.col("n_channel_pairs"), 1)
    ),
    "unique_categories": n_categories,
    "category_diversity": _category_diversity(),
    "primary_category_dominance": nw.col("main_category_micro")
    / nw.col("category_micro"),
    "categories_mastered": nw.col("n_mastered"),
    "category_switching": n_categories,
    "unique_products": n_products,
    "product_diversity": 1 - concentration,
    "exploration_breadth": n_products / n_lines,
    "repeat_product_rate": repeat_rate,
    "avg_repurchase_count": nw.col("repeat_orders") / at_least(nw.col("n_repeated"), 1),
    "loyalty_index": loyalty_index,
    "purchase_variety": 1 - loyalty_index,
    "unique_products_vs_orders": n_products / n_orders,
    "product_concentration": concentration,
    "exploration_vs_loyalty": 1 - concentration,
    "avg_item_price": average_price,
    "price_variance": _price_variance(),
    "refund_rate": _refund_rate(),
    "items_returned_pct": _returned_share(),
    "total_refunds": nw.col("refund_micro") / MILLIONTHS,
    "has_returns": (nw.col("n_refunded") > 0).cast(nw.Float64),
}
"""Features by name, over one row of facts per customer; those of the channels, which
depend on how many are known, are put together in `core.axes.features.compute`."""
