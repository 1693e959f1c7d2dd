"""Orders and items of any number of channels, read by one code path.

Columns are matched and cells parsed as everywhere; then times become local, ids become
central ones, and whatever does not count is set aside by reason: rows kept and rows set
aside add up to rows read. Every stage is a Parquet file, passed through in a stream, so
memory grows with the ids of orders and not with the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from core.channels import maps
from core.channels.delivery import with_minutes
from core.channels.items import flag_items
from core.channels.schema import (
    MAPS,
    ORDER_COLUMNS,
    SPECS,
    TABLES,
    Categories,
    ChannelData,
    Terms,
    spec_of,
)
from core.config import Config
from core.errors import SchemaError, SourceError
from core.tables.cells import LARGEST, ParsedRows, latest_moment
from core.tables.columns import FLAGS, ROW, TableSpec, flagged
from core.tables.exact import MILLIONTHS, polars_millionths
from core.tables.files import counted, find_files
from core.tables.readers import (
    READING_OPTIONS,
    ReceivedTable,
    fingerprint,
    read_files,
    scratch_folder,
)
from core.tables.staging import (
    Part,
    account_of,
    checked_part,
    has_fault,
    later_rows,
    marked,
    repeated_rows,
    staged_rows,
)
from core.tables.times import are_days_only, with_local_times

# Of `channels`, beside the dates, what decides which rows count and how.
ROW_OPTIONS = {"home", "timezone", "months_offset", "catalog_columns", "store_columns"}
SOURCE_OPTIONS = {"timezone", "order_columns", "item_columns", "customer_columns"}
REJECTED = "rejected_rows.parquet"


def read_channels(config: Config, work: Path) -> ChannelData:
    """Read the orders and items of every channel that a configuration names.

    Parameters
    ----------
    config : Config
        Options of `channels`; those of `data` about CSV, Excel, dates and decimal marks
        hold here, too. `core.channels.sample.with_sample` names the built-in sample.
    work : Path
        Folder for the Parquet files of every stage, which what is returned scans;
        created if it is not there.

    Raises
    ------
    SourceError
        If data cannot be found, fetched or opened.
    SchemaError
        If columns or rows cannot be used, or the home channel has no order that counts.
    ConfigError
        If an option cannot be meant, or no channel is named.
    """
    Terms.of(config)
    with scratch_folder(work) as scratch:
        tables = {
            key: received(key, address, config, scratch)
            for key, address in addresses(config).items()
        }
        return channels_of(tables, config, work)


Key = tuple[str, str]
"""A channel and one of its tables, or ``""`` and a map of all channels."""


def addresses(config: Config) -> dict[Key, str]:
    """Return where each table is."""
    options = config.channels
    found = {
        (name, table): getattr(source, table)
        for name, source in options.sources.items()
        for table in TABLES
    }
    found |= {("", name): getattr(options, name) for name in MAPS}
    return {key: address for key, address in found.items() if address is not None}


def received(key: Key, address: str, config: Config, scratch: Path) -> ReceivedTable:
    """Return a table as received; what is wrong names the option of its address."""
    try:
        return read_files(*find_files(address, scratch), config.data, scratch)
    except SourceError as error:
        channel, table = key
        place = f"sources.{channel}.{table}" if channel else table
        raise SourceError(f"`channels.{place}`: {error}") from None


@dataclass(frozen=True)
class _Orders:
    """The orders of one channel on their way: read, and flagged but for the window."""

    parsed: ParsedRows
    rows: pl.LazyFrame
    spec: TableSpec
    repeated: pl.DataFrame
    customers: Part | None
    has_times: bool


def channels_of(
    tables: Mapping[Key, ReceivedTable], config: Config, work: Path
) -> ChannelData:
    """Read all channels, and put the result together.

    Parameters
    ----------
    tables : mapping of Key to ReceivedTable
        Of all channels, and the maps.
    config, work
        As for `read_channels`, for errors as well.
    """
    terms = Terms.of(config)
    catalog, categories = None, Categories()
    if ("", "catalog") in tables:
        catalog, categories = maps.read_catalog(tables["", "catalog"], config, work)
    stores = None
    if ("", "stores") in tables:
        stores = maps.read_stores(tables["", "stores"], config, work)
    read = {
        name: _read_orders(tables, name, terms, config, work) for name in terms.channels
    }
    terms = terms.settled(_newest(read) if terms.run_date is None else None)
    intake = _Intake(tables, config, terms, catalog, stores, work)
    for name, orders in read.items():
        intake.take(name, orders)
    general = {"catalog": catalog, "stores": stores}
    return ChannelData(
        orders=intake.scans("orders"),
        items=intake.scans("items"),
        paths=intake.paths,
        categories=categories,
        account={
            **{name: part and part.account for name, part in general.items()},
            "channels": intake.accounts,
            "cutoff_date": str(terms.cutoff_date),
            "run_date": str(terms.run_date),
            "notes": intake.notes,
        },
        rejected=intake.write_rejected(),
        terms=terms,
        fingerprint=_fingerprint(tables, config, terms),
    )


def _fingerprint(
    tables: Mapping[Key, ReceivedTable], config: Config, terms: Terms
) -> str:
    """Return the SHA-256 of contents, and of what decides which rows count and how."""
    sources = config.channels.sources
    content = {
        "tables": {"/".join(key): tables[key].digest for key in sorted(tables)},
        "channels": config.channels.model_dump(include=ROW_OPTIONS),
        "sources": {
            n: s.model_dump(include=SOURCE_OPTIONS) for n, s in sources.items()
        },
        "data": config.data.model_dump(include=READING_OPTIONS),
        "scientific_id": config.data.policies.scientific_id,
        "days": [str(day) for day in terms.dates],
    }
    return fingerprint(content)


def _read_orders(
    tables: Mapping[Key, ReceivedTable],
    channel: str,
    terms: Terms,
    config: Config,
    work: Path,
) -> _Orders:
    """Read the orders of a channel, with local times and central customers."""
    spec = spec_of("orders", channel)
    source = config.channels.sources[channel]
    parsed = staged_rows(
        tables[channel, "orders"],
        source.order_columns,
        spec,
        config.data,
        work / f"{channel}_orders_read.parquet",
    )
    customers, key = None, "customer_id"
    if (channel, "customers") in tables:
        customers, key = maps.read_customers(
            tables[channel, "customers"], channel, config, work, parsed.columns
        )
    if key not in parsed.columns:
        raise SchemaError(_explain_customers(parsed, channel))
    has_times = not are_days_only(parsed)
    zones = terms.zones[channel], terms.zone
    rows = with_minutes(parsed, terms.zones[channel])
    rows = with_local_times(rows, spec, *zones, has_times=has_times)
    hour = pl.col("order_time").dt.hour() if has_times else pl.lit(None)
    rows = rows.with_columns(hour.cast(pl.Int32).alias("order_hour"))
    rows = _with_central_ids(rows, customers, key)
    found = {
        "unmapped_customer": pl.col("customer_id").is_null(),
        "excluded_customer": pl.col("customer_id").is_in(list(terms.excluded)),
    }
    rows = rows.with_columns(flagged(spec, found))
    path = work / f"{channel}_orders_mapped.parquet"
    rows.sink_parquet(path, compression="lz4", statistics=False)
    rows = pl.scan_parquet(path, glob=False)
    repeated = repeated_rows(rows.filter(~has_fault(spec)), ["order_id"])
    later = {"repeated_order": later_rows(repeated, ["order_id"])}
    ids = repeated.group_by("order_id").agg(n_times=pl.len().cast(pl.Int64))
    rows = marked(rows, later, spec)
    return _Orders(parsed, rows, spec, ids, customers, has_times)


def _explain_customers(parsed: ParsedRows, channel: str) -> str:
    """Return why orders cannot be put to customers, and the cures."""
    return (
        f"{parsed.name}: no column `customer_id` in the orders of `{channel}`. Map it "
        f"(`{parsed.spec.mapping('customer_id=NAME')}`), or name a map of order ids to "
        f"customers: `channels.sources.{channel}.customers`."
    )


def _with_central_ids(
    rows: pl.LazyFrame, customers: Part | None, key: str
) -> pl.LazyFrame:
    """Replace the channel's customers by central ones; null where there is none."""
    if customers is None:
        return rows
    known = customers.rows.select(key, "central_id")
    joined = rows.join(known, on=key, how="left")
    names = [n for n in rows.collect_schema().names() if n != "customer_id"]
    return joined.select(*names, pl.col("central_id").alias("customer_id"))


