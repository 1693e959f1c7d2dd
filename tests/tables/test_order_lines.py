"""One file of order lines: the orders and items that it stands for, and the account."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from core.axes.sample import generate_shoppers, order_lines
from core.cli import app
from core.config import Config
from core.errors import ConfigError, SchemaError
from core.tables.orders import (
    intake_lines,
    purchases_from_frames,
    read_purchases,
)

MADE = generate_shoppers(60, seed=3)
LINES = order_lines(MADE)
ORDER, ITEM = ["customer_id", "order_id"], ["customer_id", "order_id", "product_id"]
# Lines as the published recipe reads them, with no order id and without a time of day.
PUBLISHED = pl.DataFrame(
    {
        "Customer_ID": ["1", "1", "1", "2"],
        "Date": ["2024-03-01", "2024-03-01", "2024-03-08", "2024-03-09"],
        "Sales": [18.0, 10.0, 12.5, 8.0],
        "Title": ["Green tea", "Cup", "Green tea", "Green tea"],
        "ProductType": ["tea", "cup", "tea", "tea"],
        "Category": ["drinks", "kitchen", "drinks", "drinks"],
        "QTY": [2, 1, 1, 1],
        "TotalDiscount": [2.0, 0.0, 0.0, 0.0],
        "Refunds": [0.0, 10.0, 0.0, 0.0],
    }
)


def take(tmp_path, lines, **axes):
    config = Config.model_validate({"axes": axes})
    return purchases_from_frames(None, None, config, tmp_path, lines=lines)


def told(purchases) -> str:
    return "\n".join(intake_lines(purchases.intake))


def assert_accounted(purchases, n_lines: int):
    """Every line is an item kept, or set aside and shown."""
    intake = purchases.intake
    lines, items = intake["lines"], intake["items"]
    assert lines["rows_read"] == n_lines
    assert lines["rows_kept"] == items["rows_read"]
    of_lines = purchases.rejected.filter(pl.col("table").is_in(["lines", "items"]))
    assert purchases.items.height + of_lines.height == n_lines
    assert of_lines["source_row"].n_unique() == of_lines.height


def assert_same(one, two):
    """Both roads lead to the same purchases, to the last bit."""
    assert_frame_equal(one.orders.sort(ORDER), two.orders.sort(ORDER), check_exact=True)
    assert_frame_equal(one.items.sort(ITEM), two.items.sort(ITEM), check_exact=True)
    assert one.absent == two.absent
    assert one.reference_date == two.reference_date


@pytest.fixture(scope="module")
def two_files(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    return purchases_from_frames(MADE.orders, MADE.items, Config(), work)


def test_one_file_of_lines_gives_what_two_files_give(tmp_path, two_files):
    path = tmp_path / "lines.csv"
    LINES.write_csv(path)
    config = Config.model_validate({"axes": {"lines": str(path)}})
    one = read_purchases(config, tmp_path)
    assert_same(one, two_files)
    assert "`line_total` from `Sales`" in told(one)
    assert_same(
        take(tmp_path, LINES.sample(fraction=1, shuffle=True, seed=1)), two_files
    )


def test_without_order_ids_a_customer_has_an_order_at_a_time(tmp_path, two_files):
    one = take(tmp_path, LINES.drop("Order_ID"))
    moment = ["customer_id", "order_date"]
    assert two_files.orders.select(moment).is_unique().all()
    orders = [side.orders.drop("order_id").sort(moment) for side in (one, two_files)]
    assert_frame_equal(*orders, check_exact=True)
    assert one.items.height == two_files.items.height
    assert "had no order id" in told(one)


def test_orders_joined_to_their_items_count_once(tmp_path, two_files):
    """Totals and discounts then stand on every line of an order."""
    both = MADE.items.join(MADE.orders, on=ORDER)
    one = take(tmp_path, both)
    assert_same(one, two_files)
    assert "`line_total` is written once per order" in told(one)
    odd = (pl.col("order_id") == "O0000001") & (pl.int_range(pl.len()) % 2 == 0)
    off = both.with_columns(total_price=pl.col("total_price") - odd.cast(pl.Int8))
    assert "In 1 order it differs: the largest counts" in told(take(tmp_path, off))


def test_a_total_on_the_first_line_of_an_order_is_that_of_the_order(
    tmp_path, two_files
):
    both = MADE.items.join(MADE.orders, on=ORDER, maintain_order="left")
    first = pl.int_range(pl.len()).over("order_id") == 0
    header = ["total_price", "discount_amount", "source", "customer_id", "order_date"]
    both = both.with_columns(pl.when(first).then(c).alias(c) for c in header)
    one = take(tmp_path, both)
    assert_same(one, two_files)
    assert "no customer or no date of its own" in told(one)


@pytest.mark.parametrize("n_orders", [1, 2])
def test_few_orders_show_by_their_sums_that_totals_are_of_orders(tmp_path, n_orders):
    ids = MADE.items.group_by("order_id", maintain_order=True).len()
    some = ids.filter(pl.col("len") > 1).head(n_orders)["order_id"].implode()
    orders, items = (
        table.filter(pl.col("order_id").is_in(some))
        for table in (MADE.orders, MADE.items)
    )
    both = items.join(orders, on=ORDER)
    two = purchases_from_frames(orders, items, Config(), tmp_path)
    one = take(tmp_path, both)
    key = ["order_id"]
    assert_frame_equal(one.orders.sort(key), two.orders.sort(key), check_exact=True)


def test_equal_lines_are_no_amounts_of_orders(tmp_path):
    """Two lines may cost the same; their sum is what was paid."""
    rows = pl.DataFrame(
        {
            "customer": ["ann"] * 4,
            "order": ["1", "1", "2", "2"],
            "date": ["2024-03-01", "2024-03-01", "2024-03-02", "2024-03-02"],
            "sku": ["a", "b", "a", "b"],
            "qty": [1, 1, 2, 2],
            "unit_price": [5.0] * 4,
            "amount": [5.0, 5.0, 10.0, 10.0],
        }
    )
    assert take(tmp_path, rows).orders["total_price"].to_list() == [10.0, 20.0]


def test_totals_before_discounts_are_told_from_those_after(tmp_path, two_files):
    before = LINES.with_columns(
        Sales=(pl.col("Sales") + pl.col("TotalDiscount")).round(2),
        UnitPrice=MADE.items["price"],
    )
    one = take(tmp_path, before)
    assert_same(one, two_files)
    assert "before discounts" in told(one)
    only_price = before.drop("Sales")
    assert_same(take(tmp_path, only_price), two_files)


def test_the_published_form_needs_no_mapping(tmp_path):
    path = tmp_path / "product_sales_order.csv"
    PUBLISHED.write_csv(path)
    config = Config.model_validate({"axes": {"lines": str(path)}})
    purchases = read_purchases(config, tmp_path)
    assert purchases.orders["total_price"].to_list() == [28.0, 12.5, 8.0]
    assert purchases.orders["discount_amount"].to_list() == [2.0, 0.0, 0.0]
    assert purchases.orders["order_date"][0] == dt.datetime(2024, 3, 1)
    assert purchases.items["price"].to_list() == [10.0, 10.0, 12.5, 8.0]
    assert purchases.items["refund_amount"].to_list() == [0.0, 10.0, 0.0, 0.0]
    assert purchases.items["order_id"].n_unique() == 3
    lines = told(purchases)
    assert "`product_id` from `Title`" in lines
    assert "Not used: `ProductType`" in lines
    assert "4 lines had no order id" in lines
    assert_accounted(purchases, 4)


def test_an_export_that_calls_the_order_name_is_read_as_it_is(tmp_path):
    """Order values on the first line of each order; offsets in the dates."""
    n = 8
    shop = pl.DataFrame(
        {
            "Name": [f"#{1000 + i // 2}" for i in range(2 * n)],
            "Email": [f"c{i // 4}@shop.example" for i in range(2 * n)],
            "Total": [None if i % 2 else 30.0 + i for i in range(2 * n)],
            "Discount Amount": [None if i % 2 else 1.0 * (i % 4) for i in range(2 * n)],
            "Created at": [
                f"2024-03-{1 + i // 2:02} 10:15:00 +0100" for i in range(2 * n)
            ],
            "Lineitem quantity": [1 + i % 2 for i in range(2 * n)],
            "Lineitem name": [f"Tea {i % 3}" for i in range(2 * n)],
            "Lineitem price": [10.0] * (2 * n),
            "Lineitem sku": [None] * (2 * n),
            "Source": ["web"] * (2 * n),
        }
    )
    purchases = take(tmp_path, shop)
    assert purchases.orders["order_id"].to_list() == [f"#{1000 + i}" for i in range(n)]
    assert purchases.orders["total_price"].to_list() == [30.0 + 2 * i for i in range(n)]
    assert purchases.orders["order_date"][0] == dt.datetime(2024, 3, 1, 9, 15)
    assert purchases.items["price"].unique().to_list() == [10.0]
    assert "`customer_id` from `Email`" in told(purchases)


def test_contradictions_within_an_order_are_told(tmp_path):
    rows = pl.DataFrame(
        {
            "customer_id": ["ann", "ann", "ann", "ann", "bob", "cat"],
            "order_id": ["1", "1", "1", "2", "2", "3"],
            "order_date": [f"2024-03-0{i} 10:00" for i in (2, 1, 4, 5, 5, 6)],
            "line_total": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            "product_id": ["a", "b", "c", "a", "a", "b"],
            "quantity": [1] * 6,
            "source": ["app", "web", "web", "app", "app", None],
        }
    )
    purchases = take(tmp_path, rows)
    first = purchases.orders.row(0, named=True)
    assert (first["order_date"], first["source"]) == (
        dt.datetime(2024, 3, 1, 10),
        "web",
    )
    assert purchases.orders["total_price"].to_list() == [6.0, 4.0, 5.0, 6.0]
    lines = told(purchases)
    assert "1 order with lines of several dates, up to 3 days, 0:00:00 apart" in lines
    assert "1 order id of several customers" in lines
    assert "1 order with lines of several channels" in lines
    assert "1 order had no channel" in lines


def test_every_line_is_kept_or_counted(tmp_path):
    bad = pl.DataFrame(
        {
            "customer_id": [
                "ann",
                None,
                "ann",
                "ann",
                "ann",
                "ann",
                "ann",
                "bob",
                "bob",
            ],
            "order_id": ["1", "1", "1", "2", None, "4", "5", "6", None],
            "date": ["2024-03-01"] * 4 + ["2024-03-02", "never"] + ["2024-03-03"] * 3,
            "sales": ["10", "5", "x", "4", "3", "2", "-7", "0", "9"],
            "sku": ["a", "b", "c", None, "d", "e", "a", "f", "g"],
            "qty": ["1", "1", "1", "1", "many", "1", "-1", "0", "1"],
        }
    )
    purchases = take(tmp_path, bad)
    assert_accounted(purchases, bad.height)
    reasons = purchases.rejected.sort("table", "source_row")
    assert reasons.select("table", "source_row", "reason").rows() == [
        ("items", 4, "missing_product"),
        ("items", 5, "invalid_quantity, invalid_price"),
        ("items", 7, "refund"),
        ("lines", 3, "invalid_amount"),
        ("lines", 6, "impossible_date"),
        ("orders", 7, "refund"),
    ]
    assert purchases.orders["total_price"].to_list() == [15.0, 4.0, 3.0, 0.0, 9.0]
    lines = told(purchases)
    assert "1 order had lines set aside" in lines
    assert "2 lines had no order id" in lines
    assert "Kept 7 of 9 lines" in lines


def test_the_sample_is_written_in_both_forms(tmp_path, two_files):
    folder = tmp_path / "sample"
    order = ["axes", "sample", str(folder), "--customers", "60", "--seed", "3"]
    assert CliRunner().invoke(app, order).exit_code == 0
    files = {"orders": "orders.csv", "items": "items.csv"}
    for names in (files, {"lines": "order-lines.csv"}):
        axes = {name: str(folder / file) for name, file in names.items()}
        config = Config.model_validate({"axes": axes})
        assert_same(read_purchases(config, tmp_path), two_files)


def test_lines_are_an_input_of_their_own(tmp_path):
    config = Config.model_validate({"axes": {"lines": "l.csv", "orders": "o.csv"}})
    with pytest.raises(ConfigError, match="`--lines PATH` alone"):
        read_purchases(config, tmp_path)
    with pytest.raises(ConfigError, match="beside `orders`"):
        purchases_from_frames(MADE.orders, None, Config(), tmp_path, lines=LINES)
    with pytest.raises(SchemaError, match="no column tells what was paid"):
        take(tmp_path, PUBLISHED.drop("Sales"))
    with pytest.raises(SchemaError, match="no column `product_id`"):
        take(tmp_path, PUBLISHED.drop("Title"))
    with pytest.raises(SchemaError, match="none of 4 lines can be used"):
        take(tmp_path, PUBLISHED.with_columns(Date=pl.lit("soon")))
    mapped = take(tmp_path, PUBLISHED, line_columns={"product_id": "ProductType"})
    assert mapped.items["product_id"].to_list() == ["tea", "cup", "tea", "tea"]
