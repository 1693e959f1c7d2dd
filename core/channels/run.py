"""From the channels' rows to published segments, and what becomes of these.

Order features per channel, customer features, rule segments and micro-segments are a
Parquet file each. The order of a run, names, going back and the store are
`core.lifecycle`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time
from itertools import combinations
from pathlib import Path
from typing import Any

import polars as pl

from core import lifecycle
from core.artifacts.folder import StageWriter, link
from core.artifacts.runs import REJECTED, content_digest
from core.channels import files, report
from core.channels.features.customers import customer_features
from core.channels.features.orders import order_features
from core.channels.files import FILES, channels_folder
from core.channels.intake import account_lines, read_channels
from core.channels.micro import check_plan
from core.channels.model import (
    FLAG,
    HOME,
    SEGMENT,
    ChannelsAssigner,
    ChannelsModel,
    Learning,
    Naming,
    learn_channels,
)
from core.channels.sample import with_sample
from core.channels.schema import ChannelData
from core.config import Config, MicroPlanItem
from core.errors import ConfigError
from core.lifecycle import (
    Placed,
    RunResult,
    Segmentation,
    StoreLoader,
    Tables,
    Told,
)
from core.logging import get_logger
from core.rules.grammar import RuleSet, read_rules
from core.segments.axes import OUTSIDE, AxesModel
from core.tables.readers import fingerprint

TARGET = f"{HOME}order_count"
# What decides the features of a row, beside the rows.
FEATURE_OPTIONS = {
    "home", "price_bins", "price_labels", "dayparts", "cutoff_date", "max_orders",
}  # fmt: skip
DRIVERS = "unique_dri_category_count"


@dataclass(frozen=True)
class ChannelRows:
    """What a run has read and computed, before anything is learnt.

    Attributes
    ----------
    data : ChannelData
    orders : dict of str to Path
        Order features, a Parquet file per channel.
    features : DataFrame
        Customer features, a row per customer who is segmented, by ``customer_id``.
    left_out : DataFrame
        ``customer_id`` and ``reason`` of the others.
    home : str
        The channel whose customers they are.
    fingerprint : str
        SHA-256 of the rows, and of how features were computed from them.
    """

    data: ChannelData
    orders: dict[str, Path]
    features: pl.DataFrame
    left_out: pl.DataFrame
    home: str
    fingerprint: str

    @property
    def reference_date(self) -> datetime:
        """The moment after the last order that counts."""
        return datetime.combine(self.data.terms.dates[1], time.min)

    @property
    def customers(self) -> pl.DataFrame:
        """``customer_id``, each customer once."""
        return self.features.select("customer_id")


class Channels(Segmentation[ChannelRows, ChannelsAssigner]):
    """The part of the channels in `core.lifecycle`.

    Parameters
    ----------
    config : Config
        As it is saved; `asked` is what holds in a run, which fills in the sample's.
    """

    files = FILES
    assigner = ChannelsAssigner

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.asked = config

    @property
    def store(self) -> str:
        """See `Segmentation`."""
        return self.config.channels.store

    @property
    def folder(self) -> Path:
        """See `Segmentation`."""
        return channels_folder(self.config.artifacts, self.store)

    @property
    def rules(self) -> RuleSet:
        """The rule set of the configuration."""
        return read_rules(self.asked.channels.rules)

    def read(self, work: Path) -> ChannelRows:
        """Read the channels, and compute the features of orders and customers."""
        get_logger().info("Reading the orders of the channels")
        if not self.config.channels.sources:
            self.asked = with_sample(self.config, work)
        config = self.asked
        _check_names(config.channels.micro, self.rules)
        with self.timed("reading"):
            data = read_channels(config, work)
        with self.timed("features"):
            get_logger().info("Computing features of orders and customers")
            scans = order_features(data)
            orders = {
                name: paths["orders"].parent / files.order_features_file(name)
                for name, paths in data.paths.items()
            }
            lazy = customer_features(scans, data.terms)
            features = lazy.collect(engine="streaming").sort("customer_id")
        home = data.terms.home
        kept, left_out = _segmented(features, home, config.channels.max_orders)
        options = config.channels.model_dump(mode="json", include=FEATURE_OPTIONS)
        made_from = fingerprint({"rows": data.fingerprint, **options})
        return ChannelRows(data, orders, kept, left_out, home, made_from)

    def options(self) -> dict[str, Any]:
        """Return the rules, the plan and what its models hold, naming and seed."""
        channels = self.asked.channels
        given = {
            item.name: content_digest(
                item.model, "channels.micro.model", "a converted model"
            )
            for item in channels.micro
        }
        return {
            "rules": self.rules.to_yaml(),
            "plan": [item.model_dump(mode="json") for item in channels.micro],
            "models": given,
            "flags": channels.flags,
            "rename": channels.rename,
            "seed": self.config.seed,
        }

    def features(self, assigner: ChannelsAssigner, data: ChannelRows) -> pl.DataFrame:
        """Return the features under the names that a model's own rules have."""
        model = assigner.model
        assert isinstance(model, ChannelsModel)  # of a channels' assigner
        return _view(data, model.naming, model.rules)

    def learn(
        self,
        data: ChannelRows,
        before: ChannelsAssigner | None,
        view: pl.DataFrame | None,
    ) -> tuple[ChannelsAssigner, pl.DataFrame]:
        """Settle the rules, and learn the micro-segments of the plan."""
        rules, options = self.rules, self.asked.channels
        naming = Naming.of(options, data.home)
        features = _view(data, naming, rules)
        numbers = _told_apart_by(features, data.home, list(options.dayparts))
        given = [segment.name for segment in rules.segments]
        check_plan(options.micro, given, _numeric(features))
        plan = [
            item
            if item.features or item.model
            else item.model_copy(update={"features": numbers})
            for item in options.micro
        ]
        get_logger().info(
            "Learning the segments of %s customers", f"{features.height:,}"
        )
        terms = Learning(rules, naming, plan, TARGET, self.config.seed)
        earlier = None if before is None else before.model
        assert earlier is None or isinstance(earlier, ChannelsModel)
        with self.timed("learning"):
            model = learn_channels(features, terms, earlier)
        made = ChannelsAssigner(model=model, reference_date=data.reference_date)
        return made, features

    def facts(self, data: ChannelRows, assigner: ChannelsAssigner) -> dict[str, Any]:
        """Return what became of the rows and of the customers."""
        reasons = data.left_out["reason"].value_counts(sort=True)
        return {
            "n_orders": int(data.features["omnichannel_order_count"].sum()),
            "n_rejected": pl.scan_parquet(data.data.rejected)
            .select(pl.len())
            .collect()
            .item(),
            "channels": list(data.orders),
            "home": data.home,
            "left_out": dict(reasons.iter_rows()),
            "intake": data.data.account,
            "intake_lines": account_lines(data.data.account),
        }

    def write_data(
        self,
        out: StageWriter,
        data: ChannelRows,
        features: pl.DataFrame,
        placed: Placed,
        assigner: ChannelsAssigner,
    ) -> None:
        """Write every stage: features of orders and customers, micro-segments."""
        link(data.data.rejected, out.path(REJECTED))
        for channel, path in data.orders.items():
            link(path, out.path(files.order_features_file(channel)))
        data.features.write_parquet(out.path(files.CUSTOMERS), compression="zstd")
        data.left_out.write_parquet(out.path(files.LEFT_OUT), compression="zstd")
        micro = _micro_table(assigner.model, features, placed)
        micro.write_parquet(out.path(files.MICRO_SEGMENTS), compression="zstd")

    def write_report(
        self, out: StageWriter, tables: Tables, facts: dict[str, Any]
    ) -> None:
        """Write the rules, the segments by customer, the summary and the page."""
        report.write_report(out, tables, facts)

    def lines(self, facts: dict[str, Any]) -> list[str]:
        """Say what a run did."""
        return report.run_lines(facts, self.folder)


