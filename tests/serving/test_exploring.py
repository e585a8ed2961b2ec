"""The service explores as the policies say, tells propensities, logs lists, and the log can be judged by."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from jobs.policies import judge, read
from pipelines.core.config import ExploreConfig
from pipelines.core.errors import ConfigError, InputError
from serving.api import create_app
from serving.exploring import Exploration
from serving.recommender import Recommender
from serving.requests import Request
from serving.store.connecting import store_url
from serving.store.store import Store, open_store
from tests.serving.shop import CONFIG, Shop

LOOSE = {"margin": 1.0, "max_loss": 1.0, "log": True, "draws": 64}
KNOWN = "user-000002"


def exploration(
    name: str = "request-1", shown: dict[str, int] | None = None, **values: object
) -> Exploration:
    return Exploration(ExploreConfig.model_validate(LOOSE | values), name, shown or {})


def ids(answer: list[Any]) -> list[str]:
    return [item.item_id for item in answer]


@pytest.mark.parametrize("policy", ["epsilon", "thompson", "ucb"])
def test_scores_are_the_models_and_parts_add_up(model: Recommender, policy: str) -> None:
    plain = {i.item_id: i.score for i in model.recommend(Request(user_id=KNOWN, n=120))}
    best = ids(model.recommend(Request(user_id=KNOWN, n=10)))
    differ = 0
    for number in range(20):
        asked = Request(
            user_id=KNOWN,
            n=10,
            explain=True,
            exploration=exploration(f"r{number}", policy=policy, noise=1, epsilon=0.5),
        )
        answer = model.recommend(asked)
        assert len(set(ids(answer))) == 10
        assert (answer.policy, answer.best, answer[0].item_id) == (policy, best, best[0])
        assert answer.scores == pytest.approx([plain[item.item_id] for item in answer], abs=1e-5)
        for item in answer:
            assert item.propensity is not None
            assert 0 < item.propensity <= 1
            assert sum((item.parts or {}).values()) == pytest.approx(item.score, abs=1e-5)
        differ += ids(answer) != best
        assert model.recommend(asked) == answer  # the same request, the same list
    assert differ > 10


def test_a_batch_answers_as_each_alone(model: Recommender) -> None:
    asked = [
        Request(user_id=KNOWN, exploration=exploration(policy="thompson", cold_share=0.2)),
        Request(),
        Request(query="tea", exploration=exploration(policy="epsilon")),
        Request(query="tea"),
    ]
    assert model.recommend_many(asked) == [model.recommend(request) for request in asked]


def test_cold_items_have_their_places_until_they_were_shown_enough(model: Recommender, shop: Shop) -> None:
    def share(shown: dict[str, int]) -> float:
        found = []
        for number in range(40):
            how = exploration(
                f"r{number}", shown, policy="epsilon", epsilon=0, cold_share=0.3, cold_impressions=50
            )
            answer = model.recommend(Request(user_id=KNOWN, n=10, exploration=how))
            found.append(np.mean([item in shop.cold_ids for item in ids(answer)]))
        return float(np.mean(found))

    earned = np.mean([i in shop.cold_ids for i in ids(model.recommend(Request(user_id=KNOWN, n=10)))])
    assert share({}) == pytest.approx(max(0.3, earned), abs=0.03)
    assert share(dict.fromkeys(shop.cold_ids, 49)) == share({})
    assert share(dict.fromkeys(shop.cold_ids, 50)) == earned


@pytest.mark.parametrize(
    "shape", [{"offset": 5}, {"diversity": 0.5}, {"among": ["item-000001", "item-000002"]}]
)
def test_what_does_not_explore_says_so(model: Recommender, shape: dict[str, Any]) -> None:
    answer = model.recommend(
        Request(user_id=KNOWN, **shape, exploration=exploration(policy="thompson", noise=5))
    )
    assert answer == model.recommend(Request(user_id=KNOWN, **shape))
    assert answer.policy == "none"
    assert {item.propensity for item in answer} == {None}
    assert model.recommend(Request(exploration=exploration(policy="thompson"))).policy == "none"  # a stranger


def test_filters_hold_for_what_is_tried(model: Recommender, shop: Shop) -> None:
    asked = {"user_id": KNOWN, "n": 10, "filter": {"stock": {"min": 60}}, "exclude_ids": shop.cold_ids[:9]}
    may = set(ids(model.recommend(Request(**asked | {"n": 120}))))
    for policy in ("epsilon", "thompson", "ucb"):
        for number in range(10):
            how = exploration(f"r{number}", policy=policy, epsilon=1, noise=5, cold_share=0.5)
            assert set(ids(model.recommend(Request(**asked, exploration=how)))) <= may


@pytest.fixture
def served(model: Recommender, out: Path) -> Iterator[tuple[TestClient, Store, Path]]:
    store = open_store(store_url("", out))
    how = ExploreConfig.model_validate(LOOSE | {"policy": "epsilon", "epsilon": 0.6})
    with TestClient(create_app(lambda: model, store, CONFIG.serve, explore=how)) as client:
        yield client, store, out
    store.close()


def ask(client: TestClient, body: dict[str, Any], name: str = "") -> dict[str, Any]:
    answer = client.post("/v1/recommend", json=body, headers={"X-Request-Id": name} if name else {})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def wait_for(store: Store, count: int) -> None:
    deadline = time.monotonic() + 20
    while len(read(store, (), 0.0).lists) < count and time.monotonic() < deadline:
        time.sleep(0.05)


def test_from_lists_and_clicks_to_what_other_lists_would_have_earned(
    served: tuple[TestClient, Store, Path],
) -> None:
    client, store, out = served
    with pytest.raises(InputError, match=r"explore\.log"):
        judge(out, None, (), (), 0.0, None)
    for number in range(60):
        body = ask(client, {"user_id": f"visitor-{number}", "user_text": "tea"}, f"request-{number}")
        assert all(0 < item["propensity"] <= 1 for item in body["items"])
        clicked = {"user_id": f"visitor-{number}", "item_id": body["items"][0]["item_id"], "event": "click",
                   "request_id": body["request_id"]}  # fmt: skip
        assert client.post("/v1/events", json={"events": [clicked]}).status_code == 200
    ask(client, {"user_id": KNOWN})
    wait_for(store, 61)
    assert [seen.is_plain for seen in read(store, (), 0.0).lists] == [False] * 60 + [True]
    shown, best, replayed = judge(out, None, ("click",), ("v1",), 0.0, None)
    assert (shown.n_lists, best.n_lists, replayed.n_lists) == (61, 61, 1)
    assert shown.value is not None
    assert best.found is not None
    # the first place is protected and always clicked on: every policy that has it there earns 60 in 61 lists
    assert (shown.value.value, best.found.ips.value) == pytest.approx((60 / 61, 60 / 61))
    assert replayed.found is not None
    assert (
        replayed.found.diagnostics.largest_weight > 1
    )  # this very version, asked again, would show the best
    (nothing, *_) = judge(out, None, ("purchase",), (), 0.0, None)
    assert nothing.value is not None
    assert nothing.value.value == 0.0
    with pytest.raises(ConfigError, match="version 'v7'"):
        judge(out, None, (), ("v7",), 0.0, None)


def test_what_is_not_to_be_logged_is_not(model: Recommender, store: Store) -> None:
    with TestClient(
        create_app(lambda: model, store, CONFIG.serve, explore=ExploreConfig(policy="ucb"))
    ) as client:
        assert "propensity" in ask(client, {"query": "tea"})["items"][0]
    assert read(store, (), 0.0).lists == []


def test_all_lists_are_there_when_the_service_has_stopped(model: Recommender, store: Store) -> None:
    with TestClient(
        create_app(lambda: model, store, CONFIG.serve, explore=ExploreConfig(log=True))
    ) as client:
        names = [ask(client, {"query": "茶", "n": 3})["request_id"] for _ in range(5)]
        client.post("/v1/rank", json={"query": "tea", "item_ids": ["item-000001"]})
    found = read(store, (), 0.0).lists
    assert [seen.request_id for seen in found[:5]] == names
    assert [len(seen.items) for seen in found] == [3] * 5 + [1]
    assert {(seen.policy, seen.user_id, item.propensity) for seen in found for item in seen.items} == {
        ("none", None, 1.0)
    }


@pytest.mark.parametrize("name", ["short", "x" * 65, "a b c d e f", "请求请求请求请求", "request-1\n"])
def test_a_request_id_that_is_none(served: tuple[TestClient, Store, Path], name: str) -> None:
    event = {"user_id": "u", "item_id": "i", "request_id": name}
    answer = served[0].post("/v1/events", json={"events": [event]})
    assert answer.status_code == 422
    assert "request_id" in answer.json()["detail"]


def test_what_is_passed_over_goes_down_and_what_is_touched_does_not(model: Recommender, store: Store) -> None:
    how = ExploreConfig(log=True, passed_weight=20.0)
    user = {"user_id": "visitor-9", "user_text": "I camp by the sea"}
    with TestClient(create_app(lambda: model, store, CONFIG.serve, explore=how)) as client:
        first = ask(client, user | {"n": 3}, "request-a")["items"]
        wait_for(store, 1)
        for number in range(4):
            ask(client, user | {"n": 3}, f"request-b{number}")
            wait_for(store, 2 + number)
        last = ask(client, user | {"n": 120, "explain": True})["items"]
        for item in last:
            assert sum(item["parts"].values()) == pytest.approx(item["score"], abs=1e-5)
        scores = {item["item_id"]: item["score"] for item in last}
        assert all(scores[item["item_id"]] < item["score"] for item in first)
        # it was not passed over any more once it was clicked on: it counts as an event, and is not shown again
        click = {"user_id": user["user_id"], "item_id": first[0]["item_id"], "request_id": "request-a"}
        assert client.post("/v1/events", json={"events": [click]}).status_code == 200
        later = ask(client, user | {"n": 120, "explain": True})["items"]
    assert first[0]["item_id"] not in ids_of(later)
    assert all(f"item {first[0]['item_id']}" in item["parts"] for item in later)


def ids_of(items: list[dict[str, Any]]) -> list[str]:
    return [item["item_id"] for item in items]
