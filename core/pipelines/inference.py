"""Stage 4: a label for every shop, from the saved artifacts alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from core.artifacts import Artifacts, ArtifactSet
from core.config import Config
from core.errors import ArtifactError
from core.features.preparation import prepare
from core.inference import Model
from core.pipelines.common import StageResult, is_same_data, stage_result
from core.pipelines.publishing import (
    publish_scored,
    publish_training,
    published_opening,
    published_row,
)
from core.reporting.summary import closing_table, inference_lines


def run_inference(config: Config, frame: Any = None) -> StageResult:
    """Stage 4: label every shop, from the saved artifacts alone.

    Writes ``cluster_predictions.csv``, ``cluster_insights.csv`` and
    ``segment_insights.csv``; for the training data also ``segments.json`` and
    ``report.html``, for other data ``scored_rejected_rows.parquet``.

    Parameters
    ----------
    config : Config
        Other data than the training data is scored if its ``data`` section says so.
    frame : pandas, Polars, DuckDB or Arrow table, optional
        Rows to score instead.
    """
    artifacts = Artifacts(config.artifacts)
    base = artifacts.base("inference")
    is_training_data = frame is None and base is not None and is_same_data(config, base)
    source = base if is_training_data else artifacts.serving()
    if source is None:
        raise ArtifactError(
            f"`{config.artifacts}` holds no model. Run the training pipelines first."
        )
    saved = source.manifest.config
    folder = Path(config.artifacts)
    closing = []
    # What has judged a complete model stands: the same model labels the same shops.
    is_serving = not is_training_data or source.manifest.is_complete
    with artifacts.stage("inference", saved, is_serving=is_serving) as out:
        assert out.base is not None  # `source`, opened again under the lock
        model = Model.from_set(out.base)
        published = model.segments.published
        if is_training_data:
            out.facts |= _facts_before(out.base)
            publish_training(out, model)
            spaces = out.base.manifest.facts("clustering")["spaces"]
            closing = [*closing_table(spaces), published_row(published)]
            lines = [
                *published_opening(published).lines,
                f"Report: {folder / 'report.html'}",
            ]
        else:
            out.facts |= _facts_before(out.base)
            with tempfile.TemporaryDirectory() as work:
                prepared = prepare(config, Path(work), frame)
                scored = model.score(prepared)
                publish_scored(out, model, scored, prepared.exclusions, Path(work))
                rejected = prepared.sales.rejected
                rejected.write_parquet(out.path("scored_rejected_rows.parquet"))
            out.facts["is_training_data"] = False
            lines = published_opening(published).lines[:1]
    lines = [*inference_lines(out.facts, folder), *lines]
    return stage_result("inference", config, out.facts, lines, closing)


def _facts_before(base: ArtifactSet) -> dict[str, Any]:
    """Return what was found of the model so far, which scoring leaves in place."""
    stage = base.manifest.stages.get("inference")
    return stage.facts if stage is not None else {}
