"""SQL of the user's, run where it can read and nothing else.

A transaction that only reads does not bind a superuser, which the embedded server's
account is: ``COPY ... TO PROGRAM`` runs a command in it, `pg_read_file` shows files,
and `set_config` takes back what ``SET ROLE`` has given up. So whoever has such powers
asks through another connection, opened as a role that has none.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any

import psycopg
from psycopg import sql

from core.errors import StoreError
from core.store.address import connect

READER = "segments_reader"
"""The role that may log in and select from the tables of the store, nothing else."""
TABLES = (
    "customer_profiles",
    "axis_models",
    "axis_moves",
    "api_keys",
    "segment_ledger",
)
QUERY_SECONDS = 60.0

_COPY = re.compile(r"(?:\s|;|--[^\n]*|/\*.*?\*/)*COPY\b", re.I | re.DOTALL)
_HAS_POWERS = """
    SELECT bool_or(pg_has_role(oid, 'MEMBER')) OR current_setting('is_superuser') = 'on'
    FROM pg_roles
    WHERE rolname IN (
        'pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files'
    )
"""
# Any number will do, as long as nothing else takes the same one.
_LOCK = 7_364_202


def run_query(
    address: str, statement: str, seconds: float = QUERY_SECONDS
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run one statement that only reads; return names of columns, and rows.

    Raises
    ------
    StoreError
        If it is a COPY, or no role can be had that only reads.
    psycopg.Error
        If it would change anything, takes too long, or is not understood.
    """
    if _COPY.match(statement):
        raise StoreError(
            "`COPY` is refused, since it can write files and run programs. A query "
            "only reads: expected a SELECT; `--csv` prints its rows as CSV."
        )
    with _reading(address) as connection:
        connection.execute("SET TRANSACTION READ ONLY")
        milliseconds = str(round(1000 * seconds))
        connection.execute(
            "SELECT set_config('statement_timeout', %s, true)", (milliseconds,)
        )
        # Prepared, it is one statement: none can end the transaction before it.
        cursor = connection.execute(statement, prepare=True)
        if cursor.description is None:
            return [], []
        return [column.name for column in cursor.description], cursor.fetchall()


def _reading(address: str) -> psycopg.Connection[Any]:
    """Return a connection whose role has no powers over the server."""
    connection = connect(address)
    has_powers, path = connection.execute(
        f"SELECT ({_HAS_POWERS}), current_setting('search_path')"
    ).fetchall()[0]
    if not has_powers:
        return connection
    try:
        database = connection.info.dbname
        with connection:
            password = _make_reader(connection)
        reader = connect(address, user=READER, password=password, dbname=database)
    except psycopg.Error as error:
        reason = " ".join(str(error).split())
        raise StoreError(
            f"a query runs as the role `{READER}`, which can only read, because the "
            f"address has powers over the whole server; that role cannot be made or "
            f"cannot log in ({reason}). Let it, or pass `--database` the address of a "
            "role that is no superuser."
        ) from None
    reader.execute("SELECT set_config('search_path', %s, false)", (path,))
    reader.commit()
    return reader


def _make_reader(connection: psycopg.Connection[Any]) -> str | None:
    """Make the role, or what is missing of it; return its password, if it has one.

    The password follows from that of the address, so two queries at a time agree on it;
    where the server asks for none (a socket of our own), it is not given one.
    """
    own = connection.info.password
    password = hmac.new(own.encode(), READER.encode(), hashlib.sha256).hexdigest()
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    found = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (READER,))
    verb = "ALTER" if found.fetchone() else "CREATE"
    role = sql.Identifier(READER)
    options = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    statement = sql.SQL(f"{verb} ROLE {{}} {options} PASSWORD {{}}")
    connection.execute(statement.format(role, password if own else None))
    schema, *_ = connection.execute("SELECT current_schema()").fetchall()[0]
    tables = sql.SQL(", ").join(map(sql.Identifier, TABLES))
    usage = sql.SQL("GRANT USAGE ON SCHEMA {} TO {}")
    connection.execute(usage.format(sql.Identifier(schema), role))
    connection.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(tables, role))
    return password if own else None
