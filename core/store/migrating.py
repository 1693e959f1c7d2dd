"""Bring the tables of a database to the layout that this version works with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text

from core.errors import StoreError, listed
from core.logging import get_logger

REVISIONS = ("0001",)
"""Every layout that this version knows, the oldest first."""
VERSION_TABLE = "segments_schema_version"
"""Not alembic's own name, which other programs of the database may use."""
# Any number will do, as long as nothing else takes the same one.
_LOCK = 7_364_201

_logger = get_logger()


def migrate(connection: Connection, target: str = "head") -> None:
    """Bring a database up to date; one process at a time, all steps or none.

    Parameters
    ----------
    connection : Connection
        Inside a transaction, which the caller ends.
    target : str
        A revision, ``"head"`` or (to drop everything) ``"base"``.

    Raises
    ------
    StoreError
        If the tables were made by a newer version than this one.
    """
    # Nearly always there is nothing to do; alembic takes half a second to import.
    if target == "head" and revision_of(connection) == REVISIONS[-1]:
        return
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    before = revision_of(connection)
    if before is not None and before not in REVISIONS:
        raise StoreError(
            f"the tables of the store have the layout `{before}`, made by a newer "
            f"version of this program; this one knows {listed(REVISIONS)}. Update it, "
            "or point `store.url` to another database."
        )
    _run_steps(connection, target)
    after = revision_of(connection)
    if after != before:
        _logger.info("Store: layout %s -> %s.", before or "(none)", after or "(none)")


def revision_of(connection: Connection) -> str | None:
    """Return the layout that a database has, or None if it has none of ours."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    row = found.first()
    return None if row is None else str(row[0])


def _run_steps(connection: Connection, target: str) -> None:
    from alembic.config import Config
    from alembic.operations import Operations
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    folder = Path(__file__).parent / "migrations"
    scripts = ScriptDirectory(str(folder), version_locations=[str(folder)])

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
