"""Rows of channels: local times, the window, maps, and what does not count."""

from __future__ import annotations

from datetime import date, datetime

import polars as pl
import pytest
from small_chain import (
    chain,
    frame,
    item,
    items_of,
    of_customers,
    of_orders,
    one_channel,
    order,
    orders_of,
    reasons,
    repairs,
)

from core.channels.intake import account_lines, read_channels
from core.errors import ConfigError, SchemaError
from core.resolve import build_config

ONE_ITEM = [item("o1", "burger")]
BERLIN = "Europe/Berlin"


def test_rows_kept_and_rows_set_aside_add_up_to_rows_read(sample):
    rejected = pl.read_parquet(sample.rejected)
    for channel, tables in sample.account["channels"].items():
        for table, account in tables.items():
            counts = {name: n for name, n in account["faults"].items() if n}
            assert account["rows_read"] == account["rows_kept"] + sum(counts.values())
            of_table = (pl.col("channel") == channel) & (pl.col("table") == table)
            saved = rejected.filter(of_table)["reason"].value_counts()
            assert dict(saved.iter_rows()) == counts
        kept = sample.orders[channel].collect(), sample.items[channel].collect()
        assert [rows.height for rows in kept] == [
            tables[table]["rows_kept"] for table in ("orders", "items")
        ]
        assert kept[0]["order_id"].is_unique().all()
        assert set(kept[1]["order_id"]) <= set(kept[0]["order_id"])


def test_rows_set_aside_are_saved_as_they_were_received(tmp_path):
    orders = [
        order("o1", "2025-06-01"),
        order("o2", "today"),
        order("o3", "2025-07-01"),
    ]
    data = one_channel(tmp_path, orders, ONE_ITEM)
    saved = pl.read_parquet(data.rejected)
    assert saved.select("channel", "table", "source_row", "reason").rows() == [
        ("app", "orders", 2, "impossible_date"),
        ("app", "orders", 3, "after_run_date"),
    ]
    assert saved["order_time"].to_list() == ["today", "2025-07-01"]


def test_the_account_names_channel_count_and_reason(tmp_path):
    orders = [order("o1", "2025-06-01"), order("o2", "2025-06-01", total=-5.0)]
    data = one_channel(tmp_path, orders, ONE_ITEM)
    lines = account_lines(data.account)
    assert lines[0] == "app: Kept 1 of 2 orders (app_orders.parquet)."
    assert (
        "app: 1 order (50%): a total below 0, which is a refund and no order; set "
        "aside (`negative_total`)." in lines
    )


def test_hints_are_the_same_for_more_rows_set_aside_than_are_held(
    tmp_path, monkeypatch
):
    orders = [order("o1", "2025-06-01"), order("o2", "06/13/2025"), order("o3", "?")]
    few = one_channel(tmp_path / "few", orders, [*ONE_ITEM, item("o9", "tea")])
    monkeypatch.setattr("core.tables.faults.HELD_AT_ONCE", 0)
    many = one_channel(tmp_path / "many", orders, [*ONE_ITEM, item("o9", "tea")])
    for table, account in few.account["channels"]["app"].items():
        assert account["hints"]
        assert many.account["channels"]["app"][table]["hints"] == account["hints"]


@pytest.mark.parametrize(
    ("written", "zone", "local"),
    [
        # A night order across midnight, with and without an offset in the time itself.
        ("2025-06-07 22:30", "UTC", "2025-06-08 00:30"),
        ("2025-06-08T00:30+02:00", "UTC", "2025-06-08 00:30"),
        ("2025-06-07T22:30Z", "America/New_York", "2025-06-08 00:30"),
        ("2025-01-07 23:30", "UTC", "2025-01-08 00:30"),
        ("2025-06-08 04:00", "Asia/Kolkata", "2025-06-08 00:30"),
        # Local times stay as they are.
        ("2025-06-08 00:30", None, "2025-06-08 00:30"),
        # Where clocks are set forward, and where they are set back.
        ("2025-03-30 00:59", "UTC", "2025-03-30 01:59"),
        ("2025-03-30 01:00", "UTC", "2025-03-30 03:00"),
        ("2024-10-27 00:30", "UTC", "2024-10-27 02:30"),
        ("2024-10-27 01:30", "UTC", "2024-10-27 02:30"),
    ],
)
def test_times_become_local(tmp_path, written, zone, local):
    given = {"orders": [order("o1", written)], "items": ONE_ITEM, "timezone": zone}
    data = chain(tmp_path, {"app": given}, timezone=BERLIN)
    [row] = orders_of(data).iter_rows(named=True)
    expected = datetime.fromisoformat(local)
    assert row["order_time"] == expected
    assert row["order_day"] == (expected.date() - date(1970, 1, 1)).days
    assert {"ambiguous_time", "skipped_time"}.isdisjoint(repairs(data, "orders"))


