"""Figures that may be compared between spaces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ModelError
from core.evaluation.quality import (
    compare_spaces,
    explained_variance,
    label_summary,
    principal_scores,
    project_2d,
)


def test_four_equal_clusters_count_as_four():
    summary = label_summary(np.repeat([0, 1, 2, 3], 25))
    assert summary.effective_clusters == pytest.approx(4)
    assert summary.noise_ratio == 0
    assert summary.largest_share == 0.25
    assert summary.structure_score == pytest.approx(np.log(4))


def test_the_published_result_counts_as_little_more_than_one_cluster():
    # 59,487 retailers, 21.5% noise: a fine noise ratio, and no segmentation.
    sizes = (46_226, 329, 84, 50)
    labels = np.repeat([0, 1, 2, 3, -1], [*sizes, 59_487 - sum(sizes)])
    summary = label_summary(labels)
    assert summary.sizes == sizes
    assert summary.noise_ratio == pytest.approx(0.215, abs=5e-4)
    assert summary.effective_clusters == pytest.approx(1.066, abs=5e-4)
    assert summary.largest_share == pytest.approx(0.99, abs=5e-3)
    assert summary.structure_score < 0.05


def test_all_noise_has_no_clusters_no_largest_share_and_no_score():
    summary = label_summary([-1, -1, -1])
    assert summary.n_clusters == 0
    assert summary.noise_ratio == 1
    assert summary.effective_clusters == 0
    assert summary.largest_share is None
    assert summary.structure_score == 0


@given(st.lists(st.integers(-1, 6), min_size=1, max_size=80))
def test_effective_clusters_lie_between_one_and_their_number(labels):
    summary = label_summary(labels)
    assert sum(summary.sizes) == summary.n_entities - labels.count(-1)
    if summary.n_clusters:
        assert 1 - 1e-9 <= summary.effective_clusters <= summary.n_clusters + 1e-9
        assert 1 / summary.n_clusters <= summary.largest_share <= 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "at least one row"),
        ([[0, 1]], "one label per row"),
        ([0.5, 1.0], "expected integers"),
        ([0, -3], "labels hold -3"),
    ],
)
def test_labels_that_are_none_are_refused(labels, message):
    with pytest.raises(ModelError, match=message):
        label_summary(np.array(labels))


def test_labels_that_tell_everything_explain_everything():
    X = np.repeat([[0.0, 5.0], [1.0, -5.0]], 10, axis=0)
    assert explained_variance(X, np.repeat([0, 1], 10)) == pytest.approx(1)


def test_noise_is_not_explained():
    # Without its noise, half of the variance is left: two of four equal deviations.
    X = np.array([[-1.0], [1.0], [-1.0], [1.0]] * 50)
    labels = np.array([0, 1, -1, -1] * 50)
    by_chance = 2 * (1 - 50 / 200) / 199
    expected = (0.5 - by_chance) / (1 - by_chance)
    assert explained_variance(X, labels) == pytest.approx(expected)


def test_random_labels_explain_nothing_on_average_however_many():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4))
    labels = np.repeat(np.arange(-1, 19), 6)
    values = [explained_variance(X, rng.permutation(labels)) for _ in range(400)]
    assert np.mean(values) == pytest.approx(0, abs=0.005)


@pytest.mark.parametrize(
    ("X", "labels"),
    [
        (np.ones((4, 2)), [0, 0, 1, 1]),  # nothing varies
        (np.arange(4.0)[:, None], [-1, -1, -1, -1]),
        (np.arange(4.0)[:, None], [0, 1, 2, 3]),  # a cluster per shop: as by chance
        (np.ones((1, 1)), [0]),
    ],
)
def test_labels_with_nothing_to_explain_score_zero(X, labels):
    assert explained_variance(X, labels) == 0


def test_comparison_puts_companions_beside_the_noise_ratio():
    X = np.repeat([[0.0], [10.0], [5.0]], 4, axis=0) + np.tile([[0.0], [0.1]], (6, 1))
    labels = {
        "latent": np.repeat([0, 1, -1], 4),
        "raw": np.repeat([0, 1, -1], 4),
        "flat": np.full(12, -1),
    }
    strengths = {
        "latent": np.repeat([1.0, 0.5, 0.0], 4),
        "raw": np.repeat([0.5, 0.5, 0.0], 4),
        "flat": np.zeros(12),
    }
    table = compare_spaces(labels, X, strengths)
    assert table.columns[:7] == [
        "space", "n_entities", "clusters", "noise_ratio", "effective_clusters",
        "largest_share", "sizes",
    ]  # fmt: skip
    latent, raw, flat = table.to_dicts()
    assert latent["sizes"] == "4|4"
    assert latent["agreement_ami"] == pytest.approx(1)
    assert latent["agreement_ari"] == pytest.approx(1)
    assert latent["mean_strength"] == 0.75
    assert latent["explained_variance"] == raw["explained_variance"]
    assert flat["sizes"] == ""
    assert flat["agreement_ami"] is None, "noise agrees with noise, which is nothing"
    assert flat["mean_strength"] is None
    assert flat["structure_score"] == 0


def test_renumbered_clusters_give_the_same_figures():
    rng = np.random.default_rng(1)
    X, labels = rng.normal(size=(90, 3)), rng.integers(-1, 3, 90)
    renumbered = np.where(labels < 0, -1, 2 - labels)
    table = compare_spaces(
        {"a": labels, "b": renumbered}, X, {"a": np.ones(90), "b": np.ones(90)}
    ).drop("space")
    first, second = table.to_dicts()
    assert first == pytest.approx(second)


@pytest.mark.parametrize(
    ("labels", "strengths", "X", "message"),
    [
        ([0, 1], [1.0, 1.0], np.ones((3, 1)), "labels of `raw` have shape"),
        ([0, 1], [1.0], np.ones((2, 1)), "strengths of `raw` have shape"),
        ([0, 1], [1.0, 1.0], np.array([[np.nan], [1.0]]), "1 values that are missing"),
        ([0, 1], [1.0, 1.0], np.ones((2, 0)), r"shape \(2, 0\)"),
    ],
)
def test_tables_of_different_shops_are_refused(labels, strengths, X, message):
    with pytest.raises(ModelError, match=message):
        compare_spaces({"raw": labels}, X, {"raw": strengths})
    with pytest.raises(ModelError, match="expected the same spaces"):
        compare_spaces({"raw": labels}, X, {})


def test_principal_scores_agree_with_scikit_learn_up_to_sign():
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(2)
    X = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6))
    reference = PCA(3).fit(X)
    scores, shares = principal_scores(X, 3)
    assert np.abs(scores) == pytest.approx(np.abs(reference.transform(X)))
    assert shares == pytest.approx(reference.explained_variance_ratio_)


def test_the_projection_keeps_its_signs_when_rows_are_shuffled():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(100, 4)) * [4, 3, 2, 1]
    order = rng.permutation(100)
    assert project_2d(X[order])[0] == pytest.approx(project_2d(X)[0][order])


def test_the_projection_of_one_feature_or_of_equal_shops_is_filled_with_zeros():
    scores, shares = project_2d(np.array([[1.0], [3.0]]))
    assert scores.tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert shares.tolist() == [1.0, 0.0]
    scores, shares = project_2d(np.ones((3, 2)))
    assert not scores.any()
    assert not shares.any()
