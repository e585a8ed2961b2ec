"""Where the store is, and connections to it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError

from pipelines.core.errors import ArtefactError, ConfigError

WAIT_SECONDS = 3
"""For another writer, a statement, a connection: less than a request may take."""


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
    if url is not None and (url.password or any("password" in name.lower() for name in url.query)):
        raise ConfigError(
            "serve.store carries a password, and settings are kept with every build. Leave it out, and give it as "
            "PGPASSWORD or in ~/.pgpass, where PostgreSQL's own programs look for it."
        )
    if url is not None and url.database:
        if url.drivername == "sqlite" and Path(url.database).is_absolute():
            return url
        if url.get_backend_name() == "postgresql":
            return url.set(drivername="postgresql+psycopg")
    raise ConfigError(
        "serve.store: expected sqlite:////absolute/path or postgresql://user@host/database; empty: a file in OUT."
    )


def make_private(path: Path) -> None:
    """A file for the owner alone; SQLite gives those beside it the same mode."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as e:
        raise ArtefactError(f"the store {path} cannot be opened: {e.strerror}. Check serve.store.") from e


def connect(url: URL, *, is_patient: bool = False) -> Engine:
    """An engine as this service wants it; connects to nothing yet. A patient one waits for locks without end."""
    if url.get_backend_name() == "postgresql":
        waits: dict[str, Any] = {"connect_timeout": WAIT_SECONDS}
        if not is_patient:
            ms = 1000 * WAIT_SECONDS
            waits |= {"options": f"-c statement_timeout={ms} -c lock_timeout={ms}", "tcp_user_timeout": ms}
        return create_engine(url, pool_pre_ping=True, pool_timeout=WAIT_SECONDS, connect_args=waits)
    engine = create_engine(
        url, pool_timeout=WAIT_SECONDS, connect_args={"timeout": WAIT_SECONDS, "isolation_level": None}
    )

    _hold_to_the_file(engine)

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: object) -> None:  # noqa: ANN401
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")  # readers do not wait for a writer
        cursor.execute("PRAGMA synchronous=FULL")  # what is committed survives the loss of power
        cursor.execute("PRAGMA secure_delete=ON")  # what is forgotten is overwritten, not only unlinked
        cursor.close()

    # Python's module begins no transaction for statements that make tables: half a migration would stay
    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _hold_to_the_file(engine: Engine) -> None:
    """Have connections fail where the file of SQLite has gone, and come back where it has.

    By itself SQLite goes on writing to a file that was deleted, which nobody will ever read, and makes an empty one.
    """
    path = Path(str(engine.url.database))

    @event.listens_for(engine, "connect")
    def _note(_connection: object, record: Any) -> None:  # noqa: ANN401
        record.info["file"] = _identity(path)

    @event.listens_for(engine, "checkout")
    def _compare(_connection: object, record: Any, _proxy: object) -> None:  # noqa: ANN401
        if record.info["file"] != _identity(path):
            raise DisconnectionError("the store's file is another one")

    @event.listens_for(engine, "do_connect")
    def _see(*_arguments: object) -> None:
        if not path.exists():
            raise sqlite3.OperationalError(f"{path} is not there")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
