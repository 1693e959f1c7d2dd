"""Orders and items from files and frames: columns, cells, faults, the account."""

from __future__ import annotations

import datetime as dt
import json

import duckdb
import pandas as pd
import polars as pl
import pytest

from core.config import Config
from core.errors import ConfigError, SchemaError, SourceError
from core.tables.orders import (
    OPTIONAL,
    intake_lines,
    purchases_from_frames,
    read_purchases,
)

ORDERS = pl.DataFrame(
    {
        "customer_id": ["ann", "ann", "bob"],
        "order_id": ["1", "2", "3"],
        "order_date": ["2024-03-01 10:15", "2024-03-08 18:30", "2024-03-09 09:00"],
        "total_price": [30.0, 12.5, 8.0],
        "discount_amount": [0.0, 2.5, None],
        "source": ["web", "Web ", None],
    }
)
ITEMS = pl.DataFrame(
    {
        "order_id": ["1", "1", "2", "3"],
        "customer_id": ["ann", "ann", "ann", "bob"],
        "product_id": ["tea", "cup", "tea", "tea"],
        "quantity": [2, 1, 1, 1],
        "price": [10.0, 10.0, 12.5, 8.0],
        "category": ["drinks", "kitchen", "drinks", None],
        "refund_amount": [None, 10.0, 0.0, 0.0],
    }
)


def take(tmp_path, orders=ORDERS, items=ITEMS, **axes):
    config = Config.model_validate({"axes": axes})
    return purchases_from_frames(orders, items, config, tmp_path)


def one_order(**cells):
    row = {
        "customer_id": "ann",
        "order_id": "9",
        "order_date": "2024-03-02 12:00",
        "total_price": 5.0,
    }
    return ORDERS.vstack(pl.DataFrame([row | cells], schema=ORDERS.schema))


def test_clean_rows_come_through_in_our_types(tmp_path):
    purchases = take(tmp_path)
    assert purchases.orders.schema == {
        "customer_id": pl.String,
        "order_id": pl.String,
        "order_date": pl.Datetime("us"),
        "total_price": pl.Float64,
        "discount_amount": pl.Float64,
        "source": pl.String,
    }
    assert purchases.orders["source"].to_list() == ["web", "web", "unknown"]
    assert purchases.orders["discount_amount"].to_list() == [0.0, 2.5, 0.0]
    assert purchases.items.columns == [
        "customer_id",
        "order_id",
        "product_id",
        "quantity",
        "price",
        "category",
        "refund_amount",
    ]
    assert purchases.items["refund_amount"].to_list() == [0.0, 10.0, 0.0, 0.0]
    assert purchases.items["category"].to_list()[-1] == "unknown"
    assert purchases.absent == ()
    assert purchases.rejected.is_empty()
    assert purchases.reference_date == dt.datetime(2024, 3, 9, 9, 0)


def test_the_account_is_plain_json_and_told_in_sentences(tmp_path):
    purchases = take(tmp_path)
    assert json.loads(json.dumps(purchases.intake)) == purchases.intake
    lines = intake_lines(purchases.intake)
    assert lines[0] == (
        "Kept 3 of 3 orders (the frame of orders) of 2 customers, "
        "2024-03-01 to 2024-03-09."
    )
    assert "1 order had no channel, taken as `unknown`." in lines


def test_every_kind_of_frame_gives_the_same_purchases(tmp_path):
    polars = take(tmp_path)
    arrow = take(tmp_path, ORDERS.to_arrow(), ITEMS.to_arrow())
    lazy = take(tmp_path, ORDERS.lazy(), ITEMS.lazy())
    pandas = take(
        tmp_path,
        pd.DataFrame(ORDERS.to_dict(as_series=False)),
        pd.DataFrame(ITEMS.to_dict(as_series=False)),
    )
    with duckdb.connect() as connection:
        connection.register("orders", ORDERS.to_arrow())
        connection.register("items", ITEMS.to_arrow())
        relation = take(tmp_path, connection.table("orders"), connection.table("items"))
    for other in (arrow, lazy, pandas, relation):
        assert other.orders.equals(polars.orders)
        assert other.items.equals(polars.items)
    assert arrow.fingerprint == lazy.fingerprint == polars.fingerprint


