"""The movement ledger: who is settled where, who moved, and what the model did."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from core.errors import ModelError, SchemaError
from core.segments.identity import match_segments
from core.segments.ledger import (
    LEDGER_SCHEMA,
    MEMORY_MONTHS,
    complete_block,
    ended_ids,
    known_by,
    published_block,
    serving_block,
)
from core.segments.transitions import (
    FLOW_SCHEMA,
    TRANSITIONS_SCHEMA,
    comparable_block,
    moved_within,
    stock_and_flow,
    transitions,
    transitions_within,
)

MONTHS = ("2024-01", "2024-02", "2024-03", "2024-04", "2024-05", "2024-06")


def labels(segments: Mapping[str, int]) -> pl.DataFrame:
    """Return assignments with a strength of 1, or 0 for the unassigned."""
    return pl.DataFrame(
        {
            "entity": list(segments),
            "segment": list(segments.values()),
            "strength": [0.0 if s == -1 else 1.0 for s in segments.values()],
        },
        schema={"entity": pl.String, "segment": pl.Int64, "strength": pl.Float64},
    )


def months_of(said: Sequence[int], confirm_months: int = 2) -> list[pl.DataFrame]:
    """Return the blocks of one shop that a model has in these segments."""
    blocks: list[pl.DataFrame] = []
    for month, segment in zip(MONTHS, said, strict=False):
        previous = blocks[-1] if blocks else None
        assigned = labels({"bakery": segment})
        blocks.append(serving_block(assigned, month, 1, previous, confirm_months))
    return blocks


def settled(blocks: Sequence[pl.DataFrame]) -> list[int]:
    """Return where the only shop is settled, month by month."""
    return [block["settled"].item() for block in blocks]


def blocks_within(
    *said: tuple[int, str | None], version: int = 1
) -> list[pl.DataFrame]:
    """Return the blocks of one shop in these segments and sub-segments."""
    return [
        serving_block(
            labels({"bakery": segment}).with_columns(sub_segment=pl.lit(part)),
            month,
            version,
            None,
            2,
        )
        for month, (segment, part) in zip(MONTHS, said, strict=False)
    ]


@pytest.mark.parametrize(
    ("said", "moved"),
    [
        ([(2, "2a"), (2, "2b"), (2, "2b")], [("bakery", "2a", "2b")]),
        ([(2, "2a"), (2, "2a"), (2, "2b")], []),  # not confirmed yet
        ([(2, "2a"), (2, "2b"), (2, "2b"), (2, "2b")], []),  # a month ago
        ([(2, "2a"), (3, "3b"), (3, "3b")], []),  # into another segment
        ([(2, None), (2, "2b"), (2, "2b")], []),
        ([(2, "2b"), (2, "2b")], []),  # too few months
    ],
)
def test_a_shop_moves_within_its_segment_when_it_stays_where_it_went(said, moved):
    found = moved_within(blocks_within(*said), 2)
    assert found.rows() == moved


def test_a_change_of_the_model_moves_nobody_within_a_segment():
    blocks = blocks_within((2, "2a"), (2, "2b"), (2, "2b"))
    new = blocks_within((2, "2a"), (2, "2b"), (2, "2b"), version=2)
    assert moved_within([blocks[0], *new[1:]], 2).is_empty()
    # One that is published this month says nothing of the month itself.
    published = new[2].with_columns(role=pl.lit("published"), sub_segment=pl.lit("2a"))
    assert moved_within([*blocks, published], 2).height == 1


def test_moves_within_segments_are_counted_apart_from_moves_between_them():
    before, after = blocks_within((2, "2a"), (2, "2b"))
    assert transitions_within(before, after).rows() == [("2a", "2b", 1)]
    elsewhere = blocks_within((2, "2a"), (3, "3a"))[1]
    assert transitions_within(before, elsewhere).is_empty()


NOT_TOLD = dict.fromkeys(list(LEDGER_SCHEMA)[10:])


def test_a_block_has_the_ledger_s_columns_and_is_sorted_by_entity():
    block = serving_block(labels({"b": 4, "a": -1}), "2024-01", 3, None, 2)
    assert block.schema == LEDGER_SCHEMA
    assert block.to_dicts() == [
        {
            "month": "2024-01",
            "entity": "a",
            "segment": -1,
            "strength": 0.0,
            "version": 3,
            "role": "serving",
            "settled": -1,
            "settled_since": None,
            "candidate": -1,
            "candidate_months": 0,
            **NOT_TOLD,
        },
        {
            "month": "2024-01",
            "entity": "b",
            "segment": 4,
            "strength": 1.0,
            "version": 3,
            "role": "serving",
            "settled": 4,
            "settled_since": "2024-01",
            "candidate": -1,
            "candidate_months": 0,
            **NOT_TOLD,
        },
    ]


def test_a_block_has_the_sub_segments_and_states_of_its_month():
    told = labels({"a": 0, "b": 1}).with_columns(
        sub_segment=pl.Series(["0a", None]), state=pl.Series(["active", "slowing"])
    )
    january = serving_block(told, "2024-01", 1, None, 2)
    assert january["sub_segment"].to_list() == ["0a", None]
    assert january["state"].to_list() == ["active", "slowing"]
    february = serving_block(labels({"a": 0, "b": 1}), "2024-02", 1, january, 2)
    assert february["state"].to_list() == [None, None]


def evident(month: str, to: int, odds: float, *, is_clear: bool) -> pl.DataFrame:
    """Return what the months of the only shop, a bakery, say."""
    row = {"changing": "segment", "changing_to": to, "changing_since": month}
    row = row if odds > 3 else dict.fromkeys(row)
    told = {"entity": "bakery", **row, "evidence": odds, "is_clear": is_clear}
    types = {name: LEDGER_SCHEMA[name] for name in row}
    return pl.DataFrame([told], schema_overrides=types)


def refreshed(
    previous: pl.DataFrame | None, month: str, label: int, *changes: pl.DataFrame
) -> pl.DataFrame:
    """Return the next block of the bakery."""
    return serving_block(labels({"bakery": label}), month, 1, previous, 2, 0, *changes)


def moved_by_evidence() -> pl.DataFrame:
    """Return the block of February, in which the bakery moves from 0 to 5."""
    january = refreshed(None, "2024-01", 0)
    clear = evident("2023-11", 5, 12.0, is_clear=True)
    return refreshed(january, "2024-02", 0, clear)


def test_clear_evidence_moves_before_the_label_does():
    february = moved_by_evidence().row(0, named=True)
    assert february["segment"] == 0
    assert (february["settled"], february["settled_since"]) == (5, "2024-02")
    assert february["evidence_from"] == 0
    told = february["changing"], february["changing_to"], february["changing_since"]
    assert told == ("segment", 5, "2023-11")
    known = known_by(labels({"bakery": 0}), moved_by_evidence(), 1)
    assert known["segment"].to_list() == [0]


def test_evidence_that_is_not_clear_moves_nobody():
    january = refreshed(None, "2024-01", 0)
    weak = evident("2023-11", 5, 4.0, is_clear=False)
    february = refreshed(january, "2024-02", 0, weak)
    assert february["settled"].item() == 0
    assert february["changing_to"].item() == 5


def test_the_label_left_behind_does_not_pull_back_until_it_has_seen_enough():
    block = moved_by_evidence()
    for number in range(2, 1 + MEMORY_MONTHS):
        month = f"{2024 + number // 12}-{number % 12 + 1:02d}"
        block = refreshed(block, month, 0)
        assert block["settled"].item() == 5, month
    block = refreshed(refreshed(block, "2026-02", 0), "2026-03", 0)
    assert block["settled"].item() == 0


@pytest.mark.parametrize(("label", "settled"), [(5, 5), (7, 7), (-1, 5)])
def test_other_labels_than_the_one_left_behind_count_as_ever(label, settled):
    march = refreshed(moved_by_evidence(), "2024-03", label)
    april = refreshed(march, "2024-04", label)
    assert april["settled"].item() == settled
    assert april["evidence_from"].item() == (0 if label == -1 else None)


def test_a_label_that_agrees_ends_the_memory():
    agreed = refreshed(moved_by_evidence(), "2024-03", 5)
    back = refreshed(refreshed(agreed, "2024-04", 0), "2024-05", 0)
    assert back["settled"].item() == 0


def test_evidence_that_turns_moves_back_while_it_looks_at_these_months():
    turned = evident("2024-03", 5, -1.0, is_clear=False)
    march = refreshed(moved_by_evidence(), "2024-03", 0, turned)
    assert march.select("settled", "evidence_from").row(0) == (0, None)
    block = moved_by_evidence()
    for number in range(3, 9):
        block = refreshed(block, f"2024-{number:02d}", 0)
    late = refreshed(block, "2024-09", 0, turned)
    assert late["settled"].item() == 5


@pytest.mark.parametrize(
    ("ids", "expected"),
    [({0: 8}, (5, 8, 5)), ({0: -1}, (5, None, 5)), ({5: 9}, (9, 0, 9))],
)
def test_a_new_model_keeps_what_evidence_has_moved(ids, expected):
    weak = labels({"bakery": 7}).with_columns(strength=0.1)
    published = published_block(weak, moved_by_evidence(), 2, ids, 2, 0.5)
    found = published.select("settled", "evidence_from", "changing_to").row(0)
    assert found == expected


def test_a_block_of_an_earlier_version_is_gone_on_from():
    written = serving_block(labels({"a": 0}), "2024-01", 1, None, 2).drop(NOT_TOLD)
    before = complete_block(written)
    assert before.schema == LEDGER_SCHEMA
    assert serving_block(labels({"a": 5}), "2024-02", 1, before, 2)["settled"][0] == 0


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param([0, 1, 1], [0, 0, 1], id="two months running move"),
        pytest.param([0, 1, 0, 1], [0, 0, 0, 0], id="a month at home breaks the run"),
        pytest.param([0, 1, 2, 1], [0, 0, 0, 0], id="so does a third segment"),
        pytest.param([0, 1, -1, 1], [0, 0, 0, 0], id="and an unassigned month"),
        pytest.param([0, -1, -1, -1], [0, 0, 0, 0], id="unassigned never moves"),
        pytest.param([-1, -1, 3], [-1, -1, 3], id="the first assigned month settles"),
        pytest.param([0, 1, 1, 0, 0], [0, 0, 1, 1, 0], id="the way back takes as long"),
    ],
)
def test_an_entity_moves_after_two_months_running_in_the_same_other_segment(
    said, expected
):
    assert settled(months_of(said)) == expected


def test_with_one_month_of_confirmation_every_assigned_month_decides():
    assert settled(months_of([0, 1, -1, 2], confirm_months=1)) == [0, 1, 1, 2]


def test_with_three_months_of_confirmation_two_are_not_enough():
    assert settled(months_of([0, 1, 1, 0, 1, 1, 1], 3)) == [0, 0, 0, 0, 0, 0]
    assert settled(months_of([0, 1, 1, 1], 3)) == [0, 0, 0, 1]


def test_a_month_that_is_weak_in_another_segment_moves_nobody():
    strengths = [0.9, 0.4, 0.5, 0.5]
    blocks: list[pl.DataFrame] = []
    for number, strength in enumerate(strengths):
        said = labels({"bakery": 0 if number == 0 else 1})
        said = said.with_columns(strength=pl.lit(strength))
        previous = blocks[-1] if blocks else None
        month = f"2024-{number + 1:02}"
        blocks.append(serving_block(said, month, 1, previous, 2, 0.5))
    # April is the second strong month running.
    assert settled(blocks) == [0, 0, 0, 1]


def test_a_shop_settles_only_where_a_segment_holds_it():
    weak = labels({"bakery": 4}).with_columns(strength=pl.lit(0.4))
    january = serving_block(weak, "2024-01", 1, None, 2, 0.5)
    assert january["settled"].to_list() == [-1]
    assert january["segment"].to_list() == [4]
    february = serving_block(labels({"bakery": 4}), "2024-02", 1, january, 2, 0.5)
    assert february["settled"].to_list() == [4]


def test_a_weak_shop_of_an_ended_segment_follows_the_one_that_took_over():
    january = serving_block(labels({"bakery": 4}), "2024-01", 1, None, 2, 0.5)
    weak = labels({"bakery": 2}).with_columns(strength=pl.lit(0.4))
    published = published_block(weak, january, 2, {4: 1}, 2, 0.5)
    assert published["settled"].to_list() == [1]


def test_settled_since_is_the_month_of_the_confirmation():
    since = [block["settled_since"].item() for block in months_of([-1, 0, 1, 1, 1])]
    assert since == [None, "2024-02", "2024-02", "2024-04", "2024-04"]


def test_who_was_away_for_a_month_starts_anew():
    first = serving_block(labels({"a": 0, "b": 0}), "2024-01", 1, None, 2)
    second = serving_block(labels({"a": 0}), "2024-02", 1, first, 2)
    third = serving_block(labels({"a": 0, "b": 5}), "2024-03", 1, second, 2)
    assert third["settled"].to_list() == [0, 5]


def test_a_month_that_was_never_refreshed_does_not_break_a_run():
    january, february = months_of([0, 1])
    april = serving_block(labels({"bakery": 1}), "2024-04", 1, february, 2)
    assert settled([january, february, april]) == [0, 0, 1]


def test_the_order_of_rows_changes_nothing():
    names = {f"shop-{i}": i % 4 - 1 for i in range(50)}
    moved = {name: (segment + 2) % 3 for name, segment in names.items()}

    def block(*, reverse: bool) -> pl.DataFrame:
        first, second = (
            part.reverse() if reverse else part
            for part in (labels(names), labels(moved))
        )
        before = serving_block(first, "2024-01", 1, None, 2)
        return serving_block(
            second, "2024-02", 1, before.reverse() if reverse else before, 2
        )

    assert_frame_equal(block(reverse=False), block(reverse=True))


def test_a_new_model_moves_nobody_whose_segment_lives_on():
    serving = serving_block(labels({"a": 0, "b": 0}), "2024-01", 1, None, 2)
    published = published_block(labels({"a": 0, "b": 7}), serving, 2, {}, 2)
    assert published["settled"].to_list() == [0, 0]
    assert published["segment"].to_list() == [0, 7]
    # The month of the publication is the first of the run.
    later = serving_block(labels({"a": 0, "b": 7}), "2024-02", 2, published, 2)
    assert later["settled"].to_list() == [0, 7]


def test_the_members_of_a_merged_segment_follow_at_once():
    shops = {"stays": 1, "merged": 4, "elsewhere": 4, "unassigned": 4}
    serving = serving_block(labels(shops), "2024-01", 1, None, 2)
    said = {"stays": 1, "merged": 1, "elsewhere": 2, "unassigned": -1}
    published = published_block(labels(said), serving, 2, {4: 1}, 2)
    assert dict(published.select("entity", "settled").iter_rows()) == {
        "stays": 1,
        "merged": 1,
        "elsewhere": 2,
        "unassigned": 1,
    }


def test_who_was_in_a_segment_that_died_is_settled_where_the_new_model_has_it():
    serving = serving_block(labels({"a": 3, "b": 3}), "2024-01", 1, None, 2)
    published = published_block(labels({"a": 0, "b": -1}), serving, 2, {3: -1}, 2)
    assert published["settled"].to_list() == [0, -1]
    assert published["settled_since"].to_list() == ["2024-01", None]


def test_what_ended_is_read_off_the_events_of_a_change():
    # Segment 0 survives, 1 swallows 2, 3 is split, 4 dissolves among all and none.
    old = np.repeat([0, 1, 2, 3, 4], [40, 40, 20, 40, 9])
    new = np.repeat([0, 1, 2, 3, 0, 1, -1], [40, 60, 21, 19, 2, 2, 5])
    identity = match_segments(old, new, next_id=5)
    assert sorted(event.kind for event in identity.events) == [
        "died",
        "merged",
        "split",
        "survived",
    ]
    assert ended_ids(identity.events) == {2: 1, 4: -1}


def test_where_nothing_ended_nobody_has_to_move():
    labels_of_rows = np.repeat([0, 1, 4], 10)
    unchanged = match_segments(labels_of_rows, np.repeat([2, 0, 1], 10), next_id=5)
    assert ended_ids(unchanged.events) == {}
    assert ended_ids([]) == {}


def test_a_candidate_is_counted_once_in_a_month_with_two_models():
    january, february = months_of([0, 1])
    published = published_block(labels({"bakery": 1}), february, 2, {}, 2)
    assert published.select("settled", "candidate", "candidate_months").row(0) == (
        0,
        1,
        1,
    )
    march = serving_block(labels({"bakery": 1}), "2024-03", 2, published, 2)
    assert settled([january, published, march]) == [0, 0, 1]


def test_a_candidate_whose_segment_was_merged_keeps_its_months():
    blocks = months_of([0, 5])
    published = published_block(labels({"bakery": 2}), blocks[-1], 2, {5: 2}, 2)
    assert published["candidate"].item() == 2
    march = serving_block(labels({"bakery": 2}), "2024-03", 2, published, 2)
    assert march["settled"].item() == 2


def test_both_blocks_of_the_month_before_may_be_given_and_the_own_version_counts():
    serving = serving_block(labels({"a": 0}), "2024-01", 1, None, 2)
    published = published_block(labels({"a": 4}), serving, 2, {0: -1}, 2)
    both = pl.concat([serving, published])
    after = serving_block(labels({"a": 4}), "2024-02", 2, both, 2)
    rolled_back = serving_block(labels({"a": 0}), "2024-02", 1, both, 2)
    other = serving_block(labels({"a": -1}), "2024-02", 3, both, 2)
    assert settled([after, rolled_back, other]) == [4, 0, 4]


def test_a_block_goes_to_parquet_and_back(tmp_path):
    block = serving_block(labels({"a": 0, "b": -1}), "2024-01", 1, None, 2)
    path = tmp_path / "ledger-2024-01-v1.parquet"
    block.write_parquet(path)
    read = pl.read_parquet(path)
    assert_frame_equal(read, block)
    assert serving_block(labels({"a": 0}), "2024-02", 1, read, 2).height == 1


def test_transitions_count_who_went_where_who_came_and_who_left():
    before = serving_block(
        labels({"a": 0, "b": 0, "c": -1, "gone": 1}), "2024-01", 1, None, 2
    )
    after = serving_block(
        labels({"a": 0, "b": 1, "c": 1, "new": -1}), "2024-02", 1, before, 2
    )
    counted = transitions(before, after)
    assert counted.schema == TRANSITIONS_SCHEMA
    assert counted.rows() == [
        (-1, 1, 1, 1),
        (0, 0, 1, 2),
        (0, 1, 1, 0),
        (1, None, 1, 1),
        (None, -1, 1, 1),
    ]


def test_real_movement_and_model_change_are_told_apart():
    january = serving_block(labels({"a": 0, "b": 0, "c": 1}), "2024-01", 1, None, 2)
    serving = serving_block(labels({"a": 0, "b": 1, "c": 1}), "2024-02", 1, january, 2)
    published = published_block(labels({"a": 5, "b": 1, "c": 1}), serving, 2, {}, 2)
    table = stock_and_flow([january, serving, published])
    assert table.schema == FLOW_SCHEMA
    assert table.rows() == [
        ("2024-01", 1, 0, 2, 2, 0, 0, 0, 0, 0),
        ("2024-01", 1, 1, 1, 1, 0, 0, 0, 0, 0),
        ("2024-02", 2, 0, 0, 0, 0, 0, 1, 0, 1),
        ("2024-02", 2, 1, 2, 0, 0, 1, 0, 0, 0),
        ("2024-02", 2, 5, 1, 0, 0, 0, 0, 1, 0),
    ]


def test_after_a_rollback_going_back_is_model_change_and_going_on_is_movement():
    january = serving_block(labels({"a": 0, "b": 0}), "2024-01", 1, None, 2)
    published = published_block(labels({"a": 3, "b": 3}), january, 2, {0: 3}, 2)
    february = serving_block(
        labels({"a": 0, "b": 1}), "2024-02", 1, pl.concat([january, published]), 2
    )
    table = stock_and_flow([january, published, february])
    assert comparable_block([january, published], february) is january
    assert table.filter(pl.col("month") == "2024-02").rows() == [
        ("2024-02", 1, 0, 1, 0, 0, 0, 1, 2, 0),
        ("2024-02", 1, 1, 1, 0, 0, 1, 0, 0, 0),
        ("2024-02", 1, 3, 0, 0, 0, 0, 0, 0, 2),
    ]


def test_what_cannot_be_told_apart_counts_as_model_change():
    january = serving_block(labels({"a": 0}), "2024-01", 1, None, 2)
    february = serving_block(labels({"a": 2}), "2024-02", 2, january, 2)
    table = stock_and_flow([january, february]).filter(pl.col("month") == "2024-02")
    assert comparable_block([january], february) is None
    assert table.select("segment", "moved_in", "model_in", "model_out").rows() == [
        (0, 0, 0, 1),
        (2, 0, 1, 0),
    ]


def test_no_blocks_give_an_empty_table():
    table = stock_and_flow([])
    assert table.is_empty()
    assert table.schema == FLOW_SCHEMA


SHOPS = tuple("abcdefgh")
SEGMENTS = st.integers(-1, 4)
FLOWS = ("entered", "left", "moved_in", "moved_out", "model_in", "model_out")


@st.composite
def ledgers(draw: st.DrawFn) -> list[pl.DataFrame]:
    """Draw months of coming, going, moving, publishing and rolling back."""
    blocks: list[pl.DataFrame] = []
    previous: list[pl.DataFrame] = []
    version = newest = 1
    confirm_months = draw(st.integers(1, 3))
    for month in MONTHS[: draw(st.integers(1, 6))]:
        shops = draw(st.lists(st.sampled_from(SHOPS), min_size=1, unique=True))
        said = labels({shop: draw(SEGMENTS) for shop in shops})
        known = pl.concat(previous) if previous else None
        current = [serving_block(said, month, version, known, confirm_months)]
        if draw(st.booleans()):
            newest += 1
            said = labels({shop: draw(SEGMENTS) for shop in shops})
            current.append(
                published_block(said, current[0], newest, {}, confirm_months)
            )
            version = newest
        if draw(st.booleans()):
            version = draw(st.integers(1, newest))
        blocks += current
        previous = current
    return blocks


def stocks_and_flows_add_up(blocks):
    table = stock_and_flow(blocks)
    stocks: dict[int, int] = {}
    for month in sorted(set(table["month"])):
        rows = table.filter(pl.col("month") == month).to_dicts()
        for row in rows:
            net = (
                row["entered"]
                - row["left"]
                + row["moved_in"]
                - row["moved_out"]
                + row["model_in"]
                - row["model_out"]
            )
            assert row["stock"] == stocks.get(row["segment"], 0) + net
        now = {row["segment"]: row["stock"] for row in rows}
        # A segment that has no row in a month had nobody in it before either.
        assert all(n == 0 for segment, n in stocks.items() if segment not in now)
        stocks = now
        end = [block for block in blocks if block["month"][0] == month][-1]
        held = dict(end.group_by("segment").len().iter_rows())
        assert {segment: n for segment, n in stocks.items() if n} == held


def who_moves_out_moves_in_elsewhere(blocks):
    sums = stock_and_flow(blocks).group_by("month").agg(pl.col(FLOWS).sum())
    assert (sums["moved_in"] == sums["moved_out"]).all()
    assert (sums["model_in"] == sums["model_out"]).all()


def transitions_hold_every_entity_once_by_either_count(blocks):
    for before, after in itertools.pairwise(blocks):
        counted = transitions(before, after)
        everybody = len(set(before["entity"]) | set(after["entity"]))
        assert counted["n"].sum() == counted["n_settled"].sum() == everybody
        assert counted.select("from", "to").is_unique().all()


def only_what_a_model_said_of_an_entity_is_settled(blocks):
    # With no segment ended, a settled segment was once the label of the entity.
    said: dict[str, set[int]] = {}
    for block in blocks:
        for row in block.iter_rows(named=True):
            said.setdefault(row["entity"], set()).add(row["segment"])
            assert row["settled"] == -1 or row["settled"] in said[row["entity"]]
            assert (row["settled"] == -1) == (row["settled_since"] is None)
            assert (row["candidate"] == -1) == (row["candidate_months"] == 0)


@given(ledgers())
def test_what_holds_for_every_ledger(blocks):
    # Together, since making a ledger takes longer than looking at it.
    stocks_and_flows_add_up(blocks)
    who_moves_out_moves_in_elsewhere(blocks)
    transitions_hold_every_entity_once_by_either_count(blocks)
    only_what_a_model_said_of_an_entity_is_settled(blocks)


@pytest.mark.parametrize(
    ("assigned", "message"),
    [
        (
            pl.DataFrame({"entity": ["a"], "segment": [0]}),
            "the assignments of 2024-01 have no `strength`",
        ),
        (
            pl.DataFrame({"entity": ["a"], "segment": [0.5], "strength": [1.0]}),
            "have the types `entity`: String, `segment`: Float64",
        ),
        (
            pl.DataFrame({"entity": [], "segment": [], "strength": []}).cast(
                {"entity": pl.String, "segment": pl.Int64, "strength": pl.Float64}
            ),
            "hold no entities",
        ),
        (
            pl.DataFrame(
                {"entity": ["a", "a"], "segment": [0, 1], "strength": [1.0, 1.0]}
            ),
            "hold 1 entities more than once: `a`",
        ),
        (
            pl.DataFrame({"entity": ["a"], "segment": [-2], "strength": [1.0]}),
            "have the segment -2 in 1 rows",
        ),
        (
            pl.DataFrame(
                {"entity": ["a", "b"], "segment": [0, None], "strength": [1.0, 1.0]}
            ),
            "have no `segment` in 1 of 2 rows",
        ),
        (
            pl.DataFrame({"entity": ["a"], "segment": [0], "strength": [math.nan]}),
            "have the strength nan in 1 rows; expected 0 to 1",
        ),
    ],
)
def test_assignments_that_do_not_fit_are_refused(assigned, message):
    with pytest.raises(SchemaError, match=re.escape(message)):
        serving_block(assigned, "2024-01", 1, None, 2)


@pytest.mark.parametrize(
    ("month", "version", "confirm_months", "message"),
    [
        ("2024-13", 1, 2, "the month is `2024-13`; expected YYYY-MM"),
        ("2024-01", 0, 2, "`version` is 0; expected at least 1"),
        ("2024-01", 1, 0, "`confirm_months` is 0; expected at least 1"),
    ],
)
def test_options_that_cannot_be_are_refused(month, version, confirm_months, message):
    with pytest.raises(ModelError, match=message):
        serving_block(labels({"a": 0}), month, version, None, confirm_months)


def test_blocks_that_are_none_are_refused():
    block = serving_block(labels({"a": 0, "b": 0}), "2024-01", 1, None, 2)
    strange = {
        "columns: `settled`": block.drop("settled"),
        "columns: `version`": block.cast({"version": pl.Int64}),
        "columns: `colour`": block.with_columns(colour=pl.lit("red")),
        "holds 0 combinations": block.clear(),
        "holds 2 combinations": pl.concat([block, months_of([0, 0])[-1]]),
        "has the role `guest`": block.with_columns(role=pl.lit("guest")),
        "2024-01, version 1, hold 2 entities more": pl.concat([block, block]),
    }
    for message, table in strange.items():
        with pytest.raises(SchemaError, match=message):
            transitions(table, block)


def test_months_out_of_order_are_refused():
    january, february = months_of([0, 0])
    with pytest.raises(
        SchemaError, match="block of 2024-01 comes after one of 2024-02"
    ):
        stock_and_flow([february, january])
    with pytest.raises(SchemaError, match="of 2024-02, and the new one of 2024-01"):
        serving_block(labels({"bakery": 0}), "2024-01", 1, february, 2)
    with pytest.raises(SchemaError, match="expected an earlier month"):
        serving_block(labels({"bakery": 0}), "2024-02", 1, february, 2)
    both = pl.concat([january, february.with_columns(version=pl.lit(2, pl.Int32))])
    with pytest.raises(SchemaError, match="of `2024-01`, `2024-02`; expected one"):
        serving_block(labels({"bakery": 0}), "2024-03", 1, both, 2)


def test_blocks_of_one_month_that_do_not_fit_each_other_are_refused():
    serving = serving_block(labels({"a": 0, "b": 0}), "2024-01", 1, None, 2)
    fewer = published_block(
        labels({"a": 0}), serving.filter(pl.col("entity") == "a"), 2, {}, 2
    )
    with pytest.raises(SchemaError, match="twice with version 1"):
        stock_and_flow([serving, serving])
    with pytest.raises(
        SchemaError, match="has the role `serving` and is not the first"
    ):
        stock_and_flow([fewer, serving])
    with pytest.raises(SchemaError, match="in one of two blocks of 2024-01 only: `b`"):
        stock_and_flow([serving, fewer])
    with pytest.raises(SchemaError, match="in one of two blocks of 2024-01 only: `b`"):
        published_block(labels({"a": 0}), serving, 2, {}, 2)
    with pytest.raises(SchemaError, match="with version 1 already"):
        published_block(labels({"a": 0, "b": 0}), serving, 1, {}, 2)
    with pytest.raises(ModelError, match="`0` ended, but version 2"):
        published_block(labels({"a": 0, "b": 0}), serving, 2, {0: -1}, 2)
