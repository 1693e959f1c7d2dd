"""Rows that are equal to an earlier one, found in bounded memory.

Polars could group by all columns at once, but then holds every distinct row: gigabytes
for tens of millions of rows. Here each row becomes a 64-bit hash first (8 bytes a row);
only rows whose hash occurs twice are compared, cell by cell, a slice at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

ROW = "__row__"
HASH = "__hash__"
# Hashes sorted at once (128 MB), and distinct repeated rows compared at once.
HASHES_AT_ONCE = 16_000_000
DUPLICATES_AT_ONCE = 1_000_000


def comparable(column: str, dtype: pl.DataType) -> pl.Expr:
    """Return a column in a form that hashes and groups the same in every chunk."""
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return pl.col(column).cast(pl.String)
    return pl.col(column)


def repeated_hashes(hashes: pl.LazyFrame) -> tuple[NDArray[np.uint64], int]:
    """Return the hashes that occur more than once, and the number of repeats.

    Parameters
    ----------
    hashes : polars.LazyFrame
        One column `HASH` (UInt64), cheap to read again and again.

    Returns
    -------
    (n,) array of uint64, int
        Sorted; the number counts each occurrence after the first.
    """
    n_rows = int(hashes.select(pl.len()).collect(engine="streaming").item())
    n_slices = -(-n_rows // HASHES_AT_ONCE)
    repeated = [np.empty(0, dtype=np.uint64)]
    n_repeats = 0
    for edges in _slices(n_slices):
        part = hashes.filter(pl.col(HASH).is_between(*edges))
        values = part.collect(engine="streaming")[HASH].to_numpy(writable=True)
        values.sort()
        is_repeat = values[1:] == values[:-1]
        n_repeats += int(is_repeat.sum())
        repeated.append(np.unique(values[1:][is_repeat]))
    return np.concatenate(repeated), n_repeats


def _slices(n_slices: int) -> list[tuple[int, int]]:
    """Return the inclusive edges of equal slices of the 64-bit range."""
    edges = [2**64 * i // max(n_slices, 1) for i in range(n_slices + 1)]
    return [(low, high - 1) for low, high in pairwise(edges)]


def later_duplicates(
    rows: pl.LazyFrame,
    columns: Sequence[pl.Expr],
    repeated: NDArray[np.uint64],
    work: Path,
) -> pl.DataFrame:
    """Return the rows that are equal, cell by cell, to an earlier one.

    Parameters
    ----------
    rows : polars.LazyFrame
        With `ROW` (the order), `HASH` and whatever `columns` needs.
    columns : sequence of polars.Expr
        The cells that make rows equal; null equals null.
    repeated : (n,) array of uint64
        Sorted hashes that occur more than once; other rows are not looked at.
    work : Path
        Folder for intermediate files.

    Returns
    -------
    polars.DataFrame
        One column `ROW`, ascending.
    """
    later = [pl.DataFrame(schema={ROW: pl.UInt32})]
    suspects_path = work / "suspects.parquet"
    cells = [cell.alias(f"cell_{i}") for i, cell in enumerate(columns)]
    names = [f"cell_{i}" for i in range(len(cells))]
    for start in range(0, len(repeated), DUPLICATES_AT_ONCE):
        slice_ = repeated[start : start + DUPLICATES_AT_ONCE]
        wanted = pl.DataFrame({HASH: slice_}).lazy()
        suspects = rows.filter(
            pl.col(HASH).is_between(int(slice_[0]), int(slice_[-1]))
        ).join(wanted, on=HASH, how="semi")
        suspects.select(ROW, *cells).sink_parquet(suspects_path)
        scan = pl.scan_parquet(suspects_path)
        first = scan.group_by(names).agg(pl.col(ROW).min()).select(ROW)
        later.append(
            scan.select(ROW).join(first, on=ROW, how="anti").collect(engine="streaming")
        )
    return pl.concat(later).sort(ROW)
