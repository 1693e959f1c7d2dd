"""The endpoints: the four of the reference, and those that operators need."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Path, Request, Security
from fastapi.responses import JSONResponse, Response
from fastapi.security import APIKeyHeader
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from core.api import schemas
from core.api.assigning import Limits, assign, read_request
from core.api.gate import facts_of
from core.api.metrics import CONTENT_TYPE, Metrics
from core.api.models import ModelCache
from core.api.problems import unauthorised, unavailable
from core.axes.assigner import AxesAssigner
from core.features.customer import AXES
from core.store import AsyncReader, StoredProfile

JSON = "application/json"
BODY_SECONDS = 30.0
# Beyond this an answer would come too late to be of use.
MAX_WAITING = 64

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
        max_length=schemas.MAX_ID_LENGTH,
        pattern=schemas.ID_PATTERN,
        examples=["C-1048"],
    ),
]


class Services(NamedTuple):
    """What the endpoints work with, in the application's state."""

    reader: AsyncReader
    models: ModelCache
    metrics: Metrics
    limits: Limits
    pool: ThreadPoolExecutor
    waiting: list[int]  # one number: assignments begun and not ended


def _said(model: type[BaseModel], what: str) -> dict[str, Any]:
    return {"model": model, "description": what}


AUTHORISED: dict[int | str, dict[str, Any]] = {
    401: _said(schemas.Problem, "No key, a wrong or a revoked one"),
    503: _said(schemas.Problem, "The database is away, or no model is published yet"),
}
NOT_FOUND = _said(schemas.Problem, "The key's store has no such customer")
BAD_FIELDS = _said(schemas.FieldProblems, "A field is not as it should be")
HEADERS = {
    "X-Model-Version": {
        "description": "Version of the model behind the answer",
        "schema": {"type": "integer"},
    }
}

segments = APIRouter(prefix="/segments", tags=["segments"])
operations = APIRouter(tags=["operations"])


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
        408: _said(schemas.Problem, "The body came too slowly"),
        413: _said(schemas.Problem, "The body is too large"),
        415: _said(schemas.Problem, "The body is not declared as JSON"),
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
    store_id = await _store_of(request, key)
    _require_json(request)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.body()
    except TimeoutError:
        detail = f"the body did not come within {BODY_SECONDS:.0f} seconds."
        return JSONResponse({"detail": detail}, 408, {"Connection": "close"})
    assigner = await _model_of(services, store_id)

    def work() -> bytes:
        received = read_request(body, services.limits)
        started = time.perf_counter()
        answer = assign(assigner, received)
        services.metrics.assign_seconds.observe(time.perf_counter() - started)
        return json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()

    answer = await _in_pool(services, work)
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
    store_id = await _store_of(request, key)
    stats = await services.reader.stats(store_id)
    assigner = await services.models.get(store_id)
    return JSONResponse({**stats, "model_version": _version(assigner)})


@segments.get(
    "/axes",
    response_model=schemas.AxesOut,
    responses=AUTHORISED,
    summary="The axes, with descriptions and segments",
)
async def get_axes(request: Request, key: ApiKey) -> Response:
    """Return all axes; what is not among a store's data is named as skipped."""
    services: Services = request.app.state.services
    store_id = await _store_of(request, key)
    assigner = await services.models.get(store_id)
    return JSONResponse(
        {"axes": axes_of(assigner), "model_version": _version(assigner)}
    )


@operations.get(
    "/health", response_model=schemas.Health, summary="Whether the process answers"
)
async def get_health() -> Response:
    """Return at once, whatever the database does."""
    return JSONResponse({"status": "ok"})


@operations.get(
    "/ready",
    response_model=schemas.Ready,
    responses={503: _said(schemas.Problem, "The database is away, or holds no model")},
    summary="Whether requests can be served",
)
async def get_ready(request: Request) -> Response:
    """Return whether the database answers and holds a model; for load balancers."""
    services: Services = request.app.state.services
    n_models = await services.reader.n_models()
    if not n_models:
        raise unavailable("no model is published yet. Learn one with `segments axes`.")
    return JSONResponse({"status": "ready", "models": n_models})


@operations.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    summary="Figures for Prometheus",
)
async def get_metrics(request: Request) -> Response:
    """Return counts and times of requests, by route."""
    services: Services = request.app.state.services
    return Response(services.metrics.page(), headers={"Content-Type": CONTENT_TYPE})


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


async def _store_of(request: Request, key: str | None) -> str:
    """Return the store that a request's key opens; note it for the log."""
    services: Services = request.app.state.services
    store_id = await services.reader.authenticate(key) if key else None
    if store_id is None:
        raise unauthorised()
    facts_of(request.scope)["store"] = store_id
    return store_id


async def _model_of(services: Services, store_id: str) -> AxesAssigner:
    """Return the store's model, or answer that there is none yet."""
    assigner = await services.models.get(store_id)
    if assigner is None:
        raise unavailable(
            f"the store `{store_id}` has no model yet. Learn one with `segments axes "
            f"--store {store_id}`."
        )
    return assigner


async def _in_pool(services: Services, work: Callable[[], bytes]) -> bytes:
    """Run work beside the event loop, unless too much is waiting already."""
    if services.waiting[0] >= MAX_WAITING:
        raise unavailable(f"{MAX_WAITING} assignments are waiting; try again shortly.")
    services.waiting[0] += 1
    try:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(services.pool, work)
    finally:
        services.waiting[0] -= 1


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


def _version(assigner: AxesAssigner | None) -> int | None:
    return assigner.version if assigner else None
