"""Entities whose recent months follow another segment and not their own past.

A label looks at years and so changes late. Here, what an entity did in the last months
is foretold twice: from its own past, and from the curve of each other segment, which it
would have followed since some month. The evidence is the logarithm of the odds between
the two (a Bayes factor, over all segments, at the most likely month). It speaks of how
an entity behaves, never of how much it sells: the level goes on from its own past, and
what moved everyone is taken out. A step in the level alone, up or down and for months,
is weighed against the own past in the same way, and told apart.

A curve is a season, a trend, a share of active months and a breadth, with how far the
segment's entities stray from them: a hierarchical linear model of the logarithms of
months (Gelman et al., Bayesian Data Analysis, 3rd ed., chapters 5 and 15), learnt by
empirical Bayes. How much evidence appears without any change is seen from the same
entities half a year earlier, so that the threshold holds for the noise of these data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import betaln, logsumexp

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

RECENT_MONTHS = 6
"""Months within which a change can have begun."""
MIN_MONTHS = 24
"""Months that a comparison needs: a year of past, and twice the recent months."""
HISTORY_MONTHS = 36
# Of entities without a change, the shares that one refresh may flag: as of another
# kind, as of another level, and so clearly of another kind that they are moved.
FALSE_SHARE, FALSE_LEVEL_SHARE, FALSE_MOVE_SHARE = 0.0012, 0.0004, 0.0002
# How likely the candidate has to be, among all segments, for a move.
CLEAR_CANDIDATE = 0.7
# Odds that a flag has at least, whatever the entities half a year ago were like.
LEAST_EVIDENCE = np.log(20.0)
# Where the tail of the evidence without change begins.
TAIL = 0.9
SEASON = 12
EFFECTS = SEASON + 2  # the months of the year, the trend, the level
# Standard deviations, of logarithms: of a level, of what a level moves a month by
# itself, of a step in the level that comes with another curve.
LEVEL_STD, DRIFT_STD, STEP_STD = 3.0, 0.05, 0.25
# Of a step in the level that is a change by itself, and the months that one lasts.
CHANGE_STD, LASTING_MONTHS = 0.7, 3
MIN_ENTITIES = 50
# Entities that a segment's spread and activity are drawn together by.
PRIOR_ENTITIES, PRIOR_MONTHS = 30.0, 8.0
ROUNDS = 4
# What an entity's effects take from its months, about.
LOST_DEGREES = 5
MIN_ACTIVE_MONTHS = 6
RIDGE = 1e-3
MIN_BREADTH_STD = 0.1
# Of the absolute value of a standard normal.
NORMAL_MEDIAN = 0.6745
BATCH = 4096


@dataclass(frozen=True)
class Months:
    """What entities did month by month.

    Attributes
    ----------
    t : ndarray of int64, shape (n_months,)
        Months since year 0, without gaps.
    log_quantity, log_breadth : ndarray of float64, shape (n_entities, n_months)
        Natural logarithms of units, and of distinct products; NaN in a month without
        sales, or where products are not known.
    """

    t: IntArray
    log_quantity: FloatArray
    log_breadth: FloatArray

    @classmethod
    def of(cls, t: IntArray, quantity: FloatArray, n_products: FloatArray) -> Months:
        """Return the months of entities from units and products, 0 where inactive."""

        def logs(values: FloatArray) -> FloatArray:
            return np.log(np.where(values > 0, values, np.nan))

        return cls(t, logs(quantity), logs(n_products))

    def between(self, first: int, last: int) -> Months:
        """Return some months, by position."""
        part = slice(first, last)
        return Months(
            self.t[part], self.log_quantity[:, part], self.log_breadth[:, part]
        )

    def rows(self, rows: IntArray | BoolArray | slice) -> Months:
        """Return some entities."""
        return Months(self.t, self.log_quantity[rows], self.log_breadth[rows])

    @property
    def is_active(self) -> BoolArray:
        """Whether an entity sold in a month."""
        return ~np.isnan(self.log_quantity)


class _Curves(NamedTuple):
    """The segments' curves: arrays of shape (n_segments, ...).

    Season and trend per year with their covariance, variance of a month, parameters of
    the Beta of active months, mean and variance of logarithmic breadth, and the share
    of the entities.
    """

    effects: FloatArray
    spread: FloatArray
    variance: FloatArray
    activity: FloatArray
    breadth: FloatArray
    breadth_variance: FloatArray
    share: FloatArray


class _Past(NamedTuple):
    """What is known of each entity from its own past and its segment.

    Effects (season, trend, level at the last month) with their covariance, mean that
    these are about, variance of a month, parameters of the Beta of active months,
    mean, and deviation from month to month, of logarithmic breadth.
    """

    effects: FloatArray
    covariance: FloatArray
    mean: FloatArray
    variance: FloatArray
    activity: FloatArray
    breadth: FloatArray
    breadth_std: FloatArray

    def rows(self, rows: slice) -> _Past:
        """Return some entities."""
        return _Past(*(values[rows] for values in self))


def find_changing(months: Months, segment: IntArray) -> pl.DataFrame:
    """Return which entities are changing, since when and towards what.

    Parameters
    ----------
    months : Months
        The last one is now.
    segment : ndarray of int64, shape (n_entities,)
        The segment that each is known by, from 0; -1 for none.

    Returns
    -------
    DataFrame
        A row per entity. `evidence`: the logarithm of the odds of the change that is
        told, and of one of kind where none is. `changing`: ``segment`` for those who
        follow the curve of another one, ``up`` or ``down`` for those who sell lastingly
        more or less than foretold, null for the others. Of those who change, `since_t`
        (month), `candidate` (segment; null with ``up`` and ``down``) and
        `against_past`, what was sold since then over what the own past foretells (null
        without sales). `is_clear`: whether the candidate is beyond doubt. `evidence` is
        null for entities without a segment or with too short a past, and for all where
        there are less than `MIN_MONTHS`, fewer than `MIN_ENTITIES` with a segment, or
        no two segments.
    """
    last = len(months.t)
    has_segment = segment >= 0
    codes, group = np.unique(segment[has_segment], return_inverse=True)
    if last < MIN_MONTHS or len(group) < MIN_ENTITIES or len(codes) < 2:
        nothing = _Change.none(len(segment))
        return _table(nothing, nothing, (np.inf, np.inf, np.inf), months)
    judged = months.rows(has_segment)
    kind, level = _evidence(judged, group, last)
    calm_kind, calm_level = _evidence(judged, group, last - RECENT_MONTHS)
    thresholds = (
        _threshold(calm_kind.odds, FALSE_SHARE),
        _threshold(calm_level.odds, FALSE_LEVEL_SHARE),
        _threshold(calm_kind.odds, FALSE_MOVE_SHARE),
    )
    kind = kind._replace(candidate=codes[kind.candidate])
    kind, level = kind.spread(has_segment), level.spread(has_segment)
    return _table(kind, level, thresholds, months)


class _Change(NamedTuple):
    """By entity, what speaks for a change of one sort.

    Log odds (NaN: not judged), since which of all months, to which segment and how
    likely that is among all, and what was sold since over what was foretold.
    """

    odds: FloatArray
    onset: IntArray
    candidate: IntArray
    likelihood: FloatArray
    against_past: FloatArray

    @classmethod
    def none(cls, n: int) -> _Change:
        """Return that of entities who are not judged."""
        odds, likelihood, against_past = np.full((3, n), np.nan)
        onset, candidate = np.zeros((2, n), int)
        return cls(odds, onset, candidate, likelihood, against_past)

    def spread(self, is_judged: BoolArray) -> _Change:
        """Return that of all entities, those who are not judged included."""
        whole = _Change.none(len(is_judged))
        for values, own in zip(whole, self, strict=True):
            values[is_judged] = own
        return whole


def _evidence(months: Months, group: IntArray, last: int) -> tuple[_Change, _Change]:
    """Weigh the recent months before `last`: changes of kind, and of level."""
    first = last - RECENT_MONTHS
    past = months.between(max(0, first - HISTORY_MONTHS), first)
    recent = months.between(first, last)
    is_known = past.is_active.sum(axis=1) >= MIN_ACTIVE_MONTHS
    if is_known.sum() < MIN_ENTITIES:
        nothing = _Change.none(len(group))
        return nothing, nothing
    curves, own = _learn(past.rows(is_known), group[is_known], int(group.max()) + 1)
    parts = _weighed(recent.rows(is_known), group[is_known], curves, own)
    kind, level = (
        _Change(*map(np.concatenate, zip(*part, strict=True)))
        for part in zip(*parts, strict=True)
    )
    kind.onset[:] += first
    level.onset[:] += first
    return kind.spread(is_known), level.spread(is_known)


def _learn(past: Months, group: IntArray, n_groups: int) -> tuple[_Curves, _Past]:
    """Learn the segments' curves and every entity's own part, each from the other."""
    is_active = past.is_active
    n_active = is_active.sum(axis=1)
    mean, _ = _mean_and_std(past.log_quantity)
    values = np.where(is_active, past.log_quantity - mean[:, None], 0.0)
    design = _design(past.t, int(past.t[-1]))
    crossed = (design[:, :, None] * design[:, None, :]).reshape(len(past.t), -1)
    gram = (is_active @ crossed).reshape(-1, EFFECTS, EFFECTS)
    target = values @ design
    # Everyone alike at first, and each segment by itself from then on.
    centres = np.zeros((n_groups, EFFECTS))
    spread = np.tile(np.diag([0.64] * SEASON + [0.25]), (n_groups, 1, 1))
    variance = np.full(len(group), 0.3)
    for done in range(ROUNDS):
        precision = np.zeros((n_groups, EFFECTS, EFFECTS))
        precision[:, :-1, :-1] = np.linalg.inv(spread)
        precision[:, -1, -1] = 1 / LEVEL_STD**2
        covariance = np.linalg.inv(gram / variance[:, None, None] + precision[group])
        drawn = np.einsum("kij,kj->ki", precision, centres)[group]
        own = np.einsum("nij,nj->ni", covariance, target / variance[:, None] + drawn)
        left = np.where(is_active, values - own @ design.T, 0.0)
        raw = (left**2).sum(axis=1) / np.maximum(n_active - LOST_DEGREES, 3)
        usual = _by_group(raw, group, n_groups, np.median) + RIDGE
        weight = n_active / (n_active + PRIOR_MONTHS)
        variance = weight * raw + (1 - weight) * usual[group]
        centres[:, :-1] = _by_group(own[:, :-1], group, n_groups, np.mean)
        # From below: expectation-maximisation is slow to leave a spread too wide.
        unknown = covariance[:, :-1, :-1] * (done > 0)
        spread = _spreads(own[:, :-1] - centres[group, :-1], unknown, group, n_groups)
    share = _by_group(is_active.mean(axis=1), group, n_groups, np.mean)
    activity = np.stack([share, 1 - share], axis=1) * PRIOR_ENTITIES + 0.5
    breadth, _ = _mean_and_std(past.log_breadth[:, -SEASON:])
    _, breadth_std = _mean_and_std(past.log_breadth)
    is_told = ~np.isnan(breadth)
    breadths = breadth[is_told], group[is_told], n_groups
    curves = _Curves(
        centres[:, :-1],
        spread,
        usual,
        activity,
        _by_group(*breadths, np.mean),
        _by_group(*breadths, np.var) + MIN_BREADTH_STD**2,
        np.bincount(group, minlength=n_groups) / len(group),
    )
    counts = np.stack([n_active, len(past.t) - n_active], axis=1)
    own_activity = activity[group] + counts
    return curves, _Past(
        own, covariance, mean, variance, own_activity, breadth, breadth_std
    )


def _design(t: IntArray, origin: int) -> FloatArray:
    """Return the columns of season (about its mean), trend per year, and level."""
    season = np.eye(SEASON)[t % SEASON] - 1 / SEASON
    years = (t - origin)[:, None] / SEASON
    return np.hstack([season, years, np.ones((len(t), 1))])


def _by_group(
    values: FloatArray, group: IntArray, n_groups: int, fold: Callable[..., Any]
) -> FloatArray:
    """Fold values by segment; one without any has what all have together."""
    everyone = fold(values, axis=0) if len(values) else np.zeros(values.shape[1:])
    parts = (values[group == k] for k in range(n_groups))
    return np.stack([fold(part, axis=0) if len(part) else everyone for part in parts])


def _spreads(
    strayed: FloatArray, unknown: FloatArray, group: IntArray, n_groups: int
) -> FloatArray:
    """Return covariances of effects within segments, drawn to what they share."""
    pooled = strayed.T @ strayed / len(strayed) + unknown.mean(axis=0)
    found = []
    for k in range(n_groups):
        is_in = group == k
        own = strayed[is_in].T @ strayed[is_in] + unknown[is_in].sum(axis=0)
        found.append((own + PRIOR_ENTITIES * pooled) / (is_in.sum() + PRIOR_ENTITIES))
    return np.stack(found) + RIDGE * np.eye(strayed.shape[1])


def _mean_and_std(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return each row's mean and deviation over what is known; NaN without any."""
    is_known = ~np.isnan(values)
    n = np.maximum(is_known.sum(axis=1), 1)
    total = np.where(is_known, values, 0.0).sum(axis=1)
    mean = np.where(is_known.any(axis=1), total / n, np.nan)
    about = np.where(is_known, values - mean[:, None], 0.0)
    return mean, np.sqrt((about**2).sum(axis=1) / n)


