"""The application: endpoints, models in memory, errors, OpenAPI document."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, FastAPI, Path, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.security import APIKeyHeader
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from core.api import middleware, schemas
from core.api.assign import Limits, assign, read_request
from core.api.assign_row import assign_row, read_row
from core.api.connections import BODY_SECONDS
from core.api.schemas import (
    ID_PATTERN,
    MAX_ID_LENGTH,
    AssignRequest,
    AssignRow,
    axes_of,
    profile_text,
)
from core.axes.assign import AxesAssigner
from core.dashboard.routes import HOME, SIGN_INS_PER_SECOND, Dashboard, router
from core.dashboard.session import Cookies
from core.errors import PROGRAM, ArtifactError, StoreError, StoreLayoutError
from core.segments.memberships import CustomerAssigner
from core.store import AsyncReader
from core.store.store import StoredModel, split_key
from core.tabular.assign import TableAssigner

MAX_MODELS = 32
# Beyond this an answer would come too late to be of use.
MAX_WAITING = 64


Served = CustomerAssigner | StoredModel


class ModelCache:
    """Reads the model of a store when it is first needed, and after every refit.

    Each look-up asks the database whether the model is still the one that serves, which
    moves no more than a digest; so all workers change over with the profiles. The 32
    stores asked for last are kept.

    Parameters
    ----------
    reader : AsyncReader
    metrics : Metrics
    """

    def __init__(self, reader: AsyncReader, metrics: middleware.Metrics) -> None:
        self._reader = reader
        self._metrics = metrics
        # By store, the digest of what a model was read from beside it.
        self._kept: OrderedDict[str, tuple[str, Served]] = OrderedDict()

    async def get(self, store_id: str) -> Served | None:
        """Return the model that serves a store now, or None if nothing is published.

        Of shops, which runs alone assign, it is what the store keeps.

        Raises
        ------
        StoreError
            If the database is away.
        ArtifactError
            If what it holds is no model.
        """
        known, assigner = self._kept.get(store_id, (None, None))
        stored = await self._reader.model(store_id, known)
        if stored is not None:
            assigner = await asyncio.to_thread(_restored, stored)
            self._kept[store_id] = stored.digest, assigner
            self._metrics.models_loaded.inc()
            middleware.log(
                logging.INFO, "model loaded", store=store_id, version=stored.version
            )
        if store_id in self._kept:
            self._kept.move_to_end(store_id)
        while len(self._kept) > MAX_MODELS:
            self._kept.popitem(last=False)
        return assigner


def _restored(stored: StoredModel) -> Served:
    """Return the model of a store, of whichever system it is."""
    if stored.system == "retailers":
        return stored
    if stored.system == AxesAssigner.files.stage:
        return AxesAssigner.from_bytes(stored.state)
    from core.baskets.model import BasketsAssigner
    from core.channels.model import ChannelsAssigner

    for kind in (BasketsAssigner, TableAssigner):
        if stored.system == kind.files.stage:
            return kind.from_bytes(stored.state)
    return ChannelsAssigner.from_bytes(stored.state)


@dataclass
class Services:
    """What the endpoints work with, in the application's state.

    Attributes
    ----------
    reader : AsyncReader
    models : ModelCache
    metrics : Metrics
    limits : Limits
    rates : RateLimit
    pool : ThreadPoolExecutor
        Where assignments are computed.
    n_waiting : int
        Assignments begun and not ended.
    """

    reader: AsyncReader
    models: ModelCache
    metrics: middleware.Metrics
    limits: Limits
    rates: middleware.RateLimit
    pool: ThreadPoolExecutor
    n_waiting: int = 0

    @classmethod
    def of(cls, request: Request) -> Services:
        """Return those of the application that a request came to."""
        services: Services = request.app.state.services
        return services

    async def authorised_store(self, request: Request, key: str | None) -> str:
        """Return the store that a request's key opens; note it for the log."""
        self.count_request(key)
        store_id = await self.reader.authenticate(key) if key else None
        if store_id is None:
            raise middleware.unauthorised()
        _note_store(request, store_id)
        return store_id

    def count_request(self, key: str | None) -> None:
        """Count a request of a key, and refuse it if the key asks too often."""
        # What is no key is refused without asking the database, and not kept here.
        if key and split_key(key) and (wait := self.rates.seconds_to_wait(key)):
            raise HTTPException(
                429,
                "this key asks too often; see `store.rate_limit`.",
                headers={"Retry-After": str(math.ceil(wait))},
            )

    async def model_of(self, store_id: str) -> AxesAssigner | TableAssigner:
        """Return what places a request of the store, or answer that nothing does."""
        assigner = await self.models.get(store_id)
        if assigner is None:
            raise middleware.unavailable(
                f"the store `{store_id}` has no model yet. Learn one with `{PROGRAM} "
                f"axes --store {store_id}`."
            )
        if not isinstance(assigner, AxesAssigner | TableAssigner):
            held = "segments of shops"
            if isinstance(assigner, CustomerAssigner):
                held = assigner.files.system.name
            raise HTTPException(
                409,
                f"the store `{store_id}` holds {held}, which are assigned by runs "
                "only; ask for a stored customer.",
            )
        return assigner

    async def in_pool(self, work: Callable[[], bytes]) -> bytes:
        """Run work beside the event loop, unless too much is waiting already."""
        if self.n_waiting >= MAX_WAITING:
            raise middleware.unavailable(
                f"{MAX_WAITING} assignments are waiting; try again shortly."
            )
        self.n_waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.pool, work)
        finally:
            self.n_waiting -= 1


