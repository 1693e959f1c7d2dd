"""Cells as received to ids, numbers, dates and moments of ours, with flags of faults.

Polars expressions, the same for a file of a million rows and for the records of one
request. Nothing is guessed: what cannot be read becomes null, and the row gets a flag.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import polars as pl

from core.config import DataConfig
from core.errors import ConfigError, SchemaError, listed
from core.tables.columns import (
    FLAGS,
    MONTH,
    ROW,
    Column,
    TableSpec,
    fault_flags,
    match_columns,
)
from core.tables.readers import BEYOND, ReceivedTable

# Where dates are known: year, month and day as one number.
DAY = "__day__"
# Of all received cells of a row.
HASH = "__hash__"
UNKNOWN = "unknown"
LARGEST = 1e9
FIRST_YEAR, LAST_YEAR = 1900, 2199
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
ISO_MOMENT = (
    r"^\d{4}-\d{2}-\d{2}( \d{2}:\d{2}(:\d{2}(\.\d+)?)?( ?(Z|[+-]\d{2}:?\d{2}))?)?$"
)
OFFSET = r"(Z|[+-]\d{2}:?\d{2})$"


@dataclass(frozen=True)
class ParsedRows:
    """The rows of one table with their values and flags.

    Attributes
    ----------
    spec : TableSpec
        Which table it is.
    name : str
        What it is called in messages.
    rows : polars.LazyFrame
        `ROW`, our columns, `DAY` where dates are known, `FLAGS`, and `HASH` if asked
        for.
    received : polars.LazyFrame
        `ROW`, numbered from 1, and the columns as received.
    columns : dict of str to str
        Our name: the name as received.
    compared : list of polars.Expr
        The received cells that make two rows equal; `HASH` is of them.
    notes : list of str
        What the user should know about how it was read.
    """

    spec: TableSpec
    name: str
    rows: pl.LazyFrame
    received: pl.LazyFrame
    columns: Mapping[str, str]
    compared: list[pl.Expr]
    notes: list[str]

    @property
    def hashed(self) -> pl.Expr:
        """`HASH` of the received cells."""
        return pl.struct(self.compared).hash(seed=0).alias(HASH)


def parse_rows(
    table: ReceivedTable,
    wanted: Mapping[str, str],
    spec: TableSpec,
    data: DataConfig,
    *,
    has_hash: bool = False,
) -> ParsedRows:
    """Match the columns of a table, and read and flag its rows, lazily.

    Parameters
    ----------
    table : ReceivedTable
        Rows as received.
    wanted : mapping of str to str
        The user's names, our name: their name.
    spec : TableSpec
        Which table it is.
    data : DataConfig
        Format of dates.
    has_hash : bool
        Whether rows get a `HASH`, by which equal ones are found.

    Raises
    ------
    ConfigError, SchemaError
        As `core.tables.columns.match_columns`, or if a file lacks a column that others
        have.
    """
    schema = table.scan.collect_schema()
    columns, notes = match_columns(schema, wanted, spec, table.name)
    _check_parts(table, columns, spec)
    received = table.scan.with_row_index(ROW, offset=1)
    if table.has_empty_rows:
        received = received.filter(~pl.all_horizontal(pl.all().exclude(ROW).is_null()))
    nested = [c for c, t in schema.items() if t.is_nested() or t == pl.Object]
    if has_hash and nested:
        notes.append(f"Not compared when looking for equal rows: {listed(nested)}.")
    compared = [_comparable(c, t) for c, t in schema.items() if c not in nested]
    parsed = ParsedRows(
        spec, table.name, received, received, columns, compared, [*table.notes, *notes]
    )
    read, mended, kept = _parsing_steps(
        schema,
        columns,
        spec,
        decimal_comma=table.decimal_comma,
        date_format=data.date_format,
    )
    hashed = [parsed.hashed] if has_hash else []
    rows = received.select(ROW, *read, *hashed).with_columns(mended)
    return replace(parsed, rows=rows.select(ROW, *kept, *[HASH for _ in hashed]))


def _check_parts(
    table: ReceivedTable, columns: Mapping[str, str], spec: TableSpec
) -> None:
    """Refuse a table with a file that lacks a column that the others have."""
    needed = [name for ours, name in columns.items() if spec[ours].is_required]
    for name, found in table.parts:
        if lacking := [column for column in needed if column not in found]:
            raise SchemaError(
                f"{table.name}: {name} has no column {listed(lacking)}, which other "
                f"files have; it has {listed([c for c in found if c != BEYOND], 30)}. "
                "Name files of one make only, or rename its columns."
            )


def _comparable(column: str, dtype: pl.DataType) -> pl.Expr:
    """Return a column in a form that hashes and groups the same in every chunk."""
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return pl.col(column).cast(pl.String)
    return pl.col(column)


def parse_records(
    records: Sequence[Mapping[str, Any]], spec: TableSpec, **same: Any
) -> ParsedRows:
    """Read and flag the records of a request, in which every column may be missing.

    Parameters
    ----------
    records : sequence of mapping
        Our names: values; a date without a zone is taken for UTC.
    spec : TableSpec
        Which table it is.
    **same
        Columns with one value for all records.
    """
    series = [pl.int_range(1, len(records) + 1, dtype=pl.UInt32, eager=True).alias(ROW)]
    types, steps = _record_steps(spec)
    for name, dtype in types.items():
        values = [record.get(name) for record in records]
        if name in same:
            values = [same[name]] * len(records)
        if dtype == pl.Datetime:
            values = [naive(v) if isinstance(v, datetime) else v for v in values]
        series.append(pl.Series(name, values, dtype=dtype, strict=False))
    received = pl.DataFrame(series)
    read, mended, kept = steps
    rows = received.select(ROW, *read).with_columns(mended).select(ROW, *kept)
    columns = {name: name for name in types}
    name = f"the {spec.name}"
    return ParsedRows(spec, name, rows.lazy(), received.lazy(), columns, [], [])


@cache
def _record_steps(spec: TableSpec) -> tuple[pl.Schema, tuple[list[pl.Expr], ...]]:
    """Return the types of records, always the same, and how they are read."""
    text, number = pl.String(), pl.Float64()
    types = {"moment": pl.Datetime("us"), "number": number, "amount": number}
    schema = pl.Schema({c.name: types.get(c.kind, text) for c in spec.columns})
    return schema, _parsing_steps(schema, {name: name for name in schema}, spec)


def naive(moment: datetime) -> datetime:
    """Return a moment without its zone, in UTC if it had one."""
    if moment.tzinfo is None:
        return moment
    return moment.astimezone(UTC).replace(tzinfo=None)


def _parsing_steps(
    schema: pl.Schema,
    received: Mapping[str, str],
    spec: TableSpec,
    *,
    decimal_comma: bool = False,
    date_format: str | None = None,
) -> tuple[list[pl.Expr], list[pl.Expr], list[pl.Expr]]:
    """Return the expressions that read a table: as typed, mended, and as kept.

    In steps, since an expression that is used twice would be evaluated twice.
    """
    read, mended = [_is_ragged(schema)], []
    for ours, name in received.items():
        column, dtype = spec[ours], schema[name]
        read += _as_typed(column, name, dtype, decimal_comma, date_format)
        mended += _mended(column)
    names = set(received) | (set(MONTH) if "date" in received else set())
    columns = [c for c in spec.columns if c.name in names and c.kind != "day"]
    found: dict[str, list[pl.Expr]] = {"ragged_line": [pl.col("is_ragged")]}
    kept = []
    for column in columns:
        value, flags = _finished(column)
        kept.append(value)
        for flag, is_found in zip(column.flags, flags, strict=True):
            found.setdefault(flag, []).append(is_found)
    for fault, condition in spec.checks.items():
        found.setdefault(fault, []).append(pl.sql_expr(condition))
    any_found = {
        flag: pl.any_horizontal(each) if len(each) > 1 else each[0]
        for flag, each in found.items()
        if flag
    }
    if "date" in received:
        kept.append(pl.col(DAY))
    return read, mended, [*kept, fault_flags(spec, any_found).alias(FLAGS)]


def _as_typed(
    column: Column,
    name: str,
    dtype: pl.DataType,
    decimal_comma: bool,
    date_format: str | None,
) -> list[pl.Expr]:
    """Return the cells of a column as values, and what only they as typed can tell."""
    told: list[pl.Expr] = []
    match column.kind:
        case "id":
            value = _id_text(name, dtype)
        case "day":
            value, has_day = _calendar_day(name, dtype, date_format)
            told = [has_day.alias("has_day")]
        case "moment":
            value, has_offset = parse_timestamp(name, dtype, date_format)
            told = [has_offset.alias(f"offset_{column.name}")]
        case "name" | "word":
            value = _plain_text(name, dtype)
        case "whole":
            value = _as_float(name, dtype)
        case _:
            value = _as_float(name, dtype, decimal_comma=decimal_comma)
            told = [_is_given(name, dtype).alias(f"given_{column.name}")]
    return [value.alias(column.name), *told]


def _mended(column: Column) -> list[pl.Expr]:
    """Return values with what no column can hold as null, and what tells of mending."""
    ours = pl.col(column.name)
    match column.kind:
        case "id":
            return [_is_float_text(ours).alias(f"float_{column.name}")]
        case "day":
            year, month = ours.dt.year(), ours.dt.month().cast(pl.Int32)
            number = year * 10_000 + month * 100 + ours.dt.day()
            day = pl.when(pl.col("has_day")).then(number).alias(DAY)
            return [year.alias("year"), month.alias("month"), day]
        case "whole":
            whole = pl.when(ours == ours.floor()).then(ours)
            return [whole.cast(pl.Int32, strict=False)]
        case "number" | "amount" | "value":
            # -0.0 becomes 0.0, so that equal quantities are equal bits.
            unsigned = pl.when(ours == 0.0).then(pl.lit(0.0)).otherwise(ours)
            return [pl.when(ours.is_finite()).then(unsigned).alias(column.name)]
        case _:
            return []


def _finished(column: Column) -> tuple[pl.Expr, list[pl.Expr]]:
    """Return a column as it is kept, null where unusable, and its flags in order."""
    ours = pl.col(column.name)
    match column.kind:
        case "id":
            is_float = pl.col(f"float_{column.name}")
            kept, flags = _mended_id(ours, is_float), [_is_nothing(ours), is_float]
        case "moment":
            is_possible = _is_between(ours.dt.year(), FIRST_YEAR, LAST_YEAR)
            kept = pl.when(is_possible).then(ours)
            flags = [~is_possible, pl.col(f"offset_{column.name}")]
        case "whole":
            least, greatest = column.limits
            is_possible = _is_between(ours, least, greatest)
            kept, flags = pl.when(is_possible).then(ours), [~is_possible]
        case "number":
            is_usable = _is_between(ours, -LARGEST, LARGEST)
            kept, flags = pl.when(is_usable).then(ours), [~is_usable]
        case "amount":
            is_given = pl.col(f"given_{column.name}")
            is_usable = _is_between(ours, -LARGEST, LARGEST)
            kept = pl.when(is_usable & (ours > 0)).then(ours).otherwise(0.0)
            flags = [is_given & ~is_usable, is_usable & (ours < 0), ~is_given]
        case "name" | "word":
            is_empty = _is_nothing(ours)
            known = pl.when(~is_empty).then(ours).otherwise(pl.lit(UNKNOWN))
            kept = known.str.to_lowercase() if column.kind == "word" else known
            flags = [is_empty]
        case _:
            kept, flags = ours, [pl.col(f"given_{column.name}") & ours.is_null()]
    return kept.alias(column.name), flags


def _is_between(value: pl.Expr, low: float, high: float) -> pl.Expr:
    """Return whether a value is there and within limits."""
    return value.is_between(low, high).fill_null(value=False)


def _is_nothing(text: pl.Expr) -> pl.Expr:
    """Return whether an id or a text is empty or stands for nothing."""
    return text.is_in(list(MISSING_TEXTS)).fill_null(value=True)


def _is_given(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return whether a cell holds anything, be it a number or not."""
    if dtype.is_float():
        return pl.col(name).is_not_nan().fill_null(value=False)
    if dtype != pl.String:
        return pl.col(name).is_not_null()
    text = _plain_text(name, dtype)
    return ~text.is_in(list(MISSING_TEXTS)).fill_null(value=True)


