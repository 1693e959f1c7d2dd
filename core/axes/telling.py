"""A run in words, for a person who reads the scheduler's mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.axes.files import PAGE, REJECTED
from core.data.purchases_account import intake_lines
from core.reporting.wording import listed

# Sentences of one kind that the terminal shows; the page has all.
SAID = 5
TIERS = (
    "Where an axis has no segments, tiers can be cut all the same, and are called a "
    "cut: --set axes.min_segments=3."
)
Facts = Mapping[str, Any]


def run_lines(facts: Facts, folder: Path) -> list[str]:
    """Return what a run did: the customers, every axis, changes, and where it all is.

    Parameters
    ----------
    facts : mapping
        Of `core.axes.learning.Run.carry_out`.
    folder : path
        Of the published set.
    """
    lines = [headline(facts), *facts["notes"], *intake_notes(facts)]
    lines += [axis_line(axis, facts["segments"]) for axis in facts["axes"]]
    if any(axis["kind"] == "single" for axis in facts["axes"]):
        lines.append(TIERS)
    lines += change_lines(facts)
    return [*lines, f"Page: {folder / PAGE}"]


def unchanged_lines(facts: Facts) -> list[str]:
    """Return what is said where rows and options are those of the run before."""
    return [
        f"Nothing changed: these orders were segmented before (run {facts['run']}, "
        f"version {facts['version']}, {facts['n_customers']:,} customers)."
    ]


def headline(facts: Facts) -> str:
    """Return who was segmented, by what."""
    items = "" if facts["n_items"] is None else f" and {facts['n_items']:,} items"
    said = (
        f"{facts['n_customers']:,} customers, {facts['n_orders']:,} orders{items} up "
        f"to {facts['reference_date'][:10]}: "
    )
    if not facts["is_learnt"]:
        return f"{said}placed by version {facts['version']} of the axes."
    if facts["version_before"] is None:
        return f"{said}the axes were learnt (version {facts['version']})."
    return (
        f"{said}the axes were learnt again (version {facts['version']}, after "
        f"{facts['version_before']})."
    )


def axis_line(axis: Mapping[str, Any], segments: Sequence[Mapping[str, Any]]) -> str:
    """Return one axis: its segments with their shares, or why it has none."""
    name = axis["axis"]
    if axis["kind"] == "skipped":
        return f"{name}: {axis['verdict']}."
    rest = ""
    if axis["skipped"]:
        rest = f"; without {axis['skipped']}"
    if axis["n_not_placed"]:
        rest += f"; {axis['n_not_placed']:,} not placed"
    if axis["kind"] == "single":
        return f"{name}: no segments here{rest}."
    own = [s for s in segments if s["axis"] == name and s["segment_id"] >= 0]
    shares = ", ".join(f"{s['segment']} {s['share']:.0%}" for s in own)
    cut = " (tiers as asked for, not groups)" if axis["kind"] == "cut" else ""
    return f"{name}: {shares}{cut}{rest}."


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
    now = names_of(facts["segments"])
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
    return [
        f"{axis}: {_event(event, before, now)}"
        for event in events
        if event["kind"] != "survived"
    ]


def intake_notes(facts: Facts) -> list[str]:
    """Return what became of the rows, and what should be known of them."""
    n = facts["n_rejected"]
    told = [f"{n:,} rows were set aside, see {REJECTED}."] if n else []
    return [*intake_lines(facts["intake"]), *told]


def names_of(segments: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, str]]:
    """Return the names in a list of segments by axis and id."""
    found: dict[str, dict[int, str]] = {}
    for segment in segments:
        found.setdefault(segment["axis"], {})[segment["segment_id"]] = segment[
            "segment"
        ]
    return found


def _moved(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Say how many customers moved on which axes, by cause."""
    words = {
        "behaviour": "Moved by their own doing",
        "model": "Moved by the new model",
    }
    lines = []
    for cause, word in words.items():
        own = {axis: n[cause] for axis, n in counts.items() if n.get(cause)}
        if own:
            most = sorted(own.items(), key=lambda pair: -pair[1])
            lines.append(
                f"{word}: " + ", ".join(f"{n:,} on {a}" for a, n in most) + "."
            )
    return lines or ["Nobody moved."]


def _event(
    event: Mapping[str, Any], before: Mapping[int, str], now: Mapping[int, str]
) -> str:
    """Say one event with its counts."""
    old = listed([f"`{before.get(i, i)}`" for i in event["old"]])
    new = listed([f"`{now.get(i, i)}`" for i in event["new"]])
    if event["kind"] == "born":
        origin = f", {event['n_shared']:,} of them from {old}" if old else ""
        return f"new is {new} ({event['n_new']:,} customers{origin})."
    if event["kind"] == "died":
        goal = f", {event['n_shared']:,} of them now in {new}" if new else ""
        return f"gone is {old} ({event['n_old']:,} customers{goal})."
    became = {"split": "split into", "merged": "merged into"}[event["kind"]]
    return f"{old} {became} {new} ({event['n_new']:,} customers)."


def _first(lines: Sequence[str], noun: str) -> list[str]:
    """Return the first few lines, and how many there are besides."""
    rest = len(lines) - SAID
    more = [f"And {rest:,} more {noun}{'s' if rest > 1 else ''}."] if rest > 0 else []
    return [*lines[:SAID], *more]