@pytest.mark.parametrize(
    ("written", "local", "told"),
    [
        ("2024-10-27 02:30", "2024-10-27 00:30", "ambiguous_time"),
        ("2025-03-30 02:30", "2025-03-30 01:30", "skipped_time"),
    ],
)
def test_times_that_clocks_repeat_or_skip_are_told(tmp_path, written, local, told):
    given = {"orders": [order("o1", written)], "items": ONE_ITEM, "timezone": BERLIN}
    data = chain(tmp_path, {"app": given}, timezone="UTC")
    assert orders_of(data)["order_time"].item() == datetime.fromisoformat(local)
    assert repairs(data, "orders") == {told: 1}
    assert any("clocks are set" in line for line in account_lines(data.account))


def test_a_local_time_that_clocks_skip_moves_on_by_an_hour(tmp_path):
    data = one_channel(
        tmp_path, [order("o1", "2025-03-30 02:30")], ONE_ITEM, timezone=BERLIN
    )
    assert orders_of(data)["order_time"].item() == datetime(2025, 3, 30, 3, 30)
    assert repairs(data, "orders") == {"skipped_time": 1}


def test_days_without_times_are_local_days_and_have_no_part_of_the_day(tmp_path):
    days = {"orders": [order("o1", "2025-06-07"), order("o2", "2025-06-08")]}
    times = {"orders": [order("o1", "2025-06-07"), order("o2", "2025-06-08 01:00")]}
    shared = {"items": ONE_ITEM, "timezone": "UTC"}
    channels = {"app": {**days, **shared}, "till": {**times, **shared}}
    data = chain(tmp_path, channels, timezone="America/New_York")
    assert orders_of(data)["order_time"].dt.day().to_list() == [7, 8]
    assert orders_of(data)["order_hour"].to_list() == [None, None]
    assert of_orders(data)["daypart"].to_list() == [None, None]
    assert of_customers(data)["app_Late_Night_order_count"].to_list() == [0]
    assert orders_of(data, "till")["order_time"].dt.day().to_list() == [6, 7]
    assert any("app: all orders are dated" in note for note in data.account["notes"])


def test_delivery_takes_the_minutes_that_passed_also_when_clocks_change(tmp_path):
    times = {
        "dispatched_time": "2024-10-27 01:50",
        "delivered_time": "2024-10-27 03:10",
    }
    early = {
        "dispatched_time": "2025-06-01 12:30",
        "delivered_time": "2025-06-01 12:00",
    }
    orders = [
        order("o1", "2024-10-27 01:30", **times),
        order("o2", "2025-06-01 12:00", **early),
        order("o3", "2025-06-01 12:00", dispatched_time=None, delivered_time=None),
    ]
    data = one_channel(tmp_path, orders, ONE_ITEM, timezone=BERLIN)
    assert orders_of(data)["delivery_minutes"].to_list() == [140.0, None, None]
    assert repairs(data, "orders") == {"unusable_delivery": 1}


def test_the_window_ends_before_the_run_date_and_begins_months_before_it(tmp_path):
    times = ["2025-03-31 23:59", "2025-04-01 00:00", "2025-06-30 23:59", "2025-07-01"]
    orders = [order(f"o{i}", time) for i, time in enumerate(times)]
    data = one_channel(tmp_path, orders, ONE_ITEM, months_offset=3)
    assert orders_of(data)["order_id"].to_list() == ["o1", "o2"]
    assert reasons(data)["orders"] == {"before_window": 1, "after_run_date": 1}
    # Customers are not looked at for longer than their orders are read.
    assert data.terms.cutoff_date == date(2025, 4, 1)


def test_without_a_run_date_the_newest_order_that_counts_decides(tmp_path):
    orders = [
        order("o1", "2025-05-31 20:00"),
        order("o2", "2150-01-01"),
        order("o3", "2025-06-20", total=-1.0),
    ]
    data = one_channel(tmp_path, orders, ONE_ITEM, run_date=None)
    assert data.terms.dates[1:] == (date(2024, 6, 1), date(2025, 6, 1))
    assert reasons(data)["orders"] == {"negative_total": 1, "after_run_date": 1}


