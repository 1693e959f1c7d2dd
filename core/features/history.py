"""The past of a sample of shops: what was known of them at earlier months.

Segments are judged by what shops did *after* a month, with features of what was known
*at* that month. Both come from here: the same features as of several cuts, features of
the months after the oldest cut alone, and the monthly sales in between. A sample of
shops serves, drawn from everyone who was eligible at any of those months, whether or
not they still are.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl

from core.features.monthly import MILLIONTHS, shop_activity
from core.features.preparation import Prepared, judge_at
from core.features.retailer import (
    VOLUME,
    compute_features,
    feature_set,
    write_concentration,
)
from core.months import month_index, month_label

HISTORY = "history.parquet"
LATER = "later.parquet"
MONTHLY = "monthly.parquet"


def cut_months(prepared: Prepared) -> list[str]:
    """Return the cuts, newest first: the newest leaves one horizon to `as_of`."""
    options = prepared.config.evaluation
    newest = month_index(prepared.as_of) - options.horizon_months
    steps = range(options.n_cuts)
    return [month_label(newest - step * options.cut_step_months) for step in steps]


def later_months(prepared: Prepared) -> int:
    """Return the months from the oldest cut to `as_of`."""
    return month_index(prepared.as_of) - month_index(cut_months(prepared)[-1])


def write_history(prepared: Prepared, paths: Mapping[str, Path]) -> list[str]:
    """Write the past of at most ``evaluation.max_shops`` shops.

    Parameters
    ----------
    prepared : Prepared
        Its interim files are read again.
    paths : mapping of file name to Path
        `HISTORY`: ``as_of`` (the cut, ``YYYY-MM``), ``shop_id``, the features and
        `core.features.retailer.VOLUME` as of that cut, of the shops eligible then.
        `LATER`: ``shop_id``, features and volume of the months after the oldest cut
        alone, of the sampled shops with a sale in them.
        `MONTHLY`: ``shop_id, t, quantity`` (units), ``n_products`` of the sampled
        shops' active months; ``t`` is `core.months.month_index`.

    Returns
    -------
    list of str
        The cuts at which at least one shop was eligible, newest first.
    """
    as_of_t = month_index(prepared.as_of)
    cuts = {month: month_index(month) for month in cut_months(prepared)}
    eligible = {month: _eligible_at(prepared, t) for month, t in cuts.items()}
    sample = _draw(prepared, [*eligible.values(), prepared.eligible])
    work = prepared.work / "history"
    work.mkdir()
    sales = work / "sales.parquet"
    prepared.sales.frame.join(
        sample.to_frame().lazy(), on="shop_id", how="semi"
    ).sink_parquet(sales)
    parts = [
        table.select(pl.lit(month).alias("as_of"), pl.all())
        for month, shops in eligible.items()
        for table in _features_at(prepared, sales, _among(shops, sample), cuts[month])
    ]
    history = pl.concat([_empty(prepared, ["as_of"]), *parts], how="vertical_relaxed")
    history.write_parquet(paths[HISTORY])
    window = later_months(prepared)
    active = _active_since(prepared, as_of_t - window + 1)
    later = _features_at(prepared, sales, _among(active, sample), as_of_t, window)
    recent = pl.concat([_empty(prepared, []), *later], how="vertical_relaxed")
    recent.write_parquet(paths[LATER])
    _months_of(prepared, sample, as_of_t).write_parquet(paths[MONTHLY])
    shutil.rmtree(work)
    return [month for month, shops in eligible.items() if len(shops)]


def _eligible_at(prepared: Prepared, t: int) -> pl.Series:
    """Return the shops that were eligible by what they had done up to a month."""
    months = nw.from_native(pl.scan_parquet(prepared.work / "monthly")).lazy()
    activity = shop_activity(months.filter(nw.col("t") <= t)).to_native()
    known = activity.collect(engine="streaming")
    judged = judge_at(known, t, prepared.config)
    return judged.filter(pl.col("reason").is_null())["shop_id"]


def _draw(prepared: Prepared, eligible: list[pl.Series]) -> pl.Series:
    """Draw shops from everyone who was eligible at any of the months."""
    everyone = pl.concat(eligible).unique().sort()
    n = min(len(everyone), prepared.config.evaluation.max_shops)
    return everyone.sample(n, seed=prepared.config.seed).sort().rename("shop_id")


def _among(shops: pl.Series, sample: pl.Series) -> pl.Series:
    return shops.filter(shops.is_in(sample.implode()))


def _active_since(prepared: Prepared, t: int) -> pl.Series:
    """Return the shops with a sale from a month on."""
    months = pl.scan_parquet(prepared.work / "monthly")
    recent = months.filter(pl.col("t").is_between(t, month_index(prepared.as_of)))
    return recent.select(pl.col("shop_id").unique()).collect()["shop_id"]


def _features_at(
    prepared: Prepared, sales: Path, shops: pl.Series, t: int, window: int | None = None
) -> Iterator[pl.DataFrame]:
    """Yield the features of shops as of a month, of `window` months where given."""
    if shops.is_empty():
        return
    features = prepared.config.features
    monthly = prepared.work / "monthly"
    if window is not None:
        features = features.model_copy(update={"history_months": window})
        monthly = prepared.work / "history" / "recent.parquet"
        pl.scan_parquet(prepared.work / "monthly").filter(
            pl.col("t") > t - window
        ).sink_parquet(monthly)
    concentration = prepared.work / "history" / f"concentration-{t}-{window}"
    write_concentration(sales, concentration, features, t)
    size = prepared.config.clustering.batch_size
    yield from compute_features(monthly, concentration, shops, t, features, size)


def _months_of(prepared: Prepared, sample: pl.Series, as_of_t: int) -> pl.DataFrame:
    """Return the active months of the sampled shops up to `as_of`."""
    return (
        pl.scan_parquet(prepared.work / "monthly")
        .filter(pl.col("t") <= as_of_t)
        .join(sample.to_frame().lazy(), on="shop_id", how="semi")
        .select(
            "shop_id",
            pl.col("t").cast(pl.Int32),
            quantity=pl.col("quantity") / MILLIONTHS,
            n_products=pl.col("n_products").cast(pl.Int32),
        )
        .sort("shop_id", "t")
        .collect(engine="streaming")
    )


def _empty(prepared: Prepared, first: list[str]) -> pl.DataFrame:
    """Return a table of features without rows, so that no cut leaves no columns."""
    names = feature_set(prepared.config.features.name).names
    schema: dict[str, Any] = dict.fromkeys([*first, "shop_id"], pl.String)
    numbers = [*names, *(feature.name for feature in VOLUME)]
    return pl.DataFrame(schema=schema | dict.fromkeys(numbers, pl.Float64))
