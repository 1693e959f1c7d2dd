"""The pictures that training draws: spaces, sizes, and what sets groups apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from core.reporting.heatmap import plot_heatmap
from core.reporting.plots import plot_sizes
from core.reporting.scatter import plot_space
from core.segments.profiles import cluster_contrasts, effect_matrix
from core.segments.words import spoken

TITLES = {"latent": "Latent space", "raw": "Raw features"}
# The space whose clusters are the published segments, if those are clusters.
LATENT = "latent"
Projection = tuple[np.ndarray, np.ndarray]


def draw_spaces(
    folder: Path,
    projections: Mapping[str, Projection],
    labels: Mapping[str, np.ndarray],
) -> None:
    """Draw the clusters of spaces that are not published, and how large all are.

    Parameters
    ----------
    folder : Path
        Gets ``raw-space.png`` and ``cluster-sizes.png``.
    projections : mapping of space to (coordinates, shares)
        Coordinates of shape (n_shops, 2) and the share of variance of each.
    labels : mapping of space to ndarray of int, shape (n_shops,)
        Cluster per shop; -1 is noise.
    """
    for space, projection in projections.items():
        path = folder / f"{space}-space.png"
        _draw_space(projection, labels[space], TITLES[space], path)
    plot_sizes(
        {TITLES[name]: values for name, values in labels.items()},
        folder / "cluster-sizes.png",
    )


def draw_density(
    folder: Path,
    projection: Projection,
    labels: np.ndarray,
    table: pl.DataFrame,
    features: Sequence[str],
) -> None:
    """Draw the latent space's clusters, and what they are like.

    Parameters
    ----------
    folder : Path
        Gets ``latent-space.png`` and ``cluster-heatmap.png``.
    projection : (coordinates, shares)
        As for `draw_spaces`.
    labels : ndarray of int, shape (n_shops,)
        Per shop its segment's id, if they are published, else its cluster; -1 is none.
    table : DataFrame
        The shops' features, in the same order.
    features : sequence of str
        Those that were clustered.
    """
    _draw_space(projection, labels, TITLES[LATENT], folder / "latent-space.png")
    _draw_heatmap(labels, table, features, folder / "cluster-heatmap.png")


def draw_partition(
    folder: Path,
    projection: Projection,
    labels: np.ndarray,
    table: pl.DataFrame,
    features: Sequence[str],
) -> None:
    """Draw the partition among the scaled features, and what its segments are like.

    Parameters
    ----------
    folder : Path
        Gets ``partition-space.png`` and ``partition-heatmap.png``.
    projection, labels, table, features
        As for `draw_density`.
    """
    path = folder / "partition-space.png"
    title = "The partition, among the scaled features"
    _draw_space(projection, labels, title, path, "segment")
    _draw_heatmap(labels, table, features, folder / "partition-heatmap.png", "segment")


def _draw_space(
    projection: Projection,
    labels: np.ndarray,
    title: str,
    path: Path,
    noun: str = "cluster",
) -> None:
    coordinates, shares = projection
    axes = [
        f"principal component {place} ({share:.0%} of the variance)"
        for place, share in enumerate(shares, start=1)
    ]
    title = f"{title}: {len(coordinates):,} shops"
    plot_space(coordinates, labels, title, (axes[0], axes[1]), path, noun)


def _draw_heatmap(
    labels: np.ndarray,
    table: pl.DataFrame,
    features: Sequence[str],
    path: Path,
    noun: str = "cluster",
) -> None:
    labelled = table.with_columns(cluster=pl.Series(labels))
    contrasts = cluster_contrasts(labelled, "cluster", features)
    effects, clusters, names = effect_matrix(contrasts)
    said = [spoken(name).name for name in names]
    plot_heatmap(effects, [str(cluster) for cluster in clusters], said, path, noun)
