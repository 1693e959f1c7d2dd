"""Scored shops as tables: predictions, and size and averages of every segment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from core.artifacts.folder import StageWriter
from core.artifacts.reading import ArtifactSet
from core.artifacts.spreadsheet import Safety, safe_table
from core.retailers.features import UNCLUSTERED
from core.retailers.model import (
    Model,
    excluded_rows,
    exclusions_of,
    features_of,
    states_of,
    with_states,
)
from core.retailers.prepare import write_batches
from core.retailers.shop_files import write_shops
from core.retailers.states import state_mix
from core.segments.profiles import cluster_insights

SPACES = {"latent": "latent_cluster", "raw": "raw_cluster"}
# Batches of features and of their labels.
Scored = Iterator[tuple[pl.DataFrame, pl.DataFrame]]


def score_training(
    base: ArtifactSet, model: Model
) -> tuple[Iterator[tuple[pl.DataFrame, pl.DataFrame]], pl.DataFrame]:
    """Return batches of the saved features with their labels, and the exclusions."""
    batches = features_of(base).iter_slices(model.config.clustering.batch_size)
    states = states_of(base)
    scored = ((batch, with_states(model.assign(batch), states)) for batch in batches)
    return scored, exclusions_of(base)


def write_predictions(
    scored: Iterator[tuple[pl.DataFrame, pl.DataFrame]],
    exclusions: pl.DataFrame,
    predictions: Path,
    table: Path,
    safety: Safety = "names",
) -> dict[str, int]:
    """Write labelled shops, then those with a reason; keep features beside labels.

    Parameters
    ----------
    scored : iterator of (features, labels)
        Batches as `Model.score` yields them.
    exclusions : DataFrame
        ``shop_id``, ``state`` and ``reason`` of the shops that are not eligible.
    predictions : Path
        Gets the CSV file.
    table : Path
        Gets features beside labels as Parquet; not written without a labelled shop.
    safety : {'names', 'all', 'off'}
        See `core.artifacts.spreadsheet`.

    Returns
    -------
    dict
        ``labelled`` and ``not_eligible``, the numbers of shops.
    """
    n_labelled = 0

    def joined() -> Iterator[pl.DataFrame]:
        nonlocal n_labelled
        for features, labels in scored:
            shown = safe_table(labels, safety)
            shown.write_csv(stream, include_header=n_labelled == 0)
            n_labelled += labels.height
            yield features.hstack(labels.drop("shop_id"))

    with predictions.open("wb") as stream:
        write_batches(joined(), table)
        rest = safe_table(excluded_rows(exclusions), safety)
        rest.write_csv(stream, include_header=n_labelled == 0)
    return {"labelled": n_labelled, "not_eligible": exclusions.height}


def insights_of(table: Path, model: Model, spaces: Mapping[str, str]) -> pl.DataFrame:
    """Return size and averages of every cluster of every space.

    Parameters
    ----------
    table : Path
        Features beside labels, as `write_predictions` leaves them; not there if no
        shop was labelled.
    model : Model
        Names the features; momentum and sales volume are described with them.
    spaces : mapping of space to label column
    """
    columns = [*model.features, *UNCLUSTERED]
    if table.exists():
        return cluster_insights(pl.scan_parquet(table, glob=False), spaces, columns)
    empty = pl.LazyFrame(
        [pl.Series(name, [], dtype=pl.Float64) for name in columns]
        + [pl.Series(name, [], dtype=pl.Int32) for name in spaces.values()]
    )
    return cluster_insights(empty, spaces, columns)


def sizes_in(table: Path) -> tuple[dict[int, int], dict[str, int]]:
    """Return how many shops each segment, and each sub-segment, holds.

    Parameters
    ----------
    table : Path
        As for `insights_of`.
    """
    labels = pl.scan_parquet(table, glob=False).select("segment", "sub_segment")
    counts = labels.group_by(pl.all()).len().collect()
    return (
        dict(counts.group_by("segment").agg(pl.col("len").sum()).iter_rows()),
        dict(counts.drop_nulls().select("sub_segment", "len").iter_rows()),
    )


def segment_insights(table: Path, model: Model) -> pl.DataFrame:
    """Return size and averages of every published segment.

    Returns
    -------
    DataFrame
        ``segment, segment_name, segment_kind``, then what `insights_of` tells of a
        cluster, from ``size`` on, the share of each state last; of the shops in
        `table`.
    """
    found = insights_of(table, model, {"segment": "segment"})
    if table.exists():
        mix = state_mix(table).drop("n_shops")
        found = found.join(mix, left_on="cluster", right_on="segment", how="left")
    published = model.segments.published
    return found.select(
        pl.col("cluster").alias("segment"),
        pl.col("cluster")
        .replace_strict(published.names, return_dtype=pl.String)
        .alias("segment_name"),
        pl.lit(published.kind).alias("segment_kind"),
        pl.exclude("space", "cluster"),
    )


def publish_scored(
    out: StageWriter,
    model: Model,
    scored: Scored,
    exclusions: pl.DataFrame,
    work: Path,
) -> tuple[Path, pl.DataFrame]:
    """Write predictions, insights and files of shops, and count them in the facts.

    Parameters
    ----------
    out : StageWriter
        Of ``inference``.
    model : Model
        Its published segments are written.
    scored, exclusions
        As for `core.retailers.scored.write_predictions`.
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
    safety = out.config.csv_safety
    out.facts |= write_predictions(scored, exclusions, predictions, table, safety)
    insights = insights_of(table, model, SPACES)
    insights.write_csv(out.path("cluster_insights.csv"))
    out.write_csv("segment_insights.csv", segment_insights(table, model))
    write_shops(out, table, exclusions, model.segments.published)
    return table, insights
