"""A run: read, learn or assign, compare with the run before, publish, load."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic

import polars as pl

from core.artifacts.folder import Artifacts, StageWriter, link
from core.artifacts.reading import ArtifactSet
from core.artifacts.runs import (
    LONG_TABLE,
    PROFILES,
    SIZES,
    RunFingerprint,
    block_name,
    carry_ledger,
    next_run,
    one_at_a_time,
    read_meta,
    write_meta,
)
from core.display import Displayed, Shown
from core.errors import FeatureMismatchError
from core.evaluation.axes_drift import AXES_DRIFT_ROWS, AxesDrift
from core.lifecycle.board import past_of, write_board
from core.lifecycle.segmentation import A, D, Placed, Segmentation, StoreLoader, Tables
from core.scratch import temporary_folder
from core.segments.memberships import (
    CustomerAssigner,
    labels_of,
    long_table,
    nothing_published,
    sizes_table,
)
from core.segments.moves import (
    MOVES_SCHEMA,
    label_table,
    ledger_block,
    move_counts,
    moves_between,
)

# Of the smaller population, the share that another one must hold to be the same one.
SAME_CUSTOMERS = 0.5


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
        self.notes = [*by.notes]

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
            # None: they cannot be told.
            "n_moved": None if before and view is None else move_counts(moves),
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
            write_tables(self.by, self.out, assigner, profiles, drift, facts)
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
            "segments start from scratch. The version before is kept."
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
                "The rows lack columns that the model before needs, so it cannot be "
                "told who moved, nor whether the customers have changed. For rows of "
                "another kind, take another `--artifacts` folder."
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
        past = None
        if before is not None:
            past = past_of(self.by.files.facts(before.base))
            for axis, known in before.assigner.model.names.items():
                names[axis] = {str(i): name for i, name in known.items()}
        return {
            "run": next_run(self.out.base),
            "lineage": assigner.lineage,
            "version": assigner.version,
            "version_before": None if before is None else before.version,
            "names_before": names,
            "past": past,
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


def write_tables(
    by: Segmentation[D, A],
    out: StageWriter,
    assigner: CustomerAssigner,
    profiles: pl.DataFrame,
    drift: pl.DataFrame,
    facts: dict[str, Any],
) -> None:
    """Write the profiles, and all that follows from them and from the model.

    Adds ``segments``, a row per segment, and ``past`` (see `core.lifecycle.board`) to
    `facts`.
    """
    profiles.write_parquet(out.path(PROFILES), compression="zstd")
    out.write_csv(LONG_TABLE, long_table(profiles), float_precision=4)
    labels = labels_of(profiles)
    sizes = sizes_table(assigner.model, labels)
    out.write_csv(SIZES, sizes, float_precision=4)
    facts["segments"] = sizes.to_dicts()
    facts["past"] = past_of(facts)
    tables = Tables(assigner, profiles, sizes, labels, drift)
    by.write_report(out, tables, facts)
    write_board(out, by.board(out, tables, facts), facts, drift)


@dataclass(frozen=True, repr=False)
class RunResult(Displayed):
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

    def _shown(self) -> Shown:
        facts = {"folder": str(self.folder), "exit_code": self.exit_code}
        return Shown(facts, lines=self.lines)


def run_segmentation(
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
        stored = into_store(by.config, published_by(by, artifacts))
        facts["stored"] = stored.facts
        return RunResult(folder, facts, [*lines, stored.line], stored.exit_code)


def published_by(by: Segmentation[D, A], artifacts: Artifacts) -> ArtifactSet:
    """Return the published set of a system.

    Raises
    ------
    ArtifactError
        If there is none.
    """
    published = artifacts.published()
    if published is None:
        raise nothing_published(by.files, artifacts.root)
    return published
