"""Orders and items from small files that a reader can check by hand."""

from __future__ import annotations

import csv
import gzip
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from core.baskets import items as items_module
from core.baskets.intake import account_lines, read_baskets
from core.baskets.sample import write_sample
from core.baskets.schema import BasketData
from core.errors import ConfigError, SchemaError, SegmentsError, SourceError
from core.resolve import build_config

ORDER_NAMES = (
    "order_id", "user_id", "eval_set", "order_number", "order_dow",
    "order_hour_of_day", "days_since_prior_order",
)  # fmt: skip
# Anna orders three times, Ben twice, and his second order has no items.
ORDERS = [
    ("11", "anna", "prior", "1", "0", "09", ""),
    ("12", "anna", "prior", "2", "3", "18", "10.0"),
    ("13", "anna", "prior", "3", "3", "08", "7.0"),
    ("21", "ben", "prior", "1", "6", "23", ""),
    ("22", "ben", "test", "2", "1", "12", "30.0"),
]
ITEM_NAMES = ("order_id", "product_id", "add_to_cart_order", "reordered")
ITEMS = [
    ("11", "1", "1", "0"),
    ("11", "2", "2", "0"),
    ("12", "1", "1", "1"),
    ("13", "3", "1", "0"),
    ("13", "1", "2", "1"),
    ("21", "10", "1", "0"),
]
PRODUCTS = [
    ("1", "milk", "4"),
    ("2", "tea", "12"),
    ("3", "oats", "12"),
    ("9", "x", "4"),
]
AISLES = [("12", "dry goods"), ("4", "dairy")]

DATED = [
    ("o1", "anna", "2024-01-07 09:30"),  # a Sunday
    ("o2", "anna", "2024-01-17 18:00"),
    ("o3", "ben", "2024-01-10 23:45"),
    ("o4", "anna", "2024-01-17 08:15"),
]
BOUGHT = [
    ("o1", "tea", "1"),
    ("o4", "tea", "2"),
    ("o4", "oats", "1"),
    ("o2", "oats", "1"),
    ("o3", "tea", "1"),
]


def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return str(path)


def write_instacart(
    folder: Path, orders: Sequence[Any] = ORDERS, items: Sequence[Any] = ITEMS
) -> str:
    write(folder / "orders.csv", ORDER_NAMES, orders)
    write(folder / "order_products__prior.csv", ITEM_NAMES, items)
    write(folder / "products.csv", ("product_id", "product_name", "aisle_id"), PRODUCTS)
    write(folder / "aisles.csv", ("aisle_id", "aisle"), AISLES)
    return str(folder)


def read(work: Path, **section: Any) -> BasketData:
    data = section.pop("data", {})
    return read_baskets(build_config({"baskets": section, "data": data}), work / "work")


def read_tables(
    folder: Path,
    orders: Sequence[Sequence[str]],
    items: Sequence[Sequence[str]],
    order_names: Sequence[str] = ("order_id", "customer_id", "order_time"),
    item_names: Sequence[str] = ("order_id", "product_id", "quantity"),
    **section: Any,
) -> BasketData:
    return read(
        folder,
        orders=write(folder / "o.csv", order_names, orders),
        items=write(folder / "i.csv", item_names, items),
        **section,
    )


def orders_of(data: BasketData) -> list[dict[str, Any]]:
    return data.with_ids(data.orders.collect()).to_dicts()


def column(data: BasketData, name: str) -> list[Any]:
    return [row[name] for row in orders_of(data)]


def items_of(data: BasketData) -> list[tuple[int, int, int]]:
    return data.items.collect().rows()