def test_the_fingerprint_follows_content_and_options(tmp_path):
    first = take(tmp_path).fingerprint
    assert take(tmp_path).fingerprint == first
    assert take(tmp_path, items=ITEMS.head(3)).fingerprint != first
    assert take(tmp_path, items=None).fingerprint != first
    assert take(tmp_path, negative_orders="drop").fingerprint != first
    assert take(tmp_path, reference_date="2024-03-10").fingerprint != first


def test_files_are_read_with_the_names_that_they_have(tmp_path):
    ORDERS.rename({"order_date": "Bought at", "source": "channel"}).write_csv(
        tmp_path / "orders.csv", separator=";"
    )
    ITEMS.rename({"price": "unit_price"}).write_parquet(tmp_path / "items.parquet")
    axes = {
        "orders": str(tmp_path / "orders.csv"),
        "items": str(tmp_path / "items.parquet"),
        "order_columns": {"order_date": "Bought at", "source": "channel"},
        "item_columns": {"price": "unit_price"},
    }
    config = Config.model_validate({"axes": axes, "data": {"decimal": "."}})
    purchases = read_purchases(config, tmp_path / "work")
    expected = take(tmp_path)
    assert purchases.orders.equals(expected.orders)
    assert purchases.items.equals(expected.items)
    assert purchases.intake["orders"]["source"] == "orders.csv"


def test_a_missing_column_is_explained_with_the_flag_that_maps_it(tmp_path):
    orders = ORDERS.rename({"order_date": "order_ts", "total_price": "amount"})
    with pytest.raises(SchemaError) as caught:
        take(tmp_path, orders)
    message = str(caught.value)
    assert "no column `order_date`, `total_price` in the orders" in message
    assert "--order-column order_date=order_ts" in message
    assert "--order-column total_price=amount" in message


def test_a_mapping_to_a_name_that_is_not_ours_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean `order_date`"):
        take(tmp_path, order_columns={"order_dat": "x"})
    with pytest.raises(ConfigError, match="to both `order_id` and `customer_id`"):
        take(tmp_path, item_columns={"order_id": "x", "customer_id": "x"})


def test_columns_that_cannot_be_meant_are_refused(tmp_path):
    dated = ORDERS.with_columns(total_price=pl.date(2024, 1, 1))
    with pytest.raises(SchemaError, match="expected a number for `total_price`"):
        take(tmp_path, dated)
    nested = ITEMS.with_columns(product_id=pl.concat_list("product_id"))
    with pytest.raises(SchemaError, match="expected an id for `product_id`"):
        take(tmp_path, items=nested)


def test_what_is_no_frame_is_refused(tmp_path):
    with pytest.raises(SourceError, match="is no table that can be read"):
        take(tmp_path, orders=[1, 2])


def test_items_without_orders_are_refused(tmp_path):
    config = Config.model_validate({"axes": {"items": "items.csv"}})
    with pytest.raises(ConfigError, match="need their orders"):
        read_purchases(config, tmp_path)


def test_missing_optional_columns_are_absent_not_zero(tmp_path):
    orders = ORDERS.drop("discount_amount", "source")
    items = ITEMS.drop("category", "refund_amount")
    purchases = take(tmp_path, orders, items)
    assert purchases.absent == (
        "discount_amount",
        "source",
        "category",
        "refund_amount",
    )
    assert "source" not in purchases.orders.columns
    assert "category" not in purchases.items.columns
    without = take(tmp_path, ORDERS, None)
    assert without.absent == ("items", "category", "refund_amount")
    assert without.items is None


def test_an_optional_column_without_any_value_is_absent(tmp_path):
    orders = ORDERS.with_columns(source=pl.lit(None, pl.String))
    purchases = take(tmp_path, orders)
    assert purchases.absent == ("source",)
    assert "source" not in purchases.orders.columns
    assert any("`source` is empty in every row" in n for n in purchases.intake["notes"])


def test_a_column_that_looks_like_an_absent_one_is_suggested(tmp_path):
    purchases = take(tmp_path, ORDERS.rename({"source": "channel"}))
    assert purchases.absent == ("source",)
    notes = " ".join(purchases.intake["notes"])
    assert "`--order-column source=channel`" in notes


