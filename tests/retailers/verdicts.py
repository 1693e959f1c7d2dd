"""What the tests of published segments share: verdicts, and publishing under one."""

from __future__ import annotations

from pathlib import Path

from core.artifacts.folder import Artifacts
from core.artifacts.manifest import read_manifest
from core.retailers.files import RETAILERS
from core.retailers.publish import model_under, publish_training
from core.segments.published import PublishedSegments, Verdict

NATURAL = Verdict(kind="natural", is_certified=True, basis={"p_value": 0.01})
REPRODUCIBLE = Verdict(
    kind="reproducible", is_certified=True, basis={"partition_ari": 0.93}
)


def published_in(folder: Path) -> PublishedSegments:
    return PublishedSegments.read(folder / "segments.json")


def publish(folder: Path, verdict: Verdict) -> PublishedSegments:
    """Publish the segments of a complete run under another verdict."""
    config = read_manifest(folder, RETAILERS).config.model_copy(
        update={"artifacts": str(folder)}
    )
    with Artifacts(folder, RETAILERS).stage(
        "inference", config, is_serving=True
    ) as out:
        publish_training(out, model_under(out, verdict))
    return published_in(folder)
