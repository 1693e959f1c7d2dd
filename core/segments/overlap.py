"""How many rows the segments of one model share with those of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
NONE = -1
"""Label of a row that a model puts into no segment."""
# A share that is a threshold exactly must not fail by the last bit of a division.
SLACK = 1e-9


@dataclass(frozen=True)
class Overlap:
    """How many rows each old segment shares with each new one, in an order of its own.

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
        entities: Sequence[str] | None,
    ) -> Self:
        """Count two labels of the same rows.

        Parameters
        ----------
        old, new, known, entities
            As for `core.segments.identity.match_segments`.
        """
        ids = sorted({*(int(i) for i in np.unique(old)), *known} - {NONE})
        n_new = int(new.max(initial=NONE)) + 1
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


def is_left(
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
