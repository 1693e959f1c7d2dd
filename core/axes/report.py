"""The page of the axes: one self-contained HTML file, groups and what to do first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from core.axes.told import overview
from core.lifecycle.page import NO_PROOF, Found, PageContent, segment_rows
from core.lifecycle.told import HOW_SURE, placed
from core.reporting.board import BoardAxis
from core.reporting.changes import Words, changes_part, drift_part
from core.reporting.page import Part, Picture, Table, Templates
from core.reporting.plots import add_colour_bar, draw_cells, write_cells
from core.reporting.style import footnote, picture
from core.reporting.text import (
    MISSING,
    count,
    decimal,
    enumerated,
    plural,
    share,
    spoken,
)

TEMPLATES = Templates(Path(__file__).parent / "templates")
REDUNDANT = 0.5
"""Adjusted mutual information from which one of two axes tells little that is new."""
# From paper to deep blue.
_AGREEMENT_COLOURS = ("#F7F7F5", "#B9D8EC", "#4D94C9", "#08457E")
_KINDS = {
    "natural": "groups",
    "cut": "tiers",
    "single": "none",
    "skipped": "skipped",
}


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
    titles = [spoken(axis) for axis in axes]
    with picture(path, (side + 1.6, side)) as figure:
        panel = figure.add_subplot()
        # The lower triangle: the last row and the first column have all pairs.
        shown = values[1:, : n - 1]
        image = draw_cells(
            panel, shown, _AGREEMENT_COLOURS, (0, 1), bad="white", grid=None
        )
        panel.set_yticks(range(n - 1), titles[1:])
        panel.set_xticks(
            range(n - 1), titles[:-1], rotation=40, ha="right", rotation_mode="anchor"
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


@dataclass(frozen=True)
class AxesContent:
    """All that the page tells, as plain data.

    Attributes
    ----------
    page : PageContent
    n_customers : int
    told : sequence of BoardAxis
        Axes and their segments in words, see `core.axes.told.told_axes`.
    axes : DataFrame
        A row per axis: `core.axes.output.REPORT_SCHEMA`.
    segments : DataFrame
        A row per segment: ``axis``, ``segment_id`` (-1: not placed), ``segment``,
        ``is_edited``, ``rule_name``, ``why``.
    overlap : DataFrame
        ``axis``, ``other``, ``ami``.
    same : sequence of str
        Segments of different axes with nearly the same customers, a sentence each.
    changes : sequence of str
        What is other than in the run before; empty in a first run.
    moved : mapping of axis to mapping of str to int
        Customers who moved, by ``behaviour`` or by ``model``; axes without any left
        out. None: that cannot be told.
    drift : DataFrame
        ``axis``, ``name``, ``statistic``, ``value``, ``threshold``, ``is_alert``;
        empty in a first run.
    words : callable
        What a feature is called.
    """

    page: PageContent
    n_customers: int
    told: Sequence[BoardAxis]
    axes: pl.DataFrame
    segments: pl.DataFrame
    overlap: pl.DataFrame
    same: Sequence[str]
    changes: Sequence[str]
    moved: Mapping[str, Mapping[str, int]] | None
    drift: pl.DataFrame
    words: Words = spoken


def write_axes_page(content: AxesContent, path: Path) -> list[Path]:
    """Write the page (UTF-8) and, beside it, its picture.

    Parameters
    ----------
    content : AxesContent
    path : Path
        HTML file to write.

    Returns
    -------
    list of Path
        All files written: `path`, and ``axes-overlap.png`` if two axes have segments.
        The page holds its own copy.
    """
    divided = [axis for axis in content.told if len(placed(axis)) > 1]
    pictures = _pictures(content, [axis.name for axis in divided], path.parent)
    changes = changes_part(content.changes, content.moved, content.drift, content.words)
    page = TEMPLATES.page(
        "axes.html.j2",
        heading="Customer axes",
        content=content.page,
        found=found_of(content.axes["kind"].to_list(), content.n_customers, divided),
        divided=[(axis, overview(axis)) for axis in divided],
        has_values=any(s.value_share is not None for a in divided for s in a.segments),
        undivided=_undivided(content.axes),
        parts=[] if changes is None else [changes],
        account=[],
        details=[(axis, *segment_rows(axis.segments)) for axis in divided],
        alike=[*redundant_lines(content.overlap), *content.same],
        pictures=pictures,
        research=[part for part in _research(content) if part is not None],
    )
    path.write_text(page, encoding="utf-8", newline="\n")
    return [path, *(shown.path for shown in pictures)]


def redundant_lines(overlap: pl.DataFrame) -> list[str]:
    """Return the pairs of axes of which one tells most of the other."""
    pairs = overlap.filter(pl.col("ami") >= REDUNDANT).sort("ami", descending=True)
    return [
        f"{spoken(axis).capitalize()} and {spoken(other)} divide the customers much "
        f"alike (adjusted mutual information {decimal(ami)} of 1): one of the two may "
        "do."
        for axis, other, ami in pairs.select("axis", "other", "ami").iter_rows()
    ]


def found_of(
    kinds: Sequence[str], n_customers: int, divided: Sequence[BoardAxis]
) -> Found:
    """Return how many axes have segments, and how sure they are.

    Parameters
    ----------
    kinds : sequence of str
        Of all axes, see `AxesContent`.
    n_customers : int
    divided : sequence of BoardAxis
        Those with two segments or more.
    """
    n_looked_at = sum(kind != "skipped" for kind in kinds)
    sure = [axis.segments[0].how_sure for axis in divided]
    n_clear = sure.count("clear")
    found = Counter(sure)
    rest = [f"{word} on {found[word]}" for word in HOW_SURE if word in found]
    noun = plural(n_looked_at, "axis").replace("axiss", "axes")
    title = f"{plural(n_customers, 'customer')}: segments on {len(divided)} of {noun}"
    if not divided:
        return Found("calm", title, "no segments", ["No axis divides the customers."])
    badge = "clear segments" if n_clear == len(divided) else ", ".join(rest)
    tone = "good" if 2 * n_clear >= len(divided) else "care"
    return Found(tone, title, badge, [NO_PROOF])


def _undivided(axes: pl.DataFrame) -> str:
    """Return which axes have no segments, in a sentence."""
    told = [
        f"{said}: {enumerated([spoken(name) for name in names])}"
        for kind, said in (
            ("single", "No segments, all customers are one group"),
            ("skipped", "Not computed, because the data lack what they need"),
        )
        if (names := axes.filter(kind=kind)["axis"].to_list())
    ]
    return f"{'. '.join(told)}." if told else ""


def _pictures(content: AxesContent, divided: list[str], folder: Path) -> list[Picture]:
    """Draw the overlap, if there is any."""
    if len(divided) < 2:
        return []
    own = content.overlap.filter(
        pl.col("axis").is_in(divided) & pl.col("other").is_in(divided)
    )
    path = folder / "axes-overlap.png"
    plot_overlap(own, divided, path)
    alt = "Adjusted mutual information of every pair of axes."
    return [Picture("Overlap of the axes", path, alt)]


def _research(content: AxesContent) -> list[Part | None]:
    """Return the figures that the segments rest on."""
    return [
        Part(
            "Axis by axis",
            [
                "Silhouette and stability are measured on scaled features, when the "
                "axis was learnt. Read a silhouette with the smallest and the largest "
                "share: a few outliers against all others give a high one. Stability: "
                "agreement (adjusted Rand index) of the segments of two random halves "
                "of the customers. Groups have gaps in density between them; tiers "
                "are cuts that were requested.",
            ],
            tables=[
                Table(
                    "Shares are of the customers placed in this run.",
                    [_axis_row(axis) for axis in content.axes.to_dicts()],
                    frozenset({"axis", "found"}),
                )
            ],
        ),
        Part(
            "Why segments have their names",
            ["Files and the API have the names in code, with underscores."],
            tables=[
                Table(
                    "Findings that the name rests on.",
                    [_name_row(row) for row in content.segments.to_dicts()],
                    frozenset({"segment", "axis", "rests on"}),
                )
            ],
        ),
        _single_part(content.axes),
        _skipped_part(content.axes),
        drift_part(content.drift, content.words),
    ]


def _axis_row(axis: Mapping[str, Any]) -> dict[str, str]:
    return {
        "axis": spoken(axis["axis"]),
        "found": _KINDS[axis["kind"]],
        "segments": count(axis["n_segments"]) if axis["n_segments"] else MISSING,
        "silhouette": decimal(axis["silhouette"]),
        "gap in density": decimal(axis["valley"]),
        "smallest": share(axis["smallest_share"]),
        "largest": share(axis["largest_share"]),
        "stability": decimal(axis["stability"]),
        "not placed": count(axis["n_not_placed"]),
    }


def _name_row(segment: Mapping[str, Any]) -> dict[str, str]:
    """Return what a name rests on, and whose it is."""
    why = segment["why"]
    if segment["is_edited"]:
        why = f"{why} (named by a user)"
    elif segment["rule_name"] != segment["segment"]:
        why = f"{why} (keeps its name; by the rules {spoken(segment['rule_name'])})"
    id_ = segment["segment_id"]
    return {
        "segment": spoken(segment["segment"]),
        "id": str(id_) if id_ >= 0 else MISSING,
        "axis": spoken(segment["axis"]),
        "rests on": why,
    }


def _single_part(axes: pl.DataFrame) -> Part | None:
    """Return why axes have no segments."""
    rows = [
        {"axis": spoken(axis["axis"]), "finding": axis["verdict"]}
        for axis in axes.filter(kind="single").to_dicts()
    ]
    if not rows:
        return None
    return Part(
        "Axes without segments",
        [
            "On these axes the customers are one group: a cut would separate customers "
            "who are alike. To cut tiers all the same, set `axes.min_segments`."
        ],
        tables=[
            Table("The best that was tried.", rows, frozenset({"axis", "finding"}))
        ],
    )


def _skipped_part(axes: pl.DataFrame) -> Part | None:
    """Return what could not be computed of these data."""
    rows = [
        {"axis": spoken(axis["axis"]), "left out": axis["skipped"]}
        for axis in axes.to_dicts()
        if axis["skipped"]
    ]
    if not rows:
        return None
    return Part(
        "What the data did not allow",
        ["A missing column leaves out the features that need it, and nothing else."],
        tables=[Table("By axis.", rows, frozenset({"axis", "left out"}))],
    )
