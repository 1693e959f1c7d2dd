"""The artifacts folder: built aside, moved into place when whole, never unpickled.

::

    artifacts/            the published set, with manifest.json
    |-- pending/          a run on its way: a whole set is never replaced by half a run
    |-- previous/         the last complete set with another model
    `-- .publishing/      for a moment, while a set is moved into place

Every stage writes into a folder of its own, which becomes ``pending/`` in one rename. A
set is published when all four stages have run, or at once where no complete set has to
be protected (a first run). Publishing commits with one rename to
``.publishing/``; from then on that folder *is* the published set, and the next run
finishes the move. So a kill at any moment leaves a whole set: the old one before the
rename, the new one after it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from core.config import Config
from core.errors import ArtifactError
from core.manifest import (
    MANIFEST,
    STAGES,
    FileEntry,
    Manifest,
    Stage,
    StageFacts,
    digest,
    library_versions,
    now,
    read_manifest,
    verify,
)


@dataclass(frozen=True)
class ArtifactSet:
    """One whole set of files and its manifest.

    Attributes
    ----------
    folder : Path
        Where the files lie.
    manifest : Manifest
        What they are.
    """

    folder: Path
    manifest: Manifest

    def path(self, name: str) -> Path:
        """Return the path of a file that the manifest lists.

        Raises
        ------
        ArtifactError
            If no stage has written it yet.
        """
        if name not in self.manifest.files:
            raise ArtifactError(f"`{self.folder}` holds no `{name}`.")
        return self.folder / name


@dataclass
class StageWriter:
    """What a stage writes to while it runs.

    Attributes
    ----------
    folder : Path
        Its own empty folder; every file left in it becomes an artifact.
    base : ArtifactSet or None
        The verified set that the stage builds on; None for a first ``prepare``.
    config : Config
        Saved with the set.
    root : Path
        The artifacts folder, as it was named.
    facts : dict
        JSON-able facts for the manifest, filled by the stage.
    """

    folder: Path
    base: ArtifactSet | None
    config: Config
    root: Path
    facts: dict[str, Any] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """Return where a new artifact is to be written."""
        return self.folder / name


class Artifacts:
    """The artifacts folder of one project.

    Parameters
    ----------
    root : path
        The folder; made when a stage first writes.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.pending_folder = self.root / "pending"
        self.previous_folder = self.root / "previous"
        self._publishing = self.root / ".publishing"

    def published(self) -> ArtifactSet | None:
        """Return the verified published set, or None if nothing was ever published."""
        return self._open(self._published_folder())

    def base(self, stage: Stage) -> ArtifactSet | None:
        """Return the verified set that a stage of a training run builds on.

        The pending set, if it holds what the stage needs; else the published set.
        """
        if stage == "prepare":
            return None
        needed = STAGES[STAGES.index(stage) - 1]
        pending = read_manifest(self.pending_folder)
        if pending is not None and needed in pending.stages:
            return self._open(self.pending_folder)
        return self.published()

    def serving(self) -> ArtifactSet | None:
        """Return the verified set that scores new data.

        The published model; a pending one only as long as none is published.
        """
        published = self.published()
        if published is not None and "clustering" in published.manifest.stages:
            return published
        return self.base("inference")

    @contextmanager
    def stage(
        self, stage: Stage, config: Config, is_serving: bool = False
    ) -> Iterator[StageWriter]:
        """Run a stage: yield its writer, and on a clean exit make its files a set.

        Parameters
        ----------
        stage : str
            Its name. Files of this stage and of later ones are superseded.
        config : Config
            Saved with the set as ``config.yaml``.
        is_serving : bool
            New data is scored: build on `serving`, keep what is not written anew, and
            leave a pending training run alone.

        Raises
        ------
        ArtifactError
            If another process is writing here, or the set to build on is not sound.
        """
        lock = FileLock(self.root / ".lock", timeout=0)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise ArtifactError(
                f"another run is writing to `{self.root}`. Wait for it, or pass "
                "`--artifacts` another folder."
            ) from None
        except OSError as error:
            raise ArtifactError(
                f"`{self.root}` cannot be written to ({error.strerror or error}). Pass "
                "`--artifacts` a folder that can."
            ) from None
        started = time.perf_counter()
        try:
            self._recover()
            base = self.serving() if is_serving else self.base(stage)
            with tempfile.TemporaryDirectory(prefix=".staging-", dir=self.root) as tmp:
                writer = StageWriter(Path(tmp) / "new", base, config, self.root)
                writer.folder.mkdir()
                yield writer
                manifest = self._inherit(writer, stage, is_serving)
                seconds = time.perf_counter() - started
                _complete(writer, manifest, stage, seconds)
                self._commit(writer.folder, manifest, is_serving)
        finally:
            lock.release()

    def _published_folder(self) -> Path:
        is_moving = (self._publishing / MANIFEST).is_file()
        return self._publishing if is_moving else self.root

    def _open(self, folder: Path) -> ArtifactSet | None:
        manifest = read_manifest(folder)
        if manifest is None:
            return None
        verify(folder, manifest)
        return ArtifactSet(folder, manifest)

    def _commit(self, folder: Path, manifest: Manifest, is_serving: bool) -> None:
        """Publish a whole set if it may be; else let it wait as the pending one."""
        protected = read_manifest(self.root)
        must_wait = protected is not None and protected.is_complete
        if must_wait and not manifest.is_complete:
            _replace_folder(folder, self.pending_folder)
            return
        if protected is not None and must_wait:
            self._keep_previous(protected, manifest)
        folder.rename(self._publishing)
        if not is_serving:
            _discard(self.pending_folder)
        self._finish_publishing()

    def _inherit(self, writer: StageWriter, stage: Stage, is_serving: bool) -> Manifest:
        """Carry over the files that earlier stages wrote and this one has not."""
        manifest = Manifest(config=writer.config)
        if writer.base is None:
            return manifest
        last = STAGES.index(stage) + (1 if is_serving else 0)
        kept = STAGES[:last]
        old = writer.base.manifest
        manifest.stages = {
            name: old.stages[name] for name in kept if name in old.stages
        }
        for name, entry in old.files.items():
            is_new = (writer.folder / name).exists() or name == "config.yaml"
            source = writer.base.folder / name
            if entry.stage in kept and not is_new and source.exists():
                _link(source, writer.folder / name)
                manifest.files[name] = entry
        return manifest

    def _keep_previous(self, protected: Manifest, manifest: Manifest) -> None:
        """Keep a complete set as the previous one before another model replaces it."""
        if protected.model_id == manifest.model_id:
            return
        with tempfile.TemporaryDirectory(prefix=".staging-", dir=self.root) as tmp:
            keep = Path(tmp) / "previous"
            keep.mkdir()
            for name in (*protected.files, MANIFEST):
                if (self.root / name).exists():
                    _link(self.root / name, keep / name)
            _replace_folder(keep, self.previous_folder)

    def _recover(self) -> None:
        """Finish an interrupted publication and clear what killed runs have left."""
        if (self._publishing / MANIFEST).is_file():
            self._finish_publishing()
        for path in self.root.glob(".staging-*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.root.glob(".trash-*"):
            shutil.rmtree(path, ignore_errors=True)

    def _finish_publishing(self) -> None:
        """Move every file of ``.publishing/`` into place; safe to repeat."""
        new = read_manifest(self._publishing)
        assert new is not None  # the caller has seen the file
        old = read_manifest(self.root)
        for name in (*new.files, MANIFEST):
            source, target = self._publishing / name, self.root / name
            # Renaming one name of a file to another of its names does nothing.
            is_missing = not source.exists()  # an output that the user has deleted
            if is_missing or (target.exists() and target.samefile(source)):
                continue
            interim = self.root / f".new-{name}"
            interim.unlink(missing_ok=True)
            _link(source, interim)
            interim.replace(target)
        for name in old.files if old is not None else ():
            if name not in new.files:
                (self.root / name).unlink(missing_ok=True)
        _discard(self._publishing)


def _complete(
    writer: StageWriter, manifest: Manifest, stage: Stage, seconds: float
) -> None:
    """Add the configuration, the stage's own files and facts, and the manifest."""
    config_path = writer.path("config.yaml")
    config_path.write_text(writer.config.to_yaml(), encoding="utf-8")
    for path in sorted(writer.folder.iterdir()):
        if path.name not in manifest.files:
            manifest.files[path.name] = FileEntry(
                sha256=digest(path), size=path.stat().st_size, stage=stage
            )
    manifest.stages[stage] = StageFacts(
        finished_at=now(),
        seconds=round(seconds, 2),
        seed=writer.config.seed,
        versions=library_versions(),
        facts=writer.facts,
    )
    text = manifest.model_dump_json(indent=2)
    writer.path(MANIFEST).write_text(text, encoding="utf-8")


def save_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]
) -> None:
    """Write named arrays and JSON-able `meta` as one safetensors file."""
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {"meta": json.dumps(meta, sort_keys=True)}
    # Not `save_file`: it makes the file unreadable for everyone but its owner.
    path.write_bytes(save(plain, metadata=metadata))


def load_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `save_arrays` wrote; nothing in the file can run.

    Raises
    ------
    ArtifactError
        If the file is not such a file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            meta = json.loads((file.metadata() or {})["meta"])
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ArtifactError(
            f"`{path}` does not hold a saved model state ({error}). Run the training "
            "pipelines again."
        ) from None
    return arrays, meta


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _replace_folder(new: Path, target: Path) -> None:
    """Put a folder in the place of another one."""
    _discard(target)
    new.rename(target)


def _discard(folder: Path) -> None:
    """Take a folder away in one step, then delete it."""
    if folder.exists():
        trash = folder.parent / f".trash-{os.getpid()}-{time.monotonic_ns()}"
        folder.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)
