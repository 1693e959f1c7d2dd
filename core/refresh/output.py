"""What a refresh leaves to read: predictions, who moved, page and model card."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from core.artifacts import Artifacts, StageWriter
from core.config import Config
from core.inference import SEGMENTS, Model
from core.pipelines.publishing import publish_scored
from core.refresh.record import DRIFT, Ledger, Record, ledger_blocks
from core.refresh.scoring import ScoredMonth
from core.reporting.decision import RefreshFacts
from core.reporting.model_card import MODEL_CARD
from core.reporting.refresh import Moves, RefreshContent, write_refresh_page
from core.reporting.wording import plural
from core.segments.movement import comparable_block, stock_and_flow, transitions
from core.segments.words import spoken_month

MONTHS_SHOWN = 12
MOVES = "segment_moves.csv"
PAGE = "refresh.html"


def write_output(
    out: StageWriter,
    model: Model,
    scored: ScoredMonth,
    record: Record,
    ledger: Ledger,
    facts: RefreshFacts,
    source: str,
) -> None:
    """Write the month's tables and its page; `source` is where its rows are from."""
    if out.adopted is None:
        batch = iter([(scored.features, scored.labels)])
        publish_scored(out, model, batch, scored.exclusions, out.aside)
    blocks = ledger.blocks(last_months=MONTHS_SHOWN)
    _moves_of(blocks).write_csv(out.path(MOVES))
    _write_page(out, record, blocks, facts, source)
    out.facts |= {"refresh": dict(facts)}


def store_ledger(artifacts: Artifacts, config: Config) -> str | None:
    """Copy the ledger into the store, if there is one, and say what was new.

    Raises
    ------
    StoreError
        As `core.store.publish_ledger`.
    """
    from core.store import has_store, publish_ledger

    folder = artifacts.root / "postgres"
    if not has_store(config.store.url, folder):
        return None
    published = artifacts.published()
    assert published is not None  # a refresh has just gone well
    lineage, blocks = published.manifest.lineage, ledger_blocks(published)
    n_new = publish_ledger(config.store.url, folder, lineage, blocks)
    return f"Ledger: {plural(n_new, 'block')} added to `segment_ledger` in the store."


def log_serving_version(artifacts: Artifacts, config: Config) -> str | None:
    """Log the version that serves to MLflow, once, if that is wanted, and say so.

    Raises
    ------
    ConfigError, SegmentsError
        As `core.tracking.log_version`.
    """
    from core.tracking import log_version

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
    files = [published.folder / name for name in names if name in manifest.files]
    run = log_version(uri, facts, [path for path in files if path.is_file()])
    return f"Version {manifest.version} is logged at {uri} (run {run})."


def _moves_of(blocks: list[pl.DataFrame]) -> pl.DataFrame:
    """Return the entities whose settled segment is another than the month before."""
    schema = {"entity": pl.String, "from": pl.Int32, "to": pl.Int32, "month": pl.String}
    now = blocks[-1]
    earlier = [block for block in blocks if block["month"][0] < now["month"][0]]
    if not earlier:
        return pl.DataFrame(schema=schema)
    before = earlier[-1].select("entity", pl.col("settled").alias("from"))
    joined = now.join(before, on="entity")
    return joined.filter(pl.col("from") != pl.col("settled")).select(
        "entity", "from", pl.col("settled").alias("to"), "month"
    )


def _write_page(
    out: StageWriter,
    record: Record,
    blocks: list[pl.DataFrame],
    facts: RefreshFacts,
    source: str,
) -> None:
    """Write ``refresh.html`` and its pictures."""
    drift = out.path(DRIFT)
    shown = pl.read_parquet(drift) if drift.exists() else _no_drift()
    months = sorted(shown["month"].unique().to_list())[-MONTHS_SHOWN:]
    content = RefreshContent(
        facts=facts,
        source=source,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        moves=_moves_shown(blocks, facts),
        flow=stock_and_flow(blocks),
        drift=shown.filter(pl.col("month").is_in(months)),
        state_since=record.trigger.since,
        months_running={str(k): n for k, n in record.trigger.months_running.items()},
        months_needed=out.config.refresh.months_running,
        artifacts=str(out.root),
        made={"Run": {"seed": out.config.seed, "version": facts["version"]}},
    )
    write_refresh_page(content, Path(out.path(PAGE)))


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
            moves.append(Moves("real", *words, transitions(before, this[0])))
    if facts["published"] is not None:
        versions = f"version {facts['version']}", f"version {facts['published']}"
        moves.append(Moves("model", *versions, transitions(this[0], this[-1])))
    if earlier and earlier[0]["month"][0] < earlier[-1]["month"][0]:
        first = spoken_month(earlier[0]["month"][0])
        now = spoken_month(facts["month"])
        moves.append(Moves("span", first, now, transitions(earlier[0], this[-1])))
    return moves
