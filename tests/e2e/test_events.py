"""Events sent to a running service while its replicas are killed: what was acknowledged is there, once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving.store.connecting import store_url
from serving.store.store import Store
from tests.processes import descendants
from tests.services import service_of

pytestmark = [pytest.mark.ray, pytest.mark.slow]

WRITERS, EACH, KILLS = 4, 5, 3
GIVE_UP_SECONDS = 240


class Writer(threading.Thread):
    """Sends batches one after the other, each again until it is acknowledged, as a careful caller does."""

    def __init__(self, url: str, name: str, item_id: str) -> None:
        """A thread that has not started."""
        super().__init__(name=name)
        self.url, self.item_id = url, item_id
        self.enough = threading.Event()
        self.acknowledged: list[str] = []

    def run(self) -> None:
        """Until it is enough and the last batch is acknowledged."""
        deadline = time.monotonic() + GIVE_UP_SECONDS
        batch = 0
        with httpx.Client(base_url=self.url, timeout=10) as client:
            while not self.enough.is_set() and time.monotonic() < deadline:
                events = [
                    {"event_id": f"{self.name}-{batch}-{k}", "user_id": self.name, "item_id": self.item_id}
                    for k in range(EACH)
                ]
                while not self._send(client, events) and time.monotonic() < deadline:
                    time.sleep(0.2)
                batch += 1

    def _send(self, client: httpx.Client, events: list[dict[str, str]]) -> bool:
        try:
            answer = client.post("/v1/events", json={"events": events})
        except httpx.TransportError:
            return False
        if answer.status_code != 200:
            return False
        assert {e["outcome"] for e in answer.json()["events"]} <= {"stored", "duplicate"}
        self.acknowledged += [e["event_id"] for e in answer.json()["events"]]
        return True


@pytest.fixture
def service(built_copy: Path, tmp_path: Path) -> Iterator[tuple[httpx.Client, int]]:
    with service_of(built_copy, tmp_path, "replicas = 2\n") as (client, process, _):
        yield client, process.pid


def test_no_acknowledged_event_is_lost_when_replicas_are_killed(
    service: tuple[httpx.Client, int], built_copy: Path
) -> None:
    client, pid = service
    popular = client.get("/v1/recommend/stranger").json()["items"]
    writers = [Writer(str(client.base_url), f"writer-{n}", popular[n]["item_id"]) for n in range(WRITERS)]
    for writer in writers:
        writer.start()
    killed: set[int] = set()
    for _ in range(KILLS):
        before = [len(writer.acknowledged) for writer in writers]
        replicas = {p for p, name in descendants(pid) if name.startswith("ray::ServeReplica")} - killed
        victim = replicas.pop()
        os.kill(victim, signal.SIGKILL)
        killed.add(victim)
        deadline = time.monotonic() + GIVE_UP_SECONDS / KILLS
        while any(len(w.acknowledged) < n + 20 * EACH for w, n in zip(writers, before, strict=True)):
            assert time.monotonic() < deadline, "the writers are not served again"
            time.sleep(0.1)
    for writer in writers:
        writer.enough.set()
    for writer in writers:
        writer.join()
    expected = [event for writer in writers for event in writer.acknowledged]
    store = Store(store_url("", built_copy))
    stored = [event.event_id for event in store.read_from(0, 1_000_000)]
    assert sorted(stored) == sorted(expected)

    # and every one of them counts in the next list, whichever replica makes it
    for number, writer in enumerate(writers):
        for _ in range(4):
            answer = client.get(f"/v1/recommend/{writer.name}", params={"explain": True}).json()
            chosen = popular[number]["item_id"]
            assert chosen not in [item["item_id"] for item in answer["items"]]
            assert f"item {chosen}" in answer["items"][0]["parts"]

    _new_item_reaches_every_replica(str(client.base_url))


def _new_item_reaches_every_replica(url: str) -> None:
    """A new item is soon in every answer, whichever replica makes it."""
    words = "Ein Tandem-Kajak, 双人皮划艇"
    httpx.put(f"{url}/v1/items/kayak", json={"fields": {"title": words}}, timeout=10).raise_for_status()
    deadline, running = time.monotonic() + 20, 0
    while running < 20:
        assert time.monotonic() < deadline, "some replica does not know the new item"
        # a connection of its own each time, so that the replicas take turns
        answer = httpx.post(f"{url}/v1/recommend", json={"query": words, "n": 1}, timeout=10).json()
        running = running + 1 if answer["items"][0]["item_id"] == "kayak" else 0
