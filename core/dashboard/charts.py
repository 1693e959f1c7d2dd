"""Geometry of the charts; the templates draw it as SVG, with a table beneath."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.reporting.board import BoardFlow, BoardPeriod
from core.reporting.text import count, rounded, spoken

MAX_NODES = 8
"""Most segments on a side of a flow chart; the smallest are drawn as one."""
OTHERS = "all others"
ABSENT = "not there"
"""Where entities come from that are new, and go to that have left."""


@dataclass(frozen=True)
class Line:
    """A curve over periods.

    Attributes
    ----------
    points : str
        Of a polyline.
    width, height : float
        Of the drawing.
    words : str
        The curve for who cannot see it.
    ticks : list of (float, str, str)
        Place, label and how it is anchored, along the bottom.
    levels : list of (float, str)
        Place and figure of the highest and the lowest value.
    """

    points: str
    width: float
    height: float
    words: str
    ticks: list[tuple[float, str, str]]
    levels: list[tuple[float, str]]


def line(
    curve: Sequence[tuple[str, float]], width: float = 120, height: float = 32
) -> Line | None:
    """Return a curve; None of fewer than two values.

    The scale begins at 0, so that what hardly changes looks as if it does.
    """
    known = [(label, y) for label, y in curve if math.isfinite(y)]
    if len(known) < 2:
        return None
    values = [y for _, y in known]
    low, high = min(values), max(values)
    ground = min(low, 0.0)
    scale = (height - 4) / ((high - ground) or 1)
    step = (width - 4) / (len(known) - 1)

    def place(y: float) -> float:
        return round(height - 2 - scale * (y - ground), 1)

    points = [f"{2 + step * n:.1f},{place(y)}" for n, y in enumerate(values)]
    words = (
        f"{known[0][0]} to {known[-1][0]}: lowest {rounded(low)} in "
        f"{known[values.index(low)][0]}, highest {rounded(high)} in "
        f"{known[values.index(high)][0]}, last {rounded(values[-1])}"
    )
    ticks = [(2.0, known[0][0], "start"), (width - 2, known[-1][0], "end")]
    levels = [(place(y), rounded(y)) for y in ((high, low) if high > low else (high,))]
    return Line(" ".join(points), width, height, words, ticks, levels)


@dataclass(frozen=True)
class Columns:
    """How large one segment was in each period.

    Attributes
    ----------
    name : str
    counts : list of int or None
        None: the segment was not there.
    bars : list of (float, float, float, float, str)
        Left, top, width, height and text of a column.
    first, last : int
        Of the periods that have it.
    change : float or None
        From the first to the last, as a share of the first; None of fewer than two.
    words : str
    """

    name: str
    counts: list[int | None]
    bars: list[tuple[float, float, float, float, str]]
    first: int
    last: int
    change: float | None
    words: str


def sizes_over_time(
    periods: Sequence[BoardPeriod], axis: str, *, width: float = 160, height: float = 44
) -> list[Columns]:
    """Return a row of columns per segment of an axis, the largest of late first.

    Parameters
    ----------
    periods : sequence of BoardPeriod
    axis : str
        Name of an axis; ``state`` gives the states of the life cycle.
    width, height : float
        Of one segment's drawing. Each has a scale of its own, from 0.
    """
    told = _told(periods, axis)
    names = dict.fromkeys(name for _, sizes in reversed(told) for name in sizes)
    drawn = [_columns(name, told, width, height) for name in names]
    return sorted(drawn, key=lambda c: (-(c.counts[-1] or 0), -c.last))


def periods_of(periods: Sequence[BoardPeriod], axis: str) -> list[str]:
    """Return the periods that tell an axis' sizes."""
    return [label for label, _ in _told(periods, axis)]


def _told(
    periods: Sequence[BoardPeriod], axis: str
) -> list[tuple[str, Mapping[str, int]]]:
    """Return label and sizes of the periods that tell any of an axis."""
    told = [
        (
            period.label,
            period.sizes.get(axis) or (period.states if axis == "state" else {}),
        )
        for period in periods
    ]
    return [(label, sizes) for label, sizes in told if sizes]


def _columns(
    name: str,
    told: Sequence[tuple[str, Mapping[str, int]]],
    width: float,
    height: float,
) -> Columns:
    counts = [sizes.get(name) for _, sizes in told]
    step = min(width / len(counts), 28.0)
    gap = min(step * 0.2, 2.0)
    known = [n for n in counts if n is not None]
    scale = height / (max(known) or 1)
    bars = [
        (
            round(step * place, 2),
            round(height - max(n * scale, 0.6), 2),
            round(min(step - gap, 24.0), 2),
            round(max(n * scale, 0.6), 2),
            f"{label}: {count(n)}",
        )
        for place, ((label, _), n) in enumerate(zip(told, counts, strict=True))
        if n is not None
    ]
    first, last = known[0], known[-1]
    is_told = len(known) > 1 and bool(first)
    change = last / first - 1 if is_told else None
    words = (
        f"{spoken(name)}: {count(first)} in {told[0][0]}, {count(last)} in "
        f"{told[-1][0]}, most {count(max(known))}"
    )
    return Columns(name, counts, bars, first, last, change, words)


@dataclass(frozen=True)
class Node:
    """A segment on one side of a flow chart: its bar; name and size in lines."""

    y: float
    height: float
    slot: float
    lines: list[str]


@dataclass(frozen=True)
class Ribbon:
    """Entities that went from one bar to another."""

    path: str
    text: str
    stays: bool


