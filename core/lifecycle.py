"""The life of a store's segments on axes: a run, names that stay, going back.

A run reads, learns or assigns, compares with the run before, publishes, and loads the
store; the order is here, for every system that segments customers on axes, and what is
read, learnt and told is the system's.

Everything is written aside and published in one step, so a run that is killed has not
happened. What was published before is gone on from: ids and names of segments live on,
and who moved is written down. The store is loaded last, from the published files, in
one transaction of its own; where that fails, the next run tries again.
"""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import polars as pl

from core.artifacts.folder import Artifacts, StageWriter, link
from core.artifacts.reading import ArtifactSet
from core.artifacts.runs import (
    LONG_TABLE,
    PROFILES,
    SIZES,
    RunFiles,
    RunFingerprint,
    block_name,
    carry_ledger,
    next_run,
    one_at_a_time,
    read_meta,
    write_meta,
)
from core.config import Config
from core.errors import PROGRAM, FeatureMismatchError
from core.evaluation.axes_drift import AXES_DRIFT_ROWS, AxesDrift
from core.models.centroids import Assignment
from core.scratch import temporary_folder
from core.segments.axes import Labels
from core.segments.memberships import (
    CustomerAssigner,
    labels_of,
    long_table,
    nothing_published,
    renamed_profiles,
    sizes_table,
)
from core.segments.moves import (
    MOVES_SCHEMA,
    label_table,
    ledger_block,
    move_counts,
    moves_between,
)

Placed = dict[str, Assignment]
# Of the smaller population, the share that another one must hold to be the same one.
SAME_CUSTOMERS = 0.5


class RunData(Protocol):
    """What a system has read for a run."""

    @property
    def reference_date(self) -> datetime:
        """The moment that stands for now, naive UTC."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the rows, and of how they were read."""

    @property
    def customers(self) -> pl.DataFrame:
        """``customer_id``, each customer once."""


class StoreLoad(NamedTuple):
    """What became of loading a published set into a store.

    Attributes
    ----------
    line : str
        In words.
    facts : dict
        JSON-able; counts of rows, or the error.
    exit_code : int
        0, or that of the error.
    """

    line: str
    facts: dict[str, Any]
    exit_code: int = 0


StoreLoader = Callable[[Config, ArtifactSet], StoreLoad]
"""Loads a published set into the store of a configuration: `core.store.publish`."""

D = TypeVar("D", bound=RunData)
A = TypeVar("A", bound=CustomerAssigner)


@dataclass(frozen=True)
class Tables:
    """What a run's own files are written from.

    Attributes
    ----------
    assigner : CustomerAssigner
    profiles : DataFrame
        See `core.segments.memberships.customer_profiles`.
    sizes : DataFrame
        See `core.segments.memberships.sizes_table`.
    labels : mapping of axis to ndarray
        Segments of the customers of `profiles`.
    drift : DataFrame
        Columns `core.evaluation.axes_drift.AXES_DRIFT_ROWS`.
    """

    assigner: CustomerAssigner
    profiles: pl.DataFrame
    sizes: pl.DataFrame
    labels: Labels
    drift: pl.DataFrame


