"""Baskets on Spark, by the code of one machine: see `core.lifecycle.on_spark`."""

from __future__ import annotations

from collections.abc import Mapping
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
from core.baskets.sources import matched_sources
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
from core.spark.sources import SparkSource, orders_and_items
from core.spark.tables import collected
from core.tables.files import find_files
from core.tables.readers import ReceivedTable, read_files, scratch_folder

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

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
        found = _sources(spark, config, orders, items)
        catalogue = _catalogue(config, work)
        return run_on_spark(_Baskets(config, *found, catalogue, learn), config)


def _sources(
    spark: SparkSession,
    config: Config,
    orders: DataFrame | None,
    items: DataFrame | None,
) -> tuple[SparkSource, SparkSource | None]:
    """Return orders and items; no items where orders are order lines."""
    named = config.baskets
    if orders is None and (named.orders is None or named.items is None):
        raise ConfigError(
            "`features.engine` is `spark`; expected both `--orders` and `--items`: a "
            "path or the name of a table each, the same one if it holds order lines."
        )
    # The same address twice: order lines.
    addresses = named.orders or "", named.items if named.items != named.orders else None
    return orders_and_items(spark, (orders, items), addresses, config.data)


def _catalogue(config: Config, work: Path) -> dict[str, ReceivedTable]:
    """Return products and aisles as far as they are named, in memory."""
    tables = {}
    with scratch_folder(work) as scratch:
        for name in ("products", "aisles"):
            address = getattr(config.baskets, name)
            if address is not None:
                table = read_files(*find_files(address, scratch), config.data, scratch)
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
        orders: SparkSource,
        items: SparkSource | None,
        catalogue: Mapping[str, ReceivedTable],
        learn: Learn,
    ) -> None:
        super().__init__()
        self.config, self.learning, self.catalogue = config, learn, catalogue
        self.of_lines = items is None
        given = {"orders": orders, "items": orders if items is None else items}
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
            places = {name: str(path) for name, path in paths.items()}
            baskets = self.config.baskets.model_copy(update=places)
            settled = self.config.model_copy(update={"baskets": baskets, "data": data})
            return self.learning(settled, sample, notes)

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
