"""The page of a refresh: who moved and what to do first, then the model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from core.months import spoken_month
from core.reporting.page import NextStep, Part, Table
from core.reporting.text import (
    MISSING,
    command,
    count,
    enumerated,
    prose,
    rounded,
    share,
)
from core.retailers.names import feature_label
from core.retailers.report.decision import (
    RefreshFacts,
    announcement,
    event_lines,
    failed_checks,
    figure,
    outcome_of,
    refresh_sentences,
    titled,
)
from core.retailers.report.drift import drift_part
from core.retailers.report.evidence import TEMPLATES
from core.retailers.report.life import flows_part
from core.retailers.report.movement import Moves, movement_part, sizes_part
from core.retailers.report.worklist import WORKLIST, Way, named_shops, ways_of
from core.retailers.shop_files import WORKBOOK

# Of `core.evaluation.drift`: what comes before is a sentence of its own.
_STATISTIC = re.compile(r": (PSI|Kolmogorov-Smirnov) .*")
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
    shops : polars.DataFrame
        `core.retailers.report.worklist.told_shops`.
    sales : float
        Units that all shops sold in the last 12 months.
    moves : sequence of Moves
        One of a kind, in the order in which they are shown; may be empty in a first
        month.
    states : polars.DataFrame
        `core.retailers.states.state_flows` since the month before.
    flow : polars.DataFrame
        `stock_and_flow` of the last months, this one included.
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
    shops: pl.DataFrame
    sales: float
    moves: Sequence[Moves]
    states: pl.DataFrame
    flow: pl.DataFrame
    drift: pl.DataFrame
    state_since: str | None
    months_running: Mapping[str, int]
    months_needed: int
    artifacts: str = "artifacts"
    made: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def ways(self) -> list[Way]:
        """What happened to how many shops, and what to do."""
        n_shops = self.facts["n_assigned"] + self.facts["n_unassigned"]
        return ways_of(self.shops, n_shops, self.sales)


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
    names, folder = facts["names"], path.parent
    gate = _gate_part(facts)
    is_refused = facts["decision"] == "refused"
    shown = _present(
        _events_part(facts),
        gate if is_refused else None,
        sizes_part(content.flow, names, folder),
    )
    details = _present(
        None if is_refused else gate,
        flows_part(content.states),
        *(movement_part(moves, names, folder) for moves in content.moves),
        drift_part(content.drift, facts, folder),
    )
    page = TEMPLATES.page(
        "refresh.html.j2",
        content=content,
        month=spoken_month(facts["month"]),
        model=_model(facts),
        told=announcement(facts),
        alerts=[_in_words(alert) for alert in facts["alerts"]],
        ways=content.ways,
        named=named_shops(content.shops),
        worklist=WORKLIST,
        workbook=WORKBOOK,
        tiles=_tiles(facts),
        shown=shown,
        details=details,
        states=STATES,
        trigger=refresh_sentences(
            "trigger",
            state=facts["state"],
            since=content.state_since and spoken_month(content.state_since),
            months_running=content.months_running,
            months_needed=content.months_needed,
        ),
        next_steps=_next_steps(content),
    )
    path.write_text(page, encoding="utf-8", newline="\n")
    pictures = (p.path for part in (*shown, *details) for p in part.pictures)
    return [path, *pictures]


def _present(*parts: Part | None) -> list[Part]:
    return [part for part in parts if part is not None]


def _in_words(alert: str) -> str:
    """Return an alert as a sentence in words; the table of drift has its statistics."""
    told = _STATISTIC.sub("", prose(alert, lambda name: feature_label(name).name))
    return f"{told[:1].upper()}{told[1:]}."


def _model(facts: RefreshFacts) -> str:
    """Say which version serves, and after which."""
    if facts["published"] is None:
        return f"model version {facts['version']}"
    return f"model version {facts['published']}, after {facts['version']}"


def _tiles(facts: RefreshFacts) -> list[tuple[str, str]]:
    """Return the figures beside the decision."""
    n_known = max(facts["n_assigned"] + facts["n_unassigned"], 1)
    return [
        ("shops in segments", count(facts["n_assigned"])),
        ("unassigned", share(facts["n_unassigned"] / n_known)),
        ("not eligible", count(facts["n_not_eligible"])),
        ("entered since last month", count(facts["n_entered"])),
        ("left since last month", count(facts["n_left"])),
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
                " ".join(refresh_sentences("events_table")),
                [_event_row(event, facts["names"]) for event in changes],
                frozenset({"event", "before", "after"}),
            )
        ],
    )


def _event_row(event: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    return {
        "event": event["kind"],
        "before": enumerated([titled(i, names) for i in event["old"]]) or MISSING,
        "after": enumerated([titled(i, names) for i in event["new"]]) or MISSING,
        "shops before": count(event["n_old"]),
        "shops after": count(event["n_new"]),
        "in both": count(event["n_shared"]),
        "overlap (Jaccard)": rounded(event["jaccard"]),
    }


def _gate_part(facts: RefreshFacts) -> Part | None:
    """Return the comparison of champion and challenger, if there was a challenger."""
    if not facts["gate"]:
        return None
    is_passed = facts["decision"] != "refused"
    return Part(
        "The new model against the one in use",
        [
            *refresh_sentences("gate", is_passed=is_passed),
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
        "in use": figure(row["champion"]),
        "new": figure(row["challenger"]),
        "needed": figure(row["needed"]),
        "passed": figure(bool(row["is_passed"])),
    }


def _next_steps(content: RefreshContent) -> list[NextStep]:
    """Return the commands that make sense after this refresh."""
    facts = content.facts
    steps = [("refresh --input FILE", "adds the next month")]
    if facts["decision"] == "published":
        steps += [
            ('rename ID "NAME"', "gives a segment a name that stays"),
            ("rollback", f"brings version {facts['version']} back"),
        ]
    elif outcome_of(facts) == "recommended":
        steps.append(
            (
                "refresh --retrain always",
                "trains a new model on all months, and publishes it if it passes the "
                "comparison with the one in use",
            )
        )
    if facts["breaches"]:
        steps.append(
            ("contract check", "checks the published segments against the contract")
        )
    return [NextStep(command(verb, content.artifacts), adds) for verb, adds in steps]
