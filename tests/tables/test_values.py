"""Cells that look right and are not: numbers, ids and rows that no message showed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import openpyxl
import polars as pl
import pytest

from core.config import Config
from core.errors import SchemaError
from core.resolve import build_config, resolve_config
from core.tables.orders import (
    Purchases,
    intake_lines,
    purchases_from_frames,
    read_purchases,
)
from core.tables.sales import Sales, read_sales, sales_from_frame

pytestmark = pytest.mark.slow

# Months of three shops with two products each.
N_ROWS = 72


def sales_rows(**columns: Sequence[Any]) -> pl.DataFrame:
    """Return sound sales rows as text, some columns replaced, cycling."""
    rows = range(N_ROWS)
    sound = {
        "shop_id": [f"s{i % 3}" for i in rows],
        "product_id": [f"p{i // 3 % 2}" for i in rows],
        "year": ["2024"] * N_ROWS,
        "month": [str(i // 6 + 1) for i in rows],
        "sales_qty": [str(i % 37 + 1) for i in rows],
    }
    cycled = {k: [v[i % len(v)] for i in rows] for k, v in columns.items()}
    return pl.DataFrame(sound | cycled)


def order_rows(**columns: Sequence[Any]) -> pl.DataFrame:
    """Return sound orders of nine customers as text, some columns replaced, cycling."""
    rows = range(N_ROWS)
    sound = {
        "customer_id": [f"c{i % 9}" for i in rows],
        "order_id": [f"o{i}" for i in rows],
        "order_date": [f"2024-{i // 6 + 1:02d}-03 10:15" for i in rows],
        "total_price": [f"{i % 37 + 1}.5" for i in rows],
    }
    cycled = {k: [v[i % len(v)] for i in rows] for k, v in columns.items()}
    return pl.DataFrame(sound | cycled)


def item_rows(**columns: Sequence[Any]) -> pl.DataFrame:
    """Return two items of each of `order_rows`, as text."""
    orders = order_rows()[["customer_id", "order_id"]]
    rows = pl.concat([orders, orders]).with_columns(
        product_id=pl.Series([f"p{i // N_ROWS}" for i in range(2 * N_ROWS)]),
        quantity=pl.Series([str(i % 5 + 1) for i in range(2 * N_ROWS)]),
        price=pl.lit("9.5"),
    )
    cycled = {k: [v[i % len(v)] for i in range(2 * N_ROWS)] for k, v in columns.items()}
    return rows.with_columns(pl.Series(k, v) for k, v in cycled.items())


def new_folder(work: Path) -> Path:
    return work / f"work-{sum(1 for _ in work.iterdir())}"


def sales_of(source: pl.DataFrame | Path, work: Path, **data: Any) -> Sales:
    if isinstance(source, pl.DataFrame):
        return sales_from_frame(source, build_config({"data": data}), new_folder(work))
    config = build_config({"data": {"input": str(source), **data}})
    return read_sales(config, new_folder(work))


def purchases_of(
    orders: pl.DataFrame, items: pl.DataFrame | None, work: Path, **data: Any
) -> Purchases:
    config = Config.model_validate({"data": data})
    return purchases_from_frames(orders, items, config, new_folder(work))


def saved(rows: pl.DataFrame, kind: str, folder: Path) -> Path:
    """Write rows as text cells of a file of some kind."""
    path = folder / f"rows.{kind.partition(' ')[0]}"
    if kind == "parquet":
        rows.write_parquet(path)
    elif kind == "xlsx":
        book = openpyxl.Workbook()
        for row in (rows.columns, *rows.rows()):
            book.active.append(row)
            for cell in book.active[book.active.max_row]:
                cell.data_type = "s"
        book.save(path)
    else:
        rows.write_csv(path, separator=";" if "semicolons" in kind else ",")
    return path


def quantities(sales: Sales) -> list[float]:
    return sales.frame.collect()["sales_qty"].to_list()


def accounted(sales: Sales) -> str:
    """Return what was told, once all rows are kept or counted."""
    intake = sales.intake
    assert intake.rows_kept + len(sales.rejected) == intake.rows_read
    assert sales.frame.select(pl.len()).collect().item() == intake.rows_kept
    return "\n".join(intake.summary())


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("47,5", 47.5), ("0,500", 0.5), ("1.234,50", 1234.5), ("1,234.50", 1234.5),
        ("1.234.567", 1234567), ("1,234,567", 1234567), ("-1.234.567,8", -1234567.8),
        ("1234,567", 1234.567), ("0.250", 0.25), ("12.5", 12.5), ("4 700", 4700),
        ("4\u00a0700,25", 4700.25), ("4\u202f700", 4700), ("4'700.5", 4700.5),
        ("32-", -32), ("(32)", -32), ("\u221232", -32), ("(1.234,5)", -1234.5),
        ("1,5-", -1.5), ('="32"', 32), ("1e3", 1000),
    ],
)  # fmt: skip
@pytest.mark.parametrize("decimal", [None, ".", ","])
def test_a_number_that_can_mean_one_thing_only_is_read(
    typed: str, value: float, decimal: str | None, tmp_path: Path
):
    rows = sales_rows(sales_qty=[typed, *"12345"])
    sales = sales_of(rows, tmp_path, decimal=decimal)
    assert quantities(sales)[0] == value
    assert sales.intake.rows_kept == N_ROWS
    orders = order_rows(total_price=[typed.replace("-", "").strip("()\u2212"), "5"])
    purchases = purchases_of(orders, None, tmp_path, decimal=decimal)
    assert purchases.orders["total_price"][0] == abs(value)


@pytest.mark.parametrize("kind", ["csv", "csv semicolons", "parquet", "xlsx"])
@pytest.mark.parametrize("typed", ["4.700", "4,700"])
def test_one_mark_with_three_digits_is_thousands_told_or_refused_never_shrunk(
    typed: str, kind: str, tmp_path: Path
):
    path = saved(sales_rows(sales_qty=[typed, "40"]), kind, tmp_path)
    decimals = "," if "," in typed else "."
    usual = "," if kind == "csv semicolons" else "."
    if usual == decimals:
        with pytest.raises(SchemaError) as info:
            sales_of(path, tmp_path)
        assert f"such as `{typed}` (row 1), may be thousands or" in str(info.value)
        assert "`--set data.decimal=.`" in str(info.value)
    else:
        sales = sales_of(path, tmp_path)
        assert quantities(sales)[:2] == [4700, 40]
        assert f"thousands read in 36 cells, such as `{typed}`" in accounted(sales)
    # Whoever names the mark is believed.
    assert quantities(sales_of(path, tmp_path, decimal=decimals))[:2] == [4.7, 40]
    other = sales_of(path, tmp_path, decimal=",."[decimals == ","])
    assert quantities(other)[:2] == [4700, 40]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["4.700", "2.5"], [4.7, 2.5]),
        (["4.700", "0.250"], [4.7, 0.25]),
        (["1.001", "1,234.5"], [1.001, 1234.5]),
        (["4.700", "2,5"], [4700, 2.5]),
        (["4.700", "1.234.567"], [4700, 1234567]),
        (["4,700", "2,5"], [4.7, 2.5]),
        (["4,700", "2.5"], [4700, 2.5]),
        (["4,700", "1,234,567"], [4700, 1234567]),
        (["2.5", "2,5"], [2.5, 2.5]),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "csv semicolons"])
def test_other_cells_of_a_column_tell_which_mark_is_which(
    cells: list[str], values: list[float], kind: str, tmp_path: Path
):
    rows = sales_rows(sales_qty=cells)
    sales = sales_of(saved(rows, kind, tmp_path), tmp_path)
    assert quantities(sales)[:2] == values
    if values[0] == 4700:
        assert "thousands read" in accounted(sales)
    assert ("three decimals read" in accounted(sales)) == (
        cells[0] in ("4.700", "1.001", "4,700")
        and values[0] < 5
        and ("." in cells[0]) == ("semicolons" in kind)
    )


@pytest.mark.parametrize("kind", ["csv", "csv semicolons", "parquet"])
@pytest.mark.parametrize("typed", ["4.700", "4,700"])
def test_three_digits_behind_the_mark_of_every_cell_are_refused(
    typed: str, kind: str, tmp_path: Path
):
    path = saved(sales_rows(sales_qty=[typed]), kind, tmp_path)
    with pytest.raises(SchemaError, match=r"72 cells of .* may be thousands or"):
        sales_of(path, tmp_path)
    assert quantities(sales_of(path, tmp_path, decimal=typed[1]))[0] == 4.7


def test_three_decimals_are_exact(tmp_path: Path):
    numbers = [i / 1000 for i in range(1_001, 90_001, 87)]
    rows = pl.concat([sales_rows()] * 15).head(len(numbers))
    rows = rows.with_columns(
        product_id=pl.Series([f"p{i}" for i in range(len(numbers))]),
        sales_qty=pl.Series([f"{x:.3f}" for x in numbers]),
    )
    assert quantities(sales_of(rows, tmp_path, decimal=".")) == numbers


def test_a_column_with_both_marks_does_not_settle_thousands(tmp_path: Path):
    rows = sales_rows(sales_qty=["4.700", "2.5", "2,5"])
    with pytest.raises(SchemaError, match="show both marks as the decimal one"):
        sales_of(rows, tmp_path)
    assert "each was read as it is written" in accounted(
        sales_of(rows, tmp_path, decimal=".")
    )


def test_each_column_of_orders_and_items_has_its_own_marks(tmp_path: Path):
    orders = order_rows(
        total_price=["4.700,00", "1.250"], discount_amount=["1.000", "0,5"]
    )
    items = item_rows(quantity=["1.000", "2"], price=["2,5"], refund_amount=["1,5"])
    orders.write_csv(tmp_path / "orders.csv", separator=";")
    items.write_csv(tmp_path / "items.csv", separator=";")
    axes = {
        "orders": str(tmp_path / "orders.csv"),
        "items": str(tmp_path / "items.csv"),
    }
    purchases = read_purchases(Config.model_validate({"axes": axes}), tmp_path / "w")
    assert purchases.orders["total_price"].to_list()[:2] == [4700, 1250]
    assert purchases.orders["discount_amount"].to_list()[:2] == [1000, 0.5]
    assert purchases.items is not None
    assert purchases.items["quantity"].to_list()[:2] == [1000, 2]
    told = "\n".join(intake_lines(purchases.intake))
    for name in ("total_price", "discount_amount", "quantity"):
        assert f"`{name}`: thousands read in" in told
    for name in ("total_price", "discount_amount"):
        with pytest.raises(SchemaError, match=f"`{name}`.* may be thousands"):
            purchases_of(order_rows(**{name: ["1.250", "7"]}), None, tmp_path)


@pytest.mark.parametrize("column", ["shop_id", "product_id"])
@pytest.mark.parametrize(
    ("typed", "kind"),
    [
        *product(
            ["4.00638E+12", "4,00638E+12", "4E+12", "4.00638e+012"], ["csv", "parquet"]
        ),
        ("4.00638E+12", "xlsx"),
    ],
)
def test_ids_in_scientific_notation_are_refused(
    typed: str, kind: str, column: str, tmp_path: Path
):
    path = saved(sales_rows(**{column: [typed, "7"]}), kind, tmp_path)
    with pytest.raises(SchemaError) as info:
        sales_of(path, tmp_path)
    assert "36 of 72 rows (50%): an id in scientific notation" in str(info.value)
    assert "format the column as text in Excel" in str(info.value)
    dropped = sales_of(path, tmp_path, policies={"scientific_id": "drop"})
    assert dropped.rejected["reason"].to_list() == ["scientific_id"] * 36
    kept = sales_of(path, tmp_path, policies={"scientific_id": "keep"})
    assert typed in kept.frame.collect()[column].to_list()


@pytest.mark.parametrize("column", ["customer_id", "order_id", "product_id"])
def test_ids_of_orders_and_items_in_scientific_notation_are_refused(
    column: str, tmp_path: Path
):
    cells = {column: ["4.00638E+12", "7"]}
    orders = order_rows(**(cells if column != "product_id" else {}))
    items = item_rows(**cells)
    with pytest.raises(SchemaError, match=r"(?s)scientific notation.*Excel shows long"):
        purchases_of(orders, items, tmp_path)
    policies = {"scientific_id": "drop"}
    purchases = purchases_of(orders, items, tmp_path, policies=policies)
    assert "scientific_id" in purchases.rejected["reason"].to_list()


def test_float_ids_that_have_lost_digits_are_refused(tmp_path: Path):
    rows = sales_rows().with_columns(product_id=pl.Series([4e17, 7.0] * 36))
    with pytest.raises(SchemaError, match="scientific notation"):
        sales_of(rows, tmp_path)


def test_long_ids_that_all_end_in_zeros_are_told(tmp_path: Path):
    rows = sales_rows().with_columns(product_id=pl.Series([4.00638e12, 7.0] * 36))
    assert "All 1 product ids of 12 and more digits end in zeros, such as `4006380" in (
        accounted(sales_of(rows, tmp_path))
    )
    rows = sales_rows(product_id=["400638000000", "4006381333931"])
    assert "end in zeros" not in accounted(sales_of(rows, tmp_path))


def test_ids_that_only_look_scientific_are_kept(tmp_path: Path):
    # The last two are as R writes round numbers, which is exact.
    ids = ["5E10", "E+12", "12E+5", "4E-7", "1e+05", "4.0128e+10"]
    sales = sales_of(sales_rows(product_id=ids), tmp_path)
    assert sorted(sales.frame.collect()["product_id"].unique()) == sorted(ids)


@pytest.mark.parametrize("kind", ["csv", "parquet", "xlsx"])
def test_ids_are_taken_out_of_formulas_and_told(kind: str, tmp_path: Path):
    rows = sales_rows(shop_id=['="0001"', '="0002"', "0003"], year=['="2024"'])
    sales = sales_of(saved(rows, kind, tmp_path), tmp_path)
    assert sorted(sales.frame.collect()["shop_id"].unique()) == ["0001", "0002", "0003"]
    assert "48 rows had an id as a formula or with NUL" in accounted(sales)
    assert sales.intake.rows_kept == N_ROWS


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_nul_characters_are_left_out_of_ids_and_told(kind: str, tmp_path: Path):
    rows = sales_rows(shop_id=["s0\0\0", "s1", "s\x002"], product_id=["\0", "p"])
    sales = sales_of(saved(rows, kind, tmp_path), tmp_path)
    kept = sales.frame.collect()
    assert sorted(kept["shop_id"].unique()) == ["s0", "s1", "s2"]
    assert kept["product_id"].unique().to_list() == ["p"]
    assert sales.rejected["reason"].to_list() == ["missing_id"] * 36
    assert "60 rows had an id as a formula or with NUL" in accounted(sales)


def test_folder_names_of_hive_are_decoded_and_its_null_is_missing(tmp_path: Path):
    names = {
        "A%26B%20Ltd.": "A&B Ltd.",
        "100%25 Bio": "100% Bio",
        "Z%C3%BCrich%20%2F%20Nord": "Z\u00fcrich / Nord",
        "__HIVE_DEFAULT_PARTITION__": None,
    }
    for name in names:
        folder = tmp_path / "sales" / f"shop_id={name}"
        folder.mkdir(parents=True)
        sales_rows().drop("shop_id").head(3).write_parquet(folder / "part-0.parquet")
    sales = sales_of(tmp_path / "sales", tmp_path, policies={"exact_duplicate": "keep"})
    found = set(sales.frame.collect()["shop_id"])
    assert found == {name for name in names.values() if name}
    assert sales.rejected["reason"].to_list() == ["missing_id"] * 3


def with_guest(rows: pl.DataFrame, column: str, id_: str) -> pl.DataFrame:
    """Return rows of 72 ids, 40% of all of one more."""
    guest = rows.with_columns(pl.lit(id_).alias(column)).head(48)
    named = rows.with_columns(pl.Series(column, [f"x{i}" for i in range(N_ROWS)]))
    return pl.concat([named, guest.with_columns(pl.col("^order_id$") + "g")])


@pytest.mark.parametrize("id_", ["0", "-1", "guest", "Unknown", "000", "77"])
def test_ids_with_an_outsized_share_are_told_and_can_be_left_out(
    id_: str, tmp_path: Path
):
    rows = with_guest(sales_rows(), "shop_id", id_)
    told = accounted(sales_of(rows, tmp_path))
    assert (
        f"`shop_id` holds a share of the rows that is far too large: `{id_}` 40%"
        in told
    )
    assert f"--set \"data.exclude_ids=['{id_}']\"" in told
    sales = sales_of(rows, tmp_path, exclude_ids=["nobody", id_])
    assert "excluded_id" in accounted(sales)
    assert sales.intake.n_shops == N_ROWS
    orders = with_guest(order_rows(), "customer_id", id_)
    purchases = purchases_of(orders, item_rows().drop("customer_id"), tmp_path)
    assert f"of the orders that is far too large: `{id_}` 40%" in "\n".join(
        intake_lines(purchases.intake)
    )
    left = purchases_of(orders, None, tmp_path, exclude_ids=id_)
    assert left.rejected["reason"].to_list() == ["excluded_id"] * 48
    assert left.fingerprint != purchases_of(orders, None, tmp_path).fingerprint


def test_a_large_shop_among_others_is_no_placeholder(tmp_path: Path):
    rows = sales_rows(shop_id=["big", "big", *(f"s{i}" for i in range(10))])
    assert "far too large" not in accounted(sales_of(rows, tmp_path))


def test_a_number_from_the_command_line_is_an_id_to_leave_out():
    assert resolve_config(assignments=["data.exclude_ids=0"]).data.exclude_ids == ["0"]
    listed = resolve_config(assignments=["data.exclude_ids=['007', -1, guest]"]).data
    assert listed.exclude_ids == ["007", "-1", "guest"]


@pytest.mark.parametrize("ends", ["\n\r", "\r\n|\r", "\n\n\r|\r\n", "\r"])
def test_carriage_returns_alone_end_rows(ends: str, tmp_path: Path):
    header, *lines = sales_rows().write_csv().splitlines()
    marks = ends.split("|") if "|" in ends else list(ends)
    text = header + marks[0]
    text += "".join(f"{x}{marks[i % len(marks)]}" for i, x in enumerate(lines))
    (tmp_path / "rows.csv").write_bytes(text.encode())
    sales = sales_of(tmp_path / "rows.csv", tmp_path)
    assert sales.intake.rows_kept == N_ROWS
    assert sum(quantities(sales)) == sum(quantities(sales_of(sales_rows(), tmp_path)))
    assert ("line breaks of several kinds" in accounted(sales)) == (ends != "\r")


@pytest.mark.parametrize(
    ("months", "is_refused"),
    [
        (["2022.01", "2022.1", "2022.12"], True),
        (["2022.1", "2022.11", "2022.12"], True),
        (["2022.01", "2022.10", "2022.12"], False),
        (["2022.1", "2022.2", "2022.10"], False),
    ],
)
@pytest.mark.parametrize("mark", [".", ","])
def test_a_month_that_may_have_lost_its_zero_is_refused(
    months: list[str], is_refused: bool, mark: str, tmp_path: Path
):
    cells = [month.replace(".", mark) for month in months]
    rows = sales_rows(date=cells).drop("year", "month")
    data: Mapping[str, Any] = {
        "date_format": f"%Y{mark}%m",
        "policies": {"exact_duplicate": "keep"},
    }
    if is_refused:
        with pytest.raises(SchemaError, match=r"may be January, or October.*`2022-10`"):
            sales_of(rows, tmp_path, **data)
        with pytest.raises(SchemaError, match=r"may be January, or October.*`2022-10`"):
            sales_of(rows, tmp_path)
    else:
        found = sales_of(rows, tmp_path, **data).frame.collect()["month"].unique()
        assert sorted(found) == [int(month[5:]) for month in months]


def with_totals(rows: pl.DataFrame, of: str, key: Sequence[str], name: str, value: str):
    """Return rows and, of each group, one that is the sum of the others."""
    sums = rows.group_by(key, maintain_order=True).agg(
        pl.col(value).cast(pl.Float64).sum().cast(pl.String),
        pl.lit(name).alias(of),
        pl.all().exclude(*key, of, value).last(),
    )
    return pl.concat([rows, sums.select(rows.columns)])


MONTH = ["year", "month"]


@pytest.mark.parametrize(
    ("of", "key"),
    [("product_id", ["shop_id", *MONTH]), ("shop_id", ["product_id", *MONTH])],
)
@pytest.mark.parametrize("name", ["Total", "Grand Total", "subtotal", "Gesamt", "999"])
def test_rows_of_totals_are_set_aside_and_told(
    name: str, of: str, key: list[str], tmp_path: Path
):
    rows = sales_rows(product_id=["p0", "p1", "p2", "p3"], shop_id=["s0", "s1", "s2"])
    rows = rows.with_columns(month=pl.Series([str(i // 12 + 1) for i in range(N_ROWS)]))
    expected = sales_of(rows, tmp_path)
    sales = sales_of(with_totals(rows, of, key, name, "sales_qty"), tmp_path)
    assert sum(quantities(sales)) == sum(quantities(expected))
    assert set(sales.rejected["reason"]) == {"total_row"}
    assert "a total of other rows, as its value shows" in accounted(sales)
    assert sales.intake.n_products == 4
    kept = sales_of(
        with_totals(rows, of, key, name, "sales_qty"),
        tmp_path,
        policies={"total_row": "keep"},
    )
    assert sum(quantities(kept)) == 2 * sum(quantities(expected))


def test_totals_in_both_directions_and_one_grand_total_are_found(tmp_path: Path):
    rows = sales_rows(product_id=["p0", "p1", "p2", "p3"], shop_id=["s0", "s1", "s2"])
    expected = sum(quantities(sales_of(rows, tmp_path)))
    both = with_totals(rows, "product_id", ["shop_id", *MONTH], "Total", "sales_qty")
    both = with_totals(both, "shop_id", ["product_id", *MONTH], "Total", "sales_qty")
    assert sum(quantities(sales_of(both, tmp_path))) == expected
    last = ("Total", "Total", "2024", "12", f"{expected:.0f}")
    one = pl.concat([rows, pl.DataFrame([last], schema=rows.columns, orient="row")])
    assert sum(quantities(sales_of(one, tmp_path))) == expected
    of_shops = rows.group_by("shop_id").agg(
        product_id=pl.lit("-"),
        year=pl.lit("2024"),
        month=pl.lit("12"),
        sales_qty=pl.col("sales_qty").cast(pl.Int64).sum().cast(pl.String),
    )
    below = of_shops.with_columns(pl.col("shop_id") + " Total")
    assert sum(quantities(sales_of(pl.concat([one, below]), tmp_path))) == expected


def test_subtotals_of_several_names_and_totals_over_them_are_found(tmp_path: Path):
    rows = sales_rows(product_id=["p0", "p1", "p2", "p3"], shop_id=["s0", "s1"])
    expected = sum(quantities(sales_of(rows, tmp_path)))
    parts = [
        with_totals(part, "product_id", ["shop_id", *MONTH], name, "sales_qty")
        for name, part in (
            ("Subtotal tea", rows.filter(pl.col("product_id") < "p2")),
            ("Subtotal milk", rows.filter(pl.col("product_id") >= "p2")),
        )
    ]
    with_sums = pl.concat(parts)
    assert sum(quantities(sales_of(with_sums, tmp_path))) == expected
    total = with_totals(rows, "product_id", ["shop_id", *MONTH], "Total", "sales_qty")
    both = pl.concat([with_sums, total.tail(len(total) - len(rows))])
    assert sum(quantities(sales_of(both, tmp_path))) == expected
    of_shops = with_totals(rows, "product_id", ["shop_id", *MONTH], "?", "sales_qty")
    named = of_shops.with_columns(
        product_id=pl.when(pl.col("product_id") == "?")
        .then("Total " + pl.col("shop_id"))
        .otherwise("product_id")
    )
    assert sum(quantities(sales_of(named, tmp_path))) == expected


def test_a_product_that_is_only_named_like_a_total_is_kept(tmp_path: Path):
    rows = sales_rows(product_id=["Total Yogurt", "p1", "p2", "p3"])
    sales = sales_of(rows, tmp_path)
    assert sales.intake.rows_kept == N_ROWS


def test_equal_quantities_are_no_totals(tmp_path: Path):
    rows = sales_rows(sales_qty=["5"], product_id=["p0"])
    sales = sales_of(rows, tmp_path, policies={"exact_duplicate": "keep"})
    assert sales.intake.rows_kept == N_ROWS
    two = sales_rows(sales_qty=["5"])
    assert sales_of(two, tmp_path).intake.rows_kept == N_ROWS


def test_totals_among_orders_and_items_are_set_aside(tmp_path: Path):
    orders, items = order_rows(), item_rows()
    expected = purchases_of(orders, items, tmp_path)
    with_sums = with_totals(orders, "order_id", ["customer_id"], "Total", "total_price")
    item_sums = with_totals(
        items, "product_id", ["customer_id", "order_id"], "Total", "quantity"
    )
    found = purchases_of(with_sums, item_sums, tmp_path)
    assert found.orders.equals(expected.orders)
    assert found.items is not None
    assert found.items.equals(expected.items)
    assert found.rejected["reason"].to_list() == ["total_row"] * (9 + N_ROWS)
    told = "\n".join(intake_lines(found.intake))
    assert "9 orders (11%): a total of other rows" in told
    assert "72 items (33%): a total of other rows" in told
    policies = {"total_row": "keep"}
    kept = purchases_of(with_sums, item_sums, tmp_path, policies=policies)
    assert len(kept.orders) == N_ROWS + 9


def line_rows(**columns: Sequence[Any]) -> pl.DataFrame:
    """Return sound order lines as text, two of each order."""
    dates = order_rows()[["customer_id", "order_id", "order_date"]]
    items = item_rows(**columns)
    return items.join(dates, on=["customer_id", "order_id"], maintain_order="left")


def lines_of(lines: pl.DataFrame, work: Path, **data: Any) -> Purchases:
    config = Config.model_validate({"data": data})
    return purchases_from_frames(None, None, config, new_folder(work), lines=lines)


def test_order_lines_are_checked_as_orders_are(tmp_path: Path):
    sound = lines_of(line_rows(), tmp_path)
    assert sound.items is not None
    with pytest.raises(SchemaError, match=r"`price`.* may be thousands"):
        lines_of(line_rows(price=["4.700", "9"]), tmp_path)
    read = lines_of(line_rows(price=["4.700", "2,5"]), tmp_path)
    assert read.items is not None
    assert sorted(read.items["price"].unique()) == [2.5, 4700]
    for column in ("customer_id", "order_id", "product_id"):
        lines = line_rows().with_columns(pl.lit("4.00638E+12").alias(column))
        with pytest.raises(SchemaError, match="scientific notation"):
            lines_of(lines, tmp_path)
    key = ["customer_id", "order_id", "order_date"]
    with_sums = with_totals(line_rows(), "product_id", key, "Total", "quantity")
    found = lines_of(with_sums, tmp_path)
    assert found.orders.equals(sound.orders)
    assert found.rejected["reason"].to_list() == ["total_row"] * N_ROWS
    left = lines_of(line_rows(), tmp_path, exclude_ids=["c0"])
    assert set(left.rejected["reason"]) == {"excluded_id"}
    assert "c0" not in left.orders["customer_id"]


def test_totals_of_a_table_with_columns_for_months_are_set_aside(tmp_path: Path):
    rows = sales_rows(product_id=["p0", "p1", "p2", "p3"])
    rows = rows.with_columns(pl.col("sales_qty").cast(pl.Int64))
    month = pl.format("2024-{}", pl.col("month").str.zfill(2))
    wide = rows.with_columns(month=month).pivot(
        "month",
        index=["shop_id", "product_id"],
        values="sales_qty",
        aggregate_function="sum",
    )
    sums = wide.group_by("shop_id").agg(pl.exclude("product_id").sum())
    totals = sums.with_columns(product_id=pl.lit("Total")).select(wide.columns)
    both = pl.concat([wide, totals]).with_columns(pl.exclude("shop_id").cast(pl.String))
    sales = sales_of(saved(both, "csv", tmp_path), tmp_path)
    assert sum(quantities(sales)) == rows["sales_qty"].sum()
    assert "a total of other rows" in accounted(sales)