def _described(what: str, model: type[BaseModel] = schemas.Problem) -> dict[str, Any]:
    """Return how the document describes an answer that is not the usual one."""
    return {"model": model, "description": what}


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
    responses={503: _described("The database is away, or holds no model")},
    summary="Whether requests can be served",
)
async def get_ready(request: Request) -> Response:
    """Return whether the database answers and holds a model; for load balancers."""
    n_models = await Services.of(request).reader.n_models()
    if not n_models:
        raise middleware.unavailable(
            f"no model is published yet. Learn one with `{PROGRAM} axes`."
        )
    return JSONResponse({"status": "ready", "models": n_models})


@operations.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    summary="Figures for Prometheus",
)
async def get_metrics(request: Request) -> Response:
    """Return counts and times of requests, by route."""
    return Response(
        Services.of(request).metrics.page(),
        headers={"Content-Type": middleware.CONTENT_TYPE},
    )


JSON = "application/json"

header = APIKeyHeader(
    name="X-API-Key",
    auto_error=False,
    description=f"Made by `{PROGRAM} keys create --store NAME`; opens that store only.",
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
    401: _described("No key, a wrong or a revoked one"),
    429: _described("The key has asked too often"),
    500: _described("The tables of the database are not those of this version"),
    503: _described("The database is away, or no model is published yet"),
}
NOT_FOUND = _described("The key's store has no such customer")
BAD_FIELDS = _described("A field is not as it should be", schemas.FieldProblems)
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
        raise middleware.unauthorised()
    services = Services.of(request)
    services.count_request(key)
    # The key is checked in the same round trip, so a revoked one is refused at once.
    store_id, profile = await services.reader.profile_with_key(key, customer_id)
    if store_id is None:
        raise middleware.unauthorised()
    _note_store(request, store_id)
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
        408: _described("The body came too slowly"),
        409: _described("The store's segments are assigned by runs only"),
        413: _described("The body is too large"),
        415: _described("The body is not declared as JSON"),
        422: BAD_FIELDS,
    },
    summary="Segments of a customer's own rows, computed at once",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": {
                        "anyOf": [
                            {"$ref": f"#/components/schemas/{body.__name__}"}
                            for body in (AssignRequest, AssignRow)
                        ]
                    }
                }
            },
        }
    },
)
async def post_assign(request: Request, key: ApiKey) -> Response:
    """Place a customer by the store's current model; nothing is stored.

    A store of axes takes orders and items, one of a feature table a row of features. A
    stored customer's own rows get the stored segments. Rows that a file would have set
    aside are set aside here, too, and counted in `set_aside`.
    """
    services = Services.of(request)
    store_id = await services.authorised_store(request, key)
    _require_json(request)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.body()
    except TimeoutError:
        detail = f"the body did not come within {BODY_SECONDS:.0f} seconds."
        return JSONResponse({"detail": detail}, 408, {"Connection": "close"})
    assigner = await services.model_of(store_id)

    def work() -> bytes:
        started = time.perf_counter()
        if isinstance(assigner, TableAssigner):
            answer = assign_row(assigner, read_row(body))
        else:
            answer = assign(assigner, read_request(body, services.limits))
        services.metrics.assign_seconds.observe(time.perf_counter() - started)
        return json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()

    answer = await services.in_pool(work)
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
    services = Services.of(request)
    store_id = await services.authorised_store(request, key)
    return JSONResponse(await services.reader.stats(store_id))


@segments.get(
    "/axes",
    response_model=schemas.AxesOut,
    responses=AUTHORISED,
    summary="The axes, with descriptions and segments",
)
async def get_axes(request: Request, key: ApiKey) -> Response:
    """Return all axes; what is not among a store's data is named as skipped."""
    services = Services.of(request)
    store_id = await services.authorised_store(request, key)
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


