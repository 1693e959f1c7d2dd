"""Features of what a customer bought and returned: products, categories, refunds.

A line is a *purchase* if its quantity, in whole millionths, is above 0. One with
nothing but a refund, as intake makes it of a negative line, counts as returned and
nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence

import narwhals as nw

from core.axes.features.definitions import (
    MILLIONTHS,
    NO_CATEGORY,
    NO_ITEMS,
    NO_PURCHASES,
    CustomerFeature,
    at_least,
    sharing,
)
from core.axes.features.orders import (
    Rows,
    count_of,
    lifetime_value,
    millionths,
    n_orders,
)

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


CATEGORIES = (
    CustomerFeature(
        "unique_categories",
        "categories",
        "distinct categories bought from",
        scale="log",
        of_facts=n_categories,
    ),
    CustomerFeature(
        "category_diversity",
        "ratio, 0 to 1",
        "-sum p ln p / ln(categories), p = share of the customer's item lines in a "
        "category; 0 with one category",
        of_facts=_category_diversity(),
    ),
    CustomerFeature(
        "primary_category_dominance",
        "share of the quantity",
        "quantity of the category with the most / quantity of all",
        of_facts=nw.col("main_category_micro") / nw.col("category_micro"),
    ),
    CustomerFeature(
        "categories_mastered",
        "categories",
        "categories with at least 3 item lines",
        scale="log",
        of_facts=nw.col("n_mastered"),
    ),
    CustomerFeature(
        "category_switching",
        "categories",
        "unique_categories",
        scale="log",
        of_facts=n_categories,
    ),
)

PRODUCTS = (
    CustomerFeature(
        "unique_products",
        "products",
        "distinct products bought",
        scale="log",
        of_facts=n_products,
    ),
    CustomerFeature(
        "product_diversity",
        "ratio, 0 to 1",
        "1 - sum of squared quantity shares of the products",
        of_facts=1 - concentration,
    ),
    CustomerFeature(
        "exploration_breadth",
        "ratio, 0 to 1",
        "unique_products / item lines",
        of_facts=n_products / n_lines,
    ),
    CustomerFeature(
        "repeat_product_rate",
        "share of products",
        "products bought in at least two orders / unique_products",
        of_facts=repeat_rate,
    ),
    CustomerFeature(
        "avg_repurchase_count",
        "orders per product",
        "mean number of orders of the products bought in at least two; 0 without any",
        scale="log",
        of_facts=nw.col("repeat_orders") / at_least(nw.col("n_repeated"), 1),
    ),
    CustomerFeature(
        "loyalty_index",
        "share of the quantity",
        "quantity of the top 20% of the customer's products (rounded down, at least "
        "one) / quantity of all",
        of_facts=loyalty_index,
    ),
    CustomerFeature(
        "purchase_variety",
        "share of the quantity",
        "1 - loyalty_index",
        of_facts=1 - loyalty_index,
    ),
    CustomerFeature(
        "unique_products_vs_orders",
        "products per order",
        "unique_products / orders",
        scale="log",
        of_facts=n_products / n_orders,
    ),
    CustomerFeature(
        "product_concentration",
        "ratio, 0 to 1",
        "sum of squared quantity shares of the products",
        of_facts=concentration,
    ),
    CustomerFeature(
        "exploration_vs_loyalty",
        "ratio, 0 to 1",
        "1 - product_concentration",
        of_facts=1 - concentration,
    ),
    CustomerFeature(
        "avg_item_price",
        "currency per unit",
        "mean `price` of the item lines",
        scale="log",
        of_facts=average_price,
    ),
    CustomerFeature(
        "price_variance",
        "ratio",
        "population standard deviation / mean of `price` over the item lines; 0 if all "
        "are 0",
        of_facts=_price_variance(),
    ),
)

REFUNDS = (
    CustomerFeature(
        "refund_rate",
        "ratio",
        "total_refunds / lifetime_value; if nothing was paid, 1 with a refund, else 0",
        of_facts=_refund_rate(),
    ),
    CustomerFeature(
        "items_returned_pct",
        "share of item lines",
        "lines with a `refund_amount` above 0 / lines bought, at most 1",
        of_facts=_returned_share(),
    ),
    CustomerFeature(
        "total_refunds",
        "currency",
        "sum of `refund_amount`",
        scale="log",
        of_facts=nw.col("refund_micro") / MILLIONTHS,
    ),
    CustomerFeature(
        "has_returns",
        "0 or 1",
        "1 with any `refund_amount` above 0",
        of_facts=(nw.col("n_refunded") > 0).cast(nw.Float64),
    ),
)

ITEM_FEATURES = (
    *sharing(CATEGORIES, null=NO_CATEGORY, needs=("items", "category")),
    *sharing(PRODUCTS, null=NO_PURCHASES, needs=("items",)),
    *sharing(REFUNDS, null=NO_ITEMS, needs=("items", "refund_amount")),
)
