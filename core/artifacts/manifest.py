"""The manifest: what a set of artifacts holds, and how its wholeness is checked.

``manifest.json`` lists every file with its SHA-256 and the stage that wrote it, beside
the facts of each stage (seed, seconds, versions, feature order, data fingerprint). It
is written last and read first: nothing is parsed before its bytes are found unchanged.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from core.config import Config, updated_config
from core.errors import ArtifactError, ConfigError

MANIFEST = "manifest.json"
Stage = Literal["prepare", "autoencoder", "clustering", "inference", "refresh", "axes"]
STAGES: tuple[Stage, ...] = ("prepare", "autoencoder", "clustering", "inference")
"""The stages of a training run, in their order; `refresh` comes after, every month."""
EVERY_STAGE: tuple[Stage, ...] = (*STAGES, "refresh", "axes")
"""A set of customer axes has a folder of its own, and `axes` as its one stage."""
SCRIPTS: dict[Stage, str] = {
    "prepare": "feature-preparation-pipeline.py",
    "autoencoder": "autoencoder-training-pipeline.py",
    "clustering": "clustering-training-pipeline.py",
    "inference": "clustering-inference-pipeline.py",
    "refresh": "-m core refresh",
    "axes": "-m core axes",
}
# Sections of the configuration that a finished stage has used up.
_SETTLED: dict[Stage, tuple[str, ...]] = {
    "prepare": ("data", "sample", "eligibility", "features", "evaluation"),
    "autoencoder": ("scaling", "autoencoder"),
    "clustering": ("clustering",),
}
# Nothing but the report reads these back, which does without those that a user has
# deleted; changed ones are refused.
OUTPUT_SUFFIXES = {".png", ".html", ".pkl"}
OUTPUT_NAMES = {
    "axes_drift.csv",
    "axes_report.csv",
    "axis_overlap.csv",
    "axis_segments.csv",
    "axis_sizes.csv",
    "certificate.json",
    "cluster_insights.csv",
    "cluster_predictions.csv",
    "comparison-spaces.csv",
    "model-card.md",
    "sample_truth.csv",
    "scorecard-decay.csv",
    "scorecard.csv",
    "segment_curves.csv",
    "segment_exemplars.csv",
    "segment_insights.csv",
    "segment_moves.csv",
    "segment_profiles.csv",
    "segment_rules.csv",
    "segment_rules.txt",
    "selection.csv",  # of `segments select`, which is gone: models of before have it
    "stability.csv",
}
# Written month after month by refreshes (the first also by a training run); it belongs
# to all versions of a model, not to one of them.
RECORD_NAMES = {"drift.parquet", "refresh.json", "sales.parquet"}
RECORD_PREFIX = "ledger-"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class FileEntry(BaseModel):
    """One file of a set: its digest, its size in bytes and the stage that wrote it."""

    model_config = ConfigDict(extra="forbid")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)
    stage: Stage


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
    stages: dict[Stage, StageFacts] = Field(default_factory=dict)
    files: dict[str, FileEntry] = Field(default_factory=dict)

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
        """Whether all four stages have run, or the one of customer axes."""
        return "axes" in self.stages or all(stage in self.stages for stage in STAGES)

    @property
    def model_stage(self) -> Stage:
        """The stage whose facts say which model this is."""
        return "axes" if "axes" in self.stages else "clustering"

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
        stage = self.stages.get(self.model_stage)
        return stage.facts if stage is not None else {}

    def facts(self, stage: Stage) -> dict[str, Any]:
        """Return the facts of a stage that has run.

        Raises
        ------
        ArtifactError
            If it has not run; the message names the script to run.
        """
        if stage not in self.stages:
            raise ArtifactError(
                f"the artifacts hold no result of the `{stage}` stage yet. "
                f"Run `python {SCRIPTS[stage]}` first."
            )
        return self.stages[stage].facts


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a folder, or None where there is none.

    Raises
    ------
    ArtifactError
        If the file is there but is not a manifest of this format.
    """
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"`{path}` cannot be read: {error}.") from None
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "content"
        raise ArtifactError(
            f"`{path}` is not a manifest of this version ({where}: {first['msg']}). "
            "Run the four pipelines again, or restore the file."
        ) from None


def refuse_late_changes(manifest: Manifest, config: Config, stage: Stage) -> None:
    """Raise if an option was changed that an earlier, finished stage depends on.

    Other data (and another `as_of`) is free in ``inference``: that is scoring.

    Raises
    ------
    ConfigError
        Naming the option, both values and the script to run again.
    ArtifactError
        If an earlier stage has not run.
    """
    for earlier in STAGES[: STAGES.index(stage)]:
        manifest.facts(earlier)
        for section in _SETTLED[earlier]:
            if stage == "inference" and section in {"data", "sample"}:
                continue
            old = getattr(manifest.config, section).model_dump()
            new = getattr(config, section).model_dump()
            if stage == "inference":
                old.pop("as_of", None), new.pop("as_of", None)
            changed = [key for key in old if old[key] != new[key]]
            if changed:
                key = changed[0]
                raise ConfigError(
                    f"`{section}.{key}` is {new[key]!r}, but the artifacts in "
                    f"`{config.artifacts}` were made with {old[key]!r}. Run `python "
                    f"{SCRIPTS[earlier]}` again with the new value, or leave it out."
                )


def is_record(name: str) -> bool:
    """Whether a file belongs to a lineage of models, not to one of its versions."""
    return name in RECORD_NAMES or name.startswith(RECORD_PREFIX)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verify(folder: Path, manifest: Manifest) -> None:
    """Compare every file of a set with its digest.

    Raises
    ------
    ArtifactError
        Naming the first file that is missing or differs. A missing *output* (CSV,
        picture, report, notebook pickle) is no error, since nothing reads it.
    """
    for name, entry in manifest.files.items():
        path = folder / name
        is_output = path.suffix in OUTPUT_SUFFIXES or name in OUTPUT_NAMES
        if not path.is_file():
            if is_output:
                continue
            raise ArtifactError(
                f"`{path}` is missing, though `{MANIFEST}` lists it. Restore it, or "
                f"run `python {SCRIPTS[entry.stage]}` again."
            )
        if path.stat().st_size != entry.size or digest(path) != entry.sha256:
            cure = "Delete it" if is_output else "Restore it"
            raise ArtifactError(
                f"`{path}` has changed since it was written: its SHA-256 is not the "
                f"one in `{MANIFEST}`. {cure}, or run `python {SCRIPTS[entry.stage]}` "
                "again."
            )


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
