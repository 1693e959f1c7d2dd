"""What a refresh writes: predictions, movement, page, model card, versions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from core.artifacts.folder import Artifacts, StageWriter
from core.artifacts.manifest import Manifest
from core.artifacts.reading import ArtifactSet
from core.config import Config
from core.evaluation.retrain_policy import TriggerState
from core.months import spoken_month
from core.redaction import redacted_address
from core.reporting.text import plural
from core.retailers.files import RETAILERS
from core.retailers.model import SEGMENTS, Model, published_segments
from core.retailers.names import first_words
from core.retailers.playbook import shop_playbook
from core.retailers.refresh.changing import CHANGING
from core.retailers.refresh.month import (
    DRIFT,
    Ledger,
    Record,
    ScoredMonth,
    ledger_blocks,
)
from core.retailers.refresh.worklist import moves_of, shops_to_see
from core.retailers.report.decision import Decision, RefreshFacts
from core.retailers.report.model_card import MODEL_CARD
from core.retailers.report.movement import Moves
from core.retailers.report.refresh import RefreshContent, write_refresh_page
from core.retailers.report.tree import TREE, contrasts_by_id, segment_tree
from core.retailers.report.worklist import WORKLIST, suggestions, told_shops, way_lines
from core.retailers.scored import publish_scored
from core.retailers.states import n_lapsed_and_back, state_flows
from core.segments.naming import names_of
from core.segments.published import UNASSIGNED, UNASSIGNED_NAME, restore_version
from core.segments.transitions import (
    comparable_block,
    stock_and_flow,
    transitions,
)

if TYPE_CHECKING:
    from core.retailers.refresh.challenger import ChallengerResult


def facts_of_month(
    scored: ScoredMonth,
    version: int,
    refit: ChallengerResult | None,
    trigger: TriggerState,
    alerts: Sequence[str],
    blocks: Sequence[pl.DataFrame],
    names: Mapping[str, str],
    changing: pl.DataFrame | None,
) -> RefreshFacts:
    """Put together what is told of a month.

    Parameters
    ----------
    scored : ScoredMonth
        By the model that served when it came.
    version : int
        Of that model.
    refit : ChallengerResult or None
        None where nothing was learnt.
    trigger : TriggerState
        After the month.
    alerts : sequence of str
        Of its drift.
    blocks : sequence of DataFrame
        Of the ledger, this month's and the ones before.
    names : mapping of str to str
        Of all segments before and after, by id.
    changing : DataFrame or None
        `core.retailers.refresh.changing.changing_shops`.
    """
    n_unassigned = int((scored.labels["segment"] == UNASSIGNED).sum())
    moved, entered, left = moves_in(scored.month, blocks)
    decision: Decision = "recommended" if trigger.is_due else "kept"
    reason = " ".join(f"{text[:1].upper()}{text[1:]}." for text in trigger.reasons)
    gate = None
    if refit is not None:
        decision, reason, gate = refit.decision, refit.reason, refit.gate
    return RefreshFacts(
        month=scored.month,
        decision=decision,
        reason=reason,
        version=version,
        published=refit.version if refit is not None else None,
        n_assigned=scored.labels.height - n_unassigned,
        n_unassigned=n_unassigned,
        n_not_eligible=scored.exclusions.height,
        n_moved=moved,
        n_changing=None if changing is None else _n_told(changing, "segment"),
        n_stepped=None if changing is None else _n_told(changing, "up", "down"),
        n_lapsed=n_lapsed_and_back(state_flows(scored.states_before, scored.states))[0],
        n_entered=entered,
        n_left=left,
        state=trigger.state,
        alerts=list(alerts),
        events=[e.model_dump() for e in refit.events] if refit is not None else [],
        gate=[row.model_dump() for row in gate.decision.rows] if gate else [],
        breaches=[breach.message for breach in gate.breaches] if gate else [],
        names=names,
    )


def _n_told(changing: pl.DataFrame, *ways: str) -> int:
    """Return how many shops change in these ways and were not moved for it."""
    told = changing.filter(~pl.col("has_moved"), pl.col("changing").is_in(ways))
    return told.height


def unchanged_facts(
    month: str, version: int, reason: str, trigger: TriggerState
) -> RefreshFacts:
    """Put together what is told where no month was new."""
    return RefreshFacts(
        month=month,
        decision="unchanged",
        reason=reason,
        version=version,
        published=None,
        n_assigned=0,
        n_unassigned=0,
        n_not_eligible=0,
        n_moved=None,
        n_changing=None,
        n_stepped=None,
        n_lapsed=0,
        n_entered=None,
        n_left=None,
        state=trigger.state,
        alerts=[],
        events=[],
        gate=[],
        breaches=[],
        names={},
    )


def segment_names(models: Sequence[Model]) -> dict[str, str]:
    """Return the names of segments and sub-segments by id, the last model's first."""
    tables = [model.segments.published for model in models]
    return {
        str(segment): name
        for table in tables
        for segment, name in (table.names | names_of(table.parts.values())).items()
        if segment != UNASSIGNED
    }


