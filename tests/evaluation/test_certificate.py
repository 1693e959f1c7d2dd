"""The certificate of a whole recipe, its workers, and going on where it was."""

from __future__ import annotations

import json
import os
from functools import partial

import numpy as np
import pytest
from sklearn.cluster import HDBSCAN

from core.config import Config
from core.errors import ModelError
from core.evaluation.certificate import certify_table
from core.evaluation.quality import (
    confirmed_scores,
    label_summary,
    nearest_neighbours,
    neighbour_purity,
    principal_scores,
)
from core.evaluation.stability import Fit, FitStore, refit, run_fits, whole_pipeline
from core.evaluation.workers import TASKS_PER_PROCESS, Workers
from core.models.preprocessing import FeatureScaler

pytestmark = pytest.mark.slow

N_SHOPS, N_FEATURES = 600, 8


def density_recipe(X, seed):
    """Scale, project and cluster; labels the rows that it was fitted on only."""
    scores = principal_scores(FeatureScaler().fit_transform(X), 4)[0]
    labels = HDBSCAN(min_cluster_size=30, min_samples=10, copy=True).fit(scores).labels_
    return lambda table: labels


def planted(seed, n_groups=4):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, n_groups, N_SHOPS)
    centres = 3.0 * rng.normal(size=(n_groups, N_FEATURES))
    return centres[group] + rng.normal(size=(N_SHOPS, N_FEATURES))


def structureless(seed):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(N_FEATURES, N_FEATURES))
    return np.exp(0.4 * rng.normal(size=(N_SHOPS, N_FEATURES)) @ mixing)


