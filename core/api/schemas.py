"""Requests and answers of the API: their models, with examples."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)

from core.axes.assign import AxesAssigner
from core.axes.features.catalog import AXES
from core.store import StoredProfile

# No control characters: PostgreSQL refuses NUL in a text, a log line breaks at others.
ID_PATTERN = r"^[^\x00-\x1f\x7f]+$"
MAX_ID_LENGTH = 256
# The same bounds as for files: an amount beyond them is a mistake in the data.
LIMIT = 1e9
FIRST_YEAR, LAST_YEAR = 1900, 2199


def _as_text(value: Any) -> Any:
    """Take a whole number for the text of it, as a file's column of numbers is."""
    return str(value) if type(value) is int else value


class Day(datetime):
    """A date that came without a time of day, at midnight."""


def read_moment(value: Any) -> datetime:
    """Return an ISO 8601 date or moment as naive UTC; a mere date is a `Day`.

    Raises
    ------
    ValueError
        If it is no text, no such date, or lies outside the years 1900 to 2199.
    """
    expected = "expected a date or moment in ISO 8601, such as 2026-03-01T14:30:00Z"
    if not isinstance(value, str):
        raise ValueError(f"{expected}, as a text")
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise ValueError(f"{expected}; received {value[:40]!r}") from None
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError(
            f"expected a year from {FIRST_YEAR} to {LAST_YEAR}; received {value[:40]!r}"
        )
    if len(value) <= len("2026-03-01"):
        return Day(moment.year, moment.month, moment.day)
    return moment


Identifier = Annotated[
    str,
    BeforeValidator(_as_text),
    StringConstraints(min_length=1, max_length=MAX_ID_LENGTH, pattern=ID_PATTERN),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_ID_LENGTH,
                    "pattern": ID_PATTERN,
                },
                {"type": "integer"},
            ]
        },
        mode="validation",
    ),
]
Word = Annotated[
    str, StringConstraints(max_length=MAX_ID_LENGTH, pattern=r"^[^\x00]*$")
]
Moment = Annotated[
    datetime,
    PlainValidator(read_moment),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="validation"),
]
Amount = Annotated[float, Field(ge=-LIMIT, le=LIMIT, allow_inf_nan=False)]


class Received(BaseModel):
    """A part of a request: unknown fields are refused, numbers are never texts."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class OrderIn(Received):
    """One order of the customer."""

    order_id: Identifier
    order_date: Moment = Field(
        description="ISO 8601; a moment with an offset is taken to UTC, one without is "
        "UTC; at most a day ahead"
    )
    total_price: Amount = Field(description="below 0: a refund, as in files")
    discount_amount: Amount | None = Field(
        None, description="what was taken off; null: nothing"
    )
    source: Word | None = Field(
        None, description="channel: `web`, `pos`, `app`, ...; null: unknown"
    )


class ItemIn(Received):
    """One line of an order."""

    order_id: Identifier
    product_id: Identifier
    quantity: Amount = Field(description="below 0: returned, as in files")
    price: Amount = Field(description="of one unit")
    category: Word | None = Field(None, description="null: unknown")
    refund_amount: Amount | None = Field(
        None, description="paid back for this line; null: nothing"
    )


ASSIGN_EXAMPLE: dict[str, Any] = {
    "customer_id": "C-1048",
    "orders": [
        {
            "order_id": "O-1",
            "order_date": "2026-01-09T18:20:00Z",
            "total_price": 42.5,
            "discount_amount": 0.0,
            "source": "web",
        },
        {
            "order_id": "O-2",
            "order_date": "2026-02-20T11:05:00Z",
            "total_price": 61.0,
            "discount_amount": 6.1,
            "source": "app",
        },
    ],
    "items": [
        {
            "order_id": "O-1",
            "product_id": "P-17",
            "quantity": 2,
            "price": 21.25,
            "category": "coffee",
        },
        {
            "order_id": "O-2",
            "product_id": "P-3",
            "quantity": 1,
            "price": 67.1,
            "category": "machines",
            "refund_amount": 0.0,
        },
    ],
}


class AssignRequest(Received):
    """A customer's orders and items, all of them that are known."""

    model_config = ConfigDict(json_schema_extra={"examples": [ASSIGN_EXAMPLE]})

    customer_id: Identifier
    orders: list[OrderIn] = Field(min_length=1)
    items: list[ItemIn] | None = Field(
        None,
        description="lines of those orders; `[]`: it is known that there are none, "
        "left out: they are not known, and axes that need them are left out",
    )
    reference_date: Moment | None = Field(
        None,
        description="what stands for now; null: the model's own date, or the newest "
        "order if that is later",
    )