def _weighed(
    recent: Months, group: IntArray, curves: _Curves, own: _Past
) -> Iterator[tuple[_Change, _Change]]:
    """Weigh a number of entities at a time."""
    design = _design(recent.t, int(recent.t[0]) - 1)
    surprise = recent.log_quantity - own.mean[:, None] - own.effects @ design.T
    surprise -= _median(surprise)
    unsure = np.einsum("ti,nij,tj->nt", design, own.covariance, design)
    usual = np.sqrt(unsure + own.variance[:, None])
    # A month in which everyone strays is everyone's: its noise is that much larger.
    unrest = np.maximum(_median(np.abs(surprise) / usual) / NORMAL_MEDIAN, 1.0) ** 2
    for start in range(0, len(group), BATCH):
        rows = slice(start, start + BATCH)
        part = recent.rows(rows), surprise[rows], group[rows]
        yield _weigh(*part, curves, own.rows(rows), unrest)


def _median(values: FloatArray) -> FloatArray:
    """Return the median of each column over what is known; 0 without any."""
    is_told = ~np.isnan(values).all(axis=0)
    found = np.zeros(values.shape[1])
    found[is_told] = np.nanmedian(values[:, is_told], axis=0)
    return found


def _weigh(
    recent: Months,
    surprise: FloatArray,
    group: IntArray,
    curves: _Curves,
    own: _Past,
    unrest: FloatArray,
) -> tuple[_Change, _Change]:
    """Weigh entities, for every segment and month in which a change can have begun."""
    m, n_groups = len(recent.t), len(curves.share)
    design = _design(recent.t, int(recent.t[0]) - 1)
    drifted = np.minimum.outer(np.arange(1, m + 1), np.arange(1, m + 1))
    covariance = (
        design @ own.covariance @ design.T
        + own.variance[:, None, None] * np.diag(unrest)
        + DRIFT_STD**2 * drifted
    )
    whole = _log_density(surprise, covariance)
    odds = np.empty((len(group), m, n_groups))
    level_odds = np.full((len(group), m), -np.inf)
    for onset in range(m):
        head = _log_density(surprise[:, :onset], covariance[:, :onset, :onset])
        tail = _tail_densities(recent.t, surprise, onset, curves, own, unrest)
        counts = _activity_odds(recent.is_active[:, onset:], curves, own)
        breadths = _breadth_odds(recent.log_breadth[:, onset:], curves, own)
        odds[:, onset] = (head - whole)[:, None] + tail + counts + breadths
        if onset <= m - LASTING_MONTHS:
            since = np.arange(m) >= onset
            stepped = covariance + CHANGE_STD**2 * np.outer(since, since)
            level_odds[:, onset] = _log_density(surprise, stepped) - whole
    rows = np.arange(len(group))
    odds[rows, :, group] = -np.inf  # its own is what it would be changing from
    odds += np.log(np.maximum(curves.share, 1 / len(group)))
    by_onset = logsumexp(odds, axis=2)
    return (
        _at_best(by_onset, odds, surprise),
        _at_best(level_odds, level_odds[:, :, None], surprise),
    )


