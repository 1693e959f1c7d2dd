"""The first pass over received rows: cells become values, faults become marks.

The result is a file in which each row has its number, our columns, a bit for each fault
of its own, and a hash of all its received cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from core.config import DataConfig
from core.data import cells
from core.data.csvfile import BEYOND
from core.data.intake import ROW_FAULTS
from core.data.readers import Table
from core.data.schema import SALES_SCHEMA, ColumnMap, match_columns
from core.data.twins import HASH, ROW, comparable
from core.errors import SchemaError, listed

MARKS = "__marks__"
DAY = "__day__"
FIRST_YEAR, LAST_YEAR = 1900, 2199
LARGEST_QUANTITY = 1e9
REPAIRS = ("float_shop_id", "float_product_id", "unreadable_sales_value")
BITS = {name: 1 << i for i, name in enumerate((*ROW_FAULTS, *REPAIRS))}


@dataclass(frozen=True)
class Staged:
    """Rows with their marks, on disk.

    Attributes
    ----------
    received : polars.LazyFrame
        All received columns, and `ROW`, numbered from 1.
    compared : list of polars.Expr
        The received cells that make two rows equal.
    hashed : polars.Expr
        `HASH` of these cells.
    columns : ColumnMap
        Which received column is which of ours.
    path : Path
        Parquet of `ROW`, our columns, `DAY` (year, month and day as one number, null
        where unknown), `MARKS` and `HASH`, in the order of the rows.
    notes : list of str
        What the user should know.
    """

    received: pl.LazyFrame
    compared: list[pl.Expr]
    hashed: pl.Expr
    columns: ColumnMap
    path: Path
    notes: list[str]

    @property
    def rows(self) -> pl.LazyFrame:
        """The staged rows."""
        return pl.scan_parquet(self.path, glob=False)


def stage(table: Table, data: DataConfig, work: Path) -> Staged:
    """Read every row once, and write its values and marks to `work`.

    Raises
    ------
    ConfigError, SchemaError
        If columns are missing, ambiguous or of a type that cannot be used.
    """
    schema = table.scan.collect_schema()
    found = [name for name in schema if name != BEYOND]
    columns = match_columns(found, data.columns, table.name)
    _check_parts(table, columns)
    for ours, theirs in columns.received.items():
        cells.check_type(schema[theirs], theirs, ours, table.name)
    is_plain = {c: not d.is_nested() and d != pl.Object for c, d in schema.items()}
    plain = [c for c in schema if is_plain[c]]
    notes = []
    if nested := [c for c in schema if not is_plain[c]]:
        notes.append(f"Not compared when looking for equal rows: {listed(nested)}.")
    received = table.scan.with_row_index(ROW, offset=1)
    if table.has_empty_rows:
        received = received.filter(~pl.all_horizontal(pl.all().exclude(ROW).is_null()))
    compared = [comparable(column, schema[column]) for column in plain]
    hashed = pl.struct(compared).hash(seed=0).alias(HASH)
    # In steps, since an expression that is used twice would be evaluated twice.
    cells_read = received.select(
        ROW,
        *_values(schema, columns, data, decimal_comma=table.decimal_comma),
        _is_ragged(schema),
        hashed,
    )
    staged = cells_read.with_columns(_mended(columns)).select(
        ROW, *_checked(columns), _marks(columns), HASH
    )
    path = work / "staged.parquet"
    # Incompressible hashes make up most of it: speed counts, not size.
    staged.sink_parquet(path, compression="lz4", statistics=False)
    return Staged(received, compared, hashed, columns, path, notes)


def _check_parts(table: Table, columns: ColumnMap) -> None:
    """Refuse a table with a file that lacks a column that the others have."""
    for name, found in table.parts:
        needed = [c for ours, c in columns.received.items() if ours != "sales_value"]
        if lacking := [column for column in needed if column not in found]:
            raise SchemaError(
                f"{table.name}: {name} has no column {listed(lacking)}, which other "
                f"files have; it has {listed([c for c in found if c != BEYOND], 30)}. "
                "Name files of one make only, or rename its columns."
            )


def _values(
    schema: pl.Schema, columns: ColumnMap, data: DataConfig, *, decimal_comma: bool
) -> list[pl.Expr]:
    """Return our columns as read: ids as text, dates taken apart, numbers as floats."""
    theirs = columns.received
    values = [
        cells.id_text(theirs[ours], schema[theirs[ours]]).alias(ours)
        for ours in ("shop_id", "product_id")
    ]
    if name := theirs.get("date", ""):
        day = cells.calendar_day(name, schema[name], data.date_format)
        values.append(day.alias("date"))
    for ours in ("year", "month", "sales_qty", "sales_value"):
        if name := theirs.get(ours, ""):
            comma = decimal_comma and ours.startswith("sales")
            value = cells.as_float(name, schema[name], decimal_comma=comma)
            values.append(value.alias(ours))
    if name := theirs.get("sales_value", ""):
        text = cells.plain_text(name, schema[name])
        is_given = text.is_not_null() & ~text.is_in(list(cells.MISSING_TEXTS))
        values.append(is_given.alias("is_value_given"))
    return values


def _mended(columns: ColumnMap) -> list[pl.Expr]:
    """Return our columns with unusable cells null, and which ids were floats."""
    mended = [
        cells.is_float_text(pl.col(ours)).alias(f"float_{ours}")
        for ours in ("shop_id", "product_id")
    ]
    for ours in columns.received:
        if ours in ("year", "month"):
            mended.append(cells.whole(pl.col(ours)).alias(ours))
        elif ours in ("sales_qty", "sales_value"):
            mended.append(cells.finite(pl.col(ours)).alias(ours))
    return mended


def _is_ragged(schema: pl.Schema) -> pl.Expr:
    """Return whether a line goes on beyond the header's last column."""
    if BEYOND not in schema:
        return pl.lit(value=False).alias("is_ragged")
    beyond = pl.col(BEYOND).str.strip_chars() != ""
    return beyond.fill_null(value=False).alias("is_ragged")


