"""Segments by rules for everyone: published, read, and the same everywhere.

The trained model's rules are the rule set `momentum`, put beside its other segments as
a run does where its partition is weak.
"""

import shutil
from dataclasses import replace

import duckdb
import polars as pl
import pytest
import sqlglot
from typer.testing import CliRunner
from verdicts import NATURAL, publish

from core.artifacts.arrays import save_arrays
from core.artifacts.manifest import digest, read_manifest
from core.cli import app
from core.errors import FeatureMismatchError
from core.retailers.explain import explain_shop, explanation_lines
from core.retailers.features import MOMENTUM
from core.retailers.files import RETAILERS
from core.retailers.judge import measure_stability
from core.retailers.model import SEGMENT_STATE, Model
from core.retailers.profile import profile_segments
from core.retailers.publish import published_opening, rename_segment
from core.retailers.training import named_table
from core.rules.assign import assign_rules
from core.rules.dialects import DIALECTS
from core.rules.grammar import read_rules
from core.segments.published import Verdict
from core.segments.split import Split

BY_RULES = Verdict(
    kind="constructive",
    is_certified=True,
    basis={"partition_ari": 0.93, "rules_ari": 0.97},
)


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    """Return a complete run that publishes rules, to be read."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("rules") / "artifacts")
    model, shops = Model.load(folder), pl.read_parquet(folder / "features.parquet")
    settled = read_rules("momentum").settle(shops)
    evidence = {"features": model.features, "momentum": list(MOMENTUM)}
    rules = Split("rules", "momentum", 3, ("yoy_6",), "", evidence, settled)
    labels = rules.assign(shops)
    table = named_table(shops, "rules", labels, model.features, rules)
    tables = {**model.segments.tables, "rules": table}
    assigner = replace(model.segments, rules=rules, tables=tables)
    save_arrays(folder / SEGMENT_STATE, *assigner.get_state())
    manifest = read_manifest(folder, RETAILERS)
    manifest.files[SEGMENT_STATE].sha256 = digest(folder / SEGMENT_STATE)
    manifest.files[SEGMENT_STATE].size = (folder / SEGMENT_STATE).stat().st_size
    text = manifest.model_dump_json()
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    publish(folder, BY_RULES)
    return folder


@pytest.fixture
def artifacts_by_rules(run, tmp_path):
    return shutil.copytree(run, tmp_path / "artifacts")


def rules_in(folder):
    return (folder / "segment_rules.txt").read_text(encoding="utf-8").splitlines()


def test_everyone_is_in_the_segment_whose_rule_holds(run):
    model, shops = Model.load(run), pl.read_parquet(run / "features.parquet")
    published = model.segments.published
    assert published.kind == "rules"
    assert set(published.names.values()) == {"Fading", "Steady", "Growing"}
    placed = model.assign(shops)
    assert placed["segment"].min() >= 0
    assert placed["nearest_segment"].null_count() == shops.height
    growing = next(i for i, name in published.names.items() if name == "Growing")
    threshold = {t.name: t.value for t in model.segments.rules.rules.thresholds}
    expected = (shops["yoy_6"] > threshold["growing"]).fill_null(False)
    assert ((placed["segment"] == growing) == expected).all()
    one = model.assign(shops[7:8])
    assert one.row(0) == placed.row(7)
    with pytest.raises(FeatureMismatchError, match="no `yoy_6`, by which all shops"):
        model.assign(shops.drop(*MOMENTUM))


def test_the_exact_rules_are_written_and_follow_a_name(artifacts_by_rules):
    folder = artifacts_by_rules
    assert all(" shops, 100% of them" in rule for rule in rules_in(folder))
    model = Model.load(folder)
    first = model.segments.published.segments[0]
    rename_segment(folder, first.id, "Ours")
    assert any(f"-> Ours, {first.size} shops" in rule for rule in rules_in(folder))
    table = pl.read_csv(folder / "segment_rules.csv")
    assert table.filter(pl.col("segment") == first.id)["segment_name"].item() == "Ours"
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "segments by rules" in report
    assert "last 6 months against the year before above +" in report


def test_rules_are_profiled_explained_and_learnt_anew(artifacts_by_rules):
    folder = artifacts_by_rules
    profile_segments(folder)
    assert len(rules_in(folder)) == 3
    shop = pl.read_parquet(folder / "features.parquet")["shop_id"][0]
    said = " ".join(explanation_lines(explain_shop(folder, shop)))
    assert "a segment by rules, not a natural group" in said
    measure_stability(folder, n_refits=2)
    table = pl.read_csv(folder / "stability.csv")
    assert table["kind"].unique().to_list() == ["rules"]
    assert table["jaccard"].min() > 0.8


def test_the_verdict_says_that_it_is_a_cut_and_other_kinds_come_back(
    trained, artifacts_by_rules
):
    folder = artifacts_by_rules
    published = Model.load(folder).segments.published
    manifest = read_manifest(folder, RETAILERS)
    said = " ".join(published_opening(published, manifest).lines)
    assert "a convenient cut by simple rules" in said
    before = pl.read_csv(folder / "cluster_predictions.csv")
    assert set(before["segment_kind"].drop_nulls()) == {"rules"}
    back = publish(folder, NATURAL)
    first = Model.load(trained).segments.published
    assert back.kind == first.kind == "density"
    sizes = [[s.size for s in one.segments] for one in (back, first)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_exported_rules_say_in_every_database_what_the_model_says(
    dialect, run, tmp_path
):
    file = tmp_path / "rules.sql"
    arguments = ["export", str(file), "--rules", "--artifacts", str(run)]
    done = CliRunner().invoke(
        app, [*arguments, "--dialect", dialect, "--table", "crm.shops"]
    )
    assert done.output.endswith("rules.sql: 3 rules\n")
    sql = file.read_text(encoding="utf-8")
    [query] = sqlglot.transpile(sql, read=dialect, write="duckdb")
    model, shops = Model.load(run), pl.read_parquet(run / "features.parquet")
    with duckdb.connect() as database:
        database.execute("CREATE SCHEMA crm")
        database.execute("CREATE TABLE crm.shops AS FROM shops")
        found = dict(database.execute(query).fetchall())
    names = model.segments.published.names
    placed = model.assign(shops).select("shop_id", "segment").iter_rows()
    assert found == {shop: names[segment] for shop, segment in placed}


def test_exported_rules_are_read_back(run, tmp_path):
    file = tmp_path / "rules.yaml"
    arguments = ["export", str(file), "--rules", "--artifacts", str(run)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    shops = pl.read_parquet(run / "features.parquet")
    told = assign_rules(read_rules(str(file)), shops, "shop_id").table["segment"]
    model = Model.load(run)
    names, placed = model.segments.published.names, model.assign(shops)
    assert told.to_list() == [names[segment] for segment in placed["segment"]]
