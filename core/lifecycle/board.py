"""The board of a run of customers' segments: what its system tells, and its past."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from core.artifacts.folder import StageWriter
from core.artifacts.runs import block_name
from core.reporting.board import (
    BOARD,
    Board,
    BoardDrift,
    BoardFlow,
    BoardPeriod,
    drift_words,
    model_change,
)
from core.reporting.text import count, plural, rounded, share, spoken

RUNS, RUNS_WITH_FLOWS, DRIFTS = 24, 12, 20
"""Runs whose sizes are remembered, those whose flows are told, and rows of drift."""
Facts = Mapping[str, Any]
Past = dict[str, Any]


def past_of(facts: Facts) -> Past:
    """Return the sizes of a run and of those before it, with the names of segments.

    Parameters
    ----------
    facts : mapping
        Of `core.lifecycle.run.run_segmentation`, with ``segments``; ``past`` is that of
        the run before, or an earlier one of this run's own under other names.

    Returns
    -------
    dict
        ``runs``, the newest last: ``run``, ``date``, ``version``, and customers by axis
        and id in ``sizes``; ``names`` by axis and id, the newest each.
    """
    before = facts.get("past") or {"runs": [], "names": {}}
    sizes: dict[str, dict[str, int]] = {}
    names = {axis: dict(known) for axis, known in before["names"].items()}
    for row in facts["segments"]:
        axis, segment = row["axis"], str(row["segment_id"])
        sizes.setdefault(axis, {})[segment] = row["n_customers"]
        names.setdefault(axis, {})[segment] = row["segment"]
    own = {
        "run": facts["run"],
        "date": facts["reference_date"][:10],
        "version": facts["version"],
        "sizes": sizes,
    }
    earlier = [run for run in before["runs"] if run["run"] != own["run"]]
    return {"runs": [*earlier, own][-RUNS:], "names": names}


def write_board(
    out: StageWriter, board: Board, facts: Facts, drift: pl.DataFrame
) -> None:
    """Write what a system tells, with sizes over time, flows and drift.

    Parameters
    ----------
    out : StageWriter
        With the run's block of the ledger, if it has one.
    board : Board
        Of `core.lifecycle.segmentation.Segmentation.board`.
    facts : mapping
        With ``past``, see `past_of`.
    drift : DataFrame
        Columns `core.evaluation.axes_drift.AXES_DRIFT_ROWS`.
    """
    past = facts["past"]
    labels = _labels(past["runs"])
    whole = replace(
        board,
        tiles=_tiles(board, facts),
        periods=[
            BoardPeriod(labels[run["run"]], run["version"], _named(run["sizes"], past))
            for run in past["runs"]
        ],
        flows=_flows(out, past, labels),
        drift=_drift(drift),
        notes=[*board.notes, *_model_changes(facts)],
    )
    out.path(BOARD).write_text(whole.to_json(), encoding="utf-8")


def _tiles(board: Board, facts: Facts) -> list[tuple[str, str]]:
    """Return how many customers there are, came and went, and the board's own."""
    tiles = [("Customers", count(facts["n_customers"])), *board.tiles]
    if facts["n_entered"] is not None:
        tiles += [
            ("New since the run before", count(facts["n_entered"])),
            ("Gone since then", count(facts["n_left"])),
        ]
    return tiles


def _model_changes(facts: Facts) -> list[str]:
    """Say whom a new model has put elsewhere in this run, axis by axis."""
    return [
        model_change(f"{plural(causes['model'], 'customer')} ({spoken(axis)})")
        for axis, causes in (facts["n_moved"] or {}).items()
        if causes.get("model")
    ]


def _labels(runs: Sequence[Facts]) -> dict[int, str]:
    """Return what the time of every run is called; one date may have several."""
    dates = [run["date"] for run in runs]
    return {
        run["run"]: run["date"]
        if dates.count(run["date"]) == 1
        else f"{run['date']} (run {run['run']})"
        for run in runs
    }


def _named(
    sizes: Mapping[str, Mapping[str, int]], past: Past
) -> dict[str, dict[str, int]]:
    """Return sizes by the names that segments have now."""
    return {
        axis: {past["names"][axis][i]: n for i, n in own.items()}
        for axis, own in sizes.items()
    }


def _flows(out: StageWriter, past: Past, labels: Mapping[int, str]) -> list[BoardFlow]:
    """Count who went by themselves from which segment to which in the last runs."""
    flows = []
    for run in past["runs"][-RUNS_WITH_FLOWS:]:
        name = block_name(run["run"])
        path = out.path(name)
        if not path.exists() and out.base is not None:
            path = out.base.folder / name
        if not path.exists():
            continue  # a first run moves nobody
        counts = (
            pl.scan_parquet(path, glob=False)
            .filter(cause="behaviour")
            .group_by("axis", "old", "new", "old_name", "new_name")
            .agg(n=pl.len())
            .sort("axis", "n", "old", "new", descending=[False, True, False, False])
            .collect()
        )
        flows += [
            BoardFlow(
                row["axis"],
                labels[run["run"]],
                _name(past, row, "old"),
                _name(past, row, "new"),
                row["n"],
            )
            for row in counts.to_dicts()
        ]
    return flows


def _name(past: Past, move: Facts, side: str) -> str:
    """Return what a segment is called now, or was, if it is no longer known."""
    known = past["names"].get(move["axis"], {})
    return str(known.get(str(move[side]), move[f"{side}_name"]))


def _drift(drift: pl.DataFrame) -> list[BoardDrift]:
    """Return the largest changes, alerts first."""
    order = (pl.col("value").abs() / pl.col("threshold")).fill_nan(0)
    shown = drift.sort("is_alert", order, descending=True, nulls_last=True)
    return [
        BoardDrift(
            what=_what(row),
            value=_value(row),
            words=drift_words(row["threshold"], is_alert=row["is_alert"]),
            is_alert=bool(row["is_alert"]),
        )
        for row in shown.head(DRIFTS).to_dicts()
    ]


def _what(row: Facts) -> str:
    if row["kind"] == "share":
        return f"{spoken(row['axis'])}: share of {spoken(row['name'])}"
    return f"{spoken(row['name'])} ({row['statistic'].upper()})"


def _value(row: Facts) -> str:
    if row["kind"] == "share":
        return f"{share(row['before'])}, now {share(row['now'])}"
    return rounded(row["value"])
