"""Rules that imitate segments, typical shops and monthly curves."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from core.retailers.features import SHOP
from core.rules.surrogate import fit_surrogate, rule_table
from core.segments.profiles import monthly_curves, typical_members

NAMES = {0: "Even year", 1: "Summer peak (Jul)", 2: "Declining sales"}


def shops(n: int = 300) -> tuple[pl.DataFrame, np.ndarray]:
    """Summer shops sell over 12% in July; declining ones are known to decline."""
    rng = np.random.default_rng(0)
    july = rng.uniform(0.05, 0.2, n).round(3)
    trend = rng.uniform(-0.4, 0.4, n).round(3)
    unknown = rng.random(n) < 0.1
    segments = np.where(july > 0.12, 1, np.where((trend < -0.1) & ~unknown, 2, 0))
    trends = pl.Series(trend).set(pl.Series(unknown), None)
    return pl.DataFrame({"july": july, "trend": trends}), segments


def test_plain_rules_are_found_again_and_said_in_words():
    table, segments = shops()
    found = fit_surrogate(table, segments, ["july", "trend"], seed=0)
    assert len(found.rules) == 3
    assert found.accuracy > 0.97
    assert found.balanced_accuracy > 0.97
    assert all(rule.purity == 1.0 for rule in found.rules)
    assert sum(rule.n_entities for rule in found.rules) == 300
    texts = [
        rule.text(NAMES, {"july": False, "trend": True}, SHOP) for rule in found.rules
    ]
    summer = next(text for text in texts if "Summer" in text)
    n = int((segments == 1).sum())
    assert summer.startswith("july > 0.12")
    assert summer.endswith(f"-> Summer peak (Jul), {n} shops, 100% of them")
    even = next(text for text in texts if "Even year" in text)
    assert "(or unknown)" in even


def test_fidelity_is_told_beside_what_saying_the_largest_would_reach():
    table, _ = shops()
    random = np.random.default_rng(1).choice(3, 300, p=[0.8, 0.1, 0.1])
    found = fit_surrogate(table, random, ["july", "trend"], seed=0)
    assert found.accuracy <= found.largest_share + 0.02
    assert found.balanced_accuracy < 0.45
    assert found.chance == pytest.approx(1 / 3)


def test_shops_in_no_segment_are_left_out_and_counted():
    table, segments = shops()
    segments = np.where(segments == 2, -1, segments)
    found = fit_surrogate(table, segments, ["july", "trend"], seed=0)
    assert found.n_unassigned == int((segments == -1).sum())
    assert {rule.segment for rule in found.rules} == {0, 1}
    assert fit_surrogate(table, np.full(300, -1), ["july"], seed=0) is None


def test_one_segment_needs_no_condition():
    table, _ = shops()
    found = fit_surrogate(table, np.zeros(300, int), ["july"], seed=0)
    assert [rule.conditions for rule in found.rules] == [()]
    text = found.rules[0].text(NAMES, {}, SHOP)
    assert text == "every shop -> Even year, 300 shops, 100% of them"
    assert rule_table(found, NAMES)["feature"].to_list() == [None]


def test_every_shop_meets_exactly_one_rule_and_there_are_ten_at_most():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(500, 4))
    X[rng.random(X.shape) < 0.1] = np.nan
    features = ["a", "b", "c", "d"]
    table = pl.DataFrame(X, schema=features).fill_nan(None)
    known = np.nan_to_num(X)
    segments = 2 * (known[:, 0] > 0) + (known[:, 1] + known[:, 2] > 0)
    found = fit_surrogate(table, segments, features, seed=0)
    assert len(found.rules) <= 10
    met = np.zeros(500, dtype=int)
    for rule in found.rules:
        meets = np.ones(500, dtype=bool)
        for condition in rule.conditions:
            meets &= condition.holds(X[:, features.index(condition.feature)])
        assert meets.sum() == rule.n_entities
        met += meets
    assert (met == 1).all()
    exact = rule_table(found, {i: str(i) for i in range(4)})
    assert exact["rule"].n_unique() == len(found.rules)


def test_too_few_shops_have_rules_but_no_fidelity():
    table = pl.DataFrame({"july": [0.1, 0.2, 0.1]})
    found = fit_surrogate(table, np.array([0, 1, 0]), ["july"], seed=0)
    assert found.accuracy is None


def test_typical_shops_are_the_closest_then_the_most_middling_then_the_first():
    table = pl.DataFrame(
        {"shop_id": ["deli", "cafe", "mart", "kiosk", "stall"],
         "segment": [0, 0, 0, 1, -1]}
    )  # fmt: skip
    closeness = np.array([1.0, 1.0, 0.5, 0.2, 1.0])
    X = np.array([[0.0], [5.0], [1.0], [3.0], [9.0]])
    found = typical_members(table, closeness, X, "shop_id", n=2)
    assert found.rows() == [(0, 1, "deli"), (0, 2, "cafe"), (1, 1, "kiosk")]
    same = typical_members(table, closeness, np.zeros((5, 1)), "shop_id", n=2)
    assert same["shop_id"].to_list() == ["cafe", "deli", "kiosk"]


def test_curves_divide_by_the_shops_own_mean_from_its_first_month_on():
    first = 2024 * 12
    monthly = pl.DataFrame(
        {
            # A kiosk of 1, 0, 2 units (mean 1); a mart that opens late with 30, 10.
            "shop_id": ["kiosk", "kiosk", "mart", "mart", "stall"],
            "t": [first, first + 2, first + 1, first + 2, first],
            "quantity": [1.0, 2.0, 30.0, 10.0, 5.0],
        }
    )
    segments = pl.DataFrame(
        {"shop_id": ["kiosk", "mart", "stall"], "segment": [0, 0, -1]}
    )
    found = monthly_curves(monthly, segments, first + 2, "shop_id")
    assert found["month"].to_list() == ["2024-01", "2024-02", "2024-03"]
    assert found["n_entities"].to_list() == [1, 2, 2]
    assert found["mean"].to_list() == pytest.approx([1.0, 0.75, 1.25])
    assert found["low"].to_list() == pytest.approx([1.0, 0.375, 0.875])
    assert monthly_curves(monthly.clear(), segments, first, "shop_id").is_empty()
    late = monthly_curves(monthly, segments, first + 2, "shop_id", n_months=1)
    assert late["mean"].to_list() == [1.0]
