"""Faults of rows: their flags and meanings, the account of a reading, rejected rows.

Every fault of every row is counted; a row is set aside for the first fault, in the
order of `FAULTS`, whose policy says so. Nothing is lost: what was kept and what was set
aside add up to what was read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from core.config import Policies

ROW = "__row__"
MARKS = "__marks__"

# Faults set a row aside, first those of the row itself, then those that other rows
# show; repairs are cells that were put right on the way. In the order of the reasons.
OWN_FAULTS = {
    "orders": (
        "ragged_line",
        "missing_customer",
        "missing_order",
        "impossible_date",
        "invalid_total",
    ),
    "items": (
        "ragged_line",
        "missing_order",
        "missing_product",
        "invalid_quantity",
        "invalid_price",
    ),
}
LATER_FAULTS = {
    "orders": ("refund", "negative", "repeated_order", "after_reference"),
    "items": (
        "refund",
        "negative",
        "ambiguous_order",
        "unknown_order",
        "order_set_aside",
    ),
}
REPAIRS = {
    "orders": (
        "float_id",
        "with_offset",
        "unusable_discount",
        "negative_discount",
        "empty_discount",
        "unknown_source",
    ),
    "items": (
        "float_id",
        "unusable_refund",
        "negative_refund",
        "empty_refund",
        "unknown_category",
    ),
}
BITS = {
    table: {
        name: 1 << i
        for i, name in enumerate(
            (*OWN_FAULTS[table], *LATER_FAULTS[table], *REPAIRS[table])
        )
    }
    for table in ("orders", "items")
}
OWN_BITS = {
    table: sum(BITS[table][name] for name in names)
    for table, names in OWN_FAULTS.items()
}
SET_ASIDE = {
    table: OWN_BITS[table] | sum(BITS[table][name] for name in names)
    for table, names in LATER_FAULTS.items()
}


# The order decides which reason a row with several faults is set aside for.
ROW_FAULTS = (
    "ragged_line",
    "missing_id",
    "impossible_month",
    "invalid_quantity",
    "negative_quantity",
    "zero_quantity",
)
FAULTS = (*ROW_FAULTS, "exact_duplicate", "repeated_key")
MEANINGS = {
    "ragged_line": "more cells than the header",
    "missing_id": "no shop or no product",
    "impossible_month": "no possible month",
    "invalid_quantity": "no usable quantity",
    "negative_quantity": "negative quantity",
    "zero_quantity": "quantity of 0",
    "exact_duplicate": "equal to an earlier row in every column",
    "repeated_key": "same shop, product and month as an earlier row",
}
KEPT_AS = {
    "ragged_line": "cut off at the last column",
    "negative_quantity": "netted off their month",
    "repeated_key": "summed per month",
}
MOST = 0.5


@dataclass(frozen=True)
class FaultCount:
    """How often one fault was met.

    Attributes
    ----------
    found : int
        Rows with this fault, whatever else they have; `repeated_key` is looked for
        among the rows that no other fault has set aside.
    policy : str
        `keep`, `drop` or `error`.
    set_aside : int
        Rows set aside for this reason; 0 where the policy is `keep`.
    """

    found: int
    policy: str
    set_aside: int


@dataclass(frozen=True)
class ValidationReport:
    """The account of one reading.

    Attributes
    ----------
    rows_read, rows_kept : int
        Rows; lines without any value are not counted as rows.
    faults : dict of str to FaultCount
        Per fault, in the order in which reasons are given.
    repairs : dict of str to int
        Cells mended on the way, such as ids stored as floats.
    notes : list of str
        What the user should know, in sentences.
    n_shops, n_products : int
        Distinct ids among the rows kept.
    oldest_month, newest_month : str
        YYYY-MM, among the rows kept.
    partial_last_month : str or None
        The newest month, if its dates end more than 3 days before the month does.
    """

    rows_read: int
    rows_kept: int
    faults: dict[str, FaultCount]
    repairs: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    n_shops: int = 0
    n_products: int = 0
    oldest_month: str | None = None
    newest_month: str | None = None
    partial_last_month: str | None = None

    @property
    def rows_set_aside(self) -> int:
        """Rows read but not kept."""
        return self.rows_read - self.rows_kept

    def to_dict(self) -> dict[str, Any]:
        """Return the account as plain JSON-able values."""
        faults = {name: vars(count).copy() for name, count in self.faults.items()}
        return {**vars(self), "rows_set_aside": self.rows_set_aside, "faults": faults}

    def summary(self) -> list[str]:
        """Return the account in sentences, the most important first."""
        months = f"{self.oldest_month} to {self.newest_month}"
        sentences = [
            f"Kept {self.rows_kept:,} of {counted(self.rows_read)}: "
            f"{counted(self.n_shops, 'shop')}, {counted(self.n_products, 'product')}, "
            f"{months}."
        ]
        if self.rows_set_aside > MOST * self.rows_read:
            sentences.append(
                f"Most rows ({share(self.rows_set_aside, self.rows_read)}) were set "
                "aside; make sure that the right file and columns were read."
            )
        sentences += [
            _fault_sentence(name, count, self.rows_read)
            for name, count in self.faults.items()
            if count.found
        ]
        return sentences + self.notes


def share(n: int, total: int) -> str:
    """Return a share in per cent, with a decimal that never rounds to nothing.

    >>> share(1, 4), share(1, 20_000_000), share(0, 0)
    ('25.0%', '<0.1%', '0.0%')
    """
    ratio = n / total if total else 0.0
    return "<0.1%" if 0 < ratio < 0.001 else f"{ratio:.1%}"


def counted(n: int, noun: str = "row") -> str:
    """Return a number with its noun.

    >>> counted(1), counted(2_000, "shop")
    ('1 row', '2,000 shops')
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def policies_in_order(policies: Policies) -> dict[str, str]:
    """Return the policy of each fault, in the order in which reasons are given."""
    chosen: Mapping[str, str] = policies.model_dump()
    return {name: chosen[name] for name in FAULTS}


def _fault_sentence(name: str, count: FaultCount, n_rows: int) -> str:
    """Return what was found of one fault, and what became of it."""
    found = f"{counted(count.found)} ({share(count.found, n_rows)}): {MEANINGS[name]}"
    if count.policy == "keep":
        return f"{found}; kept, {KEPT_AS.get(name, 'as they are')} (`{name}`)."
    if count.set_aside == count.found:
        return f"{found}; set aside (`{name}`)."
    rest = count.found - count.set_aside
    return (
        f"{found}; {count.set_aside:,} set aside (`{name}`), {rest:,} already for an "
        "earlier reason."
    )


NO_REASONS = {"table": pl.String, "source_row": pl.UInt32, "reason": pl.String}
TABLE_FAULTS = {
    table: (*OWN_FAULTS[table], *LATER_FAULTS[table]) for table in OWN_FAULTS
}
TABLE_MEANINGS = {
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
        "faults": {fault: found[fault] for fault in TABLE_FAULTS[table]},
        "repairs": {repair: found[repair] for repair in REPAIRS[table]},
        "hints": [],
    }


def reasons(rows: pl.DataFrame, table: str) -> pl.DataFrame:
    """Return `ROW` and `reason` (several: comma separated) of the rows set aside."""
    names = [
        pl.when(pl.col(MARKS) & BITS[table][fault] != 0).then(pl.lit(fault))
        for fault in TABLE_FAULTS[table]
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
            what = f"{counted(n, table[:-1])} ({share(n, n_read)})"
            lines.append(f"{what}: {TABLE_MEANINGS[fault]}; set aside (`{fault}`).")
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
