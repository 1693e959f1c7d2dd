"""What sets a segment of shops apart, as short phrases for people who sell.

``sells 2.3 times its average in June to August``, not ``log season 0.83 (rest -0.07)``.
The words stand in ``names.yaml``; figures have two significant digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from core.months import MONTH_NAMES
from core.reporting.text import enumerated, rounded, share
from core.retailers.names import (
    BESIDE_LOW,
    BESIDE_PEAK,
    CLEAR_EFFECT,
    LEVELS,
    MONTHS,
    NEARLY,
    SAYINGS,
    SEASON,
    SLIGHT_EFFECT,
    feature_label,
    is_even,
    month_levels,
)

TRENDS = {
    "sales_trend_per_year": ("growing", "falling", "a year"),
    "yoy_12": ("up", "down", "on the year before"),
    "median_yoy_sales_growth": ("up", "down", "on the year before"),
    "yoy_6": ("up", "down", "in the last 6 months"),
}
"""Features that tell the trend of sales: words for more, for less, and since when."""
_ALSO_TRENDS = ("yoy_3", "trend_break")
STEADY = 0.05
"""Change per year below which sales neither grow nor fall."""
_TOLD = 2
# Scattered months are named up to so many.
_NAMED = 4
_LEVEL_SALES = "avg_sales_qty_month_"
Rows = Sequence[Mapping[str, Any]]


def apart(rows: Rows, n: int = _TOLD) -> list[str]:
    """Say in short phrases what sets a segment apart from the other shops.

    Parameters
    ----------
    rows : sequence of mapping
        Of one segment, ``feature``, ``median``, ``rest_median`` and ``effect`` of all
        features, as `core.segments.profiles.cluster_contrasts` returns them.
    n : int
        Phrases at most.

    Returns
    -------
    list of str
        The clearest first; where nothing is clear, that the segment is as usual.
    """
    known = {
        row["feature"]: row
        for row in rows
        if row["effect"] is not None and row["median"] is not None
    }
    found = [*_season(known), *_levels(known), *_singles(known)]
    found.sort(key=lambda told: -round(told[0], 9))
    clear = [words for strength, words in found if strength >= CLEAR_EFFECT]
    usual = [words for words in _usual(known) if words not in clear]
    told = list(dict.fromkeys(clear))[:n]
    if not told and len(usual) > 1:
        told.append(usual.pop(0))
    if len(told) < n and usual:
        told.append(", ".join(usual))
    return told or ["like the other shops in all that was measured"]


def trend_words(rows: Rows) -> str:
    """Say how the sales of a segment's typical shop develop; empty where not known.

    >>> row = {"feature": "sales_trend_per_year", "median": 0.405, "effect": 2.0}
    >>> trend_words([row])
    'growing 50% a year'
    """
    row = _trend({row["feature"]: row for row in rows})
    if row is None:
        return ""
    more, less, since = TRENDS[row["feature"]]
    change = feature_label(row["feature"]).natural(row["median"])
    if abs(change) < STEADY:
        return "steady"
    return f"{more if change > 0 else less} {share(abs(change))} {since}"


def _trend(known: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the feature that tells the trend: the clearest, or else the first."""
    rows = [known[name] for name in TRENDS if name in known]
    rows = [row for row in rows if row["median"] is not None]
    clear = [row for row in rows if abs(row["effect"] or 0.0) >= CLEAR_EFFECT]
    if clear:
        return max(clear, key=lambda row: abs(row["effect"]))
    return rows[0] if rows else None


def months_text(months: Sequence[int]) -> str:
    """Return months, counted from 0, as a sentence names them.

    >>> months_text([5, 6, 7]), months_text([0, 10, 11]), months_text([3, 9])
    ('June to August', 'November to January', 'April and October')
    """
    chosen = set(months)
    starts = [m for m in sorted(chosen) if (m - 1) % MONTHS not in chosen]
    if len(starts) > 1 and len(chosen) > _NAMED:
        return f"{len(chosen)} other months"
    if len(starts) != 1:
        return enumerated([MONTH_NAMES[m] for m in sorted(chosen)])
    names = [MONTH_NAMES[(starts[0] + k) % MONTHS] for k in range(len(chosen))]
    return f"{names[0]} to {names[-1]}" if len(names) > 2 else enumerated(names)


def times_average(level: float) -> str:
    """Say a month's sales beside those of the average month.

    >>> times_average(2.02), times_average(2.31), times_average(0.5)
    ('twice its average', '2.3 times its average', 'half its average')
    >>> times_average(1.31), times_average(0.7)
    ('31% above its average', '30% below its average')
    """
    if 1.9 <= level < 2.1:
        return "twice its average"
    if 0.45 <= level < 0.55:
        return "half its average"
    if level >= 1.5:
        return f"{rounded(level)} times its average"
    if abs(level - 1) < 0.05:
        return "about its average"
    side = "above" if level > 1 else "below"
    return f"{share(abs(level - 1))} {side} its average"


