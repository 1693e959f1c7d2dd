"""Cells of one received column to values of ours, as Polars expressions.

Nothing is guessed: what cannot be read becomes null, and the caller counts it.
"""

from __future__ import annotations

import re

import polars as pl

from core.errors import ConfigError, SchemaError

# A text that stands for "nothing" in an id column.
MISSING_TEXTS = (
    "", "nan", "NaN", "NAN", "None", "none", "null", "Null", "NULL", "NA", "N/A",
    "#N/A", "<NA>", "NaT",
)  # fmt: skip
# `17850.0` was a number on its way through a float; `007.0` was not, and stays.
# One or two zeros: in `10.000` the point may as well set off thousands.
FLOAT_TEXT = r"^(0|-?[1-9][0-9]*)\.00?$"
# Whole numbers beyond this are not all exact as 64-bit floats.
LARGEST_EXACT_FLOAT = 2.0**53
ISO_DATE = (
    r"^\d{4}[-/]\d{2}([-/]\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?"
    r" ?(Z|[+-]\d{2}:?\d{2})?)?)?$"
)
# What strptime tokens tell; padding marks as in `%-d` are left out before looking.
WHOLE_DATE_TOKENS = frozenset({"%D", "%F", "%x", "%c", "%s", "%+", "%v"})
DAY_TOKENS = WHOLE_DATE_TOKENS | {"%d", "%e", "%j"}
MONTH_TOKENS = WHOLE_DATE_TOKENS | {"%m", "%b", "%B", "%h", "%j"}
YEAR_TOKENS = WHOLE_DATE_TOKENS | {"%Y", "%y"}


def check_type(dtype: pl.DataType, name: str, ours: str, where: str) -> None:
    """Refuse a received column whose type can never be read as `ours`.

    Raises
    ------
    SchemaError
        For nested types, and for dates where a number is expected.
    """
    is_date = isinstance(dtype, pl.Date | pl.Datetime)
    expected = {"date": "a date", "shop_id": "an id", "product_id": "an id"}
    advice = ""
    if dtype.is_nested() or isinstance(dtype, pl.Object | pl.Time | pl.Duration):
        advice = "Convert it before, or map another column."
    elif is_date and ours in ("year", "month"):
        advice = f"Map it as the date instead: `--column date={name.strip()}`."
    elif is_date and ours != "date":
        advice = f"Map the right column: `--column {ours}=NAME`."
    elif ours == "date" and (dtype.is_float() or isinstance(dtype, pl.Boolean)):
        advice = "Give dates as dates, as text, or as whole numbers such as 20240131."
    if advice:
        raise SchemaError(
            f"{where}: column `{name.strip()}` is of type {dtype}; expected "
            f"{expected.get(ours, 'a number')} for `{ours}`. {advice}"
        )


def plain_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return the cells as text without spaces around; unreadable bytes are null."""
    text = pl.col(name).cast(pl.String, strict=False)
    is_typed = dtype.is_numeric() or isinstance(dtype, pl.Boolean)
    return text if is_typed else text.str.strip_chars()


def id_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return ids as text, not mended yet: a float as `17850.0`, NaN as null."""
    text = plain_text(name, dtype)
    if not dtype.is_float():
        return text
    value = pl.col(name).cast(pl.Float64)
    is_whole = (value == value.floor()) & (value.abs() < LARGEST_EXACT_FLOAT)
    # Spelt out, since large floats are otherwise written as powers of ten.
    whole = value.cast(pl.Int64, strict=False).cast(pl.String) + ".0"
    return pl.when(value.is_finite()).then(
        pl.when(is_whole).then(whole).otherwise(text)
    )


def is_float_text(text: pl.Expr) -> pl.Expr:
    """Return whether an id is a whole number that was written as a float."""
    # The regular expression costs five times the rest, and is rarely needed.
    ends_in_zero = text.str.ends_with(".0") | text.str.ends_with(".00")
    is_float = pl.when(ends_in_zero).then(text).str.contains(FLOAT_TEXT)
    return is_float.fill_null(value=False)


def mended_id(text: pl.Expr, is_float: pl.Expr) -> pl.Expr:
    """Return `17850.0` as `17850`, and texts that stand for nothing as null."""
    # Cut off in two steps, so that the zeros of 100.0 before the point stay.
    cut = pl.when(is_float).then(text).str.strip_chars_end("0")
    mended = pl.when(is_float).then(cut.str.strip_suffix(".")).otherwise(text)
    return pl.when(~text.is_in(list(MISSING_TEXTS))).then(mended)


