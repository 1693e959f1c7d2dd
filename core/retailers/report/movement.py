"""Movement and sizes of segments month by month: plots and tables."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from core.reporting import style
from core.reporting.page import Part, Picture, Table
from core.reporting.plots import draw_cells, write_cells
from core.reporting.text import MISSING, count, share
from core.retailers.report.decision import refresh_sentences, titled
from core.segments.published import UNASSIGNED
from core.segments.transitions import transitions, transitions_within

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_MOST_SEGMENTS = 14
_NEW = "not there before"
_LEFT = "not there any more"
# A cell of so many per cent of its row or more has the deepest colour.
_DEEPEST = 0.25
Ids = tuple[int | None, ...]


_MOVES = {
    "real": ("Real movement", "refresh-movement.png"),
    "model": ("Change of the model", "refresh-model-change.png"),
    "span": ("Over a longer time", "refresh-span.png"),
}


MovesKind = Literal["real", "model", "span"]


@dataclass(frozen=True)
class Moves:
    """Who went where between two labellings.

    Attributes
    ----------
    kind : {'real', 'model', 'span'}
        ``real``: from the month before to this one, both by the old model. ``model``:
        the same month by the old and by the new model. ``span``: from an earlier month
        to this one, whatever models served.
    before, after : str
        What is compared, such as ``"April 2024"`` or ``"version 3"``.
    table : polars.DataFrame
        `transitions`: ``from``, ``to`` (segment, -1 unassigned,
        null not there), ``n`` and ``n_settled``.
    within : polars.DataFrame
        `transitions_within`: the same of sub-segments, where the segment stayed.
    """

    kind: MovesKind
    before: str
    after: str
    table: pl.DataFrame
    within: pl.DataFrame

    @classmethod
    def of(
        cls,
        kind: MovesKind,
        sides: tuple[str, str],
        before: pl.DataFrame,
        after: pl.DataFrame,
    ) -> Self:
        """Compare two blocks of the ledger, which are called by `sides`."""
        within = transitions_within(before, after)
        return cls(kind, *sides, transitions(before, after), within)


@dataclass(frozen=True)
class Matrix:
    """Transitions as a matrix of shops, largest segments first.

    Attributes
    ----------
    before, after : tuple of (int or None)
        Segments of the rows and of the columns; -1 unassigned, None not there.
    counts : ndarray of int64, shape (len(before), len(after))
    totals : ndarray of int64, shape (len(before),)
        Shops of each row, those in columns that were left out too.
    n_hidden : int
        Shops of segments that were left out because there are too many.
    """

    before: Ids
    after: Ids
    counts: NDArray[np.int64]
    totals: NDArray[np.int64]
    n_hidden: int = 0


def movement_part(moves: Moves, names: Mapping[str, str], folder: Path) -> Part | None:
    """Return who went where; None where there is nobody in the table.

    Parameters
    ----------
    moves : Moves
    names : mapping of str to str
        Id, as text, to name.
    folder : Path
        Gets the picture: ``refresh-movement.png``, ``refresh-model-change.png`` or
        ``refresh-span.png``.
    """
    if not len(moves.table):
        return None
    heading, name = _MOVES[moves.kind]
    file, title = folder / name, f"From {moves.before} to {moves.after}"
    plot_movement(moves.table, names, heading, (moves.before, moves.after), file)
    here = pl.col("from").is_not_null() & pl.col("to").is_not_null()
    both = moves.table.filter(here)
    stayed = both.filter(pl.col("from") == pl.col("to"))
    words, rows = frozenset({"from", "to"}), largest_moves(moves.table, names)
    tables = [Table(f"{title}: the largest moves.", rows, words)]
    if within := largest_moves(moves.within, names):
        caption = f"{title}: the largest moves within segments."
        tables.append(Table(caption, within, words))
    return Part(
        heading,
        refresh_sentences(
            "movement",
            kind=moves.kind,
            total=int(both["n"].sum()),
            stayed=int(stayed["n"].sum()),
        ),
        [Picture(title, file, f"{title}: shops by segment; see the table below.")],
        tables,
    )


def matrix_of(transitions: pl.DataFrame) -> Matrix:
    """Arrange transitions as a matrix whose rows and columns are in one order.

    Parameters
    ----------
    transitions : DataFrame
        ``from``, ``to`` (segment, -1 unassigned, null not there) and ``n``.
    """
    known = transitions.filter(pl.col("n") > 0)
    rows = list(known.select("from", "to", "n").iter_rows())
    sizes: dict[int | None, int] = {}
    for before, after, n in rows:
        for segment in {before, after}:
            sizes[segment] = sizes.get(segment, 0) + n
    segments = sorted(
        (s for s in sizes if s is not None and s != UNASSIGNED),
        key=lambda s: (-sizes[s], s),
    )
    kept = {*segments[:_MOST_SEGMENTS], UNASSIGNED, None}
    shown = [row for row in rows if row[0] in kept and row[1] in kept]
    befores, afters = (_side(shown, place, segments) for place in (0, 1))
    counts = np.zeros((len(befores), len(afters)), dtype=np.int64)
    for before, after, n in shown:
        counts[befores.index(before), afters.index(after)] += n
    totals = [sum(n for source, _, n in rows if source == row) for row in befores]
    hidden = sum(n for *_, n in rows) - int(counts.sum())
    return Matrix(befores, afters, counts, np.array(totals, np.int64), hidden)


def plot_movement(
    transitions: pl.DataFrame,
    names: Mapping[str, str],
    title: str,
    sides: tuple[str, str],
    path: Path,
) -> None:
    """Draw how many shops went from which segment to which.

    Those that stayed are written on grey; the colour of a move is its share of the
    segment that it comes from, so that a small segment that empties is seen.

    Parameters
    ----------
    transitions : DataFrame
        `transitions`. The 14 largest segments are drawn.
    names : mapping of str to str
        Id, as text, to name.
    title : str
    sides : tuple of str
        What the rows and the columns are, such as ``("April 2024", "May 2024")``.
    path : Path
        PNG to write.
    """
    matrix = matrix_of(transitions)
    n_rows, n_columns = matrix.counts.shape
    size = (max(3.4 + 0.8 * n_columns, 6.0), max(2.2 + 0.36 * n_rows, 3.2))
    with style.picture(path, size) as figure:
        axes = figure.add_subplot()
        if not n_rows:
            axes.set_axis_off()
            axes.text(0.5, 0.5, "No shop is in both.", ha="center")
            return
        _draw_moves(axes, matrix)
        columns = [_name(segment, names, _LEFT) for segment in matrix.after]
        rows = [_name(segment, names, _NEW) for segment in matrix.before]
        axes.set_xticks(range(n_columns), [_headed(name) for name in columns])
        axes.set_yticks(range(n_rows), [style.shortened(name, 34) for name in rows])
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.tick_params(labelsize=8.5)
        axes.tick_params(axis="x", labelsize=7.5)
        axes.set_xlabel(sides[1], color=style.FAINT_INK, labelpad=8)
        axes.set_ylabel(sides[0], color=style.FAINT_INK)
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        style.footnote(figure, _movement_note(matrix))


def largest_moves(
    transitions: pl.DataFrame, names: Mapping[str, str]
) -> list[dict[str, str]]:
    """Return the largest moves between segments as a table of texts.

    Shops that came or went are no moves; those from or to the unassigned are.
    """
    sizes = transitions.group_by("from").agg(pl.col("n").sum().alias("total"))
    has_moved = (pl.col("from") != pl.col("to")) & (pl.col("n") > 0)
    moves = (
        transitions.filter(has_moved)
        .join(sizes, on="from")
        .sort(["n", "from", "to"], descending=[True, False, False])
        .head(8)
    )
    return [
        {
            "from": titled(row["from"], names),
            "to": titled(row["to"], names),
            "shops": count(row["n"]),
            "share of the first": share(row["n"] / row["total"]),
        }
        for row in moves.to_dicts()
    ]


def _side(rows: Sequence[Ids], place: int, segments: Sequence[int]) -> Ids:
    """Return the segments of one side in order, unassigned and not there last."""
    present = {row[place] for row in rows}
    order: tuple[int | None, ...] = (*segments, UNASSIGNED, None)
    return tuple(segment for segment in order if segment in present)


def _name(segment: int | None, names: Mapping[str, str], absent: str) -> str:
    return absent if segment is None else titled(segment, names)


def _headed(name: str) -> str:
    """Break a column's name into three short lines, and cut what is longer."""
    return "\n".join(textwrap.wrap(name, 12, max_lines=3, placeholder="…"))


