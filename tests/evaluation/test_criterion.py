"""The criterion that chooses options, its one standard error, and the plan by time."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import Config
from core.errors import ModelError
from core.evaluation.search import (
    Candidate,
    Key,
    Measured,
    Plan,
    agreements,
    candidate_latent_sizes,
    candidate_options,
    choose,
    criterion_table,
    fitted_options,
    model_keys,
    null_excess,
    plan_search,
    select,
    standing_options,
    values_of,
)
from core.evaluation.stability import FitStore, agreement, refit, whole_pipeline
from core.models.density import ClusterOptions

STANDING = Candidate(5, ClusterOptions(50, 10, "eom"))
# Ten corner shops: two halves; four in one cluster and one in another; one cluster.
HALVES = [0] * 5 + [1] * 5
UNEVEN = [0, 0, 0, 0, 1, -1, -1, -1, -1, -1]
ONE = [0] * 10


def test_agreement_weighs_coverage_and_evenness_and_counts_no_less_than_nothing():
    labels = np.array([HALVES, UNEVEN, ONE])
    ari = np.array([[1.0, 0.5, 1.0], [-0.2, 1.0, 1.0]])
    shares = np.array([0.8, 0.2])
    uneven = 0.5 * -(shares * np.log(shares)).sum()
    expected = [[np.log(2), uneven / 2, 0.0], [0.0, uneven, 0.0]]
    np.testing.assert_allclose(values_of(labels, ari), expected)


def test_noise_is_a_class_of_its_own_in_the_agreement():
    renamed = np.array([1] * 5 + [0] * 5)
    halves = np.array(HALVES)
    with_noise = np.where(np.arange(10) == 0, -1, halves)
    same, less = agreements(np.array([halves] * 2), np.array([renamed, with_noise]))
    assert same == 1.0
    assert 0.0 < less < 1.0


def test_the_criterion_is_the_excess_over_nulls_with_the_error_of_both():
    # Values of two equal clusters are ARI x ln 2: 0.8 ln 2 and 0.6 ln 2.
    found = Measured(
        labels=np.array([HALVES]),
        ari=np.array([[0.8], [0.6]]),
        null_values=np.array([[0.1], [0.3]]),
    )
    row = criterion_table(5, [STANDING.options], found).row(0, named=True)
    assert row["refit_ari"] == pytest.approx(0.7)
    assert row["value"] == pytest.approx(0.7 * np.log(2))
    assert row["criterion"] == pytest.approx(0.7 * np.log(2) - 0.2)
    # Two refits on 80% of the shops: 1/2 + 0.2/0.8 of their variance; two nulls: 1/2.
    of_refits = 0.02 * np.log(2) ** 2 * 0.75
    assert row["standard_error"] == pytest.approx(np.sqrt(of_refits + 0.02 / 2))


def table(*rows):
    """Rows of (latent size, size, samples, method, criterion, standard error)."""
    names = ["latent_size", "min_cluster_size", "min_samples", "selection_method"]
    return pl.DataFrame(
        rows, schema=[*names, "criterion", "standard_error"], orient="row"
    )


def chosen(*rows, on_nothing=0.0):
    ordered, _ = choose(table(*rows), STANDING, on_nothing)
    assert ordered["is_chosen"].sum() == ordered["is_standing"].sum() == 1
    return ordered.filter("is_chosen").row(0)[:4]


def test_the_standing_options_stay_within_one_standard_error_of_the_best():
    stand = (5, 50, 10, "eom", 0.75, 0.01)
    assert chosen((5, 20, 10, "eom", 0.8, 0.06), stand) == stand[:4]
    assert chosen((5, 20, 10, "eom", 0.8, 0.04), stand) == (5, 20, 10, "eom")


def test_a_standard_error_that_is_small_by_luck_is_not_believed():
    stand = (5, 50, 10, "eom", 0.75, 0.06)
    assert chosen((5, 20, 10, "eom", 0.8, 0.001), (3, *stand[1:]), stand) == stand[:4]


def test_of_equals_the_one_that_changes_least_is_chosen():
    stand = (5, 50, 10, "eom", 0.1, 0.01)
    three = (8, 10, 3, "eom", 0.80, 0.1)
    two = (5, 20, 5, "eom", 0.75, 0.1)
    far = (5, 10, 10, "eom", 0.72, 0.1)
    near = (5, 30, 10, "eom", 0.71, 0.1)
    below = (5, 50, 5, "eom", 0.69, 0.1)
    assert chosen(three, two, far, near, below, stand) == near[:4]
    assert chosen(three, two, below, stand) == two[:4]


@pytest.mark.parametrize(
    ("criterion", "on_nothing"), [(0.4, 0.3), (0.1, -1.0), (0.5, 0.35)]
)
def test_what_nothing_reaches_nearly_is_no_reason_to_change(criterion, on_nothing):
    stand = (5, 50, 10, "eom", -0.1, 0.12)
    best = (5, 20, 10, "eom", criterion, 0.12)
    assert chosen(best, stand, on_nothing=on_nothing) == stand[:4]
    _, is_beyond = choose(table(best, stand), STANDING, on_nothing)
    assert not is_beyond


def test_a_null_is_held_against_the_other_nulls_over_every_latent_size():
    labels = np.array([HALVES, HALVES])
    small, large = (
        Measured(labels, np.ones((2, 2)), np.array(values))
        for values in ([[0.1, 0.4], [0.3, 0.2]], [[0.0, 0.9], [0.1, 0.5]])
    )
    assert null_excess([small]) == pytest.approx(0.2)
    assert null_excess([small, large]) == pytest.approx(0.4)


def test_the_best_comes_first_whatever_the_order_of_the_rows():
    rows = [
        (5, 50, 10, "eom", 0.1, 0.01),
        (3, 20, 5, "leaf", 0.8, 0.01),
        (8, 20, 5, "leaf", 0.8, 0.01),
    ]
    ordered, _ = choose(table(*rows), STANDING, 0.0)
    assert ordered.equals(choose(table(*rows[::-1]), STANDING, 0.0)[0])
    assert ordered["latent_size"].to_list() == [3, 8, 5]


def test_a_short_budget_takes_refits_first_then_latent_sizes():
    sizes = (5, 3, 8)
    assert plan_search(sizes, 10, 10_000) == Plan(sizes, 5, 4)
    assert plan_search(sizes, 10, 10 * 3 * 12) == Plan(sizes, 4, 3)
    assert plan_search(sizes, 10, 10 * 3 * 8) == Plan(sizes, 3, 2)
    assert plan_search(sizes, 10, 10 * 2 * 8) == Plan((5, 3), 3, 2)
    assert plan_search(sizes, 10, 1) == Plan((5,), 2, 2)


@given(st.floats(0.01, 100), st.floats(0.01, 10_000), st.integers(1, 4))
def test_a_plan_fits_its_time_or_is_the_smallest(each, seconds, n_sizes):
    sizes = (5, 3, 8, 12)[:n_sizes]
    plan = plan_search(sizes, each, seconds)
    assert plan.n_models == len(model_keys(plan)) == len(set(model_keys(plan)))
    assert plan == Plan((5,), 2, 2) or plan.n_models * each <= seconds
    # What is timed belongs to every plan.
    assert model_keys(plan)[:3] == [Key(5, 0, None), Key(5, 0, 0), Key(5, 0, 1)]


def test_candidates_fit_the_shops_and_hold_what_stands():
    few = candidate_options(ClusterOptions(50, 7, "leaf"), 300)
    assert {o.min_cluster_size for o in few} == {10, 15, 20, 30, 50}
    assert {o.min_samples for o in few} == {5, 7, 10, 30}
    assert ClusterOptions(50, 7, "leaf") in few
    assert candidate_latent_sizes(6, 9) == (6, 5, 8, 3)
    assert candidate_latent_sizes(25, 3) == (25,)


def test_sizes_are_scaled_to_the_shops_that_are_searched():
    assert fitted_options(ClusterOptions(200, 10, "eom"), 40_000, 5000) == (
        25,
        10,
        "eom",
    )
    # 80% of 40 shops hold no cluster of 50, and no shop with 35 neighbours.
    assert fitted_options(ClusterOptions(50, 35, "eom"), 40, 40) == (32, 31, "eom")


QUICK = Config.model_validate(
    {
        "autoencoder": {"architecture": "denoising", "epochs": 8, "latent_size": 3},
        "clustering": {"min_cluster_size": 100},
    }
)


def planted(n_shops: int = 400) -> np.ndarray:
    """Five groups of 80 shops or so, in eight features."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 5, n_shops)
    return 4.0 * rng.normal(size=(5, 8))[group] + rng.normal(size=(n_shops, 8))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return FitStore(tmp_path_factory.mktemp("models") / "unfinished", "planted")


