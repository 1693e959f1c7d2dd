import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_density import groups

from core.errors import ArtifactError, ModelError
from core.models import density_assigner as prediction
from core.models.density import DensityClusterer
from core.models.density_assigner import Assigner


def mended_reference(clusterer: DensityClusterer, monkeypatch):
    """Return hdbscan's `approximate_predict` with the selected clusters put right.

    Where a selected cluster splits before it loses a row, hdbscan 0.8.44 takes one of
    the parts for it.
    """
    from hdbscan import approximate_predict
    from hdbscan.plots import CondensedTree

    label = clusterer.assigner_.cluster_label
    above = label[clusterer.assigner_.cluster_parent]
    n_rows = len(clusterer.labels_)
    selected = (np.flatnonzero((label >= 0) & (above < 0)) + n_rows).tolist()
    monkeypatch.setattr(CondensedTree, "_select_clusters", lambda self: selected)
    clusterer.hdbscan_.generate_prediction_data()
    return lambda rows: approximate_predict(clusterer.hdbscan_, rows)


def new_rows(rows: np.ndarray, seed: int = 9) -> np.ndarray:
    """Rows near the old ones, between them, and very far away."""
    rng = np.random.default_rng(seed)
    near = rows[rng.integers(0, len(rows), 600)]
    near = near + rng.normal(0, 0.4, near.shape)
    between = rng.normal(0, 5, (200, rows.shape[1]))
    far = rng.normal(0, 1e4, (20, rows.shape[1]))
    return np.concatenate([near, between, far])


@pytest.mark.parametrize("method", ["eom", "leaf"])
@pytest.mark.parametrize("min_samples", [1, 2, 10, 50])
@pytest.mark.parametrize(
    ("n_rows", "n_dims"), [(300, 1), (900, 2), (900, 5), (600, 25)]
)
def test_new_rows_get_hdbscans_label_and_strength(
    n_rows, n_dims, min_samples, method, monkeypatch
):
    rows = groups(n_rows, n_dims)
    clusterer = DensityClusterer(8, min_samples, method).fit(rows)
    wanted = new_rows(rows)
    labels, strengths = mended_reference(clusterer, monkeypatch)(wanted)
    answer = clusterer.assign(wanted)
    assert (answer.labels == labels).all()
    np.testing.assert_allclose(answer.strengths, strengths, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("n_dims", "min_samples"), [(5, 10), (5, 30), (20, 5)])
def test_unmended_hdbscan_agrees_on_ordinary_clusters(n_dims, min_samples):
    from hdbscan import approximate_predict

    rows = groups(1500, n_dims)
    clusterer = DensityClusterer(40, min_samples).fit(rows)
    assert clusterer.n_clusters_ > 1
    clusterer.hdbscan_.generate_prediction_data()
    # The training rows, too: the strength has one definition, and it is this one.
    for wanted in (new_rows(rows), rows):
        labels, strengths = approximate_predict(clusterer.hdbscan_, wanted)
        answer = clusterer.assign(wanted)
        assert (answer.labels == labels).all()
        np.testing.assert_allclose(answer.strengths, strengths, rtol=0, atol=1e-9)


@pytest.mark.parametrize("min_samples", [3, 10])
@pytest.mark.parametrize("n_dims", [3, 20])
def test_repeated_training_rows_count_each(n_dims, min_samples, monkeypatch):
    rows = groups(500, n_dims)
    rows = np.concatenate([rows, rows[::2], rows[::5]])  # at most three of one kind
    clusterer = DensityClusterer(20, min_samples).fit(rows)
    wanted = new_rows(rows)
    labels, strengths = mended_reference(clusterer, monkeypatch)(wanted)
    answer = clusterer.assign(wanted)
    assert (answer.labels == labels).all()
    np.testing.assert_allclose(answer.strengths, strengths, rtol=0, atol=1e-9)


@pytest.mark.parametrize("n_dims", [2, 5, 20])
@pytest.mark.parametrize("method", ["eom", "leaf"])
def test_training_rows_get_what_fit_gave_them(n_dims, method):
    rows = groups(700, n_dims)
    clusterer = DensityClusterer(10, 4, method).fit(rows)
    order = np.random.default_rng(2).permutation(len(rows))
    answer = clusterer.assign(rows[order])
    assert (answer.labels == clusterer.labels_[order]).all()
    assert (answer.strengths == clusterer.strengths_[order]).all()


@pytest.mark.parametrize("n_dims", [3, 20])
def test_a_row_is_assigned_alike_alone_and_among_others(n_dims, monkeypatch):
    rows = groups(500, n_dims)
    clusterer = DensityClusterer(10, 5).fit(rows)
    wanted = new_rows(rows)
    together = clusterer.assign(wanted)
    alone = [clusterer.assign(wanted[i : i + 1]) for i in range(0, len(wanted), 20)]
    assert [int(one.labels[0]) for one in alone] == together.labels[::20].tolist()
    assert [one.strengths[0] for one in alone] == together.strengths[::20].tolist()
    monkeypatch.setattr(prediction, "CELLS", 70)  # blocks of 7 rows
    in_blocks = clusterer.assign(wanted)
    assert (in_blocks.labels == together.labels).all()
    assert (in_blocks.strengths == together.strengths).all()


def test_strength_barely_changes_beside_a_training_row():
    rows = groups(800, 4)
    clusterer = DensityClusterer(20, 8).fit(rows)
    beside = clusterer.assign(rows + 1e-9)
    same = beside.labels == clusterer.labels_
    assert same.mean() > 0.99
    np.testing.assert_allclose(
        beside.strengths[same], clusterer.strengths_[same], atol=1e-6
    )


