"""The ledger of retailers in the store: a copy that only ever grows."""

from __future__ import annotations

import polars as pl
import pytest

from core.errors import StoreError
from core.segments.ledger import published_block, serving_block
from core.store import Store
from core.store.publish import has_store, publish_ledger


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("ledger") / "postgres"
    with Store.open(None, path):  # one server for all tests of this module
        yield path


def labels(segments: dict[str, int]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "entity": list(segments),
            "segment": list(segments.values()),
            "strength": [0.0 if s == -1 else 0.75 for s in segments.values()],
        }
    )


def test_blocks_are_added_once_and_never_rewritten(folder):
    january = serving_block(labels({"a\tb": 0, "b": -1}), "2024-01", 1, None, 2)
    active = labels({"a\tb": 1}).with_columns(state=pl.lit("active"))
    february = serving_block(active, "2024-02", 1, january, 2)
    refit = published_block(labels({"a\tb": 2}), february, 2, {0: 2, 1: 2}, 2)
    assert publish_ledger(None, folder, "lineage", [january]) == 1
    assert publish_ledger(None, folder, "lineage", [january, february, refit]) == 2
    other = january.with_columns(segment=pl.lit(7, pl.Int32))
    assert publish_ledger(None, folder, "lineage", [other]) == 0
    with Store.open(None, folder) as store:
        names, rows = store.query(
            "SELECT month, version, role, entity, segment, strength, settled, state "
            "FROM segment_ledger ORDER BY month, version, entity"
        )
    assert names[0] == "month"
    assert rows == [
        ("2024-01", 1, "serving", "a\tb", 0, 0.75, 0, None),
        ("2024-01", 1, "serving", "b", -1, 0.0, -1, None),
        ("2024-02", 1, "serving", "a\tb", 1, 0.75, 0, "active"),
        ("2024-02", 2, "published", "a\tb", 2, 0.75, 2, None),
    ]


def test_there_is_a_store_where_one_was_chosen_or_made(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert has_store(None, folder)
    assert not has_store(None, tmp_path / "postgres")
    assert has_store("postgresql://ann@db/shop", tmp_path / "postgres")
    with pytest.raises(StoreError, match="not the address of a PostgreSQL server"):
        has_store("mysql://ann@db/shop", tmp_path)
