"""What one run has to show: its pictures, and the content of its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from core.artifacts import ArtifactSet
from core.features.retailer import VOLUME, feature_set
from core.manifest import Manifest, now
from core.reporting.heatmap import plot_heatmap
from core.reporting.plots import plot_sizes
from core.reporting.report import Picture, ReportContent, Step
from core.reporting.scatter import plot_space
from core.segments.profiles import cluster_contrasts, effect_matrix

TITLES = {"latent": "Latent space", "raw": "Raw features"}
PUBLISHED = "latent"


def draw_spaces(
    folder: Path,
    projections: Mapping[str, tuple[np.ndarray, np.ndarray]],
    labels: Mapping[str, np.ndarray],
    table: pl.DataFrame,
    features: Sequence[str],
) -> None:
    """Draw every space, the sizes of its clusters, and what the clusters are like.

    Parameters
    ----------
    folder : Path
        Gets ``latent-space.png``, ``raw-space.png``, ``cluster-sizes.png`` and
        ``cluster-heatmap.png``.
    projections : mapping of space to (coordinates, shares)
        Coordinates of shape (n_shops, 2) and the share of variance of each.
    labels : mapping of space to ndarray of int, shape (n_shops,)
        Cluster per shop; -1 is noise.
    table : DataFrame
        The shops' features, in the same order.
    features : sequence of str
        Those that were clustered.
    """
    for space, (coordinates, shares) in projections.items():
        axes = [
            f"principal component {place} ({share:.0%} of the variance)"
            for place, share in enumerate(shares, start=1)
        ]
        title = f"{TITLES[space]}: {len(coordinates):,} shops"
        path = folder / f"{space}-space.png"
        plot_space(coordinates, labels[space], title, (axes[0], axes[1]), path)
    plot_sizes(
        {TITLES[name]: values for name, values in labels.items()},
        folder / "cluster-sizes.png",
    )
    labelled = table.with_columns(cluster=pl.Series(labels[PUBLISHED]))
    contrasts = cluster_contrasts(labelled, "cluster", features)
    effects, clusters, names = effect_matrix(contrasts)
    columns = [str(cluster) for cluster in clusters]
    plot_heatmap(effects, columns, names, folder / "cluster-heatmap.png")


def report_content(
    base: ArtifactSet,
    scored: Path,
    label_columns: Mapping[str, str],
    insights: pl.DataFrame,
) -> ReportContent:
    """Collect what the report tells from a set's manifest and tables.

    Parameters
    ----------
    base : ArtifactSet
        A set whose clustering is finished.
    scored : Path
        Parquet file of features and labels.
    label_columns : mapping of space to label column
        In that file.
    insights : DataFrame
        `core.segments.profiles.cluster_insights` of the same shops.
    """
    manifest = base.manifest
    facts = manifest.facts("prepare")
    table = pl.scan_parquet(scored)
    chosen = feature_set(facts["feature_set"])
    described = (*chosen.features, *VOLUME)
    return ReportContent(
        title="Retailer segments",
        source=_source_name(manifest),
        created=now(),
        as_of=facts["as_of"],
        published=PUBLISHED,
        spaces=TITLES,
        steps=_steps(facts),
        comparison=pl.read_csv(
            base.path("comparison.csv"), schema_overrides={"sizes": pl.String}
        ),
        insights=insights,
        contrasts={
            space: cluster_contrasts(table, column, chosen.names)
            for space, column in label_columns.items()
        },
        check=manifest.facts("clustering")["structure_check"],
        pictures=[picture for picture in _pictures(base) if picture.path.exists()],
        made=_made(manifest),
        config=manifest.config.to_yaml(),
        feature_notes={f.name: f"{f.formula} ({f.unit})" for f in described},
    )


def _source_name(manifest: Manifest) -> str:
    """Name the source as the user would."""
    data = manifest.config.data
    if manifest.facts("prepare")["from_frame"]:
        return "a table handed in from Python"
    if data.source == "kaggle":
        return f"Kaggle: {data.kaggle_handle}"
    if data.source == "input":
        return str(data.input)
    sample = manifest.config.sample
    return (
        f"built-in sample ({sample.structure}, {sample.difficulty}, "
        f"seed {manifest.stages['prepare'].seed})"
    )


def _steps(facts: Mapping[str, Any]) -> list[Step]:
    """Return the data's way with its counts."""
    intake = facts["intake"]
    steps = [Step("rows read", intake["rows_read"], "rows")]
    steps += [
        Step(f"set aside: {name.replace('_', ' ')}", fault["set_aside"], "rows", True)
        for name, fault in intake["faults"].items()
        if fault["set_aside"]
    ]
    steps += [
        Step("rows kept", intake["rows_kept"], "rows"),
        Step("shops seen", facts["n_shops"], "shops"),
    ]
    steps += [
        Step(f"not eligible: {reason}", n, "shops", True)
        for reason, n in facts["exclusions"].items()
    ]
    steps.append(Step("shops clustered", facts["n_eligible"], "shops"))
    return steps


def _pictures(base: ArtifactSet) -> list[Picture]:
    """Return the pictures of a run, the most telling first."""
    return [
        Picture(
            "The shops in the latent space",
            base.folder / "latent-space.png",
            "Scatter of all shops, coloured by cluster, noise in grey.",
            "Two directions of the space that the autoencoder learnt. Groups may touch "
            "here and still be apart in the other directions.",
        ),
        Picture(
            "What sets the clusters apart",
            base.folder / "cluster-heatmap.png",
            "Heat map of clusters by feature.",
            "The clusters were made from these features, so differences describe them "
            "and prove nothing.",
        ),
        Picture(
            "Sizes",
            base.folder / "cluster-sizes.png",
            "Bars of the number of shops per cluster and of noise, in both spaces.",
        ),
        Picture(
            "The shops in the space of the raw features",
            base.folder / "raw-space.png",
            "Scatter of all shops by the two leading principal components.",
        ),
        Picture(
            "Training of the autoencoder",
            base.folder / "loss-plot.png",
            "Training and validation loss by epoch.",
        ),
    ]


def _made(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return how the run was made, by group."""
    stages = manifest.stages
    prepared = manifest.facts("prepare")
    trained = manifest.facts("autoencoder")
    return {
        "Run": {
            "model": manifest.model_id,
            "features": f"{prepared['feature_set']} ({len(prepared['features'])})",
            "autoencoder": f"{manifest.config.autoencoder.architecture}, "
            f"best epoch {trained['best_epoch']} of {trained['epochs']}",
        },
        "Seeds": {name: stage.seed for name, stage in stages.items()},
        "Seconds": {name: f"{stage.seconds:.1f}" for name, stage in stages.items()},
        "Versions": stages["clustering"].versions,
    }
