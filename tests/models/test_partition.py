"""A partition: everyone in one segment, placed the same wherever a row stands."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from core.errors import ArtifactError, ConfigError, ModelError
from core.models.centroids import CentroidModel
from core.models.partition import METHODS, Partition


@parametrize_with_checks(
    [Partition(n_segments=3, n_init=2), Partition("mixture", n_segments=3, n_init=2)]
)
def test_partition_keeps_the_estimator_contract(estimator, check):
    check(estimator)


def groups(n_rows=600, n_groups=4, n_dims=5, seed=0):
    """Return shops of a few kinds, and the kind of each."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, n_groups, n_rows)
    centres = rng.normal(0, 6, (n_groups, n_dims))
    return centres[group] + rng.normal(size=(n_rows, n_dims)), group


# Corner shops by pallets of beer and of crisps a month: five, three and one of a kind.
PALLETS = np.array(
    [[1, 1], [1, 2], [2, 1], [2, 2], [1.5, 1.5], [9, 1], [9, 2], [9, 3], [1, 30]],
    dtype=float,
)


def test_hand_checked_shops_are_numbered_by_size_with_their_runner_up():
    partition = Partition(n_segments=3).fit(PALLETS)
    assert partition.labels_.tolist() == [0] * 5 + [1] * 3 + [2]
    assert partition.sizes_.tolist() == [5, 3, 1]
    np.testing.assert_allclose(partition.model_.centres, [[1.5, 1.5], [9, 2], [1, 30]])
    placed = partition.assign([[1.5, 1.5], [9, 5], [1, 30]])
    assert placed.labels.tolist() == [0, 1, 2]
    assert placed.runner_up.tolist() == [1, 0, 0]
    np.testing.assert_allclose(placed.distances, [0, 3, 0])
    np.testing.assert_allclose(
        placed.runner_up_distances,
        [np.hypot(7.5, 0.5), np.hypot(7.5, 3.5), np.hypot(0.5, 28.5)],
    )


def test_equally_large_segments_are_numbered_by_their_centre():
    rows = np.array([[5.0], [5.1], [-3.0], [-3.1], [1.0], [1.1]])
    partition = Partition(n_segments=3).fit(rows)
    np.testing.assert_allclose(partition.model_.centres.ravel(), [-3.05, 1.05, 5.05])


@pytest.mark.parametrize("method", METHODS)
def test_planted_groups_are_found(method):
    rows, group = groups()
    found = Partition(method, n_segments=4).fit(rows)
    assert adjusted_rand_score(group, found.labels_) > 0.99
    assert (np.diff(found.sizes_) <= 0).all()


def test_labels_are_those_of_scikit_learn():
    from sklearn.cluster import KMeans
    from sklearn.mixture import GaussianMixture

    # Overlapping groups stretched along one direction, where the methods differ.
    rows, _ = groups(n_groups=6, n_dims=4, seed=3)
    rows[:, 0] += 5 * np.random.default_rng(0).normal(size=len(rows))
    theirs = KMeans(6, n_init=10, random_state=0).fit_predict(rows)
    ours = Partition("kmeans", n_segments=6).fit(rows).labels_
    assert adjusted_rand_score(theirs, ours) > 0.999
    partition = Partition("mixture", n_segments=6).fit(rows)
    mixture = GaussianMixture(
        partition.model_.n_segments,
        covariance_type="tied",
        reg_covar=0.01 * rows.var(axis=0).mean(),
        means_init=partition.model_.centres,
        random_state=0,
        max_iter=500,
    ).fit(rows)
    assert adjusted_rand_score(mixture.predict(rows), partition.labels_) > 0.99


@pytest.mark.parametrize("method", METHODS)
def test_a_row_is_placed_the_same_alone_and_among_others(method):
    rows, _ = groups(n_rows=9000, n_dims=7)
    partition = Partition(method, n_segments=5).fit(rows[:500])
    together = partition.assign(rows)
    for place in (0, 4095, 4096, 8999):
        alone = partition.assign(rows[place : place + 1])
        for one, many in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], many[place])


@pytest.mark.parametrize("method", METHODS)
def test_fitting_twice_gives_the_same_bits_and_leaves_global_random_state(method):
    rows, _ = groups()
    before = np.random.get_state()[1].copy()  # noqa: NPY002  the state is the point
    one, two = (Partition(method, n_segments=5, seed=7).fit(rows) for _ in range(2))
    assert one.model_.centres.tobytes() == two.model_.centres.tobytes()
    after = np.random.get_state()[1]  # noqa: NPY002  as above
    assert (before == after).all()


