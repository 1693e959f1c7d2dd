"""The store: profiles, the models that placed them, and the keys of the API.

A key reads ``ss_<prefix>_<secret>``, both parts hexadecimal. What is kept of the secret
is its SHA-256. That is enough: the secret is 256 random bits, so nobody can try them
all however fast the hash is. Slow hashes (bcrypt, argon2) protect what people make up;
here they would only cost every request some 50 ms.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

import polars as pl
import psycopg
from psycopg.types.json import Jsonb

from core.errors import PROGRAM, StoreError, did_you_mean
from core.logging import get_logger
from core.redaction import redacted_address
from core.reporting.board import Board
from core.store.address import as_store_errors, chosen_address, connect
from core.store.embedded import EmbeddedServer
from core.store.loading import LoadFacts, load_moves, load_profiles, prepare_profiles
from core.store.migrations import migrate
from core.store.query import run_query

CURRENT_MODEL = """
    SELECT version, state, meta, lineage, digest FROM axis_models
    WHERE store_id = %s AND is_current AND digest IS DISTINCT FROM %s
"""
"""The model that serves a store, unless its digest is the one that is known."""

NO_STATISTICS: Mapping[str, Any] = {
    "total_customers": 0,
    "customers_with_segments": 0,
    "axes_count": 0,
    "segments_per_axis": {},
    "segment_distribution": {},
}
"""What `store_statistics` returns of a store that nothing was ever loaded into."""


class StoredModel(NamedTuple):
    """The model that serves a store.

    Attributes
    ----------
    version : int
        Its number in its lineage.
    state : bytes
        What `core.artifacts.arrays` wrote.
    meta : dict
        What its system keeps beside it.
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

    @property
    def system(self) -> str:
        """Stage of the system whose model it is, such as ``axes``."""
        return str(self.meta.get("system", "axes"))


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
            if server is not None:
                server.release()

    @property
    def name(self) -> str:
        """Where the store is, in words and without any password."""
        if self._server is not None:
            return f"embedded PostgreSQL in `{self._server.folder}`"
        return f"PostgreSQL at `{redacted_address(self.address)}`"

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
    def begin(self, doing: str) -> Iterator[psycopg.Connection[Any]]:
        """Yield a new connection in a transaction; failures are a `StoreError`."""
        with (
            as_store_errors(doing, f"the {self.name}"),
            connect(self.address) as connection,
        ):
            yield connection

    def migrate(self) -> None:
        """Bring the tables to the layout of this version; `open` has done so.

        Raises
        ------
        StoreError
            If they were made by a newer version.
        """
        with as_store_errors("bring its tables up to date", f"the {self.name}"):
            migrate(self.address)

    def publish(
        self,
        store_id: str,
        version: int,
        lineage: str,
        state: bytes,
        meta: Mapping[str, Any],
        profiles: pl.DataFrame,
        moves: pl.DataFrame | None = None,
        board: Board | None = None,
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
            of `core.store.loading.VALUES` (null where missing, NaN becomes null).
        moves : DataFrame, optional
            Who changed segment: `customer_id`, `run`, `axis`, `old`, `new`, `cause`.
            Those known already are left as they are; those of another lineage than
            this one's are deleted.
        board : Board, optional
            What the dashboard shows of the model.

        Raises
        ------
        StoreError
            If the profiles cannot be stored, or the database fails.
        """
        started = time.perf_counter()
        table = prepare_profiles(profiles, version)
        with self.begin("load the profiles") as connection:
            connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
                (f"stable-segments/{store_id}",),
            )
            with connection.cursor() as cursor:
                facts = load_profiles(cursor, store_id, table)
                cursor.execute(_DELETE_OTHERS_MOVES, (store_id, store_id, lineage))
                if moves is not None:
                    load_moves(cursor, store_id, moves)
            model = StoredModel(
                version, state, dict(meta), lineage, _digest(state, meta)
            )
            _switch_model(connection, store_id, model, board)
        if facts.n_inserted or facts.n_updated or facts.n_deleted:
            self._tidy()
        return facts._replace(seconds=time.perf_counter() - started)

    def _tidy(self) -> None:
        """Free the space of replaced rows, and let the planner see the new ones.

        PostgreSQL does so by itself, but only in a server that runs for a minute: an
        embedded one that only ever loads would grow by a table's size every time.
        """
        try:
            with connect(self.address, autocommit=True) as connection:
                connection.execute("VACUUM (ANALYZE) customer_profiles")
        except psycopg.Error as error:
            # What was loaded is there all the same.
            get_logger().warning("The %s was not tidied up: %s", self.name, error)

    def query(self, statement: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Run one statement that only reads; return names of columns, and rows.

        Raises
        ------
        StoreError
            If it would change anything, takes more than a minute, or PostgreSQL does
            not understand it.
        """
        with as_store_errors("run the query", f"the {self.name}"):
            return run_query(self.address, statement)

    def names(self) -> list[str]:
        """Return the names of the stores that a model serves."""
        with self.begin("list the stores") as connection:
            rows = connection.execute(
                "SELECT store_id FROM axis_models WHERE is_current ORDER BY store_id"
            ).fetchall()
        return [name for (name,) in rows]

    def board(self, store_id: str) -> Board | None:
        """Return what the dashboard shows of a store; None if nothing is known.

        Raises
        ------
        StoreError
            If it cannot be read.
        """
        with self.begin("read the board") as connection:
            row = connection.execute(
                "SELECT board::text FROM axis_models "
                "WHERE store_id = %s AND is_current",
                (store_id,),
            ).fetchone()
        return None if row is None or row[0] is None else Board.from_json(row[0])

    def model(self, store_id: str) -> StoredModel | None:
        """Return the model that serves a store, or None if nothing was published."""
        with self.begin("read the model") as connection:
            row = connection.execute(CURRENT_MODEL, (store_id, None)).fetchone()
        return None if row is None else StoredModel(*row)


# Segments of another lineage have other names and other ids.
_DELETE_OTHERS_MOVES = """
    DELETE FROM axis_moves WHERE store_id = %s AND EXISTS (
        SELECT FROM axis_models
        WHERE store_id = %s AND is_current AND lineage <> %s
    )
"""


def _digest(state: bytes, meta: Mapping[str, Any]) -> str:
    """Return what tells a model from any other one."""
    content = json.dumps(meta, sort_keys=True).encode()
    return hashlib.sha256(b"%d/" % len(state) + state + content).hexdigest()


def _switch_model(
    connection: psycopg.Connection[Any],
    store_id: str,
    model: StoredModel,
    board: Board | None,
) -> None:
    """Let a model serve a store instead of the one before, its customers counted."""
    stats = store_statistics(connection, store_id)
    connection.execute(
        "UPDATE axis_models SET is_current = false WHERE store_id = %s AND is_current",
        (store_id,),
    )
    connection.execute(
        """
        INSERT INTO axis_models
            (store_id, lineage, version, is_current, digest, state, meta, stats, board)
        VALUES (%s, %s, %s, true, %s, %s, %s, %s, %s)
        ON CONFLICT (store_id, lineage, version) DO UPDATE SET
            is_current = true, digest = excluded.digest, state = excluded.state,
            meta = excluded.meta, stats = excluded.stats, board = excluded.board,
            published_at = now()
        """,
        (
            store_id,
            model.lineage,
            model.version,
            model.digest,
            model.state,
            Jsonb(model.meta),
            Jsonb(stats),
            None if board is None else board.to_json(),
        ),
    )


def store_statistics(
    connection: psycopg.Connection[Any], store_id: str
) -> dict[str, Any]:
    """Count a store's customers by axis and segment.

    Who is not placed on an axis has a name there, too (`not_enough_orders`,
    `no_items`), but strength 0; a name with which nobody has any strength is no
    segment.

    Returns
    -------
    dict
        `total_customers`; `customers_with_segments`, those placed on one axis at least;
        `axes_count`; `segments_per_axis`, without the names of those not placed; and
        `segment_distribution`, customers per axis and name, with them.
    """
    customers = connection.execute(
        """
        SELECT count(*), count(*) FILTER (
            WHERE jsonb_path_exists(membership_strengths, '$.* ? (@ > 0)')
        )
        FROM customer_profiles
        WHERE store_id = %s
        """,
        (store_id,),
    )
    total, placed = customers.fetchall()[0]
    counts = connection.execute(
        """
        SELECT axis, segment, count(*),
               max((membership_strengths ->> axis)::double precision) > 0
        FROM customer_profiles,
             jsonb_each_text(segment_memberships) AS _ (axis, segment)
        WHERE store_id = %s
        GROUP BY axis, segment
        ORDER BY axis, segment
        """,
        (store_id,),
    )
    distribution: dict[str, dict[str, int]] = {}
    n_segments: dict[str, int] = {}
    for axis, name, count, is_segment in counts:
        distribution.setdefault(axis, {})[name] = count
        n_segments[axis] = n_segments.get(axis, 0) + bool(is_segment)
    return {
        "total_customers": total,
        "customers_with_segments": placed,
        "axes_count": len(distribution),
        "segments_per_axis": n_segments,
        "segment_distribution": distribution,
    }


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
    with store.begin("make a key") as connection:
        connection.execute(
            "INSERT INTO api_keys (prefix, store_id, name, secret_hash) "
            "VALUES (%s, %s, %s, %s)",
            (prefix, store_id, name, hash_secret(secret)),
        )
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
        connection.execute(
            "UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) "
            "WHERE prefix = %s",
            (wanted,),
        )
    keys = {key.prefix: key for key in list_keys(store)}
    if wanted not in keys:
        raise StoreError(
            f"there is no key `{wanted}`.{did_you_mean(wanted, keys)} `{PROGRAM} keys "
            "list` shows them all."
        )
    return keys[wanted]


def list_keys(store: Store, store_id: str | None = None) -> list[Key]:
    """Return the keys of one store, or of all, the oldest first."""
    with store.begin("list the keys") as connection:
        rows = connection.execute(
            "SELECT prefix, store_id, name, created_at, revoked_at FROM api_keys "
            "WHERE %(store_id)s::text IS NULL OR store_id = %(store_id)s "
            "ORDER BY created_at, prefix",
            {"store_id": store_id},
        ).fetchall()
    return [
        Key(prefix, owner, name, _in_utc(created), _in_utc(revoked))
        for prefix, owner, name, created, revoked in rows
    ]


def _in_utc(moment: Any) -> Any:
    """Return a moment, told in the server's time zone, in UTC."""
    return moment if moment is None else moment.astimezone(UTC)


def split_key(key: str) -> tuple[str, str] | None:
    """Return prefix and secret of a key, or None if it does not look like one."""
    found = re.fullmatch(r"ss_([0-9a-f]{12})_([0-9a-f]{64})", key)
    return None if found is None else (found[1], found[2])


def hash_secret(secret: str) -> bytes:
    """Return the SHA-256 of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def is_secret(secret: str, expected: bytes) -> bool:
    """Return whether a secret has a hash, in a time that does not tell how nearly."""
    return hmac.compare_digest(hash_secret(secret), expected)
