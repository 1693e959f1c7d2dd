"""A folder of artifacts: whole sets of files, published in one step.

::

    artifacts/            the published set, with manifest.json
    |-- pending/          a run on its way: a whole set is never replaced by half a run
    |-- versions/         complete sets with other models, to go back to
    `-- .publishing/      for a moment, while a set is moved into place

Every stage writes into a folder of its own, which becomes ``pending/`` in one rename. A
set is published when every stage of a run has run, or at once where no complete set has
to be protected (a first run). Publishing commits with one rename to ``.publishing/``;
from then on that folder *is* the published set, and the next run finishes the move. So
a kill at any moment leaves a whole set: the old one before the rename, the new one
after it.

Stages and files are those of a `System`, which has folders of its own. Where a run is a
single stage, every run is a whole set.

What has been recorded since (`System.records`) belongs to a lineage of models, not to
one of them: it stays when another version is published, whether by a later stage, by a
training run or by going back.

A file may lie one folder deep, such as ``segments/0-average.csv``: its name in the
manifest is that path, with a slash.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock, Timeout

from core.artifacts.manifest import (
    MANIFEST,
    FileEntry,
    Manifest,
    StageFacts,
    System,
    digest,
    library_versions,
    now,
    read_manifest,
    refuse_untrusted,
    trust_own,
    verify,
)
from core.artifacts.reading import (
    PUBLISHING,
    ArtifactSet,
    T,
    published_set,
    read_published,
)
from core.artifacts.spreadsheet import safe_table
from core.config import Config
from core.display import Displayed, Shown
from core.errors import PROGRAM, ArtifactError, did_you_mean, listed
from core.logging import get_logger
from core.scratch import will_write_to


def link(source: Path, target: Path) -> None:
    """Give a file a second name, or a copy where the file system has no links."""
    target.parent.mkdir(exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def patiently(path: Path, move: Callable[[], object]) -> None:
    """Move something; again for a while where Windows refuses, as a file is open.

    Raises
    ------
    ArtifactError
        If that goes on, as it does while a file is open in Excel.
    """
    for attempt in range(PATIENCE):
        try:
            move()
            return
        except PermissionError:
            if attempt < PATIENCE - 1:
                time.sleep(0.1)
    raise ArtifactError(
        f"`{path}` cannot be replaced: it is open in another program, such as Excel, "
        "or must not be written to. Close it, then run the command again."
    )


PATIENCE = 30
"""Attempts, a tenth of a second apart."""


def put(source: Path, target: Path) -> None:
    """Give a file a second name in one step; what had that name is replaced.

    Raises
    ------
    ArtifactError
        As `patiently`.
    """
    # Renaming one name of a file to another of its names would do nothing.
    if target.exists() and target.samefile(source):
        return
    interim = target.with_name(f".new-{target.name}")
    interim.unlink(missing_ok=True)
    link(source, interim)
    patiently(target, lambda: interim.replace(target))


def replace_folder(new: Path, target: Path, root: Path) -> None:
    """Put a folder in the place of another one; `root` as for `discard`."""
    discard(target, root)
    new.rename(target)


def discard(folder: Path, root: Path) -> None:
    """Take a folder away in one step, then delete it.

    Until it is deleted it lies as ``.trash-*`` in `root`, where a later run clears it
    if this one is killed.
    """
    if folder.exists():
        trash = root / f".trash-{os.getpid()}-{time.monotonic_ns()}"
        patiently(folder, lambda: folder.rename(trash))
        shutil.rmtree(trash, ignore_errors=True)


def _verify_all(found: ArtifactSet) -> None:
    """Verify all files of a set that is about to be built on.

    What a user has changed of its outputs is told; see `Artifacts._finish_publishing`.
    """
    for name in verify(found.folder, found.manifest):
        get_logger().warning(
            "`%s` has changed since it was written. Its content is not used; where it "
            "is written again, yours is kept beside it.",
            found.folder / name,
        )


@dataclass
class StageWriter:
    """What a stage writes to while it runs.

    Attributes
    ----------
    folder : Path
        Its own empty folder; every file left in it becomes an artifact.
    base : ArtifactSet or None
        The verified set that the stage builds on, if any.
    config : Config
        Saved with the set.
    root : Path
        The artifacts folder, as it was named.
    facts : dict
        JSON-able facts for the manifest, filled by the stage.
    aside : Path
        A folder for what shall not become an artifact, deleted at the end.
    adopted : ArtifactSet or None
        A complete set, made aside, that takes the place of `base`'s model; set by a
        later stage.
    is_void : bool
        Whether there is nothing to publish after all; set by the stage.
    """

    folder: Path
    base: ArtifactSet | None
    config: Config
    root: Path
    facts: dict[str, Any] = field(default_factory=dict)
    aside: Path = field(default_factory=Path)
    adopted: ArtifactSet | None = None
    is_void: bool = False

    def path(self, name: str) -> Path:
        """Return where a new artifact is to be written, such as ``segments/0.csv``."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        return path

    def write_csv(
        self, name: str, table: pl.DataFrame | pl.LazyFrame, **options: Any
    ) -> None:
        """Write a table that people may open in a spreadsheet.

        Parameters
        ----------
        name : str
        table : DataFrame or LazyFrame
            A lazy one is written as it is computed, and never in memory as a whole.
        **options
            As `polars.LazyFrame.sink_csv` takes them.
        """
        table = safe_table(table.lazy(), self.config.csv_safety)
        table.sink_csv(self.path(name), **options)


