"""The page of the axes: one self-contained HTML file, pictures first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from core.reporting.changes import changes_part
from core.reporting.page import NextStep, Part, Picture, Table, Templates
from core.reporting.plots import add_colour_bar, draw_cells, write_cells
from core.reporting.style import (
    COLOURS,
    FAINT_INK,
    INK,
    NOISE_COLOUR,
    footnote,
    picture,
    shortened,
)
from core.reporting.text import MISSING, count, decimal, enumerated, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_WIDTH, _ROW = 9.2, 0.5
TEMPLATES = Templates(Path(__file__).parent / "templates")
# Inches that a character of the labels takes, and the share of a bar it may fill.
_CHARACTER = 0.068
_BAR_WIDTH = 6.7
# Fewer letters of a name say nothing.
_LEAST_LETTERS = 7
# From paper to deep blue.
_AGREEMENT_COLOURS = ("#F7F7F5", "#B9D8EC", "#4D94C9", "#08457E")
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
        image = draw_cells(
            panel, shown, _AGREEMENT_COLOURS, (0, 1), bad="white", grid=None
        )
        panel.set_yticks(range(n - 1), axes[1:])
        panel.set_xticks(
            range(n - 1), axes[:-1], rotation=40, ha="right", rotation_mode="anchor"
        )
        panel.tick_params(labelsize=9)
        write_cells(
            panel,
            (
                (row, column, f"{max(ami, 0):.2f}", ami > 0.55)
                for (row, column), ami in np.ndenumerate(shown)
                if np.isfinite(ami)
            ),
        )
        panel.set_title("How much two axes tell of each other")
        add_colour_bar(image, "adjusted mutual information", pad=0.02)
        footnote(figure, "0: no more than chance; 1: the same division twice.")


def _draw_bar(panel: Axes, place: int, segments: list[dict[str, object]]) -> None:
    """Draw one axis."""
    placed = [segment for segment in segments if segment["segment_id"] != -1]
    is_single = len(placed) == 1
    shares = [float(str(segment["share"])) for segment in segments]
    starts = list(accumulate(shares, initial=0.0))[:-1]
    colours = [
        NOISE_COLOUR
        if segment["segment_id"] == -1 or is_single
        else COLOURS[rank % len(COLOURS)]
        for rank, segment in enumerate(segments)
    ]
    # All parts at once: each call would settle the panel's limits anew.
    panel.barh(
        [place] * len(shares),
        shares,
        left=starts,
        height=0.74,
        color=colours,
        ec="white",
        lw=1.2,
    )
    for segment, share, left, colour in zip(
        segments, shares, starts, colours, strict=True
    ):
        ink = INK if colour in _DARK_ON else "white"
        if segment["segment_id"] == -1 and not is_single:
            ink = FAINT_INK
        _write(panel, left + share / 2, place, str(segment["segment"]), share, ink)


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
        in_layout=False,  # it stays within its part
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


# From here on the second of two axes tells little that is new.
REDUNDANT = 0.5
_KINDS = {
    "natural": "groups",
    "cut": "tiers",
    "single": "none",
    "skipped": "skipped",
}


@dataclass(frozen=True)
class AxesContent:
    """All that the page tells, as plain data.

    Attributes
    ----------
    source : str
        Where the orders came from, as the user would name it.
    created : str
        When, as text; given from outside so that equal runs give equal pages.
    headline : str
        Who was segmented, by what.
    notes : sequence of str
        What the reader should know of the rows.
    tiles : mapping of str to int or None
        Figures of the customers, such as ``{"customers": 5000}``.
    axes : DataFrame
        A row per axis: ``axis``, ``group``, ``description``, ``kind`` (``natural``,
        ``cut``, ``single`` or ``skipped``), ``n_segments``, ``silhouette``,
        ``smallest_share``, ``largest_share``, ``stability``, ``n_not_placed``,
        ``verdict``, ``skipped``.
    segments : DataFrame
        A row per segment: ``axis``, ``segment_id`` (-1: not placed), ``segment``,
        ``n_customers``, ``share``, ``is_edited``, ``rule_name``, ``why``.
    overlap : DataFrame
        ``axis``, ``other``, ``ami``.
    changes : sequence of str
        What is other than in the run before; empty in a first run.
    moved : mapping of axis to mapping of str to int
        Customers who moved, by ``behaviour`` or by ``model``; axes without any left
        out.
    drift : DataFrame
        ``axis``, ``name``, ``statistic``, ``value``, ``threshold``, ``is_alert``;
        empty in a first run.
    next_steps : sequence of NextStep
    made : mapping of str to mapping
        How it was made, by group.
    """

    source: str
    created: str
    headline: str
    notes: Sequence[str]
    tiles: Mapping[str, int | None]
    axes: pl.DataFrame
    segments: pl.DataFrame
    overlap: pl.DataFrame
    changes: Sequence[str]
    moved: Mapping[str, Mapping[str, int]]
    drift: pl.DataFrame
    next_steps: Sequence[NextStep]
    made: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def write_axes_page(content: AxesContent, path: Path) -> list[Path]:
    """Write the page (UTF-8) and, beside it, its pictures.

    Parameters
    ----------
    content : AxesContent
    path : Path
        HTML file to write.

    Returns
    -------
    list of Path
        All files written: `path`, and where there is something to draw
        ``axes-sizes.png`` and ``axes-overlap.png``. The page holds its own copies.
    """
    pictures = _pictures(content, path.parent)
    page = TEMPLATES.page(
        "run.html.j2",
        heading="Customer axes",
        content=content,
        told=_found(content.axes),
        tiles=[(name, count(n)) for name, n in content.tiles.items()],
        pictures=pictures,
        parts=[part for part in _parts(content) if part is not None],
        axes=[
            (axis, _segment_table(axis, content))
            for axis in content.axes.filter(pl.col("n_segments") > 1).to_dicts()
        ],
    )
    path.write_text(page, encoding="utf-8", newline="\n")
    return [path, *(shown.path for shown in pictures)]


def redundant_lines(overlap: pl.DataFrame) -> list[str]:
    """Return the pairs of axes of which one tells most of the other."""
    pairs = overlap.filter(pl.col("ami") >= REDUNDANT).sort("ami", descending=True)
    return [
        f"`{axis}` and `{other}` divide the customers much alike (AMI "
        f"{decimal(ami)}): one of the two may do."
        for axis, other, ami in pairs.select("axis", "other", "ami").iter_rows()
    ]


def _found(axes: pl.DataFrame) -> tuple[str, str]:
    """Return the tone of the page, and how many axes have segments."""
    kinds = axes["kind"].to_list()
    n_divided = sum(kind in {"natural", "cut"} for kind in kinds)
    n_looked_at = sum(kind != "skipped" for kind in kinds)
    tone = "good" if n_divided else "calm"
    noun = "axis" if n_looked_at == 1 else "axes"
    verb = "has" if n_divided == 1 else "have"
    return tone, f"{n_divided} of {n_looked_at} {noun} {verb} segments"


def _pictures(content: AxesContent, folder: Path) -> list[Picture]:
    """Draw what there is to draw."""
    drawn = content.axes.filter(pl.col("n_segments") > 0)["axis"].to_list()
    if not drawn:
        return []
    plot_axis_sizes(content.segments, drawn, folder / "axes-sizes.png")
    shown = [
        Picture(
            "Segments of every axis",
            folder / "axes-sizes.png",
            "A bar per axis, divided by the shares of its segments.",
        )
    ]
    divided = content.axes.filter(pl.col("n_segments") > 1)["axis"].to_list()
    if len(divided) > 1:
        own = content.overlap.filter(
            pl.col("axis").is_in(divided) & pl.col("other").is_in(divided)
        )
        plot_overlap(own, divided, folder / "axes-overlap.png")
        alt = "Adjusted mutual information of every pair of axes."
        picture = Picture("Overlap of the axes", folder / "axes-overlap.png", alt)
        shown.append(picture)
    return shown


def _parts(content: AxesContent) -> list[Part | None]:
    """Return what stands below the pictures, before the segments one by one."""
    return [
        changes_part(content.changes, content.moved, content.drift),
        Part(
            "Axis by axis",
            [
                "A silhouette never stands alone: a handful of outliers against all "
                "others gives a high one, which the smallest and the largest share "
                "show. Stability is the agreement (adjusted Rand index) of the same "
                "segments learnt from two halves of the customers. Groups are parted "
                "by valleys in the density; tiers are cuts that were asked for.",
                *redundant_lines(content.overlap),
            ],
            tables=[
                Table(
                    "Silhouette and stability on scaled features, when the axis was "
                    "learnt; shares of the customers placed now.",
                    [_axis_row(axis) for axis in content.axes.to_dicts()],
                    frozenset({"axis", "found"}),
                )
            ],
        ),
        _single_part(content.axes),
        _skipped_part(content.axes),
    ]


def _axis_row(axis: Mapping[str, Any]) -> dict[str, str]:
    return {
        "axis": axis["axis"],
        "found": _KINDS[axis["kind"]],
        "segments": count(axis["n_segments"]) if axis["n_segments"] else MISSING,
        "silhouette": decimal(axis["silhouette"]),
        "smallest": percent(axis["smallest_share"]),
        "largest": percent(axis["largest_share"]),
        "stability": decimal(axis["stability"]),
        "not placed": count(axis["n_not_placed"]),
    }


def _segment_table(axis: Mapping[str, Any], content: AxesContent) -> Table:
    """Return the segments of one axis, and why they are called so."""
    own = content.segments.filter(axis=axis["axis"]).to_dicts()
    rows = [
        {
            "segment": segment["segment"],
            "id": str(segment["segment_id"]) if segment["segment_id"] >= 0 else MISSING,
            "customers": count(segment["n_customers"]),
            "share": percent(segment["share"]),
            "what it is like": _why(segment),
        }
        for segment in own
    ]
    return Table(axis["description"], rows, frozenset({"segment", "what it is like"}))


def _why(segment: Mapping[str, Any]) -> str:
    """Say what a name rests on, and whose it is."""
    why = str(segment["why"]).replace("`", "")
    if segment["is_edited"]:
        return f"{why} (named by a user)"
    if segment["rule_name"] != segment["segment"]:
        return f"{why} (keeps its name; by the rules {segment['rule_name']})"
    return why


def _single_part(axes: pl.DataFrame) -> Part | None:
    """Return why axes have no segments."""
    rows = [
        {"axis": axis["axis"], "finding": axis["verdict"]}
        for axis in axes.filter(kind="single").to_dicts()
    ]
    if not rows:
        return None
    return Part(
        "Axes without segments",
        [
            "On these axes the customers are one population: a cut would part those "
            "who are alike. `axes.min_segments` cuts tiers all the same."
        ],
        tables=[
            Table("The best that was tried.", rows, frozenset({"axis", "finding"}))
        ],
    )


def _skipped_part(axes: pl.DataFrame) -> Part | None:
    """Return what could not be computed of these data."""
    rows = [
        {"axis": axis["axis"], "left out": axis["skipped"]}
        for axis in axes.to_dicts()
        if axis["skipped"]
    ]
    if not rows:
        return None
    whole = axes.filter(kind="skipped")["axis"].to_list()
    names = enumerated([f"`{name}`" for name in whole])
    said = (
        f"Skipped as a whole: {names}." if whole else "No axis is skipped as a whole."
    )
    return Part(
        "What the data did not allow",
        [
            "A column that is not there leaves out what needs it, and nothing else.",
            said,
        ],
        tables=[Table("By axis.", rows, frozenset({"axis", "left out"}))],
    )
