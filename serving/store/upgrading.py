"""The store's tables brought to what this program knows, by Alembic's migrations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock
from sqlalchemy import Connection, Engine, text

from pipelines.core.errors import ArtefactError

_LOCK = 0x6B696E646C696E67
"""PostgreSQL's advisory lock of whoever migrates."""


def upgrade(engine: Engine) -> None:
    """Bring the tables up to date, one program at a time; nothing to do where they are.

    Raises:
        ArtefactError: a newer program has made them.

    """
    with _alone(engine), engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        _check_known(connection)
        command.upgrade(config, "head")


def check(engine: Engine) -> None:
    """See that the tables are those that this program knows.

    Raises:
        ArtefactError: they are older or newer, or there are none.

    """
    with engine.connect() as connection:
        found = _check_known(connection)
    if found != _newest():
        raise ArtefactError(
            f"the store {engine.url!r} has tables of version {found or 'none'}, this program wants {_newest()}. "
            "`kindling serve` brings them up to date when it starts."
        )


def _check_known(connection: Connection) -> str | None:
    found = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in _scripts().walk_revisions()}
    if found is not None and found not in known:
        raise ArtefactError(
            f"the store {connection.engine.url!r} has tables of version {found}, this program knows {_newest()} at "
            "most: a newer Kindling has made them. Install that, or give this one a store of its own."
        )
    return found


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _newest() -> str:
    head = _scripts().get_current_head()
    assert head is not None  # noqa: S101 - there are migrations
    return head


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    if engine.dialect.name == "sqlite":
        with FileLock(f"{engine.url.database}.lock"):
            yield
        return
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
