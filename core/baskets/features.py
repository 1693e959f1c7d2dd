"""Features of customers: what they buy by aisle, how often, when, and how faithfully.

Items are counted in one stream by order and by customer and product; memory grows with
those and not with items. All that is summed in a stream is whole numbers, and what has
fractions is added up in the order of time: the order of the rows and the number of
threads decide nothing, to the last bit.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
HOURS = 24
_ORDER = (
    "customer_id",
    "order_id",
    "order_number",
    "order_hour_of_day",
    "days_since_prior_order",
)
# Below this length, the hours of a customer cancel out: they have no middle.
_NO_DIRECTION = 1e-9


class BasketFeature(NamedTuple):
    """One feature, as `core.docs` prints it; `null_means` is "never" if it cannot be.

    The shares of the aisles stand as one, with AISLE and ID for one column each.
    """

    name: str
    formula: str
    unit: str
    null_means: str = "never"


_NO_ITEMS = "no items"
_NO_AISLE = "no item of a known aisle, or no aisles"
_ONE_BASKET = "fewer than two orders with items"
SHARE = BasketFeature(
    "aisle_ID_AISLE",
    "items from the aisle / items from a known aisle; they sum to 1",
    "share",
    "no item of a known aisle",
)
FEATURES = (
    BasketFeature(
        "aisle_entropy",
        "-sum(p ln p) over the shares p of the aisles; ln(n) for n equal ones",
        "nats",
        _NO_AISLE,
    ),
    BasketFeature(
        "reorder_ratio", "items bought in an earlier order / items", "share", _NO_ITEMS
    ),
    BasketFeature(
        "reorder_consistency",
        "standard deviation over orders of the share of items bought before",
        "share",
        _ONE_BASKET,
    ),
    BasketFeature(
        "pct_reordered_products",
        "products bought again / products bought",
        "share",
        _NO_ITEMS,
    ),
    BasketFeature(
        "mean_days_between_orders", "mean gap between orders", "days", "no gap known"
    ),
    BasketFeature(
        "cv_days_between_orders",
        "standard deviation of the gaps / their mean",
        "ratio",
        "fewer than two gaps known, or all of 0 days",
    ),
    BasketFeature(
        "mean_order_hour",
        "direction of the mean of exp(2 pi i hour / 24), from 0 to below 24",
        "hours",
        "no hour known, or hours that cancel out, as 6 and 18 do",
    ),
    BasketFeature(
        "std_order_hour",
        "sqrt(-2 ln R) 24 / (2 pi), R the length of that mean",
        "hours",
        "fewer than two hours known, or hours that cancel out",
    ),
    BasketFeature(
        "avg_basket_size",
        "items / orders, those without items included",
        "products",
    ),
    BasketFeature(
        "std_basket_size",
        "standard deviation of the items of orders that have any",
        "products",
        _ONE_BASKET,
    ),
    BasketFeature("min_basket_size", "fewest items of those", "products", _NO_ITEMS),
    BasketFeature("max_basket_size", "most items of those", "products", _NO_ITEMS),
    BasketFeature(
        "basket_size_cv", "`std_basket_size` / `avg_basket_size`", "ratio", _ONE_BASKET
    ),
    BasketFeature("unique_products", "distinct products", "products"),
    BasketFeature(
        "unique_aisles", "distinct known aisles", "aisles", "no aisles at all"
    ),
)
# What the rules ask for.
SCORES = (
    BasketFeature(
        "freq_score", "1 / (1 + `mean_days_between_orders`)", "0 to 1", "no gap known"
    ),
    BasketFeature("loyalty_score", "`reorder_ratio`", "share", _NO_ITEMS),
)
BEHAVIOUR = tuple(feature.name for feature in FEATURES)


def aisle_columns(aisles: pl.DataFrame) -> list[str]:
    """Return the columns of the shares of aisles.

    Of a name, letters, digits and single spaces are kept; one that is the id is not
    said twice. Names that only differ in
    case are two columns for us and one for a database: the later gets a number.

    Parameters
    ----------
    aisles : DataFrame
        `aisle_id`, `aisle` (text; null: no name), a row per aisle.

    Examples
    --------
    >>> aisle_columns(pl.DataFrame({"aisle_id": [24, 3], "aisle": ["fruit", "a/b "]}))
    ['aisle_24_fruit', 'aisle_3_a b']
    """
    names: list[str] = []
    taken = {"aisle_entropy"}
    for aisle_id, aisle in aisles.select("aisle_id", "aisle").iter_rows():
        parts = dict.fromkeys((_plain(str(aisle_id)), _plain(aisle or "")))
        name = plain = "_".join(["aisle", *filter(None, parts)])
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain} {number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text).strip()


def customer_features(
    orders: pl.LazyFrame,
    items: pl.LazyFrame,
    products: pl.DataFrame,
    aisles: pl.DataFrame,
) -> pl.DataFrame:
    """Return the features of every customer of some orders.

    Parameters
    ----------
    orders : LazyFrame
        `order_id` (distinct), `customer_id`, `order_number` (in time, per customer),
        `order_hour_of_day` (0 to below 24, null if unknown) and
        `days_since_prior_order` (days, null for the first).
    items : LazyFrame
        `order_id`, `product_id` and `reordered` (0 or 1), a row per product of an
        order. Items of other orders are left out.
    products : DataFrame
        `product_id` (distinct) and, if known, `aisle_id`. A product without a known
        aisle counts for everything but aisles.
    aisles : DataFrame
        `aisle_id` (distinct), `aisle`, in the order of the columns; may be empty.

    Returns
    -------
    DataFrame
        `customer_id`, a share per aisle, `FEATURES` and `SCORES`, whose formulas, units
        and nulls they tell; ascending by customer. Standard deviations are those of a
        sample (over n - 1).

    Notes
    -----
    Hours lie on a circle: 23 h and 1 h have their middle at midnight (Mardia and Jupp,
    Directional Statistics, 2000).
    """
    rows = (
        orders.select(*_ORDER)
        .sort("customer_id", "order_number", "order_id")
        .collect(engine="streaming")
        .with_columns(pl.col("customer_id").rle_id().alias("customer"))
    )
    sizes, bought = _counts(rows, items)
    rows = rows.join(sizes, on="order_id", how="left", maintain_order="left")
    made = pl.DataFrame(rows["customer_id"].unique(maintain_order=True))
    made = made.with_columns(
        *_by_aisle(bought, products, aisles, made.height),
        *_baskets(rows),
        *_products(bought, made.height),
        *_rhythm(rows),
    ).with_columns(
        (1 / (1 + pl.col("mean_days_between_orders"))).alias("freq_score"),
        pl.col("reorder_ratio").alias("loyalty_score"),
    )
    columns = [*aisle_columns(aisles), *BEHAVIOUR, *(score.name for score in SCORES)]
    return made.select("customer_id", *columns)


def _counts(
    rows: pl.DataFrame, items: pl.LazyFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return items and items bought before, by order, and by customer and product."""
    owners = rows.lazy().select("order_id", "customer")
    again = pl.col("reordered").cast(pl.Int8)
    sizes = items.group_by("order_id").agg(
        pl.len().cast(pl.Int64).alias("size"), again.sum().cast(pl.Int64).alias("again")
    )
    bought = (
        items.join(owners, on="order_id")
        .group_by("customer", "product_id")
        .agg(pl.len().alias("n"), again.max().alias("again"))
    )
    counted = pl.collect_all([sizes, bought], engine="streaming")
    return counted[0], counted[1]


