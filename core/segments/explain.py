"""Why an entity is in its segment, and the smallest change that would move it.

From where the entity stands, straight lines lead along one feature, or two, to the ends
of what has been observed. Every line is walked in steps; where the answer changes, the
place is narrowed down by halving. A change is a possible one as far as this can be
seen: each value has been seen among the entities, and the months of a year still
average to what they did. The links between other features are not kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.display import Displayed, Shown
from core.errors import ModelError
from core.segments.profiles import robust_spread

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
# From features, shape (n_rows, n_features), to segments, -1 for none.
Assign = Callable[[FloatArray], IntArray]

STEPS = 32
STEPS_OF_PAIRS = 12
HALVINGS = 24
_RATIOS = ((1.0, 1.0), (2.0, 1.0), (1.0, 2.0))
_YEAR = "log_season_month_"
UNASSIGNED = -1


@dataclass(frozen=True)
class SearchBounds:
    """Bounds of the search: observed ranges and spreads of the features.

    Attributes
    ----------
    features : sequence of str
    low, high : ndarray of shape (n_features,)
        Smallest and largest value among the entities; NaN where never known.
    spread : ndarray of shape (n_features,)
        What counts as a step of 1 (a robust standard deviation); 0 where a feature
        does not vary, which is then left alone.
    is_whole : ndarray of bool, shape (n_features,)
        Features of which only whole numbers were seen.
    fixed : frozenset of str
        Features that no change moves.
    """

    features: Sequence[str]
    low: FloatArray
    high: FloatArray
    spread: FloatArray
    is_whole: NDArray[np.bool_]
    fixed: frozenset[str] = frozenset()

    @property
    def year(self) -> IntArray:
        """Columns that are the months of one year."""
        found = [i for i, f in enumerate(self.features) if f.startswith(_YEAR)]
        return np.array(found if len(found) > 1 else [], dtype=np.int64)

    def size(self, start: FloatArray, ends: FloatArray) -> FloatArray:
        """Return how far rows lie from a start, in spreads (Euclidean)."""
        scale = np.where(self.spread > 0, self.spread, 1.0)
        steps = np.nan_to_num((ends - start) / scale)
        return np.asarray(np.sqrt((steps**2).sum(axis=-1)))


def search_bounds(
    table: FloatArray, features: Sequence[str], fixed: Collection[str] = ()
) -> SearchBounds:
    """Return the bounds that a table of entities sets for changes.

    Parameters
    ----------
    table : ndarray of float64, shape (n_entities, n_features)
        NaN is unknown.
    features : sequence of str
    fixed : collection of str
        Features that no change moves.
    """
    columns = [column[~np.isnan(column)] for column in table.T]
    low = np.array([c.min() if len(c) else np.nan for c in columns])
    high = np.array([c.max() if len(c) else np.nan for c in columns])
    is_whole = np.array([bool(len(c)) and not (c % 1).any() for c in columns])
    spread = np.array([robust_spread(np.sort(c)) for c in columns])
    return SearchBounds(list(features), low, high, spread, is_whole, frozenset(fixed))


@dataclass(frozen=True)
class Change:
    """A change that moves an entity, checked by the assigner.

    Attributes
    ----------
    values : ndarray of shape (n_features,)
        All features after it.
    columns : tuple of int
        The features that were changed on purpose, one or two; months of a year that
        gave way are not among them.
    segment : int
        Where the entity would be; -1: in none.
    size : float
        In robust standard deviations of the entities.
    """

    values: FloatArray
    columns: tuple[int, ...]
    segment: int
    size: float


@dataclass(frozen=True)
class _Ray:
    """A line: `columns` move by `steps` (in spreads) times t, for t from 0 to `end`."""

    columns: tuple[int, ...]
    steps: tuple[float, ...]
    end: float


def smallest_change(
    start: FloatArray,
    own: int,
    assign: Assign,
    bounds: SearchBounds,
    is_to_segment: bool,
) -> Change | None:
    """Search the smallest change that moves an entity: of one feature, else of two.

    Parameters
    ----------
    start : ndarray of shape (n_features,)
        The entity; what is unknown (NaN) stays unknown.
    own : int
        Its segment now.
    assign : callable
        The real assigner.
    bounds : SearchBounds
    is_to_segment : bool
        True: into another segment. False: out of its own, wherever to.

    Returns
    -------
    Change or None
        None where no line within the observed range leads out. Equally small changes
        go by the order of the features.
    """

    def is_moved(labels: IntArray) -> NDArray[np.bool_]:
        moved = np.asarray(labels != own)
        return moved & (labels != UNASSIGNED) if is_to_segment else moved

    for rays, n_steps in (
        (list(_single_rays(start, bounds)), STEPS),
        (list(_pair_rays(start, bounds)), STEPS_OF_PAIRS),
    ):
        found = _walk(start, rays, n_steps, assign, is_moved, bounds)
        if found is not None:
            return found
    return None


def _walk(
    start: FloatArray,
    rays: list[_Ray],
    n_steps: int,
    assign: Assign,
    is_moved: Callable[[IntArray], NDArray[np.bool_]],
    bounds: SearchBounds,
) -> Change | None:
    """Walk all lines at once, narrow the first hits down, and take the nearest."""
    if not rays:
        return None
    times = np.array([[ray.end] for ray in rays]) * np.arange(1, n_steps + 1) / n_steps
    rows, is_possible = _points(start, rays, times, bounds)
    hits = (is_moved(assign(rows)) & is_possible).reshape(times.shape)
    hit = np.flatnonzero(hits.any(axis=1))
    if not len(hit):
        return None
    first = hits[hit].argmax(axis=1)
    kept = [rays[i] for i in hit]
    far = times[hit, first]
    near = np.where(first > 0, times[hit, np.maximum(first - 1, 0)], 0.0)
    for _ in range(HALVINGS):
        middle = (near + far) / 2
        rows, is_possible = _points(start, kept, middle[:, None], bounds)
        moved = is_moved(assign(rows)) & is_possible
        far, near = np.where(moved, middle, far), np.where(moved, near, middle)
    rows, _ = _points(start, kept, far[:, None], bounds)
    best = int(np.round(bounds.size(start, rows), 9).argmin())
    return _rounded(start, kept[best], rows[best], assign, is_moved, bounds)


def _rounded(
    start: FloatArray,
    ray: _Ray,
    end: FloatArray,
    assign: Assign,
    is_moved: Callable[[IntArray], NDArray[np.bool_]],
    bounds: SearchBounds,
) -> Change:
    """Round a change up to the fewest digits, from 3 on, that the assigner confirms."""
    columns = list(ray.columns)
    candidates = [
        [_outward(start[c], end[c], digits) for c in columns] for digits in range(3, 9)
    ]
    candidates.append([float(end[c]) for c in columns])
    rows = _changed(start, columns, np.array(candidates), bounds)
    rows[-1] = end
    labels = assign(rows)
    is_fine = is_moved(labels) & _is_within(rows, start, bounds)
    place = int(is_fine.argmax()) if is_fine.any() else len(rows) - 1
    size = float(bounds.size(start, rows[place]))
    return Change(rows[place], ray.columns, int(labels[place]), size)


def _outward(start: float, end: float, digits: int) -> float:
    """Round `end` to significant digits, away from `start`."""
    if end in {start, 0.0}:
        return end
    unit = 10.0 ** (int(np.floor(np.log10(abs(end)))) - digits + 1)
    steps = end / unit
    whole = np.ceil(steps - 1e-9) if end > start else np.floor(steps + 1e-9)
    return float(f"{whole * unit:.12g}")


def _single_rays(start: FloatArray, bounds: SearchBounds) -> Iterator[_Ray]:
    """Yield the lines along one feature, up and down."""
    for column in _movable(start, bounds):
        for sign in (1.0, -1.0):
            end = _reach(start, column, sign, bounds)
            if end > 0:
                yield _Ray((column,), (sign,), end)


def _pair_rays(start: FloatArray, bounds: SearchBounds) -> Iterator[_Ray]:
    """Yield the lines along two features, in three proportions and all directions."""
    for pair in itertools.combinations(_movable(start, bounds), 2):
        for signs in itertools.product((1.0, -1.0), repeat=2):
            for ratio in _RATIOS:
                steps = tuple(s * r for s, r in zip(signs, ratio, strict=True))
                end = min(
                    _reach(start, column, step, bounds)
                    for column, step in zip(pair, steps, strict=True)
                )
                if end > 0:
                    yield _Ray(pair, steps, end)


def _movable(start: FloatArray, bounds: SearchBounds) -> list[int]:
    """Return the features that are known of this entity and vary among the entities."""
    known = ~np.isnan(start) & (bounds.spread > 0)
    columns = [int(column) for column in np.flatnonzero(known)]
    return [c for c in columns if bounds.features[c] not in bounds.fixed]


def _reach(start: FloatArray, column: int, step: float, bounds: SearchBounds) -> float:
    """Return how far a line goes until it leaves what has been observed."""
    bound = bounds.high[column] if step > 0 else bounds.low[column]
    return float((bound - start[column]) / (step * bounds.spread[column]))


def _points(
    start: FloatArray, rays: Sequence[_Ray], times: FloatArray, bounds: SearchBounds
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return lines' rows at times (n_rays, n), and which of them are possible."""
    blocks = []
    for ray, own_times in zip(rays, times, strict=True):
        columns = list(ray.columns)
        steps = np.array(ray.steps) * bounds.spread[columns]
        to = start[columns] + own_times[:, None] * steps
        blocks.append(_changed(start, columns, to, bounds))
    rows = np.concatenate(blocks)
    return rows, _is_within(rows, start, bounds)


