"""Linear effects of labels, shrunk as far as data says that they do not differ.

Effects of labels are random: their variance is estimated by Henderson's third method
(Searle, Casella and McCulloch, 1992), so labels that tell nothing shrink to nothing,
and many labels pay no more for their number than few. Closed form over sums of squares
and products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
TOLERANCE = 1e-9


@dataclass(frozen=True)
class FixedFit:
    """Least squares of outcomes on fixed columns in one training part, and its sums.

    Attributes
    ----------
    n_rows, rank : int
    inverse : ndarray of float, shape (p, p)
        Of S'S.
    coefficients : ndarray of float, shape (p, n_outcomes)
    residual_squares : ndarray of float, shape (n_outcomes,)
    """

    n_rows: int
    rank: int
    inverse: FloatArray
    coefficients: FloatArray
    residual_squares: FloatArray

    @classmethod
    def of(cls, S: FloatArray, Y: FloatArray) -> FixedFit:
        """Fit outcomes, (n_rows, n_outcomes), on columns, (n_rows, p)."""
        gram = S.T @ S
        inverse: FloatArray = np.asarray(
            np.linalg.pinv(gram, rcond=TOLERANCE, hermitian=True), dtype=np.float64
        )
        coefficients: FloatArray = inverse @ (S.T @ Y)
        residual = Y - S @ coefficients
        rank = round(float(np.trace(inverse @ gram)))
        squares = np.asarray((residual**2).sum(axis=0), dtype=np.float64)
        return cls(len(S), rank, inverse, coefficients, squares)

    def with_random(
        self, gram: FloatArray, cross: FloatArray, sums: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return fixed coefficients and shrunken random effects.

        Parameters
        ----------
        gram : ndarray, shape (n_effects, n_effects)
            Z'Z of the training rows; entities per label on its diagonal.
        cross : ndarray, shape (p, n_effects)
            S'Z.
        sums : ndarray, shape (n_effects, n_outcomes)
            Z'Y.
        """
        adjustment = self.inverse @ cross
        Q = gram - cross.T @ adjustment
        h = sums - cross.T @ self.coefficients
        weights, axes = np.linalg.eigh((Q + Q.T) / 2)
        is_free = weights > TOLERANCE * max(float(np.trace(gram)), 1.0)
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


def out_of_fold_errors(
    Y: FloatArray, Z: sparse.csr_array, folds: IntArray
) -> FloatArray:
    """Return squared errors of a mean and random effects on entities not seen.

    Parameters
    ----------
    Y : ndarray of float, shape (n_entities, n_outcomes)
    Z : sparse array of float, shape (n_entities, n_effects)
        1 where an effect is an entity's; an entity may have several (its tenth by
        recency, and its tenth by frequency).
    folds : ndarray of int, shape (n_repeats, n_entities)
        The fold in which each entity is judged, from 0.

    Returns
    -------
    ndarray of float, shape (n_entities, n_outcomes)
        Means over the repeats.
    """
    squared = np.zeros_like(Y)
    gram = (Z.T @ Z).toarray()
    sums = Z.T @ Y
    for fold in folds:
        for f in range(int(fold.max()) + 1):
            is_test = fold == f
            own, y = Z[is_test], Y[is_test]
            train = Y[~is_test]
            fit = FixedFit.of(np.ones((len(train), 1)), train)
            mean, effects = fit.with_random(
                gram - (own.T @ own).toarray(),
                (Z.sum(axis=0) - own.sum(axis=0))[None, :],
                sums - own.T @ y,
            )
            squared[is_test] += (y - mean - own @ effects) ** 2
    return squared / len(folds)
