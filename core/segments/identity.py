"""Which segments of a new model are those of the old one: survived, split, born.

The old and the new model both label the same rows, and what is compared is who is with
whom. Numbers that a clusterer deals out play no part, nor does the order of the rows.

The kinds of change are those of MONIC (Spiliopoulou, Ntoutsi, Theodoridis and Schult,
"MONIC: modeling and monitoring cluster transitions", KDD 2006). What differs:

- MONIC compares records of two periods, weighted by age, of which only those can be
  shared that have not aged away. Here both models label the same rows, so all can.
- Its overlap is a share of the old cluster, and a cluster survives in each that holds
  enough of it. An id can live on in one segment only, so the Jaccard index is used,
  which is the same from both sides, and the pairs are one to one (Hungarian method).
- Rows that either model leaves unassigned count neither for nor against survival: a
  segment that only grew into the unassigned, or withdrew from them, is still itself.
  The index over all rows, a weaker one being asked of it, keeps that within bounds.
- A merged segment keeps the id of its largest contributor, and the largest part of a
  split one keeps its id; MONIC has no identity beyond survival.
- Rows that have gone altogether have no label. What they leave of a segment, such as a
  few entities at its border that go on when all others have closed, falls to a
  neighbour, and by MONIC's overlap the segment would be absorbed. Its size when it was
  learnt tells that it ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from core.errors import ModelError

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
NONE = -1
"""Label of a row that a model puts into no segment."""
# A share that is a threshold exactly must not fail by the last bit of a division.
SLACK = 1e-9


@dataclass(frozen=True)
class Overlap:
    """Counts of rows shared by old and new segments, the new ones in a fixed order.

    Attributes
    ----------
    old : list of int
        Ids, ascending.
    clusters : list of int
        Largest first; equal ones by what they share with the old ones, in the order of
        those. So neither numbers nor rows decide what follows.
    counts : ndarray of int, shape (n_old + 1, n_new + 1)
        Rows; the last row and the last column are those without a segment.
    """

    old: list[int]
    clusters: list[int]
    counts: IntArray

    @classmethod
    def of(
        cls,
        old: npt.NDArray[np.integer],
        new: npt.NDArray[np.integer],
        known: Sequence[int],
        entities: Sequence[str] | None = None,
        n_new: int = 0,
    ) -> Self:
        """Count two labels of the same rows.

        Parameters
        ----------
        old, new, known, entities
            As for `core.segments.identity.match_segments`.
        n_new : int
            New segments, those included that no row has.
        """
        ids = sorted({*(int(i) for i in np.unique(old)), *known} - {NONE})
        n_new = max(int(new.max(initial=NONE)) + 1, n_new)
        row = np.searchsorted(np.array(ids, dtype=np.int64), old)
        row = np.where(old == NONE, len(ids), row)
        column = np.where(new == NONE, n_new, new)
        shape = (len(ids) + 1, n_new + 1)
        cells = np.bincount(row * shape[1] + column, minlength=shape[0] * shape[1])
        counts = cells.reshape(shape)
        places = np.arange(len(new))
        if entities is not None:
            places = np.argsort(np.argsort(np.asarray(entities, dtype=np.str_)))
        first = np.full(n_new + 1, len(new))
        np.minimum.at(first, column, places)

        def key(cluster: int) -> tuple[int, ...]:
            own = counts[:, cluster]
            return (-int(own.sum()), *(-own).tolist(), int(first[cluster]))

        order = sorted(range(n_new), key=key)
        return cls(ids, order, counts[:, [*order, n_new]].astype(np.int64))

    @property
    def shared(self) -> IntArray:
        """Rows by old and new segment."""
        return self.counts[:-1, :-1]

    @property
    def n_old(self) -> IntArray:
        """Members of each old segment."""
        return np.asarray(self.counts[:-1].sum(axis=1))

    @property
    def n_new(self) -> IntArray:
        """Members of each new segment."""
        return np.asarray(self.counts[:, :-1].sum(axis=0))


def survives(
    ids: Sequence[int],
    counts: IntArray,
    trained: Mapping[int, int],
    n_rows: int,
    part: float,
) -> BoolArray:
    """Say of each segment whether `part` of the members it was learnt with are left.

    Parameters
    ----------
    ids : sequence of int
    counts : ndarray of int, shape (n_segments,)
        Members now.
    trained : mapping of int to int
        Members when it was learnt, by id, and the rows of no segment under -1. Of one
        that is not in it, nobody is missing.
    n_rows : int
        Rows now. Where they are fewer than those learnt from, as many fewer are
        expected of each segment; more rows make no segment larger.
    part : float, in (0, 1)
    """
    then = np.array([trained.get(i, 0) for i in ids], dtype=np.float64)
    expected = then * min(n_rows / max(sum(trained.values()), 1), 1.0)
    return np.asarray(counts >= part * expected - SLACK)


FloatArray = npt.NDArray[np.float64]
Kind = Literal["survived", "split", "merged", "born", "died"]
KINDS: tuple[Kind, ...] = ("survived", "split", "merged", "born", "died")


class IdentityEvent(BaseModel):
    """A change of segments between two models, counted on rows that both label.

    Attributes
    ----------
    kind : {'survived', 'split', 'merged', 'born', 'died'}
    old, new : tuple of int
        Ids before and after, those with the most shared members first. Of a born
        segment, `old` is where most of its members came from; of one that died, `new`
        is where most of them went: an id, -1 for the unassigned, or nothing where it
        had no member.
    n_old, n_new : int
        Members of all of `old`, and of all of `new`.
    n_shared : int
        Members of both.
    jaccard : float or None
        Jaccard index of `old` and `new`, each taken together, over the rows that both
        models assign, 0 to 1; None of a birth or a death.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Kind
    old: tuple[int, ...]
    new: tuple[int, ...]
    n_old: int = Field(ge=0)
    n_new: int = Field(ge=0)
    n_shared: int = Field(ge=0)
    jaccard: float | None = Field(default=None, ge=0.0, le=1.0)


