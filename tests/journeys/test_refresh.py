"""Month after month: nothing lost, nothing half done, nothing published unjudged."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import date

import polars as pl
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from core.artifacts.folder import Artifacts
from core.artifacts.manifest import read_manifest, verify
from core.cli import app
from core.config import Config, SampleConfig
from core.errors import (
    ArtifactError,
    ConfigError,
    ContractError,
    SourceError,
    StoreError,
)
from core.retailers.files import RETAILERS
from core.retailers.model import Model
from core.retailers.pipelines import run_all
from core.retailers.publish import rename_segment
from core.retailers.refresh.month import Record, ledger_blocks, refresh_config
from core.retailers.refresh.output import roll_back, version_rows
from core.retailers.refresh.run import run_refresh
from core.retailers.sample import generate_sales
from core.retailers.stored import stored_run
from core.segments.transitions import stock_and_flow
from core.store import Store
from core.store.publish import publish_ledger

pytestmark = pytest.mark.slow

SAMPLE = SampleConfig(n_shops=320, n_months=30, difficulty="easy")
LAST = "2024-02"  # what the model is trained on: 26 of the 30 months
TODAY = date(2024, 6, 1)


def months_of(rows, first, last):
    label = pl.format("{}-{}", "year", pl.col("month").cast(pl.String).str.zfill(2))
    return rows.filter(label.is_between(pl.lit(first), pl.lit(last)))


@pytest.fixture(scope="module")
def rows():
    return generate_sales(SAMPLE, seed=3).rows


@pytest.fixture(scope="module")
def trained(rows, tmp_path_factory):
    """A complete run on the first 26 months, never written to."""
    folder = tmp_path_factory.mktemp("trained") / "artifacts"
    config = Config.model_validate(
        {
            "artifacts": str(folder),
            "autoencoder": {"epochs": 8, "architecture": "denoising"},
            "evaluation": {"n_cuts": 1},
            "features": {"history_months": 24},
            "refresh": {"gate_refits": 2},
        }
    )
    run_all(config, months_of(rows, "2022-01", LAST))
    return folder


@pytest.fixture(scope="module")
def refreshed(trained, rows, tmp_path_factory):
    """The same after two months: one assigned, one with a refit."""
    folder = copied(trained, tmp_path_factory.mktemp("refreshed"))
    first = refresh(folder, months_of(rows, "2024-03", "2024-03"))
    second = refresh(folder, months_of(rows, "2024-04", "2024-04"), retrain="always")
    return folder, first, second


def copied(folder, parent):
    return shutil.copytree(folder, parent / "artifacts")


def refresh(folder, frame=None, **options):
    config = refresh_config(str(folder), assignments=options.pop("set_", ()))
    return run_refresh(config, frame, today=TODAY, into_store=publish_ledger, **options)


def state_of(folder):
    """Return every file's bytes, but for the lock."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_a_month_is_assigned_recorded_and_told(refreshed):
    folder, first, _ = refreshed
    assert first.facts["month"] == "2024-03"
    assert first.facts["decision"] in {"kept", "recommended"}
    assert first.facts["n_assigned"] > 200
    blocks = ledger_blocks(Artifacts(folder, RETAILERS).published())
    months = [(b["month"][0], b["role"][0], b["version"][0]) for b in blocks]
    assert months[:2] == [(LAST, "serving", 1), ("2024-03", "serving", 1)]
    flow = stock_and_flow(blocks)
    assert flow.filter(month="2024-03")["stock"].sum() == blocks[1].height
    assert any("moved to another segment" in line for line in first.lines)