def check_account(data: BasketData) -> None:
    """Hold the account against the rows kept and the rows saved."""
    found = {name: part for name, part in data.account.items() if name != "notes"}
    for part in found.values():
        assert part["rows_read"] == part["rows_kept"] + part["rows_set_aside"]
        assert part["rows_set_aside"] == sum(part["faults"].values())
    assert data.orders.collect().height == found["orders"]["rows_kept"]
    assert data.items.collect().height == found["items"]["rows_kept"]
    saved = pl.read_parquet(data.rejected)
    reasons = dict(
        saved.group_by("table", "reason")
        .len()
        .select(pl.concat_str("table", "reason", separator=" "), "len")
        .rows()
    )
    assert reasons == {
        f"{name} {fault}": n
        for name, part in found.items()
        for fault, n in part["faults"].items()
        if n
    }
    assert account_lines(data.account)


def test_instacart_files_are_read_by_their_names(tmp_path):
    data = read(tmp_path, source=write_instacart(tmp_path / "shop"))
    assert data.customers.rows() == [("anna", 3), ("ben", 2)]
    assert column(data, "customer_id") == ["anna"] * 3 + ["ben"] * 2
    assert column(data, "order_number") == [1, 2, 3, 1, 2]
    assert column(data, "order_dow") == [0, 3, 3, 6, 1]
    assert column(data, "order_hour_of_day") == [9, 18, 8, 23, 12]
    assert column(data, "days_since_prior_order") == [None, 10, 7, None, 30]
    assert column(data, "order_day") == [None] * 5
    # Products in the order of their ids as text: 1, 10, 2, 3, 9.
    assert items_of(data) == [
        (0, 0, 0), (0, 2, 0), (1, 0, 1), (2, 0, 1), (2, 3, 0), (3, 1, 0),
    ]  # fmt: skip
    assert data.products.rows() == [(0, "4"), (1, None), (2, "12"), (3, "12"), (4, "4")]
    assert data.aisles.rows() == [("4", "dairy"), ("12", "dry goods")]
    assert data.reference_date is None
    told = " ".join(account_lines(data.account))
    assert "1 order (20%) (1 of `test`) without an item that counts" in told
    assert "1 item (17%) of products that the catalogue lacks" in told
    assert "read `customer_id` from `user_id`" in told
    check_account(data)


def test_train_items_are_told_of_and_can_be_read(tmp_path):
    folder = tmp_path / "shop"
    write_instacart(folder)
    train = [("22", "2", "1", "1")]
    write(folder / "order_products__train.csv", ITEM_NAMES, train)
    data = read(tmp_path / "a", source=str(folder))
    assert len(items_of(data)) == len(ITEMS)
    assert "`order_products__train` was not read" in " ".join(data.account["notes"])
    both = read(
        tmp_path / "b",
        orders=str(folder / "orders.csv"),
        items=str(folder / "order_products__*.csv"),
    )
    assert len(items_of(both)) == len(ITEMS) + 1