@dataclass(frozen=True)
class Identity:
    """The ids of a new model's segments.

    Attributes
    ----------
    ids : dict of int to int
        By cluster, ascending.
    events : tuple of IdentityEvent
        Every old and every new segment is in at least one; by kind, then by id.
    next_id : int
        The first id that was never given out.
    """

    ids: dict[int, int]
    events: tuple[IdentityEvent, ...]
    next_id: int


def match_segments(
    old: npt.NDArray[np.integer],
    new: npt.NDArray[np.integer],
    *,
    next_id: int,
    survived: float = 0.7,
    part: float = 0.3,
    known: Sequence[int] = (),
    entities: Sequence[str] | None = None,
    trained: Mapping[int, int] | None = None,
) -> Identity:
    """Give a new model's segments the ids of the old ones that they continue.

    Parameters
    ----------
    old : ndarray of int, shape (n_rows,)
        Ids that the old model gives the rows; -1 is none.
    new : ndarray of int, shape (n_rows,)
        Clusters of the new model, from 0, for the same rows; -1 is none.
    next_id : int
        First id that was never given out, above every old one.
    survived : float, in (0.5, 1]
        Jaccard index from which a segment is the same one.
    part : float, in (0, 0.5)
        Share from which a segment is part of a split or a merger, and the Jaccard index
        over all rows that is asked of a survivor.
    known : sequence of int
        The old model's ids, those included that no row has.
    entities : sequence of str, optional
        What each row is about. New segments that no count tells apart are then ordered
        by the first of these among their members. None: by their first row, which makes
        the order of rows count in that one case.
    trained : mapping of int to int, optional
        Rows that each old segment was learnt with, by id, and those of no segment under
        -1. Where there are fewer rows now than then, as many fewer are expected of
        each. None: nobody is known to have gone.

    Returns
    -------
    Identity

        A new segment *survived* as an old one where the Jaccard index over rows that
        both assign is at least `survived`, and over all rows at least `part`. An old
        one *split* where at least two new ones each hold `part` of its assigned members
        and come mostly (above one half) from it. Old ones *merged* where at least two
        each give `part` of a new one's assigned members and go mostly there, or go
        there with `survived` of their own; the latter only of those that still have
        `part` of the members they were learnt with, the others having ended before.
        These together must make up `part` of it. Any other new segment was *born*, any
        other old one *died*.

    Raises
    ------
    ModelError
        For labels of different lengths, or an old id that is not below `next_id`.
    """
    _check(old, new, next_id, known)
    overlap = Overlap.of(old, new, known, entities)
    remains = survives(overlap.old, overlap.n_old, trained or {}, len(new), part)
    is_same, is_part, is_given = _relations(overlap, remains, survived, part)
    heirs = _heirs(overlap, is_same, is_part, is_given)
    ids = []
    for column in range(len(overlap.clusters)):
        if column in heirs:
            ids.append(overlap.old[heirs[column]])
        else:
            ids.append(next_id)
            next_id += 1
    events = _events(overlap, ids, heirs, is_part, is_given)
    by_cluster = dict(sorted(zip(overlap.clusters, ids, strict=True)))
    return Identity(by_cluster, tuple(events), next_id)


