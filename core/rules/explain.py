"""Why a customer is in a rule segment, and the smallest change to every other one.

Rules compare a feature with a few numbers only, so its values fall into a few cells
within which no rule can tell them apart. Of each cell only the value nearest to the
customer's own can be part of a smallest change. Searching those, and leaving out
whatever can no longer meet the rule, finds it exactly.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

from core.errors import SchemaError, listed
from core.rules.conditions import (
    And,
    Leaf,
    Node,
    Not,
    OneOf,
    Or,
    Range,
    Value,
    is_missing,
    shown_value,
)
from core.rules.grammar import FIRST, RuleSet
from core.rules.syntax import NUMERIC, Feature

_A = {"integer": "an integer", "number": "a number", "flag": "yes (1) or no (0)"}
Customer = dict[str, Value | None]


@dataclass(frozen=True)
class Step:
    """One condition on the way to a segment, and what the customer has of it.

    Attributes
    ----------
    condition : str
    values : dict of str to value
        The customer's own values of the features in it; None is missing.
    """

    condition: str
    values: dict[str, Value | None]

    def text(self) -> str:
        """Return it as a sentence part, such as ``orders <= 5 (orders is 3)``."""
        own = ", ".join(f"{name} is {_shown(v)}" for name, v in self.values.items())
        return f"{self.condition} ({own})" if own else self.condition


@dataclass(frozen=True)
class FeatureChange:
    """A feature that has to change.

    Attributes
    ----------
    feature : str
    before, after : value
        None is missing. `after` leads to the segment; of a number that has to be more
        (or less) than a bound it is the next number there is.
    text : str
        What it has to be, in words.
    """

    feature: str
    before: Value | None
    after: Value
    text: str


@dataclass(frozen=True)
class SegmentChange:
    """The smallest change that leads to a segment.

    Attributes
    ----------
    segment : str
    changes : tuple of FeatureChange, or None
        In the order of the features; None: no change leads there.
    distance : float or None
        Sum over the features changed, see `explain_customer`.
    """

    segment: str
    changes: tuple[FeatureChange, ...] | None
    distance: float | None

    def text(self) -> str:
        """Return it as a sentence."""
        if self.changes is None:
            return f"{self.segment}: cannot be reached."
        parts = [f"{c.feature} {c.text} (now {_shown(c.before)})" for c in self.changes]
        return f"{self.segment}: {', '.join(parts) or 'its rule holds already'}."


@dataclass(frozen=True)
class RuleExplanation:
    """Where a customer is, why, and what would lead elsewhere.

    Attributes
    ----------
    segment, band : str or None
        None where no rule holds, and where segments have no bands.
    also : tuple of str
        Further segments whose rule holds; none in rules that are proven.
    path : tuple of Step
        What the customer meets: of the band, then of the rule.
    broken : tuple of str
        Domains and assumptions that the customer does not meet.
    others : tuple of SegmentChange
        Every other segment, the smallest change first.
    """

    segment: str | None
    band: str | None
    also: tuple[str, ...]
    path: tuple[Step, ...]
    broken: tuple[str, ...]
    others: tuple[SegmentChange, ...]

    def facts(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return it as sentences."""
        where = "No rule holds for this customer."
        if self.segment is not None:
            band = "" if self.band is None else f" (band {self.band})"
            where = f"Segment: {self.segment}{band}, because"
        said = [where, *(f"  - {step.text()}" for step in self.path)]
        if self.also:
            said.append(f"The rules of {listed(self.also)} hold as well.")
        said += [f"Against what the rules declare: {text}." for text in self.broken]
        said.append("Smallest change that leads to another segment:")
        return [*said, *(f"  - {other.text()}" for other in self.others)]