@pytest.mark.parametrize("kind", ["gz", "zip", "parquet", "parts"])
def test_packed_files_and_parts_hold_the_same(tmp_path, kind):
    plain, other = tmp_path / "plain", tmp_path / "other"
    write_instacart(plain)
    other.mkdir()
    if kind == "zip":
        with zipfile.ZipFile(other / "archive.zip", "w") as archive:
            for path in plain.iterdir():
                archive.write(path, f"data/{path.name}")
    for path in plain.iterdir() if kind != "zip" else ():
        if kind == "gz":
            (other / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            continue
        table = pl.read_csv(path)
        if kind == "parquet":
            table.write_parquet(other / f"{path.stem}.parquet")
            continue
        (other / path.stem).mkdir()
        for i in range(2):
            part = table[i * 2 : (i * 2 + 2 if i == 0 else None)]
            part.write_parquet(other / path.stem / f"part-{i}.parquet")
    first = read(tmp_path / "a", source=str(plain))
    second = read(tmp_path / "b", source=str(other))
    assert orders_of(first) == orders_of(second)
    assert items_of(first) == items_of(second)
    assert first.products.equals(second.products)
    assert first.aisles.equals(second.aisles)


def test_dates_tell_numbers_days_hours_and_gaps(tmp_path):
    data = read_tables(tmp_path, DATED, BOUGHT)
    # Anna's two orders of one day: the one of the morning comes first.
    assert column(data, "customer_id") == ["anna"] * 3 + ["ben"]
    assert column(data, "order_number") == [1, 2, 3, 1]
    assert column(data, "order_dow") == [0, 3, 3, 3]
    assert column(data, "order_hour_of_day") == [9.5, 8.25, 18, 23.75]
    assert column(data, "days_since_prior_order") == [None, 10, 0, None]
    assert column(data, "order_day") == [19729, 19739, 19739, 19732]
    assert str(data.reference_date) == "2024-01-18 00:00:00"
    # `oats` is 0 and `tea` 1; bought again if an earlier order had it.
    assert items_of(data) == [(0, 1, 0), (1, 0, 0), (1, 1, 1), (2, 0, 1), (3, 1, 0)]
    assert data.aisles.is_empty()
    check_account(data)


def test_times_with_an_offset_become_local_and_may_change_the_day(tmp_path):
    rows = [("o1", "anna", "2024-01-06T23:30:00Z"), ("o2", "anna", "2024-07-06T23:30Z")]
    items = [("o1", "tea", "1"), ("o2", "tea", "1")]
    data = read_tables(tmp_path, rows, items, timezone="Europe/Berlin")
    assert column(data, "order_hour_of_day") == [0.5, 1.5]
    assert column(data, "order_dow") == [0, 0]
    assert data.account["orders"]["repairs"]["with_offset"] == 2


@pytest.mark.parametrize("has_hours", [True, False])
def test_days_without_times_have_hours_only_from_a_column(tmp_path, has_hours):
    rows = [("o1", "anna", "2024-01-07", "17"), ("o2", "anna", "2024-01-07", "9")]
    names = ("order_id", "customer_id", "order_date", "order_hour_of_day")
    n = 4 if has_hours else 3
    items = [("o1", "tea", "1"), ("o2", "tea", "1")]
    data = read_tables(tmp_path, [row[:n] for row in rows], items, names[:n])
    assert column(data, "order_hour_of_day") == ([9, 17] if has_hours else [None, None])
    is_told = any("days without" in note for note in data.account["notes"])
    assert is_told is not has_hours


def test_one_file_of_order_lines_says_the_same_as_two_files(tmp_path):
    of = {order: (customer, moment) for order, customer, moment in DATED}
    lines = [(order, *of[order], product, n) for order, product, n in BOUGHT]
    names = ("Invoice", "CustomerID", "InvoiceDate", "StockCode", "Quantity")
    path = write(tmp_path / "lines.csv", names, lines)
    one = read(tmp_path / "one", orders=path, items=path)
    two = read_tables(tmp_path / "two", DATED, BOUGHT)
    assert orders_of(one) == orders_of(two)
    assert items_of(one) == items_of(two)
    check_account(one)


def test_an_order_begins_with_the_first_of_its_lines(tmp_path):
    names = ("order_id", "customer_id", "order_time", "product_id")
    rows = [
        ("o2", "anna", "2024-01-17 18:20", "oats"),
        ("o1", "anna", "2024-01-07 23:59", "tea"),
        ("o1", "anna", "2024-01-08 00:01", "oats"),
        ("o2", "anna", "2024-01-17 18:15", "tea"),
        # Somebody else's: the id has one meaning, the earlier.
        ("o1", "ben", "2024-01-09 12:00", "salt"),
    ]
    path = write(tmp_path / "lines.csv", names, rows)
    data = read(tmp_path, orders=path, items=path)
    assert column(data, "order_hour_of_day") == [pytest.approx(23 + 59 / 60), 18.25]
    assert column(data, "days_since_prior_order") == [None, 10]
    orders = data.account["orders"]
    assert (orders["rows_read"], orders["faults"]["repeated_order"]) == (3, 1)
    assert data.account["items"]["rows_kept"] == 5
    check_account(data)


def test_an_order_number_is_the_id_where_dates_tell_the_sequence(tmp_path):
    names = ("order_number", "customer_id", "order_time")
    data = read_tables(tmp_path, DATED, BOUGHT, names, ("Order Number", "sku", "qty"))
    assert orders_of(data) == orders_of(read_tables(tmp_path / "b", DATED, BOUGHT))
    assert len(items_of(data)) == len(BOUGHT)


def test_a_column_of_reorders_goes_before_what_orders_tell(tmp_path):
    items = [("o1", "tea", "1"), ("o4", "tea", "0")]
    names = ("order_id", "product_id", "reordered")
    data = read_tables(tmp_path, DATED, items, item_names=names)
    assert [again for *_, again in items_of(data)] == [1, 0]


ORDER_FAULTS = {
    "missing_order": ("", "anna", "2024-01-20 10:00"),
    "missing_customer": ("o9", "NA", "2024-01-20 10:00"),
    "excluded_id": ("o9", "guest", "2024-01-20 10:00"),
    "impossible_date": ("o9", "anna", "2024-02-30 10:00"),
    "future_order": ("o9", "anna", "2150-01-20 10:00"),
    "repeated_order": ("o1", "anna", "2024-01-08 10:00"),
    "ragged_line": ("o9", "anna", "2024-01-20 10:00", "x"),
    "scientific_id": ("5.36E+11", "anna", "2024-01-20 10:00"),
}
ITEM_FAULTS = {
    "missing_order": ("", "tea", "1"),
    "missing_product": ("o1", "", "1"),
    "no_quantity": ("o1", "oats", "-1"),
    "unknown_order": ("o77", "tea", "1"),
    "repeated_item": ("o1", "tea", "3"),
    "ragged_line": ("o1", "oats", "1", "x"),
    "scientific_id": ("o1", "5.36E+11", "1"),
}


@pytest.mark.parametrize(
    ("table", "fault", "row"),
    [
        *(("orders", fault, row) for fault, row in ORDER_FAULTS.items()),
        *(("items", fault, row) for fault, row in ITEM_FAULTS.items()),
    ],
)
def test_a_row_that_cannot_count_is_set_aside_for_its_reason(
    tmp_path, table, fault, row
):
    orders = [*DATED, row] if table == "orders" else DATED
    items = [*BOUGHT, row] if table == "items" else BOUGHT
    data = {"policies": {"scientific_id": "drop"}, "exclude_ids": ["guest"]}
    found = read_tables(tmp_path, orders, items, data=data)
    part = found.account[table]
    assert {name: n for name, n in part["faults"].items() if n} == {fault: 1}
    clean = read_tables(tmp_path / "clean", DATED, BOUGHT)
    assert orders_of(found) == orders_of(clean)
    assert items_of(found) == items_of(clean)
    check_account(found)


def test_an_order_of_returns_is_none_and_one_with_a_purchase_is(tmp_path):
    orders = [
        *DATED,
        ("o8", "ben", "2024-02-01 10:00"),
        ("o9", "ben", "2024-03-01 10:00"),
    ]
    items = [*BOUGHT, ("o8", "salt", "-1"), ("o9", "tea", "-1"), ("o9", "oats", "1")]
    data = read_tables(tmp_path, orders, items)
    assert data.account["orders"]["faults"]["only_returns"] == 1
    faults = data.account["items"]["faults"]
    # The first reason counts: the return itself.
    assert faults["no_quantity"] == 2
    assert column(data, "days_since_prior_order")[-1] == 51
    # Nobody bought salt.
    assert data.products.height == 2
    check_account(data)


def test_an_unreadable_quantity_is_bought_all_the_same(tmp_path):
    data = read_tables(tmp_path, DATED, [*BOUGHT, ("o3", "oats", "a few")])
    assert data.account["items"]["repairs"]["unusable_quantity"] == 1
    assert len(items_of(data)) == len(BOUGHT) + 1


def test_ids_that_were_floats_meet_those_that_were_not(tmp_path):
    orders = [
        ("501.0", "17850.0", "2024-01-07 09:30"),
        ("502", "17850", "2024-01-08 10:00"),
    ]
    items = [("501", "7", "1"), ("502.0", "7.0", "1")]
    data = read_tables(tmp_path, orders, items)
    assert data.customers.rows() == [("17850", 2)]
    assert items_of(data) == [(0, 0, 0), (1, 0, 1)]
    assert data.account["items"]["repairs"]["float_id"] == 1


def numbered(*rows: str) -> list[tuple[str, ...]]:
    """Return orders of Anna's: number, weekday, hour and gap, with ids 1, 2, ..."""
    return [(str(i), "anna", "prior", *row.split(",")) for i, row in enumerate(rows, 1)]


@pytest.mark.parametrize(
    ("rows", "repair", "name", "expected"),
    [
        (("1,7,9,", "2,1,9,5"), "unusable_dow", "order_dow", [None, 1]),
        (("1,x,9,", "2,1,9,5"), "unusable_dow", "order_dow", [None, 1]),
        (("1,0,24,", "2,1,-1,5"), "unusable_hour", "order_hour_of_day", [None, None]),
        (("1,0,9,", "2,1,9,-3"), "unusable_gap", "days_since_prior_order", [None] * 2),
        (("1,0,9,", "2,1,9,x"), "unusable_gap", "days_since_prior_order", [None] * 2),
        (("1,0,9,", "2,1,9,"), "missing_gap", "days_since_prior_order", [None] * 2),
        (("1,0,9,4", "2,1,9,5"), "first_gap", "days_since_prior_order", [None, 5]),
        (("1,0,9,", "4,1,9,5"), "renumbered", "order_number", [1, 2]),
        (("1,0,9,", "1,1,9,5"), "renumbered", "order_number", [1, 2]),
        (("0,0,9,", "1,1,9,5"), "renumbered", "order_number", [1, 2]),
    ],
)
def test_impossible_values_of_an_order_are_unknown_and_told(
    tmp_path, rows, repair, name, expected
):
    items = [("1", "1", "1", "0"), ("2", "1", "1", "1")]
    data = read(
        tmp_path, source=write_instacart(tmp_path / "s", numbered(*rows), items)
    )
    assert column(data, name) == expected
    repairs = {key: n for key, n in data.account["orders"]["repairs"].items() if n}
    assert set(repairs) == {repair}
    assert data.account["orders"]["rows_kept"] == 2
    check_account(data)


def test_an_order_without_a_number_is_set_aside_with_its_items(tmp_path):
    orders = [*ORDERS, ("31", "cleo", "prior", "third", "1", "9", "")]
    items = [*ITEMS, ("31", "1", "1", "0")]
    data = read(tmp_path, source=write_instacart(tmp_path / "s", orders, items))
    assert data.account["orders"]["faults"]["invalid_number"] == 1
    assert data.account["items"]["faults"]["order_set_aside"] == 1
    check_account(data)


def test_a_product_with_two_aisles_has_none_and_aisles_may_lack(tmp_path):
    folder = tmp_path / "s"
    write_instacart(folder)
    products = [*PRODUCTS, ("1", "milk", "12"), ("2", "tea", "12"), ("5", "soap", "99")]
    names = ("product_id", "product_name", "aisle_id")
    write(folder / "products.csv", names, products)
    data = read(tmp_path, source=str(folder))
    faults = data.account["products"]["faults"]
    assert (faults["ambiguous"], faults["repeated_row"]) == (2, 1)
    ids = ["1", "10", "2", "3", "5", "9"]
    aisle = dict(zip(ids, data.products["aisle_id"], strict=True))
    assert (aisle["1"], aisle["2"], aisle["5"]) == (None, "12", None)
    assert "1 product in an aisle that the aisles lack" in " ".join(
        data.account["notes"]
    )
    check_account(data)


@pytest.mark.parametrize(
    ("names", "aisles"),
    [
        (("product_id", "name", "category"), [("bakery", "bakery"), ("tea", "tea")]),
        (("product_id", "name", "aisle_id"), [("bakery", "bakery"), ("tea", "tea")]),
        (("product_id", "name", "shelf"), []),
    ],
)
def test_aisles_may_stand_among_the_products(tmp_path, names, aisles):
    rows = [("tea", "x", "tea"), ("oats", "x", "bakery"), ("salt", "x", "")]
    path = write(tmp_path / "p.csv", names, rows)
    data = read_tables(tmp_path, DATED, BOUGHT, products=path)
    assert data.aisles.rows() == aisles
    expected = ["bakery", None, "tea"] if aisles else [None] * 3
    assert data.products["aisle_id"].to_list() == expected


def test_the_order_of_rows_and_the_size_of_chunks_decide_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "shop"
    write_sample(folder, 60, 3, "parquet")
    first = read(tmp_path / "a", source=str(folder))
    for path in folder.glob("order*.parquet"):
        shuffled = pl.read_parquet(path).sample(fraction=1.0, shuffle=True, seed=1)
        if "reordered" in shuffled.columns:
            shuffled = shuffled.drop("reordered")
        shuffled.write_parquet(path)
    monkeypatch.setattr(items_module, "AT_ONCE", 500)
    second = read(tmp_path / "b", source=str(folder))
    assert first.orders.collect().equals(second.orders.collect())
    # Derived, and equal to what the generator says.
    assert first.items.collect().equals(second.items.collect())
    assert first.customers.equals(second.customers)


def test_the_sample_goes_the_way_of_files_and_its_fingerprint_tells_it(tmp_path):
    sample = {"sample_customers": 30}
    first, second = (read(tmp_path / name, **sample) for name in "ab")
    other = read(tmp_path / "c", **sample, sample_structure=False)
    assert first.customers.height == 30
    assert first.fingerprint == second.fingerprint != other.fingerprint
    assert first.aisles.height == 134
    check_account(first)


ODD_CELLS = (
    "", " ", "NaN", "-", "1e400", "1,5", "1.234,5", "-7", "=1+1", "2024-13-45", "44587",
    "x" * 5_000, "{}", "true", "-0", "9" * 40, '"', "\\", "4.0E+12", "2025-03-30 02:30",
)  # fmt: skip
SHAPES: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "numbered": {
        "orders": {
            "order_id": "o{i}", "customer_id": "c{few}", "order_number": "{i}",
            "order_dow": "{few}", "order_hour_of_day": "{i}",
            "days_since_prior_order": "{i}",
        },
        "items": {"order_id": "o{half}", "product_id": "p{i}", "reordered": "1"},
        "products": {"product_id": "p{i}", "aisle_id": "{few}"},
        "aisles": {"aisle_id": "{few}", "aisle": "a{few}"},
    },
    "dated": {
        "orders": {
            "order_id": "o{i}", "customer_id": "c{few}",
            "order_time": "2025-06-{day} 08:15",
        },
        "items": {"order_id": "o{half}", "product_id": "p{few}", "quantity": "{few}"},
        "products": {"product_id": "p{i}", "aisle": "a{few}"},
    },
    "lines": {
        "lines": {
            "order_id": "o{half}", "customer_id": "c{half}", "product_id": "p{few}",
            "order_time": "2025-06-02 08:15", "quantity": "{day}",
        },
    },
}  # fmt: skip


