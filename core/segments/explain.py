"""Why a shop is in its segment, what the runner-up is, and what would move it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from core.errors import ModelError
from core.segments.changes import (
    UNASSIGNED,
    Assign,
    Change,
    FloatArray,
    IntArray,
    Surroundings,
    smallest_change,
    surroundings,
)
from core.segments.words import spoken

N_REASONS = 5
# The typical range of a segment holds the middle 80% of its shops.
_TYPICAL = (0.1, 0.5, 0.9)
# In robust standard deviations: less speaks for nobody.
_LEAST_WEIGHT = 0.1


@dataclass(frozen=True)
class Reason:
    """A feature that speaks for one segment against another.

    Attributes
    ----------
    feature, value : str, float
        The shop's own.
    median, low, high : float
        The middle and the range (80%) of the segment that it speaks for.
    other_median : float
        The middle of the segment that it speaks against.
    weight : float
        How much nearer the shop is to the one middle than to the other, in robust
        standard deviations of all shops.
    """

    feature: str
    value: float
    median: float
    low: float
    high: float
    other_median: float
    weight: float

    def text(self) -> str:
        """Return the reason as a sentence."""
        words = spoken(self.feature)
        value, low, high, other = words.numbers(
            self.value, self.low, self.high, self.other_median
        )
        typical = f"typical {low} to {high}; there {other}"
        return f"{words.name} is {value}{words.suffix} ({typical})"


@dataclass(frozen=True)
class Move:
    """A change in words and figures.

    Attributes
    ----------
    features : list of dict
        ``feature, before, after`` of those that were changed on purpose, one or two.
    gives_way : dict of str to float
        The other months of the year afterwards, where a month was changed.
    segment : int
        Where the shop would be; -1: in none.
    segment_name : str
    size : float
        In robust standard deviations of the shops.
    """

    features: list[dict[str, Any]]
    gives_way: dict[str, float]
    segment: int
    segment_name: str
    size: float

    def text(self) -> str:
        """Return the change as a sentence."""
        parts = []
        for one in self.features:
            words = spoken(one["feature"])
            before, after = words.numbers(one["before"], one["after"])
            verb = "rose" if one["after"] > one["before"] else "fell"
            span = f"from {before} to {after}{words.suffix}"
            parts.append(f"its {words.name} {verb} {span}")
        where = (
            "it would be in no segment"
            if self.segment == UNASSIGNED
            else f"it would be in `{self.segment_name}`"
        )
        note = " (the other months giving way evenly)" if self.gives_way else ""
        return f"if {' and '.join(parts)}{note}, {where}"


@dataclass(frozen=True)
class Explanation:
    """All that is said of one shop; `facts` is the same for machines.

    Attributes
    ----------
    shop_id : str
    segment, segment_name, segment_kind : int, str, str
        -1 is in no segment.
    runner_up, runner_up_name : int or None, str or None
        The nearest other segment; None where there is no other.
    distance : float or None
        To the runner-up, in the space of the assigner.
    reasons : list of Reason
        For its segment against the runner-up, the weightiest first; of a shop in no
        segment: against the runner-up, that is, what keeps it out.
    to_another : Move or None
        The smallest change found that moves the shop into another segment.
    out : Move or None
        A smaller one that takes it out of its segment, into none.
    """

    shop_id: str
    segment: int
    segment_name: str
    segment_kind: str
    runner_up: int | None
    runner_up_name: str | None
    distance: float | None
    reasons: list[Reason]
    to_another: Move | None
    out: Move | None

    def facts(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return sentences for people."""
        return [*self._standing(), *self._why(), *self._changes()]

    def _standing(self) -> list[str]:
        where = f"in `{self.segment_name}`"
        if self.segment == UNASSIGNED:
            where = "in no segment: too few shops are like it"
        elif self.segment_kind == "partition":
            where += ", a part of a partition: a convenient cut, not a natural group"
        lines = [f"Shop {self.shop_id} is {where}."]
        if self.runner_up_name is None:
            return [*lines, "There is no other segment."]
        kind = "nearest segment" if self.segment == UNASSIGNED else "runner-up"
        return [*lines, f"The {kind} is `{self.runner_up_name}`."]

    def _why(self) -> list[str]:
        if not self.reasons:
            return ["No single feature says why; they do together."]
        against = self.runner_up_name or "the others"
        if self.segment == UNASSIGNED:
            head = f"What sets it apart from `{against}` (typical range of that):"
            return [head, *(f"- {_apart(reason)}" for reason in self.reasons)]
        head = f"What speaks for its segment against `{against}`:"
        return [head, *(f"- {reason.text()}" for reason in self.reasons)]

    def _changes(self) -> list[str]:
        lines = []
        if self.to_another is not None:
            lines.append(f"The smallest change found: {self.to_another.text()}.")
        else:
            lines.append(
                "No change of one or two features, within what is seen among the "
                "shops, would move it into another segment."
            )
        if self.out is not None:
            lines.append(f"Less takes it out of its segment: {self.out.text()}.")
        return lines


