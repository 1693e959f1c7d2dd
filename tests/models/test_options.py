"""The clustering options that are taken where the user names none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from core.config import ClusteringConfig
from core.evaluation.quality import label_summary
from core.models.density import (
    DensityClusterer,
    fit_density,
    smallest_size,
    structure_score,
)


def market(n: int, seed: int = 0) -> np.ndarray:
    """Three groups of shops, two of them joined by a thin bridge."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 9.0]])
    groups = centres[rng.integers(0, 3, n)] + 0.5 * rng.standard_normal((n, 2))
    bridge = np.column_stack([np.linspace(0, 4, n // 12), np.zeros(n // 12)])
    return np.vstack([groups, bridge + 0.05 * rng.standard_normal(bridge.shape)])


def test_the_smallest_size_follows_the_number_of_shops():
    sizes = [smallest_size(n) for n in (30, 500, 1000, 2500, 5000, 20_000, 60_000)]
    assert sizes == [10, 10, 20, 50, 50, 200, 600]


def test_the_degree_of_smoothing_with_the_highest_score_is_taken():
    X = market(1200)
    fitted = fit_density(X, ClusteringConfig(), seed=0)
    assert fitted.min_cluster_size == smallest_size(len(X))
    scores = {
        n: structure_score(DensityClusterer(fitted.min_cluster_size, n).fit(X).labels_)
        for n in (5, 10, 30)
    }
    assert structure_score(fitted.labels_) == max(scores.values())
    assert scores[fitted.min_samples] == max(scores.values())


def test_named_options_are_used_as_they_are():
    X = market(400)
    options = ClusteringConfig(
        min_cluster_size=35, min_samples=7, selection_method="leaf"
    )
    fitted = fit_density(X, options, seed=0)
    own = DensityClusterer(35, 7, "leaf").fit(X)
    assert fitted.get_params() == own.get_params()
    assert fitted.labels_.tolist() == own.labels_.tolist()


def test_many_shops_are_all_clustered_with_what_a_sample_settled():
    X = market(12_000)
    fitted = fit_density(X, ClusteringConfig(), seed=1)
    again = DensityClusterer(smallest_size(len(X)), fitted.min_samples).fit(X)
    # In proportion: 1.2 times as many rows as the draw has.
    assert fitted.min_samples in (6, 12, 36, 120)
    assert fitted.labels_.tolist() == again.labels_.tolist()


def test_few_shops_are_clustered_too():
    assert fit_density(market(25), ClusteringConfig(), seed=0).min_samples == 5


@pytest.mark.parametrize(
    ("labels", "score"),
    [
        ([0, 0, 1, 1], math.log(2)),
        ([0, 0, 1, 1, -1, -1, -1, -1], math.log(2) / 2),
        ([0, 0, 0], 0.0),
        ([-1, -1], 0.0),
    ],
)
def test_the_score_is_that_of_the_structure_check(labels, score):
    found = structure_score(np.array(labels))
    assert found == pytest.approx(score)
    assert found == pytest.approx(label_summary(np.array(labels)).structure_score)