def test_an_order_in_two_files_counts_once_and_so_do_its_items(tmp_path):
    orders = [order("o1", "2025-06-01 12:00"), order("o2", "2025-06-02 12:00")]
    # Equal lines may be several purchases, also of an order that came in twice.
    names = ["burger", "cola", "cola", "fries"]
    once = [item("o1", name) for name in names]
    again = once[:3]
    items = [*once, *again, item("o2", "cola"), item("o2", "cola")]
    data = one_channel(tmp_path, [*orders, orders[0]], items)
    assert orders_of(data)["order_id"].to_list() == ["o1", "o2"]
    assert items_of(data)["item_id"].to_list() == [*names, "cola", "cola"]
    assert reasons(data) == {
        "orders": {"repeated_order": 1},
        "items": {"repeated_item": 3},
    }


@pytest.mark.parametrize("turned", [False, True])
def test_of_contradicting_rows_of_an_order_the_earliest_counts(tmp_path, turned):
    orders = [
        order("o1", "2025-06-02", "c2", total=7.0),
        order("o1", "2025-06-01", "c1", total=9.0),
        order("o1", "2025-06-01", "c1", total=8.0),
    ]
    data = one_channel(tmp_path, orders[::-1] if turned else orders, ONE_ITEM)
    assert orders_of(data)["total_price"].to_list() == [8.0]
    assert reasons(data)["orders"] == {"repeated_order": 2}


def test_customers_are_mapped_by_account_or_by_invoice(tmp_path):
    app = {
        "orders": [order("o1", "2025-06-01", "u1"), order("o2", "2025-06-01", "u2")],
        "items": ONE_ITEM,
        "customers": [{"customer_id": "u1", "central_id": "anna"}],
    }
    till = {
        "orders": frame([order("t1", "2025-06-01"), order("t2", "2025-06-01")]).drop(
            "customer_id"
        ),
        "items": [item("t1", "cola")],
        "customers": [{"order_id": "t1", "central_id": "anna"}],
    }
    data = chain(tmp_path, {"app": app, "till": till})
    assert orders_of(data)["customer_id"].to_list() == ["anna"]
    assert orders_of(data, "till")["customer_id"].to_list() == ["anna"]
    assert reasons(data)["orders"] == {"unmapped_customer": 1}
    assert reasons(data, "till")["orders"] == {"unmapped_customer": 1}


def test_a_map_with_accounts_and_invoices_goes_by_the_id_that_orders_have(tmp_path):
    known = [{"customer_id": "u1", "order_id": "o1", "central_id": "anna"}]
    orders = frame([order("o1", "2025-06-01"), order("o2", "2025-06-02")])
    bare = {"orders": orders.drop("customer_id"), "items": ONE_ITEM, "customers": known}
    data = chain(tmp_path, {"app": bare})
    assert orders_of(data).select("order_id", "customer_id").rows() == [("o1", "anna")]


def test_an_id_with_two_central_ids_maps_to_none(tmp_path):
    pairs = [
        ("u1", "anna"),
        ("u1", "anna"),
        ("u2", "ben"),
        ("u2", "carl"),
        ("u3", None),
    ]
    known = [{"customer_id": own, "central_id": central} for own, central in pairs]
    orders = [order(f"o{i}", "2025-06-01", f"u{i}") for i in (1, 2, 3)]
    app = {"orders": orders, "items": ONE_ITEM, "customers": known}
    data = chain(tmp_path, {"app": app})
    assert orders_of(data)["customer_id"].to_list() == ["anna"]
    assert reasons(data)["customers"] == {
        "missing_central": 1,
        "ambiguous": 2,
        "repeated_row": 1,
    }


def test_without_a_map_ids_are_central_and_excluded_ones_are_left_out(tmp_path):
    orders = [
        order("o1", "2025-06-01", "anna"),
        order("o2", "2025-06-01", "guest"),
        order("o3", "2025-06-01", None),
    ]
    data = one_channel(tmp_path, orders, ONE_ITEM, data={"exclude_ids": ["guest"]})
    assert orders_of(data)["customer_id"].to_list() == ["anna"]
    assert reasons(data)["orders"] == {"unmapped_customer": 1, "excluded_customer": 1}


