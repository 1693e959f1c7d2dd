"""Segments of customers as people read them: shares, what to do, and how sure.

`board_axes` is the one place where this is worked out; the page of a run and the
dashboard show what it returns. A system hands in its own words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import polars as pl

from core.models.criterion import CHANGED_VALLEY
from core.reporting.board import BoardAxis, BoardSegment
from core.reporting.text import decimal, share
from core.segments.axes import AxesModel, AxisSegment, FittedAxis
from core.segments.memberships import labels_of, sizes_table, value_shares

NEAR_BORDER: Final = 0.2
"""Strength below which a customer stands near the border to another segment."""
NOWHERE_ID: Final = "-1"
BY_RULE: Final = "by rule"
HOW_SURE: Final = ("clear", "borders blur", "convenient cut")
"""How far segments around centres can be trusted, the surest first."""


class Words(NamedTuple):
    """What a system says of its segments.

    Attributes
    ----------
    head : callable
        Title and note of an axis.
    apart, actions : callable
        What sets a segment of an axis apart, and suggestions.
    """

    head: Callable[[FittedAxis], tuple[str, str]]
    apart: Callable[[FittedAxis, AxisSegment], Sequence[str]]
    actions: Callable[[FittedAxis, AxisSegment], Sequence[str]]


def board_axes(
    model: AxesModel, profiles: pl.DataFrame, words: Words
) -> list[BoardAxis]:
    """Return every axis that was not skipped, with its segments in words.

    Parameters
    ----------
    model : AxesModel
    profiles : DataFrame
        Of `core.segments.memberships.customer_profiles`.
    words : Words

    Returns
    -------
    list of BoardAxis
        In the order of the model; segments by size, then the customers who are not
        placed (id -1), if there are any. Shares are of the customers whom an axis looks
        at, shares of the value of their lifetime values.
    """
    labels = labels_of(profiles)
    sizes = sizes_table(model, labels)
    values = value_shares(profiles)
    strengths = profiles["membership_strengths"].struct
    told = []
    for name, axis in model.fitted.items():
        is_near = (strengths.field(name) < NEAR_BORDER).to_numpy()[labels[name] >= 0]
        near = float(is_near.mean()) if is_near.size else 0.0
        sure, verdict = how_sure(axis.report, near)
        known = {segment.id: segment for segment in axis.segments}
        segments = [
            BoardSegment(
                id=str(row["segment_id"]),
                name=row["segment"],
                n=row["n_customers"],
                share=row["share"],
                kind=row["kind"],
                value_share=values.get(name, {}).get(row["segment_id"]),
                apart=list(words.apart(axis, known[row["segment_id"]])),
                actions=list(words.actions(axis, known[row["segment_id"]])),
                how_sure=sure if row["segment_id"] >= 0 else "",
            )
            for row in sizes.filter(axis=name).to_dicts()
        ]
        title, note = words.head(axis)
        told.append(BoardAxis(name, title, segments, verdict, note))
    return told


def how_sure(report: Mapping[str, Any], near: float) -> tuple[str, str]:
    """Return how far an axis can be trusted, in a few words and in sentences.

    Parameters
    ----------
    report : mapping
        Of `core.models.criterion.Choice.report`, or of rules, which have no `valley`.
    near : float
        Share of the customers near a border (`NEAR_BORDER`), 0 to 1.
    """
    if report["kind"] == "single":
        return "no segments", f"One group: {report['verdict']}."
    if report.get("valley") is None and report["kind"] != "cut":
        return BY_RULE, (
            "Rules decide: a customer changes segment only by ordering otherwise, or "
            "when the rules change."
        )
    border = (
        f"{share(near)} of the customers are near a border and may switch."
        if near
        else "No customer is near a border."
    )
    if report["kind"] == "cut":
        return "convenient cut", (
            "Convenient cut: there are no gaps between these segments. Use them as "
            f"tiers, not as natural groups. {border}"
        )
    halves = (
        "two random halves of the customers give the same ones (agreement "
        f"{decimal(report['stability'])} of 1). {border}"
    )
    if report["valley"] >= CHANGED_VALLEY:
        return "clear", f"Clear: there are gaps between the segments, and {halves}"
    return "borders blur", (
        "Borders blur: the gap between the two closest segments is narrow, but "
        f"{halves}"
    )


def placed(axis: BoardAxis) -> list[BoardSegment]:
    """Return the segments without the customers who are in none."""
    return [segment for segment in axis.segments if segment.id != NOWHERE_ID]
