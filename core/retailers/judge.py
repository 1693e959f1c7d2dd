"""The published model judged: certificate, stability, verdict.

Everything that takes its time is kept in ``.certify/`` in the artifacts folder as soon
as it is done, and deleted when the certificate stands: what was interrupted goes on
where it was. The artifacts themselves are free meanwhile; they are locked only while
the results are written.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from filelock import FileLock, Timeout

from core.artifacts.folder import Artifacts, StageResult, StageWriter
from core.artifacts.manifest import Manifest, library_versions, now
from core.artifacts.reading import ArtifactSet
from core.config import Config
from core.errors import ArtifactError, ModelError
from core.evaluation.certificate import (
    FEWEST_NULLS,
    Certificate,
    certify_table,
    derive_verdict,
)
from core.evaluation.stability import (
    FitStore,
    How,
    Recipe,
    Refit,
    agreement,
    cluster_stability,
    refit,
    whole_pipeline,
)
from core.evaluation.workers import Workers
from core.logging import get_logger, progress
from core.models.scaling import feature_matrix
from core.retailers.features import SHOP
from core.retailers.files import RETAILERS
from core.retailers.model import Model, features_of
from core.retailers.publish import (
    judging,
    model_under,
    publish_training,
    published_opening,
    refuse_another,
)
from core.retailers.report.evidence import report_lines, stability_table
from core.retailers.report.plots import certificate_lines, plot_nulls
from core.retailers.training import (
    clusters_of,
    fit_sample,
    recipe_of_partition,
    rules_ari,
    rules_learning,
)
from core.segments.published import PublishedSegments, SegmentKind, Verdict


@dataclass(frozen=True)
class Standing:
    """A complete published model.

    Attributes
    ----------
    manifest : Manifest
        Of its set.
    X : ndarray of float64, shape (n_shops, n_features)
        The features it was trained on, unscaled; NaN where unknown.
    rules : tuple or None
        What refits of the rules learn from, row by row the same shops, and their
        recipe; None where there are no rules.
    labels : dict of kind to ndarray of int64, shape (n_shops,)
        Its latent clusters (-1 is noise), its partition, and its rules, if any.
    published : PublishedSegments
        One of them, with the ids of its clusters.
    """

    manifest: Manifest
    X: np.ndarray
    rules: tuple[np.ndarray, Recipe] | None
    labels: dict[SegmentKind, np.ndarray]
    published: PublishedSegments

    @property
    def kind(self) -> SegmentKind:
        """Which of the labels are published."""
        return self.published.kind

    @property
    def divided(self) -> list[SegmentKind]:
        """The kinds that have a segment for everyone."""
        return [kind for kind in self.labels if kind != "density"]

    @property
    def config(self) -> Config:
        """The configuration it was trained with."""
        return self.manifest.config

    @property
    def partition(self) -> dict[str, Any]:
        """How the partition was chosen, and its stability in the run."""
        facts: dict[str, Any] = self.manifest.facts("clustering")["partition"]
        return facts

    def learning(self, kind: SegmentKind) -> tuple[np.ndarray, Recipe]:
        """Return what the segments of a kind are learnt from, and by what."""
        if kind == "rules":
            assert self.rules is not None  # there are labels of this kind
            return self.rules
        if kind == "density":
            return self.X, whole_pipeline(self.config)
        return self.X, recipe_of_partition(self.manifest)


def standing_model(artifacts: str | Path) -> Standing:
    """Read the published model of an artifacts folder, and label its training data.

    Raises
    ------
    ArtifactError
        If there is no complete run.
    """

    def read(found: ArtifactSet) -> tuple[ArtifactSet, Model, pl.DataFrame, Any]:
        model = Model.from_set(found)
        table = fit_sample(features_of(found).lazy(), model.config)
        return found, model, table, rules_learning(model, found, table)

    published, model, table, rules = Artifacts(artifacts, RETAILERS).read_complete(read)
    X = feature_matrix(table, model.features)
    labels = {kind: clusters_of(model, kind, table) for kind in model.segments.tables}
    return Standing(published.manifest, X, rules, labels, model.segments.published)


def under_ids(table: pl.DataFrame, ids: Mapping[int, int]) -> pl.DataFrame:
    """Return a table of clusters with ``segment``, their ids, before ``cluster``.

    Parameters
    ----------
    table : DataFrame
        With ``cluster``.
    ids : mapping of int to int
        By cluster. One without an id was never published and has null.

    Returns
    -------
    DataFrame
        By ``segment``, then by ``cluster``.
    """
    segment = pl.col("cluster").replace_strict(
        dict(ids), default=None, return_dtype=pl.Int64
    )
    return table.select(segment.alias("segment"), pl.all()).sort("segment", "cluster")


CERTIFICATE = "certificate.json"
STABILITY = "stability.csv"
PICTURE = "null-distribution.png"
WORK = ".certify"
# Refits of a partition take a second or so: as many as make its figures steady.
N_PARTITION_REFITS = 10


@dataclass(frozen=True)
class Effort:
    """How much is to be done.

    Attributes
    ----------
    n_null : int
        Nulls, at least 19.
    n_refits : int
        Refits on 80% of the shops, at least 2.
    n_seed_refits : int
        Refits with another seed, at least 2.
    budget_minutes : float or None
        Time for everything: after the refits, as many nulls as fit, at least 19.
    n_workers : int or None
        Processes; 0: this one alone, None: one per core. The result is the same.
    """

    n_null: int = FEWEST_NULLS
    n_refits: int = 5
    n_seed_refits: int = 3
    budget_minutes: float | None = None
    n_workers: int | None = None


def certify(artifacts: str | Path, effort: Effort | None = None) -> StageResult:
    """Certify the published model, and publish its segments under the verdict.

    Writes ``certificate.json``, ``stability.csv`` and ``null-distribution.png`` beside
    the model, and anew what tells of the verdict: predictions, insights,
    ``segments.json`` and the report.

    Parameters
    ----------
    artifacts : path
        Folder of a complete run.
    effort : Effort, optional

    Raises
    ------
    ArtifactError
        If there is no complete run, another one is published meanwhile, or a
        certificate is already being made.
    ModelError
        For too few nulls or refits.
    """
    effort = effort or Effort()
    standing = standing_model(artifacts)
    started = time.perf_counter()
    lock = FileLock(Path(artifacts) / f"{WORK}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ArtifactError(
            f"a certificate is already being made in `{artifacts}`. Wait for it."
        ) from None
    with lock:
        store = FitStore(Path(artifacts) / WORK, _key(standing))
        certificate, refits = _fit_all(standing, effort, store, started)
        found = _Findings(standing, certificate, refits, time.perf_counter() - started)
        with Artifacts(artifacts, RETAILERS).stage(
            "inference", standing.config, is_serving=True
        ) as out:
            refuse_another(out, standing.manifest)
            plot_nulls(certificate.as_dict(), out.path(PICTURE))
            published = _write(out, found)
        store.discard()
    folder = Path(artifacts)
    told = published_opening(published, standing.manifest)
    lines = certificate_lines(found.as_dict()) + told.lines
    lines.append(f"Certificate: {folder / CERTIFICATE}")
    own = found.table(published).filter(kind=published.kind)
    rows = stability_table(own, published.titles)
    return StageResult("inference", folder, out.facts, lines, rows)


def _key(standing: Standing) -> str:
    """Return what kept fits depend on: they are no others' to use."""
    parts = {
        "model": standing.manifest.model_id,
        "seed": standing.config.seed,
        "max_shops": standing.config.evaluation.certificate_max_shops,
        "versions": library_versions(),
    }
    return json.dumps(parts, sort_keys=True)