def _month_parts(columns: ColumnMap) -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """Return year, month, and whether both are possible."""
    if columns.is_dated:
        date = pl.col("date").struct
        year, month = date.field("year"), date.field("month")
    else:
        year, month = pl.col("year"), pl.col("month")
    is_possible = year.is_between(FIRST_YEAR, LAST_YEAR) & month.is_between(1, 12)
    return year, month, is_possible.fill_null(value=False)


def _checked(columns: ColumnMap) -> list[pl.Expr]:
    """Return our columns in their types; what is impossible becomes null."""
    year, month, is_possible = _month_parts(columns)
    checked = [
        *(
            cells.mended_id(pl.col(ours), pl.col(f"float_{ours}"))
            for ours in ("shop_id", "product_id")
        ),
        pl.when(is_possible).then(year).cast(pl.Int32).alias("year"),
        pl.when(is_possible).then(month).cast(pl.Int32).alias("month"),
        pl.col("sales_qty"),
    ]
    if "sales_value" in columns.received:
        checked.append(pl.col("sales_value"))
    day: pl.Expr = pl.lit(None)
    if columns.is_dated:
        of_month = pl.col("date").struct.field("day")
        number = year * 10_000 + month * 100 + of_month
        day = pl.when(is_possible & (of_month > 0)).then(number)
    return [*checked, day.cast(pl.Int32).alias(DAY)]


def _marks(columns: ColumnMap) -> pl.Expr:
    """Return the faults and repairs of each row as the bits of one number."""
    quantity = pl.col("sales_qty")
    is_valid = (quantity.abs() <= LARGEST_QUANTITY).fill_null(value=False)
    found = {
        "ragged_line": pl.col("is_ragged"),
        "missing_id": _is_missing("shop_id") | _is_missing("product_id"),
        "impossible_month": ~_month_parts(columns)[2],
        "invalid_quantity": ~is_valid,
        "negative_quantity": is_valid & (quantity < 0),
        "zero_quantity": is_valid & (quantity == 0),
        "float_shop_id": pl.col("float_shop_id"),
        "float_product_id": pl.col("float_product_id"),
    }
    if "sales_value" in columns.received:
        is_unreadable = pl.col("is_value_given") & pl.col("sales_value").is_null()
        found["unreadable_sales_value"] = is_unreadable
    bits = [is_found.cast(pl.UInt16) * BITS[name] for name, is_found in found.items()]
    return pl.sum_horizontal(bits).cast(pl.UInt16).alias(MARKS)


def _is_missing(ours: str) -> pl.Expr:
    """Return whether an id, as read, stands for nothing."""
    return pl.col(ours).is_in(list(cells.MISSING_TEXTS)).fill_null(value=True)


def sales_columns(columns: ColumnMap) -> list[str]:
    """Return our columns of a sales table, in their order."""
    optional = [] if "sales_value" in columns.received else ["sales_value"]
    return [name for name in SALES_SCHEMA if name not in optional]
