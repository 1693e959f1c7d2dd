"""The store: profiles, models with their history, API keys, the movement ledger.

Who is not placed on an axis has a name there, too (`not_enough_orders`, `no_items`),
but strength 0; a name with which nobody has any strength is no segment.

A key reads ``ss_<prefix>_<secret>``, both parts hexadecimal. What is kept of the secret
is its SHA-256. That is enough: the secret is 256 random bits, so nobody can try them
all however fast the hash is. Slow hashes (bcrypt, argon2) protect what people make up;
here they would only cost every request some 50 ms.

The files are the ledger; the table is a copy to ask in SQL. Blocks are only ever added:
one that the table has is left as it is.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

import polars as pl
import psycopg
from sqlalchemy import Connection, create_engine, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import SQLAlchemyError

from core.errors import StoreError, did_you_mean
from core.logging import get_logger
from core.store.address import as_store_errors, chosen_address, redacted
from core.store.embedded import EmbeddedServer
from core.store.loading import (
    LoadFacts,
    copy_into,
    escaped,
    load_moves,
    load_profiles,
    prepare_profiles,
)
from core.store.schema import api_keys, axis_models, migrate


class StoredModel(NamedTuple):
    """The model that serves a store.

    Attributes
    ----------
    version : int
        Its number in its lineage.
    state : bytes
        What `core.artifacts.arrays` wrote.
    meta : dict
        What `core.axes` keeps beside it.
    lineage : str
        What the versions of one segmentation share.
    digest : str
        Tells it from any other one; changes with a name, which leaves the version.
    """

    version: int
    state: bytes
    meta: dict[str, Any]
    lineage: str
    digest: str


def current_model(connection: Connection, store_id: str) -> StoredModel | None:
    """Return the model that serves a store, or None if nothing was published."""
    columns = [axis_models.c[name] for name in StoredModel._fields]
    statement = select(*columns).where(
        axis_models.c.store_id == store_id, axis_models.c.is_current
    )
    row = connection.execute(statement).first()
    return None if row is None else StoredModel(*row)


def model_history(connection: Connection, store_id: str) -> list[dict[str, Any]]:
    """Return every model published for a store, the newest first."""
    names = ("version", "lineage", "digest", "is_current", "published_at")
    statement = (
        select(*[axis_models.c[name] for name in names])
        .where(axis_models.c.store_id == store_id)
        .order_by(axis_models.c.published_at.desc(), axis_models.c.version.desc())
    )
    return [dict(row) for row in connection.execute(statement).mappings()]


def switch_model(
    connection: Connection,
    store_id: str,
    version: int,
    lineage: str,
    state: bytes,
    meta: Mapping[str, Any],
    stats: Mapping[str, Any],
) -> None:
    """Let a model serve a store instead of the one before.

    Parameters
    ----------
    connection : Connection
        Inside the transaction that loads the profiles.
    store_id : str
        Whose model.
    version, lineage, state, meta
        See `StoredModel`.
    stats : dict
        From `core.store.store`.
    """
    content = json.dumps(meta, sort_keys=True).encode()
    digest = hashlib.sha256(b"%d/" % len(state) + state + content).hexdigest()
    key = {"store_id": store_id, "lineage": lineage, "version": version}
    values = {"digest": digest, "state": state, "meta": dict(meta)}
    connection.execute(
        update(axis_models)
        .where(axis_models.c.store_id == store_id, axis_models.c.is_current)
        .values(is_current=False)
    )
    row = {**key, **values, "stats": dict(stats), "is_current": True}
    statement = upsert(axis_models).values(row)
    connection.execute(
        statement.on_conflict_do_update(
            constraint=axis_models.primary_key,
            set_={
                **values,
                "stats": dict(stats),
                "is_current": True,
                "published_at": func.now(),
            },
        )
    )


_COUNTS = text("""
    SELECT axis, segment, count(*),
           max((membership_strengths ->> axis)::double precision) > 0
    FROM customer_profiles, jsonb_each_text(segment_memberships) AS _ (axis, segment)
    WHERE store_id = :store_id
    GROUP BY axis, segment
    ORDER BY axis, segment
""")
_CUSTOMERS = text("""
    SELECT count(*), count(*) FILTER (
        WHERE jsonb_path_exists(membership_strengths, '$.* ? (@ > 0)')
    )
    FROM customer_profiles
    WHERE store_id = :store_id
