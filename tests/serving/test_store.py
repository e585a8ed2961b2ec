"""The store, of both kinds: nothing acknowledged is lost, nothing is there twice, and who is forgotten is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from alembic import op
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from pipelines.core.errors import ArtefactError, ConfigError
from serving.store.connecting import connect, store_url
from serving.store.schema import metadata
from serving.store.store import Store, StoredEvent, open_store
from serving.store.upgrading import upgrade
from tests.serving.databases import file_store

A, B = "anna", "鲍勃"


def events(*numbers: int, user: str = A) -> list[StoredEvent]:
    return [StoredEvent(f"e{n}", user, f"item-{n}", "click", 1.5, 1000.0 + n) for n in numbers]


def test_what_is_added_is_there_once(store: Store) -> None:
    assert store.add(events(1, 2)) == ["stored", "stored"]
    assert store.add(events(2, 3)) == ["duplicate", "stored"]
    assert store.add(events(4, 4)) == ["stored", "duplicate"]
    assert store.people([A], 10)[A].events == events(1, 2, 3, 4)


def test_an_id_that_comes_again_with_something_else_stays_what_it_was(store: Store) -> None:
    store.add(events(1))
    assert store.add(events(1, user=B)) == ["conflict"]
    assert store.add([*events(2), *events(2, user=B)]) == ["stored", "conflict"]
    found = store.people([A, B], 10)
    assert found[A].events == events(1, 2)
    assert found[B].events == []


def test_all_of_a_batch_or_none(store: Store) -> None:
    broken = StoredEvent("e2", A, None)  # type: ignore[arg-type]
    with pytest.raises(SQLAlchemyError):
        store.add([*events(1), broken])
    assert store.people([A], 10)[A].events == []


def test_a_file_that_has_gone_takes_nothing(tmp_path: Path) -> None:
    """By itself SQLite would go on writing to it, and tell of events as stored that nobody will ever read."""
    store, path, kept = file_store(tmp_path), tmp_path / "store.sqlite", tmp_path / "kept.sqlite"
    store.add(events(1))
    path.rename(kept)
    for _ in range(2):
        with pytest.raises(SQLAlchemyError):
            store.add(events(2))
        with pytest.raises(SQLAlchemyError):
            store.people([A], 10)
    assert not path.exists()
    kept.rename(path)  # as somebody puts it back
    assert store.add(events(2)) == ["stored"]
    assert store.people([A], 10)[A].events == events(1, 2)
    store.close()


def test_more_than_one_statement_takes(store: Store) -> None:
    assert set(store.add(events(*range(2500)))) == {"stored"}
    assert store.add(events(*range(2499, 2501))) == ["duplicate", "stored"]
    assert len(store.people([A], 5000)[A].events) == 2501


def test_the_newest_of_each_user_oldest_first(store: Store) -> None:
    store.add([*events(1, 2, 3), *events(4, 5, user=B), *events(6)])
    found = store.people([A, B, "nobody"], 2)
    assert found[A].events == events(3, 6)
    assert found[B].events == events(4, 5, user=B)
    assert (found["nobody"].events, found["nobody"].description) == ([], None)
    assert store.people([], 2) == {}


@pytest.mark.parametrize(
    "name", ["x" * 512, "用户" * 256, "🏔" * 512, "a'b\"; DROP TABLE events; --", " ", "%_\\"]
)
def test_any_id(store: Store, name: str) -> None:
    given = [StoredEvent(name, name, name, None, 1e6)]
    assert store.add(given) == ["stored"]
    assert store.add(given) == ["duplicate"]
    store.put_user(name, name)
    assert store.people([name], 10)[name].events == given
    assert store.people([name], 10)[name].description == name
    assert store.forget(name) == 1


def test_what_a_user_says_replaces_what_they_said(store: Store) -> None:
    for said in ("I hike", "我喜欢喝茶"):
        store.put_user(A, said)
        assert store.people([A], 1)[A].description == said


def test_who_is_forgotten_may_come_back(store: Store) -> None:
    store.add([*events(1, 2), *events(3, user=B)])
    store.put_user(A, "I hike")
    assert store.forget(A) == 2
    assert store.forget(A) == 0
    found = store.people([A, B], 10)
    assert (found[A].events, found[A].description, found[A].forgotten_at is not None) == ([], None, True)
    assert (found[B].events, found[B].forgotten_at) == (events(3, user=B), None)
    assert store.add(events(1)) == ["stored"]
    assert store.people([A], 10)[A].forgotten_at  # by what is published; what they do now counts


def test_nothing_of_the_forgotten_is_left_in_the_files(tmp_path: Path) -> None:
    url = URL.create("sqlite", database=str(tmp_path / "store.sqlite"))
    store, name, words = open_store(url), "somebody-to-forget", "fond of zeppelins"
    store.add([StoredEvent(f"{name}-{n}", name, "item", None) for n in range(500)])
    store.put_user(name, words)

    def found() -> bool:
        return any(w.encode() in path.read_bytes() for path in tmp_path.iterdir() for w in (name, words))

    assert found()
    store.forget(name)
    assert not found()


def test_reading_on_from_a_number(store: Store) -> None:
    store.add(events(*range(5)))
    first = list(store.read_from(0, 3))
    rest = list(store.read_from(first[-1].seq, 3))
    assert [*first, *rest] == events(*range(5))
    store.forget(A)
    store.add(events(7, user=B))
    (late,) = store.read_from(rest[-1].seq, 3)  # a number is not given twice
    assert late.seq > rest[-1].seq


def _write(url: URL, name: str, acknowledged: Connection) -> None:
    store = Store(url)
    for n in range(10_000):
        batch = [StoredEvent(f"{name}-{n}-{k}", name, "item", "click") for k in range(5)]
        assert store.add(batch) == ["stored"] * 5
        acknowledged.send(n)


def test_writers_killed_at_any_moment_lose_nothing_acknowledged(url: URL) -> None:
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe(duplex=False) for _ in range(3)]
    writers = [
        context.Process(target=_write, args=(url, f"w{n}", write)) for n, (_, write) in enumerate(pipes)
    ]
    for writer in writers:
        writer.start()
    acknowledged = [-1] * 3
    deadline = time.monotonic() + 60
    while min(acknowledged) < 20 and time.monotonic() < deadline:
        for n, (read, _) in enumerate(pipes):
            while read.poll(0.01):
                acknowledged[n] = read.recv()
    for writer in writers:
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    assert min(acknowledged) >= 20
    for n, (read, write) in enumerate(pipes):
        write.close()
        while True:
            try:
                acknowledged[n] = read.recv()
            except EOFError:
                break
    found = Store(url).people(["w0", "w1", "w2"], 1_000_000)
    for n, last in enumerate(acknowledged):
        there = [event.event_id for event in found[f"w{n}"].events]
        assert len(there) == len(set(there))
        assert set(there) >= {f"w{n}-{batch}-{k}" for batch in range(last + 1) for k in range(5)}
        assert len(there) % 5 == 0  # a batch is there as a whole
        assert len(there) <= 5 * (last + 2)  # the one in progress may be there too


def test_the_same_event_from_many_at_once_is_one(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        outcomes = [
            o for found in pool.map(lambda _: store.add(events(*range(20))), range(16)) for o in found
        ]
    assert outcomes.count("stored") == 20
    assert outcomes.count("duplicate") == 15 * 20


def test_tables_are_made_by_one_of_many_that_start(empty_url: URL) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: upgrade(connect(empty_url)), range(8)))
    assert Store(empty_url).add(events(1)) == ["stored"]


def test_migrations_make_what_the_program_expects(url: URL) -> None:
    with connect(url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_store_without_tables_is_refused(empty_url: URL) -> None:
    with pytest.raises(ArtefactError, match="version none, this program wants"):
        Store(empty_url)


def test_a_store_of_a_newer_program_is_refused(url: URL) -> None:
    engine = connect(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for use in (Store, lambda url: upgrade(connect(url))):
        with pytest.raises(ArtefactError, match="version 9999, this program knows"):
            use(url)


def test_a_migration_that_breaks_off_is_done_again(empty_url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    create_index = op.create_index

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(op, "create_index", fail)
    with pytest.raises(KeyboardInterrupt):
        open_store(empty_url)
    monkeypatch.setattr(op, "create_index", create_index)
    assert open_store(empty_url).add(events(1)) == ["stored"]


def test_a_reader_in_the_way_puts_off_emptying_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = URL.create("sqlite", database=str(tmp_path / "store.sqlite"))
    store = open_store(url)
    store.add(events(1, 2))
    with connect(url).connect() as reader:
        reader.execute(text("SELECT * FROM events")).first()
        assert store.forget(A) == 2
        assert "could not be emptied" in caplog.text
    Store(url)  # the next start
    assert all(A.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_numbers_come_in_the_order_in_which_they_can_be_read(store: Store, url: URL) -> None:
    """What commits late has no lower number than what was read before."""
    seen: list[int] = []
    with ThreadPoolExecutor(4) as pool:
        writing = [
            pool.submit(lambda w: [Store(url).add(events(100 * w + n, user=f"w{w}")) for n in range(25)], w)
            for w in range(4)
        ]
        while not all(future.done() for future in writing) or len(seen) < 100:
            seen += [event.seq for event in store.read_from(seen[-1] if seen else 0, 1000)]
    assert len(seen) == 100
    assert seen == sorted(seen)


def test_batches_of_the_same_events_in_another_order(store: Store, url: URL) -> None:
    given = events(*range(1100))  # two statements
    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            both = list(pool.map(lambda batch: Store(url).add(batch), (given, given[::-1])))
            assert set(both[0]) | set(both[1]) <= {"stored", "duplicate"}


def test_the_files_are_their_owners(tmp_path: Path) -> None:
    open_store(URL.create("sqlite", database=str(tmp_path / "store.sqlite"))).add(events(1))
    for path in tmp_path.glob("store.sqlite*"):
        assert path.suffix == ".lock" or path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize(
    "address", ["sqlite:////nonexistent/dir/x.sqlite", "postgresql+psycopg://nobody@127.0.0.1:1/x"]
)
def test_a_store_that_cannot_be_had_is_a_clear_message(address: str) -> None:
    with pytest.raises(ArtefactError, match="cannot be opened"):
        open_store(make_url(address))


def test_where_the_store_is(tmp_path: Path) -> None:
    assert store_url("", tmp_path).database == str(tmp_path / "store.sqlite")
    assert store_url("sqlite:////a/b.sqlite", tmp_path).database == "/a/b.sqlite"
    assert store_url("postgresql://me@host/shop", tmp_path).drivername == "postgresql+psycopg"
    for setting in (
        "mysql://host/shop",
        "nonsense",
        "postgresql://host",
        "sqlite://",
        "sqlite:///rel.sqlite",
        "sqlite:///:memory:",
        "sqlite+aiosqlite:////x",
    ):
        with pytest.raises(ConfigError, match="expected sqlite"):
            store_url(setting, tmp_path)
    for setting in (
        "postgresql://me:secret@host/shop",
        "postgresql://me@host/shop?password=secret",
        "postgresql://me@host/shop?sslpassword=secret",
    ):
        with pytest.raises(ConfigError, match="PGPASSWORD") as caught:
            store_url(setting, tmp_path)
        assert "secret" not in str(caught.value)
