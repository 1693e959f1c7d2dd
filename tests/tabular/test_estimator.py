"""`StableSegmenter` as scikit-learn's tools and a notebook use it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from core.errors import (
    ArtifactError,
    ConfigError,
    FeatureMismatchError,
    ModelError,
    ModelTypeError,
    SchemaError,
)
from core.tabular.estimator import StableSegmenter


@pytest.fixture
def few_refits(monkeypatch):
    monkeypatch.setattr("core.evaluation.n_segments.N_REFITS", 2)


@pytest.mark.usefixtures("few_refits")
@parametrize_with_checks([StableSegmenter(3)])
def test_sklearns_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def fitted(members) -> StableSegmenter:
    return StableSegmenter(max_segments=4).fit(members()[0])


def test_planted_groups_in_a_mixed_table_are_found_and_called_natural(fitted, members):
    table, group = members()
    assert adjusted_rand_score(group, fitted.labels_) > 0.9
    assert fitted.verdict_.kind == "natural"
    assert fitted.stability_["ari"] > 0.95
    assert fitted.segments_["size"].to_list() == np.bincount(fitted.labels_).tolist()
    assert fitted.predict(table).tolist() == fitted.labels_.tolist()
    names = " ".join(fitted.segments_["segment"])
    assert all(word in names for word in ("high income", "low income", "plan pro"))


def test_pandas_polars_and_arrow_tables_give_the_same_segments(fitted, members):
    table, _ = members()
    for same in (table.to_pandas(), table.to_arrow()):
        other = StableSegmenter(max_segments=4).fit(same)
        assert other.labels_.tolist() == fitted.labels_.tolist()
        assert other.strengths_.tolist() == fitted.strengths_.tolist()


def test_a_refit_on_later_rows_keeps_ids_and_names(fitted, members):
    segmenter = StableSegmenter(max_segments=4).fit(members()[0])
    ids = dict(segmenter.segments_.select("segment_id", "segment").iter_rows())
    later, group = members(500, seed=1)
    later = later.filter(pl.Series(group != 0))  # the largest group has gone
    segmenter.refit(later)
    assert segmenter.version_ == 2
    kept = dict(segmenter.segments_.select("segment_id", "segment").iter_rows())
    assert len(kept) == 2
    assert kept.items() <= ids.items()
    assert {event.kind for event in segmenter.events_} == {"survived", "died"}
    with pytest.raises(FeatureMismatchError, match="`plan`"):
        segmenter.refit(later.drop("plan"))


def test_a_saved_model_predicts_explains_and_refits_as_the_original(
    fitted, tmp_path, members
):
    table, _ = members()
    fitted.to_dir(tmp_path / "model")
    loaded = StableSegmenter.from_dir(tmp_path / "model")
    assert loaded.get_params() == fitted.get_params()
    assert loaded.verdict_ == fitted.verdict_
    assert loaded.segments_.equals(fitted.segments_)
    found, known = loaded.assign(table), fitted.assign(table)
    for one, other in zip(found, known, strict=True):
        np.testing.assert_array_equal(one, other)
    assert loaded.explain(table, 3) == fitted.explain(table, 3)
    assert loaded.refit(table).labels_.tolist() == fitted.labels_.tolist()
    state = next((tmp_path / "model").glob("*.safetensors"))
    state.write_bytes(state.read_bytes()[:-8] + bytes(8))
    with pytest.raises(ArtifactError):
        StableSegmenter.from_dir(tmp_path / "model")


def test_an_explanation_moves_the_row_as_it_says(fitted, members):
    table, _ = members()
    told = fitted.explain(table, 0)
    assert told.segment == fitted.labels_[0]
    assert told.reasons
    assert told.to_another is not None
    moved = {c["feature"]: c["after"] for c in told.to_another.features}
    assert not any("=" in feature for feature in moved)
    row = table[:1].with_columns(pl.lit(v).alias(name) for name, v in moved.items())
    assert fitted.predict(row)[0] == told.to_another.segment


def test_it_works_in_a_pipeline_and_with_set_output():
    X = np.vstack([np.random.default_rng(0).normal(m, 1, (60, 3)) for m in (0, 9)])
    line = make_pipeline(StandardScaler(), StableSegmenter()).set_output(
        transform="pandas"
    )
    distances = line.fit_transform(X)
    assert isinstance(distances, pd.DataFrame)
    assert list(distances) == ["stablesegmenter0", "stablesegmenter1"]
    np.testing.assert_array_equal(distances.to_numpy().argmin(axis=1), line.predict(X))


def test_data_of_one_population_are_not_called_natural():
    rng = np.random.default_rng(3)
    n = 1000
    table = pl.DataFrame(
        {
            "a": rng.choice(list("pqrs"), n),
            "b": rng.choice(list("xyz"), n, p=[0.6, 0.3, 0.1]),
            "c": rng.choice(list("uv"), n),
            "d": rng.normal(size=n),
            "e": rng.exponential(size=n),
        }
    )
    assert StableSegmenter(max_segments=3).fit(table).verdict_.kind != "natural"


def test_flags_that_follow_from_a_number_are_no_groups():
    """They step where the number has no gap; true and false as well as 1 and 0."""
    rng = np.random.default_rng(1000)
    x, y = rng.normal(size=1000), rng.exponential(size=1000)
    table = {"x": x, "is_high": x > 0, "y": y, "is_active": (y > 0.7) * 1}
    table["z"] = rng.normal(size=1000)
    found = StableSegmenter(max_segments=5).fit(pl.DataFrame(table))
    assert found.verdict_.kind != "natural"


def test_zeros_among_amounts_are_no_groups_and_rows_that_miss_together_are():
    rng = np.random.default_rng(0)
    amounts = np.where(rng.random((600, 3)) < 0.5, 0, rng.lognormal(3, 1, (600, 3)))
    found = StableSegmenter(max_segments=4).fit(amounts)
    assert found.verdict_.kind != "natural"
    is_short = rng.random(600) < 0.3
    answers = rng.normal(size=(600, 5))
    answers[np.ix_(is_short, [2, 3, 4])] = np.nan
    found = StableSegmenter(max_segments=4).fit(answers)
    assert adjusted_rand_score(is_short, found.labels_) == 1.0


def drawn_out(n: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """Return three groups side by side, ten times as long as wide."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, n)
    along, across = 10 * rng.normal(size=n), rng.normal(size=n) + 7 * group
    X = np.column_stack([along + across, along - across, rng.normal(size=n)])
    return X, group


