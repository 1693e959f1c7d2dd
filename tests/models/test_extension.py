"""New groups among the unassigned: found where there are any, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from core.config import ClusteringConfig
from core.errors import ArtifactError, ModelError
from core.models.density import DensityClusterer
from core.models.extension import Extension, filled, find_new_groups

OPTIONS = ClusteringConfig()


def market(seed: int, n_new: int = 0, n_between: int = 120):
    """Three segments, shops in between, and `n_new` of a kind nobody has seen."""
    rng = np.random.default_rng(seed)
    centres = 6.0 * np.eye(4)[:3]
    old = np.vstack([c + 0.5 * rng.standard_normal((250, 4)) for c in centres])
    between = rng.uniform(-2.0, 8.0, (n_between, 4))
    new = 6.0 * np.eye(4)[3] + 0.4 * rng.standard_normal((n_new, 4))
    clusterer = DensityClusterer(40, 10).fit(np.vstack([old, between]))
    rows = np.vstack([old, between, new])
    is_new = np.arange(len(rows)) >= len(rows) - n_new
    return clusterer, rows, is_new


@pytest.fixture(scope="module")
def grown():
    clusterer, rows, is_new = market(0, n_new=90)
    base = clusterer.assign(rows)
    return clusterer, rows, is_new, base, find_new_groups(rows, base.labels, OPTIONS, 0)


def test_a_new_kind_of_shops_is_found_among_the_unassigned(grown):
    _, _, is_new, base, found = grown
    members = np.flatnonzero(base.labels < 0)[found.labels == 0]
    assert found.extension.n_groups == 1
    assert is_new[members].mean() > 0.95
    assert len(members) > 0.8 * is_new.sum()
    assert found.largest > found.largest_null


def test_nothing_is_found_where_shops_are_only_in_between():
    n_found = 0
    for seed in range(20):
        clusterer, rows, _ = market(seed, n_between=150 + 20 * seed)
        labels = clusterer.assign(rows).labels
        n_found += find_new_groups(rows, labels, OPTIONS, seed).extension is not None
    assert n_found <= 1


def test_a_group_that_is_nearly_all_of_the_unassigned_is_found():
    clusterer, rows, _ = market(3, n_new=150, n_between=5)
    found = find_new_groups(rows, clusterer.assign(rows).labels, OPTIONS, 0)
    assert found.extension is not None
    assert (found.labels == 0).sum() > 130


def test_old_labels_stay_and_new_numbers_go_on_after_them(grown):
    clusterer, rows, _, base, found = grown
    after = filled(base, found.extension, rows, clusterer.n_clusters_)
    held = base.labels >= 0
    assert after.labels[held].tolist() == base.labels[held].tolist()
    assert after.strengths[held].tolist() == base.strengths[held].tolist()
    gained = after.labels[~held]
    assert set(gained.tolist()) == {-1, clusterer.n_clusters_}
    assert (after.strengths[~held] > 0).tolist() == (gained >= 0).tolist()
    assert after.strengths.max() <= 1.0


def test_predicting_the_rows_of_the_search_gives_the_labels_found(grown):
    _, rows, _, base, found = grown
    left = rows[base.labels < 0]
    assert found.extension.assign(left).labels.tolist() == found.labels.tolist()
    alone = [int(found.extension.assign(left[i : i + 1]).labels[0]) for i in range(50)]
    assert alone == found.labels[:50].tolist()


def test_the_order_of_the_rows_changes_nothing(grown):
    _, rows, _, base, found = grown
    order = np.random.default_rng(1).permutation(len(rows))
    again = find_new_groups(rows[order], base.labels[order], OPTIONS, 0)
    label_of = np.full(len(rows), -1)
    label_of[order[base.labels[order] < 0]] = again.labels
    assert label_of[base.labels < 0].tolist() == found.labels.tolist()
    assert np.array_equal(again.extension.points, found.extension.points)
    assert again[2:] == found[2:]


def test_a_group_smaller_than_a_cluster_may_be_is_none():
    clusterer, rows, _ = market(0, n_new=90)
    options = ClusteringConfig(min_cluster_size=120)
    found = find_new_groups(rows, clusterer.assign(rows).labels, options, 0)
    assert found.extension is None
    assert (found.labels == -1).all()


def test_new_groups_are_numbered_by_size():
    clusterer, rows, _ = market(0, n_new=60)
    rng = np.random.default_rng(5)
    larger = -6.0 * np.eye(4)[3] + 0.4 * rng.standard_normal((140, 4))
    rows = np.vstack([rows, larger])
    found = find_new_groups(rows, clusterer.assign(rows).labels, OPTIONS, 0)
    sizes = np.bincount(found.labels[found.labels >= 0])
    assert len(sizes) == 2
    assert sizes[0] > sizes[1]
    assert set(found.labels[-100:].tolist()) <= {0, -1}


def test_equal_shops_make_a_group_without_a_warning():
    clusterer, rows, _ = market(0)
    rows = np.vstack([rows, np.full((80, 4), -5.0)])
    found = find_new_groups(rows, clusterer.assign(rows).labels, OPTIONS, 0)
    assert (found.labels[-80:] == 0).all()
    assert (found.extension.assign(rows[-80:]).strengths == 1.0).all()


def test_a_saved_extension_assigns_the_same(grown):
    _, rows, _, _, found = grown
    loaded = Extension.from_state(*found.extension.get_state())
    expected = found.extension.assign(rows)
    again = loaded.assign(rows)
    assert again.labels.tolist() == expected.labels.tolist()
    assert again.strengths.tolist() == expected.strengths.tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"group": np.array([1])},
        {"points": np.array([[np.nan]])},
        {"core": np.array([-1.0])},
        {"level": float("inf")},
        {"format": 9},
    ],
)
def test_an_altered_extension_is_refused(change):
    arrays, meta = Extension(
        np.array([[0.0]]), np.array([0]), np.array([1.0]), 2.0
    ).get_state()
    for name, value in change.items():
        (arrays if name in arrays else meta)[name] = value
    with pytest.raises(ArtifactError, match="new groups are unusable"):
        Extension.from_state(arrays, meta)


def test_labels_that_do_not_fit_are_refused():
    rows = np.zeros((5, 2))
    with pytest.raises(ModelError, match="labels 3 rows; expected 5"):
        find_new_groups(rows, np.array([0, 0, -1]), OPTIONS, 0)
    with pytest.raises(ModelError, match="0 of 5 rows are in a cluster"):
        find_new_groups(rows, np.full(5, -1), OPTIONS, 0)


def test_an_extension_can_be_extended(grown):
    clusterer, rows, _, _, found = grown
    rng = np.random.default_rng(8)
    later = np.vstack([rows, -6.0 * np.eye(4)[0] + 0.4 * rng.standard_normal((80, 4))])
    first = filled(clusterer.assign(later), found.extension, later, 3)
    again = find_new_groups(later, first.labels, OPTIONS, 0)
    second = filled(first, again.extension, later, 4)
    held = first.labels >= 0
    assert second.labels[held].tolist() == first.labels[held].tolist()
    assert (second.labels[-80:] == 4).mean() > 0.6
    assert again.extension.n_groups == 1
