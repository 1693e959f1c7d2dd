"""What every request passes: logs, metrics, limits, and the form of refusals.

The route that metrics are labelled with is the pattern it matched, never the address
asked for, so there are few labels. With several worker processes,
``PROMETHEUS_MULTIPROC_DIR`` makes each write to files of one folder, and whichever is
asked answers for all.

The middleware is plain ASGI: it costs a request some 20 microseconds, and a body is
counted while it comes in, so that a large one is refused before it fills the memory.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import sys
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from pydantic import ValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import PROGRAM
from core.logging import LOGGER_NAME
from core.redaction import redacted

LOGGER = logging.getLogger(f"{LOGGER_NAME}.api")


class JsonFormatter(logging.Formatter):
    """Write a record, and what was passed as ``extra={"fields": {...}}``, as JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; line breaks and quotes in it are escaped."""
        moment = datetime.fromtimestamp(record.created, UTC)
        entry: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        entry.update(getattr(record, "fields", {}))
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps({k: _shown(v) for k, v in entry.items()}, default=str)


def _shown(value: Any) -> Any:
    return redacted(value) if isinstance(value, str) else value


def configure_json(level: int = logging.INFO) -> None:
    """Send our messages and uvicorn's to standard output, as JSON lines."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    for name in (LOGGER_NAME, "uvicorn", "psycopg"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level if name != "psycopg" else logging.ERROR)
        logger.propagate = False


def log(level: int, event: str, **fields: Any) -> None:
    """Log one event with its figures."""
    if LOGGER.isEnabledFor(level):
        LOGGER.log(level, event, extra={"fields": fields})


MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = CONTENT_TYPE_LATEST
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Seconds; the promises are 0.025 for a read and 0.05 for an assignment.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """Counters of one application, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "segments_http_requests",
            "Requests answered, by route and status",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "segments_http_request_seconds",
            "Time from a request's head to the end of its answer, by route",
            ("method", "route"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.in_progress = Gauge(
            "segments_http_requests_in_progress",
            "Requests being answered",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self.assign_seconds = Histogram(
            "segments_assign_seconds",
            "Time that features and segments of one customer take, without waiting",
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.database_errors = Counter(
            "segments_database_errors",
            "Requests that the database could not serve",
            registry=self.registry,
        )
        self.models_loaded = Counter(
            "segments_models_loaded",
            "Models read from the database: at first use, and after each refit",
            registry=self.registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        method = method if method in METHODS else "other"
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(method, route).observe(seconds)

    def page(self) -> bytes:
        """Return everything in Prometheus' text format, of all workers."""
        if MULTIPROCESS not in os.environ:
            return generate_latest(self.registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]
        return generate_latest(everyone)


MAX_KEYS = 10_000
BURST_SECONDS = 10.0


class RateLimit:
    """How often each key may ask: a bucket of tokens per key, filled steadily.

    Parameters
    ----------
    per_second : float, optional
        Requests on average over 10 seconds; None: any number.
    """

    def __init__(self, per_second: float | None) -> None:
        self.per_second = per_second
        # By key as it was sent, the time at which its bucket will be full again.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def seconds_to_wait(self, key: str, now: float | None = None) -> float:
        """Count one request; return 0, or how long the key has to wait for the next."""
        if self.per_second is None:
            return 0.0
        now = time.monotonic() if now is None else now
        full_at = max(self._full_at.pop(key, now), now) + 1 / self.per_second
        wait = full_at - now - max(BURST_SECONDS, 1 / self.per_second)
        self._full_at[key] = full_at if wait <= 0 else full_at - 1 / self.per_second
        if len(self._full_at) > MAX_KEYS:
            self._full_at.popitem(last=False)
        return max(wait, 0.0)


MAX_PROBLEMS = 20
RETRY_SECONDS = "2"


class FieldError(Exception):
    """A request's fields are not what they should be; answered with 422.

    Parameters
    ----------
    problems : list of dict
        ``loc``, ``msg`` and ``type`` of each.
    """

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__(str(problems[0]["msg"]))
        self.problems = problems


def field_error(
    loc: Sequence[str | int], msg: str, kind: str = "value_error"
) -> FieldError:
    """Return the error of one field; `msg` follows the field's name."""
    return FieldError([_problem(loc, msg, kind)])


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
        f"`{PROGRAM} keys create --store NAME`.",
        headers={"WWW-Authenticate": 'ApiKey realm="segments"'},
    )


def unavailable(detail: str) -> HTTPException:
    """Return the answer while something is away that will come back."""
    return HTTPException(503, detail, headers={"Retry-After": RETRY_SECONDS})


