"""The features of customers: one definition for millions of orders and for one person.

Orders and items become one row of facts per customer where the data is (Polars, or
DuckDB); the features are expressions over that row. `core.features.customer_axes` says
which features make up which axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import narwhals as nw
import polars as pl

from core.errors import SchemaError, listed
from core.features.customer_axes import (
    AXES,
    FEATURES,
    PROFILE,
    Axis,
    AxisFeatures,
    channel_share,
    check_absent,
    features_available,
)
from core.features.customer_definitions import CustomerFeature
from core.features.customer_order_facts import Rows
from core.features.customer_query import (
    ITEMS,
    ORDERS,
    evaluate_in_memory,
    evaluate_lazily,
)

__all__ = [
    "AXES",
    "FEATURES",
    "PROFILE",
    "Axis",
    "AxisFeatures",
    "CustomerFeature",
    "channel_share",
    "customer_features",
    "features_available",
    "has_times",
    "known_channels",
]

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


def has_times(orders: Any) -> bool:
    """Return whether any order is not at midnight.

    Dates alone say nothing of mornings and evenings: ``order_time`` is then absent.
    """
    date = nw.col("order_date")
    seconds = date.dt.hour() * 3600 + date.dt.minute() * 60 + date.dt.second()
    table = _collect(_lazy(_rows(orders)).select(latest=seconds.max()))
    return bool(table["latest"][0])


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
    check_absent(absent)
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
    if isinstance(rows, pl.DataFrame) and isinstance(lines, pl.DataFrame):
        return evaluate_in_memory(rows, lines, **terms)
    return evaluate_lazily(_lazy(rows), _lazy(lines), **terms)


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
            "with `core.data.purchases`, or name optional columns as absent."
        )
