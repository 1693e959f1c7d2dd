"""Numbers typed as text: decimal and thousands marks, and signs, as people write them.

A cell tells by its form which of its marks is which: `47,5`, `1.234,50`, `1,234.50` and
`1.234.567` leave no doubt. One mark with three digits behind it does: `4.700` is 4700
or 4.7. That is settled by the whole column, in `core.tables.settle`.
"""

from __future__ import annotations

import polars as pl

MINUS = "\N{MINUS SIGN}"
SPACES = " '\N{RIGHT SINGLE QUOTATION MARK}\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}"
BY_SPACE = rf"^[(+-]? ?\d{{1,3}}([{SPACES}]\d{{3}})+([.,]\d*)? ?[)-]?$"
BY_COMMA = r"^[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?$"
# Thousands set off by points, or a decimal comma, or both.
EUROPEAN = r"^[+-]?([1-9]\d{0,2}(\.\d{3})+(,\d*)?|\d*,\d*)$"
# Leaves no doubt and needs no mending; most cells are such.
ORDINARY = r"^[+-]?\d+([.,](\d{1,2}|\d{4,}))?$"
THREE_AFTER_POINT = r"^[+-]?[1-9]\d{0,2}\.\d{3}$"
THREE_AFTER_COMMA = r"^[+-]?[1-9]\d{0,2},\d{3}$"


def unusual(text: pl.Expr) -> pl.Expr:
    """Return the text of cells that are no ordinary numbers, null for the others."""
    return pl.when(~text.str.contains(ORDINARY)).then(text)


def _plain(text: pl.Expr) -> pl.Expr:
    """Return numbers as text without spaces in them and with their minus in front.

    `32-`, `(32)` and a minus that is U+2212 become `-32`; `4 700` becomes `4700`.
    """
    text = text.str.replace(MINUS, "-", literal=True)
    unspaced = text.str.replace_all(f"[{SPACES}]", "")
    text = pl.when(text.str.contains(BY_SPACE)).then(unspaced).otherwise(text)
    is_bracketed = text.str.starts_with("(") & text.str.ends_with(")")
    return (
        pl.when(text.str.ends_with("-"))
        .then("-" + text.str.head(-1).str.strip_chars())
        .when(is_bracketed)
        .then("-" + text.str.head(-1).str.slice(1).str.strip_chars())
        .otherwise(text)
    )


def number(text: pl.Expr, odd: pl.Expr) -> pl.Expr:
    """Return text as Float64, null where it is no number; `4.700` as 4700.

    `odd` is the `unusual` part of it.
    """
    odd = _plain(odd)
    without_points = odd.str.replace_all(".", "", literal=True)
    odd = (
        pl.when(odd.str.contains(BY_COMMA))
        .then(odd.str.replace_all(",", "", literal=True))
        .when(odd.str.contains(EUROPEAN))
        .then(without_points.str.replace(",", ".", literal=True))
        .otherwise(odd)
    )
    with_comma = pl.when(text.str.contains(",", literal=True)).then(text)
    pointed = with_comma.str.replace(",", ".", literal=True)
    return pl.coalesce(odd, pointed, text).cast(pl.Float64, strict=False)


def number_form(text: pl.Expr, odd: pl.Expr) -> pl.Expr:
    """Return which of the clues of a number a text gives, from 1; 0: none."""
    odd = _plain(odd)
    return (
        pl.when(odd.str.contains(THREE_AFTER_POINT))
        .then(1)
        .when(odd.str.contains(THREE_AFTER_COMMA))
        .then(2)
        .when(odd.str.contains(BY_COMMA))
        .then(3)
        .when(odd.str.contains(EUROPEAN))
        .then(4)
        .when(text.str.contains(",", literal=True))
        .then(4)
        .when(text.str.contains(".", literal=True))
        .then(3)
        .otherwise(0)
    )


def month_form(text: pl.Expr) -> pl.Expr:
    """Return which of the clues of a month a text such as `2022.1` gives, from 1."""
    short = pl.when(text.str.len_bytes() <= 7).then(text)
    month = short.str.extract(r"^\d{4}[.,](1|[2-9]|0\d)$")
    kinds = pl.when(month == "1").then(1).when(month.str.len_bytes() == 1).then(2)
    return kinds.when(month.is_not_null()).then(3).otherwise(0)
