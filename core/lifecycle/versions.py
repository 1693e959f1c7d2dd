"""What becomes of published segments: names that stay, and going back to a version."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from core.artifacts.folder import Artifacts, link
from core.artifacts.reading import ArtifactSet
from core.artifacts.runs import (
    PROFILES,
    RunFiles,
    one_at_a_time,
    write_meta,
)
from core.errors import PROGRAM
from core.evaluation.axes_drift import AXES_DRIFT_ROWS
from core.lifecycle.run import published_by, write_tables
from core.lifecycle.segmentation import A, D, Segmentation, StoreLoader
from core.segments.memberships import (
    CustomerAssigner,
    renamed_profiles,
)

Told = tuple[list[str], int]


def rename_segment(
    by: Segmentation[D, A],
    axis: str,
    segment_id: int,
    name: str,
    *,
    into_store: StoreLoader | None = None,
) -> Told:
    """Give a segment a name that stays, and publish everything under it.

    Parameters
    ----------
    by : Segmentation
    axis, segment_id, name
        See `core.segments.axes.AxesModel.renamed`.
    into_store : callable, optional
        Gives the profiles in the store the name as well: `core.store.publish`.

    Returns
    -------
    (list of str, int)
        What was done, in words, and the exit code.

    Raises
    ------
    ArtifactError
        If there is no model, or another process writes to the folder.
    ConfigError
        For an unknown axis or segment, or a name that cannot be.
    """
    artifacts = Artifacts(by.folder, by.files.system)
    with one_at_a_time(artifacts.root, by.files.system):
        base = published_by(by, artifacts)
        assigner = by.assigner.of_set(base)
        model = assigner.model.renamed(axis, segment_id, name)
        before = assigner.model.names[axis][segment_id]
        _publish_names(by, artifacts, base, assigner, replace(assigner, model=model))
        said = f"{axis}: `{before}` is called `{model.names[axis][segment_id]}` now."
        return _loaded(by, artifacts, [said], into_store)


def roll_back(
    by: Segmentation[D, A],
    name: str | None = None,
    *,
    into_store: StoreLoader | None = None,
) -> Told:
    """Publish a kept version again, with its profiles, and load these.

    Ids that later versions gave out are not given out again, and names that users have
    given since stay.

    Parameters
    ----------
    by : Segmentation
    name : str, optional
        Of a version in the folder ``versions``; default: the one before.
    into_store : callable, optional
        Loads its profiles, too: `core.store.publish`.

    Raises
    ------
    ArtifactError
        If there is nothing to go back from or to.
    """
    files = by.files
    artifacts = Artifacts(by.folder, files.system)
    with one_at_a_time(artifacts.root, files.system):
        later = by.assigner.of_set(published_by(by, artifacts))
        left, now = artifacts.roll_back(name)
        base = published_by(by, artifacts)
        assigner = by.assigner.of_set(base)
        if now.lineage == left.lineage:
            model = assigner.model.restored_after(later.model)
            if model.names != assigner.model.names:
                named = replace(assigner, model=model)
                _publish_names(by, artifacts, base, assigner, named)
        facts = now.facts(files.stage)
        date, again = facts["reference_date"][:10], facts.get("again", files.stage)
        said = [
            f"Version {now.version} is in use again, with the profiles of {date}; "
            f"version {left.version} is kept.",
            "To place today's customers by it, hand their rows in once more: "
            f"`{PROGRAM} {again} --retrain never`.",
        ]
        return _loaded(by, artifacts, said, into_store)


def _publish_names(
    by: Segmentation[D, A],
    artifacts: Artifacts,
    base: ArtifactSet,
    old: CustomerAssigner,
    new: CustomerAssigner,
) -> None:
    """Publish the same model and the same profiles under other names."""
    files = by.files
    with artifacts.stage(files.stage, base.manifest.config) as out:
        write_meta(out.path(files.meta), new.get_state()[1])
        drift = _drift_of(base, files)
        profiles = base.table(PROFILES)
        facts: dict[str, Any] = dict(files.facts(base))
        renamed = renamed_profiles(profiles, old.model.names, new.model.names)
        write_tables(by, out, new, renamed, drift, facts)
        for name in base.manifest.files:
            is_there = out.path(name).exists() or name == "config.yaml"
            kept = None if is_there else _kept(base, name)
            if kept is not None:
                link(kept, out.path(name))
        out.facts |= facts


def _kept(base: ArtifactSet, name: str) -> Path | None:
    """Return a file of a set; an output may have been deleted or changed by a user."""
    is_output = base.manifest.system.is_output(name)
    return base.output(name) if is_output else base.path(name)


def _drift_of(base: ArtifactSet, files: RunFiles) -> pl.DataFrame:
    """Return the drift of the run, as far as a user has not deleted or changed it."""
    written = base.output(files.drift)
    if written is None:
        return pl.DataFrame(schema=AXES_DRIFT_ROWS)
    return pl.read_csv(written, schema=AXES_DRIFT_ROWS, glob=False)


def _loaded(
    by: Segmentation[D, A],
    artifacts: Artifacts,
    lines: list[str],
    into_store: StoreLoader | None,
) -> Told:
    if into_store is None:
        return lines, 0
    stored = into_store(by.config, published_by(by, artifacts))
    return [*lines, stored.line], stored.exit_code
