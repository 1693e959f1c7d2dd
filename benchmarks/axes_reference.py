"""The reference recipe of 13 customer axes, as published, to be measured beside ours.

Written from its published description: features in a pandas loop over customers, a
sample of 5,000 stratified by lifetime value, unscaled KMeans per axis with k = 2..6 by
silhouette, everyone else to the nearest centroid in batches of 5,000, and an upsert
into PostgreSQL in batches of 1,000. What the description leaves open is done the
quicker way: customers are grouped once, not searched for one by one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

MONTH_DAYS = 30.44
SAMPLE = ((0.95, 1.0, 1000), (0.8, 0.95, 1500), (0.5, 0.8, 1500), (0.0, 0.5, 1000))
CLUSTERS = range(2, 7)
ASSIGN_BATCH = 5000
UPSERT_BATCH = 1000
STAGES = ("sample", "learn", "assign", "store")
LIFECYCLE_MONTHS = (3.0, 12.0, 24.0)

TABLE = """
CREATE TABLE IF NOT EXISTS reference_profiles (
    customer_id text PRIMARY KEY, store_id text, segment_memberships jsonb,
    dominant_segments jsonb, membership_strengths jsonb,
    lifetime_value double precision,
    total_orders integer, avg_order_value double precision,
    days_since_last_purchase integer, customer_tenure_days integer,
    churn_risk_score double precision, last_updated timestamptz DEFAULT now(),
    created_at timestamptz DEFAULT now());
CREATE INDEX IF NOT EXISTS reference_memberships
    ON reference_profiles USING gin (segment_memberships);
CREATE INDEX IF NOT EXISTS reference_dominant
    ON reference_profiles USING gin (dominant_segments);
"""
UPSERT = """
INSERT INTO reference_profiles (customer_id, store_id, segment_memberships,
    dominant_segments, membership_strengths, lifetime_value, total_orders,
    avg_order_value, days_since_last_purchase, customer_tenure_days, churn_risk_score)