def explain(
    shop_id: str,
    start: FloatArray,
    placed: Mapping[str, Any],
    table: FloatArray,
    segments: IntArray,
    features: Sequence[str],
    names: Mapping[int, str],
    assign: Assign,
) -> Explanation:
    """Explain where one shop stands.

    Parameters
    ----------
    shop_id : str
    start : ndarray of shape (n_features,)
        Its features; NaN is unknown.
    placed : mapping
        What the assigner says of it: ``segment, segment_kind, nearest_segment`` (or
        None), ``distance``.
    table : ndarray of shape (n_shops, n_features)
        Features of the shops to compare with, the shop among them.
    segments : ndarray of int, shape (n_shops,)
        Their segments; -1 is none.
    features : sequence of str
    names : mapping of segment to name
    assign : callable
        The real assigner, from features to segments.

    Raises
    ------
    ModelError
        If the assigner does not confirm ``placed``: then it is another one.
    """
    own, runner_up = int(placed["segment"]), placed["nearest_segment"]
    if int(assign(start[None, :])[0]) != own:
        raise ModelError(
            f"the assigner does not put `{shop_id}` into segment {own}; expected the "
            "assigner that did."
        )
    around = surroundings(table, features)
    to_another = smallest_change(start, own, assign, around, is_to_segment=True)
    out = None
    if own != UNASSIGNED and UNASSIGNED in names:
        out = smallest_change(start, own, assign, around, is_to_segment=False)
        if out is not None and out.segment != UNASSIGNED:
            out = None
    if out is not None and to_another is not None and out.size >= to_another.size:
        out = None
    return Explanation(
        shop_id=shop_id,
        segment=own,
        segment_name=names[own],
        segment_kind=str(placed["segment_kind"]),
        runner_up=runner_up,
        runner_up_name=None if runner_up is None else names[runner_up],
        distance=placed["distance"],
        reasons=_reasons(start, own, runner_up, table, segments, around),
        to_another=_move(to_another, start, around, names),
        out=_move(out, start, around, names),
    )


def _reasons(
    start: FloatArray,
    own: int,
    runner_up: int | None,
    table: FloatArray,
    segments: IntArray,
    around: Surroundings,
) -> list[Reason]:
    """Return the features that speak most for one segment against another.

    For a shop in none they speak against the nearest, which has no middle to be nearer
    to: there the distance from the nearest one's middle counts.
    """
    is_in = own != UNASSIGNED
    told = own if is_in else runner_up
    if told is None:
        return []
    other = (segments == runner_up) if is_in and runner_up is not None else None
    found = []
    for column, feature in enumerate(around.features):
        value, values = start[column], table[:, column]
        members = _known(values[segments == told])
        rest = _known(values[other] if other is not None else values[segments != told])
        if np.isnan(value) or not len(members) or not len(rest):
            continue
        low, median, high = np.quantile(members, _TYPICAL)
        against = float(np.median(rest))
        weight = abs(value - median)
        if is_in:
            weight = abs(value - against) - weight
        weight /= around.spread[column] or np.inf
        numbers = (value, median, low, high, against, weight)
        found.append(Reason(feature, *(float(number) for number in numbers)))
    found.sort(key=lambda reason: -round(reason.weight, 9))
    return [reason for reason in found[:N_REASONS] if reason.weight > _LEAST_WEIGHT]


def _known(values: FloatArray) -> FloatArray:
    return values[~np.isnan(values)]


def _apart(reason: Reason) -> str:
    """Return what keeps a shop out of a segment, as a sentence."""
    words = spoken(reason.feature)
    value, low, high = words.numbers(reason.value, reason.low, reason.high)
    return f"{words.name} is {value}{words.suffix} (there {low} to {high})"


def _move(
    change: Change | None,
    start: FloatArray,
    around: Surroundings,
    names: Mapping[int, str],
) -> Move | None:
    """Put a change into words and figures."""
    if change is None:
        return None
    changed = [
        {
            "feature": around.features[column],
            "before": float(start[column]),
            "after": float(change.values[column]),
        }
        for column in change.columns
    ]
    given = {
        around.features[column]: float(change.values[column])
        for column in around.year
        if column not in change.columns and change.values[column] != start[column]
    }
    name = names[change.segment]
    return Move(changed, given, change.segment, name, change.size)
