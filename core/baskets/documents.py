"""What stakeholders read of a run, as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from core.artifacts.folder import StageWriter
from core.baskets.parts import Facts, Parts
from core.reporting.page import Templates
from core.reporting.playbook import behaviour

TEMPLATES = Templates(Path(__file__).parent / "templates")
EXECUTIVE_SUMMARY: Final = "executive_summary.md"
DECISION_MEMO: Final = "decision_memo.md"
PLAYBOOK: Final = "playbook.md"
EXPERIMENT_PLAN: Final = "experiment_plan.md"
MONITORING_PLAN: Final = "monitoring_plan.md"
DOCUMENTS: Final = (
    EXECUTIVE_SUMMARY,
    DECISION_MEMO,
    PLAYBOOK,
    EXPERIMENT_PLAN,
    MONITORING_PLAN,
)


def write_documents(out: StageWriter, parts: Parts, facts: Facts) -> None:
    """Write the files `DOCUMENTS`, and the page ``baskets.html``.

    Parameters
    ----------
    out : StageWriter
    parts : Parts
        What was not made is told as not made.
    facts : mapping
        Of `core.lifecycle.run.run_segmentation`.
    """
    said = behaviour(parts.features, "segment", parts.playbook)
    for name in DOCUMENTS:
        text = TEMPLATES.page(f"{name}.j2", parts=parts, facts=facts, said=said)
        out.path(name).write_text(text, encoding="utf-8", newline="\n")
