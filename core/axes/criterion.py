"""The number of segments on an axis, which may be one: no segments here.

KMeans answers for any number, so something else has to say which answers stand for
something. For each number from 2 up, on a draw of customers:

separation
    The density falls between every two segments (`density_gap`): in the
    emptiest place near the border there are at most `1 - VALLEY` times as many as in
    the middle halves of the segments beside it. A cloud that was merely cut has no such
    valley, whatever its shape, its tails and its silhouette.
shares
    The smallest segment holds `SMALLEST_SHARE`, the largest at most `LARGEST_SHARE`: a
    few outliers beside everyone are no segments, and reach silhouettes near 1.
stability
    Clusters of two halves of the customers agree (ARI) by `STABILITY`.

**The largest number that meets all of these is taken; if none does, there is one
segment.** All three are needed: a cut through a cloud along its length comes back
(stability 0.9 and more on correlated normal features), outliers are separate, and a
valley between two of six segments says nothing of the other four.

A refit keeps the number it had where that still nearly meets them (`KEPT_VALLEY`,
`KEPT_STABILITY`, half of `SMALLEST_SHARE`; one segment always does) and no larger one
is clearly parted (`CHANGED_VALLEY`), since otherwise two answers that nothing tells
apart would take turns with the customers drawn.

KMeans has starts by lot, and one more: from eight clusters, those without a valley
between them taken together. Without it a group of 5% beside one of 95% was missed in a
quarter of the draws, and in a twentieth with it.

**How often it is right.** 3,000 customers, 20 draws each, at most 6 segments
(``python benchmarks/axes_criterion.py``); beside it the number with the largest
silhouette, by which the reference chooses:

============================  ======  =====  ==========
population                    groups  right  silhouette
============================  ======  =====  ==========
2 normal, 4 sd, 50:50              2    90%        100%
2 normal, 4 sd, 85:15              2     5%        100%
2 normal, 6 sd, 95:5               2    95%        100%
3 normal, 5 sd                     3    90%         65%
5 normal, 5 sd                     5    95%         45%
6 normal, 6 sd                     6    95%         55%
3 long-tailed, 7 sd                3   100%         70%
3 skewed, 6 sd                     3   100%         80%
3 boxes, 5 sd                      3    75%         45%
4 flags that go together           2   100%        100%
nothing or a sum                   2   100%        100%
rates of a few orders              2    90%        100%
one order or more                  2   100%         95%
14 kinds of one population         1   100%          0%
============================  ======  =====  ==========

The kinds of one population: normal (1 feature, 6, 6 correlated), even (1, 2, 4),
lognormal, exponential, Student's t, shares of one, counts, a flag beside normal
features, zeros that fade into the rest, scores that step at one tenure: no false alarm
in 280 draws. What it misses are groups that run into one another (15% beside 85% at 4
standard deviations: the density between them hardly falls below that of the smaller).
It then answers fewer, not more.

A gap that counting makes is a gap: of a few orders nobody returns a tenth, so those who
never returned anything stand apart from the others, in a single population too.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Final, Literal

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


def spread_ties(columns: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Spread customers with equal values over the room up to the next values.

    Counts and rates take few values, and the room between 1 and 2 orders is not a
    valley. Where several customers share a value they are spread evenly from the middle
    between it and the next smaller one to the middle between it and the next larger
    one. What stays visible are values few customers have between values many have.

    Who stands where among the equal is told by the finer features (with `FINER` times
    as many values): a score that counts thresholds of the tenure is put in the order of
    the tenure, and becomes as even as that. Otherwise two such scores, which step
    at the same tenure, would make steps of what has none. Nothing finer: by lot.

    Parameters
    ----------
    columns : ndarray of shape (n_features, n_rows)
        Scaled features without NaN.
    rng : Generator

    Returns
    -------
    ndarray of shape (n_features, n_rows)
    """
    rounded = np.round(columns / ROUNDING) * ROUNDING
    n_values = np.array([len(np.unique(column)) for column in rounded])
    spread = columns.copy()
    for place in np.argsort(-n_values, kind="stable"):
        is_finer = (n_values >= FINER * n_values[place]) & (n_values[place] > 2)
        finer = spread[is_finer]
        order = _predicted(rounded[place], finer)
        spread[place] = _spread(rounded[place], columns[place], order, rng)
    return spread


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


TIERS: Final = ((0.0, 0.5, 0.2), (0.5, 0.8, 0.3), (0.8, 0.95, 0.3), (0.95, 1.0, 0.2))
"""From and to which share of the customers by value, and the share of the draw."""


def tier_sample(
    values: FloatArray, n: int, seed: int
) -> tuple[centroids.IntArray, FloatArray]:
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
    for tier, (_, _, share) in zip(np.split(order, edges[:-1]), TIERS, strict=True):
        size = min(len(tier), max(round(share * n), 1))
        if size:
            rows.append(rng.choice(tier, size, replace=False))
            weights.append(np.full(size, len(tier) / size))
    picked, heavy = np.concatenate(rows), np.concatenate(weights)
    ascending = np.argsort(picked)
    return picked[ascending].astype(np.int64), heavy[ascending]


