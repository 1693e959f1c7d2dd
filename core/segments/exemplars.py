"""Exemplars: some dense shops of every density segment, to measure distances to.

A density segment can have any shape, so its centre may lie outside it. What stands for
it are shops from its denser half, at most 64, spread over the whole of it. The distance
of a shop to a segment is that to the nearest of them, in the latent space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from core.errors import ArtifactError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MOST = 64
"""Exemplars of one segment."""
NOWHERE = -1
"""Nearest segment where there is none to name."""
ROWS_AT_ONCE = 100_000


@dataclass(frozen=True, eq=False)
class Exemplars:
    """Points that stand for segments.

    Attributes
    ----------
    points : ndarray of shape (n_exemplars, n_dimensions), float64
        Latent vectors.
    segment : ndarray of shape (n_exemplars,), int64
        The segment of each, ascending from 0; every segment has one at least.
    """

    points: FloatArray
    segment: IntArray
    _trees: list[Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # One tree per segment: up to 64 points are searched in half a microsecond, and
        # the answer for a row does not depend on the rows beside it.
        trees = [
            cKDTree(self.points[self.segment == s]) for s in range(self.n_segments)
        ]
        object.__setattr__(self, "_trees", trees)

    @property
    def n_segments(self) -> int:
        """The number of segments."""
        return int(self.segment.max(initial=-1)) + 1

    def nearest(
        self, rows: FloatArray, labels: IntArray
    ) -> tuple[IntArray, FloatArray]:
        """Return the nearest segment other than a row's own, and how far it is.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_dimensions), float64
            Latent vectors.
        labels : ndarray of shape (n_rows,), int64
            Each row's own segment; -1: none, so every segment may be the nearest.

        Returns
        -------
        nearest : ndarray of shape (n_rows,), int64
            Of several, the one with the lowest number; -1 where there is no other.
        distance : ndarray of shape (n_rows,), float64
            Euclidean; NaN where there is no other.
        """
        nearest = np.full(len(rows), NOWHERE, dtype=np.int64)
        distance = np.full(len(rows), np.nan)
        for start in range(0, len(rows) if self.n_segments else 0, ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            found = np.stack(
                [tree.query(rows[part], workers=-1)[0] for tree in self._trees]
            )
            own = labels[part]
            members = np.flatnonzero(own >= 0)
            found[own[members], members] = np.inf
            best = found.argmin(axis=0)
            distance[part] = found[best, np.arange(len(own))]
            nearest[part] = best
        is_alone = np.isinf(distance)
        nearest[is_alone], distance[is_alone] = NOWHERE, np.nan
        return nearest, distance

    def get_state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Return the arrays, and JSON-able values (none)."""
        return {"points": self.points, "segment": self.segment}, {}

    @classmethod
    def from_state(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the exemplars of a state.

        Raises
        ------
        ArtifactError
            For arrays that `choose_exemplars` cannot have left.
        """
        if not _is_sound(arrays.get("points"), arrays.get("segment")):
            raise ArtifactError(
                "the saved exemplars are unusable: expected finite `points` and one "
                "`segment` from 0 for each. Train the clusters again."
            )
        return cls(arrays["points"], arrays["segment"])


def choose_exemplars(
    rows: FloatArray, labels: IntArray, strengths: FloatArray
) -> Exemplars:
    """Choose at most 64 exemplars of every segment.

    Of a segment's members at or above its median strength the densest comes first, then
    always the one farthest from those chosen (Gonzalez, 1985): so a long segment is
    represented from end to end, by shops well inside it.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_dimensions), float64
        Latent vectors of the shops that the segments were found among.
    labels : ndarray of shape (n_rows,), int64
        From 0; -1 is noise, which has no exemplar.
    strengths : ndarray of shape (n_rows,), float64
        How dense each shop's surroundings are.
    """
    chosen = [
        _spread(rows, np.flatnonzero(labels == segment), strengths)
        for segment in range(int(labels.max(initial=-1)) + 1)
    ]
    places = np.concatenate([np.zeros(0, dtype=np.intp), *chosen])
    return Exemplars(
        np.asarray(rows[places], dtype=np.float64), labels[places].astype(np.int64)
    )


def extended_exemplars(
    exemplars: Exemplars, rows: FloatArray, labels: IntArray, strengths: FloatArray
) -> Exemplars:
    """Keep exemplars as they are; add those of segments that have none yet.

    Parameters
    ----------
    exemplars : Exemplars
    rows, labels, strengths
        As for `choose_exemplars`; every segment from ``exemplars.n_segments`` on has a
        member.
    """
    first = exemplars.n_segments
    added = choose_exemplars(
        rows, np.where(labels >= first, labels - first, -1), strengths
    )
    return Exemplars(
        np.concatenate([exemplars.points, added.points]),
        np.concatenate([exemplars.segment, added.segment + first]),
    )


def _spread(
    rows: FloatArray, members: npt.NDArray[np.intp], strengths: FloatArray
) -> npt.NDArray[np.intp]:
    """Return exemplars of one segment, as places in `rows`; of equals, the first."""
    own = strengths[members]
    dense = members[own >= np.median(own)]
    points = rows[dense]
    next_one = int(strengths[dense].argmax())
    chosen: list[int] = []
    gap = np.full(len(dense), np.inf)
    while len(chosen) < MOST and gap[next_one] > 0.0:
        chosen.append(next_one)
        step = points - points[next_one]
        gap = np.minimum(gap, np.einsum("ij,ij->i", step, step))
        next_one = int(gap.argmax())
    return dense[chosen]


def _is_sound(
    points: npt.NDArray[Any] | None, segment: npt.NDArray[Any] | None
) -> bool:
    """Whether arrays can be exemplars."""
    if points is None or segment is None or points.ndim != 2:
        return False
    if points.dtype != np.float64 or segment.dtype != np.int64:
        return False
    if segment.shape != (len(points),) or not np.isfinite(points).all():
        return False
    ids = np.unique(segment)
    return np.array_equal(ids, np.arange(len(ids)))
