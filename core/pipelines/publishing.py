"""What a model publishes: predictions, insights, ``segments.json`` and the report.

Labelling after training, scoring new data and a verdict that changes go one way, so
that a folder never holds predictions of one verdict beside segments of another.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from core.artifacts import StageWriter
from core.errors import ArtifactError
from core.evaluation.quality import LabelSummary, label_summary
from core.evaluation.verdict import Verdict
from core.inference import (
    SEGMENTS,
    Model,
    insights_of,
    score_training,
    segment_insights,
    write_predictions,
)
from core.pipelines.common import SPACES
from core.reporting.summary import closing_table
from core.reporting.wording import Verdict as Headline
from core.segments.published import PublishedSegments

Scored = Iterator[tuple[pl.DataFrame, pl.DataFrame]]


def publish_scored(
    out: StageWriter,
    model: Model,
    scored: Scored,
    exclusions: pl.DataFrame,
    work: Path,
) -> tuple[Path, pl.DataFrame]:
    """Write the predictions and the insights of shops, and count them in the facts.

    Parameters
    ----------
    out : StageWriter
        Of ``inference``.
    model : Model
        Its published segments are written.
    scored, exclusions
        As for `core.inference.write_predictions`.
    work : Path
        Folder for an interim file.

    Returns
    -------
    table : Path
        That file: features beside labels, if any shop is eligible.
    insights : DataFrame
        What ``cluster_insights.csv`` holds.
    """
    table = work / "scored.parquet"
    predictions = out.path("cluster_predictions.csv")
    out.facts |= write_predictions(scored, exclusions, predictions, table)
    insights = insights_of(table, model, SPACES)
    insights.write_csv(out.path("cluster_insights.csv"))
    segment_insights(table, model).write_csv(out.path("segment_insights.csv"))
    return table, insights


def publish_training(out: StageWriter, model: Model) -> Headline:
    """Write everything that tells of the training data under the model's verdict.

    Returns
    -------
    core.reporting.wording.Verdict
        What the report opens with.
    """
    from core.reporting.report import content_verdict, write_report
    from core.reporting.run import report_content

    assert out.base is not None  # `model` was read from it
    with tempfile.TemporaryDirectory() as work:
        scored, exclusions = score_training(out.base, model)
        table, insights = publish_scored(out, model, scored, exclusions, Path(work))
        published = model.segments.published
        published.write(out.path(SEGMENTS))
        out.facts |= {"is_training_data": True, "verdict": published.verdict}
        content = report_content(out.base, table, SPACES, insights)
        write_report(content, out.path("report.html"))
    return content_verdict(content)


def publish_segments(out: StageWriter, verdict: Verdict) -> dict[str, Any]:
    """Publish a complete model's segments under another verdict.

    Predictions, insights, ``segments.json`` and the report are written anew, of the
    training data; the model itself stays as it is. Whatever else the stage writes takes
    effect in the same moment: ::

        with Artifacts(folder).stage("inference", config, is_serving=True) as out:
            publish_segments(out, verdict)

    Parameters
    ----------
    out : StageWriter
        Of ``inference``, opened with ``is_serving=True``.
    verdict : Verdict
        Decides which kind of segments is published.

    Returns
    -------
    dict
        The facts of the ``inference`` stage, those of before included.

    Raises
    ------
    ArtifactError
        If there is no complete run to build on.
    ModelError
        If the verdict is `natural` for a model of fewer than two latent clusters.
    """
    if out.base is None or not out.base.manifest.is_complete:
        raise ArtifactError(
            f"`{out.config.artifacts}` holds no complete run. Run the four pipelines "
            "first."
        )
    out.facts |= out.base.manifest.facts("inference") | out.facts
    model = Model.from_set(out.base)
    model = replace(model, segments=model.segments.under(verdict.as_dict()))
    publish_training(out, model)
    return out.facts


def published_summary(published: PublishedSegments) -> LabelSummary:
    """Count what is published, by the shops of the training data."""
    segments = published.segments
    return label_summary(
        np.repeat([s.id for s in segments], [s.size for s in segments])
    )


def published_lines(published: PublishedSegments) -> list[str]:
    """Say which segments are published, of what kind, and how far to trust them."""
    summary = published_summary(published)
    if published.kind == "partition":
        what = "by a partition, which leaves no shop out"
    else:
        what = (
            "the latent clusters, which leave "
            f"{summary.noise_ratio:.1%} of the shops unassigned"
        )
    count = "1 segment" if summary.n_clusters == 1 else f"{summary.n_clusters} segments"
    return [
        f"Published: {count}, {what}; effectively "
        f"{summary.effective_clusters:.1f}, the largest with "
        f"{summary.largest_share:.0%} of the assigned shops.",
        verdict_line(published),
    ]


def verdict_line(published: PublishedSegments) -> str:
    """Say how far the published segments can be trusted."""
    verdict = Verdict.from_dict(published.verdict)
    standing = "certified" if verdict.is_certified else "provisional"
    return f"Segments are {verdict.kind} ({standing}): {verdict.meaning}."


def published_row(published: PublishedSegments) -> dict[str, str]:
    """Return the closing table's row for what is published."""
    row = closing_table({"published": asdict(published_summary(published))})[0]
    # A partition has no noise by its making, which is no finding.
    return row if published.kind == "density" else row | {"noise": "-"}
