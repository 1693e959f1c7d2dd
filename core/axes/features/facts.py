"""Facts of customers: what their orders and items sum up to, in frames of any engine.

The engine does what grows with the rows; one customer's rows in memory go through
`core.axes.features.single`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import narwhals as nw

from core.axes.features.expressions import FRAME, Expression
from core.axes.features.formulas import (
    ORDER_SUMMARIES,
    category_columns,
    line_columns,
    order_columns,
    product_columns,
)
from core.tables.exact import millionths

Rows = nw.LazyFrame[Any]


def order_facts(
    orders: Rows,
    *,
    now: nw.Expr,
    absent: tuple[str, ...],
    channels: tuple[str, ...],
) -> Rows:
    """Sum the orders of each customer.

    Parameters
    ----------
    orders : LazyFrame
        ``customer_id, order_id, order_date, total_price`` and, unless absent,
        ``discount_amount`` (null: none) and ``source`` (null: not known).
    now : Expr
        The reference date; no order is later.
    absent : tuple of str
        Optional columns that are left alone.
    channels : tuple of str
        The known channels.

    Returns
    -------
    LazyFrame
        One row per customer. ``*_age`` are whole seconds before `now`, gaps
        days, ``*_micro`` whole millionths of an amount, ``n_*`` orders.
    """
    columns = order_columns(absent, channels)
    lines = with_neighbours(_lines(orders, now, absent), absent)
    return (
        lines.with_columns(**_queried(columns))
        .group_by("customer_id")
        .agg(
            nw.len().alias("n_orders"),
            *(_summary(*how).alias(fact) for fact, *how in ORDER_SUMMARIES),
            *(nw.col(name).sum() for name in columns if name != "gap"),
        )
    )


def _queried(columns: Mapping[str, Expression]) -> dict[str, nw.Expr]:
    """Return expressions as parts of a query."""
    return {name: expression(FRAME) for name, expression in columns.items()}


def _summary(column: str, how: str) -> nw.Expr:
    """Return a summary of a column; standard deviations are those of everybody."""
    if how == "std":
        return nw.col(column).std(ddof=0)
    summary: nw.Expr = getattr(nw.col(column), how)()
    return summary


def _lines(orders: Rows, now: nw.Expr, absent: Sequence[str]) -> Rows:
    """Select what is used, with the age in seconds and the value in millionths."""
    optional = [c for c in ("discount_amount", "source") if c not in absent]
    date = nw.col("order_date")
    return orders.select(
        "customer_id",
        "order_id",
        "order_date",
        *optional,
        value=nw.col("total_price"),
        value_micro=millionths("total_price"),
        age=(now - date).dt.total_seconds().cast(nw.Int64),
        hour=date.dt.hour(),
        weekday=date.dt.weekday(),
    )


def with_neighbours(lines: Rows, absent: Sequence[str]) -> Rows:
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


def line_facts(items: Rows, *, absent: tuple[str, ...]) -> Rows:
    """Sum the item lines of each customer.

    Parameters
    ----------
    items : LazyFrame
        ``customer_id, quantity, price`` and, unless absent, ``refund_amount`` (null:
        none).
    absent : tuple of str
        Optional columns that are left alone.

    Returns
    -------
    LazyFrame
        ``customer_id, n_lines`` (purchases), ``price_micro`` (sum of unit prices in
        millionths), ``price_std``, and ``n_refunded, refund_micro``.
    """
    columns = line_columns(absent)
    return (
        items.with_columns(**_queried(columns))
        .group_by("customer_id")
        .agg(
            _summary("price_bought", "std").alias("price_std"),
            *(nw.col(name).sum() for name in columns if name != "price_bought"),
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
        .agg(
            nw.col("quantity_micro").sum(),
            nw.col("order_id").n_unique().cast(nw.Int64).alias("n"),
        )
    )
    quantity = nw.col("quantity_micro")
    # Equal quantities may change places: that changes no sum.
    ranked = products.with_columns(
        total=quantity.sum().over("customer_id"),
        n_of_customer=nw.len().over("customer_id").cast(nw.Int64),
        rank=quantity.rank("ordinal", descending=True).over("customer_id"),
    )
    columns = product_columns()
    return (
        ranked.with_columns(**_queried(columns))
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
        ``line_log_sum`` (of n ln n over its categories, in whole 1e-10),
        ``category_micro`` and
        ``main_category_micro`` (quantity of all and of the largest), ``n_mastered``.
    """
    categories = (
        items.with_columns(quantity_micro=millionths("quantity"))
        .filter((nw.col("quantity_micro") > 0) & ~nw.col("category").is_null())
        .group_by("customer_id", "category")
        .agg(nw.col("quantity_micro").sum(), nw.len().alias("n"))
    )
    columns = category_columns()
    return (
        categories.with_columns(
            **_queried(columns), main_micro=nw.col("quantity_micro")
        )
        .group_by("customer_id")
        .agg(
            nw.len().alias("n_categories"),
            nw.col("n").sum().alias("category_lines"),
            nw.col("line_log").sum().alias("line_log_sum"),
            nw.col("quantity_micro").sum().alias("category_micro"),
            nw.col("main_micro").max().alias("main_category_micro"),
            nw.col("n_mastered").sum(),
        )
    )