def explain_customer(rules: RuleSet, customer: Mapping[str, Any]) -> RuleExplanation:
    """Explain why a customer is in a segment, and what would lead to each other one.

    Parameters
    ----------
    rules : RuleSet
        Without a threshold that is still to be learnt.
    customer : mapping of feature to value
        None, NaN or no entry is missing; other features are passed over.

    Returns
    -------
    RuleExplanation

    Raises
    ------
    SchemaError
        If a value is not of the feature's type.

    Notes
    -----
    The smallest change is the one of the fewest features; among those the one of the
    smallest distance, and then the first in the order of the features. Distance is
    summed over the features: of a number the difference, divided by the width of what
    domain and rules name of it (its outermost numbers; 1 at least of an integer); 1
    for a flag, for a text, and for a missing value that becomes known. A known value
    never becomes missing, a fixed feature never changes, integers stay integers, and
    whoever has changed lies in the domains and meets the assumptions.
    """
    own: Customer = {f.name: _own(f, customer.get(f.name)) for f in rules.features}
    holding = [s for s in rules.segments if rules.condition(s).holds(own)]
    met = holding[0] if holding else None
    path: list[Step] = []
    if met is not None:
        path = [_step(part, own) for part in _parts(rules.condition(met), own)]
    broken = [
        node.text()
        for node in (
            *(f.domain() for f in rules.features),
            *map(rules.filled, rules.assume),
        )
        if not node.holds(own)
    ]
    search = _Search(rules, own)
    others = [search.nearest(i) for i, s in enumerate(rules.segments) if s is not met]
    others.sort(key=_size)
    return RuleExplanation(
        segment=met.name if met else None,
        band=met.band if met else None,
        also=tuple(s.name for s in holding[1:] if rules.match != FIRST),
        path=tuple(path),
        broken=tuple(broken),
        others=tuple(others),
    )


