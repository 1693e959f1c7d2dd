"""What is published changes with the verdict, all of it at once, the model never."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from verdicts import NATURAL, REPRODUCIBLE, publish, published_in

from core.artifacts.folder import Artifacts
from core.artifacts.manifest import read_manifest, verify
from core.config import Config
from core.errors import ArtifactError, ModelError
from core.retailers.files import RETAILERS
from core.retailers.model import Model
from core.retailers.pipelines import run_inference, stage_config
from core.retailers.publish import (
    model_under,
    published_opening,
    refresh_report,
)
from core.retailers.sample import generate_sales
from core.retailers.shop_files import segment_file
from core.segments.published import (
    PublishedSegments,
    SegmentTable,
    first_version,
    publishable,
    restored_table,
    segment_table,
)

SHOPS = 300
COLUMNS = [
    "shop_id",
    "latent_cluster",
    "latent_cluster_strength",
    "raw_cluster",
    "raw_cluster_strength",
    "segment",
    "segment_name",
    "segment_kind",
    "sub_segment",
    "sub_segment_name",
    "state",
    "nearest_segment",
    "distance",
    "changing",
    "changing_to",
    "changing_since",
    "reason",
]
STRUCTURE = {
    "clusters": {
        "n_clusters": 2,
        "noise_ratio": 0.1,
        "effective_clusters": 1.9,
        "largest_share": 0.6,
    },
    "n_null": 3,
    "is_stopped_early": False,
    "n_rows": SHOPS,
    "required_excess": 0.1,
    "excess": 0.0,
    "p_value": 0.5,
    "segments": [],
}


def predictions(folder):
    return pl.read_csv(folder / "cluster_predictions.csv", infer_schema_length=None)


def test_every_run_publishes_segments_beside_what_hdbscan_said(
    trained, trained_results
):
    folder, results = trained, trained_results
    table = predictions(folder)
    assert table.columns == COLUMNS
    published = json.loads((folder / "segments.json").read_text(encoding="utf-8"))
    labelled = table.filter(pl.col("reason").is_null())
    assert set(labelled["segment_kind"]) == {published["kind"]}
    rows = {s["id"]: s for s in published["segments"]}
    counts = labelled.group_by("segment", "segment_name").len()
    for segment, name, n in counts.iter_rows():
        assert (rows[segment]["name"], rows[segment]["size"]) == (name, n)
    assert published["verdict"] == results[2].facts["verdict"]
    assert not published["verdict"]["is_certified"]
    assert results[3].facts["verdict"] == published["verdict"]
    assert (labelled["nearest_segment"] != labelled["segment"]).all()
    excluded = table.filter(pl.col("reason").is_not_null()).drop(
        "shop_id", "state", "reason"
    )
    assert excluded.height
    assert excluded.null_count().row(0) == (excluded.height,) * excluded.width


def test_the_closing_says_what_is_published_and_how_far_to_trust_it(
    trained, trained_results
):
    folder, results = trained, trained_results
    published = PublishedSegments.read(folder / "segments.json")
    manifest = read_manifest(folder, RETAILERS)
    said = published_opening(published, manifest)
    assert set(said.lines) <= set(results[3].lines)
    assert set(said.lines) <= set(results[2].lines)
    report = (folder / "report.html").read_text(encoding="utf-8")
    for text in (said.badge, said.headline, said.left_out, said.meaning, said.found):
        assert text in report
    titles = [row["segment"] for row in results[3].table]
    assert titles == [*published.titles.values(), "unassigned"]
    assert sum("effective clusters" in line for line in results[3].lines) == 2
    partition = published.model_copy(
        update={"kind": "partition", "verdict": REPRODUCIBLE}
    )
    text = " ".join(published_opening(partition, manifest).lines)
    assert "segments cover all " in text
    assert "Reproducible (certified): no separate groups" in text


def test_a_natural_verdict_publishes_the_latent_clusters(artifacts):
    publish(artifacts, NATURAL)
    table = predictions(artifacts).filter(pl.col("reason").is_null())
    published = PublishedSegments.read(artifacts / "segments.json")
    expected = published.ids_of(table["latent_cluster"].to_numpy())
    assert table["segment"].to_list() == expected.tolist()
    assert set(table["segment_kind"]) == {"density"}
    unassigned = table.filter(pl.col("segment") == -1)
    assert unassigned.height
    assert set(unassigned["segment_name"]) == {"unassigned"}
    assert unassigned["nearest_segment"].is_between(0, 100).all()
    assert table["distance"].is_between(0, 1e6).all()
    names = table.filter(pl.col("segment") >= 0)
    assert names["segment"].n_unique() == names["segment_name"].n_unique()


def test_a_partition_leaves_no_shop_out(partitioned):
    table = predictions(partitioned).filter(pl.col("reason").is_null())
    assert set(table["segment_kind"]) == {"partition"}
    assert (table["segment"] >= 0).all()
    by_cluster = sorted(
        PublishedSegments.read(partitioned / "segments.json").segments,
        key=lambda segment: segment.cluster,
    )
    sizes = [segment.size for segment in by_cluster]
    assert sizes == sorted(sizes, reverse=True)
    counts = dict(table["segment"].value_counts().iter_rows())
    assert counts == {segment.id: segment.size for segment in by_cluster}


@pytest.mark.parametrize(
    ("other", "verdict"), [("partitioned", NATURAL), ("trained", REPRODUCIBLE)]
)
def test_another_verdict_rewrites_everything_but_the_model(
    other, verdict, trained, request, tmp_path
):
    before = read_manifest(trained, RETAILERS)
    report = (trained / "report.html").read_bytes()
    folder = request.getfixturevalue(other)
    artifacts = shutil.copytree(folder, tmp_path / "artifacts")
    published = publish(artifacts, verdict)
    manifest = read_manifest(artifacts, RETAILERS)
    verify(artifacts, manifest)
    assert manifest.is_complete
    assert manifest.model_id == before.model_id
    own, others = ({n for n in m.files if "/" not in n} for m in (manifest, before))
    # Drawn only where it is, or was, published.
    assert own - {"partition-space.png"} == others
    assert "partition-space.png" in own
    named = {segment_file(s.id, s.name) for s in published.segments}
    assert {*manifest.files} - own == named | {"segments/not-segmented.csv"}
    assert manifest.facts("inference")["verdict"] == verdict.model_dump()
    assert (
        manifest.facts("inference")["labelled"] == before.facts("inference")["labelled"]
    )
    assert published.verdict == verdict
    insights = pl.read_csv(artifacts / "segment_insights.csv")
    counts = predictions(artifacts)["segment"].drop_nulls().value_counts()
    sizes = dict(insights.select("segment", "size").iter_rows())
    assert sizes == dict(counts.iter_rows())
    assert set(insights["segment_kind"]) == {published.kind}
    assert len((artifacts / "report.html").read_bytes()) > 0.9 * len(report)
    clusters = [c for c in COLUMNS if "cluster" in c]
    assert Model.load(artifacts).segments.published == published
    assert predictions(artifacts).select("shop_id", *clusters).height == SHOPS


def test_what_hdbscan_said_stays_whatever_is_published(trained, partitioned):
    assert published_in(trained).kind == "density"
    clusters = ["shop_id", *COLUMNS[1:5]]
    natural = predictions(trained).select(clusters)
    assert_frame_equal(predictions(partitioned).select(clusters), natural)
    insights = (trained / "cluster_insights.csv").read_bytes()
    assert (partitioned / "cluster_insights.csv").read_bytes() == insights


def test_a_verdict_outlives_labelling_anew_but_not_training_anew(artifacts):
    publish(artifacts, NATURAL)
    first = predictions(artifacts)
    config = stage_config("inference", flags={"artifacts": str(artifacts)})
    run_inference(config)
    published = PublishedSegments.read(artifacts / "segments.json")
    assert published.verdict == NATURAL
    assert_frame_equal(predictions(artifacts), first)


def test_new_shops_are_scored_under_the_standing_verdict(artifacts):
    publish(artifacts, NATURAL)
    certified = read_manifest(artifacts, RETAILERS).facts("inference")["verdict"]
    config = stage_config("inference", flags={"artifacts": str(artifacts)})
    sample = config.sample.model_copy(update={"n_shops": 60})
    rows = generate_sales(sample, seed=9).rows
    result = run_inference(config, rows)
    assert result.facts["verdict"] == certified
    assert any(line.startswith("Verdict: Natural (certified)") for line in result.lines)
    table = pl.read_csv(artifacts / "scored_predictions.csv")
    assert table.height == 60
    assert set(table["segment_kind"].drop_nulls()) == {"density"}
    assert PublishedSegments.read(artifacts / "segments.json").verdict == NATURAL
    verify(artifacts, read_manifest(artifacts, RETAILERS))


def judge(folder, **facts):
    config = read_manifest(folder, RETAILERS).config
    with Artifacts(folder, RETAILERS).stage(
        "inference", config, is_serving=True
    ) as out:
        out.facts |= out.base.manifest.facts("inference") | facts
        refresh_report(out)


def test_the_report_is_written_anew_when_something_was_judged(artifacts):
    path = artifacts / "report.html"
    before = path.read_text(encoding="utf-8")
    labels = predictions(artifacts)
    judge(artifacts, certificate={"structure": STRUCTURE})
    after = path.read_text(encoding="utf-8")
    added = "More structure than chance?"
    assert (added in before, added in after) == (False, True)
    assert_frame_equal(predictions(artifacts), labels)


def test_the_report_tells_of_the_training_data_whatever_was_scored_since(artifacts):
    features = pl.read_parquet(artifacts / "features.parquet")
    config = stage_config("inference", flags={"artifacts": str(artifacts)})
    new = generate_sales(config.sample.model_copy(update={"n_shops": 40}), seed=3).rows
    run_inference(config, new)
    judge(artifacts)
    report = (artifacts / "report.html").read_text(encoding="utf-8")
    assert f"{features.height:,} of 300 shops could be segmented" in report


def test_labelling_the_same_shops_again_keeps_what_was_judged(artifacts):
    judge(artifacts, certificate={"structure": STRUCTURE})
    config = stage_config("inference", flags={"artifacts": str(artifacts)})
    assert "certificate" in run_inference(config).facts


@pytest.mark.parametrize("run", ["trained", "partitioned"])
def test_one_shop_alone_gets_the_segment_it_has_in_the_batch(run, request):
    folder = request.getfixturevalue(run)
    model = Model.load(folder)
    table = pl.read_parquet(folder / "features.parquet")
    together = model.assign(table)
    for place in (0, 7, table.height - 1):
        alone = model.assign(table.slice(place, 1))
        assert_frame_equal(alone, together.slice(place, 1), check_exact=True)
    rows = generate_sales(model.config.sample, seed=model.config.seed).rows
    scored = model.assign_sales(rows)
    expected = predictions(folder).sort("shop_id")
    assert_frame_equal(scored, expected, check_dtypes=False, check_exact=True)


def test_a_single_density_segment_is_nearest_to_no_member(artifacts):
    publish(artifacts, NATURAL)
    model = Model.load(artifacts)
    exemplars = model.segments.exemplars
    first = exemplars.segment == 0
    alone = replace(
        exemplars, points=exemplars.points[first], segment=exemplars.segment[first]
    )
    segments = replace(model.segments, exemplars=alone)
    rows = np.zeros((2, len(model.features)))
    latent = np.zeros((2, alone.points.shape[1]))
    placed = segments.place(pl.DataFrame(), rows, latent, np.array([0, -1]))
    assert placed["nearest_segment"].to_list() == [None, 0]
    assert placed["distance"][0] is None
    assert placed["distance"][1] >= 0


def test_natural_is_refused_for_a_model_without_clusters():
    labels = np.full(30, -1)
    tables = {
        "density": segment_table("density", labels, {}),
        "partition": segment_table("partition", labels + 1, {0: "Average"}),
    }
    with pytest.raises(ModelError, match="has 0 cluster"):
        publishable(tables, NATURAL)
    table = publishable(tables, REPRODUCIBLE)
    assert table.names == {0: "Average"}


def test_publishing_needs_a_complete_run(tmp_path):
    config = Config.model_validate({"artifacts": str(tmp_path)})
    with (
        pytest.raises(ArtifactError, match="holds no complete run"),
        Artifacts(tmp_path, RETAILERS).stage(
            "inference", config, is_serving=True
        ) as out,
    ):
        model_under(out, NATURAL)


def test_a_model_from_before_there_were_segments_names_the_script_to_run(artifacts):
    path = artifacts / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for name in ("segment-state.safetensors", "segments.json"):
        (artifacts / name).unlink()
        del manifest["files"][name]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ArtifactError, match="train-clusters"):
        Model.load(artifacts)


def table_of(*segments):
    keys = ("id", "name", "kind", "size", "share")
    return {
        "kind": segments[0][2],
        "segments": [dict(zip(keys, s, strict=True)) for s in segments],
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "does not hold published segments"),
        (table_of((0, "A", "density", 3, 1.0)), "the ids must ascend"),
        (table_of((1, "A", "partition", 3, 1.0)), "the clusters must be numbered"),
        (
            table_of((0, "A", "partition", 3, 0.5), (1, "A", "partition", 3, 0.5)),
            "two segments share a name",
        ),
        (
            table_of((0, "A", "partition", 3, 0.5), (1, "B", "density", 3, 0.5)),
            "of another kind",
        ),
        (table_of((0, "", "partition", 3, 1.0)), r"segments\.0\.name"),
        (table_of((0, "A", "partition", -3, 1.0)), r"segments\.0\.size"),
    ],
)
def test_tables_that_no_run_leaves_are_refused(value, message):
    with pytest.raises(ArtifactError, match=message):
        restored_table(value)


def test_segments_are_written_and_read_as_plain_json(tmp_path):
    labels = np.array([0, 0, 1, -1])
    table = segment_table("density", labels, {0: "Café", 1: "Growing sales"})
    assert isinstance(table, SegmentTable)
    assert table.unassigned_share == 0.25
    published = first_version(table, NATURAL, "0123456789ab")
    published.write(tmp_path / "segments.json")
    assert PublishedSegments.read(tmp_path / "segments.json") == published
    value = json.loads((tmp_path / "segments.json").read_text(encoding="utf-8"))
    assert [s["id"] for s in value["segments"]] == [0, 1, -1]
    assert value["segments"][2]["name"] == "unassigned"
    (tmp_path / "segments.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ArtifactError, match="does not hold published segments"):
        PublishedSegments.read(tmp_path / "segments.json")