def _at_best(by_onset: FloatArray, odds: FloatArray, surprise: FloatArray) -> _Change:
    """Return the change of every entity that begins in the most likely month."""
    rows, onset = np.arange(len(odds)), by_onset.argmax(axis=1)
    is_since = np.arange(surprise.shape[1]) >= onset[:, None]
    sold, _ = _mean_and_std(np.where(is_since, surprise, np.nan))
    best, total = odds[rows, onset], by_onset[rows, onset]
    likelihood = np.exp(best.max(axis=1) - total)
    return _Change(total, onset, best.argmax(axis=1), likelihood, np.exp(sold))


def _tail_densities(
    t: IntArray,
    surprise: FloatArray,
    onset: int,
    curves: _Curves,
    own: _Past,
    unrest: FloatArray,
) -> FloatArray:
    """Return log densities of the months since `onset` under each segment's curve."""
    usual = own.effects @ _design(t[onset:], int(t[0]) - 1).T  # taken off `surprise`
    level = own.effects[:, -1] + own.effects[:, -2] * onset / SEASON
    step = own.covariance[:, -1, -1] + STEP_STD**2
    design = _design(t[onset:], int(t[onset]) - 1)[:, :-1]
    found = []
    for k, effects in enumerate(curves.effects):
        differs = level[:, None] + design @ effects - usual
        variance = (own.variance + curves.variance[k]) / 2
        covariance = (
            design @ curves.spread[k] @ design.T
            + step[:, None, None]
            + variance[:, None, None] * np.diag(unrest[onset:])
        )
        found.append(_log_density(surprise[:, onset:] - differs, covariance))
    return np.stack(found, axis=1)


