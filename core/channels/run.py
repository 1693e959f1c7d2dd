"""From the channels' rows to published segments, and what becomes of these.

Order features per channel, customer features, rule segments and micro-segments are a
Parquet file each. The order of a run, names, going back and the store are
`core.lifecycle`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import polars as pl

from core.artifacts.folder import StageWriter, link
from core.artifacts.runs import REJECTED, content_digest
from core.channels import files, report
from core.channels.files import FILES, channels_folder
from core.channels.micro import check_plan, usual_features
from core.channels.model import (
    HOME,
    ChannelsAssigner,
    ChannelsModel,
    Learning,
    Naming,
    learn_channels,
)
from core.channels.outputs import check_outputs, store_outputs, with_models_at_hand
from core.channels.page import TEMPLATES
from core.channels.rows import ChannelRows, rows_of_channels, rows_of_table
from core.channels.sample import with_sample
from core.channels.told import told_axes
from core.channels.words import condition_words
from core.config import Config, MicroPlanItem
from core.errors import ConfigError
from core.lifecycle.playbook import run_playbook, save_playbook, system_playbook
from core.lifecycle.rule_runs import (
    LEFT_OUT,
    require_possible,
    rule_board,
    run_lines,
)
from core.lifecycle.run import RunResult, run_segmentation
from core.lifecycle.segmentation import Placed, Segmentation, StoreLoader, Tables
from core.logging import get_logger
from core.reporting.board import Board
from core.rules.check import require_proven
from core.rules.grammar import RuleSet, read_rules
from core.segments.axes import OUTSIDE, AxesModel
from core.segments.rule_axis import SEGMENT

TARGET: Final = f"{HOME}order_count"
MISSING_CATEGORIES: Final = "categories need `channels.catalog`, and "


class Channels(Segmentation[ChannelRows, ChannelsAssigner]):
    """The part of the channels in `core.lifecycle`.

    Parameters
    ----------
    config : Config
        As it is saved; a run fills in the sample's in `asked`.
    """

    files = FILES
    assigner = ChannelsAssigner

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
        """Return the customers with their features; rules and plan are checked first.

        Raises
        ------
        ContractError
            If the rules do not put every possible customer into one segment.
        """
        options = self.config.channels
        if options.features is None and not options.sources:
            self.asked = with_sample(self.config, work)
        system_playbook(options.playbook, "channels")
        self.asked = with_models_at_hand(self.asked, work)
        _check_plan(self.asked.channels.micro, require_proven(self.rules))
        get_logger().info("Reading customers and computing their features")
        with self.timed("features"):
            if options.features is not None:
                return rows_of_table(options.features, self.asked, work)
            return rows_of_channels(self.asked, work)

    def options(self) -> dict[str, Any]:
        """Return the rules, the plan and what its models hold, naming and seed."""
        channels = self.asked.channels
        given = {
            item.name: content_digest(
                item.model, "channels.micro.model", "a converted model"
            )
            for item in channels.micro
        }
        options = {
            "rules": self.rules.to_yaml(),
            "plan": [
                # Of a model its content counts, and not where it lies.
                item.model_dump(mode="json", exclude={"model"})
                for item in channels.micro
            ],
            "models": given,
            "flags": channels.flags,
            "rename": channels.rename,
            "micro_rename": channels.micro_rename,
            "seed": self.config.seed,
        }
        if channels.playbook is not None:
            options["playbook"] = content_digest(
                channels.playbook, "channels.playbook", "a playbook in YAML"
            )
        return options

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
        require_possible(features, rules, MISSING_CATEGORIES)
        numbers = _numeric(features)
        usual = usual_features(numbers) or [
            name for name in numbers if name not in ChannelsAssigner.figures
        ]
        given = [segment.name for segment in rules.segments]
        check_plan(options.micro, given, numbers)
        plan = [
            item
            if item.features or item.model
            else item.model_copy(update={"features": usual})
            for item in options.micro
        ]
        get_logger().info(
            "Learning the segments of %s customers", f"{features.height:,}"
        )
        terms = Learning(rules, naming, plan, TARGET, self.config.seed)
        earlier = None if before is None else before.model
        assert earlier is None or isinstance(earlier, ChannelsModel)
        with self.timed("learning"):
            model = learn_channels(features, terms, earlier, view)
        made = ChannelsAssigner(model=model, reference_date=data.reference_date)
        return made, features

    def facts(self, data: ChannelRows, assigner: ChannelsAssigner) -> dict[str, Any]:
        """Return what became of the rows and of the customers."""
        reasons = data.left_out["reason"].value_counts(sort=True)
        n_rejected = 0
        if data.rejected is not None:
            scan = pl.scan_parquet(data.rejected, glob=False)
            n_rejected = scan.select(pl.len()).collect().item()
        orders = data.with_figures()["total_orders"]
        return {
            "n_orders": None if orders.is_null().all() else int(orders.sum()),
            "n_rejected": n_rejected,
            "channels": list(data.orders),
            "home": data.home,
            "first_day": None if data.first_day is None else str(data.first_day),
            "left_out": dict(reasons.iter_rows()),
            "account": data.account,
        }

    def write_data(
        self,
        out: StageWriter,
        data: ChannelRows,
        features: pl.DataFrame,
        placed: Placed,
        assigner: ChannelsAssigner,
    ) -> None:
        """Write every stage: features of orders, of customers and for the rules."""
        if data.rejected is not None:
            link(data.rejected, out.path(REJECTED))
        for channel, path in data.orders.items():
            link(path, out.path(files.order_features_file(channel)))
        save_playbook(out, self.config.channels.playbook, "channels")
        data.features.write_parquet(out.path(files.CUSTOMERS), compression="zstd")
        data.left_out.write_parquet(out.path(LEFT_OUT), compression="zstd")
        assert isinstance(assigner.model, ChannelsModel)  # of a channels' assigner
        asked = [feature.name for feature in assigner.model.rules.features]
        features.select("customer_id", *asked).write_parquet(
            out.path(files.RULE_FEATURES), compression="zstd"
        )
        micro = _micro_table(assigner.model, features, placed)
        micro.write_parquet(out.path(files.MICRO_SEGMENTS), compression="zstd")

    def write_report(
        self, out: StageWriter, tables: Tables, facts: dict[str, Any]
    ) -> None:
        """Write the rules, the segments by customer, the summary and the page."""
        report.write_report(out, tables, facts)

    def board(self, out: StageWriter, tables: Tables, facts: dict[str, Any]) -> Board:
        """Return what the dashboard is told."""
        model = tables.assigner.model
        assert isinstance(model, ChannelsModel)  # of a channels' assigner
        playbook = run_playbook(out, out.config.channels.playbook, "channels")
        axes = told_axes(model, tables.profiles, playbook)
        features = {feature.name: feature for feature in model.rules.features}
        called = {own.rule_name: own.name for own in model.axes[SEGMENT].segments}
        rules = [
            (
                called.get(rule.name, rule.name),
                condition_words(model.rules.condition(rule).text(), features),
            )
            for rule in model.rules.segments
        ]
        return rule_board(FILES, TEMPLATES, axes, rules, facts)

    def lines(self, facts: dict[str, Any]) -> list[str]:
        """Say what a run did."""
        page = self.folder / FILES.page
        return run_lines(TEMPLATES, facts, page, ("rules", "micro"))


def _check_plan(plan: Sequence[MicroPlanItem], rules: RuleSet) -> None:
    """Refuse a plan that does not fit the rules, before anything is read."""
    if any(item.name == SEGMENT for item in plan):
        raise ConfigError(
            f"`channels.micro`: an item is called `{SEGMENT}`, which the rule segments "
            "are. Give it another name."
        )
    check_plan(plan, [segment.name for segment in rules.segments])


def _view(data: ChannelRows, naming: Naming, rules: RuleSet) -> pl.DataFrame:
    """Return the features under their names in the rules, and the figures."""
    return naming.view(data.with_figures(), rules)


def _numeric(features: pl.DataFrame) -> list[str]:
    return [name for name, dtype in features.schema.items() if dtype.is_numeric()]


def _micro_table(
    model: AxesModel, features: pl.DataFrame, placed: Placed
) -> pl.DataFrame:
    """Return a row per customer and item that divides the customer.

    ``customer_id``, ``microcluster`` (permanent id, as text), ``Segment`` (the item),
    and the features that the items divide by.
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
            pl.Series("microcluster", own.labels).cast(pl.String),
            pl.lit(axis).alias("Segment"),
            *columns,
        ).filter(pl.Series(own.labels != OUTSIDE))
        for axis, own in placed.items()
        if axis != SEGMENT
    ]
    empty = features.clear().select(
        "customer_id",
        pl.lit("").alias("microcluster"),
        pl.lit("").alias("Segment"),
        *columns,
    )
    return pl.concat([empty, *parts])


