"""Tables as spreadsheets lay them out: sheets, titles, merged cells, months, dates."""

from __future__ import annotations

import io
import os
from datetime import date, timedelta
from pathlib import Path

import openpyxl
import polars as pl
import pytest

from core.errors import EligibilityError, SchemaError, SourceError
from core.resolve import build_config
from core.retailers.pipelines import prepare_features
from core.tables.layout import find_header, month_columns
from core.tables.orders import Purchases, read_purchases
from core.tables.sales import Sales, read_sales

pytestmark = pytest.mark.slow

COLUMNS = ["shop_id", "product_id", "year", "month", "sales_qty"]
ROWS = [["kiosk", "tea", 2024, 3, 5], ["corner_shop", "milk", 2024, 4, 2.5]]
READ = [("kiosk", "tea", 2024, 3, 5.0), ("corner_shop", "milk", 2024, 4, 2.5)]


def book(path: Path, sheets: dict[str, list[list]], hidden: str = "") -> Path:
    made = openpyxl.Workbook()
    made.remove(made.active)
    for name, rows in sheets.items():
        sheet = made.create_sheet(name)
        sheet.sheet_state = "hidden" if name == hidden else "visible"
        for row in rows:
            sheet.append(row)
    made.save(path)
    return path


def text(path: Path, rows: list[list], mark: str = ",") -> Path:
    lines = [mark.join("" if c is None else str(c) for c in row) for row in rows]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def table(path: Path, rows: list[list]) -> Path:
    """Write rows as what the name says."""
    return book(path, {"S": rows}) if path.suffix == ".xlsx" else text(path, rows)


def take(path: Path, work: Path, **data: object) -> Sales:
    sales = read_sales(build_config({"data": {"input": str(path), **data}}), work)
    assert sales.intake.rows_read == sales.intake.rows_kept + len(sales.rejected)
    return sales


def orders_of(path: Path, work: Path, **axes: object) -> Purchases:
    data = axes.pop("data", {})
    config = build_config({"axes": {"orders": str(path), **axes}, "data": data})
    return read_purchases(config, work)


def told(sales: Sales) -> str:
    return "\n".join(sales.intake.summary())


# Sheets


def test_all_sheets_with_the_same_columns_are_read(tmp_path: Path):
    path = book(
        tmp_path / "sales.xlsx",
        {
            "2024": [COLUMNS, ROWS[0]],
            "2025": [COLUMNS[::-1], ROWS[1][::-1]],
            "Empty": [],
        },
    )
    sales = take(path, tmp_path / "w")
    assert sales.frame.collect().rows() == READ
    assert "2 sheets with the same columns read: `2024`, `2025`" in told(sales)


def test_sheets_with_other_columns_stop_unless_named(tmp_path: Path):
    path = book(
        tmp_path / "sales.xlsx",
        {"Q1": [COLUMNS, ROWS[0]], "Legend": [["Field", "Meaning"], ["a", "b"]]}
        | {"2024": [COLUMNS, ROWS[1]]},
    )
    with pytest.raises(SourceError, match=r"different columns: `Q1` .*`Legend` has"):
        take(path, tmp_path / "w")
    one = take(path, tmp_path / "w", sheet="Q1")
    assert one.intake.rows_read == 1
    several = take(path, tmp_path / "w", sheet=["Q1", 2024])
    assert several.frame.collect().rows() == READ
    with pytest.raises(SourceError, match=r"no sheet `Q9`.*`Legend`"):
        take(path, tmp_path / "w", sheet=["Q1", "Q9"])


def test_hidden_sheets_are_told_of_and_not_read(tmp_path: Path):
    sheets = {"Old": [COLUMNS, ROWS[1]], "New": [COLUMNS, ROWS[0]]}
    path = book(tmp_path / "sales.xlsx", sheets, hidden="Old")
    sales = take(path, tmp_path / "w")
    assert sales.intake.rows_read == 1
    assert "hidden sheets were not read: `Old`" in told(sales)
    assert take(path, tmp_path / "w", sheet="Old").intake.rows_read == 1


