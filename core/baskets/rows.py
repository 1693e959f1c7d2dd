"""Customers of grocery baskets with their features, and who is segmented of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from core.baskets.features import customer_features
from core.baskets.schema import ID, BasketData
from core.errors import EligibilityError, FeatureMismatchError, did_you_mean, listed
from core.rules.grammar import RuleSet

N_ORDERS = "total_orders"
REASON = "reason"


@dataclass(frozen=True)
class BasketRows:
    """What a run of baskets has read.

    Attributes
    ----------
    data : BasketData
        Orders and items, whose ids are numbers.
    everyone : DataFrame
        ``customer_id`` (text), ``total_orders`` and the features, a row per customer,
        in the order of `data.customers`.
    features : DataFrame
        The same of those who are segmented.
    left_out : DataFrame
        The same of the others, with the ``reason``.
    reference_date : datetime
        The moment after the newest order; this day where the source has no dates.
    """

    data: BasketData
    everyone: pl.DataFrame
    features: pl.DataFrame
    left_out: pl.DataFrame
    reference_date: datetime

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the rows, and of how they were read."""
        return self.data.fingerprint

    @property
    def orders(self) -> pl.LazyFrame:
        """The orders with the customers' ids as text."""
        ids = self.data.customers.select(ID).with_row_index("place").lazy()
        return (
            self.data.orders.join(ids, left_on=ID, right_on="place", suffix="_text")
            .drop(ID)
            .rename({f"{ID}_text": ID})
        )

    @property
    def customers(self) -> pl.DataFrame:
        """``customer_id`` of those who are segmented."""
        return self.features.select(ID)


def rows_of(data: BasketData, rules: RuleSet, min_orders: int) -> BasketRows:
    """Compute the features of all customers, and part those who can be segmented.

    Parameters
    ----------
    data : BasketData
    rules : RuleSet
        Whoever lacks a feature that they need is left out.
    min_orders : int
        Whoever has fewer orders is left out.

    Raises
    ------
    FeatureMismatchError
        If the rules ask for a feature that is not computed.
    """
    made = customer_features(data.orders, data.items, data.products, data.aisles)
    known = data.customers[made[ID]]
    everyone = made.with_columns(known[ID]).select(
        ID, known["n_orders"].alias(N_ORDERS), pl.exclude(ID)
    )
    reason = _reason(everyone, rules, min_orders)
    parted = everyone.with_columns(reason.alias(REASON))
    now = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return BasketRows(
        data,
        everyone,
        parted.filter(pl.col(REASON).is_null()).drop(REASON),
        parted.filter(pl.col(REASON).is_not_null()),
        data.reference_date or now.replace(tzinfo=None),
    )


def require_customers(rows: BasketRows, min_orders: int) -> None:
    """Refuse rows of whose customers nobody can be segmented.

    Raises
    ------
    EligibilityError
    """
    if rows.features.is_empty():
        most = int(rows.data.customers["n_orders"].to_numpy().max(initial=0))
        raise EligibilityError(
            f"none of {rows.everyone.height:,} customers can be segmented: expected "
            f"{min_orders} orders or more (`baskets.min_orders`), the most that one "
            f"has is {most}, and days between them."
        )


def _reason(features: pl.DataFrame, rules: RuleSet, min_orders: int) -> pl.Expr:
    """Return why customers cannot be segmented; null for those who can."""
    asked = [feature.name for feature in rules.features]
    missing = [name for name in asked if name not in features.columns]
    if missing:
        raise FeatureMismatchError(
            f"the rules `{rules.name}` ask for {listed(missing)}, which is no feature "
            f"of customers.{did_you_mean(missing[0], features.columns)}"
        )
    reasons = [
        pl.when(pl.col(N_ORDERS) < min_orders).then(
            pl.lit(f"fewer than {min_orders} orders")
        )
    ]
    for feature in rules.features:
        if feature.missing is None:
            is_unknown = pl.col(feature.name).is_null()
            said = pl.lit(f"`{feature.name}` cannot be computed")
            reasons.append(pl.when(is_unknown).then(said))
    return pl.coalesce(reasons)
