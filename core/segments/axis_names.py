"""A name in words for every segment of an axis, from where its centre lies.

Rules are tried in their order (`core.segments.axis_rules`). Of the segments that meet a
rule and have no name yet, the one furthest out in the rule's features gets it (of equal
ones the larger), and the others go on to the rules after it. What is left over is
called what the axis calls the others; where that, or the one rule a segment meets, is
taken, the feature in which it stands out most is added (``mid_tier_high_value_trend``),
then the next, and at last a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from core.segments.axis_model import FloatArray
from core.segments.axis_rules import AxisNames, NameRule

SLIGHT_Z = 0.2
"""Standard deviations from the mean customer from which a feature can tell two segments
with the same name apart."""


class SegmentName(NamedTuple):
    """A name, and the findings it rests on, in words."""

    name: str
    why: str


def name_clusters(
    centres: FloatArray,
    values: FloatArray,
    features: Sequence[str],
    names: AxisNames,
    kept: Mapping[int, str] = MappingProxyType({}),
) -> dict[int, SegmentName]:
    """Name every cluster of an axis.

    Parameters
    ----------
    centres : ndarray of shape (n_clusters, n_features)
        In standard deviations from the mean customer, by descending size of cluster.
    values : ndarray of shape (n_clusters, n_features)
        The same in the features' own units.
    features : sequence of str
    names : AxisNames
    kept : mapping of int to str
        Clusters that have a name already; no other gets it.

    Returns
    -------
    dict of int to SegmentName
        By cluster, those of `kept` left out. No two names are equal.
    """
    if len(centres) == 1 and 0 not in kept:
        return {0: SegmentName(names.single, "the only segment of the axis")}
    rules = [r for rule in names.rules for r in rule.for_features(features)]
    columns = {feature: place for place, feature in enumerate(features)}
    taken = {*kept.values(), names.unplaced}
    unnamed = [c for c in range(len(centres)) if c not in kept]
    found = _by_rules(rules, centres, values, columns, unnamed, taken)
    for c in unnamed:
        if c not in found:
            first = _first_fitting(rules, centres[c], values[c], columns)
            found[c] = _told_apart(
                first, names.otherwise, centres[c], values[c], columns, taken
            )
            taken.add(found[c].name)
    return dict(sorted(found.items()))


def _by_rules(
    rules: Sequence[NameRule],
    centres: FloatArray,
    values: FloatArray,
    columns: Mapping[str, int],
    unnamed: Sequence[int],
    taken: set[str],
) -> dict[int, SegmentName]:
    """Return the names of clusters that meet a rule none other has; adds to `taken`."""
    found: dict[int, SegmentName] = {}
    for rule in rules:
        fitting = [
            c
            for c in unnamed
            if c not in found and _fits(rule, centres[c], values[c], columns)
        ]
        if fitting and rule.name not in taken:
            best = max(
                fitting, key=lambda c: (_strength(rule, centres[c], columns), -c)
            )
            why = _why(rule, centres[best], values[best], columns)
            found[best] = SegmentName(rule.name, why)
            taken.add(rule.name)
    return found


def _fits(
    rule: NameRule, centre: FloatArray, value: FloatArray, columns: Mapping[str, int]
) -> bool:
    return all(
        c.holds(centre[columns[c.feature]], value[columns[c.feature]])
        for c in rule.when
    )


def _first_fitting(
    rules: Sequence[NameRule],
    centre: FloatArray,
    value: FloatArray,
    columns: Mapping[str, int],
) -> NameRule | None:
    return next((r for r in rules if _fits(r, centre, value, columns)), None)


def _strength(rule: NameRule, centre: FloatArray, columns: Mapping[str, int]) -> float:
    """Return how far out a centre lies, rounded so that engines agree."""
    total = sum(c.strength(float(centre[columns[c.feature]])) for c in rule.when)
    return round(total / len(rule.when), 6)


def _why(
    rule: NameRule, centre: FloatArray, value: FloatArray, columns: Mapping[str, int]
) -> str:
    """Return the findings that a rule rests on."""
    said = (
        f"{_finding(c.feature, centre, value, columns)} ({c.text})" for c in rule.when
    )
    return "; ".join(said)


def _finding(
    feature: str, centre: FloatArray, value: FloatArray, columns: Mapping[str, int]
) -> str:
    place = columns[feature]
    return f"`{feature}` {value[place]:.3g}, {centre[place]:+.2f} sd from the mean"


def _told_apart(
    rule: NameRule | None,
    otherwise: str,
    centre: FloatArray,
    value: FloatArray,
    columns: Mapping[str, int],
    taken: set[str],
) -> SegmentName:
    """Return a name that is not taken: with a second feature, or with a number."""
    name = otherwise if rule is None else rule.name
    why = "meets no rule" if rule is None else _why(rule, centre, value, columns)
    if name not in taken:
        return SegmentName(name, why)
    told = set() if rule is None else {c.feature for c in rule.when}
    order = sorted(columns, key=lambda f: (-round(abs(centre[columns[f]]), 6), f))
    for feature in order:
        z = float(centre[columns[feature]])
        longer = f"{name}_{'high' if z > 0 else 'low'}_{feature}"
        if feature not in told and abs(z) >= SLIGHT_Z and longer not in taken:
            finding = _finding(feature, centre, value, columns)
            return SegmentName(longer, f"{why}; told apart by {finding}")
    number = int(np.flatnonzero([f"{name}_{i}" not in taken for i in range(2, 99)])[0])
    return SegmentName(f"{name}_{number + 2}", f"{why}; told apart by a number")