def test_stores_add_their_details_and_unknown_ones_are_told(tmp_path):
    orders = [
        order("o1", "2025-06-01", store_id="s1"),
        order("o2", "2025-06-01", store_id="s9"),
        order("o3", "2025-06-01", store_id=None),
    ]
    stores = [{"store_id": "s1", "city": "Lakeside", "store_format": "mall"}]
    data = one_channel(tmp_path, orders, ONE_ITEM, stores=stores)
    found = orders_of(data).select("store_id", "store_city", "store_format")
    assert found.rows() == [
        ("s1", "Lakeside", "mall"),
        ("s9", None, None),
        (None, None, None),
    ]
    assert any("2 orders without a store" in note for note in data.account["notes"])


def test_promotions_unmapped_and_excluded_items_are_left_out(tmp_path):
    items = [
        item("o1", "burger", is_promo=False),
        item("o1", "fries", 2.0, is_promo=True),
        item("o1", "bag", is_promo=False),
        item("o1", "stew", is_promo=False),
        item("o9", "cola", is_promo=False),
        item("o1", "cola", 0.0, is_promo=False),
    ]
    data = one_channel(tmp_path, [order("o1", "2025-06-01")], items)
    assert items_of(data)["item_id"].to_list() == ["burger"]
    assert orders_of(data)["promo_items"].to_list() == [2.0]
    assert reasons(data)["items"] == {
        "no_quantity": 1,
        "unknown_order": 1,
        "promo_item": 1,
        "unmapped_item": 1,
        "excluded_item": 1,
    }


@pytest.mark.parametrize(
    ("lines", "chosen", "left"),
    [
        ([1.0], [1.0], []),
        ([2.0], [1.0], [1.0]),
        ([1.0], [5.0], []),
        ([1.0, 3.0], [2.0], [2.0]),
        ([3.0, 1.0], [1.0, 1.0], [2.0]),
        ([1.0, 1.0], [1.0], [1.0]),
        ([2.0], [], [2.0]),
    ],
)
def test_choices_take_lines_of_their_item_out_up_to_their_quantity(
    tmp_path, lines, chosen, left
):
    items = [
        item("o1", "meal", header_item_id=None),
        *(item("o1", "cola", n, header_item_id=None) for n in lines),
        *(item("o1", "cola", n, header_item_id="meal") for n in chosen),
        # The same item in another order is another matter.
        item("o2", "cola", 4.0, header_item_id=None),
    ]
    orders = [order("o1", "2025-06-01"), order("o2", "2025-06-01")]
    data = one_channel(tmp_path, orders, items)
    colas = items_of(data).filter(item_id="cola")
    assert colas.filter(order_id="o1")["quantity"].to_list() == left
    assert colas.filter(order_id="o2")["quantity"].to_list() == [4.0]
    found = reasons(data)["items"]
    assert found.get("choice", 0) == len(chosen)
    assert found.get("choice_line", 0) == len(lines) - len(left)


def test_an_item_that_is_named_as_its_own_header_is_a_line(tmp_path):
    items = [
        item("o1", "meal", header_item_id="meal"),
        item("o1", "cola", header_item_id="meal"),
    ]
    data = one_channel(tmp_path, [order("o1", "2025-06-01")], items)
    assert items_of(data)["item_id"].to_list() == ["meal"]


def test_choices_of_orders_that_do_not_count_take_nothing(tmp_path):
    items = [
        item("o1", "cola", header_item_id=None),
        item("o1", "cola", 0.0, header_item_id="meal"),
        item("o2", "cola", header_item_id="meal"),
    ]
    orders = [order("o1", "2025-06-01"), order("o2", "2025-06-01", total=-1.0)]
    data = one_channel(tmp_path, orders, items)
    assert items_of(data)["item_id"].to_list() == ["cola"]
    assert reasons(data)["items"] == {"no_quantity": 1, "order_set_aside": 1}


def test_contradicting_rows_of_the_catalogue_map_to_nothing(tmp_path):
    catalog = [
        {"item_id": "burger", "driver_category": "Mains", "base_category": "Burger"},
        {"item_id": "burger", "driver_category": "MAINS ", "base_category": "burger"},
        {"item_id": "cola", "driver_category": "Drinks", "base_category": "Cola"},
        {"item_id": "cola", "driver_category": "Sides", "base_category": "Cola"},
        {"item_id": "tea", "driver_category": "Drinks", "base_category": None},
    ]
    items = [item("o1", "burger"), item("o1", "cola"), item("o1", "tea")]
    data = one_channel(tmp_path, [order("o1", "2025-06-01")], items, catalog=catalog)
    assert items_of(data).select(
        "item_id", "driver_category", "base_category"
    ).rows() == [("burger", "mains", "burger")]
    assert data.categories.driver == ("mains",)
    faults = data.account["catalog"]["faults"]
    assert {name: n for name, n in faults.items() if n} == {
        "no_category": 1,
        "ambiguous": 2,
        "repeated_row": 1,
    }


