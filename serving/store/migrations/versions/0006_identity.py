"""A name for the store: a version that was built from its events says of which store they are."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """One table of one row."""
    identity = op.create_table(
        "identity",
        sa.Column(
            "store_id",
            sa.String(32),
            primary_key=True,
            comment="by chance, once: numbers of events are of this store",
        ),
    )
    op.bulk_insert(identity, [{"store_id": uuid.uuid4().hex}])
