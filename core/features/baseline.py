"""The reference's 29 features, on the monthly grid of a batch of shops.

A month counts when it is active, that is, when its net quantity is above 0.
"""

from __future__ import annotations

import numpy as np

from core.features.monthly import ShopSeries


def baseline_features(shops: ShopSeries) -> dict[str, np.ndarray]:
    """Return the 29 features, each of shape (n_shops,), in the reference's order."""
    columns: dict[str, np.ndarray] = {}
    calendar_month = shops.t % 12
    for name, values in (
        ("sales_qty", shops.quantity),
        ("unique_products", shops.n_products),
    ):
        for month in range(12):
            columns[f"avg_{name}_month_{month + 1}"] = mean_where(
                values[:, calendar_month == month],
                shops.is_active[:, calendar_month == month],
            )
    columns["cv_monthly_sales_qty"] = variation(shops.quantity, shops.is_active)
    columns["cv_monthly_unique_products"] = variation(shops.n_products, shops.is_active)
    columns["monthly_sales_entropy"] = sales_entropy(shops)
    years, n_active = by_year(shops.quantity, shops)
    columns["median_yoy_sales_growth"] = median_growth(years, n_active > 0)
    products, _ = by_year(shops.n_products, shops)
    spread = products / np.maximum(n_active, 1)
    columns["median_yoy_spread_growth"] = median_growth(spread, n_active > 0)
    return columns


def mean_where(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the mean of each row where `mask` holds; 0 where it never does."""
    return np.asarray((values * mask).sum(axis=1) / np.maximum(mask.sum(axis=1), 1))


def variation(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return sample standard deviation / mean of each row where `mask` holds.

    0 where fewer than two months are active.
    """
    n = mask.sum(axis=1)
    mean = mean_where(values, mask)
    squares = (np.where(mask, values - mean[:, None], 0.0) ** 2).sum(axis=1)
    deviation = np.sqrt(squares / np.maximum(n - 1, 1))
    return np.where(mean > 0, deviation / np.where(mean > 0, mean, 1.0), 0.0)


def sales_entropy(shops: ShopSeries) -> np.ndarray:
    """Return the entropy of monthly sales over the logarithm of the calendar months.

    -sum p ln p over active months, with p the month's share of all sales, divided by
    ln(number of distinct active calendar months); 0 where there is only one. Above 1
    where several years are active, as in the reference.
    """
    total = shops.quantity.sum(axis=1, keepdims=True)
    share = shops.quantity / np.where(total > 0, total, 1.0)
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1)
    calendar_month = shops.t % 12
    n_distinct = sum(
        shops.is_active[:, calendar_month == month].any(axis=1).astype(int)
        for month in range(12)
    )
    is_spread = np.asarray(n_distinct) > 1
    return np.where(
        is_spread, entropy / np.log(np.where(is_spread, n_distinct, 2)), 0.0
    )


def by_year(values: np.ndarray, shops: ShopSeries) -> tuple[np.ndarray, np.ndarray]:
    """Return yearly sums and numbers of active months, each (n_shops, n_years)."""
    year = shops.t // 12
    columns = [year == y for y in np.unique(year)]
    sums = np.stack([values[:, c].sum(axis=1) for c in columns], axis=1)
    n_active = np.stack([shops.is_active[:, c].sum(axis=1) for c in columns], axis=1)
    return sums, n_active


def median_growth(yearly: np.ndarray, is_active: np.ndarray) -> np.ndarray:
    """Return the median relative change from one active year to the next.

    0 where fewer than two years are active.
    """
    changes = np.full(yearly.shape, np.nan)
    last = np.full(len(yearly), np.nan)
    for j in range(yearly.shape[1]):
        changes[:, j] = np.where(is_active[:, j], yearly[:, j] / last - 1, np.nan)
        last = np.where(is_active[:, j], yearly[:, j], last)
    has_change = ~np.isnan(changes).all(axis=1)
    median = np.zeros(len(yearly))
    median[has_change] = np.nanmedian(changes[has_change], axis=1)
    return median
