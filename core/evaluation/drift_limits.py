"""Limits of drift: what chance alone does to months of the size at hand.

How they are found is told in `core.evaluation.drift`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.evaluation.distances import CountArray, share_samples
from core.evaluation.drift_reference import (
    MAX_ROWS,
    ColumnPair,
    DriftReference,
    Key,
    share_place,
)
from core.evaluation.quality import FloatArray

Thresholds = Literal["calibrated", "fixed"]
# They place the limit between the levels of 4% and 6% or so.
N_SAMPLES = 400
FIXED = {"psi": 0.25, "ks": 0.1}
FLOORS = {"psi": 0.04, "ks": 0.08}


@dataclass(frozen=True)
class DriftOptions:
    """What counts as an alert.

    Attributes
    ----------
    thresholds : {'calibrated', 'fixed'}
        'fixed': PSI 0.25, Kolmogorov-Smirnov 0.1 and `share_shift`, whatever the size.
    share_shift : float
        Least change of a share that alerts, 0 to 1.
    level : float
        Most stationary months that may alert, as a share; of calibrated thresholds.
    """

    thresholds: Thresholds = "calibrated"
    share_shift: float = 0.05
    level: float = 0.05


def drift_limits(
    reference: DriftReference,
    pairs: Mapping[tuple[str, str], ColumnPair],
    keys: list[Key],
    n_rows: int,
    options: DriftOptions,
    seed: int,
) -> dict[Key, float]:
    """Return the largest value of each statistic that is no alert.

    Parameters
    ----------
    reference : DriftReference
    pairs : mapping of (kind, name) to a pair of columns
        `DriftReference.columns` of the month.
    keys : list of Key
        Statistics that were measured.
    n_rows : int
        Rows of the month.
    options : DriftOptions
    seed : int
        Draws the samples.
    """
    if options.thresholds == "fixed":
        return {key: FIXED.get(key[2], options.share_shift) for key in keys}
    samples = null_samples(reference, pairs, n_rows, seed)
    measured = {key: samples[key] for key in keys if key in samples}
    chance = _max_t_limits(measured, options.level)
    limits = {}
    for key in keys:
        floor = FLOORS.get(key[2], options.share_shift)
        limit = max(chance.get(key, 0.0), floor)
        limits[key] = _beyond(key, limit, reference.usual)
    return limits


def _beyond(key: Key, limit: float, usual: Mapping[Key, float]) -> float:
    """Return the limit of what comes on top of a usual difference.

    Distances add up at most (triangle inequality); PSI, the square of one as long as it
    is small, does by its root.
    """
    kind, name, statistic = key
    # A month may also be as far from the month before as it is from training.
    known = "difference" if statistic == "step" else statistic
    excess = usual.get((kind, name, known), 0.0)
    if not excess:
        return limit
    power = _power(key)
    return float((limit**power + excess**power) ** (1 / power))


def null_samples(
    reference: DriftReference,
    pairs: Mapping[tuple[str, str], ColumnPair],
    n_rows: int,
    seed: int,
) -> dict[Key, FloatArray]:
    """Return every statistic of pairs of samples that differ by chance only.

    The month before is taken to have had as many rows as the month. Samples of more
    than 10,000 rows are not needed: even those stay below all floors. Of n rows,
    n - sqrt(n) are drawn: the reference is a sample, too, and knows its own spread the
    worse the smaller it is. With 100 rows, 8% instead of 5% of simulated months alerted
    without.
    """
    rng = np.random.default_rng(seed)
    n_kept = len(reference.X)
    sizes = n_kept, min(n_rows, MAX_ROWS), min(n_rows, MAX_ROWS)
    drawn = [max(size - round(size**0.5), 1) for size in sizes]
    before, now, previous = (_draws(n_kept, size, rng) for size in drawn)
    samples: dict[Key, FloatArray] = {}
    for place, (column, _) in pairs.items():
        psi, samples[*place, "ks"] = column.compare_samples(before, now)
        samples[*place, "psi"] = psi
    ids = sorted(set(reference.segments.tolist()))
    shares = [
        share_samples(reference.segments, ids, x) for x in (before, now, previous)
    ]
    for i, own_before, own_now, own_previous in zip(ids, *shares, strict=True):
        samples[*share_place(i), "difference"] = np.abs(own_now - own_before)
        samples[*share_place(i), "step"] = np.abs(own_now - own_previous)
    return samples


def _draws(n_rows: int, size: int, rng: np.random.Generator) -> CountArray:
    """Return how often each row is drawn, shape (n_rows, `N_SAMPLES`)."""
    counts = [
        np.bincount(rng.integers(n_rows, size=size), minlength=n_rows)
        for _ in range(N_SAMPLES)
    ]
    return np.ascontiguousarray(np.array(counts, dtype=np.float32).T)


def _max_t_limits(samples: Mapping[Key, FloatArray], level: float) -> dict[Key, float]:
    """Return the limits that only a share `level` of the samples passes anywhere."""
    values = np.array([x ** _power(key) for key, x in samples.items()])
    centre, spread = values.mean(axis=1), values.std(axis=1)
    scale = np.where(spread > 0, spread, 1.0)
    largest = ((values - centre[:, None]) / scale[:, None]).max(axis=0)
    limit = np.quantile(largest, 1 - level, method="higher")
    limits = np.maximum(centre + limit * spread, 0.0)
    return {
        key: float(own ** (1 / _power(key)))
        for key, own in zip(samples, limits, strict=True)
    }


def _power(key: Key) -> float:
    """Return the power that gives a statistic a tail like a normal's."""
    return 0.5 if key[2] == "psi" else 1.0
