"""Drift statistics (PSI, Kolmogorov-Smirnov) against rows of the training month.

*Population stability index*, over bins of the reference::

    PSI = sum over bins of (p - q) * ln(p / q)

with the shares p of the reference and q of the other rows: the symmetric divergence of
Kullback and Leibler between two histograms, 0 or more. *Kolmogorov-Smirnov* is the
largest difference between the two distribution functions, 0 to 1.

- Bins are cut at the deciles of the known reference values, half-way to the next value
  that was seen. A value that holds two or more deciles (zeros, mostly) is cut off
  on its other side, too; half-way, so that 1/24 may become 1/25. "Unknown" (NaN) is a
  bin of its own. What lies beyond all that was seen falls into the outer bins.
- Half a row of the smaller side is added, as a share, to every bin of both sides, so
  that an empty bin is rare, not impossible; a bin that is empty on both sides adds 0.
- For Kolmogorov-Smirnov "unknown" counts as the smallest value: a change of its share
  is a change of the distribution.
- Values that differ by less than 1e-9 of the column's size are one value: two engines
  differ in the 13th digit, and a point mass must not fall apart by that.

Some change is usual. Features over a window of one year cannot tell a season from a
trend and move as the window does; entities get older. Where earlier months of the same
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
from numpy.typing import NDArray

from core.artifacts.arrays import Arrays, Meta, State
from core.errors import ArtifactError, ModelError, listed
from core.evaluation.quality import NOISE, FloatArray, IntArray
from core.models.scaling import LARGEST_VALUE
from core.months import month_index

CountArray = NDArray[np.float32]  # whole numbers, exact up to 16 million
N_BINS = 10
N_CELLS = 500
ROUNDING = 1e-9
HALF_A_ROW = 0.5


@dataclass(frozen=True)
class ReferenceColumn:
    """One column of the reference, ready to be compared with others.

    Attributes
    ----------
    unit : float
        Values are rounded to whole multiples of it; 0: they are not rounded.
    order : ndarray of int, shape (n_rows,)
        Rows of the reference by ascending value, unknown ones first.
    values : ndarray of float64, shape (n_rows,)
        Rounded values in that order; -inf where unknown.
    edges : ndarray of float64, shape (n_bins - 1,)
        Ascending; bin i holds what is above edge i - 1 and at most edge i.
    """

    unit: float
    order: IntArray
    values: FloatArray
    edges: FloatArray

    @property
    def n_bins(self) -> int:
        """Bins that hold any row of the reference."""
        return int((_bin_counts(self.values, self.edges) > 0).sum())

    @classmethod
    def of(cls, column: FloatArray) -> ReferenceColumn:
        """Sort a column and cut it into bins.

        Parameters
        ----------
        column : ndarray of float64, shape (n_rows,)
            Finite, or NaN where unknown; at least one row.
        """
        known = np.abs(column[~np.isnan(column)])
        # Most of a column decides what counts as rounding, not its largest value.
        size = np.quantile(known, 0.9) or known.max() if len(known) else 0.0
        unit = float(size) * ROUNDING
        values = _rounded(column, unit)
        order = np.argsort(values, kind="stable")
        values = values[order]
        return cls(unit, order, values, _edges(values[values > -np.inf]))

    def compare(self, column: FloatArray) -> tuple[float, float]:
        """Return PSI and Kolmogorov-Smirnov of another column against this one."""
        other = np.sort(_rounded(column, self.unit))
        psi = population_stability(
            _bin_counts(self.values, self.edges), _bin_counts(other, self.edges)
        )
        points = np.concatenate([self.values, other])
        before = np.searchsorted(self.values, points, side="right") / len(self.values)
        now = np.searchsorted(other, points, side="right") / len(other)
        return float(psi), float(np.abs(before - now).max())

    def compare_samples(
        self, before: CountArray, now: CountArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return PSI and Kolmogorov-Smirnov of samples drawn from this column.

        The distribution functions are compared at every edge and at up to 500 places
        between, not at every row: with 10,000 rows that is 1% of the distance less.
        Half a step is added to it: copies of one row climb it at once, where the rows
        of two real months would take turns, and climb higher in between.

        Parameters
        ----------
        before, now : ndarray of float32, shape (n_rows, n_samples)
            How often each row of the reference was drawn; every column of one of them
            has the same sum.

        Returns
        -------
        tuple of two ndarray of float64, shape (n_samples,)
        """
        from scipy.sparse import csr_array

        ends = self._cell_ends()
        rows_of_cell = csr_array(
            (np.ones(len(self.order), dtype=np.float32), self.order, [0, *ends]),
            shape=(len(ends), len(self.order)),
        )
        below_before = np.cumsum(rows_of_cell @ before, axis=0, dtype=np.float64)
        below_now = np.cumsum(rows_of_cell @ now, axis=0, dtype=np.float64)
        gaps = below_before / below_before[-1] - below_now / below_now[-1]
        cuts = np.searchsorted(self.values, self.edges, side="right")
        cells = np.searchsorted(ends, cuts, side="left")
        is_empty = cuts == 0
        psi = population_stability(
            _counts_between(below_before, cells, is_empty),
            _counts_between(below_now, cells, is_empty),
        )
        half_a_step = (1 / below_before[-1] + 1 / below_now[-1]) / 2
        return psi, np.abs(gaps).max(axis=0) + half_a_step

    def _cell_ends(self) -> IntArray:
        """Return where groups of sorted rows end; no value and no bin is cut in two."""
        places = np.linspace(0, len(self.values) - 1, N_CELLS + 1).astype(np.int64)
        points = np.concatenate([self.values[places], self.edges])
        ends = np.unique(np.searchsorted(self.values, points, side="right"))
        return ends[ends > 0]


