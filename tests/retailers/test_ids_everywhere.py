"""Ids with gaps, as refits leave them, in whatever tells of segments."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import polars as pl
import pytest
from figures import findings, told_of
from verdicts import NATURAL, REPRODUCIBLE, published_in

from core.artifacts.folder import Artifacts
from core.artifacts.manifest import read_manifest
from core.config import Config
from core.retailers.explain import explain_shop
from core.retailers.files import RETAILERS
from core.retailers.judge import Effort, certify, measure_stability
from core.retailers.model import Model
from core.retailers.pipelines import run_all, run_inference, stage_config
from core.retailers.profile import profile_segments
from core.retailers.publish import model_under, publish_training
from core.retailers.research import measure_scorecard
from core.retailers.sample import generate_sales

pytestmark = pytest.mark.slow

GAPS = (11, 2, 5, 8, 23, 14, 17, 20)
VERDICTS = {"density": NATURAL, "partition": REPRODUCIBLE}
QUICK = Effort(n_refits=2, n_seed_refits=2, n_workers=0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train on few shops, without much training: what is tested here is the way."""
    folder = tmp_path_factory.mktemp("run")
    options = {
        "artifacts": str(folder),
        "sample": {"n_shops": 260, "difficulty": "easy"},
        "clustering": {"min_cluster_size": 8, "min_samples": 3},
        "autoencoder": {"epochs": 2, "architecture": "denoising"},
    }
    run_all(Config.model_validate(options))
    return folder


@pytest.fixture(scope="module", params=["density", "partition"])
def artifacts(request, trained, tmp_path_factory):
    """The same model, published under ids that are not clusters."""
    folder = shutil.copytree(
        trained, tmp_path_factory.mktemp(request.param) / "artifacts"
    )
    config = read_manifest(folder, RETAILERS).config
    with Artifacts(folder, RETAILERS).stage(
        "inference", config, is_serving=True
    ) as out:
        model = model_under(out, VERDICTS[request.param])
        published = with_gaps(model.segments.published)
        segments = replace(model.segments, published=published)
        publish_training(out, replace(model, segments=segments))
    assert published_in(folder).kind == request.param
    return folder


@pytest.fixture(scope="module")
def judged(artifacts):
    """The same with profiles and stability; and what stability printed."""
    profile_segments(artifacts)
    return artifacts, measure_stability(artifacts, 2).table


def with_id(segment, other):
    parts = [
        part.model_copy(update={"id": f"{other}{part.id.lstrip('0123456789')}"})
        for part in segment.parts
    ]
    update = {"id": other}
    if segment.division is not None:
        inside = {"segments": tuple(parts)}
        update["division"] = segment.division.model_copy(update=inside)
    return segment.model_copy(update=update)


def with_gaps(published):
    moved = [
        with_id(s, GAPS[s.cluster]) if s.cluster >= 0 else s for s in published.segments
    ]
    moved.sort(key=lambda s: (s.id < 0, s.id))
    changes = {"segments": tuple(moved), "next_id": 24, "withdrawn": None}
    return published.model_copy(update=changes)


def ids_in(folder):
    return {s.id for s in published_in(folder).segments if s.id >= 0}


def table_in(folder, name):
    return pl.read_csv(folder / name, infer_schema_length=None)


def test_predictions_and_insights_tell_ids(artifacts):
    published = published_in(artifacts)
    table = table_in(artifacts, "cluster_predictions.csv").drop_nulls("segment")
    assert set(table["segment"]) - {-1} == ids_in(artifacts)
    assert set(table["nearest_segment"].drop_nulls()) <= ids_in(artifacts)
    assert (table["nearest_segment"] != table["segment"]).all()
    pairs = set(table.select("segment", "segment_name").unique().iter_rows())
    assert pairs <= set(published.names.items())
    insights = table_in(artifacts, "segment_insights.csv")
    assert insights["segment"].to_list() == [s.id for s in published.segments if s.size]
    if published.kind == "density":
        found = published.ids_of(table["latent_cluster"].to_numpy())
        assert table["segment"].to_list() == found.tolist()


