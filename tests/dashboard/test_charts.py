"""Geometry of the charts, checked by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from core.dashboard.charts import (
    ABSENT,
    MAX_NODES,
    OTHERS,
    flow_chart,
    flow_periods,
    line,
    n_moved,
    sizes_over_time,
)
from core.reporting.board import BoardFlow, BoardPeriod


def test_a_line_stands_on_zero_so_that_small_changes_look_small():
    drawn = line([("2025-01", 10.0), ("2025-02", 40.0), ("2025-03", 20.0)], 104, 24)
    assert drawn.points == "2.0,17.0 52.0,2.0 102.0,12.0"
    assert drawn.levels == [(2.0, "40"), (17.0, "10")]
    assert "lowest 10 in 2025-01, highest 40 in 2025-02, last 20" in drawn.words


@pytest.mark.parametrize("curve", [[], [("a", 1.0)], [("a", math.nan), ("b", 1.0)]])
def test_a_line_needs_two_values(curve):
    assert line(curve) is None


def test_a_flat_line_is_drawn():
    assert line([("a", 5.0), ("b", 5.0)]).levels == [(2.0, "5")]
    below = line([("a", -5.0), ("b", 5.0)], 104, 24)
    assert below.points == "2.0,22.0 102.0,2.0"


PERIODS = [
    BoardPeriod("2025-01", 1, {"segment": {"A": 50, "B": 100}}, {"active": 9}),
    BoardPeriod("2025-02", 1, {"segment": {"A": 100, "B": 50, "C": 0}}),
    BoardPeriod("2025-03", 2, {}),
]


def test_sizes_over_time_fill_the_height_and_tell_the_change():
    largest, second, new = sizes_over_time(PERIODS, "segment", width=100, height=40)
    assert (largest.name, largest.first, largest.last) == ("A", 50, 100)
    assert largest.change == 1
    assert [bar[3] for bar in largest.bars] == [20, 40]
    assert [bar[1] for bar in largest.bars] == [20, 0]
    assert second.change == -0.5
    assert (new.counts, new.change) == ([None, 0], None)
    states = sizes_over_time(PERIODS, "state")
    assert [(row.name, row.counts) for row in states] == [("active", [9])]
    assert sizes_over_time(PERIODS, "weather") == []


def test_flows_keep_everybody_on_both_sides():
    flows = [
        BoardFlow("segment", "2025-02", "A", "B", 30),
        BoardFlow("segment", "2025-02", "A", "A", 60),
        BoardFlow("segment", "2025-02", "", "B", 10),
        BoardFlow("segment", "2025-01", "B", "A", 5),
        BoardFlow("state", "2025-02", "active", "lapsed", 1),
    ]
    assert flow_periods(flows, "segment") == ["2025-02", "2025-01"]
    chart = flow_chart(flows, "segment", "2025-02", "shops")
    assert chart.rows == [("A", "B", 30), (ABSENT, "B", 10)]
    assert chart.words.startswith("2025-02: 40 shops moved")
    assert n_moved(flows, "segment", "2025-02") == 40
    for side in (chart.before, chart.after):
        assert sum(int(node.lines[-1]) for node in side) == 100
        # Neither bars nor names lie on one another.
        assert all(one.y + one.slot < two.y for one, two in pairwise(side))
    assert [ribbon.stays for ribbon in chart.ribbons] == [True, False, False]
    assert flow_chart(flows, "segment", "2024-01", "shops") is None


def test_many_segments_are_drawn_as_a_few_and_listed_in_full():
    flows = [
        BoardFlow("segment", "now", f"S{old}", f"S{new}", old + new)
        for old in range(12)
        for new in range(12)
        if old != new
    ]
    chart = flow_chart(flows, "segment", "now", "shops")
    assert len(chart.before) == len(chart.after) == MAX_NODES
    assert OTHERS in {" ".join(node.lines[:-1]) for node in chart.before}
    assert len(chart.rows) == 132
    drawn = sum(int(node.lines[-1].replace(",", "")) for node in chart.before)
    assert drawn == sum(n for *_, n in chart.rows)
