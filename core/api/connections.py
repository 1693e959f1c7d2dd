"""Connections that send nothing, or too slowly, are closed; and there are only so many.

uvicorn has one time limit, for connections between two requests. Without others a
client that connects and stays silent, sends half a request or takes no answer keeps a
file descriptor for ever, and some thousand of them stop the service for everyone.
"""

from __future__ import annotations

import asyncio
import os
import sys

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

BODY_SECONDS = 30.0
"""Longest that the body of a request may take."""
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
    _deadline: asyncio.TimerHandle | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.waiting_since = self.loop.time()
        self._allow(HEAD_SECONDS)
        if len(self.connections) > self.limit:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Take in a piece of a request; blank lines before it have to end, too."""
        if self._deadline is None and self.is_waiting:
            self._allow(HEAD_SECONDS)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Wait for a head, also one that comes before the answer before it is out."""
        super().on_message_begin()
        self._allow(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        """Begin to answer, and to wait for the body."""
        super().on_headers_complete()
        # The application answers 408 first, where it waits for the body.
        self._allow(BODY_SECONDS + HEAD_SECONDS)

    def on_message_complete(self) -> None:
        """Wait for nothing: the whole request is there."""
        self._allow(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self.waiting_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Wait for a client that does not take its answer."""
        super().pause_writing()
        self._allow(BODY_SECONDS)

    def resume_writing(self) -> None:
        """Go on, since it has taken some."""
        super().resume_writing()
        self._allow(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._allow(None)
        super().connection_lost(exc)

    def end(self) -> None:
        """Close at once, whatever is under way."""
        self.connections.discard(self)
        self.transport.abort()

    def _allow(self, seconds: float | None) -> None:
        """Set the time limit anew; None: there is none."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = (
            None if seconds is None else self.loop.call_later(seconds, self.end)
        )

    def _make_room(self) -> None:
        others = [one for one in self.connections if isinstance(one, LimitedConnection)]
        waiting = [one for one in others if one.is_waiting and one is not self]
        min(waiting, key=lambda one: one.waiting_since, default=self).end()