def _activity_odds(is_active: BoolArray, curves: _Curves, own: _Past) -> FloatArray:
    """Return log odds of the active months under each segment, over the own past."""
    sold, idle = is_active.sum(axis=1)[:, None], (~is_active).sum(axis=1)[:, None]

    def log_density(beta: FloatArray) -> FloatArray:
        a, b = beta[..., 0], beta[..., 1]
        density: FloatArray = betaln(a + sold, b + idle) - betaln(a, b)
        return density

    return log_density(curves.activity) - log_density(own.activity[:, None])


def _breadth_odds(log_breadth: FloatArray, curves: _Curves, own: _Past) -> FloatArray:
    """Return log odds of the breadth under each segment, over the own past."""
    mean = _mean_and_std(log_breadth)[0][:, None]
    n = np.maximum((~np.isnan(log_breadth)).sum(axis=1), 1)
    error = np.maximum(own.breadth_std, MIN_BREADTH_STD)[:, None] ** 2 / n[:, None]

    def log_density(centre: FloatArray, variance: FloatArray) -> FloatArray:
        return -0.5 * ((mean - centre) ** 2 / variance + np.log(variance))

    others = log_density(curves.breadth, curves.breadth_variance + error)
    mine = log_density(own.breadth[:, None], MIN_BREADTH_STD**2 + error)
    return np.nan_to_num(others - mine)


