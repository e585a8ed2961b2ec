"""A/B tests, and who has seen them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Two tables."""
    op.create_table(
        "experiments",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("salt", sa.String(32), nullable=False, comment="of the hash that gives users a variant"),
        sa.Column("definition", sa.Text, nullable=False, comment="JSON, as begun"),
        sa.Column("slots", sa.Text, nullable=False, comment="JSON: [first, end) of 10,000; of users' hashes"),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("stopped_at", sa.Double, comment="seconds since 1970, UTC; null: it runs"),
        sa.Column("winner", sa.String(64), comment="a variant; null: none was named"),
    )
    op.create_table(
        "exposures",
        sa.Column("experiment", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.String(512), primary_key=True),
        sa.Column("variant", sa.String(64), nullable=False),
        sa.Column("first_seen", sa.Double, nullable=False, comment="by the clock of the service"),
        sa.Column(
            "is_merged", sa.Boolean, nullable=False, comment="they had another id, and maybe another variant"
        ),
        comment="the first answer of each user that an experiment had a part in",
    )
    op.create_index("ix_exposures_user_id", "exposures", ["user_id"])