def _draw_moves(axes: Axes, matrix: Matrix) -> None:
    """Colour moves by their share of the row; write all counts."""
    shares = matrix.counts / matrix.totals[:, None].clip(min=1)
    stays = np.array(
        [[a == b and a is not None for b in matrix.after] for a in matrix.before]
    )
    # Shops that were not there come from no segment that could empty.
    shares[[segment is None for segment in matrix.before]] = 0.0
    draw_cells(
        axes,
        np.where(stays, np.nan, shares),
        ("#FFFFFF", "#F9CF9C", "#C25E00"),
        (0, _DEEPEST),
        bad="#E9EDF1",
        grid=("#EEF1F4", 1.0),
    )
    is_deep = ~stays & (shares > 0.7 * _DEEPEST)
    write_cells(
        axes,
        (
            (row, column, f"{matrix.counts[row, column]:,}", is_deep[row, column])
            for row, column in np.argwhere(matrix.counts > 0)
        ),
    )


def _movement_note(matrix: Matrix) -> str:
    """Say how to read the picture, and what was left out of it."""
    text = f"Grey: stayed. Colour: share of the row, deepest from {_DEEPEST:.0%} on."
    if matrix.n_hidden:
        text += f" {matrix.n_hidden:,} shops of smaller segments are not shown."
    return text


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
        `stock_and_flow` of the last months.
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
        refresh_sentences("sizes"),
        [Picture("Shops by month", file, alt)],
        [
            Table(
                "This month's sizes: every line adds up.",
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
        `stock_and_flow`. The 14 segments that are largest in
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
    with style.picture(path, (max(3.1 * n_columns, 4.6), 1.9 * n_rows + 0.5)) as figure:
        grid = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True)
        for place, axes in enumerate(grid.ravel()):
            if place >= len(drawn):
                axes.set_visible(False)
                continue
            own = sizes.filter(pl.col("segment") == drawn[place])
            _draw_sizes(axes, own, months, changes)
            axes.set_title(style.wrapped(titled(drawn[place], names), 34), fontsize=9.5)
            axes.tick_params(labelbottom=place + n_columns >= len(drawn))
        style.footnote(figure, _sizes_note(len(segments), changes))


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
        "share": share(row["stock"] / total),
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
    colour = style.FAINT_INK if is_none else style.COLOURS[0]
    axes.fill_between(
        x, y, color=style.NOISE_COLOUR if is_none else colour, alpha=0.15, lw=0
    )
    axes.plot(x, y, color=colour, lw=1.8, marker="o", ms=3)
    for change in changes:
        axes.axvline(place[change], color=style.FAINT_INK, lw=0.8, ls=":")
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
        color=style.INK,
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