Told = tuple[float, str]
"""How clear something is, in robust standard deviations, and its words."""


def _season(known: Mapping[str, Mapping[str, Any]]) -> list[Told]:
    """Tell the months that stand out, or that none does.

    The lows beside a peak are the other side of the same year: they count half.
    """
    levels, effects = _year(known)
    if not levels or max(map(abs, effects)) < CLEAR_EFFECT:
        return []
    found: list[Told] = []
    for sign, bound in ((1, BESIDE_PEAK), (-1, BESIDE_LOW)):
        own = [
            month
            for month in range(MONTHS)
            if sign * (levels[month] - bound) >= 0
            and sign * effects[month] >= CLEAR_EFFECT
        ]
        # A month at its shoulder would blur what a peak is.
        top = max((sign * (levels[m] - 1) for m in own), default=0.0)
        own = [m for m in own if sign * (levels[m] - 1) >= top / 2]
        if own:
            mean = sum(levels[m] for m in own) / len(own)
            clear = max(sign * effects[m] for m in own) / (2 if found else 1)
            found.append((clear, f"sells {times_average(mean)} in {months_text(own)}"))
    return found or ([(max(map(abs, effects)), _EVEN)] if is_even(levels) else [])


_EVEN = "no season"


def _year(known: Mapping[str, Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Return twelve levels, 1 being the average, and their effects; none if unknown."""
    levels = month_levels({name: row["median"] for name, row in known.items()})
    if not levels:
        return [], []
    is_season = f"{SEASON}1" in known
    prefix = SEASON if is_season else _LEVEL_SALES
    effects = [known[f"{prefix}{month}"]["effect"] for month in range(1, MONTHS + 1)]
    # The effects of levels hold the shop's size, too.
    size = 0.0 if is_season else sorted(effects)[MONTHS // 2]
    return levels, [effect - size for effect in effects]


def _levels(known: Mapping[str, Mapping[str, Any]]) -> list[Told]:
    """Tell the size of what twelve levels are of, against the other shops."""
    found: list[Told] = []
    for prefix in LEVELS:
        rows = [row for name, row in known.items() if name.startswith(prefix)]
        own, rest = (sum(row[side] or 0 for row in rows) for side in _SIDES)
        if rows and own > 0 and rest > 0:
            effect = sorted(abs(row["effect"]) for row in rows)[len(rows) // 2]
            what = "much" if prefix == _LEVEL_SALES else "many different products"
            found.append((effect, f"sells {_ratio(own / rest)} as {what} as others"))
    return found


_SIDES = ("median", "rest_median")


def _ratio(ratio: float) -> str:
    return f"{rounded(ratio)} times" if ratio >= 1.5 else share(ratio)


def _singles(known: Mapping[str, Mapping[str, Any]]) -> list[Told]:
    """Tell the features that have words of their own."""
    trend = _trend(known)
    told = "" if trend is None else trend["feature"]
    hushed = {*TRENDS, *_ALSO_TRENDS} - {told}
    return [
        # What the trend column shows comes first of what is nearly as clear.
        (abs(row["effect"]) / (NEARLY if feature == told else 1), words)
        for feature, row in known.items()
        if feature in SAYINGS and feature not in hushed and (words := says(row))
    ]


def says(row: Mapping[str, Any]) -> str:
    """Say what one feature's median tells of a segment; empty without words for it.

    Parameters
    ----------
    row : mapping
        ``feature``, ``median``, ``rest_median`` and ``effect``.

    >>> says({"feature": "inactive_month_share", "median": 0.29, "rest_median": 0.0,
    ...       "effect": 2.0})
    'no sales in 29% of its months'
    """
    label, value = feature_label(row["feature"]), row["median"]
    side = "above" if row["effect"] > 0 else "below"
    for line in SAYINGS.get(row["feature"], ()):
        low, high = line.get("low", -math.inf), line.get("high", math.inf)
        if line.get("side", side) == side and low <= value < high:
            rest = row["rest_median"]
            others = label.size(rest) if rest is not None else "unknown"
            text = line["says"].replace("{others}", others)
            return str(text.replace("{}", label.size(value)))
    return ""


def _usual(known: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say in what a segment is as usual."""
    levels, _ = _year(known)
    breadth = known.get("assortment_breadth")
    told = [_EVEN] if levels and is_even(levels) else []
    if trend_words([*known.values()]) == "steady":
        told.append("no trend")
    if breadth is not None and abs(breadth["effect"]) < SLIGHT_EFFECT:
        told.append("usual assortment")
    return told
