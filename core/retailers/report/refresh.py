"""The page of a monthly refresh: the decision first, then drift and movement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from core.months import spoken_month
from core.reporting.page import NextStep, Part, Picture, Table
from core.reporting.plots import add_colour_bar, draw_cells, write_cells
from core.reporting.style import footnote, picture, shortened
from core.reporting.text import (
    MISSING,
    command,
    count,
    decimal,
    enumerated,
    percent,
)
from core.retailers.names import feature_label
from core.retailers.report.decision import (
    RefreshFacts,
    announcement,
    event_lines,
    failed_checks,
    figure,
    outcome_of,
    refresh_sentences,
    titled,
)
from core.retailers.report.evidence import TEMPLATES
from core.retailers.report.life import flows_part
from core.retailers.report.movement import Moves, movement_part, sizes_part

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
MOST_SHOPS, MOST_WAYS = 20, 8
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
                "How near to its threshold everything measured was",
                file,
                "Value over threshold of everything measured; see the table below.",
            )
        ],
        [
            Table(
                "Nearest to their thresholds this month.",
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
    form = percent if row["statistic"] in _OF_SHARES else decimal
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


STATES = ("steady", "watching", "recalibrate")


@dataclass(frozen=True)
class RefreshContent:
    """All that the page of a refresh tells, as plain data.

    Attributes
    ----------
    facts : RefreshFacts
        What was found and decided.
    source : str
        Where the rows came from, as the user would name it.
    created : str
        When, as text; given from outside so that equal refreshes give equal files.
    changing : polars.DataFrame or None
        `core.retailers.refresh.changing.changing_shops`.
    moves : sequence of Moves
        One of a kind, in the order in which they are shown; may be empty in a first
        month.
    states : polars.DataFrame
        `core.retailers.states.state_flows` since the month before.
    flow : polars.DataFrame
        `stock_and_flow` of the last months, this one included.
    drift : polars.DataFrame
        `core.evaluation.drift.DriftReport.rows` of the last months, with ``month``:
        ``month``, ``kind``, ``name``, ``statistic``, ``value``, ``threshold``,
        ``is_alert``.
    state_since : str or None
        Month since which the trigger is in its state.
    months_running : mapping of str to int
        Kind of alert to the months that it has been running.
    months_needed : int
        Months running after which retraining is recommended.
    artifacts : str
        The folder, for the commands that the page names.
    made : mapping of str to mapping
        How it was made, by group, such as ``{"Run": {"seed": 42}}``.
    """

    facts: RefreshFacts
    source: str
    created: str
    changing: pl.DataFrame | None
    moves: Sequence[Moves]
    states: pl.DataFrame
    flow: pl.DataFrame
    drift: pl.DataFrame
    state_since: str | None
    months_running: Mapping[str, int]
    months_needed: int
    artifacts: str = "artifacts"
    made: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def write_refresh_page(content: RefreshContent, path: Path) -> list[Path]:
    """Write the page (UTF-8) and, beside it, its pictures.

    Parameters
    ----------
    content : RefreshContent
    path : Path
        HTML file to write.

    Returns
    -------
    list of Path
        All files written: `path` and, where there is something to draw,
        ``refresh-movement.png``, ``refresh-model-change.png``, ``refresh-span.png``,
        ``refresh-sizes.png`` and ``refresh-drift.png``. The page holds its own copies
        of the pictures and needs none of them.
    """
    facts = content.facts
    parts = [
        part
        for part in (
            _changing_part(content.changing, facts),
            _events_part(facts),
            _gate_part(facts),
            flows_part(content.states),
            *(movement_part(m, facts["names"], path.parent) for m in content.moves),
            sizes_part(content.flow, facts["names"], path.parent),
            drift_part(content.drift, facts, path.parent),
        )
        if part is not None
    ]
    page = TEMPLATES.page(
        "refresh.html.j2",
        content=content,
        month=spoken_month(facts["month"]),
        model=_model(facts),
        told=announcement(facts),
        tiles=_tiles(facts),
        parts=parts,
        states=STATES,
        trigger=refresh_sentences(
            "trigger",
            state=facts["state"],
            since=content.state_since and spoken_month(content.state_since),
            months_running=content.months_running,
            months_needed=content.months_needed,
        ),
        next_steps=_next_steps(content),
    )
    path.write_text(page, encoding="utf-8", newline="\n")
    return [path, *(shown.path for part in parts for shown in part.pictures)]


def _model(facts: RefreshFacts) -> str:
    """Say which version serves, and after which."""
    if facts["published"] is None:
        return f"model version {facts['version']}"
    return f"model version {facts['published']}, after {facts['version']}"


def _tiles(facts: RefreshFacts) -> list[tuple[str, str]]:
    """Return the figures beside the decision."""
    n_known = max(facts["n_assigned"] + facts["n_unassigned"], 1)
    return [
        ("assigned", count(facts["n_assigned"])),
        ("unassigned", percent(facts["n_unassigned"] / n_known)),
        ("not eligible", count(facts["n_not_eligible"])),
        ("moved", count(facts["n_moved"])),
        ("changing", count(facts["n_changing"])),
        ("new this month", count(facts["n_entered"])),
        ("not there any more", count(facts["n_left"])),
    ]


def _changing_part(changing: pl.DataFrame | None, facts: RefreshFacts) -> Part | None:
    """Return who is changing: first from where to where, then shop by shop."""
    if changing is None or changing.is_empty():
        return None
    names = facts["names"]
    ways = (
        changing.group_by("segment", "changing", "candidate")
        .agg(pl.len().alias("n"), pl.col("against_past").median())
        .sort("n", "segment", "changing", "candidate", descending=[True, *[False] * 3])
    )
    texts = frozenset({"segment", "towards", "shop", "since", "moved"})
    return Part(
        "Shops that are changing",
        refresh_sentences(
            "changing",
            n=changing.height,
            n_kind=changing.filter(changing="segment").height,
            n_moved=changing["has_moved"].sum(),
            n_shown=MOST_SHOPS,
        ),
        tables=[
            Table(
                "What changes, the most first.",
                [
                    {
                        "segment": titled(row["segment"], names),
                        "towards": _towards(row, names),
                        "shops": count(row["n"]),
                        "sales against own past": _more_or_less(row["against_past"]),
                    }
                    for row in ways.head(MOST_WAYS).to_dicts()
                ],
                texts,
            ),
            Table(
                "The clearest first.",
                [
                    {
                        "shop": row["entity"],
                        "segment": titled(row["segment"], names),
                        "towards": _towards(row, names),
                        "since": spoken_month(row["since"]),
                        "moved": "yes" if row["has_moved"] else "no",
                        "sales against own past": _more_or_less(row["against_past"]),
                    }
                    for row in changing.head(MOST_SHOPS).to_dicts()
                ],
                texts,
            ),
        ],
    )


def _towards(row: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Return the segment that a shop goes to, or that it sells more or less."""
    if row["changing"] == "segment":
        return titled(row["candidate"], names)
    return {"up": "more sales", "down": "fewer sales"}[row["changing"]]


