r"""Our features: how a shop sells, not how much.

All of them are ratios within a shop, so that two shops of different size that sell
alike lie close together. With :math:`x_t` the quantity of month `t` over the shop's
mean, from its first to its last active month in the window of ``history_months``:

- *trend* ``b``: least squares on `t` with an effect per calendar month, so that season
  cannot pass for growth: :math:`b = \sum \tilde x \tilde t / (\sum \tilde t^2 +
  \lambda)`, both demeaned within calendar months; :math:`\lambda` shrinks the slope
  towards 0 as long as few calendar months repeat.
- *season* ``s_m``: the mean of :math:`d_t = x_t / (1 + b (t - \bar t))` over the months
  of one calendar month, with one pseudo-month of 1 added, so that a short history is
  drawn towards an even year.
- *irregularity*: the standard deviation of :math:`d_t` within calendar months, pooled
  with a season-free estimate from neighbouring months where years are few.

The window, the shrinkage and the floor are fixed beforehand and not tuned to data.
"""

from __future__ import annotations

import numpy as np

from core.features.monthly import ShopSeries

MONTHS = 12
# As much weight as two years' months get (12 x 2 x 6^2 = 864), halved: a slope from 24
# months keeps two thirds of its size, one from 36 months 89%.
TREND_SHRINKAGE = 432.0
# With less than six calendar months seen twice (6 x 2 x 6^2), no slope is told.
MIN_TREND_SPREAD = 432.0
PSEUDO_MONTHS = 1.0
TREND_FLOOR = 0.2
LOCAL_DEGREES = 4.0


def behaviour_features(shops: ShopSeries, history_months: int) -> dict[str, np.ndarray]:
    """Return the 19 features of `core.features.retailer.BEHAVIOUR`, each (n_shops,).

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
    relative = _relative(quantity, in_span)
    slope, is_known = seasonal_slope(relative, in_span, t)
    detrended = relative / _trend_line(slope, in_span, t)
    shares = season_shares(detrended, in_span, t)
    is_active = quantity > 0
    breadth = (products * is_active).sum(axis=1) / np.maximum(is_active.sum(axis=1), 1)
    product_slope, has_products = seasonal_slope(
        _relative(products, is_active), is_active, t
    )
    columns = {
        f"season_share_month_{month + 1}": shares[:, month] for month in range(MONTHS)
    }
    columns["sales_trend_per_year"] = _per_year(slope, is_known)
    columns["sales_irregularity"] = irregularity(detrended, in_span, t)
    columns["inactive_month_share"] = 1 - is_active.sum(axis=1) / np.maximum(
        in_span.sum(axis=1), 1
    )
    columns["assortment_breadth"] = np.log(np.maximum(breadth, 1.0))
    columns["assortment_trend_per_year"] = _per_year(product_slope, has_products)
    columns["product_concentration"] = shops.concentration
    columns["recency_months"] = _months_since_last(is_active)
    return columns


def active_span(quantity: np.ndarray) -> np.ndarray:
    """Return which months lie from a shop's first to its last active month."""
    is_active = quantity > 0
    started = np.maximum.accumulate(is_active, axis=1)
    not_ended = np.maximum.accumulate(is_active[:, ::-1], axis=1)[:, ::-1]
    return started & not_ended


def seasonal_slope(
    relative: np.ndarray, mask: np.ndarray, t: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the shrunk slope per month within calendar months, and where it is known.

    Parameters
    ----------
    relative : ndarray, shape (n_shops, n_months)
        Values over the shop's mean.
    mask : ndarray of bool, shape (n_shops, n_months)
        The months that count.
    t : ndarray of int, shape (n_months,)
        Month indices.

    Returns
    -------
    slope : ndarray, shape (n_shops,)
        Change per month, in units of the shop's mean; 0 where unknown.
    is_known : ndarray of bool, shape (n_shops,)
        False where too few calendar months repeat to tell growth from season.
    """
    product = np.zeros(len(relative))
    spread = np.zeros(len(relative))
    centred_t = (t - t.mean()).astype(float)
    for month in range(MONTHS):
        columns = t % MONTHS == month
        weight = mask[:, columns].astype(float)
        n = np.maximum(weight.sum(axis=1, keepdims=True), 1)
        x, time = relative[:, columns], centred_t[columns]
        x = (x - (x * weight).sum(axis=1, keepdims=True) / n) * weight
        time = (time - (time * weight).sum(axis=1, keepdims=True) / n) * weight
        product += (x * time).sum(axis=1)
        spread += (time * time).sum(axis=1)
    is_known = spread >= MIN_TREND_SPREAD
    return np.where(is_known, product / (spread + TREND_SHRINKAGE), 0.0), is_known


def season_shares(detrended: np.ndarray, mask: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return each calendar month's share of an even-trend year, shape (n_shops, 12)."""
    index = np.empty((len(detrended), MONTHS))
    for month in range(MONTHS):
        columns = t % MONTHS == month
        weight = mask[:, columns]
        total = (detrended[:, columns] * weight).sum(axis=1) + PSEUDO_MONTHS
        index[:, month] = total / (weight.sum(axis=1) + PSEUDO_MONTHS)
    return np.asarray(index / index.sum(axis=1, keepdims=True))


def irregularity(detrended: np.ndarray, mask: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return the standard deviation left after season and trend, in means of the shop.

    The variance within calendar months (with its degrees of freedom) is pooled with the
    variance about the mean of both neighbouring months, weighted as 4 degrees, since a
    single year leaves none within its months. Null with fewer than 3 months.
    """
    within = np.zeros(len(detrended))
    degrees = -np.ones(len(detrended))
    for month in range(MONTHS):
        columns = t % MONTHS == month
        weight = mask[:, columns].astype(float)
        n = weight.sum(axis=1)
        values = detrended[:, columns]
        mean = (values * weight).sum(axis=1) / np.maximum(n, 1)
        within += (((values - mean[:, None]) * weight) ** 2).sum(axis=1)
        degrees += np.maximum(n - 1, 0)
    degrees = np.maximum(degrees, 0)
    inner = mask[:, :-2] & mask[:, 1:-1] & mask[:, 2:]
    bend = detrended[:, 1:-1] - (detrended[:, :-2] + detrended[:, 2:]) / 2
    n_inner = inner.sum(axis=1)
    # A month minus the mean of two others has 1.5 times the variance of one month.
    local = (bend**2 * inner).sum(axis=1) / np.maximum(n_inner, 1) / 1.5
    pooled = (within + LOCAL_DEGREES * local) / (degrees + LOCAL_DEGREES)
    return np.where(n_inner > 0, np.sqrt(pooled), np.nan)


def _relative(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return values over their mean where `mask` holds."""
    mean = (values * mask).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
    return np.asarray(values / np.where(mean > 0, mean, 1.0)[:, None])


def _trend_line(slope: np.ndarray, mask: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return the trend about the middle of each shop's span, never below the floor."""
    middle = (t * mask).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
    line = 1 + slope[:, None] * (t[None, :] - middle[:, None])
    return np.asarray(np.maximum(line, TREND_FLOOR))


def _per_year(slope: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    """Return a slope per year; null where it is not known."""
    return np.where(is_known, MONTHS * slope, np.nan)


def _months_since_last(is_active: np.ndarray) -> np.ndarray:
    """Return whole months from the last active month to the end of the window."""
    return np.asarray(np.argmax(is_active[:, ::-1], axis=1), dtype=float)
