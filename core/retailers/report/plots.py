"""Plots of the report: certificate, comparison, scorecard, spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from core.evaluation.scorecard import ALL, answer
from core.reporting.plots import plot_sizes, plot_space
from core.reporting.style import COLOURS, FAINT_INK, INK, footnote, picture
from core.reporting.text import count, rounded, share
from core.retailers.features import SHOP
from core.retailers.report.evidence import report_lines, share_of_largest
from core.retailers.report.scorecard_words import (
    OUTCOME_TITLES,
    month_count,
    points,
)
from core.segments.published import SegmentKind

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_HIGHEST = 4


def plot_nulls(certificate: Mapping[str, Any], path: Path) -> None:
    """Draw the structure score of every null, and where the data's lies.

    Parameters
    ----------
    certificate : mapping
        As `core.evaluation.certificate.Certificate.as_dict` returns it.
    path : Path
        PNG to write.
    """
    score = certificate["statistic"]
    nulls = sorted(certificate["null_statistics"])
    needed = max(nulls) + certificate["required_excess"]
    right = 1.08 * max(score, needed, 0.2)
    width = right / 50
    with picture(path, (7.4, 3.4)) as figure:
        axes = figure.subplots()
        tops = _stack(axes, nulls, width)
        axes.axvspan(max(nulls), needed, color="#F1F3F5", zorder=-2)
        colour = COLOURS[2] if certificate["is_structured"] else COLOURS[1]
        axes.axvline(score, color=colour, lw=2.4)
        highest = max(_HIGHEST, max(tops) + 1)
        is_left = score > right / 2
        axes.annotate(
            f"this data: {score:.2f}",
            (score, highest * 0.94),
            xytext=(-8 if is_left else 8, 0),
            textcoords="offset points",
            ha="right" if is_left else "left",
            color=INK,
            weight="bold",
        )
        axes.set_ylim(0, highest)
        axes.set_xlim(-width, right)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("structure score: coverage x ln(effective clusters)")
        axes.set_title(_title(certificate))
        footnote(
            figure,
            f"Dots: {len(nulls)} random data sets without groups, refitted like the "
            "data. Grey band: the margin that is required.",
        )


def _stack(axes: Axes, values: list[float], width: float) -> list[float]:
    """Draw values as dots, those of one place above each other; return the heights."""
    heights: dict[int, int] = {}
    tops = []
    for value in values:
        place = round(value / width)
        heights[place] = heights.get(place, 0) + 1
        tops.append(heights[place] - 0.4)
        axes.plot([value], [tops[-1]], "o", color=FAINT_INK, ms=8, mew=0)
    return tops or [0.0]


def _title(certificate: Mapping[str, Any]) -> str:
    if certificate["is_structured"]:
        return "More structure than data without any shows"
    return "No more structure than data without any shows"


def certificate_lines(found: Mapping[str, Any]) -> list[str]:
    """Say what nulls and refits have shown.

    Parameters
    ----------
    found : mapping
        Content of ``certificate.json``.
    """
    segments = found["structure"]["segments"]
    n_passed = sum(segment["p_value"] <= 0.05 for segment in segments)
    return report_lines("certificate_terminal", **found, n_passed=n_passed)


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
    ("out_of_time", "explains later sales\nbeyond usual sales"),
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
        _explain_comparison(figure, kinds, clusterer_titles)
        footnote(
            figure,
            "Grey dash: not applicable, or not measured. Lines: 95% interval; range of "
            "the refits.\nKMeans and mixtures cut any data into the number of parts "
            "asked for, so p does not apply.",
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


def _explain_comparison(
    figure: Any, kinds: Sequence[str], titles: Mapping[Any, str]
) -> None:
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
            "clusters": count(row["clusters"]),
            "noise ratio": share(row["noise_ratio"]),
            "effective clusters": rounded(row["effective_clusters"]),
            "largest share": share(share_of_largest(row)),
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
    return report_lines("comparison", why=why)


_COLOURS = dict(zip(OUTCOME_TITLES, COLOURS, strict=False))
_MARKERS = dict(zip(OUTCOME_TITLES, "os^D", strict=False))
_SIZE_COLOUR = "#C9CDD2"
_SHORT = {
    "volume": "what a shop sells",
    "growth": "growth on the\nyear before",
    "activity": "months in which\nit buys",
    "churn": "whether it\nstops buying",
}


def plot_scorecard(
    outcomes: pl.DataFrame, decay: pl.DataFrame, facts: Mapping[str, Any], path: Path
) -> None:
    """Draw what size and labels explain of each outcome, and how that fades.

    Parameters
    ----------
    outcomes, decay : DataFrame
        `core.retailers.scorecard.score_labels` and `score_decay`.
    facts : mapping
        `core.retailers.scorecard.scorecard_facts`.
    path : Path
        PNG to write.
    """
    averages = outcomes.filter(
        pl.col("cut") == ALL, pl.col("outcome") != ALL, pl.col("population") == ALL
    )
    names = [name for name in _SHORT if name in averages["outcome"].to_list()]
    kinds = outcomes["labels"].unique(maintain_order=True).to_list()
    with picture(path, (11.2, 5.8)) as figure:
        grid = figure.add_gridspec(2, 2, width_ratios=(1.25, 1))
        bars = figure.add_subplot(grid[:, 0])
        bars.set_title(
            f"What explains the {month_count(facts['horizon_months'])} after"
        )
        _draw_bars(bars, averages, names, kinds)
        sales = figure.add_subplot(grid[0, 1])
        sales.set_title("What labels add: sales in each month")
        _draw_decay(sales, decay.filter(pl.col("outcome") == "volume"), kinds)
        buying = figure.add_subplot(grid[1, 1], sharex=sales)
        buying.set_title("What labels add: buying in each month")
        _draw_decay(buying, decay.filter(pl.col("outcome") == "activity"), kinds)
        buying.set_xlabel("months after")
        _explain_scorecard(figure, kinds)
        footnote(
            figure,
            "Shares of variance on shops not fitted, averaged over past dates, "
            f"{', '.join(facts['cuts'])}; the published labels, as of then.\n"
            "Lines and bands: 95% intervals of what the labels add. Random: labels "
            "exchanged among shops of one size.",
        )


def _draw_bars(
    axes: Axes, table: pl.DataFrame, names: Sequence[str], kinds: Sequence[str]
) -> None:
    """Draw a stacked bar per outcome and set of labels: size alone, then labels."""
    step = len(kinds) + 0.9
    end = 0.0
    for row in table.to_dicts():
        place = names.index(row["outcome"]) * step + kinds.index(row["labels"])
        colour = _COLOURS[row["labels"]]
        size, added = max(row["size"], 0.0), max(row["beyond"], 0.0)
        axes.barh(place, size, color=_SIZE_COLOUR, height=0.8)
        axes.barh(place, added, left=size, color=colour, height=0.8)
        low, high = (max(size + row[f"beyond_{e}"], 0.0) for e in ("low", "high"))
        axes.plot([low, high], [place, place], color=INK, lw=1.3)
        remark = _remark(row)
        axes.annotate(
            remark or f"+{points(row)} points",
            (max(high, size + added), place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=FAINT_INK if remark else INK,
        )
        end = max(end, high, size + added)
    middle = (len(kinds) - 1) / 2
    places = [number * step + middle for number in range(len(names))]
    axes.set_yticks(places, [_SHORT[name] for name in names])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set_ylim(max(len(names), 1) * step - 1.2, -0.8)
    axes.set_xlim(0, 1.34 * end if end else 1.0)
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= 1])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("share of the variance explained")
    axes.grid(axis="x", color=_GRID, lw=0.8)
    axes.set_axisbelow(True)


def _remark(row: dict[str, Any]) -> str:
    """Return what stands in the place of a figure that says nothing."""
    if row["n_groups"] == 1:
        return "one group only"
    return "no more than random labels" if answer(row) == "no" else ""


def _draw_decay(axes: Axes, table: pl.DataFrame, kinds: Sequence[str]) -> None:
    """Draw what labels add in each month, with intervals."""
    from matplotlib.ticker import MaxNLocator

    axes.axhline(0.0, color=INK, lw=0.9, ls=":")
    for kind in kinds:
        rows = table.filter(pl.col("labels") == kind).sort("month")
        month, colour = rows["month"].to_list(), _COLOURS[kind]
        low, high = rows["beyond_low"].to_list(), rows["beyond_high"].to_list()
        axes.fill_between(month, low, high, color=colour, alpha=0.16, lw=0)
        axes.plot(month, rows["beyond"], color=colour, marker=_MARKERS[kind], ms=5)
    if table.is_empty():
        axes.annotate(
            "too few shops differ to tell", (0.04, 0.8), xycoords="axes fraction"
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    axes.grid(axis="y", color=_GRID, lw=0.8)
    axes.set_axisbelow(True)


def _explain_scorecard(figure: Any, kinds: Sequence[str]) -> None:
    """Put the legend above the panels."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=_SIZE_COLOUR, label="usual sales alone")]
    for kind in kinds:
        colour, marker, title = _COLOURS[kind], _MARKERS[kind], OUTCOME_TITLES[kind]
        handles.append(Line2D([], [], color=colour, lw=3, marker=marker, label=title))
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))


