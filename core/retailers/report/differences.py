"""What sets segments apart, and rules that name them, in words and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from core.reporting.text import count, enumerated
from core.retailers.names import SEASON, difference, feature_label

_CLEAR_EFFECT = 0.5
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


def differences(rows: Sequence[Mapping[str, Any]], digits: int = 3) -> list[Difference]:
    """Put the 3 to 5 features that set a segment apart most into words.

    Beyond the first three, a feature is named only if its median differs by at least
    half a robust standard deviation. Months that differ to one side are told together.

    Parameters
    ----------
    rows : sequence of mapping
        ``feature``, ``median``, ``rest_median``, ``effect`` and, where it was tested,
        ``later_effect`` and ``adjusted_p``.
    digits : int
        Significant digits of the figures.
    """
    known = [row for row in rows if row["effect"] and row["median"] is not None]
    known.sort(key=lambda row: -abs(row["effect"]))
    least, most = _DIFFERENCES
    kept = [
        row
        for place, row in enumerate(known[:most])
        if place < least or abs(row["effect"]) >= _CLEAR_EFFECT
    ]
    told: dict[Any, list[Mapping[str, Any]]] = {}
    for row in kept:
        is_month = row["feature"].startswith(SEASON)
        told.setdefault(row["effect"] > 0 if is_month else row["feature"], []).append(
            row
        )
    is_tested = any(row.get("adjusted_p") is not None for row in kept)
    return [
        Difference(
            difference(part[0], digits)
            if len(part) == 1
            else _months_text(part, digits),
            _standing(part) if is_tested else "",
        )
        for part in told.values()
    ]


def _months_text(rows: Sequence[Mapping[str, Any]], digits: int) -> str:
    """Tell several months at once, in the order of the year."""
    ordered = sorted(rows, key=lambda row: int(row["feature"].removeprefix(SEASON)))
    names = [
        feature_label(row["feature"]).name.removesuffix(" level") for row in ordered
    ]
    suffix = feature_label(ordered[0]["feature"]).suffix
    own, rest = (_range(ordered, side, digits) for side in ("median", "rest_median"))
    return f"{enumerated(names)} {own}{suffix} (others {rest})"


def _range(rows: Sequence[Mapping[str, Any]], side: str, digits: int) -> str:
    """Return the lowest and the highest value of several months of one unit."""
    words = feature_label(rows[0]["feature"])
    values = [row[side] for row in rows if row[side] is not None]
    ends = min(values, default=None), max(values, default=None)
    low, high = words.numbers(*ends, least=digits)
    return low if low == high else f"{low} to {high}"


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
    if "condition" in rules.columns:  # what the segments are, not what imitates them
        return rules.filter(segment=segment)["condition"].to_list()
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


def _condition(row: Mapping[str, Any]) -> str:
    """Say what a rule asks of one feature."""
    words = feature_label(row["feature"])
    low, high = words.numbers(row["above"], row["up_to"])
    if row["above"] is None:
        return f"{words.name} up to {high}{words.suffix}"
    if row["up_to"] is None:
        return f"{words.name} above {low}{words.suffix}"
    return f"{words.name} above {low} and up to {high}{words.suffix}"
