"""Baskets on Spark, by the code of one machine: see `core.lifecycle.on_spark`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from core.artifacts.runs import REJECTED as REJECTED_FILE
from core.baskets.files import baskets_folder
from core.baskets.intake import account_lines, baskets_of
from core.baskets.model import BasketsAssigner
from core.baskets.rows import N_ORDERS, REASON, rows_of
from core.baskets.schema import ID, SPECS
from core.baskets.sources import by_table, matched_sources
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
    put_to_customers,
    quoted,
    with_decimal,
)
from core.spark.rows import Reading, parsed_rows
from core.spark.session import read_as_here, session
from core.spark.sources import SparkSource, files_under, read_files, read_source
from core.spark.tables import collected
from core.tables.files import find_files
from core.tables.readers import ReceivedTable, scratch_folder
from core.tables.readers import read_files as read_files_here

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

CATALOGUE = ("products", "aisles")
IDS = {"customer_id": "string", "order_id": "string"}


def run_baskets_on_spark(
    config: Config,
    orders: DataFrame | None,
    items: DataFrame | None,
    learn: Learn,
) -> RunResult:
    """Segment grocery customers by rules, with orders and items on Spark.

    Everyone's profiles, features, reasons and rows set aside are written to
    ``spark.output``, as ``baskets_profiles``, ``baskets_features``,
    ``baskets_left_out`` and ``baskets_rejected``; what the artifacts folder holds is of
    the sample that thresholds were learnt from. Products and aisles are read by the
    driver, as ever.

    Parameters
    ----------
    config : Config
        Options of ``baskets`` and ``spark``.
    orders, items : Spark DataFrame or None
        Rows instead of ``baskets.orders`` and ``baskets.items``; orders without items
        are order lines.
    learn : callable
        Learns from the rows of a sample.

    Raises
    ------
    SourceError, SchemaError, ConfigError
        As `core.baskets.run.run_baskets`.
    """
    spark = session(config.spark) if orders is None else orders.sparkSession
    with read_as_here(spark), temporary_folder() as work:
        given = given_tables(spark, config, orders, items)
        catalogue = _catalogue(given.catalogue, config, work)
        return run_on_spark(_Baskets(config, given, catalogue, learn), config)


@dataclass(frozen=True)
class Given:
    """Where the tables are.

    Attributes
    ----------
    orders : SparkSource
    items : SparkSource or None
        None where orders are order lines.
    catalogue : mapping of str to sequence of str
        Addresses of products and aisles, as far as there are any.
    notes : list of str
        What was not read.
    """

    orders: SparkSource
    items: SparkSource | None
    catalogue: Mapping[str, Sequence[str]]
    notes: list[str]


def given_tables(
    spark: SparkSession,
    config: Config,
    orders: DataFrame | None,
    items: DataFrame | None,
) -> Given:
    """Return what was handed in, or else what a configuration names.

    Raises
    ------
    SourceError, ConfigError
        As `core.spark.sources.read_source`, or if tables are not named.
    """
    named = config.baskets
    places = {name: getattr(named, name) for name in CATALOGUE}
    catalogue = {name: [place] for name, place in places.items() if place is not None}
    if orders is not None:
        frames = {"orders": orders, "items": items}
        one, other = (
            None if df is None else SparkSource(df, f"the frame of {name}")
            for name, df in frames.items()
        )
        assert one is not None  # orders
        return Given(one, other, catalogue, [])
    if named.orders is None and named.items is None:
        return _in_folder(spark, config, catalogue)
    if named.orders is None or named.items is None:
        raise ConfigError(
            "`features.engine` is `spark`; expected both `--orders` and `--items`: a "
            "path or the name of a table each, the same one if it holds order lines."
        )
    found = read_source(spark, named.orders, config.data)
    # The same address twice: order lines.
    of_lines = named.items == named.orders
    beside = None if of_lines else read_source(spark, named.items, config.data)
    return Given(found, beside, catalogue, [])


def _in_folder(
    spark: SparkSession, config: Config, catalogue: Mapping[str, Sequence[str]]
) -> Given:
    """Return the tables of a folder, by the names of its files."""
    source = config.baskets.source
    if source in ("sample", "kaggle") or source.endswith(".zip"):
        raise ConfigError(
            f"`baskets.source` is `{source}`, which is read on one machine. With "
            "`--engine spark`, expected a folder (`--source FOLDER`), or `--orders` "
            "and `--items`; or leave `--engine spark` out."
        )
    found = files_under(spark, source)
    names = [*found]
    places, notes = by_table(source, names)
    files = {table: [names[at] for at in own] for table, own in places.items()}
    orders, items = (
        read_files(spark, {n: found[n] for n in files[table]}, table, config.data)
        for table in ("orders", "items")
    )
    inside = {
        table: [f"{source.rstrip('/')}/{name}" for name in files[table]]
        for table in CATALOGUE
        if table in files
    }
    return Given(orders, items, {**inside, **catalogue}, notes)


def _catalogue(
    addresses: Mapping[str, Sequence[str]], config: Config, work: Path
) -> dict[str, ReceivedTable]:
    """Return products and aisles as far as there are any, in memory."""
    tables = {}
    with scratch_folder(work) as scratch:
        for name, places in addresses.items():
            found = [find_files(place, scratch) for place in places]
            files = [file for own, _ in found for file in own]
            called = found[0][1] if len(found) == 1 else f"{len(files)} files of {name}"
            table = read_files_here(files, called, config.data, scratch)
            tables[name] = replace(table, scan=table.scan.collect().lazy())
    return tables


@dataclass(frozen=True)
class _Argument:
    """What placing a part of the customers takes.

    Attributes
    ----------
    config : Config
    readings : mapping of str to Reading
        Of orders and items.
    catalogue : mapping of str to ReceivedTable
    has_times : bool
        Whether orders have a time of day.
    of_lines : bool
        Whether orders are those of lines of items.
    model : bytes
    """

    config: Config
    readings: Mapping[str, Reading]
    catalogue: Mapping[str, ReceivedTable]
    has_times: bool
    of_lines: bool
    model: bytes


class _Baskets(SparkSystem):
    """The baskets for `core.lifecycle.on_spark.run_on_spark`."""

    name = "baskets"

    def __init__(
        self,
        config: Config,
        found_at: Given,
        catalogue: Mapping[str, ReceivedTable],
        learn: Learn,
    ) -> None:
        super().__init__()
        self.config, self.learning, self.catalogue = config, learn, catalogue
        self.of_lines, self.notes = found_at.items is None, found_at.notes
        orders = found_at.orders
        given = {"orders": orders, "items": found_at.items or orders}
        empty = {
            name: ReceivedTable(own.name, collected(own.df.limit(0)).lazy(), "")
            for name, own in given.items()
        }
        matched = matched_sources(
            {**empty, **catalogue}, config.baskets, config.data, of_lines=self.of_lines
        )
        rows, found = {}, {}
        for name, own in given.items():
            kept = matched.tables[name].columns
            df = own.df.select(*(f"`{column}`" for column in kept))
            if name == "orders" and self.of_lines:
                df = df.distinct()
            source = replace(own, df=df)
            wanted = matched.columns[name]
            found[name] = parsed_rows(source, wanted, SPECS[name], config.data)
            values = {key: IDS[key] for key in IDS if key in wanted}
            if "order_time" in wanted:
                values["order_time"] = "timestamp_ntz"
            rows[name] = self.numbered(name, found[name], values)
        self.readings = {name: own.reading for name, own in found.items()}
        self.has_times = have_times({"": rows["orders"]})[""]
        self.tables = {
            name: df.select(CUSTOMER, NUMBER, *quoted(found[name]))
            for name, df in put_to_customers({"": rows})[""].items()
        }

    def learn(self, sample: Tables, notes: list[str]) -> RunResult:
        """See `core.lifecycle.on_spark.SparkSystem`."""
        data = with_decimal(self.config.data, self.readings)
        with temporary_folder() as work:
            paths = {name: work / f"{name}.parquet" for name in sample}
            for name, rows in sample.items():
                rows.write_parquet(paths[name])
            if self.of_lines:
                paths["orders"] = paths["items"]
            for name, table in self.catalogue.items():
                if getattr(self.config.baskets, name) is None:
                    paths[name] = work / f"{name}.parquet"
                    table.scan.collect().write_parquet(paths[name])
            places = {name: str(path) for name, path in paths.items()}
            baskets = self.config.baskets.model_copy(update=places)
            settled = self.config.model_copy(update={"baskets": baskets, "data": data})
            return self.learning(settled, sample, [*notes, *self.notes])

    def model(self) -> _Argument:
        """See `core.lifecycle.on_spark.SparkSystem`."""
        folder = baskets_folder(self.config.artifacts, self.config.baskets.store)
        return _Argument(
            self.config,
            self.readings,
            self.catalogue,
            self.has_times,
            self.of_lines,
            BasketsAssigner.load(folder).to_bytes(),
        )

    @staticmethod
    def assign(tables: Tables, argument: _Argument) -> Tables:
        """See `core.lifecycle.on_spark.SparkSystem`."""
        config, fewest = argument.config, argument.config.baskets.min_orders
        assigner = BasketsAssigner.from_bytes(argument.model)
        received = {
            name: how.received(tables[name], has_times=argument.has_times)
            for name, how in argument.readings.items()
        }
        with temporary_folder() as work:
            sources = matched_sources(
                {**received, **argument.catalogue},
                config.baskets,
                config.data,
                of_lines=argument.of_lines,
            )
            data = baskets_of(sources, config, work)
            rejected = pl.read_parquet(work / REJECTED_FILE)
            rows = rows_of(data, assigner.model.rules, fewest)
        account = {
            name: {**data.account[name], "hints": [], "notes": []} for name in received
        }
        return {
            "profiles": assigner.profiles(rows.features),
            "features": rows.everyone,
            "left_out": rows.left_out.select(ID, N_ORDERS, REASON),
            REJECTED: rejected.filter(pl.col("table").is_in([*received])),
            ACCOUNT: account_table(account),
        }

    def account(self, account: dict[str, Any]) -> list[str]:
        """See `core.lifecycle.on_spark.SparkSystem`."""
        return account_lines({**account, "notes": []})
