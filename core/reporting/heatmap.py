"""A picture of what sets each cluster apart: clusters by features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.reporting.canvas import INK, footnote, picture, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CELLS_WRITTEN = 12  # clusters up to which a heat map shows its numbers
_HEAT_LIMIT = 3.0
_HEAT_ROWS = 40
_HEAT_COLUMNS = 30


def plot_heatmap(
    cluster_medians: NDArray[np.float64],
    cluster_names: Sequence[str],
    feature_names: Sequence[str],
    path: Path,
    noun: str = "cluster",
) -> None:
    """Draw how each cluster differs from the other shops, feature by feature.

    Parameters
    ----------
    cluster_medians : ndarray of float64, shape (n_clusters, n_features)
        In robust standard deviations from the other shops (see
        `core.segments.profiles.cluster_contrasts`); NaN is drawn as a grey cell.
        The colours end at -3 and 3; the numbers do not.
    cluster_names, feature_names : sequence of str
    path : Path
        PNG to write. Features run downwards, since their names are long; the first 30
        clusters and the 40 features that differ most are drawn.
    noun : str
        What the clusters are called.
    """
    if not len(cluster_medians):
        with picture(path, (6.2, 1.4)) as figure:
            axes = figure.add_subplot(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            axes.text(0.5, 0.5, "No cluster: every shop is noise.", ha="center")
        return
    values, kept = _strongest(np.asarray(cluster_medians, dtype=np.float64))
    columns = list(cluster_names[: len(values)])
    rows = [shortened(feature_names[index]) for index in kept]
    size = (max(3.7 + 0.5 * len(columns), 6.0), max(1.7 + 0.25 * len(rows), 3.4))
    with picture(path, size) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(
            np.ma.masked_invalid(values.T),
            aspect="auto",
            cmap=_heat_colours(),
            vmin=-_HEAT_LIMIT,
            vmax=_HEAT_LIMIT,
            interpolation="nearest",
        )
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xticks(range(len(columns)), columns)
        axes.tick_params(length=0, labelcolor=INK, labelsize=9)
        axes.set_xlabel(noun)
        axes.set_title(f"What sets each {noun} apart from the other shops")
        axes.spines[:].set_visible(False)
        axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", lw=1.2)
        axes.tick_params(which="minor", length=0)
        if len(columns) <= _CELLS_WRITTEN:
            _write_cells(axes, values)
        bar = figure.colorbar(
            image, ax=axes, extend="both", shrink=0.8, pad=0.02, aspect=30
        )
        bar.set_label("difference of medians\n(robust standard deviations)")
        bar.outline.set_visible(False)
        footnote(figure, _heat_note(cluster_medians.shape, values.shape, noun))


def _strongest(
    values: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Keep what fits on a page: the first clusters, the features that differ most."""
    shown = values[:_HEAT_COLUMNS]
    strength = np.nan_to_num(np.abs(shown)).max(axis=0)
    kept = np.sort(np.argsort(-strength, kind="stable")[:_HEAT_ROWS])
    return shown[:, kept], kept


def _heat_colours() -> Any:
    """Return a blue-to-orange map with a grey for missing values."""
    from matplotlib.colors import LinearSegmentedColormap

    stops = [
        "#08457E",
        "#4D94C9",
        "#B9D8EC",
        "#F7F7F5",
        "#F9CF9C",
        "#E08214",
        "#8A4200",
    ]
    colours = LinearSegmentedColormap.from_list("difference", stops)
    return colours.with_extremes(bad="#C9CDD2", under=stops[0], over=stops[-1])


def _write_cells(axes: Axes, values: NDArray[np.float64]) -> None:
    """Write the differences that are worth reading (0.5 or more) into their cells."""
    for column, row in np.argwhere(np.abs(np.nan_to_num(values)) >= 0.5):
        value = values[column, row]
        axes.text(
            column,
            row,
            f"{value:+.1f}".replace("-", "\N{MINUS SIGN}"),
            ha="center",
            va="center",
            fontsize=8,
            color="white" if abs(value) > 1.9 else INK,
        )


def _heat_note(given: tuple[int, ...], drawn: tuple[int, ...], noun: str) -> str:
    """Say what was left out of a heat map; nothing if all is there."""
    if tuple(given) == tuple(drawn):
        return ""
    return (
        f"{drawn[0]:,} of {given[0]:,} {noun}s, and the {drawn[1]:,} of {given[1]:,} "
        "features that differ most."
    )