def _changed(
    start: FloatArray, columns: list[int], to: FloatArray, bounds: SearchBounds
) -> FloatArray:
    """Set features to new values (n, n_columns); other months of a year give way."""
    rows = np.tile(start, (len(to), 1))
    rows[:, columns] = np.where(bounds.is_whole[columns], np.round(to), to)
    year = bounds.year
    moved = [c for c in columns if c in year]
    others = np.array([c for c in year if c not in columns], dtype=np.int64)
    if moved and len(others):
        gained = (rows[:, moved] - start[moved]).sum(axis=1)
        rows[:, others] = start[others] - (gained / len(others))[:, None]
    return rows


def _is_within(
    rows: FloatArray, start: FloatArray, bounds: SearchBounds
) -> NDArray[np.bool_]:
    """Whether rows stay in what has been observed, as far as they were moved."""
    slack = 1e-9 * np.where(bounds.spread > 0, bounds.spread, 1.0)
    with np.errstate(invalid="ignore"):
        is_in = (rows >= bounds.low - slack) & (rows <= bounds.high + slack)
    is_unmoved = (rows == start) | np.isnan(rows)
    return np.asarray((is_in | is_unmoved).all(axis=1))


N_REASONS = 5
# The typical range of a segment holds the middle 80% of its entities.
_TYPICAL = (0.1, 0.5, 0.9)
# In robust standard deviations: less speaks for nobody.
_LEAST_WEIGHT = 0.1


