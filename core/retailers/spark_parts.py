"""What executors run for shops: functions of a partition that holds whole shops.

Each takes a Polars table and a small argument, and is made of what one machine runs, so
that features, states and labels cannot differ. What is of all shops together leaves as
counts that partitions add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals as nw
import polars as pl

from core.config import Config
from core.retailers.features import UNCLUSTERED, VOLUME, feature_set, features_of
from core.retailers.monthly import (
    monthly_sales,
    product_concentration,
    series_of,
)
from core.retailers.prepare import Known, judged_shops
from core.segments.states import life_counts
from core.spark.rows import Reading, read_part
from core.tables.cells import DAY, HASH
from core.tables.columns import FLAGS
from core.tables.exact import MILLIONTHS, polars_millionths
from core.tables.faults import own_reason
from core.tables.ids import PLACEHOLDER, TOTAL, alike_forms, id_hash, sum_counts
from core.tables.sales import SALES

# Whose rows are kept together: the shop, or of a row without one, the row itself.
ENTITY = "__entity__"
REASON = "__reason__"
# Of a shop's id: `id_hash` as a signed number in the same order.
DRAW = "__draw__"
# Ids that may be totals or placeholders: so many of each partition, by value and rows.
LARGEST = 5
KEPT: dict[str, Any] = {
    "shop_id": pl.String,
    "product_id": pl.String,
    "year": pl.Int32,
    "month": pl.Int32,
    "sales_qty": pl.Float64,
}
COUNTS: dict[str, Any] = {
    "kind": pl.String,
    "text": pl.String,
    "number": pl.Int64,
    "n": pl.Int64,
    "value": pl.Float64,
}
LIVES: dict[str, Any] = dict.fromkeys(
    ("as_of", "n_active", "last", "n_months", "n", "t", "is_back"), pl.Int64
)
FORMS = dict.fromkeys(("lower", "bare", "long", "rounded"), pl.String)
SUMS: dict[str, Any] = dict.fromkeys(("n_groups", "n", "n_equal"), pl.Int64)
STATED: dict[str, Any] = {
    "state": pl.String,
    "tenure_months": pl.Int64,
    "beyond_habit_months": pl.Int64,
    "active_change_months": pl.Int64,
    "chance_active": pl.Float64,
    "chance_before_return": pl.Float64,
    "sales_ratio": pl.Float64,
}
JUDGED: dict[str, Any] = {
    "active_months": pl.Int64,
    "active_years": pl.Int64,
    "first_month": pl.String,
    "last_month": pl.String,
    "avg_active_months_per_year": pl.Float64,
    "reason": pl.String,
}
# Before the names of these, which features may have as well.
STATES_PREFIX, JUDGED_PREFIX = "state: ", "shop: "


def entities_part(table: pl.DataFrame, reading: Reading) -> pl.DataFrame:
    """Return received rows as read, with their `ENTITY`."""
    rows = read_part(table, reading)
    return rows.with_columns(
        pl.coalesce("shop_id", pl.col(HASH).cast(pl.String)).alias(ENTITY)
    )


@dataclass(frozen=True)
class Check:
    """How rows are held against each other within a shop.

    Attributes
    ----------
    policies : mapping of str to str
        By fault.
    dropped : sequence of str
        Faults of a row by itself for which it is set aside.
    has_products : bool
        Whether rows name products.
    n_read : int
        Rows in all.
    totals : mapping of str to sequence of str
        Ids that stand for totals, by column.
    """

    policies: Mapping[str, str]
    dropped: Sequence[str]
    has_products: bool
    n_read: int
    totals: Mapping[str, Sequence[str]]


def checked_rows(rows: pl.DataFrame, check: Check) -> pl.DataFrame:
    """Return rows with the `REASON` for which they are set aside; null: kept.

    What was found is told by columns of the faults' names. Rows have no order on Spark:
    of those that share a key, the one with the smallest hash is the first.
    """
    rows = rows.with_columns(pl.col(FLAGS).cast(pl.UInt64))
    rows = rows.with_columns(own_reason(SALES, check.dropped).alias(REASON))
    if check.policies["repeated_key"] != "keep":
        rows = rows.sort(HASH)
    free = pl.col(REASON).is_null()
    is_total = [pl.col(name).is_in(list(ids)) for name, ids in check.totals.items()]
    for fault, is_so in (
        # 64 bits tell the rows of one partition apart.
        ("exact_duplicate", ~pl.col(HASH).is_first_distinct()),
        ("repeated_key", free & ~pl.struct(free, *SALES.key).is_first_distinct()),
        ("total_row", free & pl.any_horizontal(pl.lit(value=False), *is_total)),
    ):
        rows = rows.with_columns(is_so.alias(fault))
        if check.policies[fault] != "keep":
            reason = pl.when(pl.col(fault)).then(pl.lit(fault))
            rows = rows.with_columns(pl.coalesce(REASON, reason).alias(REASON))
    return rows


def account_part(table: pl.DataFrame, check: Check) -> pl.DataFrame:
    """Return the account of a partition: `COUNTS`, which add up by their first three.

    Kinds: ``found`` (a fault) and ``aside`` (a reason); of rows kept ``day`` (year,
    month and day as a number, day 0 where not known), ``product`` (its rows and sum),
    ``size`` (how many shops have so many rows), ``large`` (shops with many rows, or
    named as totals or placeholders: rows and sum) and ``whole`` (the sum).
    """
    rows = checked_rows(table, check)
    kept = rows.filter(pl.col(REASON).is_null())
    faults = ("exact_duplicate", "repeated_key", "total_row")
    found = rows.select(pl.col(faults).sum()).unpivot(variable_name="text")
    aside = rows.drop_nulls(REASON).group_by(text=pl.col(REASON)).agg(n=pl.len())
    day = pl.col(DAY) % 100 if DAY in kept.columns else pl.lit(0)
    date = pl.col("year") * 10_000 + pl.col("month") * 100 + day.fill_null(0)
    sums = [pl.len().alias("n"), pl.col("sales_qty").sum().alias("value")]
    shops = kept.group_by(text=pl.col("shop_id")).agg(sums)
    is_named = pl.col("text").str.contains(TOTAL) | pl.col("text").str.contains(
        PLACEHOLDER
    )
    is_large = is_named | (pl.col("n") * 100 >= check.n_read)
    is_large |= pl.col("value").abs() >= pl.col("value").abs().top_k(LARGEST).min()
    parts = {
        "found": found.rename({"value": "n"}),
        "aside": aside,
        "day": kept.group_by(number=date).agg(n=pl.len()),
        "product": kept.group_by(text=pl.col("product_id")).agg(sums),
        "size": shops.group_by(number=pl.col("n")).agg(n=pl.len()),
        "large": shops.filter(is_large),
        "whole": shops.select(pl.col("n", "value").sum()),
    }
    empty = pl.DataFrame(schema=COUNTS)
    return pl.concat(
        [empty, *(_as_counts(part, kind) for kind, part in parts.items())],
        how="vertical",
    )


def _as_counts(part: pl.DataFrame, kind: str) -> pl.DataFrame:
    given = {"kind": pl.lit(kind)}
    return part.select(
        given.get(name, pl.col(name) if name in part.columns else pl.lit(None))
        .cast(dtype)
        .alias(name)
        for name, dtype in COUNTS.items()
    )


def sums_part(table: pl.DataFrame, how: tuple[Check, dict[str, Any]]) -> pl.DataFrame:
    """Return `core.tables.ids.sum_counts` of the rows kept of a partition."""
    check, of = how
    kept = checked_rows(table, check).filter(pl.col(REASON).is_null())
    return sum_counts(kept.lazy(), value="sales_qty", **of).collect()


def kept_part(table: pl.DataFrame, check: Check) -> pl.DataFrame:
    """Return the rows kept, summed per shop, product and month, as `KEPT`."""
    rows = checked_rows(table, check).filter(pl.col(REASON).is_null())
    if not check.has_products:
        rows = rows.with_columns(product_id=pl.lit(None, pl.String))
    summed = rows.group_by(SALES.key).agg(polars_millionths("sales_qty").sum())
    return summed.with_columns(pl.col("sales_qty") / MILLIONTHS).select(list(KEPT))


def aside_part(table: pl.DataFrame, check: Check) -> pl.DataFrame:
    """Return why rows are set aside: `HASH`, `REASON` and how many such rows."""
    aside = checked_rows(table, check).drop_nulls(REASON)
    return aside.group_by(HASH, REASON).agg(n=pl.len().cast(pl.Int64))


def alike_part(ids: pl.DataFrame, _: None) -> pl.DataFrame:
    """Return `core.tables.ids.alike_forms` of distinct shops."""
    return alike_forms(ids["shop_id"])


def months_part(table: pl.DataFrame, _: None) -> pl.DataFrame:
    """Return ``t`` and ``n``, the active shops of each month."""
    months = _monthly(table).group_by("t").agg(n=pl.len())
    return months.select(pl.col("t", "n").cast(pl.Int64))


def lives_part(table: pl.DataFrame, as_of: int) -> pl.DataFrame:
    """Return `core.segments.states.life_counts` of a partition, as `LIVES`."""
    months = _monthly(table).select("shop_id", "t", "quantity")
    counts = life_counts(months, as_of)
    return counts.with_columns(pl.lit(as_of, pl.Int64).alias("as_of"))


def _monthly(kept: pl.DataFrame) -> pl.DataFrame:
    monthly = monthly_sales(nw.from_native(kept.lazy()).lazy(), unique_keys=True)
    found = monthly.to_native().collect()
    assert isinstance(found, pl.DataFrame)
    return found


def shops_schema(config: Config) -> dict[str, Any]:
    """Return the columns of `shops_part`."""
    names = [*feature_set(config.features.name).names, *UNCLUSTERED]
    months = {f.name: pl.Int64 for f in VOLUME if f.unit == "months"}
    stated = {f"{STATES_PREFIX}{name}": kind for name, kind in STATED.items()}
    judged = {f"{JUDGED_PREFIX}{name}": kind for name, kind in JUDGED.items()}
    return (
        {"shop_id": pl.String}
        | dict.fromkeys(names, pl.Float64)
        | months
        | stated
        | judged
        | {DRAW: pl.Int64}
    )


def shops_part(table: pl.DataFrame, known: Known) -> pl.DataFrame:
    """Return every shop of the rows kept, judged, and features of the eligible."""
    monthly = _monthly(table)
    judged = judged_shops(monthly, known, table.lazy().select("shop_id").unique())
    own = judged.select("shop_id", pl.col(list(JUDGED)).name.prefix(JUDGED_PREFIX))
    told = judged.select(
        (pl.col(name) if name in judged.columns else pl.lit(None, kind))
        .cast(kind)
        .alias(f"{STATES_PREFIX}{name}")
        for name, kind in STATED.items()
    )
    eligible = judged.filter(pl.col("reason").is_null())["shop_id"]
    features = _features(table, monthly, eligible, known)
    whole = own.hstack(told).join(features, "shop_id", "left")
    draw = id_hash(whole["shop_id"])
    signed = (draw ^ pl.lit(1 << 63, pl.UInt64)).reinterpret(signed=True)
    return whole.with_columns(signed.alias(DRAW))


def _features(
    table: pl.DataFrame, monthly: pl.DataFrame, eligible: pl.Series, known: Known
) -> pl.DataFrame:
    """Return the features of eligible shops, ascending."""
    if eligible.is_empty():
        others = (DRAW, STATES_PREFIX, JUDGED_PREFIX)
        types = shops_schema(known.config)
        return pl.DataFrame(
            schema={n: kind for n, kind in types.items() if not n.startswith(others)}
        )
    config, as_of_t = known.config.features, known.as_of_t
    lines = nw.from_native(table.lazy()).lazy()
    since = as_of_t - config.history_months + 1
    shares = product_concentration(lines, since, as_of_t).to_native().collect()
    series = series_of(monthly, shares, eligible, *known.span)
    return features_of(series, config)
