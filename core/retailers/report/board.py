"""What the report tells, for the dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from core.reporting.board import Board, BoardAxis, BoardSegment, BoardVerdict
from core.retailers.features import SHOP
from core.retailers.report.cards import Card
from core.retailers.report.evidence import Evidence
from core.retailers.report.scorecard_words import scorecard_answers

SYSTEM: Final = "retailers"
SEGMENT: Final = "segment"
"""The axis of the board, and of a shop's profile."""


def report_board(
    content: Mapping[str, Any], evidence: Evidence, curves: pl.DataFrame
) -> Board:
    """Return what a report tells, for the dashboard.

    Parameters
    ----------
    content : mapping
        `core.retailers.report.page.report_content`.
    evidence : Evidence
    curves : DataFrame
        `core.retailers.report.cards.curve_table`.
    """
    opening, cards = content["opening"], content["cards"]
    scorecard = evidence.judged("scorecard")
    return Board(
        system=SYSTEM,
        title=content["title"],
        entity=SHOP.noun,
        created=content["created"],
        as_of=content["as_of"],
        headline=opening.headline,
        verdict=BoardVerdict(
            opening.kind,
            opening.badge,
            f"{opening.meaning[:1].upper()}{opening.meaning[1:]}.",
            opening.caution,
        ),
        tiles=list(content["tiles"]),
        axes=[
            BoardAxis(
                name=SEGMENT,
                title="Segments",
                segments=[_told(card, curves) for card in cards],
                verdict=opening.found,
                note=opening.advice,
            )
        ],
        rules=[
            (card.name, rule)
            for card in cards
            for rule in card.rules
            if card.kind == "rules"
        ],
        scorecard=[] if scorecard is None else scorecard_answers(scorecard),
    )


def _told(card: Card, curves: pl.DataFrame) -> BoardSegment:
    months = curves.filter(id=card.id).sort("month").select("month", "mean")
    return BoardSegment(
        id=card.id,
        name=card.name,
        n=card.size,
        share=card.share,
        parent=card.parent,
        kind=card.kind,
        value_share=card.sales_share,
        trend=card.trend,
        apart=card.apart,
        actions=card.actions,
        how_sure=card.how_sure,
        curve=list(months.iter_rows()),
        states=card.states,
    )
