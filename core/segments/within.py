"""Sub-segments: what a large segment is divided into, under ids that stay.

A sub-segment has the number of its segment and a letter: ``2a``. Within a living
segment no letter is given out twice, whatever becomes of the sub-segment; where the
segment is gone, its sub-segments and letters go with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from core.segments.identity import match_segments

LARGE_SHARE = 0.25
"""A segment that holds a larger share of all entities is looked into."""
NONE = -1
SplitKind = Literal["density", "partition", "rules"]
IntArray = npt.NDArray[np.int64]
_LETTERS = 26


def letters(number: int) -> str:
    """Return the letters of a number from 0, as spreadsheets name their columns.

    >>> letters(0), letters(25), letters(26)
    ('a', 'z', 'aa')
    """
    text = ""
    while number >= 0:
        number, place = divmod(number, _LETTERS)
        text = chr(ord("a") + place) + text
        number -= 1
    return text


def letters_number(text: str) -> int:
    """Return the number of letters: the inverse of `letters`.

    >>> letters_number("aa")
    26
    """
    number = 0
    for letter in text:
        number = number * _LETTERS + ord(letter) - ord("a") + 1
    return number - 1


class SubSegment(BaseModel):
    """A part of a segment.

    Attributes
    ----------
    id : str
        Id of its segment and letters, such as ``2a``; permanent.
    name : str
        In words; no two sub-segments of a segment share one.
    kind : {'density', 'partition', 'rules'}
        Only ``density`` was found to be denser than data without structure.
    size : int
        Entities of the training data.
    share : float
        `size` over all entities of the training data, 0 to 1.
    cluster : int
        Its number within the division, from 0 by size.
    is_edited : bool
        Whether a user gave the name, which then stays as long as the sub-segment.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str = Field(pattern=r"^[0-9]+[a-z]+$")
    name: str = Field(min_length=1)
    kind: SplitKind
    size: int = Field(ge=0)
    share: float = Field(ge=0.0, le=1.0)
    cluster: int = Field(ge=0)
    is_edited: bool = False

    @property
    def number(self) -> int:
        """Number of its letters, from 0."""
        return letters_number(self.id.lstrip("0123456789"))


class Division(BaseModel):
    """What looking inside a large segment has found.

    Attributes
    ----------
    method : str or None
        What divides it; None where it is left whole.
    reason : str
        Why it is divided so, or left whole, as a part of a sentence.
    evidence : dict
        JSON-able figures that the choice rests on.
    next_letter : int
        Number of the first letter that was never given out in the segment.
    segments : tuple of SubSegment
        By letter; none where it is left whole.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: str | None = None
    reason: str = ""
    evidence: dict[str, Any] = Field(default_factory=dict)
    next_letter: int = Field(default=0, ge=0)
    segments: tuple[SubSegment, ...] = ()

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        numbers = [own.number for own in self.segments]
        if numbers != sorted(set(numbers)) or max(numbers, default=NONE) >= (
            self.next_letter
        ):
            raise ValueError("letters must ascend, below the next one")
        clusters = sorted(own.cluster for own in self.segments)
        if clusters != list(range(len(clusters))):
            raise ValueError("clusters of sub-segments must be numbered from 0")
        if len({own.name for own in self.segments}) < len(self.segments):
            raise ValueError("two sub-segments of a segment share a name")
        return self

    @property
    def kind(self) -> SplitKind | None:
        """Kind of its sub-segments; None where it is left whole."""
        return self.segments[0].kind if self.segments else None


def division(
    parent: int,
    kind: SplitKind,
    labels: IntArray,
    n_entities: int,
    names: Mapping[int, str],
    **found: Any,
) -> Division:
    """Count and name the parts of a segment by a model alone: letters by size.

    Parameters
    ----------
    parent : int
        Id of the segment.
    kind : {'density', 'partition', 'rules'}
    labels : ndarray of int64, shape (n_members,)
        Part of every member of the segment, from 0.
    n_entities : int
        Entities of the training data.
    names : mapping of int to str
        By part.
    **found
        ``method``, ``reason`` and ``evidence`` of `Division`.
    """
    sizes = np.bincount(labels, minlength=len(names)).tolist()
    parts = tuple(
        SubSegment(
            id=f"{parent}{letters(place)}",
            name=names[place],
            kind=kind,
            size=size,
            share=size / n_entities,
            cluster=place,
        )
        for place, size in enumerate(sizes)
    )
    return Division(segments=parts, next_letter=len(parts), **found)


def matched_letters(
    before: Division, old: IntArray, new: IntArray, survived: float, part: float
) -> dict[int, int]:
    """Give the parts of a new division the letters of the old ones they continue.

    Parameters
    ----------
    before : Division
        Of the same segment, by the model before.
    old : ndarray of int64, shape (n_entities,)
        Numbers of the letters that it gives the entities of the segment, -1 for none.
    new : ndarray of int64, shape (n_entities,)
        Parts by the new model, from 0; -1 for none.
    survived, part : float
        See `core.segments.identity.match_segments`.

    Returns
    -------
    dict of int to int
        Number of the letters by new part.
    """
    return match_segments(
        old,
        new,
        next_id=before.next_letter,
        survived=survived,
        part=part,
        known=[own.number for own in before.segments],
        trained={own.number: own.size for own in before.segments},
    ).ids


def relettered(
    found: Division,
    parent: int,
    before: Division | None,
    numbers: Mapping[int, int],
    names: Mapping[int, str],
) -> Division:
    """Return a new model's division of a segment under its letters and names.

    Parameters
    ----------
    found : Division
        By the new model alone.
    parent : int
        Id of the segment.
    before : Division or None
        Of the same segment by the model before; None where that knew none.
    numbers : mapping of int to int
        Numbers of letters by part, as `matched_letters` gives them.
    names : mapping of int to str
        By part.
    """
    known = () if before is None else before.segments
    edited = {own.number for own in known if own.is_edited}
    first = 0 if before is None else before.next_letter
    parts = [
        own.model_copy(
            update={
                "id": f"{parent}{letters(numbers[own.cluster])}",
                "name": names[own.cluster],
                "is_edited": numbers[own.cluster] in edited,
            }
        )
        for own in found.segments
    ]
    parts.sort(key=lambda own: own.number)
    last = max((own.number for own in parts), default=NONE)
    update = {"segments": tuple(parts), "next_letter": max(first, last + 1)}
    return found.model_copy(update=update)
