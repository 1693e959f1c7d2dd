"""The terms of a contract, as `core.segments.contract` describes them."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from core.errors import listed


def _ascending(band: tuple[float, float]) -> tuple[float, float]:
    if band[0] > band[1]:
        raise ValueError("the lower end comes first, as in `[0.1, 0.3]`")
    return band


_Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Band = Annotated[tuple[_Fraction, _Fraction], AfterValidator(_ascending)]
"""Smallest and largest share allowed, both included."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Terms(_Part):
    """What a segment must keep; None demands nothing.

    Attributes
    ----------
    min_size : int or None
        Fewest members.
    min_stability : float or None
        Smallest Jaccard index with its best match when everything is learnt anew
        (`core.evaluation.stability.cluster_stability`), 0 to 1.
    share : (float, float) or None
        Smallest and largest share of all members, both included.
    """

    min_size: int | None = Field(None, ge=0)
    min_stability: float | None = Field(None, ge=0.0, le=1.0)
    share: Band | None = None


class SegmentTerms(Terms):
    """What one segment must keep.

    Attributes
    ----------
    id : int
        Its permanent id.
    name : str or None
        The name it must have; None: any.
    owner : str or None
        Who is asked when it breaks; None: the contract's owner.
    expires : date or None
        Last day on which its terms hold; None: the contract's.
    """

    id: int = Field(ge=0)
    name: str | None = Field(None, min_length=1)
    owner: str | None = Field(None, min_length=1)
    expires: date | None = None


class UnassignedTerms(_Part):
    """What must hold of those that no segment holds.

    Attributes
    ----------
    share : (float, float) or None
        Smallest and largest share of all, both included.
    """

    share: Band | None = None


class Contract(_Part):
    """What all segments must keep, who answers for it, and until when.

    Attributes
    ----------
    owner : str
        Who is asked when it breaks.
    expires : date
        Last day on which the contract holds; from the next day on it is a breach that
        nobody has renewed it.
    must_survive : bool
        Whether a listed segment that is gone is a breach.
    defaults : Terms
        For every segment, as far as it has no terms of its own.
    unassigned : UnassignedTerms
    segments : tuple of SegmentTerms
        Each id at most once.
    """

    owner: str = Field(min_length=1)
    expires: date
    must_survive: bool = True
    defaults: Terms = Terms()
    unassigned: UnassignedTerms = UnassignedTerms()
    segments: tuple[SegmentTerms, ...] = ()

    @model_validator(mode="after")
    def _lists_each_once(self) -> Self:
        ids = [terms.id for terms in self.segments]
        twice = sorted({str(i) for i in ids if ids.count(i) > 1})
        if twice:
            raise ValueError(f"segment {listed(twice)} is listed more than once")
        return self
