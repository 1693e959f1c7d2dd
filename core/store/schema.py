"""The tables of the store, as the newest migration leaves them.

What users query is ``customer_profiles``, one row per store and customer. The other
tables hold the models that placed them, the keys of the API and the moves between
segments; ``segment_ledger`` is the movement ledger of retailers (`core.segments`).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
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
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

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
