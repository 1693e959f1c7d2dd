"""Pickles of micro-models are converted exactly, and nothing in them is ever run."""

from __future__ import annotations

import os
import pickle
import shutil
from functools import cache
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler

from core.channels import pickles
from core.channels.micro import load_micro_model
from core.channels.pickles import convert, import_model, import_models, read_records
from core.errors import ModelError, SourceError

NAMES = ["Lunch_order_count", "average_order_value", "recency_days"]


def guests(n, seed):
    values = np.random.default_rng(seed).gamma(2.0, [2.0, 150.0, 30.0], (n, 3))
    return pd.DataFrame(values, columns=NAMES)


@cache
def fitted(*, k=5, random_state=0):
    """Return what the original saves: a KMeans of scaled features, and its scaler."""
    table = guests(600, 1)
    scaler = StandardScaler().fit(table)
    if random_state is None:
        random_state = np.random.RandomState(3)
    kmeans = KMeans(k, n_init=2, random_state=random_state)
    return kmeans.fit(scaler.transform(table)), scaler


def payload(**changed):
    kmeans, scaler = fitted()
    return {"kmeans": kmeans, "scaler": scaler, "features": NAMES, **changed}


class Calls:
    """Pickles as a call: of what, with what."""

    def __init__(self, function, *args):
        self.called = function, args

    def __reduce__(self):
        return self.called


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("features", [NAMES, np.array(NAMES, dtype=object)])
def test_every_protocol_gives_the_centres_and_the_scale(protocol, features):
    kmeans, scaler = fitted(random_state=None)
    given = {"kmeans": kmeans, "scaler": scaler, "features": features}
    arrays, meta = convert(read_records(pickle.dumps(given, protocol)))
    np.testing.assert_array_equal(arrays["centres"], kmeans.cluster_centers_)
    np.testing.assert_array_equal(arrays["centre"], scaler.mean_)
    np.testing.assert_array_equal(arrays["scale"], scaler.scale_)
    assert meta["features"] == NAMES
    assert meta["sklearn"]


def test_a_converted_model_predicts_what_scikit_learn_does(tmp_path):
    kmeans, scaler = fitted()
    source = tmp_path / "kmeans_early.pkl"
    source.write_bytes(pickle.dumps(payload()))
    lines = import_models([str(source)], tmp_path / "models")
    assert "5 micro-segments by 3 features." in lines[0]
    model = load_micro_model(tmp_path / "models" / "kmeans_early.safetensors")
    others = guests(20_000, 2)
    expected = kmeans.predict(scaler.transform(others))
    found = model.assign(pl.from_pandas(others))
    np.testing.assert_array_equal(found.labels, expected)


@pytest.mark.parametrize(
    ("with_mean", "with_std"), [(False, True), (True, False), (False, False)]
)
def test_a_scaler_may_leave_out_mean_or_spread(with_mean, with_std):
    scaler = StandardScaler(with_mean=with_mean, with_std=with_std)
    scaler.fit(guests(50, 1))
    arrays, _ = convert(read_records(pickle.dumps(payload(scaler=scaler))))
    rows = guests(5, 3)
    scaled = (rows.to_numpy() - arrays["centre"]) / arrays["scale"]
    np.testing.assert_allclose(scaled, scaler.transform(rows))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, eval, exec, getattr, shutil.rmtree])
def test_a_call_of_anything_else_is_refused_and_not_made(
    function, protocol, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept").mkdir()
    said = {
        os.system: ("touch made",),
        getattr: ("a", "upper"),
        shutil.rmtree: ("kept",),
    }.get(function, ("open('made', 'w')",))
    for place in (
        Calls(function, *said),
        payload(kmeans=Calls(function, *said)),
        payload(features=[*NAMES, {"deep": [Calls(function, *said)]}]),
        payload(more=Calls(np.dtype, Calls(function, *said))),
    ):
        with pytest.raises(ModelError, match=f"{function.__name__}`, which"):
            read_records(pickle.dumps(place, protocol))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1, 2], "it holds a list; expected a dict of `kmeans`"),
        ({"kmeans": 1}, "it lacks `scaler`, `features`"),
        (payload(kmeans=fitted()[1]), "`kmeans` is something else"),
        (payload(kmeans=KMeans()), "no `kmeans.cluster_centers_`"),
        (payload(features=NAMES[::-1]), "the scaler has another order"),
        (payload(features=["a", "b", "c"]), "does not know `a`, `b`, `c`"),
        (payload(features=NAMES[:2]), r"shape \(5, 3\), for 2 features"),
        (payload(features=["a", "a", "b"]), "names a column twice"),
        (payload(features=[1, 2, 3]), "no list of column names"),
        (payload(features=pd.Index(NAMES)), "as a plain list of names"),
    ],
)
def test_a_payload_of_another_make_is_refused_with_what_was_met(given, message):
    with pytest.raises(ModelError, match=message):
        convert(read_records(pickle.dumps(given)))


