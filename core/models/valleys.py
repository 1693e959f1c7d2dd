"""Valleys: how far the density falls between clusters that centres make of rows.

A cloud that was merely cut has no valley between its parts, whatever its shape, its
tails and its silhouette; see `core.models.criterion`, which asks for one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from core.models import centroids
from core.models.centroids import FloatArray

WINDOW = 0.1
STARTS = (0.25, 0.30, 0.35, 0.40, 0.45, 0.50, 0.55, 0.60, 0.65)
"""Windows in which the valley may lie, in distances between the two centres, with the
border at 0.5. Beside a large segment the bottom of the valley is nearer to the small
one, while KMeans draws its border in the middle: 85% and 15% four standard deviations
apart have a depth of -0.1 at most in windows from 0.35 to 0.65, and of 0.3 in these."""
BOUND = 1.64
"""Standard errors that the count in the valley is taken to be larger than counted, so
that few customers do not part two segments by luck."""
ROUNDING = 1e-9
"""Values that differ by less, in standard deviations, are equal."""
LEAST = -9.0
"""What the depth is at least: nothing hangs on how far below 0 it is."""
FINER = 5
"""Times as many values as a feature has, from which another may order its ties."""
LIMIT = 10.0
"""Standard deviations that finer features are clipped to when they order ties."""
TOLD = 0.9
"""Mean share of a level's rows that finer features place in it, for it to step where
they do."""
LEAST_VARIANCE = 1e-4
"""Of a feature within a level, so that one row of its own is not infinitely sure."""


def spread_ties(
    columns: FloatArray,
    rng: np.random.Generator,
    categories: Sequence[slice] = (),
) -> FloatArray:
    """Spread customers with equal values over the room up to the next values.

    Counts and rates take few values, and the room between 1 and 2 orders is not a
    valley. Where several customers share a value they are spread evenly from the middle
    between it and the next smaller one to the middle between it and the next larger
    one. What stays visible are values few customers have between values many have.

    Who stands where among the equal is told by the finer features (with `FINER` times
    as many values): a score that counts thresholds of the tenure is put in the order of
    the tenure, and becomes as even as that. Otherwise two such scores, which step
    at the same tenure, would make steps of what has none. Nothing finer: by lot.

    The indicators of a category's levels are spread together: what lies between two
    levels is not a valley either. Who stands near the border is told by the finer
    features as well: an age band steps where the age does not.

    Parameters
    ----------
    columns : ndarray of shape (n_features, n_rows)
        Scaled features without NaN.
    rng : Generator
    categories : sequence of slice
        Features that are the indicators of one category, a slice each.

    Returns
    -------
    ndarray of shape (n_features, n_rows)
    """
    if categories:
        is_number = np.ones(len(columns), dtype=bool)
        spread = columns.copy()
        for levels in categories:
            is_number[levels] = False
        numbers = columns[is_number]
        spread[is_number] = spread_ties(numbers, rng)
        n_values = np.array([len(np.unique(np.round(c / ROUNDING))) for c in numbers])
        for levels in categories:
            n_levels = len(columns[levels])
            finer = spread[is_number][n_values >= FINER * max(n_levels, 2)]
            spread[levels] = _spread_levels(columns[levels], finer, rng)
        return spread
    rounded = np.round(columns / ROUNDING) * ROUNDING
    n_values = np.array([len(np.unique(column)) for column in rounded])
    spread = columns.copy()
    for place in np.argsort(-n_values, kind="stable"):
        if n_values[place] == columns.shape[1]:
            continue  # no ties
        is_finer = (n_values >= FINER * n_values[place]) & (n_values[place] > 2)
        finer = spread[is_finer]
        order = _predicted(rounded[place], finer)
        spread[place] = _spread(rounded[place], columns[place], order, rng)
    return spread


def _spread_levels(
    block: FloatArray, finer: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Return indicators evenly between the middle of all levels and twice as far out.

    Seen along the line between any two levels the density is even on either side of
    their border, and the mean of a level is where it was.
    """
    low = block.min(axis=1, keepdims=True)
    unit = float((block.max(axis=1, keepdims=True) - low).max())
    middle = low + unit / len(block)
    level = (block - low).argmax(axis=0)
    counts = np.bincount(level)
    order = _told_apart(level, finer)
    by_level = np.lexsort([rng.random(len(level)), order, level])
    ranks = np.empty(len(level))
    ranks[by_level] = np.arange(len(level))
    share = (ranks - (np.cumsum(counts) - counts)[level] + 0.5) / counts[level]
    return np.asarray(middle + 2.0 * share * (block - middle))


