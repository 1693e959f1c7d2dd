"""The picture of a sweep: noise ratios, and beside them what they hide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from core.reporting.style import COLOURS, INK, footnote, picture, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = (
    ("noise_ratio", "Noise ratio"),
    ("structure_score", "Structure score"),
    ("seed_ari", "Agreement of seeds (ARI)"),
)
_LOOKS = {"raw": (COLOURS[1], "s", -0.16), "latent": (COLOURS[0], "o", 0.16)}
_WIDEST_LABEL = 14


def plot_sweep(table: pl.DataFrame, varied: Sequence[str], path: Path) -> None:
    """Draw raw against latent for every preset and combination of varied options.

    Parameters
    ----------
    table : DataFrame
        As of `core.retailers.sweep.sweep`.
    varied : sequence of str
        Options that differ between runs of one preset, by dotted key.
    path : Path
        PNG to write.
    """
    presets = table["preset"].unique(maintain_order=True).to_list()
    shown = [p for p in _PANELS if not table[p[0]].is_null().all()]
    settings = table.select(varied).unique(maintain_order=True) if varied else None
    n = 1 if settings is None else settings.height
    size = (max(3.4, 1.2 + 0.55 * n) * len(shown), 2.7 * len(presets) + 1.1)
    with picture(path, size) as figure:
        grid = figure.subplots(len(presets), len(shown), squeeze=False, sharey="col")
        for axes_row, preset in zip(grid, presets, strict=True):
            own = table.filter(preset=preset)
            for axes, (column, title) in zip(axes_row, shown, strict=True):
                _draw_panel(axes, own, settings, column)
                axes.set_ylabel(title)
            axes_row[0].set_title(f"Preset: {preset}", fontsize=11)
        for axes, (column, _) in zip(grid[0], shown, strict=True):
            _scale(axes, table, column)
        _name_settings(figure, settings)
        _explain(figure, grid[0][-1])
        footnote(
            figure,
            "A mark per seed, a line at their mean. Hollow: the same recipe on data "
            "without structure.\nA low noise ratio means little where the hollow marks "
            "are as low, or where seeds do not agree.",
        )


def _draw_panel(
    axes: Axes, own: pl.DataFrame, settings: pl.DataFrame | None, column: str
) -> None:
    """Draw one figure of one preset, setting by setting."""
    rows = [{}] if settings is None else settings.to_dicts()
    for space, (colour, marker, shift) in _LOOKS.items():
        for place, setting in enumerate(rows):
            found = own.filter(space=space, **setting)
            for name, is_null in ((column, False), (f"null_{column}", True)):
                if name in own.columns:
                    middle = place + shift + (0.14 if is_null else 0.0)
                    values = found[name].drop_nulls().to_numpy()
                    _draw_seeds(axes, values, middle, colour, marker, is_null=is_null)
    axes.set_xticks(range(len(rows)), [""] * len(rows))
    axes.set_xlim(-0.6, len(rows) - 0.4)


def _scale(axes: Axes, table: pl.DataFrame, column: str) -> None:
    """Show 0 and every mark whole, the same in all presets."""
    columns = [name for name in (column, f"null_{column}") if name in table.columns]
    values = np.append(table.select(columns).to_numpy().ravel(), 0.0)
    low, high = np.nanmin(values), np.nanmax(values)
    room = 0.06 * max(high - low, 0.1)
    axes.set_ylim(low - room, high + room)


def _draw_seeds(
    axes: Axes,
    values: np.ndarray,
    middle: float,
    colour: str,
    marker: str,
    *,
    is_null: bool,
) -> None:
    if not len(values):
        return
    fill = "none" if is_null else colour
    places = np.full(len(values), middle)
    axes.scatter(places, values, s=22, marker=marker, c=fill, edgecolors=colour, lw=1)
    mean = float(values.mean())
    axes.plot([middle - 0.06, middle + 0.06], [mean, mean], c=INK, lw=1.4)


def _name_settings(figure: Figure, settings: pl.DataFrame | None) -> None:
    """Write the varied options once, and their values below each column."""
    if settings is None:
        return
    keys = settings.columns
    for axes in figure.axes:
        labels = [
            "\n".join(wrapped(str(value), _WIDEST_LABEL) for value in row)
            for row in settings.iter_rows()
        ]
        axes.set_xticklabels(labels)
        axes.set_xlabel(" / ".join(key.rpartition(".")[2] for key in keys))


def _explain(figure: Figure, axes: Axes) -> None:
    handles = [
        axes.scatter([], [], s=22, marker=marker, c=colour, label=f"{space} space")
        for space, (colour, marker, _) in _LOOKS.items()
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
