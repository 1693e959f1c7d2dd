"""How well rules say a target, on entities that they were not learnt from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.rules.tree import FloatArray, is_class

N_DRAWS = 400
_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Score:
    """A score with the interval that holds it.

    Attributes
    ----------
    value : float
        R2 of a quantity: 1 is exact, 0 as good as the mean for everybody. Balanced
        accuracy of classes: the mean of the classes' shares that are named rightly.
    low, high : float
        95% percentile interval over 400 bootstrap samples of the entities.
    """

    value: float
    low: float
    high: float

    def text(self) -> str:
        """Return the score with its interval.

        >>> Score(0.4321, 0.4, 0.46).text()
        '0.43 (95% interval 0.40 to 0.46)'
        """
        value, low, high = map(two_decimals, (self.value, self.low, self.high))
        if low == high:
            return value
        return f"{value} (95% interval {low} to {high})"


def two_decimals(score: float) -> str:
    """Return a score with two decimals, without a sign at 0.

    >>> two_decimals(-0.0004)
    '0.00'
    """
    return f"{round(score, 2) + 0.0:.2f}"


def scores(
    said: Mapping[str, NDArray[Any]], truth: NDArray[Any], seed: int
) -> dict[str, Score] | None:
    """Score several answers on the same entities.

    Parameters
    ----------
    said : mapping of str to ndarray, shape (n_entities,)
        What each way of saying it says.
    truth : ndarray, shape (n_entities,)
        Integers are classes (scored by balanced accuracy), floats a quantity (by R2).
    seed : int
        Of the bootstrap samples, the same ones for all.

    Returns
    -------
    dict of str to Score, or None
        None where all have the same target: then nothing can be told apart.
    """
    if len(np.unique(truth)) < 2:
        return None
    measure = _balanced_accuracy if is_class(truth) else _r2
    losses = {
        name: (answer == truth).astype(float)
        if is_class(truth)
        else (answer - truth) ** 2
        for name, answer in said.items()
    }
    rng, n = np.random.default_rng(seed), len(truth)
    drawn: dict[str, list[float]] = {name: [] for name in said}
    for _ in range(N_DRAWS):
        rows = rng.integers(n, size=n)
        for name, loss in losses.items():
            drawn[name].append(measure(loss[rows], truth[rows]))
    found = {}
    for name, loss in losses.items():
        low, high = np.nanpercentile(drawn[name], _INTERVAL)
        found[name] = Score(measure(loss, truth), float(low), float(high))
    return found


def _r2(squared_error: FloatArray, truth: NDArray[Any]) -> float:
    spread = float(truth.var())
    return 1 - float(squared_error.mean()) / spread if spread else float("nan")


def _balanced_accuracy(is_right: FloatArray, truth: NDArray[Any]) -> float:
    counts = np.bincount(truth)
    right = np.bincount(truth, weights=is_right)
    return float((right[counts > 0] / counts[counts > 0]).mean())