def _told_apart(level: centroids.IntArray, finer: FloatArray) -> FloatArray:
    """Return how clearly finer features tell each row's level from the next best.

    In logarithms of likelihoods, every feature normal in every level (naive Bayes);
    0 where they do not tell the levels (`TOLD`): an order that follows groups in other
    features would make gaps between levels that know nothing of them.
    """
    found = np.unique(level)
    if not len(finer) or len(found) < 2:
        return np.zeros(len(level))
    finer = np.clip(finer, -LIMIT, LIMIT)
    likely = np.empty((len(found), len(level)))
    for place, one in enumerate(found):
        own = finer[:, level == one]
        middle = own.mean(axis=1, keepdims=True)
        variance = own.var(axis=1, keepdims=True) + LEAST_VARIANCE
        squares = (finer - middle) ** 2 / variance + np.log(variance)
        likely[place] = -0.5 * squares.sum(axis=0)
    own_place, everyone = np.searchsorted(found, level), np.arange(len(level))
    of_own = likely[own_place, everyone]
    likely[own_place, everyone] = -np.inf
    margin = np.asarray(of_own - likely.max(axis=0))
    is_told = np.bincount(own_place, weights=margin > 0) / np.bincount(own_place)
    return margin if is_told.mean() >= TOLD else np.zeros(len(level))


def _predicted(column: FloatArray, finer: FloatArray) -> FloatArray:
    """Return what least squares on finer features say of a column."""
    if not len(finer):
        return np.zeros(len(column))
    design = np.vstack([np.ones(len(column)), np.clip(finer, -LIMIT, LIMIT)]).T
    weights = np.linalg.lstsq(design, column, rcond=None)[0]
    return np.asarray(design @ weights)


def _spread(
    rounded: FloatArray, column: FloatArray, order: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Return a column whose equal values are spread, in the order given."""
    values, places, counts = np.unique(rounded, return_inverse=True, return_counts=True)
    if len(values) in {1, len(column)}:
        return column
    middles = (values[1:] + values[:-1]) / 2
    low = np.concatenate([[2 * values[0] - middles[0]], middles])
    high = np.concatenate([middles, [2 * values[-1] - middles[-1]]])
    by_value = np.lexsort([rng.random(len(column)), order, places])
    ranks = np.empty(len(column))
    ranks[by_value] = np.arange(len(column))
    first = np.cumsum(counts) - counts
    share = (ranks - first[places] + 0.5) / counts[places]
    drawn = low[places] + share * (high - low)[places]
    return np.where(counts[places] > 1, drawn, column)


def density_gap(
    columns: FloatArray, labels: centroids.IntArray, centres: FloatArray
) -> float:
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
    depths = valley_depths(columns, labels, centres)
    pairs = np.triu_indices(len(centres), 1)
    return float(depths[pairs].min()) if len(centres) > 1 else float("nan")


def valley_depths(
    columns: FloatArray, labels: centroids.IntArray, centres: FloatArray
) -> FloatArray:
    """Return the depth of the valley between every two segments, see `density_gap`.

    Returns
    -------
    ndarray of shape (n_segments, n_segments)
        Symmetric, 0 on the diagonal.
    """
    depths = np.zeros((len(centres), len(centres)))
    for one, other in itertools.combinations(range(len(centres)), 2):
        depth = _depth(columns, labels, centres, one, other)
        depths[one, other] = depths[other, one] = depth
    return depths


def density_components(
    columns: FloatArray, labels: centroids.IntArray, centres: FloatArray, least: float
) -> centroids.IntArray:
    """Return the components of density that many small clusters are parts of.

    Clusters without a valley between them are one heap, and so are those that hang
    together through others (as in UniForCE, Vardakas, Kalogeratos and Likas, 2023).

    Parameters
    ----------
    columns, labels, centres
        As in `density_gap`.
    least : float
        Depth from which two clusters are parted.

    Returns
    -------
    ndarray of int, shape (n_rows,)
        Heap of each row, from 0.
    """
    from scipy.sparse.csgraph import connected_components

    is_one = valley_depths(columns, labels, centres) < least
    found = connected_components(is_one, directed=False)[1]
    return np.asarray(found[labels], dtype=np.int64)


def _depth(
    columns: FloatArray,
    labels: centroids.IntArray,
    centres: FloatArray,
    one: int,
    other: int,
) -> float:
    """Return the depth of the valley between two segments."""
    line = centres[other] - centres[one]
    line = line / (line @ line)
    seen = [
        np.sort(line @ (columns[:, labels == label] - centres[one][:, None]))
        for label in (one, other)
    ]
    if min(len(places) for places in seen) == 0:
        return LEAST
    cores = [_core_density(places) for places in seen]
    starts = np.array(STARTS)
    counts = sum(
        np.searchsorted(places, starts + WINDOW) - np.searchsorted(places, starts)
        for places in seen
    )
    n = float(np.min(counts))
    valley = (n + BOUND * np.sqrt(n + 1.0)) / WINDOW
    return max(float(1.0 - valley / min(cores)), LEAST)


def _core_density(places: FloatArray) -> float:
    """Return the customers per unit in the middle half of sorted places."""
    first, last = np.quantile(places, [0.25, 0.75])
    return float(0.5 * len(places) / max(last - first, ROUNDING))