Kind = Literal["natural", "cut", "single"]

CHOOSING_CUSTOMERS: Final = 6000
"""Customers that the number is chosen on."""
SILHOUETTE_CUSTOMERS: Final = 1500
N_SPLITS: Final = 2
N_PARTS: Final = 8
"""Clusters that components of density are put together from."""
VALLEY: Final = 0.3
SMALLEST_SHARE: Final = 0.02
LARGEST_SHARE: Final = 0.97
STABILITY: Final = 0.8
KEPT_VALLEY: Final = 0.15
KEPT_STABILITY: Final = 0.7
CHANGED_VALLEY: Final = 0.4
SAME: Final = 0.02
"""Difference in depth that is none."""
FEWEST_CUSTOMERS: Final = 50
"""Customers below whom nothing is looked for."""


@dataclass(frozen=True)
class AxisCandidate:
    """A number of segments that was considered.

    Attributes
    ----------
    n_segments : int
    silhouette : float
        Mean silhouette on the scaled features.
    valley : float
        Depth of the flattest valley between two segments, at most 1; 0 or below: none.
    smallest_share, largest_share : float
        Of the customers drawn.
    stability : float or None
        Mean ARI between clusters of two halves; None where separation or shares ruled
        the number out before.
    fault : str
        Why it is not taken, in words; empty where it meets everything.
    """

    n_segments: int
    silhouette: float
    valley: float
    smallest_share: float
    largest_share: float
    stability: float | None = None
    fault: str = ""


@dataclass(frozen=True)
class AxisChoice:
    """The number of segments that was chosen, and why.

    Attributes
    ----------
    kind : {'natural', 'cut', 'single'}
        Met the criterion; was asked for by `min_segments`; neither.
    n_segments : int
    verdict : str
        In words.
    candidates : tuple of AxisCandidate
        All that were considered, the fewest segments first.
    null_silhouette : float or None
        What the same number of segments reaches on a single normal population with the
        same covariance; None with one segment.
    """

    kind: Kind
    n_segments: int
    verdict: str
    candidates: tuple[AxisCandidate, ...]
    null_silhouette: float | None = None

    @property
    def shown(self) -> AxisCandidate | None:
        """The candidate taken; with one segment, the one with the deepest valley."""
        by_number = {c.n_segments: c for c in self.candidates}
        deepest = max(self.candidates, key=lambda c: c.valley, default=None)
        return by_number.get(self.n_segments, deepest)


@dataclass(frozen=True)
class Drawn:
    """The customers that the number is chosen on.

    Attributes
    ----------
    rows : ndarray of shape (n_rows, n_features)
        Scaled features.
    opened : ndarray of shape (n_features, n_rows)
        The same, not clipped, ties spread: see `core.axes.criterion`.
    before : ndarray of int, shape (n_rows,), or None
        Segments of an earlier model, from 0; -1 is none.
    n_before : int
        How many it had; 0 where there was none.
    """

    rows: FloatArray
    opened: FloatArray
    before: centroids.IntArray | None = None
    n_before: int = 0


