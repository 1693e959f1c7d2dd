"""Stability of the whole pipeline, and the trap of refitting half of it."""

from __future__ import annotations

import numpy as np
import pytest

from core.config import Config
from core.errors import ModelError
from core.evaluation.stability import (
    Refit,
    agreement,
    cluster_stability,
    refit,
    whole_pipeline,
)
from core.models.autoencoder.estimator import Autoencoder
from core.models.density import DensityClusterer
from core.models.preprocessing import FeatureScaler

EVERYONE = np.ones(6, dtype=bool)


def config(**clustering):
    options = {"clustering": clustering, "autoencoder": {"epochs": 5}}
    return Config.model_validate(options)


def test_clusterwise_jaccard_matches_a_hand_count():
    reference = np.array([0, 0, 0, 1, 1, -1])
    same = Refit(np.array([5, 5, 5, 2, 2, -1]), EVERYONE)
    moved = Refit(np.array([0, 0, 1, 1, 1, -1]), EVERYONE)
    unseen = Refit(np.array([0, 0, 1, 1, 1, 1]), np.arange(6) != 2)
    found = cluster_stability(reference, [same, moved, unseen])
    # cluster 0: 1, 2/3, 2/2 without the unseen shop; cluster 1: 1, 2/3, 2/3
    assert found["jaccard"].to_list() == pytest.approx([8 / 9, 7 / 9])
    assert found["lowest_jaccard"].to_list() == pytest.approx([2 / 3, 2 / 3])
    assert found["verdict"].to_list() == ["highly stable", "stable"]
    assert found["size"].to_list() == [3, 2]


def test_a_cluster_that_becomes_noise_dissolves():
    reference = np.array([0, 0, 0, 1, 1, 1])
    gone = Refit(np.array([-1, -1, -1, 0, 0, 0]), EVERYONE)
    found = cluster_stability(reference, [gone, gone])
    assert found["jaccard"].to_list() == [0.0, 1.0]
    assert found["verdict"].to_list() == ["unstable", "highly stable"]


def test_agreement_without_noise_leaves_out_what_either_calls_noise():
    reference = np.array([0, 0, 1, 1, -1, -1])
    refit = Refit(np.array([1, 1, 0, 0, 0, 1]), EVERYONE)
    row = agreement(reference, [refit]).row(0, named=True)
    assert row["ari_clustered"] == 1.0
    assert row["ari"] < 1.0
    nothing = Refit(np.full(6, -1), EVERYONE)
    assert agreement(reference, [nothing])["ari_clustered"].to_list() == [None]


def test_no_cluster_gives_an_empty_table():
    nothing = np.full(6, -1)
    assert cluster_stability(nothing, [Refit(nothing, EVERYONE)]).height == 0


def test_one_refit_is_refused():
    with pytest.raises(ModelError, match="at least 2"):
        refit(np.zeros((20, 2)), whole_pipeline(config()), 0, 1)


def test_planted_groups_come_back_when_everything_is_refitted():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 4, 400)
    X = 3.0 * rng.normal(size=(4, 8))[group] + rng.normal(size=(400, 8))
    recipe = whole_pipeline(config(min_cluster_size=20))
    reference = recipe(X, 42)(X)
    for how, n_seen in (("subsample", 320), ("seed", 400)):
        found = refit(X, recipe, 42, 2, how)
        assert agreement(reference, found)["ari_clustered"].min() > 0.9
        assert (cluster_stability(reference, found)["jaccard"] > 0.75).all()
        assert [refit.is_seen.sum() for refit in found] == [n_seen] * 2


def test_a_frozen_encoder_looks_stable_on_nothing_and_the_whole_pipeline_does_not():
    """The trap: one population, and the published encoder, which casts groups of it."""
    X = np.random.default_rng(1).normal(size=(1200, 12))
    options = {"min_cluster_size": 30, "min_samples": 10, "selection_method": "leaf"}
    encoder = {"architecture": "reference", "latent_size": 4}
    chosen = Config.model_validate({"clustering": options, "autoencoder": encoder})
    latent = Autoencoder(**encoder).fit_transform(FeatureScaler().fit_transform(X))
    reference = DensityClusterer(**options).fit(latent).labels_
    assert reference.max() >= 1, "the encoder makes groups of nothing"
    frozen = []
    for seed in range(3):
        rows = np.random.default_rng(seed).choice(1200, 960, replace=False)
        labels = DensityClusterer(**options).fit(latent[rows]).assign(latent).labels
        frozen.append(Refit(labels, np.isin(np.arange(1200), rows)))
    whole = refit(X, whole_pipeline(chosen), chosen.seed, 3)
    assert cluster_stability(reference, frozen)["jaccard"].min() >= 0.75
    assert cluster_stability(reference, whole)["jaccard"].max() < 0.75
    of_frozen, of_whole = (
        agreement(reference, r)["ari"].mean() for r in (frozen, whole)
    )
    assert of_whole < of_frozen - 0.2
