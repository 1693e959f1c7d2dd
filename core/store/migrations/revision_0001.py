"""Make the tables of profiles, models, keys, moves and the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.operations import Operations

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE customer_profiles (
        store_id text NOT NULL,
        customer_id text NOT NULL,
        segment_memberships jsonb NOT NULL,
        dominant_segments jsonb NOT NULL,
        membership_strengths jsonb NOT NULL,
        runner_up_segments jsonb NOT NULL,
        confidence double precision,
        lifetime_value double precision,
        total_orders bigint,
        avg_order_value double precision,
        days_since_last_purchase double precision,
        customer_tenure_days double precision,
        churn_risk_score double precision,
        model_version integer NOT NULL,
        last_updated timestamptz NOT NULL DEFAULT now(),
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT customer_profiles_pkey PRIMARY KEY (store_id, customer_id)
    )
    """,
    """
    CREATE INDEX customer_profiles_segment_memberships
    ON customer_profiles USING gin (segment_memberships jsonb_path_ops)
    """,
    """
    CREATE INDEX customer_profiles_dominant_segments
    ON customer_profiles USING gin (dominant_segments jsonb_path_ops)
    """,
    """
    CREATE TABLE axis_models (
        store_id text NOT NULL,
        lineage text NOT NULL,
        version integer NOT NULL,
        is_current boolean NOT NULL,
        digest text NOT NULL,
        state bytea NOT NULL,
        meta jsonb NOT NULL,
        stats jsonb NOT NULL,
        published_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT axis_models_pkey PRIMARY KEY (store_id, lineage, version)
    )
    """,
    """
    CREATE UNIQUE INDEX axis_models_current ON axis_models (store_id)
    WHERE is_current
    """,
    """
    CREATE TABLE api_keys (
        prefix text NOT NULL,
        store_id text NOT NULL,
        name text NOT NULL,
        secret_hash bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        revoked_at timestamptz,
        CONSTRAINT api_keys_pkey PRIMARY KEY (prefix)
    )
    """,
    """
    CREATE TABLE axis_moves (
        store_id text NOT NULL,
        customer_id text NOT NULL,
        run text NOT NULL,
        axis text NOT NULL,
        old text,
        new text,
        cause text NOT NULL,
        CONSTRAINT axis_moves_pkey PRIMARY KEY (store_id, customer_id, run, axis, cause)
    )
    """,
    """
    CREATE TABLE segment_ledger (
        lineage text NOT NULL,
        month text NOT NULL,
        version integer NOT NULL,
        role text NOT NULL,
        entity text NOT NULL,
        segment integer NOT NULL,
        strength double precision NOT NULL,
        settled integer NOT NULL,
        CONSTRAINT segment_ledger_pkey
            PRIMARY KEY (lineage, month, version, role, entity)
    )
    """,
)


def upgrade(op: Operations) -> None:
    """Make the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade(op: Operations) -> None:
    """Drop the tables, and with them all that they hold."""
    tables = ("segment_ledger", "axis_moves", "api_keys", "axis_models")
    for table in (*tables, "customer_profiles"):
        op.drop_table(table)
