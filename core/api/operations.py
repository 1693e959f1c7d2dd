"""The endpoints that operators need: alive, ready, figures."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from core.api import schemas
from core.api.metrics import CONTENT_TYPE
from core.api.problems import said, unavailable
from core.api.services import Services

operations = APIRouter(tags=["operations"])


@operations.get(
    "/health", response_model=schemas.Health, summary="Whether the process answers"
)
async def get_health() -> Response:
    """Return at once, whatever the database does."""
    return JSONResponse({"status": "ok"})


@operations.get(
    "/ready",
    response_model=schemas.Ready,
    responses={503: said(schemas.Problem, "The database is away, or holds no model")},
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
