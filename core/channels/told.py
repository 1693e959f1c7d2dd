"""The channel segments in words: what sets them apart, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from core.channels.model import ChannelsModel
from core.channels.words import condition_words
from core.lifecycle.told import Words, board_axes
from core.models.centroids import NOWHERE
from core.reporting.board import BoardAxis
from core.reporting.playbook import Play, Playbook, behaviour
from core.reporting.text import enumerated
from core.segments.axes import AxisSegment, FittedAxis
from core.segments.memberships import labelled_customers
from core.segments.rule_axis import SEGMENT

RULE_TITLE = "Rule segments"
NOT_PLACED = "a value that the rules ask for is missing, or out of its range"
N_TOLD = 2
"""Figures that a rule segment is told by, beside its description."""


def told_axes(
    model: ChannelsModel, profiles: pl.DataFrame, playbook: Playbook[Play]
) -> list[BoardAxis]:
    """Return the rule segments and the micro-segments of every item in words.

    Parameters
    ----------
    model : ChannelsModel
    profiles : DataFrame
        Of `core.segments.memberships.customer_profiles`.
    playbook : Playbook

    Returns
    -------
    list of BoardAxis
        See `core.lifecycle.told.board_axes`; the rule segments first.
    """
    known = labelled_customers(profiles, SEGMENT).filter(
        pl.col("segment").is_not_null()
    )
    figures = behaviour(known, "segment", playbook)
    rules = {rule.name: rule for rule in model.rules.segments}
    sources: dict[str, Any] = model.context["sources"]

    def head(axis: FittedAxis) -> tuple[str, str]:
        if axis.axis == SEGMENT:
            return RULE_TITLE, model.rules.description or ""
        own = list(sources.get(axis.axis, ()))
        about = [rules[name].description for name in own if name in rules]
        return enumerated(own), "; ".join(text for text in about if text)

    def apart(axis: FittedAxis, segment: AxisSegment) -> Sequence[str]:
        if axis.axis != SEGMENT:
            return segment.why.split("; ")
        if segment.id == NOWHERE:
            return [NOT_PLACED]
        return [
            described(model, segment),
            *figures.get(segment.name, [])[:N_TOLD],
        ]

    def actions(axis: FittedAxis, segment: AxisSegment) -> Sequence[str]:
        if segment.id == NOWHERE or segment.kind == "single":
            return []
        rule = rules.get(segment.rule_name) if axis.axis == SEGMENT else None
        if rule is not None and rule.action:
            return [rule.action]
        names = [segment.rule_name, rule.band if rule is not None else None]
        return playbook.play(*(name for name in names if name)).actions

    return board_axes(model, profiles, Words(head, apart, actions))


def described(model: ChannelsModel, segment: AxisSegment) -> str:
    """Return the description of a rule segment; without one its rule in words."""
    rule = next(s for s in model.rules.segments if s.name == segment.rule_name)
    if rule.description:
        return rule.description
    features = {feature.name: feature for feature in model.rules.features}
    return condition_words(segment.why, features)