def _files_in(folder: Path) -> dict[str, Path]:
    """Return the files of a set that is being built, by their name in a manifest."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path for path in paths}


def complete(
    writer: StageWriter, manifest: Manifest, stage: str, seconds: float
) -> None:
    """Add the configuration, the stage's own files and facts, and the manifest."""
    config_path = writer.path("config.yaml")
    config_path.write_text(writer.config.to_yaml(), encoding="utf-8")
    for name, path in _files_in(writer.folder).items():
        if name not in manifest.files:
            manifest.files[name] = FileEntry(
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


def take(
    source: ArtifactSet, stages: Collection[str], folder: Path, manifest: Manifest
) -> None:
    """Give a new set the facts and files of some stages that it has not of its own.

    A folder, such as ``segments/``, is its own as a whole if it holds any file.
    """
    old, own = source.manifest, {path.name for path in folder.iterdir()}
    for stage in stages:
        if stage in old.stages:
            manifest.stages.setdefault(stage, old.stages[stage])
    for name, entry in old.files.items():
        is_new = name.partition("/")[0] in {*own, "config.yaml"}
        if entry.stage in stages and not is_new and (source.folder / name).exists():
            link(source.folder / name, folder / name)
            manifest.files[name] = entry


def enter_new_files(folder: Path, manifest: Manifest, old: Manifest) -> None:
    """Enter the files of a folder that a manifest does not list, as `old` had them."""
    for name, path in _files_in(folder).items():
        if name not in manifest.files:
            manifest.files[name] = FileEntry(
                sha256=digest(path),
                size=path.stat().st_size,
                stage=old.files[name].stage,
            )


def take_record(source: ArtifactSet, folder: Path, manifest: Manifest) -> None:
    """Give a new set what was recorded of its lineage since the model was learnt."""
    old = source.manifest
    for stage in old.system.later:
        if stage in old.stages:
            manifest.stages[stage] = old.stages[stage]
    for name, entry in old.files.items():
        if old.system.is_record(name) and not (folder / name).exists():
            link(source.folder / name, folder / name)
            manifest.files[name] = entry


def version_name(manifest: Manifest) -> str:
    """Return the folder name of a kept set.

    The lineage tells versions of unrelated segmentations in one folder apart.
    """
    return f"v{manifest.version:03d}-{manifest.lineage}"


def age(manifest: Manifest) -> tuple[str, int]:
    """Return what sorts kept sets: by the time of their model, then version."""
    return manifest.stages[manifest.system.model_stage].finished_at, manifest.version


@dataclass(frozen=True, repr=False)
class StageResult(Displayed):
    """What a stage has done.

    Attributes
    ----------
    stage : str
        Its name.
    folder : Path
        Where its files lie: the artifacts folder, or ``pending`` in it while a
        complete earlier set is being replaced.
    facts : dict
        What it also wrote to the manifest.
    lines : list of str
        A summary for people.
    table : list of dict
        Rows of the closing table, if there is one.

    Examples
    --------
    >>> StageResult("inference", Path("artifacts"), facts={}, lines=["20 labelled"])
    StageResult(stage='inference', folder='artifacts')
    """

    stage: str
    folder: Path
    facts: dict[str, Any]
    lines: list[str]
    table: list[dict[str, str]] = field(default_factory=list)

    def _shown(self) -> Shown:
        facts = {"stage": self.stage, "folder": str(self.folder)}
        return Shown(facts, self.table, self.lines)


class Artifacts:
    """The artifacts folder of one project.

    Parameters
    ----------
    root : path
        The folder; made when a stage first writes.
    system : System
        Whose artifacts it holds.
    """

    def __init__(self, root: str | Path, system: System) -> None:
        self.root = Path(root)
        self.system = system
        self.pending_folder = self.root / "pending"
        self.versions_folder = self.root / "versions"
        self._publishing = self.root / PUBLISHING

    def published(self) -> ArtifactSet | None:
        """Return the published set, or None if nothing was ever published."""
        return published_set(self.root, self.system)

    def complete(self) -> ArtifactSet:
        """Return the published set of a whole run.

        Raises
        ------
        ArtifactError
            If there is none.
        """
        return self._whole(self.published())

    def read_complete(self, read: Callable[[ArtifactSet], T]) -> T:
        """Read files of the published set of a whole run, as `read_published` does.

        Raises
        ------
        ArtifactError
            If there is none; and as `read_published`.
        """
        return read_published(
            self.root, lambda found: read(self._whole(found)), self.system
        )

    def _whole(self, published: ArtifactSet | None) -> ArtifactSet:
        if published is None or not published.manifest.is_complete:
            raise ArtifactError(
                f"`{self.root}` holds no complete run. Train one first with "
                f"`{PROGRAM} {self.system.command}`."
            )
        return published

    def result(
        self,
        stage: str,
        facts: dict[str, Any],
        lines: list[str],
        table: list[dict[str, str]] | None = None,
    ) -> StageResult:
        """Say what a finished stage has done, and where its files lie."""
        is_pending = self.pending_folder.is_dir()
        folder = self.pending_folder if is_pending else self.root
        if is_pending:
            lines.append(
                f"Built aside in {folder}; {self.root} keeps its complete run until "
                "this one is complete too."
            )
        return StageResult(stage, folder, facts, lines, table or [])

    def base(self, stage: str) -> ArtifactSet | None:
        """Return the set that a stage of a training run builds on.

        The pending set, if it holds what the stage needs; else the published set. The
        first of several stages builds on none; a stage that is the whole of a run, on
        the run before.
        """
        if len(self.system.stages) > 1:
            earlier = self.system.before(stage)
            if not earlier:
                return None
            pending = self._manifest(self.pending_folder)
            if pending is not None and earlier[-1] in pending.stages:
                refuse_untrusted(self.pending_folder, pending)
                return ArtifactSet(self.pending_folder, pending)
        return self.published()

    def serving(self) -> ArtifactSet | None:
        """Return the set that scores new data.

        The published model; a pending one only as long as none is published.
        """
        published = self.published()
        model_stage = self.system.model_stage
        if published is not None and model_stage in published.manifest.stages:
            return published
        return self.base(list(self.system.stages)[-1])

    @contextmanager
    def stage(
        self, stage: str, config: Config, is_serving: bool = False
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
        with self._locked():
            started = time.perf_counter()
            self._manifest(self.root)  # another system's folder is refused at once
            base = self.serving() if is_serving else self.base(stage)
            if base is not None:
                _verify_all(base)
            with self._staging() as tmp:
                writer = StageWriter(tmp / "new", base, config, self.root)
                writer.aside = tmp / "aside"
                writer.folder.mkdir()
                writer.aside.mkdir()
                yield writer
                if writer.is_void:
                    return
                manifest = self._inherit(writer, stage, is_serving)
                seconds = time.perf_counter() - started
                complete(writer, manifest, stage, seconds)
                self._commit(writer.folder, manifest, is_serving)

    def versions(self) -> dict[str, Manifest]:
        """Return the manifests of the kept sets by name, the newest version first."""
        found = {}
        for folder in self.versions_folder.glob("*/"):
            if (manifest := self._manifest(folder)) is not None:
                found[folder.name] = manifest
        order = sorted(found, key=lambda name: age(found[name]), reverse=True)
        return {name: found[name] for name in order}

    def roll_back(
        self,
        name: str | None = None,
        amend: Callable[[ArtifactSet, ArtifactSet, Path], None] | None = None,
    ) -> tuple[Manifest, Manifest]:
        """Publish a kept set again; the one that was published is kept instead.

        Parameters
        ----------
        name : str, optional
            One of `versions`, or its beginning; default: the version before the
            published one.
        amend : callable, optional
            Called with the published set, the kept one and a folder, to which it may
            write other versions of the kept one's files.

        Returns
        -------
        left, published : Manifest
            Of the set that was published before, and of the one that now is.

        Raises
        ------
        ArtifactError
            If there is nothing to go back from or to, the kept set is not whole, or
            another process is writing here.
        """
        with self._locked():
            current = self.published()
            if current is None or not current.manifest.is_complete:
                raise ArtifactError(
                    f"`{self.root}` holds no complete run to go back from."
                )
            kept = self._open(
                self.versions_folder / self._chosen(name, current.manifest)
            )
            assert kept is not None  # its manifest was read
            for one in (current, kept):
                _verify_all(one)
            with self._staging() as tmp:
                new = tmp / "new"
                new.mkdir()
                manifest = Manifest.begun(self.system, kept.manifest.config)
                take_record(current, new, manifest)
                if amend is not None:
                    amend(current, kept, new)
                take(kept, self.system.commands, new, manifest)
                link(kept.path("config.yaml"), new / "config.yaml")
                enter_new_files(new, manifest, kept.manifest)
                text = manifest.model_dump_json(indent=2)
                (new / MANIFEST).write_text(text, encoding="utf-8")
                self._commit(new, manifest, is_serving=True)
        return current.manifest, manifest

    def _chosen(self, name: str | None, current: Manifest) -> str:
        """Return the name of the kept set to go back to."""
        kept = self.versions()
        if name is not None:
            found = [known for known in kept if known.startswith(name)]
            if len(found) != 1:
                raise ArtifactError(
                    f"`{self.root}` keeps {'no' if not found else 'more than one'} "
                    f"version `{name}`; it keeps {listed(list(kept)) or 'none'}."
                    f"{did_you_mean(name, kept)}"
                )
            return found[0]
        for candidate, manifest in kept.items():
            is_older = manifest.version < current.version
            if manifest.lineage == current.lineage and is_older:
                return candidate
        others = f" Others are kept: {listed(list(kept))}." if kept else ""
        raise ArtifactError(
            f"`{self.root}` keeps no version before {current.version}.{others}"
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder for one writer, and finish what a killed one has left."""
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
        try:
            self._recover()
            yield
        finally:
            lock.release()

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        """Yield a folder on the same file system, deleted at the end."""
        will_write_to(self.root)
        # Windows may still hold a file that was mapped; the next run clears it.
        with tempfile.TemporaryDirectory(
            prefix=".staging-", dir=self.root, ignore_cleanup_errors=True
        ) as tmp:
            yield Path(tmp)

    def _manifest(self, folder: Path) -> Manifest | None:
        return read_manifest(folder, self.system)

    def _open(self, folder: Path) -> ArtifactSet | None:
        manifest = self._manifest(folder)
        return None if manifest is None else ArtifactSet(folder, manifest)

    def _commit(self, folder: Path, manifest: Manifest, is_serving: bool) -> None:
        """Publish a whole set if it may be; else let it wait as the pending one."""
        trust_own()
        protected = self._manifest(self.root)
        must_wait = protected is not None and protected.is_complete
        if must_wait and not manifest.is_complete:
            replace_folder(folder, self.pending_folder, self.root)
            return
        if protected is not None and must_wait:
            self._keep_version(protected, manifest)
        folder.rename(self._publishing)
        if not is_serving:
            discard(self.pending_folder, self.root)
        self._finish_publishing()
        self._prune(manifest)

    def _inherit(self, writer: StageWriter, stage: str, is_serving: bool) -> Manifest:
        """Carry over the files that earlier stages wrote and this one has not."""
        system = self.system
        manifest = Manifest.begun(system, writer.config)
        source = writer.adopted or writer.base
        # A stage that is the whole of a run hands on by itself what stays.
        if source is None or len(system.stages) == 1:
            return manifest
        kept: Collection[str] = system.stages
        if stage not in system.later:
            kept = system.commands if is_serving else system.before(stage)
        take(source, kept, writer.folder, manifest)
        record = self._record(manifest, stage)
        if record is not None:
            take_record(record, writer.folder, manifest)
        return manifest

    def _record(self, manifest: Manifest, stage: str) -> ArtifactSet | None:
        """Return the published set if its monthly record is the new set's as well."""
        published = self.published()
        if published is None or not {*self.system.stages} <= {*manifest.stages, stage}:
            return None
        is_same = published.manifest.lineage == manifest.lineage
        return published if is_same else None

    def _keep_version(self, protected: Manifest, manifest: Manifest) -> None:
        """Keep a complete set before another model replaces it."""
        if protected.model_id == manifest.model_id:
            return
        with self._staging() as tmp:
            keep = tmp / "keep"
            keep.mkdir()
            for name in (*protected.files, MANIFEST):
                if (self.root / name).exists():
                    link(self.root / name, keep / name)
            self.versions_folder.mkdir(exist_ok=True)
            replace_folder(
                keep, self.versions_folder / version_name(protected), self.root
            )

    def _prune(self, published: Manifest) -> None:
        """Delete what is kept beyond ``refresh.keep_versions``, or twice."""
        discard(self.versions_folder / version_name(published), self.root)
        for name in list(self.versions())[published.config.refresh.keep_versions :]:
            discard(self.versions_folder / name, self.root)

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
        new = self._manifest(self._publishing)
        assert new is not None  # the caller has seen the file
        old = self._manifest(self.root)
        for name in new.files:
            source, target = self._publishing / name, self.root / name
            if source.exists():  # not an output that the user has deleted
                self._set_aside(name, old, source)
                put(source, target)
        for name in old.files if old is not None else ():
            if name not in new.files:
                self._set_aside(name, old)
                self._remove(self.root / name)
        # Last: where it is another one's, a run after a kill knows what has to go.
        put(self._publishing / MANIFEST, self.root / MANIFEST)
        discard(self._publishing, self.root)

    def _remove(self, path: Path) -> None:
        """Delete a file that is no longer published, and its folder if it is empty."""
        patiently(path, lambda: path.unlink(missing_ok=True))
        if path.parent != self.root:
            with suppress(OSError):  # other files are in it, or it is gone
                path.parent.rmdir()

    def _set_aside(
        self, name: str, old: Manifest | None, source: Path | None = None
    ) -> None:
        """Keep an output that a user has changed, under a name with its date."""
        path = self.root / name
        is_output = (
            old is not None and name in old.files and self.system.is_output(name)
        )
        if old is None or not is_output or not path.is_file():
            return
        written = [old.files[name].sha256, *([digest(source)] if source else [])]
        if digest(path) not in written:
            saved = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            mark = f"changed-{saved:%Y%m%d-%H%M%S}"
            kept = path.with_name(f"{path.stem}-{mark}{path.suffix}")
            patiently(path, lambda: path.replace(kept))
            get_logger().warning("Your `%s` is kept as `%s`.", path, kept.name)