def test_the_shops_that_are_named_are_as_many_as_the_headline_says(refreshed):
    folder, _, second = refreshed
    told = pl.read_csv(folder / "refresh_shops.csv", infer_schema=False)
    n = dict(told.group_by("change").len().iter_rows())
    is_whole = ~pl.col("from").str.contains("[a-z]")  # not within a segment
    assert told.filter(is_whole, change="moved").height == second.facts["n_moved"]
    assert n.get("changing", 0) == second.facts["n_changing"]
    stepped = n.get("sells less", 0) + n.get("sells more", 0)
    assert stepped == second.facts["n_stepped"]
    assert n.get("lapsed", 0) == second.facts["n_lapsed"]
    assert told["what_to_do"].null_count() == 0


def test_a_playbook_that_is_not_there_is_told_before_the_work(refreshed):
    with pytest.raises(ConfigError, match=r"`report.playbook`: the file `ours.yaml`"):
        refresh(refreshed[0], set_=("report.playbook=ours.yaml",))


def test_predictions_of_the_month_are_those_of_the_serving_model(
    trained, rows, tmp_path
):
    folder = copied(trained, tmp_path)
    model = Model.load(folder)
    refresh(folder, months_of(rows, "2024-03", "2024-03"))
    alone = model.assign_sales(months_of(rows, "2022-01", "2024-03"))
    assigned = alone.drop_nulls("segment")
    wanted = dict(assigned.select("shop_id", "segment").iter_rows())
    block = ledger_blocks(Artifacts(folder, RETAILERS).published())[-1]
    found = dict(block.select("entity", "segment").iter_rows())
    assert found == wanted
    assert len(found) > 200
    everyone = pl.read_csv(folder / "cluster_predictions.csv")
    written = everyone.drop_nulls("segment")
    assert dict(written.select("shop_id", "segment").iter_rows()) == found
    states = alone.select("shop_id", "state")
    assert everyone.select("shop_id", "state").sort("shop_id").equals(states)
    told = dict(block.select("entity", "state").iter_rows())
    assert told.items() <= dict(states.iter_rows()).items()
    assert "lapsed" in set(states["state"]) - set(told.values())


def test_a_refit_that_passes_serves_under_the_same_ids_and_names(trained, refreshed):
    folder, _, second = refreshed
    assert second.facts["decision"] == "published", second.lines
    before = Model.load(trained).segments.published
    after = Model.load(folder).segments.published
    assert (before.version, after.version) == (1, 2)
    assert before.lineage == after.lineage
    survivors = {
        i for e in second.facts["events"] if e["kind"] == "survived" for i in e["new"]
    }
    assert survivors
    assert {i: after.names[i] for i in survivors} == {
        i: before.names[i] for i in survivors
    }
    assert all(row["is_passed"] for row in second.facts["gate"])
    for name in ("model-card.md", "refresh.html", "stability.csv", "report.html"):
        assert (folder / name).stat().st_size > 0
    card = (folder / "model-card.md").read_text(encoding="utf-8")
    assert "version 2" in card
    kept = list(Artifacts(folder, RETAILERS).versions().values())
    assert [manifest.version for manifest in kept] == [1]


def test_predictions_say_who_is_changing_as_the_ledger_does(refreshed):
    folder, _, second = refreshed
    block = ledger_blocks(Artifacts(folder, RETAILERS).published())[-1]
    names = ["changing", "changing_to", "changing_since"]
    told = block.filter(pl.col("changing").is_not_null()).select("entity", *names)
    written = pl.read_csv(folder / "cluster_predictions.csv")
    named = written.filter(pl.col("changing").is_not_null()).sort("shop_id")
    assert named.select("shop_id", *names).rows() == told.rows()
    assert second.facts["n_changing"] == told.height > 0
    labels = dict(block.select("entity", "segment").iter_rows())
    placed = written.drop_nulls("segment").select("shop_id", "segment")
    assert dict(placed.iter_rows()) == labels
    assert set(pl.read_csv(folder / "segment_changing.csv")["entity"]) == set(
        told["entity"]
    )
    shops = shops_of(folder)
    assert dict(shops.select("shop_id", "segment").iter_rows()) == labels
    ours = shops.filter(pl.col("changing").is_not_null())
    assert set(ours["shop_id"]) == set(told["entity"])