def test_dates_without_a_time_of_day_are_noticed(tmp_path):
    days = ORDERS.with_columns(pl.col("order_date").str.slice(0, 10))
    purchases = take(tmp_path, days)
    assert purchases.absent == ("order_time",)
    assert set(purchases.absent) <= set(OPTIONAL)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"customer_id": None}, "missing_customer"),
        ({"customer_id": " NaN "}, "missing_customer"),
        ({"order_id": ""}, "missing_order"),
        ({"order_date": "yesterday"}, "impossible_date"),
        ({"order_date": "2024-02-30 10:00"}, "impossible_date"),
        ({"order_date": None}, "impossible_date"),
        ({"total_price": None}, "invalid_total"),
        ({"total_price": float("inf")}, "invalid_total"),
        ({"total_price": 2e9}, "invalid_total"),
        ({"order_id": "1"}, "repeated_order"),
        ({"total_price": -5.0}, "refund"),
        ({"order_date": None, "total_price": None}, "impossible_date, invalid_total"),
    ],
)
def test_a_faulty_order_is_set_aside_with_its_reason(tmp_path, cells, reason):
    purchases = take(tmp_path, one_order(**cells))
    assert purchases.orders.height == 3
    assert purchases.rejected["reason"].to_list() == [reason]
    assert purchases.rejected["source_row"].to_list() == [4]
    assert purchases.rejected["table"].to_list() == ["orders"]
    account = purchases.intake["orders"]
    assert account["faults"][reason.split(", ")[0]] == 1
    assert account["rows_kept"] + account["rows_set_aside"] == account["rows_read"]


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"order_id": None}, "missing_order"),
        ({"product_id": "null"}, "missing_product"),
        ({"quantity": None}, "invalid_quantity"),
        ({"quantity": 2_000_000_000}, "invalid_quantity"),
        ({"price": None}, "invalid_price"),
        ({"price": -1.0, "quantity": -1}, "invalid_price"),
        ({"order_id": "77"}, "unknown_order"),
        ({"customer_id": "bob"}, "unknown_order"),
    ],
)
def test_a_faulty_item_is_set_aside_with_its_reason(tmp_path, cells, reason):
    row = ITEMS.row(0, named=True) | cells
    items = ITEMS.vstack(pl.DataFrame([row], schema=ITEMS.schema))
    purchases = take(tmp_path, items=items)
    assert purchases.items.height == 4
    assert purchases.rejected["reason"].to_list() == [reason]
    assert purchases.rejected["source_row"].to_list() == [5]


def test_a_rejected_row_keeps_its_cells_as_received(tmp_path):
    purchases = take(tmp_path, one_order(total_price=None, source="Fax"))
    row = purchases.rejected.row(0, named=True)
    assert (row["customer_id"], row["order_date"]) == ("ann", "2024-03-02 12:00")
    assert row["source"] == "Fax"


def test_an_item_of_an_order_that_was_set_aside_says_so(tmp_path):
    orders = ORDERS.with_columns(
        total_price=pl.when(pl.col("order_id") == "3").then(None).otherwise(1.0)
    )
    purchases = take(tmp_path, orders)
    assert purchases.items["customer_id"].to_list() == ["ann"] * 3
    reasons = purchases.rejected.select("table", "reason").rows()
    assert ("items", "order_set_aside") in reasons


def test_items_without_a_customer_take_that_of_their_order(tmp_path):
    purchases = take(tmp_path, items=ITEMS.drop("customer_id"))
    assert purchases.items.equals(take(tmp_path).items)
    some = ITEMS.with_columns(
        customer_id=pl.when(pl.col("order_id") == "1").then("customer_id")
    )
    assert take(tmp_path, items=some).items.equals(purchases.items)


def test_an_order_id_of_two_customers_is_two_orders(tmp_path):
    orders = one_order(customer_id="bob", order_id="1")
    assert take(tmp_path, orders).orders.height == 4
    nameless = take(tmp_path, orders, ITEMS.drop("customer_id"))
    aside = nameless.rejected.filter(table="items")
    assert aside["reason"].unique().to_list() == ["ambiguous_order"]
    assert aside["order_id"].unique().to_list() == ["1"]


def test_ids_that_went_through_a_float_are_mended_on_both_sides(tmp_path):
    orders = ORDERS.with_columns(
        customer_id=pl.Series([17850.0, 17850.0, 13047.0]),
        order_id=pl.Series(["536365.0", "536366.0", "536367.0"]),
    )
    items = ITEMS.with_columns(
        customer_id=pl.Series([17850, 17850, 17850, 13047]),
        order_id=pl.Series([536365, 536365, 536366, 536367]),
    )
    purchases = take(tmp_path, orders, items)
    assert purchases.items.height == 4
    assert purchases.orders["customer_id"].to_list() == ["17850", "17850", "13047"]
    assert purchases.intake["orders"]["repairs"]["float_id"] == 3


