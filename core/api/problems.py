"""How the API says no: one shape of message, in the words of the house."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

MAX_PROBLEMS = 20
RETRY_SECONDS = "2"


class FieldError(Exception):
    """A request's fields are not what they should be: 422, or 413 for too many.

    Parameters
    ----------
    problems : sequence of dict
        ``loc``, ``msg`` and ``type`` of each.
    """

    def __init__(
        self, problems: Sequence[Mapping[str, Any]], status: int = 422
    ) -> None:
        super().__init__(str(problems[0]["msg"]))
        self.problems = problems
        self.status = status


def field_error(
    loc: Sequence[str | int], msg: str, kind: str = "value_error", status: int = 422
) -> FieldError:
    """Return the error of one field; `msg` follows the field's name."""
    return FieldError([_problem(loc, msg, kind)], status)


def from_validation(error: ValidationError) -> FieldError:
    """Return pydantic's findings in the house's grammar, the first 20 of them."""
    found = error.errors(include_url=False, include_context=False)
    problems = [
        _problem(("body", *item["loc"]), _message(item), item["type"])
        for item in found[:MAX_PROBLEMS]
    ]
    if len(found) > MAX_PROBLEMS:
        rest = len(found) - MAX_PROBLEMS
        problems.append(_problem(("body",), f"has {rest:,} further faults", "more"))
    return FieldError(problems)


def _problem(loc: Sequence[str | int], msg: str, kind: str) -> dict[str, Any]:
    """Return one entry of `detail`, its message beginning with the field's name."""
    path = ".".join(str(part) for part in loc[1:]) or str(loc[0])
    return {"loc": list(loc), "msg": f"`{path}`: {msg}.", "type": kind}


def _message(item: Mapping[str, Any]) -> str:
    """Return what was expected and, where that is short, what was received."""
    message = str(item["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    received = item.get("input")
    if item["type"] in {"value_error", "missing", "json_invalid"}:
        return message
    if isinstance(received, str | int | float | bool) or received is None:
        return f"{message}; received {str(received)[:40]!r}"
    return message


def unauthorised() -> HTTPException:
    """Return the answer to a missing, wrong or revoked key; it does not say which."""
    return HTTPException(
        401,
        "a valid key is needed in the header `X-API-Key`. Make one with "
        "`segments keys create --store NAME`.",
        headers={"WWW-Authenticate": 'ApiKey realm="segments"'},
    )


def unavailable(detail: str) -> HTTPException:
    """Return the answer while something is away that will come back."""
    return HTTPException(503, detail, headers={"Retry-After": RETRY_SECONDS})


def said(model: type[BaseModel], what: str) -> dict[str, Any]:
    """Return how the document describes an answer that is not the usual one."""
    return {"model": model, "description": what}


async def answer_field_error(request: Request, error: Exception) -> Response:
    """Answer with the faults of a request's fields."""
    assert isinstance(error, FieldError)
    return JSONResponse({"detail": list(error.problems)}, error.status)
