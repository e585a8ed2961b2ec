"""`kindling serve` as a process, for tests that talk to it over HTTP."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from serving import proxy
from tests.conftest import command

HAPROXY_WORKS = proxy._why_not() == ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_ready(client: httpx.Client, process: subprocess.Popen[bytes], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, "the service ended"
        try:
            if client.get("/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    pytest.fail("the service was not ready in time")


@contextmanager
def service_of(
    out: Path, folder: Path, settings: str
) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes], Path]]:
    """`kindling serve` over a build, with settings of [serve]; a client, the process, and its log."""
    port = free_port()
    config = folder / "serve.toml"
    config.write_text(f"[serve]\nport = {port}\n{settings}", encoding="utf-8")
    log = folder / "serve.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command("serve", "--out", out, "--config", config), stdout=sink, stderr=sink
        )
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
    try:
        wait_ready(client, process)
        yield client, process, log
    finally:
        client.close()
        process.terminate()
        process.wait(timeout=60)
