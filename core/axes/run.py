"""What is done to the axes: a run, a name, going back; in `core.lifecycle`'s order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from core.artifacts.folder import StageWriter
from core.artifacts.runs import REJECTED, content_digest
from core.axes import output
from core.axes.assign import AxesAssigner
from core.axes.features.catalog import features_available
from core.axes.features.compute import known_channels
from core.axes.files import FILES, axes_folder
from core.axes.fit import AxesOptions, fit_axes
from core.axes.report import found_of
from core.axes.sample import generate_shoppers
from core.axes.told import told_axes
from core.config import Config
from core.lifecycle.playbook import run_playbook, save_playbook, system_playbook
from core.lifecycle.run import RunResult, run_segmentation
from core.lifecycle.segmentation import Placed, Segmentation, StoreLoader, Tables
from core.lifecycle.told import placed
from core.logging import get_logger
from core.reporting.board import Board
from core.spark.session import is_spark
from core.tables.lines import Money
from core.tables.orders import (
    Purchases,
    check_handed_in,
    purchases_from_frames,
    read_purchases,
)

_DECIDING = ("max_segments", "min_segments", "fit_customers")


class CustomerAxes(Segmentation[Purchases, AxesAssigner]):
    """The part of the axes in `core.lifecycle`.

    Parameters
    ----------
    config : Config
    orders, items, lines : frame, optional
        Rows instead of files, see `run_axes`.
    """

    files = FILES
    assigner = AxesAssigner

    def __init__(
        self, config: Config, orders: Any = None, items: Any = None, lines: Any = None
    ) -> None:
        super().__init__(config)
        self.rows = orders, items, lines
        # Of lines that are those of some customers: what those of all tell.
        self.money: Money | None = None

    @property
    def store(self) -> str:
        """See `Segmentation`."""
        return self.config.axes.store

    @property
    def folder(self) -> Path:
        """See `Segmentation`."""
        return axes_folder(self.config.artifacts, self.store)

    def read(self, work: Path) -> Purchases:
        """Return the purchases to be segmented."""
        system_playbook(self.config.axes.playbook, "axes")
        get_logger().info("Reading orders and items")
        orders, items, lines = self.rows
        if orders is not None or lines is not None:
            return purchases_from_frames(
                orders, items, self.asked, work, lines=lines, money=self.money
            )
        check_handed_in(*self.rows)
        return read_purchases(self.asked, work, generate_shoppers)

    def options(self) -> dict[str, Any]:
        """Return bounds, draw, seed and the content of the file of names."""
        axes = self.config.axes
        names = content_digest(axes.names, "axes.names", "a YAML file of naming rules")
        decided = {name: getattr(axes, name) for name in _DECIDING}
        options = {**decided, "seed": self.config.seed, "names": names}
        if axes.playbook is not None:
            options["playbook"] = content_digest(
                axes.playbook, "axes.playbook", "a playbook in YAML"
            )
        return options

    def features(self, assigner: AxesAssigner, data: Purchases) -> pl.DataFrame:
        """Return the features as an assigner knows them."""
        return assigner.features(data)

    def learn(
        self, data: Purchases, before: AxesAssigner | None, view: pl.DataFrame | None
    ) -> tuple[AxesAssigner, pl.DataFrame]:
        """Return a new model of all axes, and the features that it was learnt from."""
        absent, channels = data.absent, known_channels(data.orders)
        is_same = before is not None and (before.absent, before.channels) == (
            absent,
            channels,
        )
        if view is not None and is_same:
            features = view
        else:
            get_logger().info("Computing features")
            with self.timed("features"):
                features = _features(data, channels)
        get_logger().info("Learning the axes of %s customers", f"{features.height:,}")
        with self.timed("learning"):
            model = fit_axes(
                features,
                features_available(absent, channels),
                AxesOptions.of(self.config),
                previous=None if before is None else before.model,
            )
        made = AxesAssigner(
            model=model,
            absent=absent,
            channels=channels,
            reference_date=data.reference_date,
        )
        return made, features

    def applied(self, assigner: AxesAssigner, data: Purchases) -> AxesAssigner:
        """Return the assigner with the moment and the terms of these purchases."""
        return replace(
            super().applied(assigner, data),
            negative_orders=self.config.axes.negative_orders,
        )

    def facts(self, data: Purchases, assigner: AxesAssigner) -> dict[str, Any]:
        """Return the counts of rows, and what became of them."""
        return {
            "n_orders": data.orders.height,
            "n_rejected": data.rejected.height,
            "n_items": None if data.items is None else data.items.height,
            "absent": list(data.absent),
            "channels": list(assigner.channels),
            "intake": data.intake,
        }

    def write_data(
        self,
        out: StageWriter,
        data: Purchases,
        features: pl.DataFrame,
        placed: Placed,
        assigner: AxesAssigner,
    ) -> None:
        """Write the rows that could not be used."""
        data.rejected.write_parquet(out.path(REJECTED), compression="zstd")
        save_playbook(out, self.config.axes.playbook, "axes")

    def write_report(
        self, out: StageWriter, tables: Tables, facts: dict[str, Any]
    ) -> None:
        """Write the tables of axes and of their overlap, and the page."""
        output.write_report(out, tables, facts)

    def board(self, out: StageWriter, tables: Tables, facts: dict[str, Any]) -> Board:
        """Return what the dashboard is told."""
        playbook = run_playbook(out, out.config.axes.playbook, "axes")
        axes = told_axes(tables.assigner.model, tables.profiles, playbook)
        divided = [axis for axis in axes if len(placed(axis)) > 1]
        kinds = [row["kind"] for row in facts["axes"]]
        found = found_of(kinds, facts["n_customers"], divided)
        return Board(
            system=FILES.stage,
            title="Customer axes",
            entity="customer",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            as_of=facts["reference_date"][:10],
            headline=found.title,
            axes=axes,
            verdict=found.verdict,
            tiles=[("Axes with segments", f"{len(divided)} of {len(axes)}")],
            notes=[*facts["notes"], *output.intake_notes(facts)],
        )

    def lines(self, facts: dict[str, Any]) -> list[str]:
        """Say what a run did."""
        if not facts["is_changed"]:
            return output.run_sentences("unchanged", **facts)
        return output.run_lines(facts, self.folder)


def _features(purchases: Purchases, channels: tuple[str, ...]) -> pl.DataFrame:
    from core.axes.features.compute import customer_features

    return customer_features(
        purchases.orders,
        purchases.items,
        reference_date=purchases.reference_date,
        absent=purchases.absent,
        channels=channels,
    )


def run_axes(
    config: Config,
    orders: Any = None,
    items: Any = None,
    *,
    lines: Any = None,
    refit: bool = True,
    into_store: StoreLoader | None = None,
) -> RunResult:
    """Segment customers on 13 behavioural axes, and publish their profiles.

    Parameters
    ----------
    config : Config
        Options of ``axes`` and ``store``; without any rows named or handed in the
        built-in sample is segmented.
    orders, items : pandas, Polars, DuckDB or Arrow table, optional
        Rows instead of files; `items` needs `orders`. DataFrames of Spark, or files if
        ``features.engine`` is ``spark``, go to `core.axes.spark.run_axes_on_spark`.
    lines : frame, optional
        Order lines instead of both.
    refit, into_store
        See `core.lifecycle.run.run_segmentation`, for errors as well; a file of names
        that is not one is a `ConfigError`, too.

    Examples
    --------
    Of `examples/customers.py`:

    ```python
    config = Config(artifacts=folder, axes={"sample_customers": 800})
    result = run_axes(config)
    ```
    """
    frames = {"orders": orders, "items": items, "lines": lines}
    if not (any(map(is_spark, frames.values())) or config.features.engine == "spark"):
        axes = CustomerAxes(config, **frames)
        return run_segmentation(axes, refit=refit, into_store=into_store)

    from core.axes.spark import run_axes_on_spark

    def learn(
        settled: Config,
        sample: dict[str, pl.DataFrame],
        notes: list[str],
        money: Money | None,
    ) -> RunResult:
        axes = CustomerAxes(config, **sample)
        axes.asked, axes.notes, axes.money = settled, notes, money
        return run_segmentation(axes, refit=refit, into_store=into_store)

    return run_axes_on_spark(config, frames, learn)
