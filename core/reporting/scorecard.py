"""The out-of-time scorecard as a picture, a table and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from core.reporting.canvas import COLOURS, FAINT_INK, INK, footnote, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ALL = "all"
SIGNIFICANCE = 0.05
TITLES = {
    "latent": "latent clusters",
    "partition": "partition",
    "raw": "raw clusters",
}
_COLOURS = dict(zip(TITLES, (COLOURS[0], COLOURS[2], COLOURS[1]), strict=True))
_MARKERS = dict(zip(TITLES, ("o", "s", "^"), strict=True))
_SIZE_COLOUR = "#C9CDD2"
_GRID = "#E4E7EB"
_QUESTIONS = {
    "volume": "What a shop sells in the {months} after",
    "growth": "How that compares with the same months a year before",
    "activity": "In how many of these months it buys",
    "churn": "Whether it stops buying altogether",
}
_SHORT = {
    "volume": "what a shop sells",
    "growth": "growth on the\nyear before",
    "activity": "months in which\nit buys",
    "churn": "whether it\nstops buying",
}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


def scorecard_lines(
    outcomes: pl.DataFrame, horizon_months: int, cuts: Sequence[str]
) -> list[str]:
    """Say what the published segments tell of the months after.

    Parameters
    ----------
    outcomes : DataFrame
        ``labels, is_published`` and `core.evaluation.scorecard.Scorecard.outcomes`.
    horizon_months : int
        Months looked at after each cut.
    cuts : sequence of str
        The cuts, oldest first.
    """
    chosen = outcomes.filter(pl.col("is_published") & (pl.col("cut") == ALL))
    rows = {row["outcome"]: row for row in chosen.to_dicts()}
    months = month_count(horizon_months)
    lines = [
        f"Segments learnt as of {cuts[0]} and frozen, asked at {', '.join(cuts)} what "
        f"shops would do in the {months} after:"
    ]
    for outcome, question in _QUESTIONS.items():
        row = rows.get(outcome)
        answer = "too few shops differ in it to tell" if row is None else _answer(row)
        lines.append(f"{question.format(months=months)}: {answer}.")
    if ALL in rows:
        lot = 100 * max(rows[ALL]["permuted_95"], 0.0)
        lines.append(
            f"On average, {_added(rows[ALL])}; dealt out by lot among shops of one "
            f"size they add at most {lot:.1f} (95 of 100 times)."
        )
    return lines


def choice_remark(labels: str, criterion: str) -> list[str]:
    """Say what the figures of a partition flatter, if they do.

    Parameters
    ----------
    labels : str
        What is published: ``latent`` or ``partition``.
    criterion : str
        What the partition was chosen by.
    """
    if labels != "partition" or criterion != "out_of_time":
        return []
    return [
        "The number of segments was itself chosen by these outcomes, so the figures "
        "are on the kind side."
    ]


def scorecard_rows(outcomes: pl.DataFrame) -> list[dict[str, str]]:
    """Return the averages over the cuts as text; a star marks what is published.

    What labels add, and its interval, are in percentage points.
    """
    return [
        {
            "labels": row["labels"] + ("*" if row["is_published"] else ""),
            "outcome": row["outcome"],
            "size alone": f"{row['size']:.1%}",
            "labels add": _points(row),
            "95% interval": " to ".join(_points(row, end) for end in ("_low", "_high")),
            "p": f"{row['p_value']:.3f}",
        }
        for row in outcomes.filter(pl.col("cut") == ALL).to_dicts()
    ]


def month_count(n: int) -> str:
    """Return a number of months in words: six months, one month, 9 months."""
    number = _NUMBERS[n] if n < len(_NUMBERS) else str(n)
    return f"{number} month{'' if n == 1 else 's'}"


def plot_scorecard(
    outcomes: pl.DataFrame,
    decay: pl.DataFrame,
    horizon_months: int,
    cuts: Sequence[str],
    path: Path,
) -> None:
    """Draw what size and labels explain of each outcome, and how that fades.

    Parameters
    ----------
    outcomes, decay : DataFrame
        ``labels, is_published`` and the two tables of
        `core.evaluation.scorecard.Scorecard`.
    horizon_months, cuts
        As for `scorecard_lines`.
    path : Path
        PNG to write.
    """
    averages = outcomes.filter((pl.col("cut") == ALL) & (pl.col("outcome") != ALL))
    names = [name for name in _SHORT if name in averages["outcome"].to_list()]
    kinds = outcomes["labels"].unique(maintain_order=True).to_list()
    shown = outcomes.filter("is_published")["labels"].to_list()[:1]
    with picture(path, (11.2, 5.8)) as figure:
        grid = figure.add_gridspec(2, 2, width_ratios=(1.25, 1))
        bars = figure.add_subplot(grid[:, 0])
        bars.set_title(f"What explains the {month_count(horizon_months)} after")
        _draw_bars(bars, averages, names, kinds)
        sales = figure.add_subplot(grid[0, 1])
        sales.set_title("What labels add: sales in each month")
        _draw_decay(sales, decay.filter(pl.col("outcome") == "volume"), kinds)
        buying = figure.add_subplot(grid[1, 1], sharex=sales)
        buying.set_title("What labels add: buying in each month")
        _draw_decay(buying, decay.filter(pl.col("outcome") == "activity"), kinds)
        buying.set_xlabel("months after")
        _explain(figure, kinds, shown)
        footnote(
            figure,
            "Shares of variance on shops not fitted, averaged over the looks back from "
            f"{', '.join(cuts)}; labels learnt as of {cuts[0]} and frozen.\n"
            "Lines and bands: 95% intervals of what the labels add. By lot: labels "
            "dealt out among shops of one size.",
        )


def _answer(row: dict[str, Any]) -> str:
    """Say what size explains, and what size and segments do."""
    size, both = max(row["size"], 0.0), max(row["both"], 0.0)
    text = f"size alone explains {size:.0%}, size and segments {both:.0%}"
    return f"{text} ({_added(row)})"


def _added(row: dict[str, Any]) -> str:
    """Say what segments add, or that they add nothing."""
    if row["n_groups"] == 1:
        return "all shops are in one group, which cannot tell them apart"
    if not _is_finding(row):
        return "segments add no more than segments dealt out by lot would"
    low, high = _points(row, "_low"), _points(row, "_high")
    return f"segments add {_points(row)} points, 95% interval {low} to {high}"


def _is_finding(row: dict[str, Any]) -> bool:
    """Whether labels add more than luck would, and more than nothing."""
    return bool(row["p_value"] <= SIGNIFICANCE and row["beyond_low"] > 0)


def _points(row: dict[str, Any], end: str = "") -> str:
    """Return what labels add in percentage points."""
    return f"{100 * row[f'beyond{end}']:.1f}"


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
            remark or f"+{_points(row)} points",
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
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("share of the variance explained")
    axes.grid(axis="x", color=_GRID, lw=0.8)
    axes.set_axisbelow(True)


def _remark(row: dict[str, Any]) -> str:
    """Return what stands in the place of a figure that says nothing."""
    if row["n_groups"] == 1:
        return "one group only"
    return "" if _is_finding(row) else "no more than by lot"


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


def _explain(figure: Any, kinds: Sequence[str], shown: Sequence[str]) -> None:
    """Put the legend above the panels."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=_SIZE_COLOUR, label="size alone")]
    for kind in kinds:
        title = TITLES[kind] + (" (published)" if kind in shown else "")
        colour, marker = _COLOURS[kind], _MARKERS[kind]
        handles.append(Line2D([], [], color=colour, lw=3, marker=marker, label=title))
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
