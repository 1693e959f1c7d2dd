"""Size first, then labels: least squares with random effects, fold by fold.

Outcomes are regressed on size (classes and a slope), and label effects are added as
random effects with a variance estimated by Henderson's third method (Searle, Casella
and McCulloch, 1992), so that labels which tell nothing shrink to nothing. Everything is
closed form over sums per fold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

N_FOLDS = 5
TOLERANCE = 1e-9


class Folded:
    """Outcomes that are known of the same shops, as sums over folds.

    Parameters
    ----------
    names : list of str
        Of the outcomes.
    rows : ndarray of int, shape (n_known,)
        The shops, among all.
    Y : ndarray of float64, shape (n_known, n_outcomes)
    size_class : ndarray of int, shape (n_known,)
    slope : ndarray of float64, shape (n_known,)
        Size on a continuous scale.
    folds : ndarray of int, shape (n_repeats, n_known)
        The fold, 0 to 4, in which each shop is judged, per repeat.

    Attributes
    ----------
    size_only : ndarray of float64, shape (n_known, n_outcomes)
        Squared errors of size alone on shops not seen, means over the repeats.
    """

    def __init__(
        self,
        names: list[str],
        rows: npt.NDArray[np.intp],
        Y: FloatArray,
        size_class: IntArray,
        slope: FloatArray,
        folds: IntArray,
    ) -> None:
        self.names, self.rows, self.folds = names, rows, folds
        self.Y = Y - Y.mean(axis=0)
        classes, codes = np.unique(size_class, return_inverse=True)
        self.n_classes = len(classes)
        self.codes, self.slope = codes, slope
        self.S = np.column_stack([np.eye(self.n_classes)[codes], slope])
        self._size_fits = [
            [_SizeFit.of(self.S[fold != f], self.Y[fold != f]) for f in range(N_FOLDS)]
            for fold in folds
        ]
        self.size_only = np.zeros_like(self.Y)
        for fold, fits in zip(folds, self._size_fits, strict=True):
            for f, fit in enumerate(fits):
                test = fold == f
                error = self.Y[test] - self.S[test] @ fit.coefficients
                self.size_only[test] += error**2 / len(folds)

    def errors_with(self, labels: IntArray) -> FloatArray:
        """Return squared errors of size and labels, shape (n_known, n_outcomes)."""
        ids, group = np.unique(labels, return_inverse=True)
        squared = np.zeros_like(self.Y)
        for fold, fits in zip(self.folds, self._size_fits, strict=True):
            counts, cross, sums = self._sums(group, len(ids), fold)
            fitted = np.empty_like(self.Y)
            for f, fit in enumerate(fits):
                test = np.flatnonzero(fold == f)
                size, label = fit.with_labels(
                    counts.sum(axis=0) - counts[f],
                    cross.sum(axis=0) - cross[f],
                    sums.sum(axis=0) - sums[f],
                )
                fitted[test] = self.S[test] @ size + label[group[test]]
            squared += (self.Y - fitted) ** 2
        mean: FloatArray = squared / len(self.folds)
        return mean

    def _sums(
        self, group: IntArray, n_groups: int, fold: IntArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return shops per label, and sums of size columns and outcomes, per fold."""
        n_classes, n_columns = self.n_classes, self.Y.shape[1]
        cell = fold * n_groups + group
        shape = (N_FOLDS, n_groups)
        length = N_FOLDS * n_groups
        counts = np.bincount(cell, minlength=length).reshape(shape)
        by_class = np.bincount(
            (fold * n_classes + self.codes) * n_groups + group,
            minlength=length * n_classes,
        ).reshape(N_FOLDS, n_classes, n_groups)
        slope = np.bincount(cell, weights=self.slope, minlength=length)
        cross = np.concatenate([by_class, slope.reshape(N_FOLDS, 1, n_groups)], axis=1)
        sums = [
            np.bincount(cell, weights=self.Y[:, j], minlength=length).reshape(shape)
            for j in range(n_columns)
        ]
        return counts.astype(np.float64), cross, np.stack(sums, axis=2)


@dataclass(frozen=True)
class _SizeFit:
    """Least squares of outcomes on size in one training part, and its sums."""

    n_rows: int
    rank: int
    inverse: FloatArray  # of S'S, shape (p, p)
    coefficients: FloatArray  # (p, n_outcomes)
    residual_squares: FloatArray  # (n_outcomes,)

    @classmethod
    def of(cls, S: FloatArray, Y: FloatArray) -> _SizeFit:
        gram = S.T @ S
        inverse: FloatArray = np.asarray(
            np.linalg.pinv(gram, rcond=TOLERANCE, hermitian=True), dtype=np.float64
        )
        coefficients: FloatArray = inverse @ (S.T @ Y)
        residual = Y - S @ coefficients
        rank = round(float(np.trace(inverse @ gram)))
        squares = np.asarray((residual**2).sum(axis=0), dtype=np.float64)
        return cls(len(S), rank, inverse, coefficients, squares)

    def with_labels(
        self, counts: FloatArray, cross: FloatArray, sums: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return size coefficients and shrunken label effects.

        Parameters
        ----------
        counts : ndarray, shape (n_labels,)
            Z'Z: training shops per label.
        cross : ndarray, shape (p, n_labels)
            S'Z.
        sums : ndarray, shape (n_labels, n_outcomes)
            Z'Y.
        """
        adjustment = self.inverse @ cross
        Q = np.diag(counts) - cross.T @ adjustment
        h = sums - cross.T @ self.coefficients
        weights, axes = np.linalg.eigh((Q + Q.T) / 2)
        is_free = weights > TOLERANCE * max(float(counts.sum()), 1.0)
        weights, axes = weights[is_free], axes[:, is_free]
        along = axes.T @ h
        explained = (along**2 / weights[:, None]).sum(axis=0)
        degrees = self.n_rows - self.rank - len(weights)
        effects = np.zeros_like(h)
        if degrees > 0 and len(weights):
            error = np.maximum(self.residual_squares - explained, 0) / degrees
            spread = (explained - len(weights) * error) / weights.sum()
            for j in np.flatnonzero(spread > 0):
                shrunk = along[:, j] / (weights + error[j] / spread[j])
                effects[:, j] = axes @ shrunk
        return self.coefficients - adjustment @ effects, effects
