import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from core.errors import ConfigError, ModelError
from core.models.density import DensityClusterer
from core.models.density_assigner import NeighbourIndex
from core.models.hierarchy import list_neighbours
from core.models.spanning_tree import spanning_tree


@parametrize_with_checks(
    [
        DensityClusterer(min_cluster_size=3, min_samples=2),
        DensityClusterer(min_cluster_size=5, min_samples=1, selection_method="leaf"),
    ]
)
def test_clusterer_keeps_the_estimator_contract(estimator, check):
    check(estimator)


def groups(n_rows: int, n_dims: int, n_groups: int = 4, seed: int = 0) -> np.ndarray:
    """Groups of shops with different spread, and a fifth of them in between."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, n_groups, n_rows)
    spread = rng.uniform(0.3, 1.0, n_groups)
    rows = rng.normal(0, 4, (n_groups, n_dims))[group]
    rows += rng.normal(size=rows.shape) * spread[group, None]
    n_between = n_rows // 5
    rows[:n_between] = rng.normal(0, 4, (n_between, n_dims))
    return rows


# A corner shop's monthly sales in pallets: two groups and one shop on its own.
PALLETS = np.array([1.0, 1.2, 1.4, 1.6, 9.0, 9.1, 9.2, 9.3, 9.4, 30.0])[:, None]


def test_hand_checked_shops_get_labels_by_size_and_strengths_by_distance():
    clusterer = DensityClusterer(min_cluster_size=3, min_samples=1).fit(PALLETS)
    assert clusterer.labels_.tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0, -1]
    # With one neighbour the core distance is that to the next shop: 0.2 and 0.1 in
    # the groups, evenly, so everyone is as dense as the densest of the own cluster.
    np.testing.assert_allclose(clusterer.strengths_, [1.0] * 9 + [0.0], rtol=1e-12)
    near, far = clusterer.assign([[9.7], [9.05]]).strengths
    # 9.7 is 0.3 from 9.4 and 0.4 from the shop after it, its core distance is 0.4.
    assert near == pytest.approx(0.1 / 0.4)
    assert far == 1.0


def test_noise_keeps_label_minus_one_and_zero_strength():
    clusterer = DensityClusterer(min_cluster_size=20).fit(groups(800, 3))
    is_noise = clusterer.labels_ == -1
    assert 0 < is_noise.sum() < 800
    assert (clusterer.strengths_[is_noise] == 0).all()
    assert (clusterer.strengths_[~is_noise] > 0).all()


@pytest.mark.parametrize("method", ["eom", "leaf"])
@pytest.mark.parametrize(("n_dims", "min_samples"), [(2, 5), (5, 10), (20, 3)])
def test_labels_are_those_of_hdbscan_but_for_ties(n_dims, min_samples, method):
    from hdbscan import HDBSCAN

    rows = groups(1500, n_dims)
    ours = DensityClusterer(15, min_samples, method).fit(rows)
    theirs = HDBSCAN(
        15, min_samples, cluster_selection_method=method, approx_min_span_tree=False
    ).fit(rows)
    assert ours.n_clusters_ == theirs.labels_.max() + 1 > 1
    assert adjusted_rand_score(ours.labels_, theirs.labels_) > 0.99
    name = {-1: -1}
    for label in range(ours.n_clusters_):
        name[label] = (
            np.bincount(ours.labels_[theirs.labels_ == label] + 1).argmax() - 1
        )
    other = np.flatnonzero([name[x] for x in theirs.labels_] != ours.labels_)
    # A shop that connects two groups joins both at its own core distance, and which
    # of them it is counted to (or neither) is a matter of order. Nobody else differs.
    raw = theirs.condensed_tree_.to_numpy()
    born = dict(zip(raw["child"], raw["lambda_val"], strict=True))
    born[len(rows)] = 0.0
    left = {row["child"]: row for row in raw if row["child_size"] == 1}
    assigner = ours.assigner_
    point = {tuple(values): i for i, values in enumerate(assigner.points)}
    for row in other:
        at_birth = left[row]["lambda_val"] == pytest.approx(born[left[row]["parent"]])
        own = point[tuple(rows[row])]
        birth = assigner.cluster_birth[assigner.parent[own]]
        assert at_birth or assigner.leaves_at[own] == pytest.approx(birth)


@pytest.mark.parametrize("n_dims", [3, 20])
def test_spanning_tree_is_as_short_as_prims(n_dims):
    from hdbscan._hdbscan_linkage import mst_linkage_core_vector
    from hdbscan.dist_metrics import DistanceMetric

    # Far groups, so that no list of neighbours reaches out of them.
    rows = groups(1200, n_dims, n_groups=25)
    rows[600:] += 100.0
    rows = np.unique(rows, axis=0)
    near = NeighbourIndex(rows).query(rows, 8)
    core = near.distances[:, 5].copy()
    tree = spanning_tree(rows, core, near)
    prim = mst_linkage_core_vector(rows, core, DistanceMetric.get_metric("euclidean"))
    np.testing.assert_allclose(tree.weight, np.sort(prim[:, 2]), rtol=1e-12)


@pytest.mark.parametrize("decimals", [0, 8])
def test_parts_of_the_edges_and_shared_neighbours_give_the_same_clusters(
    monkeypatch, decimals
):
    rows = groups(400, 4).round(decimals)  # 0: with many ties and equal shops
    whole = DensityClusterer(12, 5).fit(rows)
    monkeypatch.setattr("core.models.spanning_tree.CELLS", 200)
    listing = list_neighbours(rows + 0.0, 30)
    found = DensityClusterer(12, 5).fit(rows, listing=listing)
    edges = whole.hdbscan_._min_spanning_tree
    np.testing.assert_array_equal(found.hdbscan_._min_spanning_tree, edges)
    np.testing.assert_array_equal(found.labels_, whole.labels_)
    np.testing.assert_array_equal(found.strengths_, whole.strengths_)


@pytest.mark.parametrize("n_dims", [2, 12, 13, 30])
def test_neighbours_are_exact_far_from_the_origin_too(n_dims):
    rng = np.random.default_rng(3)
    points = rng.normal(size=(400, n_dims))
    points[:200] *= 1e-3
    points[:200] += 1e6
    rows = np.concatenate([points[::7], rng.normal(size=(20, n_dims))])
    exact = np.sqrt(((rows[:, None] - points) ** 2).sum(axis=2))
    found = NeighbourIndex(points).query(rows, 6)
    expected = np.sort(exact, axis=1)[:, :6]
    np.testing.assert_allclose(found.distances, expected, rtol=1e-12)
    chosen = np.take_along_axis(exact, found.indices, axis=1)
    np.testing.assert_allclose(chosen, expected, rtol=1e-12)
    assert (found.distances[: len(points[::7]), 0] == 0).all()


small_tables = arrays(
    np.float64,
    st.tuples(st.integers(8, 40), st.integers(1, 3)),
    elements=st.integers(-3, 3).map(float),
)


@given(small_tables, st.integers(1, 5), st.sampled_from(["eom", "leaf"]), st.data())
def test_shuffled_rows_keep_label_and_strength(table, min_samples, method, data):
    order = np.array(data.draw(st.permutations(range(len(table)))))
    clusterer = DensityClusterer(3, min_samples, method).fit(table)
    shuffled = DensityClusterer(3, min_samples, method).fit(table[order])
    assert (shuffled.labels_ == clusterer.labels_[order]).all()
    assert (shuffled.strengths_ == clusterer.strengths_[order]).all()


@given(small_tables, st.integers(1, 5), st.sampled_from(["eom", "leaf"]))
def test_equal_shops_share_label_and_strength(table, min_samples, method):
    clusterer = DensityClusterer(2, min_samples, method).fit(table)
    _, group = np.unique(table, axis=0, return_inverse=True)
    pairs = np.column_stack([group, clusterer.labels_, clusterer.strengths_])
    assert len(np.unique(pairs, axis=0)) == group.max() + 1
    assert np.isfinite(clusterer.strengths_).all()
    assert ((clusterer.strengths_ > 0) == (clusterer.labels_ >= 0)).all()


@given(
    arrays(
        np.float64,
        st.tuples(st.integers(6, 25), st.integers(1, 2)),
        elements=st.floats(-1e30, 1e30),
    )
)
def test_any_finite_table_is_clustered_and_assigned_as_fitted(table):
    clusterer = DensityClusterer(2, 2).fit(table)
    again = clusterer.assign(table)
    assert (again.labels == clusterer.labels_).all()
    assert (again.strengths == clusterer.strengths_).all()
    assert ((clusterer.strengths_ >= 0) & (clusterer.strengths_ <= 1)).all()


@pytest.mark.parametrize("n_dims", [5, 20])
def test_labels_are_numbered_by_size_and_do_not_depend_on_order(n_dims):
    rows = groups(1000, n_dims)
    rows[500:520] = rows[480:500]
    one = DensityClusterer(20, 5).fit(rows)
    sizes = np.bincount(one.labels_[one.labels_ >= 0])
    assert (np.diff(sizes) <= 0).all()
    order = np.random.default_rng(1).permutation(len(rows))
    two = DensityClusterer(20, 5).fit(rows[order])
    assert (two.labels_ == one.labels_[order]).all()
    assert (two.strengths_ == one.strengths_[order]).all()


def test_equally_large_clusters_are_numbered_by_their_smallest_shop():
    sales = np.array([[5.0], [5.1], [5.2], [1.0], [1.1], [1.2], [9.0], [9.1], [9.2]])
    clusterer = DensityClusterer(min_cluster_size=3, min_samples=1).fit(sales)
    assert clusterer.labels_.tolist() == [1, 1, 1, 0, 0, 0, 2, 2, 2]


@pytest.mark.parametrize("method", ["eom", "leaf"])
@pytest.mark.parametrize("min_samples", [1, 10, 50])
def test_identical_shops_only_are_no_cluster(min_samples, method):
    clusterer = DensityClusterer(5, min_samples, method).fit(np.full((200, 3), 7.0))
    assert clusterer.n_clusters_ == 0
    assert (clusterer.labels_ == -1).all()
    answer = clusterer.assign([[7.0, 7.0, 7.0], [0.0, 0.0, 0.0]])
    assert answer.labels.tolist() == [-1, -1]
    assert answer.strengths.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("method", ["eom", "leaf"])
def test_many_identical_shops_do_not_erase_their_clusters_strengths(method):
    rows = groups(600, 2, n_groups=3)
    rows[-40:] = rows[-1]
    clusterer = DensityClusterer(15, 5, method).fit(rows)
    home = clusterer.labels_[-1]
    assert home >= 0
    assert (clusterer.labels_[-40:] == home).all()
    assert (clusterer.strengths_[-40:] == 1.0).all()
    others = clusterer.strengths_[:-40][clusterer.labels_[:-40] == home]
    assert len(others)
    assert (others > 0.0).all()


def test_no_structure_found_is_a_result():
    rows = np.random.default_rng(0).normal(size=(60, 4))
    clusterer = DensityClusterer(min_cluster_size=40).fit(rows)
    assert clusterer.n_clusters_ == 0
    assert clusterer.assign(rows).labels.tolist() == [-1] * 60


def test_hdbscan_object_has_the_tables_order_and_the_published_numbers():
    rows = groups(700, 4)
    clusterer = DensityClusterer(15, 5).fit(rows)
    model = clusterer.hdbscan_
    assert (model.labels_ == clusterer.labels_).all()
    tree = model.condensed_tree_
    assert len(tree._select_clusters()) == clusterer.n_clusters_
    assert sorted(tree._select_clusters()) == tree._select_clusters()
    assert len(model.minimum_spanning_tree_.to_numpy()) == 699
    # hdbscan's own strengths: 1 where a row leaves last, in the same clusters.
    assert ((model.probabilities_ > 0) == (clusterer.labels_ >= 0)).all()
    assert model.outlier_scores_.shape == (700,)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames_are_taken_and_reordered_columns_refused(frame):
    rows = groups(200, 2)
    table = frame({"trend": rows[:, 0], "breadth": rows[:, 1]})
    clusterer = DensityClusterer(10, 3).fit(table)
    assert (clusterer.assign(table).labels == clusterer.labels_).all()
    with pytest.raises(ModelError, match="feature names"):
        clusterer.assign(table[["breadth", "trend"]])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.zeros((30, 2)), "`min_cluster_size` is 50.*lower `clustering.min_cluster"),
        (np.full((60, 2), np.nan), "are NaN, infinity"),
        (np.full((60, 2), -np.inf), "are NaN, infinity"),
        (np.zeros(60), "cannot use this table"),
        (np.zeros((0, 2)), "cannot use this table"),
        ([["a", "b"]] * 60, "cannot use this table"),
    ],
)
def test_unusable_table_is_refused_with_the_cure(table, message):
    with pytest.raises(ModelError, match=message):
        DensityClusterer().fit(table)


def test_too_few_shops_for_the_neighbours_names_the_option():
    with pytest.raises(ModelError, match=r"lower `clustering\.min_samples`"):
        DensityClusterer(min_cluster_size=5, min_samples=20).fit(np.zeros((20, 2)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_cluster_size": 1}, "`min_cluster_size` is 1; .* at least 2"),
        ({"min_samples": 2.5}, "`min_samples` is 2.5"),
        ({"selection_method": "leafs"}, "Did you mean `leaf`"),
    ],
)
def test_impossible_option_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        DensityClusterer(**options).fit(np.zeros((100, 2)))


def test_state_is_small_and_json_able():
    rows = groups(300, 5).astype(np.float32)
    clusterer = DensityClusterer(10, 5).fit(rows)
    state, meta = clusterer.assigner_.get_state()
    assert json.loads(json.dumps(meta)) == meta
    assert state["points"].dtype == np.float32
    assert {array.dtype.kind for array in state.values()} == {"f", "i"}
    assert sum(array.nbytes for array in state.values()) < 60 * len(rows)
