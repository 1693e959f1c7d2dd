"""Any table, typed by what its columns hold."""

import polars as pl
import pytest

from core.errors import SchemaError, SourceError
from core.tables.plain import read_rows, read_table

CSV = """id,whole,number,code,yes,word,gaps
007,1,0.5,01,true,a,
008,-2,1e3,2,FALSE,b,NA
009,3,.25,3,true,,4
"""


def test_columns_of_a_csv_have_the_type_of_what_they_hold(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(CSV, encoding="utf-8")
    table = read_table(path, text=["id"])
    assert table.schema == {
        "id": pl.String,
        "whole": pl.Int64,
        "number": pl.Float64,
        "code": pl.String,
        "yes": pl.Boolean,
        "word": pl.String,
        "gaps": pl.Int64,
    }
    assert table["id"].to_list() == ["007", "008", "009"]
    assert table["number"].to_list() == [0.5, 1000.0, 0.25]
    assert table["yes"].to_list() == [True, False, True]
    assert table["gaps"].to_list() == [None, None, 4]
    assert table["word"].to_list() == ["a", "b", None]


def test_a_decimal_comma_is_read_beside_semicolons(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("id;share\n1;0,5\n2;1,25\n", encoding="utf-8")
    assert read_table(path)["share"].to_list() == [0.5, 1.25]


def test_parquet_keeps_its_types_but_for_ids(tmp_path):
    path = tmp_path / "table.parquet"
    pl.DataFrame({"id": [1, 2], "n": [0.5, None]}).write_parquet(path)
    assert read_table(path, text=["id"]).to_dict(as_series=False) == {
        "id": ["1", "2"],
        "n": [0.5, None],
    }


def test_what_is_not_there_is_said(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(CSV, encoding="utf-8")
    with pytest.raises(SchemaError, match=r"no column `ids`.*Did you mean `id`"):
        read_table(path, text=["ids"])
    with pytest.raises(SourceError, match=r"other\.csv"):
        read_table(tmp_path / "other.csv")


def test_rows_with_more_cells_than_the_header_are_refused_with_the_first(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("id,n,word\n1,2,a\n2,3,b,,\n3,Paris, France,7\n", encoding="utf-8")
    message = r"1 row with more cells .* \(first: row 3, with `7` beyond `word`\)"
    with pytest.raises(SchemaError, match=message):
        read_table(path)
    # Such a row does not make text of a column of numbers.
    assert read_rows(path).table["n"].to_list() == [2, 3, None]


def test_what_is_to_be_told_of_several_files_is_logged(tmp_path, caplog):
    (tmp_path / "1.csv").write_text("id,n\n1,2\n", encoding="utf-8")
    (tmp_path / "2.csv").write_text("id\n2\n", encoding="utf-8")
    assert read_table(tmp_path)["n"].to_list() == [2, None]
    assert "2.csv lacks `n`, which 1.csv has." in caplog.text
