"""What a run of the channels segments: customers with their features.

They are computed from the orders of the channels, or read from a table that was made
before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from core.artifacts.runs import REJECTED
from core.channels.features.customers import customer_features, customers_elsewhere
from core.channels.features.orders import order_features
from core.channels.files import order_features_file
from core.channels.intake import account_lines, read_channels
from core.channels.model import HOME, OMNI
from core.channels.schema import ChannelData
from core.config import Config
from core.errors import SchemaError, listed
from core.tables.files import counted
from core.tables.plain import read_table
from core.tables.readers import fingerprint

ID: Final = "customer_id"
DRIVERS: Final = "unique_dri_category_count"
# What decides the features of a row, beside the rows.
_FEATURE_OPTIONS: Final = {
    "home", "price_bins", "price_labels", "dayparts", "cutoff_date", "max_orders",
    "run_date", "id_column",
}  # fmt: skip


@dataclass(frozen=True)
class ChannelRows:
    """What a run has read and computed, before anything is learnt.

    Attributes
    ----------
    features : DataFrame
        A row per customer who is segmented, by ``customer_id``.
    left_out : DataFrame
        ``customer_id`` and ``reason`` of the others, and features of those who ordered
        in the home channel.
    home : str
        The channel whose customers they are.
    reference_date : datetime
        The moment after the last order that counts.
    fingerprint : str
        SHA-256 of the rows, and of how features were computed from them.
    orders : dict of str to Path
        Order features, a Parquet file per channel; none of a table made before.
    rejected : Path or None
        Parquet of the rows set aside.
    account : list of str
        What became of the rows, in words.
    first_day : date or None
        From which on orders count for customer features; None where not known.
    """

    features: pl.DataFrame
    left_out: pl.DataFrame
    home: str
    reference_date: datetime
    fingerprint: str
    orders: Mapping[str, Path] = field(default_factory=dict)
    rejected: Path | None = None
    account: list[str] = field(default_factory=list)
    first_day: date | None = None

    @property
    def customers(self) -> pl.DataFrame:
        """``customer_id``, each customer once."""
        return self.features.select(ID)

    def with_figures(self) -> pl.DataFrame:
        """Return the features, and what stands of a customer in profiles.

        Of a table made before, as far as it has what they are made of.
        """
        value, n = f"{OMNI}average_order_value", f"{OMNI}order_count"
        made = {
            "lifetime_value": pl.col(value) * pl.col(n),
            "total_orders": pl.col(n),
            "avg_order_value": pl.col(value),
            "days_since_last_purchase": pl.col(f"{OMNI}recency_days"),
            "customer_tenure_days": pl.col(f"{OMNI}tenure_days"),
            "home_orders": pl.col(home_orders(self.features, self.home)),
        }
        known, unknown = set(self.features.columns), pl.lit(None, pl.Float64)
        return self.features.with_columns(
            **{
                name: figure if set(figure.meta.root_names()) <= known else unknown
                for name, figure in made.items()
            }
        )


def rows_of_channels(config: Config, work: Path) -> ChannelRows:
    """Read the channels, and compute the features of orders and customers.

    Raises
    ------
    SourceError, SchemaError, ConfigError
        As `core.channels.intake.read_channels`.
    """
    return channel_rows(read_channels(config, work), config)


def channel_rows(data: ChannelData, config: Config) -> ChannelRows:
    """Compute the features of the orders and customers of what was read."""
    scans = order_features(data)
    lazy = customer_features(scans, data.terms)
    features = lazy.collect(engine="streaming").sort(ID)
    kept, left_out = _segmented(features, data.terms.home, config)
    elsewhere = customers_elsewhere(scans, data.terms).collect(engine="streaming")
    reason = pl.lit(f"no order in {data.terms.home} since {data.terms.cutoff_date}")
    elsewhere = elsewhere.with_columns(reason=reason)
    left_out = pl.concat([left_out, elsewhere], how="diagonal").sort(ID)
    run_date = data.terms.run_date
    assert run_date is not None  # settled by reading
    return ChannelRows(
        kept,
        left_out,
        data.terms.home,
        datetime.combine(run_date, time.min),
        _fingerprint({"rows": data.fingerprint}, config),
        {
            name: paths["orders"].parent / order_features_file(name)
            for name, paths in data.paths.items()
        },
        data.rejected,
        account_lines(data.account),
        data.terms.cutoff_date,
    )


def rows_of_table(address: str, config: Config, work: Path) -> ChannelRows:
    """Read customer features that were made before.

    Parameters
    ----------
    address : str
        File, folder, glob or s3:// address.
    config : Config
    work : Path
        Folder for the rows set aside.

    Raises
    ------
    SourceError
        If the table cannot be found or read.
    SchemaError
        If it has no ids, or a customer twice.
    """
    column = config.channels.id_column
    table = read_table(address, [column], config.data)
    if column != ID:
        table = table.drop(ID, strict=False).rename({column: ID})
    has_id = pl.col(ID).is_not_null()
    rejected, known = work / REJECTED, table.filter(has_id)
    numbered = table.with_row_index("source_row", 1).filter(~has_id)
    numbered.with_columns(reason=pl.lit(f"no {column}")).write_parquet(rejected)
    twice = known.filter(pl.col(ID).is_duplicated())[ID].unique().sort()
    if twice.len():
        raise SchemaError(
            f"`{address}` has {counted(twice.len(), 'customer')} in several rows "
            f"(`{column}`): {listed(twice.head(3).to_list())}. Expected a row per "
            "customer."
        )
    if known.is_empty():
        raise SchemaError(f"`{address}` has no row with a `{column}`.")
    home = config.channels.home or HOME.removesuffix("_")
    kept, left_out = _segmented(known.sort(ID), home, config)
    said = f"Kept {known.height:,} of {counted(table.height, 'row')} ({address})."
    content = {"rows": str(known.sort(ID).hash_rows(seed=0).to_list())}
    content |= {"columns": str(known.schema)}
    date_of = _day_after(known, config)
    return ChannelRows(
        kept,
        left_out,
        home,
        date_of,
        _fingerprint(content, config),
        rejected=rejected,
        account=[said],
    )


def home_orders(features: pl.DataFrame, home: str) -> str:
    """Return the column of the orders in the home channel."""
    name = f"{home}_order_count"
    return name if name in features.columns else f"{HOME}order_count"


def _day_after(features: pl.DataFrame, config: Config) -> datetime:
    """Return the day that was named, or the one after the newest order; else today."""
    if config.channels.run_date is not None:
        day = date.fromisoformat(config.channels.run_date.strip())
        return datetime.combine(day, time.min)
    for name in (f"{OMNI}last_order", f"{HOME}last_order"):
        newest = features[name].max() if name in features.columns else None
        if isinstance(newest, date):
            return datetime.combine(newest + timedelta(days=1), time.min)
    return datetime.combine(datetime.now(UTC).date(), time.min)


def _fingerprint(content: Mapping[str, Any], config: Config) -> str:
    options = config.channels.model_dump(mode="json", include=_FEATURE_OPTIONS)
    return fingerprint({**content, **options})


def _segmented(
    features: pl.DataFrame, home: str, config: Config
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the features of customers who are segmented, and why others are not."""
    most, orders = config.channels.max_orders, home_orders(features, home)
    reason: pl.Expr = pl.lit(None, pl.String)
    if DRIVERS in features.columns:
        is_none = pl.col(DRIVERS) == 0
        reason = pl.when(is_none).then(pl.lit("no item with a driver category"))
    if orders in features.columns:
        said = pl.lit(f"more than {most:,} orders in {home}")
        reason = pl.when(pl.col(orders) > most).then(said).otherwise(reason)
    marked = features.with_columns(reason=reason)
    is_kept = pl.col("reason").is_null()
    return (
        marked.filter(is_kept).drop("reason"),
        marked.filter(~is_kept).select(ID, "reason", pl.exclude(ID, "reason")),
    )
