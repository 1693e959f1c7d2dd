"""Pictures of a run: PNG files that read well in a report and in colour blindness.

Clusters are told apart by colour (Okabe and Ito, 2008), by the shape of their markers
and by a number written on them; noise is pale grey and lies behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import ModelError
from core.reporting.canvas import (
    COLOURS,
    FAINT_INK,
    INK,
    NOISE_COLOUR,
    cluster_look,
    picture,
    wrapped,
)
from core.reporting.heatmap import plot_heatmap
from core.reporting.scatter import plot_space

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_heatmap", "plot_loss", "plot_sizes", "plot_space"]

NOISE = -1
_BARS_DRAWN = 15


def plot_loss(
    history: Mapping[str, Sequence[float]], best_epoch: int, path: Path
) -> None:
    """Draw the training and validation loss by epoch, and mark the epoch kept.

    Parameters
    ----------
    history : mapping of str to sequence of float
        ``loss`` and, where there is one, ``val_loss``: one value per epoch.
    best_epoch : int
        Counted from 1: the epoch whose weights were kept.
    path : Path
        PNG to write.

    Raises
    ------
    ModelError
        For a history without a `loss`, or a `best_epoch` outside of it.
    """
    n_epochs = len(history.get("loss", ()))
    if not 1 <= best_epoch <= n_epochs:
        raise ModelError(
            f"`best_epoch` is {best_epoch}, the history holds {n_epochs} epochs of "
            "`loss`; expected an epoch of it, counted from 1."
        )
    from matplotlib.ticker import MaxNLocator

    with picture(path, (6.2, 3.6)) as figure:
        axes = figure.add_subplot()
        ends = []
        for key, name, colour, dash in (
            ("loss", "training", COLOURS[0], "-"),
            ("val_loss", "validation", COLOURS[4], "--"),
        ):
            values = np.asarray(history.get(key, ()), dtype=np.float64)
            if len(values):
                epochs = np.arange(1, len(values) + 1)
                marker = "o" if len(values) == 1 else ""
                axes.plot(epochs, values, dash, color=colour, lw=1.8, marker=marker)
                ends.append((float(values[-1]), len(values), name, colour))
        _write_at_line_ends(axes, ends)
        _mark_best_epoch(axes, history, best_epoch)
        axes.set_title("Loss while the autoencoder was trained")
        axes.set_xlim(0.5, n_epochs + 0.5)
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(axis="y", color="#E4E7EB", lw=0.8)
        axes.set_axisbelow(True)


def plot_sizes(labels_by_space: Mapping[str, ArrayLike], path: Path) -> None:
    """Draw the shops in every cluster and in noise, one panel per space.

    All panels share one linear scale that starts at 0 and ends at all shops, so that
    a dominating cluster looks dominating. The 15 largest clusters get a bar each, the
    others one together.

    Parameters
    ----------
    labels_by_space : mapping of str to array-like of int
        The title of a space to its labels; -1 is noise.
    path : Path
        PNG to write.
    """
    panels = {name: _bars(np.asarray(x)) for name, x in labels_by_space.items()}
    heights = [len(bars) for bars in panels.values()]
    height = 1.3 * len(panels) + 0.3 * sum(heights)
    with picture(path, (6.2, max(height, 2.2))) as figure:
        grid = figure.subplots(
            len(panels), 1, squeeze=False, height_ratios=heights, sharex=True
        )[:, 0]
        total = max(sum(bar[1] for bar in bars) for bars in panels.values())
        for axes, (name, bars) in zip(grid, panels.items(), strict=True):
            _draw_bars(axes, bars)
            axes.set_title(wrapped(name, 70))
            axes.set_xlim(0, total * 1.24)
        grid[-1].set_xlabel("shops")
        grid[-1].xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        grid[-1].set_xticks([t for t in grid[-1].get_xticks() if 0 <= t <= total])


def _write_at_line_ends(
    axes: Axes, ends: Sequence[tuple[float, int, str, str]]
) -> None:
    """Name each line at its right end, the higher one above the other."""
    for place, (value, epoch, name, colour) in enumerate(sorted(ends)):
        axes.annotate(
            name,
            (epoch, value),
            xytext=(7, 0 if len(ends) == 1 else (-7, 7)[place]),
            textcoords="offset points",
            va="center",
            color=colour,
            fontweight="bold",
            annotation_clip=False,
        )


def _mark_best_epoch(
    axes: Axes, history: Mapping[str, Sequence[float]], best_epoch: int
) -> None:
    """Draw a line and a point where the weights were kept."""
    curve = history.get("val_loss") or history["loss"]
    best = curve[best_epoch - 1]
    axes.axvline(best_epoch, color=FAINT_INK, lw=0.9, ls=":")
    axes.plot([best_epoch], [best], "o", ms=7, mfc="white", mec=INK, mew=1.5)
    is_late = best_epoch > len(history["loss"]) / 2
    axes.annotate(
        f"kept: epoch {best_epoch} ({best:.4g})",
        (best_epoch, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-6 if is_late else 6, -4),
        textcoords="offset points",
        ha="right" if is_late else "left",
        va="top",
        color=INK,
    )


def _bars(labels: NDArray[np.int64]) -> list[tuple[str, int, str]]:
    """Return name, shops and colour of each bar, from the top down."""
    clusters, sizes = np.unique(labels[labels != NOISE], return_counts=True)
    bars = [
        (f"cluster {cluster}", int(size), str(cluster_look(place)["color"]))
        for place, (cluster, size) in enumerate(zip(clusters, sizes, strict=True))
    ]
    bars.sort(key=lambda bar: -bar[1])
    if len(bars) > _BARS_DRAWN:
        rest = bars[_BARS_DRAWN:]
        name = f"{len(rest)} more clusters"
        bars = [*bars[:_BARS_DRAWN], (name, sum(bar[1] for bar in rest), "#7B8794")]
    if not bars:
        bars = [("no cluster", 0, NOISE_COLOUR)]
    return [*bars, ("noise", int((labels == NOISE).sum()), NOISE_COLOUR)]


def _draw_bars(axes: Axes, bars: Sequence[tuple[str, int, str]]) -> None:
    """Draw horizontal bars with their counts and shares written beside them."""
    places = np.arange(len(bars))
    counts = [bar[1] for bar in bars]
    total = max(sum(counts), 1)
    axes.barh(places, counts, color=[bar[2] for bar in bars], height=0.72)
    for place, count in zip(places, counts, strict=True):
        axes.annotate(
            f"{count:,}  ({count / total:.1%})",
            (count, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.set_yticks(places, [bar[0] for bar in bars])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set_ylim(len(bars) - 0.4, -0.6)
