"""One behavioural axis: who is in which of its segments, and how clearly.

What is learnt is small: how to scale each feature, and one centre per segment. A
customer belongs to the nearest centre. Placing needs NumPy only, and every sum runs
feature by feature, so that a customer's place is the same, to the last bit, alone in a
request and among a million others.

**Strength.** With ``d_own`` and ``d_next`` the distances to the own and to the second
nearest centre, and ``D`` the distance between these two::

    strength = min(1, (d_next^2 - d_own^2) / D^2)

which is how far the customer stands on the way from the border between the two segments
(0) to its own centre (1), seen along the line that joins the centres; beyond the own
centre it stays 1. It has no unit, and features in which the two segments do not differ
cancel out, so 0.5 is half of the way whatever the axis, the number of its features and
of its segments. It is no probability. On an axis with one segment there is no border
that could be near: the strength is 1 and says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from core.errors import ArtifactError, ModelError, listed

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

FORMAT = 1
NOWHERE = -1
"""Segment of a customer who lacks a feature of the axis, and runner-up of none."""
ROWS_AT_ONCE = 4096
"""Rows placed together: a few numbers per row and segment stay in the cache."""


class AxisPlacement(NamedTuple):
    """Where customers lie on one axis.

    Attributes
    ----------
    labels : ndarray of shape (n_customers,), int64
        Segment; -1 where a feature of the axis is unknown.
    strength : ndarray of shape (n_customers,), float64
        0 on the border to the runner-up, 1 at the own centre or beyond it; 0 where the
        segment is -1, and 1 on an axis with one segment.
    runner_up : ndarray of shape (n_customers,), int64
        The segment with the second nearest centre; -1 where there is none.
    """

    labels: IntArray
    strength: FloatArray
    runner_up: IntArray


@dataclass(frozen=True)
class AxisScaling:
    """How features are put on one scale: logarithm, bounds, centre, spread.

    Attributes
    ----------
    is_log : ndarray of bool, shape (n_features,)
        Whether ``sign(x) ln(1 + |x|)`` is taken first.
    lower, upper : ndarray of shape (n_features,)
        Bounds that values are clipped to.
    centre, scale : ndarray of shape (n_features,)
        Subtracted, and divided by.
    """

    is_log: BoolArray
    lower: FloatArray
    upper: FloatArray
    centre: FloatArray
    scale: FloatArray

    def columns(self, table: FloatArray, *, is_clipped: bool = True) -> FloatArray:
        """Return scaled features, shape (n_features, n_rows); NaN stays NaN."""
        columns = np.array(table.T, dtype=np.float64, order="C")
        for column, is_log in zip(columns, self.is_log, strict=True):
            if is_log:
                np.copysign(np.log1p(np.abs(column)), column, out=column)
        if is_clipped:
            np.clip(columns, self.lower[:, None], self.upper[:, None], out=columns)
        columns -= self.centre[:, None]
        columns /= self.scale[:, None]
        return columns

    def in_units(self, centres: FloatArray) -> FloatArray:
        """Return scaled rows, shape (n_rows, n_features), in the features' own units.

        Of a logarithmic feature this is the geometric kind of middle.
        """
        values = centres * self.scale + self.centre
        restored = np.copysign(np.expm1(np.abs(values)), values)
        return np.asarray(np.where(self.is_log, restored, values))


class AxisModel:
    """The scaling and the centres of one axis' segments.

    Parameters
    ----------
    scaling : AxisScaling
    centres : ndarray of shape (n_segments, n_features)
        In scaled features.

    Examples
    --------
    >>> same = np.zeros(1), np.ones(1)
    >>> scaling = AxisScaling(np.array([False]), same[0], 9 * same[1], *same)
    >>> orders_per_month = AxisModel(scaling, np.array([[1.0], [5.0]]))
    >>> placed = orders_per_month.place(np.array([[1.0], [4.0], [np.nan]]))
    >>> placed.labels.tolist(), placed.strength.tolist(), placed.runner_up.tolist()
    ([0, 1, -1], [1.0, 0.5, 0.0], [1, 0, -1])
    """

    def __init__(self, scaling: AxisScaling, centres: FloatArray) -> None:
        self.scaling = scaling
        self.centres = centres
        self._apart = squared_distances(centres.T, centres)

    @property
    def n_features(self) -> int:
        """The number of features."""
        return int(self.centres.shape[1])

    @property
    def n_segments(self) -> int:
        """The number of segments."""
        return len(self.centres)

    def place(self, table: FloatArray) -> AxisPlacement:
        """Place customers, those of the fit or new ones.

        Parameters
        ----------
        table : ndarray of shape (n_customers, n_features)
            In the features' own units; NaN and infinite are unknown.

        Returns
        -------
        AxisPlacement
            With clusters, from 0, as segments.

        Raises
        ------
        ModelError
            For a table of another width.
        """
        if table.ndim != 2 or table.shape[1] != self.n_features:
            raise ModelError(
                f"the table has the shape {table.shape}; expected (n_customers, "
                f"{self.n_features}), the features that the axis was learnt from."
            )
        if not len(table):
            none = np.empty(0, dtype=np.int64)
            return AxisPlacement(none, np.empty(0), none)
        parts = [
            self._place_block(table[start : start + ROWS_AT_ONCE])
            for start in range(0, len(table), ROWS_AT_ONCE)
        ]
        return AxisPlacement(*map(np.concatenate, zip(*parts, strict=True)))

    def _place_block(self, rows: FloatArray) -> AxisPlacement:
        """Place a few rows."""
        is_known = np.asarray(np.isfinite(rows).all(axis=1))
        columns = self.scaling.columns(np.where(is_known[:, None], rows, 0.0))
        distances = squared_distances(columns, self.centres)
        everyone = np.arange(len(rows))
        labels = distances.argmin(axis=0)
        runner_up = np.full(len(rows), NOWHERE, dtype=np.int64)
        strength = np.ones(len(rows))
        if self.n_segments > 1:
            own = distances[labels, everyone]
            distances[labels, everyone] = np.inf
            runner_up = distances.argmin(axis=0)
            gain = distances[runner_up, everyone] - own
            strength = np.clip(gain / self._apart[labels, runner_up], 0.0, 1.0)
        return AxisPlacement(
            np.where(is_known, labels, NOWHERE),
            np.where(is_known, strength, 0.0),
            np.where(is_known, runner_up, NOWHERE),
        )

    def get_state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Return what `place` needs as named arrays and JSON-able values."""
        arrays = {name: getattr(self.scaling, name) for name in _SCALING}
        return {**arrays, "centres": self.centres}, {"format": FORMAT}

    @classmethod
    def from_state(
        cls, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]
    ) -> Self:
        """Return a model that places exactly as the one `get_state` was asked of.

        Raises
        ------
        ArtifactError
            For a state that is not whole, or not one that fitting leaves.
        """
        if meta.get("format") != FORMAT:
            raise refused(f"its format is {meta.get('format')!r}, expected {FORMAT}")
        missing = [name for name in (*_SCALING, "centres") if name not in arrays]
        if missing:
            raise refused(f"missing {listed(missing)}")
        given = {name: np.asarray(arrays[name]) for name in (*_SCALING, "centres")}
        _require_sound(given)
        scaling = AxisScaling(**{name: given[name] for name in _SCALING})
        return cls(scaling, given["centres"])


