"""Row-level checks: what is kept, what is set aside, and for which reason."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, SchemaError
from core.resolve import build_config
from core.tables.sales import SALES, Sales, read_sales, sales_from_frame

FAULTS = tuple(SALES.meanings)
CANONICAL = {
    "shop_id": pl.String,
    "product_id": pl.String,
    "year": pl.Int32,
    "month": pl.Int32,
    "sales_qty": pl.Float64,
}


def _frame(*rows: tuple, **types: pl.DataType) -> pl.DataFrame:
    names = ["shop_id", "product_id", "year", "month", "sales_qty"]
    return pl.DataFrame(rows, schema=names, orient="row", strict=False).cast(types)


def _take(frame: pl.DataFrame, work: Path, **data: object) -> Sales:
    return sales_from_frame(frame, build_config({"data": data}), work)


def _one(column: str, value: object, dtype: pl.DataType, work: Path, **data) -> Sales:
    """Take one sound row and one with `value` in `column`."""
    row = {"shop_id": "s", "product_id": "p", "year": 2024, "month": 3, "sales_qty": 1}
    sound = pl.DataFrame({k: [v] for k, v in (row | {"product_id": "q"}).items()})
    odd = pl.DataFrame({k: [v] for k, v in row.items()}).with_columns(
        pl.Series(column, [value], dtype=dtype, strict=False)
    )
    return _take(pl.concat([odd, sound], how="vertical_relaxed"), work, **data)


@pytest.mark.parametrize("missing", [None, "", "  ", "nan", "NaN", "NULL", "<NA>"])
def test_missing_id_is_set_aside(missing: str | None, tmp_path: Path):
    sales = _take(
        _frame((missing, "tea", 2024, 3, 5), ("kiosk", "tea", 2024, 3, 5)), tmp_path
    )
    assert sales.rejected.rows() == [
        (1, "missing_id", missing, "tea", "2024", "3", "5")
    ]
    assert sales.frame.collect()["shop_id"].to_list() == ["kiosk"]


@pytest.mark.parametrize(
    ("received", "expected", "n_repaired"),
    [
        ("17850.0", "17850", 1),
        ("17850.00", "17850", 1),
        ("-3.0", "-3", 1),
        ("100.0", "100", 1),
        ("0.0", "0", 1),
        (" 85123A ", "85123A", 0),
        ("007", "007", 0),
        ("007.0", "007.0", 0),
        ("10.000", "10.000", 0),
        ("10.5", "10.5", 0),
        ("v1.0", "v1.0", 0),
    ],
)
def test_ids_stay_text_and_float_ids_are_mended(
    received: str, expected: str, n_repaired: int, tmp_path: Path
):
    sales = _take(_frame((received, "tea", 2024, 3, 5)), tmp_path)
    assert sales.frame.collect()["shop_id"].to_list() == [expected]
    assert sales.intake.repairs["float_shop_id"] == n_repaired


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([17850.0, 1e15, 0.5], pl.Float64(), ["17850", "1000000000000000", "0.5"]),
        ([7, 8, 9], pl.Int8(), ["7", "8", "9"]),
        ([2**63, 8, 9], pl.UInt64(), [str(2**63), "8", "9"]),
        (["a", "b", "a"], pl.Categorical(), ["a", "b", "a"]),
        (["a", "b", "a"], pl.Enum(["a", "b"]), ["a", "b", "a"]),
        ([7, 8, 9], pl.Decimal(10, 2), ["7", "8", "9"]),
        ([True, False, True], pl.Boolean(), ["true", "false", "true"]),
        ([b"a", b"b", b"c"], pl.Binary(), ["a", "b", "c"]),
    ],
)
def test_ids_of_every_type_become_text(
    values: list, dtype: pl.DataType, expected: list[str], tmp_path: Path
):
    frame = _frame(*[("x", i, 2024, 3, 5) for i in range(3)])
    frame = frame.with_columns(pl.Series("shop_id", values, strict=False).cast(dtype))
    sales = _take(frame, tmp_path)
    assert sales.frame.collect()["shop_id"].to_list() == expected
    assert dict(sales.frame.collect_schema()) == CANONICAL


def test_float_id_that_is_not_a_number_is_missing(tmp_path: Path):
    frame = _frame((1.0, "a", 2024, 3, 5), (float("nan"), "b", 2024, 3, 5))
    sales = _take(frame, tmp_path)
    assert sales.rejected["reason"].to_list() == ["missing_id"]


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (0, pl.Int8()),
        (13, pl.Int8()),
        (3.5, pl.Float64()),
        (None, pl.Int16()),
        ("Brumaire", pl.String()),
        ("", pl.String()),
        (float("inf"), pl.Float64()),
    ],
)
def test_impossible_month_is_set_aside(
    value: object, dtype: pl.DataType, tmp_path: Path
):
    frame = _frame(("s", "p", 2024, 1, 5), ("s", "q", 2024, 1, 5)).with_columns(
        pl.Series("month", [value, 3], strict=False).cast(dtype)
        if not isinstance(dtype, pl.String)
        else pl.Series("month", [value, "3"])
    )
    sales = _take(frame, tmp_path)
    assert sales.rejected.select("source_row", "reason").rows() == [
        (1, "impossible_month")
    ]


@pytest.mark.parametrize("year", [1899, 2200, 21, -2024, None])
def test_impossible_year_is_set_aside(year: int | None, tmp_path: Path):
    sales = _take(_frame(("s", "p", year, 3, 5), ("s", "q", 2024, 3, 5)), tmp_path)
    assert sales.rejected["reason"].to_list() == ["impossible_month"]


@pytest.mark.parametrize("dtype", [pl.Int16(), pl.UInt16(), pl.Float32(), pl.String()])
def test_narrow_types_do_not_overflow(dtype: pl.DataType, tmp_path: Path):
    frame = _frame(("s", "p", 2024, 12, 5)).with_columns(
        pl.col("year").cast(dtype), pl.col("month").cast(pl.Int8)
    )
    assert _take(frame, tmp_path).intake.newest_month == "2024-12"


@pytest.mark.parametrize(
    "text",
    [
        "1,23,4",
        "1.234 EUR",
        "abc",
        "",
        "inf",
        "NaN",
        "1e10",
        "-1000000001",
        "--5",
        "()",
    ],
)
def test_unusable_quantity_is_set_aside(text: str, tmp_path: Path):
    frame = _frame(("s", "p", 2024, 3, text), ("s", "q", 2024, 3, "5"))
    sales = _take(frame, tmp_path)
    assert sales.rejected["reason"].to_list() == ["invalid_quantity"]
    assert sales.rejected["sales_qty"].to_list() == [text]


def test_negative_and_zero_are_kept_and_counted(tmp_path: Path):
    frame = _frame(("s", "p", 2024, 3, -2), ("s", "q", 2024, 3, -0.0))
    intake = _take(frame, tmp_path).intake
    assert intake.rows_kept == 2
    assert intake.faults["negative_quantity"].found == 1
    assert intake.faults["zero_quantity"].found == 1


def test_unknown_sales_value_is_null_not_a_reason(tmp_path: Path):
    frame = _frame(("s", "p", 2024, 3, 2), ("s", "q", 2024, 3, 2)).with_columns(
        sales_value=pl.Series(["n/a?", "3.5"])
    )
    sales = _take(frame, tmp_path)
    assert sales.frame.collect()["sales_value"].to_list() == [None, 3.5]
    assert sales.intake.repairs["unreadable_sales_value"] == 1


def test_first_reason_in_order_wins_and_every_fault_is_found(tmp_path: Path):
    frame = _frame((None, "tea", 2024, 13, None), ("kiosk", "tea", 2024, 3, 5))
    sales = _take(frame, tmp_path)
    assert sales.rejected["reason"].to_list() == ["missing_id"]
    found = {n: (c.found, c.set_aside) for n, c in sales.intake.faults.items()}
    assert found["missing_id"] == (1, 1)
    assert found["impossible_month"] == (1, 0)
    assert found["invalid_quantity"] == (1, 0)
    assert tuple(found) == FAULTS


def test_duplicates_differ_from_repeated_keys_by_any_column(tmp_path: Path):
    frame = _frame(*[("kiosk", "tea", 2024, 3, 5)] * 3).with_columns(
        invoice=pl.Series(["a", "b", "a"])
    )
    sales = _take(frame, tmp_path)
    assert sales.rejected.select("source_row", "reason").rows() == [
        (3, "exact_duplicate")
    ]
    assert sales.intake.faults["repeated_key"].found == 1
    assert sales.intake.rows_kept == 2


def test_repeated_key_keeps_the_first_row_when_dropped(tmp_path: Path):
    frame = _frame(
        ("kiosk", "tea", 2024, 3, 5),
        ("kiosk", "tea", 2024, 4, 6),
        ("kiosk ", "tea", 2024, 3, 7),
    )
    sales = _take(frame, tmp_path, policies={"repeated_key": "drop"})
    assert sales.rejected.select("source_row", "reason").rows() == [(3, "repeated_key")]
    assert sales.frame.collect()["sales_qty"].to_list() == [5.0, 6.0]


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"ragged_line", "excluded_id"}))
def test_error_policy_names_count_share_rows_and_cure(fault: str, tmp_path: Path):
    odd = {
        "missing_id": ("", "tea", 2024, 3, 5),
        "impossible_month": ("kiosk", "tea", 2024, 13, 5),
        "invalid_quantity": ("kiosk", "tea", 2024, 3, 1e300),
        "negative_quantity": ("kiosk", "tea", 2024, 3, -5),
        "zero_quantity": ("kiosk", "tea", 2024, 3, 0),
        "exact_duplicate": ("kiosk", "milk", 2024, 3, 5),
        "repeated_key": ("kiosk", "milk", 2024, 3, 6),
        "scientific_id": ("kiosk", "4.00638E+12", 2024, 3, 5),
        "total_row": ("kiosk", "Total", 2024, 3, 5),
    }[fault]
    frame = _frame(("kiosk", "milk", 2024, 3, 5), odd)
    with pytest.raises(SchemaError) as info:
        _take(frame, tmp_path, policies={fault: "error"})
    assert "1 of 2 rows (50%)" in str(info.value)
    assert "first: row 2" in str(info.value)
    assert f"--set data.policies.{fault}=drop" in str(info.value)


def test_nothing_left_says_for_which_reasons(tmp_path: Path):
    frame = _frame((None, "tea", 2024, 3, 5), ("kiosk", "tea", 2024, 0, 5))
    with pytest.raises(SchemaError, match=r"1 with `missing_id`.*`impossible_month`"):
        _take(frame, tmp_path)


def test_most_rows_set_aside_is_said_first(tmp_path: Path):
    frame = _frame(*[(None, i, 2024, 3, 5) for i in range(3)], ("k", 1, 2024, 3, 5))
    assert "Most rows (75%)" in _take(frame, tmp_path).intake.summary()[1]


def test_look_alike_ids_are_noted_not_merged(tmp_path: Path):
    frame = _frame(
        ("7", "tea", 2024, 3, 1), ("007", "Tea", 2024, 3, 1), ("x", "t", 2024, 3, 1)
    )
    sales = _take(frame, tmp_path)
    notes = " ".join(sales.intake.notes)
    assert sales.intake.n_shops == 3
    assert "2 of 3 shop ids are numbers" in notes
    assert "1 shop ids differ from another one only by leading zeros" in notes
    assert "1 product ids differ from another one only by upper" in notes


DATED = ["shop_id", "product_id", "date", "sales_qty"]


def _dated(values: list, work: Path, **data: object) -> Sales:
    rows = [("kiosk", f"p{i}", value, 1) for i, value in enumerate(values)]
    return _take(pl.DataFrame(rows, schema=DATED, orient="row"), work, **data)


@pytest.mark.parametrize(
    "value",
    [
        date(2024, 2, 29),
        datetime(2024, 2, 29, 23, 59),
        "2024-02-29",
        "2024-02-29 08:26:00",
        "2024-02-29T08:26:00.123+02:00",
        "2024/02/29",
        "20240229",
        20240229,
        "2024-02",
    ],
)
def test_dates_give_year_and_month(value: object, tmp_path: Path):
    assert _dated([value], tmp_path).frame.collect().rows() == [
        ("kiosk", "p0", 2024, 2, 1.0)
    ]


def test_zoned_datetimes_count_in_their_own_zone(tmp_path: Path):
    times = pl.Series([datetime(2024, 2, 29, 23, 30)]).dt.replace_time_zone("UTC")
    frame = pl.DataFrame({"shop_id": ["k"], "product_id": ["p"], "sales_qty": [1]})
    frame = frame.with_columns(date=times.dt.convert_time_zone("Asia/Tokyo"))
    assert _take(frame, tmp_path).intake.newest_month == "2024-03"


@pytest.mark.parametrize("text", ["2023-02-29", "2024-13-01", "12/1/2024", "x", None])
def test_unreadable_dates_are_set_aside_with_a_hint(text: str | None, tmp_path: Path):
    sales = _dated([text, "2024-03-01"], tmp_path)
    assert sales.rejected["reason"].to_list() == ["impossible_month"]
    assert any("`data.date_format`" in note for note in sales.intake.notes)


@pytest.mark.parametrize(
    ("text", "date_format"),
    [
        ("12/1/2010 8:26", "%m/%d/%Y %H:%M"),
        ("1.12.2010", "%d.%m.%Y"),
        ("Dec 2010", "%b %Y"),
        ("201012", "%Y%m"),
    ],
)
def test_dates_are_read_by_format(text: str, date_format: str, tmp_path: Path):
    sales = _dated([text], tmp_path, date_format=date_format)
    assert sales.intake.newest_month == "2010-12"


@pytest.mark.parametrize("date_format", ["%H:%M", "foo", "%Y", "%m"])
def test_format_without_year_and_month_is_refused(date_format: str, tmp_path: Path):
    with pytest.raises(ConfigError, match="names no year and month"):
        _dated(["2024"], tmp_path, date_format=date_format)


@pytest.mark.parametrize(
    ("dates", "partial"),
    [
        (["2024-01-31", "2024-02-09"], "2024-02"),
        (["2024-01-31", "2024-02-26"], None),
        (["2024-01-31", "2024-02-25"], "2024-02"),
        (["2024-01-01", "2024-02-01"], None),
        (["2024-01", "2024-02"], None),
    ],
)
def test_month_that_ends_early_is_partial(
    dates: list[str], partial: str | None, tmp_path: Path
):
    assert _dated(dates, tmp_path).intake.partial_last_month == partial


CELLS = st.one_of(
    st.none(),
    st.sampled_from(["", "a", "A", "7", "007", "7.0", "nan", "2024", "3", "13", "-1"]),
    st.text(max_size=4),
)
NUMBERS = st.one_of(
    st.none(), st.sampled_from([2024, 3, 12, 0, -1, 1e300]), st.floats(width=32)
)
ROWS = st.lists(
    st.tuples(CELLS, CELLS, NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=30
)
POLICY = st.sampled_from(["keep", "drop"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, duplicate=POLICY, repeat=POLICY, negative=POLICY)
def test_no_row_is_ever_lost(
    rows: list, duplicate: str, repeat: str, negative: str, tmp_path: Path
):
    types = dict.fromkeys(["year", "month", "sales_qty"], pl.Float64)
    frame = _frame(("s", "p", 2024, 3, 1), *rows, **types)
    policies = {
        "exact_duplicate": duplicate,
        "repeated_key": repeat,
        "negative_quantity": negative,
    }
    sales = _take(frame, tmp_path, policies=policies)
    intake, kept = sales.intake, sales.frame.collect()
    assert intake.rows_read == len(frame) == len(kept) + len(sales.rejected)
    reasons = Counter(sales.rejected["reason"])
    for name, count in intake.faults.items():
        assert count.set_aside == reasons[name] <= count.found
    assert sum(kept.null_count().row(0)) == 0
    assert kept["sales_qty"].is_finite().all()
    if duplicate == "drop":
        assert intake.faults["exact_duplicate"].found == len(frame) - frame.n_unique()
    json.dumps(intake.to_dict())


def test_duplicates_are_found_across_slices(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr("core.tables.faults.HASHES_AT_ONCE", 7)
    monkeypatch.setattr("core.tables.faults.DUPLICATES_AT_ONCE", 3)
    rows = [("kiosk", i % 20, 2024, 3, i % 5) for i in range(100)]
    sales = _take(_frame(*rows), tmp_path)
    assert sales.frame.collect()["product_id"].to_list() == [str(i) for i in range(20)]
    assert sales.rejected["source_row"].to_list() == list(range(21, 101))


@pytest.mark.shared_data
def test_iowa_passes_whole(shared_data: Path, tmp_path: Path):
    path = shared_data / "iowa_dev" / "monthly.parquet"
    config = build_config({"data": {"source": "input", "input": str(path)}})
    sales = read_sales(config, tmp_path)
    assert (sales.intake.rows_read, sales.intake.rows_kept) == (615_740, 615_740)
    assert (sales.intake.n_shops, sales.intake.n_products) == (231, 4613)
    kept = sales.frame.select(pl.col("sales_qty", "sales_value").sum()).collect()
    truth = pl.read_parquet(path).select(pl.col("sales_qty", "sales_value").sum())
    assert kept.row(0) == pytest.approx(truth.row(0), rel=1e-12)


@pytest.mark.shared_data
def test_online_retail_lines_are_judged_as_plain_polars_does(
    shared_data: Path, tmp_path: Path
):
    path = shared_data / "online_retail" / "raw_strings.parquet"
    columns = {
        "shop_id": "CustomerID",
        "product_id": "StockCode",
        "date": "InvoiceDate",
        "sales_qty": "Quantity",
    }
    data = {"source": "input", "input": str(path), "columns": columns}
    sales = read_sales(build_config({"data": data}), tmp_path)
    raw = pl.read_parquet(path)
    is_missing = raw["CustomerID"].is_null()
    is_repeat = ~raw.to_struct("row").is_first_distinct()
    faults, intake = sales.intake.faults, sales.intake
    assert intake.rows_read == len(raw) == 541_909
    assert faults["missing_id"].found == is_missing.sum() == 135_080
    assert faults["exact_duplicate"].found == is_repeat.sum() == 5_268
    assert faults["exact_duplicate"].set_aside == (is_repeat & ~is_missing).sum()
    is_negative = raw["Quantity"].str.starts_with("-")
    assert faults["negative_quantity"].found == is_negative.sum() == 10_624
    assert intake.rows_kept == (~is_repeat & ~is_missing).sum() == 401_604
    assert intake.repairs["float_shop_id"] == 541_909 - 135_080
    assert intake.partial_last_month == intake.newest_month == "2011-12"
    ids = sales.frame.select("shop_id").unique().collect()["shop_id"]
    assert not ids.str.contains(".", literal=True).any()
    total = sales.frame.select(pl.col("sales_qty").sum()).collect().item()
    kept = raw.filter(~is_repeat & ~is_missing)
    assert total == kept["Quantity"].cast(pl.Float64).sum()
