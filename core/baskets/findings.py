"""What a run of baskets finds out beside its segments, kept in its files.

What is found is written as tables and as sentences among the facts of the run, and the
documents are written from there: by the run, and again where a segment is given a
name, when nobody has the orders.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from core.artifacts.folder import StageWriter
from core.baskets import files
from core.baskets.experiment import OUTCOMES, plan_experiment
from core.baskets.features import aisle_columns
from core.baskets.model import BasketsAssigner
from core.baskets.monitoring import monitor_run
from core.baskets.out_of_time import Scheme, out_of_time
from core.baskets.parts import Finding, Parts
from core.baskets.playbook import BasketPlaybook, playbook_text, read_playbook
from core.baskets.readiness import Readiness, assess_readiness
from core.baskets.rows import N_ORDERS, BasketRows
from core.baskets.study import Study, learn_clusters, run_study
from core.baskets.validation import Validation, validate_segments
from core.config import BasketsConfig
from core.evaluation.workers import Workers
from core.lifecycle.segmentation import Tables
from core.logging import get_logger
from core.models.centroids import NOWHERE
from core.rules.grammar import RuleSet
from core.segments.rule_axis import SEGMENT

Found = TypeVar("Found")
QUANTILES = (0.2, 0.5, 0.8)
FEW_CUSTOMERS = 1_000
# Methods that learn from many customers in seconds.
QUICK = ("kmeans", "mixture")
# The sentences of a run, and the names that segments have in them.
TOLD, NAMES = "told", "names_told"


@dataclass(frozen=True)
class Inquiry:
    """What is looked into.

    Attributes
    ----------
    out : StageWriter
        Takes the tables.
    rows : BasketRows
    segments : DataFrame
        Of `core.baskets.model.BasketsAssigner.segments`, of `rows.features`.
    assigner : BasketsAssigner
    rules : RuleSet
        As written: each cut of the validation out of time learns its own thresholds.
    told : dict of str to dict
        By topic, what is found beside tables; JSON-able.
    """

    out: StageWriter
    rows: BasketRows
    segments: pl.DataFrame
    assigner: BasketsAssigner
    rules: RuleSet
    told: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def options(self) -> BasketsConfig:
        """What the configuration says of baskets."""
        return self.out.config.baskets

    def find_out(self) -> dict[str, dict[str, Any]]:
        """Look into everything, write the tables, and return what they tell."""
        playbook = _saved_playbook(self.out, self.rows.features.columns)
        self.out.write_csv(files.QUANTILES, quantile_table(self.segments))
        self._readiness()
        self._validation()
        if self.options.study:
            self._study()
        if self.options.cuts:
            self._out_of_time()
        self._experiment(playbook)
        return self.told

    def _readiness(self) -> None:
        found = assess_readiness(
            self.rows.everyone,
            self.rows.data.customers,
            self.rows.data.products.height,
            self.options.min_orders,
        )
        self.out.write_csv(files.READINESS, found.checks)
        self.out.write_csv(files.SIZES_AT, found.thresholds)
        self.told["readiness"] = {"verdict": found.verdict}

    def _validation(self) -> None:
        get_logger().info("Validating the segments")
        found = validate_segments(
            self.rows.features.drop(N_ORDERS),
            self.segments["segment"],
            self.assigner.model.rules,
            self.out.config.seed,
        )
        self.out.write_csv(files.VALIDATION, found.metrics)
        self.out.write_csv(files.DEFINITION_CHECKS, found.definition_checks)
        self.out.write_csv(files.SPLIT_GAPS, found.split_gaps)
        self.told["validation"] = {}

    def _study(self) -> None:
        get_logger().info("Studying which groups customers form")
        n = min(self.rows.features.height, self.options.study_customers)
        # Of a few customers, starting processes takes longer than they save.
        with Workers(None if n > FEW_CUSTOMERS else 0) as workers:
            found = run_study(
                self.rows.features,
                aisle_columns(self.rows.data.aisles),
                seed=self.out.config.seed,
                max_customers=self.options.study_customers,
                segment=self.segments["segment"],
                workers=workers,
            )
        self.out.write_csv(files.SPACES, found.spaces)
        self.out.write_csv(files.STUDY, found.candidates)
        self.told["study"] = {
            "chosen": found.chosen,
            "verdict": found.verdict,
            "recommendation": list(found.recommendation),
            "facts": found.facts,
        }

    def _out_of_time(self) -> None:
        data = self.rows.data
        found = out_of_time(
            data.orders,
            data.items,
            data.products,
            data.aisles,
            self.rules,
            cuts=self.options.cuts,
            horizon_days=self.options.horizon_days,
            min_orders=self.options.min_orders,
            seed=self.out.config.seed,
            schemes=self._clusters(),
        )
        self.out.write_csv(files.OUT_OF_TIME, found.table)
        self.out.write_csv(files.CUTS, found.cuts)
        self.told["out_of_time"] = {"lines": found.lines}

    def _clusters(self) -> dict[str, Scheme]:
        """Return the clusters of the study as a scheme, if any are worth a look."""
        study = self.told.get("study", {"verdict": "none"})
        if study["verdict"] == "none" or study["chosen"]["method"] not in QUICK:
            return {}
        return {
            "clusters": partial(
                learn_clusters,
                aisle_names=aisle_columns(self.rows.data.aisles),
                **{name: study["chosen"][name] for name in ("space", "method", "k")},
                seed=self.out.config.seed,
            )
        }

    def _experiment(self, playbook: BasketPlaybook) -> None:
        own = self.assigner.model.axes[SEGMENT].segments
        plays = {s.name: playbook.play(s.rule_name) for s in own if s.id != NOWHERE}
        plan = plan_experiment(
            self.rows.features,
            self.segments["segment"],
            self.rows.orders,
            self.rows.data.items,
            {name: (play.primary, play.guardrail) for name, play in plays.items()},
            self.options.experiment,
            name=f"{self.options.store}-{self.assigner.version}",
            horizon_days=self.options.horizon_days,
            seed=self.out.config.seed,
        )
        plan.write(self.out)
        self.told["experiment"] = {"lines": plan.lines}


def watch(out: StageWriter, tables: Tables, facts: dict[str, Any]) -> None:
    """Hold a run against the one before, and say whether to learn the thresholds anew.

    Parameters
    ----------
    out : StageWriter
        Takes the triggers and their history.
    tables : Tables
    facts : dict
        Of the run; what it tells is added, and ``monitoring``, what the next run goes
        on from.
    """
    before = out.base if facts["version_before"] is not None else None
    names = tables.assigner.model.names[SEGMENT]
    lifts = out.config.baskets.lifts
    found = monitor_run(tables.profiles, tables.drift, facts, before, names, lifts)
    out.write_csv(files.MONITORING, found.table)
    out.write_csv(files.HISTORY, found.history(before))
    facts["monitoring"] = found.facts
    facts[TOLD]["monitoring"] = {"lines": found.lines}


def _saved_playbook(out: StageWriter, features: Sequence[str]) -> BasketPlaybook:
    """Return the playbook, and keep it for when segments are given names."""
    path = out.config.baskets.playbook
    playbook = read_playbook(path, [*features, *OUTCOMES])
    out.path(files.PLAYBOOK).write_text(playbook_text(path), encoding="utf-8")
    return playbook


def quantile_table(segments: pl.DataFrame) -> pl.DataFrame:
    """Return `feature`, `p20`, `p50` and `p80` of the numbers that rules divide by."""
    numbers = segments.drop("customer_id", "segment_id", "segment")
    return pl.DataFrame(
        [
            {
                "feature": column.name,
                **{f"p{q * 100:.0f}": column.quantile(q, "linear") for q in QUANTILES},
            }
            for column in numbers
            if column.dtype.is_numeric()
        ]
    )


def summary_table(tables: Tables) -> pl.DataFrame:
    """Return a row per segment, in the order of the rules: columns of `SEGMENTS`.

    Orders are those of the segment's customers.
    """
    assigner = tables.assigner
    assert isinstance(assigner, BasketsAssigner)  # of a run of baskets
    rules = {segment.name: segment for segment in assigner.model.rules.segments}
    ids = pl.col("segment_ids").struct.field(SEGMENT).cast(pl.Int64)
    orders = tables.profiles.group_by(ids.alias("segment_id")).agg(
        pl.col(N_ORDERS).sum().cast(pl.Int64).alias("orders")
    )
    own = {s.id: s for s in assigner.model.axes[SEGMENT].segments}
    rows = [
        {
            "segment_id": id_,
            "place": own[id_].cluster if id_ != NOWHERE else len(own),
            "rule": rules[own[id_].rule_name].when.text() if id_ != NOWHERE else "",
        }
        for id_ in own
    ]
    return (
        tables.sizes.filter(axis=SEGMENT)
        .join(pl.DataFrame(rows), on="segment_id")
        .join(orders, on="segment_id", how="left")
        .sort("place")
        .select(
            "segment_id",
            "segment",
            "rule_name",
            pl.col("n_customers").alias("customers"),
            "share",
            pl.col("orders").fill_null(0),
            (pl.col("orders").fill_null(0) / pl.col("orders").sum()).alias(
                "orders_share"
            ),
            pl.col("why").alias("description"),
            "rule",
        )
    )


def parts_of(
    out: StageWriter, tables: Tables, summary: pl.DataFrame, facts: dict[str, Any]
) -> Parts:
    """Return what the documents tell, from the files of this run or of the one before.

    Parameters
    ----------
    out : StageWriter
        What it does not have is read from its base, and written again under the names
        that segments have now.
    tables : Tables
    summary : DataFrame
        Of `summary_table`.
    facts : dict
        With `TOLD` and `NAMES`, which say the names of now afterwards.
    """
    assigner = tables.assigner
    assert isinstance(assigner, BasketsAssigner)  # of a run of baskets
    names = assigner.model.names[SEGMENT]
    called = {old: names[int(i)] for i, old in facts[NAMES].items()}
    told = facts[TOLD] = _renamed(facts[TOLD], called)
    facts[NAMES] = names_told(assigner)
    kept = {name: _table(out, name, called) for name in files.FOUND}

    def found(topic: str, kind: Callable[..., Found], **from_: str) -> Found | None:
        own = {field: kept[name] for field, name in from_.items()}
        if topic not in told or any(table is None for table in own.values()):
            return None
        return kind(**own, **told[topic])

    features = pl.read_parquet(_file(out, files.CUSTOMERS), glob=False)
    segment = tables.profiles["segment_memberships"].struct.field(SEGMENT)
    placed = pl.DataFrame([tables.profiles["customer_id"], segment.alias(SEGMENT)])
    known = [*features.columns, *OUTCOMES]
    return Parts(
        segments=summary,
        features=features.join(placed, on="customer_id", maintain_order="left"),
        rules=assigner.model.rules,
        playbook=read_playbook(_file(out, files.PLAYBOOK), known),
        readiness=found(
            "readiness",
            Readiness,
            checks=files.READINESS,
            thresholds=files.SIZES_AT,
        ),
        validation=found(
            "validation",
            Validation,
            metrics=files.VALIDATION,
            definition_checks=files.DEFINITION_CHECKS,
            split_gaps=files.SPLIT_GAPS,
        ),
        study=found("study", Study, spaces=files.SPACES, candidates=files.STUDY),
        out_of_time=found("out_of_time", Finding, table=files.OUT_OF_TIME),
        experiment=found("experiment", Finding, table=files.EXPERIMENT),
        monitoring=found("monitoring", Finding, table=files.MONITORING),
    )


def names_told(assigner: BasketsAssigner) -> dict[str, str]:
    """Return the names of segments by id, JSON-able."""
    return {str(i): name for i, name in assigner.model.names[SEGMENT].items()}


def _file(out: StageWriter, name: str) -> Path:
    """Return a file of this run, or of the set that it gives other names to."""
    own = out.path(name)
    if own.exists() or out.base is None:
        return own
    return out.base.path(name)


def _table(
    out: StageWriter, name: str, called: Mapping[str, str]
) -> pl.DataFrame | None:
    """Return a table under the names of now; None if it is not there."""
    own = out.path(name)
    if own.exists():
        return _read(own)
    before = None if out.base is None else out.base.output(name)
    if before is None:
        return None
    table = _read(before)
    if SEGMENT in table.columns:
        table = table.with_columns(pl.col(SEGMENT).replace(called))
    out.write_csv(name, table)
    return table


def _read(path: Path) -> pl.DataFrame:
    """Read a table; a column of nothing is one of numbers, a segment's name is text."""
    names = {SEGMENT: pl.String}
    table = pl.read_csv(
        path, schema_overrides=names, infer_schema_length=None, glob=False
    )
    empty = [c.name for c in table if c.null_count() == len(c) and c.name != SEGMENT]
    return table.cast(dict.fromkeys(empty, pl.Float64))


def _renamed(told: Any, called: Mapping[str, str]) -> Any:
    """Return sentences in which segments are called as they are now."""
    changed = {old: new for old, new in called.items() if old != new}
    if not changed:
        return told
    if isinstance(told, Mapping):
        return {key: _renamed(value, called) for key, value in told.items()}
    if isinstance(told, list):
        return [_renamed(value, called) for value in told]
    if not isinstance(told, str):
        return told
    longest_first = sorted(changed, key=len, reverse=True)
    pattern = rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b"
    return re.sub(pattern, lambda match: changed[match[0]], told)
