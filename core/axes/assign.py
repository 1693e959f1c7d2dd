"""The one assigner of the axes: batch, single customer and request go through it.

What is computed of one customer alone equals what is computed of the same one among a
million: the formulas are the same (`core.axes.features.formulas`).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from core.artifacts.arrays import Arrays, Meta
from core.axes.features.catalog import PROFILE
from core.axes.features.compute import customer_features
from core.axes.features.single import features_of_customer
from core.axes.files import FILES
from core.errors import PROGRAM, FeatureMismatchError, listed
from core.segments.axes import AxesModel
from core.segments.memberships import CustomerAssigner, confidence_of_one

if TYPE_CHECKING:
    import polars as pl

    from core.tables.orders import Purchases
    from core.tables.reconcile import Negative
    from core.tables.records import CustomerRows


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
    unplaced : tuple of str
        The axes that do not place the customer.
    membership_strengths : dict of axis to float
        0 (on the border to the runner-up) to 1 (at the own centre or beyond it), see
        `core.models.centroids`; 0 where not placed, 1 on an axis with one segment.
    runner_up_segments : dict of axis to str or None
        The second nearest segment; None where there is none.
    confidence : float
        Mean strength over the axes with two segments or more, 0 where the customer is
        not placed; 0 if there are none.
    figures : dict of str to float or None
        `core.axes.features.catalog.PROFILE`, in its units.
    """

    customer_id: str
    segment_memberships: dict[str, str]
    unplaced: tuple[str, ...]
    membership_strengths: dict[str, float]
    runner_up_segments: dict[str, str | None]
    confidence: float
    figures: dict[str, float | None]


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

    Examples
    --------
    Of `examples/customers.py`:

    ```python
    assigner = AxesAssigner.load(result.folder)
    for axis, names in assigner.model.names.items():
        print(f"{axis}: {', '.join(names.values())}")
    ```
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
        self._check(purchases.absent)
        return customer_features(
            purchases.orders,
            purchases.items,
            reference_date=purchases.reference_date,
            absent=self.absent,
            channels=self.channels,
        )

    def _check(self, absent: tuple[str, ...]) -> None:
        """Refuse data that lack a column of the model's."""
        lacking = [name for name in absent if name not in self.absent]
        if lacking:
            raise FeatureMismatchError(
                f"the purchases have no {listed(lacking)}, which version "
                f"{self.version} of the axes was trained with. Hand it in, or refit "
                f"the axes with `{PROGRAM} axes --retrain always`."
            )

    def profile(
        self, rows: CustomerRows, unknown: Collection[str] = ()
    ) -> CustomerProfile:
        """Return the profile of one customer, who has at least one order.

        Parameters
        ----------
        rows : CustomerRows
            Of `core.tables.records.customer_rows`.
        unknown : collection of str
            Features that the rows cannot tell; an axis with one places nobody.

        Raises
        ------
        FeatureMismatchError
            If the rows lack a column that the model was learnt with.
        """
        self._check(rows.absent)
        features = features_of_customer(
            rows.orders,
            rows.items,
            reference_date=rows.reference_date,
            absent=self.absent,
            channels=self.channels,
        )
        features |= dict.fromkeys(unknown, math.nan)
        placed, names = self.model.assign_one(features), self.model.names
        seconds = {axis: own.runner_up for axis, own in placed.items()}
        return CustomerProfile(
            rows.customer_id,
            {axis: names[axis][own.label] for axis, own in placed.items()},
            tuple(axis for axis, own in placed.items() if own.label < 0),
            {axis: own.strength for axis, own in placed.items()},
            {a: names[a][id_] if id_ >= 0 else None for a, id_ in seconds.items()},
            confidence_of_one(placed),
            {name: _figure(name, features[name]) for name in PROFILE},
        )

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


def _figure(name: str, value: float) -> float | None:
    """Return a figure of a profile: orders are counted, what is unknown is None."""
    if math.isnan(value):
        return None
    return int(value) if name == "total_orders" else value
