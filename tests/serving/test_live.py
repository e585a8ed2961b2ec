"""Items that come, change and go while the service runs, and what their first events make of them."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import time, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from pipelines.core.blend import features
from pipelines.core.bundle import BundlePaths
from pipelines.core.errors import InputError
from pipelines.core.records import check_fields, to_row
from pipelines.core.storage import read_tensors
from serving.api import create_app
from serving.catalogue import Catalogue
from serving.late import weight_of_others
from serving.live import LiveRecommender
from serving.recommender import Recommender
from serving.requests import Event, Request
from serving.store.store import Store, StoredEvent
from tests.serving.shop import CONFIG, Shop

NEVER = 1e6
TENT = {
    "title": "A tent for two",
    "description": "light and waterproof, for hiking",
    "price": 149,
    "brand": "Nordwand",
}


@pytest.fixture
def live(model: Recommender, store: Store) -> Iterator[LiveRecommender]:
    made = LiveRecommender(lambda: model, store, NEVER, 500)
    yield made
    made.close()


@pytest.fixture
def client(live: LiveRecommender, store: Store) -> Iterator[TestClient]:
    with TestClient(create_app(live, store, CONFIG.serve), raise_server_exceptions=False) as made:
        yield made


def ids(model: Recommender, **asked: object) -> list[str]:
    return [item.item_id for item in model.recommend(Request(**asked))]  # type: ignore[arg-type]


def test_a_first_click_is_worth_what_a_click_is_worth() -> None:
    assert weight_of_others(np.array([0, 4, 6, 0])) == 0.2, "one in five users for one who wants it"
    assert weight_of_others(np.array([1, 0])) == weight_of_others(np.zeros(3, dtype=np.int64)) == 1.0


def test_a_new_item_is_found_by_its_text(
    client: TestClient, live: LiveRecommender, model: Recommender
) -> None:
    answer = client.put("/v1/items/new-tent", json={"fields": TENT})
    assert answer.status_code == 200, answer.text
    assert answer.json()["fields"] == TENT
    assert live() is model, "nothing happens between two looks"
    live.refresh()
    found = client.post(
        "/v1/recommend", json={"query": "waterproof tent for two", "n": 3, "explain": True}
    ).json()
    first = found["items"][0]
    assert first["item_id"] == "new-tent"
    assert first["source"] == "text"
    assert sum(first["parts"].values()) == pytest.approx(first["score"], abs=1e-5)
    assert "new-tent" not in ids(model, query="waterproof tent for two", n=3), (
        "the version itself is as it was"
    )
    assert client.get("/v1/items/new-tent/similar").status_code == 200
    filtered = {"query": "tent", "filter": {"brand": "Nordwand", "price": {"max": 150}}, "n": 100}
    assert "new-tent" in [i["item_id"] for i in client.post("/v1/recommend", json=filtered).json()["items"]]
    assert "new-tent" in [i["item_id"] for i in client.post("/v1/recommend", json={"n": 500}).json()["items"]]


def test_it_is_placed_where_a_build_would_place_it(live: LiveRecommender, store: Store, shop: Shop) -> None:
    """A cold item of the build, put again under another id, is served by the very same numbers."""
    paths = BundlePaths(shop.bundle)
    row = shop.item_ids.index(shop.cold_ids[0])
    record = pq.read_table(paths.items).slice(row, 1).to_pylist()[0]
    given = {c: record[c] for c in ("title", "brand", "categories", "description") if record[c] is not None}
    store.items.put("twin", given)
    live.refresh()
    arrays = read_tensors(paths.item_arrays)
    twin = live().catalogue.rows_of(["twin"])
    np.testing.assert_allclose(live().catalogue.profiles(twin)[0], arrays["profiles"][row], atol=1e-5)
    np.testing.assert_allclose(live().catalogue.factors(twin)[0], arrays["factors"][row], atol=1e-5)


def test_a_price_changes_and_nothing_else(
    client: TestClient, live: LiveRecommender, model: Recommender, shop: Shop
) -> None:
    item = next(i for i in shop.item_ids if i in shop.history[shop.user_ids[0]])
    before = {i.item_id: i.score for i in model.recommend(Request(query="gift", n=len(shop.item_ids) - 10))}
    assert client.patch(f"/v1/items/{item}", json={"fields": {"price": 0.5}}).status_code == 200
    live.refresh()
    after = {i.item_id: i.score for i in live().recommend(Request(query="gift", n=len(shop.item_ids) - 10))}
    assert after == pytest.approx(before, abs=1e-6)
    assert ids(live(), query="gift", filter={"price": {"max": 0.6}}) == [item]
    assert ids(model, query="gift", filter={"price": {"max": 0.6}}) == []
    assert item not in ids(live(), user_id=shop.user_ids[0], n=100), "they have it already, moved or not"
    same = live().recommend(Request(user_id=shop.user_ids[0], n=5))
    assert same == model.recommend(Request(user_id=shop.user_ids[0], n=5))


def test_new_words_count_at_once(live: LiveRecommender, store: Store, model: Recommender, shop: Shop) -> None:
    """In the text's part; the factor that behaviour gave it waits for the next build."""
    row = next(k for k, item in enumerate(shop.item_ids) if item not in shop.cold_ids)
    item = shop.item_ids[row]
    store.items.patch(item, {"title": "轻便的双人帐篷", "description": "zebra kaleidoscope"}, is_known=True)
    live.refresh()
    asked = Request(query="zebra kaleidoscope", among=[item], n=1)
    assert live().recommend(asked)[0].score > model.recommend(asked)[0].score + 0.1
    moved = live().catalogue.factors(live().catalogue.rows_of([item]))
    np.testing.assert_array_equal(moved, model.catalogue.factors(np.array([row])))
    assert live().title(item) == "轻便的双人帐篷"


