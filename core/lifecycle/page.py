"""What the page of a run of customers' segments tells first, and at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from core.artifacts.folder import StageWriter
from core.artifacts.manifest import library_versions
from core.lifecycle.told import NOWHERE_ID
from core.reporting.board import BoardSegment, BoardVerdict
from core.reporting.page import NextStep
from core.reporting.text import command, count, plural, spoken


@dataclass(frozen=True)
class Found:
    """What stands first on a page.

    Attributes
    ----------
    tone : {'good', 'calm', 'care'}
    title : str
        Who could be segmented.
    badge : str
        How sure, in a few words.
    lines : sequence of str
        Sentences; the first follows the badge.
    """

    tone: str
    title: str
    badge: str
    lines: Sequence[str]

    @property
    def verdict(self) -> BoardVerdict:
        """The same without the title, for the dashboard."""
        return BoardVerdict(self.tone, self.badge, " ".join(self.lines))


Row = dict[str, Any]


def segment_rows(segments: Sequence[BoardSegment]) -> tuple[list[Row], Row | None]:
    """Return rows of the macro ``segment_table``, and its row of those in no segment.

    How sure they are is left out where it is the same of all.
    """
    is_told = len({s.how_sure for s in segments if s.how_sure}) > 1
    rows = [_row(segment, is_told) for segment in segments]
    rest = next((row for row in rows if row["id"] == NOWHERE_ID), None)
    return [row for row in rows if row is not rest], rest


def _row(segment: BoardSegment, is_told: bool) -> Row:
    name = spoken(segment.name)
    return {
        "id": segment.id,
        "name": name,
        "title": f"{segment.id} {name}".strip(),
        "parent": segment.parent,
        "size": segment.n,
        "share": segment.share,
        "sales_share": segment.value_share,
        "curve": None,
        "trend": segment.trend,
        "states": [],
        "apart": segment.apart,
        "actions": segment.actions,
        "how_sure": segment.how_sure if is_told else "",
    }


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


NO_PROOF = (
    "This describes how customers differ. It does not prove that acting on the "
    "segments pays. Test on some customers first."
)


def who_could(facts: Mapping[str, Any]) -> str:
    """Return how many customers could be segmented."""
    n, n_left = facts["n_customers"], sum(facts["left_out"].values())
    return f"{count(n)} of {plural(n + n_left, 'customer')} could be segmented"


def who_could_not(facts: Mapping[str, Any]) -> str:
    """Return why customers could not be segmented; empty if all could."""
    reasons = [
        f"{plural(n, 'customer')}, {reason}" for reason, n in facts["left_out"].items()
    ]
    return f"Not segmented: {'; '.join(reasons)}." if reasons else ""


def rules_badge(facts: Mapping[str, Any]) -> str:
    """Return how sure segments by rules are, in a few words."""
    return "rules, not proven" if facts["proof"].startswith("Not") else "rules, proven"


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
                "reference date": facts["reference_date"][:10],
                "seed": out.config.seed,
            },
            "Versions": library_versions(),
        },
    )