def test_a_sample_is_learnt_from_and_everyone_is_placed():
    rows, group = groups(n_rows=3000)
    partition = Partition(n_segments=4, max_rows=300).fit(rows)
    assert len(partition.labels_) == partition.sizes_.sum() == 3000
    assert adjusted_rand_score(group, partition.labels_) > 0.99


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_kinds", [1, 2, 3])
def test_there_are_no_more_segments_than_kinds_of_rows(method, n_kinds):
    rows = np.repeat(np.eye(3)[:n_kinds] * 4, [7, 5, 3][:n_kinds], axis=0)
    partition = Partition(method, n_segments=10).fit(rows)
    assert partition.model_.n_segments == n_kinds
    assert partition.sizes_.tolist() == [7, 5, 3][:n_kinds]
    placed = partition.assign(rows)
    if n_kinds == 1:
        assert (placed.runner_up == -1).all()
        assert np.isnan(placed.runner_up_distances).all()


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=30)
@given(data=st.data())
def test_any_table_is_divided_without_empty_segments(method, data):
    n, d = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 4))
    # Few different values: ties, constant columns and equal rows abound.
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    rows = rng.integers(0, data.draw(st.integers(1, 4)), (n, d)) * 10.0 ** rng.integers(
        -6, 7
    )
    partition = Partition(method, n_segments=data.draw(st.integers(1, 6))).fit(rows)
    assert (partition.sizes_ > 0).all()
    assert (np.diff(partition.sizes_) <= 0).all()
    placed = partition.assign(rows)
    assert np.isfinite(placed.distances).all()
    assert (placed.runner_up != placed.labels).all()
    if method == "kmeans" and partition.model_.n_segments > 1:
        assert (placed.distances <= placed.runner_up_distances).all()


@pytest.mark.parametrize("method", METHODS)
def test_saved_and_loaded_partitions_place_alike(method):
    rows, _ = groups()
    partition = Partition(method, n_segments=5).fit(rows)
    arrays, meta = partition.model_.get_state()
    loaded = CentroidModel.from_state(arrays, json.loads(json.dumps(meta)))
    assert loaded.method == method
    for one, two in zip(partition.assign(rows), loaded.assign(rows), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, m: a.pop("centres"), "missing `centres`"),
        (lambda a, m: m.update(format=9), "its format is 9"),
        (lambda a, m: a.pop("handicap"), "missing `handicap`"),
        (lambda a, m: a.update(handicap=a["handicap"][1:]), "`handicap` has the shape"),
        (lambda a, m: a.update(centres=a["centres"] * np.nan), "`centres` holds other"),
        (lambda a, m: a.update(centres=np.zeros((0, 5))), "expected segments"),
    ],
)
def test_a_state_that_fitting_cannot_leave_is_refused(change, message):
    fitted = Partition("mixture", n_segments=3).fit(groups()[0])
    arrays, meta = fitted.model_.get_state()
    change(arrays, meta)
    with pytest.raises(ArtifactError, match=message):
        CentroidModel.from_state(arrays, meta)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "mixtur"}, "Did you mean `mixture`"),
        ({"n_segments": 0}, "`n_segments` is 0"),
        ({"n_segments": 2.5}, "`n_segments` is 2.5"),
        ({"max_rows": 0}, "`max_rows` is 0"),
        ({"seed": -1}, "`seed` is -1"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Partition(**options).fit(PALLETS)


def test_placing_before_fit_is_refused():
    with pytest.raises(ModelError, match="call `fit` first"):
        Partition().assign(PALLETS)


@pytest.mark.parametrize("method", ["kmeans", "mixture"])
def test_a_partition_of_one_population_goes_on_from_the_one_before(method):
    X = np.random.default_rng(4).normal(size=(600, 6))
    before = Partition(method, 4, seed=1).fit(X[:500])
    start = before.assign(X).labels
    near = Partition(method, 4, seed=2).fit(X, start=start)
    free = Partition(method, 4, seed=2).fit(X)
    alone = near.model_.assign_one(X[7])
    assert alone == tuple(own[7] for own in near.model_.assign(X)[:3])
    assert adjusted_rand_score(near.labels_, start) > 0.75
    assert adjusted_rand_score(near.labels_, start) > adjusted_rand_score(
        free.labels_, start
    )


def test_a_start_that_is_clearly_worse_is_left():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(3), 60)
    X = 20 * np.eye(3)[groups] + rng.normal(size=(180, 3))
    bad = np.where(groups == 2, rng.integers(1, 3, 180), 0)
    found = Partition("kmeans", 3, seed=0).fit(X, start=bad)
    assert adjusted_rand_score(found.labels_, groups) == 1.0
    with pytest.raises(ModelError, match=r"`start` has 5 labels"):
        Partition("kmeans", 3).fit(X, start=bad[:5])
