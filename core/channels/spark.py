"""Channels on Spark, by the code of one machine: see `core.lifecycle.on_spark`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from core.channels.files import channels_folder
from core.channels.intake import Key, account_lines, addresses, channels_of, received
from core.channels.model import ChannelsAssigner, ChannelsModel
from core.channels.rows import channel_rows
from core.channels.schema import MAPS, TABLES, Terms, spec_of
from core.config import Config
from core.errors import ConfigError
from core.lifecycle.on_spark import Learn, SparkSystem, run_on_spark
from core.lifecycle.run import RunResult
from core.scratch import temporary_folder
from core.spark.parts import (
    ACCOUNT,
    CUSTOMER,
    NUMBER,
    REJECTED,
    Tables,
    account_table,
    have_times,
    parsed,
    put_to_customers,
    quoted,
    with_decimal,
)
from core.spark.rows import Reading, SparkRows, parsed_rows
from core.spark.session import read_as_here, session
from core.spark.sources import SparkSource, read_source
from core.spark.tables import map_tables
from core.tables.cells import latest_moment
from core.tables.columns import FLAGS
from core.tables.readers import ReceivedTable, scratch_folder
from core.tables.times import with_local_times

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

IDS = ("customer_id", "order_id", "central_id")
Frames = Mapping[str, Mapping[str, Any]]
"""By channel, Spark DataFrames of ``orders``, ``items`` and ``customers``."""


def run_channels_on_spark(
    config: Config, frames: Frames | None, learn: Learn
) -> RunResult:
    """Segment the customers of several channels, with their rows on Spark.

    Everyone's profiles, features, order features by channel, reasons and rows set aside
    are written to ``spark.output``, as ``channels_profiles``, ``channels_features``,
    ``channels_order_features_CHANNEL``, ``channels_left_out`` and
    ``channels_rejected``; what the artifacts folder holds is of the sample that was
    learnt from. The catalogue and the stores are read by the driver, as ever.

    Parameters
    ----------
    config : Config
        Options of ``channels`` and ``spark``.
    frames : mapping of str to mapping of str to Spark DataFrame, or None
        Rows instead of the addresses in ``channels.sources``, whose other options hold.
    learn : callable
        Learns from the rows of a sample.

    Raises
    ------
    SourceError, SchemaError, ConfigError
        As `core.channels.run.run_channels`.
    """
    options = config.channels
    if not options.sources or options.outputs:
        raise ConfigError(
            "`features.engine` is `spark`; expected `channels.sources`, and no "
            "`channels.outputs`: everyone's tables go to `spark.output`."
        )
    given = None if frames is None else next(iter(frames.values()))["orders"]
    spark = session(config.spark) if given is None else given.sparkSession
    with read_as_here(spark), temporary_folder() as work:
        sources = {
            key: SparkSource(frames[key[0]][key[1]], f"the frame of {'/'.join(key)}")
            if frames is not None and key[1] in frames.get(key[0], {})
            else read_source(spark, address, config.data)
            for key, address in addresses(config).items()
            if key[1] in TABLES
        }
        return run_on_spark(
            _Channels(config, sources, _maps(config, work), learn), config
        )


def _maps(config: Config, work: Path) -> dict[Key, ReceivedTable]:
    """Return the catalogue and the stores as far as they are named, in memory."""
    tables = {}
    with scratch_folder(work) as scratch:
        for key, address in addresses(config).items():
            if key[1] in MAPS:
                table = received(key, address, config, scratch)
                tables[key] = replace(table, scan=table.scan.collect().lazy())
    return tables


@dataclass(frozen=True)
class _Argument:
    """What placing a part of the customers takes.

    Attributes
    ----------
    config : Config
        With `channels.run_date`.
    readings : mapping of Key to Reading
    maps : mapping of Key to ReceivedTable
        The catalogue and the stores.
    have_times : mapping of str to bool
        By channel, whether orders have a time of day.
    model : bytes
    """

    config: Config
    readings: Mapping[Key, Reading]
    maps: Mapping[Key, ReceivedTable]
    have_times: Mapping[str, bool]
    model: bytes


class _Channels(SparkSystem):
    """The channels for `core.lifecycle.on_spark.run_on_spark`."""

    name = "channels"

    def __init__(
        self,
        config: Config,
        sources: Mapping[Key, SparkSource],
        maps: Mapping[Key, ReceivedTable],
        learn: Learn,
    ) -> None:
        super().__init__()
        self.config, self.maps, self.learning = config, maps, learn
        terms = Terms.of(config)
        found = {key: _read(key, own, config) for key, own in sources.items()}
        self.readings = {key: own.reading for key, own in found.items()}
        rows = {
            key: self.numbered("/".join(key), own, _values(own))
            for key, own in found.items()
        }
        scopes: dict[str, dict[str, DataFrame]] = {}
        for name in terms.channels:
            orders = rows[name, "orders"]
            if (name, "customers") in rows:
                kept = found[name, "orders"].parsed.columns
                orders, known = _with_central(orders, rows[name, "customers"], kept)
                scopes[f"{name}/customers"] = {"orders": known}
            scopes[name] = {"orders": orders, "items": rows[name, "items"]}
        self.have_times = have_times(
            {name: rows[name, "orders"] for name in terms.channels}
        )
        self.settled = self._settled(terms, scopes)
        told = put_to_customers(scopes)
        self.tables = {}
        for (name, table), own in found.items():
            where = (f"{name}/customers", "orders")
            scope, of = where if table == "customers" else (name, table)
            df = told[scope][of].select(CUSTOMER, NUMBER, *quoted(own))
            self.tables[f"{name}/{table}"] = df

    def learn(self, sample: Tables, notes: list[str]) -> RunResult:
        """See `core.lifecycle.on_spark.SparkSystem`."""
        options = self.settled.channels
        with temporary_folder() as work:
            places: dict[str, dict[str, str]] = {}
            for number, (key, rows) in enumerate(sample.items()):
                name, _, table = key.rpartition("/")
                path = work / f"{number}_{table}.parquet"
                rows.write_parquet(path)
                places.setdefault(name, {})[table] = str(path)
            sources = {
                name: own.model_copy(update=places[name])
                for name, own in options.sources.items()
            }
            channels = options.model_copy(update={"sources": sources})
            settled = self.settled.model_copy(update={"channels": channels})
            return self.learning(settled, sample, notes)

    def model(self) -> _Argument:
        """See `core.lifecycle.on_spark.SparkSystem`."""
        folder = channels_folder(self.config.artifacts, self.config.channels.store)
        packed = ChannelsAssigner.load(folder).to_bytes()
        return _Argument(
            self.settled, self.readings, self.maps, self.have_times, packed
        )

    @staticmethod
    def assign(tables: Tables, argument: _Argument) -> Tables:
        """See `core.lifecycle.on_spark.SparkSystem`."""
        config = argument.config
        assigner = ChannelsAssigner.from_bytes(argument.model)
        model = assigner.model
        assert isinstance(model, ChannelsModel)  # of a channels' assigner
        found = {
            key: how.received(
                tables["/".join(key)], has_times=argument.have_times[key[0]]
            )
            for key, how in argument.readings.items()
        }
        with temporary_folder() as work:
            data = channels_of({**found, **argument.maps}, config, work)
            rows = channel_rows(data, config)
            rejected = pl.read_parquet(data.rejected)
            orders = {
                f"order_features_{name}": pl.read_parquet(path)
                for name, path in rows.orders.items()
            }
        view = model.naming.view(rows.with_figures(), model.rules)
        account = {
            name: {t: {**own, "hints": [], "notes": []} for t, own in parts.items()}
            for name, parts in data.account["channels"].items()
        }
        return {
            "profiles": assigner.profiles(view),
            "features": rows.features,
            **orders,
            "left_out": rows.left_out.select("customer_id", "reason"),
            REJECTED: rejected.filter(pl.col("channel").is_not_null()),
            ACCOUNT: account_table(account),
        }

    def account(self, account: dict[str, Any]) -> list[str]:
        """See `core.lifecycle.on_spark.SparkSystem`."""
        general: dict[str, Any] = {"catalog": None, "stores": None, "notes": []}
        return account_lines({"channels": account, **general})

    def _settled(
        self, terms: Terms, scopes: Mapping[str, Mapping[str, DataFrame]]
    ) -> Config:
        """Return the configuration with what the rows of all customers decide."""
        readings = {"/".join(key): how for key, how in self.readings.items()}
        data = with_decimal(self.config.data, readings)
        options = self.config.channels
        if terms.run_date is None:
            times = [
                _local_times(scopes[name]["orders"], name, terms, self.have_times[name])
                for name in terms.channels
            ]
            newest = _newest(times)
            if newest is not None:
                run_date = (newest + timedelta(days=1)).date()
                options = options.model_copy(update={"run_date": str(run_date)})
        return self.config.model_copy(update={"channels": options, "data": data})


def _read(key: Key, source: SparkSource, config: Config) -> SparkRows:
    """Return a table of a channel with its columns matched and its marks settled."""
    name, table = key
    option = {"orders": "order_columns", "items": "item_columns"}
    columns = getattr(
        config.channels.sources[name], option.get(table, "customer_columns")
    )
    return parsed_rows(source, columns, spec_of(table, name), config.data)


def _values(rows: SparkRows) -> dict[str, str]:
    """Return what tells whose rows are, and when orders were, with types of Spark."""
    known = rows.parsed.columns
    values = {name: "string" for name in IDS if name in known}
    if "order_time" in known:
        values["order_time"] = "timestamp_ntz"
    return values


def _with_central(
    orders: DataFrame, customers: DataFrame, columns: Mapping[str, str]
) -> tuple[DataFrame, DataFrame]:
    """Return orders with central ids for customers, and the map as orders of these.

    The map goes by the same id as in `core.channels.maps.read_customers`.
    """
    own, order, central = (parsed(n) for n in ("customer_id", "order_id", "central_id"))
    keys = [key for key in (own, order) if key in customers.columns]
    names = {parsed(name): name for name in ("customer_id", "order_id")}
    key = next((key for key in keys if names[key] in columns), keys[0])
    others = [name for name in (own, order) if name != key]
    known = customers.drop(*others).withColumnRenamed(key, order)
    known = known.withColumnRenamed(central, own)
    pairs = known.select(order, own).dropna().groupBy(order).agg({own: "min"})
    pairs = pairs.toDF(key, "__central__")
    told = orders.join(pairs, key, "left").drop(own)
    return told.withColumnRenamed("__central__", own), known


def _newest(times: Sequence[DataFrame]) -> datetime | None:
    """Return the local time of the newest order that may count, of any channel."""
    whole = reduce(lambda one, other: one.union(other), times)
    latest = latest_moment().isoformat(" ")
    counts = whole.where(f"order_time <= timestamp_ntz'{latest}'")
    row = counts.selectExpr("max(order_time) AS newest").head()
    assert row is not None  # of an aggregate
    newest: datetime | None = row["newest"]
    return newest


def _local_times(
    orders: DataFrame, name: str, terms: Terms, with_times: bool
) -> DataFrame:
    """Return local times of orders that may count."""
    moment, customer = parsed("order_time"), parsed("customer_id")
    faults = spec_of("orders", name).mask(spec_of("orders", name).own_faults)
    rows = orders.where(f"({FLAGS} & {faults}) = 0 AND {customer} IS NOT NULL")
    if terms.excluded:
        rows = rows.where(~rows[customer].isin(list(terms.excluded)))
    zones = terms.zones[name], terms.zone
    return map_tables(
        rows.select(moment, FLAGS),
        _local,
        {"order_time": pl.Datetime},
        (name, *zones, with_times),
    )


def _local(table: pl.DataFrame, how: tuple[str, str, str, bool]) -> pl.DataFrame:
    """Return local times of orders."""
    name, zone, local, with_times = how
    rows = table.lazy().rename({parsed("order_time"): "order_time"})
    rows = rows.with_columns(pl.col(FLAGS).reinterpret(signed=False))
    spec = spec_of("orders", name)
    told = with_local_times(rows, spec, zone, local, has_times=with_times)
    return told.select("order_time").collect()
