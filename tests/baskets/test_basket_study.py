"""The clustering study: groups where there are some, and rules where there are none."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import adjusted_rand_score, silhouette_score

from core.baskets import study_candidates as steps
from core.baskets.features import BEHAVIOUR
from core.baskets.study import CANDIDATES, run_study
from core.baskets.study_methods import METHODS, knee_distance
from core.baskets.study_spaces import learn_spaces, study_table
from core.models.valleys import spread_ties

HABITS = [name for name in BEHAVIOUR if "hour" not in name][:8]
AISLES = [f"aisle_{place}_goods" for place in range(10)]


def frame(habits, aisles=None):
    columns = {"customer_id": [f"c{place:04}" for place in range(len(habits))]}
    columns |= dict(zip(HABITS, habits.T, strict=True))
    if aisles is not None:
        columns |= dict(zip(AISLES, aisles.T, strict=True))
    return pl.DataFrame(columns)


def correlated_normal(rng, n):
    return rng.normal(size=(n, 2)) @ rng.normal(size=(2, 8)) + rng.normal(size=(n, 8))


def heavy_tails(rng, n):
    return np.exp(correlated_normal(rng, n))


def bent_gradient(rng, n):
    way = np.pi * rng.random((n, 1))
    waves = np.sin(way * rng.uniform(0.5, 2, 8) + rng.uniform(0, 6, 8))
    return waves + 0.2 * rng.normal(size=(n, 8))


def independent(rng, n):
    return rng.normal(size=(n, 8))


@pytest.fixture(scope="module")
def planted():
    """Three groups of unequal sizes, told apart by what they buy only."""
    rng = np.random.default_rng(1)
    kind = rng.choice(3, 300, p=[0.55, 0.3, 0.15])
    weights = np.full((3, 10), 0.6)
    for own, liked in zip(weights, ([0, 1, 2], [3, 4, 5], [6, 7, 8]), strict=True):
        own[liked] *= 8
    amounts = rng.gamma(weights[kind])
    features = frame(independent(rng, 300), amounts / amounts.sum(axis=1)[:, None])
    segment = pl.Series(kind).cast(pl.String)
    study = run_study(
        features, AISLES, seed=3, max_customers=300, segment=segment, epochs=1
    )
    return study, kind


def test_groups_that_only_aisles_show_are_found(planted):
    study, kind = planted
    assert study.verdict == "clear"
    assert study.chosen["k"] == 3
    assert study.chosen["space"] != "behaviour"
    truth = kind[[int(name[1:]) for name in study.labels["customer_id"]]]
    agreement = adjusted_rand_score(truth, study.labels["cluster"])
    assert agreement > 0.9
    assert study.facts["rules_ari"] == pytest.approx(agreement)
    assert f"ARI of {agreement:.2f}" in " ".join(study.recommendation)
    assert json.loads(json.dumps(study.facts)) == study.facts


def test_every_figure_stands_beside_its_value_without_structure(planted):
    candidates = planted[0].candidates
    assert candidates.schema == pl.Schema(CANDIDATES)
    cuts = candidates.filter(pl.col("method").is_in(["kmeans", "mixture", "ward"]))
    assert cuts.group_by("space", "method").len()["len"].unique().to_list() == [9]
    for measure in steps.MEASURES:
        assert cuts[f"{measure}_null"].null_count() == 0
    best = cuts.sort("excess").tail(1)
    assert best["silhouette"].item() > best["silhouette_null"].item()
    assert best["bootstrap_ari"].item() > best["bootstrap_ari_null"].item()
    assert set(candidates["method"]) == {*METHODS, "autoencoder"}
    assert candidates.filter(pl.col("bic").is_not_null())[
        "method"
    ].unique().to_list() == ["mixture"]


def test_the_simplest_within_one_standard_error_is_chosen(planted):
    study, _ = planted
    best = study.candidates.filter(
        (pl.col("valley") >= 0.3) & (pl.col("bootstrap_ari") >= 0.8)
    )["excess"].max()
    assert study.chosen["excess"] >= best - study.facts["standard_error"]


@pytest.mark.parametrize(
    "make", [independent, correlated_normal, heavy_tails, bent_gradient]
)
def test_without_groups_the_rules_are_recommended(make):
    features = frame(make(np.random.default_rng(5), 250))
    study = run_study(features, [], seed=1, max_customers=250, epochs=0)
    assert study.verdict != "clear"
    assert study.recommendation[0].startswith("Use the rules.")
    assert set(study.candidates["space"]) <= {"behaviour", "pruned"}
    assert study.candidates["excess"].is_finite().sum() >= 9


def test_more_customers_are_sampled_and_the_same_seed_gives_the_same():
    features = frame(independent(np.random.default_rng(2), 200))
    made = [
        run_study(features, [], seed=4, max_customers=60, epochs=0) for _ in range(2)
    ]
    assert made[0].candidates.equals(made[1].candidates)
    assert made[0].facts["n_customers"] == 200
    assert made[0].facts["n_studied"] == made[0].labels.height == 60


@pytest.mark.parametrize("n", [0, 1, 49])
def test_too_few_customers_are_told_and_the_rules_recommended(n):
    study = run_study(frame(np.ones((n, 8))), [], seed=1, max_customers=100, epochs=0)
    assert study.verdict == "none"
    assert study.chosen is None
    assert f"looked at {n} customers" in " ".join(study.recommendation)


def test_customers_who_are_all_alike_have_nothing_to_study():
    study = run_study(frame(np.ones((80, 8))), [], seed=1, max_customers=100, epochs=0)
    assert (study.verdict, study.chosen) == ("none", None)
    assert study.facts["left_out"] == HABITS


def test_midnight_is_between_the_hours_before_and_after_it():
    features = pl.DataFrame(
        {
            "customer_id": ["a", "b", "c", "d"],
            "mean_order_hour": [23.0, 1.0, 0.0, None],
            "aisle_entropy": [None] * 4,
            "loyalty_score": [0.1, 0.2, 0.3, 0.4],
        },
        schema_overrides={"aisle_entropy": pl.Float64},
    )
    table = study_table(features, [])
    assert table.behaviour == ("mean_order_hour",)
    assert table.left_out == ("aisle_entropy",)
    assert table.n_unknown == {"mean_order_hour": 1}
    assert table.X[:3, 0] == pytest.approx([-1.0, 1.0, 0.0])


def test_of_two_correlated_features_the_later_is_left_out_and_told():
    rng = np.random.default_rng(0)
    habits, aisles = independent(rng, 200), rng.random((200, 10))
    habits[:, 5] = -habits[:, 2] + 0.1 * rng.normal(size=200)
    table = study_table(frame(habits, aisles), AISLES)
    spaces = learn_spaces(table.X, 8)
    facts = {row["space"]: row for row in spaces.facts(table).to_dicts()}
    assert facts["pruned"]["pruned"].startswith(f"{HABITS[5]} ({HABITS[2]}: -")
    assert facts["pruned"]["features"] == 17
    assert facts["combined"]["columns"] == 18
    assert facts["combined"]["explained_variance"] == pytest.approx(1.0)
    scaled = spaces.scaler.transform(table.X)
    assert spaces.matrix("pruned", scaled).shape == (200, 17)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_finds_two_far_groups_and_labels_others(method):
    rng = np.random.default_rng(3)
    kind = np.repeat([0, 1], [90, 60])
    Z = 12 * kind[:, None] + rng.normal(size=(150, 4))
    made = next(METHODS[method](Z, [2], 0))
    known = made.labels >= 0
    assert known.mean() > 0.8
    assert adjusted_rand_score(kind[known], made.labels[known]) == 1.0
    again = made.assign(Z)
    both = known & (again >= 0)
    assert both.mean() > 0.8
    assert (again[both] == made.labels[both]).all()


def test_the_knee_lies_between_the_dense_and_the_scattered():
    rng = np.random.default_rng(0)
    rows = np.vstack([rng.normal(size=(300, 2)), rng.uniform(-40, 40, (20, 2))])
    assert 0.3 < knee_distance(rows) < 15


def test_a_bend_has_a_valley_between_its_ends_but_not_on_the_way():
    rng = np.random.default_rng(0)
    way = 4 * rng.random(1500)
    across, along = np.clip(way - 1.5, 0, 1), np.minimum(np.minimum(way, 4 - way), 1.5)
    Z = np.column_stack([3 * across, along]) + 0.05 * rng.normal(size=(1500, 2))
    labels = (across > 0.5).astype(np.int64)
    columns = spread_ties(Z.T.copy(), rng)
    assert steps._valley(Z, columns, labels, 0) < 0.3
    apart = Z + np.where(labels[:, None] == 1, [3.0, 0.0], 0.0)
    assert steps._valley(apart, spread_ties(apart.T.copy(), rng), labels, 0) > 0.3


def test_measures_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    Z, labels = rng.normal(size=(60, 3)), np.repeat([0, 1, -1], 20)
    figures = steps._measures(Z, Z, labels)
    assert figures["noise_share"] == pytest.approx(1 / 3)
    assert figures["smallest_cluster"] == pytest.approx(1 / 3)
    distances = np.linalg.norm(Z[:, None] - Z, axis=2).astype(np.float32)
    found = steps._silhouette(distances, labels)
    assert found == pytest.approx(silhouette_score(Z[:40], labels[:40]), abs=1e-5)
