"""The 13 axes that customers are segmented on, their features, and what data allow.

Both are listed in ``catalog.yaml``; the formulas are in `core.axes.features.formulas`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from core.errors import ConfigError, did_you_mean, listed
from core.yaml_text import shipped_yaml

# Stands for one column per known channel, `channel_share_web` and so on.
CHANNEL_SHARE = "channel_share"
OTHER_CHANNEL = "other"
FEW_CHANNELS = "fewer than two channels make up 1% of the orders each"
PROFILE = (
    "lifetime_value",
    "total_orders",
    "avg_order_value",
    "days_since_last_purchase",
    "customer_tenure_days",
    "churn_risk_score",
)


@dataclass(frozen=True)
class CustomerFeature:
    """One feature of a customer, as it is documented.

    Attributes
    ----------
    name : str
        Its column; `CHANNEL_SHARE` stands for one column per known channel.
    unit : str
        What it is measured in.
    formula : str
        How it is computed, in words.
    null_means : str
        What null means; "never" where it cannot be. A customer with a null on an axis
        is not placed there.
    needs : tuple of str
        Keys of `LACKING`: without one of these the feature is skipped.
    scale : {"linear", "log"}
        How it enters a distance: as it is, or as ln(1 + x), for amounts, counts and
        waiting times.
    """

    name: str
    unit: str
    formula: str
    null_means: str = "never"
    needs: tuple[str, ...] = ()
    scale: Literal["linear", "log"] = "linear"


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


def _entries(kind: Any, section: str) -> list[Any]:
    """Return the entries of a section of the catalogue as records."""
    return [
        kind(
            name=name,
            **{key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()},
        )
        for name, entry in _CATALOG[section].items()
    ]


_CATALOG = shipped_yaml("core.axes.features", "catalog.yaml")
LACKING: dict[str, str] = _CATALOG["lacking"]
"""What data may lack, and how that is said."""
FEATURES: dict[str, CustomerFeature] = {
    feature.name: feature for feature in _entries(CustomerFeature, "features")
}
AXES: tuple[Axis, ...] = tuple(_entries(Axis, "axes"))


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
        ``category``, ``refund_amount``, and ``order_time``.
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
