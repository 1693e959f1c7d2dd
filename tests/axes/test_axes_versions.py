"""Names that users give, and going back to a version."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from axes_runs import JUNE, MAY, config, profiles, published, run, until
from typer.testing import CliRunner

from core.axes.assign import AxesAssigner
from core.axes.files import axes_folder
from core.axes.run import CustomerAxes
from core.cli import app
from core.errors import ArtifactError, ConfigError
from core.lifecycle.versions import rename_segment, roll_back
from core.reporting.board import Board

AXIS = "purchase_cadence"


@pytest.fixture
def folder(two_versions, tmp_path):
    return Path(shutil.copytree(two_versions, tmp_path / "artifacts"))


def rename(folder, segment_id, name):
    return rename_segment(CustomerAxes(config(folder)), AXIS, segment_id, name)


def assigner(folder):
    return AxesAssigner.load(axes_folder(folder))


def test_a_new_name_is_everywhere_and_nothing_else_changes(folder):
    before, model_id = profiles(folder), published(folder).manifest.model_id
    old = assigner(folder).model.names[AXIS][0]
    lines, code = rename(folder, 0, "Our mornings")
    assert lines == [f"{AXIS}: `{old}` is called `Our mornings` now."]
    assert code == 0
    assert assigner(folder).model.names[AXIS][0] == "Our mornings"
    after = profiles(folder)
    assert published(folder).manifest.model_id == model_id
    assert after["segment_ids"].equals(before["segment_ids"])
    for column in ("segment_memberships", "runner_up_segments"):
        said = before[column].struct.field(AXIS).replace({old: "Our mornings"})
        assert after[column].struct.field(AXIS).to_list() == said.to_list()
    sizes = pl.read_csv(published(folder).path("axis_sizes.csv"))
    assert "Our mornings" in sizes.filter(axis=AXIS)["segment"].to_list()
    assert "Our mornings" in published(folder).path("axes.html").read_text("utf-8")
    assert "ledger-0002.parquet" in published(folder).manifest.files


def test_a_given_name_outlives_a_refit(folder):
    rename(folder, 0, "Our mornings")
    orders, items = until(JUNE)
    run(folder, (orders[:-1], items))
    assert assigner(folder).version == 3
    assert assigner(folder).model.names[AXIS][0] == "Our mornings"


def test_a_name_that_cannot_be_is_refused_and_changes_nothing(folder):
    before = published(folder).manifest
    taken = assigner(folder).model.names[AXIS][1]
    with pytest.raises(ConfigError, match="cannot be the name of segment 0"):
        rename(folder, 0, taken)
    with pytest.raises(ConfigError, match=r"U\+2028 \(LINE SEPARATOR\)"):
        rename(folder, 0, "Our\u2028mornings")
    with pytest.raises(ConfigError, match="Did you mean `purchase_cadence`"):
        rename_segment(CustomerAxes(config(folder)), "purchase_cadense", 0, "x")
    assert published(folder).manifest == before


def test_going_back_brings_profiles_and_keeps_given_names(folder):
    rename(folder, 0, "Our mornings")
    lines, code = roll_back(CustomerAxes(config(folder)))
    assert code == 0
    assert lines[0].startswith(
        "Version 1 is in use again, with the profiles of 2025-10-31"
    )
    assert assigner(folder).version == 1
    assert assigner(folder).model.names[AXIS][0] == "Our mornings"
    memberships = profiles(folder)["segment_memberships"].struct.field(AXIS)
    assert "Our mornings" in memberships.to_list()
    orders, _ = until(MAY)
    assert profiles(folder).height == orders["customer_id"].n_unique()
    assert "ledger-0002.parquet" in published(folder).manifest.files


def test_after_going_back_numbers_are_not_given_out_again(folder):
    roll_back(CustomerAxes(config(folder)))
    third = run(folder, until(JUNE))
    assert (third.facts["version_before"], third.facts["version"]) == (1, 3)
    assert third.facts["run"] == 3
    ledger = [name for name in published(folder).manifest.files if "ledger" in name]
    assert ledger == ["ledger-0002.parquet", "ledger-0003.parquet"]


def test_there_must_be_something_to_go_back_to(tmp_path):
    with pytest.raises(ArtifactError, match="holds no customer axes"):
        roll_back(CustomerAxes(config(tmp_path)))


def test_the_commands_rename_and_roll_back(folder):
    where = ["--artifacts", str(folder), "--no-store"]
    renamed = CliRunner().invoke(app, ["axes", "rename", AXIS, "0", "Dawn", *where])
    assert renamed.exit_code == 0, renamed.output
    assert "is called `Dawn` now" in renamed.stdout
    back = CliRunner().invoke(app, ["axes", "rollback", *where])
    assert back.exit_code == 0, back.output
    assert "Version 1 is in use again" in back.stdout


def board(folder):
    return Board.from_json(published(folder).read("board.json"))


def test_the_board_remembers_the_runs_before_under_the_names_of_now(folder):
    then, now = board(folder).periods
    assert [(p.label, p.version) for p in (then, now)] == [
        ("2025-10-31", 1),
        ("2025-11-30", 2),
    ]
    here = profiles(folder)["segment_memberships"].struct.field(AXIS)
    assert now.sizes[AXIS] == dict(here.drop_nulls().value_counts().iter_rows())
    ledger = published(folder).table("ledger-0002.parquet")
    own = ledger.filter(axis=AXIS, cause="behaviour")
    counts = own.group_by("old_name", "new_name").len()
    told = [f for f in board(folder).flows if f.kind == AXIS]
    assert {(f.old, f.new, f.n) for f in told} == set(counts.iter_rows())
    old = assigner(folder).model.names[AXIS][0]
    rename(folder, 0, "Our mornings")
    for period, before in zip(board(folder).periods, (then, now), strict=True):
        assert period.sizes[AXIS] == {
            "Our mornings" if name == old else name: n
            for name, n in before.sizes[AXIS].items()
        }
    roll_back(CustomerAxes(config(folder)))
    assert [p.label for p in board(folder).periods] == ["2025-10-31"]
