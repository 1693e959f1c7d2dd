"""Any table, typed by what its columns hold: for commands that a table is given to.

The tables of a system have a specification (`core.tables.columns`); here nothing is
known beforehand but which columns are text, such as ids.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import polars as pl

from core.config import DataConfig
from core.errors import SchemaError, did_you_mean, listed
from core.scratch import temporary_folder
from core.tables.cells import MISSING_TEXTS
from core.tables.files import find_files
from core.tables.readers import BEYOND, read_files

# A number with a leading zero is a code.
_WHOLE = r"^[+-]?(0|[1-9]\d{0,17})$"
_NUMBER = r"^[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)(e[+-]?\d+)?$"


def read_table(
    address: str | Path,
    text: Collection[str] = (),
    data: DataConfig | None = None,
) -> pl.DataFrame:
    """Return the rows of a CSV, Parquet or Excel file, folder, glob or s3:// address.

    Parameters
    ----------
    address : str or path
    text : collection of str
        Columns that must be there and are text, such as ids: `007` stays so.
    data : DataConfig, optional
        Options for CSV and Excel.

    Returns
    -------
    DataFrame
        Text that holds whole numbers, numbers, or true and false throughout has that
        type; empty cells and what stands for them (`NA`, `null`) are null.

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
        table = received.scan.drop(BEYOND, strict=False).collect()
        mark = received.usual_decimal
    for column in text:
        if column not in table.columns:
            raise SchemaError(
                f"`{address}` has no column `{column}`; it has "
                f"{listed(table.columns, 12)}.{did_you_mean(column, table.columns)}"
            )
    return table.with_columns(
        column.cast(pl.String) if column.name in text else _typed(column, mark)
        for column in table
    )


def _typed(column: pl.Series, decimal: str) -> pl.Series:
    """Return a column of text as what it holds throughout."""
    if column.dtype != pl.String:
        return column
    cells = column.str.strip_chars()
    cells = cells.set(cells.is_in(list(MISSING_TEXTS)), None)
    known = cells.drop_nulls().str.to_lowercase()
    if not known.len():
        return cells
    if known.is_in(["true", "false"]).all():
        return cells.str.to_lowercase() == "true"
    if known.str.contains(_WHOLE).all():
        return cells.cast(pl.Int64)
    if decimal == ",":
        known = known.str.replace(",", ".", literal=True)
    if known.str.contains(_NUMBER).all():
        return cells.str.replace(decimal, ".", literal=True).cast(pl.Float64)
    return cells