VALUES (%s, 'default', %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (customer_id) DO UPDATE SET
    segment_memberships = excluded.segment_memberships,
    dominant_segments = excluded.dominant_segments,
    membership_strengths = excluded.membership_strengths,
    lifetime_value = excluded.lifetime_value, total_orders = excluded.total_orders,
    avg_order_value = excluded.avg_order_value,
    days_since_last_purchase = excluded.days_since_last_purchase,
    customer_tenure_days = excluded.customer_tenure_days,
    churn_risk_score = excluded.churn_risk_score, last_updated = now()
"""

Features = dict[str, dict[str, float]]


def run_reference(
    orders: pd.DataFrame, items: pd.DataFrame, connection: Any, seed: int = 42
) -> dict[str, float]:
    """Segment and store every customer; return the seconds of every stage.

    Parameters
    ----------
    orders, items : DataFrame
        With the reference's columns; ``order_date`` as timestamps.
    connection : psycopg.Connection
        To a database in which a table `reference_profiles` is made.
    seed : int
        Of the sample and of KMeans.
    """
    seconds = dict.fromkeys(STAGES, 0.0)
    clock = time.perf_counter()
    now = orders["order_date"].max()
    by_order = dict(iter(orders.sort_values("order_date").groupby("customer_id")))
    by_item = dict(iter(items.groupby("customer_id")))
    value = orders.groupby("customer_id")["total_price"].sum()
    chosen = _sample(value, np.random.default_rng(seed))
    clock = _lap(seconds, "sample", clock)
    no_items = items.iloc[:0]

    def features_of(customer: str) -> Features:
        return customer_axes(by_order[customer], by_item.get(customer, no_items), now)

    sampled = [features_of(customer) for customer in chosen]
    centres = {axis: _learn(sampled, axis, seed) for axis in sampled[0]}
    clock = _lap(seconds, "learn", clock)
    profiles = []
    customers = list(by_order)
    for start in range(0, len(customers), ASSIGN_BATCH):
        batch = customers[start : start + ASSIGN_BATCH]
        rows = [features_of(customer) for customer in batch]
        profiles += _assign(batch, rows, centres)
    clock = _lap(seconds, "assign", clock)
    _upsert(profiles, connection)
    _lap(seconds, "store", clock)
    return seconds


def _lap(seconds: dict[str, float], stage: str, started: float) -> float:
    now = time.perf_counter()
    seconds[stage] += now - started
    return now


def _sample(value: pd.Series, rng: np.random.Generator) -> list[str]:
    """Draw customers by tiers of lifetime value."""
    rank = value.rank(pct=True, method="first")
    chosen: list[str] = []
    for low, high, n in SAMPLE:
        tier = value.index[(rank > low) & (rank <= high)]
        chosen += list(rng.choice(tier, min(n, len(tier)), replace=False))
    return chosen


def _learn(sampled: list[Features], axis: str, seed: int) -> np.ndarray:
    """Return the centres of the k with the best silhouette, on raw features."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    table = np.array([list(row[axis].values()) for row in sampled])
    best, centres = -2.0, table.mean(axis=0, keepdims=True)
    for k in CLUSTERS:
        if len(np.unique(table, axis=0)) <= k:
            break
        model = KMeans(k, n_init=10, random_state=seed).fit(table)
        score = silhouette_score(table, model.labels_)
        if score > best:
            best, centres = score, model.cluster_centers_
    return centres


def _assign(
    batch: list[str], rows: list[Features], centres: dict[str, np.ndarray]
) -> list[tuple[Any, ...]]:
    """Return a batch's profiles, ready for the upsert."""
    labels, strengths = {}, {}
    for axis, found in centres.items():
        table = np.array([list(row[axis].values()) for row in rows])
        distance = np.linalg.norm(table[:, None, :] - found[None], axis=2)
        labels[axis] = distance.argmin(axis=1)
        strengths[axis] = 1.0 / (1.0 + distance.min(axis=1))
    profiles = []
    for n, (customer, row) in enumerate(zip(batch, rows, strict=True)):
        segments = json.dumps({axis: f"segment_{labels[axis][n]}" for axis in labels})
        strength = json.dumps({axis: float(strengths[axis][n]) for axis in labels})
        value, often = row["purchase_value"], row["purchase_frequency"]
        profiles.append(
            (
                str(customer),
                segments,
                segments,
                strength,
                value["lifetime_value"],
                int(often["total_orders"]),
                value["avg_order_value"],
                int(often["days_since_last_purchase"]),
                int(row["customer_maturity"]["tenure_months"] * MONTH_DAYS),
                row["loyalty_trajectory"]["churn_risk_score"],
            )
        )
    return profiles


def _upsert(profiles: list[tuple[Any, ...]], connection: Any) -> None:
    """Write the profiles, a commit for every batch."""
    with connection.cursor() as cursor:
        cursor.execute(TABLE)
        for start in range(0, len(profiles), UPSERT_BATCH):
            cursor.executemany(UPSERT, profiles[start : start + UPSERT_BATCH])
            connection.commit()


def customer_axes(
    orders: pd.DataFrame, items: pd.DataFrame, now: pd.Timestamp
) -> Features:
    """Return the features of one customer by axis; `orders` ascend by date."""
    shared = _shared(orders, items, now)
    return {axis: compute(orders, items, shared) for axis, compute in AXES.items()}


def _shared(
    orders: pd.DataFrame, items: pd.DataFrame, now: pd.Timestamp
) -> dict[str, Any]:
    """Return what several axes look at."""
    dates = orders["order_date"]
    days = (dates - dates.iloc[0]).dt.total_seconds().to_numpy() / 86_400
    since = (now - dates).dt.total_seconds().to_numpy() / 86_400
    tenure = max(since[0] / MONTH_DAYS, 1 / MONTH_DAYS)
    quantity = items["quantity"].to_numpy(dtype=float)
    products = items.groupby("product_id")["quantity"].agg(["sum", "size"])
    categories = items.groupby("category")["quantity"].agg(["sum", "size"])
    return {
        "value": orders["total_price"].to_numpy(dtype=float),
        "gaps": np.diff(days),
        "since": since,
        "tenure": tenure,
        "quantity": quantity,
        "products": products,
        "categories": categories,
        "refunds": float(items["refund_amount"].sum()),
        "returned": _share(float((items["refund_amount"] > 0).sum()), len(items)),
        "discount": orders["discount_amount"].to_numpy(dtype=float),
        "weekend": float((dates.dt.dayofweek >= 5).mean()),
        "hours": dates.dt.hour.to_numpy(),
        "dominance": _share(categories["sum"].max(), quantity.sum()),
        "concentration": float(((products["sum"] / quantity.sum()) ** 2).sum())
        if quantity.sum() > 0
        else 0.0,
    }


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else 0.0


def _slope(values: np.ndarray) -> float:
    """Return the OLS slope over the index; 0 below three values."""
    return (
        float(np.polyfit(np.arange(len(values)), values, 1)[0])
        if (len(values) >= 3)
        else 0.0
    )


def _entropy(counts: np.ndarray) -> float:
    """Return the entropy of counts over its largest value; 0 of one or none."""
    if len(counts) < 2:
        return 0.0
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum() / np.log(len(counts)))


