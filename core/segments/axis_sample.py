"""Customers drawn by value tier, as the reference recipe draws them, with weights."""

from __future__ import annotations

from typing import Final

import numpy as np

from core.segments.axis_model import FloatArray, IntArray

TIERS: Final = ((0.0, 0.5, 0.2), (0.5, 0.8, 0.3), (0.8, 0.95, 0.3), (0.95, 1.0, 0.2))
"""From and to which share of the customers by value, and the share of the draw."""


def tier_sample(values: FloatArray, n: int, seed: int) -> tuple[IntArray, FloatArray]:
    """Draw customers by value tier.

    The reference draws 1,000, 1,500, 1,500 and 1,000 of 5,000 from the lower half, the
    next 30%, the next 15% and the top 5%. Taken as they are these would make valuable
    customers four times as many as they are; their weights undo that.

    Parameters
    ----------
    values : ndarray of shape (n_customers,)
        Lifetime values; unknown (NaN) ones count as the lowest. Equal values are
        ordered by lot.
    n : int
        Customers to draw, at most as many as there are.
    seed : int

    Returns
    -------
    (ndarray of int64, ndarray of float64)
        Rows, ascending, and how many customers each stands for (sums to all of them).
    """
    rng = np.random.default_rng(seed)
    known = np.where(np.isnan(values), -np.inf, values)
    order = np.lexsort([rng.permutation(len(values)), known])
    edges = [round(share * len(values)) for _, share, _ in TIERS]
    rows, weights = [], []
    for tier, (first, share) in zip(
        np.split(order, edges[:-1]), ((t[0], t[2]) for t in TIERS), strict=True
    ):
        size = min(len(tier), max(round(share * n), 1))
        if size:
            rows.append(rng.choice(tier, size, replace=False))
            weights.append(np.full(size, len(tier) / size))
        del first
    picked, heavy = np.concatenate(rows), np.concatenate(weights)
    ascending = np.argsort(picked)
    return picked[ascending].astype(np.int64), heavy[ascending]
