"""The sales a model has seen: one row per shop, product and month, kept for refreshes.

A monthly refresh brings the rows of one month, but features look back over years. So
every training run keeps its sales, summed to months, and every refresh adds its own.
Quantities are summed as whole millionths, as everywhere, so features computed from the
archive have the same bits as those computed from the rows that went into it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from pathlib import Path

import polars as pl

from core.config import Config
from core.data.intake import FaultCount, Intake, policies_in_order
from core.data.sources import Sales
from core.features.monthly import MILLIONTHS
from core.months import month_index, month_label

ARCHIVE = "sales.parquet"
KEY = ("year", "month", "shop_id", "product_id")
T = pl.col("year") * 12 + pl.col("month") - 1
OLDEST = pl.CompatLevel.oldest()


def write_archive(sales: Sales, path: Path) -> None:
    """Write checked sales rows, summed per shop, product and month.

    Parameters
    ----------
    sales : Sales
        What was read.
    path : Path
        Gets a Parquet file: ``year, month`` (Int32), ``shop_id, product_id`` (String),
        ``sales_qty`` (Float64, the net quantity, also where it is 0 or negative),
        sorted by `KEY`, no key twice.
    """
    millionths = (pl.col("sales_qty") * MILLIONTHS).round().cast(pl.Int64)
    lines = sales.frame.select(*KEY, millionths=millionths)
    is_repeated = bool(sales.intake.faults["repeated_key"].found)

    def summed(rows: pl.LazyFrame) -> pl.LazyFrame:
        if is_repeated:
            rows = rows.group_by(KEY).agg(pl.col("millionths").sum())
        return rows.select(*KEY, sales_qty=pl.col("millionths") / MILLIONTHS)

    _write_by_month(lines, path, summed)


def _write_by_month(
    rows: pl.LazyFrame,
    path: Path,
    finished: Callable[[pl.LazyFrame], pl.LazyFrame] = lambda month: month,
) -> None:
    """Write rows sorted by `KEY`, a month at a time.

    Sorting eight million rows at once takes 1.8 GB. A row group holds one month, so
    whoever asks for a month reads no other.
    """
    from pyarrow import parquet

    months = rows.select(T.alias("t").unique().sort()).collect()["t"].to_list()
    empty = finished(rows.limit(0)).collect().to_arrow(compat_level=OLDEST)
    with parquet.ParquetWriter(path, empty.schema, compression="zstd") as writer:
        for t in months:
            month = finished(rows.filter(t == T)).sort(KEY).collect()
            writer.write_table(month.to_arrow(compat_level=OLDEST), len(month))


def archived_months(path: Path) -> dict[str, str]:
    """Return the months of an archive, ascending, with a digest of each one's rows."""
    rows = pl.scan_parquet(path, glob=False)
    found = {}
    for t in rows.select(T.alias("t").unique().sort()).collect()["t"].to_list():
        month = rows.filter(t == T).collect()
        # The bytes of the values: the same with another release of Polars, which
        # hashes of rows would not be.
        digest = hashlib.sha256()
        for name in ("shop_id", "product_id"):
            digest.update("\0".join(month[name]).encode())
        digest.update(month["sales_qty"].to_numpy().tobytes())
        found[month_label(t)] = digest.hexdigest()
    return found


def add_months(
    archive: Path, received: Path, months: Collection[str], path: Path
) -> None:
    """Write an archive in which some months are those received.

    Parameters
    ----------
    archive, received : Path
        Two archives.
    months : collection of str
        ``YYYY-MM``: taken from `received`, in place of those of `archive`.
    path : Path
        Gets the new archive; neither of the others.
    """
    taken = T.is_in([month_index(month) for month in months])
    old = pl.scan_parquet(archive, glob=False).filter(~taken)
    new = pl.scan_parquet(received, glob=False).filter(taken)
    _write_by_month(pl.concat([old, new]), path)


def archived_sales(path: Path, config: Config) -> Sales:
    """Return the rows of an archive as sales that need no further check.

    Parameters
    ----------
    path : Path
        The archive; must outlive the result.
    config : Config
        Its policies are named in the account of the reading, where nothing is found.
    """
    rows = pl.scan_parquet(path, glob=False)
    months = archived_months(path)
    n, n_shops, n_products = (
        rows.select(
            pl.len(),
            pl.col("shop_id").n_unique(),
            pl.col("product_id").n_unique().alias("products"),
        )
        .collect()
        .row(0)
    )
    policies = policies_in_order(config.data.policies)
    intake = Intake(
        rows_read=n,
        rows_kept=n,
        faults={name: FaultCount(0, policy, 0) for name, policy in policies.items()},
        n_shops=n_shops,
        n_products=n_products,
        oldest_month=min(months, default=None),
        newest_month=max(months, default=None),
    )
    rejected = pl.DataFrame(schema={"source_row": pl.UInt32, "reason": pl.String})
    whole = hashlib.sha256("".join(months.values()).encode()).hexdigest()
    return Sales(rows, path, rejected, intake, whole)
