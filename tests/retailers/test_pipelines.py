"""The four pipelines as their users run them: scripts, real input, real failures."""

from __future__ import annotations

import io
import os
import pickle
import runpy
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
import yaml
from once import SMALL_RUN
from polars.testing import assert_frame_equal

from core.artifacts.folder import Artifacts
from core.artifacts.manifest import read_manifest, verify
from core.config import Config, SampleConfig
from core.errors import (
    ArtifactError,
    ConfigError,
    EligibilityError,
    FeatureMismatchError,
)
from core.resolve import resolve_config
from core.retailers.files import RETAILERS
from core.retailers.judge import measure_stability
from core.retailers.model import PREDICTION_SCHEMA, Model
from core.retailers.pipelines import (
    prepare_features,
    run_all,
    run_inference,
    stage_config,
    train_autoencoder,
    train_clustering,
)
from core.retailers.sample import generate_sales
from core.retailers.training import fit_sample
from core.segments.published import PublishedSegments
from core.tables.ids import drawn_by_hash

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
N_SHOPS = SMALL_RUN["sample"]["n_shops"]
SAMPLE = SampleConfig(**SMALL_RUN["sample"])
EXPECTED_FILES = {
    "features.parquet",
    "autoencoder-model.keras",
    "feature-scaler.pkl",
    "hdbscan-latent.pkl",
    "hdbscan-raw.pkl",
    "encoder-state.safetensors",
    "cluster-state.safetensors",
    "segment-state.safetensors",
    "segments.json",
    "cluster_predictions.csv",
    "cluster_insights.csv",
    "segment_insights.csv",
    "comparison.csv",
    "loss-plot.png",
    "latent-space.png",
    "raw-space.png",
    "cluster-sizes.png",
    "report.html",
    "config.yaml",
    "rejected_rows.parquet",
    "exclusions.csv",
    "sample_truth.csv",
    "segments.xlsx",
    "shops.parquet",
}


def small_config(folder, **changes):
    return Config.model_validate({**SMALL_RUN, "artifacts": str(folder), **changes})


class Ran(NamedTuple):
    """What a script ended with and said."""

    code: int
    stdout: str
    stderr: str


def process(name, *arguments, cwd):
    """Run a script at the root as its user would, with several threads, elsewhere."""
    command = [sys.executable, str(REPOSITORY / f"{name}-pipeline.py"), *arguments]
    ended = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "POLARS_MAX_THREADS": "4"},
        check=False,
        capture_output=True,
        text=True,
    )
    return Ran(ended.returncode, ended.stdout, ended.stderr)


