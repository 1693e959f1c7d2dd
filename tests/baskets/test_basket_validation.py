"""Whether segments of baskets differ in what they were not made from."""

import polars as pl
import pytest

from core.baskets.features import BEHAVIOUR, customer_features
from core.baskets.sample import catalogue, generate_baskets
from core.baskets.validation import validate_segments
from core.rules.assign import assign_rules
from core.rules.grammar import read_rules


def validated(rules, **sample):
    made, known = generate_baskets(300, 1, **sample), catalogue()
    features = customer_features(
        made.orders.lazy(), made.items.lazy(), known.products, known.aisles
    ).drop_nulls("freq_score")
    segment = assign_rules(rules, features, "customer_id").table["segment"]
    return features, validate_segments(features, segment, rules)


@pytest.fixture(scope="module")
def planted():
    return validated(read_rules("basket-quadrants"))


def test_what_took_part_in_the_assignment_stands_apart(planted):
    _, found = planted
    tied = dict(found.definition_checks.select("metric", "tied_by").iter_rows())
    assert tied == {
        "freq_score": "freq_score",
        "mean_days_between_orders": "freq_score",
        "loyalty_score": "loyalty_score",
        "reorder_ratio": "loyalty_score",
    }
    assert not set(tied) & set(found.metrics["metric"])
    by_role = found.metrics.group_by("role").agg("metric")
    roles = {role: set(names) for role, names in by_role.iter_rows()}
    assert roles["evidence"] == {*BEHAVIOUR} - {*tied}
    assert len(roles["exploration"]) == catalogue().aisles.height


def test_other_rules_have_other_checks(tmp_path):
    path = tmp_path / "hours.yaml"
    path.write_text(
        "name: hours\nfeatures:\n  mean_days_between_orders: {type: number, from: 0}\n"
        "segments:\n  - {name: seldom, when: mean_days_between_orders >= p50}\n"
        "  - {name: often, when: mean_days_between_orders < p50}\n",
        encoding="utf-8",
    )
    _, found = validated(read_rules(path))
    assert set(found.definition_checks["metric"]) == {
        "mean_days_between_orders",
        "freq_score",
    }
    assert "loyalty_score" in found.metrics["metric"].to_list()


def test_planted_kinds_show_in_behaviour_and_random_labels_do_not(planted):
    features, found = planted
    shown = found.metrics.filter(pl.col("role") == "evidence")
    assert shown.filter(pl.col("adjusted_p") < 0.05).height >= 8
    assert shown["effect"][0] == "large"
    shuffled = pl.Series([f"s{k % 4}" for k in range(features.height)]).shuffle(3)
    none = validate_segments(features, shuffled, read_rules("basket-quadrants"))
    assert none.metrics.filter(pl.col("adjusted_p") < 0.05).height <= 1
    assert none.lines[0].startswith("In none of the 13 behaviours")


def test_sentences_tell_effects_exploration_checks_and_halves(planted):
    effects, explored, checks, halves = planted[1].lines
    assert effects.startswith("Segments differ by more than chance in")
    assert "large in `" in effects
    assert explored.startswith("Explored: ")
    assert "prove nothing" in checks
    assert "halves of each segment differ by" in halves


def test_aisles_may_be_unknown(planted):
    features, _ = planted
    aisles = [name for name in features.columns if name.startswith("aisle_")]
    bare = features.drop(aisles).with_columns(
        pl.lit(None, pl.Float64).alias(name) for name in ("aisle_entropy",)
    )
    segment = pl.Series(["a", "b"] * (bare.height // 2) + ["a"] * (bare.height % 2))
    found = validate_segments(bare, segment, read_rules("basket-quadrants"))
    assert set(found.metrics["role"]) == {"evidence"}
    own = found.metrics.filter(pl.col("metric") == "aisle_entropy")
    assert own["adjusted_p"].to_list() == [None]
