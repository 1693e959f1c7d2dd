"""Features of one order: when it was placed, what it came to and what was in it.

Expressions of Narwhals over lazy frames, so Polars, DuckDB and Spark give the same.
Quantities are summed as whole millionths, weekdays come from whole days: neither the
order of the rows nor the engine decides a bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl

from core.channels.schema import Categories, ChannelData, Terms
from core.config import Config

Rows = nw.LazyFrame[Any]
MILLIONTHS = 1_000_000
# Before any day of the years 1900 to 2199, and whole weeks.
WEEKS = 7 * 10_000
# 1970-01-01 was a Thursday: with Monday 0, a day number and 3 count the weekday.
THURSDAY, SATURDAY = 3, 5
DRIVER, BASE = "categ_dri_", "categ_base_product_"


def millionths(name: str) -> nw.Expr:
    """Return an amount or quantity in whole millionths, exact in a sum."""
    return (nw.col(name) * MILLIONTHS).round().cast(nw.Int64)


def count_of(condition: nw.Expr) -> nw.Expr:
    """Return 1 where a condition holds and 0 where it does not or is null (Int32)."""
    return nw.when(condition).then(nw.lit(1)).otherwise(nw.lit(0)).cast(nw.Int32)


def order_features(data: ChannelData, config: Config) -> dict[str, pl.LazyFrame]:
    """Compute the features of every order, and write a Parquet file per channel.

    Parameters
    ----------
    data : ChannelData
        As `core.channels.intake.read_channels` gives it.
    config : Config
        Options of `channels`.

    Returns
    -------
    dict of str to polars.LazyFrame
        Per channel a scan of ``order_features_CHANNEL.parquet``, beside the rows that
        were read: a row per order, with the columns that
        `core.channels.features.catalog` lists.
    """
    terms = Terms.of(config)
    features = {}
    for channel, paths in data.paths.items():
        rows = order_table(
            nw.from_native(data.orders[channel]),
            nw.from_native(data.items[channel]),
            data.categories,
            terms,
        )
        target = paths["orders"].parent / f"order_features_{channel}.parquet"
        features[channel] = _written(rows, target)
    return features


def _written(rows: Rows, target: Path) -> pl.LazyFrame:
    native: pl.LazyFrame = rows.to_native()
    native.sink_parquet(target, compression="lz4")
    return pl.scan_parquet(target, glob=False)


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
    contents = _contents(items, categories)
    drivers = [DRIVER + name for name in categories.driver]
    bases = [BASE + name for name in categories.base]
    counts = ["item_count", "veg_count", "n_customised", *drivers, *bases]
    hour = nw.col("order_time").dt.hour()
    weekday = (nw.col("order_day") + THURSDAY + WEEKS) % 7
    return (
        orders.join(contents, on="order_id", how="left")
        .with_columns(nw.col(counts).fill_null(0))
        .with_columns(
            is_weekend=count_of(weekday >= SATURDAY),
            daypart=_daypart(hour, terms),
            all_veg=count_of(
                (nw.col("item_count") > 0)
                & (nw.col("veg_count") == nw.col("item_count"))
            ),
            is_customised=count_of(nw.col("n_customised") > 0),
            has_query=nw.col("has_query").cast(nw.Int32),
            driver_categories=n_above_0(drivers),
            base_categories=n_above_0(bases),
            **{
                f"{label}_price_flag": count_of(
                    (nw.col("total_price") >= low) & (nw.col("total_price") < high)
                )
                for label, low, high in terms.prices
            },
        )
        .drop("n_customised")
    )


def _contents(items: Rows, categories: Categories) -> Rows:
    """Return what was in each order that has items."""
    veg = nw.when(nw.col("is_veg")).then(nw.col("micro")).otherwise(nw.lit(0))
    held = {
        **{
            DRIVER + name: count_of(nw.col("driver_category") == nw.lit(name))
            for name in categories.driver
        },
        **{
            BASE + name: count_of(nw.col("base_category") == nw.lit(name))
            for name in categories.base
        },
    }
    names = ["item_count", "veg_count", "n_customised", *held]
    return (
        items.with_columns(micro=millionths("quantity"))
        .with_columns(
            item_count=nw.col("micro"),
            veg_count=veg.cast(nw.Int64),
            n_customised=count_of(nw.col("is_customised")),
            **held,
        )
        .group_by("order_id")
        .agg(nw.col(name).sum() for name in names)
        .with_columns(
            nw.col("item_count", "veg_count").cast(nw.Float64) / MILLIONTHS,
            nw.col("n_customised", *held).cast(nw.Int32),
        )
    )


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
    return named
