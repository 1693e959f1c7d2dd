"""Which segments come back when everything is learnt anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from core.artifacts import Artifacts
from core.assess.standing import refuse_another, standing_model, under_ids
from core.evaluation.stability import How, agreement, cluster_stability, refit
from core.evaluation.workers import Workers
from core.logging import progress
from core.pipelines import StageResult
from core.pipelines.publishing import refresh_report
from core.reporting.summary import stability_lines, stability_table

TABLE = "stability.csv"


def measure_stability(
    artifacts: str | Path,
    n_refits: int = 5,
    how: How = "subsample",
    n_workers: int | None = 0,
) -> StageResult:
    """Learn the published segments anew several times, and see which come back.

    Writes ``stability.csv`` beside the model: one row per segment. Of density segments
    scaler, encoder and clusterer are learnt anew, of a partition scaler and partition.

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
    """
    standing = standing_model(artifacts)
    kind, config = standing.kind, standing.config
    with (
        progress(f"Learning everything anew, {n_refits} times ({how})") as report,
        Workers(n_workers) as workers,
    ):
        refits = refit(
            standing.X,
            standing.recipe(kind),
            config.seed,
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
    with Artifacts(artifacts).stage("inference", config, is_serving=True) as out:
        refuse_another(out, standing)
        assert out.base is not None  # as `refuse_another` has found
        segments.select(pl.lit(kind).alias("kind"), pl.all()).write_csv(out.path(TABLE))
        out.facts |= out.base.manifest.facts("inference") | {"stability": facts}
        refresh_report(out)
    folder = Path(artifacts)
    lines = [*stability_lines(facts), f"Segments: {folder / TABLE}"]
    rows = stability_table(segments)
    return StageResult("inference", folder, out.facts, lines, rows)
