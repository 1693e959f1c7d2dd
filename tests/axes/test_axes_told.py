"""Axes in words: what sets segments apart, what to do, how sure, whose revenue."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from core.axes.features.catalog import FEATURES
from core.axes.names import load_axis_names
from core.axes.told import apart, metric_words, overview, told_axes
from core.lifecycle.playbook import system_playbook
from core.lifecycle.told import how_sure
from core.models.centroids import CentroidModel, Scaling
from core.reporting.board import BoardAxis, BoardSegment
from core.segments.axes import AxesModel, AxisSegment, FittedAxis
from core.segments.memberships import customer_profiles, value_shares

BOOK = system_playbook(None, "axes")
CHANNELS = ("channel_share_web", "channel_share_pos", "weekend_vs_weekday_ratio")


def an_axis(name, features, centres, names, report=None):
    """An axis whose average customer has 10 of everything, in steps of 4."""
    centres = np.array(centres, dtype=float)
    n = len(features)
    scaling = Scaling(
        np.zeros(n, bool),
        np.full(n, -99.0),
        np.full(n, 99.0),
        *(np.full(n, 10.0), np.full(n, 4.0)),
    )
    segments = [
        AxisSegment(
            id=i,
            name=said,
            cluster=i,
            size=1,
            share=0.5,
            kind="natural",
            rule_name=said,
            why="",
        )
        for i, said in enumerate(names)
    ]
    nowhere = AxisSegment(
        id=-1,
        name="nowhere",
        cluster=-1,
        size=0,
        share=0.0,
        kind="natural",
        rule_name="nowhere",
        why="",
    )
    return FittedAxis(
        name,
        tuple(features),
        {},
        CentroidModel(centres, scaling),
        (*segments, nowhere),
        len(segments),
        (),
        report or {"kind": "natural", "valley": 0.6, "stability": 0.95},
    )


def test_a_segment_is_told_by_the_two_features_that_differ_most():
    axis = an_axis(
        "purchase_value",
        ("lifetime_value", "avg_order_value", "max_order_value", "value_trend"),
        [[2, 1, 5, -1.5], [0.2, -0.2, 0, 0]],
        ["whale", "mid_tier"],
    )
    assert apart(axis, axis.segments[0], BOOK) == [
        "18 spent so far (all: 10)",
        "order value changes by 4 per order (all: 10)",
    ]
    assert apart(axis, axis.segments[1], BOOK) == ["close to the average customer"]
    named = axis.segments[1].model_copy(update={"why": "`avg_order_value` 9 (low)"})
    assert apart(axis, named, BOOK) == ["9.2 per order (all: 10)"]
    assert "not known" in apart(axis, axis.segments[2], BOOK)[0]


def test_segments_that_differ_in_one_feature_only_are_told_as_much_alike():
    axis = an_axis(
        "communication_preference",
        CHANNELS,
        [[1.2, -1, -0.5], [1.1, -1, 1.5], [-1, 2, 0]],
        ["web_preferred", "weekend_contact", "pos_preferred"],
    )
    first, second, third = (apart(axis, s, BOOK) for s in axis.segments[:3])
    assert first[-1] == (
        "much like weekend contact; differs in weekend orders per weekday order "
        "(8; there 16)"
    )
    assert second[-1].startswith("much like web preferred;")
    assert not any("pos" in told for told in first), "it follows from the other channel"
    assert len(third) == 1


def test_what_is_zero_but_for_rounding_is_zero():
    axis = an_axis(
        "repurchase_behavior",
        ("repeat_product_rate",),
        [[-2.5 - 1e-15], [1.0]],
        ["never_repeats", "loyal"],
    )
    assert apart(axis, axis.segments[0], BOOK)[0].startswith("0% of products")


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ({"kind": "natural", "valley": 0.4, "stability": 0.98}, "clear"),
        ({"kind": "natural", "valley": 0.39, "stability": 0.98}, "borders blur"),
        ({"kind": "cut", "valley": 0.1, "stability": None}, "convenient cut"),
        ({"kind": "single", "verdict": "no gap"}, "no segments"),
        ({"kind": "rule"}, "by rule"),
    ],
)
def test_how_sure_an_axis_is_follows_from_its_gaps(report, said):
    word, why = how_sure(report, 0.034)
    assert word == said
    assert ("3.4% of the customers are near a border" in why) == (
        report["kind"] in {"natural", "cut"}
    )


def test_shares_of_revenue_and_suggestions_are_those_of_the_segment():
    features = ("lifetime_value",)
    axis = an_axis("purchase_value", features, [[2.0], [-1.0]], ["whale", "tiny_low_x"])
    model = AxesModel((axis,))
    table = pl.DataFrame(
        {
            "customer_id": ["a", "b", "c", "d"],
            "lifetime_value": [18.0, 6.0, 6.0, None],
        }
    )
    profiles = customer_profiles(
        table, model.assign(table), model.names, ("lifetime_value",)
    )
    assert value_shares(profiles) == {"purchase_value": {0: 0.6, 1: 0.4, -1: 0.0}}
    assert value_shares(profiles.drop("lifetime_value")) == {}
    (told,) = told_axes(model, profiles, BOOK)
    assert [(s.name, s.n, s.share, s.value_share) for s in told.segments] == [
        ("tiny_low_x", 2, 0.5, 0.4),
        ("whale", 1, 0.25, 0.6),
        ("nowhere", 1, 0.25, 0.0),
    ]
    assert told.segments[1].actions == list(
        BOOK.segments["purchase_value.whale"].actions
    )
    assert told.segments[0].actions == list(BOOK.general.actions)
    assert told.segments[2].actions == []
    assert overview(told).name == "whale"


def test_without_values_the_smallest_segment_stands_out():
    sizes = {"large": 60, "small": 10, "middle": 30}
    segments = [BoardSegment(name, name, n, n / 100) for name, n in sizes.items()]
    assert overview(BoardAxis("x", "X", segments)).name == "small"


def test_every_name_has_a_suggestion_and_every_feature_its_words():
    for axis, names in load_axis_names().items():
        called = {rule.name.replace("{}", "*") for rule in names.rules}
        for name in {*called, names.otherwise}:
            assert f"{axis}.{name}" in BOOK.segments, f"{axis}: {name}"
    for feature in FEATURES:
        assert "_" not in metric_words(feature, BOOK).words
    play = BOOK.segments["communication_preference.*_preferred"]
    axis = an_axis(
        "communication_preference",
        CHANNELS,
        [[1.2, -1, 0], [-1, 1, 0]],
        ["web_preferred", "pos_preferred_high_channel_diversity"],
    )
    table = pl.DataFrame({"customer_id": ["a"], **{name: [12.0] for name in CHANNELS}})
    model = AxesModel((axis,))
    profiles = customer_profiles(table, model.assign(table), model.names, ())
    (told,) = told_axes(model, profiles, BOOK)
    assert [s.actions for s in told.segments] == [list(play.actions)] * 2
