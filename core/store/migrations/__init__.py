"""The layout of the store's tables, brought step by step to that of this version.

A step is a file of its own. It is handed alembic's operations as `op` rather than
importing them, since alembic is imported in one place only, and late.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from core.errors import StoreError, listed
from core.logging import get_logger
from core.store.address import connect

if TYPE_CHECKING:
    from sqlalchemy import Connection

REVISIONS = ("0001", "0002", "0003")
"""Every layout that this version knows, the oldest first."""
VERSION_TABLE = "segments_schema_version"
"""Not alembic's own name, which other programs of the database may use."""
# Any number will do, as long as nothing else takes the same one.
_LOCK = 7_364_201


def migrate(address: str, target: str = "head") -> None:
    """Bring a database up to date; one process at a time, all steps or none.

    Parameters
    ----------
    address : str
        Of the database.
    target : str
        A revision, ``"head"`` or (to drop everything) ``"base"``.

    Raises
    ------
    StoreError
        If the tables were made by a newer version than this one.
    psycopg.Error
        If the database cannot be reached or used.
    """
    with connect(address) as connection:
        # Nearly always there is nothing to do; alembic takes half a second to import.
        if target == "head" and _revision_of(connection) == REVISIONS[-1]:
            return
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    # Connections are made by psycopg itself, which knows all of libpq's addresses.
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: connect(address), poolclass=NullPool
    )
    try:
        with engine.begin() as opened:
            _migrate(opened, target)
    except DBAPIError as error:
        raise error.orig or error from error


def _migrate(connection: Connection, target: str) -> None:
    driver: Any = connection.connection.driver_connection
    driver.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    before = _revision_of(driver)
    if before is not None and before not in REVISIONS:
        raise StoreError(
            f"the tables of the store have the layout `{before}`, made by a newer "
            f"version of this program; this one knows {listed(REVISIONS)}. Update it, "
            "or point `store.url` to another database."
        )
    _run_steps(connection, target)
    after = _revision_of(driver)
    if after != before:
        get_logger().info(
            "Store: layout %s -> %s.", before or "(none)", after or "(none)"
        )


def _revision_of(connection: psycopg.Connection[Any]) -> str | None:
    """Return the layout that a database has, or None if it has none of ours."""
    (table,) = connection.execute("SELECT to_regclass(%s)", (VERSION_TABLE,)).fetchall()
    if table[0] is None:
        return None
    row = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()
    return None if row is None else str(row[0])


def _run_steps(connection: Connection, target: str) -> None:
    from alembic.config import Config
    from alembic.operations import Operations
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    folder = str(Path(__file__).parent)
    scripts = ScriptDirectory(folder, version_locations=[folder])

    def steps(revision: Any, _context: Any) -> Any:
        if target == "base":
            return scripts._downgrade_revs("base", revision)
        return scripts._upgrade_revs(target, revision)

    environment = EnvironmentContext(
        Config(), scripts, fn=steps, destination_rev=target
    )
    with environment:
        environment.configure(connection=connection, version_table=VERSION_TABLE)
        # Handed to `upgrade(op)` of every step.
        environment.run_migrations(op=Operations(environment.get_context()))
