"""Pictures: every odd case gives a readable PNG and leaves matplotlib as it was."""

from __future__ import annotations

import struct

import matplotlib as mpl
import numpy as np
import pytest
from seen import is_clipped

from core.errors import ModelError
from core.reporting.plots import plot_loss, plot_sizes, plot_space
from core.retailers.features import SHOP

AXES = ("component 1 (46.1% of the variance)", "component 2 (22.0%)")


def png_size(path):
    """Return width and height in pixels from the header of a PNG."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def clusters_of(n_shops, n_clusters, rng):
    labels = rng.integers(-1, n_clusters, n_shops)
    return rng.normal(size=(n_shops, 2)) + 3 * labels[:, None] % 7, labels


@pytest.mark.parametrize(
    ("n_shops", "n_clusters"), [(400, 0), (400, 1), (400, 4), (60_000, 30), (1, 0)]
)
def test_a_space_is_drawn_with_none_one_or_many_clusters(tmp_path, n_shops, n_clusters):
    coordinates, labels = clusters_of(n_shops, n_clusters, np.random.default_rng(0))
    path = tmp_path / "latent-space.png"
    plot_space(coordinates, labels, "Latent space", AXES, path, SHOP)
    width, height = png_size(path)
    assert 800 < width < 1600
    assert 500 < height < 1000
    assert not is_clipped(path)


def test_one_place_for_all_shops_and_far_outliers_can_be_drawn(tmp_path):
    path = tmp_path / "raw-space.png"
    plot_space(np.zeros((5, 2)), np.zeros(5, dtype=int), "Raw", AXES, path, SHOP)
    coordinates = np.random.default_rng(0).normal(size=(500, 2))
    coordinates[0] = 1e6
    plot_space(coordinates, np.zeros(500, dtype=int), "Raw", AXES, path, SHOP)
    assert not is_clipped(path)


def test_sizes_are_drawn_for_dominant_many_and_no_clusters(tmp_path):
    path = tmp_path / "sizes.png"
    rng = np.random.default_rng(0)
    labels = {
        "Latent space": np.repeat([0, 1, -1], [9_000, 60, 940]),
        "Raw features": rng.integers(-1, 40, 10_000),
        "Nothing": np.full(10_000, -1),
    }
    plot_sizes(labels, path, SHOP)
    assert not is_clipped(path)
    plot_sizes({"Latent space": np.array([-1])}, path, SHOP)
    assert not is_clipped(path)


def test_loss_is_drawn_with_and_without_validation_and_for_one_epoch(tmp_path):
    path = tmp_path / "loss-plot.png"
    curve = list(np.exp(-np.arange(40) / 9))
    plot_loss({"loss": curve, "val_loss": [x + 0.1 for x in curve]}, 33, path)
    assert not is_clipped(path)
    plot_loss({"loss": curve}, 1, path)
    plot_loss({"loss": [0.5], "val_loss": [0.6]}, 1, path)
    assert not is_clipped(path)


@pytest.mark.parametrize(("epochs", "best"), [(3, 0), (3, 4), (0, 1)])
def test_an_epoch_outside_of_the_history_is_refused(tmp_path, epochs, best):
    with pytest.raises(ModelError, match="counted from 1"):
        plot_loss({"loss": [1.0] * epochs}, best, tmp_path / "loss-plot.png")


def test_names_are_texts_whatever_they_hold(tmp_path):
    path = tmp_path / "odd.png"
    plot_sizes({"$a$ <b> & 店": np.array([0, -1])}, path, SHOP)
    plot_space(np.zeros((2, 2)), np.array([0, 1]), "$\\nope$", ("$", "%"), path, SHOP)
    assert png_size(path)


def test_the_callers_style_and_backend_are_left_alone_and_do_not_show(tmp_path):
    plain, styled = tmp_path / "plain.png", tmp_path / "styled.png"
    labels = {"Latent space": np.array([0, 0, 1, -1])}
    plot_sizes(labels, plain, SHOP)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        before = dict(mpl.rcParams)
        plot_sizes(labels, styled, SHOP)
        assert dict(mpl.rcParams) == before
    assert styled.read_bytes() == plain.read_bytes()