def test_profiles_tell_ids(judged):
    artifacts, _ = judged
    facts = read_manifest(artifacts, RETAILERS).facts("inference")["profiles"]
    ids = ids_in(artifacts)
    assert {int(key) for key in facts["strongest"]} == ids
    for name in ("profiles", "exemplars", "curves"):
        assert set(table_in(artifacts, f"segment_{name}.csv")["segment"]) == ids
    assert set(table_in(artifacts, "segment_rules.csv")["segment"]) <= ids


def test_an_explanation_names_ids(artifacts):
    table = table_in(artifacts, "cluster_predictions.csv").drop_nulls("segment")
    shop = table.filter(pl.col("segment") >= 0).row(0, named=True)
    found = explain_shop(artifacts, shop["shop_id"])
    assert (found.segment, found.runner_up) == (
        shop["segment"],
        shop["nearest_segment"],
    )
    assert found.segment_name == shop["segment_name"]
    ids = ids_in(artifacts) | {-1}
    assert all(m.segment in ids for m in (found.to_another, found.out) if m is not None)


def test_stability_is_told_by_id(judged):
    artifacts, printed = judged
    table = table_in(artifacts, "stability.csv")
    published = published_in(artifacts)
    assert table["segment"].to_list() == sorted(ids_in(artifacts))
    sizes = dict(table.select("segment", "size").iter_rows())
    assert sizes == {s.id: s.size for s in published.segments if s.id >= 0}
    shown = {row["segment"]: row["shops"] for row in printed}
    assert shown == {published.titles[i]: f"{n:,}" for i, n in sizes.items()}


def test_a_scorecard_can_be_made(artifacts):
    facts = measure_scorecard(artifacts, n_permutations=19).facts["scorecard"]
    assert facts["kind"] == published_in(artifacts).kind
    assert facts["n_permutations"] == 19


def test_the_report_tells_ids_and_names(judged):
    artifacts, _ = judged
    text = (artifacts / "report.html").read_text(encoding="utf-8")
    published = published_in(artifacts)
    for segment in published.segments:
        if segment.id >= 0:
            assert f"{segment.id} {segment.name}" in text
            if segment.cluster not in GAPS:
                assert f"{segment.cluster} {segment.name}" not in text


def test_new_shops_get_ids(artifacts, tmp_path):
    folder = shutil.copytree(artifacts, tmp_path / "artifacts")
    config = stage_config("inference", flags={"artifacts": str(folder)})
    sample = config.sample.model_copy(update={"n_shops": 60})
    run_inference(config, generate_sales(sample, seed=9).rows)
    table = table_in(folder, "cluster_predictions.csv").drop_nulls("segment")
    assert table.height
    assert set(table["segment"]) <= ids_in(folder) | {-1}
    model = Model.load(folder)
    features = pl.read_parquet(folder / "features.parquet")
    assert set(model.assign(features)["segment"]) - {-1} == ids_in(folder)


@pytest.mark.parametrize("artifacts", ["density"], indirect=True)
def test_a_certificate_tells_ids_of_what_is_published(artifacts, tmp_path):
    folder = shutil.copytree(artifacts, tmp_path / "artifacts")
    before = published_in(folder)
    certify(folder, QUICK)
    facts, figures = told_of(folder)
    assert not findings(figures, facts), findings(figures, facts)
    after = published_in(folder)
    assert after.version == before.version
    found = json.loads((folder / "certificate.json").read_text(encoding="utf-8"))
    table = table_in(folder, "stability.csv")
    for kind in ("density", "partition"):
        ids = after.ids_by_kind(kind)
        own = table.filter(kind=kind)
        expected = {c: ids.get(c) for c in own["cluster"]}
        assert dict(own.select("cluster", "segment").iter_rows()) == expected
    ids = after.ids_by_kind("density")
    for row in found["structure"]["segments"]:
        assert row["segment"] == ids.get(row["cluster"])
    if after.kind == before.kind:
        assert after.ids == before.ids
    else:
        assert after.withdrawn.ids == before.ids
        assert {i for e in after.events for i in e.old} - {-1} == ids_in(artifacts)
