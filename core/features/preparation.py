"""From a source to the features of its eligible shops: for training and for scoring.

``prepare`` reads and checks the rows, sums them to months, settles `as_of` and judges
every shop; the features themselves come batch by batch from ``Prepared.batches``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl

from core.config import Config
from core.data.eligibility import judge
from core.data.sources import Sales, read_sales, sales_from_frame
from core.errors import ConfigError
from core.features.monthly import MAX_MONTHS, shop_activity
from core.features.retailer import (
    EVERY_SHOP,
    ShopRange,
    compute_features,
    write_concentration,
    write_monthly,
)
from core.months import month_index, month_label, month_label_column

# A newest month with less than this share of the median month's shops is taken for
# stray rows (a mistyped year, the first days of a month), unless `as_of` is given.
THIN_MONTH_SHARE = 0.05
# Sales rows grouped at once: 8 million rows of 100,000 shops take some 700 MB.
ROWS_AT_ONCE = 8_000_000


@dataclass(frozen=True)
class Prepared:
    """What is known of a source once its rows are read and its shops are judged.

    Attributes
    ----------
    sales : Sales
        The checked rows, what was set aside and why.
    as_of : str
        Last month looked at, ``YYYY-MM``.
    shops : DataFrame
        One row per shop: ``shop_id, active_months, active_years, first_month,
        last_month, avg_active_months_per_year, reason`` (null: eligible).
    notes : list of str
        What a user should know of how `as_of` was settled.
    work : Path
        Folder of the interim files ``monthly`` and ``concentration``.
    config : Config
        What it was prepared with.
    """

    sales: Sales
    as_of: str
    shops: pl.DataFrame
    notes: list[str]
    work: Path = field(repr=False)
    config: Config = field(repr=False)

    @property
    def eligible(self) -> pl.Series:
        """Return the ids of the eligible shops, ascending."""
        return self.shops.filter(pl.col("reason").is_null())["shop_id"]

    @property
    def exclusions(self) -> pl.DataFrame:
        """Return the shops that are not eligible, each with its reason."""
        return self.shops.filter(pl.col("reason").is_not_null())

    def batches(self, batch_size: int) -> Iterator[pl.DataFrame]:
        """Yield the features of the eligible shops, at most `batch_size` at a time."""
        if self.eligible.is_empty():
            return iter(())
        return compute_features(
            self.work / "monthly",
            self.work / "concentration",
            self.eligible,
            month_index(self.as_of),
            self.config.features,
            batch_size,
        )


def prepare(config: Config, work: Path, frame: Any = None) -> Prepared:
    """Read, check and sum a source, and judge its shops.

    Parameters
    ----------
    config : Config
        Says what to read and by which rules.
    work : Path
        Folder for interim Parquet files; must outlive the result.
    frame : pandas, Polars, DuckDB or Arrow table, or Sales, optional
        Rows to use instead of the configured source; `Sales` are not checked again.

    Raises
    ------
    SourceError, SchemaError
        If the source cannot be read, or its columns or rows cannot be used.
    ConfigError
        If `as_of` lies before the first month of the data.
    """
    if isinstance(frame, Sales):
        sales = frame
    elif frame is None:
        sales = read_sales(config, work)
    else:
        sales = sales_from_frame(frame, config, work)
    monthly = work / "monthly"
    slices = shop_slices(sales)
    has_unique_keys = sales.intake.faults["repeated_key"].found == 0
    write_monthly(sales.path, monthly, config.features, has_unique_keys, slices)
    as_of_t, notes = settle_as_of(monthly, sales, config.features.as_of)
    concentration = work / "concentration"
    write_concentration(sales.path, concentration, config.features, as_of_t, slices)
    shops = _judge_shops(sales, monthly, as_of_t, config)
    return Prepared(sales, month_label(as_of_t), shops, notes, work, config)


def shop_slices(sales: Sales) -> list[ShopRange]:
    """Return ranges of shop ids with about `ROWS_AT_ONCE` rows each."""
    n_slices = -(-sales.intake.rows_kept // ROWS_AT_ONCE)
    if n_slices <= 1:
        return [EVERY_SHOP]
    shops = sales.frame.select("shop_id").unique().collect(engine="streaming")
    ids = shops["shop_id"].sort()
    size = -(-len(ids) // n_slices)
    parts = [ids.slice(start, size) for start in range(0, len(ids), size)]
    return [(part[0], part[-1]) for part in parts]


def settle_as_of(
    monthly: Path, sales: Sales, wanted: str | None
) -> tuple[int, list[str]]:
    """Return the month index of `as_of`, and what to tell the user about it.

    A month asked for is taken. Otherwise it is the newest month that is complete (dated
    rows reach to its last days) and has at least 5% of the median month's shops.
    """
    months = pl.scan_parquet(monthly).group_by("t").agg(n=pl.len()).sort("t").collect()
    if months.is_empty():
        newest = sales.intake.newest_month or "1900-01"
        return month_index(wanted or newest), []
    t, n = months["t"].to_list(), months["n"].to_list()
    if wanted is not None:
        return month_index(wanted), _notes_on_wanted(wanted, t)
    candidates = [i for i in range(len(t)) if n[i] >= THIN_MONTH_SHARE * _median(n)]
    partial = sales.intake.partial_last_month
    if partial is not None and len(candidates) > 1:
        candidates = [
            i for i in candidates if t[i] < month_index(partial)
        ] or candidates
    last = candidates[-1]
    notes = []
    if last < len(t) - 1:
        why = (
            f"{partial} is not complete"
            if partial == month_label(t[-1]) and last == len(t) - 2
            else "later months are incomplete or hold few shops"
        )
        notes.append(
            f"`as_of` is {month_label(t[last])}: {why} (newest: {month_label(t[-1])} "
            f"with {n[-1]:,} shops). Pass `--as-of` to choose another month."
        )
    return t[last], notes


def _notes_on_wanted(wanted: str, t: list[int]) -> list[str]:
    """Check a month that the user named against the months there are."""
    index = month_index(wanted)
    if index < t[0]:
        raise ConfigError(
            f"`features.as_of` is {wanted}, but the data starts in {month_label(t[0])} "
            f"and ends in {month_label(t[-1])}."
        )
    if index > t[-1]:
        return [f"`as_of` is {wanted}, but the data ends in {month_label(t[-1])}."]
    return []


def _median(values: list[int]) -> float:
    return float(sorted(values)[len(values) // 2])


def _judge_shops(
    sales: Sales, monthly: Path, as_of_t: int, config: Config
) -> pl.DataFrame:
    """Return every shop of the source with its activity and its reason."""
    lazy = nw.from_native(pl.scan_parquet(monthly)).lazy()
    activity = shop_activity(lazy.filter(nw.col("t") <= as_of_t)).to_native()
    everyone = sales.frame.select("shop_id").unique()
    known = everyone.join(activity, on="shop_id", how="left").with_columns(
        pl.col("active_months", "active_years").fill_null(0)
    )
    judged = judge_at(known.collect(engine="streaming"), as_of_t, config)
    return judged.with_columns(
        first_month=month_label_column("first_t"),
        last_month=month_label_column("last_t"),
    ).drop("first_t", "last_t")


def judge_at(activity: pl.DataFrame, as_of_t: int, config: Config) -> pl.DataFrame:
    """Judge shops by what they did up to a month.

    Parameters
    ----------
    activity : DataFrame
        `core.features.monthly.shop_activity` of the months up to `as_of_t`.
    as_of_t : int
        Month index.
    config : Config
        Its eligibility rules, and the window of the features.

    Returns
    -------
    DataFrame
        `core.data.eligibility.judge` of it; shops without a sale in the window have a
        reason, too.
    """
    judged = judge(activity, config.eligibility)
    oldest = as_of_t - MAX_MONTHS + 1
    window = config.features.history_months
    if config.features.name == "behaviour":
        oldest = max(oldest, as_of_t - window + 1)
    if (silent := config.eligibility.max_inactive_months) is not None:
        oldest = max(oldest, as_of_t - silent + 1)
    is_gone = pl.col("reason").is_null() & (pl.col("last_t") < oldest)
    gone = f"no sales in the last {as_of_t - oldest + 1} months"
    return judged.with_columns(
        reason=pl.when(is_gone).then(pl.lit(gone)).otherwise(pl.col("reason"))
    )