SPACE_TITLES = {"latent": "Latent space", "raw": "Raw features"}
# The space whose clusters are the published segments, if those are clusters.
LATENT = "latent"
Projection = tuple[np.ndarray, np.ndarray]
# Of each kind of segments: the picture of where they lie, and its title.
MAPS: dict[SegmentKind, tuple[str, str]] = {
    "density": ("latent-space.png", SPACE_TITLES[LATENT]),
    "partition": ("partition-space.png", "The partition, among the scaled features"),
    "rules": ("rules-space.png", "Segments by rules, among the scaled features"),
}


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
        _draw_space(projection, labels[space], SPACE_TITLES[space], path)
    plot_sizes(
        {SPACE_TITLES[name]: values for name, values in labels.items()},
        folder / "cluster-sizes.png",
        SHOP,
    )


def draw_map(
    folder: Path,
    kind: SegmentKind,
    projection: Projection,
    labels: np.ndarray,
    noun: str,
) -> None:
    """Draw where the segments of a kind lie.

    Parameters
    ----------
    folder : Path
        Gets the file of `MAPS`.
    kind : {'density', 'partition', 'rules'}
    projection : (coordinates, shares)
        As for `draw_spaces`; of the latent space or of the scaled features.
    labels : ndarray of int, shape (n_shops,)
        Per shop its segment's id, if they are published, else its cluster; -1 is none.
    noun : str
        "segment" or "cluster".
    """
    file, title = MAPS[kind]
    _draw_space(projection, labels, title, folder / file, noun)


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
    plot_space(coordinates, labels, title, (axes[0], axes[1]), path, SHOP, noun)
