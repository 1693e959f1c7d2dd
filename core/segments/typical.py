"""What stands for a segment: its most typical shops, and their months."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from core.months import month_label

UNASSIGNED = -1
N_TYPICAL = 5
CURVE_MONTHS = 36
_CURVE_SCHEMA: dict[str, Any] = {
    "segment": pl.Int64,
    "month": pl.String,
    "n_shops": pl.Int64,
    "mean": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


def typical_shops(
    table: pl.DataFrame,
    closeness: NDArray[np.float64],
    X: NDArray[np.float64],
    n: int = N_TYPICAL,
) -> pl.DataFrame:
    """Choose the most typical shops of every segment.

    Parameters
    ----------
    table : DataFrame
        ``shop_id``, ``segment`` (-1 is none) and what else is to be kept.
    closeness : ndarray of float, shape (n_shops,)
        The larger, the more typical: strength within a density segment, or less the
        distance from the centre of a partition's.
    X : ndarray of float, shape (n_shops, n_features)
        Scaled features. Of equally typical shops (many have the full strength) those
        come first that lie nearest to the medians of their segment.
    n : int
        Shops per segment; fewer where it has no more.

    Returns
    -------
    DataFrame
        ``segment``, ``place`` (from 1), then the columns of `table`; at last the shop
        whose id comes first.
    """
    keys = {
        "_closeness": -closeness,
        "_apart": np.round(_from_medians(X, table["segment"].to_numpy()), 9),
    }
    return (
        table.with_columns(
            pl.Series(name, key, dtype=pl.Float64) for name, key in keys.items()
        )
        .filter(pl.col("segment") != UNASSIGNED)
        .sort("segment", *keys, "shop_id")
        .with_columns(
            place=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("segment")
        )
        .filter(pl.col("place") <= n)
        .select("segment", "place", pl.exclude("segment", "place", *keys))
    )


def _from_medians(
    X: NDArray[np.float64], segments: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return how far each shop lies from the medians of its segment."""
    apart = np.zeros(len(X))
    for segment in np.unique(segments):
        own = segments == segment
        apart[own] = np.sqrt(((X[own] - np.median(X[own], axis=0)) ** 2).sum(axis=1))
    return apart


def monthly_curves(
    monthly: pl.DataFrame,
    segments: pl.DataFrame,
    as_of_t: int,
    n_months: int = CURVE_MONTHS,
) -> pl.DataFrame:
    """Average the relative monthly sales of the shops of every segment.

    A shop's sales are divided by their mean over the months looked at, from its first
    active month on; a month without sales counts as 0.

    Parameters
    ----------
    monthly : DataFrame
        ``shop_id, t, quantity`` of active months.
    segments : DataFrame
        ``shop_id, segment``; -1 (none) is left out.
    as_of_t : int
        Last month looked at, as `core.months.month_index` counts.
    n_months : int
        Months up to it, or as many as there are.

    Returns
    -------
    DataFrame
        One row per segment and month: ``segment``, ``month`` (YYYY-MM), ``n_shops``
        with a value, their ``mean``, and ``low`` and ``high``, the quartiles; 1 is a
        shop's own average month.
    """
    known = monthly.filter(pl.col("t") <= as_of_t).join(
        segments.filter(pl.col("segment") != UNASSIGNED), on="shop_id"
    )
    if known.is_empty():
        return pl.DataFrame(schema=_CURVE_SCHEMA)
    first_t = max(as_of_t - n_months + 1, int(known["t"].min()))  # type: ignore[arg-type]  # not empty
    shops = known.group_by("shop_id").agg(
        pl.col("segment").first(), start=pl.col("t").min()
    )
    months = pl.DataFrame({"t": range(first_t, as_of_t + 1)}, schema={"t": pl.Int32})
    grid = (
        shops.join(months, how="cross")
        .filter(pl.col("t") >= pl.col("start"))
        .join(
            known.select("shop_id", pl.col("t").cast(pl.Int32), "quantity"),
            on=["shop_id", "t"],
            how="left",
        )
        .with_columns(pl.col("quantity").fill_null(0.0))
    )
    relative = pl.col("quantity") / pl.col("quantity").mean().over("shop_id")
    return (
        grid.with_columns(relative=relative)
        .filter(pl.col("relative").is_finite())
        .group_by("segment", "t")
        .agg(
            n_shops=pl.len().cast(pl.Int64),
            # Summed in one order, so that the last bit does not depend on threads.
            mean=pl.col("relative").sort().mean(),
            low=pl.col("relative").quantile(0.25, "linear"),
            high=pl.col("relative").quantile(0.75, "linear"),
        )
        .sort("segment", "t")
        .with_columns(
            month=pl.col("t").map_elements(month_label, return_dtype=pl.String)
        )
        .select(list(_CURVE_SCHEMA))
        .cast(_CURVE_SCHEMA)  # type: ignore[arg-type]  # a dict of dtypes is one
    )
