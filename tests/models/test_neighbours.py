"""The neighbour objective: weights as UMAP has them, and a space HDBSCAN can read."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from core.models.autoencoder.estimator import Autoencoder
from core.models.autoencoder.objectives import _membership, neighbour_pairs
from core.models.density import DensityClusterer


def test_nearest_neighbour_counts_fully_and_all_sum_to_log2_of_their_number():
    distances = np.sort(np.random.default_rng(0).gamma(2.0, size=(50, 15)), axis=1)
    weights = _membership(distances)
    assert (weights[:, 0] == 1.0).all()
    assert (np.diff(weights, axis=1) <= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), np.log2(15), rtol=1e-6)


def test_dense_and_sparse_rows_get_the_same_weights():
    distances = np.sort(np.random.default_rng(1).gamma(2.0, size=(20, 10)), axis=1)
    dense, sparse = _membership(distances), _membership(100 * distances)
    np.testing.assert_allclose(dense, sparse, rtol=1e-6)


def test_equal_rows_are_neighbours_without_a_warning():
    pairs = neighbour_pairs(np.zeros((6, 2), dtype=np.float32))
    assert (pairs.first < pairs.second).all()
    assert pairs.cumulated[-1] == pytest.approx(1.0)


def test_two_rows_are_each_others_neighbour():
    pairs = neighbour_pairs(np.array([[0.0], [3.0]], dtype=np.float32))
    assert pairs.first.tolist() == [0]
    assert pairs.second.tolist() == [1]


def test_pairs_are_drawn_by_weight_with_either_end_first():
    pairs = neighbour_pairs(np.array([[0.0], [1.0], [9.0]], dtype=np.float32))
    drawn = pairs.draw(4000, np.random.default_rng(2))
    assert drawn.shape == (2, 4000)
    assert 0.45 < (drawn[0] < drawn[1]).mean() < 0.55
    share = np.mean(np.sort(drawn, axis=0) == [[0], [1]], axis=1).min()
    weights = np.diff(pairs.cumulated, prepend=0.0)
    assert share == pytest.approx(weights[0], abs=0.05)


def test_groups_that_noise_blurs_come_apart_in_the_latent_space():
    """Six groups in 12 columns: HDBSCAN hardly sees them there, but in the latent."""
    rng = np.random.default_rng(4)
    group = rng.integers(0, 6, 900)
    centres = 1.4 * rng.normal(size=(6, 12))
    rows = centres[group] + rng.normal(size=(900, 12))
    clusterer = DensityClusterer(min_cluster_size=30, min_samples=10)
    latent = Autoencoder("neighbours", epochs=20).fit_transform(rows)
    before = adjusted_rand_score(group, clusterer.fit(rows).labels_)
    after = adjusted_rand_score(group, clusterer.fit(latent).labels_)
    assert after > 0.8
    assert after > before + 0.2