def _log_density(values: FloatArray, covariance: FloatArray) -> FloatArray:
    """Return Gaussian log densities about 0 of rows, over what is known of each."""
    n = values.shape[1]
    if n == 0:
        return np.zeros(len(values))
    is_known = ~np.isnan(values)
    pairs = is_known[:, :, None] & is_known[:, None, :]
    root = np.linalg.cholesky(np.where(pairs, covariance, np.eye(n)))
    given = np.where(is_known, values, 0.0)[:, :, None]
    z = np.linalg.solve(root, given)[:, :, 0]
    scale = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    constant = 0.5 * np.log(2 * np.pi) * is_known.sum(axis=1)
    density: FloatArray = -0.5 * (z**2).sum(axis=1) - scale - constant
    return density


def _threshold(odds: FloatArray, false_share: float) -> float:
    """Return the evidence that a share reaches without a change.

    The tail is taken for exponential, and its scale from its median, which entities
    that did change half a year ago hardly move. The median has twice the variance of a
    mean, and what is not known of the scale makes the tail of the next entities
    heavier (a Lomax distribution): so few entities do not flag more.
    """
    known = odds[~np.isnan(odds)]
    if len(known) < MIN_ENTITIES:
        return np.inf
    start = float(np.quantile(known, TAIL))
    beyond = known[known >= start]
    scale = float(np.median(beyond) - start) / np.log(2)
    n = len(beyond) / 2
    reached = start + scale * n * (((1 - TAIL) / false_share) ** (1 / n) - 1)
    return float(max(LEAST_EVIDENCE, reached))


def _table(
    kind: _Change,
    level: _Change,
    thresholds: tuple[float, float, float],
    months: Months,
) -> pl.DataFrame:
    """Return the columns of `find_changing`; thresholds of kind, level and move."""
    odds, level_odds = (np.nan_to_num(c.odds, nan=-np.inf) for c in (kind, level))
    is_level = (level_odds >= thresholds[1]) & (level_odds > odds)
    is_kind = (odds >= thresholds[0]) & ~is_level
    has_lasted = kind.onset <= len(months.t) - LASTING_MONTHS
    is_sure = has_lasted & (kind.likelihood >= CLEAR_CANDIDATE)
    onset = np.where(is_level, level.onset, kind.onset)
    against = np.where(is_level, level.against_past, kind.against_past)
    direction = np.where(against > 1, "up", "down")
    told = pl.DataFrame(
        {
            "evidence": np.where(is_level, level.odds, kind.odds),
            "changing": np.where(is_level, direction, "segment"),
            "since_t": months.t[np.minimum(onset, len(months.t) - 1)],
            "candidate": kind.candidate,
            "against_past": against,
            "is_clear": is_kind & (odds >= thresholds[2]) & is_sure,
        }
    ).with_columns(pl.col("evidence", "against_past").fill_nan(None))
    is_changing = pl.lit(pl.Series(is_kind | is_level))
    return told.with_columns(
        pl.when(is_changing).then(pl.col("changing", "since_t", "against_past")),
        pl.when(pl.lit(pl.Series(is_kind))).then("candidate"),
    )
