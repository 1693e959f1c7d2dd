"""A rule set as an outline: what several segments ask is said once, above them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from core.rules.conditions import EVERYONE, And, Node
from core.rules.grammar import FIRST, RuleSegment, RuleSet


@dataclass(frozen=True)
class OutlineNode:
    """One line of an outline.

    Attributes
    ----------
    condition : str
        What is asked here, on top of what is asked above.
    name : str
        The segment that this leads to, or the band that begins here; else empty.
    description : str
        Of that segment or band.
    n : int or None
        Customers who come this far; None where nobody was counted.
    children : tuple of OutlineNode
        Empty for a segment.
    """

    condition: str
    name: str
    description: str
    n: int | None
    children: tuple[OutlineNode, ...] = ()


_T = TypeVar("_T")
_K = TypeVar("_K")
_Row = tuple[tuple[str, ...], RuleSegment]


def outline(
    rules: RuleSet, counts: Mapping[str, int] | None = None
) -> tuple[OutlineNode, ...]:
    """Return the rules as an outline.

    Parameters
    ----------
    rules : RuleSet
    counts : mapping of segment to int, optional
        Customers in it; segments that it lacks have none.

    Returns
    -------
    tuple of OutlineNode
        The bands, then segments without one. Where the first rule that holds decides,
        segments keep their order, else those that ask the same stand together.
    """
    nodes: list[OutlineNode] = []
    is_ordered = rules.match == FIRST
    bands = {band.name: band for band in rules.bands}
    for name, own in _grouped(rules.segments, lambda s: s.band, is_ordered=is_ordered):
        rows = [(_asked(rules.filled(s.when)), s) for s in own]
        children = _nested(rows, counts, is_ordered=is_ordered)
        if name is None:
            nodes += children
            continue
        band = bands[name]
        condition = rules.filled(band.when).text()
        n = _sum(children)
        nodes.append(
            OutlineNode(condition, band.name, band.description, n, tuple(children))
        )
    return tuple(nodes)


def _asked(condition: Node) -> tuple[str, ...]:
    """Return what a condition asks, one text for each part of it."""
    parts = condition.all if isinstance(condition, And) else (condition,)
    return tuple(And((part,)).text() for part in parts)


def _nested(
    rows: Sequence[_Row], counts: Mapping[str, int] | None, *, is_ordered: bool
) -> list[OutlineNode]:
    """Return a node for each first part, with the rest below."""
    nodes = []
    for first, own in _grouped(rows, lambda row: row[0][:1], is_ordered=is_ordered):
        if len(own) == 1 or not first:
            nodes += [_segment(asked, segment, counts) for asked, segment in own]
            continue
        rest = [(asked[1:], segment) for asked, segment in own]
        children = _nested(rest, counts, is_ordered=is_ordered)
        if len(children) == 1:
            [child] = children
            joined = f"{first[0]} and {child.condition}"
            nodes.append(replace(child, condition=joined))
        else:
            nodes.append(OutlineNode(first[0], "", "", _sum(children), tuple(children)))
    return nodes


def _segment(
    asked: Sequence[str], segment: RuleSegment, counts: Mapping[str, int] | None
) -> OutlineNode:
    n = None if counts is None else counts.get(segment.name, 0)
    condition = " and ".join(asked) or EVERYONE
    return OutlineNode(condition, segment.name, segment.description, n)


def _sum(nodes: Iterable[OutlineNode]) -> int | None:
    counted = [node.n for node in nodes if node.n is not None]
    return sum(counted) if counted else None


def _grouped(
    items: Iterable[_T], key: Callable[[_T], _K], *, is_ordered: bool
) -> Iterator[tuple[_K, list[_T]]]:
    """Yield items by key, all of a key together; if ordered, neighbours only."""
    if is_ordered:
        yield from ((k, list(own)) for k, own in itertools.groupby(items, key))
        return
    groups: dict[_K, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    yield from groups.items()
