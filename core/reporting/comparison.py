"""A picture of spaces and clusterers side by side, in figures that hold across them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from core.reporting.canvas import COLOURS, FAINT_INK, INK, footnote, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colour and marker of a clusterer, by the place at which it first comes.
_LOOKS = ((COLOURS[0], "o"), (COLOURS[1], "s"), (COLOURS[2], "^"), (COLOURS[3], "D"))
_BAND = "#F3F5F7"
_GRID = "#E4E7EB"
_ROW = 0.235
_PANELS = (
    ("effective_clusters", "effective\nclusters"),
    ("coverage", "shops in\na cluster"),
    ("stability", "same when refitted\n(adjusted Rand index)"),
    ("null_p", "p against data\nwithout structure"),
    ("out_of_time", "explains later sales\nbeyond size"),
)
_SHARES = {"coverage", "stability", "null_p"}
# The level of significance, and what labels explain that say nothing.
_LINES = {"null_p": 0.05, "out_of_time": 0.0}


def plot_comparison(
    table: pl.DataFrame,
    space_titles: Mapping[Any, str],
    clusterer_titles: Mapping[Any, str],
    path: Path,
) -> None:
    """Draw every recipe as a row, and what may be compared as panels.

    Parameters
    ----------
    table : DataFrame
        One row per feature set, space and clusterer:
        `core.evaluation.comparison.compare_recipes`.
    space_titles, clusterer_titles : mapping of str to str
        What to call them.
    path : Path
        PNG to write. A null is a grey dash; no figure is drawn that means nothing.
    """
    sets = table["feature_set"].unique(maintain_order=True).to_list()
    parts = [table.filter(pl.col("feature_set") == name) for name in sets]
    kinds = table["clusterer"].unique(maintain_order=True).to_list()
    heights = [part.height for part in parts]
    size = (11.4, _ROW * sum(heights) + 0.75 * len(parts) + 1.2)
    with picture(path, size) as figure:
        grid = figure.subplots(
            len(parts), len(_PANELS), squeeze=False, height_ratios=heights, sharex="col"
        )
        for axes_row, part, name in zip(grid, parts, sets, strict=True):
            for axes, (column, _) in zip(axes_row, _PANELS, strict=True):
                _draw_panel(axes, part, column, kinds)
            _name_rows(axes_row[0], part, space_titles)
            axes_row[0].set_title(f"{name} features", fontsize=11)
        for axes, (column, title) in zip(grid[-1], _PANELS, strict=True):
            axes.set_xlabel(title)
            _scale(axes, table, column)
        _explain(figure, kinds, clusterer_titles)
        footnote(
            figure,
            "Grey dash: not applicable, or not measured. Lines: 95% interval; range of "
            "the refits.\nKMeans and mixtures cut any data into the number of parts "
            "asked for, so p is not theirs to have.",
        )


def _draw_panel(
    axes: Axes, part: pl.DataFrame, column: str, kinds: Sequence[str]
) -> None:
    """Draw one figure of all recipes of a feature set."""
    places = range(part.height)
    for place, row in zip(places, part.to_dicts(), strict=True):
        value = _value(row, column)
        colour, marker = _LOOKS[kinds.index(row["clusterer"]) % len(_LOOKS)]
        if value is None:
            axes.annotate(
                "\N{EN DASH}",
                (0.5, place),
                xycoords=("axes fraction", "data"),
                ha="center",
                va="center",
                color=FAINT_INK,
            )
            continue
        low, high = _range(row, column, value)
        axes.plot([low, high], [place, place], color=colour, lw=1.6)
        axes.plot([value], [place], marker, color=colour, ms=6, clip_on=False)
    starts = _starts(part)
    for number, (first, last) in enumerate(starts):
        if number % 2 == 0:
            axes.axhspan(first - 0.5, last + 0.5, color=_BAND, zorder=-2)
    if column in _LINES:
        axes.axvline(_LINES[column], color=INK, lw=0.9, ls=":", zorder=-1)
    axes.set_ylim(part.height - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(axis="x", color=_GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)


def _value(row: dict[str, Any], column: str) -> float | None:
    """Return what a panel shows of a row, None where it means nothing."""
    if column == "coverage":
        return 1.0 - float(row["noise_ratio"])
    return None if row[column] is None else float(row[column])


def _range(row: dict[str, Any], column: str, value: float) -> tuple[float, float]:
    """Return the ends of the line through a value; the value itself without one."""
    if column == "out_of_time" and row["out_of_time_se"] is not None:
        half = 1.96 * float(row["out_of_time_se"])
        return value - half, value + half
    if column == "stability":
        return float(row["stability_lowest"]), float(row["stability_highest"])
    return value, value


def _starts(part: pl.DataFrame) -> list[tuple[int, int]]:
    """Return the first and the last row of each space."""
    rows = part.with_row_index("place").group_by("space", maintain_order=True)
    edges = rows.agg(first=pl.col("place").min(), last=pl.col("place").max())
    return [(int(first), int(last)) for _, first, last in edges.rows()]


def _name_rows(axes: Axes, part: pl.DataFrame, titles: Mapping[Any, str]) -> None:
    """Write each space's name beside the middle of its rows."""
    spaces = part["space"].unique(maintain_order=True).to_list()
    middles = [(first + last) / 2 for first, last in _starts(part)]
    axes.set_yticks(middles, [titles.get(space, space) for space in spaces])
    axes.tick_params(axis="y", length=0, labelcolor=INK)