_SCALING = ("is_log", "lower", "upper", "centre", "scale")


def squared_distances(columns: FloatArray, centres: FloatArray) -> FloatArray:
    """Return squared distances, shape (n_centres, n_rows), summed in one order.

    Parameters
    ----------
    columns : ndarray of shape (n_features, n_rows)
    centres : ndarray of shape (n_centres, n_features)
    """
    total = np.zeros((len(centres), columns.shape[1]))
    for values, centre in zip(columns, centres.T, strict=True):
        difference = values - centre[:, None]
        difference *= difference
        total += difference
    return total


def refused(finding: str) -> ArtifactError:
    """Return the error for a state that fitting cannot have left."""
    return ArtifactError(
        f"the saved axes are unusable: {finding}. Run `segments axes` again."
    )


def _require_sound(arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Refuse arrays of unfit types, shapes or values."""
    shape = arrays["centres"].shape
    if len(shape) != 2 or 0 in shape:
        raise refused(f"`centres` has the shape {shape}; expected segments, features")
    for name, array in arrays.items():
        expected = "bool" if name == "is_log" else "float64"
        if str(array.dtype) != expected or not np.isfinite(array).all():
            raise refused(f"`{name}` holds other values than it should")
        if name != "centres" and array.shape != shape[1:]:
            raise refused(f"`{name}` has the shape {array.shape}, not {shape[1:]}")
    if (arrays["scale"] <= 0).any():
        raise refused("`scale` holds values that are not above 0")
