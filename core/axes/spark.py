"""Customer axes on Spark, by the code of one machine: see `core.lifecycle.on_spark`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from core.axes.assign import AxesAssigner
from core.axes.files import axes_folder
from core.config import Config
from core.errors import ConfigError
from core.lifecycle.on_spark import Learn, SparkSystem, run_on_spark
from core.lifecycle.run import RunResult
from core.spark.parts import (
    ACCOUNT,
    CUSTOMER,
    NUMBER,
    REJECTED,
    Tables,
    account_table,
    parsed,
    put_to_customers,
    quoted,
    with_customer,
    with_decimal,
)
from core.spark.rows import Reading, parsed_rows
from core.spark.session import read_as_here, session
from core.spark.sources import SparkSource, orders_and_items
from core.tables.cells import latest_moment
from core.tables.columns import FLAGS
from core.tables.orders import intake_lines, purchases_of_part
from core.tables.reconcile import ITEMS, ORDERS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# The configuration, how tables are read, and the model.
Argument = tuple[Config, Mapping[str, Reading], bytes]
IDS = {"customer_id": "string", "order_id": "string"}


def run_axes_on_spark(
    config: Config,
    orders: DataFrame | None,
    items: DataFrame | None,
    learn: Learn,
) -> RunResult:
    """Segment customers on 13 behavioural axes, with orders and items on Spark.

    Everyone's profiles, features and rows set aside are written to ``spark.output``, as
    ``axes_profiles``, ``axes_features`` and ``axes_rejected``; what the artifacts
    folder holds is of the sample that the axes were learnt from.

    Parameters
    ----------
    config : Config
        Options of ``axes`` and ``spark``.
    orders, items : Spark DataFrame or None
        Rows instead of ``axes.orders`` and ``axes.items``.
    learn : callable
        Learns from the rows of a sample, with a configuration that is settled and
        notes on the sample.

    Raises
    ------
    SourceError, SchemaError, ConfigError
        As `core.axes.run.run_axes`.
    """
    spark = session(config.spark) if orders is None else orders.sparkSession
    with read_as_here(spark):
        found = _sources(spark, config, orders, items)
        system = _Axes(config, *found, learn)
        return run_on_spark(system, config)


def _sources(
    spark: SparkSession,
    config: Config,
    orders: DataFrame | None,
    items: DataFrame | None,
) -> tuple[SparkSource, SparkSource | None]:
    """Return the orders and items handed in, or those that a configuration names."""
    named = config.axes
    if orders is None and named.orders is None:
        raise ConfigError(
            "`features.engine` is `spark`, and `axes.orders` is not set; expected "
            "`--orders PATH` or the name of a table."
        )
    addresses = named.orders or "", named.items
    return orders_and_items(spark, (orders, items), addresses, config.data)


class _Axes(SparkSystem):
    """The axes for `core.lifecycle.on_spark.run_on_spark`."""

    name = "axes"

    def __init__(
        self,
        config: Config,
        orders: SparkSource,
        items: SparkSource | None,
        learn: Learn,
    ) -> None:
        super().__init__()
        self.config, self.learning = config, learn
        axes, data = config.axes, config.data
        found = {
            "orders": parsed_rows(orders, axes.order_columns, ORDERS, data),
        }
        if items is not None:
            found["items"] = parsed_rows(items, axes.item_columns, ITEMS, data)
        extra = {"order_date": "timestamp_ntz", "total_price": "double"}
        rows = {}
        for name, own in found.items():
            ids = {key: IDS[key] for key in IDS if key in own.parsed.columns}
            wanted = {**ids, **extra} if name == "orders" else ids
            rows[name] = self.numbered(name, own, wanted)
        # What holds for all parts is decided by the rows of all.
        self.readings = {name: own.reading for name, own in found.items()}
        reference = axes.reference_date or _newest(rows["orders"])
        settled = axes.model_copy(update={"reference_date": reference})
        self.settled = config.model_copy(
            update={"axes": settled, "data": with_decimal(data, self.readings)}
        )
        self.tables = {
            name: df.select(CUSTOMER, NUMBER, *quoted(found[name]))
            for name, df in _with_customers(rows).items()
        }

    def learn(self, sample: Tables, notes: list[str]) -> RunResult:
        """See `core.lifecycle.on_spark.SparkSystem`."""
        return self.learning(self.settled, sample, notes)

    def model(self) -> Argument:
        """See `core.lifecycle.on_spark.SparkSystem`."""
        folder = axes_folder(self.config.artifacts, self.config.axes.store)
        return self.settled, self.readings, AxesAssigner.load(folder).to_bytes()

    @staticmethod
    def assign(tables: Tables, argument: Argument) -> Tables:
        """See `core.lifecycle.on_spark.SparkSystem`."""
        config, readings, packed = argument
        assigner = AxesAssigner.from_bytes(packed)
        received = {name: how.received(tables[name]) for name, how in readings.items()}
        purchases = purchases_of_part(received, config, absent=assigner.absent)
        features = assigner.features(purchases)
        return {
            "profiles": assigner.profiles(features),
            "features": features,
            REJECTED: purchases.rejected,
            ACCOUNT: account_table(_account(purchases.intake)),
        }

    def account(self, account: dict[str, Any]) -> list[str]:
        """See `core.lifecycle.on_spark.SparkSystem`."""
        days = account.pop("days")
        return intake_lines(
            {**account, "oldest_order": min(days), "newest_order": max(days)}
        )


def _account(intake: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is told of a part in a form that adds up."""
    days = {intake["oldest_order"], intake["newest_order"]} - {None}
    # Another part may have sold the same products.
    return {**intake, "n_products": None, "days": sorted(days)}


def _newest(orders: DataFrame) -> str | None:
    """Return the moment of the newest order, which stands for now."""
    moment, faults = parsed("order_date"), ORDERS.mask(ORDERS.own_faults)
    latest = latest_moment().isoformat(" ")
    counts = orders.where(
        f"({FLAGS} & {faults}) = 0 AND {parsed('total_price')} >= 0 "
        f"AND {moment} <= timestamp_ntz'{latest}'"
    )
    newest = counts.selectExpr(f"max({moment}) AS newest").head()
    assert newest is not None  # a row of an aggregate
    found: datetime | None = newest["newest"]
    return None if found is None else found.isoformat()


def _with_customers(rows: Mapping[str, DataFrame]) -> dict[str, DataFrame]:
    """Return the rows with `CUSTOMER`; an item without one has that of its order."""
    customer, order = parsed("customer_id"), parsed("order_id")
    orders, items = rows["orders"], rows.get("items")
    if items is None or (
        customer in items.columns and items.where(f"{customer} IS NULL").isEmpty()
    ):
        return {
            name: with_customer(df, order, df[customer], {})
            for name, df in rows.items()
        }
    return put_to_customers({"": {"orders": orders, "items": items}})[""]
