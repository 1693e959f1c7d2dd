r"""Our features: how a shop sells, not how much.

Level, season, trend and irregularity are told apart by one linear mixed model of each
shop's active months, from its first to its last in the window of ``history_months``:

.. math:: \ln x_t = \mu + s_{m(t)} + b\,(t - \bar t) / 12 + e_t

with :math:`s_m \sim N(0, 0.7^2)` for the calendar months, :math:`b \sim N(0, 0.5^2)`
per year and :math:`e_t \sim N(0, 0.5^2)`. The features are its posterior means (best
linear unbiased predictions; Robinson, "That BLUP is a good thing", 1991): a season or
a trend that few months speak for is drawn towards none, and nothing is missing for a
short history. On the logarithmic scale a shop's own size is the constant, a month ten
times as large is an outlier and not a season, and noise is alike in large and small
months.

Whether a shop sells at all in a month is the other half of its season: the share of
active months, smoothed towards the shop's own, multiplies the size.

The spreads are those of ordinary retail (a month twice its neighbours, half more in a
year, a month half off) and are not fitted to data, so that a shop's features depend on
nothing but its own rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from core.features.monthly import ShopSeries

MONTHS = 12
SEASON_STD = 0.7
TREND_STD = 0.5
NOISE_STD = 0.5
# Precision of the level: as good as none, and keeps the equations solvable.
LEVEL_PRECISION = 1e-6
# Months of the shop's own share of active months added to every calendar month.
PSEUDO_MONTHS = 2.0
MIN_MONTHS_FOR_IRREGULARITY = 3


class Decomposition(NamedTuple):
    """The parts of each shop's logarithmic monthly values.

    Attributes
    ----------
    season : ndarray, shape (n_shops, 12)
        Effect of January to December; sums to 0.
    trend : ndarray, shape (n_shops,)
        Per year.
    irregularity : ndarray, shape (n_shops,)
        Standard deviation of what is left, over its degrees of freedom; NaN with fewer
        than 3 values.
    """

    season: np.ndarray
    trend: np.ndarray
    irregularity: np.ndarray


def behaviour_features(shops: ShopSeries, history_months: int) -> dict[str, np.ndarray]:
    """Return the 18 features of `core.features.retailer.BEHAVIOUR`, each (n_shops,).

    Parameters
    ----------
    shops : ShopSeries
        Every shop sold in at least one month of the window.
    history_months : int
        Months up to the last of ``shops.t`` that are looked at.
    """
    quantity = shops.quantity[:, -history_months:]
    products = shops.n_products[:, -history_months:]
    t = shops.t[-history_months:]
    in_span = active_span(quantity)
    is_active = quantity > 0
    sales = decompose(quantity, is_active, t)
    assortment = decompose(products, products > 0, t)
    season = sales.season + active_season(is_active, in_span, t)
    n_active = np.maximum(is_active.sum(axis=1), 1)
    breadth = (products * is_active).sum(axis=1) / n_active
    columns = {
        f"log_season_month_{month + 1}": season[:, month] for month in range(MONTHS)
    }
    columns["sales_trend_per_year"] = sales.trend
    columns["sales_irregularity"] = sales.irregularity
    columns["inactive_month_share"] = 1 - is_active.sum(axis=1) / np.maximum(
        in_span.sum(axis=1), 1
    )
    columns["assortment_breadth"] = np.log(np.maximum(breadth, 1.0))
    columns["assortment_trend_per_year"] = assortment.trend
    columns["product_concentration"] = shops.concentration
    return columns


def active_span(quantity: np.ndarray) -> np.ndarray:
    """Return which months lie from a shop's first to its last active month."""
    is_active = quantity > 0
    started = np.maximum.accumulate(is_active, axis=1)
    not_ended = np.maximum.accumulate(is_active[:, ::-1], axis=1)[:, ::-1]
    return started & not_ended


def decompose(values: np.ndarray, mask: np.ndarray, t: np.ndarray) -> Decomposition:
    """Tell season and trend from level and noise, shop by shop.

    Parameters
    ----------
    values : ndarray, shape (n_shops, n_months)
        Above 0 where `mask` holds.
    mask : ndarray of bool, shape (n_shops, n_months)
        The months that count.
    t : ndarray of int, shape (n_months,)
        Month indices.
    """
    design, penalty = _design(t)
    logs = np.log(np.where(mask, values, 1.0))
    n = mask.sum(axis=1)
    # About the shop's own mean, so that the weak prior of the level finds it near 0.
    logs = np.where(mask, logs - (logs.sum(axis=1) / np.maximum(n, 1))[:, None], 0.0)
    weight = mask / NOISE_STD**2
    size = design.shape[1]
    # einsum and not a matrix product: BLAS rounds differently for other batch sizes.
    crossed = (design[:, :, None] * design[:, None, :]).reshape(len(t), -1)
    gram = np.einsum("nt,tk->nk", weight, crossed).reshape(-1, size, size)
    target = np.einsum("nt,tk->nk", weight * logs, design)
    posterior = np.linalg.inv(gram + penalty)
    effects = np.einsum("nij,nj->ni", posterior, target)
    left = np.where(mask, logs - np.einsum("ni,ti->nt", effects, design), 0.0)
    degrees = n - np.einsum("nij,nji->n", posterior, gram)
    is_known = n >= MIN_MONTHS_FOR_IRREGULARITY
    variance = (left**2).sum(axis=1) / np.where(is_known, degrees, 1.0)
    season = effects[:, 1 : MONTHS + 1]
    return Decomposition(
        season - season.mean(axis=1, keepdims=True),
        effects[:, MONTHS + 1],
        np.where(is_known, np.sqrt(variance), np.nan),
    )


def active_season(
    is_active: np.ndarray, in_span: np.ndarray, t: np.ndarray
) -> np.ndarray:
    """Return the logarithm of how much likelier a calendar month is to be active.

    Parameters
    ----------
    is_active, in_span : ndarray of bool, shape (n_shops, n_months)
        Months with sales, and months from the first to the last of them.
    t : ndarray of int, shape (n_months,)
        Month indices.

    Returns
    -------
    ndarray, shape (n_shops, 12)
        January to December; each shop's sum to 0, and are all 0 if it never paused.
    """
    overall = is_active.sum(axis=1) / np.maximum(in_span.sum(axis=1), 1)
    overall = np.where(overall > 0, overall, 1.0)
    share = np.empty((len(is_active), MONTHS))
    for month in range(MONTHS):
        columns = t % MONTHS == month
        n_active = is_active[:, columns].sum(axis=1) + PSEUDO_MONTHS * overall
        share[:, month] = n_active / (in_span[:, columns].sum(axis=1) + PSEUDO_MONTHS)
    index = np.log(share / overall[:, None])
    return np.asarray(index - index.mean(axis=1, keepdims=True))


def _design(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the model's columns (level, 12 months, trend) and their precisions."""
    design = np.zeros((len(t), MONTHS + 2))
    design[:, 0] = 1.0
    design[np.arange(len(t)), 1 + t % MONTHS] = 1.0
    design[:, -1] = (t - t.mean()) / MONTHS
    season = np.full(MONTHS, 1 / SEASON_STD**2)
    return design, np.diag([LEVEL_PRECISION, *season, 1 / TREND_STD**2])