@pytest.fixture(scope="module")
def found(store):
    return select(planted(), QUICK, plan=Plan((3,), 2, 2), n_workers=0, store=store)


def test_planted_groups_are_found_where_the_standing_options_miss_them(found):
    row = found.table.filter("is_chosen").row(0, named=True)
    stands = found.table.filter("is_standing").row(0, named=True)
    assert stands["min_cluster_size"] == 100
    assert stands["clusters"] < 5
    assert row["clusters"] == 5
    assert row["criterion"] > stands["criterion"]
    assert found.is_beyond_null


def test_the_refit_ari_is_that_of_the_whole_pipeline_refitted(found):
    X, recipe = planted(), whole_pipeline(QUICK)
    reference = recipe(X, QUICK.seed)(X)
    refits = refit(X, recipe, QUICK.seed, 2)
    stands = found.table.filter("is_standing").row(0, named=True)
    ari = agreement(reference, refits)["ari"].mean()
    assert stands["refit_ari"] == pytest.approx(ari, abs=1e-12)
    assert stands["clusters"] == reference.max() + 1


def test_a_search_goes_on_where_it_was_and_time_decides_the_plan_only(found, store):
    kept = sorted(store.folder.glob("latent-*"))
    assert len(kept) == 7
    for path in kept[1::3]:
        path.unlink()
    steps, plans = [], []
    again = select(
        planted(),
        QUICK,
        budget_minutes=1e-9,
        n_workers=0,
        store=store,
        on_plan=lambda plan, seconds: plans.append(plan),
        on_step=lambda done, total: steps.append((done, total)),
    )
    assert plans == [again.plan] == [Plan((3,), 2, 2)] == [found.plan]
    assert again.table.equals(found.table)
    assert steps[-1] == (7, 7)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)


def test_impossible_searches_are_refused():
    X = planted(60)
    with pytest.raises(ModelError, match="time above 0"):
        select(X, QUICK, budget_minutes=0)
    with pytest.raises(ModelError, match="at least 2 of each"):
        select(X, QUICK, plan=Plan((3,), 1, 2))
    with pytest.raises(ModelError, match="standing one first, which is 3"):
        select(X, QUICK, plan=Plan((5, 3), 2, 2))


def test_standing_options_are_the_configured_ones():
    assert standing_options(Config(), 5000) == (50, 10, "eom")
