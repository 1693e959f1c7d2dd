"""What a run hands to its page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl

from core.artifacts import StageWriter
from core.axes.files import PAGE
from core.axes.telling import change_lines, headline, intake_notes
from core.manifest import library_versions
from core.reporting.axes import AxesContent, write_axes_page
from core.reporting.parts import NextStep
from core.reporting.wording import command


def write_page(
    out: StageWriter,
    facts: Mapping[str, Any],
    report: pl.DataFrame,
    sizes: pl.DataFrame,
    overlap: pl.DataFrame,
    drift: pl.DataFrame,
) -> None:
    """Write ``axes.html`` and its pictures.

    Parameters
    ----------
    out : StageWriter
    facts : mapping
        Of the run.
    report, sizes : DataFrame
        Of `core.axes.report`.
    overlap : DataFrame
        Of `core.segments.axis_overlap.axis_overlap`.
    drift : DataFrame
        Columns `core.axes.drift.AXES_DRIFT_ROWS`.
    """
    kinds = report["kind"]
    content = AxesContent(
        source=facts["intake"]["orders"]["source"],
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        headline=headline(facts),
        notes=[*facts["notes"], *intake_notes(facts)],
        tiles={
            "customers": facts["n_customers"],
            "orders": facts["n_orders"],
            "item lines": facts["n_items"],
            "axes with segments": int(kinds.is_in(["natural", "cut"]).sum()),
            "axes without": int((kinds == "single").sum()),
            "axes skipped": int((kinds == "skipped").sum()),
        },
        axes=report,
        segments=sizes,
        overlap=overlap,
        changes=change_lines(facts, is_short=False),
        moved=facts["n_moved"],
        drift=drift,
        next_steps=_next_steps(out),
        made={
            "Run": {
                "run": facts["run"],
                "version": facts["version"],
                "store": facts["store"],
                "now": facts["reference_date"],
                "seed": out.config.seed,
            },
            "Versions": library_versions(),
        },
    )
    write_axes_page(content, out.path(PAGE))


def _next_steps(out: StageWriter) -> list[NextStep]:
    """Return the commands that make sense after a run."""
    folder = out.config.artifacts
    return [
        NextStep(command(verb, folder), adds)
        for verb, adds in (
            ("serve", "starts the HTTP API over the profiles"),
            ("axes --orders FILE --items FILE", "takes in next month's orders"),
            ('axes rename AXIS ID "NAME"', "gives a segment a name that stays"),
            ("axes rollback", "brings the version before back"),
        )
    ]
