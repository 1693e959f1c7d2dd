"""What the page of a run of rule segments tells at its beginning and its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from core.artifacts.folder import StageWriter
from core.artifacts.manifest import library_versions
from core.reporting.page import NextStep
from core.reporting.text import command


@dataclass(frozen=True)
class PageContent:
    """Beginning and end of ``run.html.j2``, as plain data.

    Attributes
    ----------
    source, created, headline : str
    notes : sequence of str
        What the reader should know of the rows.
    next_steps : sequence of NextStep
    made : mapping of str to mapping
        How it was made, by group.
    """

    source: str
    created: str
    headline: str
    notes: Sequence[str]
    next_steps: Sequence[NextStep]
    made: Mapping[str, Mapping[str, Any]]


def page_content(
    out: StageWriter,
    facts: Mapping[str, Any],
    source: str,
    headline: str,
    notes: Sequence[str],
    steps: Sequence[tuple[str, str]],
) -> PageContent:
    """Return what a page tells of a run, and which commands go on from it.

    Parameters
    ----------
    out : StageWriter
    facts : mapping
        Of `core.lifecycle.run.run_segmentation`.
    source, headline : str
    notes : sequence of str
    steps : sequence of (str, str)
        A verb, and what it would add.
    """
    folder = str(out.root.parent)
    return PageContent(
        source=source,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        headline=headline,
        notes=notes,
        next_steps=[NextStep(command(verb, folder), adds) for verb, adds in steps],
        made={
            "Run": {
                "run": facts["run"],
                "version": facts["version"],
                "store": facts["store"],
                "orders before": facts["reference_date"][:10],
                "seed": out.config.seed,
            },
            "Versions": library_versions(),
        },
    )
