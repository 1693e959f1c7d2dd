"""Asynchronous reads for the API, over a few connections of its own.

Not psycopg's `AsyncConnectionPool`: while the database is away that lets every request
wait out its time (10 s each, measured) and backs off before it tries again. Here a
request without a connection makes one itself. So it fails at once while the database
refuses connections, and succeeds with the first request after it came back.

On Windows psycopg needs a `SelectorEventLoop`; the default loop there is refused with a
`StoreError` that says so.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, NamedTuple, Self

import psycopg

from core.errors import StoreError
from core.redaction import redacted_address
from core.store.address import store_error
from core.store.loading import SEGMENTS
from core.store.store import (
    CURRENT_MODEL,
    NO_STATISTICS,
    StoredModel,
    is_secret,
    split_key,
)

Connection = psycopg.AsyncConnection[Any]
Row = tuple[Any, ...]


async def _ask(connection: Connection, statement: str, values: Row) -> list[Row]:
    cursor = await connection.execute(statement, values, prepare=True)
    return await cursor.fetchall()


class StoredProfile(NamedTuple):
    """One customer's row; the four JSON objects are text, ready to be sent on."""

    customer_id: str
    segment_memberships: str
    dominant_segments: str
    membership_strengths: str
    confidence: float | None
    runner_up_segments: str
    model_version: int
    lifetime_value: float | None
    total_orders: int | None
    avg_order_value: float | None
    days_since_last_purchase: float | None
    customer_tenure_days: float | None
    churn_risk_score: float | None
    last_updated: Any


PROFILE = ", ".join(
    f"p.{name}::text" if name in SEGMENTS else f"p.{name}"
    for name in StoredProfile._fields
)
"""Columns of a `StoredProfile`, of `customer_profiles` as `p`."""
_KEY = """
    SELECT store_id, secret_hash FROM api_keys
    WHERE prefix = %s AND revoked_at IS NULL
"""
_STORE_OF_KEY = """
    SELECT store_id FROM api_keys WHERE prefix = %s AND revoked_at IS NULL
"""
_READ_WITH_KEY = f"""
    SELECT k.store_id, k.secret_hash, {PROFILE}
    FROM api_keys AS k
    LEFT JOIN customer_profiles AS p
    ON p.store_id = k.store_id AND p.customer_id = %s
    WHERE k.prefix = %s AND k.revoked_at IS NULL
"""
_STATS = """
    SELECT stats || jsonb_build_object('model_version', version) FROM axis_models
    WHERE store_id = %s AND is_current
"""
_N_MODELS = "SELECT count(*) FROM axis_models WHERE is_current"


