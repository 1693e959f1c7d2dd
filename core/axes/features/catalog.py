"""The 13 axes that customers are segmented on, and what given data allow of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from core.axes.features.definitions import (
    CHANNEL_SHARE,
    FEW_CHANNELS,
    LACKING,
    CustomerFeature,
)
from core.axes.features.items import ITEM_FEATURES
from core.axes.features.orders import ORDER_FEATURES
from core.errors import ConfigError, did_you_mean, listed

FEATURES = {feature.name: feature for feature in (*ORDER_FEATURES, *ITEM_FEATURES)}

PROFILE = (
    "lifetime_value",
    "total_orders",
    "avg_order_value",
    "days_since_last_purchase",
    "customer_tenure_days",
    "churn_risk_score",
)


@dataclass(frozen=True)
class Axis:
    """One behavioural axis.

    Attributes
    ----------
    name, description : str
    group : {"marketing", "support"}
        Who looks at it.
    features : tuple of str
        Names of `FEATURES`, in the reference's order.
    needs : tuple of str
        Keys of `LACKING`: what the axis is about. Without one of these the features
        that are left would say something else than its name, and the axis is skipped.
    """

    name: str
    group: Literal["marketing", "support"]
    description: str
    features: tuple[str, ...]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class AxisFeatures:
    """The features of one axis that given data allow.

    Attributes
    ----------
    axis : str
    used : tuple of str
        Columns in order; empty if the axis is skipped.
    skipped : dict of str to str
        Feature to the reason in words.
    """

    axis: str
    used: tuple[str, ...]
    skipped: dict[str, str]


AXES = (
    Axis(
        "purchase_frequency",
        "marketing",
        "How often and how regularly a customer buys, and how lately",
        (
            "orders_per_month",
            "avg_days_between_orders",
            "purchase_consistency",
            "recent_orders_90d",
            "days_since_last_purchase",
            "total_orders",
        ),
    ),
    Axis(
        "purchase_value",
        "marketing",
        "How much a customer spends, in all and per order",
        (
            "lifetime_value",
            "avg_order_value",
            "median_order_value",
            "max_order_value",
            "value_trend",
            "value_consistency",
        ),
    ),
    Axis(
        "category_exploration",
        "marketing",
        "How widely a customer buys across categories and products",
        (
            "unique_categories",
            "unique_products",
            "category_diversity",
            "product_diversity",
            "primary_category_dominance",
            "exploration_breadth",
        ),
        needs=("items",),
    ),
    Axis(
        "price_sensitivity",
        "marketing",
        "How often a customer buys at a discount, and at how large a one",
        (
            "discount_rate",
            "avg_discount_amount",
            "avg_discount_pct",
            "full_price_ratio",
        ),
        needs=("discount_amount",),
    ),
    Axis(
        "purchase_cadence",
        "marketing",
        "On which days and at which hours a customer buys",
        (
            "weekend_vs_weekday_ratio",
            "weekend_rate",
            "business_hours_ratio",
            "morning_share",
            "afternoon_share",
            "evening_share",
        ),
    ),
    Axis(
        "customer_maturity",
        "marketing",
        "How long a customer has been one, and how far that has come",
        (
            "tenure_months",
            "maturity_score",
            "lifecycle_stage_rank",
            "orders_per_tenure_month",
            "acceleration",
        ),
    ),
    Axis(
        "repurchase_behavior",
        "marketing",
        "Whether a customer buys the same products again",
        (
            "repeat_product_rate",
            "avg_repurchase_count",
            "loyalty_index",
            "purchase_variety",
        ),
        needs=("items",),
    ),
    Axis(
        "return_behavior",
        "marketing",
        "How much of what a customer buys is refunded",
        ("refund_rate", "items_returned_pct", "total_refunds", "has_returns"),
        needs=("items", "refund_amount"),
    ),
    Axis(
        "communication_preference",
        "support",
        "Through which channels a customer comes, and how often that changes",
        (
            CHANNEL_SHARE,
            "channel_diversity",
            "channel_switching_rate",
            "weekend_vs_weekday_ratio",
        ),
        needs=("source",),
    ),
    Axis(
        "problem_complexity_profile",
        "support",
        "How involved a customer's questions are likely to be",
        (
            "refund_rate",
            "items_returned_pct",
            "unique_products_vs_orders",
            "category_switching",
            "discount_dependency",
        ),
        needs=("items",),
    ),
    Axis(
        "loyalty_trajectory",
        "support",
        "Whether a customer buys more or less as time goes on",
        (
            "order_frequency_trend",
            "value_trend",
            "recency_momentum",
            "acceleration_phase",
            "deceleration_phase",
            "churn_risk_score",
        ),
    ),
    Axis(
        "product_knowledge",
        "support",
        "How well a customer knows some of the products",
        (
            "product_concentration",
            "repeat_product_rate",
            "categories_mastered",
            "primary_category_dominance",
            "exploration_vs_loyalty",
        ),
        needs=("items",),
    ),
    Axis(
        "value_sophistication",
        "support",
        "At which prices a customer buys, and how deliberately",
        (
            "avg_item_price",
            "price_variance",
            "discount_hunt_score",
            "full_price_comfort",
            "spend_consistency",
            "big_splurge_rate",
        ),
    ),
)


def channel_share(channel: str) -> str:
    """Return the column of a channel's share.

    >>> channel_share("web")
    'channel_share_web'
    """
    return f"{CHANNEL_SHARE}_{channel}"


def columns_of(feature: CustomerFeature, channels: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that a feature takes up."""
    if feature.name == CHANNEL_SHARE:
        return tuple(channel_share(channel) for channel in channels)
    return (feature.name,)