def _more_or_less(ratio: float | None) -> str:
    """Return a ratio as what is more or less, in percent.

    >>> _more_or_less(1.5)
    '+50%'
    """
    if ratio is None:
        return MISSING
    return f"{ratio - 1:+.0%}".replace("-", "\N{MINUS SIGN}")


def _events_part(facts: RefreshFacts) -> Part | None:
    """Return what became of the segments, if a model was published."""
    if facts["published"] is None:
        return None
    changes = sorted(facts["events"], key=lambda event: event["kind"] == "survived")
    return Part(
        f"What version {facts['published']} changed",
        event_lines(facts["events"], facts["names"]),
        tables=[
            Table(
                " ".join(refresh_sentences("events_table")),
                [_event_row(event, facts["names"]) for event in changes],
                frozenset({"event", "before", "after"}),
            )
        ],
    )


def _event_row(event: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    return {
        "event": event["kind"],
        "before": enumerated([titled(i, names) for i in event["old"]]) or MISSING,
        "after": enumerated([titled(i, names) for i in event["new"]]) or MISSING,
        "shops before": count(event["n_old"]),
        "shops after": count(event["n_new"]),
        "in both": count(event["n_shared"]),
        "Jaccard": decimal(event["jaccard"]),
    }


def _gate_part(facts: RefreshFacts) -> Part | None:
    """Return the comparison of champion and challenger, if there was a challenger."""
    if not facts["gate"]:
        return None
    is_passed = facts["decision"] != "refused"
    return Part(
        "The new model against the one that serves",
        [
            *refresh_sentences("gate", is_passed=is_passed),
            *failed_checks(facts["gate"]),
        ],
        tables=[
            Table(
                "Every check has to be passed.",
                [_gate_row(row) for row in facts["gate"]],
                frozenset({"check", "passed"}),
            )
        ],
    )


def _gate_row(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "check": row["check"],
        "serving": figure(row["champion"]),
        "new": figure(row["challenger"]),
        "needed": figure(row["needed"]),
        "passed": figure(bool(row["is_passed"])),
    }


def _next_steps(content: RefreshContent) -> list[NextStep]:
    """Return the commands that make sense after this refresh."""
    facts = content.facts
    steps = [("refresh --input FILE", "takes in the next month")]
    if facts["decision"] == "published":
        steps += [
            ('rename ID "NAME"', "gives a segment a name that stays"),
            ("rollback", f"brings version {facts['version']} back"),
        ]
    elif outcome_of(facts) == "recommended":
        steps.append(
            (
                "refresh --retrain always",
                "learns a new model from the months at hand, whatever the policy says, "
                "and lets it serve if it passes the gate",
            )
        )
    if facts["breaches"]:
        steps.append(
            ("contract check", "holds the published segments against the contract")
        )
    return [NextStep(command(verb, content.artifacts), adds) for verb, adds in steps]