def _fit_all(
    standing: Standing, effort: Effort, store: FitStore, started: float
) -> tuple[Certificate, dict[str, list[Refit]]]:
    """Make refits and nulls, side by side, with progress."""
    config = standing.config
    _refuse_little(effort)
    n_refits = effort.n_refits + effort.n_seed_refits
    X, recipe = standing.learning("density")
    ways: tuple[tuple[How, int, int], ...] = (
        ("subsample", effort.n_refits, 0),
        ("seed", effort.n_seed_refits, effort.n_refits),
    )
    refits: dict[str, list[Refit]] = {}
    with Workers(effort.n_workers) as workers:
        _announce(standing, n_refits + effort.n_null, workers.n_workers, effort)
        with progress("Refitting the model") as report:
            for how, n, before in ways:
                step = partial(_shifted, report, before, n_refits)
                refits[how] = refit(
                    X,
                    recipe,
                    config.seed,
                    n,
                    how,
                    step,
                    workers=workers,
                    store=store,
                )
        for kind in standing.divided:
            refits[kind] = refit(
                *standing.learning(kind), config.seed, N_PARTITION_REFITS
            )
        budget = None
        if effort.budget_minutes is not None:
            budget = 60 * effort.budget_minutes - (time.perf_counter() - started)
        with progress("Learning it on data without structure") as report:
            certificate = certify_table(
                standing.X,
                recipe,
                seed=config.seed,
                n_null=effort.n_null,
                budget_seconds=budget,
                max_entities=config.evaluation.certificate_max_shops,
                labels=standing.labels["density"],
                workers=workers,
                store=store,
                on_step=report,
            )
    return certificate, refits