def _baskets(rows: pl.DataFrame) -> list[pl.Series]:
    """Return the features of the sizes of orders, and of what in them was known."""
    found = rows.group_by("customer", maintain_order=True).agg(
        pl.len().alias("n_orders"),
        pl.col("size").sum().alias("n_items"),
        pl.col("again").sum().alias("n_again"),
        pl.col("size").min().alias("min_basket_size"),
        pl.col("size").max().alias("max_basket_size"),
    )
    share = (rows["again"] / rows["size"]).alias("share")
    code = rows["customer"].to_numpy()
    _, share_sd = _mean_and_deviation(code, share, found.height)
    _, size_sd = _mean_and_deviation(code, rows["size"], found.height)
    made = found.with_columns(
        (pl.col("n_items") / pl.col("n_orders")).alias("avg_basket_size"),
        pl.when(pl.col("n_items") > 0)
        .then(pl.col("n_again") / pl.col("n_items"))
        .alias("reorder_ratio"),
        _series("std_basket_size", size_sd),
        _series("reorder_consistency", share_sd),
    ).with_columns(
        (pl.col("std_basket_size") / pl.col("avg_basket_size")).alias("basket_size_cv")
    )
    return made.drop("customer", "n_orders", "n_items", "n_again").get_columns()


def _products(bought: pl.DataFrame, n_customers: int) -> list[pl.Series]:
    """Return how many products customers bought, and how many of them again."""
    code = bought["customer"].to_numpy()
    distinct = np.bincount(code, minlength=n_customers)
    is_again = (bought["again"] > 0).fill_null(False).to_numpy()
    again = np.bincount(code[is_again], minlength=n_customers)
    return [
        pl.Series("unique_products", distinct),
        _series("pct_reordered_products", _divided(again, distinct)),
    ]


