"""A set of customer axes: whole with one stage, kept, and gone back to."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_artifacts import killed_before_changes

from core.artifacts.arrays import pack_arrays, unpack_arrays
from core.artifacts.folder import Artifacts
from core.artifacts.manifest import read_manifest, verify
from core.artifacts.reading import published_set
from core.axes.files import CUSTOMER_AXES
from core.config import Config
from core.errors import ArtifactError
from core.retailers.files import RETAILERS


def run_axes_stage(root, model, version, profiles="of May"):
    """Publish a set as a run of the axes does: a state, profiles, a growing ledger."""
    with Artifacts(root, CUSTOMER_AXES).stage(
        "axes", Config(artifacts=str(root))
    ) as out:
        out.path("axes.safetensors").write_text(model, "utf-8")
        out.path("customer_profiles.parquet").write_text(profiles, "utf-8")
        out.path("axis_segments.csv").write_text(profiles, "utf-8")
        before = ""
        if out.base is not None and "ledger-axes.parquet" in out.base.manifest.files:
            before = out.base.path("ledger-axes.parquet").read_text("utf-8")
        out.path("ledger-axes.parquet").write_text(f"{before}{profiles};", "utf-8")
        out.facts |= {"lineage": "abc", "version": version}


def text_of(root, name):
    """Return a published file's content, after checking the whole set."""
    manifest = read_manifest(root, CUSTOMER_AXES)
    verify(root, manifest)
    return (root / name).read_text("utf-8")


def test_one_stage_makes_a_set_of_axes_whole(tmp_path):
    run_axes_stage(tmp_path, "model 1", 1)
    manifest = Artifacts(tmp_path, CUSTOMER_AXES).published().manifest
    assert manifest.is_complete
    assert (manifest.lineage, manifest.version) == ("abc", 1)
    assert not (tmp_path / "pending").exists()


def test_a_new_model_keeps_the_one_before_and_new_profiles_do_not(tmp_path):
    run_axes_stage(tmp_path, "model 1", 1)
    run_axes_stage(tmp_path, "model 1", 1, "of June")
    assert Artifacts(tmp_path, CUSTOMER_AXES).versions() == {}
    assert text_of(tmp_path, "customer_profiles.parquet") == "of June"
    run_axes_stage(tmp_path, "model 2", 2, "of July")
    assert list(Artifacts(tmp_path, CUSTOMER_AXES).versions()) == ["v001-abc"]


def test_going_back_brings_the_old_model_and_keeps_the_ledger(tmp_path):
    run_axes_stage(tmp_path, "model 1", 1)
    run_axes_stage(tmp_path, "model 2", 2, "of June")
    left, now = Artifacts(tmp_path, CUSTOMER_AXES).roll_back()
    assert (left.version, now.version) == (2, 1)
    assert text_of(tmp_path, "axes.safetensors") == "model 1"
    assert text_of(tmp_path, "customer_profiles.parquet") == "of May"
    assert text_of(tmp_path, "ledger-axes.parquet") == "of May;of June;"
    assert list(Artifacts(tmp_path, CUSTOMER_AXES).versions()) == ["v002-abc"]


def test_a_failed_run_leaves_the_set_as_it_was(tmp_path):
    run_axes_stage(tmp_path, "model 1", 1)

    def fail():
        with Artifacts(tmp_path, CUSTOMER_AXES).stage("axes", Config()) as out:
            out.path("axes.safetensors").write_text("half", "utf-8")
            raise ValueError("stopped half-way")

    with pytest.raises(ValueError, match="stopped half-way"):
        fail()
    assert text_of(tmp_path, "axes.safetensors") == "model 1"


def test_a_kill_at_any_file_operation_leaves_one_whole_run(tmp_path):
    root = tmp_path / "first"
    run_axes_stage(root, "model 1", 1)
    seen = []
    with killed_before_changes(root, tmp_path / "killed") as killed:
        run_axes_stage(root, "model 2", 2, "of June")
    for left in [*killed, root]:
        whole = Artifacts(left, CUSTOMER_AXES).published()
        texts = {
            (whole.folder / name).read_text("utf-8")
            for name in ("axes.safetensors", "customer_profiles.parquet")
        }
        assert texts in ({"model 1", "of May"}, {"model 2", "of June"})
        seen.append("model 2" in texts)
    assert seen == sorted(seen), "once published, a run stays published"
    assert (seen[0], seen[-1]) == (False, True)


def test_a_missing_state_names_the_command_that_writes_it(tmp_path):
    run_axes_stage(tmp_path, "model 1", 1)
    (tmp_path / "axis_segments.csv").unlink()
    run_axes_stage(tmp_path, "model 1", 1)  # an output may be deleted
    (tmp_path / "axes.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"run `\./run.sh axes` again"):
        Artifacts(tmp_path, CUSTOMER_AXES).published().path("axes.safetensors")


def test_a_folder_of_another_system_is_refused_and_left_alone(tmp_path):
    run_axes_stage(tmp_path, "model 1", 1)
    before = sorted(path.name for path in tmp_path.iterdir())
    stage = Artifacts(tmp_path, RETAILERS).stage("prepare", Config())
    with pytest.raises(ArtifactError, match=r"names the stages `axes`"), stage:
        raise AssertionError("the stage must not start")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert text_of(tmp_path, "axes.safetensors") == "model 1"


def test_whose_a_folder_is_shows_in_its_stages(tmp_path):
    run_axes_stage(tmp_path, "model 1", 1)
    assert (
        published_set(tmp_path, RETAILERS, CUSTOMER_AXES).manifest.system
        is CUSTOMER_AXES
    )
    assert published_set(tmp_path / "new", RETAILERS, CUSTOMER_AXES) is None
    content = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    assert list(content) == ["format", "config", "stages", "files"]


def test_arrays_and_meta_survive_as_bytes():
    arrays = {"centres": np.array([[0.5, np.nan]]), "ids": np.arange(3)}
    found, meta = unpack_arrays(pack_arrays(arrays, {"names": ["ä"], "none": None}))
    assert meta == {"names": ["ä"], "none": None}
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    "packed", [b"", b"PK\x03\x04 not this", b"\x02\0\0\0\0\0\0\0{}"]
)
def test_bytes_of_another_kind_are_refused(packed):
    with pytest.raises(ArtifactError, match="do not hold a saved model state"):
        unpack_arrays(packed)
