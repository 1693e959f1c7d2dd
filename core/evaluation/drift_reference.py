"""What the months after are compared with: rows of the training month.

Some change is usual. Features over a window of one year cannot tell a season from a
trend and move as the window does; shops get older. Where earlier months of the same
model are given (`past`), the reference remembers by how much they differ from the
training month beyond chance, and later months may differ by as much, too. The largest
of k differences understates what more months would show; as for evenly spread values,
it is multiplied by (k + 1) / k.

Expected by chance are (bins - 1) * (1/n + 1/m) of PSI, sqrt(pi / 2) * ln 2 *
sqrt(1/n + 1/m) of Kolmogorov-Smirnov, and sqrt(2 / pi * s * (1 - s) * (1/n + 1/m)) of a
share s.

What is usual has a price: a change as large as one before training is not seen. Months
before the window of the features was full (`usual_months`) are therefore left out where
it is full by now: what they lack will not come again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

from core.errors import ArtifactError, ModelError, listed
from core.evaluation.distances import ReferenceColumn
from core.evaluation.quality import NOISE, FloatArray, IntArray
from core.features.matrix import LARGEST_VALUE
from core.months import month_index

MAX_ROWS = 10_000
RECONSTRUCTION = "reconstruction error"
# Kind, name and statistic of a row of the report.
Key = tuple[str, str, str]


class MonthRows(NamedTuple):
    """The rows of one month, labelled by one model.

    Attributes
    ----------
    X : ndarray of float64, shape (n_rows, n_features)
        Features as prepared, not scaled; NaN where unknown.
    segments : ndarray of int, shape (n_rows,)
        As the model gives them; -1 for none.
    errors : ndarray of float64, shape (n_rows,), or None
        Mean squared reconstruction error per row.
    """

    X: FloatArray
    segments: IntArray
    errors: FloatArray | None = None


Name = TypeVar("Name")
ColumnPair = tuple[ReferenceColumn, FloatArray]
STATE_ARRAYS = ("X", "segments", "share_ids", "share_values", "usual")
STATE_META = ("names", "n_rows", "usual_keys")


@dataclass(frozen=True)
class DriftReference:
    """What months are compared with: rows of the training month.

    Attributes
    ----------
    names : tuple of str
        The features.
    X : ndarray of float64, shape (n_kept, n_features)
        Their values, unscaled; NaN where unknown. In an order of their own.
    segments : ndarray of int64, shape (n_kept,)
        Segment of each row; -1 for none.
    errors : ndarray of float64, shape (n_kept,), or None
        Reconstruction errors.
    shares : dict of int to float
        Share of every segment among all rows of the training month.
    n_rows : int
        All rows of the training month, at least `n_kept`.
    usual : dict of Key to float
        By how much the months before differ from the training month beyond chance;
        what is absent differs by chance only.
    """

    names: tuple[str, ...]
    X: FloatArray
    segments: IntArray
    errors: FloatArray | None
    shares: dict[int, float] = field(repr=False)
    n_rows: int
    usual: dict[Key, float] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        X: FloatArray,
        names: Sequence[str],
        segments: IntArray,
        errors: FloatArray | None = None,
        *,
        past: Sequence[MonthRows] = (),
        seed: int = 0,
        max_rows: int = MAX_ROWS,
    ) -> Self:
        """Keep what later months are compared with.

        Parameters
        ----------
        X : ndarray of float64, shape (n_rows, n_features)
            Features as prepared, not scaled; NaN where unknown.
        names : sequence of str
            Of the features.
        segments : ndarray of int, shape (n_rows,)
            As the model gives them; -1 for none.
        errors : ndarray of float64, shape (n_rows,), optional
            Mean squared reconstruction error per row.
        past : sequence of MonthRows, optional
            Earlier months: those of `usual_months`, of the same model.
        seed : int
            Draws the rows that are kept; the order of the rows plays no part.
        max_rows : int, default 10,000
            Rows kept of a larger table.

        Raises
        ------
        ModelError
            If the table is empty, or shapes or values do not fit.
        """
        X, segments, errors = checked_rows(MonthRows(X, segments, errors), len(names))
        shares = segment_shares(segments)
        # One order for one set of rows: equal rows may change places unnoticed.
        last = np.zeros(len(X)) if errors is None else errors
        order = np.lexsort((last, segments, *X.T))
        if len(order) > max_rows:
            rng = np.random.default_rng(seed)
            order = order[np.sort(rng.choice(len(order), max_rows, replace=False))]
        kept = None if errors is None else errors[order]
        made = cls(tuple(names), X[order], segments[order], kept, shares, len(X))
        return replace(made, usual=_usual(made, past)) if past else made

    def columns(self, month: MonthRows) -> dict[tuple[str, str], ColumnPair]:
        """Return each column with the one of a month, by kind and name."""
        pairs = {
            ("feature", name): (ReferenceColumn.of(before), now)
            for name, before, now in zip(self.names, self.X.T, month.X.T, strict=True)
        }
        if month.errors is not None and self.errors is not None:
            pair = ReferenceColumn.of(self.errors), month.errors
            pairs["reconstruction", RECONSTRUCTION] = pair
        return pairs

    def get_state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Return the rows as named arrays, and the rest as JSON-able values."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "X": self.X,
            "segments": self.segments,
            "share_ids": np.array(list(self.shares), dtype=np.int64),
            "share_values": np.array(list(self.shares.values())),
        }
        if self.errors is not None:
            arrays["errors"] = self.errors
        arrays["usual"] = np.array(list(self.usual.values()), dtype=np.float64)
        return arrays, {
            "names": list(self.names),
            "n_rows": self.n_rows,
            "usual_keys": [list(key) for key in self.usual],
        }

    @classmethod
    def from_state(
        cls, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]
    ) -> Self:
        """Return the reference that `get_state` took apart.

        Raises
        ------
        ArtifactError
            If something is missing or does not fit together.
        """
        missing = [name for name in STATE_ARRAYS if name not in arrays]
        missing += [name for name in STATE_META if name not in meta]
        if missing:
            raise _unusable(f"it lacks {listed(missing)}")
        rows = MonthRows(arrays["X"], arrays["segments"], arrays.get("errors"))
        n_rows = meta["n_rows"]
        try:
            names = tuple(map(str, meta["names"]))
            rows = checked_rows(rows, len(names))
            ids = [int(i) for i in arrays["share_ids"]]
            keys = [tuple(map(str, key)) for key in meta["usual_keys"]]
        except (ModelError, TypeError, ValueError) as error:
            raise _unusable(str(error)) from None
        if type(n_rows) is not int or n_rows < len(rows.X):
            raise _unusable(f"`n_rows` is {n_rows!r}; expected {len(rows.X)} or more")
        shares = _paired(ids, arrays["share_values"], "shares")
        usual: dict[Any, float] = _paired(keys, arrays["usual"], "usual differences")
        return cls(names, *rows, shares, n_rows, usual)


def segment_shares(segments: IntArray) -> dict[int, float]:
    """Return the share of rows in each segment there is, by id; -1: unassigned."""
    ids, counts = np.unique(segments, return_counts=True)
    return {
        int(i): n / len(segments) for i, n in zip(ids, counts.tolist(), strict=True)
    }


def usual_months(
    months: Sequence[str], first_month: str, as_of: str, history_months: int
) -> list[str]:
    """Return the earlier months that tell what change is usual, oldest first.

    Parameters
    ----------
    months : sequence of str
        Months before `as_of` whose features are known, ``YYYY-MM``.
    first_month, as_of : str
        First month of the data, and the training month.
    history_months : int
        Months that the features look back over.

    Returns
    -------
    list of str
        Those with a full window; all of them where even `as_of` has none.

    Examples
    --------
    >>> usual_months(["2023-03", "2023-09"], "2022-06", "2023-12", 12)
    ['2023-09']
    >>> usual_months(["2023-03", "2023-09"], "2022-06", "2023-12", 36)
    ['2023-03', '2023-09']
    """
    first = month_index(first_month)

    def is_full(month: str) -> bool:
        return month_index(month) - first + 1 >= history_months

    return sorted(m for m in months if is_full(m) or not is_full(as_of))


def checked_rows(month: MonthRows, n_features: int) -> MonthRows:
    """Return the rows of a month, or raise a ModelError if they cannot be compared."""
    X, segments = np.asarray(month.X, dtype=np.float64), np.asarray(month.segments)
    errors = month.errors
    if X.ndim != 2 or not len(X) or X.shape[1] != n_features:
        raise ModelError(
            f"drift is measured on a table of shape {X.shape}; expected at least one "
            f"row and {n_features} features. Pass the features of the model, in order."
        )
    if (np.abs(X) > LARGEST_VALUE).any():
        raise ModelError(
            "a feature is infinite or beyond 1e30; expected numbers, or NaN if unknown."
        )
    if segments.shape != (len(X),) or segments.dtype.kind not in "iu":
        raise ModelError(
            f"`segments` has the shape {segments.shape} and the type {segments.dtype}; "
            f"expected a whole number for each of {len(X):,} rows, -1 for none."
        )
    if errors is not None:
        errors = np.asarray(errors, dtype=np.float64)
        if errors.shape != (len(X),) or not np.isfinite(errors).all():
            raise ModelError(
                f"`errors` has the shape {errors.shape}; expected a finite "
                f"reconstruction error for each of {len(X):,} rows."
            )
    return MonthRows(X + 0.0, segments.astype(np.int64), errors)


def _unusable(finding: str) -> ArtifactError:
    """Return the error for a state that `get_state` cannot have left."""
    return ArtifactError(
        f"the saved reference of the drift is unusable: {finding}. Train the clusters "
        "again."
    )


def _paired(
    keys: Sequence[Name], values: npt.NDArray[Any], what: str
) -> dict[Name, float]:
    """Return values by their keys, or refuse a state in which they do not fit."""
    if values.shape != (len(keys),):
        raise _unusable(
            f"its {what} have the shape {values.shape}; expected ({len(keys)},)"
        )
    return dict(zip(keys, values.astype(np.float64).tolist(), strict=True))


def measure_columns(pairs: Mapping[tuple[str, str], ColumnPair]) -> dict[Key, float]:
    """Return PSI and Kolmogorov-Smirnov of every column."""
    measured: dict[Key, float] = {}
    for place, (before, now) in pairs.items():
        measured[*place, "psi"], measured[*place, "ks"] = before.compare(now)
    return measured


def share_changes(
    now: Mapping[int, float], before: Mapping[int, float], statistic: str
) -> dict[Key, float]:
    """Return how much the share of the unassigned and of each segment has changed."""
    ids = sorted({NOISE, *now, *before})
    return {
        (*share_place(i), statistic): abs(now.get(i, 0.0) - before.get(i, 0.0))
        for i in ids
    }


def share_place(segment: int) -> tuple[str, str]:
    """Return kind and name of the row of a segment's share."""
    if segment == NOISE:
        return "unassigned", "unassigned"
    return "share", str(segment)