DESCRIPTION = """
Segments of customers on 13 behavioural axes: stored ones, and those of a customer's own
rows, computed at once; in stores of a feature table, by a row of it. Stores of
channels, baskets and shops answer for what is stored; of shops the customer is a shop.
Every request below `/segments` needs a key in the header `X-API-Key`; a key opens one
store.
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
        Assignments at a time. They wait for each other inside Python anyway; with two,
        a small one need not wait for a large one to end.
    rate_limit : float, optional
        Requests per second of one key; None: any number.
    trusted_proxies : tuple of str
        Whose ``X-Forwarded-For`` is believed.
    session_secret : str, optional
        Signs the cookies of the dashboard; the processes of one server share it. None:
        a new one.
    only_dashboard : bool
        Serve the dashboard without the API.
    """

    address: str
    max_body_bytes: int = 1_000_000
    max_orders: int = 1_000
    max_items: int = 10_000
    n_threads: int = 2
    rate_limit: float | None = None
    trusted_proxies: tuple[str, ...] = ()
    session_secret: str | None = None
    only_dashboard: bool = False


def create_app(settings: ApiSettings) -> FastAPI:
    """Return the ASGI application.

    The database need not be there: until it is, requests are answered with 503.
    """
    limits = Limits(settings.max_orders, settings.max_items)
    metrics = middleware.Metrics()
    cookies = Cookies(settings.session_secret or secrets.token_urlsafe(32))
    sign_ins = middleware.RateLimit(SIGN_INS_PER_SECOND)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        pool = ThreadPoolExecutor(settings.n_threads, thread_name_prefix="assign")
        async with AsyncReader(settings.address) as reader:
            models = ModelCache(reader, metrics)
            rates = middleware.RateLimit(settings.rate_limit)
            app.state.services = Services(reader, models, metrics, limits, rates, pool)
            app.state.dashboard = Dashboard(
                reader,
                cookies,
                sign_ins.seconds_to_wait,
                rates.seconds_to_wait,
                _note_store,
                _note_outage,
            )
            try:
                yield
            finally:
                pool.shutdown(cancel_futures=True)

    app = _dashboard(lifespan) if settings.only_dashboard else _api(lifespan, limits)
    app.add_middleware(
        middleware.RequestMiddleware,
        max_body_bytes=settings.max_body_bytes,
        metrics=metrics,
    )
    app.add_exception_handler(middleware.FieldError, middleware.answer_field_error)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(StoreError, _answer_outage)
    app.add_exception_handler(StoreLayoutError, _answer_layout)
    app.add_exception_handler(ArtifactError, _answer_unusable)
    app.state.metrics = metrics
    return app


def _api(lifespan: Any, limits: Limits) -> FastAPI:
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
    app.include_router(router)
    app.add_api_route("/", partial(_lead_to, "/docs"), include_in_schema=False)
    app.openapi_schema = openapi(app, limits)
    return app


def _dashboard(lifespan: Any) -> FastAPI:
    app = FastAPI(lifespan=lifespan, openapi_url=None)
    app.include_router(router)
    app.add_api_route("/", partial(_lead_to, HOME))
    return app


def openapi(app: FastAPI, limits: Limits) -> dict[str, Any]:
    """Return the document, with the requests that are read by hand and their limits."""
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
    bodies = {"AssignRequest": schema, "AssignRow": AssignRow.model_json_schema()}
    document["components"]["schemas"].update({**parts, **bodies})
    return document


async def _answer_validation(request: Request, error: Exception) -> Response:
    """Answer what FastAPI finds of path and query in the house's grammar."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    message = str(first["msg"])
    problem = middleware.field_error(
        first["loc"], message[0].lower() + message[1:], first["type"]
    )
    return await middleware.answer_field_error(request, problem)


def _note_store(request: Request, store_id: str) -> None:
    middleware.log_fields(request.scope)["store"] = store_id


def _note_outage(request: Request, error: Exception) -> None:
    request.app.state.metrics.database_errors.inc()
    middleware.log(logging.ERROR, "database", error=str(error))


async def _answer_outage(request: Request, error: Exception) -> Response:
    """Answer while the database is away; what it said is for the log only."""
    _note_outage(request, error)
    detail = "the database is away; try again shortly."
    return JSONResponse(
        {"detail": detail}, 503, {"Retry-After": middleware.RETRY_SECONDS}
    )


async def _answer_layout(request: Request, error: Exception) -> Response:
    """Answer where the tables lack something, which waiting does not mend."""
    _note_outage(request, error)
    detail = (
        "the tables of the database are not those of this version of the service. The "
        "log says what is missing; restore it, or load the profiles into another "
        f"database with `{PROGRAM} axes`."
    )
    return JSONResponse({"detail": detail}, 500)


async def _lead_to(address: str) -> Response:
    return RedirectResponse(address)


async def _answer_unusable(request: Request, error: Exception) -> Response:
    """Answer where the stored model is one of another version of this package."""
    middleware.log(logging.ERROR, "model", error=str(error))
    detail = (
        "the store's model cannot be read by this version of the service. Train it "
        f"again with `{PROGRAM} axes --retrain always`."
    )
    return JSONResponse(
        {"detail": detail}, 503, {"Retry-After": middleware.RETRY_SECONDS}
    )