def shops_of(folder):
    """Return the shops with a segment, or unassigned, from their files."""
    files = [pl.read_csv(path) for path in (folder / "segments").iterdir()]
    return pl.concat(files, how="diagonal_relaxed").drop_nulls("segment")


def test_a_new_name_is_in_the_tables_and_files_of_the_month(refreshed, tmp_path):
    folder = copied(refreshed[0], tmp_path)
    rename_segment(folder, 0, "Seaside shops")
    verify(folder, read_manifest(folder, RETAILERS))
    predictions = pl.read_csv(folder / "cluster_predictions.csv")
    insights = pl.read_csv(folder / "segment_insights.csv")
    assert (folder / "segments" / "0-seaside-shops.csv").exists()
    for table in (predictions, insights, shops_of(folder)):
        assert set(table.filter(segment=0)["segment_name"]) == {"Seaside shops"}


def test_the_same_month_again_changes_nothing(refreshed, rows):
    folder, _, _ = refreshed
    before = state_of(folder)
    again = refresh(folder, months_of(rows, "2024-03", "2024-04"))
    assert again.facts["decision"] == "unchanged"
    assert again.exit_code == 0
    assert state_of(folder) == before


def test_the_ledger_is_copied_into_the_store_where_there_is_one(refreshed, tmp_path):
    folder = copied(refreshed[0], tmp_path)
    assert not any("Ledger" in line for line in refresh(folder).lines)
    with Store.open(None, folder / "postgres") as store:
        told = refresh(folder).lines[-1]
        assert told == "Ledger: 4 blocks added to `segment_ledger` in the store."
        assert refresh(folder).lines[-1].startswith("Ledger: 0 blocks added")
        _, rows = store.query("SELECT DISTINCT month, version FROM segment_ledger")
    assert sorted(rows) == [
        ("2024-02", 1),
        ("2024-03", 1),
        ("2024-04", 1),
        ("2024-04", 2),
    ]


def test_the_store_is_told_how_the_shops_came_where_they_are(refreshed):
    folder, first, second = refreshed
    base = Artifacts(folder, RETAILERS).published()
    run, blocks = stored_run(base), ledger_blocks(base)
    now = base.table("shops.parquet")
    assert run.version == 2
    assert set(run.profiles["customer_id"]) == set(now["shop_id"])
    # Sizes are those of the ledger; who moved is told by the refresh, too.
    periods = {period.label: period for period in run.board.periods}
    assert [*periods] == [LAST, "2024-03", "2024-04"]
    for block in blocks[:2]:
        sizes = periods[block["month"][0]].sizes["segment"]
        assert sum(sizes.values()) == block.height
    assert sum(periods["2024-04"].sizes["segment"].values()) == (now["segment"].count())
    moves = run.moves.filter(axis="segment", cause="behaviour")
    for result in (first, second):
        own = moves.filter(run=result.facts["month"])
        moved = own.filter(pl.col("old") != "unassigned")
        assert moved.height == result.facts["n_moved"]
        flows = [f for f in run.board.flows if f.kind == "segment"]
        told = [f.n for f in flows if f.period == result.facts["month"]]
        assert sum(told) == result.facts["n_moved"]
    told = pl.read_csv(base.path("state_moves.csv"))
    changed = told.filter(pl.col("from").ne_missing(pl.col("to"))).fill_null("")
    flows = [f for f in run.board.flows if f.kind == "state" and f.period == "2024-04"]
    assert {(f.old, f.new, f.n) for f in flows} == set(changed.iter_rows())
    assert sum(periods["2024-04"].states.values()) == told["n_shops"].sum()
    assert run.board.drift
    assert run.board.as_of == "2024-04"


