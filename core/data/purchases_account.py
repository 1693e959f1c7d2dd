"""The account of what was read of orders and items, and what became of the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from core.data.intake import MOST, counted, share
from core.data.purchases_marks import (
    BITS,
    LATER_FAULTS,
    MARKS,
    OWN_FAULTS,
    REPAIRS,
    ROW,
)
from core.data.purchases_settle import SET_ASIDE, Refunds

NO_REASONS = {"table": pl.String, "source_row": pl.UInt32, "reason": pl.String}
FAULTS = {table: (*OWN_FAULTS[table], *LATER_FAULTS[table]) for table in OWN_FAULTS}
MEANINGS = {
    "ragged_line": "more cells than the header",
    "missing_customer": "no customer",
    "missing_order": "no order id",
    "missing_product": "no product",
    "impossible_date": "no readable date of the years 1900 to 2199",
    "invalid_total": "no total that is a number within +-1e9",
    "invalid_quantity": "no quantity that is a number within +-1e9",
    "invalid_price": "no price that is a number within +-1e9",
    "refund": "below 0, taken as a refund",
    "negative": "below 0, which `axes.negative_orders` sets aside",
    "repeated_order": "same customer and order id as an earlier row",
    "after_reference": "after the reference date, or in the future",
    "ambiguous_order": "an order id of several customers, and no customer of its own",
    "unknown_order": "an order that is not among the orders",
    "order_set_aside": "an order that was itself set aside",
}
REPAIR_NOTES = {
    ("orders", "float_id"): "{} had an id typed as a float; `17850.0` became `17850`.",
    ("orders", "with_offset"): (
        "{} had a time zone; brought to UTC. Hours and weekdays are those of UTC: "
        "convert the dates to local time before, if that matters."
    ),
    ("orders", "unusable_discount"): "{} had an unreadable discount, taken as none.",
    ("orders", "negative_discount"): (
        "{} had a discount below 0, taken as none. If discounts are written as "
        "deductions, turn their sign."
    ),
    ("orders", "unknown_source"): "{} had no channel, taken as `unknown`.",
    ("items", "float_id"): "{} had an id typed as a float; `17850.0` became `17850`.",
    ("items", "unusable_refund"): "{} had an unreadable refund, taken as none.",
    ("items", "negative_refund"): (
        "{} had a refund below 0, taken as none. If refunds are written as deductions, "
        "turn their sign."
    ),
    ("items", "unknown_category"): "{} had no category, taken as `unknown`.",
}


def table_account(rows: pl.DataFrame, table: str, name: str) -> dict[str, Any]:
    """Return the counts of one table.

    Parameters
    ----------
    rows : polars.DataFrame
        All rows, settled, with `MARKS`.
    table : str
        `orders` or `items`.
    name : str
        Where they came from.

    Returns
    -------
    dict
        `source`, `rows_read`, `rows_kept`, `rows_set_aside`; `faults` (rows with each
        fault, whatever else they have) and `repairs`, both by name; `hints` (sentences
        on what faulty cells have in common; none yet).
    """
    marks = rows[MARKS].to_numpy()
    found = {
        fault: int(np.count_nonzero(marks & bit)) for fault, bit in BITS[table].items()
    }
    n_aside = int(np.count_nonzero(marks & SET_ASIDE[table]))
    return {
        "source": name,
        "rows_read": rows.height,
        "rows_kept": rows.height - n_aside,
        "rows_set_aside": n_aside,
        "faults": {fault: found[fault] for fault in FAULTS[table]},
        "repairs": {repair: found[repair] for repair in REPAIRS[table]},
        "hints": [],
    }


def reasons(rows: pl.DataFrame, table: str) -> pl.DataFrame:
    """Return `ROW` and `reason` (several: comma separated) of the rows set aside."""
    names = [
        pl.when(pl.col(MARKS) & BITS[table][fault] != 0).then(pl.lit(fault))
        for fault in FAULTS[table]
    ]
    aside = rows.filter(pl.col(MARKS) & SET_ASIDE[table] != 0)
    return aside.select(
        ROW, reason=pl.concat_str(names, separator=", ", ignore_nulls=True)
    )


def rejected_rows(
    reasons_of: pl.DataFrame,
    received: pl.LazyFrame,
    names: Sequence[str],
    table: str,
) -> pl.DataFrame:
    """Return the rows set aside as they were received.

    Parameters
    ----------
    reasons_of : polars.DataFrame
        `ROW` and `reason`.
    received : polars.LazyFrame
        `ROW` and the received columns.
    names : sequence of str
        The received columns that were mapped.
    table : str
        `orders` or `items`.

    Returns
    -------
    polars.DataFrame
        `table`, `source_row` (from 1), `reason`, and the cells as text.
    """
    shown = _shown_names(names)
    texts = [
        pl.col(name).cast(pl.String, strict=False).alias(alias)
        for name, alias in shown.items()
    ]
    head: list[pl.Expr | str] = [
        pl.lit(table).alias("table"),
        pl.col(ROW).alias("source_row"),
        "reason",
    ]
    joined = received.join(
        reasons_of.lazy(), on=ROW, how="inner", maintain_order="left"
    )
    return joined.select(*head, *texts).collect(engine="streaming")


def no_rejected(names: Sequence[str]) -> pl.DataFrame:
    """Return `rejected_rows` of a table of which none was set aside."""
    texts = dict.fromkeys(_shown_names(names).values(), pl.String)
    return pl.DataFrame(schema={**NO_REASONS, **texts})


def _shown_names(names: Sequence[str]) -> dict[str, str]:
    """Return what received columns are called beside ours."""
    return {name: f"{name}_received" if name in NO_REASONS else name for name in names}


def refund_account(refunds: Refunds) -> dict[str, Any]:
    """Return what refunds came to, with amounts to the cent."""
    return {
        **vars(refunds),
        "amount": round(refunds.amount, 2),
        "attributed": round(refunds.attributed, 2),
    }


def intake_lines(intake: Mapping[str, Any]) -> list[str]:
    """Return the account of `Purchases.intake` in sentences, most important first."""
    orders, items = intake["orders"], intake["items"]
    lines = [
        f"Kept {orders['rows_kept']:,} of {counted(orders['rows_read'], 'order')} "
        f"({orders['source']}) of {counted(intake['n_customers'], 'customer')}, "
        f"{intake['oldest_order'][:10]} to {intake['newest_order'][:10]}."
    ]
    if items is not None:
        lines.append(
            f"Kept {items['rows_kept']:,} of {counted(items['rows_read'], 'item')} "
            f"({items['source']}) of {counted(intake['n_products'], 'product')}."
        )
    for table in ("orders", "items"):
        if (account := intake[table]) is not None:
            lines += _table_lines(table, account)
    return [*lines, *_refund_lines(intake), *intake["notes"]]


def _table_lines(table: str, account: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each fault and repair that was found in a table."""
    n_read = account["rows_read"]
    lines = []
    if account["rows_set_aside"] > MOST * n_read:
        lines.append(
            f"Most {table} ({share(account['rows_set_aside'], n_read)}) were set "
            "aside; make sure that the right file and columns were read."
        )
    for fault, n in account["faults"].items():
        # Refunds are told of together.
        if n and fault != "refund":
            what = f"{counted(n, table[:-1])} ({share(n, n_read)}): {MEANINGS[fault]}"
            lines.append(f"{what}; set aside (`{fault}`).")
    for repair, n in account["repairs"].items():
        # A column that is empty throughout has a note of its own.
        is_empty = repair.startswith("unknown_") and n == n_read
        if n and not is_empty and (table, repair) in REPAIR_NOTES:
            found = counted(n, table[:-1])
            lines.append(REPAIR_NOTES[table, repair].format(found))
    lines += account["hints"]
    return lines


def _refund_lines(intake: Mapping[str, Any]) -> list[str]:
    """Return what became of the refunds."""
    refunds = intake["refunds"]
    n_orders, n_lines = refunds["n_orders"], refunds["n_lines"]
    lines = []
    if n_orders or n_lines:
        lines.append(
            f"{counted(n_orders, 'order')} and {counted(n_lines, 'item line')} below 0 "
            "were taken as refunds (`refund`): they are no orders and no purchases."
        )
    if refunds["amount"] > 0:
        attributed, amount = refunds["attributed"], refunds["amount"]
        lines.append(
            f"Refund lines came to {amount:,.2f}; {attributed:,.2f} of it "
            f"({attributed / amount:.1%}) were put to purchases of the same customer "
            "and product, the rest was bought before the data or is not in it."
        )
    if n := refunds["n_orders_without_lines"]:
        lines.append(
            f"{counted(n, 'refund order')} without item lines: what was given back is "
            "not known, so no feature counts it."
        )
    return lines
