"""Boxes of feature values, by which questions about conditions are decided exactly.

The values of each feature are cut into cells that no condition can tell apart: between
two neighbouring bounds all customers are the same to the rules, and so is every text
that no rule names. Missing is a cell of its own. A set of cells is a bit mask, and a
box one mask per feature. `Space.boxes` splits a box until a condition is true all over
a part or false all over it, by the cut that most of its comparisons ask for: for rules
that come from a tree this finds the tree again, and never a grid of all cells.

Reals are doubles: between two neighbouring doubles there is nobody.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from core.rules.conditions import And, IsMissing, Leaf, Node, Not, OneOf, Or, Range
from core.rules.grammar import FIRST, RuleSet
from core.rules.syntax import NUMERIC, Feature

Box = tuple[int, ...]
"""One bit mask of cells per feature, in the order of the rule set."""
ANY_OTHER: Final = "(any other text)"


@dataclass(frozen=True)
class Cell:
    """Values of a feature that no condition tells apart.

    Attributes
    ----------
    value : float, str, bool or None
        One of them; None is missing.
    low, high : float
        Smallest and largest of numbers, infinite without an end.
    low_included, high_included : bool
    """

    value: Any
    low: float = -math.inf
    high: float = math.inf
    low_included: bool = True
    high_included: bool = True


class Formula(NamedTuple):
    """A condition over cells, without `not`: a mask, or an *and* / *or* of formulas.

    Attributes
    ----------
    feature : int
        Of a mask; -1 in an *and* or *or*.
    mask : int
        Cells that meet it.
    is_or : bool
    parts : tuple of Formula
    touches : int
        Bit mask of the features that it speaks of.
    """

    feature: int = -1
    mask: int = 0
    is_or: bool = False
    parts: tuple[Formula, ...] = ()
    touches: int = 0


Decided = bool | Formula


class Space:
    """Every possible customer of a rule set, as boxes of cells.

    Parameters
    ----------
    rules : RuleSet
        Without thresholds that have no number yet.

    Attributes
    ----------
    rules : RuleSet
    cells : list of tuple of Cell
        Per feature; those within its domain, and missing where declared.
    whole : Box
        Everything within the domains.
    assume : bool or Formula
        What every possible customer meets.
    segments : list of bool or Formula
        What every segment asks, its band included.
    bands : dict of name to bool or Formula
    """

    def __init__(self, rules: RuleSet) -> None:
        conditions = [rules.condition(segment) for segment in rules.segments]
        assumed = [rules.filled(node) for node in rules.assume]
        self.rules = rules
        self._place = {f.name: place for place, f in enumerate(rules.features)}
        self._masks: dict[Leaf, int] = {}
        leaves: list[dict[Leaf, None]] = [{} for _ in rules.features]
        bands = {band.name: rules.filled(band.when) for band in rules.bands}
        for condition in (*conditions, *assumed, *bands.values()):
            for leaf in condition.leaves():
                leaves[self._place[leaf.feature]][leaf] = None
        self.cells = list(map(_cells, rules.features, leaves))
        self.whole: Box = tuple((1 << len(cells)) - 1 for cells in self.cells)
        self._names = {(t.feature, t.value): t.name for t in rules.thresholds}
        self.assume = self.formula(And(tuple(assumed)))
        self.segments = [self.formula(condition) for condition in conditions]
        self.bands = {name: self.formula(when) for name, when in bands.items()}

    def formula(self, condition: Node, *, negated: bool = False) -> Decided:
        """Return a condition, or its opposite, over the cells."""
        if isinstance(condition, Leaf):
            place = self._place[condition.feature]
            mask = self._mask(condition, place)
            return self._of_mask(place, self.whole[place] ^ mask if negated else mask)
        if isinstance(condition, Not):
            return self.formula(condition.part, negated=not negated)
        is_or = isinstance(condition, Or) is not negated
        parts = [self.formula(p, negated=negated) for p in condition.parts()]
        return self.joined(parts, is_or=is_or)

    def opposite(self, formula: Decided) -> Decided:
        """Return where a formula does not hold."""
        if isinstance(formula, bool):
            return not formula
        if formula.feature >= 0:
            mask = self.whole[formula.feature] ^ formula.mask
            return self._of_mask(formula.feature, mask)
        return self.joined(map(self.opposite, formula.parts), is_or=not formula.is_or)

    def joined(self, parts: Iterable[Decided], *, is_or: bool = False) -> Decided:
        """Return the *and* (or *or*) of formulas; masks of a feature become one."""
        masks: dict[int, int] = {}
        others: list[Formula] = []
        todo = list(parts)
        for part in todo:
            if isinstance(part, bool):
                if part is is_or:
                    return part
            elif part.feature >= 0:
                before = masks.get(part.feature)
                both = part.mask if before is None else (
                    before | part.mask if is_or else before & part.mask
                )  # fmt: skip
                masks[part.feature] = both
            elif part.is_or is is_or:
                todo.extend(part.parts)
            else:
                others.append(part)
        simple = [self._of_mask(place, mask) for place, mask in masks.items()]
        if any(part is is_or for part in simple):
            return is_or
        kept = [part for part in simple if isinstance(part, Formula)]
        return _joined((*kept, *others), is_or)

    def exclusive(self, number: int) -> Decided:
        """Return who is in a segment: where the first match decides, no one earlier."""
        return self.joined(
            [
                self.segments[number],
                *(self.opposite(self.segments[i]) for i in self._earlier[number]),
            ]
        )

    @functools.cached_property
    def _earlier(self) -> dict[int, list[int]]:
        """The segments that decide before each one, where they share a customer."""
        earlier: dict[int, list[int]] = {i: [] for i in range(len(self.segments))}
        if self.rules.match == FIRST:
            for first, second in self.meeting(map(self.hull, self.segments)):
                earlier[second].append(first)
        return earlier

    def meeting(self, boxes: Iterable[Box]) -> Iterator[tuple[int, int]]:
        """Yield the pairs of boxes, as their numbers, that share a customer."""
        widths = [len(cells) + 1 for cells in self.cells]
        places = [0, *itertools.accumulate(widths)]
        # A box as one number, with a guard bit above the cells of every feature: less
        # 1 in each, a guard is kept where there are cells in common.
        ones = sum(1 << place for place in places[:-1])
        guards = sum(1 << (place - 1) for place in places[1:])
        codes: list[int] = []
        for second, box in enumerate(boxes):
            code = sum(m << p for m, p in zip(box, places[:-1], strict=True))
            for first, other in enumerate(codes):
                if ((other & code | guards) - ones) & guards == guards:
                    yield first, second
            codes.append(code)

    def boxes(self, formula: Decided, box: Box | None = None) -> Iterator[Box]:
        """Yield disjoint boxes that together hold all customers who meet a formula.

        Parameters
        ----------
        formula : bool or Formula
        box : Box, optional
            Where to look; by default everywhere.
        """
        stack = [(self.whole, formula)]
        if box is not None:
            stack = [(box, under(formula, box))]
        while stack:
            here, left = stack.pop()
            here, left = _narrowed(here, left)
            if left is True:
                yield here
            if isinstance(left, bool):
                continue
            place, part = _cut(here, left)
            for mask in (here[place] ^ part, part):
                half = (*here[:place], mask, *here[place + 1 :])
                stack.append((half, _restricted(left, place, mask)))

    def grown(self, box: Box, formula: Decided) -> Box:
        """Return a box with the given one in it, all over which a formula holds.

        No feature can be widened further; they are widened in their order.
        """
        parts = formula.parts if isinstance(formula, Formula) else ()
        if isinstance(formula, Formula) and (formula.is_or or formula.feature >= 0):
            parts = (formula,)
        for place in range(len(box)):
            asking = [part for part in parts if part.touches >> place & 1]
            for more in self._wider(place, box[place]):
                wide = (*box[:place], box[place] | more, *box[place + 1 :])
                if all(_holds_all_over(part, wide) for part in asking):
                    box = wide
        return box

    def _wider(self, place: int, mask: int) -> list[int]:
        """Return cells to add in the order to try: all, those above, below, missing."""
        n_cells = len(self.cells[place])
        lowest, top = (mask & -mask).bit_length() - 1, mask.bit_length()
        above = [(1 << i) - (1 << top) for i in range(n_cells, top, -1)]
        below = [(1 << lowest) - (1 << i) for i in range(lowest)]
        return [self.whole[place], *above, *below, 1 << (n_cells - 1)]

    def any_of(self, *formulas: Decided) -> Box | None:
        """Return a box of possible customers who meet all formulas; None if none do."""
        return next(self.boxes(self.joined([*formulas, self.assume])), None)

    def pieces(self, formula: Decided) -> list[Decided]:
        """Return formulas that together are one, mostly with smaller boxes around."""
        if isinstance(formula, bool) or formula.feature >= 0:
            return [formula]
        if formula.is_or:
            return list(formula.parts)
        inner = next((part for part in formula.parts if part.is_or), None)
        if inner is None:
            return [formula]
        rest = [part for part in formula.parts if part is not inner]
        return [self.joined([*rest, part]) for part in inner.parts]

    def inside(self, box: Box) -> Decided:
        """Return the formula that customers in a box meet."""
        return self.joined([self._of_mask(p, mask) for p, mask in enumerate(box)])

    def as_box(self, formula: Decided) -> Box | None:
        """Return a formula as a box, or None where it is none as it is written."""
        if isinstance(formula, bool):
            return self.whole if formula else None
        parts = (formula,) if formula.feature >= 0 else formula.parts
        if formula.is_or or any(part.feature < 0 for part in parts):
            return None
        return self.hull(formula)

    def hull(self, formula: Decided) -> Box:
        """Return the smallest box around a formula, exact if that is a box itself."""
        if isinstance(formula, bool):
            return self.whole if formula else tuple(0 for _ in self.whole)
        if formula.feature >= 0:
            place = formula.feature
            return (*self.whole[:place], formula.mask, *self.whole[place + 1 :])
        hulls = list(map(self.hull, formula.parts))
        if formula.is_or:
            return tuple(_all_of(masks) for masks in zip(*hulls, strict=True))
        return tuple(_common(masks) for masks in zip(*hulls, strict=True))

    def customer(self, box: Box) -> dict[str, Any]:
        """Return a customer in a box, one value per feature."""
        return {
            feature.name: cells[(mask & -mask).bit_length() - 1].value
            for feature, cells, mask in zip(
                self.rules.features, self.cells, box, strict=True
            )
        }

    def condition(self, box: Box, within: Box | None = None) -> Node:
        """Return a box as a condition, without what holds all over `within`."""
        around = self.whole if within is None else within
        asked = [
            self.asked(place, mask)
            for place, mask in enumerate(box)
            if mask != around[place]
        ]
        return asked[0] if len(asked) == 1 else And(tuple(asked))

    def asked(self, place: int, mask: int) -> Node:
        """Return the condition that cells of one feature meet."""
        feature, cells = self.rules.features[place], self.cells[place]
        taken = [cell.value for i, cell in enumerate(cells) if mask >> i & 1]
        values = [value for value in taken if value is not None]
        missing = IsMissing(feature.name)
        if len(taken) == len(cells):
            return And(())
        if not values:
            return missing
        if len(values) == len(cells) - 1 and cells[-1].value is None:
            return Not(missing)
        if feature.type not in NUMERIC:
            return self._one_of(feature, cells, taken)
        ranges = [self._range(feature, run) for run in self.runs(place, mask)]
        asked = [*ranges, missing] if None in taken else ranges
        return asked[0] if len(asked) == 1 else Or(tuple(asked))

    def _one_of(
        self, feature: Feature, cells: Sequence[Cell], taken: Sequence[Any]
    ) -> Node:
        """Return the condition that a flag or text is one of some values."""
        missing = IsMissing(feature.name)
        values = tuple(value for value in taken if value is not None)
        others = tuple(
            c.value for c in cells if c.value is not None and c.value not in taken
        )
        opposite: Node = Not(OneOf(feature.name, others))
        is_open = feature.missing is None or None in taken
        if ANY_OTHER in values:
            return opposite if is_open else And((opposite, Not(missing)))
        if None in taken and ANY_OTHER in others:
            return Or((OneOf(feature.name, values), missing))
        if None in taken or (is_open and values[0] is False):
            return opposite
        return OneOf(feature.name, values)

    def runs(self, place: int, mask: int) -> Iterator[list[Cell]]:
        """Yield neighbouring cells of numbers in a mask; missing is left out."""
        cells = self.cells[place]
        kept = [i for i, c in enumerate(cells) if mask >> i & 1 and c.value is not None]
        for _, run in itertools.groupby(
            enumerate(kept), lambda pair: pair[1] - pair[0]
        ):
            yield [cells[i] for _, i in run]

    def _range(self, feature: Feature, run: Sequence[Cell]) -> Node:
        """Return neighbouring cells as a comparison, without the domain's ends."""
        first, last = run[0], run[-1]
        low = first.low if first.low > feature.low else -math.inf
        high = last.high if last.high < feature.high else math.inf
        if low == high or (
            feature.type == "integer" and first is last and _n_integers(first) == 1
        ):
            threshold = self._names.get((feature.name, first.value))
            if threshold is not None:
                return Range(feature.name, threshold, threshold, low_included=True)
            return OneOf(feature.name, (float(first.value),))
        closed = first.low_included, last.high_included
        if feature.type == "integer":  # a bound between integers reads as in rules
            closed = (
                closed[0] and low.is_integer(),
                closed[1] or not high.is_integer(),
            )
        names = [self._names.get((feature.name, bound), bound) for bound in (low, high)]
        return Range(feature.name, names[0], names[1], *closed)

    def _mask(self, leaf: Leaf, place: int) -> int:
        if leaf not in self._masks:
            self._masks[leaf] = sum(
                1 << i
                for i, cell in enumerate(self.cells[place])
                if leaf.holds({leaf.feature: cell.value})
            )
        return self._masks[leaf]

    def _of_mask(self, place: int, mask: int) -> Decided:
        if mask in {0, self.whole[place]}:
            return mask != 0
        return Formula(place, mask, touches=1 << place)


