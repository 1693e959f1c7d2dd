"""Whether the density falls between two segments, or KMeans merely cut a cloud."""

from __future__ import annotations

import itertools

import numpy as np

from core.segments.axis_model import FloatArray, IntArray

WINDOW = 0.1
STARTS = (0.35, 0.40, 0.45, 0.50, 0.55)
"""Windows around the border (0.5) in which the valley may lie, in distances between the
two centres: a border 0.1 beside the bottom of the valley still parts the two."""
BOUND = 1.64
"""Standard errors that the count in the valley is taken to be larger than counted, so
that few customers do not part two segments by luck."""
ROUNDING = 1e-9
"""Values that differ by less, in standard deviations, are equal."""


def spread_ties(columns: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Spread customers with equal values over the room up to the next values.

    Counts and rates take few values, and the room between 1 and 2 orders is not a
    valley. Where several customers share a value they are drawn evenly from the middle
    between it and the next smaller one to the middle between it and the next larger
    one. What stays visible are values few customers have between values many have.

    Parameters
    ----------
    columns : ndarray of shape (n_features, n_rows)
        Scaled features without NaN.
    rng : Generator

    Returns
    -------
    ndarray of shape (n_features, n_rows)
    """
    return np.array([_spread(column, rng) for column in columns])


def _spread(column: FloatArray, rng: np.random.Generator) -> FloatArray:
    rounded = np.round(column / ROUNDING) * ROUNDING
    values, places, counts = np.unique(rounded, return_inverse=True, return_counts=True)
    if len(values) in {1, len(column)}:
        return column
    middles = (values[1:] + values[:-1]) / 2
    low = np.concatenate([[2 * values[0] - middles[0]], middles])
    high = np.concatenate([middles, [2 * values[-1] - middles[-1]]])
    drawn = rng.uniform(low[places], high[places])
    return np.where(counts[places] > 1, drawn, column)


def valley_depth(columns: FloatArray, labels: IntArray, centres: FloatArray) -> float:
    """Return how deep the flattest valley between two segments is.

    For each two segments their customers are seen along the line through the centres.
    The density in the emptiest window near the border, counted with its upper bound, is
    divided by the lower of the two segments' own densities, each that of its middle
    half; the depth is 1 minus that.

    Parameters
    ----------
    columns : ndarray of shape (n_features, n_rows)
        Scaled features, ties spread, not clipped.
    labels : ndarray of int, shape (n_rows,)
    centres : ndarray of shape (n_segments, n_features)

    Returns
    -------
    float
        At most 1: nobody between any two; 0 or below: some two are one heap that was
        cut. NaN for one segment.
    """
    pairs = itertools.combinations(range(len(centres)), 2)
    depths = [_depth(columns, labels, centres, *pair) for pair in pairs]
    return min(depths, default=np.nan)


def _depth(
    columns: FloatArray, labels: IntArray, centres: FloatArray, one: int, other: int
) -> float:
    """Return the depth of the valley between two segments."""
    line = centres[other] - centres[one]
    line = line / (line @ line)
    seen = [
        np.sort(line @ (columns[:, labels == label] - centres[one][:, None]))
        for label in (one, other)
    ]
    if min(len(places) for places in seen) == 0:
        return -np.inf
    cores = [_core_density(places) for places in seen]
    starts = np.array(STARTS)
    counts = sum(
        np.searchsorted(places, starts + WINDOW) - np.searchsorted(places, starts)
        for places in seen
    )
    n = float(np.min(counts))
    valley = (n + BOUND * np.sqrt(n + 1.0)) / WINDOW
    return float(1.0 - valley / min(cores))


def _core_density(places: FloatArray) -> float:
    """Return the customers per unit in the middle half of sorted places."""
    first, last = np.quantile(places, [0.25, 0.75])
    return float(0.5 * len(places) / max(last - first, ROUNDING))
