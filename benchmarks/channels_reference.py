"""The recipe of channels and their segments in pandas, to be measured beside ours.

Written plainly from the description of the original: order features per channel,
customer features, 27 rules as conditions, KMeans per item of the plan. It reads the
sample's Parquet files, checks nothing and keeps no account:
``python benchmarks/channels_reference.py FOLDER TARGET``.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler

DAYPARTS = {"Breakfast": 5, "Lunch": 11, "Evening": 16, "Dinner": 19, "Late_Night": 23}
PRICES = [0, 150, 300, 500, np.inf]
LABELS = ["Value", "Regular", "Plus", "Premium"]
MONTHS = 27
HOME = "ownapp"
LINE = ["order_id", "item_id"]


def order_features(
    source: dict[str, Any], catalog: pd.DataFrame, options: dict[str, Any]
) -> pd.DataFrame:
    """Return the features of one channel's orders."""
    orders = pd.read_parquet(source["orders"])
    items = pd.read_parquet(source["items"])
    customers = pd.read_parquet(source["customers"])
    if "delivered_time" in orders:
        taken = orders.delivered_time - orders.dispatched_time
        orders["delivery_minutes"] = taken.dt.total_seconds() / 60
    if source["timezone"]:
        times = orders.order_time.dt.tz_localize(source["timezone"])
        times = times.dt.tz_convert(options["timezone"])
        orders["order_time"] = times.dt.tz_localize(None)
    run = pd.Timestamp(options["run_date"])
    first = run - pd.DateOffset(months=MONTHS)
    orders = orders[(orders.order_time >= first) & (orders.order_time < run)]
    key = "customer_id" if "customer_id" in customers else "order_id"
    orders = orders.merge(customers, on=key).drop(
        columns="customer_id", errors="ignore"
    )
    orders = orders.rename(columns={"central_id": "customer_id"})
    items = _items(items[items.order_id.isin(orders.order_id)], catalog)
    orders = _contents(orders, items)
    hour, day = orders.order_time.dt.hour, orders.order_time.dt.day_of_week
    orders["daypart"] = "Late_Night"
    for name, begin in DAYPARTS.items():
        orders.loc[hour >= begin, "daypart"] = name
    orders["is_weekend"] = (day >= 5).astype(int)
    buckets = pd.cut(orders.total_price, PRICES, right=False, labels=LABELS)
    flags = pd.get_dummies(buckets).astype(int).add_suffix("_price_flag")
    return pd.concat([orders, flags], axis=1)


def _items(items: pd.DataFrame, catalog: pd.DataFrame) -> pd.DataFrame:
    """Leave out promotions, choices, unmapped and excluded items."""
    choices = items[items.header_item_id.notna()]
    lines = items[items.header_item_id.isna() & ~items.is_promo]
    chosen = choices.groupby(LINE).quantity.sum().rename("chosen").reset_index()
    lines = lines.merge(chosen, on=LINE, how="left").fillna({"chosen": 0})
    lines = lines.sort_values([*LINE, "quantity"])
    before = lines.groupby(LINE).quantity.cumsum() - lines.quantity
    taken = np.clip(lines.chosen - before, 0, lines.quantity)
    lines = lines.assign(quantity=lines.quantity - taken)
    lines = lines[lines.quantity > 0].merge(catalog, on="item_id")
    categories = lines[["driver_category", "base_category"]]
    is_known = categories.notna().all(axis=1) & ~(categories == "Exclude").any(axis=1)
    return lines[is_known]