def moves_in(
    month: str, blocks: Sequence[pl.DataFrame]
) -> tuple[int | None, int | None, int | None]:
    """Return how many shops moved, entered and left in a month; None in the first."""
    months = [block["month"][0] for block in blocks]
    before = [b for b, at in zip(blocks, months, strict=True) if at < month]
    if not before or month not in months:
        return None, None, None
    table = transitions(before[-1], blocks[months.index(month)])
    both = table.drop_nulls(["from", "to"]).filter(pl.col("from") != UNASSIGNED)
    moved = both.filter(pl.col("from") != pl.col("to"))["n_settled"].sum()
    entered = table.filter(pl.col("from").is_null())["n"].sum()
    left = table.filter(pl.col("to").is_null())["n"].sum()
    return int(moved), int(entered), int(left)


MONTHS_SHOWN = 12
MOVES = "segment_moves.csv"
STATE_MOVES = "state_moves.csv"
PAGE = "refresh.html"


def write_output(
    out: StageWriter,
    model: Model,
    scored: ScoredMonth,
    record: Record,
    ledger: Ledger,
    facts: RefreshFacts,
    source: str,
    changing: pl.DataFrame | None,
) -> list[str]:
    """Write the month's tables and its page; return who moved and what to do.

    `model` serves from now on, and `source` is where the month's rows are from.
    """
    blocks = ledger.blocks(last_months=MONTHS_SHOWN)
    batch = iter([(scored.features, with_changes(scored.labels, blocks[-1]))])
    others = scored.exclusions.lazy()
    table, _ = publish_scored(out, model, batch, others, out.aside)
    published = model.segments.published
    contrasts = contrasts_by_id(table, published, model.columns)
    out.write_csv(TREE, segment_tree(table, published, contrasts))
    confirm = out.config.refresh.confirm_months
    out.write_csv(MOVES, moves_of(blocks, confirm))
    flows = state_flows(scored.states_before, scored.states)
    out.write_csv(STATE_MOVES, flows)
    if changing is not None:
        out.write_csv(CHANGING, changing, float_precision=4)
    serving = blocks[:-1] if facts["published"] is not None else blocks
    found = shops_to_see(scored, serving, changing, confirm)
    called = {i: [name] for i, name in facts["names"].items()}
    called[str(UNASSIGNED)] = [UNASSIGNED_NAME]
    for segment in published.segments:
        if segment.is_edited:
            called[str(segment.id)].append(first_words(contrasts[str(segment.id)]))
    suggest = suggestions(shop_playbook(out.config), called)
    shops = told_shops(found, facts["names"], suggest)
    out.write_csv(WORKLIST, shops, float_precision=4)
    sales = float(scored.sales["sales_12_months"].sum())
    content = _content(out, record, blocks, facts, source, shops, sales, flows)
    write_refresh_page(content, Path(out.path(PAGE)))
    out.facts |= {"refresh": dict(facts)}
    return way_lines(content.ways)


def with_changes(labels: pl.DataFrame, block: pl.DataFrame) -> pl.DataFrame:
    """Return predictions with what the ledger's block says of change."""
    names = [name for name in labels.columns if name.startswith("changing")]
    told = block.select(pl.col("entity").alias("shop_id"), *names)
    both = labels.drop(names).join(
        told, on="shop_id", how="left", maintain_order="left"
    )
    return both.select(labels.columns)


LedgerPublisher = Callable[[str | None, Path, str, Sequence[pl.DataFrame]], int | None]
"""Adds blocks to a store's ledger: `core.store.publish.publish_ledger`."""


def store_ledger(
    artifacts: Artifacts, config: Config, publish: LedgerPublisher
) -> str | None:
    """Copy the ledger into the store, if there is one, and say what was new.

    Raises
    ------
    StoreError
        As `core.store.publish.publish_ledger`.
    """
    lineage, blocks = artifacts.read_complete(
        lambda published: (published.manifest.lineage, ledger_blocks(published))
    )
    n_new = publish(config.store.url, artifacts.root / "postgres", lineage, blocks)
    if n_new is None:
        return None
    return f"Ledger: {plural(n_new, 'block')} added to `segment_ledger` in the store."