def test_sheets_of_orders_are_read_together(tmp_path: Path):
    header = ["customer_id", "order_id", "order_date", "total_price"]
    sheets = {
        str(year): [header, [f"c{year}", year, date(year, 5, 1), 9.5]]
        for year in (2023, 2024)
    }
    purchases = orders_of(book(tmp_path / "orders.xlsx", sheets), tmp_path / "w")
    assert purchases.orders["customer_id"].sort().to_list() == ["c2023", "c2024"]


def test_a_workbook_is_read_whatever_folder_the_command_runs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Modules lying there must not be taken for ours.
    (tmp_path / "polars.py").write_text("raise SystemExit", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    path = book(tmp_path / "sales.xlsx", {"S": [COLUMNS, *ROWS]})
    assert take(path, tmp_path / "w").frame.collect().rows() == READ


def test_a_column_named_twice_in_a_workbook_is_refused(tmp_path: Path):
    path = book(tmp_path / "a.xlsx", {"S": [[*COLUMNS, "sales_qty"], [*ROWS[0], 7]]})
    with pytest.raises(SchemaError, match="2 columns are named `sales_qty`"):
        take(path, tmp_path / "w")


def test_a_workbook_that_needs_too_much_memory_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = book(tmp_path / "a.xlsx", {"S": [COLUMNS, *ROWS]})
    monkeypatch.setattr("core.tables.workbooks.MOST_BYTES", 1 << 20)
    with pytest.raises(SourceError, match=r"need more than 0\.0 GB of memory"):
        take(path, tmp_path / "w")
    monkeypatch.setattr("core.tables.workbooks.MOST_BYTES", 1 << 40)
    monkeypatch.setattr("core.tables.workbooks.MOST_SECONDS", 0)
    with pytest.raises(SourceError, match="takes longer than 0 seconds"):
        take(path, tmp_path / "w")


# Titles above the header


@pytest.mark.parametrize("name", ["a.csv", "a.xlsx"])
@pytest.mark.parametrize(
    "above",
    [
        [["Sales report 2024"], ["Created by ERP", None, None, "2024-07-01"], []],
        [["Sales, all shops"]],
        [["Report"], [None], ["Period:", "2024"]],
    ],
)
def test_the_header_is_found_below_titles(name: str, above: list, tmp_path: Path):
    path = table(tmp_path / name, [*above, COLUMNS, *ROWS])
    sales = take(path, tmp_path / "w")
    assert sales.frame.collect().rows() == READ
    assert f"the column names were found in row {len(above) + 1}" in told(sales)


@pytest.mark.parametrize("name", ["a.csv", "a.xlsx"])
def test_a_header_that_is_not_found_can_be_named(name: str, tmp_path: Path):
    above = ["Report", "of", "the", "whole", "year"]
    path = table(tmp_path / name, [above, above, COLUMNS, *ROWS])
    with pytest.raises(SchemaError, match="no column `shop_id`"):
        take(path, tmp_path / "w")
    sales = take(path, tmp_path / "w", header_row=3)
    assert sales.frame.collect().rows() == READ
    with pytest.raises(SourceError, match="has no line 30"):
        take(text(tmp_path / "b.csv", [COLUMNS, *ROWS]), tmp_path / "w", header_row=30)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_titles_do_not_mislead_about_the_separator(mark: str, tmp_path: Path):
    rows = [["Sales | report; 2024, all"], [], COLUMNS, *ROWS]
    path = text(tmp_path / "a.csv", rows, mark)
    if mark == ",":
        path.write_text(path.read_text().replace(", all", ""), encoding="utf-8")
    assert take(path, tmp_path / "w").frame.collect().rows() == READ


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([["shop_id", "product_id"], ["a", "b"]], 0),
        ([["", "shop_id", "month"], ["0", "a", "1"], ["1", "b", "2"]], 0),
        ([["id"], ["a"], ["b"]], 0),
        ([["only"], ["a", "b", "c"], ["a", "d", "c"]], 1),
        ([["Title"], ["1", "2", "3"], ["4", "5", "6"]], 0),
        ([[], []], 0),
    ],
)
def test_a_first_row_that_fills_the_columns_is_the_header(rows: list, found: int):
    assert find_header(rows) == found


