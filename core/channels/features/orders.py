"""Features of one order: when it was placed, what it came to and what was in it.

Expressions of Narwhals over lazy frames, so Polars, DuckDB and Spark give the same.
Quantities are summed as whole millionths, weekdays come from whole days: neither the
order of the rows nor the engine decides a bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl

from core.channels.schema import Categories, ChannelData, Terms
from core.tables.exact import MILLIONTHS, millionths

Rows = nw.LazyFrame[Any]
# Orders whose contents are held at once: some 700 MB with 40 categories.
PART_ORDERS = 1_500_000
# Before any day of the years 1900 to 2199, and whole weeks.
WEEKS = 7 * 10_000
# 1970-01-01 was a Thursday: with Monday 0, a day number and 3 count the weekday.
THURSDAY, SATURDAY = 3, 5
DRIVER, BASE = "categ_dri_", "categ_base_product_"


def count_of(condition: nw.Expr) -> nw.Expr:
    """Return 1 where a condition holds and 0 where it does not or is null (Int32)."""
    return nw.when(condition).then(nw.lit(1)).otherwise(nw.lit(0)).cast(nw.Int32)


def order_features(data: ChannelData) -> dict[str, pl.LazyFrame]:
    """Compute the features of every order, and write a Parquet file per channel.

    Parameters
    ----------
    data : ChannelData
        As `core.channels.intake.read_channels` gives it.

    Returns
    -------
    dict of str to polars.LazyFrame
        Per channel a scan of ``order_features_CHANNEL.parquet``, beside the rows that
        were read: a row per order, with the columns that
        `core.channels.features.catalog` lists.
    """
    return {
        channel: pl.scan_parquet(_write_features(channel, data), glob=False)
        for channel in data.terms.channels
    }


def _write_features(channel: str, data: ChannelData) -> Path:
    """Write the features of a channel's orders, a part of them at a time."""
    folder = data.paths[channel]["orders"].parent
    target = folder / f"order_features_{channel}.parquet"
    n_orders = data.account["channels"][channel]["orders"]["rows_kept"]
    n_parts = -(-n_orders // PART_ORDERS) or 1
    paths = [folder / f"{channel}-{part}.parquet" for part in range(n_parts)]
    for part, path in enumerate(paths):
        is_of = pl.col("order_id").hash(seed=0) % n_parts == part
        orders, items = (
            nw.from_native(rows[channel].filter(is_of))
            for rows in (data.orders, data.items)
        )
        features = order_table(orders, items, data.categories, data.terms)
        features.to_native().sink_parquet(path, compression="lz4")
    if n_parts == 1:
        return paths[0].replace(target)
    pl.scan_parquet(paths, glob=False).sink_parquet(target, compression="lz4")
    return target


def order_table(
    orders: Rows, items: Rows, categories: Categories, terms: Terms
) -> Rows:
    """Return the features of the orders of one channel.

    Parameters
    ----------
    orders, items : LazyFrame
        As `ChannelData` has them, of any library.
    categories : Categories
        Those of the catalogue.
    terms : Terms
        Price buckets and dayparts.
    """
    held = {
        **{DRIVER + name: ("driver_category", name) for name in categories.driver},
        **{BASE + name: ("base_category", name) for name in categories.base},
    }
    contents, unknown = _contents(items, held)
    counts = ["item_count", "veg_count", "n_customised", *held]
    nothing = nw.lit(None).cast(nw.Int32)
    weekday = (nw.col("order_day") + THURSDAY + WEEKS) % 7
    is_all = (nw.col("item_count") > 0) & (nw.col("veg_count") == nw.col("item_count"))
    price = nw.col("total_price")
    return (
        orders.join(contents, on="order_id", how="left")
        .with_columns(nw.col(*counts).fill_null(0))
        .with_columns(
            has_query=nw.col("has_query").cast(nw.Int32),
            is_weekend=count_of(weekday >= SATURDAY),
            daypart=_daypart(nw.col("order_hour"), terms),
            all_veg=count_of(is_all),
            is_customised=count_of(nw.col("n_customised") > 0),
            driver_categories=n_above_0([DRIVER + c for c in categories.driver]),
            base_categories=n_above_0([BASE + c for c in categories.base]),
            **{
                f"{label}_price_flag": count_of((price >= low) & (price < high))
                for label, low, high in terms.prices
            },
        )
        .with_columns(nothing.alias(name) for name in unknown)
        .drop("n_customised")
    )


def _contents(
    items: Rows, held: Mapping[str, tuple[str, str]]
) -> tuple[Rows, list[str]]:
    """Return what was in each order that has items, and features not known of it."""
    names = items.collect_schema().names()
    micro, zero = millionths("quantity"), nw.lit(0)
    has_veg, has_customised = "is_veg" in names, "is_customised" in names
    sums = {
        "item_count": micro,
        "veg_count": nw.when(nw.col("is_veg")).then(micro) if has_veg else zero,
        "n_customised": count_of(nw.col("is_customised")) if has_customised else zero,
        **{
            feature: count_of(nw.col(column) == nw.lit(name))
            for feature, (column, name) in held.items()
        },
    }
    unknown = [] if has_veg else ["veg_count", "all_veg"]
    unknown += [] if has_customised else ["is_customised"]
    quantities = nw.col("item_count", "veg_count").cast(nw.Float64) / MILLIONTHS
    contents = (
        items.with_columns(**sums)
        .group_by("order_id")
        .agg(*(nw.col(name).sum() for name in sums))
        .with_columns(quantities, nw.col("n_customised", *held).cast(nw.Int32))
    )
    return contents, unknown


def n_above_0(columns: Sequence[str]) -> nw.Expr:
    """Return how many columns are above 0; null where there are no columns."""
    if not columns:
        return nw.lit(None).cast(nw.Int32)
    return nw.sum_horizontal(*(count_of(nw.col(name) > 0) for name in columns))


def _daypart(hour: nw.Expr, terms: Terms) -> nw.Expr:
    """Return the name of the part of the day; the last one goes on past midnight."""
    named = nw.lit(terms.dayparts[-1][0])
    for label, first in terms.dayparts:
        named = nw.when(hour >= first).then(nw.lit(label)).otherwise(named)
    return nw.when(~hour.is_null()).then(named)
