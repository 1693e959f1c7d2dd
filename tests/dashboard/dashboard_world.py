"""A store for the tests of the dashboard: a board and a few shops, made by hand."""

from __future__ import annotations

from typing import Any

import polars as pl

from core.reporting.board import (
    Board,
    BoardAxis,
    BoardDrift,
    BoardFlow,
    BoardPeriod,
    BoardSegment,
    BoardVerdict,
)
from core.store import Store

SUMMER, STEADY = "Summer / <b>Large</b>", "Steady all year"
MONTHS = ("2025-10", "2025-11", "2025-12")
BOARD = Board(
    system="retailers",
    title="Segments of shops",
    entity="shop",
    created="2026-01-02T10:00:00",
    as_of="2025-12-31",
    headline="120 of 130 shops could be segmented",
    axes=[
        BoardAxis(
            "segment",
            "Segment",
            [
                BoardSegment(
                    id="0",
                    name=STEADY,
                    n=80,
                    share=0.667,
                    value_share=0.8,
                    trend="sales 12% up in a year",
                    apart=["sells in every month", "large assortment"],
                    actions=["Offer the full assortment", "Visit monthly"],
                    how_sure="clear",
                    curve=[("2025-10", 98.0), ("2025-11", 101.0), ("2025-12", 104.0)],
                ),
                BoardSegment("0a", f"{STEADY}: growing", 20, 0.167, parent="0"),
                BoardSegment("1", SUMMER, 40, 0.333, actions=["Order early"]),
            ],
            verdict="The partition is the same every time.",
        )
    ],
    verdict=BoardVerdict(
        "reproducible", "Reproducible", "No separate groups.", "Test."
    ),
    tiles=[("Shops", "120"), ("Segments", "2")],
    periods=[
        BoardPeriod(
            month,
            1,
            {"segment": {STEADY: 60 + 10 * place, SUMMER: 60 - 10 * place}},
            {"active": 100, "lapsed": 20},
        )
        for place, month in enumerate(MONTHS)
    ],
    flows=[
        BoardFlow("segment", "2025-11", SUMMER, STEADY, 10),
        BoardFlow("segment", "2025-12", SUMMER, STEADY, 12),
        BoardFlow("segment", "2025-12", STEADY, SUMMER, 2),
        BoardFlow("state", "2025-12", "active", "lapsed", 7),
    ],
    drift=[BoardDrift("share of July", "0.31", "changed much", is_alert=True)],
    rules=[(SUMMER, "share of July above 20%")],
    scorecard=["The segments tell of later sales."],
)
N_SHOPS = 120
AXES = ("value", "frequency", "breadth", "price", "channel")
OF_CUSTOMERS = Board(
    system="axes",
    title="Segments of customers",
    entity="customer",
    created="2026-01-02T10:00:00",
    as_of="2025-12-31",
    headline="2 of 2 customers could be segmented",
    axes=[
        BoardAxis("loyalty", "Loyalty", [BoardSegment("0", "everyone", 2, 1.0)]),
        *(
            BoardAxis(
                axis,
                f"By {axis}",
                [
                    BoardSegment("0", "high_value", 1, 0.5),
                    BoardSegment("1", "low", 1, 0.5),
                ],
                verdict="Clear: there are gaps.",
            )
            for axis in AXES
        ),
    ],
    flows=[BoardFlow("price", "2025-12-31", "low", "high_value", 1)],
)


def shops() -> pl.DataFrame:
    """Return 120 shops, S000 with the most sales; every third sells in summer."""
    places = range(N_SHOPS)
    return pl.DataFrame(
        {
            "customer_id": [f"S{place:03d}" for place in places],
            "segment_memberships": [
                {
                    "segment": SUMMER if place % 3 == 0 else STEADY,
                    "state": "lapsed" if place % 10 == 0 else "active",
                }
                for place in places
            ],
            "membership_strengths": [{"segment": place / N_SHOPS} for place in places],
            "runner_up_segments": [{"segment": STEADY}] * N_SHOPS,
            "confidence": [place / N_SHOPS for place in places],
            "lifetime_value": [1000.0 - place for place in places],
        }
    )


def filled(store: Store) -> None:
    """Load the shops, a store of somebody else, and one without a board."""
    moves = pl.DataFrame(
        {
            "customer_id": ["S003"],
            "run": ["2025-12"],
            "axis": ["segment"],
            "old": [STEADY],
            "new": [SUMMER],
            "cause": ["behaviour"],
        }
    )
    meta: dict[str, Any] = {"system": "retailers"}
    store.publish("shops", 1, "ours", b"x", meta, shops(), moves, board=BOARD)
    strangers = shops().head(2)
    strangers = strangers.with_columns(customer_id="stranger-" + pl.col("customer_id"))
    theirs = Board(**{**vars(BOARD), "headline": "THEIR HEADLINE"})
    store.publish("theirs", 1, "theirs", b"x", meta, strangers, board=theirs)
    placed = {"loyalty": "everyone", **dict.fromkeys(AXES, "low")}
    customers = strangers.with_columns(
        segment_memberships=pl.struct(pl.lit(v).alias(k) for k, v in placed.items()),
        lifetime_value=pl.lit(None, pl.Float64),
    )
    store.publish("customers", 1, "c", b"x", {}, customers, board=OF_CUSTOMERS)
    store.publish("old", 1, "old", b"x", meta, strangers)
