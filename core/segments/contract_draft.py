"""A first contract: bands around the segments as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date

from core.segments.contract import SegmentFacts
from core.segments.contract_terms import Contract, SegmentTerms, UnassignedTerms

_POINTS = 0.05
_LEAST_STABLE = 0.6


def draft_contract(
    facts: Sequence[SegmentFacts], unassigned_share: float, owner: str, expires: date
) -> Contract:
    """Return a contract with bands around what is, to be edited by those who sign it.

    Of each segment: at least half its members; a share between half and one and a half
    times its own, but at least 5 points to either side; where stability was measured,
    at least 0.6 (Hennig, 2007: below it a segment dissolves), or 0.1 less than what was
    measured where that is not reached now. The unassigned: up to twice their share,
    at least 5 points more. `check_contract` finds nothing on the same facts up to
    `expires`.

    Parameters
    ----------
    facts, unassigned_share
        As for `check_contract`.
    owner : str
        Who answers for it.
    expires : date
        Its last day.
    """
    return Contract(
        owner=owner,
        expires=expires,
        unassigned=UnassignedTerms(
            share=(0.0, _up(max(2 * unassigned_share, unassigned_share + _POINTS)))
        ),
        segments=tuple(
            SegmentTerms(
                id=segment.id,
                name=segment.name,
                min_size=segment.size // 2,
                min_stability=_drafted_floor(segment.stability),
                share=_around(segment.share),
            )
            for segment in sorted(facts, key=lambda segment: segment.id)
        ),
    )


def _around(share: float) -> tuple[float, float]:
    half = max(share / 2, _POINTS)
    return max(0.0, math.floor(100 * (share - half)) / 100), _up(share + half)


def _up(share: float) -> float:
    # 0.61 is 61 points, though 100 * (0.4 + 0.2 + 0.01) is a little more.
    return min(1.0, math.ceil(round(100 * share, 6)) / 100)


def _drafted_floor(stability: float | None) -> float | None:
    if stability is None or stability >= _LEAST_STABLE:
        return None if stability is None else _LEAST_STABLE
    return max(0.0, math.floor(100 * (stability - 0.1)) / 100)
