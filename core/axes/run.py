"""What is done to the axes: a run (read, learn or assign, publish), a name, going back.

Everything is written aside and published in one step, so a run that is killed has not
happened. What was published before is gone on from: ids and names of segments live on,
and who moved is written down. The store is loaded last, from the published files, in
one transaction of its own; where that fails, the next run tries again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from core.artifacts.folder import Artifacts, StageWriter, link
from core.artifacts.reading import ArtifactSet
from core.axes import changes, files, output
from core.axes.assign import AxesAssigner, PreviousRun, write_meta
from core.axes.features.catalog import features_available
from core.axes.features.compute import known_channels
from core.axes.fit import AxesOptions, fit_axes
from core.axes.sample import generate_shoppers
from core.config import Config
from core.errors import PROGRAM, ArtifactError, ConfigError, FeatureMismatchError
from core.logging import get_logger
from core.models.centroids import Assignment
from core.scratch import temporary_folder
from core.tables.orders import Purchases, purchases_from_frames, read_purchases

Placed = dict[str, Assignment]


class Run:
    """One run on its way.

    Parameters
    ----------
    out : StageWriter
        Takes the files.
    artifacts : Artifacts
        Of the folder, for the versions that it keeps.
    config : Config
    marks : RunFingerprint
        What the run is made from.
    refit : bool
        Whether the axes are learnt although there is a model.
    """

    def __init__(
        self,
        out: StageWriter,
        artifacts: Artifacts,
        config: Config,
        marks: files.RunFingerprint,
        *,
        refit: bool,
    ) -> None:
        self.out, self.artifacts, self.config = out, artifacts, config
        self.marks, self.refit = marks, refit
        self.seconds: dict[str, float] = {}
        self.notes: list[str] = []

    def execute(self, purchases: Purchases) -> dict[str, Any]:
        """Do everything, write everything, and return the facts of it."""
        before = (
            None
            if self.out.base is None
            else PreviousRun.of(self.out.base, self.artifacts)
        )
        if before is not None and not before.is_followed_by(purchases.orders):
            before = self._part_from(before)
        is_learnt = self.refit or before is None
        view = None if before is None else self._as_before(before, purchases)
        if is_learnt:
            assigner, features = self._learn(purchases, before, view)
        else:
            assert before is not None  # else it would be learnt
            assert view is not None  # else it would have ended in an error
            assigner, features = before.assigner, view
        assigner = replace(
            assigner,
            reference_date=purchases.reference_date,
            negative_orders=self.config.axes.negative_orders,
        )
        with self._timed("placing"):
            placed = assigner.model.assign(features)
        drift, alerts, moves = self._compare(before, view, assigner, features, placed)
        facts = self._facts(purchases, assigner, before, is_learnt=is_learnt)
        facts |= {
            "drift": alerts,
            "n_moved": changes.move_counts(moves),
            "notes": self.notes,
        }
        self._count_customers(facts, before, features)
        result = output.Result(
            assigner, features, placed, purchases.rejected, drift, moves
        )
        with self._timed("writing"):
            if is_learnt:
                self._keep_reference(assigner, features, placed)
            output.write_output(self.out, result, facts, is_learnt=is_learnt)
        self.out.facts |= facts
        return facts

    def _part_from(self, before: PreviousRun) -> PreviousRun | None:
        """Begin anew with other customers, if there is to be learning."""
        if not self.refit:
            self.notes.append(
                "These are other customers than those of the run before: the model "
                "was learnt from others. `--retrain always` learns one from these."
            )
            return before
        self.notes.append(
            "These are other customers than those of the run before: ids and names of "
            "segments start anew. The version before is kept."
        )
        return None

    def _as_before(
        self, before: PreviousRun, purchases: Purchases
    ) -> pl.DataFrame | None:
        """Return the features as the model before knows them.

        Where they cannot be had, a new model can be learnt all the same, but nobody can
        tell who moved.
        """
        try:
            with self._timed("features"):
                return before.assigner.features(purchases)
        except FeatureMismatchError:
            if not self.refit:
                raise
            self.notes.append(
                "The orders lack columns that the model before needs, so it cannot be "
                "told who moved, nor whether the customers have changed."
            )
            return None

    def _learn(
        self,
        purchases: Purchases,
        before: PreviousRun | None,
        view: pl.DataFrame | None,
    ) -> tuple[AxesAssigner, pl.DataFrame]:
        """Return a new model, and the features that it was learnt from."""
        channels = known_channels(purchases.orders)
        absent = purchases.absent
        earlier = None if before is None else before.assigner
        is_same_view = (
            view is not None
            and earlier is not None
            and (earlier.absent, earlier.channels) == (absent, channels)
        )
        if is_same_view:
            assert view is not None  # what makes it the same
            features = view
        else:
            get_logger().info("Computing features")
            with self._timed("features"):
                features = self._features(purchases, absent, channels)
        get_logger().info("Learning the axes of %s customers", f"{features.height:,}")
        with self._timed("learning"):
            model = fit_axes(
                features,
                features_available(absent, channels),
                AxesOptions.of(self.config),
                previous=None if earlier is None else earlier.model,
            )
        made = AxesAssigner(model, absent, channels, purchases.reference_date)
        if before is None:
            digest = hashlib.sha256(made.to_bytes()).hexdigest()
            return replace(made, lineage=digest[:12]), features
        version = before.assigner.version + 1
        lineage = before.assigner.lineage
        return replace(made, lineage=lineage, version=version), features

    def _features(
        self, purchases: Purchases, absent: tuple[str, ...], channels: tuple[str, ...]
    ) -> pl.DataFrame:
        from core.axes.features.compute import customer_features

        return customer_features(
            purchases.orders,
            purchases.items,
            reference_date=purchases.reference_date,
            absent=absent,
            channels=channels,
        )

    def _compare(
        self,
        before: PreviousRun | None,
        view: pl.DataFrame | None,
        assigner: AxesAssigner,
        features: pl.DataFrame,
        placed: Placed,
    ) -> tuple[pl.DataFrame, list[str], pl.DataFrame]:
        """Return drift, its alerts, and who moved since the run before."""
        if before is None or view is None:
            return (
                pl.DataFrame(schema=changes.AXES_DRIFT_ROWS),
                [],
                changes.MOVES_SCHEMA.to_frame(),
            )
        with self._timed("comparing"):
            model, seed = before.assigner.model, self.config.seed
            is_same = assigner.model is model
            own = placed if is_same else model.assign(view)
            labels = {axis: found.labels for axis, found in own.items()}
            reference = changes.AxesDrift.load(before.base.path(files.DRIFT_REFERENCE))
            drift, alerts = reference.measure(view, labels, model.names, seed)
            then, now = before.labels, changes.label_table(view["customer_id"], labels)
            moves = changes.moves_between(then, now, "behaviour")
            names = {axis: dict(known) for axis, known in model.names.items()}
            if not is_same:
                after = changes.label_table(
                    features["customer_id"],
                    {axis: found.labels for axis, found in placed.items()},
                )
                moves = pl.concat([moves, changes.moves_between(now, after, "model")])
                for axis, known in assigner.model.names.items():
                    names[axis] = names.get(axis, {}) | known
            block = changes.ledger_block(
                moves,
                names,
                run=files.next_run(before.base),
                reference_date=assigner.reference_date.isoformat(),
                version=assigner.version,
            )
        return drift, alerts, block

    def _keep_reference(
        self, assigner: AxesAssigner, features: pl.DataFrame, placed: Placed
    ) -> None:
        """Keep what later runs are compared with."""
        labels = {axis: found.labels for axis, found in placed.items()}
        names = assigner.model.features
        reference = changes.AxesDrift.of(features, names, labels, self.config.seed)
        reference.save(self.out.path(files.DRIFT_REFERENCE))

    def _facts(
        self,
        purchases: Purchases,
        assigner: AxesAssigner,
        before: PreviousRun | None,
        *,
        is_learnt: bool,
    ) -> dict[str, Any]:
        """Return what the manifest and the page tell of the run."""
        learnt_from = self.marks.as_dict()
        if not is_learnt:
            assert before is not None  # whose model it is
            learnt_from = before.base.manifest.facts("axes")["learnt_from"]
        items = purchases.items
        names: dict[str, dict[str, str]] = {}
        if before is not None:
            for axis, known in before.assigner.model.names.items():
                names[axis] = {str(i): name for i, name in known.items()}
        return {
            "run": files.next_run(self.out.base),
            "lineage": assigner.lineage,
            "version": assigner.version,
            "version_before": None if before is None else before.version,
            "names_before": names,
            "is_learnt": is_learnt,
            "rows": self.marks.rows,
            "learnt_from": learnt_from,
            "store": self.config.axes.store,
            "reference_date": purchases.reference_date.isoformat(),
            "n_orders": purchases.orders.height,
            "n_items": None if items is None else items.height,
            "n_rejected": purchases.rejected.height,
            "absent": list(purchases.absent),
            "channels": list(assigner.channels),
            "intake": purchases.intake,
            "seconds": self.seconds,
        }

    def _count_customers(
        self, facts: dict[str, Any], before: PreviousRun | None, features: pl.DataFrame
    ) -> None:
        """Add how many customers there are, and how many came and went."""
        facts["n_customers"] = features.height
        facts["n_entered"] = facts["n_left"] = None
        if before is not None:
            known, now = before.labels, features.select("customer_id")
            n_both = now.join(known, on="customer_id", how="semi").height
            facts["n_entered"] = now.height - n_both
            facts["n_left"] = known.height - n_both

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds = self.seconds.get(step, 0.0) + time.perf_counter() - started
        self.seconds[step] = round(seconds, 2)


@dataclass(frozen=True)
class AxesRun:
    """What a run has done.

    Attributes
    ----------
    folder : Path
        The published set.
    facts : dict
        Those of the manifest, JSON-able; with ``is_changed``, and ``stored`` where
        profiles were to be loaded.
    lines : list of str
        The same for people.
    exit_code : int
        0, or that of the error that the loading ended in: the files are published then,
        and the store still serves what it did.
    """

    folder: Path
    facts: dict[str, Any]
    lines: list[str]
    exit_code: int = 0


def run_axes(
    config: Config,
    orders: Any = None,
    items: Any = None,
    *,
    lines: Any = None,
    refit: bool = True,
    into_store: output.StoreLoader | None = None,
) -> AxesRun:
    """Segment customers on 13 behavioural axes, and publish their profiles.

    Parameters
    ----------
    config : Config
        Options of ``axes`` and ``store``; without any rows named or handed in the
        built-in sample is segmented.
    orders, items : pandas, Polars, DuckDB or Arrow table, optional
        Rows instead of files; `items` needs `orders`.
    lines : frame, optional
        Order lines instead of both.
    refit : bool
        Whether the axes are learnt anew from these orders; if not, the published model
        places everyone, if there is one. The same orders under the same options change
        nothing either way.
    into_store : callable, optional
        Loads the published set into the store as well: `core.store.publish`.

    Raises
    ------
    SourceError, SchemaError
        If the rows cannot be had or used.
    ArtifactError
        If another run is writing to the folder, or what it holds is unusable.
    FeatureMismatchError
        If the published model is to place customers by columns that are not there.
    ConfigError
        If options contradict each other, or the file of names is not one.
    """
    folder = files.folder_of(config)
    with (
        files.one_at_a_time(folder),
        temporary_folder() as work,
    ):
        purchases = _received(config, orders, items, lines, work)
        artifacts = Artifacts(folder, files.CUSTOMER_AXES)
        marks = files.RunFingerprint.of(config, purchases)
        base = artifacts.published()
        if base is not None and marks.are_known(base, refit=refit):
            facts = {**base.manifest.facts("axes"), "is_changed": False}
            lines = output.run_sentences("unchanged", **facts)
        else:
            with artifacts.stage("axes", config) as out:
                run = Run(out, artifacts, config, marks, refit=refit)
                facts = {**run.execute(purchases), "is_changed": True}
            lines = output.run_lines(facts, folder)
        if into_store is None:
            return AxesRun(folder, facts, lines)
        published = artifacts.published()
        assert published is not None  # just now, or by the run before
        stored = into_store(config, published)
        facts["stored"] = stored.facts
        return AxesRun(folder, facts, [*lines, stored.line], stored.exit_code)


def _received(
    config: Config, orders: Any, items: Any, lines: Any, work: Path
) -> Purchases:
    """Return what is to be segmented."""
    get_logger().info("Reading orders and items")
    if orders is not None or lines is not None:
        return purchases_from_frames(orders, items, config, work, lines=lines)
    if items is not None:
        raise ConfigError(
            "`items` were handed in without `orders`; expected both, or orders alone."
        )
    return read_purchases(config, work, generate_shoppers)


Told = tuple[list[str], int]


def rename_segment(
    config: Config,
    axis: str,
    segment_id: int,
    name: str,
    *,
    into_store: output.StoreLoader | None = None,
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
    artifacts = Artifacts(files.folder_of(config), files.CUSTOMER_AXES)
    with files.one_at_a_time(artifacts.root):
        base = _published(artifacts)
        assigner = AxesAssigner.of_set(base)
        model = assigner.model.renamed(axis, segment_id, name)
        before = assigner.model.names[axis][segment_id]
        _publish_names(artifacts, base, replace(assigner, model=model))
        said = f"{axis}: `{before}` is called `{model.names[axis][segment_id]}` now."
        return _loaded(config, artifacts, [said], into_store)


def roll_back(
    config: Config,
    name: str | None = None,
    *,
    into_store: output.StoreLoader | None = None,
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
    artifacts = Artifacts(files.folder_of(config), files.CUSTOMER_AXES)
    with files.one_at_a_time(artifacts.root):
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
            f"To place today's customers by it, run `{PROGRAM} axes --retrain never`.",
        ]
        return _loaded(config, artifacts, said, into_store)


def _published(artifacts: Artifacts) -> ArtifactSet:
    published = artifacts.published()
    if published is None:
        raise ArtifactError(
            f"`{artifacts.root}` holds no customer axes. Learn them with `{PROGRAM} "
            "axes`."
        )
    return published


def _publish_names(
    artifacts: Artifacts, base: ArtifactSet, assigner: AxesAssigner
) -> None:
    """Publish the same model and the same profiles under other names."""
    with artifacts.stage("axes", base.manifest.config) as out:
        for name in (files.STATE, files.DRIFT_REFERENCE, files.REJECTED):
            link(base.path(name), out.path(name))
        write_meta(out.path(files.META), assigner.get_state()[1])
        files.carry_ledger(base, out.folder)
        drift = _drift_of(base, out)
        old, new = AxesAssigner.of_set(base).model.names, assigner.model.names
        profiles = base.table(files.PROFILES)
        facts: dict[str, Any] = dict(base.manifest.facts("axes"))
        output.write_tables(
            out, assigner.model, _renamed(profiles, old, new), drift, facts
        )
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
    """Carry the drift of the run over; a user may have deleted or changed it."""
    written = base.output(files.DRIFT)
    if written is None:
        return pl.DataFrame(schema=changes.AXES_DRIFT_ROWS)
    link(written, out.path(files.DRIFT))
    return pl.read_csv(written, schema=changes.AXES_DRIFT_ROWS, glob=False)


def _loaded(
    config: Config,
    artifacts: Artifacts,
    lines: list[str],
    into_store: output.StoreLoader | None,
) -> Told:
    if into_store is None:
        return lines, 0
    stored = into_store(config, _published(artifacts))
    return [*lines, stored.line], stored.exit_code
