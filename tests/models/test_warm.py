"""Refits that stay close: training that goes on, and clusters near earlier labels."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from core.config import ClusteringConfig
from core.errors import ConfigError, ModelError
from core.models.autoencoder.estimator import Autoencoder, in_new_units
from core.models.autoencoder.network import Codec
from core.models.density import (
    TOLERANCE,
    DensityClusterer,
    choose_density,
    fit_density,
    structure_score,
)
from core.models.preprocessing import FeatureScaler


def sales_features(n_shops: int = 500, level: float = 1.0, seed: int = 0):
    """Features in their own units, of four kinds of shops."""
    rng = np.random.default_rng(seed)
    kinds = np.random.default_rng(99).normal(size=(4, 8))
    kind = rng.integers(0, 4, n_shops)
    units = 10.0 ** np.arange(-3, 5)
    return (kinds[kind] + 0.3 * rng.normal(size=(n_shops, 8)) + level) * units


@pytest.fixture(scope="module")
def trained():
    X = sales_features()
    scaler = FeatureScaler().fit(X).scaling_
    return scaler, Autoencoder(epochs=20).fit(scaler.transform(X)).codec_


@pytest.fixture(scope="module")
def next_month():
    """The features of the month after: higher, and of other shops."""
    X = sales_features(520, level=1.4, seed=1)
    return X, FeatureScaler().fit(X).scaling_


# --- from old units to new ones -----------------------------------------------------


def test_a_start_in_new_units_places_shops_where_the_old_model_did(trained, next_month):
    old, encoder = trained
    X, new = next_month
    within = ((old.lower < X) & (old.upper > X)).all(axis=1)
    within &= ((new.lower < X) & (new.upper > X)).all(axis=1)
    moved = in_new_units(encoder, old, new)
    before = encoder.transform(old.transform(X[within]))
    after = moved.transform(new.transform(X[within]))
    assert within.sum() > 100
    assert after == pytest.approx(before, abs=1e-4)
    restored = new.inverse_transform(moved.decoder(after))
    expected = old.inverse_transform(encoder.decoder(before))
    assert restored / new.scale == pytest.approx(expected / new.scale, abs=1e-4)


def test_the_model_that_is_started_from_does_not_change(trained, next_month):
    old, encoder = trained
    X, new = next_month
    before = {k: v.copy() for k, v in encoder.get_state()[0].items()}
    moved = in_new_units(encoder, old, new)
    Autoencoder(epochs=1).fit(new.transform(X), start=moved)
    for name, array in encoder.get_state()[0].items():
        assert np.array_equal(array, before[name])


def test_a_column_that_did_not_vary_before_keeps_its_weights(trained):
    X = sales_features()
    X[:, 2] = 5.0
    old = FeatureScaler().fit(X).scaling_
    new = FeatureScaler().fit(sales_features(seed=1)).scaling_
    moved = in_new_units(trained[1], old, new)
    kernel, was = (e.encoder.layers[0].kernel for e in (moved, trained[1]))
    assert np.array_equal(kernel[2], was[2])
    assert not np.array_equal(kernel[3], was[3])
    assert all(np.isfinite(a).all() for a in moved.get_state()[0].values())


# --- training that goes on ----------------------------------------------------------


def test_a_warm_start_stays_nearer_than_a_cold_one(trained, next_month):
    old, encoder = trained
    X, new = next_month
    Z, moved = new.transform(X), in_new_units(encoder, old, new)
    before = moved.transform(Z)
    warm = Autoencoder(epochs=20).fit(Z, start=moved).transform(Z)
    cold = Autoencoder(epochs=20).fit(Z).transform(Z)
    went = {name: np.abs(Z - before).mean() for name, Z in (("w", warm), ("c", cold))}
    assert went["w"] < 0.7 * went["c"]
    assert went["w"] > 1e-3 * before.std()  # it did learn


def test_a_warm_start_gives_the_same_bits_for_any_order_and_from_disk(
    trained, next_month
):
    old, encoder = trained
    X, new = next_month
    Z = new.transform(X)
    loaded = Codec.from_state(*encoder.get_state())
    order = np.random.default_rng(0).permutation(len(Z))
    one = Autoencoder(epochs=2).fit(Z, start=in_new_units(encoder, old, new))
    other = Autoencoder(epochs=2).fit(Z[order], start=in_new_units(loaded, old, new))
    assert one.transform(Z).tobytes() == other.transform(Z).tobytes()


@pytest.mark.parametrize(
    ("options", "finding"),
    [
        ({"latent_size": 3}, r"hidden and latent sizes are \(8, 64, 5\)"),
        ({"hidden_size": 32}, r"expected \(8, 32, 5\)"),
        ({"architecture": "denoising"}, "it is a `neighbours` network"),
        ({"architecture": "reference"}, "normalisation folded in"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(trained, next_month, options, finding):
    X, new = next_month
    with pytest.raises(ConfigError, match=finding):
        Autoencoder(epochs=1, **options).fit(new.transform(X), start=trained[1])


# --- clusters near earlier labels ---------------------------------------------------


@pytest.fixture(scope="module")
def overlapping():
    """Groups that different degrees of smoothing draw differently."""
    rng = np.random.default_rng(4)
    centres = np.array([[0.0, 0.0], [3.2, 0.0], [0.0, 3.4], [6.0, 6.0]])
    groups = centres[rng.integers(0, 4, 900)] + 0.7 * rng.standard_normal((900, 2))
    return np.vstack([groups, rng.uniform(-3, 9, (300, 2))])


def tried(X: np.ndarray) -> dict[int, np.ndarray]:
    """Labels by degree of smoothing, of the smallest size by default."""
    size = fit_density(X, ClusteringConfig(), seed=0).min_cluster_size
    return {n: DensityClusterer(size, n).fit(X).labels_ for n in (5, 10, 30)}


def test_of_equally_good_clusters_those_nearest_to_earlier_labels_are_taken(
    overlapping,
):
    labels = tried(overlapping)
    scores = {n: structure_score(found) for n, found in labels.items()}
    best = max(scores.values())
    for near in labels.values():
        found = choose_density(overlapping, ClusteringConfig(), 0, near)
        own = found.clusterer.min_samples
        agreement = {n: adjusted_rand_score(near, labels[n]) for n in labels}
        good = [n for n in labels if scores[n] >= (1 - TOLERANCE) * best]
        assert agreement[own] == max(agreement[n] for n in good)
        assert found.agreement == pytest.approx(agreement[own])
        assert found.kept_score == pytest.approx(scores[own] / best)
        assert found.kept_score >= 1 - TOLERANCE


def test_without_earlier_labels_the_best_clusters_are_taken(overlapping):
    found = choose_density(overlapping, ClusteringConfig(), 0)
    plain = fit_density(overlapping, ClusteringConfig(), 0)
    assert (found.kept_score, found.agreement) == (1.0, None)
    assert found.clusterer.labels_.tolist() == plain.labels_.tolist()


def test_a_named_degree_is_taken_whatever_the_earlier_labels(overlapping):
    near = tried(overlapping)[30]
    found = choose_density(overlapping, ClusteringConfig(min_samples=5), 0, near)
    assert found.clusterer.min_samples == 5
    assert found.agreement == pytest.approx(
        adjusted_rand_score(near, found.clusterer.labels_)
    )


def test_earlier_labels_of_other_rows_are_refused(overlapping):
    with pytest.raises(ModelError, match=r"`near` labels 3 rows; .* 1,200"):
        fit_density(overlapping, ClusteringConfig(), 0, np.zeros(3, dtype=np.int64))
