"""Rows of a table of ours, read and flagged on executors, with one account of them all.

What single cells tell is told where the rows are; what a whole column decides, such as
its decimal mark, is decided on the driver from how many rows have which flags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from core.config import DataConfig
from core.spark.sources import SparkSource, told_of, with_beyond
from core.spark.tables import collected, map_tables
from core.tables.cells import HASH, ParsedRows, parse_rows
from core.tables.columns import FLAGS, ROW, TableSpec
from core.tables.readers import BEYOND, ReceivedTable, Settled
from core.tables.settle import settled_marks, with_marks

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# Rows kept as examples of each combination of flags, of a table and of all.
EXAMPLES, MOST_EXAMPLES = 5, 1000
CELL = "cell_"


@dataclass(frozen=True)
class Reading:
    """How rows are read: small, and the same on every executor.

    Attributes
    ----------
    spec : TableSpec
        Which table it is.
    name : str
        What it is called in messages.
    wanted : mapping of str to str
        The user's names, our name: their name.
    data : DataConfig
        Format of dates, ids left out.
    separator : str or None
        Of a CSV.
    marks : mapping of str to str
        Decimal marks that were settled.
    """

    spec: TableSpec
    name: str
    wanted: Mapping[str, str]
    data: DataConfig
    separator: str | None
    marks: Mapping[str, str]

    @property
    def usual_decimal(self) -> str:
        """The decimal mark that numbers typed as text have in such a source."""
        return "," if self.separator == ";" else "."

    def received(self, table: pl.DataFrame, *, has_times: bool = True) -> ReceivedTable:
        """Return rows of a part, `BEYOND` among their columns if there is any."""
        return ReceivedTable(
            self.name,
            table.lazy(),
            digest="",
            usual_decimal=self.usual_decimal,
            settled=Settled(self.marks, has_times),
        )

    def parsed(self, table: pl.DataFrame) -> ParsedRows:
        """Return received rows as ours, with `HASH` and flags."""
        if self.separator is not None:
            table = with_beyond(table, self.separator)
        received = ReceivedTable(
            self.name,
            table.lazy(),
            digest="",
            has_empty_rows=self.separator is not None,
            usual_decimal=self.usual_decimal,
        )
        parsed = parse_rows(received, self.wanted, self.spec, self.data, has_hash=True)
        rows = with_marks(parsed.rows, self.spec, self.marks)
        return replace(parsed, rows=rows)


@dataclass(frozen=True)
class SparkRows:
    """The rows of one table on Spark.

    Attributes
    ----------
    df : Spark DataFrame
        As received.
    reading : Reading
        How each executor reads them.
    parsed : ParsedRows
        Examples of them, for messages; columns and notes as on one machine.
    groups : DataFrame
        `core.tables.settle.flag_counts` of all rows.
    """

    df: DataFrame
    reading: Reading
    parsed: ParsedRows
    groups: pl.DataFrame

    @property
    def schema(self) -> dict[str, Any]:
        """Types of the rows read: our columns, `DAY` if known, `FLAGS`, `HASH`."""
        types = self.parsed.rows.collect_schema()
        kept = {name: kind for name, kind in types.items() if name != ROW}
        # Spark has no unsigned numbers.
        return kept | {FLAGS: pl.Int64, HASH: pl.Int64}

    def rows(self) -> DataFrame:
        """Return the rows read, with their flags, lazily."""
        return map_tables(self.df, read_part, self.schema, self.reading)


def parsed_rows(
    source: SparkSource,
    wanted: Mapping[str, str],
    spec: TableSpec,
    data: DataConfig,
) -> SparkRows:
    """Read a table once, for the account of its rows and for its decimal marks.

    Parameters
    ----------
    source : SparkSource
        Rows as received.
    wanted : mapping of str to str
        The user's names, our name: their name.
    spec : TableSpec
        Which table it is.
    data : DataConfig
        As for `core.tables.cells.parse_rows`.

    Raises
    ------
    ConfigError, SchemaError
        As `core.tables.cells.parse_rows` and `core.tables.settle.settle`.
    SourceError
        If Spark cannot go through the rows.
    """
    reading = Reading(spec, source.name, wanted, data, source.separator, {})
    with told_of(source.name):
        empty = reading.parsed(collected(source.df.limit(0)))
        shown = list(empty.columns.values())
        names = empty.received.collect_schema().names()
        if BEYOND in names:
            # Beside the last cell before it, which a message shows.
            shown += [names[names.index(BEYOND) - 1], BEYOND]
        shown = [name for name in dict.fromkeys(shown) if name in names]
        schema = {FLAGS: pl.Int64, "len": pl.Int64}
        cells = {f"{CELL}{i}": pl.String for i in range(len(shown))}
        found = map_tables(source.df, flags_part, schema | cells, (reading, shown))
        counted = collected(found)
    flags = pl.col(FLAGS).cast(pl.UInt64)
    groups = counted.group_by(flags).agg(pl.col("len").sum()).sort(FLAGS)
    some = counted.with_columns(flags).group_by(FLAGS, maintain_order=True)
    examples = some.head(MOST_EXAMPLES).with_row_index(ROW, offset=1).lazy()
    named = [pl.col(f"{CELL}{i}").alias(name) for i, name in enumerate(shown)]
    parsed = replace(
        empty,
        rows=examples.select(ROW, FLAGS),
        received=examples.select(ROW, *named),
        is_whole=False,
    )
    marks, notes = settled_marks(parsed, groups, data.decimal, reading.usual_decimal)
    parsed = replace(parsed, rows=_typed(empty, parsed), notes=[*parsed.notes, *notes])
    return SparkRows(source.df, replace(reading, marks=marks), parsed, groups)


def _typed(empty: ParsedRows, examples: ParsedRows) -> pl.LazyFrame:
    """Return examples with our columns beside their flags, of which none is read."""
    types = empty.rows.collect_schema()
    others = {name: kind for name, kind in types.items() if name not in (ROW, FLAGS)}
    return examples.rows.with_columns(
        pl.lit(None, kind).alias(name) for name, kind in others.items()
    )


def flags_part(table: pl.DataFrame, how: tuple[Reading, list[str]]) -> pl.DataFrame:
    """Return how many rows have which flags, with some of them as received."""
    reading, shown = how
    parsed = reading.parsed(table)
    rows = parsed.rows.select(ROW, FLAGS).collect()
    counts = rows.group_by(FLAGS).agg(pl.len())
    some = rows.group_by(FLAGS, maintain_order=True).head(EXAMPLES)
    is_first = pl.col(FLAGS).is_first_distinct()
    counted = some.join(counts, on=FLAGS, maintain_order="left").with_columns(
        # Said once, by the first example.
        pl.when(is_first).then(pl.col("len")).otherwise(0)
    )
    received = parsed.received.select(
        ROW,
        *(
            pl.col(name).cast(pl.String, strict=False).alias(f"{CELL}{i}")
            for i, name in enumerate(shown)
        ),
    )
    return counted.lazy().join(received, on=ROW, how="left").sort(ROW).collect()


def read_part(table: pl.DataFrame, reading: Reading) -> pl.DataFrame:
    """Return received rows as ours, with flags and hashes as signed numbers."""
    rows = reading.parsed(table).rows
    signed = pl.col(HASH).reinterpret(signed=True)
    return rows.with_columns(signed, pl.col(FLAGS).cast(pl.Int64)).collect()


def received_part(table: pl.DataFrame, how: tuple[Reading, list[str]]) -> pl.DataFrame:
    """Return `HASH` and some received columns as text, by their numbers."""
    reading, shown = how
    parsed = reading.parsed(table)
    signed = parsed.hashed.reinterpret(signed=True)
    cells = [
        pl.col(name).cast(pl.String, strict=False).alias(f"{CELL}{i}")
        for i, name in enumerate(shown)
    ]
    return parsed.received.select(signed.alias(HASH), *cells).collect()