@pytest.mark.parametrize(
    "text",
    [
        "2024-03-01T10:15:00",
        "2024-03-01 10:15",
        "2024/03/01 10:15:00.000",
        "2024-03-01T12:15:00+02:00",
        "2024-03-01T05:45:00-0430",
        "2024-03-01 10:15:00 Z",
        "1709288100",
        "1709288100000",
        "1709288100000000",
        "1709288100000000000",
    ],
)
def test_one_moment_may_be_typed_in_many_ways(tmp_path, text):
    orders = ORDERS.with_columns(
        order_date=pl.when(pl.col("order_id") == "1")
        .then(pl.lit(text))
        .otherwise("order_date")
    )
    purchases = take(tmp_path, orders)
    assert purchases.orders["order_date"][0] == dt.datetime(2024, 3, 1, 10, 15)
    has_offset = text.endswith(("+02:00", "-0430", "Z"))
    assert purchases.intake["orders"]["repairs"]["with_offset"] == has_offset


@pytest.mark.parametrize(
    "dates",
    [
        pl.Series([1709288100, 1709922600, 1709974800]),
        pl.Series([1709288100.0, 1709922600.0, 1709974800.0]),
        pl.Series([1709288100000, 1709922600000, 1709974800000]),
        pl.Series(["2024-03-01 10:15", "2024-03-08 18:30", "2024-03-09 09:00"])
        .str.to_datetime("%Y-%m-%d %H:%M")
        .dt.replace_time_zone("UTC")
        .dt.convert_time_zone("Europe/Berlin"),
    ],
)
def test_epochs_and_zones_are_brought_to_utc(tmp_path, dates):
    purchases = take(tmp_path, ORDERS.with_columns(order_date=dates))
    assert purchases.orders.equals(take(tmp_path).orders)


def test_a_number_of_eight_digits_is_a_calendar_day(tmp_path):
    dates = pl.Series([20240301, 20240308, 20240309])
    purchases = take(tmp_path, ORDERS.with_columns(order_date=dates))
    assert purchases.orders["order_date"][0] == dt.datetime(2024, 3, 1)
    assert "order_time" in purchases.absent


def test_dates_in_a_format_of_their_own_are_read_by_option(tmp_path):
    dates = pl.Series(["01.03.2024 10:15", "08.03.2024 18:30", "09.03.2024 09:00"])
    orders = ORDERS.with_columns(order_date=dates)
    with pytest.raises(SchemaError, match=r"`01.03.2024 10:15` \(row 1\)") as caught:
        take(tmp_path, orders)
    assert "`data.date_format`" in str(caught.value)
    config = Config.model_validate({"data": {"date_format": "%d.%m.%Y %H:%M"}})
    purchases = purchases_from_frames(orders, ITEMS, config, tmp_path)
    assert purchases.orders.equals(take(tmp_path).orders)


def test_orders_after_the_reference_date_are_set_aside(tmp_path):
    purchases = take(tmp_path, reference_date="2024-03-08")
    assert purchases.reference_date == dt.datetime(2024, 3, 8, 23, 59, 59, 999999)
    assert purchases.orders["order_id"].to_list() == ["1", "2"]
    reasons = purchases.rejected.select("table", "reason").rows()
    assert reasons == [("orders", "after_reference"), ("items", "order_set_aside")]
    moment = take(tmp_path, reference_date="2024-03-08T18:00:00+00:00")
    assert moment.orders["order_id"].to_list() == ["1"]


def test_without_a_reference_date_no_order_may_be_of_the_future(tmp_path):
    purchases = take(tmp_path, one_order(order_date="2190-01-01 00:00"))
    assert purchases.reference_date == dt.datetime(2024, 3, 9, 9, 0)
    assert purchases.rejected["reason"].to_list() == ["after_reference"]
    everything = ORDERS.with_columns(order_date=pl.lit("2190-01-01 00:00"))
    with pytest.raises(SchemaError, match=r"set `axes.reference_date`"):
        take(tmp_path, everything)


