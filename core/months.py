"""Months as ``YYYY-MM`` labels and as indices since year 0."""

from __future__ import annotations

import polars as pl


def month_index(label: str) -> int:
    """Return months since year 0 of a ``YYYY-MM`` label.

    >>> month_index("2024-01") - month_index("2023-12")
    1
    """
    year, month = label.split("-")
    return int(year) * 12 + int(month) - 1


def month_label(index: int) -> str:
    """Return the ``YYYY-MM`` label of a month index.

    >>> month_label(month_index("2024-12"))
    '2024-12'
    """
    return f"{index // 12:04d}-{index % 12 + 1:02d}"


def month_label_column(t: str) -> pl.Expr:
    """Return the ``YYYY-MM`` labels of a column of month indices; null stays null."""
    year = (pl.col(t) // 12).cast(pl.String).str.zfill(4)
    month = (pl.col(t) % 12 + 1).cast(pl.String).str.zfill(2)
    return year + "-" + month


MONTH_NAMES = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def spoken_month(month: str) -> str:
    """Return a month (YYYY-MM) as people say it.

    >>> spoken_month("2024-05")
    'May 2024'
    """
    year, number = month.split("-")
    return f"{MONTH_NAMES[int(number) - 1]} {year}"
