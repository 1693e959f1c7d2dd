"""The four endpoints of the reference."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Security
from fastapi.responses import JSONResponse, Response
from fastapi.security import APIKeyHeader
from starlette.exceptions import HTTPException

from core.api import schemas
from core.api.answers import axes_of, profile_text
from core.api.assigning import assign, read_request
from core.api.gate import facts_of
from core.api.problems import said, unauthorised
from core.api.received import ID_PATTERN, MAX_ID_LENGTH
from core.api.services import Services, in_pool, model_of, store_of

JSON = "application/json"
BODY_SECONDS = 30.0

header = APIKeyHeader(
    name="X-API-Key",
    auto_error=False,
    description="Made by `segments keys create --store NAME`; opens that store only.",
)
ApiKey = Annotated[str | None, Security(header)]
CustomerId = Annotated[
    str,
    Path(
        description="as in the data; `/` and others percent-encoded",
        min_length=1,
        max_length=MAX_ID_LENGTH,
        pattern=ID_PATTERN,
        examples=["C-1048"],
    ),
]


AUTHORISED: dict[int | str, dict[str, Any]] = {
    401: said(schemas.Problem, "No key, a wrong or a revoked one"),
    503: said(schemas.Problem, "The database is away, or no model is published yet"),
}
NOT_FOUND = said(schemas.Problem, "The key's store has no such customer")
BAD_FIELDS = said(schemas.FieldProblems, "A field is not as it should be")
HEADERS = {
    "X-Model-Version": {
        "description": "Version of the model behind the answer",
        "schema": {"type": "integer"},
    }
}

segments = APIRouter(prefix="/segments", tags=["segments"])


@segments.get(
    "/customer/{customer_id:path}",
    response_model=schemas.CustomerSegments,
    responses={
        **AUTHORISED,
        200: {"description": "The stored profile", "headers": HEADERS},
        404: NOT_FOUND,
        422: BAD_FIELDS,
    },
    summary="Segments of a stored customer",
)
async def get_customer(
    request: Request, customer_id: CustomerId, key: ApiKey
) -> Response:
    """Return the segment on every axis that the newest run gave a customer."""
    if not key:
        raise unauthorised()
    services: Services = request.app.state.services
    # The key is checked in the same round trip, so a revoked one is refused at once.
    store_id, profile = await services.reader.profile_with_key(key, customer_id)
    if store_id is None:
        raise unauthorised()
    facts_of(request.scope)["store"] = store_id
    if profile is None:
        return JSONResponse({"detail": f"no customer `{customer_id}`."}, 404)
    headers = {"X-Model-Version": str(profile.model_version)}
    return Response(profile_text(profile), media_type=JSON, headers=headers)


@segments.post(
    "/assign",
    response_model=schemas.AssignedSegments,
    responses={
        **AUTHORISED,
        200: {"description": "Segments of the rows sent", "headers": HEADERS},
        408: said(schemas.Problem, "The body came too slowly"),
        413: said(schemas.Problem, "The body is too large"),
        415: said(schemas.Problem, "The body is not declared as JSON"),
        422: BAD_FIELDS,
    },
    summary="Segments of a customer's own rows, computed at once",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": {"$ref": "#/components/schemas/AssignRequest"}}
            },
        }
    },
)
async def post_assign(request: Request, key: ApiKey) -> Response:
    """Place a customer by the store's current model; nothing is stored.

    A stored customer's own rows get the stored segments. Rows that a file would have
    set aside are set aside here, too, and counted in `set_aside`.
    """
    services: Services = request.app.state.services
    store_id = await store_of(request, key)
    _require_json(request)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.body()
    except TimeoutError:
        detail = f"the body did not come within {BODY_SECONDS:.0f} seconds."
        return JSONResponse({"detail": detail}, 408, {"Connection": "close"})
    assigner = await model_of(services, store_id)

    def work() -> bytes:
        received = read_request(body, services.limits)
        started = time.perf_counter()
        answer = assign(assigner, received)
        services.metrics.assign_seconds.observe(time.perf_counter() - started)
        return json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()

    answer = await in_pool(services, work)
    headers = {"X-Model-Version": str(assigner.version)}
    return Response(answer, media_type=JSON, headers=headers)


@segments.get(
    "/stats",
    response_model=schemas.Stats,
    responses=AUTHORISED,
    summary="How the customers spread over the segments",
)
async def get_stats(request: Request, key: ApiKey) -> Response:
    """Return the counts made when the profiles were loaded."""
    services: Services = request.app.state.services
    store_id = await store_of(request, key)
    return JSONResponse(await services.reader.stats(store_id))


@segments.get(
    "/axes",
    response_model=schemas.AxesOut,
    responses=AUTHORISED,
    summary="The axes, with descriptions and segments",
)
async def get_axes(request: Request, key: ApiKey) -> Response:
    """Return all axes; what is not among a store's data is named as skipped."""
    services: Services = request.app.state.services
    store_id = await store_of(request, key)
    assigner = await services.models.get(store_id)
    version = assigner.version if assigner else None
    return JSONResponse({"axes": axes_of(assigner), "model_version": version})


def _require_json(request: Request) -> None:
    """Refuse a body that says it is something else, or compressed."""
    declared = request.headers.get("content-type", JSON).partition(";")[0].strip()
    coding = request.headers.get("content-encoding", "identity")
    if declared.lower() != JSON or coding.lower() != "identity":
        raise HTTPException(
            415,
            f"the body is declared as `{declared}` ({coding}); expected "
            f"`{JSON}`, not compressed.",
        )
