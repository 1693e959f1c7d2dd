"""What a run tells the dashboard: one board per published model, kept in the store."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from core.errors import StoreLayoutError
from core.reporting.text import rounded

BOARD = "board.json"
"""The file of a run's artifacts."""


@dataclass(frozen=True)
class BoardVerdict:
    """How far the segments can be trusted, as the report says it.

    Attributes
    ----------
    kind : str
        Such as ``natural``, ``partition`` or ``rules``; chooses the colour.
    badge, meaning, caution : str
        A few words, a sentence, and what to be careful about; the last two may be
        empty.
    """

    kind: str
    badge: str
    meaning: str = ""
    caution: str = ""


@dataclass(frozen=True)
class BoardSegment:
    """A segment, or a sub-segment of one.

    Attributes
    ----------
    id : str
        ``"2"``, or ``"2a"`` of a sub-segment; ``"-1"``: not placed.
    name : str
        As `customer_profiles` has it in the memberships of its axis.
    n : int
        Entities.
    share : float
        Of all that the axis places, 0 to 1.
    parent : str, optional
        Id of the segment that a sub-segment is of.
    kind : str
        How it was found; may be empty.
    value_share : float, optional
        Share of sales, 0 to 1; None where sales are not known.
    trend, how_sure : str
        In words; empty where not known.
    apart, actions : list of str
        What sets it apart, and suggestions.
    curve : list of (str, float)
        Period and value, such as a month and its index; empty where there is none.
    states : list of (str, float)
        Shares of the states of its entities, 0 to 1; empty where there are none.
    """

    id: str
    name: str
    n: int
    share: float
    parent: str | None = None
    kind: str = ""
    value_share: float | None = None
    trend: str = ""
    apart: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    how_sure: str = ""
    curve: list[tuple[str, float]] = field(default_factory=list)
    states: list[tuple[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class BoardAxis:
    """One way to divide the entities; retailers and baskets have one.

    Attributes
    ----------
    name : str
        As in the memberships of `customer_profiles`.
    title : str
        For people.
    segments : list of BoardSegment
        The largest first, sub-segments after the segment that they are of.
    verdict, note : str
        In words; may be empty.
    """

    name: str
    title: str
    segments: list[BoardSegment]
    verdict: str = ""
    note: str = ""


@dataclass(frozen=True)
class BoardPeriod:
    """Sizes at one point in time: a month, or a run.

    Attributes
    ----------
    label : str
        ``YYYY-MM``, or the date of a run.
    version : int, optional
        Of the model; None where none is told.
    sizes : mapping of axis to mapping of segment to int
        By name; whoever is not placed is among them under that name.
    states : mapping of state to int
        Of the life cycle; empty where there are none.
    """

    label: str
    version: int | None
    sizes: dict[str, dict[str, int]]
    states: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class BoardFlow:
    """How many entities went from one segment or state to another by themselves.

    `kind` is the axis, of shops ``segment`` or ``state``; `old` and `new` are names,
    empty where the entity came or left.
    """

    kind: str
    period: str
    old: str
    new: str
    n: int


@dataclass(frozen=True)
class BoardDrift:
    """One measure of change since the model was learnt.

    Attributes
    ----------
    what : str
        Feature or axis, in words.
    value : str
        Figure with its unit.
    words : str
        What it means.
    is_alert : bool
        Whether it is above its limit.
    """

    what: str
    value: str
    words: str
    is_alert: bool


def drift_words(limit: float, *, is_alert: bool) -> str:
    """Return what a measure of change means, given the largest that is no alert.

    >>> drift_words(0.0812, is_alert=False)
    'within the limit of 0.081'
    """
    return f"{'above' if is_alert else 'within'} the limit of {rounded(limit)}"


def model_change(who: str) -> str:
    """Say that flows leave out whom a new model has put elsewhere."""
    return f"The new model puts {who} into another segment; they do not count as moved."


@dataclass(frozen=True)
class Board:
    """What a run tells the dashboard.

    Attributes
    ----------
    system : str
        ``retailers``, ``axes``, ``channels`` or ``baskets``.
    title, headline : str
        What these are, and who could be segmented.
    entity : str
        Singular word: "shop", "customer".
    created, as_of : str
        ISO date and time of the run (UTC), and date of the newest data.
    axes : list of BoardAxis
    verdict : BoardVerdict, optional
    tiles : list of (str, str)
        Label and figure.
    periods : list of BoardPeriod
        The oldest first.
    flows : list of BoardFlow
    drift : list of BoardDrift
    rules : list of (str, str)
        Segment and its rule in words.
    scorecard, notes : list of str
        Sentences.
    """

    system: str
    title: str
    entity: str
    created: str
    as_of: str
    headline: str
    axes: list[BoardAxis]
    verdict: BoardVerdict | None = None
    tiles: list[tuple[str, str]] = field(default_factory=list)
    periods: list[BoardPeriod] = field(default_factory=list)
    flows: list[BoardFlow] = field(default_factory=list)
    drift: list[BoardDrift] = field(default_factory=list)
    rules: list[tuple[str, str]] = field(default_factory=list)
    scorecard: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """Return the board as JSON; PostgreSQL's `jsonb` takes it."""
        return _adapter().dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Board:
        """Return the board of `to_json`, of this or of another version.

        Fields that this version does not know are left out; those that another one did
        not have are empty.

        Raises
        ------
        StoreLayoutError
            If it is no board.
        """
        try:
            return _adapter().validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the whole"
            raise StoreLayoutError(
                f"the board of the model cannot be read: {place}: {first['msg']}. "
                "Expected what a run publishes; publish the model again."
            ) from None


@functools.cache
def _adapter() -> TypeAdapter[Board]:
    return TypeAdapter(Board)