def check_absent(absent: Sequence[str]) -> None:
    """Refuse a name that is none of what data may lack.

    Raises
    ------
    ConfigError
        Naming it.
    """
    for name in absent:
        if name not in LACKING:
            raise ConfigError(
                f"`{name}` is nothing that data may lack; known are "
                f"{listed(list(LACKING))}.{did_you_mean(name, LACKING)}"
            )


def why_skipped(
    name: str, absent: Sequence[str], channels: Sequence[str]
) -> str | None:
    """Return why data do not allow a feature; None if they do."""
    needs = FEATURES[name].needs
    if "source" in needs and "source" not in absent and len(channels) < 2:
        return FEW_CHANNELS
    return next((LACKING[need] for need in needs if need in absent), None)


def features_available(
    absent: Sequence[str], channels: Sequence[str]
) -> dict[str, AxisFeatures]:
    """Return which features of each axis the data allow.

    Parameters
    ----------
    absent : sequence of str
        What the data do not have: ``items``, ``discount_amount``, ``source``,
        ``category``, ``refund_amount``, and ``order_time`` (see `has_times`).
    channels : sequence of str
        The channels known, from `known_channels`.

    Returns
    -------
    dict of str to AxisFeatures
        For all 13 axes, in order.

    Raises
    ------
    ConfigError
        For an unknown name in `absent`.
    """
    check_absent(absent)
    return {axis.name: _available(axis, absent, channels) for axis in AXES}


def _available(
    axis: Axis, absent: Sequence[str], channels: Sequence[str]
) -> AxisFeatures:
    """Return the features of one axis that the data allow."""
    skipped: dict[str, str] = {}
    used: list[str] = []
    of_axis = next((LACKING[need] for need in axis.needs if need in absent), None)
    if "source" in axis.needs and of_axis is None and len(channels) < 2:
        of_axis = FEW_CHANNELS
    for name in axis.features:
        reason = why_skipped(name, absent, channels) or of_axis
        if reason is None:
            used.extend(columns_of(FEATURES[name], channels))
        else:
            skipped[name] = reason
    return AxisFeatures(axis.name, tuple(used), skipped)
