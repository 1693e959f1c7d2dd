"""One customer's records are taken as a whole file is."""

from __future__ import annotations

import datetime as dt
import time
from decimal import Decimal

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from core.axes.sample import generate_shoppers
from core.config import Config
from core.tables.orders import purchases_from_frames, purchases_of_customer

NOW = dt.datetime(2024, 6, 30, 12, 0)
ORDER = {"order_id": "1", "order_date": dt.datetime(2024, 6, 1, 9), "total_price": 20.0}
ITEM = {"order_id": "1", "product_id": "tea", "quantity": 2, "price": 10.0}


def ask(orders, items, absent=(), **options):
    return purchases_of_customer(
        "ann", orders, items, absent=absent, reference_date=NOW, **options
    )


def test_what_a_record_lacks_is_none_or_unknown():
    purchases = ask([ORDER], [ITEM])
    assert purchases.orders.row(0, named=True) == {
        "customer_id": "ann",
        **ORDER,
        "discount_amount": 0.0,
        "source": "unknown",
    }
    assert purchases.items.row(0, named=True) == {
        "customer_id": "ann",
        **ITEM,
        "category": "unknown",
        "refund_amount": 0.0,
    }
    assert purchases.reference_date == NOW


def test_what_the_model_does_not_know_is_left_out():
    order = ORDER | {"discount_amount": 5.0, "source": "web"}
    item = ITEM | {"category": "drinks", "refund_amount": 1.0}
    purchases = ask([order], [item], absent=("source", "refund_amount"))
    assert purchases.orders.columns[-1] == "discount_amount"
    assert purchases.items.columns[-1] == "category"
    assert purchases.absent == ("source", "refund_amount")
    assert ask([order], [item], absent=("items",)).items is None


def test_zones_decimals_and_whole_numbers_are_understood():
    zoned = dt.datetime(2024, 6, 1, 11, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    order = ORDER | {"order_date": zoned, "total_price": Decimal("20.00")}
    purchases = ask([order], [ITEM | {"order_id": 1, "price": 10}])
    assert purchases.orders["order_date"].to_list() == [ORDER["order_date"]]
    assert purchases.orders["total_price"].to_list() == [20.0]
    assert purchases.items["order_id"].to_list() == ["1"]


def test_a_customer_without_usable_orders_is_told_why():
    late = ORDER | {"order_date": dt.datetime(2024, 7, 1)}
    purchases = ask([late, {}], [ITEM])
    assert purchases.orders.is_empty()
    assert purchases.items.is_empty()
    assert purchases.rejected["reason"].to_list() == [
        "after_reference",
        "missing_order, impossible_date, invalid_total",
        "order_set_aside",
    ]
    assert ask([], []).orders.is_empty()


def test_negative_lines_are_refunds_here_as_well():
    lines = [ITEM, ITEM | {"quantity": -1}]
    assert ask([ORDER], lines).items["refund_amount"].to_list() == [10.0]
    kept = ask([ORDER], lines, negative_orders="drop").items
    assert kept["refund_amount"].to_list() == [0.0]


_DAYS = st.datetimes(dt.datetime(2024, 1, 1), dt.datetime(2024, 6, 30))
_IDS = st.sampled_from(["1", "2", "3", "4.0", " 5", ""])
_ORDERS = st.fixed_dictionaries(
    {
        "customer_id": st.sampled_from(["ann", "bob"]),
        "order_id": _IDS,
        "order_date": _DAYS,
        "total_price": st.sampled_from([-20.0, 0.0, 10.0, 99.99, 2e9, None]),
        "discount_amount": st.sampled_from([-1.0, 0.0, 5.0, None]),
        "source": st.sampled_from(["web", " APP", None]),
    }
)
_ITEMS = st.fixed_dictionaries(
    {
        "customer_id": st.sampled_from(["ann", "bob"]),
        "order_id": _IDS,
        "product_id": st.sampled_from(["tea", "cup", None]),
        "quantity": st.sampled_from([-2.0, 0.0, 1.0, 3.0, None]),
        "price": st.sampled_from([-1.0, 0.0, 9.99, 10.0, None]),
        "category": st.sampled_from(["drinks", None]),
        "refund_amount": st.sampled_from([0.0, 5.0, -3.0, None]),
    }
)


@settings(max_examples=30)
@given(st.lists(_ORDERS, min_size=1), st.lists(_ITEMS, min_size=1))
def test_a_request_and_a_file_agree_on_every_customer(tmp_path_factory, orders, items):
    # One sound order and line each, so that the file has something to keep.
    for name in ("ann", "bob"):
        orders = [*orders, ORDER | {"customer_id": name, "order_id": f"{name}-1"}]
        items = [*items, ITEM | {"customer_id": name, "order_id": f"{name}-1"}]
    first = {"discount_amount": None, "source": None}
    frames = (
        pl.DataFrame([first | o for o in orders], infer_schema_length=None),
        pl.DataFrame(items, infer_schema_length=None, strict=False),
    )
    config = Config.model_validate({"axes": {"reference_date": NOW.isoformat()}})
    batch = purchases_from_frames(*frames, config, tmp_path_factory.mktemp("w"))
    for name in ("ann", "bob"):
        alone = purchases_of_customer(
            name,
            [o for o in orders if o["customer_id"] == name],
            [i for i in items if i["customer_id"] == name],
            absent=batch.absent,
            reference_date=NOW,
        )
        assert alone.orders.equals(batch.orders.filter(customer_id=name))
        assert alone.items.equals(batch.items.filter(customer_id=name))


def test_a_request_of_fifty_orders_takes_milliseconds():
    made = generate_shoppers(200, 3, mean_orders=50.0)
    counts = made.orders["customer_id"].value_counts()
    busy = counts.filter(pl.col("count") >= 50)["customer_id"][0]
    orders = made.orders.filter(customer_id=busy).head(50).to_dicts()
    items = made.items.filter(customer_id=busy).head(200).to_dicts()
    spent = []
    for _ in range(20):
        start = time.perf_counter()
        purchases_of_customer(busy, orders, items, absent=(), reference_date=NOW)
        spent.append(time.perf_counter() - start)
    # 3 to 5 ms on an idle core; the bound leaves room for a busy machine.
    assert min(spent) < 0.025
