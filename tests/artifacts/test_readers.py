"""Reading beside publications, and files that users have changed or damaged."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from core.artifacts.arrays import save_arrays
from core.artifacts.folder import Artifacts
from core.artifacts.manifest import MANIFEST
from core.artifacts.reading import read_published
from core.axes.files import CUSTOMER_AXES
from core.config import Config
from core.errors import ArtifactError

N_FILES = 6


def publish(root, tag):
    """Publish a set of axes whose files all say the same number."""
    with Artifacts(root, CUSTOMER_AXES).stage("axes", Config()) as out:
        for i in range(N_FILES):
            where = out.path(f"part-{i}.safetensors")
            save_arrays(where, {"x": np.full(2000, tag)}, {"tag": tag})
        pl.DataFrame({"x": [tag] * 2000}).write_parquet(out.path("table.parquet"))
        out.path("axis_sizes.csv").write_bytes(b"%d\n" % tag)


def read_all(found):
    """Return every number that the files of a set say."""
    tags = set()
    for i in range(N_FILES):
        arrays, meta = found.arrays(f"part-{i}.safetensors")
        tags |= {meta["tag"], *arrays["x"].tolist()}
    tags |= set(found.table("table.parquet")["x"].to_list())
    return tags | {int(found.read("axis_sizes.csv"))}


def _load_often(root, n, results):
    wrong, failed = [], []
    for _ in range(n):
        try:
            tags = read_published(root, read_all, CUSTOMER_AXES)
        except Exception as error:  # whatever it is, the reader has failed
            failed.append(repr(error))
        else:
            if len(tags) != 1:
                wrong.append(tags)
    results.put((wrong, failed))


def test_loads_beside_publications_are_all_from_one_version(tmp_path):
    publish(tmp_path, 0)
    # Not forked: the threads of Polars do not survive that.
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    reader = context.Process(target=_load_often, args=(tmp_path, 400, results))
    reader.start()
    n_published = 0
    while reader.is_alive() and results.empty():
        n_published += 1
        publish(tmp_path, n_published)
    assert results.get(timeout=60) == ([], [])
    reader.join()
    assert n_published > 20


def test_a_reader_that_loses_the_race_begins_again_with_the_next_version(tmp_path):
    publish(tmp_path, 1)
    seen = []

    def read(found):
        seen.append(found.read("part-0.safetensors"))
        if len(seen) == 1:
            publish(tmp_path, 2)
        return read_all(found)

    assert read_published(tmp_path, read, CUSTOMER_AXES) == {2}
    assert len(seen) == 2


def test_a_version_that_left_and_came_back_is_read_again(tmp_path):
    for version in (1, 2):
        with Artifacts(tmp_path, CUSTOMER_AXES).stage("axes", Config()) as out:
            save_arrays(out.path("part-0.safetensors"), {"x": np.full(2, version)}, {})
            out.facts |= {"lineage": "abc", "version": version}
    artifacts, calls = Artifacts(tmp_path, CUSTOMER_AXES), 0
    artifacts.roll_back("v001"), artifacts.roll_back("v002")

    def read(found):
        nonlocal calls
        calls += 1
        if calls == 1:
            artifacts.roll_back("v001")
            with pytest.raises(ArtifactError):
                found.read("part-0.safetensors")
            artifacts.roll_back("v002")
            raise ArtifactError("what a reader says that was too slow")
        return found.manifest.version

    assert read_published(tmp_path, read, CUSTOMER_AXES) == 2
    assert calls == 2


def edit(path, text="saved in Excel\n"):
    """Save a file as another program does: under a new inode."""
    path.unlink()
    path.write_text(text, encoding="utf-8")


def test_a_changed_output_stops_nothing_and_is_kept_beside_the_new_one(
    tmp_path, caplog
):
    publish(tmp_path, 1)
    edit(tmp_path / "axis_sizes.csv")
    published = Artifacts(tmp_path, CUSTOMER_AXES).published()
    assert published.output("axis_sizes.csv") is None, "its content is not used"
    publish(tmp_path, 2)
    assert "axis_sizes.csv` has changed since it was written" in caplog.text
    assert read_published(tmp_path, read_all, CUSTOMER_AXES) == {2}
    (kept,) = tmp_path.glob("axis_sizes-changed-*.csv")
    assert kept.read_text(encoding="utf-8") == "saved in Excel\n"
    assert kept.name in caplog.text
    publish(tmp_path, 3)
    assert kept.is_file()


def test_a_changed_output_that_no_later_run_writes_is_kept(tmp_path):
    publish(tmp_path, 1)
    edit(tmp_path / "axis_sizes.csv")
    with Artifacts(tmp_path, CUSTOMER_AXES).stage("axes", Config()) as out:
        out.path("other.parquet").write_bytes(b"")
    (kept,) = tmp_path.glob("axis_sizes-changed-*.csv")
    assert kept.read_text(encoding="utf-8") == "saved in Excel\n"


def test_a_file_open_in_another_program_is_to_be_closed(tmp_path, monkeypatch):
    publish(tmp_path, 1)
    replace = Path.replace

    def refuse(source, target):
        if Path(target).name == "axis_sizes.csv":
            raise PermissionError(13, "used by another process")  # as Windows does
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr("core.artifacts.folder.PATIENCE", 2)
    with pytest.raises(ArtifactError, match=r"axis_sizes\.csv` cannot .* Close it"):
        publish(tmp_path, 2)
    assert read_published(tmp_path, read_all, CUSTOMER_AXES) == {2}, "it is published"
    monkeypatch.undo()
    publish(tmp_path, 3)
    assert read_published(tmp_path, read_all, CUSTOMER_AXES) == {3}
    assert not (tmp_path / ".publishing").exists()


def seal(folder, name, content):
    """Put other bytes in a set's file, under a manifest that lists their digest."""
    path = folder / name
    path.unlink()
    path.write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    manifest["files"][name] |= entry
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def test_sealed_files_that_hold_something_else_are_a_message(tmp_path):
    publish(tmp_path, 1)
    whole = (tmp_path / "table.parquet").read_bytes()
    rng = np.random.default_rng(0)
    for place in [*range(4), *rng.integers(4, len(whole), 40)]:
        broken = bytearray(whole)
        broken[place] ^= 0xFF
        for content in (bytes(broken), whole[:place]):
            seal(tmp_path, "table.parquet", content)
            published = Artifacts(tmp_path, CUSTOMER_AXES).published()
            try:
                published.table("table.parquet")
            except ArtifactError as error:
                assert "table.parquet` cannot be used" in str(error)  # noqa: PT017
    seal(tmp_path, "table.parquet", whole)
    assert read_published(tmp_path, read_all, CUSTOMER_AXES) == {1}
