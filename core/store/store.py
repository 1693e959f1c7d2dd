"""The store: profiles, the models that placed them, and their history."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import polars as pl
import psycopg
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from core.logging import get_logger
from core.store.address import chosen_address, redacted
from core.store.embedded import EmbeddedServer
from core.store.failures import as_store_errors
from core.store.loading import LoadFacts, load_profiles, prepare_profiles
from core.store.migrating import migrate
from core.store.models import (
    StoredModel,
    current_model,
    model_history,
    switch_model,
)
from core.store.moves import load_moves
from core.store.statistics import store_statistics

__all__ = ["LoadFacts", "Store", "StoredModel", "publish_profiles"]


class Store:
    """An open store; made by `Store.open`.

    Attributes
    ----------
    address : str
        Of the database, with its password: not for messages.
    """

    def __init__(self, address: str, server: EmbeddedServer | None = None) -> None:
        self.address = address
        self._server = server
        # Connections are made by psycopg itself, which knows all of libpq's addresses.
        self._engine = create_engine(
            "postgresql+psycopg://",
            creator=lambda: psycopg.connect(
                address, connect_timeout=10, application_name="stable-segments"
            ),
            pool_pre_ping=True,
        )

    @classmethod
    @contextmanager
    def open(cls, url: str | None, folder: Path) -> Iterator[Self]:
        """Open a store and bring its tables up to date; close it at the end.

        Parameters
        ----------
        url : str, optional
            Of a PostgreSQL. Default: the environment variable ``DATABASE_URL``, and
            without that an embedded server, which runs as long as somebody uses it.
        folder : path
            Of the embedded server.

        Raises
        ------
        StoreError
            If the database cannot be started, reached or used.
        """
        address = chosen_address(url)
        server = None
        if address is None:
            server = EmbeddedServer(folder)
            address = server.acquire()
        store = cls(address, server)
        try:
            store.migrate()
            yield store
        finally:
            store._engine.dispose()
            if server is not None:
                server.release()

    @property
    def name(self) -> str:
        """Where the store is, in words and without any password."""
        if self._server is not None:
            return f"embedded PostgreSQL in `{self._server.folder}`"
        return f"PostgreSQL at `{redacted(self.address)}`"

    def ensure_running(self) -> None:
        """Start the embedded server again if it was killed; the address stays.

        Does nothing for a database of the user's own.

        Raises
        ------
        StoreError
            If it cannot be started.
        """
        if self._server is not None:
            self._server.ensure_running()

    @contextmanager
    def begin(self, doing: str) -> Iterator[Connection]:
        """Yield a connection in a transaction; failures are a `StoreError`."""
        with (
            as_store_errors(doing, f"the {self.name}"),
            self._engine.begin() as connection,
        ):
            yield connection

    def migrate(self) -> None:
        """Bring the tables to the layout of this version; `open` has done so.

        Raises
        ------
        StoreError
            If they were made by a newer version.
        """
        with self.begin("bring its tables up to date") as connection:
            migrate(connection)

    def publish(
        self,
        store_id: str,
        version: int,
        lineage: str,
        state: bytes,
        meta: Mapping[str, Any],
        profiles: pl.DataFrame,
        moves: pl.DataFrame | None = None,
    ) -> LoadFacts:
        """Make a model and its profiles the ones that serve, in one transaction.

        Whatever fails or is killed, the profiles before stay complete; loading the same
        again changes nothing. Two loads of one store wait for each other.

        Parameters
        ----------
        store_id : str
            Whose profiles; those of other stores are left alone.
        version, lineage, state, meta
            Of the model, see `StoredModel`.
        profiles : DataFrame
            One row per customer: `customer_id`; `segment_memberships`,
            `membership_strengths` and, if there are any, `dominant_segments` (default:
            the memberships) and `runner_up_segments`, each a struct with a field per
            axis (a null field is left out) or JSON text; `confidence` and the numbers
            of `core.store.schema.VALUES` (null where missing, NaN becomes null).
        moves : DataFrame, optional
            Who changed segment: `customer_id`, `run`, `axis`, `old`, `new`, `cause`.
            Those known already are left as they are.

        Raises
        ------
        StoreError
            If the profiles cannot be stored, or the database fails.
        """
        started = time.perf_counter()
        table = prepare_profiles(profiles, version)
        with self.begin("load the profiles") as connection:
            lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
            connection.execute(lock, {"name": f"stable-segments/{store_id}"})
            driver: Any = connection.connection.driver_connection
            with driver.cursor() as cursor:
                facts = load_profiles(cursor, store_id, table)
                if moves is not None:
                    load_moves(cursor, store_id, moves)
            stats = store_statistics(connection, store_id)
            switch_model(connection, store_id, version, lineage, state, meta, stats)
        if facts.n_inserted or facts.n_updated or facts.n_deleted:
            self._tidy()
        return facts._replace(seconds=time.perf_counter() - started)

    def query(self, statement: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Run one statement that only reads; return names of columns, and rows.

        Raises
        ------
        StoreError
            If it would change anything, or PostgreSQL does not understand it.
        """
        with self.begin("run the query") as connection:
            connection.execute(text("SET TRANSACTION READ ONLY"))
            # Not SQLAlchemy's, to which a percent sign means a parameter.
            driver: Any = connection.connection.driver_connection
            with driver.cursor() as cursor:
                # Prepared, it is one statement: none can end the transaction before it.
                cursor.execute(statement, prepare=True)
                if cursor.description is None:
                    return [], []
                names = [column.name for column in cursor.description]
                return names, cursor.fetchall()

    def _tidy(self) -> None:
        """Free the space of replaced rows, and let the planner see the new ones.

        PostgreSQL does so by itself, but only in a server that runs for a minute: an
        embedded one that only ever loads would grow by a table's size every time.
        """
        try:
            with self._engine.connect() as connection:
                outside = connection.execution_options(isolation_level="AUTOCOMMIT")
                outside.execute(text("VACUUM (ANALYZE) customer_profiles"))
        except SQLAlchemyError as error:
            # What was loaded is there all the same.
            get_logger().warning("The %s was not tidied up: %s", self.name, error)

    def model(self, store_id: str) -> StoredModel | None:
        """Return the model that serves a store, or None if nothing was published."""
        with self.begin("read the model") as connection:
            return current_model(connection, store_id)

    def history(self, store_id: str) -> list[dict[str, Any]]:
        """Return every model published for a store, the newest first.

        Each with `version`, `lineage`, `digest`, `is_current`, `published_at`.
        """
        with self.begin("read the history") as connection:
            return model_history(connection, store_id)


def publish_profiles(
    url: str | None,
    folder: Path,
    store_id: str,
    version: int,
    lineage: str,
    state: bytes,
    meta: Mapping[str, Any],
    profiles: pl.DataFrame,
    moves: pl.DataFrame | None = None,
) -> LoadFacts:
    """Open a store, publish as `Store.publish` does, and close it again.

    Raises
    ------
    StoreError
        If the store cannot be opened, or what it serves cannot be replaced; then the
        profiles before are still complete.
    """
    with Store.open(url, folder) as store:
        return store.publish(store_id, version, lineage, state, meta, profiles, moves)
