"""Segments are found where there are some, and none where a cloud was merely cut.

How often, over many more draws: benchmarks/axes_criterion.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, silhouette_score

from core.models.centroids import (
    kmeans,
    learn_scaling,
    mean_silhouette,
    one_thread,
    pairwise_distances,
)
from core.models.criterion import Drawn, choose_segments
from core.models.valleys import density_gap, spread_ties

N = 1500


def chosen(table, seed=0, fewest=1, most=6, **before):
    """Choose as `fit_axes` does."""
    table = np.asarray(table, dtype=float)
    scaling = learn_scaling(table, [False] * table.shape[1])
    rows = np.ascontiguousarray(scaling.columns(table).T)
    opened = scaling.columns(table, is_clipped=False)
    opened = spread_ties(opened, np.random.default_rng(seed))
    with one_thread():
        return choose_segments(
            Drawn(rows, opened, **before), fewest=fewest, most=most, seed=seed
        )


def groups(rng, centres, shares, draw):
    """Return rows around centres, and the group of each."""
    group = rng.choice(len(shares), N, p=shares)
    return np.array(centres, float)[group] + draw((N, len(centres[0]))), group


def answers(rng):
    """Return four answers of yes or no, mostly yes from 30% of the customers."""
    group = rng.random(N) < 0.3
    return rng.random((N, 4)) < np.where(group, 0.95, 0.05)[:, None], group


def sums_or_nothing(rng):
    """Return a sum and a rate, both 0 for 65%."""
    group = rng.random(N) < 0.35
    amount, rate = rng.normal(3, 0.6, N), rng.beta(2, 8, N) + 0.02
    return np.where(group, [amount, rate], 0.0).T, group


def around(*centres, shares, of="standard_normal"):
    """Return a recipe for groups around centres, with noise of a kind."""
    draws = {
        "standard_normal": lambda rng, shape: rng.normal(size=shape),
        "tails": lambda rng, shape: rng.standard_t(4, shape),
        "skew": lambda rng, shape: rng.lognormal(0, 0.5, shape),
        "box": lambda rng, shape: rng.random(shape),
    }
    return lambda rng: groups(rng, centres, shares, lambda shape: draws[of](rng, shape))


PLANTED = {
    "normal": around((0, 0, 0), (6, 0, 2), (0, 6, -2), shares=(0.5, 0.3, 0.2)),
    "one of twenty": around((0, 0, 0), (5, 5, 5), shares=(0.95, 0.05)),
    "long tails": around((0, 0), (9, 0), (0, 9), shares=(0.6, 0.25, 0.15), of="tails"),
    "skewed": around((0, 0), (6, 0), (0, 6), shares=(0.5, 0.3, 0.2), of="skew"),
    "boxes": around((0, 0), (3, 0), (0, 3), (3, 3), shares=[0.25] * 4, of="box"),
    "yes or no to four questions": answers,
    "nothing or a sum": sums_or_nothing,
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_groups_are_found(name):
    rows, group = PLANTED[name](np.random.default_rng(0))
    choice, found = chosen(rows)
    assert choice.kind == "natural"
    assert choice.n_segments == len(np.unique(group))
    assert adjusted_rand_score(group, found.labels) > 0.85


STRUCTURELESS = {
    "normal": lambda r: r.normal(size=(N, 4)),
    "correlated": lambda r: r.normal(size=(N, 1)) * 2 + r.normal(size=(N, 4)),
    "one feature": lambda r: r.normal(size=(N, 1)),
    "even": lambda r: r.random((N, 2)),
    "lognormal": lambda r: r.lognormal(size=(N, 3)),
    "heavy tails": lambda r: r.standard_t(3, (N, 3)),
    "exponential": lambda r: r.exponential(size=(N, 3)),
    "shares of one": lambda r: r.dirichlet([1, 1, 1], N),
    "counts": lambda r: r.poisson(r.gamma(1, 3, (N, 2))),
    "a flag beside": lambda r: np.column_stack(
        [r.normal(size=(N, 3)), r.random(N) < 0.4]
    ),
    "zeros that fade into the rest": lambda r: np.where(
        r.random((N, 1)) < 0.4, 0, r.exponential(size=(N, 2))
    ),
}


@pytest.mark.parametrize("name", STRUCTURELESS)
def test_one_population_is_one_segment(name):
    choice, found = chosen(STRUCTURELESS[name](np.random.default_rng(0)))
    assert (choice.kind, choice.n_segments) == ("single", 1)
    assert len(found.centres) == 1
    assert all(candidate.fault for candidate in choice.candidates)


def test_a_score_of_thresholds_of_a_feature_makes_no_steps_of_it():
    tenure = np.random.default_rng(0).uniform(0, 36, N)
    stage = np.searchsorted([12, 24], tenure)
    points = np.searchsorted([12, 24], tenure) * 2 + 1
    choice, _ = chosen(np.column_stack([tenure, stage, points]))
    assert choice.n_segments == 1


def test_outliers_beside_everyone_are_no_segments_whatever_their_silhouette():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(N, 2))
    rows[:24, 0] += 20.0
    choice, _ = chosen(rows[:, :1])
    assert choice.n_segments == 1
    two = choice.candidates[0]
    assert two.smallest_share == pytest.approx(0.016)
    assert "smallest segment holds 1.6%" in two.fault
    assert two.silhouette > 0.7


def test_a_stable_cut_through_a_cloud_is_still_a_cut():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(N, 1)) * 3 + rng.normal(size=(N, 3))
    choice, _ = chosen(rows, fewest=2)
    assert (choice.kind, choice.n_segments) == ("cut", 2)
    assert choice.candidates[0].silhouette > 0.4
    assert "no gap in density" in choice.candidates[0].fault
    assert "no gaps in density between 2" in choice.verdict


def test_the_silhouette_of_one_population_stands_beside_that_of_groups():
    rows, _ = PLANTED["normal"](np.random.default_rng(0))
    choice, _ = chosen(rows)
    assert choice.shown.silhouette > choice.null_silhouette + 0.2
    assert choice.shown.stability > 0.95


def test_the_number_before_stays_while_it_nearly_meets_the_criterion():
    # Two normal groups 3 standard deviations apart: hardly a valley.
    rng = np.random.default_rng(0)
    rows, group = groups(
        rng, [[0, 0], [3.1, 0]], [0.5, 0.5], lambda s: rng.normal(size=s)
    )
    first, _ = chosen(rows)
    assert first.n_segments == 1
    assert 0.15 < first.candidates[0].valley < 0.3
    again, found = chosen(rows, before=group, n_before=2)
    assert (again.kind, again.n_segments) == ("natural", 2)
    assert adjusted_rand_score(group, found.labels) > 0.7


def test_another_number_than_before_has_to_be_clear():
    # 3.4 standard deviations apart: enough for a first model, not for a change.
    rng = np.random.default_rng(0)
    rows, _ = groups(rng, [[0, 0], [3.4, 0]], [0.5, 0.5], lambda s: rng.normal(size=s))
    first, _ = chosen(rows)
    assert first.n_segments == 2
    assert 0.3 <= first.shown.valley < 0.4
    nobody = np.zeros(N, dtype=np.int64)
    still, _ = chosen(rows, before=nobody, n_before=1)
    assert still.n_segments == 1
    assert "too small to split what was one segment before" in still.verdict
    clear, _ = PLANTED["normal"](rng)
    assert chosen(clear, before=nobody, n_before=1)[0].n_segments == 3


def test_the_number_before_is_given_up_where_nothing_is_left_of_it():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(N, 2))
    before = (rows[:, 0] > 0).astype(np.int64)
    assert chosen(rows, before=before, n_before=2)[0].n_segments == 1


def test_hand_checked_valleys():
    labels = np.repeat([0, 1], 400)
    even = np.linspace(0, 1, 400)
    # Two even stretches: apart, then as one; 400 customers per unit in both.
    apart = np.concatenate([even, even + 2])[None]
    depth = density_gap(apart, labels, np.array([[0.5], [2.5]]))
    assert depth == pytest.approx(1 - 1.64 / 0.1 / 800, abs=0.01)
    whole = np.concatenate([even, even + 1])[None]
    assert density_gap(whole, labels, np.array([[0.5], [1.5]])) < 0
    assert np.isnan(density_gap(whole, 0 * labels, np.array([[1.0]])))


def test_tied_values_are_spread_over_the_room_between_their_neighbours():
    orders = np.array([[1.0] * 4 + [2.0] * 4 + [6.0]])
    spread = spread_ties(orders, np.random.default_rng(0))[0]
    np.testing.assert_allclose(np.sort(spread[:4]), [0.625, 0.875, 1.125, 1.375])
    np.testing.assert_allclose(np.sort(spread[4:8]), [1.8125, 2.4375, 3.0625, 3.6875])
    assert spread[8] == 6.0


def test_values_without_ties_are_left_alone():
    columns = np.random.default_rng(0).normal(size=(2, 50))
    np.testing.assert_array_equal(
        spread_ties(columns, np.random.default_rng(1)), columns
    )


def test_silhouettes_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 4))
    labels = rng.integers(0, 4, 300) * 2
    labels[0] = 9  # a segment of one customer
    ours = mean_silhouette(pairwise_distances(rows), labels)
    assert ours == pytest.approx(silhouette_score(rows, labels), abs=1e-5)


def test_kmeans_goes_on_from_centres_it_is_given():
    rows = np.array([[0.0], [1.0], [10.0], [11.0]])
    with one_thread():
        found = kmeans(rows, 2, 0, start=np.array([[9.0], [2.0]]))
    np.testing.assert_allclose(found.centres, [[10.5], [0.5]])
    assert found.labels.tolist() == [1, 1, 0, 0]
