"""The application: endpoints, errors and OpenAPI document put together."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi_offline import FastAPIOffline

from core.api.assigning import Limits
from core.api.gate import Gate
from core.api.logs import log
from core.api.metrics import Metrics
from core.api.models import ModelCache
from core.api.operations import operations
from core.api.problems import (
    RETRY_SECONDS,
    FieldError,
    answer_field_error,
    field_error,
)
from core.api.received import AssignRequest
from core.api.routes import segments
from core.api.services import Services
from core.errors import ArtifactError, StoreError
from core.store import AsyncReader

DESCRIPTION = """
Segments of customers on 13 behavioural axes: stored ones, and those of a customer's own
rows, computed at once. Every request below `/segments` needs a key in the header
`X-API-Key`; a key opens one store.
"""


class ApiSettings(NamedTuple):
    """What an application needs to know; it can be handed to another process.

    Attributes
    ----------
    address : str
        Of the database, with its password.
    max_body_bytes, max_orders, max_items : int
        The most that one request may have.
    n_threads : int
        Assignments at a time. They wait for each other inside Python anyway; two keep
        it busy while Polars computes.
    """

    address: str
    max_body_bytes: int = 1_000_000
    max_orders: int = 1_000
    max_items: int = 10_000
    n_threads: int = 2


def create_app(settings: ApiSettings) -> FastAPI:
    """Return the ASGI application.

    The database need not be there: until it is, requests are answered with 503.
    """
    limits = Limits(settings.max_orders, settings.max_items)
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        pool = ThreadPoolExecutor(settings.n_threads, thread_name_prefix="assign")
        async with AsyncReader(settings.address) as reader:
            models = ModelCache(reader, metrics)
            app.state.services = Services(reader, models, metrics, limits, pool, [0])
            try:
                yield
            finally:
                pool.shutdown(cancel_futures=True)

    # FastAPI's own page of documentation loads its script from the internet.
    app = FastAPIOffline(
        title="Stable Segments",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        separate_input_output_schemas=False,
    )
    app.include_router(segments)
    app.include_router(operations)
    app.add_middleware(Gate, max_body_bytes=settings.max_body_bytes, metrics=metrics)
    app.add_exception_handler(FieldError, answer_field_error)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(StoreError, _answer_outage)
    app.add_exception_handler(ArtifactError, _answer_unusable)
    app.openapi_schema = openapi(app, limits)
    app.state.metrics = metrics
    return app


def openapi(app: FastAPI, limits: Limits) -> dict[str, Any]:
    """Return the document, with the request that is read by hand and its limits."""
    document = app.openapi()
    schema = AssignRequest.model_json_schema(
        ref_template="#/components/schemas/{model}"
    )
    parts = schema.pop("$defs")
    most = dict(zip(("orders", "items"), limits, strict=True))
    schema["properties"]["orders"]["maxItems"] = most["orders"]
    for choice in schema["properties"]["items"]["anyOf"]:
        if choice.get("type") == "array":
            choice["maxItems"] = most["items"]
    document["components"]["schemas"].update({**parts, "AssignRequest": schema})
    return document


async def _answer_validation(request: Request, error: Exception) -> Response:
    """Answer what FastAPI finds of path and query in the house's grammar."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    message = str(first["msg"])
    problem = field_error(first["loc"], message[0].lower() + message[1:], first["type"])
    return await answer_field_error(request, problem)


async def _answer_outage(request: Request, error: Exception) -> Response:
    """Answer while the database is away; what it said is for the log only."""
    request.app.state.metrics.database_errors.inc()
    log(logging.ERROR, "database", error=str(error))
    detail = "the database is away; try again shortly."
    return JSONResponse({"detail": detail}, 503, {"Retry-After": RETRY_SECONDS})


async def _answer_unusable(request: Request, error: Exception) -> Response:
    """Answer where the stored model is one of another version of this package."""
    log(logging.ERROR, "model", error=str(error))
    detail = (
        "the store's model cannot be read by this version of the service. Learn it "
        "anew with `segments axes --retrain always`."
    )
    return JSONResponse({"detail": detail}, 503, {"Retry-After": RETRY_SECONDS})
