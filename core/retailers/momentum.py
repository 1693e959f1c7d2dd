r"""Where a shop's sales are heading: its last months against the same a year before.

With :math:`q_t` the quantity of a month (0 in one that is not active), T the month of
``as_of``, and :math:`\bar q` the average of the last 24 months, from the shop's first
active one on,

.. math:: \ln \frac{\bar q + \sum q_t}{\bar q + \sum q_{t-12}}, \quad T - k < t \le T

over the months whose year before is not older than the shop's first active month: its
season cancels, and its opening is no growth. The average month that is added to both
sides draws few months towards no change (where a shop doubles, twelve months say +89%
and three +67%) and keeps the whole within ln 25, where nothing was sold on one side.
The largest of the 24 months counts as the next largest, so that one order, or one slip
of a key, is no momentum.

Nothing is told against other shops: a shop posted by itself gets the value that it has
among others, at any later month, of which a model can know nothing. A shock to the
whole market is therefore in everyone's momentum; what sets a segment apart
(`core.segments.profiles.cluster_contrasts`) is free of it.
"""

from __future__ import annotations

import numpy as np

from core.retailers.monthly import ShopSeries

YEAR, HALF_YEAR, QUARTER = 12, 6, 3
# Months with the recent share of active months, added to the earlier ones.
PSEUDO_MONTHS = 2.0


def momentum_features(shops: ShopSeries) -> dict[str, np.ndarray]:
    """Return the columns of `core.retailers.features.MOMENTUM`, each (n_shops,).

    NaN where the months that are compared with came before the shop's first.
    """
    quantity, is_known = _last_months(shops, 2 * YEAR + HALF_YEAR)
    half = year_on_year(quantity, is_known, HALF_YEAR)
    until_then = slice(None, -HALF_YEAR)
    before = year_on_year(quantity[:, until_then], is_known[:, until_then], HALF_YEAR)
    return {
        "yoy_12": year_on_year(quantity, is_known, YEAR),
        "yoy_6": half,
        "yoy_3": year_on_year(quantity, is_known, QUARTER),
        "trend_break": half - before,
        "activity_change": activity_change(quantity > 0, is_known),
    }


def year_on_year(
    quantity: np.ndarray, is_known: np.ndarray, n_months: int
) -> np.ndarray:
    """Return the logarithmic change of the last months over those a year before.

    Parameters
    ----------
    quantity : ndarray of float, shape (n_shops, at least 24)
        By month, up to the last one compared; 0 where not active.
    is_known : ndarray of bool, same shape
        Whether a month is the shop's first active one, or later.
    n_months : int
        Months compared, up to 12.

    Returns
    -------
    ndarray of float64, shape (n_shops,)
        NaN where no month of the year before is known, and where nothing was sold in
        the 24 months.
    """
    values = without_the_extreme(quantity[:, -2 * YEAR :])
    n_known = is_known[:, -2 * YEAR :].sum(axis=1)
    is_paired = is_known[:, -YEAR - n_months : is_known.shape[1] - YEAR]
    before = values[:, YEAR - n_months : YEAR].sum(axis=1)
    after = (values[:, -n_months:] * is_paired).sum(axis=1)
    average = values.sum(axis=1) / np.maximum(n_known, 1)
    is_told = is_paired.any(axis=1) & (average > 0)
    average = np.where(is_told, average, 1.0)
    change = np.log((average + after) / (average + before))
    return np.where(is_told, change, np.nan)


def without_the_extreme(quantity: np.ndarray) -> np.ndarray:
    """Return quantities of which the largest of each row counts as the next largest.

    A row with one active month is left as it is.
    """
    next_largest = np.sort(quantity, axis=1)[:, -2:-1]
    limit = np.where(next_largest > 0, next_largest, np.inf)
    return np.asarray(np.minimum(quantity, limit))


def activity_change(is_active: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    """Return the share of active months in the last 6 less that in the 12 before.

    Parameters
    ----------
    is_active, is_known : ndarray of bool, shape (n_shops, at least 18)

    Returns
    -------
    ndarray of float64, shape (n_shops,)
        Drawn towards 0 where few of the 12 are known; NaN where none is.
    """
    recent = is_active[:, -HALF_YEAR:].mean(axis=1)
    earlier = slice(-HALF_YEAR - YEAR, -HALF_YEAR)
    n_known = is_known[:, earlier].sum(axis=1)
    n_active = is_active[:, earlier].sum(axis=1)
    share = (n_active + PSEUDO_MONTHS * recent) / (n_known + PSEUDO_MONTHS)
    return np.where(n_known > 0, recent - share, np.nan)


def _last_months(shops: ShopSeries, n_months: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the quantities of the last months, and which are known of each shop."""
    is_known = np.maximum.accumulate(shops.is_active, axis=1)
    missing = max(n_months - len(shops.t), 0)
    padding = ((0, 0), (missing, 0))
    return (
        np.pad(shops.quantity, padding)[:, -n_months:],
        np.pad(is_known, padding)[:, -n_months:],
    )