def _write_odd(
    path: Path, columns: Mapping[str, str], draw: np.random.Generator
) -> str:
    """Write a table with some odd cells, and return where it is."""
    n = int(draw.integers(4, 30))
    rows = [
        [
            cell.format(i=i, few=i % 5, half=i // 2, day=10 + i % 9)
            for cell in columns.values()
        ]
        for i in range(n)
    ]
    for _ in range(int(draw.integers(0, 8))):
        row, place = draw.integers(n), draw.integers(len(columns))
        rows[int(row)][int(place)] = str(draw.choice(ODD_CELLS))
    return write(path, list(columns), rows)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", SHAPES)
def test_odd_cells_end_in_a_sentence_or_are_accounted_for(tmp_path, shape, seed):
    draw = np.random.default_rng([seed, len(shape)])
    section = {
        name: _write_odd(tmp_path / f"{name}.csv", columns, draw)
        for name, columns in SHAPES[shape].items()
    }
    if shape == "lines":
        lines = section.pop("lines")
        section = {"orders": lines, "items": lines}
    data = {"policies": {"scientific_id": "drop"}}
    try:
        found = read(tmp_path, **section, data=data, timezone="Europe/Berlin")
    except SegmentsError:
        # A sentence: what no error of ours ends fails the test.
        return
    check_account(found)
    orders = found.orders.collect()
    assert orders["order_id"].to_list() == list(range(orders.height))
    assert orders["order_dow"].drop_nulls().is_between(0, 6).all()
    assert orders["order_hour_of_day"].drop_nulls().is_between(0, 23.999).all()
    assert found.items.collect().select("order_id", "product_id").is_unique().all()


def test_what_cannot_be_meant_is_a_sentence_with_the_cure(tmp_path):
    path = write(tmp_path / "o.csv", ("order_id", "customer_id"), [("1", "a")])
    both = {"orders": path, "items": path}
    for section, error, said in (
        ({"orders": path}, ConfigError, "`baskets.items` is not set. Pass both"),
        ({"items": path}, ConfigError, "`baskets.orders` is not set. Pass both"),
        (both, SchemaError, "Expected `order_time`, or `order_number`"),
        ({"source": str(tmp_path)}, SourceError, "has no file `orders`"),
        ({"source": str(tmp_path / "no")}, SourceError, "`baskets.source`: "),
        ({**both, "orders": "no.csv"}, SourceError, "`baskets.orders`: "),
        ({"timezone": "Mars"}, ConfigError, "`baskets.timezone` is `Mars`"),
    ):
        with pytest.raises(error, match=said):
            read(tmp_path, **section)


def test_orders_of_which_none_counts_are_an_error_that_says_why(tmp_path):
    with pytest.raises(
        SchemaError, match=r"none of 4 orders can be used.*only_returns"
    ):
        read_tables(tmp_path, DATED, [(order, "tea", "-1") for order, *_ in DATED])
    with pytest.raises(SchemaError, match=r"none of 1 item can be used.*unknown_order"):
        read_tables(tmp_path, DATED, [("o77", "tea", "1")])


def test_kaggle_without_a_network_names_the_way_by_hand(tmp_path, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(SourceError, match=r"cannot be reached.*`--source FOLDER`"):
        read(tmp_path, source="kaggle")


@pytest.mark.shared_data
def test_a_wholesaler_reads_the_same_from_lines_and_from_two_tables(
    tmp_path, shared_data
):
    folder = shared_data / "online_retail"
    lines = str(folder / "raw_strings.parquet")
    one = read(tmp_path / "one", orders=lines, items=lines)
    tables = {name: str(folder / f"{name}.parquet") for name in ("orders", "items")}
    two = read(tmp_path / "two", **tables)
    check_account(one)
    check_account(two)
    assert one.customers.equals(two.customers)
    assert one.account["items"]["rows_kept"] == two.account["items"]["rows_kept"]
    # Cancellations are no orders.
    assert two.account["orders"]["faults"]["only_returns"] > 3_000
    gaps = ["days_since_prior_order", "order_dow", "order_number"]
    assert one.orders.select(gaps).collect().equals(two.orders.select(gaps).collect())


@pytest.mark.shared_data
def test_a_grocer_with_categories_reads_without_a_mapping(tmp_path, shared_data):
    folder = shared_data / "complete_journey_sample"
    names = ("orders", "items", "products")
    data = read(tmp_path, **{name: str(folder / f"{name}.parquet") for name in names})
    check_account(data)
    assert data.aisles.height > 200
    assert data.customers.height > 2_000
