"""What a feature of a customer is, and the words its documentation shares."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

import narwhals as nw

MILLIONTHS = 1_000_000
SECONDS_PER_DAY = 86_400
DAYS_PER_MONTH = 30.44
# Whole, so that a customer on the edge of a month falls on one side everywhere.
SECONDS_PER_MONTH = 2_630_016
RECENT_DAYS = 90
# Lower bounds in months of the lifecycle stages after the first.
LIFECYCLE_MONTHS = (3, 12, 24)
LIFECYCLE_STAGES = ("new", "developing", "settled", "veteran")
# Stands for one column per known channel, `channel_share_web` and so on.
CHANNEL_SHARE = "channel_share"
OTHER_CHANNEL = "other"

ONE_ORDER = "fewer than 2 orders"
NO_CHANNEL = "no order with a channel"
NO_ITEMS = "no item line"
NO_PURCHASES = "no item line with a quantity above 0"
NO_CATEGORY = "no item line with a category and a quantity above 0"

# What data may lack, and how that is said. `order_time` is no column: where dates come
# without a time, every order would pass for one at midnight, in the morning.
LACKING = {
    "items": "there are no items",
    "discount_amount": "the orders have no `discount_amount`",
    "source": "the orders have no `source` (the channel)",
    "category": "the items have no `category`",
    "refund_amount": "the items have no `refund_amount`",
    "order_time": "the orders have dates without a time of day",
}
FEW_CHANNELS = "fewer than two channels make up 1% of the orders each"


@dataclass(frozen=True)
class CustomerFeature:
    """One feature of a customer: how it is documented, and how it is computed.

    Attributes
    ----------
    name : str
        Its column; `CHANNEL_SHARE` stands for one column per known channel.
    unit : str
        What it is measured in.
    formula : str
        How it is computed, in words.
    null : str
        What null means; "never" where it cannot be. A customer with a null on an axis
        is not placed there.
    needs : tuple of str
        Keys of `LACKING`: without one of these the feature is skipped.
    scale : {"linear", "log"}
        How it enters a distance: as it is, or as ln(1 + x), for amounts, counts and
        waiting times.
    of_facts : nw.Expr or None
        The formula over one row of facts per customer; None for `CHANNEL_SHARE`.
    """

    name: str
    unit: str
    formula: str
    null: str = "never"
    needs: tuple[str, ...] = ()
    scale: Literal["linear", "log"] = "linear"
    of_facts: nw.Expr | None = field(default=None, repr=False, compare=False)


def sharing(
    features: Iterable[CustomerFeature], *, null: str = "never", needs: tuple[str, ...]
) -> tuple[CustomerFeature, ...]:
    """Return features with what null means, and what they need, in common."""
    return tuple(replace(feature, null=null, needs=needs) for feature in features)


def at_least(expression: nw.Expr, bound: float) -> nw.Expr:
    """Return the expression, raised to a bound; null stays null."""
    return expression.clip(lower_bound=bound)
