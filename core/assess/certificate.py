"""The certificate of the published model: nulls, refits, and the verdict they give.

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

from core.artifacts import Artifacts, StageWriter
from core.assess.standing import (
    Kind,
    Standing,
    refuse_another,
    standing_model,
    under_ids,
)
from core.errors import ArtifactError, ModelError
from core.evaluation.certificate import FEWEST_NULLS, Certificate, certify_table
from core.evaluation.fits import FitStore
from core.evaluation.stability import (
    How,
    Refit,
    agreement,
    cluster_stability,
    refit,
)
from core.evaluation.verdict import Verdict, derive_verdict
from core.evaluation.workers import Workers
from core.logging import get_logger, progress
from core.manifest import library_versions, now
from core.pipelines import StageResult
from core.pipelines.publishing import (
    model_under,
    publish_training,
    published_opening,
)
from core.reporting.certificate import certificate_lines, plot_nulls
from core.reporting.summary import stability_table
from core.segments.published import PublishedSegments

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
        with Artifacts(artifacts).stage(
            "inference", standing.config, is_serving=True
        ) as out:
            refuse_another(out, standing)
            plot_nulls(certificate.as_dict(), out.path(PICTURE))
            published = _write(out, found)
        store.discard()
    folder = Path(artifacts)
    lines = certificate_lines(found.as_dict()) + published_opening(published).lines
    lines.append(f"Certificate: {folder / CERTIFICATE}")
    rows = stability_table(found.table(published).filter(kind=published.kind))
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
    recipe = standing.recipe("density")
    ways: tuple[tuple[How, int, int], ...] = (
        ("subsample", effort.n_refits, 0),
        ("seed", effort.n_seed_refits, effort.n_refits),
    )
    refits: dict[str, list[Refit]] = {}
    with Workers(effort.n_workers) as workers:
        _announce(standing, n_refits + effort.n_null, workers.n_workers, effort)
        with progress("Learning the model anew") as report:
            for how, n, before in ways:
                step = partial(_shifted, report, before, n_refits)
                refits[how] = refit(
                    standing.X,
                    recipe,
                    config.seed,
                    n,
                    how,
                    step,
                    workers=workers,
                    store=store,
                )
        refits["partition"] = refit(
            standing.X,
            standing.recipe("partition"),
            config.seed,
            N_PARTITION_REFITS,
            workers=workers,
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
                max_shops=config.evaluation.certificate_max_shops,
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
            raise ModelError(f"{n} {name} were asked for; expected at least 2.")
    if effort.n_null < FEWEST_NULLS:
        raise ModelError(
            f"{effort.n_null} nulls were asked for; with fewer than {FEWEST_NULLS} no "
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
        "s). Interrupted, it goes on where it was when it is run again.",
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
    def stability(self) -> dict[Kind, pl.DataFrame]:
        """Per kind of segments, how well each one comes back."""
        labels = self.standing.labels
        density = cluster_stability(labels["density"], self.refits["subsample"])
        seeds = cluster_stability(labels["density"], self.refits["seed"])
        partition = cluster_stability(labels["partition"], self.refits["partition"])
        return {
            "density": density.with_columns(seed_jaccard=seeds["jaccard"]),
            "partition": partition.with_columns(
                seed_jaccard=pl.lit(None, dtype=pl.Float64)
            ),
        }

    @property
    def agreement(self) -> dict[str, dict[str, float | None]]:
        """Per way to refit, how far refits agree with the model."""
        found = {}
        for how, refits in self.refits.items():
            kind: Kind = "partition" if how == "partition" else "density"
            table = agreement(self.standing.labels[kind], refits)
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
            "verdict": self.verdict.as_dict(),
            "structure": self.certificate.as_dict(),
            "agreement": self.agreement,
        }

    def table(self, published: PublishedSegments) -> pl.DataFrame:
        """Return the rows of ``stability.csv``: every cluster of both kinds."""
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
    publish_training(out, model)
    return published
