"""The routes: what they answer, in what shape, and what they never do whatever the body."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.config import ServeConfig
from serving.api import create_app
from serving.bodies import RecommendBody
from serving.recommender import Recommender
from serving.requests import Recommended, Request
from serving.store.store import Store
from tests.serving.databases import file_store
from tests.serving.shop import CONFIG, Shop

URL = "/v1/recommend"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return file_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def app(model: Recommender, kept: Store) -> FastAPI:
    return create_app(lambda: model, kept, CONFIG.serve)


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def client_of(model: object, kept: Store) -> TestClient:
    """Routes over anything that answers like a recommender."""
    return TestClient(create_app(lambda: model, kept, CONFIG.serve), raise_server_exceptions=False)  # type: ignore[arg-type,return-value]


def check_problem(response: Response, status: int, *words: str) -> dict[str, Any]:
    """An error of the one shape, whose detail says `words`."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert list(problem) == ["type", "title", "status", "detail", "request_id"]
    assert (problem["type"], problem["status"]) == ("about:blank", status)
    assert problem["request_id"] == response.headers["X-Request-Id"]
    for word in words:
        assert word in problem["detail"]
    return dict(problem)


def check_answer(response: Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    body = response.json()
    assert list(body) == ["request_id", "model_version", "items"]
    assert body["request_id"] == response.headers["X-Request-Id"]
    assert body["model_version"] == "v1"
    assert [item["rank"] for item in body["items"]] == list(range(1, len(body["items"]) + 1))
    return list(body["items"])


@pytest.mark.parametrize(
    ("body", "source"),
    [
        ({}, "fallback"),
        ({"user_id": None, "query": None, "filter": {}}, "fallback"),
        ({"user_text": "我喜欢喝茶"}, "text"),
        ({"query": "waterproof tent"}, "text"),
        ({"user_id": "user-000002"}, "hot"),
        ({"user_id": "nobody-knows"}, "fallback"),
        ({"events": [{"item_id": "item-000000", "event": "click"}]}, "fold_in"),
        (
            {
                "user_id": "user-000002",
                "user_text": "x",
                "query": "y",
                "events": [{"item_id": "item-000001"}],
            },
            "fold_in",
        ),
    ],
)
def test_every_kind_of_request(client: TestClient, body: dict[str, Any], source: str) -> None:
    items = check_answer(client.post(URL, json=body))
    assert len(items) == 10
    assert source in {item["source"] for item in items}
    assert all(list(item) == ["item_id", "score", "rank", "source"] for item in items)


def test_the_answer_is_the_recommenders(client: TestClient, model: Recommender) -> None:
    body = {
        "query": "tea",
        "n": 3,
        "exclude_ids": ["item-000000"],
        "filter": {"price": {"min": 5, "max": 90}},
    }
    expected = model.recommend(
        Request(query="tea", n=3, exclude_ids=["item-000000"], filter={"price": {"min": 5, "max": 90}})
    )
    items = check_answer(client.post(URL, json=body))
    assert [(i["item_id"], i["score"]) for i in items] == [(i.item_id, i.score) for i in expected]


def test_explained(client: TestClient) -> None:
    (item,) = check_answer(client.post(URL, json={"query": "tea", "n": 1, "explain": True}))
    assert list(item) == ["item_id", "score", "rank", "source", "parts"]
    assert set(item["parts"]) - {"what others did"} == {"this item's text", "your query"}
    assert sum(item["parts"].values()) == pytest.approx(item["score"], abs=1e-5)


def test_filters_of_every_form(client: TestClient, shop: Shop) -> None:
    brand = next(b for b in shop.items.column("brand").to_pylist() if b)
    for condition in (
        {"brand": brand}, {"categories": ["Kitchen", "厨房"]}, {"price": {"max": 50}}, {"in_stock": True},
        {"released": {"min": 0}}, {"stock": 5}, {"ratings": 4},
    ):  # fmt: skip
        assert check_answer(client.post(URL, json={"filter": condition})), condition
    assert check_answer(client.post(URL, json={"filter": {"brand": []}})) == []


def test_each_request_has_an_id_of_its_own(client: TestClient) -> None:
    found = {client.post(URL, json={}).headers["X-Request-Id"] for _ in range(3)}
    assert len(found) == 3
    assert "X-Request-Id" in client.get("/health/live").headers


def test_a_sound_id_of_the_callers_is_kept(client: TestClient) -> None:
    for asked, kept in (
        ("0123-4567-89ab", True),
        ("short", False),
        ('with"quotes"', False),
        ("x" * 65, False),
    ):
        answer = client.post(URL, json={}, headers={"X-Request-Id": asked})
        check_answer(answer)
        assert (answer.headers["X-Request-Id"] == asked) is kept


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"n": 0}, ["n: ", "greater than or equal to 1"]),
        ({"n": 501}, ["n is 501, expected 1 to 500"]),
        ({"n": "many"}, ["n: ", "integer"]),
        ({"n": 1.5}, ["n: "]),
        ({"n": 10**30}, ["n is 1000"]),
        ({"user_id": 7}, ["user_id: ", "string"]),
        ({"user_id": ""}, ["user_id: "]),
        ({"user_id": "x" * 513}, ["user_id: ", "512"]),
        ({"query": ["tea"]}, ["query: "]),
        ({"query": "x" * 4001}, ["query has 4001 characters, expected at most 4000"]),
        ({"user_text": "茶" * 4001}, ["user_text has 4001 characters"]),
        ({"querry": "tea"}, ["querry: Extra inputs are not permitted"]),
        ({"events": {"item_id": "a"}}, ["events: "]),
        ({"events": [{}]}, ["events.0.item_id: Field required"]),
        ({"events": [{"item_id": "item-000000", "when": 1}]}, ["events.0.when: Extra"]),
        ({"events": [{"item_id": "none"}]}, ["item_id 'none' is not in this catalogue"]),
        ({"events": [{"item_id": "item-000000", "event": "smell"}]}, ["'smell' is no event", "view, click"]),
        ({"events": [{"item_id": "item-000000", "weight": 0}]}, ["events.0.weight: "]),
        ({"events": [{"item_id": "item-000000", "weight": 1e7}]}, ["events.0.weight: "]),
        ({"events": [{"item_id": "item-000000"}] * 501}, ["events has 501 entries, expected at most 500"]),
        ({"exclude_ids": ["a"] * 10_001}, ["exclude_ids has 10001 entries"]),
        ({"exclude_ids": "item-000000"}, ["exclude_ids: "]),
        ({"filter": {"colour": "red"}}, ["no column 'colour'; the items have item_id, text"]),
        ({"filter": {"price": "cheap"}}, ["'cheap' cannot be compared with column 'price' of double"]),
        ({"filter": {"price": None}}, ["filter.price"]),
        ({"filter": {"price": {}}}, ["expected min, max or both"]),
        ({"filter": {"price": {"less": 1}}}, ["filter.price", "less"]),
        ({"filter": {"price": {"max": 10**400}}}, ["filter.price"]),
        ({"filter": {"stock": 2**64}}, ["cannot be compared with column 'stock' of int64"]),
        ({"filter": {"in_stock": "yes"}}, ["cannot be compared with column 'in_stock' of bool"]),
        ({"filter": ["price"]}, ["filter: "]),
        ({"explain": "perhaps"}, ["explain: "]),
    ],
)  # fmt: skip
def test_bodies_that_make_no_sense(client: TestClient, body: dict[str, Any], words: list[str]) -> None:
    check_problem(client.post(URL, json=body), 422, *words)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"null", 422),
        (b"[]", 422),
        (b'"tea"', 422),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b'{"n": ' + b"9" * 5000 + b"}", 400),
        (b'{"n": NaN}', 422),
        (b'{"n": 1e999}', 422),
        (b'{"events": [{"item_id": "item-000000", "weight": Infinity}]}', 422),
        (b'{"filter": {"price": NaN}}', 422),
        (b'{"filter": {"price": [1, -Infinity]}}', 422),
        (b'{"filter": {"price": {"max": Infinity}}}', 422),
        (b'{"filter": {"\\ud800": 1}}', 422),
        (b'{"filter": {"brand": "\\ud800"}}', 422),
        (b'{"\\ud800": 1}', 422),
        (b'{"user_id": "\\ud800"}', 422),
        (b'{"query": "\\ud800"}', 200),
    ],
)
def test_bodies_that_are_not_well_formed(client: TestClient, raw: bytes, status: int) -> None:
    response = client.post(URL, content=raw, headers={"content-type": "application/json"})
    if status == 200:
        check_answer(response)
    else:
        check_problem(response, status)


