"""Events, users, and whom to forget."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.String(512)


def upgrade() -> None:
    """Three tables."""
    op.create_table(
        "events",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("event_id", _ID, nullable=False, unique=True),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("item_id", _ID, nullable=False),
        sa.Column("event", sa.String(64)),
        sa.Column("weight", sa.Double, nullable=False),
        sa.Column(
            "occurred_at", sa.Double, comment="seconds since 1970, UTC, as the caller says; null: they do not"
        ),
        sa.Column("received_at", sa.Double, nullable=False, comment="the same by the clock of the service"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_user_id", "events", ["user_id", "seq"])
    op.create_table(
        "users",
        sa.Column("user_id", _ID, primary_key=True),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
    )
    op.create_table(
        "forgotten",
        sa.Column("user_hash", sa.String(64), primary_key=True, comment="SHA-256: their id is not kept"),
        sa.Column("forgotten_at", sa.Double, nullable=False),
        comment="users whose history in a published version must not be used, nor learnt from again",
    )
