"""What a refresh found and decided, in words: for its page and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from core.reporting.text import MISSING, count, decimal, listed, plural
from core.segments.names import spoken_month
from core.segments.published import UNASSIGNED, UNASSIGNED_NAME

Decision = Literal["kept", "recommended", "published", "refused", "unchanged"]


class RefreshFacts(TypedDict):
    """What a refresh has to tell, as JSON-able values.

    Attributes
    ----------
    month : str
        YYYY-MM, the month that came.
    decision : {'kept', 'recommended', 'published', 'refused', 'unchanged'}
        ``kept``: nothing had to be done. ``recommended``: retraining is advised and
        was not asked for. ``published``: a new model passed the gate and serves.
        ``refused``: a new model failed, the one before goes on serving.
        ``unchanged``: the month had been taken in before, nothing was done.
    reason : str
        Why, as a sentence; may be empty.
    version, published : int, int or None
        The version that served when the month came, and the one published in it.
    n_assigned, n_unassigned, n_not_eligible : int
        Shops of the month with a segment, with none, and not eligible.
    n_moved, n_entered, n_left : int or None
        Shops whose confirmed segment changed in the month (model changes apart), that
        were not there the month before, and that are there no more; None in the first
        month of a ledger.
    state : {'steady', 'watching', 'recalibrate'}
        Of the trigger, after this month.
    alerts : list of str
        Of the drift, in words.
    events : list of dict
        `core.segments.identity.IdentityEvent.model_dump`, of the model published.
    gate : list of dict
        `core.evaluation.gate.GateRow` as dicts: ``check``, ``champion``,
        ``challenger``, ``needed`` (numbers, texts or None), ``is_passed``.
    breaches : list of str
        Of the contract, in words.
    names : dict of str to str
        Id, as text, to name: of every segment before and after.
    """

    month: str
    decision: Decision
    reason: str
    version: int
    published: int | None
    n_assigned: int
    n_unassigned: int
    n_not_eligible: int
    n_moved: int | None
    n_entered: int | None
    n_left: int | None
    state: str
    alerts: list[str]
    events: list[dict[str, Any]]
    gate: list[dict[str, Any]]
    breaches: list[str]
    names: Mapping[str, str]


@dataclass(frozen=True)
class Announcement:
    """A refresh in words.

    Attributes
    ----------
    tone : {'good', 'calm', 'care'}
        How the page looks: something was achieved, nothing is asked of the reader,
        or something is.
    badge, headline : str
    lines : tuple of str
        Why, a sentence each.
    advice : str
        What to do.
    """

    tone: str
    badge: str
    headline: str
    lines: tuple[str, ...]
    advice: str


_BADGES = {
    "steady": ("calm", "Nothing to do"),
    "watching": ("care", "Watching"),
    "recommended": ("care", "Retraining recommended"),
    "published": ("good", "New model"),
    "refused": ("care", "New model refused"),
    "unchanged": ("calm", "Known already"),
}
_ADVICE = {
    "steady": "Nothing. The segments mean what they meant; carry on with them.",
    "watching": "Wait for the next month: an alert of one month often passes. If a "
    "campaign, a price change or a fault in the data explains it, note that now; a "
    "fault in the data is mended best before the next refresh.",
    "recommended": "Look at the alerts first: a fault in the data is to be mended, not "
    "learnt. If the shops themselves have changed, retrain.",
    "published": "Tell those who work with the segments what changed, and give new "
    "segments a name that people will use. If something looks wrong, go back to the "
    "version before.",
    "refused": "Nothing changes for those who work with the segments. Read below which "
    "check failed: a challenger that is no better is not a fault, the old model simply "
    "stays; a broken contract needs its owner.",
    "unchanged": "Nothing. To take in other rows, name a file of a later month.",
}
_ALERTS_SAID = 5


def announcement(facts: RefreshFacts) -> Announcement:
    """Put what a refresh found and decided into words.

    >>> facts = {"month": "2024-05", "decision": "kept", "reason": "", "version": 3,
    ...          "published": None, "n_assigned": 4912, "n_unassigned": 611,
    ...          "n_not_eligible": 80, "n_moved": 61, "n_entered": 12, "n_left": 9,
    ...          "state": "steady", "alerts": [], "events": [], "gate": [],
    ...          "breaches": [], "names": {"0": "Summer shops"}}
    >>> announcement(facts).headline
    'May 2024: 4,912 shops assigned; 61 moved; no drift; nothing to do.'
    """
    outcome = outcome_of(facts)
    tone, badge = _BADGES[outcome]
    month = spoken_month(facts["month"])
    if outcome == "unchanged":
        headline = f"{month} had been taken in before; nothing was done."
    else:
        said = [
            f"{plural(facts['n_assigned'], 'shop')} assigned",
            _moved(facts["n_moved"]),
            plural(len(facts["alerts"]), "alert") if facts["alerts"] else "no drift",
            _done(outcome, facts),
        ]
        headline = f"{month}: {'; '.join(filter(None, said))}."
    lines = [facts["reason"]] if facts["reason"] else []
    return Announcement(tone, badge, headline, tuple(lines), _ADVICE[outcome])


def refresh_lines(facts: RefreshFacts) -> list[str]:
    """Return the same, with alerts and events, as short as a terminal wants it."""
    told = announcement(facts)
    lines = [told.headline, *told.lines]
    lines += _first(facts["alerts"], "alert")
    if facts["decision"] == "published":
        lines += event_lines(facts["events"], facts["names"])
    if facts["decision"] == "refused":
        lines += failed_checks(facts["gate"])
    return lines + _first(facts["breaches"], "breach")


def event_lines(
    events: Sequence[Mapping[str, Any]], names: Mapping[str, str]
) -> list[str]:
    """Say what became of every segment, the changes first, survivors in one sentence.

    Parameters
    ----------
    events : sequence of mapping
        `core.segments.identity.IdentityEvent` as dicts.
    names : mapping of str to str
        Id, as text, to name.
    """
    changes = [event for event in events if event["kind"] != "survived"]
    lines = [_event(event, names) for event in changes]
    n_same = len(events) - len(changes)
    if n_same:
        whom = "its id and its name" if n_same == 1 else "their ids and names"
        other = "other " if changes else ""
        verb = "keeps" if n_same == 1 else "keep"
        lines.append(f"{n_same} {other}{_segments(n_same)} {verb} {whom}.")
    return lines


def titled(segment: int | None, names: Mapping[str, str]) -> str:
    """Return id and name of a segment; -1 is "unassigned"."""
    if segment == UNASSIGNED:
        return UNASSIGNED_NAME
    name = names.get(str(segment), "")
    return f"{segment} {name}".rstrip()


def failed_checks(gate: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say which checks a challenger has failed."""
    return [
        f"Failed: {row['check']}: {figure(row['challenger'])}, needed "
        f"{figure(row['needed'])} (the model that serves: {figure(row['champion'])})."
        for row in gate
        if not row["is_passed"]
    ]


