"""What the API gives back: the models of answers, with examples."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

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