Share = Annotated[float, Field(ge=0.0, le=1.0)]

PROFILE_EXAMPLE: dict[str, Any] = {
    "customer_id": "C-1048",
    "segment_memberships": {
        "purchase_frequency": "regular",
        "price_sensitivity": "deal_hunter",
    },
    "dominant_segments": {
        "purchase_frequency": "regular",
        "price_sensitivity": "deal_hunter",
    },
    "membership_strengths": {"purchase_frequency": 0.83, "price_sensitivity": 0.41},
    "confidence": 0.62,
    "runner_up_segments": {
        "purchase_frequency": "occasional",
        "price_sensitivity": "careful_buyer",
    },
    "model_version": 3,
    "lifetime_value": 103.5,
    "total_orders": 2,
    "avg_order_value": 51.75,
    "days_since_last_purchase": 9.0,
    "customer_tenure_days": 51.0,
    "churn_risk_score": 0.11,
    "last_updated": "2026-03-01T04:12:09.125000+00:00",
}


class CustomerSegments(BaseModel):
    """A customer's segment and its strength on every axis, and the profile."""

    model_config = ConfigDict(json_schema_extra={"examples": [PROFILE_EXAMPLE]})

    customer_id: str
    segment_memberships: dict[str, str] = Field(
        description="segment per axis; `not_enough_orders`, `no_items` or `no_channel` "
        "where the customer cannot be placed"
    )
    dominant_segments: dict[str, str] = Field(
        description="the same: everyone has one segment per axis"
    )
    membership_strengths: dict[str, Share] = Field(
        description="per axis, 0 (on the border to the next segment, or not placed) to "
        "1 (at the own centre, or the only segment)"
    )
    confidence: Share = Field(
        description="mean strength over the axes that place the customer and have two "
        "segments or more; 0 if there are none"
    )
    runner_up_segments: dict[str, str] = Field(
        description="per axis with two segments and more, the next nearest"
    )
    model_version: int = Field(description="version of the model that placed them")
    lifetime_value: float | None
    total_orders: int | None
    avg_order_value: float | None
    days_since_last_purchase: float | None
    customer_tenure_days: float | None
    churn_risk_score: float | None = Field(description="0 to 1; null below 2 orders")
    last_updated: datetime | None = Field(
        description="when the store last changed it; null: computed just now"
    )


ASSIGNED_EXAMPLE: dict[str, Any] = {
    **PROFILE_EXAMPLE,
    "last_updated": None,
    "reference_date": "2026-03-01T00:00:00Z",
    "set_aside": {"orders": {}, "items": {"unknown_order": 1}},
    "not_placed": {},
}


class SetAside(BaseModel):
    """Rows of a request that were not used: how many, by fault."""

    orders: dict[str, int]
    items: dict[str, int]


class AssignedSegments(CustomerSegments):
    """Segments computed from the request's own rows; nothing is stored."""

    model_config = ConfigDict(json_schema_extra={"examples": [ASSIGNED_EXAMPLE]})

    reference_date: datetime = Field(description="what stood for now, UTC")
    set_aside: SetAside = Field(description="rows that were not used, as in a file")
    not_placed: dict[str, str] = Field(
        description="axes that the request lacks something for, with the reason"
    )


