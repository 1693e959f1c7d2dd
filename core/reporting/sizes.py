"""How many shops every segment has, month by month, and why that changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import polars as pl

from core.reporting.canvas import (
    COLOURS,
    FAINT_INK,
    INK,
    NOISE_COLOUR,
    footnote,
    picture,
    wrapped,
)
from core.reporting.decision import titled
from core.reporting.parts import Part, Picture, Table
from core.reporting.wording import MISSING, count, percent
from core.segments.published import UNASSIGNED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_SEGMENTS = 14
_COLUMNS = 3
_MONTHS_NAMED = 4
_FLOWS = ("entered", "left", "moved_in", "moved_out", "model_in", "model_out")


def sizes_part(
    flow: pl.DataFrame, names: Mapping[str, str], folder: Path
) -> Part | None:
    """Return the segments' sizes over time, and how this month's came about.

    Parameters
    ----------
    flow : DataFrame
        `core.segments.movement.stock_and_flow` of the last months.
    names : mapping of str to str
        Id, as text, to name.
    folder : Path
        Gets ``refresh-sizes.png``.
    """
    if not len(flow):
        return None
    file = folder / "refresh-sizes.png"
    plot_sizes_over_time(flow, names, file)
    alt = "Shops of every segment by month; this month's are in the table below."
    return Part(
        "Segment sizes over time",
        [],
        [Picture("Shops by month", file, alt)],
        [
            Table(
                "How this month's sizes came about: every line adds up.",
                size_table(flow, names),
                frozenset({"segment"}),
            )
        ],
    )


def plot_sizes_over_time(
    flow: pl.DataFrame, names: Mapping[str, str], path: Path
) -> None:
    """Draw the shops of every segment by month, a panel each.

    Every panel has a scale of its own that starts at 0, so that a segment that stays
    as it is looks flat whatever its size. A dotted line marks a month that ended
    with another model than the one before.

    Parameters
    ----------
    flow : DataFrame
        `core.segments.movement.stock_and_flow`. The 14 segments that are largest in
        the last month they are in, and the unassigned, are drawn.
    names : mapping of str to str
        Id, as text, to name.
    path : Path
        PNG to write.
    """
    sizes = flow.filter(pl.col("stock") > 0).sort("month", "segment")
    months = sizes["month"].unique().sort().to_list()
    changes = _model_months(flow)
    last = sizes.group_by("segment").agg(pl.col("stock").last())
    order = last.sort(["stock", "segment"], descending=[True, False])["segment"]
    segments = [s for s in order if s != UNASSIGNED]
    drawn = sorted(segments[:_MOST_SEGMENTS])
    drawn += [UNASSIGNED] if UNASSIGNED in order else []
    n_columns = min(_COLUMNS, max(len(drawn), 1))
    n_rows = max(-(-len(drawn) // n_columns), 1)
    with picture(path, (max(3.1 * n_columns, 4.6), 1.9 * n_rows + 0.5)) as figure:
        grid = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True)
        for place, axes in enumerate(grid.ravel()):
            if place >= len(drawn):
                axes.set_visible(False)
                continue
            own = sizes.filter(pl.col("segment") == drawn[place])
            _draw_sizes(axes, own, months, changes)
            axes.set_title(wrapped(titled(drawn[place], names), 34), fontsize=9.5)
            axes.tick_params(labelbottom=place + n_columns >= len(drawn))
        footnote(figure, _sizes_note(len(segments), changes))


def size_table(flow: pl.DataFrame, names: Mapping[str, str]) -> list[dict[str, str]]:
    """Return how the last month came about, segment by segment, as texts.

    A line adds up: before + entered - left + moved in - moved out + by the new model =
    now.
    """
    own = flow.filter(pl.col("month") == pl.col("month").max())
    known = own.filter(pl.any_horizontal(pl.col("stock", *_FLOWS) != 0))
    is_none = (pl.col("segment") == UNASSIGNED).cast(pl.Int8)
    has_model = bool((known["model_in"] + known["model_out"]).sum())
    rows = known.sort(is_none, pl.col("segment")).to_dicts()
    total = max(sum(row["stock"] for row in rows), 1)
    return [_size_row(row, total, names, has_model=has_model) for row in rows]


def _size_row(
    row: Mapping[str, int], total: int, names: Mapping[str, str], *, has_model: bool
) -> dict[str, str]:
    """Return one segment's line of the balance."""
    gained = row["entered"] + row["moved_in"] + row["model_in"]
    lost = row["left"] + row["moved_out"] + row["model_out"]
    texts = {
        "segment": titled(row["segment"], names),
        "before": count(row["stock"] - gained + lost),
        "entered": _signed(row["entered"]),
        "left": _signed(-row["left"]),
        "moved in": _signed(row["moved_in"]),
        "moved out": _signed(-row["moved_out"]),
    }
    if has_model:
        texts["by the new model"] = _signed(row["model_in"] - row["model_out"])
    return {
        **texts,
        "now": count(row["stock"]),
        "share": percent(row["stock"] / total),
    }


