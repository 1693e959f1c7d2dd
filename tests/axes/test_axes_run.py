"""A run of the axes: whole or not at all, safe to repeat, with ids that live on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from axes_runs import (
    JUNE,
    MADE,
    MAY,
    config,
    profiles,
    published,
    run,
    until,
)
from typer.testing import CliRunner

from core.artifacts.folder import Artifacts
from core.artifacts.runs import one_at_a_time
from core.axes.assign import AxesAssigner
from core.axes.features.catalog import AXES
from core.axes.files import CUSTOMER_AXES, axes_folder
from core.axes.run import run_axes
from core.axes.sample import generate_shoppers
from core.cli import app
from core.errors import ArtifactError, ConfigError, FeatureMismatchError
from core.reporting.text import spoken
from core.rules.learn import learn_rules
from core.segments.memberships import labelled_customers
from core.tables.records import customer_rows


def times(folder: Path) -> dict[str, int]:
    root = axes_folder(folder)
    return {p.name: p.stat().st_mtime_ns for p in root.iterdir() if p.name[0] != "."}


@pytest.fixture
def folder(learnt, tmp_path):
    """Hold a copy that a test may change."""
    return Path(shutil.copytree(learnt, tmp_path / "artifacts"))


def test_everybody_has_a_segment_on_every_axis(learnt):
    table = profiles(learnt)
    orders, _ = until(MAY)
    assert table["customer_id"].to_list() == sorted(set(orders["customer_id"]))
    for column in ("segment_memberships", "membership_strengths", "segment_ids"):
        own = table[column].struct.unnest()
        assert own.columns == [axis.name for axis in AXES]
        assert own.null_count().sum_horizontal().item() == 0
    strengths = table["membership_strengths"].struct.unnest()
    assert strengths.min_horizontal().min() >= 0
    assert strengths.max_horizontal().max() <= 1
    assert table["confidence"].is_between(0, 1).all()


def test_the_tables_tell_the_same_as_the_profiles(learnt):
    base = published(learnt)
    report = pl.read_csv(base.path("axes_report.csv"))
    assert report["axis"].to_list() == [axis.name for axis in AXES]
    sizes = pl.read_csv(base.path("axis_sizes.csv"))
    long = pl.read_csv(base.path("axis_segments.csv"))
    counted = long.group_by("axis", "segment").len("n_customers")
    both = sizes.join(counted, on=["axis", "segment"], how="left", suffix=" counted")
    counts = both["n_customers counted"].fill_null(0)
    assert both["n_customers"].to_list() == counts.to_list()
    assert sizes["n_customers"].sum() == long.height == 13 * profiles(learnt).height
    page = base.path("axes.html").read_text(encoding="utf-8")
    assert all(spoken(axis.name) in page.lower() for axis in AXES)


def test_a_customer_alone_gets_the_profile_of_the_batch(learnt):
    """The batch and a request go through one assigner."""
    assigner = AxesAssigner.load(axes_folder(learnt))
    restored = AxesAssigner.from_bytes(assigner.to_bytes())
    orders, items = until(MAY)
    for row in profiles(learnt)[::40].iter_rows(named=True):
        own = {"customer_id": row["customer_id"]}
        rows = customer_rows(
            row["customer_id"],
            orders.filter(**own).to_dicts(),
            items.filter(**own).to_dicts(),
            absent=assigner.absent,
            reference_date=assigner.reference_date,
        )
        profile = restored.profile(rows)
        assert profile.segment_memberships == row["segment_memberships"]
        assert profile.runner_up_segments == row["runner_up_segments"]
        assert profile.confidence == pytest.approx(row["confidence"], abs=1e-12)
        strengths = pytest.approx(row["membership_strengths"], abs=1e-12)
        assert profile.membership_strengths == strengths
        assert profile.figures == {name: row[name] for name in profile.figures}


def test_the_same_orders_change_nothing(folder):
    before = times(folder)
    for refit in (True, False):
        again = run(folder, until(MAY), refit=refit)
        assert (again.exit_code, again.facts["is_changed"]) == (0, False)
        assert again.lines[0].startswith("Nothing changed: these orders were segmented")
    assert times(folder) == before


def test_a_refit_keeps_ids_and_names_and_writes_down_who_moved(learnt, two_versions):
    folder, first = two_versions, AxesAssigner.load(axes_folder(learnt))
    second = published(folder).manifest.facts("axes")
    assert second["version_before"] == 1
    assert second["version"] == published(folder).manifest.version == 2
    assert published(folder).manifest.lineage == first.lineage
    now = AxesAssigner.load(axes_folder(folder)).model
    n_survived = 0
    for axis, events in now.events.items():
        for event in events:
            if event.kind == "survived":
                (i,) = event.old
                assert event.new == (i,)
                assert now.names[axis][i] == first.model.names[axis][i]
                n_survived += 1
    assert n_survived >= 13
    kept = Artifacts(axes_folder(folder), CUSTOMER_AXES).versions()
    assert [manifest.version for manifest in kept.values()] == [1]
    block = pl.read_parquet(published(folder).path("ledger-0002.parquet"))
    counted = [sum(n.values()) for n in second["n_moved"].values()]
    assert sum(counted) == block.height > 0
    assert block["old_name"].null_count() == block["new_name"].null_count() == 0


def ids_of(table: pl.DataFrame, axis: str) -> dict[str, int]:
    ids = table["segment_ids"].struct.field(axis)
    return dict(zip(table["customer_id"], ids, strict=True))


def test_the_moves_of_a_run_lead_from_the_old_profiles_to_the_new(folder):
    """First what customers did, then what the model did: nothing is left over."""
    before = profiles(folder)
    # Tiers instead of groups: the new model is another one for sure.
    run(folder, until(JUNE), min_segments=3)
    after = profiles(folder)
    block = pl.read_parquet(published(folder).path("ledger-0002.parquet"))
    assert set(block["cause"]) == {"behaviour", "model"}
    for axis in before["segment_ids"].struct.fields:
        then, now = ids_of(before, axis), ids_of(after, axis)
        for cause in ("behaviour", "model"):
            own = block.filter(axis=axis, cause=cause)
            for customer, old, new in own.select("customer_id", "old", "new").rows():
                assert then[customer] == old
                then[customer] = new
        assert {c: i for c, i in now.items() if c in then} == then


def test_moves_by_behaviour_are_those_of_the_same_model(folder):
    before = profiles(folder)
    placed = run(folder, until(JUNE), refit=False)
    assert not placed.facts["is_learnt"]
    assert placed.facts["version"] == 1
    after = profiles(folder)
    axis = "purchase_value"
    both = after.join(before, on="customer_id", suffix=" before")
    id_now = pl.col("segment_ids").struct.field(axis)
    has_moved = id_now != pl.col("segment_ids before").struct.field(axis)
    block = pl.read_parquet(published(folder).path("ledger-0002.parquet"))
    assert set(block["cause"]) <= {"behaviour"}
    told = block.filter(axis=axis)["customer_id"].to_list()
    assert sorted(told) == sorted(both.filter(has_moved)["customer_id"])
    assert placed.facts["n_entered"] == after.height - both.height
    assert placed.facts["n_left"] == 0
    assert Artifacts(axes_folder(folder), CUSTOMER_AXES).versions() == {}, (
        "it is the same model"
    )


def test_orders_that_were_only_placed_are_learnt_from_when_asked(folder):
    run(folder, until(JUNE), refit=False)
    again = run(folder, until(JUNE))
    assert (again.facts["is_changed"], again.facts["version"]) == (True, 2)


def test_other_customers_start_a_lineage_of_their_own(folder):
    before = published(folder).manifest
    others = generate_shoppers(120, seed=9)
    named = pl.format("other-{}", "customer_id").alias("customer_id")
    orders = others.orders.with_columns(named)
    anew = run(folder, (orders, None))
    assert anew.facts["version"] == 1
    assert anew.facts["lineage"] != before.lineage
    assert "ids and names of segments start from scratch" in " ".join(anew.lines)
    assert not [name for name in published(folder).manifest.files if "ledger" in name]
    (kept,) = Artifacts(axes_folder(folder), CUSTOMER_AXES).versions().values()
    assert kept.lineage == before.lineage


def test_columns_that_the_model_needs_are_missed_by_name(folder):
    orders, items = until(JUNE)
    poorer = orders.drop("discount_amount"), items.drop("category")
    before = times(folder)
    with pytest.raises(FeatureMismatchError, match="`discount_amount`, `category`"):
        run(folder, poorer, refit=False)
    assert times(folder) == before
    learnt = run(folder, poorer)
    kinds = {row["axis"]: row["kind"] for row in learnt.facts["axes"]}
    assert kinds["price_sensitivity"] == "skipped"
    told = " ".join(learnt.lines)
    assert "Price sensitivity: skipped: the orders have no `discount_amount`." in told
    assert "it cannot be told who moved" in told
    assert "Nobody moved" not in told
    page = published(folder).path("axes.html").read_text(encoding="utf-8")
    assert "Customers are as they were" not in page


def test_a_run_that_fails_leaves_everything_as_it_was(folder, tmp_path):
    names = tmp_path / "names.yaml"
    names.write_text("purchase_valu: {rules: []}", encoding="utf-8")
    before = times(folder)
    with pytest.raises(ConfigError, match="purchase_valu"):
        run(folder, until(JUNE), names=str(names))
    with pytest.raises(ConfigError, match=r"`axes\.names`.*cannot be read"):
        run(folder, until(JUNE), names=str(tmp_path / "none.yaml"))
    assert times(folder) == before


def test_a_second_run_at_the_same_time_is_refused(folder):
    refused = pytest.raises(ArtifactError, match="another run of the axes is writing")
    with one_at_a_time(axes_folder(folder), CUSTOMER_AXES), refused:
        run(folder, until(JUNE))
    assert not run(folder, until(MAY)).facts["is_changed"]


def test_two_customers_are_no_reason_to_fail(tmp_path):
    orders = pl.DataFrame(
        {
            "customer_id": ["anna", "bert"],
            "order_id": ["1", "2"],
            "order_date": [MAY, JUNE],
            "total_price": [10.0, 20.0],
        }
    )
    first = run(tmp_path, (orders, None))
    assert {row["kind"] for row in first.facts["axes"]} == {"single", "skipped"}
    assert profiles(tmp_path)["confidence"].to_list() == [0.0, 0.0]
    dearer = orders.with_columns(pl.col("total_price") * 2)
    assert run(tmp_path, (dearer, None)).facts["n_moved"] == {}


def test_placing_customers_waits_for_no_learning():
    code = "import sys, core.axes; print('sklearn' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"


def test_items_alone_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="`items` were handed in without `orders`"):
        run_axes(config(tmp_path), None, MADE.items)


def test_a_folder_without_axes_says_how_to_get_them(tmp_path):
    with pytest.raises(ArtifactError, match=r"Learn them with `\./run.sh axes`"):
        AxesAssigner.load(axes_folder(tmp_path))


def test_every_store_has_a_folder_of_its_own():
    names = ["default", "berlin", "Berlin", "a b", "a/b", "..", "con.", "axes", "ä"]
    folders = [axes_folder("artifacts", name) for name in names]
    assert len({str(folder).lower() for folder in folders}) == len(names)
    assert {folder.parent for folder in folders} == {Path("artifacts")}


def test_the_command_is_quiet_for_a_scheduler_and_loud_for_a_person(folder, tmp_path):
    orders, items = until(MAY)
    orders.rename({"order_id": "InvoiceNo"}).write_parquet(tmp_path / "o.parquet")
    items.write_parquet(tmp_path / "i.parquet")
    command = ["axes", "--orders", str(tmp_path / "o.parquet"), "--items"]
    command += [str(tmp_path / "i.parquet"), "--order-column", "order_id=InvoiceNo"]
    command += ["--artifacts", str(folder), "--no-store", "--retrain", "never"]
    loud = CliRunner().invoke(app, command)
    assert loud.exit_code == 0, loud.output
    assert "placed by version 1 of the axes" in loud.stdout
    for axis in AXES:
        assert f"{spoken(axis.name).capitalize()}: " in loud.stdout
    quiet = CliRunner().invoke(app, [*command, "--quiet"])
    assert (quiet.exit_code, quiet.stdout) == (0, "")


def test_rules_imitate_an_axis_from_the_published_profiles(learnt):
    base = Artifacts(axes_folder(learnt), CUSTOMER_AXES).complete()
    profiles = base.table("customer_profiles.parquet")
    rows = labelled_customers(profiles, "purchase_frequency")
    assert "not_enough_orders" not in set(rows["segment"])
    found = learn_rules(rows, "segment")
    assert found.report.scores["rules"].low > 0.8
    assert not {"customer_id", "confidence"} & {f.name for f in found.rules.features}
    known = profiles.select("customer_id", a=profiles["total_orders"] * 2).reverse()
    other = labelled_customers(profiles, "purchase_frequency", known)
    assert other.rows() == list(
        zip(rows["segment"], 2 * rows["total_orders"], strict=True)
    )
    with pytest.raises(ConfigError, match="Did you mean `purchase_value`"):
        labelled_customers(profiles, "purchase_valu")
    with pytest.raises(ConfigError, match="no axis is named; expected one of"):
        labelled_customers(profiles, None)
