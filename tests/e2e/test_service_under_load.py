"""One `kindling serve` while much is asked: other versions, broken ones, too many requests, and last its end."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from http.client import HTTPResponse
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipelines.core.bundle import BundlePaths, current_version, point_current
from pipelines.core.config import BlendConfig
from pipelines.core.encoder import Encoder
from pipelines.core.layout import Layout
from pipelines.core.registry.folder import Folder
from serving import proxy
from serving.recommender import Recommender
from serving.requests import Request
from tests.processes import descendants
from tests.services import HAPROXY_WORKS, service_of
from tests.serving.shop import CONFIG, N_ITEMS, build_shop
from tests.serving.test_api import check_problem
from tests.serving.test_holder import add_version, eventually, spoil

pytestmark = [pytest.mark.ray, pytest.mark.slow]

AT_ONCE, WAITING, TOO_MANY = 4, 12, 300
SETTINGS = f"""
max_ongoing_requests = {AT_ONCE}
max_queued_requests = {WAITING}
request_timeout_s = 120
drain_seconds = 60
reload_seconds = 0.2
"""
ASKERS = 8
ASKED = [
    Request(query="waterproof tent", n=5),
    Request(user_text="我喜欢喝茶", n=5),
    Request(user_text="I bake bread", query="flour", n=5),
    Request(user_id="user-000002", n=5),
    Request(user_id="user-000005", query="lamp", n=5),
    Request(user_id="newcomer", n=5),
]
URL = "/v1/recommend"
VERSIONS = "/v1/admin/versions"
Json = dict[str, Any]


def body_of(asked: Request) -> Json:
    named = {"user_id": asked.user_id, "user_text": asked.user_text, "query": asked.query, "n": asked.n}
    return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class Service:
    """The running service, and what each version answers alone, as far as it was asked for."""

    client: httpx.Client
    process: subprocess.Popen[bytes]
    log: Path
    layout: Layout
    encoder: Encoder
    alone: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it is."""
        return str(self.client.base_url)

    def expected(self, version: str) -> list[dict[str, float]]:
        """Of a version without a service: for each of ASKED the scores of all items that may be answered."""
        if version not in self.alone:
            model = Recommender(self.layout.bundle(version), self.encoder)
            self.alone[version] = [
                {item.item_id: item.score for item in model.recommend(replace(asked, n=N_ITEMS))}
                for asked in ASKED
            ]
        return self.alone[version]

    def check(self, number: int, answer: Json) -> str:
        """An answer to `ASKED[number]` is whole, and of the version that it names; returns that."""
        version: str = answer["model_version"]
        scores = self.expected(version)[number]
        items = answer["items"]
        assert [item["rank"] for item in items] == [1, 2, 3, 4, 5]
        # to a few digits, for sums of a batch are not those of a text alone; so are ids, where scores are that near
        best = sorted(scores.values(), reverse=True)[: len(items)]
        assert [item["score"] for item in items] == pytest.approx(best, rel=1e-4)
        assert [scores[item["item_id"]] for item in items] == pytest.approx(best, rel=1e-4)
        return version

    def number(self, name: str, **labels: str) -> float:
        """A number of `/metrics`, over all labels but these."""
        families = text_string_to_metric_families(self.client.get("/metrics").text)
        found = [s for family in families for s in family.samples if s.name == name]
        return sum(s.value for s in found if labels.items() <= s.labels.items())

    def in_progress(self) -> int:
        """Requests that the service has begun, without the one that asks."""
        return int(self.number("kindling_requests_in_progress")) - 1

    def replica(self) -> int:
        """The process that answers."""
        (pid,) = [pid for pid, name in descendants(self.process.pid) if name.startswith("ray::ServeReplica")]
        return pid

    def log_of_replica(self) -> str:
        """What it has said so far, as docs/monitoring.md says where."""
        files = psutil.Process(self.replica()).open_files()
        (path,) = {Path(f.path) for f in files if Path(f.path).name.startswith("replica_")}
        assert path.parent.parts[-2:] == ("logs", "serve")
        return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Over v1, with a v2 beside it that scores otherwise."""
    encoder = Encoder(CONFIG.encoder, device="cpu")
    folder = tmp_path_factory.mktemp("loaded")
    shop = build_shop(tmp_path_factory.mktemp("data"), folder / "out", encoder)
    with service_of(shop.out, folder, SETTINGS) as (client, process, log):
        yield Service(client, process, log, Layout(shop.out), encoder)


class Asking:
    """`ASKED[number]` over a connection of its own, sent when a test wants."""

    def __init__(self, service: Service, number: int) -> None:
        """Connect, and send nothing."""
        self.number = number
        body = json.dumps(body_of(ASKED[number])).encode()
        head = f"POST {URL} HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self._unsent = head.encode() + b"\r\n\r\n" + body
        self._socket = socket.create_connection(("127.0.0.1", service.client.base_url.port or 0), timeout=120)

    def send(self, but: int = 0) -> None:
        """What is not sent yet, but for some bytes: the service has then begun and cannot go on."""
        cut = len(self._unsent) - but
        self._socket.sendall(self._unsent[:cut])
        self._unsent = self._unsent[cut:]

    def fileno(self) -> int:
        """Readable when the answer comes."""
        return self._socket.fileno()

    def response(self) -> httpx.Response:
        """The whole answer."""
        with HTTPResponse(self._socket, method="POST") as raw:
            raw.begin()
            return httpx.Response(raw.status, headers=raw.getheaders(), content=raw.read())

    def close(self) -> None:
        """Give the place up."""
        self._socket.close()


@contextmanager
def asking(service: Service, n: int) -> Iterator[list[Asking]]:
    """So many connections."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(Asking(service, number % len(ASKED)))) for number in range(n)]


