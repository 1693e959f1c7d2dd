"""Odd cells in any table of a channel: a sentence, or every row accounted for."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_chain import of_customers

from core.channels.intake import account_lines, read_channels
from core.errors import SegmentsError
from core.resolve import build_config

ODD_CELLS = (
    "", " ", "NaN", "-", "1e400", "1,5", "1.234,5", "-7", "=1+1", "2024-13-45", "44587",
    "x" * 5_000, "{}", "true", "-0", "9" * 40, '"', "\\", "4.0E+12", "2025-03-30 02:30",
)  # fmt: skip
DAY = "2025-06-0{day} {hour:02d}:15"
TABLES = {
    "orders": {
        "order_id": "o{i}",
        "customer_id": "c{few}",
        "store_id": "s{few}",
        "order_time": DAY,
        "total_price": "{i}0",
        "discount_amount": "{few}",
        "dispatched_time": DAY,
        "delivered_time": DAY,
        "has_query": "yes",
    },
    "items": {
        "order_id": "o{half}",
        "item_id": "m{few}",
        "quantity": "{day}",
        "is_promo": "no",
        "header_item_id": "",
        "is_customised": "1",
    },
    "customers": {"customer_id": "c{i}", "central_id": "g{half}"},
    "catalog": {
        "item_id": "m{i}",
        "driver_category": "d{few}",
        "base_category": "b{half}",
        "is_veg": "no",
    },
    "stores": {"store_id": "s{i}", "city": "x"},
}


def _write(folder: Path, table: str, draw: np.random.Generator) -> str:
    """Write a table with some odd cells, and return where it is."""
    columns = TABLES[table]
    n = int(draw.integers(2, 30))
    rows = [
        [
            cell.format(i=i, few=i % 5, half=i // 2, day=1 + i % 9, hour=i % 24)
            for cell in columns.values()
        ]
        for i in range(n)
    ]
    for _ in range(int(draw.integers(0, 8))):
        row, column = draw.integers(n), draw.integers(len(columns))
        rows[int(row)][int(column)] = str(draw.choice(ODD_CELLS))
    path = folder / f"{table}.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([list(columns), *rows])
    return str(path)


@pytest.mark.parametrize("seed", range(12))
def test_odd_cells_end_in_a_sentence_or_are_accounted_for(tmp_path, seed):
    draw = np.random.default_rng(seed)
    paths = {table: _write(tmp_path, table, draw) for table in TABLES}
    source = {table: paths[table] for table in ("orders", "items", "customers")}
    section = {"sources": {"app": source}, "timezone": "Europe/Berlin"}
    section |= {table: paths[table] for table in ("catalog", "stores")}
    policy = {"scientific_id": "drop"}
    config = build_config({"channels": section, "data": {"policies": policy}})
    try:
        data = read_channels(config, tmp_path / "work")
    except SegmentsError:
        # A sentence: what no error of ours ends fails the test.
        return
    accounts = [*data.account["channels"]["app"].values()]
    accounts += [data.account["catalog"], data.account["stores"]]
    for account in accounts:
        assert account["rows_read"] == account["rows_kept"] + account["rows_set_aside"]
        assert account["rows_set_aside"] == sum(account["faults"].values())
    saved = pl.read_parquet(data.rejected)
    assert saved.height == sum(account["rows_set_aside"] for account in accounts)
    assert account_lines(data.account)
    customers = of_customers(data)
    assert customers["customer_id"].is_unique().all()
