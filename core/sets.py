"""One whole set of artifacts, and how a new one takes over files of earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.config import Config
from core.errors import ArtifactError
from core.folders import link
from core.manifest import (
    MANIFEST,
    FileEntry,
    Manifest,
    Stage,
    StageFacts,
    digest,
    is_record,
    library_versions,
    now,
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
    aside : Path
        A folder for what shall not become an artifact, deleted at the end.
    adopted : ArtifactSet or None
        A complete set, made aside, that takes the place of `base`'s model; set by a
        ``refresh``.
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
        """Return where a new artifact is to be written."""
        return self.folder / name


def complete(
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


def take(
    source: ArtifactSet, stages: Sequence[Stage], folder: Path, manifest: Manifest
) -> None:
    """Give a new set the facts and files of some stages that it has not of its own."""
    old = source.manifest
    for stage in stages:
        if stage in old.stages:
            manifest.stages.setdefault(stage, old.stages[stage])
    for name, entry in old.files.items():
        is_new = (folder / name).exists() or name == "config.yaml"
        if entry.stage in stages and not is_new and (source.folder / name).exists():
            link(source.folder / name, folder / name)
            manifest.files[name] = entry


def enter_new_files(folder: Path, manifest: Manifest, old: Manifest) -> None:
    """Enter the files of a folder that a manifest does not list, as `old` had them."""
    for path in sorted(folder.iterdir()):
        if path.name not in manifest.files:
            manifest.files[path.name] = FileEntry(
                sha256=digest(path),
                size=path.stat().st_size,
                stage=old.files[path.name].stage,
            )


def take_record(source: ArtifactSet, folder: Path, manifest: Manifest) -> None:
    """Give a new set what the refreshes of its lineage have recorded."""
    old = source.manifest
    if "refresh" in old.stages:
        manifest.stages["refresh"] = old.stages["refresh"]
    for name, entry in old.files.items():
        if is_record(name) and not (folder / name).exists():
            link(source.folder / name, folder / name)
            manifest.files[name] = entry


def version_name(manifest: Manifest) -> str:
    """Return the folder name of a kept set.

    The lineage tells versions of unrelated segmentations in one folder apart.
    """
    return f"v{manifest.version:03d}-{manifest.lineage}"


def age(manifest: Manifest) -> tuple[str, int]:
    """Return what sorts kept sets: by the time of their model, then version."""
    return manifest.stages[manifest.model_stage].finished_at, manifest.version
