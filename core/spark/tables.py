"""Our functions over Spark DataFrames: Polars tables in and out, by Arrow.

What runs on executors is what runs on one machine, so results cannot differ. Functions
are those of a module (they are found by name there), with an argument that is small or
that Spark sends once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from core.config import Config
from core.tables.files import is_remote

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

# Arrow comes in batches of 10,000 rows, for each of which a query would be planned.
ROWS_AT_ONCE = 250_000
# Of one partition, which is held whole where entities must be: some 200 MB.
ROWS_OF_PARTITION = 1_000_000

Function = Callable[[pl.DataFrame, Any], pl.DataFrame]
OLDEST = pl.CompatLevel.oldest()
TYPES = {
    pl.String: "string",
    pl.Boolean: "boolean",
    pl.Int8: "tinyint",
    pl.Int32: "int",
    pl.Int64: "bigint",
    pl.Float64: "double",
    pl.Date: "date",
    pl.Datetime: "timestamp_ntz",
}


def map_tables(
    df: DataFrame,
    function: Function,
    schema: Mapping[str, Any],
    argument: Any = None,
    *,
    is_whole: bool = False,
) -> DataFrame:
    """Return what a function makes of a DataFrame, table by table, lazily.

    Parameters
    ----------
    df : Spark DataFrame
    function : callable
        Takes a Polars table and `argument`, returns a Polars table; of a module.
    schema : mapping of str to Polars type
        Of what it returns: types among `TYPES`. A `Datetime` has no zone.
    argument : picklable
        Small, or sent to each executor once by Spark.
    is_whole : bool
        Whether a table is a whole partition (see `by_entity`), however long; else the
        tables have at most some `ROWS_AT_ONCE` rows, and none is empty.
    """
    mapped = _Mapped(function, argument, dict(schema), is_whole)
    columns = (f"`{name}` {ddl(kind)}" for name, kind in schema.items())
    return df.mapInArrow(mapped, ", ".join(columns))


def ddl(kind: Any) -> str:
    """Return a Polars type as Spark writes it; structures may hold structures.

    >>> ddl(pl.Struct({"axis": pl.String, "strength": pl.Float64}))
    'struct<`axis`: string, `strength`: double>'
    """
    if isinstance(kind, pl.Struct):
        fields = (f"`{own.name}`: {ddl(own.dtype)}" for own in kind.fields)
        return f"struct<{', '.join(fields)}>"
    return TYPES[_base(kind)]


def _base(kind: Any) -> type[pl.DataType]:
    return kind if isinstance(kind, type) else type(kind)


@dataclass(frozen=True)
class _Mapped:
    """What Spark calls with the batches of a partition."""

    function: Function
    argument: Any
    schema: dict[str, Any]
    is_whole: bool

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        names = list(self.schema)
        types: dict[Any, Any] = {
            name: pl.Datetime("us") if _base(kind) is pl.Datetime else kind
            for name, kind in self.schema.items()
        }
        for table in gathered(batches, None if self.is_whole else ROWS_AT_ONCE):
            found = self.function(in_polars(table), self.argument).select(names)
            yield from batches_of(found.cast(types))


def gathered(
    batches: Iterable[pa.RecordBatch], n_rows: int | None
) -> Iterator[pa.Table]:
    """Yield batches put together to at least `n_rows`, or all of them."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    n_held = 0
    for batch in batches:
        if batch.num_rows:
            held.append(batch)
            n_held += batch.num_rows
        if n_rows is not None and n_held >= n_rows:
            yield pa.Table.from_batches(held)
            held, n_held = [], 0
    if held:
        yield pa.Table.from_batches(held)


def in_polars(table: pa.Table) -> pl.DataFrame:
    """Return a table of Arrow in Polars."""
    found = pl.from_arrow(table)
    assert isinstance(found, pl.DataFrame)
    return found


def batches_of(table: pl.DataFrame) -> list[pa.RecordBatch]:
    """Return a table as Spark takes it."""
    arrow: pa.Table = table.to_arrow(compat_level=OLDEST)
    return [*arrow.to_batches(max_chunksize=ROWS_AT_ONCE)]


def by_entity(df: DataFrame, column: str, n_rows: int | None = None) -> DataFrame:
    """Return the rows in partitions each of which holds all rows of its entities.

    Parameters
    ----------
    df : Spark DataFrame
    column : str
        Of ids; rows without one are entities of no name.
    n_rows : int, optional
        How many rows there are, where that is known: partitions hold some
        `ROWS_OF_PARTITION` each, and not less than the session's default number of
        them. Default: as many as Spark's adaptive execution finds right.
    """
    if n_rows is None:
        return df.repartition(df[column])
    return df.repartition(max(1, -(-n_rows // ROWS_OF_PARTITION)), df[column])


def on_disk(df: DataFrame) -> DataFrame:
    """Return a DataFrame that is computed once, and kept on the executors' disks."""
    from pyspark import StorageLevel

    return df.persist(StorageLevel.DISK_ONLY)


def collected(df: DataFrame) -> pl.DataFrame:
    """Return a small DataFrame as a Polars table."""
    return in_polars(df.toArrow())


def output_of(config: Config) -> str:
    """Return where everyone's results go: a folder or the beginning of tables' names.

    The default, a folder of the artifacts, is one that executors see only where they
    run on this machine or share its disk.
    """
    default = str(Path(config.artifacts) / "spark")
    return config.spark.output or default


def write(df: DataFrame, output: str, name: str) -> str:
    r"""Write a DataFrame in place of an earlier one, and return where it is.

    Parameters
    ----------
    df : Spark DataFrame
    output : str
        A folder or address (it has a ``/`` or ``\``), which gets a folder of Parquet
        files; else the beginning of the name of a table, such as ``main.sales.all_``.
    name : str
        Of the folder, or what the table's name ends in.
    """
    writer = df.write.mode("overwrite")
    if is_folder(output):
        target = f"{_address(output)}/{name}"
        writer.parquet(target)
        return target
    writer.saveAsTable(f"{output}{name}")
    return f"{output}{name}"


def read(spark: SparkSession, output: str, name: str) -> DataFrame:
    """Return what `write` has written."""
    if is_folder(output):
        return spark.read.parquet(f"{_address(output)}/{name}")
    return spark.table(f"{output}{name}")


def is_folder(output: str) -> bool:
    """Return whether an output is a folder or an address, and no table's name."""
    return "/" in output or "\\" in output


def _address(folder: str) -> str:
    """Return a folder as Spark takes it whatever its default file system is."""
    if is_remote(folder):
        return folder.rstrip("/")
    # Not `as_uri`: Hadoop would take `%20` for a name.
    return f"file:///{Path(folder).resolve().as_posix().lstrip('/')}"