async def answer_field_error(request: Request, error: Exception) -> Response:
    """Answer with the faults of a request's fields."""
    assert isinstance(error, FieldError)
    return JSONResponse({"detail": error.problems}, 422)


REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LOG_FIELDS = "segments.log_fields"
CLIENT_GONE = 499  # nginx's number for a client that did not wait for the answer


class BodyTooLargeError(Exception):
    """A body turned out larger than allowed while it was read."""


def log_fields(scope: Scope) -> dict[str, Any]:
    """Return what handlers have noted of a request for its line in the log."""
    facts: dict[str, Any] = scope.setdefault(_LOG_FIELDS, {})
    return facts


class RequestMiddleware:
    """ASGI middleware around the whole application.

    Parameters
    ----------
    app : ASGI application
    max_body_bytes : int
        Largest body that is read; a larger one is answered with 413.
    metrics : Metrics
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, metrics: Metrics) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, and note how it went."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        if scope["method"] == "HEAD":
            # Answered as a GET; the server itself leaves out the body.
            scope = {**scope, "method": "GET", "segments.method": "HEAD"}
        state = RequestState(scope, receive, send, self.max_body_bytes)
        self.metrics.in_progress.inc()
        try:
            await self._pass(state)
        finally:
            self.metrics.in_progress.dec()
            self._note(state, time.perf_counter() - started)

    async def _pass(self, state: RequestState) -> None:
        """Run the application; whatever it raises becomes an answer."""
        try:
            if state.declared_bytes() > self.max_body_bytes:
                await self._refuse(state)
            else:
                await self.app(state.scope, state.receive, state.send)
        except BodyTooLargeError:
            await self._refuse(state)
        except ClientDisconnect:
            state.status = CLIENT_GONE
        except Exception:
            facts = {"request_id": state.request_id, "path": state.scope["path"]}
            LOGGER.exception("error", extra={"fields": facts})
            detail = (
                "an error of the service, not of the request; it is in the log under "
                f"the request id `{state.request_id}`."
            )
            await state.answer(500, detail)

    async def _refuse(self, state: RequestState) -> None:
        detail = (
            f"the body is larger than {self.max_body_bytes:,} bytes. Send fewer rows, "
            "or have `store.max_body_bytes` raised."
        )
        # The rest of the body is not read, so the connection cannot be used again.
        await state.answer(413, detail, {"Connection": "close"})

    def _note(self, state: RequestState, seconds: float) -> None:
        """Count the request and write its line."""
        scope = state.scope
        route = getattr(scope.get("route"), "path_format", "unmatched")
        method = scope.get("segments.method", scope["method"])
        self.metrics.observe(method, route, state.status, seconds)
        log(
            logging.INFO,
            "request",
            request_id=state.request_id,
            method=method,
            path=scope["path"],
            route=route,
            status=state.status,
            duration_ms=round(1000 * seconds, 2),
            client=scope["client"][0] if scope.get("client") else None,
            **scope.get(_LOG_FIELDS, {}),
        )


class RequestState:
    """One request on its way: counts the body coming in, marks the answer going out."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, max_body_bytes: int
    ) -> None:
        self.scope = scope
        self.status = 500
        self.has_begun = False
        self.n_bytes = 0
        self.max_body_bytes = max_body_bytes
        self._receive = receive
        self._send = send
        self._headers = dict(scope["headers"])
        given = self._headers.get(b"x-request-id", b"").decode("latin-1")
        is_usable = REQUEST_ID.fullmatch(given) is not None
        self.request_id = given if is_usable else secrets.token_hex(8)

    def declared_bytes(self) -> int:
        """Return the length that the head gives; 0 if it gives none."""
        text = self._headers.get(b"content-length", b"0")
        return int(text) if text.isdigit() else 0

    async def receive(self) -> Message:
        """Hand on a piece of the body.

        Raises
        ------
        BodyTooLargeError
            If all pieces together are more than allowed.
        """
        message = await self._receive()
        if message["type"] == "http.request":
            self.n_bytes += len(message.get("body", b""))
            if self.n_bytes > self.max_body_bytes:
                raise BodyTooLargeError
        return message

    async def send(self, message: Message) -> None:
        """Hand on a piece of the answer; its head gets the request id."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.has_begun = True
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.request_id
            # An answer is one customer's, at one time, and what it says it is.
            headers.setdefault("Cache-Control", "no-store")
            headers["X-Content-Type-Options"] = "nosniff"
        await self._send(message)

    async def answer(
        self, status: int, detail: str, headers: dict[str, str] | None = None
    ) -> None:
        """Answer in the application's place, unless it has begun to."""
        if not self.has_begun:
            response = JSONResponse({"detail": detail}, status, headers)
            await response(self.scope, self._receive, self.send)
