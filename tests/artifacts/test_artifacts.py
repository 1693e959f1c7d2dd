"""The artifacts folder: whole or not there, whatever happens while it is written."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from core.artifacts.arrays import load_arrays, save_arrays
from core.artifacts.folder import Artifacts
from core.artifacts.manifest import (
    MANIFEST,
    read_manifest,
    verify,
)
from core.config import Config
from core.errors import ArtifactError, ConfigError
from core.retailers.files import RETAILERS, refuse_late_changes

pytestmark = pytest.mark.slow

STAGES = tuple(RETAILERS.stages)


def run_stages(root, tag, stages=STAGES):
    """Run stages that write a state file, an output and a picture each."""
    for stage in stages:
        with Artifacts(root, RETAILERS).stage(
            stage, Config(artifacts=str(root))
        ) as out:
            out.path(f"{stage}.safetensors").write_text(f"{stage} of {tag}", "utf-8")
            out.path(f"{stage}.png").write_text(f"picture of {tag}", "utf-8")
            if tag == "first":
                out.path(f"only-{stage}.csv").write_text("dropped later", "utf-8")
            if stage == "inference":
                out.path(f"segments/{tag}.csv").write_text(f"shops of {tag}", "utf-8")
            out.facts["tag"] = tag


def tags(folder):
    """Return what a folder's state files say, after checking the whole set."""
    manifest = read_manifest(folder, RETAILERS)
    verify(folder, manifest)
    return {
        (folder / name).read_text(encoding="utf-8").split(" of ")[1]
        for name in manifest.files
        if name.endswith(".safetensors")
    }


def in_segments(root):
    """Return what is in the folder of files, which only the last stage writes."""
    return sorted(path.name for path in (root / "segments").glob("*"))


def test_first_run_is_published_stage_by_stage(tmp_path):
    assert Artifacts(tmp_path / "new", RETAILERS).published() is None
    run_stages(tmp_path, "first", STAGES[:2])
    published = Artifacts(tmp_path, RETAILERS).published()
    assert not published.manifest.is_complete
    assert published.manifest.facts("autoencoder") == {"tag": "first"}
    with pytest.raises(ArtifactError, match="train-clusters"):
        published.manifest.facts("clustering")
    run_stages(tmp_path, "first", STAGES[2:])
    assert Artifacts(tmp_path, RETAILERS).published().manifest.is_complete
    assert not (tmp_path / "pending").exists()


def test_complete_set_stays_until_the_next_one_is_complete(tmp_path):
    run_stages(tmp_path, "first")
    run_stages(tmp_path, "second", STAGES[:3])
    assert tags(tmp_path) == {"first"}
    assert tags(tmp_path / "pending") == {"second"}
    assert (
        Artifacts(tmp_path, RETAILERS).base("inference").folder == tmp_path / "pending"
    )
    run_stages(tmp_path, "second", STAGES[3:])
    assert tags(tmp_path) == {"second"}
    (kept,) = (tmp_path / "versions").iterdir()
    assert tags(kept) == {"first"}
    assert not list(tmp_path.glob("only-*"))
    assert (kept / "only-prepare.csv").exists()
    assert (in_segments(kept), in_segments(tmp_path)) == (["first.csv"], ["second.csv"])


def test_repeating_a_stage_keeps_earlier_files_and_drops_later_ones(tmp_path):
    run_stages(tmp_path, "first")
    run_stages(tmp_path, "second", ("clustering",))
    pending = read_manifest(tmp_path / "pending", RETAILERS)
    assert set(pending.stages) == {"prepare", "autoencoder", "clustering"}
    assert not {"inference.png", "segments/first.csv"} & {*pending.files}
    assert in_segments(tmp_path) == ["first.csv"]
    assert tags(tmp_path / "pending") == {"first", "second"}


def test_scoring_keeps_the_model_and_what_it_does_not_write(tmp_path):
    run_stages(tmp_path, "first")
    model_id = Artifacts(tmp_path, RETAILERS).published().manifest.model_id
    with Artifacts(tmp_path, RETAILERS).stage(
        "inference", Config(), is_serving=True
    ) as out:
        out.path("inference.png").write_text("new", "utf-8")
    published = Artifacts(tmp_path, RETAILERS).published()
    assert published.manifest.model_id == model_id
    assert published.path("only-inference.csv").exists()
    assert published.path("segments/first.csv").exists()
    assert published.path("inference.png").read_text("utf-8") == "new"
    assert {path.name for path in tmp_path.glob(".*")} == {".lock"}
    assert not (tmp_path / "versions").exists()


