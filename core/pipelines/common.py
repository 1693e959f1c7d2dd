"""What the pipelines share: their results, configurations and common inputs."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from core.artifacts import Artifacts, ArtifactSet, StageWriter
from core.config import Config
from core.data.sources import source_fingerprint
from core.errors import ArtifactError
from core.inference import feature_matrix
from core.manifest import SCRIPTS, Stage, refuse_late_changes
from core.resolve import resolve_config

SPACES = {"latent": "latent_cluster", "raw": "raw_cluster"}


@dataclass(frozen=True)
class StageResult:
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
        Rows of the closing table; only of ``inference`` on the training data.
    """

    stage: Stage
    folder: Path
    facts: dict[str, Any]
    lines: list[str]
    table: list[dict[str, str]] = field(default_factory=list)


def stage_config(
    stage: Stage,
    file: str | Path | None = None,
    flags: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Resolve the configuration of a stage, on top of what earlier stages have saved.

    Raises
    ------
    ConfigError
        As `core.config.resolve_config`; also if an option differs that an earlier stage
        has already used.
    ArtifactError
        If an earlier stage has not run, or its artifacts are not sound.
    """
    config = resolve_config(file, flags, assignments, environ)
    if stage == "prepare":
        return config
    artifacts = Artifacts(config.artifacts)
    base = artifacts.base(stage)
    if base is None:
        raise ArtifactError(
            f"`{config.artifacts}` holds no artifacts yet. "
            f"Run `python {SCRIPTS['prepare']}` first."
        )
    saved = base.manifest.config
    config = resolve_config(file, flags, assignments, environ, base=saved)
    if stage == "inference" and not names_same_data(config, saved):
        base = artifacts.serving() or base
        saved = base.manifest.config
        config = resolve_config(file, flags, assignments, environ, base=saved)
    refuse_late_changes(base.manifest, config, stage)
    return config


def training_table(out: StageWriter) -> tuple[pl.DataFrame, np.ndarray]:
    """Return the features of the set that a stage builds on, as table and matrix."""
    if out.base is None:
        raise ArtifactError(
            f"there are no features yet. Run `python {SCRIPTS['prepare']}` first."
        )
    facts = out.base.manifest.facts("prepare")
    table = pl.read_parquet(out.base.path("features.parquet"), memory_map=False)
    return table, feature_matrix(table, facts["features"])


def write_pickle(value: Any, path: Path) -> None:
    """Write a pickle for notebooks; nothing here ever reads one."""
    with path.open("wb") as stream:
        pickle.dump(value, stream)


def names_same_data(config: Config, saved: Config) -> bool:
    """Whether two configurations name the same data."""
    return config.data == saved.data and config.sample == saved.sample


def is_same_data(config: Config, artifact_set: ArtifactSet) -> bool:
    """Whether a configuration names the data that the set was trained on."""
    manifest = artifact_set.manifest
    if not names_same_data(config, manifest.config):
        return False
    facts = manifest.facts("prepare")
    # A refit learns from the archive, which grew out of the source that is named.
    if config.data.source != "input" or facts.get("from_archive"):
        return True
    return bool(source_fingerprint(config) == facts["fingerprint"])


def stage_result(
    stage: Stage,
    config: Config,
    facts: dict[str, Any],
    lines: list[str],
    table: list[dict[str, str]] | None = None,
) -> StageResult:
    """Say where a finished stage's files lie."""
    artifacts = Artifacts(config.artifacts)
    is_pending = artifacts.pending_folder.is_dir()
    folder = artifacts.pending_folder if is_pending else artifacts.root
    if is_pending:
        lines.append(
            f"Built aside in {folder}; {artifacts.root} keeps its complete run until "
            "this one is complete too."
        )
    return StageResult(stage, folder, facts, lines, table or [])
