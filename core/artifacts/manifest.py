"""The manifest: what a set of artifacts holds, and how its wholeness is checked.

``manifest.json`` lists every file with its SHA-256 and the stage that wrote it, beside
the facts of each stage (seed, seconds, versions, feature order, data fingerprint). It
is written last and read first: no file is parsed unless the bytes that are parsed have
the digest that it lists.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
)

from core.config import Config
from core.errors import PROGRAM, ArtifactError, listed
from core.resolve import updated_config

MANIFEST = "manifest.json"
# Outputs of every system; see `System.outputs`.
OUTPUT_SUFFIXES = {".png", ".html", ".pkl", ".xlsx"}
# Of a file, which may lie one folder deep; neither begins with a point.
_PLAIN_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class System:
    """Whose artifacts they are: the stages of a run, and what becomes of its files.

    Attributes
    ----------
    name : str
        What its folders hold, as messages say it.
    stages : dict of str to str
        The stages of a run in their order, each with its verb.
        A run of a single stage is always whole: it builds on the run before, and hands
        on by itself what stays.
    command : str
        The verb of a whole run.
    model_stage : str
        The stage whose facts say which model this is (``lineage`` and ``version``).
    later : dict of str to str
        Stages that may follow a whole run, and keep what it has made.
    outputs : frozenset of str
        Files, and folders of files, that nothing reads back but a report, which does
        without those that a user has deleted or changed. Pictures, pages, workbooks and
        pickles are outputs under any name.
    records : tuple of str
        Patterns of files that belong to a lineage of models, not to one of its
        versions.
    columns : mapping
        Columns that Parquet files must have, by file, each ``text`` or ``number``;
        others may follow.
    filled : frozenset of str
        Of these, the files that have a row at least.
    """

    name: str
    stages: Mapping[str, str]
    command: str
    model_stage: str
    later: Mapping[str, str] = field(default_factory=dict)
    outputs: frozenset[str] = frozenset()
    records: tuple[str, ...] = ()
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    filled: frozenset[str] = frozenset()

    @property
    def commands(self) -> dict[str, str]:
        """Every stage with its verb."""
        return {**self.stages, **self.later}

    def before(self, stage: str) -> tuple[str, ...]:
        """Return the stages of a run that come before one of them."""
        order = tuple(self.stages)
        return order[: order.index(stage)]

    def is_output(self, name: str) -> bool:
        """Whether a set is whole without a file."""
        is_named = name.partition("/")[0] in self.outputs
        return is_named or Path(name).suffix in OUTPUT_SUFFIXES

    def is_record(self, name: str) -> bool:
        """Whether a file belongs to a lineage of models, not to one of its versions."""
        return any(fnmatchcase(name, pattern) for pattern in self.records)


class FileEntry(BaseModel):
    """One file of a set: its digest, its size in bytes and the stage that wrote it."""

    model_config = ConfigDict(extra="forbid")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)
    stage: str


class StageFacts(BaseModel):
    """What one stage reports of itself; `facts` are the stage's own."""

    model_config = ConfigDict(extra="forbid")
    finished_at: str
    seconds: float
    seed: int
    versions: dict[str, str]
    facts: dict[str, Any] = Field(default_factory=dict)