def under(formula: Decided, box: Box) -> Decided:
    """Return what is left of a formula within a box; a bool where it is decided."""
    for place, mask in enumerate(box):
        if isinstance(formula, bool):
            break
        formula = _restricted(formula, place, mask)
    return formula


def _holds_all_over(formula: Formula, box: Box) -> bool:
    """Whether a formula is seen to hold for everyone in a box, without splitting it."""
    if formula.feature >= 0:
        return not box[formula.feature] & ~formula.mask
    combined = any if formula.is_or else all
    return combined(_holds_all_over(part, box) for part in formula.parts)


def _restricted(formula: Formula, place: int, mask: int) -> Decided:
    """Return what is left of a formula where a feature is within some cells."""
    if not formula.touches >> place & 1:
        return formula
    if formula.feature >= 0:
        both = formula.mask & mask
        return (both != 0) if both in {0, mask} else formula
    parts = []
    for part in formula.parts:
        if not part.touches >> place & 1:
            parts.append(part)
            continue
        left = _restricted(part, place, mask)
        if left is formula.is_or:
            return left
        if not isinstance(left, bool):
            parts.append(left)
    return _joined(tuple(parts), formula.is_or)


def _joined(parts: tuple[Formula, ...], is_or: bool) -> Decided:
    if not parts:
        return not is_or
    if len(parts) == 1:
        return parts[0]
    touches = _all_of([part.touches for part in parts])
    return Formula(is_or=is_or, parts=parts, touches=touches)


