"""Segments of one customer from a request's own rows, the way a batch is placed.

What a request cannot know is not guessed: where no order has a `discount_amount`, say,
the axes that rest on it do not place the customer, and the answer says why. A field
that is there and null means what an empty cell of a file means.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import polars as pl
from pydantic import ValidationError

from core.api.middleware import field_error, from_validation
from core.api.schemas import AssignRequest, Day
from core.axes.assign import AxesAssigner
from core.axes.features.catalog import LACKING, PROFILE, features_available
from core.segments.memberships import confidence
from core.tables.cells import latest_moment
from core.tables.orders import Purchases, purchases_of_customer
from core.tables.reconcile import ORDERS

ORDER_FIELDS = ("discount_amount", "source")
ITEM_FIELDS = ("category", "refund_amount")
REASONS = {
    "items": "`items` is left out; send `[]` if there were none",
    "discount_amount": "no order has `discount_amount`; send 0 where there was none",
    "source": "no order has `source` (the channel)",
    "category": "no item has `category`",
    "refund_amount": "no item has `refund_amount`; send 0 where there was none",
    "order_time": "every `order_date` is a date without a time of day",
}

UNPLACED = {
    "not_enough_orders": "the customer has too few orders for this axis",
    "no_items": "no order of the customer has items",
    "no_channel": "no order of the customer has a channel",
}


class Limits(NamedTuple):
    """The most rows that one request may have."""

    max_orders: int
    max_items: int


def read_request(body: bytes, limits: Limits) -> AssignRequest:
    """Return the request in a body of JSON.

    Parameters
    ----------
    body : bytes
    limits : Limits

    Raises
    ------
    FieldError
        Naming each field that is not as it should be: malformed, too many rows, or an
        order more than a day ahead of the clock.
    """
    try:
        request = AssignRequest.model_validate_json(body)
    except ValidationError as error:
        raise from_validation(error) from None
    sizes = {"orders": len(request.orders), "items": len(request.items or ())}
    for (name, size), most in zip(sizes.items(), limits, strict=True):
        if size > most:
            text = f"{size:,} rows; expected at most {most:,} in one request"
            raise field_error(("body", name), text, "too_long")
    latest = latest_moment()
    for place, order in enumerate(request.orders):
        if order.order_date > latest:
            text = (
                f"{order.order_date.isoformat()} lies in the future; expected at most "
                "a day after now (UTC)"
            )
            raise field_error(("body", "orders", place, "order_date"), text)
    return request


def assign(assigner: AxesAssigner, request: AssignRequest) -> dict[str, Any]:
    """Return the answer to a request: `core.api.schemas.AssignedSegments`, JSON-able.

    Raises
    ------
    FieldError
        If no order can be used.
    """
    purchases = _purchases(assigner, request)
    if purchases.orders.is_empty():
        faults = set_aside(purchases)["orders"]
        found = [
            f"{count:,} {ORDERS.meanings[fault]}" for fault, count in faults.items()
        ]
        text = f"none can be used: {', '.join(found)}"
        raise field_error(("body", "orders"), text)
    lacking = [name for name in lacks(request) if name not in assigner.absent]
    known = assigner.features(purchases)
    features, not_placed = _empty_unknown(assigner, known, lacking)
    # By the same placing as a batch; a table of one row would cost 2 ms more.
    placed, names = assigner.model.assign(features), assigner.model.names
    segments = {axis: names[axis][int(own.labels[0])] for axis, own in placed.items()}
    for axis, own in placed.items():
        if own.labels[0] < 0:
            reason = UNPLACED.get(segments[axis], segments[axis])
            not_placed.setdefault(axis, reason)
    return {
        "customer_id": features["customer_id"][0],
        "segment_memberships": segments,
        "dominant_segments": segments,
        "membership_strengths": {
            axis: float(own.strength[0]) for axis, own in placed.items()
        },
        "confidence": float(confidence(placed, 1)[0]),
        "runner_up_segments": {
            axis: names[axis][int(own.runner_up[0])]
            for axis, own in placed.items()
            if own.runner_up[0] >= 0
        },
        "model_version": assigner.version,
        **{name: features[name][0] for name in PROFILE},
        "last_updated": None,
        "reference_date": f"{purchases.reference_date.isoformat()}Z",
        "set_aside": set_aside(purchases),
        "not_placed": not_placed,
    }


def lacks(request: AssignRequest) -> list[str]:
    """Return which of `core.tables.orders.OPTIONAL` a request says nothing of."""
    lacking = [
        name
        for name in ORDER_FIELDS
        if not any(name in order.model_fields_set for order in request.orders)
    ]
    if request.items is None:
        lacking.append("items")
    elif request.items:
        lacking += [
            name
            for name in ITEM_FIELDS
            if not any(name in item.model_fields_set for item in request.items)
        ]
    if all(isinstance(order.order_date, Day) for order in request.orders):
        lacking.append("order_time")
    return lacking


def set_aside(purchases: Purchases) -> dict[str, dict[str, int]]:
    """Return how many rows of each table have which fault, without those of none."""
    return {
        table: {
            fault: count
            for fault, count in (
                (purchases.intake[table] or {}).get("faults", {})
            ).items()
            if count
        }
        for table in ("orders", "items")
    }


def _purchases(assigner: AxesAssigner, request: AssignRequest) -> Purchases:
    """Return a request's rows, held against each other as those of a file are."""
    orders = [order.model_dump() for order in request.orders]
    newest = max(order.order_date for order in request.orders)
    return purchases_of_customer(
        request.customer_id,
        orders,
        [item.model_dump() for item in request.items or ()],
        absent=assigner.absent,
        reference_date=request.reference_date or max(assigner.reference_date, newest),
        negative_orders=assigner.negative_orders,
    )


def _empty_unknown(
    assigner: AxesAssigner, features: pl.DataFrame, lacking: list[str]
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Empty the features that a request lacks the rows' fields for.

    Returns
    -------
    features : DataFrame
        With null where it is not known; an axis with a null places nobody.
    not_placed : dict of str to str
        Those axes, and why.
    """
    if not lacking:
        return features, {}
    left = features_available((*assigner.absent, *lacking), assigner.channels)
    unknown: set[str] = set()
    not_placed: dict[str, str] = {}
    for axis, fitted in assigner.model.fitted.items():
        gone = [name for name in fitted.features if name not in left[axis].used]
        if gone:
            unknown.update(gone)
            said = left[axis].skipped.values()
            causes = [REASONS[name] for name in lacking if LACKING[name] in said]
            not_placed[axis] = "; ".join(causes)
    nulls = [pl.lit(None, pl.Float64).alias(name) for name in sorted(unknown)]
    return features.with_columns(nulls), not_placed
