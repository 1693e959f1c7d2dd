"""Cells as received to ids, numbers, dates and moments of ours, with flags of faults.

Polars expressions, the same for a file of a million rows and for the records of one
request. Nothing is guessed: what cannot be read becomes null, and the row gets a flag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

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
    month_number,
    plain_text,
    timestamp,
)
from core.tables.layout import month_columns, unpivoted
from core.tables.marks import month_form, number, number_form, unusual
from core.tables.readers import BEYOND, ReceivedTable, Settled

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
# Texts of a flag, in lower case.
YES = ("true", "t", "yes", "y")
NO = ("false", "f", "no", "n")
# `17850.0` was a number on its way through a float; `007.0` was not, and stays.
# One or two zeros: in `10.000` the point may as well set off thousands.
FLOAT_TEXT = r"^(0|-?[1-9][0-9]*)\.00?$"
# What Excel and `%g` make of a long number: most of its digits are lost. R writes so
# what is shorter and exact: `1e+05`, `4.0128e+10`.
SCIENTIFIC = (
    r"^[+-]?\d([.,]\d+)?(E\+\d+|e\+(1[1-9]|[2-9]\d|\d{3,}))$"
    r"|^[+-]?\d[.,]\d{5,}e\+\d+$"
)
# As `core.tables.dates.timestamp` tells it.
TOLD_OF_MOMENTS = ("offset", "number", "iso")
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
    is_whole : bool
        Whether these are all rows of the table, in its order; else examples of them,
        whose numbers say nothing.
    settled : Settled, optional
        See `core.tables.readers.ReceivedTable`.
    """

    spec: TableSpec
    name: str
    rows: pl.LazyFrame
    received: pl.LazyFrame
    columns: Mapping[str, str]
    compared: list[pl.Expr]
    notes: list[str]
    lacking: Sequence[str] = ()
    is_whole: bool = True
    settled: Settled | None = None

    def at(self, row: int) -> str:
        """Return where a row is, for messages, if that is known."""
        return f" (row {row:,})" if self.is_whole else ""

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
        spec,
        table.name,
        received,
        received,
        columns,
        compared,
        notes,
        lacking,
        settled=table.settled,
    )
    steps = _parsing_steps(
        schema,
        columns,
        spec,
        date_format=data.date_format,
        excluded=data.exclude_ids,
        is_plain=table.is_plain,
    )
    rows, hashes = received, [HASH] if has_hash else []
    if has_hash:
        rows = rows.with_columns(parsed.hashed)
    if not table.is_plain:
        rows = rows.with_columns(_unwrapped(schema, columns, spec))
    rows = rows.select(ROW, *steps.read, *hashes)
    for step in (steps.looked_at, steps.numbers, steps.mended):
        rows = rows.with_columns(step)
    return replace(parsed, rows=rows.select(ROW, *steps.kept, *hashes))


def _unwrapped(
    schema: pl.Schema, received: Mapping[str, str], spec: TableSpec
) -> list[pl.Expr]:
    """Return text out of its formula, `="0001"` as `0001`, and without NUL."""
    unwrapped = []
    for ours, name in received.items():
        if not _is_text(schema[name]):
            continue
        text = pl.col(name).cast(pl.String, strict=False)
        is_odd = text.str.contains_any(['="', "\0"])
        odd = pl.when(is_odd).then(text.str.replace_all("\0", "", literal=True))
        inside = odd.str.strip_chars().str.extract(r'^="(.*)"$')
        unwrapped.append(pl.coalesce(inside, odd, text).alias(name))
        if spec[ours].kind == "id":
            unwrapped.append(is_odd.alias(f"odd_{ours}"))
    return unwrapped


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


def naive(moment: datetime) -> datetime:
    """Return a moment without its zone, in UTC if it had one."""
    if moment.tzinfo is None:
        return moment
    return moment.astimezone(UTC).replace(tzinfo=None)


def latest_moment() -> datetime:
    """Return the moment after which nothing can have happened, naive UTC.

    Clocks differ a little, and so do time zones: that is a day from now.
    """
    return naive(datetime.now(UTC)) + timedelta(days=1)


@dataclass(frozen=True)
class _Steps:
    """The expressions that read a table, in steps.

    An expression that is used twice would be evaluated twice.

    Attributes
    ----------
    read : list of polars.Expr
        Cells as typed.
    looked_at : list of polars.Expr
        What is unusual about a text, so that the rest is not looked at again.
    numbers, mended, kept : list of polars.Expr
        Text as numbers; values as far as they are possible; values and flags.
    """

    read: list[pl.Expr]
    looked_at: list[pl.Expr]
    numbers: list[pl.Expr]
    mended: list[pl.Expr]
    kept: list[pl.Expr]