def _scale(axes: Axes, table: pl.DataFrame, column: str) -> None:
    """Give a panel the scale that its figure has, whatever was found."""
    if column in _SHARES:
        lowest = min([0.0, *table["stability_lowest"].drop_nulls().to_list()])
        axes.set_xlim(lowest if column == "stability" else 0.0, 1.0)
    elif column == "effective_clusters":
        axes.set_xlim(left=0.0)
    if column == "coverage":
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    if column == "out_of_time":
        low, high = axes.get_xlim()
        form = ".0%" if high - low > 0.1 else ".1%"
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:{form}}")


def _explain(figure: Any, kinds: Sequence[str], titles: Mapping[Any, str]) -> None:
    """Put the legend of the clusterers above the panels."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, marker=marker, ls="", label=titles.get(kind, kind))
        for kind, (colour, marker) in zip(kinds, _LOOKS, strict=False)
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))


def comparison_table(table: pl.DataFrame) -> list[dict[str, str]]:
    """Return the rows of `core.evaluation.comparison.compare_recipes` as text."""
    return [
        {
            "recipe": f"{row['feature_set']} {row['space']} {row['clusterer']}",
            "n": str(row["clusters"]),
            "noise": f"{row['noise_ratio']:.0%}",
            "effective": f"{row['effective_clusters']:.1f}",
            "largest": _text(row["largest_share"], ".0%"),
            "stable": _text(row["stability"], ".2f"),
            "p": _text(row["null_p"], ".2f") + ("*" if row["beyond_null"] else ""),
            "out of time": _text(row["out_of_time"], "+.1%")
            + _text(row["out_of_time_se"], ".1%", " ±", ""),
            "s": f"{row['seconds']:.1f}",
        }
        for row in table.to_dicts()
    ]


def _text(value: float | None, form: str, before: str = "", none: str = "-") -> str:
    return none if value is None else f"{before}{value:{form}}"


def comparison_lines(table: pl.DataFrame) -> list[str]:
    """Say what the table's figures are, and why some are missing."""
    notes = "; ".join(table["note"].drop_nulls().to_list())
    why = list(dict.fromkeys(note for note in notes.split("; ") if note))
    lines = [
        "n: clusters. Stable: adjusted Rand index with the recipe learnt anew on 80% "
        "of the shops. p: against data without structure; * beyond it by the margin "
        "that counts. Out of time: share of the variance of what shops did later that "
        "the labels explain beyond size, ± its standard error. s: seconds.",
    ]
    return [*lines, f"A dash: {'; '.join(why)}."] if why else lines
