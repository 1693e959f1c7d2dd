"""What every request passes: its id, its size, its line in the log, its metrics.

Plain ASGI: it costs a request some 20 microseconds, and a body is counted while it
comes in, so that a large one is refused before it fills the memory.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.api.logs import log
from core.api.metrics import Metrics

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
FACTS = "segments.facts"
CLIENT_GONE = 499  # nginx's number for a client that did not wait for the answer


class BodyTooLargeError(Exception):
    """A body turned out larger than allowed while it was read."""


def facts_of(scope: Scope) -> dict[str, Any]:
    """Return what handlers have noted of a request for its line in the log."""
    facts: dict[str, Any] = scope.setdefault(FACTS, {})
    return facts


class Gate:
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
        passage = Passage(scope, receive, send, self.max_body_bytes)
        self.metrics.in_progress.inc()
        try:
            await self._pass(passage)
        finally:
            self.metrics.in_progress.dec()
            self._note(passage, time.perf_counter() - started)

    async def _pass(self, passage: Passage) -> None:
        """Run the application; whatever it raises becomes an answer."""
        try:
            if passage.declared_bytes() > self.max_body_bytes:
                await self._refuse(passage)
            else:
                await self.app(passage.scope, passage.receive, passage.send)
        except BodyTooLargeError:
            await self._refuse(passage)
        except ClientDisconnect:
            passage.status = CLIENT_GONE
        except Exception:
            facts = {"request_id": passage.request_id, "path": passage.scope["path"]}
            logging.getLogger("stable_segments.api").exception(
                "error", extra={"fields": facts}
            )
            detail = (
                "an error of the service, not of the request; it is in the log under "
                f"the request id `{passage.request_id}`."
            )
            await passage.answer(500, detail)

    async def _refuse(self, passage: Passage) -> None:
        detail = (
            f"the body is larger than {self.max_body_bytes:,} bytes. Send fewer rows, "
            "or have `store.max_body_bytes` raised."
        )
        # The rest of the body is not read, so the connection cannot be used again.
        await passage.answer(413, detail, {"Connection": "close"})

    def _note(self, passage: Passage, seconds: float) -> None:
        """Count the request and write its line."""
        scope = passage.scope
        route = getattr(scope.get("route"), "path_format", "unmatched")
        self.metrics.observe(scope["method"], route, passage.status, seconds)
        log(
            logging.INFO,
            "request",
            request_id=passage.request_id,
            method=scope["method"],
            path=scope["path"],
            route=route,
            status=passage.status,
            duration_ms=round(1000 * seconds, 2),
            client=scope["client"][0] if scope.get("client") else None,
            **scope.get(FACTS, {}),
        )


class Passage:
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
            MutableHeaders(scope=message)["X-Request-ID"] = self.request_id
        await self._send(message)

    async def answer(
        self, status: int, detail: str, headers: dict[str, str] | None = None
    ) -> None:
        """Answer in the application's place, unless it has begun to."""
        if not self.has_begun:
            response = JSONResponse({"detail": detail}, status, headers)
            await response(self.scope, self._receive, self.send)
