"""The features of baskets written plainly in pandas, a customer at a time."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import circmean, circstd


def features_by_pandas(orders, items, products, aisles):
    """Return a row per customer; NaN where there is no value."""
    lines = items.merge(orders, on="order_id").merge(
        products, on="product_id", how="left"
    )
    rows = []
    for customer, own in orders.groupby("customer_id"):
        bought = lines[lines.customer_id == customer]
        row = {"customer_id": customer}
        known = bought[bought.aisle_id.isin(aisles.aisle_id)]
        shares = known.aisle_id.value_counts(normalize=True)
        for aisle in aisles.itertuples():
            share = shares.get(aisle.aisle_id, 0.0) if len(known) else np.nan
            row[f"aisle_{aisle.aisle_id}_{aisle.aisle}"] = share
        row["aisle_entropy"] = (
            -(shares * np.log(shares)).sum() if len(known) else np.nan
        )
        rows.append(row | _behaviour(own, bought) | {"unique_aisles": len(shares)})
    table = pd.DataFrame(rows)
    table["freq_score"] = 1 / (1 + table.mean_days_between_orders)
    table["loyalty_score"] = table.reorder_ratio
    return table


def _behaviour(orders, bought):
    baskets = bought.groupby("order_id").reordered.agg(["size", "mean"])
    gaps = orders.days_since_prior_order.dropna()
    hours = orders.order_hour_of_day.dropna()
    average = len(bought) / len(orders)
    return {
        "reorder_ratio": bought.reordered.mean(),
        "reorder_consistency": baskets["mean"].std(),
        "pct_reordered_products": bought.groupby("product_id").reordered.max().mean(),
        "mean_days_between_orders": gaps.mean(),
        "cv_days_between_orders": gaps.std() / gaps.mean(),
        "mean_order_hour": circmean(hours, high=24) if len(hours) else np.nan,
        "std_order_hour": circstd(hours, high=24) if len(hours) > 1 else np.nan,
        "avg_basket_size": average,
        "std_basket_size": baskets["size"].std(),
        "min_basket_size": baskets["size"].min(),
        "max_basket_size": baskets["size"].max(),
        "basket_size_cv": baskets["size"].std() / average if average else np.nan,
        "unique_products": bought.product_id.nunique(),
    }
