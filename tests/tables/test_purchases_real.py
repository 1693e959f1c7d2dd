"""Orders and items of two real shops, with the names that they have."""

from __future__ import annotations

import polars as pl
import pytest

from core.config import Config
from core.tables.orders import read_purchases

pytestmark = pytest.mark.shared_data
NAMES = {"order_date": "order_ts", "total_price": "amount", "source": "channel"}


def read(folder, tmp_path, order_columns):
    axes = {
        "orders": str(folder / "orders.parquet"),
        "items": str(folder / "items.parquet"),
        "order_columns": order_columns,
        "item_columns": {"price": "unit_price"},
    }
    purchases = read_purchases(Config.model_validate({"axes": axes}), tmp_path)
    for table, rows in (("orders", purchases.orders), ("items", purchases.items)):
        account = purchases.intake[table]
        aside = purchases.rejected.filter(table=table)
        assert account["rows_read"] == rows.height + aside.height
        assert rows.null_count().sum_horizontal().item() == 0
    pair = ["customer_id", "order_id"]
    assert not purchases.orders.select(pair).is_duplicated().any()
    assert purchases.items.join(purchases.orders, on=pair, how="anti").is_empty()
    return purchases


def test_online_retail_cancellations_become_refunds(shared_data, tmp_path):
    purchases = read(shared_data / "online_retail", tmp_path, NAMES)
    assert purchases.intake["orders"]["rows_read"] == 25_900
    assert purchases.intake["items"]["rows_read"] == 541_909
    assert purchases.intake["orders"]["faults"]["missing_customer"] == 3_710
    assert purchases.intake["n_customers"] == 4_339
    assert purchases.absent == ("discount_amount", "category")
    assert purchases.items["refund_amount"].min() == 0.0
    refunds = purchases.intake["refunds"]
    assert refunds["attributed"] == pytest.approx(
        purchases.items["refund_amount"].sum(), abs=0.01
    )
    assert 0.8 < refunds["attributed"] / refunds["amount"] < 1.0
    value = pl.col("quantity") * pl.col("price")
    beyond = purchases.items.filter(pl.col("refund_amount") > value + 1e-9)
    assert beyond.is_empty()


def test_households_keep_their_discounts(shared_data, tmp_path):
    names = NAMES | {"discount_amount": "discount"}
    purchases = read(shared_data / "complete_journey_sample", tmp_path, names)
    assert purchases.orders.height == 56_625
    assert purchases.intake["items"]["faults"]["invalid_price"] == 577
    assert purchases.absent == ("refund_amount",)
    assert purchases.orders["source"].unique().to_list() == ["in_store"]
