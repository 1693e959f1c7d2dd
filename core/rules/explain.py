"""Why a customer is in a rule segment, and the smallest change to every other one.

The customers of a segment are boxes of cells (`core.rules.boxes`). The nearest way into
a box leads, feature by feature, to the nearest value of its cells; the smallest change
is the way into the nearest box.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from core.errors import ConfigError, SchemaError, did_you_mean, listed
from core.rules.boxes import ANY_OTHER, Box, Cell, Formula, Space
from core.rules.conditions import And, Node, Or, Value, is_missing, shown_value
from core.rules.grammar import FIRST, RuleSet
from core.rules.syntax import NUMERIC, Feature

_A = {"integer": "an integer", "number": "a number", "flag": "yes (1) or no (0)"}
_WRITTEN_FLAGS = {"yes": 1, "true": 1, "no": 0, "false": 0}
MAX_IDS = 100_000
"""Ids that are searched for one that looks like the one asked for."""
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
        if rules.match == FIRST and met is not rules.segments[0]:
            path.append(Step("no rule above it holds", {}))
    broken = [
        node.text()
        for node in (
            *(f.domain() for f in rules.features),
            *map(rules.filled, rules.assume),
        )
        if not node.holds(own)
    ]
    space = Space(rules)
    reaches = [
        _Reach(feature, own[feature.name], cells)
        for feature, cells in zip(rules.features, space.cells, strict=True)
    ]
    others = [
        _smallest_change(space, number, reaches, own)
        for number, segment in enumerate(rules.segments)
        if segment is not met
    ]
    others.sort(key=lambda o: (o.changes is None, len(o.changes or ()), o.distance))
    return RuleExplanation(
        segment=met.name if met else None,
        band=met.band if met else None,
        also=tuple(s.name for s in holding[1:] if rules.match != FIRST),
        path=tuple(path),
        broken=tuple(broken),
        others=tuple(others),
    )


def customer_of(rules: RuleSet, text: str) -> dict[str, Any]:
    """Return a customer by what is written of it, such as ``orders=3,app=yes``.

    Raises
    ------
    ConfigError
        If a part is not ``name=value``, or names no feature.
    """
    known = [feature.name for feature in rules.features]
    customer: dict[str, Any] = {}
    for part in text.split(","):
        name, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign:
            raise ConfigError(f"`{part}` is no `name=value`, such as `{known[0]}=1`.")
        if name not in known:
            raise ConfigError(
                f"`{name}` is no feature of `{rules.name}`; expected one of "
                f"{listed(known, 20)}.{did_you_mean(name, known)}"
            )
        customer[name] = value or None
    return customer


def customer_in(table: pl.DataFrame, id_column: str, customer: str) -> dict[str, Any]:
    """Return the row of one customer.

    Parameters
    ----------
    table : DataFrame
        A row per customer, with their ids as text in `id_column`.
    id_column, customer : str

    Raises
    ------
    ConfigError
        If the table has no such customer, or several rows of one.
    """
    rows = table.filter(pl.col(id_column) == customer.strip())
    if rows.height != 1:
        ids = [i for i in table[id_column].head(MAX_IDS) if i is not None]
        meant = "" if rows.height else did_you_mean(customer, ids)
        raise ConfigError(
            f"`{customer}` has {rows.height:,} of {table.height:,} rows by "
            f"`{id_column}`; expected one.{meant}"
        )
    return rows.row(0, named=True)


def _own(feature: Feature, value: Any) -> Value | None:
    """Return a customer's value as the feature's type has it."""
    if is_missing(value):
        return None
    if feature.type == "text":
        return str(value)
    if feature.type == "flag" and isinstance(value, str):
        value = _WRITTEN_FLAGS.get(value.lower(), value)
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


def _shown(value: Value | None) -> str:
    if value is None:
        return "missing"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.6g}"  # for people; the figures have all digits
    return value if isinstance(value, str) else shown_value(value)


@dataclass(frozen=True)
class _Option:
    """The value of a cell that is nearest to the own one, in words, and how far."""

    value: Value
    text: str
    distance: float


class _Reach:
    """Where a customer's value of one feature can go.

    Attributes
    ----------
    own : int or None
        Cell of the customer's value; None outside the domain.
    options : dict of int to _Option
        Other cells that the value can move to.
    mask : int
        All of these cells.
    """

    def __init__(
        self, feature: Feature, value: Value | None, cells: Sequence[Cell]
    ) -> None:
        self.own = _place_of(value, cells)
        marks = [m for c in cells for m in (c.low, c.high) if math.isfinite(m)]
        unit = (max(marks) - min(marks) or abs(marks[0])) if marks else 0.0
        unit = max(unit, 1.0) if feature.type == "integer" else unit or 1.0
        self.options: dict[int, _Option] = {}
        for place, cell in enumerate(cells if not feature.is_fixed else ()):
            if place != self.own and cell.value is not None:
                self.options[place] = _nearest(feature, value, cell, unit)
        places = [*self.options, *([] if self.own is None else [self.own])]
        self.mask = sum(1 << place for place in places)


def _place_of(value: Value | None, cells: Sequence[Cell]) -> int | None:
    """Return the cell of a value, that of all other texts for a text not named."""
    for place, cell in enumerate(cells):
        if not isinstance(value, float) or cell.value is None:
            is_in = value == cell.value
        else:
            above = value >= cell.low if cell.low_included else value > cell.low
            below = value <= cell.high if cell.high_included else value < cell.high
            is_in = above and below
        if is_in or (isinstance(value, str) and cell.value == ANY_OTHER):
            return place
    return None


def _nearest(feature: Feature, own: Value | None, cell: Cell, unit: float) -> _Option:
    """Return the value of a cell nearest to the own one, and the way there."""
    if feature.type not in NUMERIC:
        return _Option(cell.value, f"is {_shown(cell.value)}", 1.0)
    is_up = math.isfinite(cell.low) if own is None else float(own) <= cell.low
    bound, to = (cell.low, math.inf) if is_up else (cell.high, -math.inf)
    if math.isinf(bound):
        return _Option(float(cell.value), "is known", 1.0)
    value, text = bound, f"is {_shown(bound)}"
    if not (cell.low_included if is_up else cell.high_included):
        value = math.nextafter(bound, to)
        text = f"is {'above' if is_up else 'below'} {_shown(bound)}"
        if feature.type == "integer":
            value = math.floor(bound) + 1.0 if is_up else math.ceil(bound) - 1.0
            text = f"is {_shown(value)}"
    distance = 1.0 if own is None else abs(value - float(own)) / unit
    return _Option(value, text, distance)


_Chosen = dict[int, _Option]


def _smallest_change(
    space: Space, number: int, reaches: Sequence[_Reach], own: Customer
) -> SegmentChange:
    """Return the smallest change that leads to a segment, by its number."""
    name, features = space.rules.segments[number].name, space.rules.features
    formula = space.joined([space.exclusive(number), space.assume])
    touches = formula.touches if isinstance(formula, Formula) else 0
    start = [
        reach.mask if touches >> place & 1 else space.whole[place]
        for place, reach in enumerate(reaches)
    ]
    boxes = space.boxes(formula, tuple(start)) if all(start) else iter(())
    best = min((_into(box, reaches, touches) for box in boxes), key=_size, default=None)
    if best is None:
        return SegmentChange(name, None, None)
    changes = (
        FeatureChange(features[i].name, own[features[i].name], o.value, o.text)
        for i, o in best.items()
    )
    return SegmentChange(name, tuple(changes), sum(o.distance for o in best.values()))


def _into(box: Box, reaches: Sequence[_Reach], touches: int) -> _Chosen:
    """Return the nearest options by which a customer comes into a box, by feature."""
    chosen = {}
    for place, (mask, reach) in enumerate(zip(box, reaches, strict=True)):
        is_own = reach.own is not None and mask >> reach.own & 1
        if touches >> place & 1 and not is_own:
            options = [o for cell, o in reach.options.items() if mask >> cell & 1]
            chosen[place] = min(options, key=lambda option: option.distance)
    return chosen


def _size(chosen: _Chosen) -> tuple[int, float, list[int]]:
    # To twelve digits: sums of equal distances may differ in their last one.
    distance = sum(option.distance for option in chosen.values())
    return len(chosen), round(distance, 12), list(chosen)