def _newest(read: Mapping[str, _Orders]) -> date | None:
    """Return the day of the newest order that counts, of any channel."""
    tomorrow = latest_moment()
    days = [
        orders.rows.filter(
            ~has_fault(orders.spec) & (pl.col("order_time") <= tomorrow)
        ).select(pl.col("order_time").max())
        for orders in read.values()
    ]
    newest = pl.concat(days).max().collect(engine="streaming").item()
    return None if newest is None else newest.date()


class _Intake:
    """What is made of every channel in turn.

    Attributes
    ----------
    paths, accounts, notes : dict, dict, list
        As `ChannelData` has them.
    """

    def __init__(
        self,
        tables: Mapping[Key, ReceivedTable],
        config: Config,
        terms: Terms,
        catalog: Part | None,
        stores: Part | None,
        work: Path,
    ) -> None:
        self.tables, self.config, self.terms = tables, config, terms
        self.catalog, self.stores, self.work = catalog, stores, work
        self.paths: dict[str, dict[str, Path]] = {}
        self.accounts: dict[str, dict[str, Any]] = {}
        self.notes: list[str] = []
        self.parts = [part for part in (catalog, stores) if part is not None]
        if catalog is None:
            self.notes.append(
                "Without `channels.catalog` nothing is known of categories: no item is "
                "left out for its category, and there are no features of categories."
            )

    def scans(self, table: str) -> dict[str, pl.LazyFrame]:
        """Return what was written of a table, by channel."""
        return {
            name: pl.scan_parquet(paths[table], glob=False)
            for name, paths in self.paths.items()
        }

    def take(self, channel: str, read: _Orders) -> None:
        """Check and write the orders and items of a channel."""
        if not read.has_times:
            self.notes.append(
                f"{channel}: all orders are dated at midnight: they have days without "
                "times. No zone was converted, and no part of the day is known."
            )
        rows = self._within_window(read)
        orders = checked_part(
            read.parsed,
            rows,
            self.config.data,
            channel=channel,
            is_needed=channel == self.terms.home,
        )
        items, promos = self._items(channel, rows, read)
        found = {"orders": orders, "items": items, "customers": read.customers}
        parts = {name: part for name, part in found.items() if part is not None}
        self.accounts[channel] = {name: part.account for name, part in parts.items()}
        self.parts += parts.values()
        self.paths[channel] = {
            "orders": self.work / f"{channel}_orders.parquet",
            "items": self.work / f"{channel}_items.parquet",
        }
        self._tell_of_prices(channel, orders)
        kept = self._with_stores(channel, self._order_columns(orders, read, promos))
        kept.sink_parquet(self.paths[channel]["orders"], compression="lz4")

    def _within_window(self, read: _Orders) -> pl.LazyFrame:
        """Flag the orders outside the window."""
        first, _, run = self.terms.dates
        moment = pl.col("order_time")
        found = {"after_run_date": moment >= run, "before_window": moment < first}
        return read.rows.with_columns(flagged(read.spec, found))

    def _items(
        self, channel: str, orders: pl.LazyFrame, read: _Orders
    ) -> tuple[Part, pl.LazyFrame]:
        """Check and write the items of a channel; also return promotions by order."""
        spec = spec_of("items", channel)
        parsed = staged_rows(
            self.tables[channel, "items"],
            self.config.channels.sources[channel].item_columns,
            spec,
            self.config.data,
            self.work / f"{channel}_items_read.parquet",
        )
        is_kept = ~has_fault(read.spec)
        known = orders.filter(pl.col("order_id").is_not_null())
        known = known.group_by("order_id").agg(is_kept.any().alias("is_kept"))
        catalog = None if self.catalog is None else self.catalog.rows
        rows = flag_items(parsed, known, read.repeated, catalog)
        flags, promos = self._write_items(channel, rows, spec)
        return checked_part(parsed, flags, self.config.data, channel=channel), promos

    def _write_items(
        self, channel: str, rows: pl.LazyFrame, spec: TableSpec
    ) -> tuple[pl.LazyFrame, pl.LazyFrame]:
        """Write the items that count; return the flags of all, and promotions."""
        micro = polars_millionths("quantity").sum()
        promoted = rows.filter(spec.is_first("promo_item")).group_by("order_id")
        tables = {
            "items": rows.filter(~has_fault(spec)).drop(ROW, FLAGS),
            "items_flags": rows.select(ROW, FLAGS),
            "promotions": promoted.agg(promo_items=micro / MILLIONTHS),
        }
        paths = {name: self.work / f"{channel}_{name}.parquet" for name in tables}
        # Together, so that the rows are passed through once.
        sinks = [
            table.sink_parquet(paths[name], compression="lz4", lazy=True)
            for name, table in tables.items()
        ]
        pl.collect_all(sinks, engine="streaming")
        flags, promos = (
            pl.scan_parquet(paths[name], glob=False)
            for name in ("items_flags", "promotions")
        )
        return flags, promos

    def _order_columns(
        self, orders: Part, read: _Orders, promos: pl.LazyFrame
    ) -> pl.LazyFrame:
        """Return the orders kept, with our columns."""
        found = set(read.parsed.columns)
        amounts = [
            _amount(name) if name in found else pl.lit(None, pl.Float64).alias(name)
            for name in ("discount_amount", "promo_amount")
        ]
        optional = [
            pl.col(name)
            if name in found
            else pl.lit(None, ORDER_COLUMNS[name]).alias(name)
            for name in ("has_query", "store_id")
        ]
        rows = orders.rows.join(promos, on="order_id", how="left")
        rows = rows.with_columns(
            *amounts, *optional, pl.col("promo_items").fill_null(0.0)
        )
        return rows.select(*ORDER_COLUMNS)

    def _tell_of_prices(self, channel: str, orders: Part) -> None:
        """Tell of orders below all price buckets; none are below 0."""
        _, lowest, _ = self.terms.prices[0]
        if lowest <= 0:
            return
        n = orders.rows.select((pl.col("total_price") < lowest).sum())
        if n_below := n.collect(engine="streaming").item():
            self.notes.append(
                f"{channel}: {counted(n_below, 'order')} below {lowest:g}, where "
                "`channels.price_bins` begin: in no price bucket."
            )

    def _with_stores(self, channel: str, orders: pl.LazyFrame) -> pl.LazyFrame:
        """Add the details of stores, and tell of orders of unknown ones."""
        if self.stores is None:
            return orders
        details = self.stores.rows
        n = orders.join(details, on="store_id", how="anti").select(pl.len())
        if n_unknown := n.collect(engine="streaming").item():
            self.notes.append(
                f"{channel}: {counted(n_unknown, 'order')} without a store that "
                "`channels.stores` lists, kept without its details."
            )
        return orders.join(details, on="store_id", how="left")

    def write_rejected(self) -> Path:
        """Write the rows set aside of all tables into one file."""
        path = self.work / REJECTED
        rows = pl.concat([part.rejected for part in self.parts], how="diagonal")
        rows.sink_parquet(path, compression="lz4")
        return path


def _amount(name: str) -> pl.Expr:
    """Return an amount, 0 where a cell is empty or beyond +-1e9."""
    is_usable = pl.col(name).is_between(-LARGEST, LARGEST)
    return pl.when(is_usable).then(pl.col(name)).otherwise(0.0).alias(name)


def account_lines(account: Mapping[str, Any]) -> list[str]:
    """Return the account of `ChannelData.account` in sentences, by channel."""
    lines = []
    for channel, parts in account["channels"].items():
        for table, found in parts.items():
            lines += account_of(SPECS[table], found, channel)
    for table in ("catalog", "stores"):
        if (found := account[table]) is not None:
            lines += account_of(SPECS[table], found)
    return [*lines, *account["notes"]]
