"""Routes for what the catalogue holds, and an item that is not in it yet; what is known of items, in every list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from pipelines.core.config import ServeConfig
from serving.api import create_app
from serving.late import LateItems
from serving.recommender import Recommender
from serving.requests import Request
from serving.store.items import StoredItem
from serving.store.store import Store
from tests.serving.databases import file_store
from tests.serving.shop import CONFIG, Shop
from tests.serving.test_api import check_problem
from tests.serving.test_keys import bearer

AUDIENCE = "/v1/items/audience"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return file_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def client(model: Recommender, kept: Store) -> Iterator[TestClient]:
    with TestClient(create_app(lambda: model, kept, CONFIG.serve), raise_server_exceptions=False) as made:
        yield made


def test_lists_with_what_is_known_of_their_items(client: TestClient, shop: Shop) -> None:
    fields = ["title", "categories", "stock", "released", "note", "size", "serial", "title"]
    rows = {row["item_id"]: row for row in shop.items.to_pylist()}
    query = {"fields": fields, "n": 4}
    answers = [
        client.post("/v1/recommend", json={"query": "tea"} | query),
        client.post("/v1/rank", json={"item_ids": ["item-000007", "item-000010"], "fields": fields}),
        client.get("/v1/recommend/anna", params=query),
        client.get("/v1/items/item-000005/similar", params=query),
    ]
    for answer in answers:
        for item in answer.json()["items"]:
            row, told = rows[item["item_id"]], item["metadata"]
            assert list(told) == fields[:-1]
            assert [told[f] for f in ("title", "categories", "stock", "note", "size")] == [
                row[f] for f in ("title", "categories", "stock", "note", "size")
            ]
            assert told["released"] == row["released"].isoformat()
            assert told["serial"] == str(row["serial"])  # a browser would round it
    assert "metadata" not in client.post("/v1/recommend", json={}).json()["items"][0]


def test_a_column_that_is_not_there(client: TestClient) -> None:
    for answer in (
        client.post("/v1/recommend", json={"fields": ["title", "colour"]}),
        client.post("/v1/rank", json={"item_ids": ["item-000007"], "fields": ["colour"]}),
        client.get("/v1/items/item-000005/similar", params={"fields": "colour"}),
        client.get("/v1/recommend/anna", params={"fields": "colour"}),
        client.post(AUDIENCE, json={"text": "tea", "fields": ["colour"]}),
    ):
        check_problem(answer, 422, "'colour'", "the items have item_id")


def test_the_catalogue(client: TestClient, shop: Shop) -> None:
    answer = client.get("/v1/catalogue").json()
    assert (answer["n_items"], answer["n_users"]) == (shop.items.num_rows, len(shop.user_ids))
    columns = {column["name"]: column for column in answer["columns"]}
    assert list(columns) == shop.items.column_names
    counts: dict[str, int] = {}
    for names in shop.items.column("categories").to_pylist():
        for name in names:
            counts[name] = counts.get(name, 0) + 1
    assert columns["categories"]["values"] == counts
    assert list(columns["categories"]["values"].values()) == sorted(counts.values(), reverse=True)
    assert columns["in_stock"]["values"].keys() == {"true", "false"}
    assert {columns[name]["values"] for name in ("item_id", "text", "price", "note", "size")} == {None}
    has_han = [any("\u4e00" <= c <= "\u9fff" for c in text) for text in shop.items.column("text").to_pylist()]
    assert answer["scripts"]["Han"] == sum(has_han) > 0
    assert answer["events"] == CONFIG.data.event_weights
    assert answer["limits"]["max_n"] == CONFIG.serve.max_n


def test_a_new_item_as_its_twin_in_the_catalogue(client: TestClient, model: Recommender, shop: Shop) -> None:
    """A cold item described anew is its own neighbour, and has its own place in every list."""
    cold = next(i for i in shop.cold_ids if i not in (shop.item_ids[row] for row in (3, 50, 119)))
    row = shop.item_ids.index(cold)
    text = shop.items.column("text")[row].as_py()
    np.testing.assert_allclose(model.place_text(text), model.catalogue.bundle.vectors[row], atol=1e-5)
    words = ["I love camping and tents", "我喜欢喝茶"]
    body = {"text": text, "user_texts": words, "n": 100, "fields": ["title"]}
    answer = client.post("/v1/admin/items/audience", json=body).json()
    assert answer["nearest"][0]["item_id"] == cold
    assert answer["nearest"][0]["metadata"] == {"title": model.title(cold)}
    assert answer["nearest"][0]["score"] == pytest.approx(1, abs=1e-4)
    for word, told in zip(words, answer["user_texts"], strict=True):
        ids = [item.item_id for item in model.recommend(Request(user_text=word, n=117))]
        assert told["rank"] in (ids.index(cold) + 1, ids.index(cold) + 2)  # beside its twin
    for told in answer["users"]:
        ids = [item.item_id for item in model.recommend(Request(user_id=told["user_id"], n=117))]
        assert told["rank"] in (ids.index(cold) + 1, ids.index(cold) + 2)
    assert answer["users"]
    shares = [one["share"] for one in answer["reach"]]
    assert shares == sorted(shares)
    assert 0 < shares[-1] <= 1


def test_columns_are_put_together_as_in_a_build(client: TestClient) -> None:
    item = {"title": "<b>Tent</b>", "categories": ["Outdoor", "Tents"], "description": "for two"}
    answer = client.post(AUDIENCE, json={"item": item}).json()
    assert answer["text"] == "Tent. Outdoor, Tents. for two"
    assert "users" not in answer


def test_an_item_that_came_since_is_told_of(model: Recommender, kept: Store, shop: Shop) -> None:
    late = LateItems(model)
    said = StoredItem("late-1", 1, {"title": "Two-person tent", "price": 5.0}, is_whole=True, updated_at=0.0)
    changed = StoredItem("item-000007", 2, {"title": "Green tea"}, is_whole=False, updated_at=0.0)
    live = model.with_late(late.make([said, changed], {}))
    with TestClient(create_app(lambda: live, kept, CONFIG.serve)) as client:
        body = {"item_ids": ["late-1", "item-000007"], "query": "tent", "fields": ["title", "price", "brand"]}
        first, second = client.post("/v1/rank", json=body).json()["items"]
        assert first["metadata"] == {"title": "Two-person tent", "price": 5.0, "brand": None}
        assert second["metadata"]["title"] == "Green tea"
        answer = client.post(AUDIENCE, json={"item": {"title": "Two-person tent"}, "n": 1}).json()
        assert answer["nearest"][0]["item_id"] == "late-1"
        assert client.get("/v1/catalogue").json()["n_items"] == shop.items.num_rows + 1


def test_who_is_forgotten_is_not_asked(client: TestClient, kept: Store) -> None:
    body = {"text": "tea", "n": 100}
    before = client.post("/v1/admin/items/audience", json=body).json()
    gone = before["users"][0]["user_id"]
    kept.forget(gone)
    after = client.post("/v1/admin/items/audience", json=body).json()
    assert after["n_users"] == before["n_users"] - 1
    assert gone not in {user["user_id"] for user in after["users"]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "either text or item"),
        ({"text": "tea", "item": {"title": "tea"}}, "exactly one"),
        ({"item": {"colour": "red"}}, "'colour'"),
        ({"text": "x" * 4001}, "4001 characters"),
        ({"text": "<p></p>"}, "no words"),
        ({"text": "tea", "n": 501}, "n is 501"),
        ({"text": "tea", "user_texts": ["x"] * 65}, "65 entries"),
        ({"text": "tea", "user_texts": [""]}, "user_texts"),
    ],
)
def test_what_is_no_new_item(client: TestClient, body: dict[str, Any], words: str) -> None:
    check_problem(client.post(AUDIENCE, json=body), 422, words)


def test_ids_of_users_want_an_admin(model: Recommender, store: Store) -> None:
    with TestClient(create_app(lambda: model, store, ServeConfig(auth="keys"))) as client:
        for scope, status in (("read", 403), ("write", 403), ("admin", 200)):
            headers = bearer(store.keys.add(scope, [scope]))
            assert client.post(AUDIENCE, json={"text": "tea"}, headers=headers).status_code == 200
            answer = client.post("/v1/admin/items/audience", json={"text": "tea"}, headers=headers)
            assert answer.status_code == status