class AsyncReader:
    """Reads a store from within an event loop; use it as ``async with``.

    Parameters
    ----------
    address : str
        Of the database, such as `Store.address`.
    pool_size : int
        Connections.
    timeout : float
        Seconds that a read waits for its turn and its answer before it fails with a
        `StoreError`. A request makes two at most, and is answered within 5 seconds.

    Raises
    ------
    StoreError
        From every method, as long as the database is away: at once where
        it refuses connections. The first call after it came back succeeds.
    """

    def __init__(self, address: str, pool_size: int = 4, timeout: float = 2.0) -> None:
        self.address = address
        self._timeout = timeout
        # Last in, first out: what was used last is the least likely to be dead.
        self._free: asyncio.LifoQueue[Connection | None] = asyncio.LifoQueue()
        for _ in range(pool_size):
            self._free.put_nowait(None)
        self._pool_size = pool_size

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        # Requests under way give their connections back first.
        for _ in range(self._pool_size):
            connection = await self._free.get()
            if connection is not None:
                await connection.close()

    async def authenticate(self, key: str) -> str | None:
        """Return the store that a key opens, or None if it is wrong or revoked."""
        parts = split_key(key)
        if parts is None:
            return None
        row = await self._first_row("check a key", _KEY, (parts[0],))
        return row[0] if row is not None and is_secret(parts[1], row[1]) else None

    async def store_of_key(self, prefix: str) -> str | None:
        """Return the store of a key by its prefix, or None if it is revoked.

        For who has shown the whole key to `authenticate` before.
        """
        row = await self._first_row("look up a key", _STORE_OF_KEY, (prefix,))
        return None if row is None else str(row[0])

    async def profile_with_key(
        self, key: str, customer_id: str
    ) -> tuple[str | None, StoredProfile | None]:
        """Check a key and read a customer of its store in one round trip.

        Returns
        -------
        store_id : str or None
            None if the key is wrong or revoked.
        profile : StoredProfile or None
            None if that store has no such customer.
        """
        parts = split_key(key)
        if parts is None:
            return None, None
        row = await self._first_row(
            "read a profile", _READ_WITH_KEY, (storable(customer_id), parts[0])
        )
        if row is None or not is_secret(parts[1], row[1]):
            return None, None
        return row[0], None if row[2] is None else StoredProfile(*row[2:])

    async def stats(self, store_id: str) -> dict[str, Any]:
        """Return what `core.store.store` counted when the profiles were loaded.

        And `model_version`, of the model that placed them. Where nothing was loaded,
        all counts are 0 and the version is None.
        """
        row = await self._first_row("read the statistics", _STATS, (store_id,))
        if row is None:
            return {**NO_STATISTICS, "model_version": None}
        return dict(row[0])

    async def model(
        self, store_id: str, known: str | None = None
    ) -> StoredModel | None:
        """Return the model that serves a store.

        Parameters
        ----------
        store_id : str
            Whose model.
        known : str, optional
            The `digest` of the one that the caller has.

        Returns
        -------
        StoredModel or None
            None if it is the one that is known, or there is none.
        """
        row = await self._first_row("read the model", CURRENT_MODEL, (store_id, known))
        return None if row is None else StoredModel(*row)

    async def n_models(self) -> int:
        """Return how many stores have a model that serves."""
        row = await self._first_row("count the models", _N_MODELS, ())
        return 0 if row is None else int(row[0])

    async def _first_row(self, doing: str, statement: str, values: Row) -> Row | None:
        """Run a statement and return its first row, or None if it has none."""
        rows = await self.rows(doing, statement, values)
        return rows[0] if rows else None

    async def rows(self, doing: str, statement: str, values: Row) -> list[Row]:
        """Run a statement and return its rows.

        Parameters
        ----------
        doing : str
            What it does, for messages: "read a profile".
        statement : str
            With a ``%s`` for each of the values.
        values : tuple
        """
        place = f"the PostgreSQL at `{redacted_address(self.address)}`"
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._free.get()
                # By a task of its own, which gives the connection back. On a time-out
                # it is not waited for: psycopg then asks the server to give up, and if
                # that hangs does so for 10 seconds.
                asking = self._ask_over(connection, statement, values)
                asked = asyncio.create_task(asking)
                asked.add_done_callback(_seen)
                try:
                    return await asyncio.shield(asked)
                finally:
                    asked.cancel()
        except TimeoutError:
            raise StoreError(
                f"{place} has not managed within {self._timeout:g} s to {doing}. It is "
                "busy, or the network has swallowed the answer."
            ) from None
        except psycopg.Error as error:
            raise store_error(doing, place, error) from error

    async def _ask_over(
        self, connection: Connection | None, statement: str, values: Row
    ) -> list[Row]:
        """Ask over a free connection, or a new one if that has died; give it back."""
        try:
            if connection is not None:
                try:
                    return await _ask(connection, statement, values)
                except psycopg.Error:
                    # It died while nobody used it, or has prepared the statement for
                    # tables that were others: a new one tells what holds now.
                    await connection.close()
            connection = None
            connection = await psycopg.AsyncConnection.connect(
                self.address,
                autocommit=True,
                connect_timeout=math.ceil(self._timeout),
                application_name="stable-segments-api",
            )
            return await _ask(connection, statement, values)
        except asyncio.CancelledError:
            # The answer to this statement may still come: nobody else may read it.
            if connection is not None:
                await connection.close()
            raise
        finally:
            is_lost = connection is None or connection.closed
            self._free.put_nowait(None if is_lost else connection)


def _seen(asked: asyncio.Task[list[Row]]) -> None:
    """Look at what became of a request, which nobody may be waiting for any more."""
    if not asked.cancelled():
        asked.exception()


def storable(customer_id: str) -> str | None:
    """Return None, which no customer has, for an id that PostgreSQL cannot store."""
    try:
        customer_id.encode()
    except UnicodeEncodeError:
        return None
    return None if "\0" in customer_id else customer_id
