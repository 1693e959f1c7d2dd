"""Connections that send nothing, or too slowly, are closed; and there are only so many.

uvicorn has one time limit, for connections between two requests. Without others a
client that connects and stays silent, sends half a request or takes no answer keeps a
file descriptor for ever, and some thousand of them stop the service for everyone.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Literal

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Direction = Literal["in", "out"]
BODY_SECONDS = 30.0
"""Longest that a body may take, or that a client may take nothing of its answer."""
HEAD_SECONDS = 10.0
"""Longest that a request may take to its first blank line, from connecting on."""
MAX_CONNECTIONS = 1_000
# Left for files, the database and the processes of the service.
_SPARE_DESCRIPTORS = 100
# Windows' select takes 512 sockets.
_MAX_ON_WINDOWS = 400


def most_connections() -> int:
    """Return how many connections a process may have open."""
    if sys.platform == "win32":
        return _MAX_ON_WINDOWS
    descriptors = os.sysconf("SC_OPEN_MAX")
    return max(min(MAX_CONNECTIONS, descriptors - _SPARE_DESCRIPTORS), 10)


class LimitedConnection(HttpToolsProtocol):
    """uvicorn's connection, with a time limit for whatever it waits for.

    Where there are too many, the one that has waited longest for a request is closed.
    """

    limit = most_connections()
    waiting_since = 0.0

    @property
    def is_waiting(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(  # type: ignore[override]  # uvicorn's own, narrower too
        self, transport: asyncio.Transport
    ) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._deadlines: dict[Direction, asyncio.TimerHandle] = {}
        self.waiting_since = self.loop.time()
        self._allow("in", HEAD_SECONDS)
        if len(self.connections) > self.limit:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Take in a piece of a request; blank lines before it have to end, too."""
        if "in" not in self._deadlines and self.is_waiting:
            self._allow("in", HEAD_SECONDS)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Wait for a head, also one that comes before the answer before it is out."""
        super().on_message_begin()
        self._allow("in", HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        """Begin to answer, and to wait for the body."""
        super().on_headers_complete()
        # The application answers 408 first, where it waits for the body.
        self._allow("in", BODY_SECONDS + HEAD_SECONDS)

    def on_message_complete(self) -> None:
        """Wait for nothing: the whole request is there."""
        self._allow("in", None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, or for the last answer to be taken."""
        self.waiting_since = self.loop.time()
        super().on_response_complete()
        self._end_soon_if_closing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, and wait for that to be taken."""
        super().send_400_response(msg)
        self._end_soon_if_closing()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that is not used; what was not taken is lost."""
        self.end()

    def pause_writing(self) -> None:
        """Wait for a client that does not take its answer."""
        super().pause_writing()
        self._allow("out", BODY_SECONDS)

    def resume_writing(self) -> None:
        """Go on, since it has taken some."""
        super().resume_writing()
        self._allow("out", None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        for direction in list(self._deadlines):
            self._allow(direction, None)
        super().connection_lost(exc)

    def end(self) -> None:
        """Close at once, whatever is under way."""
        self.connections.discard(self)
        self.transport.abort()

    def _allow(self, direction: Direction, seconds: float | None) -> None:
        """Set the time limit of one direction anew; None: there is none."""
        if (deadline := self._deadlines.pop(direction, None)) is not None:
            deadline.cancel()
        if seconds is not None:
            self._deadlines[direction] = self.loop.call_later(seconds, self.end)

    def _end_soon_if_closing(self) -> None:
        """Limit the wait of a transport that closes once everything is taken."""
        if self.transport.is_closing():
            self._allow("out", BODY_SECONDS)

    def _make_room(self) -> None:
        others = [one for one in self.connections if isinstance(one, LimitedConnection)]
        waiting = [one for one in others if one.is_waiting and one is not self]
        min(waiting, key=lambda one: one.waiting_since, default=self).end()
