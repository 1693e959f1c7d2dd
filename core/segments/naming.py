"""Ids and names of published segments: what a name may be, given names, renaming."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from core.errors import ConfigError
from core.segments.identity import NONE

LONGEST_NAME = 80
"""Characters of a name that a user gives."""
# Persian and Hindi are spelt with them, and many emoji.
_JOINERS = "\u200c\u200d"


def checked_name(name: str) -> str:
    """Return a name that a user gives a segment, without white space around it.

    Raises
    ------
    ConfigError
        If it is empty, longer than `LONGEST_NAME`, or cannot be shown in one line.
    """
    text = name.strip()
    try:
        if not 1 <= len(text) <= LONGEST_NAME:
            raise ValueError(
                f"it has {len(text)} characters; expected one line of 1 to "
                f"{LONGEST_NAME} characters"
            )
        return require_printable(text)
    except ValueError as error:
        raise ConfigError(f"{name!r} is no name for a segment: {error}.") from None


def require_printable(name: str) -> str:
    """Return a name as it is, if it can be shown in one line of text.

    Raises
    ------
    ValueError
        For a control character, the end of a line or paragraph, a space of unusual
        width, or another character that nobody sees; the message names it.
    """
    for place, character in enumerate(name, start=1):
        if not character.isprintable() and character not in _JOINERS:
            called = unicodedata.name(character, "a control character")
            raise ValueError(
                f"character {place} is U+{ord(character):04X} ({called}), which cannot "
                "be shown; expected letters, digits, signs and plain spaces in one line"
            )
    return name


class NamedSegment(Protocol):
    """What every published segment has: permanent id, name, cluster of its model."""

    @property
    def id(self) -> Any:
        """Permanent, from 0; -1 are those in no segment. Text of a sub-segment."""

    @property
    def name(self) -> str:
        """In words; no two segments share one."""

    @property
    def cluster(self) -> int:
        """Its number within the model; -1 for id -1."""

    @property
    def is_edited(self) -> bool:
        """Whether a user gave the name, which then stays as long as the segment."""

    def model_copy(self, *, update: Mapping[str, Any]) -> Self:
        """Return a copy with some values changed, as pydantic's models do."""


S = TypeVar("S", bound=NamedSegment)


def names_of(segments: Iterable[NamedSegment]) -> dict[Any, str]:
    """Return names by id."""
    return {segment.id: segment.name for segment in segments}


def ids_of(
    segments: Iterable[NamedSegment], clusters: npt.NDArray[np.integer]
) -> npt.NDArray[np.int64]:
    """Return the ids of clusters, shape (n_rows,); -1 stays -1."""
    ids = {s.cluster: s.id for s in segments if s.cluster != NONE}
    # The last one is what -1 reaches.
    table = [*(ids[cluster] for cluster in range(len(ids))), NONE]
    return np.asarray(np.array(table, dtype=np.int64)[clusters])


def rename(
    segments: Sequence[S],
    segment_id: int | str,
    name: str,
    reserved: Mapping[int, str] = MappingProxyType({}),
) -> tuple[S, ...]:
    """Return segments, one of them under a name that a user gives.

    Parameters
    ----------
    segments : sequence of segments
    segment_id : int, or str of a sub-segment
    name : str
        White space around it is cut off. The segment's present name is allowed: it is
        then kept like one that was given.
    reserved : mapping of int to str
        Names of other segments, by id, that it must not have either.

    Raises
    ------
    ConfigError
        For an unknown id, a name that another segment has, whatever its case, and one
        that `checked_name` refuses.
    """
    names = names_of(segments)
    if segment_id not in names:
        raise ConfigError(
            f"no segment has the id {segment_id}; the published ones are "
            f"{', '.join(map(str, names))}."
        )
    text = checked_name(name)
    for other, taken in {**reserved, **names}.items():
        if other != segment_id and taken.casefold() == text.casefold():
            raise ConfigError(
                f"`{text}` cannot be the name of segment {segment_id}: segment {other} "
                f"is called `{taken}` already; expected a name that no other segment "
                "has."
            )
    given = {"name": text, "is_edited": True}
    return tuple(
        s.model_copy(update=given) if s.id == segment_id else s for s in segments
    )


def with_given_names(then: Iterable[S], now: Iterable[S]) -> tuple[S, ...]:
    """Return earlier segments under the names that users have given since.

    Where such a name is that of another segment of the earlier ones, that one gets a
    number.
    """
    given = names_of(segment for segment in now if segment.is_edited)
    earlier = tuple(then)
    taken = {given[s.id] for s in earlier if s.id in given}
    named = []
    for segment in earlier:
        name, number = given.get(segment.id, segment.name), 2
        while segment.id not in given and name in taken:
            name, number = f"{segment.name} {number}", number + 1
        taken.add(name)
        is_edited = segment.is_edited or segment.id in given
        named.append(segment.model_copy(update={"name": name, "is_edited": is_edited}))
    return tuple(named)