def log_serving_version(artifacts: Artifacts, config: Config) -> str | None:
    """Log the version that serves to MLflow, once, if that is wanted, and say so.

    Raises
    ------
    ConfigError, SegmentsError
        As `core.artifacts.tracking.log_version`.
    """
    from core.artifacts.tracking import log_version

    uri = config.refresh.mlflow_uri
    if uri is None:
        return None
    published = artifacts.published()
    assert published is not None  # a refresh has just gone well
    manifest = published.manifest
    clustering = manifest.facts("clustering")
    facts = {
        "lineage": manifest.lineage,
        "version": manifest.version,
        "model_id": manifest.model_id,
        "as_of": manifest.facts("prepare")["as_of"],
        "n_shops": manifest.facts("prepare")["n_eligible"],
        "verdict": clustering["verdict"],
        "spaces": clustering["spaces"],
        "config": manifest.config.model_dump(mode="json"),
    }
    names = (SEGMENTS, MODEL_CARD, "report.html", "comparison.csv")
    files = [path for path in map(published.output, names) if path is not None]
    run = log_version(uri, facts, files)
    return (
        f"Version {manifest.version} is logged at {redacted_address(uri)} (run {run})."
    )


def _content(
    out: StageWriter,
    record: Record,
    blocks: list[pl.DataFrame],
    facts: RefreshFacts,
    source: str,
    shops: pl.DataFrame,
    sales: float,
    states: pl.DataFrame,
) -> RefreshContent:
    """Return what ``refresh.html`` tells."""
    drift = out.path(DRIFT)
    shown = pl.read_parquet(drift, glob=False) if drift.exists() else _no_drift()
    months = sorted(shown["month"].unique().to_list())[-MONTHS_SHOWN:]
    return RefreshContent(
        facts=facts,
        source=redacted_address(source),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        shops=shops,
        sales=sales,
        moves=_moves_shown(blocks, facts),
        states=states,
        flow=stock_and_flow(blocks),
        drift=shown.filter(pl.col("month").is_in(months)),
        state_since=record.trigger.since,
        months_running={str(k): n for k, n in record.trigger.months_running.items()},
        months_needed=out.config.refresh.months_running,
        artifacts=str(out.root),
        made={"Run": {"seed": out.config.seed, "version": facts["version"]}},
    )


def _no_drift() -> pl.DataFrame:
    from core.evaluation.drift import DRIFT_ROWS

    return pl.DataFrame(schema={"month": pl.String, **DRIFT_ROWS})


def _moves_shown(blocks: list[pl.DataFrame], facts: RefreshFacts) -> list[Moves]:
    """Return the movements of the month: real ones, the model's, and a longer span."""
    this = [block for block in blocks if block["month"][0] == facts["month"]]
    earlier = [block for block in blocks if block["month"][0] < facts["month"]]
    moves = []
    if earlier:
        last = earlier[-1]["month"][0]
        month_before = [block for block in earlier if block["month"][0] == last]
        before = comparable_block(month_before, this[0])
        if before is not None:
            words = spoken_month(last), spoken_month(facts["month"])
            moves.append(Moves.of("real", words, before, this[0]))
    if facts["published"] is not None:
        versions = f"version {facts['version']}", f"version {facts['published']}"
        moves.append(Moves.of("model", versions, this[0], this[-1]))
    if earlier and earlier[0]["month"][0] < earlier[-1]["month"][0]:
        months = spoken_month(earlier[0]["month"][0]), spoken_month(facts["month"])
        moves.append(Moves.of("span", months, earlier[0], this[-1]))
    return moves


def version_rows(folder: Path) -> list[dict[str, str]]:
    """Return the serving version and those kept, as rows of a table.

    Raises
    ------
    ArtifactError
        If there is no complete run.
    """
    artifacts = Artifacts(folder, RETAILERS)
    published = artifacts.complete()
    kept = artifacts.versions()
    return [
        _row("(in use)", published.manifest),
        *(_row(name, manifest) for name, manifest in kept.items()),
    ]


def _row(name: str, manifest: Manifest) -> dict[str, str]:
    facts = manifest.facts("clustering")
    verdict = facts.get("verdict", {})
    return {
        "version": str(manifest.version),
        "name": name,
        "trained on data up to": manifest.facts("prepare")["as_of"],
        "shops": f"{manifest.facts('prepare')['n_eligible']:,}",
        "verdict": str(verdict.get("kind", "-")),
        "made": manifest.stages["clustering"].finished_at[:10],
    }


def roll_back(folder: Path, name: str | None = None) -> list[str]:
    """Publish a kept version again, and say what that means.

    Raises
    ------
    ArtifactError
        If there is nothing to go back from or to.
    """
    left, published = Artifacts(folder, RETAILERS).roll_back(name, _lasting)
    return [
        f"Version {published.version} is in use again (data up to "
        f"{published.facts('prepare')['as_of']}); version {left.version} is kept.",
        "The record of refreshes stays; the next refresh continues from here.",
    ]


def _lasting(current: ArtifactSet, kept: ArtifactSet, folder: Path) -> None:
    """Carry over what going back must not undo: ids given out, names given by users."""
    now, then = published_segments(current), published_segments(kept)
    restore_version(then, now).write(folder / SEGMENTS)