def choose_segments(
    drawn: Drawn, *, fewest: int, most: int, seed: int
) -> tuple[AxisChoice, centroids.Clusters]:
    """Choose the number of segments of an axis, and cluster.

    Parameters
    ----------
    drawn : Drawn
    fewest, most : int
        Bounds of the number; more than 1 segment where the criterion finds none makes
        it a cut.
    seed : int

    Returns
    -------
    (AxisChoice, Clusters)
        The clusters are those of the rows drawn.
    """
    n_rows = len(drawn.rows)
    n_places = len(np.unique(drawn.rows, axis=0))
    numbers = range(2, min(max(fewest, most), n_places) + 1)
    if n_rows < FEWEST_CUSTOMERS and fewest < 2:
        numbers = range(0)
    found: dict[int, centroids.Clusters] = {}
    candidates: dict[int, AxisCandidate] = {}
    parted = _parted(drawn, most, seed) if numbers else None
    picked = np.arange(0, n_rows, max(1, n_rows // SILHOUETTE_CUSTOMERS))
    distances = centroids.pairwise_distances(drawn.rows[picked])
    for n in numbers:
        found[n], start = _best(drawn, parted, n, seed)
        score = centroids.mean_silhouette(distances, found[n].labels[picked])
        candidates[n] = _candidate(drawn, found[n], score, seed, start)
    kind, n, verdict = _taken(candidates, fewest, drawn.n_before)
    if n == 1:
        found[1] = centroids.Clusters(
            drawn.rows.mean(axis=0, keepdims=True), np.zeros(n_rows, np.int64), 0.0
        )
    null = _null_silhouette(drawn.rows, n, seed) if n > 1 else None
    choice = AxisChoice(kind, n, verdict, tuple(candidates.values()), null)
    return choice, found[n]


def _parted(drawn: Drawn, most: int, seed: int) -> centroids.Clusters | None:
    """Return KMeans from the components of density; None for one, or too many."""
    n_parts = min(N_PARTS, len(np.unique(drawn.rows, axis=0)))
    parts = centroids.kmeans(drawn.rows, n_parts, seed)
    labels = density_components(drawn.opened, parts.labels, parts.centres, VALLEY)
    start = centroids.means_of(drawn.rows, labels)
    if not 2 <= len(start) <= most:
        return None
    return centroids.kmeans(drawn.rows, len(start), seed, start=start)


def _best(
    drawn: Drawn, parted: centroids.Clusters | None, n: int, seed: int
) -> tuple[centroids.Clusters, FloatArray | None]:
    """Return `n` clusters, and the centres they came from if not from starts by lot."""
    if drawn.before is not None and n == drawn.n_before:
        start = centroids.means_of(drawn.rows, drawn.before)
        if len(start) == n:
            near = centroids.kmeans(drawn.rows, n, seed, start=start)
            if _valley(drawn, near) >= KEPT_VALLEY:
                return near, start
    found = centroids.warm_start(drawn.rows, n, seed, drawn.before)
    if parted is None or len(parted.centres) != n:
        return found, None
    is_as_deep = _valley(drawn, parted) >= _valley(drawn, found) - SAME
    return (parted, parted.centres) if is_as_deep else (found, None)


def _valley(drawn: Drawn, found: centroids.Clusters) -> float:
    return density_gap(drawn.opened, found.labels, found.centres)


def _candidate(
    drawn: Drawn,
    found: centroids.Clusters,
    score: float,
    seed: int,
    start: FloatArray | None,
) -> AxisCandidate:
    """Measure a number of segments; its stability only if the rest allows it."""
    n = len(found.centres)
    shares = np.bincount(found.labels, minlength=n) / len(found.labels)
    depth = _valley(drawn, found)
    candidate = AxisCandidate(n, score, depth, float(shares.min()), float(shares.max()))
    fault = _fault(candidate, is_kept=n == drawn.n_before)
    if not fault:
        ari = centroids.split_half_ari(drawn.rows, n, seed, N_SPLITS, start)
        candidate = replace(candidate, stability=ari)
    return replace(candidate, fault=_fault(candidate, is_kept=False))


def _fault(candidate: AxisCandidate, *, is_kept: bool) -> str:
    """Return what a candidate does not meet, in words; empty if it meets all."""
    valley = KEPT_VALLEY if is_kept else VALLEY
    smallest = SMALLEST_SHARE / 2 if is_kept else SMALLEST_SHARE
    largest = 1 - (1 - LARGEST_SHARE) / 2 if is_kept else LARGEST_SHARE
    stable = KEPT_STABILITY if is_kept else STABILITY
    if candidate.smallest_share < smallest:
        return (
            f"its smallest segment has {candidate.smallest_share:.1%} of the customers"
        )
    if candidate.largest_share > largest:
        return f"one segment has {candidate.largest_share:.1%} of the customers"
    if not candidate.valley >= valley:
        return "two of its segments are one heap: the density hardly falls between them"
    if candidate.stability is not None and candidate.stability < stable:
        return (
            f"two halves of the customers agree by an ARI of {candidate.stability:.2f}"
        )
    return ""


def _taken(
    candidates: dict[int, AxisCandidate], fewest: int, n_before: int
) -> tuple[Kind, int, str]:
    """Return kind, number and verdict."""
    admissible = {n: c for n, c in candidates.items() if not c.fault}
    kept = candidates.get(n_before)
    if n_before == 1 or (kept is not None and not _fault(kept, is_kept=True)):
        clear = [n for n, c in admissible.items() if c.valley >= CHANGED_VALLEY]
        n = max([n_before, *clear])
    else:
        n = max(admissible, default=1)
    if n >= fewest and n > 1:
        found = candidates[n]
        said = f"{n} segments, parted by valleys (depth {found.valley:.2f} at least)"
        return "natural", n, said
    if fewest > 1 and candidates:
        n = min(fewest, max(candidates))
        said = f"no {fewest} segments are parted; cut into {n}, as `min_segments` asks"
        return "cut", n, said
    if not candidates:
        return "single", 1, "too few customers, or all alike: nothing to look for"
    shown = max(candidates.values(), key=lambda c: c.valley)
    fault = shown.fault or (
        f"a valley of {shown.valley:.2f} is too flat to part what was one before"
    )
    return "single", 1, f"no segments here; with {shown.n_segments}, {fault}"


def _null_silhouette(rows: FloatArray, n: int, seed: int) -> float:
    """Return the silhouette of `n` segments on one normal population."""
    rng = np.random.default_rng(seed)
    covariance = np.atleast_2d(np.cov(rows, rowvar=False))
    middle = np.zeros(len(covariance))
    n_rows = min(SILHOUETTE_CUSTOMERS, len(rows))
    # By eigenvectors: features that follow from others leave it without full rank.
    single = rng.multivariate_normal(middle, covariance, n_rows, method="eigh")
    return centroids.mean_silhouette(
        centroids.pairwise_distances(single), centroids.kmeans(single, n, seed).labels
    )