def with_new_shops(X):
    """Let a fifth of the shops lack three features at once."""
    holed = X.copy()
    holed[: len(X) // 5, :3] = np.nan
    return holed


def whole(**changes):
    small = {
        "clustering": {"min_cluster_size": 25},
        "autoencoder": {"epochs": 2, "architecture": "denoising"},
    }
    return whole_pipeline(Config.model_validate(small | changes))


@pytest.mark.parametrize("has_new_shops", [False, True])
def test_planted_groups_are_certified_and_each_of_them_is(has_new_shops):
    X = with_new_shops(planted(0)) if has_new_shops else planted(0)
    found = certify_table(X, density_recipe)
    assert found.is_structured
    assert found.p_value == 0.05
    assert found.n_null == found.n_null_planned == 19
    assert not found.is_stopped_early
    assert len(found.segments) == found.clusters.n_clusters >= 3
    assert {check.p_value for check in found.segments} == {0.05}
    assert sum(found.clusters.sizes) == sum(
        check.n_entities for check in found.segments
    )


def test_structureless_tables_are_hardly_ever_certified():
    # Seen: 0 of 20 of each kind; 1 of 20 would be the level of p alone.
    makers = [structureless, lambda seed: with_new_shops(structureless(seed))]
    found = [
        certify_table(make(seed), density_recipe, seed=seed)
        for make in makers
        for seed in range(4)
    ]
    assert sum(check.is_structured for check in found) == 0
    stopped = [check for check in found if check.is_stopped_early]
    assert stopped, "data without structure needs few nulls"
    assert all(check.p_value == 1 / check.n_null for check in stopped)


def test_new_shops_that_lack_the_same_features_are_no_structure():
    """Filled in, they sit in one place; so they do in the nulls."""
    X = np.random.default_rng(1).normal(size=(N_SHOPS, N_FEATURES))
    is_new = np.arange(N_SHOPS) < N_SHOPS // 3
    X[is_new, 7] += 4.0  # what is known of a shop tells that it is new
    X[is_new, :6] = np.nan
    found = certify_table(X, density_recipe)
    assert found.clusters.n_clusters == 2
    assert not found.is_structured


def test_the_verdict_does_not_depend_on_stopping_early():
    for seed in range(3):
        X = structureless(seed)
        whole_run = certify_table(X, density_recipe, seed=seed, stop_early=False)
        stopped = certify_table(X, density_recipe, seed=seed)
        assert whole_run.is_structured == stopped.is_structured
        made = stopped.null_statistics
        assert whole_run.null_statistics[: len(made)] == made


def test_a_larger_table_is_sampled_and_its_own_labels_are_checked():
    X = planted(0)
    labels = np.random.default_rng(3).integers(0, 2, N_SHOPS)
    found = certify_table(X, density_recipe, labels=labels, max_entities=300)
    assert found.n_rows == 300
    assert found.clusters.n_clusters != 2
    assert [check.cluster for check in found.segments] == [0, 1]
    assert min(check.p_value for check in found.segments) > 0.05
    known = certify_table(X, density_recipe, labels=labels)
    assert sum(known.clusters.sizes) == known.n_rows == N_SHOPS


def test_a_budget_decides_the_number_of_nulls():
    X = planted(0)
    found = certify_table(X, density_recipe, budget_seconds=1e-6)
    assert found.n_null_planned == 19
    enough = 80 * found.seconds_per_fit
    found = certify_table(X, density_recipe, budget_seconds=enough)
    assert 19 < found.n_null_planned < 400
    assert found.n_null == found.n_null_planned


def test_too_few_nulls_are_refused():
    with pytest.raises(ModelError, match="Ask for 19 or more"):
        certify_table(planted(0), density_recipe, n_null=5)


def test_a_certificate_becomes_plain_json():
    found = certify_table(planted(1), density_recipe)
    plain = json.loads(json.dumps(found.as_dict()))
    assert plain["n_null"] == 19
    assert plain["segments"][0]["cluster"] == 0


def test_neighbour_purity_and_confirmed_scores_match_a_hand_count():
    scaled = np.array([[0.0], [1.0], [2.1], [10.0], [11.0], [30.0]])
    labels = np.array([0, 0, 0, 1, 1, -1])
    neighbours = nearest_neighbours(scaled, n_neighbours=2)
    assert neighbours.tolist()[:2] == [[1, 2], [0, 2]]
    purity = neighbour_purity(neighbours, labels)
    # 0: every neighbour is a member. 1: one of two each; 1 of the 5 others would be.
    assert purity == {0: 1.0, 1: pytest.approx((0.5 - 0.2) / 0.8)}
    scores = confirmed_scores(purity, labels)
    assert scores[0] == pytest.approx(3 / 6 * np.log(5 / 3))
    assert scores[1] == pytest.approx(0.375 * 2 / 6 * np.log(5 / 2))
    whole_parts = confirmed_scores({0: 1.0, 1: 1.0}, labels)
    score = label_summary(labels).structure_score
    assert sum(whole_parts.values()) == pytest.approx(score)
    assert neighbour_purity(neighbours, np.zeros(6, dtype=np.int64)) == {0: 0.0}
    assert neighbour_purity(neighbours, np.full(6, -1)) == {}
    lone = nearest_neighbours(scaled[:1])
    assert neighbour_purity(lone, np.array([0])) == {0: 0.0}


def test_a_store_goes_on_where_it_was_and_forgets_another_model(tmp_path):
    store = FitStore(tmp_path / "work", "model a")
    calls = []

    def fit(number):
        calls.append(number)
        if number == 2:
            raise KeyboardInterrupt
        return Fit(np.array([number, -1]), {"seconds": 1.5})

    tasks = {f"null-{n}": partial(fit, n) for n in range(4)}
    with pytest.raises(KeyboardInterrupt):
        dict(run_fits(tasks, store=store))
    assert calls == [0, 1, 2]
    store.put("null-2", Fit(np.array([2, -1])))
    (tmp_path / "work" / "null-1.safetensors").write_bytes(b"cut o")
    again = dict(run_fits(tasks, store=FitStore(tmp_path / "work", "model a")))
    assert calls == [0, 1, 2, 1, 3]
    assert again["null-0"].labels.tolist() == [0, -1]
    assert again["null-0"].figures == {"seconds": 1.5}
    other = FitStore(tmp_path / "work", "model b")
    assert other.get("null-0") is None
    other.discard()
    assert not (tmp_path / "work").exists()


def test_results_do_not_depend_on_the_number_of_workers():
    X = with_new_shops(planted(2))
    alone = certify_table(X, density_recipe, seed=7)
    refits = refit(X[:200], whole(), 7, 2)
    with Workers(1) as workers:
        # One alone, since a process that trains imports TensorFlow first.
        again = refit(X[:200], whole(), 7, 2, workers=workers)
        workers.n_workers = 2
        found = certify_table(X, density_recipe, seed=7, workers=workers)
    assert found.null_statistics == alone.null_statistics
    assert found.segments == alone.segments
    for one, other in zip(refits, again, strict=True):
        assert np.array_equal(one.labels, other.labels)
        assert np.array_equal(one.is_seen, other.is_seen)


def test_workers_are_recycled_stopped_early_and_report_errors():
    with Workers(1) as workers:
        ids = [result for _, result in workers.run([os.getpid] * TASKS_PER_PROCESS)]
        ids += [result for _, result in workers.run([os.getpid])]
        assert len(set(ids)) == 2
        for _, _ in workers.run([os.getpid] * 5):
            break
        assert len(list(workers.run([os.getpid]))) == 1
        with pytest.raises(ModelError, match="at least 2"):
            list(workers.run([partial(refit, None, None, 0, 1)]))
        with pytest.raises(ModelError, match="ended unexpectedly"):
            list(workers.run([partial(os._exit, 3)]))
    with pytest.raises(ModelError, match="`workers` is -1"):
        Workers(-1)