def test_a_store_that_cannot_be_reached_is_told_after_the_refresh(refreshed, tmp_path):
    folder = copied(refreshed[0], tmp_path)
    nowhere = "store.url=postgresql://ann:secret@127.0.0.1:1/shop"
    result = refresh(folder, set_=(nowhere,))
    assert result.exit_code == StoreError.exit_code
    assert result.lines[-1].startswith("Not stored: StoreError: ")
    assert "secret" not in result.lines[-1]


def test_earlier_months_with_other_rows_are_told_and_replaced_only_if_asked(
    refreshed, rows, tmp_path
):
    folder = copied(refreshed[0], tmp_path)
    changed = months_of(rows, "2024-02", "2024-02").with_columns(
        pl.col("sales_qty") * 2
    )
    before = state_of(folder)
    told = refresh(folder, changed)
    assert any("other rows" in line and LAST in line for line in told.lines)
    assert state_of(folder) == before
    refresh(folder, changed, restate=True)
    after = state_of(folder)
    differing = {str(p) for p in after if before.get(p) != after[p]}
    assert "sales.parquet" in differing
    assert not any(name.startswith("ledger-") for name in differing)


def test_all_new_months_at_once_are_recorded_one_by_one(trained, rows, tmp_path):
    folder = copied(trained, tmp_path)
    result = refresh(folder, rows, retrain="never")
    record = Record.of(Artifacts(folder, RETAILERS).published())
    assert [m.month for m in record.months] == [
        "2024-03",
        "2024-04",
        "2024-05",
        "2024-06",
    ]
    assert result.facts["month"] == "2024-06"
    base = Artifacts(folder, RETAILERS).published()
    board = stored_run(base).board
    assert board.as_of == "2024-06"
    states = [sum(p.states.values()) for p in board.periods if p.states]
    assert len(states) == 4
    assert states == sorted(states)
    # As where `certify` labels the training data again: the shops are those of then.
    base.manifest.files["shops.parquet"].stage = "inference"
    after = stored_run(base).board
    assert after.as_of == LAST
    assert [p.label for p in after.periods] == [p.label for p in board.periods]


def test_a_missing_month_and_a_thin_month_are_refused(trained, rows, tmp_path):
    folder = copied(trained, tmp_path)
    before = state_of(folder)
    with pytest.raises(SourceError, match=r"`2024-03` is missing.*last month recorded"):
        refresh(folder, months_of(rows, "2024-04", "2024-04"))
    with pytest.raises(SourceError, match="2024-03 is not complete: it has"):
        refresh(folder, months_of(rows, "2024-03", "2024-03").head(20))
    assert state_of(folder) == before


def test_two_at_once_the_second_refuses(trained, rows, tmp_path):
    folder = copied(trained, tmp_path)
    with (
        FileLock(folder / ".lock"),
        pytest.raises(ArtifactError, match="another run is writing"),
    ):
        refresh(folder, months_of(rows, "2024-03", "2024-03"))


def test_a_broken_contract_keeps_the_old_model_and_has_its_own_exit_code(
    trained, rows, tmp_path
):
    folder = copied(trained, tmp_path)
    contract = tmp_path / "contract.yaml"
    contract.write_text(
        "owner: Ana\nexpires: 2024-12-31\ndefaults: {min_size: 5000}\n",
        encoding="utf-8",
    )
    result = refresh(
        folder,
        months_of(rows, "2024-03", "2024-03"),
        retrain="always",
        set_=[f"refresh.contract={contract}"],
    )
    assert result.exit_code == ContractError.exit_code
    assert result.facts["decision"] == "refused"
    assert result.facts["breaches"]
    assert Model.load(folder).segments.published.version == 1
    record = Record.of(Artifacts(folder, RETAILERS).published())
    assert record.months[-1].month == "2024-03", "the month is recorded all the same"
    contract.write_text("owner: [", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"contract\.yaml"):
        refresh(
            folder,
            months_of(rows, "2024-04", "2024-04"),
            set_=[f"refresh.contract={contract}"],
        )


