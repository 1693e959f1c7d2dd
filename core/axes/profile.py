"""The profile of a customer: a row of a table, or a record of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from core.features.customer import PROFILE
from core.segments.axis_model import NOWHERE, AxisPlacement

TEXTS = ("preferred_time", "primary_channel", "lifecycle_stage")


@dataclass(frozen=True, slots=True)
class CustomerProfile:
    """One customer on all axes.

    Attributes
    ----------
    customer_id : str
    segment_memberships : dict of axis to str
        Segment by name; ``not_enough_orders`` where the axis does not place the
        customer, who lacks one of its features.
    dominant_segments : dict of axis to str
        The same: the axes are hard partitions.
    membership_strengths : dict of axis to float
        0 (on the border to the runner-up) to 1 (at the own centre or beyond it), see
        `core.segments.axis_model`; 0 where not placed, 1 on an axis with one segment.
    runner_up_segments : dict of axis to str or None
        The second nearest segment; None where there is none.
    confidence : float
        Mean strength over the axes that place the customer and have two segments or
        more; 0 if there are none.
    figures : dict of str to float or None
        `core.features.customer.PROFILE`, in its units.
    """

    customer_id: str
    segment_memberships: dict[str, str]
    dominant_segments: dict[str, str]
    membership_strengths: dict[str, float]
    runner_up_segments: dict[str, str | None]
    confidence: float
    figures: dict[str, float | None]


def profile_table(
    features: pl.DataFrame,
    placed: Mapping[str, AxisPlacement],
    names: Mapping[str, Mapping[int, str]],
) -> pl.DataFrame:
    """Return the profiles of customers.

    Parameters
    ----------
    features : DataFrame
        Of `core.features.customer.customer_features`.
    placed : mapping of axis to AxisPlacement
        Where a model has the same rows.
    names : mapping of axis to mapping of id to name
        Of its segments, -1 among them.

    Returns
    -------
    DataFrame
        ``customer_id``; the structs ``segment_memberships``,
        ``membership_strengths``, ``runner_up_segments`` and ``segment_ids`` with a
        field for each axis (id -1: not placed); ``confidence``; `PROFILE`; and
        those of `TEXTS` that the features have. Row by row as `features`.
    """
    structs = {
        "segment_memberships": [
            _named(axis, names[axis], own.labels, names[axis][NOWHERE])
            for axis, own in placed.items()
        ],
        "membership_strengths": [
            pl.Series(axis, own.strength) for axis, own in placed.items()
        ],
        "runner_up_segments": [
            _named(axis, names[axis], own.runner_up, None)
            for axis, own in placed.items()
        ],
        "segment_ids": [
            pl.Series(axis, own.labels, dtype=pl.Int32) for axis, own in placed.items()
        ],
    }
    columns = [pl.DataFrame(own).to_struct(name) for name, own in structs.items()]
    kept = [name for name in (*PROFILE, *TEXTS) if name in features.columns]
    return pl.DataFrame(
        [
            features["customer_id"],
            *columns,
            pl.Series("confidence", confidence(placed, features.height)),
            *(features[name] for name in kept),
        ]
    )


def confidence(
    placed: Mapping[str, AxisPlacement], n_customers: int
) -> npt.NDArray[np.float64]:
    """Return the mean strength of each customer.

    Axes that do not place a customer, and axes with one segment, where the strength is
    1 and says nothing, do not count; a customer with no others has 0.
    """
    total, n_axes = np.zeros(n_customers), np.zeros(n_customers)
    for own in placed.values():
        counts = own.runner_up >= 0
        total += np.where(counts, own.strength, 0.0)
        n_axes += counts
    return np.asarray(total / np.maximum(n_axes, 1), dtype=np.float64)


def _named(
    axis: str,
    names: Mapping[int, str],
    ids: npt.NDArray[np.int64],
    missing: str | None,
) -> pl.Series:
    """Return segments by name; `missing` for -1."""
    n = max(names, default=-1) + 1
    table = pl.Series(axis, [*map(names.get, range(n)), missing], dtype=pl.String)
    return table.gather(np.where(ids < 0, n, ids))


def profile_of(row: Mapping[str, Any]) -> CustomerProfile:
    """Return one row of the table as a record."""
    return CustomerProfile(
        customer_id=row["customer_id"],
        segment_memberships=row["segment_memberships"],
        dominant_segments=dict(row["segment_memberships"]),
        membership_strengths=row["membership_strengths"],
        runner_up_segments=row["runner_up_segments"],
        confidence=row["confidence"],
        figures={name: row[name] for name in PROFILE},
    )
