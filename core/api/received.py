"""What the API takes in: the models of requests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)

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