@dataclass(frozen=True)
class Flows:
    """Who went where in one period, from the left to the right.

    Attributes
    ----------
    period : str
    width, height : float
        Of the drawing.
    bar : (float, float)
        Left ends of the bars of both sides; they are 8 wide.
    before, after : list of Node
    ribbons : list of Ribbon
    rows : list of (str, str, int)
        Old, new and number of those that moved, the most first.
    words : str
    """

    period: str
    width: float
    height: float
    bar: tuple[float, float]
    before: list[Node]
    after: list[Node]
    ribbons: list[Ribbon]
    rows: list[tuple[str, str, int]]
    words: str


WIDTH = 340.0
# All bars of one side together; gaps come on top.
_BARS_HEIGHT = 200.0
_BAR = 8.0
_TEXT = 108.0
_LINE = 14.0
_LEAST = 3.0


def flow_periods(flows: Iterable[BoardFlow], kind: str) -> list[str]:
    """Return the periods that tell of an axis' flows, the newest first."""
    return sorted({flow.period for flow in flows if flow.kind == kind}, reverse=True)


def n_moved(flows: Iterable[BoardFlow], kind: str, period: str) -> int:
    """Return how many entities an axis' flows of one period tell of as moved."""
    told = (flow for flow in flows if (flow.kind, flow.period) == (kind, period))
    return sum(flow.n for flow in told if flow.old != flow.new)


def flow_chart(
    flows: Iterable[BoardFlow], kind: str, period: str, entities: str
) -> Flows | None:
    """Return who went where on an axis in one period, or None if nobody is told of.

    Parameters
    ----------
    flows : iterable of BoardFlow
    kind : str
        The axis; ``state`` for the life cycle.
    period : str
    entities : str
        Plural word.
    """
    told: Counter[tuple[str, str]] = Counter()
    for flow in flows:
        if flow.kind == kind and flow.period == period:
            told[spoken(flow.old) or ABSENT, spoken(flow.new) or ABSENT] += flow.n
    told = +told
    if not told:
        return None
    moved = [(old, new, n) for (old, new), n in told.most_common() if old != new]
    largest = ", ".join(f"{count(n)} from {old} to {new}" for old, new, n in moved[:3])
    words = f"{period}: {count(sum(n for *_, n in moved))} {entities} moved" + (
        f"; the most: {largest}" if largest else ""
    )
    before, after, ribbons = _laid_out(_few(told))
    height = max(node.y + node.slot for node in (*before, *after))
    return Flows(
        period,
        WIDTH,
        height,
        (_TEXT, WIDTH - _TEXT - _BAR),
        before,
        after,
        ribbons,
        moved,
        words,
    )


def _few(told: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Put the smallest segments together, so that each that is drawn can be read."""
    sizes: Counter[str] = Counter()
    for (old, new), n in told.items():
        sizes[old] += n
        sizes[new] += n
    if len(sizes) <= MAX_NODES:
        return told
    kept = {name for name, _ in sizes.most_common(MAX_NODES - 1)}
    few: Counter[tuple[str, str]] = Counter()
    for (old, new), n in told.items():
        few[old if old in kept else OTHERS, new if new in kept else OTHERS] += n
    return few


def _laid_out(
    told: Counter[tuple[str, str]],
) -> tuple[list[Node], list[Node], list[Ribbon]]:
    before, after = Counter[str](), Counter[str]()
    for (old, new), n in told.items():
        before[old] += n
        after[new] += n
    # One order for both sides: who stays goes straight on.
    order = [name for name, _ in (before + after).most_common()]
    scale = _BARS_HEIGHT / told.total()
    left = _stacked([name for name in order if name in before], before, scale)
    right = _stacked([name for name in order if name in after], after, scale)
    used_left, used_right = Counter[str](), Counter[str]()
    ribbons = []
    for old in order:
        for new in order:
            if not (n := told[old, new]):
                continue
            thick = n * scale
            y0 = left[old].y + used_left[old] * scale
            y1 = right[new].y + used_right[new] * scale
            used_left[old] += n
            used_right[new] += n
            text = f"{old} \N{RIGHTWARDS ARROW} {new}: {count(n)}"
            ribbons.append(Ribbon(_band(y0, y1, thick), text, old == new))
    ribbons.sort(key=lambda ribbon: not ribbon.stays)
    return list(left.values()), list(right.values()), ribbons


def _stacked(
    names: Sequence[str], sizes: Mapping[str, int], scale: float
) -> dict[str, Node]:
    nodes, y = {}, 0.0
    for name in names:
        height = max(sizes[name] * scale, _LEAST)
        lines = textwrap.wrap(
            name, 16, max_lines=2, placeholder="\N{HORIZONTAL ELLIPSIS}"
        )
        lines.append(count(sizes[name]))
        slot = max(height, _LINE * len(lines))
        nodes[name] = Node(round(y, 1), round(height, 1), round(slot, 1), lines)
        y += slot + 8
    return nodes


def _band(y0: float, y1: float, thick: float) -> str:
    """Return the path of a ribbon between two bars."""
    x0, x1 = _TEXT + _BAR, WIDTH - _TEXT - _BAR
    middle = (x0 + x1) / 2
    thick = max(thick, 0.8)
    there = f"C{middle:.0f} {y0:.1f} {middle:.0f} {y1:.1f} {x1:.0f} {y1:.1f}"
    y0, y1 = y0 + thick, y1 + thick
    back = f"C{middle:.0f} {y1:.1f} {middle:.0f} {y0:.1f} {x0:.0f} {y0:.1f}"
    return f"M{x0:.0f} {y0 - thick:.1f}{there}V{y1:.1f}{back}Z"