def test_groups_that_are_drawn_out_are_found(tmp_path):
    X, group = drawn_out()
    found = StableSegmenter(max_segments=4).fit(X)
    assert found.verdict_.kind == "natural"
    assert adjusted_rand_score(group, found.labels_) > 0.95
    assert found.stability_["ari"] > 0.95
    distances = found.transform(X)
    assert distances.argmin(axis=1).tolist() == found.labels_.tolist()
    found.to_dir(tmp_path / "model")
    loaded = StableSegmenter.from_dir(tmp_path / "model").assign(X)
    assert loaded.labels.tolist() == found.labels_.tolist()
    assert loaded.strength.tolist() == found.strengths_.tolist()


def test_a_group_of_one_in_seventy_is_found():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1400, 3))
    X[:20] += 8
    found = StableSegmenter(max_segments=4).fit(X)
    assert found.verdict_.kind == "natural"
    assert found.labels_.tolist() == [1] * 20 + [0] * 1380


def test_what_is_asked_for_is_cut():
    table = pl.DataFrame({"x": np.random.default_rng(0).normal(size=300)})
    segmenter = StableSegmenter(4).fit(table)
    assert segmenter.n_segments_ == 4
    assert segmenter.verdict_.kind in {"reproducible", "constructive"}


@pytest.mark.parametrize(
    ("options", "table", "kind", "message"),
    [
        ({"n_segments": 0}, {"x": [1, 2]}, ConfigError, "`n_segments` is 0"),
        ({"drop": "x"}, {"x": [1, 2]}, ConfigError, "a list of columns"),
        ({"drop": ["y"]}, {"x": [1, 2]}, SchemaError, "no column `y`"),
        ({}, {"x": [1.0, float("inf")]}, SchemaError, "`x` 1"),
        ({}, {"x": [1]}, ModelError, "n_samples = 1"),
        ({}, {"x": [[1], [2]]}, SchemaError, "--drop x"),
        ({}, {"x": [1.0, 1e31, float("nan")]}, SchemaError, "beyond 1e30 .`x` 1"),
        ({}, {"x": ["a", "b"], "x=a": [1, 2]}, SchemaError, "`x=a` would be the name"),
    ],
)
def test_bad_input_is_refused_with_the_cure(options, table, kind, message):
    with pytest.raises(kind, match=message):
        StableSegmenter(**options).fit(pl.DataFrame(table))


def test_codes_of_a_categorical_type_are_a_category():
    table = pd.DataFrame({"x": np.arange(60) % 7, "code": np.arange(60) % 3})
    table["code"] = table["code"].astype("category")
    found = StableSegmenter(2).fit(table)
    assert {p.name: p.kind for p in found.encoding_.columns}["code"] == "category"
    plain = table.astype({"code": float})
    assert found.predict(plain).tolist() == found.labels_.tolist()


@pytest.mark.parametrize(
    ("table", "kind", "message"),
    [
        (pl.LazyFrame({"x": [1, 2]}), ModelTypeError, r"`\.collect\(\)` in Polars"),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), SchemaError, "a column twice"),
        (pd.DataFrame([[1, 2]], columns=["x", 1]), ModelTypeError, "string names"),
    ],
)
def test_a_frame_that_cannot_be_taken_is_refused_with_the_cure(table, kind, message):
    with pytest.raises(kind, match=message):
        StableSegmenter().fit(table)


def test_other_columns_are_refused_with_those_of_fit(fitted, members):
    table, _ = members()
    expected = r"missing:\n- plan\n[^$]*in their order: 'income', 'age', 'plan'"
    with pytest.raises(ModelError, match=expected):
        fitted.predict(table.drop("plan"))


def test_text_in_an_array_is_refused_with_what_takes_it():
    cure = r"string to float: 'a'\. Pass rows of numbers, or a frame \(pandas"
    with pytest.raises(ModelError, match=cure):
        StableSegmenter().fit(np.array([["a", 1], ["b", 2]], dtype=object))