# Merged cells


@pytest.mark.parametrize("name", ["a.csv", "a.xlsx"])
def test_merged_cells_are_told_of_and_filled_down(name: str, tmp_path: Path):
    rows = [
        [f"s{i // 12}" if i % 12 == 0 else None, "tea", 2024, 1 + i % 12, i]
        for i in range(60)
    ]
    rows.insert(20, [])
    path = table(tmp_path / name, [COLUMNS, *rows])
    lacking = take(path, tmp_path / "w")
    assert lacking.intake.rows_set_aside == 55
    assert '`--set "data.fill_down=[shop_id]"`' in told(lacking)
    filled = take(path, tmp_path / "w", fill_down="shop_id")
    assert filled.intake.rows_kept == 60
    shops = filled.frame.collect()["shop_id"].to_list()
    assert shops == [f"s{i // 12}" for i in range(60)]
    assert "55 empty cells of `shop_id` took the value above" in told(filled)
    assert "1 empty line passed over" in told(filled)
    unknown = take(path, tmp_path / "w", fill_down=["Shop"])
    assert "has no column `Shop`, which `data.fill_down` names" in told(unknown)


def test_merged_customers_of_orders_are_filled_down(tmp_path: Path):
    header = ["customer_id", "order_id", "order_date", "total_price"]
    rows = [
        [f"c{i // 4}" if i % 4 == 0 else None, i, f"2024-01-{i + 1:02}", 5]
        for i in range(20)
    ]
    path = table(tmp_path / "orders.xlsx", [header, *rows])
    purchases = orders_of(path, tmp_path / "w")
    assert any(
        "fill_down=[customer_id]" in h for h in purchases.intake["orders"]["hints"]
    )
    filled = orders_of(path, tmp_path / "w", data={"fill_down": ["customer_id"]})
    assert filled.orders["customer_id"].value_counts()["count"].to_list() == [4] * 5


def test_what_became_of_the_rows_comes_before_eligibility(tmp_path: Path):
    rows = [["s1" if i == 0 else None, "tea", 2024, 1 + i % 12, i] for i in range(50)]
    path = text(tmp_path / "a.csv", [COLUMNS, *rows])
    config = build_config(
        {"data": {"input": str(path)}, "artifacts": str(tmp_path / "artifacts")}
    )
    with pytest.raises(EligibilityError) as refused:
        prepare_features(config)
    lines = str(refused.value).splitlines()
    assert lines[0].startswith("Kept 1 of 50 rows")
    assert lines[1].startswith("Most rows (98%) were set aside")
    assert any("a run needs at least" in line for line in lines[2:])


# Months as columns


@pytest.mark.parametrize(
    "names",
    [
        ["2024-01", "2024-02", "2024-03"],
        ["2024/1", "2024/2", "2024/3"],
        ["202401", "202402", "202403"],
        ["Jan 2024", "Feb 2024", "Mar 2024"],
        ["January-24", "February-24", "March-24"],
        ["01.2024", "02.2024", "03.2024"],
        ["2024M01", "2024M02", "2024M03"],
        ["Januar 2024", "Feb. 2024", "März 2024"],
        ["qty_2024_01", "qty_2024_02", "qty_2024_03"],
        ["Sales Jan 2024", "Sales Feb 2024", "sales Mar 2024"],
        ["Net units: 2024-1", "Net units: 2024-2", "Net units: 2024-3"],
    ],
)
def test_months_as_columns_are_read_as_rows(names: list[str], tmp_path: Path):
    rows = [
        ["shop_id", "product_id", *names],
        ["a", "x", 1, None, 3],
        ["b", "x", 4, 5, 6],
    ]
    sales = take(text(tmp_path / "a.csv", rows), tmp_path / "w")
    assert sales.frame.sort("shop_id", "month").collect().rows() == [
        ("a", "x", 2024, 1, 1.0),
        ("a", "x", 2024, 3, 3.0),
        ("b", "x", 2024, 1, 4.0),
        ("b", "x", 2024, 2, 5.0),
        ("b", "x", 2024, 3, 6.0),
    ]
    assert "5 filled cells read as a row" in told(sales)
    assert "1 empty cell as none" in told(sales)


