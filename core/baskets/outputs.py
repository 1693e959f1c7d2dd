"""What a run of baskets writes beside its model, and says in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.artifacts.folder import StageWriter
from core.artifacts.runs import block_name
from core.baskets.content import Content
from core.baskets.documents import TEMPLATES, write_documents
from core.baskets.files import RULES, SEGMENTS, SUMMARY
from core.baskets.findings import parts_of, summary_table
from core.baskets.model import BasketsAssigner
from core.baskets.page import write_page
from core.lifecycle.rule_runs import (
    headline,
    keep_contract,
    most_moves,
    proof_line,
    row_notes,
)
from core.lifecycle.segmentation import Tables
from core.models.centroids import NOWHERE
from core.rules.check import check_rules

Facts = Mapping[str, Any]


def write_report(out: StageWriter, tables: Tables, facts: dict[str, Any]) -> Content:
    """Write the rules, who is in which segment, the summary, documents and page.

    Adds ``summary``, ``moves``, ``n_unplaced`` and ``proof`` to `facts`; returns what
    the documents tell.

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
    notes = [*facts["notes"], *row_notes(TEMPLATES, facts)]
    told = headline(TEMPLATES, facts), notes
    write_page(out, parts, facts, told, tables.drift)
    return Content(parts)
