"""Routes for events and users, and what they change in the next list."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.engine import URL

from serving.api import create_app
from serving.recommender import Recommender
from serving.requests import Event, Request
from serving.store.connecting import connect
from serving.store.store import Store, open_store
from tests.serving.databases import Server
from tests.serving.shop import CONFIG, Shop
from tests.serving.test_api import check_answer, check_problem

NEW = "visitor-1"


@pytest.fixture
def client(model: Recommender, store: Store) -> Iterator[TestClient]:
    with TestClient(create_app(lambda: model, store, CONFIG.serve), raise_server_exceptions=False) as made:
        yield made


def click(number: int, user: str = NEW, item: str = "item-000003", **values: object) -> dict[str, Any]:
    return {"event_id": f"e{number}", "user_id": user, "item_id": item, "event": "click", **values}


def send(client: TestClient, *events: dict[str, Any]) -> list[str]:
    answer = client.post("/v1/events", json={"events": events})
    assert answer.status_code == 200, answer.text
    return [event["outcome"] for event in answer.json()["events"]]


def listed(client: TestClient, user: str = NEW, **query: int) -> list[str]:
    return [item["item_id"] for item in check_answer(client.get(f"/v1/recommend/{user}", params=query))]


def test_a_first_click_changes_the_next_list(client: TestClient, model: Recommender) -> None:
    before = check_answer(client.get(f"/v1/recommend/{NEW}"))
    assert {item["source"] for item in before} == {"fallback"}
    chosen = before[0]["item_id"]
    assert send(client, click(1, item=chosen)) == ["stored"]
    after = check_answer(client.get(f"/v1/recommend/{NEW}", params={"explain": True}))
    assert [item["item_id"] for item in after] != [item["item_id"] for item in before]
    assert chosen not in [item["item_id"] for item in after]
    assert f"item {chosen}" in after[0]["parts"]
    # exactly what the same event says in a request
    expected = model.recommend(Request(events=[Event(chosen, "click")]))
    assert [(i["item_id"], i["score"]) for i in after] == [(i.item_id, i.score) for i in expected]


def test_stored_and_told_events_and_history_count_together(
    client: TestClient, model: Recommender, shop: Shop
) -> None:
    user = next(u for u, items in shop.history.items() if items)
    unknown_to_them = [i for i in shop.item_ids if i not in shop.history[user]]
    first, second = unknown_to_them[0], unknown_to_them[1]
    send(client, click(1, user, first, event="purchase", weight=2.0))
    body = {"user_id": user, "events": [{"item_id": second}]}
    items = check_answer(client.post("/v1/recommend", json=body))
    expected = model.recommend(Request(user_id=user, events=[Event(first, "purchase", 2.0), Event(second)]))
    assert [(i["item_id"], i["score"]) for i in items] == [(i.item_id, i.score) for i in expected]


def test_what_a_user_says_is_read_at_each_request(client: TestClient, model: Recommender) -> None:
    answer = client.put(f"/v1/users/{NEW}", json={"description": "我喜欢喝茶"})
    assert answer.status_code == 200
    expected = [i.item_id for i in model.recommend(Request(user_text="我喜欢喝茶"))]
    assert listed(client) == expected
    said_now = client.post("/v1/recommend", json={"user_id": NEW, "user_text": "waterproof tent"})
    assert [i["item_id"] for i in check_answer(said_now)] == [
        i.item_id for i in model.recommend(Request(user_text="waterproof tent"))
    ]


@pytest.mark.parametrize(
    "hidden",
    ["jane@example.com", "jane&#64;example.com", "jane@exam<b></b>ple.com", "jane@exam\u200bple.com"],
)
def test_personal_data_is_not_written_down(client: TestClient, url: URL, hidden: str) -> None:
    said = f"Write to {hidden}, I love tents"
    answer = client.put(f"/v1/users/{NEW}", json={"description": said})
    assert "jane" not in answer.json()["description"]
    assert "I love tents" in answer.json()["description"]
    with connect(url).connect() as connection:
        assert "jane" not in str(connection.execute(text("SELECT description FROM users")).scalar())


def test_an_event_sent_again_counts_once(client: TestClient) -> None:
    assert send(client, click(1)) == ["stored"]
    once = listed(client)
    assert send(client, click(1), click(2, item="item-000004")) == ["duplicate", "stored"]
    assert send(client, click(2)) == ["conflict"]
    assert listed(client) != once
    found = client.get(f"/v1/users/{NEW}").json()["events"]
    assert [event["event_id"] for event in found] == ["e1", "e2"]


def test_an_id_is_made_where_there_is_none(client: TestClient) -> None:
    event = click(1)
    del event["event_id"]
    answer = client.post("/v1/events", json={"events": [event, event]}).json()["events"]
    assert [e["outcome"] for e in answer] == ["stored", "stored"]
    assert len({e["event_id"] for e in answer}) == 2


def test_items_that_this_version_does_not_know_wait_for_one_that_does(client: TestClient) -> None:
    assert send(client, click(1, item="of tomorrow"), click(2)) == ["stored", "stored"]
    assert listed(client)
    assert client.get(f"/v1/users/{NEW}").json()["events"][0]["item_id"] == "of tomorrow"


@pytest.mark.parametrize("user", ["known", NEW])
def test_who_is_forgotten_is_a_stranger(client: TestClient, shop: Shop, user: str) -> None:
    if user == "known":
        user = next(u for u, items in shop.history.items() if items)
    stranger = listed(client, "somebody-else")
    send(client, click(1, user))
    client.put(f"/v1/users/{user}", json={"description": "I like tea"})
    assert listed(client, user) != stranger
    answer = client.delete(f"/v1/users/{user}")
    assert answer.json() == {"user_id": user, "deleted_events": 1}
    assert listed(client, user) == stranger
    found = client.get(f"/v1/users/{user}").json()
    assert found == {"user_id": user, "description": None, "is_forgotten": True, "events": []}
    send(client, click(2, user))  # they are back
    assert listed(client, user) != stranger


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([], ["at least 1"]),
        ([click(1), click(2, event="stare")], ["events.1.event", "'stare'", "None of these"]),
        ([click(1), click(2, weight=0)], ["events.1.weight"]),
        ([click(1), click(2, weight=-1)], ["events.1.weight"]),
        ([click(1), {"item_id": "item-000003"}], ["events.1.user_id"]),
        ([click(1), click(2, "")], ["events.1.user_id"]),
        ([click(1), click(2, "x" * 513)], ["events.1.user_id"]),
        *(([click(1), click(2, f"a{c}b")], ["events.1.user_id"]) for c in "\x00\n\r\t\x7f\ufffd"),
        ([click(1), click(2, "\n")], ["events.1.user_id"]),
        ([click(1), click(2, weight=1e-300)], ["events.1.weight"]),
        ([click(1), click(2, timestamp=-1)], ["events.1.timestamp"]),
        ([click(1), click(2, timestamp="yesterday")], ["events.1.timestamp"]),
        ([click(1), click(2, mood="good")], ["events.1.mood"]),
        ([click(n) for n in range(501)], ["501 entries", "at most 500"]),
    ],
)
def test_a_batch_with_anything_wrong_is_not_written(
    client: TestClient, events: list[dict[str, Any]], words: list[str]
) -> None:
    check_problem(client.post("/v1/events", json={"events": events}), 422, *words)
    assert client.get(f"/v1/users/{NEW}").json()["events"] == []


@pytest.mark.parametrize(
    "body", [{}, {"description": ""}, {"description": "x" * 4001}, {"description": "\x00"}]
)
def test_words_that_are_not_as_they_should_be(client: TestClient, body: dict[str, str]) -> None:
    check_problem(client.put(f"/v1/users/{NEW}", json=body), 422, "description")
    assert client.get(f"/v1/users/{NEW}").json()["description"] is None


@pytest.mark.parametrize("user", ["a/b", "用户 一", "a?b#c%d", "🏔", "a/merge", "/a/"])
def test_ids_that_a_path_has_to_quote(client: TestClient, user: str) -> None:
    from urllib.parse import quote  # noqa: PLC0415

    path = quote(user, safe="")
    send(client, click(1, user))
    assert client.get(f"/v1/users/{path}").json()["user_id"] == user
    assert "item-000003" not in listed(client, path, n=500)
    assert client.delete(f"/v1/users/{path}").json() == {"user_id": user, "deleted_events": 1}


def test_a_store_that_fails_is_said_and_strangers_are_answered(
    model: Recommender, store: Store, url: URL, caplog: pytest.LogCaptureFixture
) -> None:
    client = TestClient(create_app(lambda: model, store, CONFIG.serve), raise_server_exceptions=False)
    with connect(url).begin() as connection:
        for table in ("events", "users", "forgotten"):
            connection.execute(text(f"DROP TABLE {table}"))
    for answer in (
        client.post("/v1/events", json={"events": [click(1, "secret-person")]}),
        client.get("/v1/recommend/secret-person"),
        client.put("/v1/users/secret-person", json={"description": "x"}),
        client.delete("/v1/users/secret-person"),
    ):
        check_problem(answer, 503, "try again shortly")
        assert answer.headers["Retry-After"] == "1"
    assert "secret-person" not in caplog.text
    check_answer(client.post("/v1/recommend", json={"query": "tea"}))


def test_without_a_model_nothing_is_taken(store: Store) -> None:
    client = TestClient(create_app(lambda: None, store, CONFIG.serve), raise_server_exceptions=False)
    check_problem(client.post("/v1/events", json={"events": [click(1)]}), 503, "no version")
    check_problem(client.put(f"/v1/users/{NEW}", json={"description": "x"}), 503, "no version")


def test_a_visitor_who_logs_in_takes_their_clicks_along(client: TestClient) -> None:
    send(client, click(1, "visitor"), click(2, "anna", "item-000004"))
    client.put("/v1/users/visitor", json={"description": "I like tea"})
    both = client.post(
        "/v1/recommend",
        json={
            "user_text": "I like tea",
            "events": [{"item_id": f"item-00000{n}", "event": "click"} for n in (3, 4)],
        },
    )
    answer = client.post("/v1/users/anna/merge", json={"former_id": "visitor"})
    assert answer.json() == {"user_id": "anna", "moved_events": 1}
    assert listed(client, "anna") == [item["item_id"] for item in check_answer(both)]
    left = client.get("/v1/users/visitor").json()
    assert (left["events"], left["description"]) == ([], None)
    # sent again by a caller that had no answer, and with what came meanwhile
    send(client, click(3, "visitor", "item-000005"))
    client.put("/v1/users/visitor", json={"description": "not to be taken"})
    assert client.post("/v1/users/anna/merge", json={"former_id": "visitor"}).json()["moved_events"] == 1
    assert client.post("/v1/users/anna/merge", json={"former_id": "visitor"}).json()["moved_events"] == 0
    found = client.get("/v1/users/anna").json()
    assert [event["event_id"] for event in found["events"]] == ["e2", "e1", "e3"]  # as they became hers
    assert found["description"] == "I like tea"


def test_merging_with_oneself_or_nobody(client: TestClient) -> None:
    send(client, click(1, "anna"))
    check_problem(client.post("/v1/users/anna/merge", json={"former_id": "anna"}), 422, "the user itself")
    check_problem(client.post("/v1/users/anna/merge", json={}), 422, "former_id")
    assert client.post("/v1/users/anna/merge", json={"former_id": "nobody"}).json()["moved_events"] == 0
    assert len(client.get("/v1/users/anna").json()["events"]) == 1


@pytest.mark.parametrize("path", ["b%0Aob", "%0A", "bob%FF", "a%00b"])
def test_an_id_that_is_almost_anothers_is_refused(client: TestClient, path: str) -> None:
    send(client, click(1, "bob"))
    for answer in (
        client.delete(f"/v1/users/{path}"),
        client.get(f"/v1/users/{path}"),
        client.get(f"/v1/recommend/{path}"),
    ):
        assert answer.status_code == 422
    assert len(client.get("/v1/users/bob").json()["events"]) == 1
    assert client.get("/v1/users/%20bob%0A").json()["user_id"] == "bob"  # blanks around it, as in a build


def test_strangers_are_answered_while_the_store_hangs(model: Recommender, server: Server) -> None:
    url = server.database()
    store = open_store(url)
    with (
        TestClient(create_app(lambda: model, store, CONFIG.serve), raise_server_exceptions=False) as client,
        ThreadPoolExecutor(3) as pool,
        connect(url).connect() as other,
    ):
        other.execute(text("LOCK TABLE events IN ACCESS EXCLUSIVE MODE"))
        waiting = [
            pool.submit(client.get, "/v1/recommend/anna"),
            pool.submit(client.post, "/v1/events", json={"events": [click(1)]}),
        ]
        for _ in range(3):
            check_answer(client.post("/v1/recommend", json={"query": "tea"}))
            check_answer(client.post("/v1/recommend", json={}))
        assert not any(future.done() for future in waiting)
        for future in waiting:  # given up in time, not hanging for ever
            check_problem(future.result(timeout=60), 503, "try again shortly")
        other.rollback()
        assert send(client, click(1)) == ["stored"]


def test_who_describes_themselves_waits_in_the_line_of_those_with_words(
    model: Recommender, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    where: list[str] = []
    recommend_many = model.recommend_many
    monkeypatch.setattr(
        model,
        "recommend_many",
        lambda r: (where.append(threading.current_thread().name), recommend_many(r))[1],
    )
    with TestClient(create_app(lambda: model, store, CONFIG.serve)) as client:
        client.put("/v1/users/anna", json={"description": "I like tea"})
        listed(client, "anna")
        listed(client, "somebody")
    assert [name.rsplit("_", 1)[0] for name in where] == ["kindling-words", "kindling-known"]