def test_months_in_an_excel_header_and_your_own_names(tmp_path: Path):
    header = ["Store", "SKU", date(2024, 1, 1), date(2024, 2, 1), date(2024, 3, 1)]
    path = book(
        tmp_path / "a.xlsx", {"S": [["Sales"], header, ["a", "x", 1, 2.5, "z"]]}
    )
    columns = {"shop_id": "Store", "product_id": "SKU"}
    sales = take(path, tmp_path / "w", columns=columns)
    assert sales.frame.collect()["sales_qty"].to_list() == [1.0, 2.5]
    assert sales.rejected["reason"].to_list() == ["invalid_quantity"]


def test_months_without_a_year_need_the_year_beside(tmp_path: Path):
    rows = [
        ["shop_id", "product_id", "year", "Jan", "Feb", "Mar"],
        ["a", "x", 2024, 1, 2, 3],
    ]
    sales = take(text(tmp_path / "a.csv", rows), tmp_path / "w")
    assert sales.frame.collect()["month"].to_list() == [1, 2, 3]
    with pytest.raises(SchemaError, match="no column `year`"):
        take(text(tmp_path / "b.csv", [[*r[:2], *r[3:]] for r in rows]), tmp_path / "w")


def test_columns_that_only_look_like_months_are_left_alone():
    assert not month_columns(["shop_id", "2024-01", "2024-02"])
    assert not month_columns(["2024-01", "2024-01-01", "2024-02"])
    assert not month_columns(["year", "month", "date", "1234", "mayor", "Marc"])
    weeks = [f"2024-{n:02}" for n in range(1, 53)]
    assert not month_columns(weeks)
    assert not month_columns([f"sales {week}" for week in weeks])
    assert not month_columns([f"Week {n:02} 2024" for n in range(1, 10)])
    assert not month_columns([f"{n:02}-{m:02}-2024" for n in (1, 2) for m in (1, 2, 3)])


def test_months_of_one_measure_are_taken_beside_its_total():
    names = ["Sales Jan", "Sales Feb", "Sales Mar"]
    assert list(month_columns(["Sales Total", *names, "shop"])) == names
    assert not month_columns([*names, "Costs Jan", "Costs Feb", "Costs Mar"])


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (["shop_id", "product_id", "Q1 2024", "Q2 2024", "Q3 2024"], "ax123"),
        (["shop_id", "product_id", "qty_2024_Q1", "qty_2024_Q2"], "ax12"),
        (["shop_id", "product_id", "year", "quarter", "sales_qty"], "ax113"),
        (["shop_id", "product_id", "date", "sales_qty"], ["a", "x", "2024-Q1", 3]),
        (["shop_id", "product_id", "date", "sales_qty"], ["a", "x", "1Q24", 3]),
        (COLUMNS, ["a", "x", 2024, "Q1", 3]),
    ],
)
def test_quarters_are_refused_as_no_months(header, row, tmp_path: Path):
    with pytest.raises(SchemaError, match=r"A quarter is no month.* by month or day"):
        take(text(tmp_path / "a.csv", [header, list(row)]), tmp_path / "w")


# Dates


