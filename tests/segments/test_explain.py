"""One shop explained, the smallest change that moves it, and features in words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ModelError
from core.retailers.explain import explanation_lines
from core.retailers.features import FEATURE_SETS
from core.retailers.names import feature_label
from core.segments.explain import explain, search_bounds, smallest_change

MONTHS = [f"log_season_month_{month}" for month in range(1, 13)]
FEATURES = ["breadth", "trend"]


def grid() -> np.ndarray:
    """Shops of every breadth 0 to 10 and every trend -1 to 1."""
    breadth, trend = np.meshgrid(np.arange(11.0) + 0.5, np.linspace(-1, 1, 21))
    return np.column_stack([breadth.ravel(), trend.ravel()])


def by_breadth(X):
    """Three segments: narrow below 4, broad above 6, none between."""
    return np.where(X[:, 0] < 4, 0, np.where(X[:, 0] > 6, 1, -1))


def test_the_smallest_change_stops_just_beyond_the_border():
    bounds = search_bounds(grid(), FEATURES)
    start = np.array([2.5, 0.0])
    found = smallest_change(start, 0, by_breadth, bounds, is_to_segment=True)
    assert found.columns == (0,)
    assert found.segment == 1
    # Rounded up to three digits that the assigner confirms.
    assert found.values.tolist() == [6.01, 0.0]
    out = smallest_change(start, 0, by_breadth, bounds, is_to_segment=False)
    assert (out.segment, out.values[0]) == (-1, 4.0)
    assert out.size < found.size


def test_two_features_are_changed_only_where_one_does_not_do():
    def both(X):
        return ((X[:, 0] > 8) & (X[:, 1] > 0.5)).astype(int)

    bounds = search_bounds(grid(), FEATURES)
    found = smallest_change(np.array([2.5, 0.0]), 0, both, bounds, True)
    assert found.columns == (0, 1)
    assert found.values[0] > 8
    assert found.values[1] > 0.5
    one = smallest_change(np.array([9.5, 0.0]), 0, both, bounds, True)
    assert one.columns == (1,)


def test_nothing_is_found_beyond_what_the_shops_show():
    bounds = search_bounds(grid(), FEATURES)
    far = smallest_change(
        np.array([2.5, 0.0]), 0, lambda X: (X[:, 0] > 10.6).astype(int), bounds, True
    )
    assert far is None
    never = smallest_change(
        np.array([2.5, 0.0]), 0, lambda X: np.zeros(len(X), int), bounds, False
    )
    assert never is None


def test_a_whole_number_stays_whole_and_an_unknown_value_stays_unknown():
    table = np.column_stack([np.arange(12.0), np.full(12, 0.5)])
    bounds = search_bounds(table, ["visits", "trend"])
    start = np.array([0.0, np.nan])
    found = smallest_change(
        start, 0, lambda X: (X[:, 0] >= 2.5).astype(int), bounds, True
    )
    assert found.values[0] == 3.0
    assert np.isnan(found.values[1])


def year(july: float) -> np.ndarray:
    """Logarithmic months that sum to 0."""
    months = np.full(12, -july / 11)
    months[6] = july
    return months


def test_a_changed_month_leaves_a_year_that_still_averages_out():
    table = np.stack([year(july) for july in np.linspace(-1, 1, 50)])
    bounds = search_bounds(table, MONTHS)
    summer = lambda X: (X[:, 6] > 0.5).astype(int)  # noqa: E731 - one rule, named
    start = year(0.1)
    found = smallest_change(start, 0, summer, bounds, is_to_segment=True)
    assert found.values.sum() == pytest.approx(0, abs=1e-12)
    assert found.values[6] > 0.5
    told = explain(
        "kiosk", start, {"segment": 0, "segment_kind": "partition",
        "nearest_segment": 1, "distance": 2.0}, table, summer(table), MONTHS,
        {0: "Even year", 1: "Summer peak (Jul)"}, summer,
    )  # fmt: skip
    lines = explanation_lines(told)
    assert "convenient cut" in lines[0]
    assert lines[1] == "The runner-up is `Summer peak (Jul)`."
    assert lines[-1].startswith("The smallest change found: if its ")
    assert lines[-1].endswith("it would be in `Summer peak (Jul)`.")
    assert told.facts()["to_another"]["segment"] == 1
    assert set(told.to_another.gives_way) == set(MONTHS) - {"log_season_month_7"}


@given(st.floats(0.5, 10.5), st.floats(-1, 1), st.floats(-2, 2), st.floats(-4, 12))
def test_whatever_is_found_is_confirmed_by_the_assigner(breadth, trend, slope, level):
    def assign(X):
        return (X[:, 0] + slope * X[:, 1] > level).astype(int)

    bounds = search_bounds(grid(), FEATURES)
    start = np.array([breadth, trend])
    own = int(assign(start[None])[0])
    found = smallest_change(start, own, assign, bounds, is_to_segment=True)
    again = smallest_change(start, own, assign, bounds, is_to_segment=True)
    if found is None:
        assert again is None
        return
    assert assign(found.values[None])[0] == found.segment != own
    assert (found.values >= bounds.low - 1e-9).all()
    assert (found.values <= bounds.high + 1e-9).all()
    assert again.values.tolist() == found.values.tolist()


def test_reasons_are_the_features_that_lie_nearer_to_the_own_segment():
    table = np.array([[1.0, 0.0], [2.0, 1.0], [3.0, 0.0], [9.0, 1.0], [10.0, 0.0]])
    assign = lambda X: (X[:, 0] > 6).astype(int)  # noqa: E731 - one rule, named
    placed = {
        "segment": 0,
        "segment_kind": "density",
        "nearest_segment": 1,
        "distance": 1.0,
    }
    names = {0: "Narrow assortment", 1: "Broad assortment", -1: "unassigned"}
    told = explain(
        "deli", table[1], placed, table, assign(table), FEATURES, names, assign
    )
    assert [reason.feature for reason in told.reasons] == ["breadth"]
    first = told.reasons[0]
    assert (first.median, first.other_median) == (2.0, 9.5)
    assert told.runner_up_name == "Broad assortment"


def test_a_shop_in_no_segment_hears_what_keeps_it_out():
    table = grid()
    names = {0: "Narrow", 1: "Broad", -1: "unassigned"}
    placed = {
        "segment": -1,
        "segment_kind": "density",
        "nearest_segment": 0,
        "distance": 1.0,
    }
    told = explain(
        "mart", np.array([5.0, 0.0]), placed, table, by_breadth(table), FEATURES,
        names, by_breadth,
    )  # fmt: skip
    lines = explanation_lines(told)
    assert lines[0] == "Shop mart is in no segment: it is too unlike every segment."
    assert lines[1] == "The nearest segment is `Narrow`."
    assert lines[2].startswith("What sets it apart from `Narrow`")
    assert told.out is None
    assert told.to_another.segment == 0


def test_an_assigner_that_says_otherwise_is_refused():
    placed = {
        "segment": 1,
        "segment_kind": "density",
        "nearest_segment": None,
        "distance": None,
    }
    with pytest.raises(ModelError, match="does not put `deli` into segment 1"):
        explain(
            "deli", np.array([1.0, 0.0]), placed, grid(), by_breadth(grid()), FEATURES,
            {0: "a", 1: "b"}, by_breadth,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("feature", "value", "text"),
    [
        ("log_season_month_7", np.log(1.5), "150% of an average month"),
        ("sales_trend_per_year", np.log(0.92), "-8% per year"),
        ("inactive_month_share", 0.112, "11.2%"),
        ("assortment_breadth", np.log(6.5), "6.5 products a month"),
        ("cv_monthly_sales_qty", 0.5, "50% of the mean"),
        ("avg_sales_qty_month_12", 12345.6, "12,346 units"),
        ("median_yoy_sales_growth", 0.25, "+25%"),
        ("basket_size", 0.000123, "0.000123"),
        ("basket_size", None, "unknown"),
        ("basket_size", float("nan"), "unknown"),
    ],
)
def test_values_are_said_in_their_natural_unit(feature, value, text):
    assert feature_label(feature).value(value) == text


def test_different_values_are_told_apart():
    gaps = feature_label("inactive_month_share")
    assert gaps.numbers(0.1121, 0.1122) == ("11.21%", "11.22%")
    assert gaps.numbers(0.1, 0.1) == ("10%", "10%")


def test_every_feature_has_a_name_in_words():
    for feature_set in FEATURE_SETS.values():
        for name in feature_set.names:
            assert feature_label(name).name != name.replace("_", " ")