def _usual(reference: DriftReference, past: Sequence[MonthRows]) -> dict[Key, float]:
    """Return the largest differences of earlier months, as far as not by chance."""
    found: dict[Key, float] = {}
    for month in past:
        rows = checked_rows(month, len(reference.names))
        pairs = reference.columns(rows)
        now, before = segment_shares(rows.segments), reference.shares
        measured = measure_columns(pairs) | share_changes(now, before, "difference")
        scale = 1 / len(reference.X) + 1 / len(rows.X)
        for key, value in measured.items():
            excess = value - _by_chance(key, pairs, before, scale)
            if excess > found.get(key, 0.0):
                found[key] = excess
    spread = (len(past) + 1) / len(past)
    return {key: excess * spread for key, excess in found.items()}


def _by_chance(
    key: Key,
    pairs: Mapping[tuple[str, str], ColumnPair],
    shares: Mapping[int, float],
    scale: float,
) -> float:
    """Return what a statistic is expected to be by chance; `scale` is 1/n + 1/m."""
    kind, name, statistic = key
    if statistic == "psi":
        return (pairs[kind, name][0].n_bins - 1) * scale
    if statistic == "ks":
        return float(np.sqrt(np.pi / 2 * scale) * np.log(2))
    share = shares.get(NOISE if kind == "unassigned" else int(name), 0.0)
    return float(np.sqrt(2 / np.pi * share * (1 - share) * scale))
