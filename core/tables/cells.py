"""Cells as received to ids, numbers, dates and moments of ours, with flags of faults.

Polars expressions, the same for a file of a million rows and for the records of one
request. Nothing is guessed: what cannot be read becomes null, and the row gets a flag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import polars as pl

from core.config import DataConfig
from core.errors import SchemaError, listed
from core.tables.columns import (
    FLAGS,
    MONTH,
    ROW,
    Column,
    TableSpec,
    fault_flags,
    match_columns,
)
from core.tables.dates import (
    calendar_day,
    day_number,
    month_number,
    plain_text,
    timestamp,
)
from core.tables.layout import month_columns, unpivoted
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
    lacking : sequence of str
        Our columns that were not received, and have their default in every row.
    """

    spec: TableSpec
    name: str
    rows: pl.LazyFrame
    received: pl.LazyFrame
    columns: Mapping[str, str]
    compared: list[pl.Expr]
    notes: list[str]
    lacking: Sequence[str] = ()

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
    table = _long(table, wanted, spec)
    schema = table.scan.collect_schema()
    try:
        columns, notes = match_columns(schema, wanted, spec, table.name)
    except SchemaError as error:
        raise SchemaError("\n".join([str(error), *table.notes])) from None
    _check_parts(table, columns, spec)
    lacking = [ours for ours, name in columns.items() if name not in schema]
    scan = table.scan.with_columns(
        pl.lit(spec[ours].default).alias(ours) for ours in lacking
    )
    schema = scan.collect_schema()
    received = scan.with_row_index(ROW, offset=1)
    if table.has_empty_rows:
        received = received.filter(~pl.all_horizontal(pl.all().exclude(ROW).is_null()))
    nested = [c for c, t in schema.items() if t.is_nested() or t == pl.Object]
    if has_hash and nested:
        notes.append(f"Not compared when looking for equal rows: {listed(nested)}.")
    compared = [_comparable(c, t) for c, t in schema.items() if c not in nested]
    notes = [*table.notes, *notes]
    parsed = ParsedRows(
        spec, table.name, received, received, columns, compared, notes, lacking
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


def _long(
    table: ReceivedTable, wanted: Mapping[str, str], spec: TableSpec
) -> ReceivedTable:
    """Return a table with a column for each month as one with a row for each."""
    values = [column.name for column in spec.columns if column.kind == "number"]
    columns = table.scan.collect_schema().names()
    given = {name.strip() for name in columns} | set(wanted)
    is_dated = any(column.kind == "day" for column in spec.columns)
    if not is_dated or given & {"date", "month", *values}:
        return table
    months = month_columns(columns)
    has_years = all(year is not None for year, _ in months.values())
    if not months or ("year" in given) == has_years:
        return table
    scan, note = unpivoted(table.scan, months, values[0])
    return replace(table, scan=scan, notes=(*table.notes, note), parts=())


def _check_parts(
    table: ReceivedTable, columns: Mapping[str, str], spec: TableSpec
) -> None:
    """Refuse a table with a file that lacks a column that the others have."""
    known = table.scan.collect_schema()
    needed = [n for ours, n in columns.items() if spec[ours].is_required and n in known]
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
    columns = [c for c in spec.columns if c.name in names]
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
            value, *told = calendar_day(name, dtype, date_format)
        case "moment":
            value, has_offset = timestamp(name, dtype, date_format)
            is_day_number = day_number(name, dtype).is_not_null()
            told = [
                has_offset.alias(f"offset_{column.name}"),
                is_day_number.alias(f"number_{column.name}"),
            ]
        case "name" | "word":
            value = plain_text(name, dtype)
        case "whole":
            value = _as_float(name, dtype)
        case "month":
            number, named = _as_float(name, dtype), month_number(name, dtype)
            value, told = (
                pl.coalesce(number, named),
                [named.is_not_null().alias("named")],
            )
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
            named = pl.lit(value=False).alias("named")
            return [year.alias("year"), month.alias("month"), named, day]
        case "whole" | "month":
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
            told = (pl.col(f"{what}_{column.name}") for what in ("offset", "number"))
            flags = [~is_possible, *told]
        case "day":
            kept = pl.col(DAY)
            flags = [pl.col(name) for name in ("is_number", "is_week", "is_iso")]
        case "whole" | "month":
            least, greatest = column.limits
            is_possible = _is_between(ours, least, greatest)
            kept, flags = pl.when(is_possible).then(ours), [~is_possible]
            if column.kind == "month":
                flags.append(pl.col("named"))
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
    return kept.alias(DAY if column.kind == "day" else column.name), flags


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
    text = plain_text(name, dtype)
    return ~text.is_in(list(MISSING_TEXTS)).fill_null(value=True)


def _is_ragged(schema: pl.Schema) -> pl.Expr:
    """Return whether a line goes on beyond the header's last column."""
    if BEYOND not in schema:
        return pl.lit(value=False).alias("is_ragged")
    beyond = pl.col(BEYOND).str.strip_chars() != ""
    return beyond.fill_null(value=False).alias("is_ragged")


def _id_text(name: str, dtype: pl.DataType) -> pl.Expr:
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
    text = plain_text(name, dtype)
    if decimal_comma:
        has_one_mark = text.str.count_matches("[.,]") <= 1
        pointed = text.str.replace(",", ".", literal=True)
        text = pl.when(has_one_mark).then(pointed)
    return text.cast(pl.Float64, strict=False)
