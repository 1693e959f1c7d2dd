"""Where rows come from: formats, files that are not what they say, column names."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from datetime import date, datetime
from pathlib import Path

import duckdb
import openpyxl
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.config import Config, DataConfig
from core.errors import ConfigError, SchemaError, SourceError
from core.resolve import build_config
from core.retailers.sample import generate_sales
from core.tables.files import find_files
from core.tables.readers import read_files
from core.tables.sales import Sales, read_sales, sales_from_frame, source_fingerprint

HEADER = "shop_id,product_id,year,month,sales_qty\n"
MARCH = HEADER + "kiosk,tea,2024,3,5\ncorner_shop,milk,2024,3,2.5\n"
ROWS = [("kiosk", "tea", 2024, 3, 5.0), ("corner_shop", "milk", 2024, 3, 2.5)]


def _config(path: Path | str, **data: object) -> Config:
    return build_config({"data": {"source": "input", "input": str(path), **data}})


def _read(path: Path | str, work: Path, **data: object) -> Sales:
    return read_sales(_config(path, **data), work)


def _read_bytes(content: bytes, name: str, folder: Path, **data: object) -> Sales:
    path = folder / name
    path.write_bytes(content)
    return _read(path, folder / "work", **data)


def packed(content: bytes) -> bytes:
    """Return gzip bytes without the time, which the names of tests must not have."""
    return gzip.compress(content, mtime=0)


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _parquet(text: str = MARCH) -> bytes:
    buffer = io.BytesIO()
    pl.read_csv(text.encode()).write_parquet(buffer)
    return buffer.getvalue()


def _workbook(*rows: list, sheet: str = "Sales") -> bytes:
    book, buffer = openpyxl.Workbook(), io.BytesIO()
    book.active.title = sheet
    for row in rows:
        book.active.append(row)
    book.create_sheet("Notes")
    book.save(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.csv", MARCH.encode()),
        ("no_last_break.csv", MARCH.rstrip().encode()),
        ("windows.csv", MARCH.replace("\n", "\r\n").encode()),
        ("old_mac.csv", MARCH.replace("\n", "\r").encode()),
        ("mark.csv", b"\xef\xbb\xbf" + MARCH.encode()),
        ("tab.tsv", MARCH.replace(",", "\t").encode()),
        ("bar.txt", MARCH.replace(",", "|").encode()),
        ("semicolon.csv", MARCH.replace(",", ";").encode()),
        ("comma_numbers.csv", MARCH.replace(",", ";").replace("2.5", "2,5").encode()),
        ("named.csv", b"sep=;\r\n" + MARCH.replace(",", ";").encode()),
        ("wide.csv", MARCH.encode("utf-16")),
        ("blank_start.csv", b"\n\n" + MARCH.encode()),
        ("spaces.csv", MARCH.replace("month,", " month ,").encode()),
        ("quoted.csv", MARCH.replace("milk", '"milk"').encode()),
        ("trailing.csv", MARCH.replace("5\n", "5,\n").encode()),
        ("packed.csv.gz", packed(MARCH.encode())),
        ("archive.zip", _zip({"in/sales.csv": MARCH.encode(), "read.me": b"x"})),
        ("sales.parquet", _parquet()),
    ],
)
def test_every_form_of_file_gives_the_same_rows(
    name: str, content: bytes, tmp_path: Path
):
    sales = _read_bytes(content, name, tmp_path)
    assert sales.frame.collect().rows() == ROWS
    assert sales.intake.notes == []
    assert sales.path == tmp_path / "work" / "sales.parquet"
    assert [p.name for p in (tmp_path / "work").iterdir()] == ["sales.parquet"]
    assert source_fingerprint(_config(tmp_path / name)) == sales.fingerprint


@pytest.mark.parametrize(
    ("content", "shop", "note"),
    [
        (MARCH.replace("kiosk", "café").encode("cp1252"), "café", "Windows-1252"),
        (b"\xff".join([MARCH.replace("kiosk", "éèà").encode(), b""]), "éèà", "UTF-8"),
    ],
)
def test_text_that_is_not_utf8_is_read_with_a_note(
    content: bytes, shop: str, note: str, tmp_path: Path
):
    content = content if content.endswith(b"\n") else content + b",x,2024,3,1\n"
    sales = _read_bytes(content, "sales.csv", tmp_path)
    assert sales.frame.collect()["shop_id"][0] == shop
    assert note in sales.intake.notes[0]


def test_encoding_and_separator_can_be_given(tmp_path: Path):
    content = MARCH.replace(",", "^").encode("utf-16-le")
    sales = _read_bytes(content, "a.csv", tmp_path, encoding="utf-16-le", separator="^")
    assert sales.frame.collect().rows() == ROWS
    with pytest.raises(ConfigError, match="no encoding of text"):
        _read(tmp_path / "a.csv", tmp_path / "work", encoding="utf-9")
    for encoding in ("utf-16", "idna", "punycode"):
        with pytest.raises(SourceError, match=f"is not in `{encoding}`"):
            _read_bytes(f"{MARCH}é".encode(), "a.csv", tmp_path, encoding=encoding)


def test_lines_longer_than_the_header_are_set_aside(tmp_path: Path):
    text = MARCH + "kiosk,sugar,2024,3,1,234\n"
    sales = _read_bytes(text.encode(), "sales.csv", tmp_path)
    assert sales.rejected.select("source_row", "reason").rows() == [(3, "ragged_line")]
    policies = {"ragged_line": "keep"}
    kept = _read(tmp_path / "sales.csv", tmp_path / "work", policies=policies)
    assert kept.frame.collect()["sales_qty"].to_list() == [5.0, 2.5, 1.0]


def test_lines_shorter_than_the_header_lack_what_they_lack(tmp_path: Path):
    sales = _read_bytes((MARCH + "kiosk,tea,2024\n").encode(), "sales.csv", tmp_path)
    assert sales.rejected["reason"].to_list() == ["impossible_month"]


def test_empty_lines_are_no_rows_but_keep_the_numbers_of_the_others(tmp_path: Path):
    text = HEADER + "kiosk,tea,2024,3,5\n\n,,,,\nkiosk,,2024,3,5\n\n"
    sales = _read_bytes(text.encode(), "sales.csv", tmp_path)
    assert sales.intake.rows_read == 2
    assert sales.rejected["source_row"].to_list() == [4]
    assert "2 empty lines passed over." in sales.intake.notes


def test_stray_quotes_swallow_no_rows(tmp_path: Path):
    text = HEADER + 'kiosk,5" pipe,2024,3,5\nkiosk,b,2024,3,1\nkiosk,8" x,2024,3,2\n'
    sales = _read_bytes(text.encode(), "sales.csv", tmp_path)
    assert sales.frame.collect()["product_id"].to_list() == ['5" pipe', "b", '8" x']
    assert "read line by line" in sales.intake.notes[0]


def test_breaks_in_quoted_cells_are_read_and_noted(tmp_path: Path):
    text = MARCH.replace("milk", '"milk,\nskimmed"')
    sales = _read_bytes(text.encode(), "sales.csv", tmp_path)
    assert sales.frame.collect()["product_id"].to_list() == ["tea", "milk,\nskimmed"]
    assert "1 line break inside quoted cells" in sales.intake.notes[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\n \n", "nothing but empty lines"),
        ("a.csv", b"<!DOCTYPE html><html></html>", "web page"),
        ("a.csv", b'[{"shop_id": 1}]', "is JSON"),
        ("a.csv", bytes(range(256)), "binary data of an unknown kind"),
        ("a.parquet", b"PAR1" + bytes(50), "damaged or cut off"),
        ("a.parquet", _parquet()[:-20], "damaged or cut off"),
        ("a.csv.gz", packed(MARCH.encode() * 99)[:-9], "could not be unpacked"),
        ("a.zip", _zip({"read.me": b"x"}), "a zip file without a table"),
        ("a.zip", b"PK\x03\x04" + bytes(99), "could not be unpacked"),
        ("a.xlsx", b"\xd0\xcf\x11\xe0" + bytes(999), "no Excel workbook"),
        ("a.pkl", b"\x80\x04\x95" + bytes(9), "never opened"),
    ],
)
def test_what_cannot_be_read_is_refused_in_our_words(
    name: str, content: bytes, message: str, tmp_path: Path
):
    with pytest.raises(SourceError, match=message):
        _read_bytes(content, name, tmp_path)


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (_parquet(), "is really Parquet"),
        (_workbook(HEADER.strip().split(","), *map(list, ROWS)), "an Excel workbook"),
        (packed(MARCH.encode()), "packed with gzip"),
    ],
)
def test_file_is_read_as_what_it_is(content: bytes, note: str, tmp_path: Path):
    sales = _read_bytes(content, "sales.csv", tmp_path)
    assert sales.frame.collect().rows() == ROWS
    assert note in sales.intake.notes[0]


def test_header_without_rows_is_refused(tmp_path: Path):
    with pytest.raises(SchemaError, match="no rows"):
        _read_bytes(HEADER.encode(), "sales.csv", tmp_path)


def test_workbook_with_dates_and_mixed_ids(tmp_path: Path):
    content = _workbook(
        ["shop_id", " product_id ", "date", "sales_qty"],
        [7, 12, datetime(2024, 3, 4), 5],
        [],
        ["kiosk", "b", date(2024, 4, 30), 2.5],
    )
    sales = _read_bytes(content, "sales.xlsx", tmp_path)
    assert sales.frame.collect().rows() == [
        ("7", "12", 2024, 3, 5.0),
        ("kiosk", "b", 2024, 4, 2.5),
    ]
    with pytest.raises(SourceError, match=r"Did you mean `Sales`\? It has `Sales`, `N"):
        _read(tmp_path / "sales.xlsx", tmp_path / "work", sheet="Sale")


def test_folder_is_read_in_name_order_with_columns_of_its_names(tmp_path: Path):
    for month in (4, 3):
        folder = tmp_path / "in" / "year=2024" / f"month={month}"
        folder.mkdir(parents=True)
        text = f"shop_id,product_id,sales_qty\nkiosk,tea,{month}\n"
        (folder / "part.csv").write_text(text, encoding="utf-8")
    (tmp_path / "in" / "_SUCCESS").touch()
    expected = [("kiosk", "tea", 2024, month, float(month)) for month in (3, 4)]
    assert _read(tmp_path / "in", tmp_path / "w").frame.collect().rows() == expected


def test_glob_and_types_that_differ_between_files(tmp_path: Path):
    for name, shop in (("a", 7), ("b", "kiosk")):
        frame = pl.read_csv(MARCH.encode()).with_columns(shop_id=pl.lit(shop))
        frame.write_parquet(tmp_path / f"{name}.parquet")
    sales = _read(tmp_path / "*.parquet", tmp_path / "work")
    shops = sales.frame.select(pl.col("shop_id").unique(maintain_order=True)).collect()
    assert shops["shop_id"].to_list() == ["7", "kiosk"]


def test_name_with_glob_marks_is_a_file_if_it_is_there(tmp_path: Path):
    sales = _read_bytes(MARCH.encode(), "sales [2024].csv", tmp_path)
    assert sales.intake.rows_kept == 2


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({}, SourceError, "holds no table; found no file"),
        ({"read.me": b"x"}, SourceError, r"found `read\.me`"),
        ({"a.csv": b"", "b.csv": b""}, SourceError, "is empty"),
        (
            {"a.csv": MARCH.encode(), "b.parquet": _parquet()},
            SourceError,
            r"mixes kinds of files: .*`a\.csv`.*`b\.parquet`",
        ),
        (
            {"a.csv": MARCH.encode(), "b.csv": MARCH.replace("_qty", "").encode()},
            SchemaError,
            r"b\.csv has no column `sales_qty`",
        ),
    ],
)
def test_unusable_folders_are_refused(
    files: dict, error: type[Exception], message: str, tmp_path: Path
):
    (tmp_path / "in").mkdir()
    for name, content in files.items():
        (tmp_path / "in" / name).write_bytes(content)
    with pytest.raises(error, match=message):
        _read(tmp_path / "in", tmp_path / "work")


def test_missing_files_are_named_with_those_near(tmp_path: Path):
    (tmp_path / "sales.csv").write_text(MARCH, encoding="utf-8")
    with pytest.raises(SourceError, match=r"Did you mean `sales\.csv`"):
        _read(tmp_path / "sale.csv", tmp_path / "work")
    with pytest.raises(SourceError, match="there is no folder"):
        _read(tmp_path / "nowhere" / "sales.csv", tmp_path / "work")
    with pytest.raises(SourceError, match="no file matches"):
        _read(tmp_path / "*.parquet", tmp_path / "work")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0,
    reason="root and Windows may read any file",
)
def test_unreadable_file_is_refused(tmp_path: Path):
    path = tmp_path / "sales.csv"
    path.write_text(MARCH, encoding="utf-8")
    path.chmod(0)
    with pytest.raises(SourceError, match="no permission"):
        _read(path, tmp_path / "work")


def test_missing_columns_show_the_options_that_map_them(tmp_path: Path):
    text = "CustomerID,Stock Code,InvoiceDate,Quantity\n1,2,2024-03-01,5\n"
    with pytest.raises(SchemaError) as info:
        _read_bytes(text.encode(), "sales.csv", tmp_path)
    for option in (
        "--column shop_id=CustomerID",
        '--column "product_id=Stock Code"',
        "--column date=InvoiceDate",
        "--column sales_qty=Quantity",
    ):
        assert option in str(info.value)
    columns = {
        "shop_id": "CustomerID",
        "product_id": "Stock Code",
        "date": "InvoiceDate",
        "sales_qty": "Quantity",
    }
    sales = _read(tmp_path / "sales.csv", tmp_path / "work", columns=columns)
    assert sales.frame.collect().rows() == [("1", "2", 2024, 3, 5.0)]
    with pytest.raises(SchemaError, match=r"mapped to `CustID`, which is not there"):
        _read(
            tmp_path / "sales.csv",
            tmp_path / "work",
            columns=columns | {"shop_id": "CustID"},
        )


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("Shop_ID,product_id,year,month,sales_qty", "--column shop_id=Shop_ID"),
        ("shop_id,product_id,year,month,qty,sales_qty ,sales_qty", "2 columns"),
        ("7,8,2024,3,5", "is the header line missing"),
    ],
)
def test_headers_are_never_guessed(header: str, message: str, tmp_path: Path):
    with pytest.raises(SchemaError, match=message):
        _read_bytes(f"{header}\n1,2,2024,3,5,6,7\n".encode(), "sales.csv", tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"shopid": "shop_id"}, "Did you mean `shop_id`"),
        ({"date": "d", "month": "m"}, "also `year` or `month`"),
        ({"shop_id": "a", "product_id": "a"}, "a column has one meaning"),
    ],
)
def test_contradictory_mapping_is_refused(columns: dict, message: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=message):
        _read_bytes(MARCH.encode(), "sales.csv", tmp_path, columns=columns)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("month", [date(2024, 3, 1)] * 2, "--column date=month"),
        ("shop_id", [["a"], ["b"]], "expected an id"),
        ("sales_qty", [date(2024, 3, 1)] * 2, "expected a number"),
    ],
)
def test_types_that_cannot_be_meant_are_refused(
    column: str, values: list, message: str, tmp_path: Path
):
    frame = pl.read_csv(MARCH.encode()).with_columns(pl.Series(column, values))
    with pytest.raises(SchemaError, match=message):
        sales_from_frame(frame, Config(), tmp_path)


def test_frames_of_every_library_give_the_same_sales(tmp_path: Path):
    frame = pl.read_csv(MARCH.encode())
    table = frame.to_arrow()
    with duckdb.connect() as connection:
        natives = {
            "polars": frame,
            "lazy": frame.lazy(),
            "arrow": table,
            "pandas": frame.to_pandas(),
            "duckdb": connection.from_arrow(table),
        }
        taken = {
            name: sales_from_frame(native, Config(), tmp_path / name)
            for name, native in natives.items()
        }
        rows = {name: sales.frame.collect().rows() for name, sales in taken.items()}
    assert all(found == ROWS for found in rows.values())
    assert len({sales.fingerprint for sales in taken.values()}) == 1


def test_pandas_objects_of_mixed_types_are_text(tmp_path: Path):
    frame = pd.DataFrame(
        {
            "shop_id": pd.Series([7, "kiosk", None, float("nan")], dtype=object),
            "product_id": [1, 2, 3, 4],
            "date": pd.to_datetime(["2024-03-01"] * 4),
            "sales_qty": [1, 2, 3, 4],
        }
    )
    frame.index = [9, 9, 8, 7]
    sales = sales_from_frame(frame, Config(), tmp_path)
    assert sales.frame.collect()["shop_id"].to_list() == ["7", "kiosk"]
    assert sales.rejected["source_row"].to_list() == [3, 4]


def test_pandas_periods_are_months(tmp_path: Path):
    frame = pd.read_csv(io.StringIO(MARCH)).drop(columns=["year", "month"])
    frame["date"] = pd.Period("2024-03", "M")
    assert sales_from_frame(frame, Config(), tmp_path).frame.collect().rows() == ROWS


def test_frame_that_cannot_be_evaluated_is_refused(tmp_path: Path):
    broken = pl.LazyFrame({"a": [1]}).select("b")
    with pytest.raises(SourceError, match="cannot be evaluated"):
        sales_from_frame(broken, Config(), tmp_path)
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(SchemaError, match=r"names a column twice: .*'a' 2 times"):
        sales_from_frame(twice, Config(), tmp_path)


def test_what_is_no_table_is_refused(tmp_path: Path):
    with pytest.raises(SourceError, match=r"`builtins\.dict` is no table"):
        sales_from_frame({"shop_id": [1]}, Config(), tmp_path)
    empty = pa.table({"shop_id": pa.array([], pa.string())})
    with pytest.raises(SchemaError, match="no column `product_id`"):
        sales_from_frame(empty, Config(), tmp_path)


def test_sample_passes_whole_with_its_truth(tmp_path: Path):
    tree = {"sample": {"n_shops": 20, "n_months": 24}, "seed": 3}
    config = build_config({**tree, "data": {"columns": {"shop_id": "CustomerID"}}})
    sales = read_sales(config, tmp_path, generate_sales)
    assert sales.intake.rows_kept == sales.intake.rows_read > 0
    assert sales.truth is not None
    assert source_fingerprint(config) == sales.fingerprint
    other = config.model_copy(update={"seed": 4})
    assert source_fingerprint(other) != sales.fingerprint


def test_fingerprint_follows_mapping_and_policies(tmp_path: Path):
    first = _read_bytes(MARCH.encode(), "sales.csv", tmp_path).fingerprint
    config = _config(tmp_path / "sales.csv", policies={"zero_quantity": "drop"})
    assert source_fingerprint(config) != first


TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=6
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(TEXTS, min_size=1, max_size=8), separator=st.sampled_from(",;|\t"))
def test_written_text_is_read_back_whatever_it_holds(
    ids: list[str], separator: str, tmp_path: Path
):
    frame = pl.DataFrame(
        {
            "shop_id": "kiosk",
            "product_id": ids,
            "year": 2024,
            "month": 3,
            "sales_qty": 1,
        }
    ).with_columns(line=pl.int_range(pl.len()))
    path = tmp_path / "sales.csv"
    frame.write_csv(path, separator=separator)
    anchor = separator.join(["kiosk", "anchor", "2024", "3", "1", "-1"])
    with path.open("a", encoding="utf-8", newline="") as stream:
        stream.write(anchor + "\n")
    from_file = _read(path, tmp_path / "file")
    more = pl.DataFrame(
        [["kiosk", "anchor", 2024, 3, 1, -1]], frame.schema, orient="row"
    )
    from_memory = sales_from_frame(pl.concat([frame, more]), Config(), tmp_path / "mem")
    assert from_file.frame.collect().rows() == from_memory.frame.collect().rows()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.lists(
        st.sampled_from([b'"', b",", b"\n", b"\r", b"a", b";", b"\xff", b"2024,3,1"]),
        max_size=25,
    ).map(b"".join)
)
def test_no_content_ends_in_a_foreign_traceback(content: bytes, tmp_path: Path):
    try:
        sales = _read_bytes(HEADER.encode() + content, "sales.csv", tmp_path)
    except (SourceError, SchemaError):
        return
    intake = sales.intake
    assert intake.rows_kept + len(sales.rejected) == intake.rows_read


def test_parquet_files_of_one_make_are_one_scan_with_rows_in_order(tmp_path: Path):
    folder = tmp_path / "sales"
    for number in range(6):
        table = pl.DataFrame({"shop_id": [f"s{number}", "kiosk"], "qty": [number, 9]})
        if number == 4:
            table = table.with_columns(note=pl.lit("new"))
        place = folder / f"year=20{number:02d}" / f"part={number % 2}"
        place.mkdir(parents=True)
        table.write_parquet(place / "rows.parquet")
    table = read_files(*find_files(str(folder), tmp_path), DataConfig(), tmp_path)
    assert table.scan.explain().count("Parquet SCAN") == 3
    columns = ["shop_id", "qty", "year", "part", "note"]
    assert table.scan.select(columns).collect().rows() == [
        (shop, qty, f"20{n:02d}", str(n % 2), "new" if n == 4 else None)
        for n in range(6)
        for shop, qty in ((f"s{n}", n), ("kiosk", 9))
    ]