def _narrowed(box: Box, formula: Decided) -> tuple[Box, Decided]:
    """Return the part of a box outside which masks of an *and* rule everyone out."""
    while isinstance(formula, Formula) and not formula.is_or:
        parts = (formula,) if formula.feature >= 0 else formula.parts
        simple = next((part for part in parts if part.feature >= 0), None)
        if simple is None:
            break
        place = simple.feature
        mask = box[place] & simple.mask
        if not mask:
            return box, False
        box = (*box[:place], mask, *box[place + 1 :])
        formula = _restricted(formula, place, mask)
    return box, formula


def _cut(box: Box, formula: Formula) -> tuple[int, int]:
    """Return the feature, and its cells on one side, that most masks are cut by."""
    votes: Counter[tuple[int, int]] = Counter()
    stack = [formula]
    while stack:
        part = stack.pop()
        if part.feature < 0:
            stack.extend(part.parts)
            continue
        here = box[part.feature]
        for side in _sides(part.mask, here):
            votes[part.feature, side] += 1
    return min(votes, key=lambda cut: (-votes[cut], cut))


def _sides(mask: int, here: int) -> Iterator[int]:
    """Yield the cells of a box below each border between a mask and its opposite."""
    borders = mask ^ (mask >> 1)
    while borders:
        border = borders & -borders
        borders ^= border
        below = here & (2 * border - 1)
        if below and below != here:
            yield below


