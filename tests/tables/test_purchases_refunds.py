"""Negative orders and lines: what they give back, and to which purchase it goes."""

from __future__ import annotations

import polars as pl
import pytest

from core.config import Config
from core.errors import SchemaError
from core.tables.orders import intake_lines, purchases_from_frames

# Ann buys 3 cups at 10 (order 1) and 2 more at 12 (order 2); C3 takes cups back.
ORDERS = pl.DataFrame(
    {
        "customer_id": ["ann", "ann", "ann"],
        "order_id": ["1", "2", "C3"],
        "order_date": ["2024-03-01 10:00", "2024-03-02 10:00", "2024-03-05 10:00"],
        "total_price": [30.0, 24.0, -10.0],
    }
)


def bought(*lines):
    names = ["order_id", "product_id", "quantity", "price"]
    rows = [("1", "cup", 3.0, 10.0), ("2", "cup", 2.0, 12.0), *lines]
    return pl.DataFrame(rows, schema=names, orient="row")


def take(tmp_path, items, orders=ORDERS, policy="refund"):
    config = Config.model_validate({"axes": {"negative_orders": policy}})
    return purchases_from_frames(orders, items, config, tmp_path)


def refunds(purchases):
    return dict(purchases.items.select("order_id", "refund_amount").rows())


def test_a_refund_goes_to_the_newest_purchase_of_the_product(tmp_path):
    purchases = take(tmp_path, bought(("C3", "cup", -1.0, 10.0)))
    assert purchases.orders["order_id"].to_list() == ["1", "2"]
    assert refunds(purchases) == {"1": 0.0, "2": 10.0}
    assert "refund_amount" not in purchases.absent
    assert purchases.intake["refunds"] == {
        "n_orders": 1,
        "n_lines": 1,
        "amount": 10.0,
        "attributed": 10.0,
        "n_orders_without_lines": 0,
    }


def test_what_one_purchase_cannot_take_goes_to_the_one_before(tmp_path):
    purchases = take(tmp_path, bought(("C3", "cup", -4.0, 10.0)))
    assert refunds(purchases) == {"1": 16.0, "2": 24.0}


def test_no_purchase_is_refunded_beyond_its_value(tmp_path):
    purchases = take(tmp_path, bought(("C3", "cup", -9.0, 10.0)))
    assert refunds(purchases) == {"1": 30.0, "2": 24.0}
    assert purchases.intake["refunds"]["amount"] == 90.0
    assert purchases.intake["refunds"]["attributed"] == 54.0
    assert any("54.00 of it (60%)" in line for line in intake_lines(purchases.intake))


def test_a_refund_of_what_was_never_bought_stays_out(tmp_path):
    purchases = take(tmp_path, bought(("C3", "hat", -1.0, 10.0)))
    assert refunds(purchases) == {"1": 0.0, "2": 0.0}
    assert purchases.intake["refunds"]["attributed"] == 0.0


def test_a_negative_line_of_a_positive_order_is_a_refund_too(tmp_path):
    items = bought(("2", "cup", -1.0, 12.0), ("2", "cup", 1.0, -2.0))
    purchases = take(tmp_path, items)
    assert purchases.orders["total_price"].to_list() == [30.0, 24.0]
    assert refunds(purchases) == {"1": 0.0, "2": 14.0}


def test_given_refunds_leave_less_room(tmp_path):
    items = bought(("C3", "cup", -1.0, 10.0)).with_columns(
        refund_amount=pl.Series([0.0, 20.0, None])
    )
    assert refunds(take(tmp_path, items)) == {"1": 6.0, "2": 24.0}


def test_a_bought_line_of_a_refund_order_is_set_aside(tmp_path):
    purchases = take(tmp_path, bought(("C3", "cup", -2.0, 10.0), ("C3", "hat", 1.0, 5)))
    assert purchases.items["product_id"].to_list() == ["cup", "cup"]
    hat = purchases.rejected.filter(product_id="hat")
    assert hat["reason"].to_list() == ["order_set_aside"]


def test_a_refund_may_carry_the_id_of_its_order(tmp_path):
    orders = ORDERS.with_columns(order_id=pl.Series(["1", "2", "2"]))
    purchases = take(tmp_path, bought(("2", "cup", -1.0, 12.0)), orders)
    assert purchases.orders["order_id"].to_list() == ["1", "2"]
    assert refunds(purchases) == {"1": 0.0, "2": 12.0}


def test_another_customer_keeps_what_was_bought(tmp_path):
    orders = ORDERS.with_columns(customer_id=pl.Series(["ann", "bob", "bob"]))
    purchases = take(tmp_path, bought(("C3", "cup", -9.0, 10.0)), orders)
    assert refunds(purchases) == {"1": 0.0, "2": 24.0}


def test_the_order_of_the_rows_changes_nothing(tmp_path):
    items = bought(("C3", "cup", -3.0, 10.0), ("1", "cup", 1.0, 10.0))
    first = take(tmp_path, items).items.sort("order_id", "quantity")
    for seed in range(5):
        shuffled = items.sample(fraction=1, shuffle=True, seed=seed)
        orders = ORDERS.sample(fraction=1, shuffle=True, seed=seed)
        again = take(tmp_path, shuffled, orders).items.sort("order_id", "quantity")
        assert again.equals(first)


def test_a_refund_order_without_lines_is_counted_only(tmp_path):
    purchases = take(tmp_path, bought())
    assert "refund_amount" in purchases.absent
    assert purchases.intake["refunds"]["n_orders_without_lines"] == 1
    assert any("what was given back" in line for line in intake_lines(purchases.intake))


def test_refund_orders_are_told_where_there_are_no_items(tmp_path):
    purchases = take(tmp_path, None)
    assert purchases.orders.height == 2
    told = " ".join(intake_lines(purchases.intake))
    assert "Kept 2 of 3 orders" in told
    assert "not as orders or purchases: 1 order below 0." in told


def test_negative_rows_are_set_aside_where_asked(tmp_path):
    items = bought(("C3", "cup", -1.0, 10.0))
    purchases = take(tmp_path, items, policy="drop")
    assert purchases.items.columns[-1] == "price"
    assert "refund_amount" in purchases.absent
    assert purchases.rejected["reason"].to_list() == [
        "negative",
        "negative, order_set_aside",
    ]


def test_negative_rows_stop_where_asked(tmp_path):
    with pytest.raises(SchemaError) as caught:
        take(tmp_path, bought(), policy="error")
    message = str(caught.value)
    assert "1 of 3 rows have a `total_price` below 0; first: row 3" in message
    assert "`--set axes.negative_orders=refund`" in message
    assert "`--set axes.negative_orders=drop`" in message
    items = bought(("2", "cup", -1.0, 12.0))
    with pytest.raises(SchemaError, match="`quantity` or `price` below 0"):
        take(tmp_path, items, ORDERS.head(2), policy="error")
