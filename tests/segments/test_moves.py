"""Who moved between two runs, and whether they or the model did."""

from __future__ import annotations

import numpy as np
import polars as pl

from core.segments.axes import OUTSIDE
from core.segments.moves import (
    MOVES_SCHEMA,
    label_table,
    ledger_block,
    move_counts,
    moves_between,
)

ANNA, BERT, CARL = "anna", "bert", "carl"
NAMES = {"purchase_value": {-1: "not_enough_orders", 0: "regular", 1: "whale"}}


def labels(customers, **axes):
    ids = {axis: np.array(own, dtype=np.int64) for axis, own in axes.items()}
    return label_table(pl.Series(customers), ids)


def test_only_customers_in_another_segment_have_moved():
    may = labels([ANNA, BERT, CARL], purchase_value=[0, 0, -1])
    june = labels([CARL, BERT, ANNA], purchase_value=[0, 0, 1])
    moves = moves_between(may, june, "behaviour")
    assert moves.sort("customer_id").rows() == [
        (ANNA, "purchase_value", 0, 1, "behaviour"),
        (CARL, "purchase_value", -1, 0, "behaviour"),
    ]


def test_who_is_new_or_gone_has_not_moved():
    may = labels([ANNA, BERT], purchase_value=[0, 0])
    june = labels([BERT, CARL], purchase_value=[0, 1])
    assert moves_between(may, june, "behaviour").is_empty()


def test_an_axis_of_one_model_only_moves_nobody():
    before = labels([ANNA], purchase_value=[0])
    after = labels([ANNA], price_sensitivity=[1])
    assert moves_between(before, after, "model").is_empty()


def test_a_block_names_segments_and_keeps_causes_apart():
    may = labels([ANNA, BERT], purchase_value=[0, 0])
    june = labels([ANNA, BERT], purchase_value=[1, 0])
    june_anew = labels([ANNA, BERT], purchase_value=[0, 0])
    moves = pl.concat(
        [
            moves_between(may, june, "behaviour"),
            moves_between(june, june_anew, "model"),
        ]
    )
    block = ledger_block(
        moves, NAMES, run=2, reference_date="2026-06-30T00:00:00", version=2
    )
    assert block.schema == MOVES_SCHEMA
    said = block.select("customer_id", "old_name", "new_name", "cause").rows()
    assert said == [
        (ANNA, "regular", "whale", "behaviour"),
        (ANNA, "whale", "regular", "model"),
    ]
    assert move_counts(block) == {"purchase_value": {"behaviour": 1, "model": 1}}


def test_a_run_without_moves_still_has_a_block():
    may = labels([ANNA], purchase_value=[0])
    block = ledger_block(
        moves_between(may, may, "behaviour"),
        NAMES,
        run=2,
        reference_date="2026-06-30T00:00:00",
        version=1,
    )
    assert block.is_empty()
    assert block.schema == MOVES_SCHEMA


def test_who_comes_into_an_axis_or_out_of_it_has_not_moved_within_it():
    before = labels([ANNA, BERT, CARL], regulars=[0, OUTSIDE, 1])
    after = labels([ANNA, BERT, CARL], regulars=[OUTSIDE, 1, 0])
    moves = moves_between(before, after, "behaviour")
    assert moves.rows() == [(CARL, "regulars", 1, 0, "behaviour")]
