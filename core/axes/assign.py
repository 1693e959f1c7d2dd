"""The one assigner of the axes: batch, single customer and request go through it.

What is computed of one customer alone equals, to the last digit that features have,
what is computed of the same one among a million.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from core.artifacts.arrays import Arrays, Meta
from core.axes.features.catalog import PROFILE
from core.axes.features.compute import customer_features
from core.axes.files import FILES
from core.errors import PROGRAM, FeatureMismatchError, listed
from core.segments.axes import AxesModel
from core.segments.memberships import CustomerAssigner

if TYPE_CHECKING:
    import polars as pl

    from core.tables.orders import Purchases
    from core.tables.reconcile import Negative


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
        `core.models.centroids`; 0 where not placed, 1 on an axis with one segment.
    runner_up_segments : dict of axis to str or None
        The second nearest segment; None where there is none.
    confidence : float
        Mean strength over the axes with two segments or more, 0 where the customer is
        not placed; 0 if there are none.
    figures : dict of str to float or None
        `core.axes.features.compute.PROFILE`, in its units.
    """

    customer_id: str
    segment_memberships: dict[str, str]
    dominant_segments: dict[str, str]
    membership_strengths: dict[str, float]
    runner_up_segments: dict[str, str | None]
    confidence: float
    figures: dict[str, float | None]


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


@dataclass(frozen=True, kw_only=True, repr=False)
class AxesAssigner(CustomerAssigner):
    """A fitted model of the axes, with all that turning orders into features takes.

    Attributes
    ----------
    model, reference_date, version, lineage
        See `core.segments.memberships.CustomerAssigner`.
    absent : tuple of str
        Optional columns that the model knows nothing of; see
        `core.tables.orders.OPTIONAL`.
    channels : tuple of str
        The channels that it tells apart.
    negative_orders : str
        What its last run made of orders and lines below 0; see
        ``axes.negative_orders``.
    """

    files = FILES
    figures = (*PROFILE, *TEXTS)

    absent: tuple[str, ...]
    channels: tuple[str, ...]
    negative_orders: Negative = "refund"

    def features(self, purchases: Purchases) -> pl.DataFrame:
        """Return the features of customers, as the model knows them.

        Raises
        ------
        FeatureMismatchError
            If the purchases lack a column that the model was learnt with.
        """
        lacking = [name for name in purchases.absent if name not in self.absent]
        if lacking:
            raise FeatureMismatchError(
                f"the purchases have no {listed(lacking)}, which version "
                f"{self.version} of the axes was trained with. Hand it in, or refit "
                f"the axes with `{PROGRAM} axes --retrain always`."
            )
        return customer_features(
            purchases.orders,
            purchases.items,
            reference_date=purchases.reference_date,
            absent=self.absent,
            channels=self.channels,
        )

    def assign(self, purchases: Purchases) -> list[CustomerProfile]:
        """Return the profiles of the customers, by ``customer_id``.

        Raises
        ------
        FeatureMismatchError
            If the purchases lack a column that the model was learnt with.
        """
        table = self.profiles(self.features(purchases))
        return [profile_of(row) for row in table.iter_rows(named=True)]

    def own_state(self) -> Meta:
        """Return what turning orders into features takes, JSON-able."""
        return {
            "absent": list(self.absent),
            "channels": list(self.channels),
            "negative_orders": self.negative_orders,
        }

    @classmethod
    def restored(
        cls, arrays: Arrays, meta: Meta, reference_date: datetime, **known: Any
    ) -> Self:
        """Return the assigner of a state; see `CustomerAssigner.restored`."""
        return cls(
            model=AxesModel.from_state(arrays, meta["model"]),
            absent=tuple(map(str, meta["absent"])),
            channels=tuple(map(str, meta["channels"])),
            negative_orders=meta["negative_orders"],
            reference_date=reference_date,
            **known,
        )
