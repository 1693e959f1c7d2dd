r"""The feature sets of retailers: what each feature is, and how it is computed.

A month counts when it is active, that is, when its net quantity is above 0.

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

import calendar
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import narwhals as nw
import numpy as np
import polars as pl

from core.config import FeaturesConfig
from core.entities import Entity
from core.errors import ConfigError, FeatureMismatchError, did_you_mean, listed
from core.retailers.momentum import momentum_features
from core.retailers.monthly import (
    ShopSeries,
    monthly_sales,
    open_engine,
    product_concentration,
    shop_series,
)


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
    columns["median_yoy_spread_growth"] = median_growth(spread, products > 0)
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
    """Return the 18 features of `core.retailers.features.BEHAVIOUR`, each (n_shops,).

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


MONTH_NAMES = tuple(calendar.month_name[1:])


@dataclass(frozen=True)
class Feature:
    """One feature, as documented.

    Attributes
    ----------
    name : str
        Its column.
    unit : str
        What it is measured in.
    formula : str
        How it is computed.
    null : str
        What null means; "never" where it cannot be, but for `needs_products`.
    needs_products : bool
        Whether it is null, too, where the sales rows name no products.
    """

    name: str
    unit: str
    formula: str
    null: str = "never"
    needs_products: bool = False


@dataclass(frozen=True)
class FeatureSet:
    """A named, ordered list of features and the function that computes them."""

    name: str
    features: tuple[Feature, ...]
    compute: Callable[[ShopSeries, FeaturesConfig], dict[str, np.ndarray]]

    @property
    def names(self) -> list[str]:
        """Return the columns in order."""
        return [feature.name for feature in self.features]


BASELINE = FeatureSet(
    "baseline",
    (
        *(
            Feature(
                f"avg_sales_qty_month_{month}",
                "units",
                f"mean over active years of the {name} quantity; 0 if never active",
            )
            for month, name in enumerate(MONTH_NAMES, start=1)
        ),
        *(
            Feature(
                f"avg_unique_products_month_{month}",
                "products",
                f"mean over active years of the distinct products in {name}; 0 if "
                "never active",
                needs_products=True,
            )
            for month, name in enumerate(MONTH_NAMES, start=1)
        ),
        Feature(
            "cv_monthly_sales_qty",
            "ratio",
            "sample standard deviation / mean of the quantity over active months; 0 "
            "with one month",
        ),
        Feature(
            "cv_monthly_unique_products",
            "ratio",
            "sample standard deviation / mean of the distinct products over active "
            "months; 0 with one month",
            needs_products=True,
        ),
        Feature(
            "monthly_sales_entropy",
            "ratio",
            "-sum p ln p over active months, p = share of all sales, / ln(distinct "
            "active calendar months); 0 if only one",
        ),
        Feature(
            "median_yoy_sales_growth",
            "ratio",
            "median over active years of sales / sales of the active year before - 1; "
            "0 with one year",
        ),
        Feature(
            "median_yoy_spread_growth",
            "ratio",
            "the same of the yearly mean of distinct products per active month",
            needs_products=True,
        ),
    ),
    lambda shops, config: baseline_features(shops),
)

BEHAVIOUR = FeatureSet(
    "behaviour",
    (
        *(
            Feature(
                f"log_season_month_{month}",
                "natural logarithm of a ratio",
                f"ln of what {name} sells, against the shop's own average month, after "
                "the trend; 0 is an average month, 0.69 twice of one; shrunk to 0 if "
                "that month was seldom seen; the twelve sum to 0",
            )
            for month, name in enumerate(MONTH_NAMES, start=1)
        ),
        Feature(
            "sales_trend_per_year",
            "natural logarithm of a ratio, per year",
            "slope of ln(monthly sales) beside level and season; 0.1 grows by about "
            "10% a year; shrunk to 0 for short histories",
        ),
        Feature(
            "sales_irregularity",
            "standard deviation of ln(monthly sales)",
            "what is left of the active months after level, season and trend, over its "
            "degrees of freedom",
            "fewer than three active months in the window",
        ),
        Feature(
            "inactive_month_share",
            "share of months",
            "months without sales / months from first to last active month",
        ),
        Feature(
            "assortment_breadth",
            "natural logarithm of products",
            "ln of the mean distinct products per active month",
            needs_products=True,
        ),
        Feature(
            "assortment_trend_per_year",
            "natural logarithm of a ratio, per year",
            "as sales_trend_per_year, of distinct products",
            needs_products=True,
        ),
        Feature(
            "product_concentration",
            "share",
            "Herfindahl index: sum of squared quantity shares of the shop's products "
            "in the window",
            "no product with net sales in the window",
            needs_products=True,
        ),
    ),
    lambda shops, config: behaviour_features(shops, config.history_months),
)

