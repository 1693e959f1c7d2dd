"""The rows of orders or items, from a table or from records, read and marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from core.config import DataConfig
from core.data.purchases_cells import ROW, read_cells
from core.data.purchases_schema import TableSpec, match_table
from core.data.readers import Table

DTYPES: dict[str, pl.DataType | type[pl.DataType]] = {
    "id": pl.String,
    "moment": pl.Datetime("us"),
    "number": pl.Float64,
}


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
            values = [value and naive(value) for value in values]
        dtype = DTYPES.get(column.kind, pl.String())
        series.append(pl.Series(column.name, values, dtype=dtype, strict=False))
    frame = pl.DataFrame(series)
    columns = {column.name: column.name for column in spec.columns}
    first, second = read_cells(frame.schema, columns, spec)
    rows = frame.select(first).select(second)
    return MarkedRows(rows, frame.lazy(), columns, f"the {spec.name}", [])


def naive(moment: datetime) -> datetime:
    """Return a moment without its zone, in UTC if it had one."""
    if moment.tzinfo is None:
        return moment
    return moment.astimezone(UTC).replace(tzinfo=None)
