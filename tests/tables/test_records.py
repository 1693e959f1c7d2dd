"""One customer's records are taken as a whole file is."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from decimal import Decimal

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import Config
from core.tables.orders import purchases_from_frames
from core.tables.reconcile import ITEMS, ORDERS
from core.tables.records import customer_rows

NOW = dt.datetime(2024, 6, 30, 12, 0)
ORDER = {"order_id": "1", "order_date": dt.datetime(2024, 6, 1, 9), "total_price": 20.0}
ITEM = {"order_id": "1", "product_id": "tea", "quantity": 2, "price": 10.0}


def ask(orders, items, absent=(), **options):
    return customer_rows(
        "ann", orders, items, absent=absent, reference_date=NOW, **options
    )


def test_what_a_record_lacks_is_none_or_unknown():
    rows = ask([ORDER], [ITEM])
    added = {"discount_amount": [0.0], "source": ["unknown"]}
    assert rows.orders == {name: [v] for name, v in ORDER.items()} | added
    added = {"category": ["unknown"], "refund_amount": [0.0]}
    assert rows.items == {name: [v] for name, v in ITEM.items()} | added
    assert rows.reference_date == NOW
    assert rows.set_aside == {"orders": {}, "items": {}}


def test_what_the_model_does_not_know_is_left_out():
    order = ORDER | {"discount_amount": 5.0, "source": "web"}
    item = ITEM | {"category": "drinks", "refund_amount": 1.0}
    rows = ask([order], [item], absent=("source", "refund_amount"))
    assert list(rows.orders)[-1] == "discount_amount"
    assert list(rows.items)[-1] == "category"
    assert rows.absent == ("source", "refund_amount")
    assert ask([order], [item], absent=("items",)).items is None


def test_zones_decimals_and_whole_numbers_are_understood():
    zoned = dt.datetime(2024, 6, 1, 11, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    order = ORDER | {"order_date": zoned, "total_price": Decimal("20.00")}
    rows = ask([order], [ITEM | {"order_id": 1, "price": 10}])
    assert rows.orders["order_date"] == [ORDER["order_date"]]
    assert rows.orders["total_price"] == [20.0]
    assert rows.items["order_id"] == ["1"]


def test_a_customer_without_usable_orders_is_told_why():
    late = ORDER | {"order_date": dt.datetime(2024, 7, 1)}
    rows = ask([late, {}], [ITEM])
    assert rows.orders["order_id"] == rows.items["order_id"] == []
    faults = ("missing_order", "impossible_date", "invalid_total", "after_reference")
    assert rows.set_aside == {
        "orders": dict.fromkeys(faults, 1),
        "items": {"order_set_aside": 1},
    }
    assert ask([], []).orders["order_id"] == []


def test_negative_lines_are_refunds_here_as_well():
    lines = [ITEM, ITEM | {"quantity": -1}]
    assert ask([ORDER], lines).items["refund_amount"] == [10.0]
    kept = ask([ORDER], lines, negative_orders="drop").items
    assert kept["refund_amount"] == [0.0]


_DAYS = st.datetimes(dt.datetime(2024, 1, 1), dt.datetime(2024, 6, 30))
_IDS = st.sampled_from(["1", "2", "3", "4.0", " 5", "", "nan", "1.5E+12"])
_ORDERS = st.fixed_dictionaries(
    {
        "customer_id": st.sampled_from(["ann", "bob"]),
        "order_id": _IDS,
        "order_date": _DAYS,
        "total_price": st.sampled_from([-20.0, 0.0, 10.0, 99.99, 2e9, None]),
        "discount_amount": st.sampled_from([-1.0, 0.0, 5.0, None]),
        "source": st.sampled_from(["web", " APP", "ΣΟΦΙΑΣ", "None", None]),
    }
)
_ITEMS = st.fixed_dictionaries(
    {
        "customer_id": st.sampled_from(["ann", "bob"]),
        "order_id": _IDS,
        "product_id": st.sampled_from(["tea", "cup", None]),
        "quantity": st.sampled_from([-2.0, 0.0, 1.0, 3.0, None]),
        "price": st.sampled_from([-1.0, 0.0, 9.99, 10.0, None]),
        "category": st.sampled_from(["drinks", " Tea", "N/A", None]),
        "refund_amount": st.sampled_from([0.0, 5.0, -3.0, None]),
    }
)


@settings(max_examples=30)
@given(
    st.lists(_ORDERS, min_size=1),
    st.lists(_ITEMS, min_size=1),
    st.sampled_from(["refund", "drop"]),
)
def test_a_request_and_a_file_agree_on_every_customer(
    tmp_path_factory, orders, items, negative
):
    # One sound order and line each, so that the file has something to keep.
    for name in ("ann", "bob"):
        orders = [*orders, ORDER | {"customer_id": name, "order_id": f"{name}-1"}]
        items = [*items, ITEM | {"customer_id": name, "order_id": f"{name}-1"}]
    first = {"discount_amount": None, "source": None}
    frames = (
        pl.DataFrame([first | o for o in orders], infer_schema_length=None),
        pl.DataFrame(items, infer_schema_length=None, strict=False),
    )
    axes = {"reference_date": NOW.isoformat(), "negative_orders": negative}
    data = {"policies": {"scientific_id": "drop"}}
    config = Config.model_validate({"axes": axes, "data": data})
    batch = purchases_from_frames(*frames, config, tmp_path_factory.mktemp("w"))
    found = {"orders": Counter(), "items": Counter()}
    for name in ("ann", "bob"):
        alone = customer_rows(
            name,
            [o for o in orders if o["customer_id"] == name],
            [i for i in items if i["customer_id"] == name],
            absent=batch.absent,
            reference_date=NOW,
            negative_orders=negative,
        )
        for mine, table in ((alone.orders, batch.orders), (alone.items, batch.items)):
            expected = table.filter(customer_id=name).drop("customer_id")
            assert mine == expected.to_dict(as_series=False)
        for table, counts in alone.set_aside.items():
            found[table].update(counts)
    for spec in (ORDERS, ITEMS):
        told = batch.intake[spec.name]["faults"]
        assert found[spec.name] == {name: n for name, n in told.items() if n}


def test_refunds_go_to_the_newest_purchases_first():
    older = ORDER | {"order_id": "0", "order_date": dt.datetime(2024, 5, 1)}
    lines = [
        ITEM | {"order_id": "0", "quantity": 3},
        ITEM,
        ITEM | {"order_id": "0", "quantity": -2.5},
    ]
    assert ask([older, ORDER], lines).items["refund_amount"] == [5.0, 20.0]
