"""Drift by month: what came near to its threshold, as a picture and a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from core.reporting.page import Part, Picture, Table
from core.reporting.plots import add_colour_bar, draw_cells, write_cells
from core.reporting.style import footnote, picture, shortened
from core.reporting.text import rounded, share
from core.retailers.names import feature_label
from core.retailers.report.decision import RefreshFacts, refresh_sentences, titled

_MOST_ROWS = 30
_MOST_MONTHS = 24
_CELLS_WRITTEN = 13
# Twice the threshold has the deepest colour.
_DEEPEST = 2.0
# What reaches its threshold is clearly warmer.
_DRIFT_COLOURS = (
    (0.0, "#F7F8F9"),
    (0.5, "#D3E0EA"),
    (0.5, "#F9CF9C"),
    (1.0, "#B35400"),
)
_DRIFT_KINDS = ("feature", "reconstruction", "unassigned", "share")
_STATISTICS = {
    "psi": "PSI",
    "ks": "Kolmogorov-Smirnov",
    "difference": "change since training",
    "step": "change since the month before",
}
_OF_SHARES = ("difference", "step")


def drift_part(rows: pl.DataFrame, facts: RefreshFacts, folder: Path) -> Part | None:
    """Return how far the data has moved from what the model was trained on.

    Parameters
    ----------
    rows : DataFrame
        As for `drift_ratios`.
    facts : RefreshFacts
    folder : Path
        Gets ``refresh-drift.png``.
    """
    if not len(rows):
        return None
    file = folder / "refresh-drift.png"
    plot_drift(rows, facts["names"], file)
    return Part(
        "Drift",
        refresh_sentences("drift", n_alerts=len(facts["alerts"])),
        [
            Picture(
                "Drift, as a share of its threshold",
                file,
                "Drift by month over its threshold; the table below has this month's.",
            )
        ],
        [
            Table(
                "Nearest to the threshold this month.",
                drift_table(rows, facts["month"], facts["names"]),
                frozenset({"measured", "by", "alert"}),
            )
        ],
    )


def drift_ratios(rows: pl.DataFrame) -> pl.DataFrame:
    """Return value over threshold per month and what was measured.

    Parameters
    ----------
    rows : DataFrame
        `core.evaluation.drift.DriftReport.rows` of some months, with ``month``.

    Returns
    -------
    DataFrame
        ``month``, ``kind``, ``name``, ``ratio`` and ``is_alert``, a row each: of
        several statistics of one thing the one that is furthest towards its threshold.
        ``ratio`` is null where there is no threshold to compare with.
    """
    is_known = (pl.col("threshold") > 0) & pl.col("value").is_finite()
    ratio = pl.when(is_known).then(pl.col("value").abs() / pl.col("threshold"))
    return (
        rows.with_columns(ratio=ratio)
        .group_by("month", "kind", "name")
        .agg(pl.col("ratio").max(), pl.col("is_alert").any())
        .sort("month", "kind", "name")
    )


def plot_drift(rows: pl.DataFrame, names: Mapping[str, str], path: Path) -> None:
    """Draw drift by month: how near everything measured is to its threshold.

    Parameters
    ----------
    rows : DataFrame
        As for `drift_ratios`. The last 24 months and the 30 rows that came nearest to
        their thresholds are drawn.
    names : mapping of str to str
        Segment id, as text, to name.
    path : Path
        PNG to write.
    """
    ratios = drift_ratios(rows)
    months = ratios["month"].unique().sort().to_list()[-_MOST_MONTHS:]
    ratios = ratios.filter(pl.col("month").is_in(months))
    order = _order(ratios)
    drawn = order[:_MOST_ROWS]
    values = np.full((len(drawn), len(months)), np.nan)
    alerts = np.zeros(values.shape, dtype=bool)
    for row in ratios.to_dicts():
        key = (row["kind"], row["name"])
        if key in drawn:
            place = drawn.index(key), months.index(row["month"])
            values[place] = np.nan if row["ratio"] is None else row["ratio"]
            alerts[place] = row["is_alert"]
    size = (max(4.4 + 0.42 * len(months), 6.4), max(1.6 + 0.27 * len(drawn), 2.8))
    with picture(path, size) as figure:
        axes = figure.add_subplot()
        image = draw_cells(axes, values, _DRIFT_COLOURS, (0, _DEEPEST), over="#8A4200")
        write_cells(axes, _alert_cells(values, alerts), 7.5, "bold")
        axes.set_yticks(
            range(len(drawn)), [shortened(said(*key, names)) for key in drawn]
        )
        axes.set_xticks(range(len(months)), months, rotation=90)
        axes.tick_params(labelsize=8.5)
        axes.set_title("Drift by month")
        bar = add_colour_bar(image, "value over its threshold", extend="max")
        bar.set_ticks([0, 0.5, 1, 1.5, 2])
        footnote(figure, _note(len(order), len(drawn)))


def drift_table(
    rows: pl.DataFrame, month: str, names: Mapping[str, str]
) -> list[dict[str, str]]:
    """Return what is nearest to its threshold in a month as a table of texts."""
    ratio = pl.col("value").abs() / pl.col("threshold")
    own = (
        rows.filter(pl.col("month") == month)
        .with_columns(ratio=ratio.fill_nan(None))
        .sort(
            ["is_alert", "ratio", "kind", "name", "statistic"],
            descending=[True, True, False, False, False],
            nulls_last=True,
        )
        .head(12)
    )
    return [_drift_row(row, names) for row in own.to_dicts()]


def _drift_row(row: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    """Return one line of the table; shares in percentage points."""
    form = share if row["statistic"] in _OF_SHARES else rounded
    return {
        "measured": said(row["kind"], row["name"], names),
        "by": _STATISTICS.get(row["statistic"], row["statistic"]),
        "value": form(row["value"]),
        "threshold": form(row["threshold"]),
        "alert": "yes" if row["is_alert"] else "no",
    }


def said(kind: str, name: str, names: Mapping[str, str]) -> str:
    """Name what was measured as people say it.

    >>> said("share", "2", {"2": "Summer shops"})
    'share of 2 Summer shops'
    >>> said("unassigned", "unassigned", {})
    'share of unassigned shops'
    """
    if kind == "unassigned":
        return "share of unassigned shops"
    if kind == "reconstruction":
        return "reconstruction error of the encoder"
    if kind == "share":
        is_id = name.lstrip("-").isdigit()
        return f"share of {titled(int(name), names) if is_id else name}"
    return feature_label(name).name


def _order(ratios: pl.DataFrame) -> list[tuple[str, str]]:
    """Return what was measured: what came nearest to its threshold first, by kind."""
    most = (
        ratios.group_by("kind", "name")
        .agg(pl.col("ratio").max())
        .with_columns(pl.col("ratio").fill_null(0.0))
        .sort(["ratio", "kind", "name"], descending=[True, False, False])
    )
    keys = list(most.select("kind", "name").head(_MOST_ROWS).iter_rows())
    rest = list(most.select("kind", "name").slice(_MOST_ROWS).iter_rows())
    return sorted(keys, key=lambda key: _place(key[0])) + rest


def _place(kind: str) -> int:
    return _DRIFT_KINDS.index(kind) if kind in _DRIFT_KINDS else len(_DRIFT_KINDS)


def _alert_cells(
    values: np.ndarray, alerts: np.ndarray
) -> Iterator[tuple[int, int, str, bool]]:
    """Yield the cells that alert with their ratios where there is room; else a mark."""
    is_room = values.shape[1] <= _CELLS_WRITTEN
    for row, column in np.argwhere(alerts):
        value = values[row, column]
        text = f"{value:.1f}" if is_room and np.isfinite(value) else "!"
        yield row, column, text, value > 0.75 * _DEEPEST


def _note(n_measured: int, n_drawn: int) -> str:
    """Say how to read the picture, and what was left out of it."""
    text = "1 is the threshold; written cells are alerts. Dark grey: not known."
    if n_drawn < n_measured:
        text += f" The {n_drawn} of {n_measured} rows that came nearest to it."
    return text