def test_names_of_items_as_categories_are_refused(tmp_path):
    names = [f"dish {number}" for number in range(600)]
    catalog = dict.fromkeys(["item_id", "driver_category", "base_category"], names)
    with pytest.raises(SchemaError, match=r"1,200 categories.*at most 1,000"):
        one_channel(tmp_path, [order("o1", "2025-06-01")], ONE_ITEM, catalog=catalog)


def test_without_any_map_orders_count_and_categories_are_not_known(tmp_path):
    data = one_channel(tmp_path, [order("o1", "2025-06-01")], ONE_ITEM, catalog=None)
    assert items_of(data).columns == ["order_id", "item_id", "quantity"]
    assert data.categories.driver == data.categories.base == ()
    assert any("`channels.catalog`" in note for note in data.account["notes"])


def test_a_channel_without_orders_is_kept_empty_but_not_the_home_channel(tmp_path):
    full = {"orders": [order("o1", "2025-06-01")], "items": ONE_ITEM}
    empty = {key: frame(rows).clear() for key, rows in full.items()}
    data = chain(tmp_path, {"app": full, "till": empty})
    assert orders_of(data, "till").is_empty()
    assert items_of(data, "till").is_empty()
    with pytest.raises(SchemaError, match="no rows under its column names"):
        chain(tmp_path, {"app": full, "till": empty}, home="till")
    late = {**full, "orders": [order("o1", "2026-06-01")]}
    with pytest.raises(
        SchemaError, match=r"none of 1 order can be used.*after_run_date"
    ):
        chain(tmp_path, {"app": late, "till": full})


def test_flags_are_read_from_words_and_numbers(tmp_path):
    words = ["yes", "No", "TRUE", "0", "1.0", "perhaps", None, ""]
    orders = [
        order(f"o{i}", "2025-06-01", has_query=word) for i, word in enumerate(words)
    ]
    data = one_channel(tmp_path, orders, ONE_ITEM)
    expected = [True, False, True, False, True, False, False, False]
    assert orders_of(data)["has_query"].to_list() == expected
    assert repairs(data, "orders") == {"unusable_flag": 1}


def test_missing_columns_are_named_with_the_option_that_maps_them(tmp_path):
    orders = frame([order("o1", "2025-06-01")]).rename({"total_price": "amount"})
    with pytest.raises(SchemaError) as refused:
        one_channel(tmp_path, orders, ONE_ITEM)
    option = "--set channels.sources.app.order_columns.total_price=amount"
    assert option in str(refused.value)
    mapped = {"order_columns": {"total_price": "amount"}, "orders": orders}
    data = chain(tmp_path, {"app": {**mapped, "items": ONE_ITEM}})
    assert orders_of(data)["total_price"].to_list() == [100.0]