def _contents(orders: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Add what was in each order."""
    items = items.assign(veg=items.quantity.where(items.is_veg, 0))
    sums = items.groupby("order_id").agg(
        item_count=("quantity", "sum"),
        veg_count=("veg", "sum"),
        is_customised=("is_customised", "max"),
    )
    driver = pd.crosstab(items.order_id, items.driver_category).add_prefix("categ_dri_")
    base = pd.crosstab(items.order_id, items.base_category)
    base = base.add_prefix("categ_base_product_")
    held = pd.concat([sums, driver, base], axis=1)
    orders = orders.merge(held, left_on="order_id", right_index=True, how="left")
    counts = list(held.columns)
    orders[counts] = orders[counts].fillna(0)
    is_all = (orders.item_count > 0) & (orders.veg_count == orders.item_count)
    orders["all_veg"] = is_all.astype(int)
    return orders


def customer_features(
    tables: dict[str, pd.DataFrame], options: dict[str, Any]
) -> pd.DataFrame:
    """Return the features of customers with an order in the home channel."""
    named = [table.assign(channel=name) for name, table in tables.items()]
    orders = pd.concat(named, ignore_index=True)
    run = pd.Timestamp(options["run_date"])
    orders = orders[orders.order_time >= pd.Timestamp(options["cutoff_date"])]
    is_home = orders.channel == HOME
    orders = orders[orders.customer_id.isin(orders.customer_id[is_home].unique())]
    held = [name for name in orders if name.startswith("categ_")]
    orders[held] = (orders[held].fillna(0) > 0).astype(int)
    counts = pd.crosstab(orders.customer_id, orders.channel).add_suffix("_order_count")
    features = [counts]
    for scope, table in (
        ("omnichannel", orders),
        (HOME, orders[orders.channel == HOME]),
    ):
        found = _scope(table, run, held)
        twin = "" if scope == "omnichannel" else f"{HOME}_"
        names = {n: f"{twin}{n}_count" for n in held}
        names |= {n: f"{twin}{n}" for n in found if n.startswith("unique")}
        rest = {n: f"{scope}_{n}" for n in found if n not in names}
        features.append(found.rename(columns=names | rest))
    table = pd.concat(features, axis=1)
    used = counts > 0
    table["channel_count"] = used.sum(axis=1)
    table["channels_ordered_from"] = [
        "+".join(n for n in tables if row[f"{n}_order_count"])
        for row in used.to_dict("records")
    ]
    return table.loc[:, ~table.columns.duplicated()].reset_index(names="customer_id")


def _scope(orders: pd.DataFrame, run: pd.Timestamp, held: list[str]) -> pd.DataFrame:
    """Return the features of customers over some of the channels."""
    customers = orders.groupby("customer_id")
    found = customers.agg(
        order_count=("order_id", "count"),
        average_order_value=("total_price", "mean"),
        average_discount=("discount_amount", "mean"),
        average_delivery_minutes=("delivery_minutes", "mean"),
        first_order=("order_time", "min"),
        last_order=("order_time", "max"),
    )
    sums = customers[["discount_amount", "total_price"]].sum()
    share = sums.discount_amount / sums.total_price
    found["discount_share"] = share.clip(lower=0)
    first, last = found.first_order.dt.normalize(), found.last_order.dt.normalize()
    found["recency_days"] = (run - last).dt.days
    found["tenure_days"] = (last - first).dt.days + 1
    gaps = (found.order_count - 1).where(found.order_count > 1)
    found["average_days_between_orders"] = found.tenure_days / gaps
    weekend = customers.is_weekend.sum()
    found["Weekend_order_count"] = weekend
    found["Weekday_order_count"] = found.order_count - weekend
    parts = pd.crosstab(orders.customer_id, orders.daypart)
    for n in range(1, len(DAYPARTS) + 1):
        for names in itertools.combinations(DAYPARTS, n):
            found["_".join(names) + "_order_count"] = parts[list(names)].sum(axis=1)
    for label in LABELS:
        found[f"{label}_price_order_count"] = customers[f"{label}_price_flag"].sum()
    categories = customers[held].sum()
    base = [name for name in held if name.startswith("categ_base")]
    driver = [name for name in held if name.startswith("categ_dri")]
    found["unique_category_base_products_count"] = (categories[base] > 0).sum(axis=1)
    found["unique_dri_category_count"] = (categories[driver] > 0).sum(axis=1)
    return pd.concat([found, categories], axis=1)


def segments(features: pd.DataFrame) -> pd.Series:
    """Return the rule segment of each customer."""
    n, c = features.ownapp_order_count, features.unique_category_base_products_count
    ch = features.channel_count
    flag = {
        name: features[f"omnichannel_{name}_order_count"] > 0
        for name in ("Weekend", "Weekday", "Premium_price", *DAYPARTS)
    }
    we, wd, p = flag["Weekend"], flag["Weekday"], flag["Premium_price"]
    lunch, night = flag["Lunch"], flag["Late_Night"]
    b, e = flag["Breakfast"], flag["Evening"]
    low, mid, high = n <= 5, (n > 5) & (n <= 15), n > 15
    rules = {
        "Seg1_5_1": low & (c <= 2.5) & ~we,
        "Seg1_5_2": low & (c <= 2.5) & we & ~wd,
        "Seg1_5_3": low & (c <= 2.5) & we & wd,
        "Seg1_5_4": low & (c > 2.5) & (ch <= 1.5) & ~wd,
        "Seg1_5_5": low & (c > 2.5) & (ch <= 1.5) & wd,
        "Seg1_5_6": low & (c > 2.5) & (ch > 1.5) & p,
        "Seg1_5_7": low & (c > 2.5) & (ch > 1.5) & ~p & ~we,
        "Seg1_5_8": low & (c > 2.5) & (ch > 1.5) & ~p & we,
        "Seg_6_15_01": mid & (c <= 6.5) & ~we,
        "Seg_6_15_02": mid & (c <= 6.5) & we & ~lunch,
        "Seg_6_15_03": mid & (c <= 6.5) & we & lunch,
        "Seg_6_15_04": mid & (c > 6.5) & ~p & ~lunch,
        "Seg_6_15_05": mid & (c > 6.5) & ~p & lunch & ~night,
        "Seg_6_15_06": mid & (c > 6.5) & ~p & lunch & night,
        "Seg_6_15_07": mid & (c > 6.5) & p & (ch <= 1.5) & ~lunch,
        "Seg_6_15_08": mid & (c > 6.5) & p & (ch <= 1.5) & lunch,
        "Seg_6_15_09": mid & (c > 6.5) & p & (ch > 1.5) & ~night,
        "Seg_6_15_10": mid & (c > 6.5) & p & (ch > 1.5) & night,
        "Seg15_plus_1": high & (c <= 11.5) & ~b & ~night,
        "Seg15_plus_2": high & (c <= 11.5) & ~b & night & ~e,
        "Seg15_plus_3": high & (c > 8.5) & (c <= 11.5) & ~b & night & e,
        "Seg15_plus_4": high & (c <= 8.5) & ~b & night & e,
        "Seg15_plus_5": high & (c <= 11.5) & b,
        "Seg15_plus_6": high & (c > 11.5) & (c <= 16.5) & ~b & ~night,
        "Seg15_plus_7": high & (c > 16.5) & ~b & ~night,
        "Seg15_plus_8": high & (c > 11.5) & ~b & night,
        "Seg15_plus_9": high & (c > 11.5) & b,
    }
    found = pd.Series(None, index=features.index, dtype=object)
    for name, holds in rules.items():
        found[holds] = name
    return found


def micro_segments(features: pd.DataFrame, plan: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the cluster of the customers of each item of the plan."""
    numeric = features.select_dtypes("number").columns
    parts = []
    for item in plan:
        customers = features[features.segment.isin(item["source_segments"])]
        if len(customers) < 3:
            continue
        table = customers[numeric].fillna(0)
        low, high = table.quantile(0.01), table.quantile(0.99)
        scaled = StandardScaler().fit_transform(table.clip(low, high, axis=1))
        labels = KMeans(3, n_init=10, random_state=0).fit_predict(scaled)
        parts.append(
            customers[["customer_id"]].assign(plan=item["name"], cluster=labels)
        )
    return pd.concat(parts)


def main() -> None:
    """Run the recipe on a folder that `segments channels sample` has written."""
    folder, target = (Path(text) for text in sys.argv[1:])
    text = (folder / "channels.yaml").read_text(encoding="utf-8")
    options = yaml.safe_load(text)["channels"]
    catalog = pd.read_parquet(options["catalog"])
    tables = {}
    for name, source in options["sources"].items():
        tables[name] = order_features(source, catalog, options)
        tables[name].to_parquet(target / f"order_features_{name}.parquet")
    features = customer_features(tables, options)
    is_kept = (features.ownapp_order_count <= 100) & (
        features.unique_dri_category_count > 0
    )
    features = features[is_kept].copy()
    features["segment"] = segments(features)
    features.to_parquet(target / "customer_features.parquet")
    micro = micro_segments(features, options["micro"])
    micro.to_parquet(target / "micro_segments.parquet")


if __name__ == "__main__":
    main()
