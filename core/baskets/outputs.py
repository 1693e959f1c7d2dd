"""What a run of baskets writes beside its model, and says in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.artifacts.folder import StageWriter
from core.artifacts.runs import REJECTED, block_name
from core.baskets.documents import TEMPLATES, write_documents
from core.baskets.files import FILES, LEFT_OUT, RULES, SEGMENTS, SUMMARY
from core.baskets.findings import parts_of, summary_table
from core.baskets.model import BasketsAssigner
from core.baskets.page import write_page
from core.lifecycle.rule_runs import keep_contract, most_moves, proof_line
from core.lifecycle.segmentation import Tables
from core.models.centroids import NOWHERE
from core.reporting.changes import change_lines
from core.rules.check import check_rules

TEMPLATE = "run.txt.j2"
Facts = Mapping[str, Any]


def write_report(out: StageWriter, tables: Tables, facts: dict[str, Any]) -> None:
    """Write the rules, who is in which segment, the summary, documents and page.

    Adds ``summary``, ``moves``, ``n_unplaced`` and ``proof`` to `facts`.

    Raises
    ------
    ContractError
        If the segments break the contract.
    """
    assigner = tables.assigner
    assert isinstance(assigner, BasketsAssigner)  # of a run of baskets
    keep_contract(out.config.baskets.contract, tables.sizes)
    rules = assigner.model.rules
    out.path(RULES).write_text(rules.to_yaml(), encoding="utf-8")
    summary = summary_table(tables)
    out.write_csv(SUMMARY, summary, float_precision=4)
    facts["summary"] = summary.to_dicts()
    facts["n_unplaced"] = int(summary.filter(segment_id=NOWHERE)["customers"].sum())
    facts["proof"] = proof_line(check_rules(rules), facts["n_unplaced"])
    block = out.path(block_name(facts["run"]))
    # A name that is given later writes the page again, and not the ledger.
    facts["moves"] = most_moves(block) if block.exists() else facts.get("moves", [])
    parts = parts_of(out, tables, summary, facts)
    segments = assigner.segments(parts.features)
    segments.write_parquet(out.path(SEGMENTS), compression="zstd")
    write_documents(out, parts, facts)
    told = headline(facts), [*facts["notes"], *row_notes(facts)]
    write_page(out, parts, facts, told, tables.drift)


def headline(facts: Facts) -> str:
    """Return who was segmented, by what."""
    return " ".join(TEMPLATES.sentences(TEMPLATE, "headline", **facts))


def row_notes(facts: Facts) -> list[str]:
    """Return how many rows were set aside, and who is not segmented."""
    n = facts["n_rejected"]
    told = [f"{n:,} rows were set aside; by reason on the page and in {REJECTED}."]
    left = TEMPLATES.sentences(TEMPLATE, "left_out", **facts)
    where = [f"Who is not segmented: {LEFT_OUT}."] if left else []
    return [*(told if n else []), *left, *where]


def run_lines(facts: Facts, folder: Path) -> list[str]:
    """Return what a run did: the customers, the segments, changes, and where it is.

    Parameters
    ----------
    facts : mapping
        Of `core.lifecycle.run.run_segmentation`.
    folder : path
        Of the published set.
    """
    if not facts["is_changed"]:
        return TEMPLATES.sentences(TEMPLATE, "unchanged", **facts)
    return [
        headline(facts),
        *facts["notes"],
        *row_notes(facts),
        *TEMPLATES.sentences(TEMPLATE, "segments", **facts),
        *TEMPLATES.sentences(TEMPLATE, "found", **facts),
        *change_lines(facts),
        f"Page: {folder / FILES.page}",
    ]