def figure(value: object) -> str:
    """Return a number of a check with two decimals, a text as it stands.

    >>> figure(0.8123), figure(1200), figure("natural"), figure(True)
    ('0.81', '1,200', 'natural', 'yes')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return decimal(value)
    return MISSING if value is None else str(value)


def outcome_of(facts: RefreshFacts) -> str:
    """Tell apart, among the models that were kept, those under watch."""
    if facts["decision"] != "kept":
        return facts["decision"]
    return {"recalibrate": "recommended"}.get(facts["state"], facts["state"])


def _moved(n: int | None) -> str:
    if n is None:
        return "the first month that is recorded"
    return f"{count(n)} moved" if n else "none moved"


def _done(outcome: str, facts: RefreshFacts) -> str:
    """Return the last words of the headline."""
    if outcome != "published":
        return {
            "steady": "nothing to do",
            "watching": "wait for next month",
            "recommended": "retraining is recommended",
            "refused": f"a new model was refused, version {facts['version']} stays",
        }[outcome]
    kinds = [event["kind"] for event in facts["events"]]
    words = (
        ("split", "split"),
        ("merged", "merged"),
        ("born", "new"),
        ("died", "gone"),
    )
    changes = [f"{kinds.count(kind)} {word}" for kind, word in words if kind in kinds]
    changed = f" ({listed(changes)})" if changes else ", all segments kept"
    return f"version {facts['published']} published{changed}"


def _first(lines: Sequence[str], noun: str) -> list[str]:
    """Return the first few lines, and how many there are besides."""
    rest = len(lines) - _ALERTS_SAID
    more = [f"And {plural(rest, f'more {noun}')}."] if rest > 0 else []
    return [*lines[:_ALERTS_SAID], *more]


def _segments(n: int) -> str:
    return "segment" if n == 1 else "segments"


def _event(event: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Say one event, with its counts."""
    old = listed([_quoted(segment, names) for segment in event["old"]])
    new = listed([_quoted(segment, names) for segment in event["new"]])
    n_old, n_new = plural(event["n_old"], "shop"), plural(event["n_new"], "shop")
    shared = count(event["n_shared"])
    if event["kind"] == "split":
        return f"Split: {old} ({n_old}) became {new} ({n_new})."
    if event["kind"] == "merged":
        return f"Merged: {old} ({n_old}) became {new} ({n_new})."
    if event["kind"] == "born":
        origin = f", {shared} of them from {old}" if old else ""
        return f"New: {new} ({n_new}{origin})."
    goal = f", {shared} of them now in {new}" if new else ""
    return f"Gone: {old} ({n_old}{goal})."


def _quoted(segment: int, names: Mapping[str, str]) -> str:
    """Return a segment's title in quotation marks."""
    if segment == UNASSIGNED:
        return "the unassigned"
    return f"“{titled(segment, names)}”"
