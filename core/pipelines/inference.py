"""Stage 4: a label for every shop, from the saved artifacts alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from core.artifacts import Artifacts
from core.config import Config
from core.errors import ArtifactError
from core.features.preparation import prepare
from core.inference import Model, insights_of, score_training, write_predictions
from core.pipelines.common import SPACES, StageResult, is_same_data, stage_result
from core.reporting.summary import closing_table, inference_lines


def run_inference(config: Config, frame: Any = None) -> StageResult:
    """Stage 4: label every shop, from the saved artifacts alone.

    Writes ``cluster_predictions.csv`` and ``cluster_insights.csv``; for the training
    data also ``report.html``, for other data ``scored_rejected_rows.parquet``.

    Parameters
    ----------
    config : Config
        Other data than the training data is scored if its ``data`` section says so.
    frame : pandas, Polars, DuckDB or Arrow table, optional
        Rows to score instead.
    """
    from core.reporting.report import content_verdict, write_report
    from core.reporting.run import report_content

    artifacts = Artifacts(config.artifacts)
    base = artifacts.base("inference")
    is_training_data = frame is None and base is not None and is_same_data(config, base)
    source = base if is_training_data else artifacts.serving()
    if source is None:
        raise ArtifactError(
            f"`{config.artifacts}` holds no model. Run the training pipelines first."
        )
    saved = source.manifest.config
    with (
        tempfile.TemporaryDirectory() as work,
        artifacts.stage("inference", saved, is_serving=not is_training_data) as out,
    ):
        assert out.base is not None  # `source`, opened again under the lock
        model = Model.from_set(out.base)
        if is_training_data:
            scored, exclusions = score_training(out.base, model)
            rejected = None
        else:
            prepared = prepare(config, Path(work), frame)
            scored, exclusions = model.score(prepared), prepared.exclusions
            rejected = prepared.sales.rejected
        table = Path(work) / "scored.parquet"
        counts = write_predictions(
            scored, exclusions, out.path("cluster_predictions.csv"), table
        )
        insights = insights_of(table, model, SPACES)
        insights.write_csv(out.path("cluster_insights.csv"))
        out.facts |= counts | {"is_training_data": is_training_data}
        if rejected is not None:
            rejected.write_parquet(out.path("scored_rejected_rows.parquet"))
        if is_training_data:
            content = report_content(out.base, table, SPACES, insights)
            write_report(content, out.path("report.html"))
    lines = inference_lines(out.facts, Path(config.artifacts))
    closing = []
    if is_training_data:
        facts = out.base.manifest.facts("clustering")
        closing = closing_table(facts["spaces"])
        lines += [
            f"Verdict: {content_verdict(content).headline}.",
            f"Report: {Path(config.artifacts) / 'report.html'}",
        ]
    return stage_result("inference", config, out.facts, lines, closing)
