"""What the service writes down, in SQLite or PostgreSQL, by the same statements.

What a method returns from has been written durably: a process or a machine may be lost the moment after. Any number of
processes use one store.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import (
    BindParameter,
    Engine,
    Row,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError

from pipelines.core.errors import ConfigError
from serving.store import upgrading
from serving.store.keys import Keys
from serving.store.schema import events, forgotten, users

Outcome = Literal["stored", "duplicate", "conflict"]
_ROWS_AT_ONCE = 1000
"""Of one statement; SQLite takes 32,766 values."""
_WAIT_SECONDS = 10
"""For another writer of SQLite, or a connection to PostgreSQL."""


# made once: putting a statement together takes as long as asking it
_wanted: BindParameter[Any] = bindparam("wanted", expanding=True)
_BY_ID = select(events).where(events.c.event_id.in_(_wanted))
_numbered = (
    select(
        events,
        func.row_number().over(partition_by=events.c.user_id, order_by=events.c.seq.desc()).label("place"),
    )
    .where(events.c.user_id.in_(_wanted))
    .subquery()
)
_NEWEST = select(_numbered).where(_numbered.c.place <= bindparam("most")).order_by(_numbered.c.seq)
_SAID = select(users.c.user_id, users.c.description).where(users.c.user_id.in_(_wanted))
_GONE = select(forgotten.c.user_hash).where(forgotten.c.user_hash.in_(_wanted))


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

    """

    event_id: str
    user_id: str
    item_id: str
    event: str | None = None
    weight: float = 1.0
    occurred_at: float | None = None


@dataclass
class Person:
    """What is stored of one user.

    Attributes:
        description: what they say of themselves; None: nothing is stored.
        is_forgotten: what a published version knows of them must not be used.
        events: the newest, oldest first.

    """

    description: str | None = None
    is_forgotten: bool = False
    events: list[StoredEvent] = field(default_factory=list)


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
        self._insert = (postgresql if self._engine.dialect.name == "postgresql" else sqlite).insert

    def close(self) -> None:
        """Give connections back."""
        self._engine.dispose()

    def add(self, given: Sequence[StoredEvent]) -> list[Outcome]:
        """Write events down, all of them or, where this raises, none.

        Returns:
            For each: stored; duplicate where its id was here with the same content; conflict where it was here with
            another, which stays.

        """
        now = time.time()
        rows = [vars(e) | {"received_at": now} for e in given]
        fresh: set[str] = set()
        with self._engine.begin() as connection:
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

    def people(self, user_ids: Sequence[str], most: int) -> dict[str, Person]:
        """What is stored of these users, and of each the newest `most` events."""
        found = {user_id: Person() for user_id in user_ids}
        wanted = list(found)
        with self._engine.connect() as connection:
            for row in connection.execute(_NEWEST, {"wanted": wanted, "most": most}):
                found[row.user_id].events.append(_event(row))
            for user_id, description in connection.execute(_SAID, {"wanted": wanted}):
                found[user_id].description = description
            hashes = {user_hash(user_id): user_id for user_id in wanted}
            for hashed in connection.execute(_GONE, {"wanted": list(hashes)}).scalars():
                found[hashes[hashed]].is_forgotten = True
        return found

    def put_user(self, user_id: str, description: str) -> None:
        """Write down what a user says of themselves, in place of what they said."""
        values = {"description": description, "updated_at": time.time()}
        statement = self._insert(users).values(user_id=user_id, **values)
        with self._engine.begin() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=[users.c.user_id], set_=values))

    def merge(self, user_id: str, former_id: str) -> int:
        """Give a user all that is stored of another, who then is nobody: a visitor who has logged in.

        What the user says of themselves stays; what the visitor said takes its place only where there is nothing.

        Returns:
            Number of events that have moved.

        """
        with self._engine.begin() as connection:
            moved = connection.execute(
                update(events).where(events.c.user_id == former_id).values(user_id=user_id)
            ).rowcount
            said = connection.execute(select(users).where(users.c.user_id == former_id)).first()
            if said is not None:
                connection.execute(
                    self._insert(users)
                    .values(user_id=user_id, description=said.description, updated_at=said.updated_at)
                    .on_conflict_do_nothing(index_elements=[users.c.user_id])
                )
                connection.execute(delete(users).where(users.c.user_id == former_id))
        return moved

    def forget(self, user_id: str) -> int:
        """Delete what is stored of a user, and note that what is published of them must not be used.

        Returns:
            Number of events deleted.

        """
        with self._engine.begin() as connection:
            # the note first: whoever asks meanwhile finds too little rather than too much
            connection.execute(
                self._insert(forgotten)
                .values(user_hash=user_hash(user_id), forgotten_at=time.time())
                .on_conflict_do_nothing(index_elements=[forgotten.c.user_hash])
            )
            deleted = connection.execute(delete(events).where(events.c.user_id == user_id)).rowcount
            connection.execute(delete(users).where(users.c.user_id == user_id))
        if self._engine.dialect.name == "sqlite":
            with (
                self._engine.connect() as connection
            ):  # until then what was deleted is in the log beside the file
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return deleted

    def read_from(self, seq: int, most: int) -> Iterator[tuple[int, StoredEvent]]:
        """At most so many events with numbers above `seq`, in their order."""
        statement = select(events).where(events.c.seq > seq).order_by(events.c.seq).limit(most)
        with self._engine.connect() as connection:
            for row in connection.execute(statement):
                yield row.seq, _event(row)

    def _by_id(self, connection: Connection, event_ids: Sequence[str]) -> Iterator[StoredEvent]:
        wanted = list(dict.fromkeys(event_ids))
        for start in range(0, len(wanted), _ROWS_AT_ONCE):
            values = {"wanted": wanted[start : start + _ROWS_AT_ONCE]}
            yield from map(_event, connection.execute(_BY_ID, values))


