"""From item lines to rows of facts per customer, as Narwhals expressions.

A line is a *purchase* if its quantity, in whole millionths, is above 0. One with
nothing but a refund, as intake makes it of a negative line, counts as returned and
nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence

import narwhals as nw

from core.features.customer_order_facts import Rows, count_of, millionths

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
