"""Pictures of the customer axes: how each divides the customers, and which agree."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from core.reporting.canvas import (
    COLOURS,
    FAINT_INK,
    INK,
    NOISE_COLOUR,
    footnote,
    picture,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH, _ROW = 9.2, 0.5
# Inches that a character of the labels takes, and the share of a bar it may fill.
_CHARACTER = 0.068
_BAR_WIDTH = 6.7
# Fewer letters of a name say nothing.
_LEAST_LETTERS = 7
# Faint colours take dark letters.
_DARK_ON = {"#E69F00", "#56B4E9", "#B8A800", NOISE_COLOUR}


def plot_axis_sizes(sizes: pl.DataFrame, axes: list[str], path: Path) -> None:
    """Draw a bar for each axis, divided by its segments with their names.

    Parameters
    ----------
    sizes : DataFrame
        ``axis``, ``segment_id`` (-1: not placed), ``segment``, ``share`` (of all
        customers), in the order in which they are drawn.
    axes : list of str
        In the order in which they are drawn, downwards.
    path : Path
        PNG to write.
    """
    with picture(path, (_WIDTH, 1.0 + _ROW * len(axes))) as figure:
        panel = figure.add_subplot()
        for place, axis in enumerate(axes):
            own = sizes.filter(axis=axis)
            _draw_bar(panel, place, own.to_dicts())
        panel.set_yticks(range(len(axes)), axes)
        panel.set_ylim(len(axes) - 0.5, -0.5)
        panel.set_xlim(0, 1)
        panel.set_xticks(
            np.arange(0, 1.01, 0.25), [f"{x:.0%}" for x in np.arange(0, 1.01, 0.25)]
        )
        panel.set_xlabel("share of the customers")
        panel.tick_params(length=0, labelsize=9)
        panel.tick_params(axis="y", labelcolor=INK)
        panel.spines[:].set_visible(False)
        panel.set_title("How each axis divides the customers")
        footnote(
            figure,
            "Largest segment first. Grey: one population without segments, or "
            "customers that the axis does not place. Small segments: see the tables.",
        )


def plot_overlap(overlap: pl.DataFrame, axes: list[str], path: Path) -> None:
    """Draw how much two axes tell of each other.

    Parameters
    ----------
    overlap : DataFrame
        ``axis``, ``other``, ``ami``: adjusted mutual information, 0 (no more than
        chance) to 1 (the same division); each pair once, in either order.
    axes : list of str
        In the order in which they are drawn.
    path : Path
        PNG to write.
    """
    n = len(axes)
    place = {axis: i for i, axis in enumerate(axes)}
    values = np.full((n, n), np.nan)
    for axis, other, ami in overlap.select("axis", "other", "ami").iter_rows():
        row, column = sorted((place[axis], place[other]), reverse=True)
        values[row, column] = ami
    side = max(3.6, 1.9 + 0.52 * n)
    with picture(path, (side + 1.6, side)) as figure:
        panel = figure.add_subplot()
        # The lower triangle: the last row and the first column have all pairs.
        shown = values[1:, : n - 1]
        image = panel.imshow(
            np.ma.masked_invalid(shown), cmap=_colours(), vmin=0, vmax=1, aspect="auto"
        )
        panel.set_yticks(range(n - 1), axes[1:])
        panel.set_xticks(
            range(n - 1), axes[:-1], rotation=40, ha="right", rotation_mode="anchor"
        )
        panel.tick_params(length=0, labelsize=9, labelcolor=INK)
        panel.spines[:].set_visible(False)
        for row, column in np.argwhere(np.isfinite(shown)):
            value = shown[row, column]
            panel.text(
                column,
                row,
                f"{max(value, 0):.2f}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if value > 0.55 else INK,
            )
        panel.set_title("How much two axes tell of each other")
        bar = figure.colorbar(image, ax=panel, shrink=0.8, pad=0.02, aspect=30)
        bar.set_label("adjusted mutual information")
        bar.outline.set_visible(False)
        footnote(figure, "0: no more than chance; 1: the same division twice.")


def _draw_bar(panel: Axes, place: int, segments: list[dict[str, object]]) -> None:
    """Draw one axis."""
    left = 0.0
    placed = [segment for segment in segments if segment["segment_id"] != -1]
    is_single = len(placed) == 1
    for rank, segment in enumerate(segments):
        share = float(str(segment["share"]))
        is_grey = segment["segment_id"] == -1 or is_single
        colour = NOISE_COLOUR if is_grey else COLOURS[rank % len(COLOURS)]
        panel.barh(
            place, share, left=left, height=0.74, color=colour, ec="white", lw=1.2
        )
        ink = INK if colour in _DARK_ON else "white"
        if segment["segment_id"] == -1 and not is_single:
            ink = FAINT_INK
        _write(panel, left + share / 2, place, str(segment["segment"]), share, ink)
        left += share


def _write(
    panel: Axes, x: float, y: float, name: str, share: float, colour: str
) -> None:
    """Write name and share into a part of a bar, as far as there is room."""
    fits = int(share * _BAR_WIDTH / _CHARACTER)
    text = _fitted(name, f"{share:.0%}", fits)
    panel.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        fontsize=8.2 if text.count("\n") < 2 else 7.0,
        linespacing=1.1,
        color=colour,
    )


def _fitted(name: str, percent: str, fits: int) -> str:
    """Return name and share in lines of at most `fits` letters, three at most.

    >>> _fitted("email_preferred", "9%", 12).splitlines()
    ['email_', 'preferred', '9%']
    >>> _fitted("email_preferred", "2%", 3)
    '2%'
    """
    if len(name) + len(percent) < fits:
        return f"{name} {percent}"
    if len(name) <= fits:
        return f"{name}\n{percent}"
    head, _, tail = name.partition("_")
    if tail and max(len(head) + 1, len(tail)) <= fits:
        return f"{head}_\n{tail}\n{percent}"
    if fits >= _LEAST_LETTERS:
        return f"{shortened(name, fits)}\n{percent}"
    return percent if len(percent) <= fits else ""


def _colours() -> Any:
    """Return a map from paper to deep blue."""
    from matplotlib.colors import LinearSegmentedColormap

    stops = ["#F7F7F5", "#B9D8EC", "#4D94C9", "#08457E"]
    colours = LinearSegmentedColormap.from_list("agreement", stops)
    return colours.with_extremes(bad="white")
