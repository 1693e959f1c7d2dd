"""From orders and items to published segments, and what becomes of these.

The order of a run, names, going back and the store are `core.lifecycle`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from core.artifacts.folder import Artifacts, StageWriter, link
from core.artifacts.runs import REJECTED, content_digest
from core.baskets import files, outputs
from core.baskets.content import Content
from core.baskets.documents import TEMPLATES
from core.baskets.files import FILES, baskets_folder
from core.baskets.findings import NAMES, TOLD, Inquiry, names_told, watch
from core.baskets.intake import read_baskets
from core.baskets.model import BasketsAssigner, learn_baskets
from core.baskets.monitoring import recalibration_is_due
from core.baskets.playbook import read_playbook
from core.baskets.rows import N_ORDERS, REASON, BasketRows, require_customers, rows_of
from core.config import Config
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
from core.spark.session import is_spark

# Options that decide what a run finds, beside the rows, the rules and the seed.
_DECIDING = ("min_orders", "study", "study_customers", "horizon_days", "cuts")


class Baskets(Segmentation[BasketRows, BasketsAssigner]):
    """The part of the baskets in `core.lifecycle`.

    Parameters
    ----------
    config : Config
    """

    files = FILES
    assigner = BasketsAssigner

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.told: dict[str, Any] = {}
        self.found: Content | None = None

    @property
    def store(self) -> str:
        """See `Segmentation`."""
        return self.config.baskets.store

    @property
    def folder(self) -> Path:
        """See `Segmentation`."""
        return baskets_folder(self.config.artifacts, self.store)

    @property
    def rules(self) -> RuleSet:
        """The rule set of the configuration."""
        return read_rules(self.config.baskets.rules)

    def read(self, work: Path) -> BasketRows:
        """Return the customers with their features; rules and playbook come first.

        Raises
        ------
        ContractError
            If the rules do not put every possible customer into one segment.
        EligibilityError
            If nobody can be segmented.
        """
        rules, fewest = require_proven(self.rules), self.config.baskets.min_orders
        read_playbook(self.config.baskets.playbook)
        get_logger().info("Reading orders and items")
        with self.timed("reading"):
            data = read_baskets(self.asked, work)
        get_logger().info("Computing features of customers")
        with self.timed("features"):
            rows = rows_of(data, rules, fewest)
        require_customers(rows, fewest)
        return rows

    def options(self) -> dict[str, Any]:
        """Return the rules, the seed, and what else decides what is found."""
        baskets = self.config.baskets
        playbook = content_digest(
            baskets.playbook, "baskets.playbook", "a YAML file of actions by segment"
        )
        lifts = content_digest(baskets.lifts, "baskets.lifts", "a table of lifts")
        return {
            "rules": self.rules.to_yaml(),
            "playbook": playbook,
            "lifts": lifts,
            "seed": self.config.seed,
            "experiment": baskets.experiment.model_dump(mode="json"),
            **{name: getattr(baskets, name) for name in _DECIDING},
        }

    def features(self, assigner: BasketsAssigner, data: BasketRows) -> pl.DataFrame:
        """Return the features, which are the same for every model."""
        return data.features

    def learn(
        self,
        data: BasketRows,
        before: BasketsAssigner | None,
        view: pl.DataFrame | None,
    ) -> tuple[BasketsAssigner, pl.DataFrame]:
        """Settle the thresholds of the rules."""
        require_possible(data.features, self.rules)
        earlier = None if before is None else before.model
        with self.timed("learning"):
            model = learn_baskets(data.features, self.rules, earlier, view)
        made = BasketsAssigner(model=model, reference_date=data.reference_date)
        return made, data.features

    def facts(self, data: BasketRows, assigner: BasketsAssigner) -> dict[str, Any]:
        """Return what became of the rows and of the customers."""
        reasons = data.left_out[REASON].value_counts(sort=True)
        rejected = pl.scan_parquet(data.data.rejected, glob=False)
        return {
            "n_orders": int(data.features[N_ORDERS].sum()),
            "n_items": data.data.items.select(pl.len()).collect().item(),
            "n_products": data.data.products.height,
            "n_aisles": data.data.aisles.height,
            "n_rejected": rejected.select(pl.len()).collect().item(),
            "left_out": dict(reasons.iter_rows()),
            "account": data.data.account,
        }

    def write_data(
        self,
        out: StageWriter,
        data: BasketRows,
        features: pl.DataFrame,
        placed: Placed,
        assigner: BasketsAssigner,
    ) -> None:
        """Write the rows set aside, the customers, and what is found out of them."""
        link(data.data.rejected, out.path(REJECTED))
        features.write_parquet(out.path(files.CUSTOMERS), compression="zstd")
        data.left_out.write_parquet(out.path(LEFT_OUT), compression="zstd")
        inquiry = Inquiry(out, data, assigner.segments(features), assigner, self.rules)
        self.told = {TOLD: inquiry.find_out(), NAMES: names_told(assigner)}

    def write_report(
        self, out: StageWriter, tables: Tables, facts: dict[str, Any]
    ) -> None:
        """Write the rules, the segments by customer, the documents and the page."""
        # A name that is given later tells again what the run has found.
        if self.told:
            facts |= self.told
            watch(out, tables, facts)
        self.found = outputs.write_report(out, tables, facts)

    def board(self, out: StageWriter, tables: Tables, facts: dict[str, Any]) -> Board:
        """Return what the dashboard is told."""
        assert self.found is not None  # the report is written first
        rules = [(story.name, story.rule) for story in self.found.placed]
        return rule_board(FILES, TEMPLATES, [self.found.told], rules, facts)

    def lines(self, facts: dict[str, Any]) -> list[str]:
        """Say what a run did."""
        page = self.folder / FILES.page
        return run_lines(TEMPLATES, facts, page, ("segments", "found"))


def is_recalibration_due(config: Config) -> bool:
    """Whether the published run, if any, recommends to learn the thresholds anew."""
    by = Baskets(config)
    return recalibration_is_due(Artifacts(by.folder, FILES.system).published())


def run_baskets(
    config: Config,
    orders: Any = None,
    items: Any = None,
    *,
    refit: bool = True,
    into_store: StoreLoader | None = None,
) -> RunResult:
    """Segment grocery customers by rules, and tell how far the segments carry.

    Parameters
    ----------
    config : Config
        Options of ``baskets`` and ``store``; without orders the built-in sample is
        segmented. If ``features.engine`` is ``spark``, orders and items are read there.
    orders, items : Spark DataFrame, optional
        Rows instead of files, see `core.baskets.spark.run_baskets_on_spark`.
    refit, into_store
        See `core.lifecycle.run.run_segmentation`, for errors as well.

    Raises
    ------
    ConfigError
        If the rules or the playbook cannot be meant.
    ContractError
        If the rules do not put every possible customer into one segment.
    EligibilityError
        If nobody has orders enough.

    Examples
    --------
    Of `examples/baskets.py`:

    ```python
    config = Config(artifacts=folder, baskets={"sample_customers": 200})
    result = run_baskets(config)
    ```
    """
    if is_spark(orders) or config.features.engine == "spark":
        from core.baskets.spark import run_baskets_on_spark

        def learn(settled: Config, _: Any, notes: list[str]) -> RunResult:
            by = Baskets(config)
            by.asked, by.notes = settled, notes
            return run_segmentation(by, refit=refit, into_store=into_store)

        return run_baskets_on_spark(config, orders, items, learn)
    return run_segmentation(Baskets(config), refit=refit, into_store=into_store)