def _own(feature: Feature, value: Any) -> Value | None:
    """Return a customer's value as the feature's type has it."""
    if is_missing(value):
        return None
    if feature.type == "text":
        return str(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise SchemaError(
            f"`{feature.name}` is {value!r}; expected {_A[feature.type]}."
        ) from None
    if feature.type == "flag":
        return number != 0
    return number


def _parts(condition: Node, customer: Customer) -> Iterator[Node]:
    """Yield what a condition that holds consists of; of an Or, the part that holds."""
    if isinstance(condition, And):
        for part in condition.all:
            yield from _parts(part, customer)
    elif isinstance(condition, Or):
        yield from _parts(next(p for p in condition.any if p.holds(customer)), customer)
    else:
        yield condition


def _step(condition: Node, own: Customer) -> Step:
    names = dict.fromkeys(leaf.feature for leaf in condition.leaves())
    return Step(condition.text(), {name: own[name] for name in names})


def _size(change: SegmentChange) -> tuple[float, float]:
    if change.changes is None or change.distance is None:
        return math.inf, 0.0
    return len(change.changes), change.distance


def _shown(value: Value | None) -> str:
    return "missing" if value is None else shown_value(value)


@dataclass(frozen=True)
class _Option:
    """A value that a feature can take, and what it costs."""

    value: Value | None
    text: str
    n_changes: int
    distance: float


class _Search:
    """The smallest changes of one customer."""

    def __init__(self, rules: RuleSet, own: Customer) -> None:
        self.rules, self.own = rules, own
        self.conditions = [rules.condition(segment) for segment in rules.segments]
        self.assume = tuple(map(rules.filled, rules.assume))
        asked: dict[str, list[Leaf]] = {feature.name: [] for feature in rules.features}
        for node in (*self.conditions, *self.assume):
            for leaf in node.leaves():
                asked[leaf.feature].append(leaf)
        self.options = {
            f.name: _options(f, own[f.name], asked[f.name]) for f in rules.features
        }
        # Whether each leaf holds, by the option of its feature.
        self.holds = {
            leaf: [leaf.holds({name: o.value}) for o in self.options[name]]
            for name, leaves in asked.items()
            for leaf in leaves
        }

    def nearest(self, place: int) -> SegmentChange:
        """Return the smallest change that leads to a segment, by its place."""
        earlier = self.conditions[:place] if self.rules.match == FIRST else []
        goal = And((self.conditions[place], *map(Not, earlier), *self.assume))
        names = tuple(dict.fromkeys(leaf.feature for leaf in goal.leaves()))
        name = self.rules.segments[place].name
        for n_changes in range(len(names) + 1):
            found = self._found(goal, {}, names, n_changes, math.inf)
            if found is not None:
                return SegmentChange(name, self._changes(found[1]), found[0])
        return SegmentChange(name, None, None)

    def _changes(self, chosen: Mapping[str, int]) -> tuple[FeatureChange, ...]:
        picked = [
            (name, self.options[name][chosen[name]])
            for name in self.own
            if name in chosen
        ]
        return tuple(
            FeatureChange(name, self.own[name], option.value, option.text)
            for name, option in picked
            if option.n_changes and option.value is not None
        )

    def _found(
        self,
        goal: Node,
        chosen: Mapping[str, int],
        names: Sequence[str],
        n_left: int,
        below: float,
    ) -> tuple[float, Mapping[str, int]] | None:
        """Return the nearest way to the goal: its distance, and the options chosen.

        Of ways that change at most `n_left` of the features in `names`, beyond what is
        chosen already, and are nearer than `below`.
        """
        open_names = set(names) if n_left else set()
        holds = self._truth(goal, chosen, open_names)
        if holds is not None:
            return (0.0, chosen) if holds else None
        best = None
        for place, option in enumerate(self.options[names[0]]):
            if option.n_changes > n_left or option.distance >= below:
                continue
            found = self._found(
                goal,
                {**chosen, names[0]: place},
                names[1:],
                n_left - option.n_changes,
                below - option.distance,
            )
            if found is not None:
                below = option.distance + found[0]
                best = below, found[1]
        return best

    def _truth(
        self, node: Node, chosen: Mapping[str, int], open_names: Set[str]
    ) -> bool | None:
        """Whether a condition holds whatever the open features are; None: it depends.

        Features that are neither chosen nor open stay as they are.
        """
        if isinstance(node, Leaf):
            holds = self.holds[node]
            if node.feature in open_names and node.feature not in chosen:
                return holds[0] if len(set(holds)) == 1 else None
            return holds[chosen.get(node.feature, 0)]
        if isinstance(node, Not):
            inner = self._truth(node.part, chosen, open_names)
            return None if inner is None else not inner
        decides = isinstance(node, Or)
        is_open = False
        for part in node.parts():
            truth = self._truth(part, chosen, open_names)
            if truth is decides:
                return decides
            is_open |= truth is None
        return None if is_open else not decides


def _options(
    feature: Feature, own: Value | None, leaves: Sequence[Leaf]
) -> list[_Option]:
    """Return the values that matter, the customer's own first, then by distance."""
    kept = _Option(own, "", 0, 0.0)
    if feature.is_fixed:
        return [kept]
    if feature.type in NUMERIC:
        found = list(_numbers(feature, own, leaves))
    elif feature.type == "flag":
        found = [_Option(v, _is(v), 1, 1.0) for v in (True, False)]
    else:
        named = [v for leaf in leaves if isinstance(leaf, OneOf) for v in leaf.values]
        texts = feature.levels or tuple(dict.fromkeys(map(str, named)))
        found = [_Option(v, _is(v), 1, 1.0) for v in texts]
        if not feature.levels:
            other = next(
                v for v in map("other{}".format, itertools.count()) if v not in texts
            )
            found.append(
                _Option(
                    other, f"is none of {', '.join(map(shown_value, texts))}", 1, 1.0
                )
            )
    others = [option for option in found if option.value != own]
    return [kept, *sorted(others, key=lambda option: option.distance)]


def _is(value: Value) -> str:
    return f"is {shown_value(value)}"


def _numbers(
    feature: Feature, own: Value | None, leaves: Sequence[Leaf]
) -> Iterator[_Option]:
    """Yield of every cell of a numeric feature the value nearest to the own one."""
    marks = {m for m in (feature.low, feature.high) if math.isfinite(m)}
    for leaf in leaves:
        if isinstance(leaf, Range):
            marks |= {
                float(m) for m in (leaf.low, leaf.high) if math.isfinite(float(m))
            }
        elif isinstance(leaf, OneOf):
            marks |= {float(value) for value in leaf.values}
    ends = [-math.inf, *sorted(marks), math.inf]
    unit = (ends[-2] - ends[1] or abs(ends[1]) or 1.0) if marks else 1.0
    unit = max(unit, 1.0) if feature.type == "integer" else unit
    for low, high in itertools.pairwise(ends):
        found = [(low, _is(low))] if math.isfinite(low) else []
        found.append(_between(low, high, own, is_whole=feature.type == "integer"))
        for value, text in found:
            is_possible = feature.low <= value <= feature.high
            if feature.type == "integer":
                is_possible &= float(value).is_integer()
            if is_possible:
                distance = 1.0 if own is None else abs(value - float(own)) / unit
                yield _Option(value, text, 1, distance)


def _between(
    low: float, high: float, own: Value | None, *, is_whole: bool
) -> tuple[float, str]:
    """Return the value between two bounds nearest to the own one; NaN: there is none.

    Without an own value it is the one next to the lower bound, else to the upper one.
    """
    near = low if own is None else float(own)
    if low < near < high:
        return near, ""
    if math.isfinite(low) and near <= low:
        value = math.floor(low) + 1.0 if is_whole else math.nextafter(low, math.inf)
        text = f"is above {shown_value(low)}"
    elif math.isfinite(high):
        value = math.ceil(high) - 1.0 if is_whole else math.nextafter(high, -math.inf)
        text = f"is below {shown_value(high)}"
    else:
        value, text = 0.0, "is known"
    if not low < value < high:
        return math.nan, ""
    return value, _is(value) if is_whole else text
