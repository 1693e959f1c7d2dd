"""Requests and answers of the API: their models, with examples."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from importlib import resources
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
from core.segments.axes import FittedAxis
from core.segments.memberships import CustomerAssigner
from core.store import StoredModel, StoredProfile

# No control characters: PostgreSQL refuses NUL in a text, a log line breaks at others.
ID_PATTERN = r"^[^\x00-\x1f\x7f]+$"
MAX_ID_LENGTH = 256
# The same bounds as for files: an amount beyond them is a mistake in the data.
LIMIT = 1e9
FIRST_YEAR, LAST_YEAR = 1900, 2199


Share = Annotated[float, Field(ge=0.0, le=1.0)]
_EXAMPLES: dict[str, Any] = json.loads(
    resources.files("core.api").joinpath("examples.json").read_text("utf-8")
)


def _example(name: str) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [_EXAMPLES[name]]})


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
    # Before the validator, or pydantic would check them in Python.
    StringConstraints(min_length=1, max_length=MAX_ID_LENGTH, pattern=ID_PATTERN),
    BeforeValidator(_as_text),
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


class RequestModel(BaseModel):
    """A part of a request: unknown fields are refused, numbers are never texts."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class OrderIn(RequestModel):
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


class ItemIn(RequestModel):
    """One line of an order."""

    order_id: Identifier
    product_id: Identifier
    quantity: Amount = Field(description="below 0: returned, as in files")
    price: Amount = Field(description="of one unit")
    category: Word | None = Field(None, description="null: unknown")
    refund_amount: Amount | None = Field(
        None, description="paid back for this line; null: nothing"
    )


class AssignRequest(RequestModel):
    """A customer's orders and items, all of them that are known."""

    model_config = _example("assign_request")

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


Cell = Annotated[float, Field(allow_inf_nan=False)] | str | bool | None


class AssignRow(RequestModel):
    """A row of a feature table; of a store that `fit` or `rfm` has filled."""

    model_config = _example("assign_row")

    customer_id: Identifier
    features: dict[str, Cell] = Field(
        description="the columns that the segments were learnt from, by name (see "
        "`GET /segments/axes`); null: unknown; others are passed over"
    )


class CustomerSegments(BaseModel):
    """A customer's segment and its strength on every axis, and the profile."""

    model_config = _example("customer_segments")

    customer_id: str
    segment_memberships: dict[str, str] = Field(
        description="segment per axis; `not_enough_orders`, `no_items` or `no_channel` "
        "where the customer cannot be placed, `no_rule` where no rule holds; of shops "
        "`unassigned`, or `not segmented` with a `reason`; axes that do not look at "
        "the customer are left out"
    )
    dominant_segments: dict[str, str] = Field(
        description="the same: everyone has one segment per axis; of shops the ids"
    )
    membership_strengths: dict[str, Share] = Field(
        description="per axis, 0 (on the border to the next segment, or not placed) to "
        "1 (at the own centre, or the only segment)"
    )
    confidence: Share | None = Field(
        description="mean strength over the axes with two segments or more, 0 where "
        "the customer is not placed; 0 if there are none"
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


class SetAside(BaseModel):
    """Rows of a request that were not used: how many, by fault."""

    orders: dict[str, int]
    items: dict[str, int]


class AssignedSegments(CustomerSegments):
    """Segments computed from the request's own rows; nothing is stored."""

    model_config = _example("assigned_segments")

    reference_date: datetime = Field(description="what stood for now, UTC")
    set_aside: SetAside = Field(description="rows that were not used, as in a file")
    not_placed: dict[str, str] = Field(
        description="axes that do not place the customer, with the reason"
    )


class Stats(BaseModel):
    """How many customers the store holds, and how they spread over the segments."""

    model_config = _example("stats")

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
    """One way of dividing the customers."""

    name: str
    group: str = Field(
        description="`marketing` or `support`; of channel segments `rule`, or how an "
        "item of the plan is divided (`natural`, `cut`, `single`)"
    )
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

    model_config = _example("axes")

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


_PROFILE = ", ".join(f'"{name}": {{}}' for name in StoredProfile._fields)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def profile_text(profile: StoredProfile) -> str:
    """Return `CustomerSegments` as JSON; what is stored as JSON is passed through."""
    updated = profile.last_updated.astimezone(UTC).isoformat()
    customer_id = json.dumps(profile.customer_id)
    values = (customer_id, *profile[1:-1], f'"{updated}"')
    # Finite numbers read the same in Python and in JSON, which has no others.
    texts = ["null" if _is_missing(value) else value for value in values]
    return f"{{{_PROFILE.format(*texts)}}}"


def axes_of(assigner: CustomerAssigner | StoredModel | None) -> list[dict[str, Any]]:
    """Return `AxisOut` of every axis."""
    if isinstance(assigner, StoredModel):  # of shops
        return list(assigner.meta["axes"])
    if assigner is None or isinstance(assigner, AxesAssigner):
        return _behavioural(assigner)
    return [
        {
            "name": name,
            "group": str(axis.report["kind"]),
            "description": str(axis.report["verdict"]),
            "features": list(axis.features),
            "skipped_features": dict(axis.skipped),
            "segments": _segments(axis),
        }
        for name, axis in assigner.model.axes.items()
    ]


def _behavioural(assigner: AxesAssigner | None) -> list[dict[str, Any]]:
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
                "segments": _segments(fitted) if fitted else [],
            }
        )
    return rows


def _segments(axis: FittedAxis) -> list[dict[str, Any]]:
    return [
        {"id": own.id, "name": own.name, "share": own.share} for own in axis.segments
    ]