@pytest.mark.parametrize(
    "form", ["csv", "csv_float", "xlsx", "parquet", "parquet_float"]
)
def test_day_numbers_of_excel_are_read_and_told(form: str, tmp_path: Path):
    days = [date(2022, 1, 26), date(2024, 2, 29)]
    numbers = [(day - date(1899, 12, 30)).days for day in days]
    cells = [n + 0.5 if "float" in form else n for n in numbers]
    frame = pl.DataFrame(
        {"shop_id": "a", "product_id": ["x", "y"], "date": cells, "sales_qty": [1, 2]}
    )
    path = tmp_path / f"a.{form.partition('_')[0]}"
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        table(path, [frame.columns, *map(list, frame.rows())])
    sales = take(path, tmp_path / "w")
    months = sales.frame.select("year", "month").collect().rows()
    assert months == [(2022, 1), (2024, 2)]
    assert sales.intake.repairs["excel_day"] == 2
    assert "day number of Excel" in told(sales)


def test_day_numbers_of_excel_are_read_as_moments_of_orders(tmp_path: Path):
    header = ["customer_id", "order_id", "order_date", "total_price"]
    rows = [header, ["a", 1, "44587.75", 5], ["a", 2, "44588", 5], ["a", 3, "12", 5]]
    purchases = orders_of(text(tmp_path / "a.csv", rows), tmp_path / "w")
    assert [str(d) for d in purchases.orders["order_date"]] == [
        "2022-01-26 18:00:00",
        "2022-01-27 00:00:00",
    ]
    assert purchases.intake["orders"]["repairs"]["excel_day"] == 2
    assert purchases.intake["orders"]["faults"]["impossible_date"] == 1


@pytest.mark.parametrize(
    "cell", ["22031", "32873", "54789", "4458", "445870", "44587x"]
)
def test_other_numbers_are_no_days(cell: str, tmp_path: Path):
    header = ["shop_id", "product_id", "date", "sales_qty"]
    rows = [header, ["a", "x", cell, 1], ["a", "y", "2024-01-05", 1]]
    sales = take(text(tmp_path / "a.csv", rows), tmp_path / "w")
    assert sales.rejected["reason"].to_list() == ["impossible_month"]


def mixed(days: list[date], *, swaps: bool) -> list[list]:
    """Return rows as Excel holds them where `26/01/2022` could not be a date to it."""
    rows = []
    for i, day in enumerate(days):
        seen: date | str = f"{day:%d/%m/%Y}" if day.day > 12 or i % 2 else day
        if swaps:
            seen = (
                f"{day:%d/%m/%Y}"
                if day.day > 12
                else date(day.year, day.day, day.month)
            )
        rows.append([f"s{i}", "x", seen, 1])
    return [["shop_id", "product_id", "date", "sales_qty"], *rows]


DAYS = [date(2022, 1, 4) + timedelta(days=3 * i) for i in range(60)]


def test_true_dates_and_text_in_one_column_are_read_together(tmp_path: Path):
    path = book(tmp_path / "a.xlsx", {"S": mixed(DAYS, swaps=False)})
    first = take(path, tmp_path / "w")
    assert '--set "data.date_format=%d/%m/%Y"' in told(first)
    sales = take(path, tmp_path / "w", date_format="%d/%m/%Y")
    found = sales.frame.select("year", "month").collect().rows()
    assert found == [(day.year, day.month) for day in DAYS]
    assert "an ISO or a true date beside" in told(sales)
    assert "swapped" not in told(sales)


def test_days_that_excel_took_for_months_are_told(tmp_path: Path):
    path = book(tmp_path / "a.xlsx", {"S": mixed(DAYS, swaps=True)})
    sales = take(path, tmp_path / "w", date_format="%d/%m/%Y")
    assert sales.intake.rows_kept == len(DAYS)
    assert "Excel probably swapped day and month" in told(sales)


