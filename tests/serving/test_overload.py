"""More requests than can be answered: the rest is told so at once, nobody waits for ever, and it passes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from pipelines.core.config import ServeConfig
from pipelines.core.encoder import Encoder
from serving.api import create_app
from serving.metrics import Meters
from serving.recommender import Recommender
from serving.requests import Recommended, Request
from tests.serving.databases import file_store
from tests.serving.shop import Shop
from tests.serving.test_api import check_answer, check_problem


class Held(Recommender):
    """The real one, whose answers can be held up."""

    def __init__(self, root: Path, encoder: Encoder) -> None:
        """Let through."""
        super().__init__(root, encoder)
        self.gate = threading.Event()
        self.gate.set()
        self.n_asked = 0

    def recommend_many(self, requests: Sequence[Request]) -> list[list[Recommended]]:  # type: ignore[override]
        """Once the gate is open."""
        assert self.gate.wait(30)
        self.n_asked += len(requests)
        return super().recommend_many(requests)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def held(shop: Shop, encoder: Encoder) -> Held:
    return Held(shop.bundle, encoder)


def make_app(held: Held, folder: Path, **values: float) -> tuple[FastAPI, Meters]:
    meters = Meters()
    settings = ServeConfig.model_validate(values)
    return create_app(lambda: held, file_store(folder), settings, meters=meters), meters


def refused(meters: Meters) -> dict[str, float]:
    """How many by each reason, of those there were."""
    name = "kindling_requests_refused_total"
    return {s.labels["reason"]: s.value for s in meters.samples() if s.name == name and s.value}


def talk(app: FastAPI, what: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Ask the app itself on one loop, as a replica has one."""

    async def run() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            await what(client)

    asyncio.run(run())


def ask(client: httpx.AsyncClient, n: int = 0) -> Awaitable[httpx.Response]:
    return client.post("/v1/recommend", json={"query": f"tea {n}"})


def test_a_flood_is_answered_up_to_the_limits_and_the_rest_refused_at_once(
    held: Held, tmp_path: Path
) -> None:
    app, meters = make_app(
        held, tmp_path, max_ongoing_requests=4, max_queued_requests=6, request_timeout_s=30
    )

    async def flood(client: httpx.AsyncClient) -> None:
        held.gate.clear()
        asked = [asyncio.ensure_future(ask(client, n)) for n in range(200)]
        while sum(task.done() for task in asked) < 190:  # refused though nobody has been answered yet
            await asyncio.sleep(0.01)
        assert (await client.get("/health/ready")).status_code == 200
        assert "kindling_requests_in_progress" in (await client.get("/metrics")).text
        held.gate.set()
        answers = await asyncio.gather(*asked)
        assert Counter(answer.status_code for answer in answers) == {503: 190, 200: 10}
        # those that came first
        assert {answer.status_code for answer in answers[:10]} == {200}
        check_problem(answers[-1], 503, "busy")
        assert answers[-1].headers["Retry-After"] == "1"
        for n in range(12):
            check_answer(await ask(client, n))

    talk(app, flood)
    assert refused(meters) == {"overload": 190}


def test_who_waits_too_long_is_told_and_gives_the_place_up(held: Held, tmp_path: Path) -> None:
    app, meters = make_app(
        held, tmp_path, max_ongoing_requests=2, max_queued_requests=2, request_timeout_s=0.3
    )

    async def wait(client: httpx.AsyncClient) -> None:
        held.gate.clear()
        n_asked = held.n_asked
        for _ in range(3):  # places come back each time, or the third round were refused at once
            for answer in await asyncio.gather(*(ask(client, n) for n in range(4))):
                check_problem(answer, 503, "within 0.3 seconds", "safely be sent again")
                assert answer.headers["Retry-After"] == "1"
        held.gate.set()
        check_answer(await ask(client))
        # those that it began with and this one; of the others nothing was computed, for nobody waited any more
        assert held.n_asked - n_asked <= 3

    talk(app, wait)
    assert refused(meters) == {"timeout": 12}


def test_who_goes_away_gives_the_place_up(held: Held, tmp_path: Path) -> None:
    app, meters = make_app(
        held, tmp_path, max_ongoing_requests=1, max_queued_requests=1, request_timeout_s=30
    )

    async def leave(client: httpx.AsyncClient) -> None:
        held.gate.clear()
        for _ in range(3):
            asked = [asyncio.ensure_future(ask(client, n)) for n in range(2)]
            await asyncio.sleep(0.05)
            for task in reversed(asked):
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        held.gate.set()
        for answer in await asyncio.gather(ask(client), ask(client)):
            check_answer(answer)

    talk(app, leave)
    assert refused(meters) == {}
    assert next(s.value for s in meters.samples() if s.name == "kindling_requests_in_progress") == 0


def test_a_body_that_never_comes_does_not_hold_a_place(held: Held, tmp_path: Path) -> None:
    app, _ = make_app(held, tmp_path, max_ongoing_requests=1, request_timeout_s=0.2)

    async def dribble() -> None:
        sent: list[dict[str, object]] = []

        async def receive() -> dict[str, object]:
            await asyncio.sleep(60)
            raise AssertionError

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/v1/recommend", "raw_path": b"/v1/recommend", "query_string": b"", "root_path": "",
            "headers": [(b"content-type", b"application/json")], "client": ("", 0), "server": ("", 0),
        }  # fmt: skip
        await app(scope, receive, send)  # type: ignore[arg-type]
        assert sent[0]["status"] == 503

    asyncio.run(dribble())


@contextmanager
def served(app: FastAPI) -> Iterator[tuple[str, uvicorn.Server, threading.Thread]]:
    """The app behind a real socket, as a replica serves it."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=20))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    address = server.servers[0].sockets[0].getsockname()
    try:
        yield f"http://127.0.0.1:{address[1]}", server, thread
    finally:
        server.should_exit = True
        thread.join(20)


def test_what_has_begun_is_finished_before_the_service_stops(held: Held, tmp_path: Path) -> None:
    app, _ = make_app(held, tmp_path, request_timeout_s=30)
    statuses: list[int] = []
    with served(app) as (address, server, thread):
        held.gate.clear()
        asking = [
            threading.Thread(
                target=lambda: statuses.append(
                    httpx.post(f"{address}/v1/recommend", json={"query": "tea"}, timeout=30).status_code
                )
            )
            for _ in range(8)
        ]
        for one in asking:
            one.start()
        while "kindling_requests_in_progress 9.0" not in httpx.get(f"{address}/metrics").text:
            time.sleep(0.01)
        server.should_exit = True
        time.sleep(0.3)
        assert thread.is_alive()
        assert statuses == []
        held.gate.set()
        for one in asking:
            one.join(20)
        thread.join(20)
        assert not thread.is_alive()
    assert statuses == [200] * 8
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{address}/health/live")
