"""Lists that were answered, how often each item was shown, and which list an event came of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Two tables and a column."""
    op.create_table(
        "impressions",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
        ),
        sa.Column("request_id", sa.String(64), nullable=False, unique=True),
        sa.Column("user_id", sa.String(512), comment="null: nobody was named"),
        sa.Column("shown_at", sa.Double, nullable=False, comment="seconds since 1970, UTC"),
        sa.Column("model_version", sa.String(255), nullable=False),
        sa.Column("policy", sa.String(16), nullable=False, comment="see explore.policy"),
        sa.Column("variant", sa.String(255), comment="of an experiment; null: there was none"),
        sa.Column("first_rank", sa.Integer, nullable=False, comment="of the first place"),
        sa.Column("is_plain", sa.Boolean, nullable=False, comment="nothing was asked beyond the user"),
        sa.Column("items", sa.Text, nullable=False, comment="JSON: [[item_id, score, propensity], ...]"),
        sa.Column("best", sa.Text, nullable=False, comment="JSON: [item_id, ...] without exploring"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_impressions_user_id", "impressions", ["user_id", "seq"])
    op.create_index("ix_impressions_shown_at", "impressions", ["shown_at"])
    op.create_table(
        "item_impressions",
        sa.Column("item_id", sa.String(512), primary_key=True),
        sa.Column("shown", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False, comment="seconds since 1970, UTC"),
    )
    op.create_index("ix_item_impressions_updated_at", "item_impressions", ["updated_at"])
    op.add_column(
        "events", sa.Column("request_id", sa.String(64), comment="of the list it came of; null: not told")
    )
    named = sa.text("request_id IS NOT NULL")
    op.create_index(
        "ix_events_request_id", "events", ["request_id"], sqlite_where=named, postgresql_where=named
    )