def match_names(
    old: npt.NDArray[np.integer],
    new: npt.NDArray[np.integer],
    *,
    names: Sequence[str],
    known: Mapping[str, int],
    next_id: int,
) -> Identity:
    """Give the segments of a new rule set the ids of the old ones of the same name.

    A rule may change and its segment stays the same one, as long as its name does. A
    name that is new, or comes back, gets an id that was never given out.

    Parameters
    ----------
    old : ndarray of int, shape (n_rows,)
        Ids that the old rules give the rows; -1 is none.
    new : ndarray of int, shape (n_rows,)
        Places in `names` for the same rows; -1 is none.
    names : sequence of str
        Of the new segments, each once.
    known : mapping of str to int
        Ids of the old segments by name.
    next_id : int
        First id that was never given out, above every old one.

    Returns
    -------
    Identity
        Each segment has survived, was born or has died.

    Raises
    ------
    ModelError
        For labels of different lengths, or an old id that is not below `next_id`.
    """
    _check(old, new, next_id, list(known.values()))
    fresh = [name for name in names if name not in known]
    given = {**known, **{name: next_id + i for i, name in enumerate(fresh)}}
    ids = {place: given[name] for place, name in enumerate(names)}
    overlap = Overlap.of(old, new, list(known.values()), n_new=len(names))
    places = {id_: row for row, id_ in enumerate(overlap.old)}
    heirs = {
        column: places[ids[cluster]]
        for column, cluster in enumerate(overlap.clusters)
        if ids[cluster] in places
    }
    none = np.zeros(overlap.shared.shape, dtype=np.bool_)
    in_order = [ids[cluster] for cluster in overlap.clusters]
    events = _events(overlap, in_order, heirs, none, none)
    return Identity(ids, tuple(events), next_id + len(fresh))


def with_ids(
    events: Sequence[IdentityEvent], ids: Mapping[int, int]
) -> tuple[IdentityEvent, ...]:
    """Return events in which new ids are replaced by others; by id from id."""
    return tuple(
        event.model_copy(update={"new": tuple(ids.get(i, i) for i in event.new)})
        for event in events
    )


def _check(
    old: npt.NDArray[np.integer],
    new: npt.NDArray[np.integer],
    next_id: int,
    known: Sequence[int],
) -> None:
    """Refuse labels that cannot be matched."""
    if len(old) != len(new):
        raise ModelError(
            f"the old model labels {len(old):,} rows and the new one {len(new):,}; "
            "expected the same rows."
        )
    largest = max(int(old.max(initial=NONE)), *known, NONE)
    if largest >= next_id:
        raise ModelError(
            f"the old segments go up to id {largest}, but the next id is {next_id}; "
            f"expected at least {largest + 1}."
        )