def _rhythm(rows: pl.DataFrame) -> list[pl.Series]:
    """Return what the times of orders say."""
    code = rows["customer"].to_numpy()
    n = int(code[-1]) + 1 if len(code) else 0
    gap, gap_sd = _mean_and_deviation(code, rows["days_since_prior_order"], n)
    hour, hour_sd = _circular(code, rows["order_hour_of_day"], n)
    return [
        _series("mean_days_between_orders", gap),
        _series("cv_days_between_orders", _divided(gap_sd, gap)),
        _series("mean_order_hour", hour),
        _series("std_order_hour", hour_sd),
    ]


def _by_aisle(
    bought: pl.DataFrame, products: pl.DataFrame, aisles: pl.DataFrame, n_customers: int
) -> list[pl.Series]:
    """Return the share of each aisle in customers' items, their entropy and number."""
    if aisles.is_empty() or "aisle_id" not in products.columns:
        nothing = np.full(n_customers, np.nan)
        columns = [*aisle_columns(aisles), "aisle_entropy", "unique_aisles"]
        made = [_series(name, nothing) for name in columns]
        return [*made[:-1], made[-1].cast(pl.Int64)]
    place = aisles.select("aisle_id").with_row_index("place")
    known = products.select("product_id", "aisle_id").join(place, on="aisle_id")
    counts = (
        bought.lazy()
        .join(known.lazy().select("product_id", "place"), on="product_id")
        .group_by("place", "customer")
        .agg(pl.col("n").sum())
        .sort("place", "customer")
        .collect(engine="streaming")
    )
    code, n = counts["customer"].to_numpy(), counts["n"].to_numpy()
    total = np.bincount(code, n, n_customers)
    entropy = np.where(total > 0, 0.0, np.nan)
    edges = np.searchsorted(counts["place"].to_numpy(), range(aisles.height + 1))
    made = []
    for i, name in enumerate(aisle_columns(aisles)):
        part = slice(edges[i], edges[i + 1])
        own = code[part]
        share = np.where(total > 0, 0.0, np.nan)
        share[own] = n[part] / total[own]
        entropy[own] -= share[own] * np.log(share[own])
        made.append(_series(name, share))
    return [
        *made,
        _series("aisle_entropy", entropy),
        pl.Series("unique_aisles", np.bincount(code, minlength=n_customers)),
    ]


def _mean_and_deviation(
    code: NDArray[Any], values: pl.Series, n: int
) -> tuple[FloatArray, FloatArray]:
    """Return mean and sample standard deviation by code; NaN where there is none."""
    code, known = _known(code, values)
    count = np.bincount(code, minlength=n)
    mean = _divided(np.bincount(code, known, n), count)
    squares = np.bincount(code, (known - mean[code]) ** 2, n)
    return mean, np.sqrt(_divided(squares, count - 1))


def _circular(
    code: NDArray[Any], hours: pl.Series, n: int
) -> tuple[FloatArray, FloatArray]:
    """Return circular mean and deviation by code, in hours; NaN where there is none."""
    code, angle = _known(code, hours * (2 * math.pi / HOURS))
    count = np.bincount(code, minlength=n)
    sine = _divided(np.bincount(code, np.sin(angle), n), count)
    cosine = _divided(np.bincount(code, np.cos(angle), n), count)
    is_directed = np.hypot(sine, cosine) > _NO_DIRECTION
    middle = np.where(is_directed, np.arctan2(sine, cosine), np.nan)
    # 1 - R, without the digits that 1 - hypot(...) loses where all hours are alike.
    squares = np.bincount(code, 2 * np.sin((angle - middle[code]) / 2) ** 2, n)
    lack = np.where(count > 1, _divided(squares, count), np.nan)
    hour = middle * (HOURS / (2 * math.pi)) % HOURS
    # What is a hair before midnight is rounded to 24.
    hour = np.where(hour >= HOURS, 0.0, hour)
    return hour, np.sqrt(-2 * np.log1p(-lack)) * (HOURS / (2 * math.pi))


def _known(code: NDArray[Any], values: pl.Series) -> tuple[IntArray, FloatArray]:
    is_known = values.is_not_null().to_numpy()
    return code[is_known].astype(np.int64), values.drop_nulls().cast(
        pl.Float64
    ).to_numpy()


def _divided(above: NDArray[Any], below: NDArray[Any]) -> FloatArray:
    """Return a ratio; NaN where the divisor is not above 0."""
    ratio = np.full(len(above), np.nan)
    np.divide(above, below, out=ratio, where=below > 0)
    return ratio


def _series(name: str, values: FloatArray) -> pl.Series:
    """Return values as a column, NaN as null."""
    return pl.Series(name, values, nan_to_null=True)