def script(name, *arguments, cwd):
    """Do the same without a process of its own, which imports everything anew."""
    path, handler = REPOSITORY / f"{name}-pipeline.py", signal.getsignal(signal.SIGTERM)
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", [str(path), *arguments])
        try:
            with redirect_stdout(out), redirect_stderr(err):
                runpy.run_path(str(path), run_name="__main__")
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            signal.signal(signal.SIGTERM, handler)
    return Ran(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    """Return the artifacts of the small run, made by the scripts, and their outputs."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL_RUN), encoding="utf-8")
    outputs = [
        run(name, "--config", "small.yaml", cwd=folder)
        for run, name in (
            (process, "feature-preparation"),
            (script, "autoencoder-training"),
            (script, "clustering-training"),
            (script, "clustering-inference"),
        )
    ]
    return folder / "artifacts", outputs


def test_the_four_scripts_write_every_promised_file(scripted):
    folder, outputs = scripted
    assert [run.code for run in outputs] == [0] * 4, outputs
    manifest = read_manifest(folder, RETAILERS)
    verify(folder, manifest)
    assert {path.name for path in folder.iterdir()} >= EXPECTED_FILES
    assert set(manifest.files) >= EXPECTED_FILES
    closing = outputs[-1].stdout
    assert "effective clusters" in closing
    assert "report.html" in closing
    assert "Traceback" not in "".join(run.stderr for run in outputs)


def test_the_number_of_threads_changes_no_feature(scripted, trained):
    folder, _ = scripted
    for name in ("features.parquet", "exclusions.csv", "rejected_rows.parquet"):
        assert (folder / name).read_bytes() == (trained / name).read_bytes(), name


def test_predictions_hold_every_shop_once_with_a_label_or_a_reason(scripted):
    folder, _ = scripted
    predictions = pl.read_csv(folder / "cluster_predictions.csv")
    assert predictions.columns == list(PREDICTION_SCHEMA)
    sold = pl.scan_parquet(folder / "features.parquet").select("shop_id").collect()
    excluded = pl.read_csv(folder / "exclusions.csv")
    assert predictions["shop_id"].n_unique() == predictions.height == N_SHOPS
    labelled = predictions.filter(pl.col("reason").is_null())
    assert set(labelled["shop_id"]) == set(sold["shop_id"])
    assert labelled["latent_cluster"].null_count() == 0
    rest = predictions.filter(pl.col("reason").is_not_null())
    assert rest["latent_cluster"].null_count() == rest.height == excluded.height
    for space in ("latent", "raw"):
        noise = labelled.filter(pl.col(f"{space}_cluster") == -1)
        assert (noise[f"{space}_cluster_strength"] == 0).all()


def test_insights_and_comparison_agree_with_the_predictions(scripted):
    folder, _ = scripted
    predictions = pl.read_csv(folder / "cluster_predictions.csv")
    insights = pl.read_csv(folder / "cluster_insights.csv")
    comparison = pl.read_csv(folder / "comparison.csv")
    features = pl.read_parquet(folder / "features.parquet")
    for space in ("latent", "raw"):
        labels = predictions.drop_nulls("latent_cluster").select(
            "shop_id", cluster=f"{space}_cluster"
        )
        counts = dict(labels["cluster"].value_counts().iter_rows())
        rows = insights.filter(pl.col("space") == space)
        assert dict(rows.select("cluster", "size").iter_rows()) == counts
        row = comparison.row(by_predicate=pl.col("space") == space, named=True)
        assert row["noise_ratio"] == pytest.approx(counts.get(-1, 0) / labels.height)
        assert (row["features.name"], row["scaling.tail_share"]) == ("behaviour", 0.01)
        joined = labels.join(features, on="shop_id")
        for cluster in counts:
            own = joined.filter(pl.col("cluster") == cluster)["recency_months"]
            found = rows.row(by_predicate=pl.col("cluster") == cluster, named=True)
            assert found["recency_months_mean"] == pytest.approx(own.mean())
            assert found["recency_months_median"] == pytest.approx(own.median())


def test_two_runs_are_byte_identical_whatever_the_order_of_the_rows(
    trained, scripted, tmp_path
):
    """And whether the scripts or `run_all` make them, in one process or another."""
    rows = generate_sales(SAMPLE, seed=42).rows
    run_all(small_config(tmp_path), rows.sample(fraction=1.0, shuffle=True, seed=9))
    one, *others = (
        (folder / "cluster_predictions.csv").read_bytes()
        for folder in (trained, scripted[0], tmp_path)
    )
    assert others == [one, one]


def test_more_shops_than_are_learnt_from_are_assigned_by_the_model(
    artifacts, monkeypatch
):
    options = {**SMALL_RUN, "autoencoder": {"epochs": 2}, "artifacts": str(artifacts)}
    options["clustering"] = SMALL_RUN["clustering"] | {"fit_shops": 150}
    config = Config.model_validate(options)
    train_autoencoder(config)
    train_clustering(config)
    done = run_inference(config)
    ids = pl.read_parquet(artifacts / "features.parquet")["shop_id"]
    told = f"were learnt from 150 of the {len(ids)} shops"
    assert any(told in line for line in done.lines)
    for page in ("report.html", "model-card.md"):
        assert told in (artifacts / page).read_text(encoding="utf-8")
    labels = pl.read_csv(artifacts / "cluster_predictions.csv")
    assert labels.drop_nulls("segment")["shop_id"].to_list() == ids.to_list()
    # Published sizes are of all shops; the clusters hold those of the draw.
    published = PublishedSegments.read(artifacts / "segments.json")
    sizes = labels.drop_nulls("segment")["segment"].value_counts()
    assert {s.id: s.size for s in published.segments} == dict(sizes.iter_rows())
    assert Model.load(artifacts).latent.counts.sum() == 150
    backwards = ids.reverse()
    drawn = backwards.filter(drawn_by_hash(backwards, 150))
    assert ids.filter(drawn_by_hash(ids, 150)).equals(drawn.reverse())
    monkeypatch.setattr("core.retailers.training.IDS_AT_ONCE", 40)
    table = fit_sample(pl.scan_parquet(artifacts / "features.parquet"), config)
    assert table["shop_id"].equals(drawn.reverse())
    changed = [f"artifacts={artifacts}", "clustering.fit_shops=200"]
    with pytest.raises(ConfigError, match=r"`clustering.fit_shops` is 200.* 150"):
        stage_config("clustering", assignments=changed)


def test_scoring_the_training_rows_anew_gives_the_fitted_labels(artifacts):
    model = Model.load(artifacts)
    rows = generate_sales(SAMPLE, seed=42).rows
    fitted = pl.read_csv(artifacts / "cluster_predictions.csv").sort("shop_id")
    scored = model.assign_sales(rows.sample(fraction=1.0, shuffle=True, seed=1))
    assert_frame_equal(scored, fitted, check_dtypes=False, check_exact=True)


def test_one_shop_alone_gets_what_it_gets_in_the_batch(artifacts):
    model = Model.load(artifacts)
    rows = generate_sales(SAMPLE, seed=42).rows
    fitted = pl.read_csv(artifacts / "cluster_predictions.csv")
    of_each_state = fitted.unique("state", keep="first")
    assert {"active", "slowing", "lapsed"} < set(of_each_state["state"])
    for shop in [*fitted["shop_id"].sample(5, seed=0), *of_each_state["shop_id"]]:
        own = rows.filter(pl.col("shop_id") == shop)
        alone = model.assign_sales(own.to_pandas())
        expected = fitted.filter(pl.col("shop_id") == shop)
        assert_frame_equal(alone, expected, check_dtypes=False, check_exact=True)


def test_a_new_file_is_scored_with_the_saved_model(artifacts, tmp_path):
    rows = generate_sales(SampleConfig(n_shops=50), seed=8).rows
    rows = rows.with_columns(shop_id="new-" + pl.col("shop_id"))
    faulty = rows.head(3).with_columns(month=pl.lit(13, dtype=pl.Int32))
    pl.concat([rows, faulty]).write_csv(tmp_path / "new.csv")
    before = {path.name: path.read_bytes() for path in artifacts.glob("*.*")}
    arguments = ("--artifacts", str(artifacts), "--input", "new.csv")
    run = script("clustering-inference", *arguments, cwd=tmp_path)
    assert "shops labelled" in run.stdout
    scored = pl.read_csv(artifacts / "scored_predictions.csv")
    assert scored.height == 50
    assert scored["shop_id"].str.starts_with("new-").all()
    assert pl.read_parquet(artifacts / "scored_rejected_rows.parquet").height == 3
    assert "3 rows were set aside" in run.stdout
    after = {path.name: path.read_bytes() for path in artifacts.glob("*.*")}
    assert {name: after[name] for name in before} == before, "nothing published changed"
    flags = {"artifacts": str(artifacts), "data.input": str(tmp_path / "new.csv")}
    into = tmp_path / "other" / "labels.parquet"
    run_inference(stage_config("inference", flags=flags), output=str(into))
    typed = pl.read_parquet(into)
    assert dict(typed.schema) == PREDICTION_SCHEMA
    assert_frame_equal(
        typed,
        pl.read_csv(
            artifacts / "scored_predictions.csv", schema_overrides=PREDICTION_SCHEMA
        ),
    )
    assert any("report.html" in line for line in inferred(artifacts).lines)
    assert pl.read_csv(artifacts / "cluster_predictions.csv").height == N_SHOPS


@pytest.mark.parametrize(
    ("output", "finding"),
    [
        ("labels.txt", "ends in `.csv` or `.parquet`"),
        ("artifacts", "ends in `.csv` or `.parquet`"),
        ("artifacts/cluster_predictions.csv", "published or read"),
        ("new.csv", "published or read"),
    ],
)
def test_scores_replace_neither_what_is_published_nor_what_is_read(
    artifacts, tmp_path, monkeypatch, output, finding
):
    monkeypatch.chdir(tmp_path)
    flags = {"artifacts": str(artifacts), "data.input": "new.csv"}
    config = stage_config("inference", flags=flags)
    with pytest.raises(ConfigError, match=finding):
        run_inference(config, output=output)


def test_inference_needs_neither_tensorflow_nor_hdbscan(artifacts, tmp_path):
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'hdbscan'):\n"
        "    sys.modules[name] = None\n"
        f"sys.argv = ['segments', 'infer', '--artifacts', {str(artifacts)!r}]\n"
        "from core.cli import run\n"
        "run()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "shops labelled" in run.stdout, run.stderr


@pytest.mark.parametrize(
    "name", ["feature-scaler.pkl", "hdbscan-latent.pkl", "hdbscan-raw.pkl"]
)
def test_a_malicious_pickle_is_never_opened(artifacts, tmp_path, name, caplog):
    marker = tmp_path / "executed"

    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    (artifacts / name).write_bytes(pickle.dumps(Malicious()))
    assert inferred(artifacts).facts["labelled"] > 0
    assert not marker.exists()
    assert f"{name}` has changed since it was written" in caplog.text


def inferred(folder):
    return run_inference(stage_config("inference", flags={"artifacts": str(folder)}))


def test_a_killed_run_leaves_the_previous_artifacts_whole(artifacts, tmp_path):
    """End a run once it has written its features.

    `test_artifacts` ends one at every step.
    """
    files = read_manifest(artifacts, RETAILERS).files
    before = {name: (artifacts / name).read_bytes() for name in files}
    command = [
        sys.executable,
        *("-m", "core", "run", "--artifacts", str(artifacts), "--seed", "7"),
        *("--set", "autoencoder.epochs=1", "--set", "sample.n_shops=300"),
    ]
    run = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    staged = ".staging-*/**/features.parquet"
    while run.poll() is None and not any(artifacts.glob(staged)):
        time.sleep(0.01)
    run.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    run.wait()
    published = Artifacts(artifacts, RETAILERS).published()
    assert published.manifest.is_complete
    # A fast machine has finished: a whole new run is whole, too.
    if published.manifest.stages["prepare"].seed != 7:
        for name in published.manifest.files:
            assert (artifacts / name).read_bytes() == before[name], name
    inferred(artifacts)
    assert Artifacts(artifacts, RETAILERS).published().manifest.is_complete


def test_another_feature_set_is_refused_before_anything_is_computed(artifacts):
    with pytest.raises(ConfigError, match=r"`features\.name` is 'baseline'"):
        stage_config(
            "inference",
            flags={"artifacts": str(artifacts), "features.name": "baseline"},
        )


def test_features_in_another_order_are_refused_with_a_diff(artifacts):
    model = Model.load(artifacts)
    table = pl.read_parquet(artifacts / "features.parquet")
    swapped = table.select("shop_id", *reversed(model.features))
    with pytest.raises(ArtifactError, match="the order differs: column 1"):
        model.assign(swapped)
    with pytest.raises(ArtifactError, match="missing `product_concentration`"):
        model.assign(table.drop("product_concentration"))


def test_a_stage_without_its_predecessor_says_which_script_to_run(tmp_path):
    run = script("clustering-training", cwd=tmp_path)
    assert run.code == ArtifactError.exit_code
    assert "`./run.sh prepare`" in run.stderr
    assert "Traceback" not in run.stderr


def test_too_few_shops_are_an_error_that_shows_the_rule(tmp_path):
    config = small_config(tmp_path, sample={"n_shops": 5})
    with pytest.raises(EligibilityError, match="a run needs at least 12") as refused:
        prepare_features(config)
    assert "Bring more shops: the rows have 5 shops in all" in str(refused.value)
    assert "Lower" not in str(refused.value)
    assert not (tmp_path / "manifest.json").exists()


def test_config_flag_environment_and_file_reach_every_stage(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGMENTS_SAMPLE__N_SHOPS", "300")
    file = tmp_path / "own.yaml"
    file.write_text("clustering: {min_cluster_size: 20}", encoding="utf-8")
    flags = {"artifacts": str(tmp_path / "a"), "seed": 5}
    prepare_features(stage_config("prepare", file, flags))
    later = stage_config("autoencoder", flags={"artifacts": str(tmp_path / "a")})
    assert later.sample.n_shops == 300
    assert later.clustering.min_cluster_size == 20
    assert later.seed == 5
    saved = resolve_config(tmp_path / "a" / "config.yaml", environ={})
    assert saved == later


def test_the_baseline_and_the_reference_run_to_the_end_without_products(tmp_path):
    config = small_config(
        tmp_path,
        features={"name": "baseline", "engine": "duckdb"},
        scaling={"method": "robust"},
        autoencoder={"architecture": "reference", "epochs": 5},
        evaluation={"n_cuts": 1},
    )
    rows = generate_sales(config.sample, config.seed).rows
    results = run_all(config, rows.drop("product_id"))
    assert results[-1].facts["labelled"] > 200
    model = Model.load(tmp_path)
    assert len(model.features) == 29
    features = pl.read_parquet(tmp_path / "features.parquet")
    assert features["cv_monthly_unique_products"].null_count() == features.height
    page, card = (
        (tmp_path / name).read_text(encoding="utf-8")
        for name in ("report.html", "model-card.md")
    )
    assert "the sales name no products" in page
    assert "`cv_monthly_sales_qty`" in card
    assert "`cv_monthly_unique_products`" not in card
    # Products that come later are not looked at, as in training.
    labels = model.assign_sales(rows)
    assert_frame_equal(labels, model.assign_sales(rows.drop("product_id")))
    published = pl.read_csv(tmp_path / "cluster_predictions.csv").drop_nulls("segment")
    placed = labels.drop_nulls("segment")
    assert placed["segment"].to_list() == published["segment"].to_list()


def test_rows_without_products_are_refused_by_a_model_trained_with_them(
    artifacts, tmp_path
):
    rows = generate_sales(SAMPLE, seed=1).rows.drop("product_id")
    with pytest.raises(FeatureMismatchError, match="rows have no `product_id`"):
        Model.load(artifacts).assign_sales(rows)
    path = tmp_path / "new.parquet"
    rows.write_parquet(path)
    flags = {"artifacts": str(artifacts), "data.input": str(path)}
    with pytest.raises(FeatureMismatchError, match="--column product_id=NAME"):
        run_inference(stage_config("inference", flags=flags))


@pytest.mark.parametrize("kind", ["pandas", "polars", "lazy", "arrow", "duckdb"])
def test_every_kind_of_frame_gives_the_same_features(tmp_path, kind):
    import duckdb

    rows = generate_sales(SampleConfig(n_shops=60), seed=1).rows
    frames = {
        "pandas": rows.to_pandas,
        "polars": lambda: rows,
        "lazy": rows.lazy,
        "arrow": rows.to_arrow,
        "duckdb": lambda: duckdb.from_arrow(rows.to_arrow()),
    }
    for name, frame in (("plain", rows), (kind, frames[kind]())):
        prepare_features(small_config(tmp_path / name), frame)
    plain, other = (
        pl.read_parquet(tmp_path / name / "features.parquet")
        for name in ("plain", kind)
    )
    assert_frame_equal(plain, other, check_exact=True)


def test_strengths_are_between_0_and_1_and_finite(trained):
    predictions = pl.read_csv(trained / "cluster_predictions.csv")
    for space in ("latent", "raw"):
        values = predictions[f"{space}_cluster_strength"].drop_nulls().to_numpy()
        assert np.isfinite(values).all()
        assert ((values >= 0) & (values <= 1)).all()


def test_many_rows_are_prepared_in_parts_with_the_same_result(tmp_path, monkeypatch):
    rows = generate_sales(SampleConfig(n_shops=60), seed=1).rows
    faulty = rows.head(40).with_columns(
        shop_id=pl.Series(["", "17.0", "S000001", "zoo"] * 10),
        sales_qty=pl.Series([None, 2.0] * 20),
    )
    later = rows.tail(9).with_columns(pl.col("sales_qty") + 1)
    rows = pl.concat([faulty, rows, faulty, rows.slice(500, 30), later])
    policies = {"repeated_key": "drop"}
    data = {"source": "sample", "policies": policies}
    prepare_features(small_config(tmp_path / "whole", data=data), rows)
    monkeypatch.setattr("core.tables.parts.ROWS_AT_ONCE", 1000)
    prepare_features(small_config(tmp_path / "parts", data=data), rows)
    whole, parts = (tmp_path / name for name in ("whole", "parts"))
    compared = sorted({*whole.glob("*.parquet"), *whole.glob("*.csv")})
    assert len(compared) == 9
    for path in compared:
        read = pl.read_csv if path.suffix == ".csv" else pl.read_parquet
        assert_frame_equal(read(path), read(parts / path.name), check_exact=True)
    facts = [read_manifest(path, RETAILERS).facts("prepare") for path in (whole, parts)]
    assert facts[0] == facts[1]
    found = facts[0]["intake"]["faults"]
    names = ("missing_id", "exact_duplicate", "repeated_key")
    assert all(found[name]["set_aside"] for name in names)


def test_a_stray_future_month_does_not_move_as_of(tmp_path):
    rows = generate_sales(SampleConfig(n_shops=60), seed=1).rows
    stray = rows.head(1).with_columns(year=pl.lit(2199, dtype=pl.Int32))
    result = prepare_features(small_config(tmp_path), pl.concat([rows, stray]))
    assert result.facts["as_of"] == "2024-12"
    assert any("later months are incomplete" in line for line in result.lines)


def test_as_of_before_the_data_is_refused(tmp_path):
    config = small_config(tmp_path, features={"as_of": "2001-01"})
    with pytest.raises(ConfigError, match="the data starts in 2022-01"):
        prepare_features(config)


def test_stability_is_measured_beside_an_unchanged_model(
    trained, profiled, measured_stability
):
    manifest = read_manifest(profiled, RETAILERS)
    verify(profiled, manifest)
    assert manifest.model_id == read_manifest(trained, RETAILERS).model_id
    before, after = (
        (folder / "cluster_predictions.csv").read_bytes()
        for folder in (trained, profiled)
    )
    assert after == before
    table = pl.read_csv(profiled / "stability.csv")
    spaces = manifest.facts("clustering")["spaces"]
    n_clusters = spaces["latent"]["n_clusters"]
    assert table.height == n_clusters == len(measured_stability.table)
    assert table["jaccard"].is_between(0, 1).all()
    assert "report.html" in manifest.files
    assert manifest.facts("inference")["labelled"] > 0


def test_stability_without_a_complete_run_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="holds no complete run"):
        measure_stability(tmp_path)