def test_a_withdrawn_item_is_shown_to_nobody(client: TestClient, live: LiveRecommender, shop: Shop) -> None:
    item = ids(live(), query="tent", n=1)[0]
    assert client.delete(f"/v1/items/{item}").json() == {"item_id": item}
    live.refresh()
    for asked in ({"query": "tent"}, {}, {"user_id": shop.user_ids[0]}):
        assert item not in ids(live(), n=200, **asked)
    assert client.get(f"/v1/items/{item}").status_code == 404
    assert client.patch(f"/v1/items/{item}", json={"fields": {"price": 1}}).status_code == 404
    assert ids(live(), events=[Event(item)], n=5), "what was done with it still tells of the user"
    assert client.put(f"/v1/items/{item}", json={"fields": TENT}).status_code == 200
    live.refresh()
    assert ids(live(), query="waterproof tent for two", n=1) == [item]
    client.put("/v1/items/short-lived", json={"fields": TENT})
    client.delete("/v1/items/short-lived")
    live.refresh()
    assert "short-lived" not in live().catalogue


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"colour": "red"}, "no column 'colour'"),
        ({"text": "x"}, "no column 'text'"),
        ({"n_interactions": 5}, "no column 'n_interactions'"),
        ({"price": "cheap"}, "price is 'cheap', expected double"),
        ({"price": True}, "price is 'True'"),
        ({"title": 5}, "title is '5', expected string"),
        ({"categories": "tents"}, "categories is 'tents', expected list"),
        ({"title": "\ud800"}, "title is"),
        ({}, "at least 1"),
    ],
)
def test_bad_fields_are_told_and_not_stored(
    client: TestClient, store: Store, fields: dict[str, object], said: str
) -> None:
    for method in (client.put, client.patch):
        answer = method(
            "/v1/items/new",
            content=json.dumps({"fields": fields}),
            headers={"content-type": "application/json"},
        )
        assert answer.status_code == 422, answer.text
        assert said in answer.json()["detail"].encode("utf-8", "replace").decode()
    assert store.items.since(0, 10) == []