def _is_ragged(schema: pl.Schema) -> pl.Expr:
    """Return whether a line goes on beyond the header's last column."""
    if BEYOND not in schema:
        return pl.lit(value=False).alias("is_ragged")
    beyond = pl.col(BEYOND).str.strip_chars() != ""
    return beyond.fill_null(value=False).alias("is_ragged")


def _plain_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return the cells as text without spaces around; unreadable bytes are null."""
    text = pl.col(name).cast(pl.String, strict=False)
    is_typed = dtype.is_numeric() or isinstance(dtype, pl.Boolean)
    return text if is_typed else text.str.strip_chars()


def _id_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return ids as text, not mended yet: a float as `17850.0`, NaN as null."""
    text = _plain_text(name, dtype)
    if not dtype.is_float():
        return text
    value = pl.col(name).cast(pl.Float64)
    is_whole = (value == value.floor()) & (value.abs() < LARGEST_EXACT_FLOAT)
    # Spelt out, since large floats are otherwise written as powers of ten.
    whole = value.cast(pl.Int64, strict=False).cast(pl.String) + ".0"
    return pl.when(value.is_finite()).then(
        pl.when(is_whole).then(whole).otherwise(text)
    )


def _is_float_text(text: pl.Expr) -> pl.Expr:
    """Return whether an id is a whole number that was written as a float."""
    # The regular expression costs five times the rest, and is rarely needed.
    ends_in_zero = text.str.ends_with(".0") | text.str.ends_with(".00")
    is_float = pl.when(ends_in_zero).then(text).str.contains(FLOAT_TEXT)
    return is_float.fill_null(value=False)


