"""The certificate of a published model: what it writes, and how it is interrupted."""

from __future__ import annotations

import json
import signal
import sys

import numpy as np
import polars as pl
import pytest
from figures import findings, told_of
from PIL import Image

from core.__main__ import main
from core.artifacts.folder import Artifacts
from core.artifacts.manifest import read_manifest, verify
from core.config import Config
from core.errors import ArtifactError, ModelError
from core.evaluation.stability import FitStore
from core.retailers.files import RETAILERS
from core.retailers.judge import (
    WORK,
    Effort,
    certify,
    measure_stability,
    standing_model,
)
from core.retailers.pipelines import run_all
from core.retailers.report.plots import certificate_lines, plot_nulls

pytestmark = pytest.mark.slow

QUICK = Effort(n_refits=2, n_seed_refits=2, n_workers=0)


@pytest.fixture(scope="module")
def run_on_nothing(tmp_path_factory):
    """A run on few shops without structure, without much training, and its results."""
    folder = tmp_path_factory.mktemp("nothing")
    options = {
        "artifacts": str(folder),
        "sample": {"n_shops": 260, "structure": "none"},
        "clustering": {"min_cluster_size": 12},
        "autoencoder": {"epochs": 2, "architecture": "denoising"},
    }
    return folder, run_all(Config.model_validate(options))


@pytest.fixture(scope="module")
def nothing(run_on_nothing):
    return run_on_nothing[0]


@pytest.fixture(scope="module")
def certified(nothing):
    """The same, with what its certificate returned and the id of the model."""
    model_id = read_manifest(nothing, RETAILERS).model_id
    return nothing, model_id, certify(nothing, QUICK)


def test_data_without_structure_is_reported_as_such(run_on_nothing):
    folder, results = run_on_nothing
    verdict = next(line for line in results[-1].lines if line.startswith("Verdict"))
    badge, meaning = verdict.removeprefix("Verdict: ").split(": ")
    assert "Natural" not in badge
    assert meaning.startswith("no separate groups")
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert badge in report
    assert f"{badge} means: {meaning}" in report
    check = results[2].facts["structure_check"]
    assert not check["is_structured"]


def test_a_certified_run_tells_each_figure_once(certified):
    facts, figures = told_of(certified[0])
    assert not findings(figures, facts), findings(figures, facts)
    told = {figure.fact for figure in figures}
    assert told >= {"certificate: lead", "certificate: noise ratio", "structure_score"}


def test_the_recipe_gives_the_published_labels(nothing):
    standing = standing_model(nothing)
    for kind in ("density", "partition"):
        X, recipe = standing.learning(kind)
        again = recipe(X, standing.config.seed)(X)
        assert np.array_equal(again, standing.labels[kind])


def test_the_certificate_is_written_beside_an_unchanged_model(certified):
    folder, model_id, result = certified
    manifest = read_manifest(folder, RETAILERS)
    verify(folder, manifest)
    assert manifest.model_id == model_id
    assert not (folder / WORK).exists()
    found = json.loads((folder / "certificate.json").read_text(encoding="utf-8"))
    assert found == manifest.facts("inference")["certificate"]
    assert found["verdict"]["is_certified"]
    assert found["verdict"]["kind"] != "natural"
    assert 1 <= found["structure"]["n_null"] <= 19
    assert any("(certified)" in line for line in result.lines)
    assert (folder / "null-distribution.png").stat().st_size > 1000


def test_the_verdict_decides_what_is_published(certified):
    folder, _, _ = certified
    saved = json.loads((folder / "segments.json").read_text(encoding="utf-8"))
    found = json.loads((folder / "certificate.json").read_text(encoding="utf-8"))
    assert saved["verdict"] == found["verdict"]
    kind = "rules" if "rules" in standing_model(folder).labels else "partition"
    assert saved["kind"] == kind
    predictions = pl.read_csv(folder / "cluster_predictions.csv")
    assert predictions["segment_kind"].drop_nulls().unique().to_list() == [kind]


