"""Keep what the dashboard shows: a board beside every model, and profiles in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.operations import Operations

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ORDERS = ("lifetime_value", "confidence")


def upgrade(op: Operations) -> None:
    """Add the column, null for models that are there already, and the orders."""
    op.execute("ALTER TABLE axis_models ADD COLUMN board jsonb")
    for name in _ORDERS:
        op.execute(
            f"CREATE INDEX customer_profiles_{name} ON customer_profiles "
            f"(store_id, {name} DESC NULLS LAST, customer_id)"
        )


def downgrade(op: Operations) -> None:
    """Drop them again."""
    op.execute("ALTER TABLE axis_models DROP COLUMN board")
    for name in _ORDERS:
        op.execute(f"DROP INDEX customer_profiles_{name}")
