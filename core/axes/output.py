"""The files of a run: the model, the profiles, and tables to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from core.artifacts import StageWriter
from core.axes.assigner import AxesAssigner, write_meta
from core.axes.files import (
    DRIFT,
    DRIFT_REFERENCE,
    LONG_TABLE,
    META,
    OVERLAP,
    PROFILES,
    REJECTED,
    REPORT,
    SIZES,
    STATE,
)
from core.axes.moves import block_name, carry_ledger
from core.axes.page import write_page
from core.axes.report import report_table, sizes_table
from core.folders import link
from core.segments.axis_model import AxisPlacement
from core.segments.axis_overlap import axis_overlap
from core.segments.axis_set import AxesModel


@dataclass(frozen=True)
class Result:
    """What a run has found.

    Attributes
    ----------
    assigner : AxesAssigner
    features : DataFrame
        Of the customers, as the assigner knows them.
    placed : dict of axis to AxisPlacement
        Of the same customers.
    rejected : DataFrame
        Rows that could not be used.
    drift : DataFrame
        Columns `core.axes.drift.AXES_DRIFT_ROWS`.
    moves : DataFrame
        The run's block of the ledger.
    """

    assigner: AxesAssigner
    features: pl.DataFrame
    placed: dict[str, AxisPlacement]
    rejected: pl.DataFrame
    drift: pl.DataFrame
    moves: pl.DataFrame


def write_output(
    out: StageWriter, result: Result, facts: dict[str, Any], *, is_learnt: bool
) -> None:
    """Write everything but the reference of the drift, which only learning makes.

    Adds ``axes``, ``segments`` and ``events`` to `facts`.
    """
    _write_model(out, result, is_learnt=is_learnt)
    result.rejected.write_parquet(out.path(REJECTED), compression="zstd")
    if result.drift.height:
        result.drift.write_csv(out.path(DRIFT))
    if out.base is not None and facts["version_before"] is not None:
        carry_ledger(out.base, out.folder)
        result.moves.write_parquet(out.path(block_name(facts["run"])))
    facts["events"] = _events(result) if is_learnt else {}
    profiles = result.assigner.profiles(result.features, result.placed)
    write_tables(out, result.assigner.model, profiles, result.drift, facts)


def write_tables(
    out: StageWriter,
    model: AxesModel,
    profiles: pl.DataFrame,
    drift: pl.DataFrame,
    facts: dict[str, Any],
) -> None:
    """Write the profiles, and all that follows from them and from the model.

    Adds ``axes``, a row per axis, and ``segments``, a row per segment, to `facts`.
    """
    profiles.write_parquet(out.path(PROFILES), compression="zstd")
    long_table(profiles).write_csv(out.path(LONG_TABLE), float_precision=4)
    labels = labels_of(profiles)
    sizes = sizes_table(model, labels)
    sizes.write_csv(out.path(SIZES), float_precision=4)
    report = report_table(model, sizes)
    report.write_csv(out.path(REPORT), float_precision=4)
    overlap = axis_overlap(labels)
    overlap.write_csv(out.path(OVERLAP), float_precision=4)
    facts["axes"] = report.to_dicts()
    facts["segments"] = sizes.to_dicts()
    write_page(out, facts, report, sizes, overlap, drift)


def labels_of(profiles: pl.DataFrame) -> dict[str, npt.NDArray[np.int64]]:
    """Return the segment ids of profiles by axis."""
    ids = profiles["segment_ids"].struct
    return {axis: ids.field(axis).to_numpy().astype(np.int64) for axis in ids.fields}


def long_table(profiles: pl.DataFrame) -> pl.DataFrame:
    """Return a row per customer and axis.

    Parameters
    ----------
    profiles : DataFrame
        Of `core.axes.assigner.AxesAssigner.profiles`.

    Returns
    -------
    DataFrame
        ``customer_id``, ``axis``, ``segment_id`` (-1: not placed), ``segment``,
        ``strength``, ``runner_up`` (null: none); by axis, then as `profiles`.
    """
    fields = {
        "segment_id": "segment_ids",
        "segment": "segment_memberships",
        "strength": "membership_strengths",
        "runner_up": "runner_up_segments",
    }
    axes = profiles["segment_ids"].struct.fields
    parts = [
        profiles.select(
            "customer_id",
            pl.lit(axis).alias("axis"),
            *(pl.col(s).struct.field(axis).alias(name) for name, s in fields.items()),
        )
        for axis in axes
    ]
    return pl.concat(parts)


def _write_model(out: StageWriter, result: Result, *, is_learnt: bool) -> None:
    """Write a new model; one that only placed stays the same file."""
    if is_learnt:
        result.assigner.save(out.folder)
        return
    assert out.base is not None  # whose model it is
    for name in (STATE, DRIFT_REFERENCE):
        link(out.base.path(name), out.path(name))
    write_meta(out.path(META), result.assigner.get_state()[1])


def _events(result: Result) -> dict[str, list[dict[str, Any]]]:
    """Return what became of segments, as plain values."""
    return {
        axis: [event.model_dump(mode="json") for event in events]
        for axis, events in result.assigner.model.events.items()
        if events
    }
