"""What stakeholders read of a run, as Markdown."""

from __future__ import annotations

import re
from pathlib import Path

from core.artifacts.folder import StageWriter
from core.baskets.content import Content
from core.baskets.files import DOCUMENTS
from core.baskets.parts import Facts, Parts
from core.errors import PROGRAM
from core.reporting.page import Templates

TEMPLATES = Templates(Path(__file__).parent / "templates")


def write_documents(out: StageWriter, parts: Parts, facts: Facts) -> None:
    """Write the files `DOCUMENTS`.

    Parameters
    ----------
    out : StageWriter
    parts : Parts
        What was not made is told as not made.
    facts : mapping
        Of `core.lifecycle.run.run_segmentation`; ``n_customers`` and, where they are
        known, ``n_orders`` and ``proof`` are told.
    """
    found = Content(parts)
    known = {"n_orders": None, "proof": None} | dict(facts)
    for name in DOCUMENTS:
        text = TEMPLATES.page(
            f"{name}.j2",
            parts=parts,
            facts=known,
            found=found,
            candidates=found.study(is_short=True),
            program=PROGRAM,
        )
        out.path(name).write_text(_tidy(text), encoding="utf-8", newline="\n")


def _tidy(text: str) -> str:
    """Return Markdown without runs of empty lines."""
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
