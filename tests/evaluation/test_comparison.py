"""Spaces and clusterers side by side: what each figure promises."""

from __future__ import annotations

import pickle

import numpy as np
import polars as pl
import pytest
from PIL import Image
from typer.testing import CliRunner

from core.artifacts.manifest import read_manifest, verify
from core.cli import app
from core.config import Config
from core.errors import ArtifactError, ConfigError, ModelError
from core.evaluation.comparison import (
    SCHEMA,
    ComparisonEffort,
    FeatureTable,
    SharedSpace,
    compare_recipes,
    fit_space,
    recipe_of,
)
from core.evaluation.stability import whole_pipeline
from core.retailers.files import RETAILERS
from core.retailers.pipelines import run_all
from core.retailers.report.plots import (
    comparison_lines,
    comparison_table,
    plot_comparison,
)
from core.retailers.research import (
    COMPARISON_PICTURE as PICTURE,
)
from core.retailers.research import (
    COMPARISON_TABLE as TABLE,
)
from core.retailers.research import (
    compare,
)
from core.retailers.sample import generate_sales

QUICK = {"architecture": "denoising", "epochs": 1}
CLUSTERS = {"min_cluster_size": 20, "min_samples": 5}
CONFIG = Config.model_validate({"clustering": CLUSTERS, "autoencoder": QUICK})
NO_NULLS = ComparisonEffort(n_refits=2, n_nulls=0)


