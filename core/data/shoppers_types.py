"""The kinds of shoppers that the built-in sample is made of.

A shopper has one type per trait, drawn independently of the other traits, so that each
axis of behaviour has groups of its own. `PLANTED` says on which axis a trait is meant
to show; axes that are not there have no groups by design.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CATEGORIES = (
    "coffee", "tea", "bakery", "dairy", "snacks", "wine", "household", "beauty",
    "pets", "garden", "toys", "stationery",
)  # fmt: skip
# Products of a category and shelf; a product's number tells both.
N_SHELVES, N_SLOTS = 3, 40
N_PRODUCTS = len(CATEGORIES) * N_SHELVES * N_SLOTS
CHANNELS = ("web", "app", "pos", "email")


@dataclass(frozen=True)
class ShopperType:
    """One type of a trait.

    Attributes
    ----------
    name : str
        What it is called in the truth.
    share : float
        Its share of all shoppers.
    values : dict of str to float
        What it sets, as named in `core.data.shoppers`.
    """

    name: str
    share: float
    values: Mapping[str, float]


def _type(name: str, share: float, **values: float) -> ShopperType:
    """Return a type with its values by keyword."""
    return ShopperType(name, share, values)


TRAITS: dict[str, tuple[ShopperType, ...]] = {
    "frequency": (
        # Orders per month, and the shape of the gamma-distributed gaps between them.
        _type("frequent", 0.30, rate=1.9, regularity=6.0),
        _type("occasional", 0.70, rate=0.22, regularity=2.0),
    ),
    "value": (
        # The shelf (0 plain, 1 standard, 2 fine) and the units per item beyond one.
        _type("small_basket", 0.45, shelf=0.0, more_units=0.3),
        _type("middle_basket", 0.43, shelf=1.0, more_units=0.6),
        _type("large_basket", 0.12, shelf=2.0, more_units=1.6),
    ),
    "discount": (
        # Probability that an order has a discount, and its mean share of the goods.
        _type("full_price", 0.55, discount_chance=0.04, discount_depth=0.10),
        _type("now_and_then", 0.25, discount_chance=0.40, discount_depth=0.14),
        _type("deal_hunter", 0.20, discount_chance=0.88, discount_depth=0.24),
    ),
    "cadence": (
        # Probability of a weekend, hour of the day that orders gather around.
        _type("office_hours", 0.40, weekend=0.06, hour=11.5),
        _type("evening", 0.35, weekend=0.25, hour=19.5),
        _type("weekend", 0.25, weekend=0.85, hour=14.5),
    ),
    "exploration": (
        # Categories that a shopper buys in.
        _type("one_category", 0.45, breadth=1.4),
        _type("many_categories", 0.55, breadth=8.0),
    ),
    "repurchase": (
        # Probability that an item is the shopper's favourite of its category.
        _type("loyal", 0.45, favourite=0.94),
        _type("variety_seeker", 0.55, favourite=0.06),
    ),
    "returns": (
        # Probability that an item comes back.
        _type("keeper", 0.80, refund=0.002),
        _type("returner", 0.20, refund=0.35),
    ),
    "channel": (
        # The main channel, as its place in `CHANNELS`, and how often it is used.
        _type("web", 0.40, main=0.0, faithful=0.94),
        _type("app", 0.30, main=1.0, faithful=0.94),
        _type("pos", 0.20, main=2.0, faithful=0.94),
        _type("email", 0.10, main=3.0, faithful=0.94),
    ),
}

# With `structure="none"` everyone is drawn around these values, in one hump per value;
# positive ones lognormal, shares beta distributed.
ONE_KIND: dict[str, float] = {
    "rate": 0.45,
    "regularity": 3.0,
    "more_units": 0.6,
    "discount_chance": 0.30,
    "discount_depth": 0.15,
    "weekend": 0.30,
    "hour": 14.0,
    "breadth": 6.0,
    "favourite": 0.40,
    "refund": 0.03,
    "faithful": 0.45,
}

# The axis of `core.features.customer` that a trait is planted for.
PLANTED = {
    "purchase_frequency": "frequency",
    "purchase_value": "value",
    "price_sensitivity": "discount",
    "purchase_cadence": "cadence",
    "category_exploration": "exploration",
    "repurchase_behavior": "repurchase",
    "return_behavior": "returns",
    "communication_preference": "channel",
}
# Tenure is uniform, and nobody's orders grow or shrink by design.
UNPLANTED = ("customer_maturity", "loyalty_trajectory")
