"""The table of predictions: from batches of shops to files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from core.artifacts import ArtifactSet
from core.features.retailer import VOLUME
from core.inference.model import Model, excluded_rows
from core.segments.profiles import cluster_insights


def write_batches(batches: Iterator[pl.DataFrame], path: Path) -> None:
    """Write batches as row groups of one Parquet file."""
    import pyarrow.parquet as pq

    writer = None
    for batch in batches:
        table = batch.to_arrow()
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    if writer is not None:
        writer.close()


def score_training(
    base: ArtifactSet, model: Model
) -> tuple[Iterator[tuple[pl.DataFrame, pl.DataFrame]], pl.DataFrame]:
    """Return batches of the saved features with their labels, and the exclusions."""
    path = base.path("features.parquet")
    size = model.config.clustering.batch_size
    n_rows = pl.scan_parquet(path).select(pl.len()).collect().item()

    def batches() -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        for offset in range(0, n_rows, size):
            batch = pl.scan_parquet(path).slice(offset, size).collect()
            yield batch, model.assign(batch)

    schema = {"shop_id": pl.String, "reason": pl.String}
    exclusions = pl.read_csv(
        base.path("exclusions.csv"), columns=list(schema), schema_overrides=schema
    )
    return batches(), exclusions


def write_predictions(
    scored: Iterator[tuple[pl.DataFrame, pl.DataFrame]],
    exclusions: pl.DataFrame,
    predictions: Path,
    table: Path,
) -> dict[str, int]:
    """Write labelled shops, then those with a reason; keep features beside labels.

    Parameters
    ----------
    scored : iterator of (features, labels)
        Batches as `Model.score` yields them.
    exclusions : DataFrame
        ``shop_id`` and ``reason`` of the shops that are not eligible.
    predictions : Path
        Gets the CSV file.
    table : Path
        Gets features beside labels as Parquet; not written without a labelled shop.

    Returns
    -------
    dict
        ``labelled`` and ``not_eligible``, the numbers of shops.
    """
    n_labelled = 0

    def joined() -> Iterator[pl.DataFrame]:
        nonlocal n_labelled
        for features, labels in scored:
            labels.write_csv(stream, include_header=n_labelled == 0)
            n_labelled += labels.height
            yield features.hstack(labels.drop("shop_id"))

    with predictions.open("wb") as stream:
        write_batches(joined(), table)
        rest = excluded_rows(exclusions)
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
        Names the features; sales volume is described with them.
    spaces : mapping of space to label column
    """
    columns = [*model.features, *(feature.name for feature in VOLUME)]
    if table.exists():
        return cluster_insights(pl.scan_parquet(table), spaces, columns)
    empty = pl.LazyFrame(
        [pl.Series(name, [], dtype=pl.Float64) for name in columns]
        + [pl.Series(name, [], dtype=pl.Int32) for name in spaces.values()]
    )
    return cluster_insights(empty, spaces, columns)


def segment_insights(table: Path, model: Model) -> pl.DataFrame:
    """Return size and averages of every published segment.

    Returns
    -------
    DataFrame
        ``segment, segment_name, segment_kind``, then what `insights_of` tells of a
        cluster, from ``size`` on; of the shops in `table`.
    """
    found = insights_of(table, model, {"segment": "segment"})
    published = model.segments.published
    return found.select(
        pl.col("cluster").alias("segment"),
        pl.col("cluster")
        .replace_strict(published.names, return_dtype=pl.String)
        .alias("segment_name"),
        pl.lit(published.kind).alias("segment_kind"),
        pl.exclude("space", "cluster"),
    )
