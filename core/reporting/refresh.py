"""The page of a monthly refresh: one self-contained HTML file, the decision first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from core.reporting.decision import (
    RefreshFacts,
    announcement,
    event_lines,
    failed_checks,
    figure,
    outcome_of,
    refresh_lines,
    titled,
)
from core.reporting.drift import drift_part
from core.reporting.movement import Moves, movement_part
from core.reporting.parts import NextStep, Part, Table
from core.reporting.sizes import sizes_part
from core.reporting.templating import rendered
from core.reporting.wording import (
    MISSING,
    command,
    count,
    decimal,
    listed,
    percent,
    plural,
)
from core.segments.words import spoken_month

__all__ = ["Moves", "RefreshContent", "refresh_lines", "write_refresh_page"]

_KINDS = {"drift": "Alerts of drift", "share": "Alerts of segment shares"}
STATES = ("steady", "watching", "recalibrate")


@dataclass(frozen=True)
class RefreshContent:
    """All that the page of a refresh tells, as plain data.

    Attributes
    ----------
    facts : RefreshFacts
        What was found and decided.
    source : str
        Where the rows came from, as the user would name it.
    created : str
        When, as text; given from outside so that equal refreshes give equal files.
    moves : sequence of Moves
        One of a kind, in the order in which they are shown; may be empty in a first
        month.
    flow : polars.DataFrame
        `core.segments.movement.stock_and_flow` of the last months, this one included.
    drift : polars.DataFrame
        `core.evaluation.drift.DriftReport.rows` of the last months, with ``month``:
        ``month``, ``kind``, ``name``, ``statistic``, ``value``, ``threshold``,
        ``is_alert``.
    state_since : str or None
        Month since which the trigger is in its state.
    months_running : mapping of str to int
        Kind of alert to the months that it has been running.
    months_needed : int
        Months running after which retraining is recommended.
    artifacts : str
        The folder, for the commands that the page names.
    made : mapping of str to mapping
        How it was made, by group, such as ``{"Run": {"seed": 42}}``.
    """

    facts: RefreshFacts
    source: str
    created: str
    moves: Sequence[Moves]
    flow: pl.DataFrame
    drift: pl.DataFrame
    state_since: str | None
    months_running: Mapping[str, int]
    months_needed: int
    artifacts: str = "artifacts"
    made: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def write_refresh_page(content: RefreshContent, path: Path) -> list[Path]:
    """Write the page (UTF-8) and, beside it, its pictures.

    Parameters
    ----------
    content : RefreshContent
    path : Path
        HTML file to write.

    Returns
    -------
    list of Path
        All files written: `path` and, where there is something to draw,
        ``refresh-movement.png``, ``refresh-model-change.png``, ``refresh-span.png``,
        ``refresh-sizes.png`` and ``refresh-drift.png``. The page holds its own copies
        of the pictures and needs none of them.
    """
    facts = content.facts
    parts = [
        part
        for part in (
            _events_part(facts),
            _gate_part(facts),
            *(movement_part(m, facts["names"], path.parent) for m in content.moves),
            sizes_part(content.flow, facts["names"], path.parent),
            drift_part(content.drift, facts, path.parent),
        )
        if part is not None
    ]
    page = rendered(
        "refresh.html.j2",
        content=content,
        month=spoken_month(facts["month"]),
        model=_model(facts),
        told=announcement(facts),
        tiles=_tiles(facts),
        parts=parts,
        states=STATES,
        trigger=trigger_lines(content),
        next_steps=_next_steps(content),
    )
    path.write_text(page, encoding="utf-8", newline="\n")
    return [path, *(shown.path for part in parts for shown in part.pictures)]


def trigger_lines(content: RefreshContent) -> list[str]:
    """Say in which state the trigger is, since when, and what runs towards it."""
    since = "" if content.state_since is None else spoken_month(content.state_since)
    state = f"The trigger is in the state {content.facts['state']}"
    lines = [f"{state} since {since}." if since else f"{state}."]
    lines += [
        f"{_KINDS.get(kind, kind)} for {plural(n, 'month')} running."
        for kind, n in content.months_running.items()
        if n
    ]
    lines.append(
        f"Retraining is recommended when the same kind of alert has run for "
        f"{plural(content.months_needed, 'month')}."
    )
    return lines


def _model(facts: RefreshFacts) -> str:
    """Say which version serves, and after which."""
    if facts["published"] is None:
        return f"model version {facts['version']}"
    return f"model version {facts['published']}, after {facts['version']}"


def _tiles(facts: RefreshFacts) -> list[tuple[str, str]]:
    """Return the figures beside the decision."""
    n_known = max(facts["n_assigned"] + facts["n_unassigned"], 1)
    return [
        ("assigned", count(facts["n_assigned"])),
        ("unassigned", percent(facts["n_unassigned"] / n_known)),
        ("not eligible", count(facts["n_not_eligible"])),
        ("moved", count(facts["n_moved"])),
        ("new this month", count(facts["n_entered"])),
        ("not there any more", count(facts["n_left"])),
    ]


def _events_part(facts: RefreshFacts) -> Part | None:
    """Return what became of the segments, if a model was published."""
    if facts["published"] is None:
        return None
    changes = sorted(facts["events"], key=lambda event: event["kind"] == "survived")
    return Part(
        f"What version {facts['published']} changed",
        event_lines(facts["events"], facts["names"]),
        tables=[
            Table(
                "The old and the new model label the same shops of this month. Jaccard "
                "index, over the shops that both assign: members of both, over "
                "members of either.",
                [_event_row(event, facts["names"]) for event in changes],
                frozenset({"event", "before", "after"}),
            )
        ],
    )


def _event_row(event: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    return {
        "event": event["kind"],
        "before": listed([titled(i, names) for i in event["old"]]) or MISSING,
        "after": listed([titled(i, names) for i in event["new"]]) or MISSING,
        "shops before": count(event["n_old"]),
        "shops after": count(event["n_new"]),
        "in both": count(event["n_shared"]),
        "Jaccard": decimal(event["jaccard"]),
    }


def _gate_part(facts: RefreshFacts) -> Part | None:
    """Return the comparison of champion and challenger, if there was a challenger."""
    if not facts["gate"]:
        return None
    is_passed = facts["decision"] != "refused"
    verdict = "It has passed." if is_passed else "It has not passed."
    return Part(
        "The new model against the one that serves",
        [
            "A new model is published only if it holds its own against the one that "
            f"serves, on the rows of this month. {verdict}",
            *failed_checks(facts["gate"]),
        ],
        tables=[
            Table(
                "Every check has to be passed.",
                [_gate_row(row) for row in facts["gate"]],
                frozenset({"check", "passed"}),
            )
        ],
    )


def _gate_row(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "check": row["check"],
        "serving": figure(row["champion"]),
        "new": figure(row["challenger"]),
        "needed": figure(row["needed"]),
        "passed": figure(bool(row["is_passed"])),
    }


def _next_steps(content: RefreshContent) -> list[NextStep]:
    """Return the commands that make sense after this refresh."""
    facts = content.facts
    steps = [("refresh --input FILE", "takes in the next month")]
    if facts["decision"] == "published":
        steps += [
            ('rename ID "NAME"', "gives a segment a name that stays"),
            ("rollback", f"brings version {facts['version']} back"),
        ]
    elif outcome_of(facts) == "recommended":
        steps.append(
            (
                "refresh --retrain always",
                "learns a new model from the months at hand, whatever the policy says, "
                "and lets it serve if it passes the gate",
            )
        )
    if facts["breaches"]:
        steps.append(
            ("contract check", "holds the published segments against the contract")
        )
    return [NextStep(command(verb, content.artifacts), adds) for verb, adds in steps]