@dataclass(frozen=True)
class Reason:
    """A feature that speaks for one segment against another.

    Attributes
    ----------
    feature, value : str, float
        The entity's own.
    median, low, high : float
        The middle and the range (80%) of the segment that it speaks for; of a feature
        that no change moves, an indicator, the share of its entities three times.
    other_median : float
        The middle, or that share, of the segment that it speaks against.
    weight : float
        How much nearer the entity is to the one middle than to the other, in robust
        standard deviations of all entities.
    """

    feature: str
    value: float
    median: float
    low: float
    high: float
    other_median: float
    weight: float


@dataclass(frozen=True)
class Move:
    """A change in words and figures.

    Attributes
    ----------
    features : list of dict
        ``feature, before, after`` of those that were changed on purpose, one or two.
    gives_way : dict of str to float
        The other months of the year afterwards, where a month was changed.
    segment : int
        Where the entity would be; -1: in none.
    segment_name : str
    size : float
        In robust standard deviations of the entities.
    """

    features: list[dict[str, Any]]
    gives_way: dict[str, float]
    segment: int
    segment_name: str
    size: float


@dataclass(frozen=True, repr=False)
class Explanation(Displayed):
    """Why one entity is in its segment, and what would move it.

    Attributes
    ----------
    entity_id : str
    segment, segment_name, segment_kind : int, str, str
        -1 is in no segment.
    sub_segment, sub_segment_name : str or None
        Where inside its segment; None where that is not divided.
    runner_up, runner_up_name : int or None, str or None
        The nearest other segment; None where there is no other.
    distance : float or None
        To the runner-up, in the space of the assigner.
    reasons : list of Reason
        For its segment against the runner-up, the weightiest first; of an entity in no
        segment: against the runner-up, that is, what keeps it out.
    to_another : Move or None
        The smallest change found that moves the entity into another segment.
    out : Move or None
        A smaller one that takes it out of its segment, into none.
    """

    entity_id: str
    segment: int
    segment_name: str
    segment_kind: str
    sub_segment: str | None
    sub_segment_name: str | None
    runner_up: int | None
    runner_up_name: str | None
    distance: float | None
    reasons: list[Reason]
    to_another: Move | None
    out: Move | None

    def facts(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)

    def _shown(self) -> Shown:
        facts = {
            "entity_id": self.entity_id,
            "segment_name": self.segment_name,
            "runner_up_name": self.runner_up_name,
        }
        rows = [
            {
                name: f"{x:,.3g}" if isinstance(x, float) else x
                for name, x in own.items()
            }
            for own in map(asdict, self.reasons)
        ]
        return Shown(facts, rows)


