"""Features and rules in words, and micro-segments named by what sets them apart."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from core.models.centroids import FloatArray, IntArray
from core.reporting.text import enumerated, rounded, share
from core.rules.syntax import Feature

APART: Final = 0.25
"""Standard deviations below which a feature does not set a micro-segment apart."""
N_TOLD: Final = 2
"""Features that a micro-segment is told by."""
ALIKE: Final = 0.6
"""Correlation from which a second feature says what the first has said."""
NEARLY: Final = 0.8
"""Share of the largest difference from which a plainer feature is told instead."""


@dataclass(frozen=True)
class Difference:
    """How a micro-segment differs from the rest of its item in one feature.

    Attributes
    ----------
    feature : str
    z : float
        Difference of its mean from that of the others, in standard deviations of all,
        on the scale that distances are taken on.
    mean, rest : float
        Its mean and that of the others, in the feature's own unit.
    """

    feature: str
    z: float
    mean: float
    rest: float

    @property
    def short(self) -> str:
        """In a few words, as names use them."""
        words = feature_words(self.feature)
        is_count = "orders" in words and not words.startswith("share of ")
        more, less = ("many", "few") if is_count else ("high", "low")
        return f"{more if self.z > 0 else less} {words}"

    @property
    def said(self) -> str:
        """In words, with figures."""
        mean, rest = (self._figure(value) for value in (self.mean, self.rest))
        return f"{feature_words(self.feature)} {mean} (the others: {rest})"

    def _figure(self, value: float) -> str:
        return share(value) if self.feature.endswith("_share") else rounded(value)


def differences(
    features: Sequence[str],
    table: FloatArray,
    columns: FloatArray,
    labels: IntArray,
    n_segments: int,
) -> list[tuple[Difference, ...]]:
    """Return what sets every micro-segment apart, the most telling first.

    Of features that tell nearly as much (`NEARLY`) one that is high is taken, then the
    one with the fewest letters, and of those that move together (`ALIKE`) only one: an
    order for lunch in the own app is an order for lunch.

    Parameters
    ----------
    features : sequence of str
    table : ndarray of shape (n_customers, n_features)
        In the features' own units.
    columns : ndarray of shape (n_features, n_customers)
        Scaled features.
    labels : ndarray of int, shape (n_customers,)
    n_segments : int

    Returns
    -------
    list of tuple of Difference
        At most `N_TOLD` per micro-segment; none for one that has nobody, or everybody.
    """
    spread = columns.std(axis=1)
    standard = (columns - columns.mean(axis=1, keepdims=True)) / np.where(
        spread > 0, spread, 1.0
    )[:, None]
    found = []
    for label in range(n_segments):
        is_own = labels == label
        told: list[Difference] = []
        if is_own.any() and not is_own.all():
            z = standard[:, is_own].mean(axis=1) - standard[:, ~is_own].mean(axis=1)
            for place in _telling(features, z, standard):
                mean, rest = table[is_own, place].mean(), table[~is_own, place].mean()
                name = features[place]
                told.append(Difference(name, float(z[place]), float(mean), float(rest)))
        found.append(tuple(told))
    return found


def _telling(features: Sequence[str], z: FloatArray, standard: FloatArray) -> list[int]:
    """Return the places of the features that tell most, each of something else."""
    free = np.abs(z) >= APART
    chosen: list[int] = []
    while free.any() and len(chosen) < N_TOLD:
        least = NEARLY * np.abs(z[free]).max()
        near = [int(i) for i in np.flatnonzero(free) if abs(z[i]) >= least]
        place = min(
            near, key=lambda i: (z[i] < 0, len(feature_words(features[i])), features[i])
        )
        chosen.append(place)
        alike = standard @ standard[place] / standard.shape[1]
        free &= np.abs(alike) < ALIKE
        free[place] = False
    return chosen


def segment_names(found: Sequence[Sequence[Difference]]) -> tuple[str, ...]:
    """Return a name for every micro-segment, no two alike."""
    seen: Counter[str] = Counter()
    names = []
    for told in found:
        name = ", ".join(difference.short for difference in told) or "others"
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(names)


WORDS: Final = {
    "unique_cat_base_count": "base categories",
    "unique_cat_dri_count": "driver categories",
    "unique_category_base_products_count": "base categories",
    "unique_dri_category_count": "driver categories",
    "channel_count": "channels",
    "order_count": "orders",
}
"""Features whose name is not what they are called."""


def feature_words(name: str) -> str:
    """Return the name of a feature in words.

    >>> feature_words("omnichannel_Late_Night_order_count")
    'late night orders'
    >>> feature_words("categ_dri_burgers_count"), feature_words("Premium_price_flag")
    ('orders with burgers', 'premium price')
    >>> feature_words("Lunch_order_share")
    'share of lunch orders'
    """
    name = name.removeprefix("omnichannel_")
    if name in WORDS:
        return WORDS[name]
    of = "share of " if name.endswith("_share") else ""
    category = re.fullmatch(r"(.*)categ_(?:dri|base_product)_(.+)_(count|share)", name)
    if category is not None:
        where = f" in {category[1].rstrip('_')}" if category[1] else ""
        return f"{of}orders with {category[2]}{where}".replace("_", " ").lower()
    name = re.sub(r"^(.*)_order_share$", r"share_of_\1_orders", name)
    name = re.sub(r"_order_count$", "_orders", name)
    name = re.sub(r"_(flag|count)$", "", name)
    return name.replace("_", " ").strip().lower()


_NUMBER: Final = r"(-?[0-9.]+(?:e[+-]?[0-9]+)?)"
_ONE_BOUND: Final = re.compile(rf"(\w+) (<=|<|>=|>) {_NUMBER}")
_TWO_BOUNDS: Final = re.compile(rf"{_NUMBER} (<=|<) (\w+) (<=|<) {_NUMBER}")
_FLAG: Final = re.compile(r"(not )?(\w+)_flag")


def condition_words(text: str, features: Mapping[str, Feature]) -> str:
    """Return a condition of a rule in words; what is no plain one stays as it is.

    Parameters
    ----------
    text : str
        As `core.rules.conditions.Node.text` writes it.
    features : mapping of str to Feature
        Of the rule set, by name.
    """
    said = [_part_words(part, features) for part in text.split(" and ")]
    return enumerated(said)


def _part_words(part: str, features: Mapping[str, Feature]) -> str:
    """Return one part of a condition in words."""
    flag = _FLAG.fullmatch(part)
    if flag is not None and flag[2] + "_flag" in features:
        return f"{'no ' if flag[1] else ''}{feature_words(flag[2])} orders"
    one, two = _ONE_BOUND.fullmatch(part), _TWO_BOUNDS.fullmatch(part)
    if one is not None and one[1] in features:
        bound = float(one[3])
        low, high = (-math.inf, bound) if "<" in one[2] else (bound, math.inf)
        return _range_words(features[one[1]], low, high, "=" in one[2], "=" in one[2])
    if two is not None and two[3] in features:
        low, high = float(two[1]), float(two[5])
        return _range_words(features[two[3]], low, high, "=" in two[2], "=" in two[4])
    return part


def _range_words(
    feature: Feature, low: float, high: float, has_low: bool, has_high: bool
) -> str:
    """Return a range in words; whole numbers are what they can be.

    >>> from core.rules.syntax import Feature
    >>> channels = Feature("channel_count", "integer", low=1)
    >>> _range_words(channels, 1.5, math.inf, False, False)
    'at least 2 channels'
    >>> _range_words(channels, -math.inf, 1.5, False, True)
    '1 channel'
    """
    words = feature_words(feature.name)
    if feature.type != "integer":
        above = f"{'at least' if has_low else 'above'} {low:g}"
        below = f"{'at most' if has_high else 'below'} {high:g}"
        given = [above] * math.isfinite(low) + [below] * math.isfinite(high)
        return f"{words} {' and '.join(given)}"
    least, most = feature.low, high
    if math.isfinite(low):
        least = max(least, math.ceil(low) if has_low else math.floor(low) + 1)
    if math.isfinite(high):
        most = math.floor(high) if has_high else math.ceil(high) - 1
    if least == most:
        return f"{most:g} {words.removesuffix('s') if most == 1 else words}"
    if most == math.inf:
        return f"at least {least:g} {words}"
    if least == feature.low:
        return f"at most {most:g} {words}"
    return f"{least:g} to {most:g} {words}"
