"""A build submitted as a job to a running cluster, with the command of the README."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipelines.core.bundle import check_bundle, current_version
from pipelines.core.layout import Layout
from tests.conftest import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow]

RAY = str(Path(sys.executable).parent / "ray")


def free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [int(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`ray start --head` on ports of its own; stopped by its own temporary directory, not `ray stop`."""
    temporary = tmp_path_factory.mktemp("r")
    gcs, dashboard, client, agent = free_ports(4)
    env = {
        **os.environ,
        "RAY_AUTH_MODE": "disabled",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    env.pop("RAY_ADDRESS", None)
    arguments = [
        RAY, "start", "--head", f"--port={gcs}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1",
        f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}",  # or two clusters collide
        f"--temp-dir={temporary}", "--num-cpus=4", "--disable-usage-stats",
    ]  # fmt: skip
    subprocess.run(arguments, check=True, env=env, capture_output=True, timeout=120)
    try:
        yield f"http://127.0.0.1:{dashboard}"
    finally:
        for process in psutil.process_iter(["cmdline"]):
            if any(str(temporary) in part for part in process.info["cmdline"] or []):
                process.kill()


def submit(address: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`ray job submit`, again while the young cluster has no agent to run it yet."""
    for _ in range(20):
        done = subprocess.run(
            [RAY, "job", "submit", "--address", address, *map(str, arguments)],
            cwd=cwd, capture_output=True, text=True, timeout=400, check=False,
            env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        )  # fmt: skip
        if "No available agent" not in done.stderr:
            break
        time.sleep(2)
    return done


def test_submitted_build_publishes(
    cluster: str, tmp_path: Path, small_data: Path, small_config: Path
) -> None:
    # what travels is a checkout: the working directory must not be larger than Ray allows
    checkout = tmp_path / "checkout"
    ignored = shutil.ignore_patterns(".venv", ".git", "demo", "__pycache__", ".*_cache", "*.egg-info")
    shutil.copytree(ROOT, checkout, ignore=ignored)
    out = tmp_path / "out"
    build = ("kindling", "build", "--data", small_data, "--out", out, "--config", small_config)
    submitted = submit(cluster, "--working-dir", ".", "--", *build, cwd=checkout)
    assert submitted.returncode == 0, submitted.stdout[-3000:] + submitted.stderr[-3000:]
    assert "published" in submitted.stdout
    check_bundle(Layout(out).bundle(current_version(Layout(out))))
    assert json.loads(Layout(out).metrics.read_text())["counts"]["items"] == 240


def test_a_failing_build_fails_its_job(cluster: str, tmp_path: Path) -> None:
    build = ("kindling", "build", "--data", tmp_path / "nowhere", "--out", tmp_path / "out")
    submitted = submit(cluster, "--", *build, cwd=tmp_path)
    assert submitted.returncode != 0
    assert "cannot be listed" in submitted.stdout + submitted.stderr