def population_stability(before: FloatArray, now: FloatArray) -> FloatArray:
    """Return the population stability index of counts per bin.

    Parameters
    ----------
    before, now : ndarray of float64, shape (n_bins, ...)
        Rows per bin, along the first axis.

    Returns
    -------
    ndarray of float64, shape (...)

    Examples
    --------
    >>> round(float(population_stability(np.array([50, 50]), np.array([80, 20]))), 2)
    0.41
    """
    n_before, n_now = before.sum(axis=0), now.sum(axis=0)
    extra = HALF_A_ROW / np.minimum(n_before, n_now)
    p, q = before / n_before + extra, now / n_now + extra
    p, q = p / p.sum(axis=0), q / q.sum(axis=0)
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=0))


def share_samples(
    labels: IntArray, ids: Sequence[int], drawn: CountArray
) -> FloatArray:
    """Return the share of each label in samples of rows.

    Parameters
    ----------
    labels : ndarray of int, shape (n_rows,)
    ids : sequence of int
        Labels to count.
    drawn : ndarray of float32, shape (n_rows, n_samples)
        How often each row was drawn.

    Returns
    -------
    ndarray of float64, shape (len(ids), n_samples)
    """
    is_label = labels == np.array(ids, dtype=np.int64)[:, None]
    return np.asarray(is_label.astype(np.float32) @ drawn / drawn.sum(axis=0))


def _rounded(column: FloatArray, unit: float) -> FloatArray:
    """Round to multiples of a unit, and put unknown values below all others."""
    rounded = np.round(column / unit) * unit if unit else column
    return np.where(np.isnan(column), -np.inf, rounded + 0.0)


def _edges(known: FloatArray) -> FloatArray:
    """Return the edges of the bins of sorted known values."""
    distinct = np.unique(known)
    if not len(distinct):
        return np.array([-np.inf])
    places = np.arange(1, N_BINS) / N_BINS
    deciles = np.quantile(known, places, method="inverted_cdf")
    at_deciles, counts = np.unique(deciles, return_counts=True)
    at = np.searchsorted(distinct, at_deciles)
    # Beyond the outermost values there is no neighbour to be half-way to.
    middles = (distinct[1:] + distinct[:-1]) / 2
    lowest = np.nextafter(distinct[0], -np.inf)
    above = np.append(middles, distinct[-1])[at]
    below = np.append(lowest, middles)[at[counts > 1]]
    return np.unique(np.concatenate([[-np.inf], above, below]))


def _bin_counts(values: FloatArray, edges: FloatArray) -> FloatArray:
    cuts = np.searchsorted(values, edges, side="right")
    return np.diff(cuts, prepend=0, append=len(values)).astype(np.float64)


def _counts_between(
    below: FloatArray, cells: IntArray, is_empty: NDArray[np.bool_]
) -> FloatArray:
    """Count per bin what is drawn.

    `below` has the draws up to the end of each cell, `cells` the last cell of each bin
    but the uppermost, and `is_empty` whether nothing lies at or below its edge.
    """
    at_edges = np.where(is_empty[:, None], 0.0, below[cells])
    return np.diff(at_edges, axis=0, prepend=0.0, append=below[-1:])


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

    def get_state(self) -> State:
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
    def from_state(cls, arrays: Arrays, meta: Meta) -> Self:
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
