"""Routes for items and texts: what is like what, a caller's own candidates in order, vectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from serving.api import create_app
from serving.recommender import Recommender
from serving.requests import Request
from tests.serving.databases import file_store
from tests.serving.shop import CONFIG, HIDDEN, Shop
from tests.serving.test_api import check_answer, check_problem


@pytest.fixture(scope="module")
def client(model: Recommender, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    store = file_store(tmp_path_factory.mktemp("store"))
    with TestClient(create_app(lambda: model, store, CONFIG.serve), raise_server_exceptions=False) as made:
        yield made


def test_similar_items_by_cosine(client: TestClient, model: Recommender, shop: Shop) -> None:
    answer = client.get("/v1/items/item-000005/similar", params={"n": 500}).json()
    vectors = model.catalogue.bundle.vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    cosines = vectors @ vectors[5] / lengths / lengths[5]
    expected = [i for i in np.argsort(-cosines) if i != 5 and i not in HIDDEN]
    assert [item["item_id"] for item in answer["items"]] == [shop.item_ids[i] for i in expected]
    assert [item["score"] for item in answer["items"]] == pytest.approx(cosines[expected], abs=1e-5)
    assert [item["rank"] for item in answer["items"]] == list(range(1, len(expected) + 1))
    assert answer["model_version"] == "v1"


def test_items_without_behaviour_are_like_others_by_their_text(client: TestClient, shop: Shop) -> None:
    answer = client.get(f"/v1/items/{shop.cold_ids[0]}/similar", params={"n": 3})
    assert len(answer.json()["items"]) == 3


def test_similar_to_what(client: TestClient) -> None:
    check_problem(client.get("/v1/items/nothing/similar"), 404, "'nothing' is not in this catalogue")
    check_problem(client.get("/v1/items/item-000005/similar", params={"n": 0}), 422, "n")
    check_problem(client.get("/v1/items/item-000005/similar", params={"n": 501}), 422, "1 to 500")


def test_a_callers_candidates_in_order(client: TestClient, model: Recommender, shop: Shop) -> None:
    user = next(u for u, items in shop.history.items() if items)
    known = next(iter(shop.history[user]))
    given = [known, shop.item_ids[HIDDEN[0]], "item-000001", "nothing", "item-000002", "item-000001"]
    items = check_answer(client.post("/v1/rank", json={"user_id": user, "item_ids": given}))
    assert {item["item_id"] for item in items} == set(given) - {"nothing"}
    scores = [item["score"] for item in items]
    assert scores == sorted(scores, reverse=True)
    # as in a list of everything
    all_of_them = {i.item_id: i.score for i in model.recommend(Request(user_id=user, n=500))}
    for item in items:
        if item["item_id"] in all_of_them:
            assert item["score"] == pytest.approx(all_of_them[item["item_id"]], abs=1e-5)


def test_candidates_for_a_stranger_and_with_reasons(client: TestClient) -> None:
    given = ["item-000001", "item-000002"]
    assert len(check_answer(client.post("/v1/rank", json={"item_ids": given}))) == 2
    body = {"item_ids": given, "query": "tea", "explain": True}
    for item in check_answer(client.post("/v1/rank", json=body)):
        assert sum(item["parts"].values()) == pytest.approx(item["score"], abs=1e-5)
    assert check_answer(client.post("/v1/rank", json={"item_ids": ["nothing"]})) == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "item_ids"),
        ({"item_ids": []}, "item_ids"),
        ({"item_ids": ["x"] * 501}, "501 entries"),
        ({"item_ids": ["x"], "n": 3}, "n"),
    ],
)
def test_candidates_that_cannot_be_ranked(client: TestClient, body: dict[str, Any], words: str) -> None:
    check_problem(client.post("/v1/rank", json=body), 422, words)


def test_vectors_of_texts(client: TestClient, model: Recommender) -> None:
    texts = ["a light tent", "轻便的帐篷", "", "<b>a  light</b> tent"]
    answer = client.post("/v1/encode", json={"texts": texts}).json()
    vectors = np.array(answer["vectors"])
    np.testing.assert_allclose(vectors[:2], model.encoder.encode(texts[:2]), atol=1e-5)
    assert not vectors[2].any()
    np.testing.assert_allclose(vectors[3], vectors[0], atol=1e-5)  # as a build reads it
    assert answer["encoder"].startswith(CONFIG.encoder.model)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"texts": []}, "texts"),
        ({"texts": ["x"] * 65}, "65 entries"),
        ({"texts": ["x" * 4001]}, "4001 characters"),
    ],
)
def test_texts_that_are_too_many_or_too_long(client: TestClient, body: dict[str, Any], words: str) -> None:
    check_problem(client.post("/v1/encode", json=body), 422, words)
