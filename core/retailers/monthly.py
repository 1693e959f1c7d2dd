"""Monthly sums of sales per shop, and the sales a model has seen.

The engine (Polars, DuckDB, later Spark) does what grows with the rows: sums, counts and
distinct counts. They are *exact*: quantities are summed as whole millionths, so neither
the order of the rows nor the number of threads can change the last bit of a feature.
What needs algebra is NumPy on the small grid of shops and months (`ShopSeries`).

A monthly refresh brings the rows of one month, but features look back over years. So
every training run keeps its sales, summed to months, and every refresh adds its own.
Quantities are summed as whole millionths, as everywhere, so features computed from the
archive have the same bits as those computed from the rows that went into it.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from core.artifacts.reading import fitting
from core.config import Config
from core.errors import PROGRAM, FeatureMismatchError
from core.months import month_index, month_label
from core.retailers.files import RETAILERS
from core.scratch import temporary_folder
from core.tables.exact import MILLIONTHS, millionths, polars_millionths
from core.tables.faults import FaultCount
from core.tables.parts import parts_of, write_parts
from core.tables.sales import Sales, ValidationReport

MAX_MONTHS = 240
NO_PRODUCTS = (
    "the rows have no `product_id`, which the model was trained with. Name the column "
    "(`--column product_id=NAME`), or train without products: "
    f"`{PROGRAM} run --column product_id=none`."
)


def open_engine(path: Path, engine: str) -> nw.LazyFrame[Any]:
    """Scan a Parquet file, or a folder of some, with ``polars`` or ``duckdb``."""
    if engine == "duckdb":
        import duckdb

        # DuckDB knows no literal path: `[` would be a pattern, `x=1/` a column.
        rows = duckdb.connect().read_parquet(
            [glob.escape(str(file)) for file in parts_of(path)], hive_partitioning=False
        )
        return nw.from_native(rows).lazy()
    return nw.from_native(pl.scan_parquet(path, glob=False)).lazy()


def monthly_sales(sales: nw.LazyFrame[Any], unique_keys: bool) -> nw.LazyFrame[Any]:
    """Sum sales rows to active months.

    Parameters
    ----------
    sales : LazyFrame
        ``shop_id, product_id, year, month, sales_qty`` (units); a null product is not
        known.
    unique_keys : bool
        Whether no two rows share shop, product, year and month; skips one grouping.

    Returns
    -------
    LazyFrame
        ``shop_id, t, quantity, n_products``: the month index, the net quantity in whole
        millionths of a unit (Int64) and the number of distinct products with a positive
        net quantity (0 where products are not known). Months whose net quantity is not
        above 0 are not active and left out.
    """
    lines = _with_month(sales)
    if not unique_keys:
        lines = lines.group_by("shop_id", "product_id", "t").agg(
            nw.col("quantity").sum()
        )
    is_sold = (nw.col("quantity") > 0) & ~nw.col("product_id").is_null()
    months = lines.with_columns(is_sold=is_sold.cast(nw.Int64))
    return (
        months.group_by("shop_id", "t")
        .agg(nw.col("quantity").sum(), nw.col("is_sold").sum().alias("n_products"))
        .filter(nw.col("quantity") > 0)
    )


def shop_activity(monthly: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Count active months and active calendar years per shop.

    Returns
    -------
    LazyFrame
        ``shop_id, active_months, active_years, first_t, last_t``.
    """
    return (
        monthly.with_columns(year=nw.col("t") // 12)
        .group_by("shop_id")
        .agg(
            nw.len().alias("active_months"),
            nw.col("year").n_unique().alias("active_years"),
            nw.col("t").min().alias("first_t"),
            nw.col("t").max().alias("last_t"),
        )
    )


def product_concentration(
    sales: nw.LazyFrame[Any], first_t: int, as_of_t: int
) -> nw.LazyFrame[Any]:
    """Return the Herfindahl index of each shop's products by quantity.

    Parameters
    ----------
    sales : LazyFrame
        As in `monthly_sales`.
    first_t, as_of_t : int
        First and last month looked at.

    Returns
    -------
    LazyFrame
        ``shop_id, concentration``: the sum of squared quantity shares over products
        with a positive net quantity, in (0, 1]; summed in whole 1e-12, so exact.
    """
    products = (
        _with_month(sales)
        .filter((nw.col("t") >= first_t) & (nw.col("t") <= as_of_t))
        .filter(~nw.col("product_id").is_null())
        .group_by("shop_id", "product_id")
        .agg(nw.col("quantity").sum())
        .filter(nw.col("quantity") > 0)
    )
    totals = products.group_by("shop_id").agg(nw.col("quantity").sum().alias("total"))
    share = nw.col("quantity").cast(nw.Float64) / nw.col("total").cast(nw.Float64)
    return (
        products.join(totals, on="shop_id", how="inner")
        .with_columns(part=(share * share * 1e12).round().cast(nw.Int64))
        .group_by("shop_id")
        .agg(nw.col("part").sum())
        .select("shop_id", concentration=nw.col("part").cast(nw.Float64) / 1e12)
    )


@dataclass(frozen=True)
class ShopSeries:
    """The monthly history of a batch of shops, on one grid.

    Attributes
    ----------
    shop_id : ndarray of str, shape (n_shops,)
        In ascending order.
    t : ndarray of int, shape (n_months,)
        Month indices, ascending without gaps; the last is ``as_of``.
    quantity : ndarray of float, shape (n_shops, n_months)
        Net quantity in units; 0 in a month that is not active.
    n_products : ndarray of float, shape (n_shops, n_months)
        Distinct products sold; 0 in a month that is not active, and in all months where
        products are not known.
    concentration : ndarray of float, shape (n_shops,)
        Herfindahl index of the products; null (NaN) if nothing was sold in the window,
        or products are not known.
    """

    shop_id: np.ndarray
    t: np.ndarray
    quantity: np.ndarray
    n_products: np.ndarray
    concentration: np.ndarray

    @property
    def is_active(self) -> np.ndarray:
        """Whether a shop sold in a month, shape (n_shops, n_months)."""
        return self.quantity > 0

    def parts(self, n_shops: int) -> Iterator[ShopSeries]:
        """Yield it in parts of at most so many shops, at least one."""
        for start in range(0, max(len(self.shop_id), 1), n_shops):
            part = slice(start, start + n_shops)
            yield ShopSeries(
                self.shop_id[part],
                self.t,
                self.quantity[part],
                self.n_products[part],
                self.concentration[part],
            )


def shop_series(
    monthly: Path,
    concentration: Path,
    shops: pl.Series,
    span: tuple[int, int],
    batch_size: int,
) -> Iterator[ShopSeries]:
    """Read the monthly table batch by batch onto grids.

    Parameters
    ----------
    monthly, concentration : Path
        Parquet files, or folders of them, of `monthly_sales` and
        `product_concentration`.
    shops : Series of str
        The shops wanted.
    span : (int, int)
        First month of the grids, which is `grid_start` of everybody's months, and last.
    batch_size : int
        Shops per grid: bounds the memory.
    """
    ordered = shops.sort()
    for offset in range(0, len(ordered), batch_size):
        batch = ordered.slice(offset, batch_size)
        wanted = pl.col("shop_id").is_between(pl.lit(batch[0]), pl.lit(batch[-1]))
        months, shares = (
            pl.scan_parquet(path, glob=False).filter(wanted).collect(engine="streaming")
            for path in (monthly, concentration)
        )
        yield series_of(months, shares, batch, *span)


def grid_start(oldest: int | None, as_of_t: int) -> int:
    """Return the first month of all grids, given the oldest active month of anybody."""
    return max(as_of_t if oldest is None else oldest, as_of_t - MAX_MONTHS + 1)


def series_of(
    monthly: pl.DataFrame,
    concentration: pl.DataFrame,
    shops: pl.Series,
    first_t: int,
    as_of_t: int,
) -> ShopSeries:
    """Put the months of some shops onto one grid.

    Parameters
    ----------
    monthly, concentration : DataFrame
        `monthly_sales` and `product_concentration` of these shops, and any others.
    shops : Series of str
        The shops wanted, ascending.
    first_t, as_of_t : int
        First month of the grid, which is the same for all shops, and the last.
    """
    codes = pl.DataFrame({"shop_id": shops}).with_row_index("code")
    is_in = pl.col("t").is_between(first_t, as_of_t)
    rows = monthly.filter(is_in).join(codes, on="shop_id", how="inner")
    shares = codes.join(concentration, on="shop_id", how="left", maintain_order="left")
    cell = (rows["code"].to_numpy(), rows["t"].to_numpy() - first_t)
    t = np.arange(first_t, as_of_t + 1)
    quantity = np.zeros((len(shops), len(t)))
    quantity[cell] = rows["quantity"].to_numpy() / MILLIONTHS
    n_products = np.zeros((len(shops), len(t)))
    n_products[cell] = rows["n_products"].to_numpy()
    return ShopSeries(
        shop_id=shops.to_numpy(),
        t=t,
        quantity=quantity,
        n_products=n_products,
        concentration=shares["concentration"].cast(pl.Float64).to_numpy(),
    )


def _with_month(sales: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Select ``shop_id, product_id, t, quantity`` with exact whole millionths."""
    # 32-bit first: `year * 12` in a column of 16-bit integers would overflow.
    year, month = nw.col("year").cast(nw.Int32), nw.col("month").cast(nw.Int32)
    return sales.select(
        "shop_id",
        "product_id",
        t=year * 12 + month - 1,
        quantity=millionths("sales_qty"),
    )


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
        sorted by `KEY`, no key twice. A null product is not known.
    """
    quantity = polars_millionths("sales_qty")
    parts = [pl.scan_parquet(part, glob=False) for part in parts_of(sales.path)]
    lines = [part.select(*KEY, millionths=quantity) for part in parts]
    is_repeated = not sales.has_unique_keys

    def summed(rows: pl.LazyFrame) -> pl.LazyFrame:
        if is_repeated:
            rows = rows.group_by(KEY).agg(pl.col("millionths").sum())
        return rows.select(*KEY, sales_qty=pl.col("millionths") / MILLIONTHS)

    _write_by_month(lines, path, summed)


def _write_by_month(
    parts: Sequence[pl.LazyFrame],
    path: Path,
    finished: Callable[[pl.LazyFrame], pl.LazyFrame] = lambda month: month,
) -> None:
    """Write rows sorted by `KEY`, a month of a part of the shops at a time.

    Sorting eight million rows at once takes 1.8 GB. A row group holds one month, so
    whoever asks for a month reads no other.
    """
    from pyarrow import parquet

    empty = finished(parts[0].limit(0)).collect().to_arrow(compat_level=OLDEST)
    with (
        temporary_folder() as work,
        parquet.ParquetWriter(path, empty.schema, compression="zstd") as writer,
    ):
        found = [write_parts(rows, T, work / str(i)) for i, rows in enumerate(parts)]
        for t in sorted(set().union(*found)):
            for rows in (months[t] for months in found if t in months):
                month = finished(pl.scan_parquet(rows, glob=False)).collect().sort(KEY)
                writer.write_table(month.to_arrow(compat_level=OLDEST), len(month))


def archived_months(path: Path) -> dict[str, str]:
    """Return the months of an archive, ascending, with a digest of each one's rows.

    Raises
    ------
    ArtifactError
        If any of its rows cannot be read.
    """
    with fitting(f"`{path}`", RETAILERS):
        return _months_with_digests(pl.scan_parquet(path, glob=False))


def _months_with_digests(rows: pl.LazyFrame) -> dict[str, str]:
    found = {}
    for t in rows.select(T.alias("t").unique().sort()).collect()["t"].to_list():
        month = rows.filter(t == T).collect()
        # The bytes of the values: the same with another release of Polars, which
        # hashes of rows would not be.
        digest = hashlib.sha256()
        for name in ("shop_id", "product_id"):
            digest.update("\0".join(month[name].fill_null("")).encode())
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
    _write_by_month([pl.concat([old, new])], path)


def sales_as_trained(sales: Sales, has_products: bool, path: Path) -> Sales:
    """Return sales with products only where a model was trained with products.

    Parameters
    ----------
    sales : Sales
        For the model.
    has_products : bool
        Whether its training sales had products.
    path : Path
        Gets the rows without products, where they have any and the model does not.

    Raises
    ------
    FeatureMismatchError
        If the model was trained with products and the rows have none.
    """
    if sales.has_products == has_products:
        return sales
    if has_products:
        raise FeatureMismatchError(NO_PRODUCTS)
    sales.frame.with_columns(product_id=pl.lit(None, pl.String)).sink_parquet(path)
    frame = pl.scan_parquet(path, glob=False)
    return replace(sales, frame=frame, path=path, intake=without_products(sales.intake))


def without_products(intake: ValidationReport) -> ValidationReport:
    """Return the account of rows whose products are passed over."""
    note = "The products of the rows are not used: the model was trained without."
    return replace(intake, n_products=None, notes=[*intake.notes, note])


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
            pl.col("product_id").drop_nulls().n_unique().alias("products"),
        )
        .collect()
        .row(0)
    )
    policies = config.data.policies.model_dump()
    intake = ValidationReport(
        rows_read=n,
        rows_kept=n,
        faults={name: FaultCount(0, policy, 0) for name, policy in policies.items()},
        n_shops=n_shops,
        n_products=n_products or None,
        oldest_month=min(months, default=None),
        newest_month=max(months, default=None),
    )
    rejected = pl.DataFrame(schema={"source_row": pl.UInt32, "reason": pl.String})
    whole = hashlib.sha256("".join(months.values()).encode()).hexdigest()
    return Sales(rows, path, rejected, intake, whole)