def _shifted(
    report: Callable[..., None], before: int, n_steps: int, done: int, _: int
) -> None:
    """Report steps of a part as steps of the whole."""
    report(before + done, n_steps)


def _refuse_little(effort: Effort) -> None:
    """Refuse too few refits before any is made."""
    for name, n in (("refits", effort.n_refits), ("seed refits", effort.n_seed_refits)):
        if n < 2:
            raise ModelError(f"{n} {name} were requested; expected at least 2.")
    if effort.n_null < FEWEST_NULLS:
        raise ModelError(
            f"{effort.n_null} nulls were requested; with fewer than {FEWEST_NULLS} no "
            "finding can be significant."
        )


def _announce(standing: Standing, n_fits: int, n_workers: int, effort: Effort) -> None:
    """Say how long it will take, judged by the training."""
    training = standing.manifest.stages["autoencoder"].seconds
    minutes = training * -(-n_fits // max(n_workers, 1)) / 60
    if effort.budget_minutes is not None:
        minutes = max(minutes, effort.budget_minutes)
    get_logger().info(
        "Up to %d fits, %d at a time: about %.0f min at most (the training took %.0f "
        "s). If interrupted, run it again: it continues where it stopped.",
        n_fits,
        max(n_workers, 1),
        max(minutes, 1.0),
        training,
    )


@dataclass(frozen=True)
class _Findings:
    """What nulls and refits have shown, and what follows."""

    standing: Standing
    certificate: Certificate
    refits: Mapping[str, list[Refit]]
    seconds: float

    @property
    def stability(self) -> dict[SegmentKind, pl.DataFrame]:
        """Per kind of segments, how well each one comes back."""
        labels = self.standing.labels
        density = cluster_stability(labels["density"], self.refits["subsample"])
        seeds = cluster_stability(labels["density"], self.refits["seed"])
        unknown = pl.lit(None, dtype=pl.Float64).alias("seed_jaccard")
        divided = {
            kind: cluster_stability(labels[kind], self.refits[kind])
            for kind in self.standing.divided
        }
        return {
            "density": density.with_columns(seed_jaccard=seeds["jaccard"]),
            **{kind: table.with_columns(unknown) for kind, table in divided.items()},
        }

    @property
    def agreement(self) -> dict[str, dict[str, float | None]]:
        """Per way to refit, how far refits agree with the model."""
        found = {}
        for how, refits in self.refits.items():
            # "partition" and "rules" are refitted in one way, clusters in two.
            kinds = [kind for kind in self.standing.divided if kind == how]
            labels = self.standing.labels[kinds[0] if kinds else "density"]
            table = agreement(labels, refits)
            found[how] = {"n_refits": len(refits), **table.mean().row(0, named=True)}
        return found

    @property
    def verdict(self) -> Verdict:
        """The certified verdict."""
        density = self.stability["density"]
        weight = density["size"].to_numpy()
        jaccard = density["jaccard"].to_numpy()
        is_any = density.height > 0
        certificate = self.certificate
        return derive_verdict(
            is_structured=certificate.is_structured,
            n_clusters=density.height,
            partition_ari=self.standing.partition["stability"]["ari"],
            rules_ari=rules_ari(self.standing.manifest.facts("clustering")),
            cluster_jaccard=float(np.average(jaccard, weights=weight))
            if is_any
            else None,
            is_certified=True,
            structure_score=certificate.statistic,
            largest_null_score=max(certificate.null_statistics),
            p_value=certificate.p_value,
            n_nulls=certificate.n_null,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "model_id": self.standing.manifest.model_id,
            "made_at": now(),
            "seed": self.standing.config.seed,
            "seconds": round(self.seconds, 1),
            "verdict": self.verdict.model_dump(),
            "structure": SHOP.named_facts(self.certificate.as_dict()),
            "agreement": self.agreement,
        }

    def table(self, published: PublishedSegments) -> pl.DataFrame:
        """Return the rows of ``stability.csv``: every cluster of every kind."""
        checks = pl.DataFrame(
            [
                (check.cluster, check.purity, check.statistic, check.p_value)
                for check in self.certificate.segments
            ],
            schema={
                "cluster": pl.Int64,
                "neighbour_purity": pl.Float64,
                "null_statistic": pl.Float64,
                "null_p": pl.Float64,
            },
            orient="row",
        )
        density = self.stability["density"].join(checks, on="cluster", how="left")
        parts = {**self.stability, "density": density}
        return pl.concat(
            [
                under_ids(table, published.ids_by_kind(kind)).select(
                    pl.lit(kind).alias("kind"), pl.all()
                )
                for kind, table in parts.items()
            ],
            how="diagonal",
        )


def _write(out: StageWriter, found: _Findings) -> PublishedSegments:
    """Write the certificate and publish the segments under its verdict."""
    model = model_under(out, found.verdict)
    published = model.segments.published
    content = found.as_dict()
    ids = published.ids_by_kind("density")
    for row in content["structure"]["segments"]:
        row["segment"] = ids.get(row["cluster"])
    text = json.dumps(content, indent=2)
    out.path(CERTIFICATE).write_text(text, encoding="utf-8")
    found.table(published).write_csv(out.path(STABILITY))
    out.facts["certificate"] = content
    out.facts["stability"] = {
        "kind": "density",
        "how": "subsample",
        **found.agreement["subsample"],
    }
    return publish_training(out, model)[0]


def measure_stability(
    artifacts: str | Path,
    n_refits: int = 5,
    how: How = "subsample",
    n_workers: int | None = 0,
) -> StageResult:
    """Learn the published segments anew several times, and see which come back.

    Writes ``stability.csv`` beside the model: one row per segment. Of density segments
    scaler, encoder and clusterer are learnt anew, of a partition scaler and partition,
    of rules the rules.

    Parameters
    ----------
    artifacts : path
        Folder of a complete run.
    n_refits : int
        At least 2; each takes as long as the training did.
    how : {'subsample', 'bootstrap', 'seed'}
        See `core.evaluation.stability.refit`.
    n_workers : int, optional
        Processes; 0: this one alone, None: one per core. The result is the same.

    Raises
    ------
    ArtifactError
        If there is no complete run.
    ModelError
        For fewer than 2 refits.

    Examples
    --------
    Of `examples/steps.py`:

    ```python
    measured = measure_stability(folder, n_refits=2)
    ```
    """
    standing = standing_model(artifacts)
    kind = standing.kind
    with (
        progress(f"Refitting everything, {n_refits} times ({how})") as report,
        Workers(n_workers) as workers,
    ):
        refits = refit(
            *standing.learning(kind),
            standing.config.seed,
            n_refits,
            how,
            report,
            workers=workers,
        )
    segments = under_ids(
        cluster_stability(standing.labels[kind], refits), standing.published.ids
    )
    same = agreement(standing.labels[kind], refits).mean().row(0, named=True)
    facts: dict[str, Any] = {"kind": kind, "how": how, "n_refits": n_refits, **same}
    with judging(artifacts, standing.manifest) as (out, _):
        table = segments.select(pl.lit(kind).alias("kind"), pl.all())
        table.write_csv(out.path(STABILITY))
        out.facts["stability"] = facts
    folder = Path(artifacts)
    lines = report_lines("stability_refits", **facts)
    lines.append(f"Segments: {folder / STABILITY}")
    rows = stability_table(segments, standing.published.titles)
    return StageResult("inference", folder, out.facts, lines, rows)
