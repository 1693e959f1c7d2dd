"""Any table, typed by what its columns hold: for commands that a table is given to.

The tables of a system have a specification (`core.tables.columns`); here nothing is
known beforehand but which columns are text, such as ids.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from core.config import DataConfig
from core.errors import SchemaError, did_you_mean, listed
from core.logging import get_logger
from core.scratch import temporary_folder
from core.tables.cells import MISSING_TEXTS
from core.tables.files import counted, find_files
from core.tables.readers import BEYOND, read_files

# A number with a leading zero is a code.
_WHOLE = r"^[+-]?(0|[1-9]\d{0,17})$"
_NUMBER = r"^[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)(e[+-]?\d+)?$"


@dataclass(frozen=True)
class PlainRows:
    """A table as it was read, and what is to be told of that.

    Attributes
    ----------
    name : str
        What the table is called in messages.
    table : DataFrame
        Text that holds whole numbers, numbers, or true and false throughout has that
        type; empty cells and what stands for them (`NA`, `null`) are null.
    beyond : Series of str
        Of every row, the first cell beyond the last column of the header; mostly null.
        Such rows do not decide the type of a column, and are null where they differ.
    notes : tuple of str
        What the user should know about how it was read.
    """

    name: str
    table: pl.DataFrame
    beyond: pl.Series
    notes: tuple[str, ...]

    def refused(self) -> SchemaError:
        """Return the error for rows that have cells beyond the header."""
        place = int(self.beyond.is_not_null().arg_max() or 0)
        n = counted(len(self.beyond) - self.beyond.null_count())
        return SchemaError(
            f"{self.name}: {n} with more cells than the header has columns (first: row "
            f"{place + 1:,}, with `{self.beyond[place][:40]}` beyond "
            f"`{self.table.columns[-1]}`). If a cell holds the separator, put it in "
            "quotes; if a column lacks a name, add it."
        )


def read_table(
    address: str | Path,
    text: Collection[str] = (),
    data: DataConfig | None = None,
) -> pl.DataFrame:
    """Return the rows of a CSV, Parquet or Excel file, folder, glob or s3:// address.

    What is to be told of how it was read is logged.

    Parameters
    ----------
    address, text, data
        See `read_rows`.

    Returns
    -------
    DataFrame
        See `PlainRows`.

    Raises
    ------
    SourceError
        If it cannot be found or read.
    SchemaError
        If a column of `text` is not there, or a row has more cells than the header.
    """
    rows = read_rows(address, text, data)
    for note in rows.notes:
        get_logger().warning("%s", note)
    if rows.beyond.null_count() < len(rows.beyond):
        raise rows.refused()
    return rows.table


def read_rows(
    address: str | Path,
    text: Collection[str] = (),
    data: DataConfig | None = None,
) -> PlainRows:
    """Return the rows of a CSV, Parquet or Excel file, folder, glob or s3:// address.

    Parameters
    ----------
    address : str or path
    text : collection of str
        Columns that must be there and are text, such as ids: `007` stays so.
    data : DataConfig, optional
        Options for CSV and Excel.

    Raises
    ------
    SourceError
        If it cannot be found or read.
    SchemaError
        If a column of `text` is not there.
    """
    with temporary_folder() as work:
        files, name = find_files(str(address), work)
        received = read_files(files, name, data or DataConfig(), work)
        table = received.scan.collect()
    nothing = pl.Series(BEYOND, [None], pl.String).new_from_index(0, table.height)
    beyond = table[BEYOND].str.strip_chars() if BEYOND in table.columns else nothing
    beyond = beyond.set(beyond == "", None)
    table = table.drop(BEYOND, strict=False)
    for column in text:
        if column not in table.columns:
            raise SchemaError(
                f"`{address}` has no column `{column}`; it has "
                f"{listed(table.columns, 12)}.{did_you_mean(column, table.columns)}"
            )
    mark = received.usual_decimal
    typed = table.with_columns(
        column.cast(pl.String)
        if column.name in text
        else _typed(column, mark, beyond.is_null())
        for column in table
    )
    return PlainRows(name, typed, beyond, received.notes)


def _typed(column: pl.Series, decimal: str, is_sound: pl.Series) -> pl.Series:
    """Return a column of text as what it holds throughout, in sound rows."""
    if column.dtype != pl.String:
        return column
    cells = column.str.strip_chars()
    cells = cells.set(cells.is_in(list(MISSING_TEXTS)), None)
    known = cells.filter(is_sound).drop_nulls().str.to_lowercase()
    if not known.len():
        return cells
    if known.is_in(["true", "false"]).all():
        return cells.str.to_lowercase() == "true"
    if known.str.contains(_WHOLE).all():
        return cells.cast(pl.Int64, strict=False)
    if decimal == ",":
        known = known.str.replace(",", ".", literal=True)
    if known.str.contains(_NUMBER).all():
        numbers = cells.str.replace(decimal, ".", literal=True)
        return numbers.cast(pl.Float64, strict=False)
    return cells
