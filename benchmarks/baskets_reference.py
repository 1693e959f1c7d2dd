"""The features of baskets in plain pandas, all rows in memory: what `baskets.py` runs.

As a script: ``python benchmarks/baskets_reference.py FOLDER TARGET``, with the files of
`core.baskets.sample.write_sample` in the folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd


def features_in_pandas(
    orders: pd.DataFrame,
    items: pd.DataFrame,
    products: pd.DataFrame,
    aisles: pd.DataFrame,
) -> pd.DataFrame:
    """Return a row per customer, ascending; NaN where there is no value.

    Parameters
    ----------
    orders, items, products, aisles : DataFrame
        As `core.baskets.features.customer_features` takes them.
    """
    owned = orders[["order_id", "customer_id"]]
    lines = items.merge(owned, on="order_id").merge(
        products[["product_id", "aisle_id"]], on="product_id", how="left"
    )
    orders = orders.assign(angle=orders.order_hour_of_day * 2 * np.pi / 24)
    orders = orders.assign(sine=np.sin(orders.angle), cosine=np.cos(orders.angle))
    by_customer = orders.groupby("customer_id")
    table = by_customer.size().to_frame("n_orders")
    table = table.join(_shares(lines, aisles)).join(_baskets(lines))
    gaps = by_customer.days_since_prior_order
    table["mean_days_between_orders"] = gaps.mean()
    table["cv_days_between_orders"] = gaps.std() / gaps.mean()
    sine, cosine = by_customer.sine.mean(), by_customer.cosine.mean()
    length = np.hypot(sine, cosine).clip(upper=1)
    # Hours that cancel out have no mean.
    length = length.where(length > 1e-9)
    middle = np.arctan2(sine, cosine) * 24 / (2 * np.pi) % 24
    table["mean_order_hour"] = middle.where(length.notna()).replace(24, 0)
    spread = np.sqrt(-2 * np.log(length)) * 24 / (2 * np.pi)
    table["std_order_hour"] = spread.where(by_customer.angle.count() > 1)
    for name in ("n_items", "unique_products", "unique_aisles"):
        table[name] = table[name].fillna(0)
    table["avg_basket_size"] = table.n_items / table.n_orders
    table["basket_size_cv"] = table.std_basket_size / table.avg_basket_size
    table["freq_score"] = 1 / (1 + table.mean_days_between_orders)
    table["loyalty_score"] = table.reorder_ratio
    return table.drop(columns=["n_orders", "n_items"]).reset_index()


def _shares(lines: pd.DataFrame, aisles: pd.DataFrame) -> pd.DataFrame:
    """Return the share of each aisle, their entropy and number."""
    counts = lines.groupby(["customer_id", "aisle_id"]).size().unstack(fill_value=0)
    counts = counts.reindex(columns=aisles.aisle_id, fill_value=0)
    shares = counts.div(counts.sum(axis=1), axis=0)
    names = aisles.aisle_id.astype(str) + "_" + aisles.aisle
    made = shares.set_axis(("aisle_" + names).to_list(), axis=1)
    made["aisle_entropy"] = -(shares * np.log(shares.where(shares > 0, 1))).sum(
        axis=1, skipna=False
    )
    made["unique_aisles"] = (counts > 0).sum(axis=1)
    return made


def _baskets(lines: pd.DataFrame) -> pd.DataFrame:
    """Return the features of the sizes of orders, of products and of reorders."""
    baskets = lines.groupby(["customer_id", "order_id"]).reordered.agg(["size", "mean"])
    sizes = baskets.groupby("customer_id")["size"]
    made = sizes.sum().to_frame("n_items")
    made["std_basket_size"] = sizes.std()
    made["min_basket_size"] = sizes.min()
    made["max_basket_size"] = sizes.max()
    made["reorder_consistency"] = baskets.groupby("customer_id")["mean"].std()
    made["reorder_ratio"] = lines.groupby("customer_id").reordered.mean()
    again = lines.groupby(["customer_id", "product_id"]).reordered.max()
    made["unique_products"] = again.groupby("customer_id").size()
    made["pct_reordered_products"] = again.groupby("customer_id").mean()
    return made


def main() -> None:
    """Read the files, compute the features, write them."""
    folder, target = Path(sys.argv[1]), Path(sys.argv[2])
    orders, items, products, aisles = (
        pd.read_parquet(folder / f"{name}.parquet")
        for name in ("orders", "order_products__prior", "products", "aisles")
    )
    orders = orders.rename(columns={"user_id": "customer_id"})
    features_in_pandas(orders, items, products, aisles).to_parquet(target)


if __name__ == "__main__":
    main()