FEATURE_SETS = {feature_set.name: feature_set for feature_set in (BEHAVIOUR, BASELINE)}

SHOP = Entity("shop_id", "shop", "shops", "sales_qty_last_12_months")

# Where a shop is heading describes and names segments, and divides large ones.
MOMENTUM_FEATURES = (
    *(
        Feature(
            f"yoy_{n_months}",
            "natural logarithm of a ratio",
            f"ln of the net quantity of the last {n_months} months over that of the "
            "same months a year before, an average month added to both, the largest "
            "month counted as the next largest; 0 is no change",
            "the first active month is among the last 12",
        )
        for n_months in (12, 6, 3)
    ),
    Feature(
        "trend_break",
        "difference of two natural logarithms",
        "yoy_6 less yoy_6 of half a year before; above 0 sales pick up speed",
        "the first active month is among the last 18",
    ),
    Feature(
        "activity_change",
        "share of months",
        "share of active months in the last 6 less that in the 12 before; shrunk to 0 "
        "where few of these are known",
        "the first active month is among the last 6",
    ),
)
MOMENTUM: tuple[str, ...] = tuple(feature.name for feature in MOMENTUM_FEATURES)

# How much a shop sells, and where it stands in its life, stay out of the clustering
# space and serve profiles only: segments are of how shops sell. A shop that stopped
# still sold in its way.
VOLUME = (
    Feature(
        "sales_qty_total", "units", "net quantity of all active months up to `as_of`"
    ),
    Feature(
        "sales_qty_per_active_month",
        "units",
        "sales_qty_total / number of active months",
    ),
    Feature("sales_qty_last_12_months", "units", "net quantity of the last 12 months"),
    Feature("active_months", "months", "months with a net quantity above 0"),
    Feature("tenure_months", "months", "months from the first active month to `as_of`"),
    Feature(
        "recency_months", "months", "whole months from the last active month to `as_of`"
    ),
)
UNCLUSTERED = (*MOMENTUM, *(feature.name for feature in VOLUME))


def feature_set(name: Literal["behaviour", "baseline"] | str) -> FeatureSet:
    """Return a feature set by name.

    Raises
    ------
    ConfigError
        For an unknown name.
    """
    if name not in FEATURE_SETS:
        raise ConfigError(
            f"there is no feature set `{name}`; known are {listed(list(FEATURE_SETS))}."
            f"{did_you_mean(name, FEATURE_SETS)}"
        )
    return FEATURE_SETS[name]


def write_monthly(
    parts: Sequence[Path], folder: Path, config: FeaturesConfig, unique_keys: bool
) -> None:
    """Evaluate `monthly_sales` on the configured engine, part by part.

    Parameters
    ----------
    parts : sequence of Path
        Parquet files, or folders of them, of checked sales rows: whole shops, in
        ascending order (`core.tables.parts`).
    folder : Path
        Gets one Parquet file per part, sorted by shop and month.
    config : FeaturesConfig
        Names the engine.
    unique_keys : bool
        As for `monthly_sales`.
    """
    _write_by_part(
        lambda sales: monthly_sales(sales, unique_keys).sort("shop_id", "t"),
        parts,
        folder,
        config,
    )


def write_concentration(
    parts: Sequence[Path], folder: Path, config: FeaturesConfig, as_of_t: int
) -> None:
    """Evaluate `product_concentration` over the window, as `write_monthly` does."""
    first_t = as_of_t - config.history_months + 1
    _write_by_part(
        lambda sales: product_concentration(sales, first_t, as_of_t),
        parts,
        folder,
        config,
    )


def _write_by_part(
    compute: Callable[[nw.LazyFrame[Any]], nw.LazyFrame[Any]],
    parts: Sequence[Path],
    folder: Path,
    config: FeaturesConfig,
) -> None:
    """Write what is computed from each part as a file of a folder."""
    folder.mkdir(parents=True)
    for number, part in enumerate(parts):
        found = compute(open_engine(part, config.engine))
        found.sink_parquet(folder / f"{number:06d}.parquet")