def test_a_reference_date_that_is_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="such as `2024-01-31`"):
        take(tmp_path, reference_date="31.01.2024")


def test_the_newest_order_far_from_all_others_is_pointed_out(tmp_path):
    purchases = take(tmp_path, one_order(order_date="2024-06-09 10:00"))
    assert any("92 days after the one before" in n for n in purchases.intake["notes"])


def test_amounts_below_0_that_should_not_be_are_taken_as_none(tmp_path):
    orders = ORDERS.with_columns(discount_amount=pl.Series(["-1", "much", "2.5"]))
    purchases = take(tmp_path, orders)
    assert purchases.orders["discount_amount"].to_list() == [0.0, 0.0, 2.5]
    repairs = purchases.intake["orders"]["repairs"]
    assert (repairs["negative_discount"], repairs["unusable_discount"]) == (1, 1)
    assert any("turn their sign" in line for line in intake_lines(purchases.intake))


def test_no_usable_row_is_an_error_with_examples(tmp_path):
    orders = ORDERS.with_columns(total_price=pl.lit("1.234,50 EUR"))
    with pytest.raises(SchemaError) as caught:
        take(tmp_path, orders)
    assert "none of 3 orders can be used: 3 with `invalid_total`" in str(caught.value)
    assert "`1.234,50 EUR` (row 1)" in str(caught.value)
    strangers = ITEMS.with_columns(order_id=pl.lit("x"))
    with pytest.raises(SchemaError, match="none of 4 items can be used"):
        take(tmp_path, items=strangers)
    with pytest.raises(SchemaError, match="has no rows"):
        take(tmp_path, ORDERS.head(0))


def test_item_rows_given_as_orders_are_pointed_out(tmp_path):
    orders = pl.concat([ORDERS] * 3)
    purchases = take(tmp_path, orders)
    assert purchases.orders.height == 3
    assert any("are these item rows" in note for note in purchases.intake["notes"])


def test_numbers_of_a_csv_may_have_a_decimal_comma(tmp_path):
    lines = [
        "customer_id;order_id;order_date;total_price",
        "ann;1;2024-03-01 10:15;30,5",
        "bob;2;2024-03-02 10:15;1.234,50",
        "bob;3;2024-03-02 10:15;1.234,50 EUR",
    ]
    (tmp_path / "orders.csv").write_text("\n".join(lines), encoding="utf-8")
    axes = {"orders": str(tmp_path / "orders.csv")}
    purchases = read_purchases(Config.model_validate({"axes": axes}), tmp_path / "w")
    assert purchases.orders["total_price"].to_list() == [30.5, 1234.5]
    assert purchases.rejected["reason"].to_list() == ["invalid_total"]
    hints = purchases.intake["orders"]["hints"]
    assert "`1.234,50 EUR` (row 3)" in hints[0]
    assert "without a unit or a currency" in hints[0]


def test_a_csv_without_our_columns_shows_what_it_has(tmp_path):
    (tmp_path / "orders.csv").write_text("a;b\n1;2\n", encoding="utf-8")
    axes = {"orders": str(tmp_path / "orders.csv")}
    with pytest.raises(SchemaError, match=r"found:    `a`, `b`\n"):
        read_purchases(Config.model_validate({"axes": axes}), tmp_path / "w")


def test_several_files_are_one_table_if_they_are_of_one_make(tmp_path):
    ORDERS.head(2).write_parquet(tmp_path / "orders-1.parquet")
    ORDERS.tail(1).write_parquet(tmp_path / "orders-2.parquet")
    axes = {"orders": str(tmp_path / "orders-*.parquet")}
    config = Config.model_validate({"axes": axes})
    assert read_purchases(config, tmp_path / "w").orders.height == 3
    ORDERS.tail(1).drop("total_price").write_parquet(tmp_path / "orders-2.parquet")
    with pytest.raises(SchemaError, match=r"orders-2.parquet has no column"):
        read_purchases(config, tmp_path / "w")


def test_unicode_and_long_ids_come_through(tmp_path):
    orders = ORDERS.with_columns(customer_id=pl.Series(["åse 🛒", "åse 🛒", "x" * 500]))
    items = ITEMS.drop("customer_id")
    purchases = take(tmp_path, orders, items)
    assert purchases.items["customer_id"].to_list() == ["åse 🛒"] * 3 + ["x" * 500]