def _parsing_steps(
    schema: pl.Schema,
    received: Mapping[str, str],
    spec: TableSpec,
    *,
    date_format: str | None = None,
    excluded: Sequence[str] = (),
    is_plain: bool = True,
) -> _Steps:
    """Return the expressions that read a table."""
    steps = _Steps([_is_ragged(schema)], [], [], [], [])
    for ours, name in received.items():
        column, dtype = spec[ours], schema[name]
        steps.read.extend(_as_typed(column, name, dtype, date_format))
        steps.mended.extend(_mended(column))
        if column.kind == "id":
            is_wrapped = _is_text(dtype) and not is_plain
            odd = pl.col(f"odd_{ours}") if is_wrapped else pl.lit(value=False)
            steps.read.append(odd.alias(f"odd_{ours}"))
            steps.looked_at.append(_scientific(pl.col(ours)).alias(f"long_{ours}"))
        if column.kind == "month":
            named = pl.col("named")
            steps.looked_at.append(pl.coalesce(ours, named).alias(ours))
            steps.looked_at.append(named.is_not_null().alias("named"))
        if _has_clues(column, dtype) and column.kind != "day":
            text, odd = pl.col(ours), pl.col(f"unusual_{ours}")
            steps.looked_at.append(unusual(text).alias(f"unusual_{ours}"))
            steps.numbers.append(number(text, odd).alias(ours))
            steps.numbers.append(number_form(text, odd).alias(f"form_{ours}"))
    names = set(received) | (set(MONTH) if "date" in received else set())
    columns = [c for c in spec.columns if c.name in names]
    found: dict[str, list[pl.Expr]] = {"ragged_line": [pl.col("is_ragged")]}
    for column in columns:
        value, flags = _finished(column)
        steps.kept.append(value)
        for flag, is_found in zip(column.flags, flags, strict=True):
            found.setdefault(flag, []).append(is_found)
    for fault, condition in spec.checks.items():
        found.setdefault(fault, []).append(pl.sql_expr(condition))
    if excluded and "excluded_id" in spec.meanings:
        found["excluded_id"] = [steps.kept[0].is_in(excluded)]
    for ours, name in received.items():
        if _has_clues(spec[ours], schema[name]):
            found |= _clues_found(spec[ours])
    any_found = {
        flag: pl.any_horizontal(each) if len(each) > 1 else each[0]
        for flag, each in found.items()
        if flag
    }
    steps.kept.append(fault_flags(spec, any_found).alias(FLAGS))
    return steps


def _as_typed(
    column: Column,
    name: str,
    dtype: pl.DataType,
    date_format: str | None,
) -> list[pl.Expr]:
    """Return the cells of a column as values, and what only they as typed can tell.

    Numbers typed as text are text still.
    """
    told: list[pl.Expr] = []
    match column.kind:
        case "id":
            value = _id_text(name, dtype)
        case "day":
            value, *told = calendar_day(name, dtype, date_format)
            if _has_clues(column, dtype):
                form = month_form(plain_text(name, dtype))
                told.append(form.alias(f"form_{column.name}"))
        case "moment":
            value, *found = timestamp(name, dtype, date_format)
            told = [
                is_so.alias(f"{what}_{column.name}")
                for what, is_so in zip(TOLD_OF_MOMENTS, found, strict=True)
            ]
        case "name" | "word":
            value = plain_text(name, dtype)
        case "flag":
            value = _as_flag(name, dtype)
            told = [_is_given(name, dtype).alias(f"given_{column.name}")]
        case "whole":
            value = _as_float(name, dtype)
        case "month":
            value = _as_float(name, dtype)
            told = [month_number(name, dtype).alias("named")]
        case _:
            value = _as_float(name, dtype)
            if _has_clues(column, dtype):
                value = plain_text(name, dtype)
            told = [_is_given(name, dtype).alias(f"given_{column.name}")]
    return [value.alias(column.name), *told]


def _is_text(dtype: pl.DataType) -> bool:
    """Return whether cells are text."""
    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum | pl.Binary)


def _has_clues(column: Column, dtype: pl.DataType) -> bool:
    """Return whether cells are text that shows how their column was written."""
    return _is_text(dtype) and bool(column.clues)


def _clues_found(column: Column) -> dict[str, list[pl.Expr]]:
    """Return of each clue whether a cell gives it, of numbers one that can be read."""
    is_read = pl.col(column.name).is_not_null() | (column.kind == "day")
    form = pl.col(f"form_{column.name}")
    return {clue: [is_read & (form == i)] for i, clue in enumerate(column.clues, 1)}


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
            flags += [pl.col(f"odd_{column.name}"), pl.col(f"long_{column.name}")]
        case "moment":
            is_possible = _is_between(ours.dt.year(), FIRST_YEAR, LAST_YEAR)
            kept = pl.when(is_possible).then(ours)
            told = (pl.col(f"{what}_{column.name}") for what in TOLD_OF_MOMENTS)
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
        case "flag":
            kept = ours.fill_null(value=False)
            flags = [pl.col(f"given_{column.name}") & ours.is_null()]
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


def _scientific(text: pl.Expr) -> pl.Expr:
    """Return whether an id is a number of which digits are lost."""
    marked = pl.when(text.str.contains_any(["E+", "e+"])).then(text)
    return marked.str.contains(SCIENTIFIC).fill_null(value=False)


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


def mended_ids(ids: pl.Series) -> pl.Series:
    """Return ids as text: `17850.0` as `17850`; what stands for nothing is null."""
    text = _id_text(ids.name, ids.dtype)
    return ids.to_frame().select(_mended_id(text, _is_float_text(text))).to_series()


def _as_float(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return cells as Float64; null where they are no number, not even NaN."""
    if dtype.is_numeric() or isinstance(dtype, pl.Boolean):
        return pl.col(name).cast(pl.Float64, strict=False)
    return plain_text(name, dtype).cast(pl.Float64, strict=False)


def _as_flag(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return cells as Boolean: yes or no in words, or a number that is 0 or not."""
    number = _as_float(name, dtype)
    is_set = pl.when(number.is_not_nan()).then(number != 0)
    if not _is_text(dtype):
        return is_set
    text = plain_text(name, dtype).str.to_lowercase()
    is_yes = pl.when(text.is_in(YES)).then(True).when(text.is_in(NO)).then(False)
    return pl.coalesce(is_yes, is_set)
