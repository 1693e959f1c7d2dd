"""What changed since the run before, told: who moved, segments, drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from core.reporting.page import Part, Table, Templates
from core.reporting.text import count, decimal, enumerated

TEMPLATES = Templates(Path(__file__).parent / "templates")
# Sentences of one kind that the terminal shows; the page has all.
SAID = 5
Facts = Mapping[str, Any]


def change_lines(facts: Facts, *, is_short: bool = True) -> list[str]:
    """Return what is other than in the run before; nothing in a first run.

    With `is_short` everything is in sentences, of drift the first few; without it moves
    and drift are left to tables.
    """
    if facts["version_before"] is None:
        return []
    lines = [
        f"{facts['n_entered']:,} customers are new, {facts['n_left']:,} have gone."
    ]
    if is_short:
        lines += _moved(facts["n_moved"])
        lines += _first([f"Drift: {alert}." for alert in facts["drift"]], "drift alert")
    now = _names_by_axis(facts["segments"])
    for axis, events in facts["events"].items():
        before = {int(i): name for i, name in facts["names_before"][axis].items()}
        lines += event_lines(axis, events, before, now.get(axis, {}))
    return lines


def event_lines(
    axis: str,
    events: Sequence[Mapping[str, Any]],
    before: Mapping[int, str],
    now: Mapping[int, str],
) -> list[str]:
    """Say what became of the segments of one axis; survivors are not worth a word.

    Parameters
    ----------
    axis : str
    events : sequence of mapping
        `core.segments.identity.IdentityEvent` as dicts.
    before, now : mapping of int to str
        Names of the segments by id, before and after.
    """
    changes = [
        {
            **event,
            "old": enumerated([f"`{before.get(i, i)}`" for i in event["old"]]),
            "new": enumerated([f"`{now.get(i, i)}`" for i in event["new"]]),
        }
        for event in events
        if event["kind"] != "survived"
    ]
    return TEMPLATES.sentences("changes.txt.j2", "events", axis=axis, events=changes)


def _names_by_axis(segments: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, str]]:
    """Return the names in a list of segments by axis and id."""
    found: dict[str, dict[int, str]] = {}
    for segment in segments:
        found.setdefault(segment["axis"], {})[segment["segment_id"]] = segment[
            "segment"
        ]
    return found


def _moved(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Say how many customers moved on which axes, by cause."""
    moved = {
        cause: sorted(
            ((axis, n[cause]) for axis, n in counts.items() if n.get(cause)),
            key=lambda pair: -pair[1],
        )
        for cause in ("behaviour", "model")
    }
    return TEMPLATES.sentences("changes.txt.j2", "moved", moved=moved)


def _first(lines: Sequence[str], noun: str) -> list[str]:
    """Return the first few lines, and how many there are besides."""
    rest = len(lines) - SAID
    more = [f"And {rest:,} more {noun}{'s' if rest > 1 else ''}."] if rest > 0 else []
    return [*lines[:SAID], *more]


def changes_part(
    changes: Sequence[str],
    moved: Mapping[str, Mapping[str, int]],
    drift: pl.DataFrame,
) -> Part | None:
    """Return what is other than before, and the drift that alerts.

    Parameters
    ----------
    changes : sequence of str
        Of `change_lines`, not short; empty in a first run, which has no such part.
    moved : mapping of axis to mapping of cause to int
        Customers who moved.
    drift : DataFrame
        ``axis``, ``name``, ``statistic``, ``value``, ``threshold``, ``is_alert``.
    """
    if not changes:
        return None
    alerts = drift.filter("is_alert").to_dicts()
    tables = [
        Table(
            "Customers in another segment than before. By behaviour: the model before "
            "has them elsewhere now. By the model: the new one has them elsewhere.",
            [
                {
                    "axis": axis,
                    "by behaviour": count(by.get("behaviour", 0)),
                    "by the model": count(by.get("model", 0)),
                }
                for axis, by in moved.items()
            ],
            frozenset({"axis"}),
        )
    ]
    if alerts:
        tables.append(
            Table(
                "What is further from the customers the axes were learnt on than "
                "chance explains.",
                [_drift_row(row) for row in alerts],
                frozenset({"of", "what", "statistic"}),
            )
        )
    return Part("Since the run before", changes, tables=tables)


def moves_table(moves: Sequence[Mapping[str, Any]], names: Mapping[int, str]) -> Table:
    """Return from where to where most customers moved.

    Parameters
    ----------
    moves : sequence of mapping
        ``old``, ``new``, ``old_name``, ``new_name``, ``cause`` and ``n``, the largest
        first; at least one.
    names : mapping of int to str
        Names of the segments as they are now, by id.
    """
    most = moves[0]["n"]
    return Table(
        "From which rule segment to which other one most customers moved.",
        [
            {
                "from": names.get(move["old"], move["old_name"]),
                "to": names.get(move["new"], move["new_name"]),
                "by": "their behaviour"
                if move["cause"] == "behaviour"
                else "the model",
                "customers": count(move["n"]),
            }
            for move in moves
        ],
        frozenset({"from", "to", "by"}),
        {"customers": [move["n"] / most for move in moves]},
    )


def _drift_row(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "of": row["axis"],
        "what": row["name"],
        "statistic": row["statistic"],
        "value": decimal(row["value"]),
        "limit": decimal(row["threshold"]),
    }
