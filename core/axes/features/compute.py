"""The features of customers from orders and items, in frames of any library.

Orders and items become one row of facts per customer where the data is (Polars, or
DuckDB); the features are expressions over that row. `core.axes.features.catalog` says
which features make up which axis; `core.axes.features.single` computes the same of one
customer, at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

import narwhals as nw
import polars as pl

from core.axes.features import catalog, formulas
from core.axes.features.expressions import POLARS
from core.axes.features.facts import (
    Rows,
    category_facts,
    line_facts,
    order_facts,
    product_facts,
)
from core.axes.features.formulas import feature_expressions
from core.errors import SchemaError, listed

ORDERS = {
    "customer_id": pl.String(),
    "order_id": pl.String(),
    "order_date": pl.Datetime("us"),
    "total_price": pl.Float64(),
    "discount_amount": pl.Float64(),
    "source": pl.String(),
}
ITEMS = {
    "customer_id": pl.String(),
    "order_id": pl.String(),
    "product_id": pl.String(),
    "quantity": pl.Float64(),
    "price": pl.Float64(),
    "category": pl.String(),
    "refund_amount": pl.Float64(),
}
TIMES = ("morning", "afternoon", "evening")


def _evaluated(
    orders: Rows,
    items: Rows,
    *,
    reference_date: datetime,
    absent: tuple[str, ...],
    channels: tuple[str, ...],
) -> pl.DataFrame:
    """Return the features, the rows being summed by the library that they are of."""
    now = nw.lit(reference_date)
    parts = _facts(orders, items, now=now, absent=absent, channels=channels)
    tables = [part.collect("polars").to_native().lazy() for part in parts]
    return _features(tables, absent, channels).collect()


def _facts(
    orders: Rows,
    items: Rows,
    *,
    now: nw.Expr,
    absent: tuple[str, ...],
    channels: tuple[str, ...],
) -> list[Rows]:
    """Return the facts of orders and then of items, each with a row per customer."""
    parts = [order_facts(orders, now=now, absent=absent, channels=channels)]
    if "items" not in absent:
        parts += [
            line_facts(items, absent=absent),
            product_facts(items),
        ]
        if "category" not in absent:
            parts.append(category_facts(items))
    return parts


def _features(
    parts: Sequence[pl.LazyFrame], absent: tuple[str, ...], channels: tuple[str, ...]
) -> pl.LazyFrame:
    """Return the features of the customers in the first of the tables of facts."""
    facts = parts[0]
    for part in parts[1:]:
        facts = facts.join(part, on="customer_id", how="left")
    # Whole numbers come as UInt32 from Polars, as decimals from DuckDB.
    whole = [
        name
        for name, dtype in facts.collect_schema().items()
        if dtype.is_integer() or dtype.is_decimal()
    ]
    facts = facts.with_columns(pl.col(whole).cast(pl.Int64)).sort("customer_id")
    return facts.select("customer_id", *_expressions(absent, channels))


@cache
def _expressions(absent: tuple[str, ...], channels: tuple[str, ...]) -> list[pl.Expr]:
    """Return every feature that the data allow, then the columns for profiles."""
    dtypes = {"total_orders": pl.Int64()}
    columns = [
        expression(POLARS).cast(dtypes.get(name, pl.Float64())).alias(name)
        for name, expression in feature_expressions(absent, channels).items()
    ]
    return [*columns, *_texts(absent, channels)]


def _texts(absent: Sequence[str], channels: Sequence[str]) -> list[pl.Expr]:
    """Return the columns that say in words when, through what and how long."""
    nothing = pl.lit(None, dtype=pl.String())
    time, channel = nothing, nothing
    if "order_time" not in absent:
        time = _largest([(name, pl.col(f"n_{name}")) for name in TIMES])
    if "source" not in absent:
        known = [
            (name, pl.col(formulas.channel_count(place)))
            for place, name in enumerate(channels)
        ]
        largest = _largest(
            [*known, (catalog.OTHER_CHANNEL, formulas.n_other(len(channels))(POLARS))]
        )
        channel = pl.when(pl.col("n_with_channel") > 0).then(largest)
    stage = pl.lit(formulas.LIFECYCLE_STAGES[0])
    for bound, name in zip(
        formulas.LIFECYCLE_MONTHS, formulas.LIFECYCLE_STAGES[1:], strict=True
    ):
        stage = (
            pl.when(formulas.has_tenure(bound)(POLARS))
            .then(pl.lit(name))
            .otherwise(stage)
        )
    return [
        time.alias("preferred_time"),
        channel.alias("primary_channel"),
        stage.alias("lifecycle_stage"),
    ]


def _largest(counts: Sequence[tuple[str, pl.Expr]]) -> pl.Expr:
    """Return the name of the largest count; of equal ones, the first."""
    most = pl.max_horizontal(*(count for _, count in counts))
    chosen = pl.lit(counts[-1][0])
    for name, count in reversed(counts[:-1]):
        chosen = pl.when(count == most).then(pl.lit(name)).otherwise(chosen)
    return chosen


MIN_CHANNEL_SHARE = 0.01
MAX_CHANNELS = 8


def known_channels(orders: Any) -> tuple[str, ...]:
    """Return the channels worth a feature of their own, the most used first.

    Parameters
    ----------
    orders : frame
        Polars, DuckDB, pandas or Arrow; with ``source``, or without.

    Returns
    -------
    tuple of str
        At most `MAX_CHANNELS`, each of at least 1% of the orders with a channel; equal
        ones by name. A model keeps them: new orders are told by the same.
    """
    rows = _lazy(_rows(orders))
    if "source" not in rows.collect_schema().names():
        return ()
    counts = (
        rows.filter(~nw.col("source").is_null())
        .group_by("source")
        .agg(nw.len().alias("n"))
    )
    table = _collect(counts).sort("n", "source", descending=[True, False])
    frequent = table.filter(pl.col("n") >= MIN_CHANNEL_SHARE * pl.col("n").sum())
    return tuple(frequent["source"].head(MAX_CHANNELS).to_list())


def customer_features(
    orders: Any,
    items: Any | None,
    *,
    reference_date: datetime,
    absent: Sequence[str] = (),
    channels: Sequence[str] = (),
) -> pl.DataFrame:
    """Compute every feature that the data allow, a row per customer.

    Parameters
    ----------
    orders : frame
        ``customer_id, order_id, order_date, total_price`` and, unless absent,
        ``discount_amount, source``: Polars or DuckDB, eager or lazy, pandas or Arrow.
    items : frame or None
        ``customer_id, order_id, product_id, quantity, price`` and, unless absent,
        ``category, refund_amount``. None, without ``items`` being absent, is a customer
        of whom no item is known. Lines of customers without an order are left out.
    reference_date : datetime
        Now, without a time zone; no order is later.
    absent, channels : sequence of str
        As in `features_available`.

    Returns
    -------
    DataFrame
        ``customer_id`` ascending; the features of all axes, each once (Float64;
        ``total_orders`` Int64); what of `PROFILE` is not among them; and ``String``
        columns ``preferred_time`` (null if the orders have no times),
        ``primary_channel`` (``other`` if the channels that are not known outweigh each
        known one, null if none is known) and ``lifecycle_stage``.

    Raises
    ------
    SchemaError
        If a column is missing that is not absent.
    ConfigError
        For an unknown name in `absent`.
    """
    catalog.check_absent(absent)
    rows = _rows(orders)
    _check(rows, "orders", list(ORDERS)[:4], list(ORDERS)[4:], absent)
    has_items = items is not None and "items" not in absent
    lines = _rows(items if has_items else pl.DataFrame(schema=ITEMS))
    if "items" not in absent:
        _check(lines, "items", list(ITEMS)[:5], list(ITEMS)[5:], absent)
    terms: Any = {
        "reference_date": reference_date,
        "absent": tuple(absent),
        "channels": tuple(channels),
    }
    return _evaluated(_lazy(rows), _lazy(lines), **terms)


def _rows(frame: Any) -> pl.DataFrame | Rows:
    """Return rows in memory as a Polars frame, and others as they are."""
    if isinstance(frame, pl.DataFrame):
        return frame
    found = nw.from_native(frame)
    return found if isinstance(found, nw.LazyFrame) else found.to_polars()


def _lazy(rows: pl.DataFrame | Rows) -> Rows:
    """Return rows as a lazy frame."""
    if isinstance(rows, pl.DataFrame):
        lazy: Rows = nw.from_native(rows.lazy())
        return lazy
    return rows


def _collect(rows: Rows) -> pl.DataFrame:
    """Evaluate rows into Polars."""
    table: pl.DataFrame = rows.collect("polars").to_native()
    return table


def _check(
    rows: pl.DataFrame | Rows,
    kind: str,
    required: Sequence[str],
    optional: Sequence[str],
    absent: Sequence[str],
) -> None:
    """Refuse rows without a column that is not known to be absent."""
    wanted = [*required, *(name for name in optional if name not in absent)]
    found = rows.collect_schema().names()
    missing = [name for name in wanted if name not in found]
    if missing:
        raise SchemaError(
            f"the {kind} have no {listed(missing)}, but {listed(found)}. Read them "
            "with `core.tables.orders`, or name optional columns as absent."
        )