def explain(
    entity_id: str,
    start: FloatArray,
    placed: Mapping[str, Any],
    table: FloatArray,
    segments: IntArray,
    features: Sequence[str],
    names: Mapping[int, str],
    assign: Assign,
    fixed: Collection[str] = (),
) -> Explanation:
    """Explain why an entity is in its segment, and what would move it.

    Parameters
    ----------
    entity_id : str
    start : ndarray of shape (n_features,)
        Its features; NaN is unknown.
    placed : mapping
        What the assigner says of it: ``segment, segment_kind, nearest_segment`` (or
        None), ``distance``; ``sub_segment, sub_segment_name`` if it knows any.
    table : ndarray of shape (n_entities, n_features)
        Features of the entities to compare with, the entity among them.
    segments : ndarray of int, shape (n_entities,)
        Their segments; -1 is none.
    features : sequence of str
    names : mapping of segment to name
    assign : callable
        The real assigner, from features to segments.
    fixed : collection of str
        Features that no change moves, such as the indicators of a category.

    Raises
    ------
    ModelError
        If the assigner does not confirm ``placed``: then it is another one.
    """
    own, runner_up = int(placed["segment"]), placed["nearest_segment"]
    if int(assign(start[None, :])[0]) != own:
        raise ModelError(
            f"the assigner does not put `{entity_id}` into segment {own}; expected the "
            "assigner that did."
        )
    bounds = search_bounds(table, features, fixed)
    to_another = smallest_change(start, own, assign, bounds, is_to_segment=True)
    out = None
    if own != UNASSIGNED and UNASSIGNED in names:
        out = smallest_change(start, own, assign, bounds, is_to_segment=False)
        if out is not None and out.segment != UNASSIGNED:
            out = None
    if out is not None and to_another is not None and out.size >= to_another.size:
        out = None
    return Explanation(
        entity_id=entity_id,
        segment=own,
        segment_name=names[own],
        segment_kind=str(placed["segment_kind"]),
        sub_segment=placed.get("sub_segment"),
        sub_segment_name=placed.get("sub_segment_name"),
        runner_up=runner_up,
        runner_up_name=None if runner_up is None else names[runner_up],
        distance=placed["distance"],
        reasons=_reasons(start, own, runner_up, table, segments, bounds),
        to_another=_move(to_another, start, bounds, names),
        out=_move(out, start, bounds, names),
    )


def _reasons(
    start: FloatArray,
    own: int,
    runner_up: int | None,
    table: FloatArray,
    segments: IntArray,
    bounds: SearchBounds,
) -> list[Reason]:
    """Return the features that speak most for one segment against another.

    For an entity in none they speak against the nearest, which has no middle to be
    nearer to: there the distance from the nearest one's middle counts.
    """
    is_in = own != UNASSIGNED
    told = own if is_in else runner_up
    if told is None:
        return []
    other = (segments == runner_up) if is_in and runner_up is not None else None
    found = []
    for column, feature in enumerate(bounds.features):
        value, values = start[column], table[:, column]
        members = _known(values[segments == told])
        rest = _known(values[other] if other is not None else values[segments != told])
        if np.isnan(value) or not len(members) or not len(rest):
            continue
        if feature in bounds.fixed:
            low = median = high = members.mean()
            against = float(rest.mean())
        else:
            low, median, high = np.quantile(members, _TYPICAL)
            against = float(np.median(rest))
        weight = abs(value - median)
        if is_in:
            weight = abs(value - against) - weight
        weight /= bounds.spread[column] or np.inf
        numbers = (value, median, low, high, against, weight)
        found.append(Reason(feature, *(float(number) for number in numbers)))
    found.sort(key=lambda reason: -round(reason.weight, 9))
    return [reason for reason in found[:N_REASONS] if reason.weight > _LEAST_WEIGHT]


def _known(values: FloatArray) -> FloatArray:
    return values[~np.isnan(values)]


def _move(
    change: Change | None,
    start: FloatArray,
    bounds: SearchBounds,
    names: Mapping[int, str],
) -> Move | None:
    """Put a change into words and figures."""
    if change is None:
        return None
    changed = [
        {
            "feature": bounds.features[column],
            "before": float(start[column]),
            "after": float(change.values[column]),
        }
        for column in change.columns
    ]
    given = {
        bounds.features[column]: float(change.values[column])
        for column in bounds.year
        if column not in change.columns and change.values[column] != start[column]
    }
    name = names[change.segment]
    return Move(changed, given, change.segment, name, change.size)