def _relations(
    overlap: Overlap, may_be_swallowed: BoolArray, survived: float, part: float
) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Say of each pair whether it is the same, part of a split, part of a merger."""
    shared, n_old, n_new = overlap.shared, overlap.n_old, overlap.n_new
    assigned_old, assigned_new = shared.sum(axis=1), shared.sum(axis=0)
    of_old, of_new = _over(shared, assigned_old[:, None]), _over(shared, assigned_new)
    everyone = n_old[:, None] + n_new - shared
    is_same = (_jaccard(overlap) >= survived - SLACK) & (
        _over(shared, everyone) >= part - SLACK
    )
    is_part = (of_old >= part - SLACK) & (is_same | (2 * shared > n_new))
    is_swallowed = (of_old >= survived - SLACK) & (
        _over(shared, n_old[:, None]) >= part - SLACK
    )
    is_given = (of_new >= part - SLACK) & (2 * shared > n_old[:, None])
    is_given |= is_same | (is_swallowed & may_be_swallowed[:, None])
    # Several that together are next to nothing of a segment are no part of its story.
    is_split = (is_part.sum(axis=1) >= 2) & (
        (shared * is_part).sum(axis=1) >= part * n_old - SLACK
    )
    is_merged = (is_given.sum(axis=0) >= 2) & (
        (shared * is_given).sum(axis=0) >= part * n_new - SLACK
    )
    return is_same, is_part & is_split[:, None], is_given & is_merged


def _over(counts: IntArray, totals: IntArray) -> FloatArray:
    """Return shares, 0 of nothing."""
    return np.asarray(counts / np.maximum(totals, 1), dtype=np.float64)


def _jaccard(overlap: Overlap) -> FloatArray:
    """Return the Jaccard indices over rows that both models assign."""
    shared = overlap.shared
    either = shared.sum(axis=1)[:, None] + shared.sum(axis=0) - shared
    return _over(shared, either)


def _heirs(
    overlap: Overlap, is_same: BoolArray, is_part: BoolArray, is_given: BoolArray
) -> dict[int, int]:
    """Return, by new segment, the old one whose id it has, both as places."""
    # Here, since whoever only serves segments would wait for it.
    from scipy.optimize import linear_sum_assignment

    if not overlap.shared.size:
        return {}
    may_inherit = is_same.copy()
    for row in np.flatnonzero(is_part.any(axis=1)):
        may_inherit[row, np.where(is_part[row], overlap.shared[row], -1).argmax()] = (
            True
        )
    for column in np.flatnonzero(is_given.any(axis=0)):
        given = np.where(is_given[:, column], overlap.shared[:, column], -1)
        may_inherit[given.argmax(), column] = True
    weight = np.where(may_inherit, _jaccard(overlap), 0.0)
    # Of equal sums the one that pairs low ids with large segments: products of ranks
    # are largest in the same order, so the choice is not left to the library.
    ranks = np.outer(*(np.arange(n, 0, -1) for n in weight.shape)) / weight.size
    pairs = linear_sum_assignment(weight + 1e-9 * may_inherit * ranks, maximize=True)
    return {
        int(column): int(row)
        for row, column in zip(*pairs, strict=True)
        if may_inherit[row, column]
    }


def _events(
    overlap: Overlap,
    ids: Sequence[int],
    heirs: Mapping[int, int],
    is_part: BoolArray,
    is_given: BoolArray,
) -> list[IdentityEvent]:
    split: BoolArray = np.asarray(is_part.any(axis=1))
    merged: BoolArray = np.asarray(is_given.any(axis=0))
    events = []
    for row in np.flatnonzero(split):
        columns = np.flatnonzero(is_part[row])
        events.append(_event("split", overlap, ids, np.array([row]), columns))
    for column in np.flatnonzero(merged):
        rows = np.flatnonzero(is_given[:, column])
        events.append(_event("merged", overlap, ids, rows, np.array([column])))
    for heir, source in heirs.items():
        if not split[source] and not merged[heir]:
            pair = np.array([source]), np.array([heir])
            events.append(_event("survived", overlap, ids, *pair))
    is_told = is_part.any(axis=0) | merged
    born = {*np.flatnonzero(~is_told).tolist()} - {*heirs}
    events += [_birth(overlap, ids, column) for column in born]
    is_told = split | is_given.any(axis=1)
    died = {*np.flatnonzero(~is_told).tolist()} - {*heirs.values()}
    events += [_death(overlap, ids, row) for row in died]
    events.sort(key=lambda event: (KINDS.index(event.kind), event.old, event.new))
    return events


def _event(
    kind: Kind,
    overlap: Overlap,
    ids: Sequence[int],
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
) -> IdentityEvent:
    """Return the event of some old segments that became some new ones."""
    shared = overlap.shared
    both = shared[np.ix_(rows, columns)]
    rows = rows[np.argsort(-both.sum(axis=1), kind="stable")]
    columns = columns[np.argsort(-both.sum(axis=0), kind="stable")]
    n_shared = int(both.sum())
    either = int(shared[rows].sum() + shared[:, columns].sum()) - n_shared
    return IdentityEvent(
        kind=kind,
        old=tuple(overlap.old[row] for row in rows),
        new=tuple(ids[column] for column in columns),
        n_old=int(overlap.n_old[rows].sum()),
        n_new=int(overlap.n_new[columns].sum()),
        n_shared=n_shared,
        jaccard=n_shared / max(either, 1),
    )


def _birth(overlap: Overlap, ids: Sequence[int], column: int) -> IdentityEvent:
    """Return the event of a new segment, with where most of its members were."""
    own = overlap.counts[:, column]
    source = int(own.argmax())
    n_shared = int(own[source])
    before = [*overlap.old, NONE][source]
    return IdentityEvent(
        kind="born",
        old=(before,) if n_shared else (),
        new=(ids[column],),
        n_old=int(overlap.counts[source].sum()) if n_shared else 0,
        n_new=int(own.sum()),
        n_shared=n_shared,
    )


def _death(overlap: Overlap, ids: Sequence[int], row: int) -> IdentityEvent:
    """Return the event of an old segment's end, with where most of its members are."""
    own = overlap.counts[row]
    target = int(own.argmax())
    n_shared = int(own[target])
    after = [*ids, NONE][target]
    return IdentityEvent(
        kind="died",
        old=(overlap.old[row],),
        new=(after,) if n_shared else (),
        n_old=int(own.sum()),
        n_new=int(overlap.counts[:, target].sum()) if n_shared else 0,
        n_shared=n_shared,
    )
