"""Judging a model that stands: what a training run itself takes no time for."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from core.artifacts import Artifacts
from core.config import Config
from core.errors import ArtifactError
from core.evaluation.stability import (
    How,
    agreement,
    cluster_stability,
    refit,
    whole_pipeline,
)
from core.inference import Model
from core.logging import progress
from core.pipelines import StageResult, training_table
from core.reporting.summary import stability_lines, stability_table


def measure_stability(
    artifacts: str | Path, n_refits: int = 5, how: How = "subsample"
) -> StageResult:
    """Learn the published model anew several times, and see which clusters come back.

    Writes ``stability.csv`` beside the model: one row per latent cluster.

    Parameters
    ----------
    artifacts : path
        Folder of a complete run.
    n_refits : int
        At least 2; each takes as long as the training did.
    how : {'subsample', 'bootstrap', 'seed'}
        See `core.evaluation.stability.refit`.

    Raises
    ------
    ArtifactError
        If there is no complete run.
    ModelError
        For fewer than 2 refits.
    """
    published = Artifacts(artifacts).serving()
    if published is None or not published.manifest.is_complete:
        raise ArtifactError(
            f"`{artifacts}` holds no complete run. Run the four pipelines first."
        )
    config: Config = published.manifest.config
    with Artifacts(artifacts).stage("inference", config, is_serving=True) as out:
        assert out.base is not None  # `published`, opened again under the lock
        table, X = training_table(out)
        labels = Model.from_set(out.base).assign(table)["latent_cluster"]
        reference = labels.cast(pl.Int64).to_numpy()
        with progress(f"Learning everything anew, {n_refits} times ({how})") as report:
            refits = refit(
                X, whole_pipeline(config), config.seed, n_refits, how, report
            )
        clusters = cluster_stability(reference, refits)
        clusters.write_csv(out.path("stability.csv"))
        same = agreement(reference, refits).mean().row(0, named=True)
        out.facts |= out.base.manifest.facts("inference")
        out.facts["stability"] = {"how": how, "n_refits": n_refits, **same}
    folder = Path(artifacts)
    lines = stability_lines(out.facts["stability"])
    lines.append(f"Clusters: {folder / 'stability.csv'}")
    rows = stability_table(clusters)
    return StageResult("inference", folder, out.facts, lines, rows)