# Shops whose equations are held at once: few fit into the cache of a processor.
SHOPS_AT_ONCE = 2_000
# Shops whose months are read at once: those of 20,000 take some 60 MB.
SHOPS_READ = 20_000


def compute_features(
    monthly: Path,
    concentration: Path,
    shops: pl.Series,
    span: tuple[int, int],
    config: FeaturesConfig,
    batch_size: int,
) -> Iterator[pl.DataFrame]:
    """Compute the configured feature set batch by batch.

    Parameters
    ----------
    monthly, concentration : Path
        Folders that `write_monthly` and `write_concentration` wrote, or a file of one.
    shops : Series of str
        Eligible shops, all of them in these.
    span : (int, int)
        First month of the grid, see `core.retailers.monthly.grid_start`, and ``as_of``.
    config : FeaturesConfig
        Names the set.
    batch_size : int
        Shops per batch.

    Yields
    ------
    DataFrame
        ``shop_id``, the set's features in order, then `UNCLUSTERED`; shops ascending.
        Features of products are null for shops whose rows name none.
    """
    ordered, n_read = shops.sort(), min(batch_size, SHOPS_READ)
    for start in range(0, len(ordered), batch_size):
        batch = ordered.slice(start, batch_size)
        grids = shop_series(monthly, concentration, batch, span, n_read)
        yield pl.concat([features_of(grid, config) for grid in grids]).rechunk()


def features_of(series: ShopSeries, config: FeaturesConfig) -> pl.DataFrame:
    """Compute the configured feature set of the shops of a grid.

    Returns
    -------
    DataFrame
        As `compute_features` yields them.
    """
    parts = [_features_of(part, config) for part in series.parts(SHOPS_AT_ONCE)]
    return pl.concat(parts)


def _features_of(series: ShopSeries, config: FeaturesConfig) -> pl.DataFrame:
    chosen = feature_set(config.name)
    columns = {
        **chosen.compute(series, config),
        **momentum_features(series),
        **_volume(series),
    }
    has_products = series.n_products.any(axis=1)
    for feature in chosen.features:
        if feature.needs_products:
            columns[feature.name] = np.where(
                has_products, columns[feature.name], np.nan
            )
    return pl.DataFrame({"shop_id": series.shop_id, **columns}).with_columns(
        pl.exclude("shop_id").fill_nan(None)
    )


def known_features(facts: Mapping[str, Any]) -> list[str]:
    """Return the features that a run's sales could tell of, from its ``prepare`` facts.

    The others are null for every shop, and take no part in clustering.
    """
    has_products = facts["intake"]["n_products"] is not None
    return [
        feature.name
        for feature in feature_set(facts["feature_set"]).features
        if has_products or not feature.needs_products
    ]


def check_features(found: Sequence[str], expected: Sequence[str]) -> None:
    """Refuse features that are not the expected ones in the expected order.

    Raises
    ------
    FeatureMismatchError
        With the difference: what is missing, what is unknown, or the first place where
        the order differs.
    """
    if list(found) == list(expected):
        return
    missing = [name for name in expected if name not in set(found)]
    unknown = [name for name in found if name not in set(expected)]
    parts = []
    if missing:
        parts.append(f"missing {listed(missing)}")
    if unknown:
        parts.append(f"not known to the model {listed(unknown)}")
    if not parts:
        place = next(i for i, name in enumerate(expected) if found[i] != name)
        parts.append(
            f"the order differs: column {place + 1} is `{found[place]}`, the model has "
            f"`{expected[place]}` there"
        )
    raise FeatureMismatchError(
        f"this model was trained on {len(expected)} features, the table has "
        f"{len(found)}: {'; '.join(parts)}. Prepare the features with the model's own "
        "configuration, `config.yaml` in its artifacts."
    )


def _volume(shops: ShopSeries) -> dict[str, np.ndarray]:
    """Return the columns of `VOLUME`."""
    total = shops.quantity.sum(axis=1)
    n_active = shops.is_active.sum(axis=1)
    first = np.argmax(shops.is_active, axis=1)
    return {
        "sales_qty_total": total,
        "sales_qty_per_active_month": total / np.maximum(n_active, 1),
        "sales_qty_last_12_months": shops.quantity[:, -12:].sum(axis=1),
        "active_months": n_active,
        "tenure_months": len(shops.t) - first,
        "recency_months": np.argmax(shops.is_active[:, ::-1], axis=1),
    }
