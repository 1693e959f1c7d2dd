"""How much each generated shop buys, and of how many products, month by month."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.data.archetypes import Floats, Ints, Population

Bools = NDArray[np.bool_]

MEDIAN_LEVEL_UNITS = 600.0
# One in a thousand shops sells 36,000 units a month or more, and one in a thousand 10
# or fewer: a kiosk and a hypermarket under one distributor.
LEVEL_LOG_STD = 1.32
LATE_ENTRY_SHARE = 0.10
EARLY_EXIT_SHARE = 0.06
# A bigger shop lists somewhat more products.
BREADTH_ELASTICITY = 0.1
# Growth levels off this far from the middle of a tenure; without an end, 20 years of
# 40% a year would be a factor of 3,000.
GROWTH_LIMIT_YEARS = 2.0


class Demand(NamedTuple):
    """What each shop wants, month by month; arrays of shape (n_shops, n_months)."""

    is_active: Bools
    units: Ints  # at least 1 where active
    breadth: Floats  # expected distinct products, at least 1
    level: Floats  # shape (n_shops,)
    concentration: Floats  # shape (n_shops,)


def draw_demand(
    population: Population,
    calendar_month: NDArray[np.integer],
    noise_cv: float,
    products_per_month: float,
    rng: np.random.Generator,
) -> Demand:
    """Draw activity, units and expected breadth of every shop and month.

    Parameters
    ----------
    population : Population
        The behaviour of each shop.
    calendar_month : ndarray of int, shape (n_months,)
        Calendar month, 1 to 12, of every month of the window.
    noise_cv : float
        Coefficient of variation of the monthly noise, before the shop's lumpiness.
    products_per_month : float
        Mean of `breadth` over all active months of all shops.
    rng : numpy.random.Generator
        Source of randomness.
    """
    n_shops, n_months = len(population.parameters), len(calendar_month)
    first, last = _draw_tenure(n_shops, n_months, rng)
    is_active = _draw_activity(population, first, last, n_months, rng)
    log_level = LEVEL_LOG_STD * rng.standard_normal(n_shops)
    level = MEDIAN_LEVEL_UNITS * np.exp(log_level)
    middle = (first + last)[:, None] / 2.0
    years = (np.arange(n_months) - middle) / 12.0
    years = np.clip(years, -GROWTH_LIMIT_YEARS, GROWTH_LIMIT_YEARS)

    season = np.exp(population.log_season)
    season /= season.mean(axis=1, keepdims=True)
    cv = noise_cv * np.exp(population.trait("log_lumpiness"))
    std = np.sqrt(np.log1p(cv**2))[:, None]
    log_noise = std * rng.standard_normal((n_shops, n_months)) - std**2 / 2.0
    trend = np.exp(population.trait("growth")[:, None] * years + log_noise)
    units = level[:, None] * season[:, calendar_month - 1] * trend

    log_breadth = population.trait("log_breadth") + BREADTH_ELASTICITY * log_level
    drift = population.trait("breadth_growth")[:, None] * years
    relative = np.exp(log_breadth[:, None] + drift)
    return Demand(
        is_active=is_active,
        units=np.maximum(np.rint(units), 1.0).astype(np.int64),
        breadth=_breadth_with_mean(relative, is_active, products_per_month),
        level=level,
        concentration=np.maximum(population.trait("concentration"), 0.0),
    )


def _draw_tenure(
    n_shops: int, n_months: int, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Draw the first and the last month of every shop, as positions in the window."""
    late, leaving, entry, stay = rng.random((4, n_shops))
    final = n_months - 1
    first = np.where(late < LATE_ENTRY_SHARE, 1 + np.floor(entry * final), 0)
    first = np.minimum(first, final).astype(np.int64)
    stayed = np.floor(stay * (final - first)).astype(np.int64)
    last = np.where(leaving < EARLY_EXIT_SHARE, first + stayed, final)
    return first, last


def _draw_activity(
    population: Population,
    first: Ints,
    last: Ints,
    n_months: int,
    rng: np.random.Generator,
) -> Bools:
    """Draw which months are active; everyone has at least the first of its tenure."""
    month = np.arange(n_months)
    share = 1.0 / (1.0 + np.exp(-population.trait("logit_active_share")))
    is_active = rng.random((len(first), n_months)) < share[:, None]
    is_active &= (month >= first[:, None]) & (month <= last[:, None])
    idle = np.flatnonzero(~is_active.any(axis=1))
    is_active[idle, first[idle]] = True
    return is_active


def _breadth_with_mean(relative: Floats, is_active: Bools, mean: float) -> Floats:
    """Scale breadths, at least 1 each, to a mean over the active months."""
    active = relative[is_active]
    low, high = 0.0, max(mean, 1.0) / active.min()
    for _ in range(60):  # bisection: the mean grows with the scale, if not linearly
        scale = (low + high) / 2.0
        if np.maximum(scale * active, 1.0).mean() < mean:
            low = scale
        else:
            high = scale
    scaled: Floats = np.maximum(high * relative, 1.0)
    return scaled