def test_every_segment_of_every_kind_has_its_stability(certified):
    folder, _, _ = certified
    table = pl.read_csv(folder / "stability.csv")
    standing = standing_model(folder)
    for kind, labels in standing.labels.items():
        own = table.filter(pl.col("kind") == kind)
        clusters = list(range(int(labels.max()) + 1))
        assert own["cluster"].to_list() == clusters
        is_published = kind == standing.kind
        ids = clusters if is_published else [None] * len(clusters)
        assert own["segment"].to_list() == ids
        sizes = np.bincount(labels[labels >= 0]).tolist()
        assert own["size"].to_list() == sizes
    assert table["jaccard"].is_between(0, 1).all()


def test_stability_is_that_of_what_is_published(certified):
    folder, _, _ = certified
    result = measure_stability(folder, 2)
    kind = standing_model(folder).kind
    assert result.facts["stability"]["kind"] == kind
    assert result.facts["stability"]["ari_held_out"] is not None
    table = pl.read_csv(folder / "stability.csv")
    assert table["kind"].unique().to_list() == [kind]
    assert "certificate" in read_manifest(folder, RETAILERS).facts("inference")


def test_an_interrupted_certificate_says_how_to_go_on_and_does(
    nothing, monkeypatch, capsys
):
    command = ["segments", "certify", "--artifacts", str(nothing)]
    command += ["--refits", "2", "--seed-refits", "2", "--workers", "0"]
    before = (nothing / "segments.json").read_bytes()
    first = nothing / WORK / "subsample-0.safetensors"
    keep = FitStore.put
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    # A shell lets what it runs in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted(store, name, fit):
        keep(store, name, fit)
        if first.exists():
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", command)
        patch.setattr(sys, "unraisablehook", sys.unraisablehook)
        patch.setattr(FitStore, "put", interrupted)
        with pytest.raises(SystemExit) as ended:
            main()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    said = capsys.readouterr().err
    assert ended.value.code == 130, said
    assert "continues where it stopped" in said
    assert "Traceback" not in said
    assert (nothing / "segments.json").read_bytes() == before
    kept = first.stat().st_mtime_ns
    # Were it made again, it would be written again.
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "core.evaluation.stability.FitStore.discard",
            lambda store: seen.append((store.folder / first.name).stat().st_mtime_ns),
        )
        certify(nothing, QUICK)
    assert seen == [kept]


def test_another_model_forgets_what_was_kept(nothing):
    work = nothing / WORK
    work.mkdir(exist_ok=True)
    (work / "key.txt").write_text("another model", encoding="utf-8")
    (work / "subsample-0.safetensors").write_bytes(b"")
    certify(nothing, QUICK)
    assert not work.exists()


def test_what_cannot_be_certified_is_refused(nothing, tmp_path):
    with pytest.raises(ArtifactError, match="holds no complete run"):
        certify(tmp_path)
    with pytest.raises(ModelError, match="5 nulls were requested"):
        certify(nothing, Effort(n_null=5))
    with pytest.raises(ModelError, match="1 seed refits"):
        certify(nothing, Effort(n_seed_refits=1))
    assert Artifacts(nothing, RETAILERS).published().manifest.is_complete


@pytest.mark.parametrize(
    ("score", "nulls", "is_structured"),
    [(1.5, [0.1, 0.2, 0.2, 0.4], True), (0.2, [0.3], False), (0.0, [0.0] * 19, False)],
)
def test_the_picture_and_the_words_hold_for_every_finding(
    tmp_path, score, nulls, is_structured
):
    structure = {
        "statistic": score,
        "null_statistics": nulls,
        "n_null": len(nulls),
        "n_null_planned": 19,
        "is_stopped_early": len(nulls) < 19,
        "p_value": 0.2,
        "excess": score - max(nulls),
        "required_excess": 0.1,
        "is_structured": is_structured,
        "segments": [{"cluster": 0, "p_value": 0.05}, {"cluster": 1, "p_value": 0.3}],
        "clusters": {
            "n_clusters": 2,
            "effective_clusters": 1.9,
            "largest_share": 0.6,
            "noise_ratio": 0.25,
        },
    }
    plot_nulls(structure, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert min(picture.size) > 300
    same = {"n_refits": 5, "ari": 0.9, "ari_clustered": None, "ari_held_out": 0.88}
    found = {"structure": structure, "agreement": {"seed": same}}
    lines = certificate_lines(found)
    assert "the largest with 45% of the shops; noise ratio 25%" in lines[0]
    assert "1 of 2 clusters" in lines[1]
    assert "ARI 0.90, 0.88 for shops left out" in lines[2]