def _mended_id(text: pl.Expr, is_float: pl.Expr) -> pl.Expr:
    """Return `17850.0` as `17850`, and texts that stand for nothing as null."""
    # Cut off in two steps, so that the zeros of 100.0 before the point stay.
    cut = pl.when(is_float).then(text).str.strip_chars_end("0")
    mended = pl.when(is_float).then(cut.str.strip_suffix(".")).otherwise(text)
    return pl.when(~_is_nothing(text)).then(mended)


def _as_float(name: str, dtype: pl.DataType, *, decimal_comma: bool = False) -> pl.Expr:
    """Return cells as Float64; null where they are no number, not even NaN.

    Thousands separators are not guessed. With `decimal_comma`, text such as `3,5` is
    read as 3.5, and text with a point keeps its meaning as long as it has no comma.
    """
    if dtype.is_numeric() or isinstance(dtype, pl.Boolean):
        return pl.col(name).cast(pl.Float64, strict=False)
    text = _plain_text(name, dtype)
    if decimal_comma:
        has_one_mark = text.str.count_matches("[.,]") <= 1
        pointed = text.str.replace(",", ".", literal=True)
        text = pl.when(has_one_mark).then(pointed)
    return text.cast(pl.Float64, strict=False)


def _calendar_day(
    name: str, dtype: pl.DataType, date_format: str | None
) -> tuple[pl.Expr, pl.Expr]:
    """Return dates, null where unreadable, and whether a cell or the format has a day.

    Times and offsets are passed over: the date is taken as written.
    """
    if isinstance(dtype, pl.Date | pl.Datetime):
        return pl.col(name).dt.date(), pl.lit(value=True)
    text = _plain_text(name, dtype)
    if date_format is not None:
        _check_date_format(date_format)
        has_day = bool(_tokens(date_format) & DAY_TOKENS)
        if not has_day:
            text, date_format = pl.lit("01 ") + text, f"%d {date_format}"
        return text.str.strptime(pl.Date, date_format, strict=False), pl.lit(has_day)
    iso = pl.when(text.str.contains(ISO_DATE)).then(text.str.slice(0, 10))
    padded = iso.str.replace_all("/", "-", literal=True).str.pad_end(8, "-")
    # A year and a month become `2024-03-`.
    full = pl.when(padded.str.ends_with("-")).then(padded + "01").otherwise(padded)
    digits = pl.when(text.str.len_bytes() == 8).then(text)
    date = pl.coalesce(
        full.str.to_date("%Y-%m-%d", strict=False),
        digits.str.to_date("%Y%m%d", strict=False),
    )
    return date, text.str.len_bytes() != 7


