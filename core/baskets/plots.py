"""Pictures of the rule segments: where they lie, their sizes, how they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from core.evaluation.separation import SIZES
from core.reporting import style
from core.reporting.text import share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]
QUANTILES: Final = (0.2, 0.5, 0.8)
# The outermost share of customers on each side that would squeeze the others.
_OUTSIDE = 0.005
_DENSITY = ("#F4F8FB", "#B9D8EC", "#4D94C9", "#08457E")


def plot_quadrants(
    scores: pl.DataFrame,
    segment: pl.Series,
    thresholds: Mapping[str, float],
    labels: Mapping[str, str],
    path: Path,
) -> None:
    """Draw how many customers have which two scores, and where segments are divided.

    Parameters
    ----------
    scores : DataFrame
        Two numeric columns: the horizontal and the vertical score.
    segment : Series of str
        Of the same customers.
    thresholds : mapping of str to float
        By the name of the score.
    labels : mapping of str to str
        What the scores are called.
    path : Path
        PNG to write. The middle of `QUANTILES` is a learnt threshold, or not: all three
        are drawn as dotted lines, the thresholds as solid ones.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patheffects import withStroke

    table = scores.with_columns(segment.alias("segment")).drop_nulls()
    across, up = scores.columns
    with style.picture(path, (7.4, 5.4)) as figure:
        axes = figure.add_subplot()
        limits = [_window(table[name].to_numpy()) for name in (across, up)]
        axes.hexbin(
            table[across].to_numpy(),
            table[up].to_numpy(),
            gridsize=int(np.clip(np.sqrt(table.height) * 0.7, 12, 42)),
            mincnt=1,
            bins="log",
            extent=(*limits[0], *limits[1]),
            cmap=LinearSegmentedColormap.from_list("density", _DENSITY),
            linewidths=0.1,
        )
        axes.set_xlim(*limits[0])
        axes.set_ylim(*limits[1])
        for name, is_across in ((across, True), (up, False)):
            _draw_lines(axes, table[name], thresholds.get(name), is_across)
        for (named,), own in sorted(table.group_by("segment")):
            part = share(own.height / table.height)
            axes.annotate(
                f"{style.wrapped(str(named), 24)}\n{part}",
                (
                    _middle(own[across], limits[0], thresholds.get(across)),
                    _middle(own[up], limits[1], thresholds.get(up)),
                ),
                ha="center",
                va="center",
                fontweight="bold",
                path_effects=[withStroke(linewidth=3, foreground="white")],
                in_layout=False,
            )
        axes.set_xlabel(labels[across])
        axes.set_ylabel(labels[up])
        style.footnote(
            figure,
            "The darker, the more customers (logarithmic). Solid: thresholds. Dotted: "
            "20%, 50% and 80% of the customers are below.",
        )


def _window(values: FloatArray) -> tuple[float, float]:
    """Return the ends of an axis that a few far customers cannot squeeze."""
    low, high = np.quantile(values, [_OUTSIDE, 1 - _OUTSIDE])
    margin = 0.04 * (high - low) or 0.5
    return float(low - margin), float(high + margin)


def _middle(
    values: pl.Series, limits: tuple[float, float], threshold: float | None
) -> float:
    """Return the middle of the side of a threshold that values lie on."""
    if threshold is None:
        return sum(limits) / 2
    is_high = float(values.cast(pl.Float64).median() or 0.0) >= threshold  # type: ignore[arg-type]
    return (limits[is_high] + threshold) / 2


def _draw_lines(
    axes: Axes, values: pl.Series, threshold: float | None, is_across: bool
) -> None:
    """Draw a threshold and the quantiles, named at the far end of each line."""
    draw = axes.axvline if is_across else axes.axhline
    end = axes.get_xaxis_transform() if is_across else axes.get_yaxis_transform()
    for q in QUANTILES:
        value = float(values.quantile(q, "linear") or 0.0)
        draw(value, color=style.FAINT_INK, lw=0.9, ls=":")
        axes.annotate(
            f"p{100 * q:.0f}",
            (value, 1.0) if is_across else (1.0, value),
            xycoords=end,
            xytext=(0, 3) if is_across else (4, 0),
            textcoords="offset points",
            ha="center" if is_across else "left",
            va="bottom" if is_across else "center",
            fontsize=8.5,
            color=style.FAINT_INK,
        )
    if threshold is not None:
        draw(threshold, color=style.INK, lw=1.4)


def plot_effects(
    metrics: Sequence[str],
    effects: tuple[FloatArray, FloatArray, FloatArray],
    path: Path,
) -> None:
    """Draw how much of each metric's variance lies between the segments.

    Parameters
    ----------
    metrics : sequence of str
        What they are called, the largest effect first, downwards.
    effects : tuple of ndarray of float, each of shape (n_metrics,)
        Eta squared, and the ends of its interval.
    path : Path
        PNG to write. Dashed lines are the usual bounds of a small, a medium and a large
        effect.
    """
    value, low, high = effects
    places = np.arange(len(metrics))
    with style.picture(path, (7.4, 1.5 + 0.32 * len(metrics))) as figure:
        axes = figure.add_subplot()
        axes.hlines(places, low, high, color=style.COLOURS[0], lw=2.2)
        axes.plot(value, places, "o", color=style.COLOURS[0], ms=6)
        end = max(float(np.nanmax(high, initial=0.0)) * 1.12, 0.16)
        for bound, name in SIZES:
            axes.axvline(bound, color=style.FAINT_INK, lw=0.9, ls="--")
            axes.annotate(
                name,
                (bound, 1.0),
                xycoords=axes.get_xaxis_transform(),
                xytext=(0, 3),
                textcoords="offset points",
                ha="right" if bound == SIZES[-1][0] else "left",
                fontsize=8.5,
                color=style.FAINT_INK,
            )
        axes.set_xlim(-0.01 * end, end)
        axes.set_yticks(places, [style.shortened(name, 42) for name in metrics])
        axes.set_ylim(len(metrics) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0, labelcolor=style.INK)
        axes.set_xlabel("share of the variance that lies between the segments")
        style.footnote(figure, "Eta squared with its 95% interval.")
