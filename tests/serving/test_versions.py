"""Routes that change what is in service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from pipelines.core.bundle import BundlePaths, current_version
from pipelines.core.config import ServeConfig
from pipelines.core.layout import Layout
from pipelines.core.registry.folder import Folder
from serving.api import create_app
from serving.holder import CurrentRecommender
from tests.serving.databases import file_store
from tests.serving.test_api import check_problem
from tests.serving.test_holder import NEVER, publish, spoil
from tests.serving.test_keys import bearer

URL = "/v1/admin/versions"


@pytest.fixture
def holder(out: Path) -> Iterator[CurrentRecommender]:
    made = CurrentRecommender(out, NEVER)
    publish(out, "v2")
    yield made
    made.close()


@pytest.fixture
def client(holder: CurrentRecommender, out: Path, tmp_path: Path) -> Iterator[TestClient]:
    store = file_store(tmp_path)
    app = create_app(holder, store, ServeConfig(auth="keys"), layout=Layout(out))
    with TestClient(app, headers=bearer(store.keys.add("a", ["admin"]))) as made:
        yield made
    store.close()


def test_there_and_back(client: TestClient, holder: CurrentRecommender) -> None:
    listed = client.get(URL).json()["versions"]
    assert [(v["version"], v["is_current"], v["problem"]) for v in listed] == [
        ("v2", True, None), ("v1", False, None),
    ]  # fmt: skip
    assert listed[1]["metrics"] == {"version": "v1"}
    holder.refresh()
    assert client.post(f"{URL}/v1/promote").json() == {"version": "v1", "former_version": "v2"}
    holder.refresh()
    assert client.get("/health/ready").json()["model_version"] == "v1"
    assert client.post(f"{URL}/rollback").json() == {"version": "v2", "former_version": "v1"}
    holder.refresh()
    assert client.get("/health/ready").json()["model_version"] == "v2"


def test_what_cannot_be_put_into_service_is_not(
    client: TestClient, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_problem(client.post(f"{URL}/v7/promote"), 404, "there are v2, v1")
    spoil(BundlePaths(Layout(out).bundle("v1")))
    check_problem(client.post(f"{URL}/v1/promote"), 409, "item_arrays")
    check_problem(client.post(f"{URL}/rollback"), 409, "nothing to go back to")
    assert "item_arrays" in client.get(URL).json()["versions"][1]["problem"]
    assert current_version(Layout(out)) == "v2"
    monkeypatch.setattr("pipelines.core.registry.folder.WAIT_SECONDS", 0.01)
    with Folder(Layout(out)).changing():
        check_problem(client.post(f"{URL}/v2/promote"), 409, "Try again")


def test_a_report_is_a_file_to_keep(client: TestClient, out: Path) -> None:
    check_problem(client.get(f"{URL}/v2/report"), 404, "no report")
    check_problem(client.get(f"{URL}/v7/report"), 404, "there are")
    BundlePaths(Layout(out).bundle("v2")).report.write_text("<p>0.3</p>")
    answer = client.get(f"{URL}/v2/report")
    assert answer.text == "<p>0.3</p>"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="kindling-v2.html"'


def test_only_administrators(holder: CurrentRecommender, out: Path, tmp_path: Path) -> None:
    store = file_store(tmp_path)
    with TestClient(create_app(holder, store, ServeConfig(auth="keys"), layout=Layout(out))) as client:
        headers = bearer(store.keys.add("b", ["read", "write"]))
        for method, path in (
            ("GET", URL), ("POST", f"{URL}/v1/promote"), ("POST", f"{URL}/rollback"), ("GET", f"{URL}/v1/report"),
        ):  # fmt: skip
            check_problem(client.request(method, path, headers=headers), 403, "this wants admin")
            check_problem(client.request(method, path), 401)
    assert current_version(Layout(out)) == "v2"
    store.close()
