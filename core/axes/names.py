"""Names of axis segments from rules in YAML.

One entry per axis::

    purchase_value:
      otherwise: mid_tier
      single: everyone
      unplaced: not_enough_orders
      rules:
        - {name: whale, when: {lifetime_value: very high}}
        - {name: big_basket, when: {avg_order_value: ">= 150", total_orders: "z < 0"}}

Conditions are those of `core.rules.standard`, standard deviations being those of
customers. A feature with ``*`` stands for every feature of the axis that fits, and
``{}`` in the name for what stood in its place: ``{name: "{}_preferred", when:
{"channel_share_*": ">= 0.5"}}`` makes `web_preferred`.

Rules are tried in their order. Of the segments that meet a rule and have no name yet,
the one furthest out in the rule's features gets it (of equal ones the larger), and the
others go on to the rules after it. There they are passed over by a rule that says
nothing new: whose features are those in which they are like the segment that has the
name (`ALIKE_Z`). Two segments that both buy on the web, one of them at weekends, are so
not `web_preferred` and `web_leaning`, but `web_preferred` and `weekend_contact`.

What is left over is called what the axis calls the others; where that, or the one rule
a segment meets, is taken, the feature in which it differs most from the segment with
the name is added (``mid_tier_high_value_trend``), then the next, and at last a number.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np

from core.axes.features.catalog import AXES, CHANNEL_SHARE, FEATURES
from core.errors import ConfigError, did_you_mean, listed
from core.models.centroids import FloatArray
from core.reporting.text import rounded
from core.rules.conditions import parsed_yaml, require_known, require_mapping
from core.rules.standard import Condition, parsed_condition
from core.segments.naming import checked_name

SINGLE: Final = "everyone"
UNPLACED: Final = "not_enough_orders"
BUILT_IN: Final = "axis_names.yaml"
_KEYS: Final = ("otherwise", "single", "unplaced", "rules")


@dataclass(frozen=True)
class NameRule:
    """A name, and what has to hold for it."""

    name: str
    when: tuple[Condition, ...]

    def for_features(self, features: Sequence[str]) -> list[NameRule]:
        """Return the rule for these features: one per fit of ``*``, if none lacks."""
        starred = next((c for c in self.when if "*" in c.feature), None)
        if starred is None:
            is_known = all(c.feature in features for c in self.when)
            return [self] if is_known else []
        rest = tuple(c for c in self.when if c is not starred)
        prefix, _, suffix = starred.feature.partition("*")
        return [
            rule
            for feature in features
            if fnmatch.fnmatchcase(feature, starred.feature)
            for rule in NameRule(
                self.name.replace(
                    "{}", feature.removeprefix(prefix).removesuffix(suffix)
                ),
                (replace(starred, feature=feature), *rest),
            ).for_features(features)
        ]


@dataclass(frozen=True)
class AxisNames:
    """How the segments of one axis are named."""

    rules: tuple[NameRule, ...] = ()
    otherwise: str = "others"
    single: str = SINGLE
    unplaced: str = UNPLACED


def load_axis_names(path: Path | str | None = None) -> dict[str, AxisNames]:
    """Return the names of every axis: the built-in ones, and a user's over them.

    Parameters
    ----------
    path : path, optional
        YAML of the user; what it has of an axis replaces what is built in.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key, an axis, a feature or a condition in it is
        unknown; the message names the place.
    """
    text = resources.files("core.axes").joinpath(BUILT_IN).read_text("utf-8")
    names = _parsed(text, f"the built-in {BUILT_IN}", {})
    if path is None:
        return names
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"`axes.names`: `{path}` cannot be read ({error}). Give a YAML file, or "
            "null for the built-in names."
        ) from None
    return names | _parsed(text, str(path), names)


def _parsed(
    text: str, where: str, base: Mapping[str, AxisNames]
) -> dict[str, AxisNames]:
    """Return the names in a YAML text, on top of others."""
    content = parsed_yaml(text, where)
    require_known(content, ("axes",), where)
    axes = require_mapping(content.get("axes") or {}, f"{where}: `axes`")
    require_known(axes, [axis.name for axis in AXES], f"{where}: `axes`")
    return {
        axis: _axis_names(entry, f"{where}: `axes.{axis}", base.get(axis, AxisNames()))
        for axis, entry in axes.items()
    }


def _axis_names(entry: Any, where: str, base: AxisNames) -> AxisNames:
    """Return the names of one axis; `where` lacks its closing backtick."""
    entry = require_mapping(entry, f"{where}`")
    require_known(entry, _KEYS, f"{where}`")
    changes: dict[str, Any] = {
        key: _name(entry[key], f"{where}.{key}`") for key in _KEYS[:-1] if key in entry
    }
    if "rules" in entry:
        rules = entry["rules"]
        if not isinstance(rules, list):
            raise ConfigError(f"{where}.rules` is {rules!r}; expected a list of rules.")
        changes["rules"] = tuple(
            _rule(rule, f"{where}.rules[{i}]") for i, rule in enumerate(rules)
        )
    return replace(base, **changes)


def _rule(entry: Any, where: str) -> NameRule:
    entry = require_mapping(entry, f"{where}`")
    require_known(entry, ("name", "when"), f"{where}`")
    when = require_mapping(entry.get("when"), f"{where}.when`")
    if not when:
        raise ConfigError(
            f"{where}.when` is empty; expected a feature and a condition."
        )
    name = _name(entry.get("name"), f"{where}.name`")
    n_stars = sum("*" in str(feature) for feature in when)
    if n_stars > 1 or ("{}" in name) != (n_stars == 1):
        raise ConfigError(
            f"{where}`: `{{}}` in the name needs exactly one feature with `*`, and the "
            f"other way round; received the name `{name}` and {listed(list(when))}."
        )
    conditions = (_condition(f, said, f"{where}.when") for f, said in when.items())
    return NameRule(name, tuple(conditions))


def _condition(feature: Any, said: Any, where: str) -> Condition:
    known = [*FEATURES, f"{CHANNEL_SHARE}_*"]
    is_channel = str(feature).startswith(f"{CHANNEL_SHARE}_")
    if feature not in known and not is_channel:
        raise ConfigError(
            f"{where}`: unknown feature `{feature}`."
            f"{did_you_mean(str(feature), known)} The features of each axis are listed "
            "in docs/axes-features.md."
        )
    return parsed_condition(feature, said, where)


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{where} is {value!r}; expected a name.")
    try:
        return checked_name(value)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


SLIGHT_Z = 0.2
"""Standard deviations from the mean customer from which a feature can tell two segments
with the same name apart."""
ALIKE_Z: Final = 0.5
"""Standard deviations below which two segments are alike in a feature: as far as `high`
is from the mean."""


NEAR_AVERAGE: Final = "close to the average customer in what the rules ask for"


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
    holders = {name: c for c, name in kept.items()}
    found = _by_rules(rules, centres, values, columns, unnamed, (taken, holders))
    for c in unnamed:
        if c not in found:
            first = _first_fitting(rules, centres[c], values[c], columns)
            holder = holders.get(names.otherwise if first is None else first.name)
            other = np.zeros(len(columns)) if holder is None else centres[holder]
            found[c] = _told_apart(
                first, names.otherwise, (centres[c], other), values[c], columns, taken
            )
            taken.add(found[c].name)
            holders[found[c].name] = c
    return dict(sorted(found.items()))


def _by_rules(
    rules: Sequence[NameRule],
    centres: FloatArray,
    values: FloatArray,
    columns: Mapping[str, int],
    unnamed: Sequence[int],
    known: tuple[set[str], dict[str, int]],
) -> dict[int, SegmentName]:
    """Return the names of clusters that meet a rule none other has.

    Adds to `known`: the names taken, and which cluster holds which.
    """
    found: dict[int, SegmentName] = {}
    taken, holders = known
    before: dict[int, list[int]] = {c: [] for c in unnamed}
    for rule in rules:
        used = [columns[c.feature] for c in rule.when]
        fitting = [
            c
            for c in unnamed
            if c not in found
            and _fits(rule, centres[c], values[c], columns)
            and not any(_is_alike(centres[c], centres[h], used) for h in before[c])
        ]
        if fitting and rule.name not in taken:
            best = max(
                fitting, key=lambda c: (_strength(rule, centres[c], columns), -c)
            )
            why = _why(rule, centres[best], values[best], columns)
            found[best] = SegmentName(rule.name, why)
            taken.add(rule.name)
            holders[rule.name] = best
        for c in fitting:
            if rule.name in holders:
                before[c].append(holders[rule.name])
    return found


def _is_alike(centre: FloatArray, other: FloatArray, used: Sequence[int]) -> bool:
    """Return whether two centres are alike in all of these features."""
    return bool((np.abs(centre - other)[list(used)] < ALIKE_Z).all())


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
    z = float(centre[place])
    side = "above" if z > 0 else "below"
    # What is 0 but for the last digits of a scaling is 0.
    shown = rounded(round(float(value[place]), 9))
    return f"`{feature}` {shown}, {rounded(abs(z))} standard deviations {side} average"


def _told_apart(
    rule: NameRule | None,
    otherwise: str,
    centres: tuple[FloatArray, FloatArray],
    value: FloatArray,
    columns: Mapping[str, int],
    taken: set[str],
) -> SegmentName:
    """Return a name that is not taken: with a second feature, or with a number.

    Of `centres` the second is that of the segment that has the name.
    """
    name = otherwise if rule is None else rule.name
    centre, other = centres
    why = NEAR_AVERAGE if rule is None else _why(rule, centre, value, columns)
    if name not in taken:
        return SegmentName(name, why)
    told = set() if rule is None else {c.feature for c in rule.when}
    apart = np.abs(centre - other)
    order = sorted(columns, key=lambda f: (-round(float(apart[columns[f]]), 6), f))
    for feature in order:
        z = float(centre[columns[feature]])
        longer = f"{name}_{'high' if z > 0 else 'low'}_{feature}"
        if feature not in told and abs(z) >= SLIGHT_Z and longer not in taken:
            finding = _finding(feature, centre, value, columns)
            return SegmentName(longer, f"{why}; distinguished by {finding}")
    number = int(np.flatnonzero([f"{name}_{i}" not in taken for i in range(2, 99)])[0])
    return SegmentName(f"{name}_{number + 2}", f"{why}; distinguished by a number")
