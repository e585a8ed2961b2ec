"""The log of lists, in both kinds of store: whole, once, gone with its user, and lost only as is said."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from multiprocessing.connection import Connection

import pytest
from sqlalchemy.engine import URL

from pipelines.core.config import ExploreConfig
from serving import logging_lists
from serving.logging_lists import ListLog
from serving.store.impressions import Impression, ShownItem
from serving.store.store import Store, StoredEvent

A, B = "anna", "鲍勃"


def impression(number: int, user: str | None = A, at: float = 1000.0) -> Impression:
    items = [ShownItem(f"物品-{k}", 1.5 - k, 0.25) for k in range(number % 3 + 1)]
    return Impression(f"request-{number:04}", user, at, "v1", "thompson", None, 1, True, items, ["物品-0"])


def lists(store: Store) -> list[Impression]:
    return [found for found, _ in store.impressions.read()]


def test_a_list_is_there_once_and_counted_once(store: Store) -> None:
    given = [impression(n) for n in (0, 1, 2)]
    assert store.impressions.add(given) == 3
    assert (
        store.impressions.add([replace(given[1], model_version="v9"), impression(3, None), impression(3)])
        == 1
    )
    assert lists(store) == [*given, impression(3, None)]
    assert store.impressions.counts_since(0) == {"物品-0": 4, "物品-1": 2, "物品-2": 1}
    assert store.impressions.counts_since(time.time() + 1000) == {}
    assert store.impressions.add([]) == 0


def test_clicks_are_tied_to_lists_by_their_user(store: Store) -> None:
    store.impressions.add([impression(n) for n in range(600)])
    store.add(
        [
            StoredEvent("e1", A, "物品-0", "click", 1.0, None, "request-0555"),
            StoredEvent("e2", B, "物品-0", "click", 1.0, None, "request-0555"),  # not of whoever saw the list
            StoredEvent("e3", A, "物品-1", "click"),
        ]
    )
    found = {seen.request_id: [r.item_id for r in came] for seen, came in store.impressions.read()}
    assert len(found) == 600
    assert {name: came for name, came in found.items() if came} == {"request-0555": ["物品-0"]}


def test_who_is_forgotten_leaves_no_list_and_who_is_merged_takes_them_along(store: Store) -> None:
    store.impressions.add([impression(0), impression(1, B), impression(2)])
    store.merge(A, B)
    assert {seen.user_id for seen in lists(store)} == {A}
    store.forget(A)
    assert lists(store) == []
    # a list that was answered before and waited to be written must not come back; later ones may
    assert store.impressions.add([impression(3), impression(4, B), impression(5, A, time.time() + 1)]) == 2
    assert [seen.request_id for seen in lists(store)] == ["request-0004", "request-0005"]
    counts = store.impressions.counts_since(0)
    assert counts == {
        "物品-0": 5,
        "物品-1": 4,
        "物品-2": 2,
    }  # how often an item was shown says nothing of anybody


def test_old_lists_go(store: Store) -> None:
    store.impressions.add([impression(n, at=float(n)) for n in range(1200)])
    assert store.impressions.prune(1100.0) == 1100
    assert [seen.shown_at for seen in lists(store)] == [float(n) for n in range(1100, 1200)]


def _log(url: URL, acknowledged: Connection) -> None:
    log = ListLog(Store(url).impressions, ExploreConfig(log=True, keep_days=36500))
    for number in range(100_000):
        log.put(impression(number))
        acknowledged.send((number, time.monotonic()))
        time.sleep(0.002)


def test_a_killed_writer_loses_what_waited_and_nothing_by_halves(store: Store, url: URL) -> None:
    context = multiprocessing.get_context("spawn")
    read, write = context.Pipe(duplex=False)
    writer = context.Process(target=_log, args=(url, write))
    writer.start()
    deadline = time.monotonic() + 60
    while len(lists(store)) < 200 and time.monotonic() < deadline:
        time.sleep(0.02)
    written = len(lists(store))
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    write.close()
    put = []
    while True:
        try:
            put.append(read.recv())
        except EOFError:
            break
    there = lists(store)
    assert len(there) >= written >= 200
    assert there == [impression(n) for n in range(len(there))]  # from the first on, none missing, each whole
    counted = store.impressions.counts_since(0)
    assert counted["物品-0"] == len(there)
    assert sum(counted.values()) == sum(len(seen.items) for seen in there)
    assert len(put) > len(there)  # what waited is lost


def test_what_waits_is_written_at_the_end_and_when_the_store_is_back(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging_lists, "_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(logging_lists, "_MOST_WAITING", 30)
    real = store.impressions.add
    is_down = True

    def add(given: list[Impression]) -> int:
        if is_down:
            raise OSError("no such store")
        return real(given)

    monkeypatch.setattr(store.impressions, "add", add)
    log = ListLog(store.impressions, ExploreConfig(log=True, keep_days=36500))
    for number in range(40):
        log.put(impression(number))
    time.sleep(0.5)
    assert lists(store) == []
    is_down = False
    log.close()
    assert len(lists(store)) == 30
    assert "cannot be written" in caplog.text
    assert "10 lists were not logged" in caplog.text
    assert A not in caplog.text


def test_old_lists_go_by_themselves(store: Store) -> None:
    store.impressions.add([impression(0), impression(1, at=time.time())])
    log = ListLog(store.impressions, ExploreConfig(log=True, keep_days=1))
    log.close()
    assert [seen.request_id for seen in lists(store)] == ["request-0001"]
    assert log.shown == {"物品-0": 2, "物品-1": 1}
