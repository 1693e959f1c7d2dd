"""What a refresh found and decided, in words: for its page and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from core.months import spoken_month
from core.reporting.text import MISSING, count, decimal, enumerated, plural
from core.retailers.report.evidence import TEMPLATES
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
    n_changing : int or None
        Shops whose recent months follow another segment than their settled one, and
        that were not moved for it; None where that cannot be told.
    n_stepped : int or None
        Shops that sell lastingly more or less than their own past foretells.
    n_lapsed : int
        Shops that have lapsed since the month before.
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
    n_changing: int | None
    n_stepped: int | None
    n_lapsed: int
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
    badge : str
    shops : str
        What the shops did.
    decision : str
        What was decided on the model; empty where nothing was.
    lines : tuple of str
        Why, a sentence each.
    advice : str
        What to do.
    """

    tone: str
    badge: str
    shops: str
    decision: str
    lines: tuple[str, ...]
    advice: str

    @property
    def headline(self) -> str:
        """The whole in one line."""
        return f"{self.shops} {self.decision}".rstrip()


_BADGES = {
    "steady": ("calm", "Nothing to do"),
    "changing": ("calm", "Look at the shops"),
    "watching": ("care", "Wait for next month"),
    "recommended": ("care", "Retraining recommended"),
    "published": ("good", "New model"),
    "refused": ("care", "New model refused"),
    "unchanged": ("calm", "Already on record"),
}
_CHANGES = {"split": "split", "merged": "merged", "born": "new", "died": "gone"}
_ALERTS_SAID = 5


def announcement(facts: RefreshFacts) -> Announcement:
    """Put what a refresh found and decided into words.

    >>> facts = {"month": "2024-05", "decision": "kept", "state": "steady",
    ...          "reason": "", "version": 3,
    ...          "published": None, "n_assigned": 4912, "n_unassigned": 611,
    ...          "n_not_eligible": 80, "n_moved": 6, "n_entered": 12, "n_left": 9,
    ...          "n_changing": 17, "n_stepped": 0, "n_lapsed": 0, "alerts": [],
    ...          "events": [], "gate": [], "breaches": [], "names": {}}
    >>> told = announcement(facts)
    >>> told.shops
    'May 2024: 6 of 4,912 shops moved to another segment, 17 are changing.'
    >>> told.decision
    'No drift; the model stays.'
    """
    outcome = outcome_of(facts)
    tone, badge = _BADGES[outcome]
    kinds = [event["kind"] for event in facts["events"]]
    known: dict[str, Any] = {
        **facts,
        "outcome": outcome,
        "month": spoken_month(facts["month"]),
        "changes": [
            f"{kinds.count(kind)} {word}"
            for kind, word in _CHANGES.items()
            if kind in kinds
        ],
    }
    return Announcement(
        tone,
        badge,
        shops=" ".join(refresh_sentences("shops_headline", **known)),
        decision=" ".join(refresh_sentences("decision", **known)),
        lines=(facts["reason"],) if facts["reason"] else (),
        advice=" ".join(refresh_sentences("advice", **known)),
    )


def refresh_sentences(topic: str, **values: Any) -> list[str]:
    """Return the sentences that the text of refreshes has for a topic."""
    return TEMPLATES.sentences("refresh.txt.j2", topic, **values)


def refresh_lines(facts: RefreshFacts, shops: Sequence[str] = ()) -> list[str]:
    """Return the same for a terminal: who moved (`shops`), alerts and events."""
    told = announcement(facts)
    lines = [told.headline, *_first(shops, "change"), *told.lines]
    lines += _first([f"Alert: {alert}." for alert in facts["alerts"]], "alert")
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
    changes = [
        {
            **event,
            "old": enumerated([_quoted(segment, names) for segment in event["old"]]),
            "new": enumerated([_quoted(segment, names) for segment in event["new"]]),
        }
        for event in events
        if event["kind"] != "survived"
    ]
    n_same = len(events) - len(changes)
    return refresh_sentences("events", changes=changes, n_same=n_same)


def titled(segment: int | str | None, names: Mapping[str, str]) -> str:
    """Return id and name of a segment; -1 is "unassigned"."""
    if str(segment) == str(UNASSIGNED):
        return UNASSIGNED_NAME
    name = names.get(str(segment), "")
    return f"{segment} {name}".rstrip()


def failed_checks(gate: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say which checks a challenger has failed."""
    return [
        f"Failed: {row['check']}: {figure(row['challenger'])}, needed "
        f"{figure(row['needed'])} (the model in use: {figure(row['champion'])})."
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
    counts = (facts["n_moved"], facts["n_changing"], facts["n_stepped"])
    if facts["state"] == "steady" and any((*counts, facts["n_lapsed"])):
        return "changing"
    return {"recalibrate": "recommended"}.get(facts["state"], facts["state"])


def _first(lines: Sequence[str], noun: str) -> list[str]:
    """Return the first few lines, and how many there are besides."""
    rest = len(lines) - _ALERTS_SAID
    more = [f"And {plural(rest, f'more {noun}')}."] if rest > 0 else []
    return [*lines[:_ALERTS_SAID], *more]


def _quoted(segment: int, names: Mapping[str, str]) -> str:
    """Return a segment's title in quotation marks."""
    if segment == UNASSIGNED:
        return "the unassigned"
    return f"“{titled(segment, names)}”"
