"""What is done to a published model besides learning: names, and going back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl

from core.artifacts.folder import Artifacts, ArtifactSet, StageWriter, link
from core.axes.assign import AxesAssigner, write_meta
from core.axes.changes import AXES_DRIFT_ROWS
from core.axes.files import (
    AXES,
    DRIFT,
    DRIFT_REFERENCE,
    META,
    PROFILES,
    REJECTED,
    STATE,
    carry_ledger,
    folder_of,
    one_at_a_time,
)
from core.axes.output import StoreLoader, write_tables
from core.config import Config
from core.errors import ArtifactError

Told = tuple[list[str], int]


def rename_segment(
    config: Config,
    axis: str,
    segment_id: int,
    name: str,
    *,
    into_store: StoreLoader | None = None,
) -> Told:
    """Give a segment a name that stays, and publish everything under it.

    Parameters
    ----------
    config : Config
        Names the folder, and the store.
    axis, segment_id, name
        See `core.axes.model.AxesModel.renamed`.
    into_store : callable, optional
        Gives the profiles in the store the name as well: `core.store.publish`.

    Returns
    -------
    (list of str, int)
        What was done, in words, and the exit code.

    Raises
    ------
    ArtifactError
        If there are no axes, or another process writes to the folder.
    ConfigError
        For an unknown axis or segment, or a name that cannot be.
    """
    artifacts = Artifacts(folder_of(config), AXES)
    with one_at_a_time(artifacts.root):
        base = _published(artifacts)
        assigner = AxesAssigner.of_set(base)
        model = assigner.model.renamed(axis, segment_id, name)
        before = assigner.model.names[axis][segment_id]
        _publish_names(artifacts, base, replace(assigner, model=model))
        said = f"{axis}: `{before}` is called `{model.names[axis][segment_id]}` now."
        return _loaded(config, artifacts, [said], into_store)


def roll_back(
    config: Config, name: str | None = None, *, into_store: StoreLoader | None = None
) -> Told:
    """Publish a kept version again, with its profiles, and load these.

    Ids that later versions gave out are not given out again, and names that users have
    given since stay.

    Parameters
    ----------
    config : Config
        Names the folder, and the store.
    name : str, optional
        Of a version in the folder ``versions``; default: the one before.
    into_store : callable, optional
        Loads its profiles, too: `core.store.publish`.

    Raises
    ------
    ArtifactError
        If there is nothing to go back from or to.
    """
    artifacts = Artifacts(folder_of(config), AXES)
    with one_at_a_time(artifacts.root):
        later = AxesAssigner.of_set(_published(artifacts))
        left, now = artifacts.roll_back(name)
        base = _published(artifacts)
        assigner = AxesAssigner.of_set(base)
        if now.lineage == left.lineage:
            model = assigner.model.restored_after(later.model)
            if model.names != assigner.model.names:
                _publish_names(artifacts, base, replace(assigner, model=model))
        date = now.facts("axes")["reference_date"][:10]
        said = [
            f"Version {now.version} serves again, with the profiles of {date}; version "
            f"{left.version} is kept.",
            "To place today's customers by it, run `segments axes --retrain never`.",
        ]
        return _loaded(config, artifacts, said, into_store)


def _published(artifacts: Artifacts) -> ArtifactSet:
    published = artifacts.published()
    if published is None:
        raise ArtifactError(
            f"`{artifacts.root}` holds no customer axes. Learn them with `segments "
            "axes`."
        )
    return published


def _publish_names(
    artifacts: Artifacts, base: ArtifactSet, assigner: AxesAssigner
) -> None:
    """Publish the same model and the same profiles under other names."""
    with artifacts.stage("axes", base.manifest.config) as out:
        for name in (STATE, DRIFT_REFERENCE, REJECTED):
            link(base.path(name), out.path(name))
        write_meta(out.path(META), assigner.get_state()[1])
        carry_ledger(base, out.folder)
        drift = _drift_of(base, out)
        old, new = AxesAssigner.of_set(base).model.names, assigner.model.names
        profiles = pl.read_parquet(base.path(PROFILES), memory_map=False)
        facts: dict[str, Any] = dict(base.manifest.facts("axes"))
        write_tables(out, assigner.model, _renamed(profiles, old, new), drift, facts)
        out.facts |= facts


def _renamed(
    profiles: pl.DataFrame,
    old: dict[str, dict[int, str]],
    new: dict[str, dict[int, str]],
) -> pl.DataFrame:
    """Return profiles in which segments are called otherwise."""
    changed = {}
    for column in ("segment_memberships", "runner_up_segments"):
        fields = [
            profiles[column]
            .struct.field(axis)
            .replace({old[axis][i]: name for i, name in new[axis].items()})
            .alias(axis)
            for axis in profiles[column].struct.fields
        ]
        changed[column] = pl.DataFrame(fields).to_struct(column)
    return profiles.with_columns(**changed)


def _drift_of(base: ArtifactSet, out: StageWriter) -> pl.DataFrame:
    """Carry the drift of the run over; a user may have deleted it."""
    if DRIFT not in base.manifest.files or not base.path(DRIFT).is_file():
        return pl.DataFrame(schema=AXES_DRIFT_ROWS)
    link(base.path(DRIFT), out.path(DRIFT))
    return pl.read_csv(base.path(DRIFT), schema=AXES_DRIFT_ROWS)


def _loaded(
    config: Config,
    artifacts: Artifacts,
    lines: list[str],
    into_store: StoreLoader | None,
) -> Told:
    if into_store is None:
        return lines, 0
    stored = into_store(config, _published(artifacts))
    return [*lines, stored.line], stored.exit_code
