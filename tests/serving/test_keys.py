"""Keys and limits: who has none is told so, what a key may not do it does not, and secrets are kept nowhere."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.engine import URL

from jobs.stores import store_of
from pipelines.core.config import ServeConfig
from pipelines.core.errors import ArtefactError, InputError
from serving import guard
from serving.api import create_app
from serving.recommender import Recommender
from serving.store.connecting import connect
from serving.store.keys import Keys
from serving.store.store import Store
from tests.conftest import kindling
from tests.serving.databases import file_store
from tests.serving.test_api import check_answer, check_problem

EVENT = {"events": [{"user_id": "anna", "item_id": "item-000001"}]}


@pytest.fixture
def guarded(model: Recommender, store: Store) -> Iterator[TestClient]:
    patient = ServeConfig(auth="keys", request_timeout_s=60)  # a busy machine is not what is tested
    with TestClient(create_app(lambda: model, store, patient)) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_what_each_scope_opens(guarded: TestClient, store: Store) -> None:
    keys = {scope: store.keys.add(scope, [scope]) for scope in ("read", "write", "admin")}
    for scope, key in keys.items():
        check_answer(guarded.post("/v1/recommend", json={}, headers=bearer(key)))
        assert guarded.get("/v1/recommend/anna", headers=bearer(key)).status_code == 200
        assert guarded.get("/v1/items/item-000001/similar", headers=bearer(key)).status_code == 200
        assert guarded.post("/v1/rank", json={"item_ids": ["item-000001"]}, headers=bearer(key)).is_success
        assert guarded.post("/v1/encode", json={"texts": ["tea"]}, headers=bearer(key)).is_success
        for answer in (
            guarded.post("/v1/events", json=EVENT, headers=bearer(key)),
            guarded.get("/v1/users/anna", headers=bearer(key)),
            guarded.put("/v1/users/anna", json={"description": "x"}, headers=bearer(key)),
            guarded.delete("/v1/users/anna", headers=bearer(key)),
        ):
            if scope == "read":
                check_problem(answer, 403, "this wants write")
            else:
                assert answer.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Basic YTpi"},
        bearer("nonsense"),
        bearer(f"kd_{'0' * 12}_{'x' * 43}"),
        bearer("kd_" + "x" * 9999),
    ],
)
def test_without_a_key_nothing_but_health_is_answered(guarded: TestClient, headers: dict[str, str]) -> None:
    for method, path in (
        ("POST", "/v1/recommend"), ("GET", "/v1/recommend/anna"), ("POST", "/v1/rank"), ("POST", "/v1/encode"),
        ("GET", "/v1/items/x/similar"), ("POST", "/v1/events"), ("GET", "/v1/users/anna"),
        ("PUT", "/v1/users/anna"), ("DELETE", "/v1/users/anna"),
    ):  # fmt: skip
        answer = guarded.request(method, path, json={}, headers=headers)
        check_problem(answer, 401, "key")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert guarded.get("/health/live").status_code == 200
    assert guarded.get("/health/ready").status_code == 200


def test_every_route_of_the_api_is_guarded(guarded: TestClient) -> None:
    paths = guarded.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        for method, told in methods.items():
            assert ("security" in told) == (path.startswith("/v1/") or path == "/metrics"), (method, path)


def test_a_secret_of_another_key_opens_nothing(guarded: TestClient, store: Store) -> None:
    one, other = (store.keys.add(name, ["read"]) for name in "ab")
    mixed = one[:16] + other[16:]
    assert mixed not in (one, other)
    check_problem(guarded.post("/v1/recommend", json={}, headers=bearer(mixed)), 401)


def test_an_expired_key_opens_nothing(
    guarded: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = store.keys.add("a", ["read"], 100)
    assert guarded.post("/v1/recommend", json={}, headers=bearer(key)).is_success
    from serving.store import keys  # noqa: PLC0415

    now = keys.time.time()
    monkeypatch.setattr(keys.time, "time", lambda: now + 101)
    check_problem(guarded.post("/v1/recommend", json={}, headers=bearer(key)), 401, "not any more")


def test_a_revoked_key_is_forgotten_after_seconds(
    guarded: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = store.keys.add("a", ["read"])
    assert guarded.post("/v1/recommend", json={}, headers=bearer(key)).is_success
    store.keys.revoke(store.keys.all()[0].key_id)
    now = guard.time.monotonic()
    monkeypatch.setattr(guard.time, "monotonic", lambda: now + guard.REMEMBERED_SECONDS)
    check_problem(guarded.post("/v1/recommend", json={}, headers=bearer(key)), 401)


def test_rotation_leaves_time_to_change(store: Store) -> None:
    old = store.keys.add("a", ["write"])
    (before,) = store.keys.all()
    made = store.keys.rotate(before.key_id, 100)
    found, after = store.keys.find(old), store.keys.find(made)
    assert found is not None and after is not None  # noqa: PT018
    assert found.may("write") and after.may("write")  # noqa: PT018
    assert found.expires_at is not None
    assert after.expires_at is None
    assert after.name == "a"
    store.keys.rotate(before.key_id, 1e9)  # does not prolong it
    assert len({key.key_id for key in store.keys.all()}) == 3
    again = store.keys.find(old)
    assert again is not None
    assert again.expires_at == found.expires_at
    store.keys.rotate(after.key_id, 0)
    at_once = store.keys.find(made)
    assert at_once is not None
    assert not at_once.may("read")


def test_rotation_gives_no_more_than_there_was(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.keys.add("a", ["read"], 100)
    (old,) = store.keys.all()
    for grace in (math.nan, math.inf, -1.0):
        with pytest.raises(InputError, match="grace"):
            store.keys.rotate(old.key_id, grace)
    found = store.keys.find(store.keys.rotate(old.key_id, 10))
    assert found is not None
    assert found.expires_at == pytest.approx(found.created_at + 100)
    from serving.store import keys  # noqa: PLC0415

    now = keys.time.time()
    monkeypatch.setattr(keys.time, "time", lambda: now + 101)
    with pytest.raises(InputError, match="has expired"):
        store.keys.rotate(found.key_id, 10)


def test_a_key_that_was_seen_opens_while_the_store_is_away(
    guarded: TestClient, store: Store, url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, unseen = (store.keys.add(name, ["read"]) for name in "ab")
    assert guarded.post("/v1/recommend", json={}, headers=bearer(key)).is_success
    with connect(url).begin() as connection:
        connection.execute(text("DROP TABLE api_keys"))
    now = guard.time.monotonic()
    monkeypatch.setattr(guard.time, "monotonic", lambda: now + guard.REMEMBERED_SECONDS)
    client = TestClient(guarded.app, raise_server_exceptions=False)
    assert client.post("/v1/recommend", json={}, headers=bearer(key)).is_success
    check_problem(client.post("/v1/recommend", json={}, headers=bearer(unseen)), 503)
    monkeypatch.setattr(guard.time, "monotonic", lambda: now + 601)
    check_problem(client.post("/v1/recommend", json={}, headers=bearer(key)), 503)


def test_no_body_is_read_of_who_shows_no_key(guarded: TestClient) -> None:
    for path in ("/v1/events", "/v1/recommend"):
        check_problem(guarded.post(path, content=b"{", headers={"content-type": "application/json"}), 401)


def test_who_tries_keys_is_slowed_down(model: Recommender, store: Store) -> None:
    client = TestClient(create_app(lambda: model, store, ServeConfig(auth="keys", rate_limit=1)))
    tried = [bearer(f"kd_{n:012x}_{'x' * 43}") for n in range(15)]
    statuses = [client.post("/v1/recommend", json={}, headers=key).status_code for key in tried]
    assert statuses == [401] * 10 + [429] * 5


def test_keys_behind_one_address_do_not_slow_each_other(
    model: Recommender, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = TestClient(create_app(lambda: model, store, ServeConfig(auth="keys", rate_limit=1)))
    keys = [bearer(store.keys.add(f"shop {n}", ["read"])) for n in range(15)]
    now = guard.time.monotonic()
    for seconds in (0, 10):
        monkeypatch.setattr(guard.time, "monotonic", lambda s=seconds: now + s)
        assert {client.post("/v1/recommend", json={}, headers=key).status_code for key in keys} == {200}
    for _ in range(20):
        client.post("/v1/recommend", json={}, headers=bearer("nonsense"))
    monkeypatch.setattr(guard.time, "monotonic", lambda: now + 20)
    assert client.post("/v1/recommend", json={}, headers=keys[0]).status_code == 200


def test_who_waits_as_told_is_let_in(
    model: Recommender, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = TestClient(create_app(lambda: model, store, ServeConfig(rate_limit=1)))
    from limits.storage import memory  # noqa: PLC0415

    now = [1e9 + 0.7]
    for module in (memory.time, guard.time):
        monkeypatch.setattr(module, "time", lambda: now[0])
    for _ in range(10):
        assert client.post("/v1/recommend", json={}).status_code == 200
        now[0] += 0.3
    refused = client.post("/v1/recommend", json={})
    assert refused.status_code == 429
    now[0] += int(refused.headers["Retry-After"])
    assert client.post("/v1/recommend", json={}).status_code == 200


def test_the_secret_is_not_in_the_store(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    secret = store.keys.add("a", ["admin"]).split("_", 2)[2]
    assert all(secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "scopes", "seconds", "words"),
    [
        ("", ["read"], None, "name"),
        (" ", ["read"], None, "name"),
        ("x" * 101, ["read"], None, "name"),
        ("our\nshop", ["read"], None, "line end"),
        ("our \x1b[31mshop", ["read"], None, "control"),
        ("a", [], None, "expected some of"),
        ("a", ["read", "everything"], None, "everything"),
        ("a", ["read"], 0.0, "expires"),
        ("a", ["read"], math.nan, "expires"),
        ("a", ["read"], math.inf, "expires"),
        ("a", ["read"], 1e13, "expires"),
    ],
)
def test_keys_that_cannot_be_made(
    store: Store, name: str, scopes: list[str], seconds: float | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        store.keys.add(name, scopes, seconds)
    assert store.keys.all() == []


def test_no_such_key(store: Store) -> None:
    for change in (lambda keys: keys.revoke("nothing"), lambda keys: keys.rotate("nothing", 1)):
        with pytest.raises(InputError, match="no key 'nothing'"):
            change(store.keys)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, False), ({"host": "localhost"}, False), ({"host": "::1"}, False), ({"host": "10.0.0.5"}, True),
        ({"host": "shop.example"}, True), ({"host": "10.0.0.5", "auth": "off"}, False), ({"auth": "keys"}, True),
    ],
)  # fmt: skip
def test_who_must_show_a_key(values: dict[str, str], expected: bool) -> None:
    assert guard.is_guarded(ServeConfig.model_validate(values)) is expected


def test_too_many_requests(model: Recommender, store: Store) -> None:
    client = TestClient(create_app(lambda: model, store, ServeConfig(auth="keys", rate_limit=1)))
    busy, other = (bearer(store.keys.add(name, ["read"])) for name in "ab")
    statuses = [client.post("/v1/recommend", json={}, headers=busy).status_code for _ in range(12)]
    assert statuses == [200] * 10 + [429] * 2
    refused = client.post("/v1/recommend", json={}, headers=busy)
    check_problem(refused, 429, "slow down")
    assert 1 <= int(refused.headers["Retry-After"]) <= 10
    check_answer(client.post("/v1/recommend", json={}, headers=other))


def test_a_key_on_the_command_line(out: Path) -> None:
    made = kindling("keys", "add", "our shop", "--out", out, "--scope", "write", "--days", "30")
    assert made.status == 0, made.err
    store = Store(URL.create("sqlite", database=str(out / "store.sqlite")))
    key = store.keys.find(made.out.strip())
    assert key is not None
    assert (key.name, key.scopes) == ("our shop", ("write",))
    listed = kindling("keys", "list", "--out", out)
    assert "our shop" in listed.out
    assert made.out.strip()[16:] not in listed.out
    rotated = kindling("keys", "rotate", key.key_id, "--out", out, "--grace-hours", "0")
    assert store.keys.find(rotated.out.strip()) is not None
    assert kindling("keys", "revoke", key.key_id, "--out", out).status == 0
    assert len(store.keys.all()) == 1
    again = kindling("keys", "revoke", key.key_id, "--out", out)
    assert again.status != 0
    assert "there is no key" in again.err


def test_a_store_that_somebody_holds_is_told_in_a_line(out: Path) -> None:
    """And what was to be written is not."""
    store = file_store(out)
    writer = sqlite3.connect(out / "store.sqlite", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with (
        pytest.raises(ArtefactError, match=r"store.sqlite does not answer: database is locked") as told,
        store_of(out, None) as (held, _),
    ):
        held.keys.add("our shop", ["read"])
    writer.close()
    assert "INSERT" not in str(told.value)
    assert store.keys.all() == []
    store.close()


def test_keys_of_one_store_open_where_it_is(store: Store, url: URL) -> None:
    key = store.keys.add("a", ["read"])
    other = Store(url)
    assert isinstance(other.keys, Keys)
    assert other.keys.find(key) is not None