class Stats(BaseModel):
    """How many customers the store holds, and how they spread over the segments."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "total_customers": 93564,
                    "customers_with_segments": 93564,
                    "axes_count": 13,
                    "segments_per_axis": {"purchase_frequency": 3},
                    "segment_distribution": {
                        "purchase_frequency": {
                            "regular": 41210,
                            "occasional": 39002,
                            "loyal": 13352,
                        }
                    },
                    "model_version": 3,
                }
            ]
        }
    )

    total_customers: int
    customers_with_segments: int
    axes_count: int
    segments_per_axis: dict[str, int]
    segment_distribution: dict[str, dict[str, int]] = Field(
        description="customers per axis and segment"
    )
    model_version: int | None = Field(description="null: nothing is stored yet")


class AxisSegment(BaseModel):
    """One segment of an axis."""

    id: int = Field(description="stays the same over refits; -1: who cannot be placed")
    name: str
    share: Share = Field(description="of the customers that the model was fitted on")


class AxisOut(BaseModel):
    """One behavioural axis."""

    name: str
    group: str = Field(description="`marketing` or `support`")
    description: str
    features: list[str] = Field(description="features that it is made of")
    skipped_features: dict[str, str] = Field(
        description="features that the store's data has not, with the reason"
    )
    segments: list[AxisSegment] = Field(
        description="empty: the axis was skipped, or nothing is stored yet"
    )


class AxesOut(BaseModel):
    """The axes, in their order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "axes": [
                        {
                            "name": "price_sensitivity",
                            "group": "marketing",
                            "description": "How much a customer waits for discounts.",
                            "features": ["discount_rate", "avg_discount_pct"],
                            "skipped_features": {},
                            "segments": [
                                {"id": 0, "name": "careful_buyer", "share": 0.71},
                                {"id": 1, "name": "deal_hunter", "share": 0.29},
                            ],
                        }
                    ],
                    "model_version": 3,
                }
            ]
        }
    )

    axes: list[AxisOut]
    model_version: int | None = Field(description="null: nothing is stored yet")


class Health(BaseModel):
    """That the process answers."""

    status: Literal["ok"]


class Ready(BaseModel):
    """That requests can be served."""

    status: Literal["ready"]
    models: int = Field(description="stores with a model")


class Problem(BaseModel):
    """Why a request was not answered."""

    detail: str


class FieldProblem(BaseModel):
    """What is wrong with one field of a request."""

    loc: list[str | int] = Field(description="where, as `body`, `orders`, 0, ...")
    msg: str = Field(description="what was received, and what was expected")
    type: str = Field(description="kind of the fault, for programs")


class FieldProblems(BaseModel):
    """What is wrong with a request, field by field."""

    detail: list[FieldProblem]


def profile_text(profile: StoredProfile) -> str:
    """Return `core.api.schemas.CustomerSegments`; stored JSON is passed through."""
    updated = profile.last_updated.astimezone(UTC).isoformat()
    return (
        f'{{"customer_id": {json.dumps(profile.customer_id)}, '
        f'"segment_memberships": {profile.segment_memberships}, '
        f'"dominant_segments": {profile.dominant_segments}, '
        f'"membership_strengths": {profile.membership_strengths}, '
        f'"confidence": {json.dumps(profile.confidence)}, '
        f'"runner_up_segments": {profile.runner_up_segments}, '
        f'"model_version": {profile.model_version}, '
        f'"lifetime_value": {json.dumps(profile.lifetime_value)}, '
        f'"total_orders": {json.dumps(profile.total_orders)}, '
        f'"avg_order_value": {json.dumps(profile.avg_order_value)}, '
        '"days_since_last_purchase": '
        f"{json.dumps(profile.days_since_last_purchase)}, "
        f'"customer_tenure_days": {json.dumps(profile.customer_tenure_days)}, '
        f'"churn_risk_score": {json.dumps(profile.churn_risk_score)}, '
        f'"last_updated": "{updated}"}}'
    )


def axes_of(assigner: AxesAssigner | None) -> list[dict[str, Any]]:
    """Return `core.api.schemas.AxisOut` of every axis."""
    rows = []
    for axis in AXES:
        fitted = assigner.model.axes.get(axis.name) if assigner else None
        rows.append(
            {
                "name": axis.name,
                "group": axis.group,
                "description": axis.description,
                "features": list(fitted.features if fitted else axis.features),
                "skipped_features": dict(fitted.skipped) if fitted else {},
                "segments": [
                    {"id": own.id, "name": own.name, "share": own.share}
                    for own in (fitted.segments if fitted else ())
                ],
            }
        )
    return rows
