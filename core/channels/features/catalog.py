"""Every feature of an order and of a customer, with formula, unit and null.

They are listed in ``catalog.yaml``; the formulas are in `core.channels.features.orders`
and `core.channels.features.customers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from core.yaml_text import shipped_yaml


@dataclass(frozen=True)
class ChannelFeature:
    """One feature, or several of one kind, as it is documented.

    Attributes
    ----------
    name : str
        Its column; a word in capitals stands for one column each.
    unit : str
        What it is measured in.
    formula : str
        How it is computed, in words.
    null_means : str
        What null means; "never" where it cannot be.
    """

    name: str
    unit: str
    formula: str
    null_means: str = "never"


@cache
def _entries(section: str) -> tuple[ChannelFeature, ...]:
    listed = shipped_yaml("core.channels.features", "catalog.yaml")[section]
    return tuple(ChannelFeature(name, **entry) for name, entry in listed.items())


def order_catalog() -> tuple[ChannelFeature, ...]:
    """Return the features of an order, in the order of their columns."""
    return _entries("orders")


def customer_catalog() -> tuple[ChannelFeature, ...]:
    """Return the features of a customer, in the order of their columns."""
    return _entries("customers")
