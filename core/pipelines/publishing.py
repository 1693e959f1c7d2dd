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
    feature_matrix,
    insights_of,
    score_training,
    segment_insights,
    write_predictions,
)
from core.pipelines.common import SPACES
from core.pipelines.lineage import clusters_of, turn
from core.pipelines.pictures import draw_segments
from core.reporting.evidence import Evidence
from core.reporting.model_card import MODEL_CARD, ModelCardContent, model_card
from core.reporting.opening import Opening, opening
from core.reporting.summary import closing_table
from core.segments.published import PublishedSegments, SegmentKind, publishable

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


def publish_training(out: StageWriter, model: Model) -> None:
    """Write everything that tells of the training data under the model's verdict."""
    assert out.base is not None  # `model` was read from it
    with tempfile.TemporaryDirectory() as work:
        scored, exclusions = score_training(out.base, model)
        table, insights = publish_scored(out, model, scored, exclusions, Path(work))
        published = model.segments.published
        published.write(out.path(SEGMENTS))
        out.facts |= {"is_training_data": True, "verdict": published.verdict}
        _write_report(out, model, table, insights)


def refresh_report(out: StageWriter, model: Model | None = None) -> None:
    """Write the report anew from whatever the artifacts hold.

    To be called last by everything that judges the published model, when its facts and
    files are in `out`.

    Parameters
    ----------
    out : StageWriter
        Of ``inference``, opened with ``is_serving=True`` on a complete run.
    model : Model, optional
        The published one, if its segments are about to be written anew.
    """
    assert out.base is not None  # a complete run was published before
    model = model or Model.from_set(out.base)
    with tempfile.TemporaryDirectory() as work:
        table = Path(work) / "scored.parquet"
        scored, exclusions = score_training(out.base, model)
        # Not `out`'s own predictions: those may be of other data by now.
        write_predictions(scored, exclusions, Path(work) / "predictions.csv", table)
        _write_report(out, model, table, insights_of(table, model, SPACES))


def _write_report(
    out: StageWriter, model: Model, table: Path, insights: pl.DataFrame
) -> None:
    """Write the report of the training data: features beside labels in `table`."""
    from core.reporting.report import write_report
    from core.reporting.run import report_content

    published = model.segments.published
    evidence = Evidence.of(out, published)
    content = report_content(
        evidence,
        Verdict.from_dict(published.verdict).meaning,
        asdict(published_summary(published)),
        table,
        SPACES,
        insights,
    )
    write_report(content, out.path("report.html"))
    _write_card(evidence, out.path(MODEL_CARD))


def _write_card(evidence: Evidence, path: Path) -> None:
    """Write the model card, with whatever has judged the model so far."""
    found = evidence.table("stability.csv") if evidence.judged("stability") else None
    stability = {}
    if found is not None:
        own = found.filter(kind=evidence.published.kind).drop_nulls("segment")
        stability = dict(own["segment", "jaccard"].iter_rows())
    names = evidence.facts.get("names_before", {})
    card = ModelCardContent(
        manifest=evidence.manifest,
        published=evidence.published,
        opening=published_opening(evidence.published),
        stability=stability,
        names_before={int(segment): name for segment, name in names.items()},
        gate=evidence.facts.get("gate"),
    )
    path.write_text(model_card(card), encoding="utf-8", newline="\n")


def publish_segments(out: StageWriter, verdict: Verdict) -> dict[str, Any]:
    """Publish a complete model's segments under another verdict.

    Predictions, insights, ``segments.json`` and the report are written anew, of the
    training data, and the pictures if another kind is published; the model itself stays
    as it is. Segments of another kind are matched with those that were published, so
    that ids and names live on where the groups do. Whatever else the stage writes takes
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
    publish_training(out, model_under(out, verdict))
    return out.facts


def model_under(out: StageWriter, verdict: Verdict) -> Model:
    """Return a complete model with the segments that a verdict publishes.

    The first part of `publish_segments`, which `publish_training` completes; between
    the two there is time to write what else tells of these segments by their ids.

    Parameters
    ----------
    out, verdict
        As for `publish_segments`. The facts get those of before, and if another kind is
        published, `out` gets its pictures.

    Raises
    ------
    ArtifactError, ModelError
        As `publish_segments`.
    """
    if out.base is None or not out.base.manifest.is_complete:
        raise ArtifactError(
            f"`{out.config.artifacts}` holds no complete run. Run the four pipelines "
            "first."
        )
    out.facts |= out.base.manifest.facts("inference") | out.facts
    model = Model.from_set(out.base)
    published = _under(out, model, verdict.as_dict())
    return replace(model, segments=replace(model.segments, published=published))


def _under(
    out: StageWriter, model: Model, verdict: dict[str, Any]
) -> PublishedSegments:
    """Return what a verdict publishes; draw it anew if it is of another kind."""
    assert out.base is not None  # `model` was read from it
    table, before = (
        publishable(model.segments.tables, verdict),
        model.segments.published,
    )
    if table.kind == before.kind:
        return before.model_copy(update={"verdict": verdict})
    shops = pl.read_parquet(out.base.path("features.parquet"), memory_map=False)
    published = turn(model, shops, table, verdict, out.config.refresh)
    scaled = model.scaler.transform(feature_matrix(shops, model.features))
    spaces: dict[SegmentKind, np.ndarray] = {
        "density": model.encoder.transform(scaled),
        "partition": scaled,
    }
    labels = {kind: clusters_of(model, kind, shops) for kind in model.segments.tables}
    draw_segments(out.folder, published, labels, spaces, shops, model.features)
    return published


def published_summary(published: PublishedSegments) -> LabelSummary:
    """Count what is published, by the shops of the training data."""
    segments = published.segments
    return label_summary(
        np.repeat([s.id for s in segments], [s.size for s in segments])
    )


def published_opening(published: PublishedSegments) -> Opening:
    """Put the verdict of what is published into words."""
    return opening(
        published.verdict,
        Verdict.from_dict(published.verdict).meaning,
        asdict(published_summary(published)),
    )


def published_row(published: PublishedSegments) -> dict[str, str]:
    """Return the closing table's row for what is published."""
    row = closing_table({"published": asdict(published_summary(published))})[0]
    # A partition has no noise by its making, which is no finding.
    return row if published.kind == "density" else row | {"noise": "-"}