def _frequency(orders: pd.DataFrame, items: pd.DataFrame, s: dict) -> dict[str, float]:
    gaps = s["gaps"]
    mean = gaps.mean() if len(gaps) else s["tenure"] * MONTH_DAYS
    spread = gaps.std() / mean if len(gaps) and mean > 0 else 0.0
    return {
        "orders_per_month": len(orders) / s["tenure"],
        "avg_days_between_orders": float(mean),
        "purchase_consistency": 1.0 / (1.0 + spread),
        "recent_orders_90d": float((s["since"] <= 90).sum()),
        "days_since_last_purchase": float(s["since"][-1]),
        "total_orders": float(len(orders)),
    }


def _value(orders: pd.DataFrame, items: pd.DataFrame, s: dict) -> dict[str, float]:
    value = s["value"]
    cv = value.std() / value.mean() if value.mean() > 0 else 0.0
    return {
        "lifetime_value": float(value.sum()),
        "avg_order_value": float(value.mean()),
        "median_order_value": float(np.median(value)),
        "max_order_value": float(value.max()),
        "value_trend": _slope(value),
        "value_consistency": 1.0 / (1.0 + cv),
    }


def _exploration(
    orders: pd.DataFrame, items: pd.DataFrame, s: dict
) -> dict[str, float]:
    return {
        "unique_categories": float(len(s["categories"])),
        "unique_products": float(len(s["products"])),
        "category_diversity": _entropy(s["categories"]["size"].to_numpy(dtype=float)),
        "product_diversity": 1.0 - s["concentration"],
        "primary_category_dominance": s["dominance"],
        "exploration_breadth": _share(len(s["products"]), len(items)),
    }


def _price(orders: pd.DataFrame, items: pd.DataFrame, s: dict) -> dict[str, float]:
    has = s["discount"] > 0
    before = s["value"][has] + s["discount"][has]
    rate = float(has.mean())
    return {
        "discount_rate": rate,
        "avg_discount_amount": float(s["discount"][has].mean()) if has.any() else 0.0,
        "avg_discount_pct": float((s["discount"][has] / before).mean())
        if has.any()
        else 0.0,
        "full_price_ratio": 1.0 - rate,
    }


def _cadence(orders: pd.DataFrame, items: pd.DataFrame, s: dict) -> dict[str, float]:
    hours, weekend = s["hours"], s["weekend"]
    times = [(hours < 12).sum(), ((hours >= 12) & (hours < 17)).sum()]
    times.append((hours >= 17).sum())
    return {
        "weekend_vs_weekday_ratio": weekend / max(1.0 - weekend, 1e-9),
        "weekend_rate": weekend,
        "business_hours_ratio": float(((hours >= 9) & (hours < 17)).mean()),
        "preferred_time": float(np.argmax(times)),
    }


def _maturity(orders: pd.DataFrame, items: pd.DataFrame, s: dict) -> dict[str, float]:
    tenure, n = s["tenure"], len(orders)
    score = (tenure >= 12) + (tenure >= 24) + (n >= 5) + (n >= 10) + (n >= 20)
    recent = (s["since"] <= 90).sum() / 3.0
    return {
        "tenure_months": tenure,
        "maturity_score": float(score),
        "lifecycle_stage": float(np.searchsorted(LIFECYCLE_MONTHS, tenure, "right")),
        "orders_per_tenure_month": n / tenure,
        "acceleration": recent / (n / tenure) if tenure >= 6 else 0.0,
    }


def _repurchase(orders: pd.DataFrame, items: pd.DataFrame, s: dict) -> dict[str, float]:
    products = s["products"]
    often = products["size"] > 1
    top = int(np.ceil(0.2 * len(products)))
    loyal = products["sum"].nlargest(top).sum() if top else 0.0
    loyalty = _share(loyal, s["quantity"].sum())
    return {
        "repeat_product_rate": float(often.mean()) if len(products) else 0.0,
        "avg_repurchase_count": float(products["size"][often].mean())
        if often.any()
        else 0.0,
        "loyalty_index": loyalty,
        "purchase_variety": 1.0 - loyalty,
    }