def test_dates_of_orders_are_read_beside_text_as_well(tmp_path: Path):
    header = ["customer_id", "order_id", "order_date", "total_price"]
    cells = [f"{d:%d/%m/%Y}" if d.day > 12 else d for d in DAYS]
    rows = [["a", i, cell, 5] for i, cell in enumerate(cells)]
    path = book(tmp_path / "a.xlsx", {"S": [header, *rows, ["a", 99, 44587.5, 5]]})
    purchases = orders_of(path, tmp_path / "w", data={"date_format": "%d/%m/%Y"})
    found = purchases.orders["order_date"].dt.date().to_list()
    assert found == [*DAYS, date(2022, 1, 26)]
    account = purchases.intake["orders"]
    assert account["repairs"]["iso_date"] == sum(day.day <= 12 for day in DAYS)
    assert account["repairs"]["excel_day"] == 1
    assert "Excel probably swapped day and month" in account["hints"][0]


@pytest.mark.parametrize("week", ["2022-W04", "2022W04", "2022-W04-3", "2022 W4"])
def test_iso_weeks_count_in_the_month_of_their_thursday(week: str, tmp_path: Path):
    header = ["shop_id", "product_id", "week", "sales_qty"]
    rows = [
        header,
        ["a", "x", week, 1],
        ["a", "x", "2022-W53", 1],
        ["a", "x", "2021-W52", 1],
    ]
    path = text(tmp_path / "a.csv", rows)
    asked = r"perhaps:  --column date=week(.*\n)+.*such as `2024-W05`"
    with pytest.raises(SchemaError, match=asked):
        take(path, tmp_path / "w")
    sales = take(path, tmp_path / "w", columns={"date": "week"})
    months = sales.frame.select("year", "month").collect().rows()
    assert months == [(2022, 1), (2021, 12)]
    assert sales.rejected["source_row"].to_list() == [2]  # 2022 has 52 weeks
    assert sales.intake.repairs["iso_week"] == 2


@pytest.mark.parametrize(
    ("cell", "month"),
    [
        ("Jan", 1), ("january", 1), ("SEPT.", 9), ("03-Mar", 3), ("Mar (3)", 3),
        ("12 - December", 12), ("März", 3), ("juil.", 7), ("ENERO", 1), ("May", 5),
        ("04-Mar", None), ("Mayday", None), ("Ja", None), ("13", None),
    ],
)  # fmt: skip
def test_months_are_read_by_their_names(cell: str, month: int | None, tmp_path: Path):
    rows = [COLUMNS, ["a", "x", 2024, cell, 1], ["a", "y", 2024, "7", 1]]
    sales = take(text(tmp_path / "a.csv", rows), tmp_path / "w")
    expected = [7] if month is None else [month, 7]
    assert sales.frame.collect()["month"].to_list() == expected
    assert sales.intake.repairs["named_month"] == (month is not None)


@pytest.mark.parametrize(
    ("cells", "formats"),
    [
        (["26/01/2022", "3/2/2022"], ["%d/%m/%Y"]),
        (["04/03/2022", "3/2/2022"], ["%d/%m/%Y", "%m/%d/%Y"]),
        (["26.01.22 14:05", "27.01.22 09:00"], ["%d.%m.%y %H:%M"]),
        (["Jan 2022", "March 2022"], ["%B %Y"]),
        (["Jan-22", "Mar-22"], ["%b-%y"]),
        (["202201", "202202"], ["%Y%m"]),
        (["1/26/2022 2:05 PM", "1/27/2022 11:05 AM"], ["%m/%d/%Y %I:%M %p"]),
    ],
)
def test_the_format_that_dates_have_is_named(
    cells: list[str], formats: list[str], tmp_path: Path
):
    rows = [["a", "x", cell, 1] for cell in [*cells, "2024-01-05"]]
    header = ["shop_id", "product_id", "date", "sales_qty"]
    path = text(tmp_path / "a.csv", [header, *rows], "\t")
    message = told(take(path, tmp_path / "w"))
    options = " or ".join(f'`--set "data.date_format={each}"`' for each in formats)
    assert f"Most of those met fit {options}" in message
    again = take(path, tmp_path / "w", date_format=formats[0])
    assert again.intake.rows_kept == 3


