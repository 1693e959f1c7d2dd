"""The versions of a model: which there are, and going back to one."""

from __future__ import annotations

from pathlib import Path

from core.artifacts import Artifacts, ArtifactSet
from core.errors import ArtifactError
from core.inference import SEGMENTS
from core.manifest import Manifest
from core.segments.published import PublishedSegments
from core.segments.succession import returned


def version_rows(folder: Path) -> list[dict[str, str]]:
    """Return the serving version and those kept, as rows of a table.

    Raises
    ------
    ArtifactError
        If there is no complete run.
    """
    artifacts = Artifacts(folder)
    published = artifacts.published()
    if published is None or not published.manifest.is_complete:
        raise ArtifactError(
            f"`{folder}` holds no complete run. Train one first with `segments run`."
        )
    kept = artifacts.versions()
    return [
        _row("(serves)", published.manifest),
        *(_row(name, manifest) for name, manifest in kept.items()),
    ]


def _row(name: str, manifest: Manifest) -> dict[str, str]:
    facts = manifest.facts("clustering")
    verdict = facts.get("verdict", {})
    return {
        "version": str(manifest.version),
        "name": name,
        "trained on data up to": manifest.facts("prepare")["as_of"],
        "shops": f"{manifest.facts('prepare')['n_eligible']:,}",
        "verdict": str(verdict.get("kind", "-")),
        "made": manifest.stages["clustering"].finished_at[:10],
    }


def roll_back(folder: Path, name: str | None = None) -> list[str]:
    """Publish a kept version again, and say what that means.

    Raises
    ------
    ArtifactError
        If there is nothing to go back from or to.
    """
    left, published = Artifacts(folder).roll_back(name, _lasting)
    return [
        f"Version {published.version} serves again (data up to "
        f"{published.facts('prepare')['as_of']}); version {left.version} is kept.",
        "What refreshes have recorded stays; the next one goes on from here.",
    ]


def _lasting(current: ArtifactSet, kept: ArtifactSet, folder: Path) -> None:
    """Carry over what going back must not undo: ids given out, names given by users."""
    now = PublishedSegments.read(current.path(SEGMENTS))
    then = PublishedSegments.read(kept.path(SEGMENTS))
    returned(then, now).write(folder / SEGMENTS)
