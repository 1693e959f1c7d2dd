"""CSV files that a spreadsheet opens without running what is in them."""

from __future__ import annotations

import polars as pl
import pytest

from core.artifacts.spreadsheet import defused, restored, safe_table

FORMULAS = ["=1+1", "+49 171", "-12", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1"]
PLAIN = ["A-1", "1-2", "'=quoted", "Küche", "", "0012"]


@pytest.mark.parametrize(
    ("safety", "columns"),
    [("names", {"segment_name"}), ("all", {"segment_name", "shop_id"}), ("off", set())],
)
def test_what_would_be_a_formula_gets_an_apostrophe(safety, columns):
    texts = [*FORMULAS, *PLAIN]
    table = pl.DataFrame({"shop_id": texts, "segment_name": texts, "segment": -1})
    found = safe_table(table, safety)
    expected = [f"'{text}" for text in FORMULAS] + PLAIN
    for name in ("shop_id", "segment_name"):
        assert found[name].to_list() == (expected if name in columns else texts)
    assert found["segment"].to_list() == [-1] * len(texts), "numbers are left alone"


def test_ids_that_are_read_back_are_as_they_were():
    table = pl.DataFrame({"x": [*FORMULAS, *PLAIN[:2]]})
    again = table.with_columns(restored(defused(pl.col("x"))))
    assert again.equals(table)
