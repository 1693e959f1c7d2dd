"""The rows of orders or items, from a table or from records, read and marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import polars as pl

from core.config import DataConfig
from core.data.csvfile import BEYOND
from core.data.purchases_cells import read_cells
from core.data.purchases_columns import TableSpec
from core.data.purchases_marks import ROW
from core.data.purchases_schema import match_table
from core.data.readers import Table
from core.errors import SchemaError, listed

DTYPES: dict[str, pl.DataType] = {"moment": pl.Datetime("us"), "number": pl.Float64()}


@dataclass(frozen=True)
class MarkedRows:
    """The rows of one table, read and marked.

    Attributes
    ----------
    rows : polars.DataFrame
        `ROW`, our columns and `MARKS`.
    received : polars.LazyFrame
        `ROW` and the received columns.
    columns : dict of str to str
        Our name: the name as received.
    name : str
        What the table is called in messages.
    notes : list of str
        What the user should know about how it was read.
    """

    rows: pl.DataFrame
    received: pl.LazyFrame
    columns: Mapping[str, str]
    name: str
    notes: list[str]


def read_rows(
    table: Table, wanted: Mapping[str, str], spec: TableSpec, data: DataConfig
) -> MarkedRows:
    """Match the columns of a table, and read and mark its rows."""
    schema = table.scan.collect_schema()
    columns, notes = match_table(schema, wanted, spec, table.name)
    _check_parts(table, columns, spec)
    received = table.scan.with_row_index(ROW, offset=1)
    if table.has_empty_rows:
        received = received.filter(~pl.all_horizontal(pl.all().exclude(ROW).is_null()))
    first, second = read_cells(
        schema,
        columns,
        spec,
        decimal_comma=table.decimal_comma,
        date_format=data.date_format,
    )
    rows = received.select(first).select(second).collect(engine="streaming")
    return MarkedRows(rows, received, columns, table.name, [*table.notes, *notes])


def _check_parts(table: Table, columns: Mapping[str, str], spec: TableSpec) -> None:
    """Refuse a table with a file that lacks a column that the others have."""
    needed = [name for ours, name in columns.items() if spec[ours].is_required]
    for name, found in table.parts:
        if lacking := [column for column in needed if column not in found]:
            raise SchemaError(
                f"{table.name}: {name} has no column {listed(lacking)}, which other "
                f"files have; it has {listed([c for c in found if c != BEYOND], 30)}. "
                "Name files of one make only, or rename its columns."
            )


def rows_from_records(
    records: Sequence[Mapping[str, Any]], spec: TableSpec, customer_id: str
) -> MarkedRows:
    """Put the records of one customer into a table, and read and mark its rows."""
    series = [pl.int_range(1, len(records) + 1, dtype=pl.UInt32, eager=True).alias(ROW)]
    for column in spec.columns:
        values: list[Any]
        if column.name == "customer_id":
            values = [customer_id] * len(records)
        else:
            values = [record.get(column.name) for record in records]
        if column.kind == "moment":
            values = [naive(v) if isinstance(v, datetime) else v for v in values]
        dtype = DTYPES.get(column.kind, pl.String())
        series.append(pl.Series(column.name, values, dtype=dtype, strict=False))
    frame = pl.DataFrame(series)
    columns = {column.name: column.name for column in spec.columns}
    first, second = _record_steps(spec)
    rows = frame.select(first).select(second)
    return MarkedRows(rows, frame.lazy(), columns, f"the {spec.name}", [])


@cache
def _record_steps(spec: TableSpec) -> tuple[list[pl.Expr], list[pl.Expr]]:
    """Return the expressions that read records, which are always of one make."""
    columns = {column.name: column.name for column in spec.columns}
    types = {c.name: DTYPES.get(c.kind, pl.String()) for c in spec.columns}
    return read_cells(pl.Schema(types), columns, spec)


def naive(moment: datetime) -> datetime:
    """Return a moment without its zone, in UTC if it had one."""
    if moment.tzinfo is None:
        return moment
    return moment.astimezone(UTC).replace(tzinfo=None)
