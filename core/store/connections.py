"""A few connections, shared by the requests of an event loop.

Not psycopg's `AsyncConnectionPool`: while the database is away that lets every request
wait out its time (10 s each, measured) and backs off before it tries again. Here a
request without a connection makes one itself. So it fails at once while the database
refuses connections, and succeeds with the first request after it came back.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

import psycopg

from core.errors import StoreError
from core.store.address import redacted
from core.store.failures import store_error

Connection = psycopg.AsyncConnection[Any]
Row = tuple[Any, ...]


class Connections:
    """Up to `size` connections to one database.

    Parameters
    ----------
    address : str
        Of the database.
    size : int
        Connections; more requests at once wait for their turn.
    timeout : float
        Seconds to wait for a turn, for a connection and for an answer, all in all.
    """

    def __init__(self, address: str, size: int, timeout: float) -> None:
        self.address = address
        self.timeout = timeout
        # Last in, first out: what was used last is the least likely to be dead.
        self._free: asyncio.LifoQueue[Connection | None] = asyncio.LifoQueue()
        for _ in range(size):
            self._free.put_nowait(None)
        self._size = size

    async def first_row(self, doing: str, statement: str, values: Row) -> Row | None:
        """Run a statement and return its first row, or None if it has none.

        Raises
        ------
        StoreError
            If the database is away, too slow or refuses.
        """
        place = f"the PostgreSQL at `{redacted(self.address)}`"
        try:
            async with asyncio.timeout(self.timeout):
                return await self._first_row(statement, values)
        except TimeoutError:
            raise StoreError(
                f"{place} has not managed within {self.timeout:g} s to {doing}. It is "
                "busy, or the network has swallowed the answer."
            ) from None
        except psycopg.Error as error:
            raise store_error(doing, place, error) from error

    async def close(self) -> None:
        """Close what is open; for requests under way, wait."""
        for _ in range(self._size):
            connection = await self._free.get()
            if connection is not None:
                await connection.close()

    async def _first_row(self, statement: str, values: Row) -> Row | None:
        connection = await self._free.get()
        try:
            if connection is not None:
                try:
                    return await _ask(connection, statement, values)
                except psycopg.OperationalError:
                    if not connection.broken:
                        raise
                    # It died while nobody used it, which says nothing of the database.
            connection = None
            connection = await self._connect()
            return await _ask(connection, statement, values)
        except asyncio.CancelledError:
            # The answer to this statement may still come: nobody else may read it.
            if connection is not None:
                await connection.close()
            raise
        finally:
            is_lost = connection is None or connection.closed
            self._free.put_nowait(None if is_lost else connection)

    async def _connect(self) -> Connection:
        return await psycopg.AsyncConnection.connect(
            self.address,
            autocommit=True,
            connect_timeout=math.ceil(self.timeout),
            application_name="stable-segments-api",
        )


async def _ask(connection: Connection, statement: str, values: Row) -> Row | None:
    cursor = await connection.execute(statement, values, prepare=True)
    return await cursor.fetchone()
