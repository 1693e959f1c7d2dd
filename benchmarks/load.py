"""A light HTTP client that keeps a server busy and times every answer.

Plain asyncio on keep-alive connections: a request costs the client some 30
microseconds, so that on a small machine the server is measured and not its client.

Two ways to ask: as fast as answers come (`as_fast_as_possible`: the most that a server
can do), and at a steady pace (`at_a_pace`: what users feel). At a pace, a time counts
from the moment that a request was due, so a stall is charged to all that it delayed.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np

Result = TypeVar("Result")


@dataclass
class Timings:
    """What a run of requests took.

    Attributes
    ----------
    seconds : list of float
        Per answer.
    statuses : dict of int to int
        Answers by HTTP status.
    elapsed : float
        Seconds of the whole run.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    elapsed: float = 0.0

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return len(self.seconds) / self.elapsed

    def ms(self, quantile: float) -> float:
        """Return a quantile of the times in milliseconds."""
        return 1000.0 * float(np.quantile(self.seconds, quantile))

    def __str__(self) -> str:
        """Return the figures in one line."""
        found = ", ".join(
            f"{n:,} x {code}" for code, n in sorted(self.statuses.items())
        )
        return (
            f"{self.per_second:8,.0f}/s   p50 {self.ms(0.5):7.2f} ms   "
            f"p99 {self.ms(0.99):7.2f} ms   max {self.ms(1.0):7.2f} ms   ({found})"
        )


class Connection(asyncio.Protocol):
    """One keep-alive connection: one request at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answer: asyncio.Future[int] | None = None
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Look whether an answer is complete."""
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        at = head.lower().index(b"content-length:") + len(b"content-length:")
        if len(body) >= int(head[at:].split(b"\r\n", 1)[0]):
            self._buffer = b""
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what was asked."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError())

    async def ask(self, request: bytes) -> int:
        """Send a request and return the status of its answer."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()


def run_load(load: Coroutine[None, None, Result]) -> Result:
    """Run a load on the fastest event loop there is."""
    if sys.platform == "win32":
        return asyncio.run(load)
    import uvloop

    return uvloop.run(load)


def request_bytes(method: str, path: str, key: str, body: bytes = b"") -> bytes:
    """Return one HTTP/1.1 request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


async def connect(address: str, n: int) -> list[Connection]:
    """Return open connections."""
    parts = urlsplit(address)
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(Connection, parts.hostname, parts.port)
        for _ in range(n)
    ]
    return [connection for _, connection in made]


async def as_fast_as_possible(
    address: str, requests: Sequence[bytes], n_connections: int, seconds: float
) -> Timings:
    """Ask on each connection as soon as the answer before is there."""
    connections = await connect(address, n_connections)
    timings, turns = Timings(), itertools.cycle(requests)
    began = time.perf_counter()

    async def keep_asking(connection: Connection) -> None:
        while (started := time.perf_counter()) < began + seconds:
            status = await connection.ask(next(turns))
            timings.seconds.append(time.perf_counter() - started)
            timings.statuses[status] = timings.statuses.get(status, 0) + 1

    await asyncio.gather(*map(keep_asking, connections))
    timings.elapsed = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return timings


async def at_a_pace(
    address: str,
    requests: Sequence[bytes],
    per_second: float,
    seconds: float,
    n_connections: int = 64,
) -> Timings:
    """Ask at even intervals, whether or not the answers before are there."""
    free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
    connections = await connect(address, n_connections)
    for connection in connections:
        free.put_nowait(connection)
    timings, turns = Timings(), itertools.cycle(requests)
    began = time.perf_counter()

    async def ask(request: bytes, due: float) -> None:
        connection = await free.get()
        status = await connection.ask(request)
        timings.seconds.append(time.perf_counter() - due)
        timings.statuses[status] = timings.statuses.get(status, 0) + 1
        free.put_nowait(connection)

    tasks = []
    for turn in range(int(per_second * seconds)):
        due = began + turn / per_second
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.ensure_future(ask(next(turns), due)))
    await asyncio.gather(*tasks)
    timings.elapsed = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return timings