def test_patching_what_is_not_there(client: TestClient, store: Store) -> None:
    assert client.patch("/v1/items/nowhere", json={"fields": {"price": 1.0}}).status_code == 404
    assert store.items.get("nowhere") is None
    client.put("/v1/items/here", json={"fields": TENT})
    client.patch("/v1/items/here", json={"fields": {"price": 99, "brand": None}})
    answer = client.get("/v1/items/here").json()["fields"]
    assert answer == {k: v for k, v in (TENT | {"price": 99}).items() if k != "brand"}


def test_changes_are_numbered_and_none_is_lost(store: Store) -> None:
    """Writers in threads, each with fields of its own of one item and items of its own."""

    def write(name: int) -> None:
        for k in range(10):
            store.items.patch("shared", {f"{name}-{k}": k}, is_known=True)
            store.items.put(f"{name}-{k}", {"k": k})

    writers = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = store.items.since(0, 1000)
    assert [item.change for item in found] == sorted({item.change for item in found})
    assert found[-1].change == 80
    shared = next(item for item in found if item.item_id == "shared")
    assert len(shared.fields or {}) == 40
    assert store.items.since(shared.change, 1000) == [item for item in found if item.change > shared.change]


def test_first_events_move_a_new_item_to_its_audience(
    live: LiveRecommender, store: Store, shop: Shop
) -> None:
    """A new item that users of one taste want gets nearer to those of that taste than to others."""
    factors = shop.user_factors / np.linalg.norm(shop.user_factors, axis=1, keepdims=True)
    near = np.argsort(-(factors @ factors[0]))
    fans, rest = near[:12], near[-12:]
    store.items.put("unclear", {"title": "Thing"})
    live.refresh()
    by_text = score_of(live(), shop, "unclear")
    store.add([StoredEvent(f"e{u}", shop.user_ids[u], "unclear", "purchase") for u in fans[:6]])
    live.refresh()
    after = score_of(live(), shop, "unclear")
    gain = after - by_text
    assert gain[fans[6:]].mean() > gain[rest].mean() + gain.std()
    row = live().catalogue.rows_of(["unclear"])
    assert live().catalogue.has_behaviour(row)[0]

    for u in fans[:6]:
        store.forget(shop.user_ids[u])
    live.refresh()
    assert not live().catalogue.has_behaviour(live().catalogue.rows_of(["unclear"]))[0], (
        "nothing of them remains"
    )
    np.testing.assert_allclose(score_of(live(), shop, "unclear"), by_text, atol=1e-6)


def score_of(model: Recommender, shop: Shop, item: str) -> np.ndarray:
    factor = model.catalogue.factors(model.catalogue.rows_of([item]))[0]
    return np.asarray(shop.user_factors @ factor)


def test_the_solve_of_an_item_is_exact(
    live: LiveRecommender, store: Store, model: Recommender, shop: Shop
) -> None:
    """Against the normal equations written out."""
    item, users = shop.cold_ids[0], shop.user_ids[:3]
    store.add(
        [
            StoredEvent(f"e{k}", u, item, kind)
            for k, (u, kind) in enumerate(zip(users, ("click", "purchase", "dislike"), strict=True))
        ]
    )
    live.refresh()
    fit = CONFIG.factorize
    known = live().with_late(None)
    x = np.stack(
        [
            known.user_factor(Request(u, stored=[Event(item, kind)]))
            for u, kind in zip(users, ("click", "purchase", "dislike"), strict=True)
        ]
    ).astype(np.float64)
    weights = np.array([1.0, 3.0, -1.0])
    c = 1 + fit.alpha * np.abs(weights)
    lam = fit.item_regularization * 2.0 ** (fit.item_frequency_power * np.round(2 * np.log2(4.0)) / 2)
    share = 1 / (1 + 3 / fit.item_text_fade) if fit.item_text_fade else 1.0
    profile = model.catalogue.profiles(model.catalogue.rows_of([item]))
    prior = share * (features(profile)[0].astype(np.float64) @ model.item_map)
    others = weight_of_others(model.catalogue.evidence())
    precision = others * model.user_gramian + (x.T * (c - 1)) @ x + lam * np.eye(len(prior))
    expected = np.linalg.solve(precision, lam * prior + (c * (weights > 0)) @ x)
    np.testing.assert_allclose(
        live().catalogue.factors(live().catalogue.rows_of([item]))[0], expected, rtol=1e-4, atol=1e-5
    )


