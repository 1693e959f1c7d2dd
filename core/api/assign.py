"""Segments of one customer from a request's own rows, the way a batch is placed.

What a request cannot know is not guessed: where no order has a `discount_amount`, say,
the axes that rest on it do not place the customer, and the answer says why. A field
that is there and null means what an empty cell of a file means.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import ValidationError

from core.api.middleware import field_error, from_validation
from core.api.schemas import AssignRequest, Day
from core.axes.assign import AxesAssigner
from core.axes.features.catalog import LACKING, features_available
from core.tables.cells import latest_moment
from core.tables.reconcile import ORDERS
from core.tables.records import CustomerRows, customer_rows

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
    rows = _rows(assigner, request)
    if not rows.orders["order_id"]:
        found = [
            f"{count:,} {ORDERS.meanings[fault]}"
            for fault, count in rows.set_aside["orders"].items()
        ]
        text = f"none can be used: {', '.join(found)}"
        raise field_error(("body", "orders"), text)
    lacking = [name for name in lacks(request) if name not in assigner.absent]
    unknown, not_placed = _unknown(assigner, lacking)
    profile = assigner.profile(rows, unknown)
    segments = profile.segment_memberships
    for axis in profile.unplaced:
        not_placed.setdefault(axis, UNPLACED.get(segments[axis], segments[axis]))
    runners_up = profile.runner_up_segments
    return {
        "customer_id": profile.customer_id,
        "segment_memberships": segments,
        "dominant_segments": segments,
        "membership_strengths": profile.membership_strengths,
        "confidence": profile.confidence,
        "runner_up_segments": {axis: name for axis, name in runners_up.items() if name},
        "model_version": assigner.version,
        **profile.figures,
        "last_updated": None,
        "reference_date": f"{rows.reference_date.isoformat()}Z",
        "set_aside": rows.set_aside,
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


def _rows(assigner: AxesAssigner, request: AssignRequest) -> CustomerRows:
    """Return a request's rows, held against each other as those of a file are."""
    newest = max(order.order_date for order in request.orders)
    return customer_rows(
        request.customer_id,
        [vars(order) for order in request.orders],
        [vars(item) for item in request.items or ()],
        absent=assigner.absent,
        reference_date=request.reference_date or max(assigner.reference_date, newest),
        negative_orders=assigner.negative_orders,
    )


def _unknown(
    assigner: AxesAssigner, lacking: list[str]
) -> tuple[set[str], dict[str, str]]:
    """Return the features that a request lacks the rows' fields for.

    Returns
    -------
    unknown : set of str
    not_placed : dict of str to str
        The axes that divide by one of them, and why they place nobody.
    """
    if not lacking:
        return set(), {}
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
    return unknown, not_placed