# Lines, columns and files


def test_an_unquoted_decimal_comma_is_recognised(tmp_path: Path):
    rows = [["a", "x", 2024, 1 + i % 12, "47,5"] for i in range(20)]
    with pytest.raises(SchemaError, match=r"A line ends in `47` and `5` \(row 1\)"):
        take(text(tmp_path / "a.csv", [COLUMNS, *rows]), tmp_path / "w")
    rows = [["a", "x", 2024, 1, "5,and,more"], ROWS[0]]
    sales = take(text(tmp_path / "b.csv", [COLUMNS, *rows]), tmp_path / "w")
    assert "`and` (row 1) is beyond the last column, `sales_qty`" in told(sales)


def test_rows_without_a_product_are_taken_and_told(tmp_path: Path):
    rows = [["Store", "Date", "Sales"], *[["a", "2024-01-05", 3]] * 2]
    path = text(tmp_path / "a.csv", rows)
    asked = r"shop_id=Store .*=Sales .*date=Date\n.*`--column product_id=none`"
    with pytest.raises(SchemaError, match=asked):
        take(path, tmp_path / "w")
    columns = {"shop_id": "Store", "date": "Date", "sales_qty": "Sales"}
    sales = take(path, tmp_path / "w", columns=columns)
    assert sales.frame.collect().rows() == [("a", None, 2024, 1, 3.0)] * 2
    assert sales.intake.n_products is None
    assert "1 shop, 2024-01 to" in told(sales)
    assert "has no `product_id`: features of it are unknown (null)" in told(sales)
    assert "Equal rows are kept" in told(sales)


@pytest.mark.parametrize("name", ["StockCode", "Bezeichnung"])
def test_a_product_column_is_not_passed_over_by_mistake(name: str, tmp_path: Path):
    path = text(tmp_path / "a.csv", [["shop_id", name, *COLUMNS[2:]], *ROWS])
    asked = r"no column `product_id`(.*\n)+.*`--column product_id=none`"
    with pytest.raises(SchemaError, match=asked):
        take(path, tmp_path / "w")
    sales = take(path, tmp_path / "w", columns={"product_id": "none"})
    assert not sales.has_products


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("a.xls", "<html><body><table border=1><tr><td>shop_id</td></tr></table>"),
        ("a.xls", "<table><tr><td>shop_id</td></tr></table>"),
        ("a.csv", '<html xmlns:x="urn:schemas-microsoft-com:office:excel"><body>'),
        ("a.xls", '<?xml version="1.0"?><?mso-application progid="Excel.Sheet"?>'),
    ],
)
def test_html_made_for_excel_is_named(name: str, head: str, tmp_path: Path):
    (tmp_path / name).write_text(head, encoding="utf-8")
    with pytest.raises(SourceError, match=r"made for Excel, .*save it as a workbook"):
        take(tmp_path / name, tmp_path / "w")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_pipes_and_devices_are_not_called_missing(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", Path("/dev/null")):
        with pytest.raises(SourceError, match="is a pipe or a device, and not a file"):
            take(path, tmp_path / "w")


def test_a_large_number_in_a_workbook_costs_its_row_only(tmp_path: Path):
    rows = [COLUMNS, ["a", "x", 1e20, 3, 1], *ROWS]
    buffer = io.BytesIO(book(tmp_path / "a.xlsx", {"S": rows}).read_bytes())
    (tmp_path / "b.xlsx").write_bytes(buffer.getvalue())
    sales = take(tmp_path / "b.xlsx", tmp_path / "w")
    assert sales.frame.collect().rows() == READ
    assert sales.rejected["reason"].to_list() == ["impossible_month"]
