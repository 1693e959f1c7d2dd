"""Data without structure that looks like given data: a Gaussian copula.

One population that keeps every feature's own distribution (ties, zeros and all) and
the rank correlations between features, and holds nothing else.

Missing values are kept as they come, together: each row drawn gets the whole pattern
of missing values of a row of the data (a short history leaves several features unknown
at once, and once they are filled in such shops sit in one place of the feature space;
a null without that would make a group of every set of new shops). How many values a
row lacks is one more column of the copula, so that what goes with a short history goes
with it in the null as well. Which of several patterns of equally many missing values
goes with what is not kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from core.errors import ModelError

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_CALIBRATION_ROUNDS = 4


@dataclass(frozen=True)
class GaussianCopula:
    """One population with given marginals and rank correlations, nothing else.

    Attributes
    ----------
    sorted_columns : ndarray of float64, shape (n_shops, n_features)
        Each column sorted by itself: its empirical quantiles, ties and all; NaN last.
    root : ndarray of float64, shape (n_features, n_features)
        Symmetric square root of the latent normal correlation matrix; one more row and
        column, for the number of missing values, where `patterns` are given.
    patterns : ndarray of bool, shape (n_shops, n_features), or None
        Which values each row of the data lacks, rows with fewest first; None where no
        value is missing.
    """

    sorted_columns: FloatArray
    root: FloatArray
    patterns: BoolArray | None = None

    def sample(self, rng: np.random.Generator) -> FloatArray:
        """Draw a table of the same shape; each column is a permutation of its own.

        So are its missing values, and the rows' patterns of them.
        """
        shape = len(self.sorted_columns), len(self.root)
        latent = rng.standard_normal(shape) @ self.root
        return _with_ranks_of(latent, self.sorted_columns, self.patterns)


def fit_gaussian_copula(X: FloatArray, rng: np.random.Generator) -> GaussianCopula:
    """Learn the copula whose samples have the rank correlations of `X`.

    The latent correlation of two normals with Spearman's rho is ``2 sin(pi rho / 6)``
    (Pearson, 1907). Ties weaken the rank correlation of what is drawn (a column that
    is 80% zero shows little of a strong dependence), so the latent correlations are
    corrected in a few rounds by what a draw falls short of the data, then projected
    to the nearest positive semidefinite matrix with a unit diagonal.

    Parameters
    ----------
    X : ndarray of float64, shape (n_shops, n_features)
        NaN where a value is missing; else finite. The correlation of two columns is
        taken over the rows in which both are known.
    rng : numpy.random.Generator
        Draws the trial samples of the correction.

    Raises
    ------
    ModelError
        Where `X` is not two-dimensional, is empty or holds infinite values.
    """
    _check_table(X)
    columns = np.sort(X, axis=0)
    is_missing = np.isnan(X)
    patterns = None
    if is_missing.any():
        # By how many are missing, then by which: equal patterns side by side.
        order = np.lexsort((*is_missing.T, is_missing.sum(axis=1)))
        patterns = is_missing[order]
    target = _rank_correlation(X, patterns is not None)
    latent = 2 * np.sin(np.pi * target / 6)
    root = _root_of_nearest_correlation(latent)
    has_ties = (np.diff(columns, axis=0) == 0).mean(axis=0) > 0.01 if len(X) > 1 else []
    if patterns is not None or np.any(has_ties):
        # The same normals in every round: the correction follows ties, not luck.
        normals = rng.standard_normal((len(X), len(root)))
        for _ in range(_CALIBRATION_ROUNDS):
            drawn = _with_ranks_of(normals @ root, columns, patterns)
            reached = _rank_correlation(drawn, patterns is not None)
            latent = np.clip(latent + (target - reached), -1, 1)
            root = _root_of_nearest_correlation(latent)
    return GaussianCopula(columns, root, patterns)


def _check_table(X: FloatArray) -> None:
    """Refuse what is not a table of numbers, missing ones allowed."""
    if X.ndim != 2 or 0 in X.shape:
        raise ModelError(
            f"the feature matrix has shape {X.shape}; expected at least one shop "
            "(row) and one feature (column)."
        )
    if n_bad := int(np.isinf(X).sum()):
        raise ModelError(
            f"the feature matrix holds {n_bad:,} infinite values out of {X.size:,}; "
            "expected numbers, or NaN where a value is not known."
        )


def _with_ranks_of(
    latent: FloatArray, sorted_columns: FloatArray, patterns: BoolArray | None
) -> FloatArray:
    """Return each sorted column put into the order of the latent one.

    The last latent column, where there are `patterns`, deals them out.
    """
    if patterns is not None:
        is_missing = np.empty_like(patterns)
        is_missing[np.argsort(latent[:, -1], kind="stable")] = patterns
        # Behind all known values, as NaN is in the sorted columns.
        latent = np.where(is_missing, np.inf, latent[:, :-1])
    order = np.argsort(latent, axis=0, kind="stable")
    table = np.empty_like(sorted_columns)
    np.put_along_axis(table, order, sorted_columns, axis=0)
    return table


def _rank_correlation(X: FloatArray, has_count: bool) -> FloatArray:
    """Return Spearman's rho with mean ranks for ties; 0 for a constant column.

    Ranks are taken within the known values of a column, correlations over the rows in
    which both columns are known. `has_count` adds the number of missing values of each
    row as a last column.
    """
    if has_count:
        X = np.column_stack([X, np.isnan(X).sum(axis=1)])
    is_known = (~np.isnan(X)).astype(np.float64)
    n_known = np.maximum(is_known.sum(axis=0), 1)
    ranks = np.nan_to_num(rankdata(X, axis=0, nan_policy="omit"))
    ranks = (ranks - ranks.sum(axis=0) / n_known) * is_known
    n_both = np.maximum(is_known.T @ is_known, 1)
    sums = ranks.T @ is_known  # of the row's column, over rows where both are known
    products = ranks.T @ ranks - sums * sums.T / n_both
    squares = (ranks**2).T @ is_known - sums**2 / n_both
    lengths = np.sqrt(np.clip(squares, 0, None))
    scale = lengths * lengths.T
    # Rounding leaves about 1e-16 of the squares where a column does not vary.
    varies = scale > 1e-9 * np.maximum(n_both, len(X))
    rho: FloatArray = np.clip(
        np.divide(products, scale, out=np.zeros_like(scale), where=varies), -1, 1
    )
    np.fill_diagonal(rho, 1.0)
    return rho


def _root_of_nearest_correlation(matrix: FloatArray) -> FloatArray:
    """Clip negative eigenvalues, restore the unit diagonal, take the square root."""
    values, vectors = np.linalg.eigh(matrix)
    clipped = (vectors * np.clip(values, 0, None)) @ vectors.T
    lengths = np.sqrt(np.diag(clipped))
    values, vectors = np.linalg.eigh(clipped / np.outer(lengths, lengths))
    root: FloatArray = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return root
