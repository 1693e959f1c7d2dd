"""How far a column of numbers has moved: PSI and Kolmogorov-Smirnov, and by chance.

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
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from core.evaluation.quality import FloatArray, IntArray

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
    """Count sorted values per bin."""
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
