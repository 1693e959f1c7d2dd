"""Cells as received to ids, numbers, dates and moments, as Polars expressions.

Nothing is guessed: what cannot be read becomes null, and the caller counts it.

One pass of expressions, the same for a file of a million rows and for the records of
one request. What cannot be read becomes null and a mark; nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import polars as pl

from core.errors import ConfigError, SchemaError
from core.tables.columns import ORDERS, TableSpec
from core.tables.faults import BITS, MARKS, ROW
from core.tables.readers import BEYOND

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


_ISO_TEXT = (
    r"^\d{4}-\d{2}-\d{2}( \d{2}:\d{2}(:\d{2}(\.\d+)?)?( ?(Z|[+-]\d{2}:?\d{2}))?)?$"
)
_OFFSET = r"(Z|[+-]\d{2}:?\d{2})$"


def parse_timestamp(
    name: str, dtype: pl.DataType, date_format: str | None
) -> tuple[pl.Expr, pl.Expr]:
    """Return moments, and whether a zone or an offset was given and taken off.

    Parameters
    ----------
    name : str
        Column as received.
    dtype : polars.DataType
        Its type.
    date_format : str or None
        strptime format of text; None: ISO 8601, or the numbers of `_epoch`.

    Returns
    -------
    polars.Expr, polars.Expr
        Datetime("us") without a zone, in UTC where one was given, null where
        unreadable; and a Boolean.
    """
    column, has_offset = pl.col(name), pl.lit(value=False)
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is not None:
            has_offset = column.is_not_null()
            column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        moment = column.dt.cast_time_unit("us")
    elif isinstance(dtype, pl.Date):
        moment = column.cast(pl.Datetime("us"))
    elif dtype.is_numeric():
        moment = _epoch(column.cast(pl.Float64))
    else:
        moment, has_offset = _from_text(plain_text(name, dtype), date_format)
    return moment, has_offset


def _from_text(text: pl.Expr, date_format: str | None) -> tuple[pl.Expr, pl.Expr]:
    """Return moments typed as text, and whether an offset was given and taken off."""
    if date_format is not None:
        check_date_format(date_format)
        read = text.str.strptime(pl.Datetime("us"), date_format, strict=False)
        # A format without a time of day is one of a date.
        day = text.str.strptime(pl.Date, date_format, strict=False)
        return pl.coalesce(read, day.cast(pl.Datetime("us"))), pl.lit(value=False)
    plain = text.str.replace("T", " ", literal=True).str.replace_all(
        "/", "-", literal=True
    )
    plain = plain.str.replace(",", ".", literal=True)
    iso = pl.when(plain.str.contains(_ISO_TEXT)).then(plain)
    has_offset = (iso.str.len_bytes() > 16) & iso.str.contains(_OFFSET)
    local = (
        pl.when(has_offset)
        .then(iso.str.replace(_OFFSET, "").str.strip_chars_end())
        .otherwise(iso)
    )
    n = local.str.len_bytes()
    tail = pl.when(n == 10).then(pl.lit(" 00:00:00")).when(n == 16).then(pl.lit(":00"))
    full = local + tail.otherwise(pl.lit(""))
    read = full.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    shift = pl.when(has_offset).then(_offset_minutes(iso)).otherwise(0)
    number = text.str.contains(r"^\d{8,19}$")
    epoch = _epoch(pl.when(number).then(text).cast(pl.Float64, strict=False))
    moment = pl.coalesce(read - pl.duration(minutes=shift), epoch)
    return moment, has_offset.fill_null(value=False)


def _offset_minutes(iso: pl.Expr) -> pl.Expr:
    """Return the minutes by which a local time is ahead of UTC; 0 for `Z`."""
    parts = iso.str.extract_groups(r"([+-])(\d{2}):?(\d{2})$")
    hours = parts.struct.field("2").cast(pl.Int32, strict=False)
    minutes = parts.struct.field("3").cast(pl.Int32, strict=False)
    sign = pl.when(parts.struct.field("1") == "-").then(-1).otherwise(1)
    return (sign * (hours * 60 + minutes)).fill_null(0)


def _epoch(value: pl.Expr) -> pl.Expr:
    """Return moments from numbers: YYYYMMDD, or time since 1970.

    The size tells the unit: below 1e11 seconds (until the year 5138), below 1e14
    milliseconds, below 1e17 microseconds, else nanoseconds. Numbers of 8 digits are
    calendar days; as seconds they would be of 1970.
    """
    whole = pl.when(value.is_finite() & (value.abs() < 1e19)).then(value)
    is_day = whole.is_between(19_000_101, 21_991_231)
    day = pl.when(is_day).then(whole).cast(pl.Int64, strict=False).cast(pl.String)
    day = day.str.to_date("%Y%m%d", strict=False).cast(pl.Datetime("us"))
    size = whole.abs()
    micros = (
        pl.when(size < 1e11)
        .then(whole * 1e6)
        .when(size < 1e14)
        .then(whole * 1e3)
        .when(size < 1e17)
        .then(whole)
        .otherwise(whole / 1e3)
    )
    since_1970 = micros.round().cast(pl.Int64, strict=False).cast(pl.Datetime("us"))
    return pl.when(is_day).then(day).when(size >= 1e8).then(since_1970)


UNKNOWN = "unknown"
LARGEST = 1e9
FIRST_YEAR, LAST_YEAR = 1900, 2199


def read_cells(
    schema: pl.Schema,
    received: Mapping[str, str],
    spec: TableSpec,
    *,
    decimal_comma: bool = False,
    date_format: str | None = None,
) -> tuple[list[pl.Expr], list[pl.Expr]]:
    """Return the expressions that read a table, in two steps.

    Parameters
    ----------
    schema : polars.Schema
        Columns as received.
    received : mapping of str to str
        Our name: the name as received.
    spec : TableSpec
        Which table it is.
    decimal_comma : bool
        Whether a comma in a number typed as text is its decimal mark.
    date_format : str or None
        strptime format of dates typed as text; None: ISO 8601, or epoch numbers.

    Returns
    -------
    list of polars.Expr, list of polars.Expr
        To be selected one after the other; `ROW` must be there. The result has `ROW`,
        our columns (String, Datetime("us"), Float64) and `MARKS`, a UInt32 with a bit
        of `BITS` for each fault and repair.
    """
    first: list[pl.Expr] = [pl.col(ROW)]
    for ours, name in received.items():
        kind, dtype = spec[ours].kind, schema[name]
        if kind == "id":
            text = id_text(name, dtype)
            first += [
                text.alias(ours),
                is_float_text(text).alias(f"float_{ours}"),
            ]
        elif kind == "moment":
            moment, has_offset = parse_timestamp(name, dtype, date_format)
            first += [moment.alias(ours), has_offset.alias("has_offset")]
        elif kind == "number":
            value = as_float(name, dtype, decimal_comma=decimal_comma)
            first += [value.alias(ours), _is_given(name, dtype).alias(f"given_{ours}")]
        else:
            first.append(plain_text(name, dtype).alias(ours))
    first.append(_is_ragged(schema))
    return first, _second_step(received, spec)


def _second_step(received: Mapping[str, str], spec: TableSpec) -> list[pl.Expr]:
    """Return our columns with unusable cells null, and the marks."""
    values = [_value(ours, spec) for ours in received if spec[ours].is_required]
    values += [_value(ours, spec) for ours in received if not spec[ours].is_required]
    marks = _order_marks(received) if spec is ORDERS else _item_marks(received)
    ids = [f"float_{ours}" for ours in received if spec[ours].kind == "id"]
    marks["float_id"] = pl.any_horizontal(ids)
    marks["ragged_line"] = pl.col("is_ragged")
    bits = [
        is_found.fill_null(value=False).cast(pl.UInt32) * BITS[spec.name][name]
        for name, is_found in marks.items()
    ]
    return [pl.col(ROW), *values, pl.sum_horizontal(bits).cast(pl.UInt32).alias(MARKS)]


def _value(ours: str, spec: TableSpec) -> pl.Expr:
    """Return one of our columns as it is kept."""
    column, kind = pl.col(ours), spec[ours].kind
    if kind == "id":
        return mended_id(column, pl.col(f"float_{ours}")).alias(ours)
    if kind == "moment":
        return pl.when(_is_possible(column)).then(column).alias(ours)
    if kind == "text":
        known = pl.when(~_is_nothing(ours)).then(column).otherwise(pl.lit(UNKNOWN))
        # Channels are a vocabulary: `Web` and `web` are one. Categories are names.
        return (known.str.to_lowercase() if ours == "source" else known).alias(ours)
    if spec[ours].is_required:
        return pl.when(_is_usable(column)).then(finite(column)).alias(ours)
    # An empty discount or refund is none; so is one that cannot be meant (counted).
    usable = _is_usable(column) & (column > 0)
    return pl.when(usable).then(column).otherwise(0.0).alias(ours)


def _order_marks(received: Mapping[str, str]) -> dict[str, pl.Expr]:
    """Return what an order row shows by itself."""
    marks = {
        "missing_customer": _is_nothing("customer_id"),
        "missing_order": _is_nothing("order_id"),
        "impossible_date": ~_is_possible(pl.col("order_date")),
        "invalid_total": ~_is_usable(pl.col("total_price")),
        "with_offset": pl.col("has_offset"),
    }
    if "discount_amount" in received:
        marks |= _deduction_marks("discount_amount", "discount")
    if "source" in received:
        marks["unknown_source"] = _is_nothing("source")
    return marks


def _item_marks(received: Mapping[str, str]) -> dict[str, pl.Expr]:
    """Return what an item row shows by itself."""
    quantity, price = pl.col("quantity"), pl.col("price")
    is_priced = _is_usable(price) & ~((price < 0) & (quantity < 0))
    marks = {
        "missing_order": _is_nothing("order_id"),
        "missing_product": _is_nothing("product_id"),
        "invalid_quantity": ~_is_usable(quantity),
        "invalid_price": ~is_priced,
    }
    if "refund_amount" in received:
        marks |= _deduction_marks("refund_amount", "refund")
    if "category" in received:
        marks["unknown_category"] = _is_nothing("category")
    return marks


def _deduction_marks(ours: str, word: str) -> dict[str, pl.Expr]:
    """Return what is odd about an amount that is at least 0, or empty."""
    column = pl.col(ours)
    is_usable = _is_usable(column)
    return {
        f"unusable_{word}": pl.col(f"given_{ours}") & ~is_usable,
        f"negative_{word}": is_usable & (column < 0),
        f"empty_{word}": ~pl.col(f"given_{ours}"),
    }


def _is_usable(column: pl.Expr) -> pl.Expr:
    """Return whether a number is finite and within +-1e9."""
    is_within = column.is_finite() & (column.abs() <= LARGEST)
    return is_within.fill_null(value=False)


def _is_possible(moment: pl.Expr) -> pl.Expr:
    """Return whether a date was read, and lies in the years 1900 to 2199."""
    year = moment.dt.year()
    return year.is_between(FIRST_YEAR, LAST_YEAR).fill_null(value=False)


def _is_nothing(ours: str) -> pl.Expr:
    """Return whether an id or a text is empty or stands for nothing."""
    return pl.col(ours).is_in(list(MISSING_TEXTS)).fill_null(value=True)


def _is_given(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return whether a cell holds anything, be it a number or not."""
    if dtype.is_float():
        return pl.col(name).is_not_nan().fill_null(value=False)
    if dtype != pl.String:
        return pl.col(name).is_not_null()
    text = plain_text(name, dtype)
    return ~text.is_in(list(MISSING_TEXTS)).fill_null(value=True)


def _is_ragged(schema: pl.Schema) -> pl.Expr:
    """Return whether a line goes on beyond the header's last column."""
    if BEYOND not in schema:
        return pl.lit(value=False).alias("is_ragged")
    beyond = pl.col(BEYOND).str.strip_chars() != ""
    return beyond.fill_null(value=False).alias("is_ragged")