HUGE = (1 << 40).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no whole pickle"),
        (b"sales,month\n1,2\n", "no whole pickle"),
        (pickle.dumps(payload())[:400], "no whole pickle"),
        (b"\x80\x04\x8e" + HUGE + b"x.", "GB of memory|no whole pickle"),
        (b"\x80\x04cnumpy\ndtype\n\x8c\x02O8\x85R.", "holds a DtypeRecord"),
        (b"\x80\x04cnumpy\nload\n\x8c\x01x\x85R.", "asks for `numpy.load`"),
        (b"\x80\x02\x82\x01.", "no whole pickle"),
    ],
)
def test_what_is_no_pickle_of_a_model_ends_in_one_line(content, message, tmp_path):
    source = tmp_path / "m.pkl"
    source.write_bytes(content)
    with pytest.raises(ModelError, match=message) as error:
        import_model(source, tmp_path, "m.pkl")
    assert "\n" not in str(error.value)
    assert "nothing in it was run" in str(error.value)


def test_arrays_are_made_of_numbers_only():
    hidden = np.array([Path("x")], dtype=object)
    with pytest.raises(ModelError, match="pathlib"):
        read_records(pickle.dumps(payload(features=hidden)))
    kmeans, _ = fitted(k=2)
    centres = kmeans.cluster_centers_.copy()
    try:
        kmeans.cluster_centers_ = np.full_like(centres, np.nan)
        with pytest.raises(ModelError, match="other values than finite"):
            convert(read_records(pickle.dumps(payload(kmeans=kmeans))))
    finally:
        kmeans.cluster_centers_ = centres


def test_what_takes_too_long_is_ended(tmp_path):
    source = tmp_path / "m.pkl"
    source.write_bytes(pickle.dumps(payload()))
    with pytest.raises(ModelError, match=r"more than 0\.01 seconds"):
        import_model(source, tmp_path, "m.pkl", seconds=0.01)


def test_a_pickle_may_lie_elsewhere(tmp_path):
    store = fsspec.filesystem("memory")
    store.pipe("/models/kmeans_a.pkl", pickle.dumps(payload()))
    store.pipe("/models/kmeans_b.pkl", pickle.dumps(payload()))
    lines = import_models(["memory://models/*.pkl"], tmp_path)
    names = [path.name for path in sorted(tmp_path.iterdir())]
    assert names == ["kmeans_a.safetensors", "kmeans_b.safetensors"]
    assert len(lines) == 2


def test_another_version_of_scikit_learn_is_told(tmp_path):
    source = tmp_path / "m.pkl"
    content = pickle.dumps(payload(), 4)
    import sklearn

    here = sklearn.__version__.encode()
    source.write_bytes(content.replace(here, b"0" * len(here)))
    _, notes = import_model(source, tmp_path, "m.pkl")
    assert f"saved by scikit-learn {'0' * len(here)}, here is" in notes[0]


def test_nothing_is_written_unless_all_are_converted(tmp_path, monkeypatch):
    good, bad = tmp_path / "a.pkl", tmp_path / "b.pkl"
    good.write_bytes(pickle.dumps(payload()))
    bad.write_bytes(pickle.dumps(Calls(os.system, "true")))
    models = tmp_path / "models"
    with pytest.raises(ModelError, match=r"`b\.pkl` was not converted"):
        import_models([str(good), str(bad)], models)
    assert not models.exists()
    with pytest.raises(SourceError, match="two pickles"):
        import_models([str(good), str(good)], models)
    with pytest.raises(SourceError, match="nowhere"):
        import_models([str(tmp_path / "nowhere.pkl")], models)
    monkeypatch.setattr(pickles, "LARGEST_FILE", 10)
    with pytest.raises(SourceError, match="at most"):
        import_models([str(good)], models)