def run_channels(
    config: Config,
    frames: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    refit: bool = True,
    into_store: StoreLoader | None = None,
) -> RunResult:
    """Segment the customers of several channels by rules, and further by KMeans.

    Parameters
    ----------
    config : Config
        Options of ``channels`` and ``store``; without sources the built-in sample is
        segmented. If ``features.engine`` is ``spark``, the channels are read there.
    frames : mapping of str to mapping of str to Spark DataFrame, optional
        Rows instead of addresses, see `core.channels.spark.run_channels_on_spark`.
    refit, into_store
        See `core.lifecycle.run.run_segmentation`, for errors as well.

    Raises
    ------
    ConfigError
        If the rules, the plan or the outputs cannot be meant.
    SourceError
        If an output cannot be written; the segments are published then.
    """
    check_outputs(config.channels)
    if frames is not None or config.features.engine == "spark":
        from core.channels.spark import run_channels_on_spark

        def learn(settled: Config, _: Any, notes: list[str]) -> RunResult:
            by = Channels(config)
            by.asked, by.notes = settled, notes
            return run_segmentation(by, refit=refit, into_store=into_store)

        return run_channels_on_spark(config, frames, learn)
    done = run_segmentation(Channels(config), refit=refit, into_store=into_store)
    told = store_outputs(config.channels, done.folder)
    return replace(done, lines=[*done.lines, *told])