def test_orders_without_customers_need_a_map_of_orders(tmp_path):
    orders = frame([order("o1", "2025-06-01")]).drop("customer_id")
    with pytest.raises(
        SchemaError, match="no column `customer_id` in the orders of `app`"
    ):
        one_channel(tmp_path, orders, ONE_ITEM)
    bad = [{"central_id": "anna", "phone": "1"}]
    with pytest.raises(SchemaError, match="no column `customer_id` or `order_id`"):
        chain(
            tmp_path, {"app": {"orders": orders, "items": ONE_ITEM, "customers": bad}}
        )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"home": "ap"}, "`channels.home` is `ap`.*Did you mean `app`"),
        ({"timezone": "Europe/Berlim"}, "`channels.timezone`.*no time zone"),
        ({"run_date": "July"}, "`channels.run_date` is `July`.*ISO 8601"),
        ({"cutoff_date": "2025-08-01"}, "`channels.cutoff_date` is 2025-08-01"),
        ({"cutoff_date": "2023-03-31"}, "read from 2023-04-01 on only, 27 months"),
        ({"price_bins": [1, 1]}, "greater than the one before"),
        ({"price_labels": ["low"]}, "expected 4 different names"),
        ({"price_bins": [0, float("nan"), 1, 2]}, "greater than the one before"),
        ({"dayparts": {"Day": 24}}, "different hours from 0 to 23"),
        ({"dayparts": {"Weekend": 5}}, "`Weekend_order_count` would be two features"),
        ({"dayparts": {"A": 1, "B": 2, "A_B": 3}}, "`A_B_order_count` would be two"),
        ({"months_offset": 100_000}, "less than or equal to 1200"),
        ({"sources": {"in store": {"orders": "a", "items": "b"}}}, "`in store` names"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(tmp_path, options, told):
    orders = [order("o1", "2025-06-01")]
    with pytest.raises(ConfigError, match=told):
        one_channel(tmp_path, orders, ONE_ITEM, **options)


def test_details_of_stores_never_take_the_name_of_another_column(tmp_path):
    stores = [{"store_id": "s1", "id": 5, "city": "Lakeside", "store_city": "L"}]
    orders = [order("o1", "2025-06-01", store_id="s1")]
    found = orders_of(one_channel(tmp_path, orders, ONE_ITEM, stores=stores))
    assert found.select("^store_.*$").row(0, named=True) == {
        "store_id": "s1",
        "store_store_id": "5",
        "store_city": "Lakeside",
        "store_store_city": "L",
    }


def test_rows_set_aside_show_columns_of_any_name(tmp_path):
    names = {"customer_id": "table", "total_price": "channel"}
    orders = frame([order("o1", "2025-06-01"), order("o2", "never")]).rename(names)
    app = {"orders": orders, "items": ONE_ITEM, "order_columns": names}
    saved = pl.read_parquet(chain(tmp_path, {"app": app}).rejected)
    [row] = saved.iter_rows(named=True)
    assert {name: value for name, value in row.items() if value is not None} == {
        "channel": "app",
        "table": "orders",
        "source_row": 2,
        "reason": "impossible_date",
        "order_id": "o2",
        "table_received": "c1",
        "order_time": "never",
        "channel_received": "100.0",
    }


@pytest.mark.parametrize(("policy", "n_kept"), [("keep", 2), ("drop", 1)])
def test_ids_in_scientific_notation_stop_unless_the_policy_says_otherwise(
    tmp_path, policy, n_kept
):
    orders = [order("o1", "2025-06-01"), order("4.0E+12", "2025-06-01")]
    with pytest.raises(SchemaError, match="scientific notation"):
        one_channel(tmp_path, orders, ONE_ITEM)
    chosen = {"policies": {"scientific_id": policy}}
    data = one_channel(tmp_path, orders, ONE_ITEM, data=chosen)
    assert orders_of(data).height == n_kept


def test_csv_files_are_read_with_their_marks_and_faults(tmp_path):
    orders = tmp_path / "orders.csv"
    orders.write_text(
        "order_id;customer_id;order_time;total_price;has_query\n"
        "1;c1;2025-06-01 10:00;1.234,50;yes\n"
        "2;c1;2025-06-02 10:00;4,5;no\n"
        "3;c1;2025-06-03;;no\n",
        encoding="utf-8",
    )
    items = tmp_path / "items.csv"
    items.write_text(
        "order_id;item_id;quantity\n1;burger;1\n2;cola;x\n2;cola;1,5\n",
        encoding="utf-8",
    )
    app = {"orders": str(orders), "items": str(items), "order_columns": {}}
    data = chain(tmp_path, {"app": app})
    assert orders_of(data)["total_price"].to_list() == [1234.5, 4.5]
    assert items_of(data)["quantity"].to_list() == [1.0, 1.5]
    assert reasons(data) == {
        "orders": {"invalid_total": 1},
        "items": {"invalid_quantity": 1},
    }


def test_a_column_that_may_be_missing_can_be_left_out(tmp_path):
    orders = [order("o1", "2025-06-01", store_id="s1")]
    none = {"order_columns": {"store_id": "none"}, "orders": orders, "items": ONE_ITEM}
    assert orders_of(chain(tmp_path, {"app": none}))["store_id"].to_list() == [None]
    none["order_columns"] = {"order_id": "none"}
    with pytest.raises(SchemaError, match="no column `order_id`"):
        chain(tmp_path, {"app": none})


def test_a_run_date_may_be_written_as_a_date_of_yaml(tmp_path):
    orders = [order("o1", "2025-06-01")]
    data = one_channel(tmp_path, orders, ONE_ITEM, run_date=date(2025, 6, 2))
    assert data.terms.run_date == date(2025, 6, 2)


def test_at_least_one_channel_has_to_be_named(tmp_path):
    with pytest.raises(ConfigError, match=r"`channels.sources` is empty"):
        read_channels(build_config({}), tmp_path)
