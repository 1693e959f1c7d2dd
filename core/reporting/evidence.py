"""What a set of artifacts holds for the report: its facts, tables and pictures.

A run alone leaves little of it; every verb that judges the model adds its part. What
judged segments of the kind that is not published (any more) is no evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from core.artifacts import StageWriter
from core.manifest import Manifest
from core.reporting.wording import command
from core.segments.published import UNASSIGNED, PublishedSegments


@dataclass(frozen=True)
class Evidence:
    """Everything known of one model.

    Attributes
    ----------
    manifest : Manifest
        Of the set that a stage builds on.
    facts : mapping
        Of ``inference``, those included that the stage is about to write.
    published : PublishedSegments
    folder : Path
        The artifacts folder, as commands are to name it.
    """

    manifest: Manifest
    facts: Mapping[str, Any]
    published: PublishedSegments
    folder: Path
    _new: Path
    _old: Path

    @classmethod
    def of(cls, out: StageWriter, published: PublishedSegments) -> Evidence:
        """Collect what a stage builds on and what it has written so far."""
        assert out.base is not None  # something was published before
        stage = out.base.manifest.stages.get("inference")
        before = stage.facts if stage is not None else {}
        return cls(
            manifest=out.base.manifest,
            facts=before | out.facts,
            published=published,
            folder=out.root,
            _new=out.folder,
            _old=out.base.folder,
        )

    def file(self, name: str) -> Path | None:
        """Return the path of a file; None if there is none (any more)."""
        if (self._new / name).is_file():
            return self._new / name
        is_old = name in self.manifest.files and (self._old / name).is_file()
        return self._old / name if is_old else None

    def table(self, name: str, **types: Any) -> pl.DataFrame | None:
        """Return a CSV file's table; None if there is no such file."""
        path = self.file(name)
        if path is None:
            return None
        return pl.read_csv(path, infer_schema_length=None, schema_overrides=types)

    def judged(self, name: str) -> Mapping[str, Any] | None:
        """Return facts of a verb, if they tell of the published kind of segments."""
        facts: Mapping[str, Any] | None = self.facts.get(name)
        kinds = {
            "profiles": ("segment_kind", self.published.kind),
            "scorecard": ("labels", _LABELS[self.published.kind]),
            "stability": ("kind", self.published.kind),
        }
        if facts is None or name not in kinds:
            return facts
        key, expected = kinds[name]
        return facts if facts[key] == expected else None

    @property
    def check(self) -> Mapping[str, Any] | None:
        """The comparison with data without structure that the verdict rests on."""
        if self.published.verdict["is_certified"]:
            certificate = self.facts.get("certificate")
            return None if certificate is None else dict(certificate["structure"])
        check: Mapping[str, Any] = self.manifest.facts("clustering")["structure_check"]
        return check

    @property
    def titles(self) -> dict[int, str]:
        """Number and name of every published segment, without the unassigned."""
        segments = self.published.segments
        return {s.id: f"{s.id} {s.name}" for s in segments if s.id != UNASSIGNED}

    def command(self, verb: str) -> str:
        """Return the command that runs a verb on these artifacts."""
        return command(verb, str(self.folder))


_LABELS = {"density": "latent", "partition": "partition"}
