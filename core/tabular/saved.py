"""A model in a folder: written as one set under a manifest of digests."""

from __future__ import annotations

from pathlib import Path

from core.artifacts.folder import Artifacts
from core.artifacts.runs import one_at_a_time
from core.config import Config
from core.tabular.assign import TableAssigner
from core.tabular.files import FILES


def save_model(assigner: TableAssigner, folder: Path) -> Path:
    """Publish a model in a folder, and return the folder; it holds no rows.

    Raises
    ------
    ArtifactError
        If the folder cannot be written to, or holds something else.
    """
    with one_at_a_time(folder, FILES.system):
        config = Config(seed=assigner.options["seed"])
        with Artifacts(folder, FILES.system).stage(FILES.stage, config) as out:
            assigner.save(out.folder)
            out.facts |= {"lineage": assigner.lineage, "version": assigner.version}
    return folder
