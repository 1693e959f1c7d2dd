"""Amounts typed as text: `$1,234.50`, `12%`, `(32)`, `1.234,50`, and `?` for unknown.

A column is one of amounts where all cells are numbers under one sign (a currency, or
percent) or under none, but for words that a few rows share, such as `?`. Which mark is
the decimal one is told by the whole column. Whole numbers without a sign stay text
where they look like codes: of equal length, with leading zeros, or of few levels.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import polars as pl

from core.tables.marks import MINUS, SPACES, number_form, unusual

MOST_WORDS: Final = 5
WORDS_SHARE: Final = 0.05
"""Share of the known cells, and different texts, that need not be amounts."""
_SIGN: Final = (
    r"\p{Sc}|%|\b(?:USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD|SEK|NOK|DKK|PLN|CZK|BRL|MXN|kr)"
    r"(?:\b|$)"
)
_DIGITS: Final = r"(?:0|[1-9]\d*|[1-9]\d{0,2}(?:[., '\x{2019}\x{a0}\x{202f}]\d{3})+)"
_AMOUNT: Final = rf"^\(?[+\x{{2212}}-]? ?(?:{_DIGITS}(?:[.,]\d*)?|[.,]\d+)-?\)?$"
_WHOLE: Final = r"^\d+$"
_POINT_OPEN, _COMMA_OPEN, _POINT, _COMMA = 1, 2, 3, 4  # of `number_form`


class AmountForm(NamedTuple):
    """How the amounts of a column are written.

    Attributes
    ----------
    decimal : {'.', ','}
    sign : str
        Currency or ``%``, of every amount; empty: none.
    words : tuple of str
        Texts that stand for an unknown value.
    """

    decimal: str
    sign: str = ""
    words: tuple[str, ...] = ()


def amount_form(cells: pl.Series, fewest_levels: int) -> AmountForm | None:
    """Return how the amounts of a text column are written; None if it has others.

    Parameters
    ----------
    cells : Series of str
        Stripped; null is unknown.
    fewest_levels : int
        Different texts up to which plain whole numbers are levels.
    """
    known = cells.drop_nulls()
    plain = _unsigned(known)
    is_amount = plain.str.contains(_AMOUNT)
    words = known.filter(~is_amount).unique().sort()
    n_words = len(known) - int(is_amount.sum())
    if len(words) > MOST_WORDS or n_words > WORDS_SHARE * len(known):
        return None
    known, plain = known.filter(is_amount), plain.filter(is_amount)
    signs = _signs(known).unique()
    if not len(known) or len(signs) > 1:
        return None
    sign = str(signs[0])
    if not sign and plain.str.contains(_WHOLE).all():
        lengths = plain.str.len_chars()
        if plain.n_unique() <= fewest_levels or lengths.n_unique() == 1:
            return None
    table = plain.alias("plain").to_frame()
    odd = unusual(pl.col("plain"))
    forms = set(table.select(number_form(pl.col("plain"), odd)).to_series())
    decimal = _decimal(forms, sign)
    return None if decimal is None else AmountForm(decimal, sign, tuple(words))


def _decimal(forms: set[int], sign: str) -> str | None:
    """Return the decimal mark by the forms of all cells; None if they differ."""
    if _POINT in forms or _COMMA in forms:
        if {_POINT, _COMMA} <= forms:
            return None
        return "." if _POINT in forms else ","
    if {_POINT_OPEN, _COMMA_OPEN} <= forms:
        return None
    if _POINT_OPEN in forms:  # `4.700` alone: of money, which has two decimals, 4700
        return "." if sign in ("", "%") else ","
    return "," if _COMMA_OPEN in forms and sign == "%" else "."


def read_amounts(cells: pl.Series, form: AmountForm) -> pl.Series:
    """Return text as numbers, float64; null where it is none."""
    plain = _unsigned(cells)
    is_amount = plain.str.contains(_AMOUNT) & (_signs(cells) == form.sign)
    plain = plain.set(~is_amount, None)
    is_negative = plain.str.contains(rf"[(-]|{MINUS}")
    digits = plain.str.replace_all(rf"[{SPACES}()+{MINUS}-]", "")
    other = "," if form.decimal == "." else "."
    digits = digits.str.replace_all(other, "", literal=True)
    digits = digits.str.replace(form.decimal, ".", literal=True)
    size = digits.cast(pl.Float64)
    return size.zip_with(~is_negative, -size)


def _signs(cells: pl.Series) -> pl.Series:
    return cells.str.extract(f"({_SIGN})", 1).fill_null("")


def _unsigned(cells: pl.Series) -> pl.Series:
    return cells.str.replace_all(_SIGN, "").str.strip_chars()