def _signed(n: int) -> str:
    """Return a change with a true sign; nothing changed is a dash."""
    if not n:
        return MISSING
    return f"{n:+,}".replace("-", "\N{MINUS SIGN}")


def _draw_sizes(
    axes: Axes, own: pl.DataFrame, months: list[str], changes: Sequence[str]
) -> None:
    """Draw one segment's shops by month, with its first and last number."""
    place = {month: i for i, month in enumerate(months)}
    x = [place[month] for month in own["month"]]
    y = own["stock"].to_list()
    is_none = own["segment"][0] == UNASSIGNED
    colour = FAINT_INK if is_none else COLOURS[0]
    axes.fill_between(x, y, color=NOISE_COLOUR if is_none else colour, alpha=0.15, lw=0)
    axes.plot(x, y, color=colour, lw=1.8, marker="o", ms=3)
    for change in changes:
        axes.axvline(place[change], color=FAINT_INK, lw=0.8, ls=":")
    _write(axes, x[-1], y[-1], (7, 0), "left")
    if len(x) > 1:
        _write(axes, x[0], y[0], (0, 6), "center")
    axes.set_ylim(0, 1.25 * max(y))
    step = -(-len(months) // _MONTHS_NAMED)
    ticks = list(range(len(months) - 1, -1, -step))[::-1]
    axes.set_xticks(ticks, [months[i] for i in ticks])
    # Room for the last number, right of its point.
    axes.set_xlim(-0.6, 1.16 * len(months) - 0.4)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.tick_params(labelsize=8)


def _write(
    axes: Axes,
    x: int,
    y: int,
    offset: tuple[int, int],
    align: Literal["left", "center"],
) -> None:
    """Write a number beside its point."""
    axes.annotate(
        f"{y:,}",
        (x, y),
        xytext=offset,
        textcoords="offset points",
        ha=align,
        va="center" if align == "left" else "bottom",
        fontsize=8,
        color=INK,
        annotation_clip=False,
    )


def _model_months(flow: pl.DataFrame) -> list[str]:
    """Return the months that end with another model than the month before."""
    months = flow.group_by("month").agg(pl.col("version").first()).sort("month")
    is_new = pl.col("version") != pl.col("version").shift()
    return months.filter(is_new.fill_null(value=False))["month"].to_list()


def _sizes_note(n_segments: int, changes: Sequence[str]) -> str:
    """Say how to read the picture, and what was left out of it."""
    said = ["Shops by month; every panel has its own scale, from 0."]
    if changes:
        said.append("Dotted: another model came to serve.")
    if n_segments > _MOST_SEGMENTS:
        said.append(f"The {_MOST_SEGMENTS} largest of {n_segments} segments.")
    return " ".join(said)