class Manifest(BaseModel):
    """The content of ``manifest.json``."""

    model_config = ConfigDict(extra="forbid")
    format: Literal[1] = 1
    config: Config
    stages: dict[str, StageFacts] = Field(default_factory=dict)
    files: dict[str, FileEntry] = Field(default_factory=dict)
    _system: System = PrivateAttr()
    _sha256: str = PrivateAttr("")
    _stamp: tuple[int, int] = PrivateAttr((0, 0))

    @classmethod
    def begun(cls, system: System, config: Config) -> Self:
        """Return the manifest of a set that holds nothing yet."""
        manifest = cls(config=config)
        manifest._system = system
        return manifest

    @field_validator("config", mode="before")
    @classmethod
    def _of_this_version(cls, config: object) -> object:
        return updated_config(config) if isinstance(config, dict) else config

    @field_validator("files")
    @classmethod
    def _plain_names(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        for name in files:
            if not _PLAIN_NAME.fullmatch(name):
                raise ValueError(f"file name {name!r} is not a plain name")
        return files

    @property
    def is_complete(self) -> bool:
        """Whether all stages of a run have run."""
        return self._system.stages.keys() <= self.stages.keys()

    @property
    def system(self) -> System:
        """Whose artifacts these are."""
        return self._system

    @property
    def sha256(self) -> str:
        """SHA-256 of the file that this was read from, for `trusted`."""
        return self._sha256

    @property
    def stamp(self) -> tuple[int, int]:
        """What tells this file from another one in its place, of the same content too.

        Going back to a version and forth writes the same content again.
        """
        return self._stamp

    @property
    def model_id(self) -> str:
        """Twelve hexadecimal digits that tell one trained model from another."""
        digests = [
            entry.sha256
            for name, entry in sorted(self.files.items())
            if name.endswith(".safetensors")
        ]
        return hashlib.sha256("".join(digests).encode()).hexdigest()[:12]

    @property
    def lineage(self) -> str:
        """What the versions of one segmentation share; the model's id by default."""
        return str(self._model_facts().get("lineage", self.model_id))

    @property
    def version(self) -> int:
        """Number of the model in its lineage, from 1."""
        return int(self._model_facts().get("version", 1))

    def _model_facts(self) -> dict[str, Any]:
        stage = self.stages.get(self._system.model_stage)
        return stage.facts if stage is not None else {}

    def facts(self, stage: str) -> dict[str, Any]:
        """Return the facts of a stage that has run.

        Raises
        ------
        ArtifactError
            If it has not run; the message names the verb to run.
        """
        if stage not in self.stages:
            raise ArtifactError(
                f"the artifacts hold no result of the `{stage}` stage yet. "
                f"Run `{PROGRAM} {self._system.commands[stage]}` first."
            )
        return self.stages[stage].facts


def read_manifest(folder: Path, system: System, *others: System) -> Manifest | None:
    """Return the manifest of a folder, or None where there is none.

    Parameters
    ----------
    folder : Path
        Of a set of artifacts.
    system, *others : System
        Whose it may be: the first one that knows the stages in it.

    Raises
    ------
    ArtifactError
        If the file is there but is not a manifest of this format, or is that of
        another system.
    """
    path = folder / MANIFEST
    try:
        with path.open("rb") as stream:
            content, status = stream.read(), os.fstat(stream.fileno())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArtifactError(f"`{path}` cannot be read: {error}.") from None
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "content"
        raise ArtifactError(
            f"`{path}` is not a manifest of this version ({where}: {first['msg']}). "
            f"Run `{PROGRAM} {system.command}` again, or restore the file."
        ) from None
    manifest._sha256 = hashlib.sha256(content).hexdigest()
    manifest._stamp = status.st_ino, status.st_mtime_ns
    stages = {*manifest.stages, *(entry.stage for entry in manifest.files.values())}
    for owner in (system, *others):
        if stages <= owner.commands.keys():
            manifest._system = owner
            return manifest
    raise ArtifactError(
        f"`{folder}` does not hold {system.name}: `{MANIFEST}` names the stages "
        f"{listed(sorted(stages))}. Pass `--artifacts` another folder."
    )


_TRUSTED: ContextVar[str | None] = ContextVar("trusted", default=None)


@contextmanager
def trusted(sha256: str | None) -> Iterator[None]:
    """Open no other set than the one whose manifest has this SHA-256, if one is given.

    The manifest vouches for every file of its set, and nothing vouches for it but this.
    """
    token = _TRUSTED.set(sha256)
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def trust_own() -> None:
    """Trust what this process is about to publish itself."""
    _TRUSTED.set(None)


def refuse_untrusted(folder: Path, manifest: Manifest) -> None:
    """Raise if a manifest is not the one that `trusted` names.

    Raises
    ------
    ArtifactError
        With both digests.
    """
    wanted = _TRUSTED.get()
    if wanted is not None and wanted.strip().lower() != manifest.sha256:
        raise ArtifactError(
            f"`{folder / MANIFEST}` has the SHA-256 `{manifest.sha256}`, but "
            f"`--trusted-digest` is `{wanted}`. If the change is yours, pass the new "
            "digest; if not, restore the folder."
        )


def digest(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def damaged(folder: Path, name: str, manifest: Manifest) -> ArtifactError:
    """Return the error for a file that is not what a manifest lists."""
    path, system = folder / name, manifest.system
    again = f"run `{PROGRAM} {system.commands[manifest.files[name].stage]}` again."
    if not path.is_file():
        return ArtifactError(
            f"`{path}` is missing, though `{MANIFEST}` lists it. Restore it, or {again}"
        )
    cure = "Delete it" if system.is_output(name) else "Restore it"
    return ArtifactError(
        f"`{path}` has changed since it was written: its SHA-256 is not the one in "
        f"`{MANIFEST}`. {cure}, or {again}"
    )


def verify(folder: Path, manifest: Manifest) -> list[str]:
    """Compare every file of a set with its digest.

    Returns
    -------
    list of str
        *Outputs* (CSV, picture, report, notebook pickle) that have changed, as those do
        that were saved in Excel: nothing reads them. Missing ones are no error either.

    Raises
    ------
    ArtifactError
        Naming the first other file that is missing or differs.
    """
    changed = []
    for name, entry in manifest.files.items():
        path = folder / name
        is_there = path.is_file()
        is_as_long = is_there and path.stat().st_size == entry.size
        if is_as_long and digest(path) == entry.sha256:
            continue
        if not manifest.system.is_output(name):
            raise damaged(folder, name, manifest)
        if is_there:
            changed.append(name)
    return changed


@functools.cache
def _installed(name: str) -> str:
    """Return the installed version of a distribution."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def library_versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    names = ("stable-segments", "numpy", "polars", "duckdb", "scikit-learn", "hdbscan")
    versions = {name: _installed(name) for name in (*names, "keras", "tensorflow")}
    return {"python": platform.python_version()} | versions


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
