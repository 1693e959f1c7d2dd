"""What labels explain beyond size: nothing for luck, their due for what they know."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from core.errors import ModelError
from core.evaluation.outcomes import (
    IncrementalR2Scorer,
    incremental_r2,
    size_classes,
)


def explained_beyond_size(labels, outcomes, size, seed):
    return incremental_r2(IncrementalR2Scorer(outcomes, size, seed).losses(labels))


def shops(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Return sizes, outcomes that follow size alone, and what drew them."""
    rng = np.random.default_rng(seed)
    log_size = rng.normal(5.0, 1.3, n)
    return np.exp(log_size), log_size + rng.normal(size=n), rng


def test_labels_dealt_at_random_explain_nothing_within_their_error():
    found = []
    for seed in range(40):
        size, volume, rng = shops(400, seed)
        outcomes = pl.DataFrame({"volume": volume, "growth": rng.normal(size=400)})
        found.append(
            explained_beyond_size(rng.integers(-1, 5, 400), outcomes, size, seed)
        )
    means = np.array([explained.mean for explained in found])
    errors = np.array([explained.standard_error for explained in found])
    assert -0.006 < means.mean() < 0.002
    assert (means < 2 * errors + 1e-9).mean() > 0.9


def test_labels_get_the_share_that_they_were_given():
    size, volume, rng = shops(4000, 1)
    segment = rng.integers(0, 4, 4000)
    effect = np.array([-1.0, 0.0, 0.5, 1.5])[segment]
    outcome = volume + effect
    explained = explained_beyond_size(
        segment, pl.DataFrame({"volume": outcome}), size, 0
    )
    share = explained.by_outcome["volume"]
    assert share.beyond == pytest.approx(effect.var() / outcome.var(), abs=0.02)
    assert share.both == pytest.approx(1 - 1 / outcome.var(), abs=0.02)
    assert share.beyond > 5 * share.standard_error > 0
    assert explained.mean == pytest.approx(share.beyond)
    assert explained.standard_error == pytest.approx(share.standard_error)


def test_labels_that_only_tell_size_more_finely_get_no_credit():
    size, volume, _ = shops(4000, 2)
    twenty = np.searchsorted(np.quantile(size, np.arange(1, 20) / 20), size)
    outcomes = pl.DataFrame({"volume": volume})
    explained = explained_beyond_size(twenty, outcomes, size, 0)
    assert explained.by_outcome["volume"].size > 0.55
    assert abs(explained.mean) < 0.003


def test_the_standard_error_is_that_of_repeated_samples():
    means, errors = [], []
    for seed in range(60):
        size, volume, rng = shops(600, seed)
        segment = rng.integers(0, 3, 600)
        outcome = pl.DataFrame({"volume": volume + 0.8 * segment})
        explained = explained_beyond_size(segment, outcome, size, 0)
        means.append(explained.mean)
        errors.append(explained.standard_error)
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.3)


def test_noise_is_a_group_of_its_own():
    size, volume, rng = shops(1000, 3)
    segment = rng.integers(-1, 1, 1000)
    outcome = pl.DataFrame({"volume": volume + 2.0 * (segment == -1)})
    assert explained_beyond_size(segment, outcome, size, 0).mean > 0.2


@pytest.mark.parametrize("label", [-1, 0, 7])
def test_one_label_for_all_explains_exactly_nothing(label):
    size, volume, _ = shops(300, 4)
    outcomes = pl.DataFrame({"volume": volume})
    labels = np.full(300, label)
    assert explained_beyond_size(labels, outcomes, size, 0).mean == 0.0


def test_a_label_of_its_own_for_every_shop_does_no_harm():
    size, volume, _ = shops(300, 5)
    outcomes = pl.DataFrame({"volume": volume})
    found = explained_beyond_size(np.arange(300), outcomes, size, 0)
    assert abs(found.mean) < 0.01


def test_outcomes_that_hardly_vary_are_left_out():
    size, volume, _ = shops(300, 6)
    outcomes = pl.DataFrame(
        {
            "shop_id": [f"shop {i}" for i in range(300)],
            "volume": volume,
            "activity": np.ones(300),
            "churn": np.r_[np.ones(9), np.zeros(291)],
            "growth": pl.Series([None] * 300, dtype=pl.Float64),
        }
    )
    labels = np.arange(300) % 3
    found = explained_beyond_size(labels, outcomes, size, 0)
    assert list(found.by_outcome) == ["volume"]
    nothing = explained_beyond_size(labels, outcomes.drop("volume"), size, 0)
    assert (nothing.mean, nothing.standard_error) == (0.0, float("inf"))


