"""What is counted is what happened: one number for each thing that was done, on the real routes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from sqlalchemy.engine import URL

from pipelines.core.bundle import BundlePaths, point_current
from pipelines.core.config import ServeConfig
from pipelines.core.layout import Layout
from serving.api import create_app
from serving.holder import CurrentRecommender
from serving.metrics import Meters
from serving.recommender import Recommender
from serving.store.connecting import connect
from serving.store.store import Store
from tests.serving.databases import file_store
from tests.serving.shop import CONFIG, Shop
from tests.serving.test_api import check_problem
from tests.serving.test_keys import bearer


@pytest.fixture
def client(model: Recommender, tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(lambda: model, file_store(tmp_path), CONFIG.serve, meters=Meters("r1"))
    with TestClient(app, raise_server_exceptions=False) as made:
        yield made


def numbers(client: TestClient, headers: dict[str, str] | None = None) -> dict[str, float]:
    """Every sample that `/metrics` shows, by name and labels other than the replica."""
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    found = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = [f'{k}="{v}"' for k, v in sorted(sample.labels.items()) if k != "replica"]
            found[sample.name + ("{" + ",".join(labels) + "}" if labels else "")] = sample.value
    return found


def changes(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """What counters have counted meanwhile; nothing of /metrics itself, nor of how long anything took."""
    return {
        name: after[name] - before.get(name, 0.0)
        for name in after
        if name.startswith("kindling_") and after[name] != before.get(name, 0.0)
        and "_bucket" not in name and "_sum" not in name and "/metrics" not in name
    }  # fmt: skip


def test_a_list_is_counted_once_in_each_place(client: TestClient, shop: Shop) -> None:
    before = numbers(client)
    body = {"user_text": "I like tea of no other test", "query": "a pot of no other test", "n": 120}
    items = client.post("/v1/recommend", json=body).json()["items"]
    shown = {item["item_id"] for item in items}
    n_cold = len(shown & set(shop.cold_ids))
    assert 0 < n_cold < len(shown)
    assert changes(before, numbers(client)) == {
        'kindling_request_seconds_count{method="POST",route="/v1/recommend",status="200"}': 1,
        'kindling_lists_total{source="text"}': 1,
        'kindling_items_shown_total{source="text"}': len(shown),
        "kindling_cold_items_shown_total": n_cold,
        "kindling_encode_seconds_count": 1,
        "kindling_encode_texts_count": 1,
        "kindling_fold_in_seconds_count": 1,
        "kindling_rank_seconds_count": 1,
    }
    assert numbers(client)["kindling_encode_texts_sum"] - before["kindling_encode_texts_sum"] == 2


@pytest.mark.parametrize(
    ("body", "source"),
    [
        ({}, "fallback"),
        ({"user_id": "user-000002"}, "hot"),
        ({"user_id": "user-000002", "events": [{"item_id": "item-000001"}]}, "fold_in"),
        ({"filter": {"brand": []}}, "empty"),
    ],
)
def test_a_list_has_the_source_of_the_most_that_is_known(
    client: TestClient, body: dict[str, object], source: str
) -> None:
    before = numbers(client)
    client.post("/v1/recommend", json=body)
    counted = changes(before, numbers(client))
    assert {name for name in counted if "lists" in name} == {f'kindling_lists_total{{source="{source}"}}'}
    looked_up = 'kindling_store_seconds_count{operation="look_up",outcome="ok"}'
    assert counted.get(looked_up, 0) == ("user_id" in body)


def test_events_and_their_age(client: TestClient) -> None:
    before, now = numbers(client), time.time()
    of = {"user_id": "anna", "item_id": "item-000001"}
    batch = [of | {"event_id": "1", "timestamp": now - 40}, of | {"event_id": "2", "timestamp": now + 40}, of]
    assert client.post("/v1/events", json={"events": batch}).is_success
    conflict = [of | {"event_id": "1", "timestamp": now - 40}, of | {"event_id": "2", "weight": 2.0}]
    assert client.post("/v1/events", json={"events": conflict}).is_success
    after = numbers(client)
    counted = changes(before, after)
    assert [
        counted[f'kindling_events_total{{outcome="{o}"}}'] for o in ("stored", "duplicate", "conflict")
    ] == [3, 1, 1]
    assert counted["kindling_event_lag_seconds_count"] == 2  # of those that say when, and were stored
    assert 40 <= after["kindling_event_lag_seconds_sum"] < 70
    assert counted['kindling_store_seconds_count{operation="write_events",outcome="ok"}'] == 2


def test_what_is_not_answered_is_counted_by_reason(model: Recommender, store: Store, url: URL) -> None:
    settings = ServeConfig(auth="keys", rate_limit=1, max_body_bytes=1000)
    client = TestClient(create_app(lambda: model, store, settings), raise_server_exceptions=False)
    key = {scope: bearer(store.keys.add(scope, [scope])) for scope in ("read", "write")}
    before = numbers(client, bearer(store.keys.add("prometheus", ["read"])))
    assert client.post("/v1/recommend", json={}).status_code == 401
    assert client.get("/v1/users/anna", headers=key["read"]).status_code == 403
    assert client.post("/v1/recommend", content=b" " * 1001, headers=key["read"]).status_code == 413
    assert client.post("/v1/recommend", json={"n": 0}, headers=key["write"]).status_code == 422
    with connect(url).begin() as connection:
        connection.execute(text("DROP TABLE events"))
    assert client.get("/v1/recommend/anna", headers=key["write"]).status_code == 503
    while client.post("/v1/recommend", json={}, headers=key["write"]).status_code == 200:
        pass
    after = numbers(client, bearer(store.keys.add("prometheus again", ["read"])))
    counted = changes(before, after)
    reasons = {name.split('"')[1]: n for name, n in counted.items() if "refused_total{" in name}
    assert reasons == {"key": 1, "scope": 1, "too_large": 1, "invalid": 1, "store": 1, "rate_limit": 1}
    assert counted['kindling_store_seconds_count{operation="look_up",outcome="failed"}'] == 1
    assert counted['kindling_store_seconds_count{operation="find_key",outcome="ok"}'] == 3


def test_no_id_of_anybody_is_a_label(client: TestClient) -> None:
    for method, path in (
        ("GET", "/v1/recommend/secret-id"), ("PUT", "/v1/users/secret-id"), ("GET", "/secret-id"),
        ("GET", "/v1/items/secret-id/similar"), ("GET", "/v1/users/secret-id/merge?x=secret-id"),
    ):  # fmt: skip
        client.request(method, path, json={"query": "secret-id", "description": "secret-id"})
    client.request("SECRET", "/v1/recommend")
    shown = client.get("/metrics").text
    assert "secret" not in shown.lower()
    for route in ("/v1/recommend/{user_id}", "/v1/users/{user_id}", "other"):
        assert f'route="{route}"' in shown


def test_every_sample_says_of_which_replica(client: TestClient) -> None:
    samples = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    assert len(samples) > 50
    assert all('replica="r1"' in line for line in samples)
    assert not any("_created" in line for line in samples)
    openmetrics = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert openmetrics.text.endswith("# EOF\n")


def test_metrics_want_a_key_where_routes_do(model: Recommender, store: Store) -> None:
    client = TestClient(create_app(lambda: model, store, ServeConfig(auth="keys")))
    check_problem(client.get("/metrics"), 401, "key")
    assert client.get("/metrics", headers=bearer(store.keys.add("prometheus", ["read"]))).status_code == 200


def test_which_version_is_served_and_what_is_refused(out: Path, model: Recommender, tmp_path: Path) -> None:
    holder = CurrentRecommender(out, 3600.0)
    meters = Meters()
    meters.watch_bundles(holder)
    client = TestClient(create_app(holder, file_store(tmp_path), CONFIG.serve, meters=meters))

    def found() -> dict[str, float]:
        names = ("model", "bundle", "ready")
        return {n: v for n, v in numbers(client).items() if any(f"kindling_{name}" in n for name in names)}

    good = {
        "kindling_ready": 1, 'kindling_model_info{version="v1"}': 1, "kindling_bundle_is_refused": 0,
        "kindling_model_built_timestamp_seconds": model.built_at, "kindling_bundles_refused_total": 0,
    }  # fmt: skip
    assert found() == good
    assert abs(time.time() - model.built_at) < 3600
    layout = Layout(out)
    try:
        shutil.copytree(layout.bundle("v1"), layout.bundle("v2"))
        BundlePaths(layout.bundle("v2")).manifest.write_text("{")
        point_current(layout, "v2")
        for _ in range(3):  # refused once, and still refused whenever somebody looks
            holder.refresh()
            assert found() == good | {"kindling_bundle_is_refused": 1, "kindling_bundles_refused_total": 1}
        point_current(layout, "v1")
        holder.refresh()
        assert found() == good | {"kindling_bundles_refused_total": 1}
    finally:
        holder.close()


def test_without_a_version(tmp_path: Path) -> None:
    client = TestClient(create_app(lambda: None, file_store(tmp_path), CONFIG.serve))
    client.post("/v1/recommend", json={})
    found = numbers(client)
    assert found["kindling_ready"] == 0
    assert found['kindling_requests_refused_total{reason="not_ready"}'] == 1
    assert not any("model_info" in name for name in found)
