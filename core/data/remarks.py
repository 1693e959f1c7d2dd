"""What is worth knowing of the rows kept: odd ids, the months they span."""

from __future__ import annotations

import calendar
from dataclasses import dataclass

import polars as pl

from core.data.staging import DAY

# A month whose dates end earlier than this many days before it does is incomplete.
PARTIAL_DAYS = 3
REPAIR_NOTES = {
    "float_shop_id": "{:,} shop ids were stored as decimal numbers; `17850.0` was read "
    "as `17850`.",
    "float_product_id": "{:,} product ids were stored as decimal numbers; `17850.0` "
    "was read as `17850`.",
    "unreadable_sales_value": "{:,} values of `sales_value` are no finite numbers; "
    "they are taken as unknown (null).",
}


def distinct(kept: pl.LazyFrame, column: str) -> pl.Series:
    """Return the distinct values of an id column."""
    return kept.select(column).unique().collect(engine="streaming")[column]


def id_notes(column: str, ids: pl.Series) -> list[str]:
    """Return what is odd about ids, none of which is changed."""
    name = column.removesuffix("_id")
    notes = []
    n_digits = int(ids.str.contains(r"^[0-9]+$").sum())
    if 0 < n_digits < len(ids):
        notes.append(
            f"{n_digits:,} of {len(ids):,} {name} ids are numbers, the others hold "
            "other characters; all are taken as text."
        )
    n_case = len(ids) - ids.str.to_lowercase().n_unique()
    if n_case:
        notes.append(
            f"{n_case:,} {name} ids differ from another one only by upper and lower "
            "case; they are taken as different."
        )
    digits = ids.filter(ids.str.contains(r"^[0-9]+$"))
    n_zeros = len(digits) - digits.str.strip_chars_start("0").n_unique()
    if n_zeros:
        notes.append(
            f"{n_zeros:,} {name} ids differ from another one only by leading zeros; "
            "they are taken as different (`007` is not `7`)."
        )
    return notes


@dataclass(frozen=True)
class Span:
    """The months of the rows kept, as YYYY-MM; `partial` is the newest, or None."""

    oldest: str
    newest: str
    partial: str | None
    notes: tuple[str, ...]


def month_span(kept: pl.LazyFrame) -> Span:
    """Return the oldest and the newest month, and whether the newest is incomplete.

    Parameters
    ----------
    kept : polars.LazyFrame
        At least one row, with `year`, `month` and `DAY`.
    """
    month = pl.col("year") * 12 + pl.col("month") - 1
    day = pl.col(DAY)
    facts = kept.select(
        month.min().alias("oldest"),
        month.max().alias("newest"),
        day.max().alias("last"),
        (day % 100).min().alias("lowest"),
        (day % 100).max().alias("highest"),
    )
    oldest, newest, last, lowest, highest = facts.collect(engine="streaming").row(0)
    first, final = (f"{m // 12:04d}-{m % 12 + 1:02d}" for m in (oldest, newest))
    if last is None:
        return Span(first, final, None, ())
    if lowest == highest and oldest != newest:
        note = f"All dates fall on day {lowest}: they are taken to mean whole months."
        return Span(first, final, None, (note,))
    n_days = calendar.monthrange(newest // 12, newest % 12 + 1)[1]
    last_day = last % 100 if last // 100 == newest // 12 * 100 + newest % 12 + 1 else 0
    if last_day == 0 or n_days - last_day <= PARTIAL_DAYS:
        return Span(first, final, None, ())
    note = f"The newest month, {final}, ends on day {last_day} of {n_days}: incomplete."
    return Span(first, final, final, (note,))