def _returns(orders: pd.DataFrame, items: pd.DataFrame, s: dict) -> dict[str, float]:
    return {
        "refund_rate": _share(s["refunds"], s["value"].sum()),
        "items_returned_pct": s["returned"],
        "total_refunds": s["refunds"],
        "has_returns": float(s["refunds"] > 0),
    }


def _channels(orders: pd.DataFrame, items: pd.DataFrame, s: dict) -> dict[str, float]:
    counts = orders["source"].value_counts()
    source = orders["source"].to_numpy()
    weekend = s["weekend"]
    return {
        "primary_channel": float(sum(map(ord, counts.index[0])) % 97),
        "channel_diversity": _entropy(counts.to_numpy(dtype=float)),
        "channel_switching_rate": float((source[1:] != source[:-1]).mean())
        if len(source) > 1
        else 0.0,
        "weekend_vs_weekday_ratio": weekend / max(1.0 - weekend, 1e-9),
    }


def _complexity(orders: pd.DataFrame, items: pd.DataFrame, s: dict) -> dict[str, float]:
    return {
        "refund_rate": _share(s["refunds"], s["value"].sum()),
        "items_returned_pct": s["returned"],
        "unique_products_vs_orders": len(s["products"]) / len(orders),
        "category_switching": float(len(s["categories"])),
        "discount_dependency": float((s["discount"] > 0).mean()),
    }


def _trajectory(orders: pd.DataFrame, items: pd.DataFrame, s: dict) -> dict[str, float]:
    since, gaps = s["since"], s["gaps"]
    month = ((since[0] - since) / MONTH_DAYS).astype(int)
    recent = (since <= 90).sum()
    before = ((since > 90) & (since <= 180)).sum()
    mean = gaps.mean() if len(gaps) else 0.0
    return {
        "order_frequency_trend": _slope(np.bincount(month).astype(float)),
        "value_trend": _slope(s["value"]),
        "recency_momentum": -_slope(gaps),
        "acceleration_phase": float(recent > 1.5 * before),
        "deceleration_phase": float(recent < 0.5 * before),
        "churn_risk_score": float(min(1.0, since[-1] / (2 * mean)))
        if mean > 0
        else 0.0,
    }


def _knowledge(orders: pd.DataFrame, items: pd.DataFrame, s: dict) -> dict[str, float]:
    products = s["products"]
    return {
        "product_concentration": s["concentration"],
        "repeat_product_rate": float((products["size"] > 1).mean())
        if len(products)
        else 0.0,
        "categories_mastered": float((s["categories"]["size"] >= 3).sum()),
        "primary_category_dominance": s["dominance"],
        "exploration_vs_loyalty": 1.0 - s["concentration"],
    }


def _sophistication(
    orders: pd.DataFrame, items: pd.DataFrame, s: dict
) -> dict[str, float]:
    price = items["price"].to_numpy(dtype=float)
    value = s["value"]
    mean = price.mean() if len(price) else 0.0
    cv = value.std() / value.mean() if value.mean() > 0 else 0.0
    rate = float((s["discount"] > 0).mean())
    return {
        "avg_item_price": float(mean),
        "price_variance": float(price.std() / mean) if mean > 0 else 0.0,
        "discount_hunt_score": rate,
        "full_price_comfort": 1.0 - rate,
        "spend_consistency": 1.0 / (1.0 + cv),
        "big_splurge_rate": float((value > 2 * value.mean()).mean()),
    }


Compute = Callable[[pd.DataFrame, pd.DataFrame, dict[str, Any]], dict[str, float]]
AXES: dict[str, Compute] = {
    "purchase_frequency": _frequency,
    "purchase_value": _value,
    "category_exploration": _exploration,
    "price_sensitivity": _price,
    "purchase_cadence": _cadence,
    "customer_maturity": _maturity,
    "repurchase_behavior": _repurchase,
    "return_behavior": _returns,
    "communication_preference": _channels,
    "problem_complexity_profile": _complexity,
    "loyalty_trajectory": _trajectory,
    "product_knowledge": _knowledge,
    "value_sophistication": _sophistication,
}