@contextmanager
def all_places_held(service: Service) -> Iterator[list[Asking]]:
    """Nothing is answered until the rest of these is sent."""
    with asking(service, AT_ONCE) as held:
        for one in held:
            one.send(but=1)
        eventually(lambda: service.in_progress() == AT_ONCE)
        yield held


def check_answered(service: Service, version: str, asked: Sequence[Asking]) -> None:
    """All by this version, as it should."""
    for one in asked:
        response = one.response()
        assert response.status_code == 200, response.text
        assert service.check(one.number, response.json()) == version


async def ask(client: httpx.AsyncClient, number: int) -> httpx.Response:
    return await client.post(URL, json=body_of(ASKED[number]))


async def until(condition: Callable[[], bool]) -> None:
    """As `eventually`, while others on the loop go on."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def ask_while(service: Service, changes: Sequence[tuple[Callable[[], object], str]]) -> list[list[str]]:
    """The versions that each of many callers saw, who ask one thing after the other while `changes` are made.

    Args:
        service: that is asked.
        changes: what is to be done, and the version that all are to see before the next is done.

    """
    seen: list[list[str]] = [[] for _ in range(ASKERS)]
    enough = asyncio.Event()

    async def go_on_asking(client: httpx.AsyncClient, asker: int) -> None:
        number = asker
        while not enough.is_set():
            number = (number + 1) % len(ASKED)
            response = await ask(client, number)
            assert response.status_code == 200, response.text
            assert response.headers.get_list("X-Request-Id") == [response.json()["request_id"]]
            seen[asker].append(service.check(number, response.json()))

    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client, asyncio.TaskGroup() as group:
        for asker in range(ASKERS):
            group.create_task(go_on_asking(client, asker))
        for change, version in changes:
            await asyncio.to_thread(change)
            before = [len(versions) for versions in seen]
            await until(
                lambda version=version, before=before: all(  # type: ignore[misc]
                    versions[n:].count(version) >= 5 for versions, n in zip(seen, before, strict=True)
                )
            )
        enough.set()
    return seen


def runs(versions: Sequence[str]) -> list[str]:
    """Each change of what was seen."""
    return [v for place, v in enumerate(versions) if place == 0 or versions[place - 1] != v]


def test_versions_change_under_requests_and_none_fails_or_is_of_two(service: Service) -> None:
    def publish() -> None:
        add_version(service.layout.root, "v2", CONFIG.model_copy(update={"blend": BlendConfig(gamma=0.9)}))
        with Folder(service.layout).changing():
            point_current(service.layout, "v2")

    def administer(what: str) -> Callable[[], object]:
        return lambda: service.client.post(f"{VERSIONS}/{what}").raise_for_status()

    changes = [
        (lambda: None, "v1"),
        (publish, "v2"),
        (administer("rollback"), "v1"),
        (administer("v2/promote"), "v2"),
        (administer("rollback"), "v1"),
    ]
    seen = asyncio.run(ask_while(service, changes))
    # there is one replica, so nobody sees a version again after its successor
    assert [runs(versions) for versions in seen] == [["v1", "v2", "v1", "v2", "v1"]] * ASKERS
    for one, other in zip(service.expected("v1"), service.expected("v2"), strict=True):
        assert sorted(one.values()) != pytest.approx(sorted(other.values()), rel=1e-2)
    for number, asked in enumerate(ASKED):
        assert service.check(number, service.client.post(URL, json=body_of(asked)).json()) == "v1"
    assert service.client.get("/health/ready").json()["model_version"] == current_version(service.layout)


def take_manifest_of_another(paths: BundlePaths) -> None:
    shutil.copyfile(paths.root.parent / "v1" / "manifest.json", paths.manifest)


@pytest.mark.parametrize(
    ("version", "damage", "reason"),
    [
        ("v3", spoil, "item_arrays.safetensors is missing or not"),
        ("v4", take_manifest_of_another, "manifest.json is of version 'v1'"),
    ],
)
def test_a_broken_version_is_refused_and_said_and_a_good_one_after_it_is_taken(
    service: Service, version: str, damage: Callable[[BundlePaths], object], reason: str
) -> None:
    layout, client = service.layout, service.client
    former = current_version(layout)
    refusals = service.number("kindling_bundles_refused_total")
    damage(add_version(layout.root, version))
    check_problem(client.post(f"{VERSIONS}/{version}/promote"), 409, reason)
    assert current_version(layout) == former
    assert reason not in service.log_of_replica()

    point_current(layout, version)  # as though it broke on its way
    eventually(lambda: service.number("kindling_bundle_is_refused") == 1)
    assert service.number("kindling_bundles_refused_total") == refusals + 1
    eventually(lambda: reason in service.log_of_replica())
    assert client.get("/health/ready").json() == {"status": "ready", "model_version": former}
    for number, asked in enumerate(ASKED):
        assert service.check(number, client.post(URL, json=body_of(asked)).json()) == former

    good = f"{version}-again"
    add_version(layout.root, good)
    point_current(layout, good)
    eventually(lambda: client.get("/health/ready").json()["model_version"] == good)
    eventually(lambda: service.number("kindling_bundle_is_refused") == 0)
    for number, asked in enumerate(ASKED):
        assert service.check(number, client.post(URL, json=body_of(asked)).json()) == good


def test_too_many_requests_are_refused_at_once_in_the_one_shape_and_it_passes(service: Service) -> None:
    version = current_version(service.layout)
    before = service.number("kindling_requests_refused_total", reason="overload")
    with (
        all_places_held(service) as held,
        asking(service, WAITING + TOO_MANY) as flood,
        DefaultSelector() as answered,
    ):
        for one in flood:
            answered.register(one, EVENT_READ)
        for one in flood:
            one.send()
        eventually(lambda: len(answered.select(0)) == TOO_MANY)
        assert service.client.get("/health/ready").status_code == 200
        refused = [key.fileobj for key, _ in answered.select(0)]
        for one in refused:
            response = one.response()  # type: ignore[union-attr]
            check_problem(response, 503, "busy")
            assert response.headers["Retry-After"] == "1"
        for one in held:
            one.send()
        check_answered(service, version, held)
        check_answered(service, version, [one for one in flood if one not in refused])
    assert service.number("kindling_requests_refused_total", reason="overload") == before + TOO_MANY
    for number, asked in enumerate(ASKED):
        assert service.check(number, service.client.post(URL, json=body_of(asked)).json()) == version


def takes_connections(service: Service) -> bool:
    try:
        httpx.get(f"{service.url}/health/live", timeout=5)
    except httpx.ConnectError:
        return False
    except httpx.TransportError:
        pass
    return True


@pytest.mark.skipif(not HAPROXY_WORKS, reason="Serve's own proxy breaks off what is in flight")
def test_a_stop_answers_what_it_has_taken(service: Service) -> None:
    version = current_version(service.layout)
    with all_places_held(service) as held, asking(service, WAITING) as waiting:
        for one in waiting:
            one.send()
        eventually(lambda: service.in_progress() == AT_ONCE + WAITING)

        service.process.send_signal(signal.SIGTERM)
        eventually(lambda: not takes_connections(service))
        # Ray would start another proxy in the place of one that does not answer its checks, and break off this one's
        end = time.monotonic() + 5 * proxy._CHECK_SECONDS
        while time.monotonic() < end:
            assert not takes_connections(service)
            assert service.process.poll() is None
            time.sleep(0.1)
        for one in held:
            one.send()
        check_answered(service, version, [*held, *waiting])
    assert service.process.wait(timeout=120) == 0
    assert "Traceback" not in service.log.read_text(encoding="utf-8")
