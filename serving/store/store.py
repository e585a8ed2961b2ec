"""What the service writes down, in SQLite or PostgreSQL, by the same statements.

What a method returns from has been written durably: a process or a machine may be lost the moment after. Any number of
processes use one store.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import (
    BindParameter,
    Row,
    bindparam,
    delete,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import SQLAlchemyError

from pipelines.core.errors import ArtefactError
from pipelines.core.forgetting import user_hash
from serving.steps import is_step, step
from serving.store import exposing, upgrading
from serving.store.connecting import WAIT_SECONDS, connect, make_private
from serving.store.experiments import Experiments
from serving.store.forgetting import Forgetting
from serving.store.impressions import Impressions
from serving.store.items import ItemChanges
from serving.store.keys import Keys
from serving.store.schema import events, forgotten, identity, users

Outcome = Literal["stored", "duplicate", "conflict"]
_ROWS_AT_ONCE = 1000
"""Of one statement; SQLite takes 32,766 values."""
_LOG_WAIT_MS = 500
log = logging.getLogger(__name__)


# made once: putting a statement together takes as long as asking it
_wanted: BindParameter[Any] = bindparam("wanted", expanding=True)
_BY_ID = select(events).where(events.c.event_id.in_(_wanted))
_NEWEST = (
    select(events)
    .where(events.c.user_id == bindparam("user_id"))
    .order_by(events.c.seq.desc())
    .limit(bindparam("most"))
)
_NEWEST_OF = (
    select(events)
    .where(events.c.item_id == bindparam("item_id"))
    .order_by(events.c.seq.desc())
    .limit(bindparam("most"))
)
_ONE_WRITER = text("SELECT pg_advisory_xact_lock(7310034283826791012)")
_SAID = select(users.c.user_id, users.c.description).where(users.c.user_id.in_(_wanted))
_GONE = select(forgotten.c.user_hash, forgotten.c.forgotten_at).where(forgotten.c.user_hash.in_(_wanted))


@dataclass(frozen=True)
class StoredEvent:
    """One thing somebody did.

    Attributes:
        event_id: the caller's name for it; the same id is the same event.
        user_id: who.
        item_id: with what; it need not be known to any version.
        event: kind, see data.event_weights; None: counts as weight 1.
        weight: times the kind's weight.
        occurred_at: seconds since 1970, UTC; None: when it is received.
        request_id: of the list that it came of; None: not told.
        seq: its number in the store; 0: it has none yet.

    """

    event_id: str
    user_id: str
    item_id: str
    event: str | None = None
    weight: float = 1.0
    occurred_at: float | None = None
    request_id: str | None = None
    seq: int = field(default=0, compare=False)


@dataclass
class Person:
    """What is stored of one user.

    Attributes:
        description: what they say of themselves; None: nothing is stored.
        forgotten_at: what a published version knows of them from before must not be used; None: they never were.
        events: the newest, oldest first.
        store_id: of the store that says so.
        passed: items that were shown to them, see `Request.passed`; filled in by whoever wants it.

    """

    description: str | None = None
    forgotten_at: float | None = None
    events: list[StoredEvent] = field(default_factory=list)
    store_id: str = ""
    passed: dict[str, float] = field(default_factory=dict)


class Store:
    """See the module."""

    def __init__(self, url: URL) -> None:
        """Connect to a store whose tables are up to date.

        Raises:
            ArtefactError: they are not.

        """
        self._engine = connect(url)
        upgrading.check(self._engine)
        self.keys = Keys(self._engine)
        self.experiments = Experiments(self._engine)
        self.impressions = Impressions(self._engine)
        self.forgotten = Forgetting(self._engine)
        self._is_postgresql = self._engine.dialect.name == "postgresql"
        self.items = ItemChanges(self._engine, self._alone)
        self._insert = (postgresql if self._is_postgresql else sqlite).insert
        with self._engine.connect() as connection:
            self.store_id: str = connection.execute(select(identity.c.store_id)).scalar_one()
        self._empty_log()

    def close(self) -> None:
        """Give connections back."""
        self._engine.dispose()

    @is_step("write_events")
    def add(self, given: Sequence[StoredEvent]) -> list[Outcome]:
        """Write events down, all of them or, where this raises, none.

        Returns:
            For each: stored; duplicate where its id was here with the same content; conflict where it was here with
            another, which stays.

        """
        now = time.time()
        rows = [{n: v for n, v in vars(e).items() if n != "seq"} | {"received_at": now} for e in given]
        fresh: set[str] = set()
        with self._engine.begin() as connection:
            self._alone(connection)
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                statement = (
                    self._insert(events)
                    .values(rows[start : start + _ROWS_AT_ONCE])
                    .on_conflict_do_nothing(index_elements=[events.c.event_id])
                    .returning(events.c.event_id)
                )
                fresh.update(connection.execute(statement).scalars())
            there = {e.event_id: e for e in self._by_id(connection, [e.event_id for e in given])}
        outcomes: list[Outcome] = []
        for e in given:
            if there.get(e.event_id, e) != e:  # gone where somebody was forgotten between the two statements
                outcomes.append("conflict")
            else:
                outcomes.append("stored" if e.event_id in fresh else "duplicate")
                fresh.discard(e.event_id)  # the same once more in this batch
        return outcomes

    def _alone(self, connection: Connection) -> None:
        """Be the only writer, as whoever writes is in SQLite: numbers come in the order in which they can be read.

        And two batches of the same events do not wait for each other for ever.
        """
        if self._is_postgresql:
            connection.execute(_ONE_WRITER)

    def people(self, user_ids: Sequence[str], most: int) -> dict[str, Person]:
        """What is stored of these users, and of each the newest `most` events."""
        found = {user_id: Person(store_id=self.store_id) for user_id in user_ids}
        wanted = list(found)
        with step("look_up", len(wanted)), self._engine.connect() as connection:
            for user_id in wanted:  # one after the other: a limit for each, whatever they have
                rows = connection.execute(_NEWEST, {"user_id": user_id, "most": most}).all()
                found[user_id].events = [_event(row) for row in reversed(rows)]
            for user_id, description in connection.execute(_SAID, {"wanted": wanted}):
                found[user_id].description = description
            hashes = {user_hash(user_id): user_id for user_id in wanted}
            for hashed, moment in connection.execute(_GONE, {"wanted": list(hashes)}):
                found[hashes[hashed]].forgotten_at = moment
        return found

    @is_step("change_user")
    def put_user(self, user_id: str, description: str) -> None:
        """Write down what a user says of themselves, in place of what they said."""
        values = {"description": description, "updated_at": time.time()}
        statement = self._insert(users).values(user_id=user_id, **values)
        with self._engine.begin() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=[users.c.user_id], set_=values))

    @is_step("change_user")
    def merge(self, user_id: str, former_id: str) -> int:
        """Give a user all that is stored of another, who then is nobody: a visitor who has logged in.

        What the user says of themselves stays; what the visitor said takes its place only where there is nothing. Moved
        events get new numbers: a version that knows all events up to a number does not know these of this user.

        Returns:
            Number of events that have moved.

        """
        with self._engine.begin() as connection:
            self._alone(connection)
            moved = self._move_events(connection, user_id, former_id)
            self.impressions.move(connection, user_id, former_id)
            said = connection.execute(select(users).where(users.c.user_id == former_id)).first()
            if said is not None:
                connection.execute(
                    self._insert(users)
                    .values(user_id=user_id, description=said.description, updated_at=said.updated_at)
                    .on_conflict_do_nothing(index_elements=[users.c.user_id])
                )
                connection.execute(delete(users).where(users.c.user_id == former_id))
            exposing.merge(connection, user_id, former_id)
        return moved

    def _move_events(self, connection: Connection, user_id: str, former_id: str) -> int:
        theirs = events.c.user_id == former_id
        # a statement that writes comes first: see `ItemChanges._begin`
        connection.execute(update(events).where(events.c.event_id == "").values(user_id=user_id))
        rows = connection.execute(select(events).where(theirs).order_by(events.c.seq)).mappings().all()
        connection.execute(delete(events).where(theirs))
        moved = [{n: v for n, v in row.items() if n != "seq"} | {"user_id": user_id} for row in rows]
        for start in range(0, len(moved), _ROWS_AT_ONCE):
            connection.execute(self._insert(events).values(moved[start : start + _ROWS_AT_ONCE]))
        return len(moved)

    @is_step("change_user")
    def forget(self, user_id: str) -> int:
        """Delete what is stored of a user, and note that what is published of them must not be used.

        Returns:
            Number of events deleted.

        """
        with self._engine.begin() as connection:
            # the note first: whoever asks meanwhile finds too little rather than too much
            now = {"forgotten_at": time.time()}
            connection.execute(
                self._insert(forgotten)
                .values(user_hash=user_hash(user_id), **now)
                .on_conflict_do_update(index_elements=[forgotten.c.user_hash], set_=now)
            )
            deleted = connection.execute(delete(events).where(events.c.user_id == user_id)).rowcount
            connection.execute(delete(users).where(users.c.user_id == user_id))
            exposing.forget(connection, user_id)
            self.impressions.forget(connection, user_id)
        self._empty_log()
        return deleted

    def _empty_log(self) -> None:
        """In SQLite what was deleted is in the log beside the file until the log is emptied, which readers put off."""
        if self._is_postgresql:
            return
        connection = self._engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout={_LOG_WAIT_MS}")
            (is_busy, _, _) = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            cursor.execute(f"PRAGMA busy_timeout={1000 * WAIT_SECONDS}")
            if is_busy:
                log.warning("the store's log could not be emptied; the next deletion or start tries again")
        finally:
            connection.close()

    def who_had(self, item_ids: Sequence[str], most: int) -> dict[str, list[StoredEvent]]:
        """The newest events of each of these items, at most so many each, oldest first."""
        found: dict[str, list[StoredEvent]] = {}
        with self._engine.connect() as connection:
            for item_id in item_ids:
                rows = connection.execute(_NEWEST_OF, {"item_id": item_id, "most": most}).all()
                found[item_id] = [_event(row) for row in reversed(rows)]
        return found

    def read_from(self, seq: int, most: int) -> Iterator[StoredEvent]:
        """At most so many events with numbers above `seq`, in their order."""
        statement = select(events).where(events.c.seq > seq).order_by(events.c.seq).limit(most)
        with self._engine.connect() as connection:
            for row in connection.execute(statement):
                yield _event(row)

    def _by_id(self, connection: Connection, event_ids: Sequence[str]) -> Iterator[StoredEvent]:
        wanted = list(dict.fromkeys(event_ids))
        for start in range(0, len(wanted), _ROWS_AT_ONCE):
            values = {"wanted": wanted[start : start + _ROWS_AT_ONCE]}
            yield from map(_event, connection.execute(_BY_ID, values))


def _event(row: Row[Any]) -> StoredEvent:
    return StoredEvent(
        row.event_id,
        row.user_id,
        row.item_id,
        row.event,
        row.weight,
        row.occurred_at,
        row.request_id,
        row.seq,
    )


def open_store(url: URL) -> Store:
    """The store, its tables made or brought up to date first.

    Raises:
        ArtefactError: a newer program has made them, or there is no store to be had.

    """
    if url.get_backend_name() == "sqlite":
        make_private(Path(str(url.database)))
    engine = connect(url, is_patient=True)
    try:
        upgrading.upgrade(engine)
        return Store(url)
    except SQLAlchemyError as e:
        raise ArtefactError(f"the store {url!r} cannot be opened: {e.__cause__ or e}") from e
    finally:
        engine.dispose()
