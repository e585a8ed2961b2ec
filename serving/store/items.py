"""Items as callers put, change or withdraw them; replicas read on from the last change that they know."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Row, bindparam, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from serving.store.schema import items

Fields = dict[str, Any]
_SINCE = (
    select(items)
    .where(items.c.change > bindparam("change"))
    .order_by(items.c.change)
    .limit(bindparam("most"))
)
_ONE = select(items).where(items.c.item_id == bindparam("wanted"))
_TOUCH = update(items).where(items.c.item_id == "").values(change=items.c.change)
_LAST = select(func.coalesce(func.max(items.c.change), 0))


@dataclass(frozen=True)
class StoredItem:
    """What callers have said of one item.

    Attributes:
        item_id: which.
        change: number of its last change; larger than all before it.
        fields: column to value; None: it is withdrawn.
        is_whole: these fields are all there is; otherwise they take the place of those of a build.
        updated_at: seconds since 1970, UTC.

    """

    item_id: str
    change: int
    fields: Fields | None
    is_whole: bool
    updated_at: float


class ItemChanges:
    """The items of one store.

    Args:
        engine: of a store whose tables are up to date.
        alone: makes a transaction the only one that writes in PostgreSQL, so that changes are numbered in the order in
            which they can be read, and of two changes of one item the second knows the first.

    """

    def __init__(self, engine: Engine, alone: Callable[[Connection], None]) -> None:
        """See the class."""
        self._engine = engine
        self._alone = alone
        self._insert = (postgresql if engine.dialect.name == "postgresql" else sqlite).insert

    def put(self, item_id: str, fields: Mapping[str, Any]) -> None:
        """Write down all that there is to an item, in place of what there was."""
        with self._engine.begin() as connection:
            self._begin(connection)
            self._write(connection, item_id, dict(fields), is_whole=True)

    def patch(self, item_id: str, fields: Mapping[str, Any], *, is_known: bool) -> bool:
        """Write down some fields of an item, beside what was said of it before.

        Args:
            item_id: which.
            fields: the new ones.
            is_known: whether a build knows the item.

        Returns:
            Whether there is such an item; if not, nothing is written.

        """
        with self._engine.begin() as connection:
            self._begin(connection)
            row = connection.execute(_ONE, {"wanted": item_id}).first()
            there = None if row is None else _item(row)
            if (there is None and not is_known) or (there is not None and there.fields is None):
                return False
            said = {} if there is None or there.fields is None else there.fields
            self._write(
                connection, item_id, said | dict(fields), is_whole=there is not None and there.is_whole
            )
        return True

    def withdraw(self, item_id: str) -> None:
        """Note that an item is to be shown no more; what was said of it is deleted."""
        with self._engine.begin() as connection:
            self._begin(connection)
            self._write(connection, item_id, None, is_whole=True)

    def get(self, item_id: str) -> StoredItem | None:
        """What is stored of an item; None: nothing."""
        with self._engine.connect() as connection:
            row = connection.execute(_ONE, {"wanted": item_id}).first()
        return None if row is None else _item(row)

    def since(self, change: int, most: int) -> list[StoredItem]:
        """The items that have changed after a change, at most so many, in the order of their last changes."""
        with self._engine.connect() as connection:
            return [_item(row) for row in connection.execute(_SINCE, {"change": change, "most": most})]

    def _begin(self, connection: Connection) -> None:
        self._alone(connection)
        # SQLite lets a transaction that reads before it writes fail where another was faster: this writes nothing
        connection.execute(_TOUCH)

    def _write(self, connection: Connection, item_id: str, fields: Fields | None, *, is_whole: bool) -> None:
        values = {
            "change": connection.execute(_LAST).scalar_one() + 1,
            "fields": None if fields is None else json.dumps(fields, ensure_ascii=False, allow_nan=False),
            "is_whole": is_whole,
            "updated_at": time.time(),
        }
        connection.execute(
            self._insert(items)
            .values(item_id=item_id, **values)
            .on_conflict_do_update(index_elements=[items.c.item_id], set_=values)
        )


def _item(row: Row[Any]) -> StoredItem:
    fields = None if row.fields is None else json.loads(row.fields)
    return StoredItem(row.item_id, row.change, fields, bool(row.is_whole), row.updated_at)
