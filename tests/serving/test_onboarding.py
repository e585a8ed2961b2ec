"""What somebody new is asked: what never, what next, and by whom it is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from pipelines.core.blend import blend
from pipelines.core.bundle import BundlePaths, write_manifest
from pipelines.core.encoder import Encoder
from pipelines.core.layout import Layout
from pipelines.core.model import asked_of
from pipelines.core.storage import read_json, read_tensors, write_table, write_tensors
from serving.api import create_app
from serving.interview import Asked, Reply
from serving.live import LiveRecommender
from serving.onboarding import event_kinds
from serving.recommender import Recommender
from serving.requests import Event, Request
from serving.store.store import Store
from tests.serving.databases import file_store
from tests.serving.shop import CONFIG, HIDDEN, N_ITEMS, Shop
from tests.serving.test_api import check_problem

URL = "/v1/onboarding"


@pytest.fixture
def kept(tmp_path: Path) -> Store:
    return file_store(tmp_path)


@pytest.fixture
def client(model: Recommender, kept: Store) -> Iterator[TestClient]:
    with TestClient(create_app(lambda: model, kept, CONFIG.serve), raise_server_exceptions=False) as made:
        yield made


def questions(client: TestClient, **body: object) -> list[dict[str, Any]]:
    answer = client.post(URL, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model_version"] == "v1"
    found: list[dict[str, Any]] = answer.json()["questions"]
    return found


def ids(found: list[Asked]) -> list[str]:
    return [question.item_id for question in found]


def test_five_questions_with_titles_spread_over_the_shop(client: TestClient, shop: Shop) -> None:
    found = questions(client)
    of = {record["item_id"]: record for record in shop.items.to_pylist()}
    assert len({q["item_id"] for q in found}) == 5
    assert [q["title"] for q in found] == [of[q["item_id"]]["title"] for q in found]
    assert len({of[q["item_id"]]["categories"][0] for q in found}) >= 4
    assert all(q["gain"] >= 0 and 0 < q["like_chance"] < 1 for q in found)
    assert found[0]["gain"] > 0
    assert questions(client) == found


def test_hidden_and_answered_items_are_never_asked_about(client: TestClient, shop: Shop) -> None:
    every = [q["item_id"] for q in questions(client, n=500)]
    assert sorted(every) == sorted(i for row, i in enumerate(shop.item_ids) if row not in HIDDEN)
    kinds = ["like", "dislike", "unknown"]
    answers = [{"item_id": item, "answer": kinds[k % 3]} for k, item in enumerate(every[:60])]
    left = [q["item_id"] for q in questions(client, n=500, answers=answers)]
    assert sorted(left) == sorted(every[60:])
    answers = [{"item_id": item, "answer": "unknown"} for item in every]
    assert questions(client, answers=answers) == []


def test_each_answer_changes_the_next_question_and_not_knowing_changes_no_belief(client: TestClient) -> None:
    first, *_ = questions(client, n=1)

    def after(answer: str) -> dict[str, float]:
        said = [{"item_id": first["item_id"], "answer": answer}]
        return {q["item_id"]: q["like_chance"] for q in questions(client, answers=said, n=500)}

    before = {q["item_id"]: q["like_chance"] for q in questions(client, n=500)}
    liked, disliked, unknown = after("like"), after("dislike"), after("unknown")
    assert unknown == pytest.approx({k: v for k, v in before.items() if k != first["item_id"]})
    assert next(iter(liked)) != next(iter(disliked))
    moved = {item: liked[item] - disliked[item] for item in liked}
    assert max(moved.values()) > 0.05


def test_what_a_user_used_is_known_and_not_asked_about(client: TestClient, shop: Shop) -> None:
    user = next(u for u, items in shop.history.items() if len(items) > 3)
    asked = {q["item_id"] for q in questions(client, user_id=user, n=500)}
    assert asked == {i for row, i in enumerate(shop.item_ids) if row not in HIDDEN} - set(shop.history[user])
    assert questions(client, user_id=user) != questions(client)


def test_answers_sent_as_events_count_as_answers_given(client: TestClient) -> None:
    """The kinds of event that the answer names."""
    first, second, third = questions(client, n=3)
    kinds = client.post(URL, json={}).json()["events"]
    assert kinds == {"like": "like", "dislike": "dislike"}
    answers = [
        {"item_id": first["item_id"], "answer": "like"},
        {"item_id": second["item_id"], "answer": "dislike"},
    ]
    given = questions(client, answers=answers, n=9)
    assert client.get("/v1/users/visitor").json()["events"] == [], "asking stores nothing"
    events = [{"user_id": "visitor", "item_id": a["item_id"], "event": kinds[a["answer"]]} for a in answers]
    assert client.post("/v1/events", json={"events": events}).status_code == 200
    stored = questions(client, user_id="visitor", n=9)
    assert [q["item_id"] for q in stored] == [q["item_id"] for q in given]
    assert [q["gain"] for q in stored] == pytest.approx([q["gain"] for q in given])
    # both at once: what is stored is not asked, what is told is not asked
    more = questions(
        client, user_id="visitor", answers=[{"item_id": third["item_id"], "answer": "unknown"}], n=500
    )
    assert not {q["item_id"] for q in more} & {first["item_id"], second["item_id"], third["item_id"]}


@pytest.mark.parametrize(
    ("weights", "like", "dislike"),
    [
        ({"like": 2.0, "hate": -3.0, "skip": -0.5}, "like", "skip"),
        ({"click": 1.0, "like": -1.0}, None, "like"),
        ({"click": 1.0}, None, None),
    ],
)
def test_kinds_of_event_for_any_build(
    weights: dict[str, float], like: str | None, dislike: str | None
) -> None:
    found = event_kinds(weights)
    assert (found.like, found.dislike) == (like, dislike)


def test_words_say_what_would_be_liked(client: TestClient, shop: Shop) -> None:
    of = dict(zip(shop.item_ids, shop.items.column("categories").to_pylist(), strict=True))

    def chances(words: str) -> dict[str, float]:
        return {q["item_id"]: q["like_chance"] for q in questions(client, user_text=words, n=500)}

    coffee, tents = chances("I brew coffee every morning"), chances("I love hiking and tents")
    tea = [i for i in coffee if of[i][0] == "Coffee & Tea"]
    assert tea
    assert np.mean([coffee[i] for i in tea]) > np.mean([tents[i] for i in tea])
    client.put("/v1/users/anna", json={"description": "I brew coffee every morning"})
    assert questions(client, user_id="anna") == questions(client, user_text="I brew coffee every morning")


def test_a_filter_limits_what_is_asked_about(client: TestClient, shop: Shop) -> None:
    found = questions(client, filter={"price": {"max": 40}, "categories": ["Coffee & Tea", "Cycling"]}, n=500)
    expected = [
        r["item_id"]
        for row, r in enumerate(shop.items.to_pylist())
        if row not in HIDDEN and r["price"] <= 40 and r["categories"][0] in ("Coffee & Tea", "Cycling")
    ]
    assert sorted(q["item_id"] for q in found) == sorted(expected)
    assert questions(client, filter={"brand": "nobody"}) == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"n": 0}, "n"),
        ({"n": 501}, "1 to 500"),
        ({"answers": [{"item_id": "nothing", "answer": "like"}]}, "answers.0: item_id 'nothing'"),
        ({"answers": [{"item_id": "item-000001", "answer": "maybe"}]}, "answers.0.answer"),
        ({"answers": [{"item_id": "item-000001"}]}, "answers.0.answer"),
        ({"answers": [{"item_id": "item-000001", "answer": "like"}] * 2}, "answers.1: item_id 'item-000001'"),
        ({"answers": [{"item_id": f"x{k}", "answer": "like"} for k in range(501)]}, "501 entries"),
        ({"user_text": "x" * 4001}, "4001 characters"),
        ({"filter": {"colour": "red"}}, "no column 'colour'"),
        ({"filter": {"price": "cheap"}}, "'price'"),
        ({"query": "tent"}, "query"),
    ],
)
def test_what_cannot_be_asked(client: TestClient, body: dict[str, Any], words: str) -> None:
    check_problem(client.post(URL, json=body), 422, words)


def test_the_hypothetical_users_are_served_as_real_ones_are(model: Recommender, shop: Shop) -> None:
    """Their vectors by the row solve of the build, against the fold-in of the service."""
    interviewer = model._interviewer
    users = interviewer._model.user_vectors(asked_of(interviewer._history, interviewer._own_texts))
    for row in (0, 2, 5):
        (words,) = model._words([Request()])
        known = model._understand(Request(user_id=shop.user_ids[row]), words)
        profile, folded = model._user(known, split=False)
        served = blend(folded.total.astype(np.float32), profile.total.astype(np.float32), CONFIG.blend.gamma)
        np.testing.assert_allclose(users[row], served, atol=1e-4)


def test_a_catalogue_that_nobody_has_used_is_asked_about_by_its_texts(
    out: Path, encoder: Encoder, shop: Shop
) -> None:
    """As a build of text alone leaves it: no behaviour, no factors, no users."""
    paths = BundlePaths(Layout(out).bundle("v1"))
    items = pq.read_table(paths.items)
    for name in ("n_interactions", "n_wanted"):
        zeros = pa.array(np.zeros(N_ITEMS, dtype=np.int64))
        items = items.set_column(items.column_names.index(name), name, zeros)
    write_table(paths.items, items)
    arrays, maps, users = (read_tensors(p) for p in (paths.item_arrays, paths.text_maps, paths.user_arrays))
    write_tensors(paths.item_arrays, arrays | {"factors": np.zeros_like(arrays["factors"])})
    empty = ("user_map", "item_map", "user_gramian", "item_gramian")
    write_tensors(paths.text_maps, maps | {name: np.zeros_like(maps[name]) for name in empty})
    write_table(paths.users, pq.read_table(paths.users).slice(0, 0))
    none = {"indptr": users["indptr"][:1], "indices": users["indices"][:0], "weights": users["weights"][:0]}
    write_tensors(paths.user_arrays, {k: users[k][:0] for k in ("factors", "own_texts")} | none)
    write_manifest(paths, "v1", {"encoder": read_json(paths.manifest)["encoder"]})
    cold = Recommender(paths.root, encoder)
    found = cold.questions(Request(n=5), [])
    of = dict(zip(shop.item_ids, shop.items.column("categories").to_pylist(), strict=True))
    assert len({of[item][0] for item in ids(found)}) >= 4
    assert found[0].gain > 0
    first = found[0].item_id
    liked, not_liked = (
        {q.item_id: q.like_chance for q in cold.questions(Request(n=500), [Reply(first, kind)])}
        for kind in ("like", "dislike")
    )
    alike = [i for i in liked if of[i][0] == of[first][0]]
    assert np.mean([liked[i] for i in alike]) > np.mean([not_liked[i] for i in alike])


def test_items_that_changed_or_went_are_not_asked_about(model: Recommender, kept: Store, shop: Shop) -> None:
    live = LiveRecommender(lambda: model, kept, 1e6, 500)
    with TestClient(create_app(live, kept, CONFIG.serve), raise_server_exceptions=False) as client:
        first, second, *_ = (q["item_id"] for q in questions(client, n=2))
        assert client.delete(f"/v1/items/{first}").status_code == 200
        changed = client.put(f"/v1/items/{second}", json={"fields": {"title": "A quite different thing"}})
        assert changed.status_code == 200
        client.put("/v1/items/new-tent", json={"fields": {"title": "A tent for two"}})
        live.refresh()
        left = {q["item_id"] for q in questions(client, n=500)}
        expected = {i for row, i in enumerate(shop.item_ids) if row not in HIDDEN} - {first, second}
        assert left == expected
        # what was said of the new one counts
        said = live().questions(Request(n=500), [Reply("new-tent", "like")])  # type: ignore[union-attr]
        told = live().questions(Request(n=500, events=[Event("new-tent")]), [])  # type: ignore[union-attr]
        assert ids(said) == ids(told)
    live.close()