def test_bodies_of_another_type(client: TestClient) -> None:
    wanted = "send it with Content-Type: application/json"
    check_problem(client.post(URL, content=b"{}", headers={"content-type": "text/plain"}), 422, wanted)
    check_problem(client.post(URL, data={"n": "3"}), 422, wanted)
    asked = client.get("/v1/recommend/somebody?n=0")  # has no body
    check_problem(asked, 422, "n: ")
    assert wanted not in asked.json()["detail"]


def test_bodies_that_cannot_be_read(client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    squeezed = client.post(URL, content=gzip.compress(b"{}"), headers=headers | {"content-encoding": "gzip"})
    check_problem(squeezed, 400, "expected JSON in UTF-8, not compressed")
    check_problem(
        client.post(URL, content=b'{"n": 1,', headers=headers), 422, "the body is not JSON: ", "character 8"
    )


def test_addresses_and_methods_that_are_not_there(client: TestClient) -> None:
    check_problem(client.get("/nothing"), 404, "Not Found")
    response = client.get(URL)
    check_problem(response, 405, "Method Not Allowed")
    assert response.headers["allow"] == "POST"


def test_health(client: TestClient) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready", "model_version": "v1"}


def test_without_a_model(kept: Store) -> None:
    client = client_of(None, kept)
    assert client.get("/health/live").status_code == 200
    for response in (client.get("/health/ready"), client.post(URL, json={})):
        check_problem(response, 503, "no version of the model is loaded yet")
        assert response.headers["Retry-After"] == "1"


def test_what_nobody_expected(kept: Store, caplog: pytest.LogCaptureFixture) -> None:
    def fail(requests: Sequence[Request]) -> list[list[Recommended]]:
        raise RuntimeError("the disk is on fire")

    client = client_of(SimpleNamespace(recommend_many=fail, version="v1"), kept)
    with caplog.at_level(logging.DEBUG):
        response = client.post(URL, json={"user_text": "my secret wish", "query": "another wish"})
    problem = check_problem(response, 500, "its id is in the log")
    assert "fire" not in response.text
    assert "Traceback" not in response.text
    assert problem["request_id"] in caplog.text
    assert "the disk is on fire" in caplog.text
    assert "wish" not in caplog.text


def test_personal_text_is_never_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    words = "jane at example.com"
    bodies: list[dict[str, Any]] = [
        {"user_text": words, "query": words},
        {"user_text": words * 999},
        {"user_text": [words]},
        {words: 1},
        {"user_id": words, "filter": {words: words}},
        {"events": [{"item_id": words}]},
        {"events": [{"item_id": "item-000000", "event": words}]},
    ]
    with caplog.at_level(logging.DEBUG):
        for body in bodies:
            client.post(URL, json=body)
        client.post(URL, content=b'{"user_text": "' + words.encode())
    assert "jane" not in caplog.text


def test_errors_do_not_give_texts_back(client: TestClient) -> None:
    response = client.post(URL, json={"user_text": ["my secret"], "query": "my secret" * 999})
    assert "secret" not in check_problem(response, 422)["detail"]


def test_openapi(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert {URL, "/v1/recommend/{user_id}", "/v1/events", "/v1/users/{user_id}"} <= set(schema["paths"])
    responses = schema["paths"][URL]["post"]["responses"]
    assert set(responses) == {"200", "400", "401", "403", "413", "422", "429", "503"}
    assert "application/problem+json" in responses["503"]["content"]
    body = schema["components"]["schemas"]["RecommendBody"]
    assert body["additionalProperties"] is False
    for example in body["examples"]:
        RecommendBody.model_validate(example)


def test_docs_need_no_other_site(client: TestClient) -> None:
    for page in ("/docs", "/redoc"):
        response = client.get(page)
        assert response.status_code == 200
        assert "https://cdn" not in response.text


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=9)  # fmt: skip  # noqa: E501
JSON = st.recursive(
    SCALARS | st.sampled_from(["item-000000", "click", "price", "user-000002", "categories", 1, 5]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["item_id", "event", "weight", "min", "max", "price", "brand", "stock"])
            | st.text(max_size=3),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
FIELDS = sorted(RecommendBody.model_fields)


COLUMNS = ["price", "stock", "serial", "released", "ratings", "size", "note", "in_stock"]


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4)
    | st.fixed_dictionaries({"filter": st.dictionaries(st.sampled_from(COLUMNS), JSON, max_size=2)})
    | JSON
)
def test_no_body_breaks_the_service(client: TestClient, body: object) -> None:
    raw = json.dumps(body)
    response = client.post(URL, content=raw, headers={"content-type": "application/json"})
    assert response.status_code in (200, 400, 422), (raw, response.text)
    if response.status_code == 200:
        check_answer(response)
    else:
        check_problem(response, response.status_code)


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=40))
def test_no_bytes_break_the_service(client: TestClient, raw: bytes) -> None:
    response = client.post(URL, content=raw, headers={"content-type": "application/json"})
    assert response.status_code in (200, 400, 422)


def test_a_body_beyond_the_limit_is_refused(kept: Store) -> None:
    client = TestClient(create_app(lambda: None, kept, ServeConfig(max_body_bytes=100)))
    refused = client.post("/v1/recommend", json={"query": "x" * 200})
    assert refused.status_code == 413
    assert refused.headers["content-type"] == "application/problem+json"
    assert client.post("/v1/recommend", json={"query": "x"}).status_code == 503

    long = {"content-type": "application/json", "content-length": "9" * 5000}
    check_problem(client.post("/v1/recommend", content=b"{}", headers=long), 413)

    def without_a_length() -> Iterator[bytes]:
        yield from [b'{"query": "', *[b"x" * 50] * 4, b'"}']

    headers = {"content-type": "application/json"}
    check_problem(
        client.post("/v1/recommend", content=without_a_length(), headers=headers), 413, "more than 100 bytes"
    )