def user_hash(user_id: str) -> str:
    """What is kept of the id of somebody who is to be forgotten: enough to know them by when they are met again."""
    return hashlib.sha256(user_id.encode()).hexdigest()


def _event(row: Row[Any]) -> StoredEvent:
    return StoredEvent(row.event_id, row.user_id, row.item_id, row.event, row.weight, row.occurred_at)


def store_url(setting: str, out: Path) -> URL:
    """Where the store is: `serve.store`, or a file of SQLite in the output directory.

    Raises:
        ConfigError: no address of a store, or one with a password in it.

    """
    if not setting:
        return URL.create("sqlite", database=str((out / "store.sqlite").absolute()))
    try:
        url = make_url(setting)
    except ArgumentError:
        url = None
    if url is None or url.get_backend_name() not in ("sqlite", "postgresql") or not url.database:
        raise ConfigError(
            "serve.store: expected sqlite:////absolute/path or postgresql://user@host/database; empty: a file in OUT."
        )
    if url.password or "password" in url.query:
        raise ConfigError(
            "serve.store carries a password, and settings are kept with every build. Leave it out, and give it as "
            "PGPASSWORD or in ~/.pgpass, where PostgreSQL's own programs look for it."
        )
    return url.set(drivername="postgresql+psycopg") if url.get_backend_name() == "postgresql" else url


def open_store(url: URL) -> Store:
    """The store, its tables made or brought up to date first.

    Raises:
        ArtefactError: a newer program has made them.

    """
    engine = connect(url)
    try:
        upgrading.upgrade(engine)
    finally:
        engine.dispose()
    return Store(url)


def connect(url: URL) -> Engine:
    """An engine as this service wants it; connects to nothing yet."""
    if url.get_backend_name() == "postgresql":
        return create_engine(
            url,
            pool_pre_ping=True,
            pool_timeout=_WAIT_SECONDS,
            connect_args={"connect_timeout": _WAIT_SECONDS},
        )
    engine = create_engine(url, connect_args={"timeout": _WAIT_SECONDS})

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: object) -> None:  # noqa: ANN401
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")  # readers do not wait for a writer
        cursor.execute("PRAGMA synchronous=FULL")  # what is committed survives the loss of power
        cursor.execute("PRAGMA secure_delete=ON")  # what is forgotten is overwritten, not only unlinked
        cursor.close()

    return engine