def test_rolling_back_serves_the_version_before_and_keeps_the_record(
    refreshed, rows, tmp_path
):
    folder = copied(refreshed[0], tmp_path)
    labels = Model.load(folder).segments.published
    n_blocks = len(ledger_blocks(Artifacts(folder, RETAILERS).published()))
    assert "Version 1 is in use again" in roll_back(folder)[0]
    published = Artifacts(folder, RETAILERS).published()
    back = Model.load(folder).segments.published
    assert back.version == 1
    assert back.next_id >= labels.next_id
    assert back.latest == 2
    assert len(ledger_blocks(published)) == n_blocks
    assert [row["version"] for row in version_rows(folder)] == ["1", "2"]
    with pytest.raises(ArtifactError, match="keeps no version before 1"):
        roll_back(folder)
    # What number a refit gets after this: `test_lineage`.
    refresh(folder, months_of(rows, "2024-05", "2024-05"), retrain="never")
    stock_and_flow(ledger_blocks(Artifacts(folder, RETAILERS).published()))
    assert "2" in roll_back(folder, "v002")[0]


DYING = """
import os, sys
from datetime import date
import polars as pl
from core.retailers.refresh.month import refresh_config
from core.retailers.refresh.run import run_refresh

folder, rows, step = sys.argv[1], pl.read_parquet(sys.argv[2]), int(sys.argv[3])
count = 0


def dying(function):
    def guarded(*args, **kwargs):
        global count
        target = os.fspath(args[-1])
        # What is written aside before is as good as no change.
        if target.startswith(folder) and ".staging-" not in target:
            count += 1
            if count == step:
                os._exit(9)
        return function(*args, **kwargs)

    return guarded


config = refresh_config(folder)
for name in ("rename", "replace", "link"):
    setattr(os, name, dying(getattr(os, name)))
run_refresh(config, rows, today=date(2024, 6, 1))
"""


def test_a_refresh_killed_anywhere_has_not_happened_or_has(trained, rows, tmp_path):
    """End the process before its n-th change of the artifacts folder.

    `test_artifacts` ends a publication at every single step; here are the first, and
    one in between.
    """
    path = tmp_path / "march.parquet"
    months_of(rows, "2024-03", "2024-03").write_parquet(path)
    outcomes = []
    for step in (1, 12):
        folder = copied(trained, tmp_path / str(step))
        command = [sys.executable, "-c", DYING, str(folder), str(path), str(step)]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 9, done.stderr
        published = Artifacts(folder, RETAILERS).published()
        assert published.manifest.is_complete
        assert Model.from_set(published).segments.published.version == 1
        outcomes.append(len(Record.of(published).months))
    assert outcomes == [0, 1]
    again = refresh(tmp_path / "12" / "artifacts", pl.read_parquet(path))
    assert again.facts["decision"] == "unchanged"


def test_the_verb_reads_files_and_says_what_it_did(trained, rows, tmp_path):
    folder = copied(trained, tmp_path)
    path = tmp_path / "march.parquet"
    months_of(rows, "2024-03", "2024-03").rename({"shop_id": "Customer"}).write_parquet(
        path
    )
    arguments = ["refresh", "--input", str(path), "--artifacts", str(folder)]
    done = CliRunner().invoke(app, [*arguments, "--column", "shop_id=Customer"])
    assert done.exit_code == 0, done.output
    assert "March 2024: " in done.output
    listed = CliRunner().invoke(app, ["versions", "--artifacts", str(folder)])
    assert "(in use)" in listed.output
    with pytest.raises(ConfigError, match="`clustering` differs"):
        refresh_config(str(folder), assignments=["clustering.min_samples=5"])


def test_a_folder_without_a_run_is_refused_with_the_cure(tmp_path):
    with pytest.raises(ArtifactError, match="run`"):
        refresh_config(str(tmp_path / "nowhere"))
