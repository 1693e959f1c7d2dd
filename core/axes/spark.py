"""Customer axes on Spark, by the code of one machine: see `core.lifecycle.on_spark`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from core.axes.assign import AxesAssigner
from core.axes.files import axes_folder
from core.config import AxesConfig, Config
from core.errors import ConfigError
from core.lifecycle.on_spark import SparkSystem, run_on_spark
from core.lifecycle.run import RunResult
from core.spark.parts import (
    ACCOUNT,
    CUSTOMER,
    NUMBER,
    REJECTED,
    Tables,
    account_table,
    map_parts,
    merged_account,
    parsed,
    put_to_customers,
    quoted,
    with_customer,
    with_decimal,
)
from core.spark.rows import Reading, parsed_rows
from core.spark.session import read_as_here, session
from core.spark.sources import ODD_LINE, SparkSource, read_source, told_of
from core.spark.tables import collected
from core.tables.cells import latest_moment
from core.tables.columns import FLAGS
from core.tables.lines import (
    Money,
    amount_counts,
    lines_with_headers,
    matched_lines,
    money_told,
    read_lines,
    total_counts,
)
from core.tables.orders import (
    check_handed_in,
    check_named,
    intake_lines,
    purchases_of_part,
)
from core.tables.readers import ReceivedTable
from core.tables.reconcile import ITEMS, LINES, ORDERS, reconcile_orders

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Learn = Callable[[Config, Tables, list[str], Money | None], RunResult]
"""`core.lifecycle.on_spark.Learn`, and how amounts of order lines are written."""

SPECS = {"orders": ORDERS, "items": ITEMS, "lines": LINES}
IDS = {"customer_id": "string", "order_id": "string"}
DATED = {"order_date": "timestamp_ntz"}


def run_axes_on_spark(
    config: Config, frames: Mapping[str, DataFrame | None], learn: Learn
) -> RunResult:
    """Segment customers on 13 behavioural axes, with their rows on Spark.

    Everyone's profiles, features and rows set aside are written to ``spark.output``, as
    ``axes_profiles``, ``axes_features`` and ``axes_rejected``; what the artifacts
    folder holds is of the sample that the axes were learnt from.

    Parameters
    ----------
    config : Config
        Options of ``axes`` and ``spark``.
    frames : mapping of str to Spark DataFrame or None
        ``orders`` and ``items``, or ``lines``: rows instead of ``axes.orders``,
        ``axes.items`` and ``axes.lines``.
    learn : callable
        Learns from the rows of a sample, with a configuration that is settled and
        notes on the sample.

    Raises
    ------
    SourceError, SchemaError, ConfigError
        As `core.axes.run.run_axes`.
    """
    check_handed_in(**frames)
    given = {name: df for name, df in frames.items() if df is not None}
    spark = next((df.sparkSession for df in given.values()), None)
    spark = session(config.spark) if spark is None else spark
    with read_as_here(spark):
        system = _Axes(config, _sources(spark, config, given), learn)
        return run_on_spark(system, config)


def _sources(
    spark: SparkSession, config: Config, given: Mapping[str, DataFrame]
) -> dict[str, SparkSource]:
    """Return the tables handed in, or those that a configuration names."""
    if given:
        return {
            name: SparkSource(df, f"the frame of {name}") for name, df in given.items()
        }
    axes = config.axes
    check_named(axes)
    named = {name: getattr(axes, name) for name in SPECS}
    if not any(named.values()):
        raise ConfigError(
            "`features.engine` is `spark`, and neither `axes.orders` nor `axes.lines` "
            "is set; expected `--orders` or `--lines` with a path or a table's name."
        )
    return {
        name: read_source(spark, address, config.data)
        for name, address in named.items()
        if address is not None
    }


@dataclass(frozen=True)
class _Argument:
    """What placing a part of the customers takes.

    Attributes
    ----------
    config : Config
        Settled by all rows.
    readings : mapping of str to Reading
    money : Money or None
        Of order lines.
    model : bytes
    """

    config: Config
    readings: Mapping[str, Reading]
    money: Money | None
    model: bytes = b""


class _Axes(SparkSystem):
    """The axes for `core.lifecycle.on_spark.run_on_spark`."""

    name = "axes"

    def __init__(
        self, config: Config, sources: Mapping[str, SparkSource], learn: Learn
    ) -> None:
        super().__init__()
        self.config, self.learning = config, learn
        axes, self.money = config.axes, None
        self.taken, self.notes = "", list[str]()
        if "lines" in sources:
            columns, self.taken = _matched(sources["lines"], config)
            axes = axes.model_copy(update={"line_columns": columns})
        wanted = {
            "orders": axes.order_columns,
            "items": axes.item_columns,
            "lines": axes.line_columns,
        }
        found = {
            name: parsed_rows(source, wanted[name], SPECS[name], config.data)
            for name, source in sources.items()
        }
        rows = {}
        for name, own in found.items():
            ids = {key: IDS[key] for key in IDS if key in own.parsed.columns}
            extra = {
                "orders": {**DATED, "total_price": "double"},
                "items": {},
                "lines": DATED,
            }
            rows[name] = self.numbered(name, own, {**ids, **extra[name]})
        # What holds for all parts is decided by the rows of all.
        self.readings = {name: own.reading for name, own in found.items()}
        data = with_decimal(config.data, self.readings)
        self.settled = config.model_copy(update={"axes": axes, "data": data})
        self.tables = {
            name: df.select(CUSTOMER, NUMBER, *quoted(found[name]))
            for name, df in _with_customers(rows).items()
        }
        newest = None
        if "lines" in rows:
            self.money, newest = self._told_by_lines(axes)
        elif axes.reference_date is None:
            newest = _newest(rows["orders"])
        if axes.reference_date is None:
            axes = axes.model_copy(update={"reference_date": newest})
        self.settled = self.settled.model_copy(update={"axes": axes})

    def _told_by_lines(self, axes: AxesConfig) -> tuple[Money, str | None]:
        """Return how amounts of all lines are written, and the newest order."""
        amounts = self._added_up(_amounts_part, None)
        has_price = "price" in axes.line_columns
        money, _ = money_told(amounts, {}, has_price=has_price)
        totals = self._added_up(_totals_part, money)
        money, self.notes = money_told(amounts, totals, has_price=has_price)
        if axes.reference_date is not None:
            return money, None
        newest = self._added_up(_newest_part, money)["newest"]
        return money, max(newest, default=None)

    def _added_up(
        self, function: Callable[[Tables, Any], Tables], money: Money | None
    ) -> dict[str, Any]:
        """Return what a function tells of all parts."""
        argument = _Argument(self.settled, self.readings, money)
        like = {ACCOUNT: account_table({})}
        parts = map_parts(self.tables, function, argument, like, n_rows=self.n_rows)
        return merged_account(parts)

    def learn(self, sample: Tables, notes: list[str]) -> RunResult:
        """See `core.lifecycle.on_spark.SparkSystem`."""
        return self.learning(self.settled, sample, notes, self.money)

    def model(self) -> _Argument:
        """See `core.lifecycle.on_spark.SparkSystem`."""
        folder = axes_folder(self.config.artifacts, self.config.axes.store)
        packed = AxesAssigner.load(folder).to_bytes()
        return _Argument(self.settled, self.readings, self.money, packed)

    @staticmethod
    def assign(tables: Tables, argument: _Argument) -> Tables:
        """See `core.lifecycle.on_spark.SparkSystem`."""
        assigner = AxesAssigner.from_bytes(argument.model)
        received = {
            name: how.received(tables[name]) for name, how in argument.readings.items()
        }
        purchases = purchases_of_part(
            received, argument.config, absent=assigner.absent, money=argument.money
        )
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
        if "lines" in account:
            # Parts have no other columns.
            account["lines"]["taken"] = self.taken
        account["notes"] = self.notes
        return intake_lines(
            {**account, "oldest_order": min(days), "newest_order": max(days)}
        )


def _matched(source: SparkSource, config: Config) -> tuple[dict[str, str], str]:
    """Return `core.tables.lines.matched_lines` of a table on Spark."""
    with told_of(source.name):
        empty = collected(source.df.drop(ODD_LINE).limit(0))
    table = ReceivedTable(source.name, empty.lazy(), "")
    return matched_lines(table, config.axes.line_columns)


def _lines(tables: Tables, how: _Argument) -> pl.DataFrame:
    """Return `core.tables.lines.lines_with_headers` of a part."""
    table = how.readings["lines"].received(tables["lines"])
    columns = how.config.axes.line_columns
    return lines_with_headers(table, columns, how.config.data).rows.collect()


def _amounts_part(tables: Tables, how: _Argument) -> Tables:
    """Return `core.tables.lines.amount_counts` of a part."""
    return {ACCOUNT: account_table(amount_counts(_lines(tables, how)))}


def _totals_part(tables: Tables, how: _Argument) -> Tables:
    """Return `core.tables.lines.total_counts` of a part."""
    assert how.money is not None  # of all lines
    counts = total_counts(_lines(tables, how), how.money.of_orders)
    return {ACCOUNT: account_table(counts)}


def _newest_part(tables: Tables, how: _Argument) -> Tables:
    """Return the moment of the newest order of a part, in a list, if it has any."""
    config = how.config
    table = how.readings["lines"].received(tables["lines"])
    lines = read_lines(table, config.axes.line_columns, config.data, how.money)
    orders = lines.orders.rows.collect()
    of = (config.axes.negative_orders, None, latest_moment())
    _, newest = reconcile_orders(orders, *of)
    told = [] if newest is None else [newest.isoformat()]
    return {ACCOUNT: account_table({"newest": told})}


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
    """Return the rows with `CUSTOMER`; who lacks one has that of the order."""
    customer, order = parsed("customer_id"), parsed("order_id")
    if "lines" in rows:
        return {"lines": _lines_with_customers(rows["lines"])}
    orders, items = rows["orders"], rows.get("items")
    if items is None or (
        customer in items.columns and items.where(f"{customer} IS NULL").isEmpty()
    ):
        return {
            name: with_customer(df, order, df[customer], {})
            for name, df in rows.items()
        }
    return put_to_customers({"": {"orders": orders, "items": items}})[""]


def _lines_with_customers(lines: DataFrame) -> DataFrame:
    """Return order lines with `CUSTOMER`; lines that complete others are with them."""
    from pyspark.sql import functions as f

    customer, order = parsed("customer_id"), parsed("order_id")
    moment = parsed("order_date")
    if order not in lines.columns:
        lines = lines.withColumn(order, f.lit(None).cast("string"))
    lacking = f"{order} IS NOT NULL AND ({customer} IS NULL OR {moment} IS NULL)"
    if lines.where(lacking).isEmpty():
        return with_customer(lines, order, lines[customer], {})
    return put_to_customers({"": {"orders": lines, "items": lines}})[""]["items"]