def test_unknown_outcomes_are_passed_over():
    size, volume, rng = shops(500, 7)
    segment = rng.integers(0, 2, 500)
    growth = rng.normal(size=500) + segment
    is_known = rng.random(500) < 0.6
    outcomes = pl.DataFrame({"volume": volume, "growth": growth}).with_columns(
        growth=pl.when(pl.Series(is_known)).then("growth")
    )
    found = explained_beyond_size(segment, outcomes, size, 0)
    assert found.by_outcome["growth"].n_entities == is_known.sum()
    assert found.by_outcome["growth"].beyond > 0.1
    assert found.mean == pytest.approx(
        np.mean([share.beyond for share in found.by_outcome.values()])
    )


def test_the_same_seed_gives_the_same_figures():
    size, volume, rng = shops(300, 8)
    labels, outcomes = rng.integers(0, 4, 300), pl.DataFrame({"volume": volume})
    first, again, other = (
        explained_beyond_size(labels, outcomes, size, seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_errors_match_a_ridge_regression_of_the_training_shops():
    """The closed form, against a plain solve of the mixed model's equations."""
    size, volume, rng = shops(200, 9)
    labels = rng.integers(0, 3, 200)
    outcome = volume + 1.0 * labels
    judge = IncrementalR2Scorer(pl.DataFrame({"volume": outcome}), size, 0)
    block = judge._blocks[0]
    expected = np.zeros(200)
    Z = np.eye(3)[labels]
    for fold in block.folds:
        for f in range(5):
            train, test = fold != f, fold == f
            S, y = block.S[train], block.Y[train, 0]
            project = np.eye(len(S)) - S @ np.linalg.pinv(S)
            Zt = project @ Z[train]
            fitted = Zt @ np.linalg.pinv(Zt, rcond=1e-9) @ y
            rank = np.linalg.matrix_rank(Zt)
            rest = project @ y - fitted
            error = rest @ rest / (len(S) - np.linalg.matrix_rank(S) - rank)
            spread = (fitted @ fitted - rank * error) / np.trace(Zt.T @ Zt)
            u = np.linalg.solve(
                Zt.T @ Zt + error / spread * np.eye(3), Zt.T @ (project @ y)
            )
            b = np.linalg.pinv(S) @ (y - Z[train] @ u)
            predicted = block.S[test] @ b + Z[test] @ u
            expected[test] += (block.Y[test, 0] - predicted) ** 2 / 4
    assert judge.losses(labels)[0].both == pytest.approx(expected)


def test_few_shops_give_coarser_size_classes_and_no_error():
    size, volume, rng = shops(25, 10)
    assert size_classes(size).max() == 0
    found = explained_beyond_size(
        rng.integers(0, 2, 25), pl.DataFrame({"volume": volume}), size, 0
    )
    assert np.isfinite(found.mean)
    three = pl.DataFrame({"volume": [1.0, 2.0, 3.0]})
    assert explained_beyond_size([0, 1, 0], three, np.ones(3), 0).by_outcome == {}


def test_equal_sizes_share_a_class():
    size = np.r_[np.zeros(150), np.arange(1.0, 151.0)]
    classes = size_classes(size)
    assert len(set(classes[:150])) == 1
    assert classes[:150].max() < classes[150:].min()


def test_inputs_of_other_shops_are_refused():
    size, volume, _ = shops(30, 11)
    outcomes = pl.DataFrame({"volume": volume})
    with pytest.raises(ModelError, match="29 labels and 30 rows"):
        explained_beyond_size(np.zeros(29, dtype=int), outcomes, size, 0)
    with pytest.raises(ModelError, match=r"`size` has shape \(29,\)"):
        explained_beyond_size(np.zeros(30, dtype=int), outcomes, size[:29], 0)
    with pytest.raises(ModelError, match="not finite or below 0"):
        explained_beyond_size(np.zeros(30, dtype=int), outcomes, -size, 0)


def test_no_outcome_leaves_nothing_to_sum_up():
    assert incremental_r2([]).by_outcome == {}
