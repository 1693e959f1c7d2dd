"""What changed since the run before, told: who moved, segments, drift."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from core.reporting.page import Part, Table, Templates
from core.reporting.text import count, enumerated, rounded, spoken

TEMPLATES = Templates(Path(__file__).parent / "templates")
# Sentences of one kind that the terminal shows; the page has all.
SAID = 5
Facts = Mapping[str, Any]
Words = Callable[[str], str]
TEXTS = frozenset({"axis"})
_STATISTICS = {
    "psi": "population stability index",
    "ks": "Kolmogorov-Smirnov",
    "difference": "change of the share",
}


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
        lines += [] if facts["n_moved"] is None else _moved(facts["n_moved"])
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
            "old": _names([before.get(i, str(i)) for i in event["old"]]),
            "new": _names([now.get(i, str(i)) for i in event["new"]]),
        }
        for event in events
        if event["kind"] != "survived"
    ]
    return TEMPLATES.sentences("changes.txt.j2", "events", axis=axis, events=changes)


def _names(names: Sequence[str]) -> str:
    """Return names as a sentence has them; a backtick would begin code."""
    return enumerated([spoken(name).replace("`", "'") for name in names])


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
    moved: Mapping[str, Mapping[str, int]] | None,
    drift: pl.DataFrame,
    words: Words = spoken,
) -> Part | None:
    """Return what is other than before: segments, who moved, how much has drifted.

    Parameters
    ----------
    changes : sequence of str
        Of `change_lines`, not short; empty in a first run, which has no such part.
    moved : mapping of axis to mapping of cause to int, or None
        Customers who moved; None where these rows cannot be held against those before.
    drift : DataFrame
        ``axis``, ``name``, ``statistic``, ``value``, ``threshold``, ``is_alert``.
    words : callable
        What a feature is called.
    """
    if not changes:
        return None
    if moved is not None:
        changes = [*changes, *_drifted(drift, words)]
    rows = [
        {
            "axis": spoken(axis),
            "they behave differently": count(by.get("behaviour", 0)),
            "the model is new": count(by.get("model", 0)),
        }
        for axis, by in (moved or {}).items()
    ]
    table = Table("Customers in another segment than before, because", rows, TEXTS)
    return Part(
        "Since the run before",
        [f"{line[:1].upper()}{line[1:]}" for line in changes],
        tables=[table],
    )


def _drifted(drift: pl.DataFrame, words: Words) -> list[str]:
    """Return in a sentence how much has drifted, the largest first."""
    alerts = _by_name(drift)
    if not alerts:
        return ["Customers are as they were when the segments were learnt."]
    told = [_called(row, words) for row in alerts[:SAID]]
    told += [f"{len(alerts) - SAID} more"] if len(alerts) > SAID else []
    return [
        "Customers have changed since the segments were learnt, by more than chance "
        f"explains: {enumerated(told)}. If most of this is lasting, learn the segments "
        "again."
    ]


def drift_part(drift: pl.DataFrame, words: Words = spoken) -> Part | None:
    """Return what has drifted, as figures; None if nothing has.

    Parameters
    ----------
    drift, words
        As of `changes_part`.
    """
    alerts = _by_name(drift)
    if not alerts:
        return None
    rows = [
        {
            "what": _called(row, words),
            "measure": _STATISTICS.get(row["statistic"], row["statistic"]),
            "value": rounded(row["value"]),
            "limit": rounded(row["threshold"]),
        }
        for row in alerts
    ]
    said = (
        "The measure that is furthest above its limit. Limits are set so that at most "
        "one in twenty runs without any change alerts."
    )
    texts = frozenset({"what", "measure"})
    return Part(
        "What has changed since the segments were learnt",
        [said],
        tables=[Table("By feature and segment.", rows, texts)],
    )


def _by_name(drift: pl.DataFrame) -> list[dict[str, Any]]:
    """Return of every feature and segment the alert furthest above its limit."""
    if drift.is_empty():
        return []
    lead = (pl.col("value").abs() / pl.col("threshold")).alias("lead")
    alerts = drift.filter("is_alert").with_columns(lead)
    ordered = alerts.sort("lead", "name", descending=[True, False])
    return ordered.unique(
        ["axis", "name"], keep="first", maintain_order=True
    ).to_dicts()


def _called(row: Mapping[str, Any], words: Words) -> str:
    """Return what has drifted in words: a feature, or the share of a segment."""
    if row["statistic"] != "difference":
        return words(row["name"])
    return f"share of {spoken(row['name'])}"


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
        "Between which rule segments most customers moved.",
        [
            {
                "from": names.get(move["old"], move["old_name"]),
                "to": names.get(move["new"], move["new_name"]),
                "because": "they behave differently"
                if move["cause"] == "behaviour"
                else "the model is new",
                "customers": count(move["n"]),
            }
            for move in moves
        ],
        frozenset({"from", "to", "because"}),
        {"customers": [move["n"] / most for move in moves]},
    )