def test_it_does_not_matter_when_a_replica_reads(
    model: Recommender, store: Store, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reads after every write, one all at the end; an event may come before its item."""
    monkeypatch.setattr("serving.live._AGAIN_SECONDS", 0.0)
    eager = LiveRecommender(lambda: model, store, NEVER, 500)
    store.add([StoredEvent("early", shop.user_ids[0], "n1", "purchase")])
    eager.refresh()
    for name in ("n1", "n2"):
        store.items.put(name, TENT)
        eager.refresh()
        store.add([StoredEvent(f"{name}-{u}", shop.user_ids[u], name, "click") for u in range(1, 4)])
        eager.refresh()
    store.items.patch(shop.item_ids[0], {"price": 1.0}, is_known=True)
    eager.refresh()
    late = LiveRecommender(lambda: model, store, NEVER, 500)
    asked = Request(user_id=shop.user_ids[5], query="tent", n=50)
    assert [i.item_id for i in eager().recommend(asked)] == [i.item_id for i in late().recommend(asked)]
    assert late().catalogue.has_behaviour(late().catalogue.rows_of(["n1", "n2"])).all()
    eager.close()
    late.close()


def test_another_version_has_what_is_late_from_its_first_answer(model: Recommender, store: Store) -> None:
    versions = [model]
    live = LiveRecommender(lambda: versions[0], store, NEVER, 500)
    store.items.put("new-tent", TENT)
    live.refresh()
    versions[0] = model.with_late(None)  # as one that was published
    live.refresh()
    assert live().catalogue.bundle is model.catalogue.bundle
    assert ids(live(), query="waterproof tent for two", n=1) == ["new-tent"]
    live.close()


def test_while_the_store_fails_the_last_stands(
    live: LiveRecommender, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store.items.put("new-tent", TENT)
    live.refresh()
    store.items.put("newer-tent", TENT)
    store.add([StoredEvent("e", "somebody", "new-tent", "click")])
    with monkeypatch.context() as broken:
        broken.setattr(store, "who_had", lambda *_: 1 / 0)
        live.refresh()
        live.refresh()
    assert len(caplog.records) == 1
    assert "newer-tent" not in live().catalogue
    live.refresh()
    assert "newer-tent" in live().catalogue
    assert live().catalogue.has_behaviour(live().catalogue.rows_of(["new-tent"]))[0], (
        "it was read, and not lost"
    )


def test_a_row_is_what_a_build_would_make(model: Recommender) -> None:
    table = model.catalogue.bundle.table
    row = to_row("x", {"title": " <b>Tent</b> &amp; more ", "categories": ["a", "b"]}, table, CONFIG)
    assert row["title"] == "Tent & more"
    assert row["text"].startswith("Tent & more")
    assert set(row) == set(table.column_names)
    with pytest.raises(InputError, match="is_hidden"):
        to_row("x", {"is_hidden": "perhaps"}, table, CONFIG)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e400", "-1e400"])
def test_what_is_no_number_is_refused(client: TestClient, store: Store, value: str) -> None:
    body, json_type = (
        f'{{"fields": {{"title": "x", "price": {value}}}}}',
        {"content-type": "application/json"},
    )
    for method, item in (("PUT", "x"), ("PATCH", "item-000001")):
        answer = client.request(method, f"/v1/items/{item}", content=body, headers=json_type)
        assert answer.status_code == 422, answer.text
        assert "price is" in answer.json()["detail"]
    assert store.items.since(0, 10) == []


def test_blanks_around_an_id_are_no_part_of_it(client: TestClient, live: LiveRecommender) -> None:
    """As in a build; otherwise two items would be shown under one id."""
    for name in ("tent", "%20tent%20", "%C2%A0tent%E2%80%83"):
        assert client.put(f"/v1/items/{name}", json={"fields": TENT}).json()["item_id"] == "tent"
    live.refresh()
    assert ids(live(), n=500).count("tent") == 1
    event = {"user_id": " somebody", "item_id": "tent ", "event": "click"}
    assert client.post("/v1/events", json={"events": [event]}).status_code == 200
    (stored,) = client.get("/v1/users/somebody").json()["events"]
    assert stored["item_id"] == "tent"
    assert client.delete("/v1/items/%20").status_code == 422


def test_what_is_told_of_an_item_can_be_put_again(model: Recommender, store: Store) -> None:
    """Whatever the types of its columns are, and if they hold what JSON has no word for."""
    odd = {
        "cost": pa.array([Decimal("149.99")] * len(model.catalogue.bundle), pa.decimal128(6, 2)),
        "opens": pa.array([time(10, 30)] * len(model.catalogue.bundle)),
        "thumbnail": pa.array([b"\xff\x00"] * len(model.catalogue.bundle)),
        "lasts": pa.array([timedelta(minutes=2)] * len(model.catalogue.bundle)),
        "height": pa.array([float("inf")] * len(model.catalogue.bundle)),
    }
    table = model.catalogue.bundle.table
    for name, column in odd.items():
        table = table.append_column(name, column)
    wide = copy.copy(model)
    wide.catalogue = Catalogue.of(replace(model.catalogue.bundle, table=table), model.catalogue.ranker)
    live = LiveRecommender(lambda: wide, store, NEVER, 500)
    with TestClient(create_app(live, store, CONFIG.serve), raise_server_exceptions=False) as client:
        told = client.get("/v1/items/item-000001").json()["fields"]
        assert (told["cost"], told["opens"], told["lasts"]) == ("149.99", "10:30:00", 120)
        assert "height" not in told
        assert client.put("/v1/items/other", json={"fields": told}).json()["fields"] == told
        changed = {"fields": {"cost": 99.5}}
        assert client.patch("/v1/items/item-000001", json=changed).json()["fields"]["cost"] == 99.5
        live.refresh()
        record = live().catalogue.record(live().catalogue.row("item-000001"))
        assert (record["cost"], record["thumbnail"]) == (Decimal("99.50"), b"\xff\x00")
    live.close()


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (pa.int64(), [5, 5.0, None], [1.5, 10**30, "5", True, [5], float("nan")]),
        (pa.float64(), [5, 0.5], ["0.5", True, {"a": 1}, 10**400, float("nan"), float("inf")]),
        (pa.float32(), [19.99, -5], [1e39, float("-inf")]),
        (pa.timestamp("us", "UTC"), ["2026-01-02T03:04:05Z"], ["yesterday", [1], 10**18, 5, "300000-01-01"]),
        (pa.date32(), ["2026-01-02"], [10**7, "2026-02-30"]),
        (pa.time64("us"), ["10:00:00"], ["noon", 5]),
        (pa.duration("us"), [90, 0.5], ["PT5S", float("nan"), 1e300]),
        (pa.decimal128(5, 2), [1, 149.99, "149.99"], ["1.555", "NaN", "much", True, 1e10, float("inf")]),
        (pa.binary(), ["/0c="], ["%", 5]),
        (pa.list_(pa.string()), [["茶", "tea"], []], ["tea", [1], {"a": 1}, ["\ud800"]]),
        (pa.list_(pa.int64()), [[1, None]], [[1.5], [True]]),
        (
            pa.struct({"width": pa.int64()}),
            [{"width": 1}, {}],
            [{"width": 1.5}, {"width": 1, "x": 1}, [["width", 1]], {"\ud800": 1}],
        ),
        (pa.bool_(), [True], [1, "yes"]),
    ],
)
def test_values_are_of_their_column(kind: pa.DataType, good: list[object], bad: list[object]) -> None:
    for value in good:
        check_fields({"x": value}, {"x": kind})
    for value in bad:
        with pytest.raises(InputError, match="x is"):
            check_fields({"x": value}, {"x": kind})
