"""Many options over one spanning tree, and the criterion that chooses among them."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import ConfigError, ModelError
from core.models.density import ClusterGrid, DensityClusterer, label_grid, option_grid


def groups(n_rows: int, n_dims: int = 3, seed: int = 0) -> np.ndarray:
    """Four groups of shops of different spread, and a fifth of them in between."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 4, n_rows)
    rows = rng.normal(0, 4, (4, n_dims))[group]
    rows += rng.normal(size=rows.shape) * rng.uniform(0.3, 1.0, 4)[group, None]
    n_between = n_rows // 5
    rows[:n_between] = rng.normal(0, 4, (n_between, n_dims))
    return rows


@pytest.mark.parametrize("n_dims", [2, 15])
def test_labels_are_those_of_a_clusterer_fitted_anew(n_dims):
    # Rounded, so that equal rows and equal distances are among them.
    rows = groups(400, n_dims).round(1)
    others = np.vstack([groups(100, n_dims, seed=1).round(1), rows[:50]])
    grid = ClusterGrid(option_grid([8, 20, 60, 200], [3, 10])).fit(rows)
    fitted, assigned = grid.labels, grid.assign(others)
    assert len(fitted) == 16
    assert len({labels.tobytes() for labels in fitted.values()}) >= 2
    for options, labels in fitted.items():
        anew = DensityClusterer(*options).fit(rows)
        np.testing.assert_array_equal(labels, anew.labels_)
        np.testing.assert_array_equal(assigned[options], anew.assign(others).labels)
        strengths = grid.clusterers_[options].strengths_
        np.testing.assert_array_equal(strengths, anew.strengths_)


def test_each_combination_occurs_once_and_in_order():
    found = option_grid([20, 10, 20], [5], ["leaf", "eom"])
    assert [tuple(options) for options in found] == [
        (10, 5, "eom"),
        (10, 5, "leaf"),
        (20, 5, "eom"),
        (20, 5, "leaf"),
    ]


def test_a_grid_without_options_or_rows_enough_is_refused():
    with pytest.raises(ConfigError, match="no options"):
        label_grid(groups(50), [])
    with pytest.raises(ModelError, match="fewer than one cluster"):
        label_grid(groups(50), option_grid([10, 60], [3]))
    with pytest.raises(ModelError, match="call `fit`"):
        ClusterGrid(option_grid([10], [3])).assign(groups(5))


def test_a_linkage_serves_its_own_min_samples_only():
    linkage = DensityClusterer(10, 3).link(groups(60))
    with pytest.raises(ConfigError, match="linked with 3"):
        DensityClusterer(10, 5).fit_linked(linkage)