def test_a_folder_of_files_is_replaced_as_a_whole(tmp_path):
    run_stages(tmp_path, "first")
    (tmp_path / "segments" / "mine.csv").write_text("a user's own", "utf-8")
    for names in ({"a.csv", "b.csv"}, {"b.csv"}, set()):
        with Artifacts(tmp_path, RETAILERS).stage(
            "inference", Config(), is_serving=bool(names)
        ) as out:
            for name in names:
                out.path(f"segments/{name}").write_text(f"{len(names)}", "utf-8")
        manifest = read_manifest(tmp_path, RETAILERS)
        verify(tmp_path, manifest)
        listed = {name for name in manifest.files if name.startswith("segments/")}
        assert listed == {f"segments/{name}" for name in names}
        assert {*in_segments(tmp_path)} == names | {"mine.csv"}


def test_an_empty_folder_of_files_is_cleared_and_a_changed_file_is_kept(tmp_path):
    run_stages(tmp_path, "first")
    path = tmp_path / "segments" / "first.csv"
    path.unlink()
    path.write_text("changed in Excel", "utf-8")
    run_stages(tmp_path, "second")
    kept, new = in_segments(tmp_path)
    assert (kept.startswith("first-changed-"), new) == (True, "second.csv")
    (tmp_path / "segments" / kept).unlink()
    with Artifacts(tmp_path, RETAILERS).stage("inference", Config()):
        pass
    assert not (tmp_path / "segments").exists()


def test_scoring_leaves_a_pending_training_run_alone(tmp_path):
    run_stages(tmp_path, "first")
    run_stages(tmp_path, "second", STAGES[:3])
    assert Artifacts(tmp_path, RETAILERS).serving().folder == tmp_path
    with Artifacts(tmp_path, RETAILERS).stage(
        "inference", Config(), is_serving=True
    ) as out:
        assert out.base.folder == tmp_path
    assert tags(tmp_path) == {"first"}
    assert tags(tmp_path / "pending") == {"second"}


def test_failing_stage_changes_nothing(tmp_path):
    run_stages(tmp_path, "first")
    before = sorted(path.name for path in tmp_path.iterdir())

    def fail():
        with Artifacts(tmp_path, RETAILERS).stage("prepare", Config()) as out:
            out.path("prepare.safetensors").write_text("half", "utf-8")
            raise ValueError("stopped half-way")

    with pytest.raises(ValueError, match="stopped half-way"):
        fail()
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert tags(tmp_path) == {"first"}


def test_a_kill_at_any_file_operation_leaves_a_whole_set(tmp_path):
    """Look at what there is before the 1st, 2nd, ... change of the file system."""
    root = tmp_path / "first"
    run_stages(root, "first")
    seen = []
    with killed_before_changes(root, tmp_path / "killed") as killed:
        run_stages(root, "second")
    for step, left in enumerate([*killed, root], start=1):
        published = Artifacts(left, RETAILERS).published()
        assert published.manifest.is_complete
        found = tags(published.folder)
        assert found in ({"first"}, {"second"}), f"mixed after step {step}"
        seen.append(found.pop())
        if step % 20 or left == root:
            continue
        run_stages(left, "third")
        assert tags(left) == {"third"}
        hidden = {path.name for path in left.glob(".*")}
        assert hidden == {".lock"}
        assert in_segments(left) == ["third.csv"]
    assert seen == sorted(seen), "once published, a set stays published"
    assert seen[0] == "first"
    assert seen[-1] == "second"
    assert len(seen) > 20


@contextmanager
def killed_before_changes(root, into, every=1):
    """Copy a folder before each change of the file system, or every n-th, to a list.

    A copy is what a process that ends there leaves: nothing of it runs any more, and
    what it has not written yet is not in the files. `kills.py` ends real processes.
    """
    copies, count = [], 0

    def wrapped(function):
        def guarded(*args, **kwargs):
            nonlocal count
            if count % every == 0:
                copies.append(Path(shutil.copytree(root, into / str(count))))
            count += 1
            return function(*args, **kwargs)

        return guarded

    with pytest.MonkeyPatch.context() as patch:
        for name in ("rename", "replace", "link", "unlink", "rmdir"):
            patch.setattr(os, name, wrapped(getattr(os, name)))
        yield copies