""")


def store_statistics(connection: Connection, store_id: str) -> dict[str, Any]:
    """Count a store's customers by axis and segment.

    Returns
    -------
    dict
        `total_customers`; `customers_with_segments`, those placed on one axis at least;
        `axes_count`; `segments_per_axis`, without the names of those not placed; and
        `segment_distribution`, customers per axis and name, with them.
    """
    values = {"store_id": store_id}
    total, placed = connection.execute(_CUSTOMERS, values).one()
    distribution: dict[str, dict[str, int]] = {}
    n_segments: dict[str, int] = {}
    for axis, name, count, is_segment in connection.execute(_COUNTS, values):
        distribution.setdefault(axis, {})[name] = count
        n_segments[axis] = n_segments.get(axis, 0) + bool(is_segment)
    return {
        "total_customers": total,
        "customers_with_segments": placed,
        "axes_count": len(distribution),
        "segments_per_axis": n_segments,
        "segment_distribution": distribution,
    }


def no_statistics() -> dict[str, Any]:
    """Return the same of a store that nothing was ever loaded into."""
    return {
        "total_customers": 0,
        "customers_with_segments": 0,
        "axes_count": 0,
        "segments_per_axis": {},
        "segment_distribution": {},
    }


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


_PATTERN = re.compile(r"ss_([0-9a-f]{12})_([0-9a-f]{64})")


@dataclass(frozen=True)
class Key:
    """What is known of a key; not its secret.

    Attributes
    ----------
    prefix : str
        Twelve hexadecimal digits, by which it is revoked.
    store_id : str
        The one store that it opens.
    name : str
        Who has it, or what for; may be empty.
    created_at : datetime
        In UTC.
    revoked_at : datetime, optional
        In UTC; None as long as it is valid.
    """

    prefix: str
    store_id: str
    name: str
    created_at: datetime
    revoked_at: datetime | None


def create_key(store: Store, store_id: str, name: str = "") -> str:
    """Make a key for one store and return it; it cannot be shown again.

    Raises
    ------
    StoreError
        If the database cannot be used.
    """
    prefix, secret = secrets.token_hex(6), secrets.token_hex(32)
    row = {
        "prefix": prefix,
        "store_id": store_id,
        "name": name,
        "secret_hash": hash_secret(secret),
    }
    with store.begin("make a key") as connection:
        connection.execute(insert(api_keys).values(row))
    return f"ss_{prefix}_{secret}"


def revoke_key(store: Store, prefix: str) -> Key:
    """Let a key be refused from now on; revoking it again changes nothing.

    Parameters
    ----------
    store : Store
        An open store.
    prefix : str
        The key's prefix, with or without the ``ss_`` before it, or the whole key.

    Raises
    ------
    StoreError
        If there is no such key.
    """
    wanted = prefix.removeprefix("ss_").partition("_")[0]
    with store.begin("revoke a key") as connection:
        statement = (
            update(api_keys)
            .where(api_keys.c.prefix == wanted)
            .values(revoked_at=func.coalesce(api_keys.c.revoked_at, func.now()))
        )
        found = connection.execute(statement).rowcount
    keys = {key.prefix: key for key in list_keys(store)}
    if not found:
        raise StoreError(
            f"there is no key `{wanted}`.{did_you_mean(wanted, keys)} `segments keys "
            "list` shows them all."
        )
    return keys[wanted]


def list_keys(store: Store, store_id: str | None = None) -> list[Key]:
    """Return the keys of one store, or of all, the oldest first."""
    columns = [api_keys.c[name] for name in Key.__dataclass_fields__]
    statement = select(*columns).order_by(api_keys.c.created_at, api_keys.c.prefix)
    if store_id is not None:
        statement = statement.where(api_keys.c.store_id == store_id)
    with store.begin("list the keys") as connection:
        rows = connection.execute(statement).all()
    return [
        Key(prefix, owner, name, _in_utc(created), _in_utc(revoked))
        for prefix, owner, name, created, revoked in rows
    ]


def _in_utc(moment: Any) -> Any:
    """Return a moment, told in the server's time zone, in UTC."""
    return moment if moment is None else moment.astimezone(UTC)


def split_key(key: str) -> tuple[str, str] | None:
    """Return prefix and secret of a key, or None if it does not look like one."""
    found = _PATTERN.fullmatch(key)
    return None if found is None else (found[1], found[2])


def hash_secret(secret: str) -> bytes:
    """Return the SHA-256 of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def is_secret(secret: str, expected: bytes) -> bool:
    """Return whether a secret has a hash, in a time that does not tell how nearly."""
    return hmac.compare_digest(hash_secret(secret), expected)


_BLOCK = ("month", "version", "role")
_COLUMNS = (*_BLOCK, "entity", "segment", "strength", "settled")


def has_store(url: str | None, folder: Path) -> bool:
    """Whether there is a store to write to: one that was chosen, or the embedded one.

    Parameters
    ----------
    url : str, optional
        ``store.url``; without it the environment variable ``DATABASE_URL`` counts.
    folder : path
        Of the embedded server, which has to be there already.
    """
    return chosen_address(url) is not None or folder.is_dir()


def publish_ledger(
    url: str | None, folder: Path, lineage: str, blocks: Sequence[pl.DataFrame]
) -> int | None:
    """Add the blocks that the store does not have yet; return how many those are.

    Returns None, and makes no store, where `has_store` finds none.

    Parameters
    ----------
    url, folder
        As for `Store.open`.
    lineage : str
        Of the models that the ledger belongs to.
    blocks : sequence of DataFrame
        With the columns of `core.segments.ledger.LEDGER_SCHEMA`, a month, version and
        role each.

    Raises
    ------
    StoreError
        If the store cannot be opened or written to; nothing is added then.
    """
    if not has_store(url, folder):
        return None
    with Store.open(url, folder) as store, store.begin("add to the ledger") as opened:
        driver: Any = opened.connection.driver_connection
        with driver.cursor() as cursor:
            return sum(_add(cursor, lineage, block) for block in blocks)


def _add(cursor: Any, lineage: str, block: pl.DataFrame) -> int:
    """Add one block unless it is there; return 1 if it was added, else 0."""
    key = (lineage, *block.select(_BLOCK).row(0))
    same = " AND ".join(f"{name} = %s" for name in ("lineage", *_BLOCK))
    cursor.execute(f"SELECT 1 FROM segment_ledger WHERE {same} LIMIT 1", key)
    if cursor.fetchone() is not None:
        return 0
    text = escaped(pl.col(pl.String))
    table = block.select(pl.lit(lineage).alias("lineage"), *_COLUMNS).with_columns(text)
    copy_into(cursor, f"segment_ledger (lineage, {', '.join(_COLUMNS)})", table)
    return 1
