"""Names of segments: what the rules promise."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.retailers.features import FEATURE_SETS, MOMENTUM, UNCLUSTERED
from core.retailers.names import LEVELS, RULES, SEASON, name_segments


def contrasts(*segments: dict[str, tuple[float | None, float | None]]) -> pl.DataFrame:
    """One dict per segment: feature to (median, effect)."""
    rows = [
        {"cluster": number, "feature": name, "median": median, "effect": effect}
        for number, features in enumerate(segments)
        for name, (median, effect) in features.items()
    ]
    return pl.DataFrame(
        rows,
        schema={
            "cluster": pl.Int64,
            "feature": pl.String,
            "median": pl.Float64,
            "effect": pl.Float64,
        },
    )


def year(changes: dict[int, tuple[float, float]]):
    """Months of a year: month to (index, effect); the others share what is left."""
    rest = (12 - sum(index for index, _ in changes.values())) / (12 - len(changes))
    months = [changes.get(m, (rest, 0.0)) for m in range(1, 13)]
    logs = [(math.log(index), effect) for index, effect in months]
    return {f"{SEASON}{m}": found for m, found in enumerate(logs, start=1)}


def name_of(features) -> str:
    return name_segments(contrasts(features))[0]


@pytest.mark.parametrize(
    ("months", "name"),
    [
        ({6: (1.4, 1.4), 7: (2.0, 2.0), 8: (1.4, 1.5)}, "Summer peak (Jun-Aug)"),
        ({11: (1.5, 1.4), 12: (2.4, 2.3), 1: (1.4, 1.2)}, "Year-end peak (Nov-Jan)"),
        ({12: (2.4, 2.3)}, "Year-end peak (Dec)"),
        ({10: (2.5, 2.0), 11: (1.5, 1.4), 12: (1.3, 1)}, "Autumn peak (Oct-Dec)"),
        ({4: (2.0, 2.0), 10: (2.0, 1.5)}, "Two peaks: Apr, Oct"),
        ({2: (2, 2), 6: (2, 2), 10: (2, 2)}, "Several peaks"),
        ({7: (0.4, -2.0)}, "Summer low (Jul)"),
        ({2: (0.4, -2.0), 8: (0.4, -2.0)}, "Several low times"),
        ({4: (1.1, 0.9)}, "Steady all year"),
        ({7: (2.0, 0.3)}, "Average"),
        ({7: (1.1, 0.3)}, "Steady all year"),
    ],
)
def test_a_season_is_named_by_its_months(months, name):
    assert name_of(year(months)) == name


def test_a_month_between_two_high_ones_does_not_split_the_peak():
    months = {6: (1.5, 1.5), 7: (1.24, 0.2), 8: (1.5, 1.5)}
    assert name_of(year(months)) == "Summer peak (Jun-Aug)"


@pytest.mark.parametrize(
    ("feature", "median", "effect", "name"),
    [
        ("sales_trend_per_year", 0.4, 1.8, "Growing sales"),
        ("sales_trend_per_year", -0.4, -1.8, "Declining sales"),
        ("sales_trend_per_year", 0.2, -1.8, "Sales growing less"),
        ("sales_trend_per_year", 0.0, 1.8, "Sales holding up"),
        ("assortment_trend_per_year", -0.3, -1.0, "Shrinking assortment"),
        ("sales_irregularity", 1.0, 2.0, "Irregular sales"),
        ("sales_irregularity", 0.2, -2.0, "Steady sales"),
        ("inactive_month_share", 0.3, 3.9, "Often inactive"),
        ("assortment_breadth", 0.8, -2.0, "Narrow assortment"),
        ("assortment_breadth", 3.8, 2.0, "Broad assortment"),
        ("product_concentration", 0.6, 2.0, "One product dominates"),
        ("product_concentration", 0.2, 2.0, "Few products dominate"),
        ("cv_monthly_sales_qty", 1.2, 2.0, "Uneven sales"),
        ("median_yoy_sales_growth", 0.3, 2.0, "Growing sales"),
        ("yoy_12", -0.3, -2.0, "Declining sales"),
        ("yoy_3", 0.0, 1.0, "Sales holding up lately"),
        ("trend_break", 0.3, 1.0, "Sales picking up"),
        ("activity_change", -0.3, -1.0, "Selling less often"),
        ("basket_size", 3.0, -2.0, "Low basket size"),
        ("sales_trend_per_year", 0.4, 0.49, "Average"),
    ],
)
def test_a_feature_gives_its_name(feature, median, effect, name):
    assert name_of({feature: (median, effect)}) == name


def test_the_clearest_theme_gives_the_name():
    features = {"sales_irregularity": (1.0, 2.4), "inactive_month_share": (0.3, 3.9)}
    assert name_of(features) == "Often inactive"


def test_sales_speak_for_the_trend_unless_products_tell_much_more():
    sales = {"sales_trend_per_year": (0.3, 1.8)}
    assert (
        name_of({"assortment_trend_per_year": (0.3, 2.1), **sales}) == "Growing sales"
    )
    features = {"assortment_trend_per_year": (0.3, 4.0), **sales}
    assert name_of(features) == "Growing assortment"


def test_levels_of_the_baseline_tell_size_apart_from_season():
    level = "avg_sales_qty_month_"
    large = {f"{level}{m}": (500.0, 2.0) for m in range(1, 13)}
    assert name_of(large) == "Large volume"
    summer = large | {f"{level}7": (1500.0, 4.5)}
    assert name_of(summer) == "Summer peak (Jul)"
    small = {f"{level}{m}": (5.0, -0.6) for m in range(1, 13)}
    assert name_of(small) == "Small volume"


def test_equal_names_get_a_second_theme_and_at_last_a_number():
    growing = {"sales_trend_per_year": (0.4, 1.8)}
    names = name_segments(
        contrasts(
            growing | {"assortment_breadth": (0.5, -0.3)},
            growing,
            growing,
            {"sales_irregularity": (0.3, 0.1)},
            {"sales_irregularity": (0.3, -0.3)},
        )
    )
    assert names == {
        0: "Growing sales, narrow assortment",
        1: "Growing sales",
        2: "Growing sales 2",
        3: "Average",
        4: "Average, steady sales",
    }


def test_a_name_that_is_kept_stays_and_the_others_are_told_apart_from_it():
    growing = {"sales_trend_per_year": (0.3, 1.0)}
    broad = {**growing, "assortment_breadth": (2.0, 0.9)}
    found = name_segments(contrasts(growing, broad, growing), {2: "Growing sales"})
    assert found == {
        0: "Growing sales 2",
        1: "Growing sales, broad assortment",
        2: "Growing sales",
    }
    assert name_segments(contrasts(growing), {0: "Ours"}) == {0: "Ours"}


def test_no_effect_at_all_is_average_and_no_segment_gives_no_name():
    assert name_of({"sales_trend_per_year": (None, None)}) == "Average"
    assert name_segments(contrasts()) == {}


def test_every_feature_of_both_sets_has_a_rule_of_its_own():
    ruled = {rule.feature for rule in RULES}
    for feature_set in FEATURE_SETS.values():
        for name in feature_set.names:
            assert name in ruled or name.startswith((SEASON, *LEVELS))
    assert set(MOMENTUM) <= ruled
    assert ruled <= {
        name
        for names in (*(s.names for s in FEATURE_SETS.values()), UNCLUSTERED)
        for name in names
    }


feature_names = st.sampled_from(
    [*FEATURE_SETS["behaviour"].names, *FEATURE_SETS["baseline"].names, "other"]
)
numbers = st.floats(-5, 5, allow_nan=False) | st.none() | st.just(math.nan)


@given(
    st.lists(
        st.dictionaries(feature_names, st.tuples(numbers, numbers), min_size=1),
        max_size=6,
    ),
    st.randoms(),
)
def test_names_are_unique_and_do_not_depend_on_the_order_of_rows(segments, random):
    table = contrasts(*segments)
    names = name_segments(table)
    assert len(set(names.values())) == len(names) == len(segments)
    assert all(name and name[0] == name[0].upper() for name in names.values())
    order = list(range(table.height))
    random.shuffle(order)
    assert name_segments(table[order]) == names
