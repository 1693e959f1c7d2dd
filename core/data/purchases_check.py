"""What stops a reading of orders and items, and what its reader should be told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import polars as pl

from core.data.intake import counted, share
from core.data.purchases_account import MEANINGS
from core.data.purchases_marks import BITS, MARKS, ROW
from core.data.purchases_settle import PAIR, Negative
from core.errors import SchemaError

EXAMPLES = 3
# A date may be wrong without being impossible: this far from the next one before it,
# the newest is worth a look, since every recency counts from it.
GAP_DAYS = 30
MANY = 0.2
LOOKED_AT = 1000

# The column of ours that shows why a row has a fault, and how to mend it.
ABOUT = {
    "impossible_date": "order_date",
    "invalid_total": "total_price",
    "after_reference": "order_date",
    "invalid_quantity": "quantity",
    "invalid_price": "price",
    "unknown_order": "order_id",
}
CURES = {
    "impossible_date": "Expected ISO dates such as `2024-01-31 14:05`, or seconds "
    "since 1970; for another format set `data.date_format`, such as `%d.%m.%Y %H:%M`.",
    "after_reference": "Expected none after{until}; set `axes.reference_date` if that "
    "is not now.",
    "unknown_order": "Expected order ids of the orders, and their customers: are both "
    "tables of one period and one system?",
    "number": "Expected a number within +-1e9, without thousands separators; if the "
    "comma is the decimal mark: `--set data.decimal=,`.",
}


def check_policy(rows: pl.DataFrame, table: str, name: str, negative: Negative) -> None:
    """Stop at negative rows, where `axes.negative_orders` is ``error``.

    Raises
    ------
    SchemaError
        With the number of rows, the first of them, and the other policies.
    """
    found = rows.filter(pl.col(MARKS) & BITS[table]["negative"] != 0)
    if negative != "error" or found.is_empty():
        return
    column = "`total_price`" if table == "orders" else "`quantity` or `price`"
    raise SchemaError(
        f"{name}: {found.height:,} of {counted(rows.height)} have a {column} below 0; "
        f"first: row {_numbers(found)}. `axes.negative_orders` is `error`; to go on, "
        "take them as refunds (`--set axes.negative_orders=refund`) or set them aside "
        "(`--set axes.negative_orders=drop`)."
    )


def check_kept(account: Mapping[str, Any], table: str, hints: list[str]) -> None:
    """Stop where no row of a table can be used.

    Raises
    ------
    SchemaError
        With the reasons, and the hints on the cells behind them.
    """
    if account["rows_kept"]:
        return
    if not account["rows_read"]:
        raise SchemaError(
            f"{account['source']} has no rows. Expected at least one of {table}."
        )
    faults = {name: n for name, n in account["faults"].items() if n}
    found = ", ".join(f"{n:,} with `{f}` ({MEANINGS[f]})" for f, n in faults.items())
    n_read = counted(account["rows_read"], table[:-1])
    first = f"{account['source']}: none of {n_read} can be used: {found}."
    raise SchemaError("\n".join([first, *hints]))


def hints_on(
    rejected: pl.DataFrame, received: Mapping[str, str], limit: datetime | None
) -> list[str]:
    """Return a sentence for each fault that examples of cells can explain.

    Parameters
    ----------
    rejected : polars.DataFrame
        Rows set aside of one table: `source_row`, `reason`, and cells as text.
    received : mapping of str to str
        Our name: the name as received.
    limit : datetime or None
        The moment after which orders are set aside.
    """
    hints = []
    for fault, ours in ABOUT.items():
        if ours not in received or received[ours] not in rejected.columns:
            continue
        has_fault = rejected["reason"].str.split(", ").list.contains(fault)
        rows = rejected.filter(has_fault).head(LOOKED_AT)
        # Of empty cells there is nothing to show.
        if rows[received[ours]].null_count() == rows.height:
            continue
        cells = rows.unique(received[ours], keep="first", maintain_order=True)
        shown = [
            f"empty (row {row:,})" if cell is None else f"`{cell[:40]}` (row {row:,})"
            for row, cell in cells["source_row", received[ours]].head(EXAMPLES).rows()
        ]
        until = "" if limit is None else f" {limit.isoformat(' ', 'minutes')}"
        cure = CURES.get(fault, CURES["number"]).format(until=until)
        hints.append(f"`{ours}` with `{fault}` is {', '.join(shown)}. {cure}")
    return hints


def usage_notes(
    orders: pl.DataFrame, items: pl.DataFrame | None, account: Mapping[str, Any]
) -> list[str]:
    """Return what is odd about the rows kept, though each is fine by itself.

    Parameters
    ----------
    orders, items : polars.DataFrame
        The rows kept.
    account : mapping
        Counts of the orders, as `core.data.purchases_account.table_account` gives them.
    """
    notes = []
    n_repeats = account["faults"]["repeated_order"]
    if n_repeats > MANY * account["rows_read"]:
        notes.append(
            f"{share(n_repeats, account['rows_read'])} of the order rows repeat an "
            "order id. Expected one row per order: are these item rows, or order "
            "numbers that begin anew each day?"
        )
    newest = orders["order_date"].dt.date().unique().sort()[-2:].to_list()
    if len(newest) > 1 and (gap := (newest[1] - newest[0]).days) > GAP_DAYS:
        notes.append(
            f"The newest order ({newest[1]}) is {gap:,} days after the one before it. "
            "If its date is wrong, so is every recency: set `axes.reference_date`."
        )
    if "discount_amount" in orders.columns:
        above = pl.col("discount_amount") > pl.col("total_price")
        if n := orders.filter(above).height:
            notes.append(
                f"{counted(n, 'order')} with a discount above the total, kept: totals "
                "are taken as what was paid, after discounts."
            )
    return notes + ([] if items is None else _item_notes(orders, items))


def _item_notes(orders: pl.DataFrame, items: pl.DataFrame) -> list[str]:
    """Return what is odd about the items kept."""
    notes = []
    n_without = orders.join(items, on=PAIR, how="anti").height
    if n_without:
        notes.append(
            f"{counted(n_without, 'order')} ({share(n_without, orders.height)}) "
            "without items: features of products see the others only."
        )
    compared = items.drop(ROW, MARKS, "refund_amount", strict=False)
    repeated = items.height - compared.hash_rows().n_unique()
    if repeated:
        notes.append(
            f"{counted(repeated, 'item row')} equal to another one of the same order, "
            "kept: a receipt may list a product twice."
        )
    return notes


def _numbers(rows: pl.DataFrame) -> str:
    """Return the numbers of the first rows."""
    return ", ".join(f"{row:,}" for row in rows[ROW].head(EXAMPLES))
