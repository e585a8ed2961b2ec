"""All that the store holds of one moment, for a build: events, what users say, changes of items."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.engine import URL, Connection

from pipelines.core.collected import StorePoint
from pipelines.core.schema import EVENT, ITEM_ID, TEXT, TIMESTAMP, USER_ID, WEIGHT
from serving.store import upgrading
from serving.store.connecting import connect
from serving.store.schema import events, identity, items, users

Rows = list[dict[str, Any]]
_AT_ONCE = 50_000
"""Rows in memory."""
_EVENTS = select(
    events.c.user_id.label(USER_ID),
    events.c.item_id.label(ITEM_ID),
    events.c.event.label(EVENT),
    events.c.weight.label(WEIGHT),
    func.coalesce(events.c.occurred_at, events.c.received_at).label(TIMESTAMP),
).order_by(events.c.seq)
_USERS = select(users.c.user_id.label(USER_ID), users.c.description.label(TEXT), users.c.updated_at).order_by(
    users.c.user_id
)
_ITEMS = select(
    items.c.item_id.label(ITEM_ID), items.c.fields, items.c.is_whole, items.c.updated_at
).order_by(items.c.item_id)


class Snapshot:
    """What `read_snapshot` gives; every part may be read once or again, and is of the same moment."""

    def __init__(self, connection: Connection) -> None:
        """Within one transaction."""
        self._connection = connection
        last_event = func.coalesce(func.max(events.c.seq), 0)
        last_change = func.coalesce(func.max(items.c.change), 0)
        self.point = StorePoint(
            connection.execute(select(identity.c.store_id)).scalar_one(),
            connection.execute(select(last_event)).scalar_one(),
            connection.execute(select(last_change)).scalar_one(),
        )

    def events(self) -> Iterator[Rows]:
        """As `collected.INTERACTIONS_TOLD`, in the order of their numbers."""
        return self._read(_EVENTS)

    def users(self) -> Iterator[Rows]:
        """As `collected.USERS_TOLD`."""
        return self._read(_USERS)

    def items(self) -> Iterator[Rows]:
        """As `collected.ITEMS_TOLD`."""
        return self._read(_ITEMS)

    def _read(self, statement: Select[Any]) -> Iterator[Rows]:
        found = self._connection.execution_options(yield_per=_AT_ONCE).execute(statement).mappings()
        for part in found.partitions():
            yield [dict(row) for row in part]


@contextmanager
def read_snapshot(url: URL) -> Iterator[Snapshot]:
    """A store whose tables are up to date, as it is at one moment; writers go on meanwhile.

    Raises:
        ArtefactError: its tables are not up to date.
        SQLAlchemyError: it does not answer.

    """
    engine = connect(url, is_patient=True)  # a long table takes longer than a request may
    try:
        upgrading.check(engine)
        # of SQLite's transactions each sees one moment, of PostgreSQL's those that ask for it
        level = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}
        with engine.connect().execution_options(**level) as connection:
            yield Snapshot(connection)
    finally:
        engine.dispose()
