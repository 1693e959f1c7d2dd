"""Effect sizes against the rest, and their test on months that nothing has seen."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from statsmodels.stats.multitest import multipletests

from core.errors import ModelError
from core.evaluation.effects import (
    HoldoutData,
    effects_against_rest,
    holdout_effects,
    pair_segments,
)
from core.evaluation.multiple import benjamini_hochberg, holm
from core.retailers.features import SHOP

MONTHS_BEFORE, MONTHS_AFTER = 24, 12
FIRST = 2022 * 12


def test_cliffs_delta_of_six_shops_matches_counting_pairs():
    table = pl.DataFrame({"breadth": [1.0, 4.0, 5.0, 2.0, 4.0, None]})
    labels = np.array([0, 0, 0, 1, 1, 1])
    rows = effects_against_rest(table, labels, ["breadth"], is_tested=True)
    # 1, 4, 5 against 2, 4: below, below, above, tie, above, above.
    assert rows["effect"].to_list() == pytest.approx([1 / 6, -1 / 6])
    assert rows["n"].to_list() == [3, 2]
    assert rows["median"].to_list() == [4.0, 3.0]
    assert rows["rest_median"].to_list() == [3.0, 4.0]
    assert rows["p_value"].to_list() == [None, None], "too few to test"


def test_noise_is_part_of_the_rest_and_no_segment():
    table = pl.DataFrame({"breadth": [1.0, 2.0, 3.0]})
    rows = effects_against_rest(table, np.array([0, -1, -1]), ["breadth"], False)
    assert rows["segment"].to_list() == [0]
    assert rows["effect"].to_list() == [-1.0]


def test_what_made_the_segments_gets_no_p_value():
    values = np.arange(100.0)
    table = pl.DataFrame({"breadth": values})
    labels = (values >= 50).astype(int)
    rows = effects_against_rest(table, labels, ["breadth"], is_tested=False)
    assert rows["effect"].to_list() == [-1.0, 1.0]
    for column in ("low", "high", "p_value", "adjusted_p"):
        assert rows[column].null_count() == 2


@given(st.lists(st.integers(0, 4), min_size=40, max_size=80))
def test_effect_and_p_agree_with_scipys_rank_test(values):
    table = pl.DataFrame({"x": [float(v) for v in values]})
    labels = np.arange(len(values)) % 2
    row = effects_against_rest(table, labels, ["x"], True).row(0, named=True)
    own, rest = table["x"].to_numpy()[::2], table["x"].to_numpy()[1::2]
    found = mannwhitneyu(own, rest, method="asymptotic", use_continuity=False)
    assert row["effect"] == pytest.approx(
        2 * found.statistic / own.size / rest.size - 1
    )
    if len(set(values)) == 1:
        assert row["p_value"] == 1.0
    elif max(values.count(v) for v in values) < len(values) / 2:
        assert row["p_value"] == pytest.approx(found.pvalue, abs=1e-12)
    assert row["low"] <= row["effect"] <= row["high"]


@pytest.mark.parametrize(
    ("adjust", "method"), [(benjamini_hochberg, "fdr_bh"), (holm, "holm")]
)
def test_adjusted_p_values_are_those_of_statsmodels(adjust, method):
    p_values = np.random.default_rng(4).random(30) ** 4
    p_values[5] = p_values[6]  # a tie
    expected = multipletests(p_values, method=method)[1]
    assert adjust(p_values) == pytest.approx(expected)
    assert adjust(p_values[:1]) == pytest.approx(p_values[:1])


def test_intervals_hold_the_true_effect_in_95_of_100_samples():
    rng = np.random.default_rng(1)
    true = 0.5204998778130465  # erf(0.5): two normals, one standard deviation apart
    held = 0
    for _ in range(200):
        values = np.concatenate([rng.normal(1, 1, 40), rng.normal(0, 1, 200)])
        labels = np.repeat([0, -1], [40, 200])
        row = effects_against_rest(pl.DataFrame({"x": values}), labels, ["x"], True)
        held += row["low"][0] <= true <= row["high"][0]
    assert held >= 182


def test_random_cuts_of_shares_and_of_rare_events_are_seldom_called_different():
    rng = np.random.default_rng(2)
    n_false = 0
    for number in range(60):
        shares = rng.dirichlet(np.full(6, 20), 300)
        gaps = np.where(rng.random((300, 4)) < 0.9, 0, rng.random((300, 4)))
        X = shares if number % 2 else gaps
        table = pl.DataFrame(X, schema=[f"f{j}" for j in range(X.shape[1])])
        labels = rng.choice(5, 300, p=[0.4, 0.3, 0.15, 0.08, 0.07]) - 1
        rows = effects_against_rest(table, labels, table.columns, True)
        n_false += (rows["adjusted_p"].fill_null(1) <= 0.05).any()
    assert n_false <= 7


def test_a_segment_is_compared_within_its_scope_only():
    table = pl.DataFrame({"x": [1.0, 2.0, 3.0, 4.0]})
    scope = {0: np.array([True, True, True, False])}
    labels = np.array([-1, 0, -1, -1])
    row = effects_against_rest(table, labels, ["x"], False, scope).row(0, named=True)
    assert (row["n"], row["n_rest"], row["effect"]) == (1, 2, 0.0)


def test_labels_of_other_shops_are_refused():
    with pytest.raises(ModelError, match="2 labels for 1 rows"):
        effects_against_rest(pl.DataFrame({"x": [1.0]}), np.array([0, 1]), ["x"], True)


def test_segments_are_matched_by_shared_shops():
    published = np.array([0, 0, 0, 0, 1, 1, 2, -1])
    found = np.array([5, 5, 5, -1, 7, 7, 5, 7])
    match = pair_segments(published, found)
    assert match["segment"].to_list() == [0, 1, 2]
    # Four shops in both or either for 0 with 5 are 3 of 5; 1 with 7 are 2 of 3.
    assert match["jaccard"].to_list() == [pytest.approx(3 / 5), pytest.approx(2 / 3), 0]
    assert match["partner"].to_list() == [5, 7, None]


def halved(X, seed):
    """A recipe: two segments, below and above the middle of the first feature."""
    middle = (X[:, 0].min() + X[:, 0].max()) / 2
    return lambda table: (table[:, 0] > middle).astype(np.int64)


def shops_and_past(rng, is_lasting: bool):
    """300 shops, whose level of sales swings: for good, or by the month."""
    kind = rng.integers(0, 2, 300)
    months = rng.normal(0, 1, (300, MONTHS_BEFORE + MONTHS_AFTER))
    if is_lasting:
        months += 2.0 * kind[:, None]
    ids = pl.Series("shop_id", [f"kiosk{i:03d}" for i in range(300)])

    def features(part):
        return pl.DataFrame(
            {"shop_id": ids, "level": part.mean(axis=1), "swing": part.std(axis=1)}
        )

    quantity = np.exp(months)
    shop, t = np.indices(quantity.shape)
    monthly = pl.DataFrame(
        {"shop_id": ids.gather(shop.ravel()), "t": FIRST + t.ravel(),
         "quantity": quantity.ravel()}
    )  # fmt: skip
    at_cut = features(months[:, :MONTHS_BEFORE]).with_columns(as_of=pl.lit("2023-12"))
    later = features(months[:, MONTHS_BEFORE:]).with_columns(
        swing=pl.lit(None, pl.Float64)
    )
    return features(months), HoldoutData(at_cut, later, monthly, "2024-12", SHOP)


def test_lasting_groups_are_found_again_and_confirmed_by_later_months():
    table, past = shops_and_past(np.random.default_rng(3), is_lasting=True)
    X = table.select("level", "swing").to_numpy()
    segments = halved(X, 0)(X)
    found = holdout_effects(table, segments, past, ["level", "swing"], halved, 0)
    assert (found.cut, found.n_months, found.n_entities) == ("2023-12", 12, 300)
    assert found.left_out == ["swing"]
    assert found.matches["n_halves"].to_list() == [2, 2]
    level = found.effects.filter(pl.col("feature") == "level")
    assert (level["effect"].abs() > 0.9).all()
    assert (level["adjusted_p"] < 0.001).all()
    assert set(found.effects["feature"]) == {
        "level", "later_volume", "later_growth", "later_activity", "later_churn",
    }  # fmt: skip


def test_a_cut_through_noise_is_not_confirmed_by_later_months():
    rng = np.random.default_rng(4)
    n_false = 0
    for seed in range(20):
        table, past = shops_and_past(rng, is_lasting=False)
        X = table.select("level", "swing").to_numpy()
        segments = halved(X, seed)(X)
        found = holdout_effects(table, segments, past, ["level", "swing"], halved, seed)
        level = found.effects.filter(pl.col("feature") == "level")
        n_false += (level["adjusted_p"] <= 0.05).any()
    assert n_false <= 3


def test_a_segment_that_does_not_come_back_is_not_tested():
    table, past = shops_and_past(np.random.default_rng(5), is_lasting=True)
    invented = np.random.default_rng(6).integers(0, 2, 300)
    found = holdout_effects(table, invented, past, ["level", "swing"], halved, 0)
    assert found.matches["is_tested"].to_list() == [False, False]
    assert found.effects.is_empty()


def test_no_shop_known_at_the_cut_is_said():
    table, past = shops_and_past(np.random.default_rng(7), is_lasting=True)
    others = table.with_columns(shop_id=pl.col("shop_id") + "x")
    with pytest.raises(ModelError, match="known at the earlier month"):
        holdout_effects(others, np.zeros(300, int), past, ["level"], halved, 0)
