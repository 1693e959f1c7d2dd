"""A picture of the months of every segment: small panels on one scale."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from core.reporting.canvas import FAINT_INK, cluster_look, footnote, picture, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3
_MOST_PANELS = 15
_MOST_YEARS_NAMED = 4


def plot_curves(curves: pl.DataFrame, names: Mapping[int, str], path: Path) -> None:
    """Draw the monthly sales of every segment, relative to its shops' own means.

    Parameters
    ----------
    curves : DataFrame
        As `core.segments.typical.monthly_curves` returns it. The first 15 segments
        are drawn.
    names : mapping of segment to name
    path : Path
        PNG to write. All panels share both scales, so that a flat year looks flat.
    """
    segments = curves["segment"].unique().sort().to_list()
    if not segments:
        with picture(path, (6.2, 1.4)) as figure:
            axes = figure.add_subplot(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            axes.text(0.5, 0.5, "No segment with known months.", ha="center")
        return
    drawn = segments[:_MOST_PANELS]
    months = curves["month"].unique().sort().to_list()
    n_columns = min(_COLUMNS, len(drawn))
    n_rows = -(-len(drawn) // n_columns)
    with picture(path, (max(3.1 * n_columns, 4.6), 2.3 * n_rows + 0.5)) as figure:
        grid = figure.subplots(
            n_rows, n_columns, squeeze=False, sharex=True, sharey=True
        )
        for place, axes in enumerate(grid.ravel()):
            if place >= len(drawn):
                axes.set_visible(False)
                continue
            own = curves.filter(pl.col("segment") == drawn[place])
            _draw(axes, own, months, str(cluster_look(place)["color"]))
            n_shops = max(own["n_shops"].to_list())
            title = f"{wrapped(names[drawn[place]], 32)}\n{n_shops:,} shops"
            axes.set_title(title, fontsize=9.5, pad=5)
            # The last row may be shorter: its upper neighbours name the years, too.
            axes.tick_params(labelbottom=place + n_columns >= len(drawn))
        top = float(np.nanmax(curves["high"].to_numpy()))
        top = max(top, float(np.nanmax(curves["mean"].to_numpy())))
        grid[0, 0].set_ylim(0, top * 1.05 or 1)
        figure.supylabel("sales over the shop's mean", fontsize=9.5)
        footnote(figure, _note(len(segments), len(drawn)))


def _draw(axes: Axes, own: pl.DataFrame, months: list[str], colour: str) -> None:
    """Draw one segment's mean line and its quartile band."""
    place = {month: i for i, month in enumerate(months)}
    x = [place[month] for month in own["month"]]
    axes.fill_between(x, own["low"], own["high"], color=colour, alpha=0.2, lw=0)
    marker = "o" if len(x) == 1 else ""
    axes.plot(x, own["mean"], color=colour, lw=1.8, marker=marker, ms=4)
    axes.axhline(1, color=FAINT_INK, lw=0.8, ls=":")
    starts = [i for i, month in enumerate(months) if month.endswith("-01")]
    step = -(-len(starts) // _MOST_YEARS_NAMED) or 1
    ticks = starts[::step] or [0]
    axes.set_xticks(ticks, [_tick(months[i]) for i in ticks])
    axes.tick_params(labelsize=8)
    axes.set_xlim(-0.5, len(months) - 0.5)


def _tick(month: str) -> str:
    """Return the year of a January, else the whole month."""
    return month[:4] if month.endswith("-01") else month


def _note(n_segments: int, n_drawn: int) -> str:
    """Say how to read the picture, and what was left out of it."""
    text = "Line: mean of the segment's shops; band: the middle half of them."
    if n_drawn < n_segments:
        text += f" {n_drawn} of {n_segments} segments."
    return text