def as_float(name: str, dtype: pl.DataType, *, decimal_comma: bool = False) -> pl.Expr:
    """Return cells as Float64; null where they are no number, not even NaN.

    Thousands separators are not guessed. With `decimal_comma`, text such as `3,5` is
    read as 3.5, and text with a point keeps its meaning as long as it has no comma.
    """
    if dtype.is_numeric() or isinstance(dtype, pl.Boolean):
        return pl.col(name).cast(pl.Float64, strict=False)
    text = plain_text(name, dtype)
    if decimal_comma:
        has_one_mark = text.str.count_matches("[.,]") <= 1
        pointed = text.str.replace(",", ".", literal=True)
        text = pl.when(has_one_mark).then(pointed)
    return text.cast(pl.Float64, strict=False)


def whole(value: pl.Expr) -> pl.Expr:
    """Return a year or a month as Int32; null unless it is a whole number."""
    return pl.when(value == value.floor()).then(value).cast(pl.Int32, strict=False)


def finite(value: pl.Expr) -> pl.Expr:
    """Return a quantity or value; null unless it is finite.

    -0.0 becomes 0.0, so that equal quantities are equal bits.
    """
    positive_zero = pl.when(value == 0.0).then(pl.lit(0.0)).otherwise(value)
    return pl.when(value.is_finite()).then(positive_zero)


def calendar_day(name: str, dtype: pl.DataType, date_format: str | None) -> pl.Expr:
    """Return a struct of `year`, `month` and `day` (Int32), null where unreadable.

    `day` is 0 where the cell or the format names none. Times and offsets are passed
    over: the date is taken as written.

    Raises
    ------
    ConfigError
        If `date_format` cannot be used.
    """
    has_day: bool | pl.Expr = True
    if isinstance(dtype, pl.Date | pl.Datetime):
        date = pl.col(name)
    elif date_format is not None:
        check_date_format(date_format)
        date, has_day = _by_format(plain_text(name, dtype), date_format)
    else:
        text = plain_text(name, dtype)
        date = pl.coalesce(
            pl.when(text.str.contains(ISO_DATE))
            .then(text.str.slice(0, 10).str.replace_all("/", "-", literal=True))
            .str.pad_end(8, "-")
            .pipe(_complete_month)
            .str.to_date("%Y-%m-%d", strict=False),
            pl.when(text.str.len_bytes() == 8)
            .then(text)
            .str.to_date("%Y%m%d", strict=False),
        )
        has_day = text.str.len_bytes() != 7
    day = pl.when(pl.lit(has_day) if isinstance(has_day, bool) else has_day).then(
        date.dt.day().cast(pl.Int32)
    )
    return pl.struct(
        date.dt.year().cast(pl.Int32).alias("year"),
        date.dt.month().cast(pl.Int32).alias("month"),
        day.otherwise(0).alias("day"),
    )


def _complete_month(text: pl.Expr) -> pl.Expr:
    """Return `2024-03-` (a padded year and month) as `2024-03-01`."""
    return pl.when(text.str.ends_with("-")).then(text + "01").otherwise(text)


def _by_format(text: pl.Expr, date_format: str) -> tuple[pl.Expr, bool]:
    """Return dates read by a strptime format, and whether it names the day."""
    has_day = bool(_tokens(date_format) & DAY_TOKENS)
    if not has_day:
        text, date_format = pl.lit("01 ") + text, f"%d {date_format}"
    return text.str.strptime(pl.Date, date_format, strict=False), has_day


def _tokens(date_format: str) -> set[str]:
    """Return the strptime tokens of a format, without padding marks."""
    return {f"%{letter}" for letter in re.findall(r"%[-_0]?(.)", date_format)}


def check_date_format(date_format: str) -> None:
    """Refuse a format that names no year or no month.

    Raises
    ------
    ConfigError
        With an example of a format that does.
    """
    tokens = _tokens(date_format)
    if not (tokens & YEAR_TOKENS and tokens & MONTH_TOKENS):
        raise ConfigError(
            f"`data.date_format` is `{date_format}`, which names no year and month. "
            "Expected strptime tokens, such as `%d.%m.%Y` or `%m/%d/%Y %H:%M`."
        )
