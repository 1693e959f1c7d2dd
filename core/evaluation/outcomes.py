"""What shops did after a month: the outcomes that segments are judged by.

Segments are made of what was known at a month (the cut). What counts is whether they
tell something of the months that followed, which no feature has seen.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from core.errors import ModelError
from core.months import month_index

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
OUTCOMES = ("volume", "growth", "activity", "churn")
# A factor of five either way: beyond it a shop has opened a branch or all but closed,
# and how far beyond would decide every mean.
GROWTH_LIMIT = float(np.log(5.0))
# Silent for a quarter at the cut: gone already, or pausing.
IN_BUSINESS_MONTHS = 3
MONTHS = 12


def outcomes_after(
    monthly: pl.DataFrame, shop_ids: pl.Series, cut: str, horizon_months: int
) -> pl.DataFrame:
    """Return what shops did in the months after a cut.

    A shop without a sale in the three months up to the cut had stopped, or paused,
    before: that it stays away is no forecast, so it is not followed and all its
    outcomes are null. Of the others, with ``q[j]`` the quantity of the j-th month after
    the cut (0 in a month that was not active), ``b[j]`` that of the same calendar month
    in the last year up to the cut, and h the horizon:

    ``volume`` = ln(1 + mean q / u)
        u is one unit; see `small_unit` for data that counts in tonnes.
    ``growth`` = ln(sum q[j] / sum b[j]), clipped to +-ln 5
        Over the months j whose ``b[j]`` is not older than the shop's first active
        month, so that neither season nor the opening of a shop passes for growth.
        Null where these are fewer than half of the horizon, where nothing was sold in
        them a year before, and where nothing was sold after (`churn` tells that).
    ``activity`` = active months / h, 0 to 1
    ``churn`` = 1.0 if no month was active, else 0.0

    Parameters
    ----------
    monthly : DataFrame
        ``shop_id, t, quantity``: active months only, as in
        `core.features.history.MONTHLY`, back to the shops' first one.
    shop_ids : Series of str
        Shops wanted; one without any row is not followed either.
    cut : str
        Last month known, ``YYYY-MM``. The data must reach `horizon_months` beyond it:
        a month that is not there counts as one without sales.
    horizon_months : int
        Months looked at after the cut, at least 1.

    Returns
    -------
    DataFrame
        ``shop_id`` in the order given, then Float64 `volume`, `growth`, `activity`
        and `churn`; null as said above.

    Raises
    ------
    ModelError
        For a horizon below 1.
    """
    after = _months_after(monthly, shop_ids, cut, horizon_months)
    sold = after.sum(axis=1)
    unit = small_unit(monthly["quantity"].to_numpy())
    columns = {
        "volume": np.log1p(sold / horizon_months / unit),
        "growth": _growth(monthly, shop_ids, cut, after),
        "activity": (after > 0).mean(axis=1),
        "churn": (sold <= 0).astype(np.float64),
    }
    return _table(shop_ids, columns, _in_business(monthly, shop_ids, cut))


def outcomes_by_month(
    monthly: pl.DataFrame, shop_ids: pl.Series, cut: str, horizon_months: int
) -> pl.DataFrame:
    """Return the volume and the activity of each single month after a cut.

    Returns
    -------
    DataFrame
        ``shop_id``, then ``volume_1, activity_1`` to ``volume_h, activity_h``:
        ln(1 + q / u), and 1.0 in an active month, else 0.0; null for the shops that
        `outcomes_after` does not follow.
    """
    after = _months_after(monthly, shop_ids, cut, horizon_months)
    unit = small_unit(monthly["quantity"].to_numpy())
    columns = {}
    for month, sold in enumerate(after.T, start=1):
        columns[f"volume_{month}"] = np.log1p(sold / unit)
        columns[f"activity_{month}"] = (sold > 0).astype(np.float64)
    return _table(shop_ids, columns, _in_business(monthly, shop_ids, cut))


def small_unit(quantities: FloatArray) -> float:
    """Return the unit in which ln(1 + quantity / unit) behaves like a logarithm.

    That is 1, unless more than a tenth of the positive quantities lie below it (kegs
    counted in tonnes): then their tenth percentile, or the logarithm would not tame
    the largest shops. 1 where nothing is positive.
    """
    positive = quantities[quantities > 0]
    return min(1.0, float(np.quantile(positive, 0.1))) if len(positive) else 1.0


def _table(
    shop_ids: pl.Series, columns: dict[str, FloatArray], is_followed: BoolArray
) -> pl.DataFrame:
    """Return columns of the shops that are followed; null for the others."""
    known = {
        name: np.where(is_followed, values, np.nan) for name, values in columns.items()
    }
    table = pl.DataFrame({"shop_id": shop_ids.rename("shop_id"), **known})
    return table.with_columns(pl.exclude("shop_id").fill_nan(None))


def _in_business(monthly: pl.DataFrame, shop_ids: pl.Series, cut: str) -> BoolArray:
    """Return whether a shop sold in the quarter up to the cut."""
    last = month_index(cut)
    recent = _grid(monthly, shop_ids, last - IN_BUSINESS_MONTHS + 1, last)
    return np.asarray((recent > 0).any(axis=1))


def _months_after(
    monthly: pl.DataFrame, shop_ids: pl.Series, cut: str, horizon_months: int
) -> FloatArray:
    """Return quantities of the months after a cut, shape (n_shops, horizon_months)."""
    if horizon_months < 1:
        raise ModelError(f"`horizon_months` is {horizon_months}; expected at least 1.")
    first = month_index(cut) + 1
    return _grid(monthly, shop_ids, first, first + horizon_months - 1)


def _growth(
    monthly: pl.DataFrame, shop_ids: pl.Series, cut: str, after: FloatArray
) -> FloatArray:
    """Return the logarithmic growth over the same calendar months; NaN if unknown."""
    horizon = after.shape[1]
    last = month_index(cut)
    year = _grid(monthly, shop_ids, last - MONTHS + 1, last)
    place = np.arange(horizon) % MONTHS
    before = year[:, place]
    first = monthly.group_by("shop_id").agg(pl.col("t").min())
    started = shop_ids.to_frame("shop_id").join(
        first, on="shop_id", how="left", maintain_order="left"
    )["t"]
    opened = started.fill_null(last + 1).to_numpy()
    is_matched = last - MONTHS + 1 + place[None, :] >= opened[:, None]
    old = (before * is_matched).sum(axis=1)
    new = (after * is_matched).sum(axis=1)
    is_known = (2 * is_matched.sum(axis=1) >= horizon) & (old > 0) & (new > 0)
    growth = np.full(len(after), np.nan)
    growth[is_known] = np.log(new[is_known]) - np.log(old[is_known])
    clipped: FloatArray = np.clip(growth, -GROWTH_LIMIT, GROWTH_LIMIT)
    return clipped


def _grid(
    monthly: pl.DataFrame, shop_ids: pl.Series, first: int, last: int
) -> FloatArray:
    """Return quantities by shop and month, 0 where there is no row."""
    codes = shop_ids.to_frame("shop_id").with_row_index("code")
    rows = monthly.filter(pl.col("t").is_between(first, last)).join(
        codes, on="shop_id", how="inner"
    )
    grid = np.zeros((len(shop_ids), last - first + 1))
    grid[rows["code"].to_numpy(), rows["t"].to_numpy() - first] = rows["quantity"]
    return grid
