"""Frames in memory as tables of received rows; ids and files of rows that are made."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl

from core.errors import SchemaError, SourceError
from core.tables.files import describe, new_file
from core.tables.readers import ReceivedTable, readable


class _Digest:
    """A sink for bytes that keeps only their SHA-256."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.sha256.update(content)
        return len(content)


def table_from_frame(native: Any, work: Path, name: str = "the frame") -> ReceivedTable:
    """Return the rows of a pandas, Polars, Arrow or DuckDB frame.

    Parameters
    ----------
    native : frame
        A lazy one (Polars, DuckDB) is written to `work` in a stream, not collected.
    work : Path
        Folder for that file.
    name : str
        What the table is called in messages.

    Raises
    ------
    SourceError
        If Narwhals knows no such frame, or it cannot be evaluated.
    SchemaError
        If a column name occurs twice.
    """
    try:
        frame = nw.from_native(native)
    except nw.exceptions.DuplicateError as error:
        message = " ".join(str(error).split())
        raise SchemaError(f"the frame names a column twice: {message}.") from None
    except TypeError:
        kind = f"{type(native).__module__}.{type(native).__qualname__}"
        raise SourceError(
            f"`{kind}` is no table that can be read. Expected a pandas, Polars or "
            "Arrow table, or a DuckDB relation."
        ) from None
    try:
        if isinstance(frame, nw.LazyFrame):
            path = new_file(work, "frame.parquet")
            frame.sink_parquet(path)
            scan = pl.scan_parquet(path, glob=False)
        else:
            scan = polars_table(frame).lazy()
    except Exception as error:
        # A lazy frame runs the user's own query here, in whatever library it is.
        raise SourceError(
            f"the frame cannot be evaluated ({type(error).__name__}: "
            f"{describe(error)}). Make sure that it can be collected by itself."
        ) from None
    with readable(name):
        digest = _content_digest(scan)
    return ReceivedTable(name, scan, digest)


def polars_table(frame: nw.DataFrame[Any]) -> pl.DataFrame:
    """Return an eager frame in Polars; columns of mixed Python types become text."""
    names = [str(name) for name in frame.columns]
    columns = []
    for name, column in zip(names, frame.iter_columns(), strict=True):
        if column.dtype in (nw.Object, nw.Unknown):
            values = [None if _is_missing(v) else str(v) for v in column.to_list()]
            columns.append(pl.Series(name, values, dtype=pl.String))
        else:
            columns.append(column.to_polars().alias(name))
    return pl.DataFrame(columns)


def _is_missing(value: Any) -> bool:
    """Return whether a Python object stands for nothing: None, NaN, NaT or NA."""
    return (
        value is None
        or type(value).__name__ in ("NAType", "NaTType")
        or (isinstance(value, float) and math.isnan(value))
    )


def _content_digest(scan: pl.LazyFrame) -> str:
    """Return a SHA-256 of column names and cells, the same in every library."""
    schema = scan.collect_schema()
    plain = [c for c, d in schema.items() if not d.is_nested() and d != pl.Object]
    sink = _Digest()
    text = scan.select(pl.col(plain).cast(pl.String, strict=False))
    text.sink_csv(sink)  # type: ignore[call-overload] # any object with write() will do
    return sink.sha256.hexdigest()


def identifiers(prefix: str, count: int, width: int) -> pl.Series:
    """Return `count` names such as ``S000007``, longer where the number needs it."""
    number = pl.int_range(count, eager=True).cast(pl.String).str.zfill(width)
    return prefix + number


def write_blocks(
    folder: Path, blocks: Iterable[Mapping[str, pl.DataFrame]], suffix: str
) -> dict[str, int]:
    """Write tables that come in blocks, so that memory does not grow with them.

    Parameters
    ----------
    folder : Path
        Where to; made if it is not there.
    blocks : iterable of mapping of str to DataFrame
        Tables by name; those of one name are rows of one file.
    suffix : {'csv', 'parquet'}
        Kind of the files.

    Returns
    -------
    dict of str to int
        Rows by name of the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, int] = {}
    with ExitStack() as files:
        writers: dict[str, _Writer] = {}
        for name, table in (part for block in blocks for part in block.items()):
            file = f"{name}.{suffix}"
            if file not in writers:
                writers[file] = files.enter_context(_writer(folder / file, table))
            writers[file](table)
            rows[file] = rows.get(file, 0) + table.height
    return rows


_Writer = Callable[[pl.DataFrame], None]


@contextmanager
def _writer(path: Path, first: pl.DataFrame) -> Iterator[_Writer]:
    """Yield what appends tables like the first one to a new file."""
    if path.suffix == ".parquet":
        from pyarrow.parquet import ParquetWriter

        with ParquetWriter(path, first.to_arrow().schema) as parquet:
            yield lambda table: parquet.write_table(table.to_arrow())
        return
    with path.open("wb") as stream:
        first.clear().write_csv(stream)
        yield lambda table: table.write_csv(
            stream, include_header=False, datetime_format="%Y-%m-%d %H:%M:%S"
        )
