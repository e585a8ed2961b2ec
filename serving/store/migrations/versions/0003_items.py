"""Items that callers have put, changed or withdrawn; events are found by item too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """One table, one index."""
    op.create_table(
        "items",
        sa.Column("item_id", sa.String(512), primary_key=True),
        sa.Column("change", sa.BigInteger, nullable=False, unique=True, comment="rises with every change"),
        sa.Column("fields", sa.Text, comment="JSON, column to value; null: withdrawn"),
        sa.Column("is_whole", sa.Boolean, nullable=False, comment="else beside what a build knows"),
        sa.Column("updated_at", sa.Double, nullable=False),
    )
    op.create_index("ix_events_item_id", "events", ["item_id", "seq"])
