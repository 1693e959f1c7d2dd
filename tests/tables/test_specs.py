"""Specifications of tables: whole in themselves, and all that a new table needs."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from core.config import DataConfig
from core.errors import SchemaError
from core.tables.cells import parse_rows
from core.tables.columns import Column, Fault, TableSpec
from core.tables.faults import Validation, fault_lines
from core.tables.files import find_files
from core.tables.readers import read_files
from core.tables.reconcile import ITEMS, ORDERS
from core.tables.sales import SALES

N_FLAGS = {
    "id": 4, "day": 3, "moment": 4, "whole": 1, "month": 2, "number": 1, "amount": 3,
    "value": 1, "name": 1, "word": 1,
}  # fmt: skip
VISITS = TableSpec(
    name="visits",
    noun="visit",
    option="visits.columns",
    flag="--visit-column",
    columns=(
        Column("shop_id", "id", "store outlet", ("missing_shop", "float_id", "", "")),
        Column("visited", "moment", "date", ("impossible_date", "", "", "")),
        Column("minutes", "number", "duration", ("invalid_minutes",)),
    ),
    faults=(
        Fault("ragged_line", "more cells than the header"),
        Fault("missing_shop", "no shop"),
        Fault("impossible_date", "no readable date", ("visited",), "Expected ISO."),
        Fault("invalid_minutes", "no usable number", ("minutes",), "Expected minutes."),
        Fault("too_long", "longer than a day", kept_as="as they are"),
        Fault("exact_duplicate", "equal to an earlier row"),
        Fault("repeated_key", "same shop and moment as an earlier row"),
    ),
    repairs={"float_id": "{} had an id typed as a float."},
    checks={"too_long": "minutes > 1440"},
    key=("shop_id", "visited"),
    has_all_reasons=False,
)


@pytest.mark.parametrize("spec", [SALES, ORDERS, ITEMS, VISITS], ids=lambda s: s.name)
def test_a_specification_is_whole_in_itself(spec: TableSpec):
    names = [column.name for column in spec.columns]
    for column in spec.columns:
        assert len(column.flags) == N_FLAGS[column.kind]
        assert set(column.flags) <= {"", *spec.bits}
    assert set(spec.checks) <= set(spec.meanings)
    assert set(spec.key) <= set(names)
    assert {ours for fault in spec.faults for ours in fault.about} <= set(names)
    n_clues = sum(len(column.clues) for column in spec.columns)
    assert len(spec.bits) == len(spec.faults) + len(spec.repairs) + n_clues <= 64


def validated(tmp_path: Path, text: str, policies: dict[str, str]) -> tuple:
    path = tmp_path / "visits.csv"
    path.write_text(text, encoding="utf-8")
    data = DataConfig()
    table = read_files(*find_files(str(path), tmp_path), data, tmp_path)
    parsed = parse_rows(table, {}, VISITS, data, has_hash=True)
    checked = Validation(parsed, parsed.rows, policies, "visits.policies")
    return pl.concat(checked.drop_duplicates([parsed.rows], tmp_path)), checked


def test_a_new_table_needs_only_its_specification(tmp_path: Path):
    rows = [
        "shop_id,visited,minutes",
        "7.0,2024-03-01 10:00,20",
        "7,2024-03-01 10:00,30",
        "7,2024-03-02 10:00,x",
        ",2024-03-02 10:00,20",
        "8,2024-03-02 10:00,2000",
        "8,2024-03-02 10:00,2000",
    ]
    kept, checked = validated(tmp_path, "\n".join(rows), {"too_long": "keep"})
    checked.stop_without_rows()
    assert kept.select("shop_id", "minutes").collect().rows() == [
        ("7", 20.0),
        ("8", 2000.0),
    ]
    assert checked.rejected.select("source_row", "reason").rows() == [
        (2, "repeated_key"),
        (3, "invalid_minutes"),
        (4, "missing_shop"),
        (6, "exact_duplicate"),
    ]
    assert checked.repairs == {"float_id": 1}
    lines = fault_lines(VISITS, checked.n_read, len(checked.reasons), checked.faults)
    assert lines == [
        "Most visits (67%) were set aside; make sure that the right file and columns "
        "were read.",
        "1 visit (17%): no shop; set aside (`missing_shop`).",
        "1 visit (17%): no usable number; set aside (`invalid_minutes`).",
        "2 visits (33%): longer than a day; kept, as they are (`too_long`).",
        "1 visit (17%): equal to an earlier row; set aside (`exact_duplicate`).",
        "1 visit (17%): same shop and moment as an earlier row; set aside "
        "(`repeated_key`).",
    ]
    assert checked.fixes == [
        "`minutes` with `invalid_minutes` is `x` (row 3). Expected minutes."
    ]


def test_a_new_table_explains_columns_and_stops_by_policy(tmp_path: Path):
    with pytest.raises(SchemaError, match="perhaps:  --visit-column shop_id=store"):
        validated(tmp_path, "store,visited,minutes\n7,2024-03-01,1", {})
    text = "shop_id,visited,minutes\n7,2024-03-01,1500\n7,2024-03-02,5"
    with pytest.raises(SchemaError, match=r"visits\.policies\.too_long=drop"):
        validated(tmp_path, text, {"too_long": "error"})
    _, checked = validated(tmp_path, text.replace("-", "/"), {})
    assert checked.rejected.schema["source_row"] == pl.UInt32
    assert len(checked.rejected) == 1


def test_a_received_column_named_reason_does_not_hide_the_reasons(tmp_path: Path):
    frame = pl.DataFrame({"reason": ["7", None], "visited": "2024-03-01", "minutes": 1})
    frame.write_csv(tmp_path / "visits.csv")
    data = DataConfig()
    files = find_files(str(tmp_path / "visits.csv"), tmp_path)
    table = read_files(*files, data, tmp_path)
    parsed = parse_rows(table, {"shop_id": "reason"}, VISITS, data)
    rejected = Validation(parsed, parsed.rows).rejected
    assert rejected.columns[:3] == ["source_row", "reason", "reason_received"]
    assert rejected["reason"].to_list() == ["missing_shop"]
