"""What the dashboard reads: boards, versions, pages of entities and their moves."""

from __future__ import annotations

import asyncio

import polars as pl
import pytest

from core.reporting.board import Board, BoardAxis, BoardSegment
from core.store import AsyncReader, Store
from core.store.address import connect
from core.store.browsing import (
    PAGE_SIZE,
    EntityQuery,
    entity_page,
    stored_board,
    stored_entity,
    stored_versions,
)
from core.store.migrations import migrate

BOARD = Board(
    system="axes",
    title="Customer axes",
    entity="customer",
    created="2026-01-02T10:00:00",
    as_of="2026-01-01",
    headline="120 customers",
    axes=[BoardAxis("value", "Value", [BoardSegment("0", "high", 40, 1 / 3)])],
)
N = 120
MOVES = pl.DataFrame(
    {
        "customer_id": ["C-000", "C-000", "C-001"],
        "run": ["2025-12-01 (run 2)", "2026-01-01 (run 3)", "2026-01-01 (run 3)"],
        "axis": ["value"] * 3,
        "old": ["low", None, "low"],
        "new": ["high", "low", None],
        "cause": ["behaviour"] * 3,
    }
)


def customers(n: int) -> pl.DataFrame:
    """Return customers of whom every third is high, every other loyal; values fall."""
    number, low = pl.int_range(n), pl.lit("low")
    return pl.select(
        customer_id=pl.format("C-{}", number.cast(pl.String).str.zfill(3)),
        segment_memberships=pl.struct(
            value=pl.when(number % 3 == 0).then(pl.lit("high")).otherwise(low),
            rhythm=pl.when(number % 2 == 0).then(pl.lit("loyal")),
        ),
        membership_strengths=pl.struct(value=number / n),
        confidence=number / n,
        lifetime_value=pl.when(number > 0).then(1000.0 - number),
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with Store.open(None, tmp_path_factory.mktemp("browse") / "postgres") as opened:
        meta = {"system": "axes"}
        opened.publish("mine", 1, "line", b"", meta, customers(10))
        opened.publish("mine", 2, "line", b"", meta, customers(N), MOVES, BOARD)
        theirs = customers(3).with_columns(customer_id="X-" + pl.col("customer_id"))
        opened.publish("other", 1, "else", b"", meta, theirs)
        yield opened


def reading(store, ask, *values):
    async def run():
        async with AsyncReader(store.address) as reader:
            return await ask(reader, *values)

    return asyncio.run(run())


def page(store, **asked):
    return reading(store, entity_page, "mine", EntityQuery(**asked))


def test_a_board_comes_back_with_its_model(store):
    found = reading(store, stored_board, "mine")
    assert found.board == BOARD
    assert (found.system, found.version, found.lineage) == ("axes", 2, "line")
    assert found.stats["total_customers"] == N
    assert reading(store, stored_board, "other").board is None
    assert reading(store, stored_board, "nobody's") is None


def test_versions_are_told_the_newest_first(store):
    found = reading(store, stored_versions, "mine")
    assert [(v.version, v.is_current) for v in found] == [(2, True), (1, False)]
    assert [v.stats["total_customers"] for v in found] == [N, 10]


def test_pages_hold_every_entity_once(store):
    pages = [page(store, page=number) for number in (1, 2, 3, 4)]
    ids = [entity.id for part in pages for entity in part.entities]
    assert ids == [f"C-{number:03d}" for number in range(N)]
    assert [len(part.entities) for part in pages] == [PAGE_SIZE, PAGE_SIZE, 20, 0]
    assert {(part.n, part.n_pages) for part in pages} == {(N, 3)}
    assert page(store, page=-7) == pages[0]


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ({"sort": "id", "is_descending": True}, "C-119", "C-000"),
        ({"sort": "value", "is_descending": True}, "C-001", "C-000"),
        ({"sort": "value"}, "C-000", "C-001"),
        ({"sort": "strength"}, "C-000", "C-119"),
    ],
)
def test_entities_are_sorted_whole(store, asked, first, last):
    assert page(store, **asked).entities[0].id == first
    assert page(store, **asked, page=3).entities[-1].id == last


def test_search_and_segments_narrow_together(store):
    high = page(store, segments={"value": "high"})
    assert high.n == len(high.entities) == 40
    assert all(entity.segments["value"] == "high" for entity in high.entities)
    both = page(store, segments={"value": "high", "rhythm": "loyal"})
    assert both.n == len(both.entities) == 20
    found = page(store, search="c-01", segments={"value": "high"})
    assert [entity.id for entity in found.entities] == ["C-012", "C-015", "C-018"]
    assert found.n == 3
    assert found.entities[0].value == 988.0


@pytest.mark.parametrize(
    "asked",
    [
        {"search": "%"},
        {"search": "'; --"},
        {"search": "a\0b"},
        {"search": "\ud800"},
        {"search": "X-"},
        {"segments": {"value": "nothing"}},
        {"segments": {"weather": "rain"}},
        {"page": 10**12},
    ],
)
def test_what_is_not_there_is_an_empty_page(store, asked):
    assert page(store, **asked).entities == []


def test_an_entity_has_its_moves_the_newest_first(store):
    found = reading(store, stored_entity, "mine", "C-000")
    assert found.segments == {"value": "high", "rhythm": "loyal"}
    assert found.strengths == {"value": 0.0}
    assert [(move.run[:10], move.old, move.new) for move in found.moves] == [
        ("2026-01-01", None, "low"),
        ("2025-12-01", "low", "high"),
    ]
    assert reading(store, stored_entity, "mine", "X-C-000") is None
    assert reading(store, stored_entity, "other", "C-000") is None
    assert reading(store, stored_entity, "mine", "a\0b") is None


def test_moves_of_another_lineage_are_forgotten(store):
    store.publish("moved", 1, "one", b"", {}, customers(5), MOVES)
    store.publish("moved", 2, "one", b"", {}, customers(5))
    assert len(reading(store, stored_entity, "moved", "C-000").moves) == 2
    store.publish("moved", 1, "two", b"", {}, customers(5), MOVES.tail(1))
    assert reading(store, stored_entity, "moved", "C-000").moves == []
    assert len(reading(store, stored_entity, "moved", "C-001").moves) == 1
    assert len(reading(store, stored_entity, "mine", "C-000").moves) == 2


def test_a_store_of_an_earlier_version_has_no_boards_and_works(store, tmp_path):
    with connect(store.address, autocommit=True) as outside:
        outside.execute("CREATE DATABASE before")
    address = store.address.replace("/postgres?", "/before?")
    migrate(address, "0001")
    with connect(address) as old:
        old.execute(
            "INSERT INTO axis_models "
            "VALUES ('default', 'line', 3, true, 'd', '', '{}', %s)",
            ('{"total_customers": 7}',),
        )
    with Store.open(address, tmp_path) as opened:
        found = reading(opened, stored_board, "default")
        assert (found.board, found.system, found.version) == (None, "axes", 3)
        assert found.stats == {"total_customers": 7}
        opened.publish("default", 4, "line", b"", {}, customers(2), board=BOARD)
        assert reading(opened, stored_board, "default").board == BOARD
