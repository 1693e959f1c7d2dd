"""The tables of the store, and the migrations that bring a database up to date.

What users query is ``customer_profiles``, one row per store and customer. The other
tables hold the models that placed them, the keys of the API and the moves between
segments; ``segment_ledger`` is the movement ledger of retailers (`core.segments`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    func,
    inspect,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from core.errors import StoreError, listed
from core.logging import get_logger

metadata = MetaData()

VALUES = (
    "lifetime_value",
    "total_orders",
    "avg_order_value",
    "days_since_last_purchase",
    "customer_tenure_days",
    "churn_risk_score",
)
"""Numbers of a customer that stand beside the segments."""

SEGMENTS = (
    "segment_memberships",
    "dominant_segments",
    "membership_strengths",
    "runner_up_segments",
)
"""JSON objects from axis to segment, or to a strength from 0 to 1."""

customer_profiles = Table(
    "customer_profiles",
    metadata,
    Column("store_id", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("segment_memberships", JSONB, nullable=False),
    Column("dominant_segments", JSONB, nullable=False),
    Column("membership_strengths", JSONB, nullable=False),
    Column("runner_up_segments", JSONB, nullable=False),
    Column("confidence", Double),
    Column("lifetime_value", Double),
    Column("total_orders", BigInteger),
    Column("avg_order_value", Double),
    Column("days_since_last_purchase", Double),
    Column("customer_tenure_days", Double),
    Column("churn_risk_score", Double),
    Column("model_version", Integer, nullable=False),
    Column(
        "last_updated",
        DateTime(timezone=True),
        nullable=False,
        server_default=func.now(),
    ),
    Column(
        "created_at", DateTime(timezone=True), nullable=False, server_default=func.now()
    ),
    PrimaryKeyConstraint("store_id", "customer_id", name="customer_profiles_pkey"),
    # `jsonb_path_ops` hashes axis and segment as one: the plain operator class would
    # fetch everyone who is `regular` on whatever axis, and is twice the size.
    Index(
        "customer_profiles_segment_memberships",
        "segment_memberships",
        postgresql_using="gin",
        postgresql_ops={"segment_memberships": "jsonb_path_ops"},
    ),
    Index(
        "customer_profiles_dominant_segments",
        "dominant_segments",
        postgresql_using="gin",
        postgresql_ops={"dominant_segments": "jsonb_path_ops"},
    ),
)

axis_models = Table(
    "axis_models",
    metadata,
    Column("store_id", Text, nullable=False),
    Column("lineage", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("is_current", Boolean, nullable=False),
    Column("digest", Text, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Column("meta", JSONB, nullable=False),
    Column("stats", JSONB, nullable=False),
    Column(
        "published_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=func.now(),
    ),
    PrimaryKeyConstraint("store_id", "lineage", "version", name="axis_models_pkey"),
    Index(
        "axis_models_current",
        "store_id",
        unique=True,
        postgresql_where=text("is_current"),
    ),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("prefix", Text, nullable=False),
    Column("store_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column(
        "created_at", DateTime(timezone=True), nullable=False, server_default=func.now()
    ),
    Column("revoked_at", DateTime(timezone=True)),
    PrimaryKeyConstraint("prefix", name="api_keys_pkey"),
)

axis_moves = Table(
    "axis_moves",
    metadata,
    Column("store_id", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("axis", Text, nullable=False),
    Column("old", Text),
    Column("new", Text),
    Column("cause", Text, nullable=False),
    PrimaryKeyConstraint(
        "store_id", "customer_id", "run", "axis", "cause", name="axis_moves_pkey"
    ),
)

segment_ledger = Table(
    "segment_ledger",
    metadata,
    Column("lineage", Text, nullable=False),
    Column("month", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("role", Text, nullable=False),
    Column("entity", Text, nullable=False),
    Column("segment", Integer, nullable=False),
    Column("strength", Double, nullable=False),
    Column("settled", Integer, nullable=False),
    PrimaryKeyConstraint(
        "lineage", "month", "version", "role", "entity", name="segment_ledger_pkey"
    ),
)


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
