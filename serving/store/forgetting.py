"""Who was forgotten, and where an id still is."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Engine, String, bindparam, exists, func, or_, select

from pipelines.core.forgetting import Forgotten, user_hash
from serving.store.schema import forgotten, metadata

_LAST = select(func.coalesce(func.max(forgotten.c.forgotten_at), 0.0))
_AMONG = select(forgotten).where(forgotten.c.user_hash.in_(bindparam("wanted", expanding=True)))


class Forgetting:
    """Reads what `Store.forget` notes."""

    def __init__(self, engine: Engine) -> None:
        """Of the store behind it."""
        self._engine = engine

    def among(self, user_ids: Sequence[str]) -> dict[str, float]:
        """Those of them of whom nothing that is published from before may be used, and when they were forgotten."""
        hashes = {user_hash(user_id): user_id for user_id in user_ids}
        with self._engine.connect() as connection:
            found = connection.execute(_AMONG, {"wanted": list(hashes)})
            return {hashes[row.user_hash]: row.forgotten_at for row in found}

    def all(self) -> Forgotten:
        """Everybody who was forgotten."""
        with self._engine.connect() as connection:
            return Forgotten(
                {row.user_hash: row.forgotten_at for row in connection.execute(select(forgotten))}
            )

    def last(self) -> float:
        """When a user was last forgotten, in seconds since 1970; 0: nobody was."""
        with self._engine.connect() as connection:
            return float(connection.execute(_LAST).scalar_one())

    def places_of(self, user_id: str) -> list[str]:
        """Columns that hold an id, alone or in quotation marks in what is written as JSON."""
        found = []
        quoted = json.dumps(user_id, ensure_ascii=False)
        with self._engine.connect() as connection:
            for table in metadata.sorted_tables:
                for column in table.columns:
                    if isinstance(column.type, String):
                        holds = or_(column == user_id, column.contains(quoted, autoescape=True))
                        if connection.execute(select(exists().where(holds))).scalar_one():
                            found.append(f"column {column.name} of table {table.name}")
        return found
