"""The verbs `profile` and `explain` on one small complete run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from core.artifacts.folder import Artifacts
from core.artifacts.manifest import read_manifest, verify
from core.config import Config
from core.errors import ArtifactError, ConfigError
from core.models.scaling import feature_matrix
from core.retailers.explain import (
    NotEligible,
    assigner,
    explain_shop,
    explanation_lines,
)
from core.retailers.features import SHOP
from core.retailers.files import RETAILERS
from core.retailers.model import Model
from core.retailers.pipelines import run_all
from core.retailers.profile import labelled_shops, profile_segments
from core.rules.learn import learn_rules

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = {
    "segment_profiles.csv",
    "segment_exemplars.csv",
    "segment_rules.txt",
    "segment_rules.csv",
    "segment_curves.csv",
}


@pytest.fixture(scope="module")
def profiled_partition(partitioned, tmp_path_factory):
    folder = shutil.copytree(partitioned, tmp_path_factory.mktemp("copy") / "artifacts")
    profile_segments(folder)
    return folder


def test_profiles_are_published_with_the_run(profiled, profiled_result):
    result, folder = profiled_result, profiled
    manifest = read_manifest(folder, RETAILERS)
    verify(folder, manifest)
    assert set(manifest.files) >= FILES
    facts = manifest.facts("inference")
    assert facts["labelled"] > 200, "what the stage knew before is kept"
    assert json.loads(json.dumps(result.facts["profiles"])) == facts["profiles"]


def test_every_segment_and_feature_is_tested_or_says_why_not(profiled):
    folder = profiled
    model = Model.load(folder)
    names = model.segments.published.names
    table = pl.read_csv(folder / "segment_profiles.csv")
    assert set(table["segment"]) == set(names) - {-1}
    assert table["segment_name"].to_list() == [names[s] for s in table["segment"]]
    today = table.filter(pl.col("effect").is_not_null())
    assert set(model.features) <= set(today["feature"])
    is_tested = table["status"] == "tested"
    assert (is_tested == table["adjusted_p"].is_not_null()).all()
    assert is_tested.any()
    trend = table.filter(pl.col("feature") == "sales_trend_per_year")
    assert not (trend["status"] == "tested").any(), "12 months tell no trend"
    tested = table.filter(is_tested)
    assert (tested["low"] <= tested["later_effect"]).all()
    assert (tested["later_effect"] <= tested["high"]).all()


@pytest.mark.parametrize(
    ("run", "column"),
    [("profiled", "strength"), ("profiled_partition", "distance_to_centre")],
)
def test_exemplars_are_shops_of_their_segment_with_their_volume(run, column, request):
    folder = request.getfixturevalue(run)
    exemplars = pl.read_csv(folder / "segment_exemplars.csv")
    predictions = pl.read_csv(folder / "cluster_predictions.csv")
    joined = exemplars.join(predictions, on="shop_id", how="left")
    assert (joined["segment"] == joined["segment_right"]).all()
    assert exemplars["place"].max() == 5
    assert (exemplars["sales_qty_total"] > 0).all()
    assert exemplars[column].is_not_null().all()


def test_a_partition_is_learnt_anew_as_a_partition(profiled_partition):
    found = read_manifest(profiled_partition, RETAILERS).facts("inference")["profiles"]
    assert found["segment_kind"] == "partition"
    test = found["test"]
    assert (
        test["n_segments"]
        == Model.load(profiled_partition).segments.published.n_segments
    )
    assert test["n_found_again"] >= 1


def test_rules_and_what_was_found_are_said_in_sentences(profiled, profiled_result):
    result, folder = profiled_result, profiled
    rules = (folder / "segment_rules.txt").read_text(encoding="utf-8").splitlines()
    assert 2 <= len(rules) <= 10
    assert all(" -> " in rule and " shops, " in rule for rule in rules)
    closing = "\n".join(result.lines)
    assert "always naming the largest segment would be right" in closing
    assert "on shops that were not used for learning" in closing


def test_without_a_past_differences_are_descriptive_only(tmp_path):
    config = Config.model_validate(
        {
            "artifacts": str(tmp_path),
            "sample": {"n_shops": 120, "n_months": 14},
            "autoencoder": {"architecture": "denoising", "epochs": 1},
            "clustering": {"min_cluster_size": 10},
        }
    )
    run_all(config)
    result = profile_segments(tmp_path)
    assert result.facts["profiles"]["test"]["why_not"].startswith("no earlier month")
    status = pl.read_csv(tmp_path / "segment_profiles.csv")["status"].unique()
    assert status.to_list() == [
        "descriptive only, not tested: no earlier month at which shops were eligible"
    ]


def test_the_change_is_confirmed_by_the_model_itself(trained):
    model = Model.load(trained)
    predictions = pl.read_csv(trained / "cluster_predictions.csv")
    shop = predictions.filter(pl.col("segment") >= 0)["shop_id"][0]
    told = explain_shop(trained, shop)
    row = pl.scan_parquet(trained / "features.parquet").filter(shop_id=shop).collect()
    assert told.segment == model.assign(row)["segment"][0]
    assert told.runner_up not in {None, told.segment}
    move = told.to_another
    changed = row.with_columns(
        pl.lit(value).alias(name)
        for name, value in {
            **{one["feature"]: one["after"] for one in move.features},
            **move.gives_way,
        }.items()
    )
    found = assigner(model)(feature_matrix(changed, model.features))
    assert found.tolist() == [move.segment]
    assert move.segment != told.segment


def test_a_shop_that_was_not_eligible_hears_its_reason(trained):
    excluded = pl.read_csv(trained / "exclusions.csv")
    for shop, reason in (
        excluded.group_by("reason").first().select("shop_id", "reason").iter_rows()
    ):
        told = explain_shop(trained, shop)
        assert isinstance(told, NotEligible)
        assert f"it was not eligible ({reason})" in explanation_lines(told)[0]


def test_an_unknown_shop_is_answered_with_one_that_looks_like_it(trained):
    with pytest.raises(ConfigError, match=r"Did you mean `S000"):
        explain_shop(trained, "S00000X")


def test_both_need_a_complete_run(tmp_path):
    for ask in (profile_segments, lambda folder: explain_shop(folder, "S000001")):
        with pytest.raises(ArtifactError, match="no complete run"):
            ask(tmp_path)


def test_the_command_explains_without_waiting_for_tensorflow(trained):
    shop = pl.read_csv(trained / "cluster_predictions.csv")["shop_id"][1]
    code = (
        "import sys\n"
        "from core.cli import run\n"
        f"sys.argv = ['segments', 'explain', {shop!r}, '--json',"
        f" '--artifacts', {str(trained)!r}]\n"
        "try:\n    run()\n"
        "finally:\n    assert not {'tensorflow', 'keras', 'hdbscan'} & set(sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["shop_id"] == shop


def test_rules_imitate_the_published_segments(trained):
    rows = labelled_shops(Artifacts(trained, RETAILERS).complete())
    features = [c for c in rows.columns if c not in {"segment", SHOP.size_column}]
    learnt = learn_rules(rows, "segment", features, size=SHOP.size_column)
    scores = learnt.report.scores
    assert scores["rules"].low > 0.7
    assert scores["size"].high < 0.4
    n_unassigned = rows["segment"].null_count()
    assert learnt.report.n_without_target == n_unassigned > 0
    names = set(rows["segment"].drop_nulls())
    named = {segment.name for segment in learnt.rules.segments}
    assert named | set(learnt.report.unnamed) == names
