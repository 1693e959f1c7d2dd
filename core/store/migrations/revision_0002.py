"""Add to the ledger what is told of an entity beside its segment."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.operations import Operations

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade(op: Operations) -> None:
    """Add the columns; null in the months that are there already."""
    op.execute(
        "ALTER TABLE segment_ledger ADD COLUMN sub_segment text, ADD COLUMN state text,"
        " ADD COLUMN changing text, ADD COLUMN changing_to integer,"
        " ADD COLUMN changing_since text"
    )


def downgrade(op: Operations) -> None:
    """Drop the columns again."""
    op.execute(
        "ALTER TABLE segment_ledger DROP COLUMN sub_segment, DROP COLUMN state,"
        " DROP COLUMN changing, DROP COLUMN changing_to, DROP COLUMN changing_since"
    )
