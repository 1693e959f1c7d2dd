"""What sets segments apart, and rules that name them, in words and figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from core.reporting.text import count, enumerated
from core.retailers.apart import months_text, says, times_average
from core.retailers.names import (
    BESIDE_PEAK,
    CLEAR_EFFECT,
    SEASON,
    SLIGHT_EFFECT,
    difference,
    feature_label,
)
from core.rules.conditions import And, IsMissing, Node, Or, Range

_DIFFERENCES = (3, 5)
# What `profile` holds a difference for: false discoveries at most that share.
_ERROR_RATE = 0.05


@dataclass(frozen=True)
class Difference:
    """What sets a segment apart, in words, and whether later months say so, too.

    Attributes
    ----------
    text : str
    standing : str
        ``confirmed``, ``partly confirmed``, ``not confirmed`` or ``not tested``; empty
        where none of the segment's was tested.
    """

    text: str
    standing: str


def differences(rows: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """Put up to 5 things that set a segment apart most into words.

    Beyond the first three, a thing is named only if its median differs by at least half
    a robust standard deviation, beyond the first by at least a fifth of one. Months
    that differ to one side are told together, as far as they differ at least half as
    much as the clearest of them.

    Parameters
    ----------
    rows : sequence of mapping
        ``feature``, ``median``, ``rest_median``, ``effect`` and, where it was tested,
        ``later_effect`` and ``adjusted_p``.
    """
    known = [row for row in rows if row["effect"] and row["median"] is not None]
    known.sort(key=lambda row: -abs(row["effect"]))
    told: dict[Any, list[Mapping[str, Any]]] = {}
    for row in known:
        is_month = row["feature"].startswith(SEASON)
        own = told.setdefault(row["effect"] > 0 if is_month else row["feature"], [])
        if not own or abs(row["effect"]) >= abs(own[0]["effect"]) / 2:
            own.append(row)
    least, most = _DIFFERENCES
    kept = [
        part
        for place, part in enumerate([*told.values()][:most])
        if abs(part[0]["effect"])
        >= (0.0 if not place else SLIGHT_EFFECT if place < least else CLEAR_EFFECT)
    ]
    is_tested = any(row.get("adjusted_p") is not None for part in kept for row in part)
    return [
        Difference(_text(part), _standing(part) if is_tested else "") for part in kept
    ]


def _text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say one thing that sets a segment apart, and how the other shops are."""
    row = rows[0]
    label = feature_label(row["feature"])
    if row["feature"].startswith(SEASON):
        rows = _telling(rows)
        months = [int(own["feature"].removeprefix(SEASON)) - 1 for own in rows]
        own, rest = (
            times_average(sum(math.exp(r[side] or 0.0) for r in rows) / len(rows))
            for side in ("median", "rest_median")
        )
        others = rest.removesuffix(" its average")
        others = "about average" if others == "about" else others
        return f"sells {own} in {months_text(months)} (others {others})"
    words, rest = says(row), row["rest_median"]
    own, others = label.numbers(row["median"], rest, least=2)
    if not words or own == others or rest is None:
        return difference(row, 2)
    is_told = label.unit == "plain" or others in words
    return words if is_told else f"{words} (others {others})"


def _telling(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the months that are a peak or a low, without those at its shoulders."""
    apart = [abs(math.exp(row["median"]) - 1) for row in rows]
    bound = max(apart) / 2 if max(apart) >= BESIDE_PEAK - 1 else 0.0
    return [row for row, far in zip(rows, apart, strict=True) if far >= bound]


def _standing(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say whether later months confirm a difference."""
    tested = [row for row in rows if row.get("adjusted_p") is not None]
    if not tested:
        return "not tested"
    held = [
        row["adjusted_p"] <= _ERROR_RATE and row["later_effect"] * row["effect"] > 0
        for row in tested
    ]
    if all(held) and len(tested) == len(rows):
        return "confirmed"
    return "partly confirmed" if any(held) else "not confirmed"


def rule_texts(rules: pl.DataFrame, segment: int) -> list[str]:
    """Put the rules that name a segment into words.

    Parameters
    ----------
    rules : DataFrame
        As `core.rules.surrogate.rule_table` returns it, or with ``condition``.
    segment : int
    """
    for exact in ("words", "condition"):  # what segments are, not what imitates them
        if exact in rules.columns:
            return rules.filter(segment=segment)[exact].to_list()
    own = rules.filter(segment=segment).group_by("rule", maintain_order=True)
    texts = []
    for _, conditions in own:
        rows = conditions.to_dicts()
        asked = [_condition(row) for row in rows if row["feature"] is not None]
        texts.append(
            f"{enumerated(asked) or 'every shop'}: {count(rows[0]['n_shops'])} shops, "
            f"{rows[0]['purity']:.0%} of them in this segment"
        )
    return texts


def rule_words(condition: Node) -> str:
    """Put a rule over features into words.

    >>> rule_words(And((Range("inactive_month_share", high=0.1), IsMissing("size"))))
    'share of months without sales up to 10% and size unknown'
    """
    if isinstance(condition, Range):
        low, high = condition.numbers()
        return _condition(
            {
                "feature": condition.feature,
                "above": None if low == -math.inf else low,
                "up_to": None if high == math.inf else high,
            }
        )
    if isinstance(condition, IsMissing):
        return f"{feature_label(condition.feature).name} unknown"
    if isinstance(condition, Or):
        return " or ".join(rule_words(part) for part in condition.parts())
    if isinstance(condition, And):
        return " and ".join(
            f"({rule_words(part)})" if isinstance(part, Or) else rule_words(part)
            for part in condition.parts()
        )
    return condition.text()


def _condition(row: Mapping[str, Any]) -> str:
    """Say what a rule asks of one feature."""
    words = feature_label(row["feature"])
    low, high = words.numbers(row["above"], row["up_to"])
    if row["above"] is None:
        return f"{words.name} up to {high}{words.suffix}"
    if row["up_to"] is None:
        return f"{words.name} above {low}{words.suffix}"
    return f"{words.name} above {low} and up to {high}{words.suffix}"
