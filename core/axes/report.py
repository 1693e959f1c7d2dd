"""What a run found, axis by axis and segment by segment, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import polars as pl

from core.axes.moves import Labels
from core.features.customer import AXES
from core.segments.axis_model import NOWHERE
from core.segments.axis_set import AxesModel

SIZES_SCHEMA: Final = pl.Schema(
    {
        "axis": pl.String,
        "segment_id": pl.Int64,
        "segment": pl.String,
        "n_customers": pl.Int64,
        "share": pl.Float64,
        "share_when_learnt": pl.Float64,
        "kind": pl.String,
        "is_edited": pl.Boolean,
        "rule_name": pl.String,
        "why": pl.String,
    }
)
"""Columns of `sizes_table`; id -1 are the customers whom the axis does not place."""

REPORT_SCHEMA: Final = pl.Schema(
    {
        "axis": pl.String,
        "group": pl.String,
        "description": pl.String,
        "kind": pl.String,
        "n_segments": pl.Int64,
        "silhouette": pl.Float64,
        "smallest_share": pl.Float64,
        "largest_share": pl.Float64,
        "stability": pl.Float64,
        "n_placed": pl.Int64,
        "n_not_placed": pl.Int64,
        "verdict": pl.String,
        "features": pl.String,
        "skipped": pl.String,
    }
)
"""Columns of `report_table`.

``kind``
    ``natural`` (parted by valleys), ``cut`` (tiers that were asked for), ``single`` (no
    segments here), ``skipped``.
``silhouette``, ``stability``
    On scaled features, when the axis was learnt; null with fewer than two segments.
``smallest_share``, ``largest_share``
    Of the customers that the axis places, in this run.
``features``, ``skipped``
    Joined by commas; skipped ones with the reason, several reasons by semicolons.
"""


def sizes_table(model: AxesModel, found: Labels) -> pl.DataFrame:
    """Return a row per segment with its customers in this run, `SIZES_SCHEMA`.

    By axis, then by size, the customers not placed last; none of these, no row.
    """
    rows = []
    for axis, fitted in model.fitted.items():
        labels = found[axis]
        n_all = max(len(labels), 1)
        for segment in fitted.segments:
            n = int(np.count_nonzero(labels == segment.id))
            if n or segment.id != NOWHERE:
                row = {
                    "axis": axis,
                    "segment_id": segment.id,
                    "segment": segment.name,
                    "n_customers": n,
                    "share": n / n_all,
                    "share_when_learnt": segment.share,
                }
                rows.append({**segment.model_dump(), **row})
    table = pl.DataFrame(
        [{name: row[name] for name in SIZES_SCHEMA} for row in rows],
        schema=SIZES_SCHEMA,
    )
    order = {axis: place for place, axis in enumerate(model.fitted)}
    return table.sort(
        pl.col("axis").replace_strict(order, return_dtype=pl.Int64),
        pl.col("segment_id") == NOWHERE,
        -pl.col("n_customers"),
        "segment_id",
    )


def report_table(model: AxesModel, sizes: pl.DataFrame) -> pl.DataFrame:
    """Return a row per axis, skipped ones too, `REPORT_SCHEMA`.

    Parameters
    ----------
    model : AxesModel
    sizes : DataFrame
        Of `sizes_table`.
    """
    known = {axis.name: axis for axis in AXES}
    rows = []
    for report in model.report:
        axis = known[report["axis"]]
        own = sizes.filter(axis=axis.name)
        rows.append(
            {
                "axis": axis.name,
                "group": axis.group,
                "description": axis.description,
                **_figures(report),
                **_shares(own),
                "features": ", ".join(report["features"]),
                "skipped": _by_reason(report["skipped"]),
            }
        )
    return pl.DataFrame(rows, schema=REPORT_SCHEMA)


def _by_reason(skipped: Mapping[str, str]) -> str:
    """Return skipped features with what they have in common.

    >>> _by_reason({"refund_rate": "no refunds", "has_returns": "no refunds"})
    'refund_rate, has_returns (no refunds)'
    """
    names: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        names.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(own)} ({reason})" for reason, own in names.items())


def _figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of the number of segments that was chosen."""
    if not report["features"]:
        reasons = "; ".join(dict.fromkeys(report["skipped"].values()))
        return {"kind": "skipped", "n_segments": 0, "verdict": f"skipped: {reasons}"}
    n_segments = report["n_segments"]
    tried = {found["n_segments"]: found for found in report["candidates"]}
    chosen = tried.get(n_segments, {}) if n_segments > 1 else {}
    return {
        "kind": report["kind"],
        "n_segments": n_segments,
        "silhouette": chosen.get("silhouette"),
        "stability": chosen.get("stability"),
        "verdict": report["verdict"],
    }


def _shares(own: pl.DataFrame) -> dict[str, Any]:
    """Return how an axis divides its customers in this run."""
    is_placed = own["segment_id"] != NOWHERE
    sizes = own.filter(is_placed)["n_customers"]
    n_placed = int(sizes.sum())
    shares = (sizes / max(n_placed, 1)).to_list()
    return {
        "smallest_share": min(shares, default=None),
        "largest_share": max(shares, default=None),
        "n_placed": n_placed,
        "n_not_placed": int(own.filter(~is_placed)["n_customers"].sum()),
    }
