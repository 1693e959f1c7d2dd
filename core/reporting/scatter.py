"""A picture of a space: its shops in two dimensions, by cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.reporting.canvas import NOISE_COLOUR, cluster_look, footnote, picture, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOISE = -1
_POINTS_DRAWN = 30_000
_POINTS_PER_CLUSTER = 150  # a small cluster keeps at least these, if it has them
_LEGEND_LINES = 15


def plot_space(
    coordinates: NDArray[np.float64],
    labels: ArrayLike,
    title: str,
    axis_labels: tuple[str, str],
    path: Path,
    noun: str = "cluster",
) -> None:
    """Draw shops in two dimensions, by cluster.

    Parameters
    ----------
    coordinates : ndarray of float64, shape (n_shops, 2)
        Such as the two leading principal components of the space.
    labels : array-like of int, shape (n_shops,)
        Cluster per shop; -1 is noise.
    title : str
    axis_labels : tuple of str
        Of the horizontal and the vertical axis.
    path : Path
        PNG to write.
    noun : str
        What the groups are called.

    Notes
    -----
    At most 30,000 shops are drawn (small clusters keep 150 of theirs), and the view
    ends where the outermost 0.2% on each side would squeeze the rest; the picture says
    how many shops it leaves out.
    """
    marks = np.asarray(labels)
    drawn = _subsample(marks)
    window = _window(coordinates)
    is_within = (coordinates >= window[0]) & (coordinates <= window[1])
    inside: NDArray[np.bool_] = np.logical_and.reduce(is_within, axis=1)
    clusters, sizes = np.unique(marks[marks != NOISE], return_counts=True)
    with picture(path, (6.6, 4.6)) as figure:
        axes = figure.add_subplot()
        seen = drawn[inside[drawn]]
        point = float(np.clip(7000 / max(len(seen), 1), 3, 22))
        noise = coordinates[seen[marks[seen] == NOISE]]
        axes.scatter(noise[:, 0], noise[:, 1], s=point * 0.6, c=NOISE_COLOUR, lw=0)
        for place, cluster in enumerate(clusters):
            own = coordinates[seen[marks[seen] == cluster]]
            axes.scatter(
                own[:, 0], own[:, 1], s=point, lw=0, alpha=0.75, **cluster_look(place)
            )
        axes.set_xlim(window[0][0], window[1][0])
        axes.set_ylim(window[0][1], window[1][1])
        _write_on_clusters(axes, coordinates[inside], marks[inside], clusters)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(wrapped(title, 80))
        axes.set_xlabel(axis_labels[0])
        axes.set_ylabel(axis_labels[1])
        _space_legend(axes, clusters, sizes, int((marks == NOISE).sum()), noun)
        footnote(figure, _left_out(len(marks), len(seen), int((~inside).sum())))


def _subsample(labels: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the shops to draw: a fixed draw, small clusters not thinned away."""
    if len(labels) <= _POINTS_DRAWN:
        return np.arange(len(labels))
    rng = np.random.default_rng(0)
    share = _POINTS_DRAWN / len(labels)
    parts = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        n_kept = max(int(len(own) * share), _POINTS_PER_CLUSTER)
        parts.append(rng.permutation(own)[:n_kept])
    return np.sort(np.concatenate(parts))


def _window(
    coordinates: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the corners of a view that a few far outliers cannot squeeze."""
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    inner = np.quantile(coordinates, [0.002, 0.998], axis=0)
    reach = inner[1] - inner[0]
    low = np.maximum(low, inner[0] - 0.25 * reach)
    high = np.minimum(high, inner[1] + 0.25 * reach)
    margin = np.where(high > low, 0.04 * (high - low), 1.0)
    return low - margin, high + margin


def _write_on_clusters(
    axes: Axes,
    coordinates: NDArray[np.float64],
    labels: NDArray[np.int64],
    clusters: NDArray[np.int64],
) -> None:
    """Write each cluster's number where it is densest, unless one stands there already.

    Numbers are canonical, the largest cluster first, so it is the smaller that waives.
    """
    from matplotlib.patheffects import withStroke

    room = np.array(axes.get_xlim() + axes.get_ylim()).reshape(2, 2)
    reach = (room[:, 1] - room[:, 0]) * [0.045, 0.045]
    written: list[NDArray[np.float64]] = []
    for cluster in clusters:
        own = coordinates[labels == cluster]
        if not len(own):
            continue
        middle = _crowded_place(own)
        if any((np.abs(middle - other) < reach).all() for other in written):
            continue
        written.append(middle)
        axes.annotate(
            str(cluster),
            (float(middle[0]), float(middle[1])),
            ha="center",
            va="center",
            fontweight="bold",
            path_effects=[withStroke(linewidth=3, foreground="white")],
            zorder=5,
        )


def _crowded_place(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the middle of the fullest cell of a 12 x 12 grid over the points.

    A cluster that falls into two islands has its median between them, on other shops.
    """
    counts, x_edges, y_edges = np.histogram2d(points[:, 0], points[:, 1], bins=12)
    column, row = np.unravel_index(int(counts.argmax()), counts.shape)
    low = np.array([x_edges[column], y_edges[row]])
    high = np.array([x_edges[column + 1], y_edges[row + 1]])
    is_inside = ((points >= low) & (points <= high)).all(axis=1)
    place: NDArray[np.float64] = np.median(points[is_inside], axis=0)
    return place


def _space_legend(
    axes: Axes,
    clusters: NDArray[np.int64],
    sizes: NDArray[np.int64],
    n_noise: int,
    noun: str,
) -> None:
    """Name clusters and noise, if there is any, with their sizes."""
    from matplotlib.lines import Line2D

    look: dict[str, Any] = {"ls": "", "ms": 6, "mew": 0}
    shown = _LEGEND_LINES
    handles = [
        Line2D([], [], label=f"{cluster}  ({size:,})", **cluster_look(place), **look)
        for place, (cluster, size) in enumerate(zip(clusters, sizes, strict=True))
    ][:shown]
    if len(clusters) > shown:
        rest = f"{len(clusters) - shown} more  ({sizes[shown:].sum():,})"
        handles.append(Line2D([], [], label=rest, ls=""))
    noise = Line2D(
        [], [], label=f"noise  ({n_noise:,})", marker="o", color=NOISE_COLOUR, **look
    )
    heading = f"{noun} (shops)" if len(clusters) else f"no {noun}"
    axes.legend(
        handles=[*handles, noise] if n_noise else handles,
        title=heading,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        alignment="left",
        borderaxespad=0,
    )


def _left_out(n_shops: int, n_seen: int, n_outside: int) -> str:
    """Say what was left out of a picture of a space; nothing if all is there."""
    if n_seen == n_shops:
        return ""
    outside = f"; {n_outside:,} lie outside the view" if n_outside else ""
    return f"{n_seen:,} of {n_shops:,} shops drawn{outside}."
