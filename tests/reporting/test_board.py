"""Tests of what a run tells the dashboard."""

import json

import pytest

from core.errors import StoreError
from core.reporting.board import (
    Board,
    BoardAxis,
    BoardDrift,
    BoardFlow,
    BoardPeriod,
    BoardSegment,
    BoardVerdict,
)

HARBOUR = BoardSegment(
    id="1",
    name="Summer / Large",
    n=30,
    share=0.6,
    kind="natural",
    value_share=0.8,
    trend="sales 12% up",
    apart=["sells most in July", "large"],
    actions=["Order early"],
    how_sure="clear",
    curve=[("2025-07", 1.4), ("2025-08", 1.2)],
)
BOARD = Board(
    system="retailers",
    title="Segments of shops",
    entity="shop",
    created="2026-01-02T10:00:00",
    as_of="2025-12-31",
    headline="50 of 60 shops could be segmented",
    axes=[
        BoardAxis(
            "segment",
            "Segment",
            [HARBOUR, BoardSegment("1a", "Summer / Large: growing", 10, 0.2, "1")],
        )
    ],
    verdict=BoardVerdict("natural", "Natural segments"),
    tiles=[("Shops", "50")],
    periods=[BoardPeriod("2025-12", 1, {"segment": {"Summer / Large": 30}})],
    flows=[BoardFlow("state", "2025-12", "active", "lapsed", 2)],
    drift=[BoardDrift("number of orders", "0.31", "changed much", is_alert=True)],
    rules=[("Summer / Large", "share of July above 20%")],
    scorecard=["The segments tell of later sales."],
)


def test_a_board_comes_back_as_it_went():
    assert Board.from_json(BOARD.to_json()) == BOARD


def test_a_board_of_another_version_is_read_as_far_as_it_is_known():
    kept = json.loads(BOARD.to_json())
    kept["weather"] = {"tomorrow": "rain"}
    kept["axes"][0]["segments"][0]["colour"] = "blue"
    del kept["drift"], kept["axes"][0]["segments"][0]["apart"]
    read = Board.from_json(json.dumps(kept))
    assert read.drift == []
    assert read.axes[0].segments[0].apart == []
    assert read.periods == BOARD.periods


def test_what_is_no_board_is_refused_by_its_place():
    kept = json.loads(BOARD.to_json())
    kept["axes"][0]["segments"][0]["n"] = "many"
    with pytest.raises(StoreError, match=r"axes\.0\.segments\.0\.n"):
        Board.from_json(json.dumps(kept))
    with pytest.raises(StoreError, match="cannot be read"):
        Board.from_json("[]")