def restored(clusterer: DensityClusterer) -> Assigner:
    state, meta = clusterer.assigner_.get_state()
    return Assigner.from_state(state, json.loads(json.dumps(meta)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_dims", [5, 20])
def test_state_assigns_as_the_original(n_dims, dtype):
    rows = groups(600, n_dims).astype(dtype)
    rows[:40] = rows[-1]
    clusterer = DensityClusterer(15, 6).fit(rows)
    copy = restored(clusterer)
    assert len(copy.max_lambda) == clusterer.n_clusters_ > 0
    wanted = np.concatenate([new_rows(rows), rows])
    ours, theirs = clusterer.assign(wanted), copy.assign(wanted)
    assert (ours.labels == theirs.labels).all()
    assert (ours.strengths == theirs.strengths).all()
    again, _ = copy.get_state()
    for name, array in clusterer.assigner_.get_state()[0].items():
        assert again[name].dtype == array.dtype
        assert (again[name] == array).all()


def test_state_without_clusters_assigns_noise():
    rows = np.random.default_rng(0).normal(size=(60, 3))
    copy = restored(DensityClusterer(min_cluster_size=40).fit(rows))
    assert copy.assign(rows).labels.tolist() == [-1] * 60


def test_unfitted_and_misfitting_questions_are_refused():
    with pytest.raises(ModelError, match="call `fit`"):
        DensityClusterer().assign([[1.0]])
    clusterer = DensityClusterer(10, 3).fit(groups(200, 3))
    with pytest.raises(ModelError, match=r"2 features.*expecting 3"):
        clusterer.assign(np.zeros((5, 2)))
    with pytest.raises(ModelError, match="NaN"):
        clusterer.assign([[0.0, np.nan, 1.0]])


@pytest.fixture(scope="module")
def sound_state():
    clusterer = DensityClusterer(10, 3).fit(groups(300, 3))
    assert len(clusterer.assigner_.cluster_parent) > 4
    return clusterer.assigner_.get_state()


def altered(state, name, value, index=None):
    arrays, meta = dict(state[0]), dict(state[1])
    if name in meta:
        meta[name] = value
    elif index is None:
        arrays[name] = value
    else:
        arrays[name] = arrays[name].copy()
        arrays[name][index] = value
    return arrays, meta


@pytest.mark.parametrize(
    ("name", "value", "index"),
    [
        ("format", 99, None),
        ("min_samples", 0, None),
        ("min_samples", True, None),
        ("min_samples", "10", None),
        ("min_samples", 2**40, None),
        ("min_samples", 300, None),
        ("points", np.zeros((0, 3)), None),
        ("points", np.zeros(300), None),
        ("points", np.array([["a"]]), None),
        ("points", np.array([[object()]]), None),
        ("points", np.nan, (3, 1)),
        ("points", np.inf, (3, 1)),
        ("counts", 0, 5),
        ("counts", np.ones(300), None),
        ("counts", np.ones(299, dtype=np.int32), None),
        ("core", -1.0, 5),
        ("core", np.nan, 5),
        ("parent", -1, 5),
        ("parent", 10**6, 5),
        ("leaves_at", np.nan, 5),
        ("leaves_at", 0.0, 5),
        ("strength", 1.5, slice(None)),
        ("strength", 0.5, slice(None)),  # noise, too
        ("cluster_parent", 3, 3),  # its own parent: an endless walk
        ("cluster_parent", 4, 1),  # a child above its parent
        ("cluster_parent", -1, 2),
        ("cluster_birth", np.inf, 2),
        ("cluster_birth", 1e300, 1),  # born after its own parts
        ("cluster_label", 0, slice(None)),
        ("cluster_label", 77, 2),
        ("cluster_label", -1, slice(None)),
        ("max_lambda", 0.0, 0),
        ("max_lambda", np.nan, 0),
        ("max_lambda", np.zeros((1, 1)), None),
    ],
)
def test_a_crafted_state_is_refused(sound_state, name, value, index):
    if name == "cluster_birth" and value == 1e300:
        index = sound_state[0]["cluster_parent"][-1]
    with pytest.raises(ArtifactError, match="Train the clusters again"):
        Assigner.from_state(*altered(sound_state, name, value, index))


@pytest.mark.parametrize("name", ["points", "strength", "cluster_label", "max_lambda"])
def test_a_missing_array_is_named(sound_state, name):
    arrays, meta = sound_state
    arrays = {key: array for key, array in arrays.items() if key != name}
    with pytest.raises(ArtifactError, match=f"missing `{name}`"):
        Assigner.from_state(arrays, meta)


@settings(max_examples=80)
@given(st.data())
def test_any_one_changed_number_is_refused_or_answered(sound_state, data):
    arrays, meta = sound_state
    name = data.draw(st.sampled_from(sorted(arrays)))
    array = arrays[name].copy()
    index = data.draw(st.integers(0, array.size - 1))
    if array.dtype.kind == "i":
        value = data.draw(st.integers(-(2**31), 2**31 - 1))
    else:
        value = data.draw(st.floats(width=32))
    array.flat[index] = value
    try:
        assigner = Assigner.from_state({**arrays, name: array}, meta)
    except ArtifactError:
        return
    answer = assigner.assign(np.random.default_rng(0).normal(0, 4, (30, 3)))
    assert ((answer.strengths >= 0) & (answer.strengths <= 1)).all()
    assert ((answer.labels >= -1) & (answer.labels < len(assigner.max_lambda))).all()