def _tokens(date_format: str) -> set[str]:
    """Return the strptime tokens of a format, without padding marks."""
    return {f"%{letter}" for letter in re.findall(r"%[-_0]?(.)", date_format)}


def _check_date_format(date_format: str) -> None:
    """Refuse a format that names no year or no month."""
    tokens = _tokens(date_format)
    if not (tokens & YEAR_TOKENS and tokens & MONTH_TOKENS):
        raise ConfigError(
            f"`data.date_format` is `{date_format}`, which names no year and month. "
            "Expected strptime tokens, such as `%d.%m.%Y` or `%m/%d/%Y %H:%M`."
        )


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
        moment, has_offset = _from_text(_plain_text(name, dtype), date_format)
    return moment, has_offset


def _from_text(text: pl.Expr, date_format: str | None) -> tuple[pl.Expr, pl.Expr]:
    """Return moments typed as text, and whether an offset was given and taken off."""
    if date_format is not None:
        _check_date_format(date_format)
        read = text.str.strptime(pl.Datetime("us"), date_format, strict=False)
        # A format without a time of day is one of a date.
        day = text.str.strptime(pl.Date, date_format, strict=False)
        return pl.coalesce(read, day.cast(pl.Datetime("us"))), pl.lit(value=False)
    plain = text.str.replace("T", " ", literal=True)
    plain = plain.str.replace_all("/", "-", literal=True)
    plain = plain.str.replace(",", ".", literal=True)
    iso = pl.when(plain.str.contains(ISO_MOMENT)).then(plain)
    has_offset = (iso.str.len_bytes() > 16) & iso.str.contains(OFFSET)
    naive_text = iso.str.replace(OFFSET, "").str.strip_chars_end()
    local = pl.when(has_offset).then(naive_text).otherwise(iso)
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
    small = pl.when(size < 1e11).then(whole * 1e6).when(size < 1e14).then(whole * 1e3)
    micros = small.when(size < 1e17).then(whole).otherwise(whole / 1e3)
    since_1970 = micros.round().cast(pl.Int64, strict=False).cast(pl.Datetime("us"))
    return pl.when(is_day).then(day).when(size >= 1e8).then(since_1970)