@pytest.mark.parametrize("name", ["prepare.safetensors", "config.yaml"])
def test_a_changed_byte_is_refused_by_name(tmp_path, name):
    run_stages(tmp_path, "first")
    content = bytearray((tmp_path / name).read_bytes())
    content[3] ^= 1
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(bytes(content))
    published = Artifacts(tmp_path, RETAILERS).published()
    for read in (published.read, published.path):
        with pytest.raises(ArtifactError, match=f"{name}` has changed"):
            read(name)
    with pytest.raises(ArtifactError, match=f"{name}` has changed"):
        run_refresh_stage(tmp_path, "2024-01")
    other = "inference.safetensors"
    assert published.read(other) == b"inference of first", "a verb reads what it needs"


def test_missing_state_is_refused_and_a_missing_picture_is_not(tmp_path):
    run_stages(tmp_path, "first")
    (tmp_path / "clustering.png").unlink()
    run_refresh_stage(tmp_path, "2024-01")
    assert Artifacts(tmp_path, RETAILERS).published().output("clustering.png") is None
    (tmp_path / "clustering.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"clustering\.safetensors` is missing"):
        run_refresh_stage(tmp_path, "2024-02")


@pytest.mark.parametrize(
    "name",
    [
        *("../outside.csv", "/etc/passwd", ".hidden", "a/b/c.csv", "a/../b.csv"),
        *("a/.hidden", "a/", "a\\b.csv", "C:/b.csv", "a//b.csv"),
    ],
)
def test_a_manifest_cannot_name_files_elsewhere(tmp_path, name):
    run_stages(tmp_path, "first")
    content = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    content["files"][name] = content["files"]["prepare.png"]
    (tmp_path / MANIFEST).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ArtifactError, match="is not a plain name"):
        Artifacts(tmp_path, RETAILERS).published()


@pytest.mark.parametrize("text", ["", "{", '{"format": 2}', "[]", '"\\u0000"'])
def test_a_broken_manifest_is_one_clear_error(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match="is not a manifest of this version"):
        Artifacts(tmp_path, RETAILERS).published()


def test_a_saved_value_that_is_gone_is_read_as_what_took_its_place(tmp_path):
    run_stages(tmp_path, "first")
    saved = read_manifest(tmp_path, RETAILERS).config
    content = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    content["config"]["refresh"]["retrain"] = "noise"
    (tmp_path / MANIFEST).write_text(json.dumps(content), encoding="utf-8")
    assert read_manifest(tmp_path, RETAILERS).config == saved


def test_a_second_run_at_the_same_time_is_refused(tmp_path):
    with (
        Artifacts(tmp_path, RETAILERS).stage("prepare", Config()),
        pytest.raises(ArtifactError, match="another run is writing"),
        Artifacts(tmp_path, RETAILERS).stage("prepare", Config()),
    ):
        raise AssertionError("the second run must not start")


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    stage = Artifacts(tmp_path / "file" / "artifacts", RETAILERS).stage(
        "prepare", Config()
    )
    with pytest.raises(ArtifactError, match="cannot be written to"), stage:
        raise AssertionError("the stage must not start")


def test_settled_options_cannot_be_changed_by_a_later_stage(tmp_path):
    run_stages(tmp_path, "first", STAGES[:3])
    manifest = read_manifest(tmp_path, RETAILERS)
    baseline = Config().features.model_copy(update={"name": "baseline"})
    changed = Config(features=baseline)
    with pytest.raises(
        ConfigError, match=r"`features\.name` is 'baseline'.*'behaviour'"
    ):
        refuse_late_changes(manifest, changed, "clustering")
    data = Config().data.model_copy(update={"input": "new.csv", "source": "input"})
    refuse_late_changes(manifest, Config(data=data), "inference")
    with pytest.raises(ConfigError, match=r"`data\.source`"):
        refuse_late_changes(manifest, Config(data=data), "autoencoder")


def test_arrays_and_meta_round_trip_exactly(tmp_path):
    arrays = {
        "a/x": np.array([[0.1, np.nan], [np.inf, -0.0]]),
        "b": np.arange(6, dtype=np.int32)[::2],
        "empty": np.zeros((0, 3)),
    }
    meta = {"names": ["ä", "b"], "n": 3, "none": None}
    save_arrays(tmp_path / "state.safetensors", arrays, meta)
    loaded, loaded_meta = load_arrays(tmp_path / "state.safetensors")
    assert loaded_meta == meta
    assert set(loaded) == set(arrays)
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].tobytes() == np.ascontiguousarray(array).tobytes()


def test_a_file_of_another_kind_is_refused_and_never_unpickled(tmp_path):
    marker = tmp_path / "executed"

    class Malicious:
        def __reduce__(self):
            return Path.touch, (marker,)

    path = tmp_path / "state.safetensors"
    path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(ArtifactError, match="does not hold a saved model state"):
        load_arrays(path)
    assert not marker.exists()


def run_refresh_stage(root, month, adopted=None):
    """Run a refresh that adds a block to the ledger, and may adopt another run."""
    with Artifacts(root, RETAILERS).stage("refresh", Config(), is_serving=True) as out:
        out.path(f"ledger-{month}-v001.parquet").write_text(month, "utf-8")
        out.path("refresh.json").write_text(f"recorded up to {month}", "utf-8")
        out.path("refresh.html").write_text(f"page of {month}", "utf-8")
        if adopted is not None:
            run_stages(out.aside / "challenger", adopted)
            out.adopted = Artifacts(out.aside / "challenger", RETAILERS).published()


def record_of(root):
    manifest = read_manifest(root, RETAILERS)
    verify(root, manifest)
    return {name for name in manifest.files if name.startswith("ledger-")}


def run_lineage(root, tag, version):
    """Run the stages as a version of one lineage."""
    for stage in STAGES:
        with Artifacts(root, RETAILERS).stage(
            stage, Config(artifacts=str(root))
        ) as out:
            out.path(f"{stage}.safetensors").write_text(f"{stage} of {tag}", "utf-8")
            if stage == "clustering":
                out.facts |= {"lineage": "abc", "version": version}


def test_the_monthly_record_outlives_versions_and_pages_do_not(tmp_path):
    run_lineage(tmp_path, "first", 1)
    run_refresh_stage(tmp_path, "2024-01")
    run_refresh_stage(tmp_path, "2024-02")
    both = {"ledger-2024-01-v001.parquet", "ledger-2024-02-v001.parquet"}
    assert record_of(tmp_path) == both
    run_lineage(tmp_path, "second", 2)
    assert tags(tmp_path) == {"second"}
    assert record_of(tmp_path) == both
    assert not (tmp_path / "refresh.html").exists(), "it told of the other version"
    left, now = Artifacts(tmp_path, RETAILERS).roll_back()
    assert (left.version, now.version) == (2, 1)
    assert tags(tmp_path) == {"first"}
    assert record_of(tmp_path) == both
    assert (tmp_path / "config.yaml").is_file()
    assert [m.version for m in Artifacts(tmp_path, RETAILERS).versions().values()] == [
        2
    ]


def test_a_record_does_not_pass_to_another_lineage(tmp_path):
    run_lineage(tmp_path, "first", 1)
    run_refresh_stage(tmp_path, "2024-01")
    run_stages(tmp_path, "unrelated")
    assert record_of(tmp_path) == set()
    kept = tmp_path / "versions" / "v001-abc"
    assert record_of(kept) == {"ledger-2024-01-v001.parquet"}


def test_only_so_many_versions_are_kept(tmp_path):
    keep = Config().refresh.keep_versions
    for version in range(1, keep + 4):
        run_lineage(tmp_path, str(version), version)
    kept = [
        manifest.version
        for manifest in Artifacts(tmp_path, RETAILERS).versions().values()
    ]
    assert kept == list(range(keep + 2, 2, -1))
    with pytest.raises(ArtifactError, match="keeps no version `v001`"):
        Artifacts(tmp_path, RETAILERS).roll_back("v001")


def test_a_stage_that_finds_nothing_to_do_leaves_everything(tmp_path):
    run_stages(tmp_path, "first")
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with Artifacts(tmp_path, RETAILERS).stage(
        "refresh", Config(), is_serving=True
    ) as out:
        out.path("refresh.json").write_text("void", "utf-8")
        out.is_void = True
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert after == before


@pytest.mark.parametrize("change", ["adopt", "roll back"])
def test_a_kill_while_a_version_changes_leaves_one_whole(tmp_path, change):
    root = tmp_path / "first"
    run_stages(root, "first")
    run_stages(root, "second")
    run_refresh_stage(root, "2024-01")
    (name,) = Artifacts(root, RETAILERS).versions()
    seen = []
    with killed_before_changes(root, tmp_path / "killed", every=4) as killed:
        if change == "adopt":
            run_refresh_stage(root, "2024-02", adopted="third")
        else:
            Artifacts(root, RETAILERS).roll_back(name)
    for step, left in enumerate([*killed, root], start=1):
        published = Artifacts(left, RETAILERS).published()
        assert published.manifest.is_complete
        found = tags(published.folder)
        assert len(found) == 1, f"mixed after step {step}"
        seen.append(found.pop())
    assert seen[0] == "second"
    assert seen[-1] == ("third" if change == "adopt" else "first")
    assert [a for a, b in pairwise(seen) if a != b] == ["second"]
