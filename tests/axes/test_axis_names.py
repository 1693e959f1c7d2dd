"""Names of axis segments: from the centre, by rules that a user can change."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from core.axes.features.catalog import AXES, FEATURES, features_available
from core.axes.names import load_axis_names, name_clusters
from core.errors import ConfigError

VALUE = ("lifetime_value", "avg_order_value", "value_trend")
CHANNELS = ("channel_share_web", "channel_share_pos", "channel_diversity")


def named(axis, features, centres, values=None, kept=None, rules=None):
    centres = np.array(centres, dtype=float)
    values = centres if values is None else np.array(values, dtype=float)
    found = name_clusters(
        centres, values, features, (rules or load_axis_names())[axis], kept or {}
    )
    return {cluster: name.name for cluster, name in found.items()}


def test_hand_checked_spenders_are_named_by_their_centres():
    centres = [[-0.7, -0.5, 0], [0.3, 0.2, 0], [2.0, 1.5, 0]]
    assert named("purchase_value", VALUE, centres) == {
        0: "small_spender",
        1: "mid_tier",
        2: "whale",
    }


def test_of_two_that_fit_the_one_further_out_has_the_name():
    centres = [[1.4, 0, 0], [2.0, 0, 0], [-0.9, 0, 0]]
    assert named("purchase_value", VALUE, centres) == {
        0: "high_value",
        1: "whale",
        2: "small_spender",
    }


def test_equal_names_are_told_apart_by_a_second_feature_then_by_a_number():
    flat = [[0.1, 0.3, 0.0], [0.1, 0.1, -0.4], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert named("purchase_value", VALUE, flat) == {
        0: "mid_tier",
        1: "mid_tier_low_value_trend",
        2: "mid_tier_2",
        3: "mid_tier_3",
    }


def test_a_channel_gives_its_name_to_those_who_use_it():
    shares = [[0.8, 0.1, 0.2], [0.1, 0.9, 0.2], [0.3, 0.3, 0.6]]
    z = [[0.9, -0.8, -0.3], [-0.8, 1.2, -0.3], [-0.3, -0.3, 1.0]]
    assert named("communication_preference", CHANNELS, z, shares) == {
        0: "web_preferred",
        1: "pos_preferred",
        2: "multi_channel",
    }


def test_bounds_in_units_look_at_the_unit():
    z, values = [[0.1], [-0.1]], [[0.7], [0.02]]
    assert named("price_sensitivity", ("discount_rate",), z, values) == {
        0: "deal_hunter",
        1: "full_price",
    }


def test_the_only_segment_has_a_name_of_its_own():
    assert named("purchase_value", VALUE, [[0.0, 0.0, 0.0]]) == {0: "everyone"}


def test_a_name_that_is_kept_is_given_to_no_other():
    centres = [[2.0, 0, 0], [1.4, 0, 0]]
    found = named("purchase_value", VALUE, centres, kept={1: "whale"})
    assert found == {0: "high_value"}


def test_segments_alike_in_what_a_name_says_are_told_apart_by_what_differs():
    shares = [[0.99, 0.0, 0.2], [0.98, 0.0, 4.0]]
    z = [[1.25, -0.5, -0.5], [1.23, -0.5, 1.6]]
    features = ("channel_share_web", "channel_share_pos", "weekend_vs_weekday_ratio")
    assert named("communication_preference", features, z, shares) == {
        0: "web_preferred",
        1: "weekend_contact",
    }
    # Half a standard deviation apart the weaker rule says something.
    spenders = [[2.0, 0, 0], [1.55, 0, 0.1], [1.45, 0, 0]]
    assert named("purchase_value", VALUE, spenders) == {
        0: "whale",
        1: "whale_2",
        2: "high_value",
    }
    # No rule tells it apart, so the feature does that differs most.
    near = [[2.0, 0.4, 0], [1.8, 0.4, -0.4]]
    assert named("purchase_value", VALUE, near)[1] == "whale_low_value_trend"


def test_names_of_any_centres_are_unique_and_the_reasons_told():
    rng = np.random.default_rng(1)
    for axis, rules in load_axis_names().items():
        features = features_available((), ("web", "pos"))[axis].used
        for _ in range(20):
            centres = rng.normal(size=(6, len(features))).round(1)
            found = name_clusters(centres, centres, features, rules)
            assert len({name.name for name in found.values()}) == 6
            assert all(name.why for name in found.values())
            assert rules.unplaced not in {name.name for name in found.values()}


def test_every_axis_has_rules_on_features_of_its_own():
    rules = load_axis_names()
    assert list(rules) == [axis.name for axis in AXES]
    for axis in AXES:
        used = features_available((), ("web", "pos"))[axis.name].used
        for rule in rules[axis.name].rules:
            assert rule.for_features(used), f"{axis.name}: {rule.name}"


def test_rules_on_features_that_data_lack_are_left_out():
    found = named("purchase_value", ("value_trend",), [[2.0], [-2.0]])
    assert found == {0: "growing_basket", 1: "shrinking_basket"}


def test_a_users_file_replaces_the_keys_it_has(tmp_path):
    file = tmp_path / "names.yaml"
    file.write_text(
        "axes:\n  purchase_value:\n    otherwise: Mittelfeld\n    rules:\n"
        '      - {name: Großkunde, when: {lifetime_value: "z >= 1.5"}}\n',
        encoding="utf-8",
    )
    rules = load_axis_names(file)
    centres = [[2.0, 0, 0], [1.4, 0, 0]]
    assert named("purchase_value", VALUE, centres, rules=rules) == {
        0: "Großkunde",
        1: "Mittelfeld",
    }
    assert rules["purchase_value"].single == "everyone"
    assert rules["price_sensitivity"] == load_axis_names()["price_sensitivity"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("axis: {}", "unknown key `axis`.*Did you mean `axes`"),
        ("axes: {purchase_valu: {}}", "Did you mean `purchase_value`"),
        ("axes: {purchase_value: {rule: []}}", "Did you mean `rules`"),
        ("axes: {purchase_value: {rules: 3}}", "purchase_value.rules` is 3"),
        ("axes: {purchase_value: {otherwise: 7}}", "otherwise` is 7; expected a name"),
        (
            'axes: {purchase_value: {otherwise: "mid\\x1btier"}}',
            r"otherwise`: 'mid.x1btier' is no name.*U\+001B \(a control character\)",
        ),
        (
            "axes: {purchase_value: {rules: [{name: a, when: {}}]}}",
            r"rules\[0\].when` is empty",
        ),
        (
            "axes: {purchase_value: {rules: [{name: a, when: {lifetime_valu: high}}]}}",
            "unknown feature `lifetime_valu`. Did you mean `lifetime_value`",
        ),
        (
            "axes: {purchase_value: {rules: [{name: a, when: {total_orders: hih}}]}}",
            r"rules\[0\].when.total_orders` is `hih`.*Did you mean `high`",
        ),
        (
            'axes: {purchase_value: {rules: [{name: "{}", when: {value_trend: low}}]}}',
            "needs exactly one feature with `\\*`",
        ),
        ("- 1", "expected keys and values"),
        ("a: [", "no YAML"),
    ],
)
def test_a_faulty_file_is_refused_with_the_place(tmp_path, text, message):
    file = tmp_path / "names.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"(?s)names.yaml.*{message}"):
        load_axis_names(file)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(
        ConfigError, match=r"`axes\.names`: `nowhere\.yaml` cannot be read"
    ):
        load_axis_names("nowhere.yaml")


def test_names_do_not_hang_on_the_order_of_equal_clusters():
    centres = np.array([[2.0, 0, 0], [-0.9, 0, 0], [0.8, 0, 0]])
    expected = {0: "whale", 1: "small_spender", 2: "high_value"}
    for order in itertools.permutations(range(3)):
        found = named("purchase_value", VALUE, centres[list(order)])
        assert found == {i: expected[c] for i, c in enumerate(order)}


def test_conditions_name_known_features_only():
    for rules in load_axis_names().values():
        for rule in rules.rules:
            for condition in rule.when:
                is_channel = condition.feature.startswith("channel_share_")
                assert is_channel or condition.feature in FEATURES