def _all_of(masks: Iterable[int]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union


def _common(masks: Sequence[int]) -> int:
    common = masks[0]
    for mask in masks:
        common &= mask
    return common


def _cells(feature: Feature, leaves: Iterable[Leaf]) -> tuple[Cell, ...]:
    """Return the cells of a feature, neighbours that all leaves treat alike joined."""
    leaves = list(leaves)
    if feature.type in NUMERIC:
        cells = _numbers(feature, leaves)
    else:
        values: list[Any] = [False, True]
        if feature.type == "text":
            said = [
                v for leaf in leaves if isinstance(leaf, OneOf) for v in leaf.values
            ]
            values = list(feature.levels or dict.fromkeys([*said, ANY_OTHER]))
        cells = [Cell(value) for value in values]
    if feature.missing is not None:
        cells.append(Cell(None))
    joined: list[Cell] = []
    before: list[bool] | None = None
    for cell in cells:
        told = [leaf.holds({leaf.feature: cell.value}) for leaf in leaves]
        if told == before and feature.type in NUMERIC and cell.value is not None:
            joined[-1] = replace(
                joined[-1], high=cell.high, high_included=cell.high_included
            )
        else:
            joined.append(cell)
        before = told
    return tuple(joined)


def _numbers(feature: Feature, leaves: Iterable[Leaf]) -> list[Cell]:
    """Return points at the bounds and what lies between, within the domain."""
    bounds = {feature.low, feature.high}
    for leaf in leaves:
        if isinstance(leaf, Range):
            bounds |= {float(leaf.low), float(leaf.high)}
        elif isinstance(leaf, OneOf):
            bounds |= {float(value) for value in leaf.values}
    ends = sorted(b for b in bounds if feature.low <= b <= feature.high)
    cells: list[Cell] = []
    for low, high in itertools.pairwise([*ends, ends[-1]]):
        if math.isfinite(low):
            cells.append(Cell(low, low, low))
        if low < high:
            cells.append(Cell(_between(low, high), low, high, False, False))
    if feature.type == "integer":
        whole = [replace(c, value=_smallest_integer(c)) for c in cells]
        return [cell for cell in whole if cell.value is not None]
    return [c for c in cells if c.low_included or c.low < c.value < c.high]


def _between(low: float, high: float) -> float:
    """Return a number between two others, a short one if there is; `high` if none."""
    if not math.isfinite(low):
        return high - max(1.0, abs(high) / 1e6) if math.isfinite(high) else 0.0
    if not math.isfinite(high):
        return low + max(1.0, abs(low) / 1e6)
    for digits in range(16):
        near = round(low / 2 + high / 2, digits)
        if low < near < high:
            return near
    return math.nextafter(low, high)


def _smallest_integer(cell: Cell) -> int | None:
    """Return the integer nearest to the lower end, if one is in the cell."""
    if not math.isfinite(cell.low):
        return math.ceil(cell.high) - 1 if math.isfinite(cell.high) else 0
    if cell.low_included:
        return int(cell.low) if cell.low.is_integer() else None
    least = math.floor(cell.low) + 1
    return least if least < cell.high else None


def _n_integers(cell: Cell) -> float:
    if not (math.isfinite(cell.low) and math.isfinite(cell.high)):
        return math.inf
    first = math.ceil(cell.low) + (cell.low.is_integer() and not cell.low_included)
    last = math.floor(cell.high) - (cell.high.is_integer() and not cell.high_included)
    return last - first + 1
