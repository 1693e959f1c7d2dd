"""The retailer feature sets by name: what each feature is, and how it is computed."""

from __future__ import annotations

import calendar
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import narwhals as nw
import numpy as np
import polars as pl

from core.config import FeaturesConfig
from core.errors import ConfigError, FeatureMismatchError, did_you_mean, listed
from core.features.baseline import baseline_features
from core.features.behaviour import behaviour_features
from core.features.monthly import (
    ShopSeries,
    monthly_sales,
    open_engine,
    product_concentration,
    shop_series,
)

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
        What null means; "never" where it cannot be.
    """

    name: str
    unit: str
    formula: str
    null: str = "never"


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
                "the trend; 0 is an average month, 0.69 twice of one; drawn to 0 where "
                "that month was seldom seen; the twelve sum to 0",
            )
            for month, name in enumerate(MONTH_NAMES, start=1)
        ),
        Feature(
            "sales_trend_per_year",
            "natural logarithm of a ratio, per year",
            "slope of ln(monthly sales) beside level and season; 0.1 grows by about "
            "10% a year; drawn to 0 for short histories",
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
        ),
        Feature(
            "assortment_trend_per_year",
            "natural logarithm of a ratio, per year",
            "as sales_trend_per_year, of distinct products",
        ),
        Feature(
            "product_concentration",
            "share",
            "Herfindahl index: sum of squared quantity shares of the shop's products "
            "in the window",
            "no product with net sales in the window",
        ),
    ),
    lambda shops, config: behaviour_features(shops, config.history_months),
)

FEATURE_SETS = {feature_set.name: feature_set for feature_set in (BEHAVIOUR, BASELINE)}

ShopRange = tuple[str | None, str | None]
EVERY_SHOP: ShopRange = (None, None)

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
    sales: Path,
    folder: Path,
    config: FeaturesConfig,
    unique_keys: bool,
    slices: Sequence[ShopRange] = (EVERY_SHOP,),
) -> None:
    """Evaluate `monthly_sales` on the configured engine, a slice of shops at a time.

    Parameters
    ----------
    sales : Path
        Parquet file of checked sales rows.
    folder : Path
        Gets one Parquet file per slice.
    config : FeaturesConfig
        Names the engine.
    unique_keys : bool
        As for `monthly_sales`.
    slices : sequence of (first shop, last shop)
        Ranges of ids that bound the memory: grouping holds its groups at once.
    """
    scan = open_engine(sales, config.engine)
    _write_slices(lambda lazy: monthly_sales(lazy, unique_keys), scan, folder, slices)


def write_concentration(
    sales: Path,
    folder: Path,
    config: FeaturesConfig,
    as_of_t: int,
    slices: Sequence[ShopRange] = (EVERY_SHOP,),
) -> None:
    """Evaluate `product_concentration` over the window, as `write_monthly` does."""
    scan = open_engine(sales, config.engine)
    first_t = as_of_t - config.history_months + 1
    _write_slices(
        lambda lazy: product_concentration(lazy, first_t, as_of_t), scan, folder, slices
    )


def _write_slices(
    compute: Callable[[nw.LazyFrame[Any]], nw.LazyFrame[Any]],
    scan: nw.LazyFrame[Any],
    folder: Path,
    slices: Sequence[ShopRange],
) -> None:
    """Write what is computed from each slice of shops as a file of a folder."""
    folder.mkdir(parents=True)
    for number, (first, last) in enumerate(slices):
        rows = scan
        if first is not None and last is not None:
            shop = nw.col("shop_id")
            rows = scan.filter((shop >= first) & (shop <= last))
        compute(rows).sink_parquet(folder / f"{number:04d}.parquet")


def compute_features(
    monthly: Path,
    concentration: Path,
    shops: pl.Series,
    as_of_t: int,
    config: FeaturesConfig,
    batch_size: int,
) -> Iterator[pl.DataFrame]:
    """Compute the configured feature set batch by batch.

    Parameters
    ----------
    monthly, concentration : Path
        Folders that `write_monthly` and `write_concentration` wrote.
    shops : Series of str
        Eligible shops.
    as_of_t : int
        Month index of ``as_of``.
    config : FeaturesConfig
        Names the set.
    batch_size : int
        Shops per batch.

    Yields
    ------
    DataFrame
        ``shop_id``, the set's features in order, then `VOLUME`; shops ascending.
    """
    chosen = feature_set(config.name)
    for series in shop_series(monthly, concentration, shops, as_of_t, batch_size):
        columns = {**chosen.compute(series, config), **_volume(series)}
        yield pl.DataFrame({"shop_id": series.shop_id, **columns}).with_columns(
            pl.exclude("shop_id").fill_nan(None)
        )


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
