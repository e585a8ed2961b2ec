"""Commands submitted to a running cluster over HTTP: `kindling submit` and `kindling jobs`."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import psutil
import pytest

from jobs.nightly import night_id
from jobs.nights import list_nights
from pipelines.core.bundle import check_bundle, current_version
from pipelines.core.layout import Layout
from pipelines.core.runs import list_runs
from tests.conftest import Finished, kindling

pytestmark = [pytest.mark.ray, pytest.mark.slow]

RAY = str(Path(sys.executable).parent / "ray")
OPEN = {"RAY_AUTH_MODE": "disabled"}


def free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [int(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


@contextmanager
def cluster_of(temporary: Path, extra: Mapping[str, str]) -> Iterator[str]:
    """`ray start --head` on ports of its own; stopped by its own temporary directory, not `ray stop`."""
    gcs, dashboard, client, agent = free_ports(4)
    env = {**os.environ, **extra, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
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


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cluster_of(tmp_path_factory.mktemp("r"), OPEN) as address:
        yield address


def submit(address: str, *arguments: str | Path) -> Finished:
    return kindling("submit", *arguments, "--address", address, env=OPEN)


def jobs(address: str, *arguments: str) -> Finished:
    return kindling("jobs", *arguments, "--address", address, env=OPEN)


def test_a_submitted_build_publishes_once(
    cluster: str, tmp_path: Path, small_data: Path, small_config: Path
) -> None:
    out = tmp_path / "out"
    build = (
        "build",
        "--data",
        small_data,
        "--out",
        out,
        "--config",
        small_config,
        "--id",
        "of-today",
        "--wait",
    )
    submitted = submit(cluster, *build)
    assert submitted.status == 0, submitted.out[-3000:] + submitted.err[-3000:]
    assert "of-today is submitted" in submitted.out
    assert submitted.out.count("published") == 1
    check_bundle(Layout(out).bundle(current_version(Layout(out))))
    assert json.loads(Layout(out).metrics.read_text())["counts"]["items"] == 240
    assert [run.job_id for run in list_runs(Layout(out))] == ["of-today"]
    again = submit(cluster, *build)
    assert again.status == 0
    assert "of-today is there already" in again.out
    assert again.out.count("published") == 1  # what the job printed
    assert len(list_runs(Layout(out))) == 1
    assert "of-today" in jobs(cluster, "list").out
    assert jobs(cluster, "logs", "of-today").out.count("published") == 1


def test_a_failing_build_fails_with_its_own_status_and_may_be_tried_again(
    cluster: str, tmp_path: Path
) -> None:
    data = tmp_path / "nowhere"
    build = ("build", "--data", data, "--out", tmp_path / "out", "--id", "failing", "--wait")
    for _ in range(2):
        submitted = submit(cluster, *build)
        assert submitted.status == 3, submitted.out + submitted.err
        assert "failing is submitted" in submitted.out
        assert "cannot be listed" in submitted.out


def test_a_night_is_one_job_and_one_record(cluster: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    night = ("nightly", "--date", "2026-03-14", "--data", tmp_path / "nowhere", "--out", out, "--wait")
    first = kindling(*night, "--address", cluster, env=OPEN)
    assert first.status == 3, first.out + first.err
    assert "is submitted" in first.out
    again = kindling(
        *night, "--address", cluster, env=OPEN
    )  # a job that failed gives up its name, not its night
    assert again.status == 3, again.out + again.err
    assert "night 2026-03-14 has failed before" in again.out
    (known,) = list_nights(Layout(out))
    assert (known.state, known.tries, known.exit_code) == ("failed", 1, 3)
    (name,) = set(re.findall(r"kindling-night-\S+", jobs(cluster, "list").out))
    assert name == night_id(date(2026, 3, 14), str(out))
    retried = kindling(*night, "--retry", "--address", cluster, env=OPEN)
    assert retried.status == 3
    assert list_nights(Layout(out))[0].tries == 2


def test_a_job_is_stopped_and_goes_on_when_it_is_submitted_again(
    cluster: str, tmp_path: Path, small_data: Path, small_config: Path
) -> None:
    out = tmp_path / "out"
    build = ("build", "--data", small_data, "--out", out, "--config", small_config, "--id", "stopped")
    assert submit(cluster, *build, "--until-stage", "split").status == 0
    deadline = time.monotonic() + 120
    while not Layout(out).lock.exists():
        assert time.monotonic() < deadline, jobs(cluster, "list").out
        time.sleep(0.2)
    assert jobs(cluster, "stop", "stopped").out == "stopped is stopped\n"
    assert jobs(cluster, "logs", "stopped").status == 130
    assert jobs(cluster, "stop", "stopped").out == "stopped had ended\n"
    finished = submit(cluster, *build, "--until-stage", "split", "--wait")
    assert finished.status == 0, finished.out + finished.err
    assert Layout(out).marker("split").is_file()


def test_what_is_not_there_is_said(cluster: str) -> None:
    for command in ("logs", "stop"):
        found = jobs(cluster, command, "nobody")
        assert found.status == 3
        assert "no job 'nobody'" in found.err
    (port,) = free_ports(1)
    found = jobs(f"http://127.0.0.1:{port}", "list")
    assert found.status == 6
    assert "--address" in found.err


def test_a_cluster_that_wants_a_token(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    token, other = tmp_path / "token", tmp_path / "other"
    token.write_text("a" * 64)
    other.write_text("b" * 64)
    known = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    with cluster_of(tmp_path_factory.mktemp("t"), known) as address:
        for env in (OPEN, known | {"RAY_AUTH_TOKEN_PATH": str(other)}):
            refused = kindling("jobs", "list", "--address", address, env=env)
            assert refused.status == 6, refused.out + refused.err
            assert "token" in refused.err
        build = ("build", "--data", tmp_path / "nowhere", "--out", tmp_path / "out", "--wait")
        submitted = kindling("submit", *build, "--address", address, env=known)
        assert submitted.status == 3, submitted.out + submitted.err
        assert "cannot be listed" in submitted.out
