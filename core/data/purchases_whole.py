"""Orders and items held against each other: the whole that everything builds on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from core.data.purchases_account import (
    no_rejected,
    reasons,
    refund_account,
    rejected_rows,
    table_account,
)
from core.data.purchases_cells import UNKNOWN
from core.data.purchases_check import check_kept, check_policy, hints_on, usage_notes
from core.data.purchases_rows import MarkedRows
from core.data.purchases_settle import (
    Negative,
    Refunds,
    attribute_refunds,
    kept_rows,
    settle_items,
    settle_orders,
)

# What data may lack. The last one is lacking where every order is dated at midnight.
OPTIONAL = (
    "items", "discount_amount", "source", "category", "refund_amount", "order_time",
)  # fmt: skip
REQUIRED_COLUMNS = {
    "orders": ("customer_id", "order_id", "order_date", "total_price"),
    "items": ("customer_id", "order_id", "product_id", "quantity", "price"),
}
# Optional columns, and the repair that counts their empty cells.
OPTIONAL_COLUMNS = {
    "orders": {"discount_amount": "empty_discount", "source": "unknown_source"},
    "items": {"category": "unknown_category", "refund_amount": "empty_refund"},
}


@dataclass(frozen=True)
class Purchases:
    """Orders and items that can be used, and what became of the others.

    Attributes
    ----------
    orders : polars.DataFrame
        `customer_id`, `order_id` (String), `order_date` (Datetime, microseconds, no
        zone), `total_price` (Float64, at least 0; what was paid) and, unless absent,
        `discount_amount` (Float64, at least 0) and `source` (String, lower case;
        ``unknown`` where empty). No nulls; a customer has an order id once.
    items : polars.DataFrame or None
        `customer_id`, `order_id`, `product_id` (String), `quantity` (Float64, at least
        0), `price` (Float64, of one unit, at least 0) and, unless absent, `category`
        (String; ``unknown`` where empty) and `refund_amount` (Float64, at least 0).
        No nulls; every item has its order in `orders`.
    reference_date : datetime
        The moment that stands for now.
    absent : tuple of str
        Those of `OPTIONAL` that the data does not have.
    intake : dict
        The account, JSON-able; `core.data.purchases_account.intake_lines` tells it.
    rejected : polars.DataFrame
        Rows set aside: `table`, `source_row` (from 1), `reason`, and the mapped cells
        as received, as text.
    fingerprint : str
        SHA-256 that is equal when the same content is read with the same options.
    truth : polars.DataFrame or None
        What the generator planted; only for the sample.
    """

    orders: pl.DataFrame
    items: pl.DataFrame | None
    reference_date: datetime
    absent: tuple[str, ...]
    intake: dict[str, Any]
    rejected: pl.DataFrame
    fingerprint: str
    truth: pl.DataFrame | None = None


@dataclass(frozen=True)
class Terms:
    """What decides how rows are held against each other.

    Attributes
    ----------
    negative : str
        What a negative row is: ``refund``, ``drop`` or ``error``.
    reference : datetime or None
        The moment that stands for now; None: the newest order.
    latest : datetime or None
        Where `reference` is None, no order can be after this.
    absent : tuple of str or None
        What the data is taken to lack; None: what it does lack.
    """

    negative: Negative
    reference: datetime | None
    latest: datetime | None = None
    absent: tuple[str, ...] | None = None


def put_together(
    orders: MarkedRows, items: MarkedRows | None, terms: Terms
) -> Purchases:
    """Hold the rows of both tables against each other, and account for all of them.

    Parameters
    ----------
    orders, items : MarkedRows
        The rows as read.
    terms : Terms
        What decides.

    Raises
    ------
    SchemaError
        If no row of a table can be used, or negative rows are to stop; never for the
        records of a request (`terms.absent` given).
    """
    settled, reference = settle_orders(
        orders.rows, terms.negative, terms.reference, terms.latest
    )
    order_account, refused = _judged(orders, settled, "orders", terms)
    kept = kept_rows(settled, "orders")
    item_account, kept_items, refunds, rejected = None, None, Refunds(), [refused]
    if items is not None:
        item_rows = settle_items(items.rows, settled, terms.negative)
        item_account, refused = _judged(items, item_rows, "items", terms)
        kept_items, refunds = attribute_refunds(item_rows, settled)
        rejected.append(refused)
    absent, notes = terms.absent, [*orders.notes, *(items.notes if items else [])]
    if absent is None:
        absent, more = _lacking(kept, kept_items, [order_account, item_account])
        notes += [*more, *usage_notes(kept, kept_items, order_account)]
    kept = _in_order(kept, "orders", absent)
    kept_items = None if kept_items is None else _in_order(kept_items, "items", absent)
    intake = {
        "orders": order_account,
        "items": item_account,
        "refunds": refund_account(refunds),
        **_extent(kept, kept_items),
        "notes": notes,
    }
    return Purchases(
        orders=kept,
        items=kept_items,
        # Without an order there was an error before, or a moment given.
        reference_date=reference or datetime.min,
        absent=absent,
        intake=intake,
        rejected=pl.concat(rejected, how="diagonal"),
        fingerprint="",
    )


def _judged(
    table: MarkedRows, rows: pl.DataFrame, name: str, terms: Terms
) -> tuple[dict[str, Any], pl.DataFrame]:
    """Return the account of a table and its rows set aside; stop where need be."""
    account = table_account(rows, name, table.name)
    names = list(table.columns.values())
    refused = no_rejected(names)
    if account["rows_set_aside"]:
        refused = rejected_rows(reasons(rows, name), table.received, names, name)
    if terms.absent is None:
        check_policy(rows, name, table.name, terms.negative)
        limit = terms.reference or terms.latest
        account["hints"] = hints_on(refused, table.columns, limit)
        check_kept(account, name, account["hints"])
    return account, refused


def _lacking(
    orders: pl.DataFrame,
    items: pl.DataFrame | None,
    accounts: Sequence[dict[str, Any] | None],
) -> tuple[tuple[str, ...], list[str]]:
    """Return those of `OPTIONAL` that the data does not have, and notes on them."""
    absent: set[str] = set()
    notes: list[str] = []
    pairs = zip(("orders", "items"), (orders, items), accounts, strict=True)
    for table, frame, account in pairs:
        for column, repair in OPTIONAL_COLUMNS[table].items():
            if frame is None or account is None or column not in frame.columns:
                absent.add(column)
            elif account["repairs"][repair] == account["rows_read"]:
                # Refund lines may have filled a column that came empty.
                if column == "refund_amount" and frame[column].sum() > 0:
                    continue
                absent.add(column)
                notes.append(f"`{column}` is empty in every row: taken as absent.")
    if items is None:
        absent.add("items")
    midnight = pl.col("order_date").dt.truncate("1d") == pl.col("order_date")
    if orders.select(midnight.all()).item():
        absent.add("order_time")
        notes.append("Orders have dates without a time of day.")
    return tuple(name for name in OPTIONAL if name in absent), notes


def _in_order(frame: pl.DataFrame, table: str, absent: Sequence[str]) -> pl.DataFrame:
    """Return our columns of a table in our order; what a request lacks is none."""
    optional = [name for name in OPTIONAL_COLUMNS[table] if name not in absent]
    none = {"source": pl.lit(UNKNOWN), "category": pl.lit(UNKNOWN)}
    lacking = [name for name in optional if name not in frame.columns]
    if lacking:
        frame = frame.with_columns(
            none.get(name, pl.lit(0.0)).alias(name) for name in lacking
        )
    return frame[[*REQUIRED_COLUMNS[table], *optional]]


def _extent(orders: pl.DataFrame, items: pl.DataFrame | None) -> dict[str, Any]:
    """Return how many customers and products, and from when to when."""
    dates = orders["order_date"]
    oldest, newest = dates.min(), dates.max()
    return {
        "n_customers": orders["customer_id"].n_unique(),
        "n_products": None if items is None else items["product_id"].n_unique(),
        "oldest_order": oldest.isoformat() if isinstance(oldest, datetime) else None,
        "newest_order": newest.isoformat() if isinstance(newest, datetime) else None,
    }
