"""Scored shops as tables: predictions, and size and averages of every segment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from core.artifacts.folder import StageWriter
from core.artifacts.reading import ArtifactSet
from core.retailers.features import UNCLUSTERED
from core.retailers.model import (
    PREDICTION_SCHEMA,
    Model,
    excluded_rows,
    exclusions_scan,
    features_scan,
    states_scan,
    with_states,
)
from core.retailers.prepare import write_batches
from core.retailers.shop_files import write_shops
from core.retailers.states import state_mix
from core.segments.profiles import cluster_insights
from core.tables.parts import slices

SPACES = {"latent": "latent_cluster", "raw": "raw_cluster"}
# Batches of features and of their labels.
Scored = Iterator[tuple[pl.DataFrame, pl.DataFrame]]


def score_training(
    base: ArtifactSet, model: Model, work: Path
) -> tuple[Scored, pl.LazyFrame]:
    """Return batches of the saved features with their labels, and the exclusions.

    Parameters
    ----------
    base : ArtifactSet
        Of a run, which nobody else can replace meanwhile.
    model : Model
    work : Path
        Folder for an interim file; both results are read from files later.
    """
    states = work / "states.parquet"
    states_scan(base).sink_parquet(states)
    return _score_saved(features_scan(base), model, states), exclusions_scan(base)


def _score_saved(table: pl.LazyFrame, model: Model, states: Path) -> Scored:
    known = pl.scan_parquet(states, glob=False)
    for batch in slices(table, model.config.clustering.batch_size):
        # Both tables are in ascending order of ids: few row groups are read.
        ids = batch["shop_id"]
        own = pl.col("shop_id").is_between(pl.lit(ids.min()), pl.lit(ids.max()))
        yield batch, with_states(model.assign(batch), known.filter(own).collect())


def write_scored(scored: Scored, table: Path) -> int:
    """Write features beside labels as Parquet, batch by batch.

    Parameters
    ----------
    scored : iterator of (features, labels)
        Batches as `Model.score` yields them.
    table : Path
        Gets the file; not written without a labelled shop.

    Returns
    -------
    int
        Shops labelled.
    """
    n_labelled = 0

    def joined() -> Iterator[pl.DataFrame]:
        nonlocal n_labelled
        for features, labels in scored:
            n_labelled += labels.height
            yield features.hstack(labels.drop("shop_id"))

    write_batches(joined(), table)
    return n_labelled


def predictions(table: Path, exclusions: pl.LazyFrame) -> pl.LazyFrame:
    """Return `PREDICTION_SCHEMA` of all shops: those labelled, then the others.

    Parameters
    ----------
    table : Path
        As `write_scored` leaves it.
    exclusions : LazyFrame
        ``shop_id``, ``state`` and ``reason`` of the shops that are not eligible.
    """
    labelled = [pl.scan_parquet(table, glob=False)] if table.exists() else []
    parts = [*labelled, excluded_rows(exclusions)]
    return pl.concat([part.select(*PREDICTION_SCHEMA) for part in parts])


def insights_of(table: Path, model: Model, spaces: Mapping[str, str]) -> pl.DataFrame:
    """Return size and averages of every cluster of every space.

    Parameters
    ----------
    table : Path
        Features beside labels, as `write_scored` leaves them; not there if no shop
        was labelled.
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
    exclusions: pl.LazyFrame,
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
        As for `write_scored` and `predictions`.
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
    out.facts["labelled"] = write_scored(scored, table)
    n_others = exclusions.select(pl.len()).collect().item()
    out.facts["not_eligible"] = n_others
    out.write_csv("cluster_predictions.csv", predictions(table, exclusions))
    insights = insights_of(table, model, SPACES)
    insights.write_csv(out.path("cluster_insights.csv"))
    out.write_csv("segment_insights.csv", segment_insights(table, model))
    write_shops(out, table, exclusions, model.segments.published)
    return table, insights