def four_kinds_of_kiosk(n=240, seed=0):
    """Kiosks of four kinds that no single feature tells apart."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 4, n)
    return 2.0 * rng.normal(size=(4, 6))[kind] + rng.normal(size=(n, 6)), kind


@pytest.fixture(scope="module")
def table():
    X, _ = four_kinds_of_kiosk()
    nothing = np.random.default_rng(1).uniform(size=(240, 6))
    shops = {"behaviour": FeatureTable(X, ()), "baseline": FeatureTable(nothing, ())}
    effort = ComparisonEffort(n_refits=2, n_nulls=19)
    return compare_recipes(shops, CONFIG, 4, ["raw", "pca"], effort)


def cell(table, feature_set, space, clusterer):
    keys = {"feature_set": feature_set, "space": space, "clusterer": clusterer}
    return table.filter(**keys).row(0, named=True)


def test_one_row_for_each_feature_set_space_and_clusterer(table):
    assert table.height == 2 * 2 * 3
    assert list(table.schema) == list(SCHEMA)
    assert table.select("feature_set", "space", "clusterer").is_unique().all()


def test_density_beyond_the_null_is_told_from_density_of_nothing(table):
    found = cell(table, "behaviour", "raw", "hdbscan")
    assert (found["clusters"], found["beyond_null"]) == (4, True)
    assert found["null_p"] == 0.05
    assert found["stability"] > 0.8
    nothing = cell(table, "baseline", "raw", "hdbscan")
    assert not nothing["beyond_null"]
    assert nothing["null_p"] > 0.05


def test_all_noise_again_and_again_is_no_stability(table):
    noise = table.filter(pl.col("clusters") == 0)
    assert noise.height, "uniform data gives no cluster in some space"
    assert noise["stability"].null_count() == noise.height
    assert (noise["null_p"] == 1.0).all()
    assert noise["note"].str.contains("no cluster that could come back").all()


def test_cutting_into_k_parts_gets_no_p_and_the_reason(table):
    cut = table.filter(pl.col("clusterer") != "hdbscan")
    assert cut["null_p"].null_count() == cut.height
    assert (cut["k"] == 4).all()
    assert (cut["noise_ratio"] == 0.0).all()
    assert cut["note"].str.contains("p not applicable").all()


def test_without_a_past_there_is_no_out_of_time_score_and_the_reason(table):
    assert table["out_of_time"].null_count() == table.height
    assert table["note"].str.contains("no out-of-time score").all()


def test_no_null_is_started_when_the_time_is_used_up():
    X, _ = four_kinds_of_kiosk()
    effort = ComparisonEffort(n_refits=2, n_nulls=19, budget_seconds=0.0)
    steps = []
    found = compare_recipes(
        {"behaviour": FeatureTable(X, ())}, CONFIG, 3, ["raw"], effort, None,
        lambda done, total: steps.append((done, total)),
    )  # fmt: skip
    row = cell(found, "behaviour", "raw", "hdbscan")
    assert row["null_p"] is None
    assert "time budget" in row["note"]
    assert steps[0] == (0, 22)
    assert steps[-1] == (22, 22)
    assert steps == sorted(steps)


@pytest.mark.parametrize(
    ("k", "effort", "message"),
    [
        (1, NO_NULLS, "`k` is 1"),
        (3, ComparisonEffort(n_nulls=5), "`n_nulls` is 5"),
        (3, ComparisonEffort(n_refits=1, n_nulls=0), "`n_refits` is 1"),
    ],
)
def test_too_few_parts_nulls_or_refits_are_refused(k, effort, message):
    X, _ = four_kinds_of_kiosk()
    with pytest.raises(ModelError, match=message):
        compare_recipes({"behaviour": FeatureTable(X, ())}, CONFIG, k, ["raw"], effort)


def test_our_latent_with_hdbscan_is_the_whole_pipeline():
    X, _ = four_kinds_of_kiosk()
    recipe = pickle.loads(pickle.dumps(recipe_of("latent", "hdbscan", CONFIG)))
    ours = recipe(X[:200], 7)(X)
    assert np.array_equal(ours, whole_pipeline(CONFIG)(X[:200], 7)(X))


def test_a_shared_space_labels_as_the_recipe_does_and_is_learnt_once():
    X, _ = four_kinds_of_kiosk()
    learnt = []
    shared = SharedSpace("pca", CONFIG, lambda: learnt.append(1))
    for clusterer in ("hdbscan", "kmeans", "mixture"):
        apart = recipe_of("pca", clusterer, CONFIG, 3)(X[:200], 7)(X)
        together = shared.recipe(clusterer, 3)(X[:200], 7)(X)
        assert np.array_equal(apart, together)
    assert len(learnt) == 1
    shared.recipe("kmeans", 3)(X[:200], 8)
    shared.recipe("kmeans", 3)(X[:190], 7)
    assert len(learnt) == 3


@pytest.mark.parametrize("space", ["raw", "pca", "reference", "latent"])
def test_a_shop_has_its_place_whatever_shops_stand_beside_it(space):
    X, _ = four_kinds_of_kiosk()
    place = fit_space(X[:150], 3, space, CONFIG)
    assert np.allclose(place(X)[150:], place(X[150:]), rtol=1e-12, atol=1e-12)


def test_the_picture_holds_every_row_and_the_text_says_what_is_missing(table, tmp_path):
    path = tmp_path / "comparison.png"
    plot_comparison(table, {"raw": "raw features"}, {"kmeans": "KMeans"}, path)
    with Image.open(path) as image:
        assert image.width > image.height / 2 > 200
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50
    rows = comparison_table(table)
    assert rows[0]["recipe"] == "behaviour raw hdbscan"
    assert rows[0]["p"] == "0.05*"
    assert rows[1]["p"] == "-"
    assert "p not applicable" in comparison_lines(table)[-1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the artifacts of a small run on a table from Python."""
    folder = tmp_path_factory.mktemp("comparison")
    sample = CONFIG.sample.model_copy(update={"n_shops": 160, "n_months": 30})
    values = {"artifacts": str(folder), "clustering": CLUSTERS, "autoencoder": QUICK}
    run_all(Config.model_validate(values), generate_sales(sample, 3).rows)
    return folder


def test_the_verb_judges_both_feature_sets_and_leaves_the_model_whole(run):
    """Both are computed from the sales kept with the run: its table is gone."""
    folder = run
    before = read_manifest(folder, RETAILERS)
    arguments = ["compare", "--artifacts", str(folder), "--spaces", "raw,pca"]
    arguments += ["--refits", "2", "--nulls", "0", "--workers", "0"]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "baseline pca mixture" in result.output
    assert TABLE in result.output
    found = pl.read_csv(folder / TABLE)
    assert found.height == 12
    assert set(found["feature_set"]) == {"behaviour", "baseline"}
    assert found["n_shops"].n_unique() == 1
    assert found["out_of_time"].null_count() == 0
    assert (folder / PICTURE).stat().st_size > 10_000
    after = read_manifest(folder, RETAILERS)
    verify(folder, after)
    assert after.is_complete
    assert after.model_id == before.model_id
    assert after.facts("inference") == before.facts("inference")


def test_an_unknown_space_is_refused_with_the_nearest_name(run):
    with pytest.raises(ConfigError, match="Did you mean `latent`"):
        compare(run, spaces=["latnet"])
    with pytest.raises(ConfigError, match="`max_shops` is 5"):
        compare(run, max_shops=5)


def test_without_a_run_the_cure_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="Train one first"):
        compare(tmp_path)