class Segmentation(ABC, Generic[D, A]):
    """What a system does in its runs, and in what becomes of their segments.

    Parameters
    ----------
    config : Config
    """

    files: ClassVar[RunFiles]
    assigner: ClassVar[type[CustomerAssigner]]

    def __init__(self, config: Config) -> None:
        self.config = config
        self.seconds: dict[str, float] = {}

    @property
    @abstractmethod
    def store(self) -> str:
        """Name of the store whose customers these are."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where its runs lie."""

    @abstractmethod
    def read(self, work: Path) -> D:
        """Return what is to be segmented; `work` is a folder for the time of the run.

        Raises
        ------
        SourceError, SchemaError
            If the rows cannot be had or used.
        """

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the options that decide what is learnt, JSON-able."""

    @abstractmethod
    def features(self, assigner: A, data: D) -> pl.DataFrame:
        """Return the features of the customers, as an assigner knows them.

        Raises
        ------
        FeatureMismatchError
            If the data lack what it was learnt with.
        """

    @abstractmethod
    def learn(
        self, data: D, before: A | None, view: pl.DataFrame | None
    ) -> tuple[A, pl.DataFrame]:
        """Return a new assigner, and the features that it was learnt from.

        Parameters
        ----------
        data : RunData
        before : CustomerAssigner, optional
            The one whose ids and names live on.
        view : DataFrame, optional
            The features as `before` knows them.
        """

    def applied(self, assigner: A, data: D) -> A:
        """Return the assigner that has been given these data."""
        return replace(assigner, reference_date=data.reference_date)

    @abstractmethod
    def facts(self, data: D, assigner: A) -> dict[str, Any]:
        """Return what the manifest and the page tell of the data."""

    @abstractmethod
    def write_data(
        self,
        out: StageWriter,
        data: D,
        features: pl.DataFrame,
        placed: Placed,
        assigner: A,
    ) -> None:
        """Write the rows set aside, and what else the system keeps of its steps."""

    @abstractmethod
    def write_report(
        self, out: StageWriter, tables: Tables, facts: dict[str, Any]
    ) -> None:
        """Write the system's own tables and its page; may add to the facts."""

    @abstractmethod
    def lines(self, facts: dict[str, Any]) -> list[str]:
        """Say what a run did, or that nothing changed."""

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the seconds of a step to those of the run."""
        started = time.perf_counter()
        yield
        seconds = self.seconds.get(step, 0.0) + time.perf_counter() - started
        self.seconds[step] = round(seconds, 2)


@dataclass(frozen=True)
class PreviousRun:
    """The published set that a run goes on from.

    Attributes
    ----------
    base : ArtifactSet
    assigner : CustomerAssigner
        Its model; its ids and its version are below those that are free.
    labels : DataFrame
        Where its run had everyone, see `core.segments.moves.label_table`.
    """

    base: ArtifactSet
    assigner: Any
    labels: pl.DataFrame

    @classmethod
    def of(
        cls, base: ArtifactSet, artifacts: Artifacts, kind: type[CustomerAssigner]
    ) -> PreviousRun:
        """Read a verified set; `artifacts` knows the versions kept beside it.

        Raises
        ------
        ArtifactError
            If its files are unusable.
        """
        profiles = base.table(PROFILES)
        labels = profiles.select("customer_id", pl.col("segment_ids").struct.unnest())
        return cls(base, _above_kept(kind.of_set(base), artifacts), labels)

    @property
    def version(self) -> int:
        """Number of the model, which is below `assigner.version` after going back."""
        return self.base.manifest.version

    def is_followed_by(self, customers: pl.DataFrame) -> bool:
        """Whether half of the smaller of two populations is in both."""
        n_shared = customers.join(self.labels, on="customer_id", how="semi").height
        return n_shared >= SAME_CUSTOMERS * min(customers.height, self.labels.height)


def _above_kept(assigner: CustomerAssigner, artifacts: Artifacts) -> CustomerAssigner:
    """Raise version and next ids above those of all versions that are kept.

    After going back, later ones are there, and what they gave out stays given.
    """
    for name, manifest in artifacts.versions().items():
        if manifest.lineage == assigner.lineage:
            meta = read_meta(ArtifactSet(artifacts.versions_folder / name, manifest))
            next_ids = {axis["axis"]: axis["next_id"] for axis in meta["model"]["axes"]}
            assigner = assigner.above(manifest.version, next_ids)
    return assigner


class _Run(Generic[D, A]):
    """One run on its way.

    Parameters
    ----------
    by : Segmentation
    out : StageWriter
        Takes the files.
    artifacts : Artifacts
        Of the folder, for the versions that it keeps.
    marks : RunFingerprint
        What the run is made from.
    refit : bool
        Whether the axes are learnt although there is a model.
    """

    def __init__(
        self,
        by: Segmentation[D, A],
        out: StageWriter,
        artifacts: Artifacts,
        marks: RunFingerprint,
        *,
        refit: bool,
    ) -> None:
        self.by, self.out, self.artifacts = by, out, artifacts
        self.marks, self.refit = marks, refit
        self.notes: list[str] = []

    def execute(self, data: D) -> dict[str, Any]:
        """Do everything, write everything, and return the facts of it."""
        before = (
            None
            if self.out.base is None
            else PreviousRun.of(self.out.base, self.artifacts, self.by.assigner)
        )
        if before is not None and not before.is_followed_by(data.customers):
            before = self._part_from(before)
        is_learnt = self.refit or before is None
        view = None if before is None else self._as_before(before, data)
        if is_learnt:
            assigner, features = self._learn(data, before, view)
        else:
            assert before is not None  # else it would be learnt
            assert view is not None  # else it would have ended in an error
            assigner, features = before.assigner, view
        assigner = self.by.applied(assigner, data)
        with self.by.timed("placing"):
            placed = assigner.model.assign(features)
        drift, alerts, moves = self._compare(before, view, assigner, features, placed)
        facts = self._facts(data, assigner, before, is_learnt=is_learnt)
        facts |= {
            "drift": alerts,
            "n_moved": move_counts(moves),
            "notes": self.notes,
        }
        _count_customers(facts, before, features)
        with self.by.timed("writing"):
            self._write_model(assigner, features, placed, is_learnt=is_learnt)
            self.by.write_data(self.out, data, features, placed, assigner)
            if drift.height:
                drift.write_csv(self.out.path(self.by.files.drift))
            if before is not None:
                carry_ledger(before.base, self.out.folder)
                moves.write_parquet(self.out.path(block_name(facts["run"])))
            facts["events"] = _events(assigner) if is_learnt else {}
            profiles = assigner.profiles(features, placed)
            _write_tables(self.by, self.out, assigner, profiles, drift, facts)
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

    def _as_before(self, before: PreviousRun, data: D) -> pl.DataFrame | None:
        """Return the features as the model before knows them.

        Where they cannot be had, a new model can be learnt all the same, but nobody can
        tell who moved.
        """
        try:
            with self.by.timed("features"):
                return self.by.features(before.assigner, data)
        except FeatureMismatchError:
            if not self.refit:
                raise
            self.notes.append(
                "The orders lack columns that the model before needs, so it cannot be "
                "told who moved, nor whether the customers have changed."
            )
            return None

    def _learn(
        self, data: D, before: PreviousRun | None, view: pl.DataFrame | None
    ) -> tuple[A, pl.DataFrame]:
        """Return a new model, and the features that it was learnt from."""
        earlier: A | None = None if before is None else before.assigner
        made, features = self.by.learn(data, earlier, view)
        if earlier is None:
            digest = hashlib.sha256(made.to_bytes()).hexdigest()
            return replace(made, lineage=digest[:12]), features
        version = earlier.version + 1
        return replace(made, lineage=earlier.lineage, version=version), features

    def _compare(
        self,
        before: PreviousRun | None,
        view: pl.DataFrame | None,
        assigner: A,
        features: pl.DataFrame,
        placed: Placed,
    ) -> tuple[pl.DataFrame, list[str], pl.DataFrame]:
        """Return drift, its alerts, and who moved since the run before."""
        if before is None or view is None:
            none = pl.DataFrame(schema=AXES_DRIFT_ROWS)
            return none, [], MOVES_SCHEMA.to_frame()
        with self.by.timed("comparing"):
            model, seed = before.assigner.model, self.by.config.seed
            is_same = assigner.model is model
            own = placed if is_same else model.assign(view)
            labels = {axis: found.labels for axis, found in own.items()}
            reference = AxesDrift.load(before.base.path(self.by.files.drift_reference))
            drift, alerts = reference.measure(view, labels, model.names, seed)
            then, now = before.labels, label_table(view["customer_id"], labels)
            moves = moves_between(then, now, "behaviour")
            names = {axis: dict(known) for axis, known in model.names.items()}
            if not is_same:
                after = label_table(
                    features["customer_id"],
                    {axis: found.labels for axis, found in placed.items()},
                )
                moves = pl.concat([moves, moves_between(now, after, "model")])
                for axis, known in assigner.model.names.items():
                    names[axis] = names.get(axis, {}) | known
            block = ledger_block(
                moves,
                names,
                run=next_run(before.base),
                reference_date=assigner.reference_date.isoformat(),
                version=assigner.version,
            )
        return drift, alerts, block

    def _write_model(
        self, assigner: A, features: pl.DataFrame, placed: Placed, *, is_learnt: bool
    ) -> None:
        """Write a new model; one that only placed stays the same file."""
        files, out = self.by.files, self.out
        if is_learnt:
            labels = {axis: found.labels for axis, found in placed.items()}
            numbers = assigner.model.features
            reference = AxesDrift.of(features, numbers, labels, self.by.config.seed)
            reference.save(out.path(files.drift_reference))
            assigner.save(out.folder)
            return
        assert out.base is not None  # whose model it is
        for name in (files.state, files.drift_reference):
            link(out.base.path(name), out.path(name))
        write_meta(out.path(files.meta), assigner.get_state()[1])

    def _facts(
        self, data: D, assigner: A, before: PreviousRun | None, *, is_learnt: bool
    ) -> dict[str, Any]:
        """Return what the manifest and the page tell of the run."""
        learnt_from = self.marks.as_dict()
        if not is_learnt:
            assert before is not None  # whose model it is
            learnt_from = self.by.files.facts(before.base)["learnt_from"]
        names: dict[str, dict[str, str]] = {}
        if before is not None:
            for axis, known in before.assigner.model.names.items():
                names[axis] = {str(i): name for i, name in known.items()}
        return {
            "run": next_run(self.out.base),
            "lineage": assigner.lineage,
            "version": assigner.version,
            "version_before": None if before is None else before.version,
            "names_before": names,
            "is_learnt": is_learnt,
            "rows": self.marks.rows,
            "learnt_from": learnt_from,
            "store": self.by.store,
            "reference_date": data.reference_date.isoformat(),
            **self.by.facts(data, assigner),
            "seconds": self.by.seconds,
        }


def _count_customers(
    facts: dict[str, Any], before: PreviousRun | None, features: pl.DataFrame
) -> None:
    """Add how many customers there are, and how many came and went."""
    facts["n_customers"] = features.height
    facts["n_entered"] = facts["n_left"] = None
    if before is not None:
        known, now = before.labels, features.select("customer_id")
        n_both = now.join(known, on="customer_id", how="semi").height
        facts["n_entered"] = now.height - n_both
        facts["n_left"] = known.height - n_both


def _events(assigner: CustomerAssigner) -> dict[str, list[dict[str, Any]]]:
    """Return what became of segments, as plain values."""
    return {
        axis: [event.model_dump(mode="json") for event in events]
        for axis, events in assigner.model.events.items()
        if events
    }


def _write_tables(
    by: Segmentation[D, A],
    out: StageWriter,
    assigner: CustomerAssigner,
    profiles: pl.DataFrame,
    drift: pl.DataFrame,
    facts: dict[str, Any],
) -> None:
    """Write the profiles, and all that follows from them and from the model.

    Adds ``segments``, a row per segment, to `facts`.
    """
    profiles.write_parquet(out.path(PROFILES), compression="zstd")
    out.write_csv(LONG_TABLE, long_table(profiles), float_precision=4)
    labels = labels_of(profiles)
    sizes = sizes_table(assigner.model, labels)
    out.write_csv(SIZES, sizes, float_precision=4)
    facts["segments"] = sizes.to_dicts()
    by.write_report(out, Tables(assigner, profiles, sizes, labels, drift), facts)


@dataclass(frozen=True)
class RunResult:
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


def run(
    by: Segmentation[D, A], *, refit: bool = True, into_store: StoreLoader | None = None
) -> RunResult:
    """Segment a store's customers, and publish their profiles.

    Parameters
    ----------
    by : Segmentation
    refit : bool
        Whether the axes are learnt anew from these rows; if not, the published model
        places everyone, if there is one. The same rows under the same options change
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
        If options contradict each other.
    """
    files, folder = by.files, by.folder
    with one_at_a_time(folder, files.system), temporary_folder() as work:
        data = by.read(work)
        artifacts = Artifacts(folder, files.system)
        marks = RunFingerprint.of(data.fingerprint, by.options())
        base = artifacts.published()
        if base is not None and marks.are_known(base, refit=refit):
            facts = {**files.facts(base), "is_changed": False}
        else:
            with artifacts.stage(files.stage, by.config) as out:
                made = _Run(by, out, artifacts, marks, refit=refit).execute(data)
                facts = {**made, "is_changed": True}
        lines = by.lines(facts)
        if into_store is None:
            return RunResult(folder, facts, lines)
        stored = into_store(by.config, _published(by, artifacts))
        facts["stored"] = stored.facts
        return RunResult(folder, facts, [*lines, stored.line], stored.exit_code)


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
        base = _published(by, artifacts)
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
        later = by.assigner.of_set(_published(by, artifacts))
        left, now = artifacts.roll_back(name)
        base = _published(by, artifacts)
        assigner = by.assigner.of_set(base)
        if now.lineage == left.lineage:
            model = assigner.model.restored_after(later.model)
            if model.names != assigner.model.names:
                named = replace(assigner, model=model)
                _publish_names(by, artifacts, base, assigner, named)
        date = now.facts(files.stage)["reference_date"][:10]
        said = [
            f"Version {now.version} serves again, with the profiles of {date}; version "
            f"{left.version} is kept.",
            f"To place today's customers by it, run `{PROGRAM} {files.stage} --retrain "
            "never`.",
        ]
        return _loaded(by, artifacts, said, into_store)


def _published(by: Segmentation[D, A], artifacts: Artifacts) -> ArtifactSet:
    published = artifacts.published()
    if published is None:
        raise nothing_published(by.files, artifacts.root)
    return published


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
        _write_tables(by, out, new, renamed, drift, facts)
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
    stored = into_store(by.config, _published(by, artifacts))
    return [*lines, stored.line], stored.exit_code
