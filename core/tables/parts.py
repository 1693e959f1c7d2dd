"""Tables in parts on disk, so that memory holds one part at a time.

Many steps need all rows of an entity, and of no other one. A table with too many rows
is split by ranges of ids: each part holds whole entities, in ascending order from part
to part, and is passed through as a small table would be.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

# What grouping and sorting hold at once: 4 million rows take some 300 MB. Twice as many
# take twice that, and no less time.
ROWS_AT_ONCE = 4_000_000
# Values looked at to find ranges of about equal numbers of rows.
VALUES_PER_PART = 1_000


def write_parts(rows: pl.LazyFrame, key: pl.Expr, folder: Path) -> dict[int, Path]:
    """Write rows into a folder for each value of a key, in one pass.

    Parameters
    ----------
    rows : LazyFrame
        Rows to be split.
    key : Expr
        A whole number of each row, at least 0.
    folder : Path
        Gets the folders; not there before.

    Returns
    -------
    dict of int to Path
        Folders of Parquet files by ascending key; rows keep their order.
    """

    def path(part: Any) -> str:
        # A part whose file was closed in between goes on in another one.
        number = part.index_in_partition
        return f"{part.partition_keys.item():06d}/{number:06d}.parquet"

    target = pl.PartitionBy(
        folder,
        key=key.alias("__part__"),
        include_key=False,
        file_path_provider=path,
        approximate_bytes_per_file=None,
    )
    folder.mkdir(parents=True)
    rows.sink_parquet(target, compression="lz4", mkdir=True)
    return {int(part.name): part for part in sorted(folder.iterdir())}


def split_by(rows: pl.LazyFrame, column: str, n_rows: int, folder: Path) -> list[Path]:
    """Split a table by ranges of a column into parts of about `ROWS_AT_ONCE` rows.

    Parameters
    ----------
    rows : LazyFrame
        Cheap to read twice.
    column : str
        Ids, or numbers; rows without one are in the first part.
    n_rows : int
        Number of rows.
    folder : Path
        Gets the parts; not there before.

    Returns
    -------
    list of Path
        Folders of Parquet files, by ascending values; none where the rows are few
        enough to be one part.
    """
    n_parts = -(-n_rows // ROWS_AT_ONCE)
    if n_parts <= 1:
        return []
    step = max(n_rows // (n_parts * VALUES_PER_PART), 1)
    # By a hash of their number, since rows may come in a cycle of ids.
    looked_at = rows.select(column).with_row_index("n")
    looked_at = looked_at.filter(pl.col("n").hash(seed=0) % step == 0).select(column)
    values = looked_at.collect(engine="streaming")[column].drop_nulls().sort()
    firsts = values.gather(
        [len(values) * part // n_parts for part in range(1, n_parts)]
    ).unique(maintain_order=True)
    number = pl.col(column).map_batches(
        lambda cells: firsts.search_sorted(cells, side="right").fill_null(0),
        return_dtype=pl.UInt32,
        is_elementwise=True,
    )
    return list(write_parts(rows, number, folder).values())


def parts_of(path: Path) -> list[Path]:
    """Return the parts of a table: those in a folder, or the one file."""
    return sorted(path.iterdir()) if path.is_dir() else [path]


def slices(table: pl.LazyFrame, n_rows: int) -> Iterator[pl.DataFrame]:
    """Yield the rows of a Parquet file in turn, at most so many at a time."""
    n_all = table.select(pl.len()).collect().item()
    for start in range(0, n_all, n_rows):
        yield table.slice(start, n_rows).collect()