def _check_names(plan: Sequence[MicroPlanItem], rules: RuleSet) -> None:
    """Refuse a plan that does not fit the rules, before anything is read."""
    if any(item.name == SEGMENT for item in plan):
        raise ConfigError(
            f"`channels.micro`: an item is called `{SEGMENT}`, which the rule segments "
            "are. Give it another name."
        )
    bare: dict[str, Any] = {"features": [], "model": None, "k": None}
    given = [segment.name for segment in rules.segments]
    check_plan([item.model_copy(update=bare) for item in plan], given, ())


def _segmented(
    features: pl.DataFrame, home: str, max_orders: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the features of customers who are segmented, and why others are not."""
    n_orders = pl.col(f"{home}_order_count")
    reason = (
        pl.when(n_orders > max_orders)
        .then(pl.lit(f"more than {max_orders:,} orders in {home}"))
        .when(pl.col(DRIVERS) == 0)
        .then(pl.lit("no item with a driver category"))
    )
    marked = features.with_columns(reason=reason)
    is_kept = pl.col("reason").is_null()
    return (
        marked.filter(is_kept).drop("reason"),
        marked.filter(~is_kept).select("customer_id", "reason"),
    )


def _view(data: ChannelRows, naming: Naming, rules: RuleSet) -> pl.DataFrame:
    """Return the features under their names in the rules, and the figures."""
    return naming.view(data.features.with_columns(**_figures(data.home)), rules)


def _figures(home: str) -> dict[str, pl.Expr]:
    """Return what stands of a customer in profiles; money over all channels."""
    value, n = "omnichannel_average_order_value", "omnichannel_order_count"
    return {
        "lifetime_value": pl.col(value) * pl.col(n),
        "total_orders": pl.col(n),
        "avg_order_value": pl.col(value),
        "days_since_last_purchase": pl.col("omnichannel_recency_days"),
        "customer_tenure_days": pl.col("omnichannel_tenure_days"),
        "home_orders": pl.col(f"{home}_order_count"),
    }


def _numeric(features: pl.DataFrame) -> list[str]:
    return [name for name, dtype in features.schema.items() if dtype.is_numeric()]


def _told_apart_by(
    features: pl.DataFrame, home: str, dayparts: Sequence[str]
) -> list[str]:
    """Return what an item divides by that names no features.

    That is every number over all channels that no other ones add up to.
    """
    sums = {
        f"{'_'.join(parts)}_order_count"
        for n in range(2, len(dayparts) + 1)
        for parts in combinations(dayparts, n)
    }
    others = {*sums, *ChannelsAssigner.figures}
    return [
        name
        for name in _numeric(features)
        if name not in others
        and not name.endswith(FLAG)
        and not name.startswith((f"{home}_", HOME))
    ]


def _micro_table(
    model: AxesModel, features: pl.DataFrame, placed: Placed
) -> pl.DataFrame:
    """Return a row per customer and item that divides the customer.

    ``customer_id``, ``microcluster`` (permanent id), ``Segment`` (the item), and the
    features that the items divide by.
    """
    columns = list(
        dict.fromkeys(
            name
            for axis, own in model.fitted.items()
            for name in own.features
            if axis != SEGMENT
        )
    )
    parts = [
        features.select(
            "customer_id",
            pl.Series("microcluster", own.labels, dtype=pl.Int32),
            pl.lit(axis).alias("Segment"),
            *columns,
        ).filter(pl.Series(own.labels != OUTSIDE))
        for axis, own in placed.items()
        if axis != SEGMENT
    ]
    empty = features.clear().select(
        "customer_id",
        pl.lit(0, pl.Int32).alias("microcluster"),
        pl.lit("").alias("Segment"),
        *columns,
    )
    return pl.concat([empty, *parts])


def run_channels(
    config: Config, *, refit: bool = True, into_store: StoreLoader | None = None
) -> RunResult:
    """Segment the customers of several channels by rules, and further by KMeans.

    Parameters
    ----------
    config : Config
        Options of ``channels`` and ``store``; without sources the built-in sample is
        segmented.
    refit, into_store
        See `core.lifecycle.run`, for errors as well.

    Raises
    ------
    ConfigError
        If the rules or the plan cannot be meant.
    """
    return lifecycle.run(Channels(config), refit=refit, into_store=into_store)


def rename_segment(
    config: Config,
    axis: str,
    segment_id: int,
    name: str,
    *,
    into_store: StoreLoader | None = None,
) -> Told:
    """Give a segment a name that stays; see `core.lifecycle.rename_segment`."""
    by = Channels(config)
    return lifecycle.rename_segment(by, axis, segment_id, name, into_store=into_store)


def roll_back(
    config: Config, name: str | None = None, *, into_store: StoreLoader | None = None
) -> Told:
    """Publish a kept version again; see `core.lifecycle.roll_back`."""
    return lifecycle.roll_back(Channels(config), name, into_store=into_store)
