"""Alerts over a real HTTP server: signed, tried again, told once a day, and never in a rebuild's way."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.alerting import send
from jobs.alerts_cli import alerts_app
from pipelines.core.bundle import BundlePaths, write_manifest
from pipelines.core.config import AlertsConfig, Config, parse_config, to_toml
from pipelines.core.errors import ConfigError
from pipelines.core.layout import Layout
from pipelines.core.runs import recording
from pipelines.core.storage import read_json, write_json, write_text

SECRET = "a shared secret"  # noqa: S105


@dataclass
class Receiver:
    """A webhook: answers with the statuses it is told, then 200, and keeps what it got."""

    address: str = ""
    statuses: list[int] = field(default_factory=list)
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """What it got, as JSON."""
        return [json.loads(body) for _, _, body in self.got]


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    for name in ("KINDLING_ALERT_SECRET", "KINDLING_ALERT_WEBHOOK", "KINDLING_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Keep it and answer."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            status = kept.statuses.pop(0) if kept.statuses else 200
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"{kept.address}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.address = f"http://127.0.0.1:{server.server_port}/hook/of/ours"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield kept
    server.shutdown()
    server.server_close()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    root = tmp_path / "shop"
    root.mkdir()
    return Layout(root)


def settings(receiver: Receiver, **changes: object) -> AlertsConfig:
    patient = {"webhook": receiver.address, "backoff_seconds": 0, "timeout_seconds": 5}
    return AlertsConfig.model_validate(patient | changes)


def test_delivered_signed_and_readable(
    receiver: Receiver, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINDLING_ALERT_SECRET", SECRET)
    monkeypatch.setenv("KINDLING_JOB_ID", "nightly-7")
    with recording(layout, "d") as recorder:
        facts = {"version": "v1", "recall": 0.25, "beyond": ["items_gone", "中文"], "nothing": None}
        assert send(settings(receiver), layout, "release_refused", "Held back.", facts)
    ((path, headers, body),) = receiver.got
    assert path == "/hook/of/ours"
    expected = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert headers["x-hub-signature-256"] == f"sha256={expected}"
    assert headers["content-type"] == "application/json"
    (told,) = receiver.bodies
    assert (told["kind"], told["title"], told["shop"]) == ("release_refused", "Held back.", "shop")
    assert told["facts"] == {"version": "v1", "recall": 0.25, "beyond": "items_gone, 中文"}
    assert (told["run_id"], told["job_id"]) == (recorder.record.run_id, "nightly-7")
    assert told["text"].startswith("Kindling, shop: Held back.\nversion: v1\nrecall: 0.25\n")
    assert SECRET not in body.decode()


def test_without_a_secret_nothing_is_signed(receiver: Receiver, layout: Layout) -> None:
    assert send(settings(receiver, name="our shop"), layout, "build_failed", "Failed.", {})
    assert "x-hub-signature-256" not in receiver.got[0][1]
    assert receiver.bodies[0]["shop"] == "our shop"


@pytest.mark.parametrize(
    ("statuses", "retries", "delivered", "n_tries"),
    [
        ([500], 3, True, 2), ([503, 429, 502], 3, True, 4), ([500, 500], 1, False, 2), ([500], 0, False, 1),
        ([404], 3, False, 1), ([302], 3, False, 1),
    ],
)  # fmt: skip
def test_tried_again_where_that_may_help(
    statuses: list[int], retries: int, delivered: bool, n_tries: int, receiver: Receiver, layout: Layout
) -> None:
    receiver.statuses = list(statuses)
    assert send(settings(receiver, retries=retries), layout, "build_failed", "x", {}) is delivered
    assert [path for path, _, _ in receiver.got] == ["/hook/of/ours"] * n_tries  # no redirect is followed
    assert len({body for _, _, body in receiver.got}) == 1  # the same alert each time


def test_what_is_not_delivered_is_told_without_the_address(
    receiver: Receiver, layout: Layout, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.statuses = [302]
    with caplog.at_level(logging.DEBUG):
        assert not send(settings(receiver), layout, "build_failed", "x", {"version": "v2"})
        nobody = settings(receiver, webhook="http://127.0.0.1:1/secret/path", retries=1)
        assert not send(nobody, layout, "build_failed", "x", {"version": "v2"})
    missed = read_json(layout.alerts)["undelivered"]
    assert [m["alert"] for m in missed] == ["build_failed v2"] * 2
    assert "127.0.0.1 is not reached in 2 tries: NewConnectionError" in missed[0]["why"]
    assert "302, a redirect, which is not followed" in missed[1]["why"]
    ours = [r.getMessage() for r in caplog.records if r.name == "jobs.alerting"]
    assert [m.split(":")[0] for m in ours] == ["alert build_failed v2 is not delivered"] * 2
    assert not any("secret/path" in text or "hook/of" in text for text in (caplog.text, json.dumps(missed)))
    assert send(settings(receiver), layout, "build_failed", "x", {"version": "v2"})  # not taken for sent


def test_an_address_that_does_not_answer_is_given_up(receiver: Receiver, layout: Layout) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # accepts and says nothing
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}/x"
        impatient = settings(receiver, webhook=address, timeout_seconds=0.05, retries=1)
        assert not send(impatient, layout, "build_failed", "x", {})
    assert "ReadTimeoutError" in read_json(layout.alerts)["undelivered"][0]["why"]


def test_the_same_is_told_once_a_day(receiver: Receiver, layout: Layout) -> None:
    wanted = settings(receiver)
    for version in ("v1", "v1", "v2", "v1"):
        send(wanted, layout, "model_stale", "old", {"version": version})
    send(wanted, layout, "build_failed", "failed", {"version": "v1"})
    assert [b["facts"]["version"] for b in receiver.bodies] == ["v1", "v2", "v1"]
    sent = read_json(layout.alerts)["sent"]
    yesterday = (datetime.now(UTC) - timedelta(hours=25)).timestamp()
    write_json(layout.alerts, {"sent": dict.fromkeys(sent, yesterday), "undelivered": []})
    assert send(wanted, layout, "model_stale", "old", {"version": "v1"})
    assert list(read_json(layout.alerts)["sent"]) == ["model_stale v1"]  # what is over is forgotten


def test_recovery_is_told_after_a_failure_only(receiver: Receiver, layout: Layout) -> None:
    wanted = settings(receiver)
    assert not send(wanted, layout, "rebuild_recovered", "fine", {"version": "v1"})
    assert send(wanted, layout, "build_failed", "failed", {})
    assert send(wanted, layout, "rebuild_recovered", "fine again", {"version": "v2"})
    assert not send(wanted, layout, "rebuild_recovered", "still fine", {"version": "v3"})
    assert send(wanted, layout, "build_failed", "failed", {})  # news again
    assert [b["kind"] for b in receiver.bodies] == ["build_failed", "rebuild_recovered", "build_failed"]


@pytest.mark.parametrize("content", ["{", "[]", '{"sent": {"model_stale v1": "x"}}', '{"sent": 3}'])
def test_a_spoilt_memory_stops_nothing(content: str, receiver: Receiver, layout: Layout) -> None:
    write_text(layout.alerts, content)
    assert send(settings(receiver), layout, "model_stale", "old", {"version": "v1"})
    assert not send(settings(receiver), layout, "model_stale", "old", {"version": "v1"})


def test_a_memory_that_cannot_be_written_stops_nothing(
    receiver: Receiver, layout: Layout, caplog: pytest.LogCaptureFixture
) -> None:
    layout.alerts.mkdir()  # what a full disk does to whoever is not root
    assert send(settings(receiver), layout, "build_failed", "no space left", {})
    assert "may come twice" in caplog.text


def test_nothing_secret_and_nobody_is_in_it(receiver: Receiver, layout: Layout) -> None:
    why = "postgresql://shop:hunter2@db/x refused http://h/p?token=abc for jane.doe@example.com " + "x" * 900
    assert send(
        settings(receiver), layout, "build_failed", why, {"why": why, "version": "v20261127-110500-ab12cd34"}
    )
    (told,) = receiver.bodies
    body = json.dumps(told)
    assert not any(word in body for word in ("hunter2", "token", "jane.doe"))
    assert len(told["facts"]["why"]) == len(told["title"]) == 500
    assert told["facts"]["version"] == "v20261127-110500-ab12cd34"


def test_the_environment_goes_before_the_settings(
    receiver: Receiver, layout: Layout, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert not send(AlertsConfig(), layout, "build_failed", "x", {})
    assert "is told nobody" in caplog.text
    monkeypatch.setenv("KINDLING_ALERT_WEBHOOK", f"{receiver.address}?key=1")
    assert send(settings(receiver, webhook="http://127.0.0.1:1/x"), layout, "build_failed", "x", {})
    assert receiver.got[0][0] == "/hook/of/ours?key=1"
    monkeypatch.setenv("KINDLING_ALERT_WEBHOOK", "no address")
    assert not send(AlertsConfig(retries=0), layout, "model_stale", "x", {})


def test_a_proxy_is_used_where_the_environment_names_one(
    receiver: Receiver, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", receiver.address)
    monkeypatch.setenv("no_proxy", "other.example")
    assert send(settings(receiver, webhook="http://hooks.example/x"), layout, "build_failed", "x", {})
    assert receiver.got[0][0] == "http://hooks.example/x"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert send(settings(receiver), layout, "model_stale", "x", {})
    assert receiver.got[1][0] == "/hook/of/ours"


@pytest.mark.parametrize(
    "webhook", ["ftp://h/x", "http://u:p@h/x", "http://h/x?token=1", "hooks", "http://h/#x"]
)
def test_addresses_with_credentials_are_refused(webhook: str) -> None:
    with pytest.raises(ConfigError, match="KINDLING_ALERT_WEBHOOK"):
        parse_config({"alerts": {"webhook": webhook}}, "test")


def serve(layout: Layout, hours: float, **alerts: object) -> None:
    """Put a version into service that is so old."""
    paths = BundlePaths(layout.bundle("v1"))
    write_text(paths.config, to_toml(parse_config({"alerts": alerts}, "test")))
    write_manifest(paths, "v1", {"created_at": (datetime.now(UTC) - timedelta(hours=hours)).isoformat()})
    change = {"version": "v1", "how": "publish", "at": "2026-01-01T00:00:00+00:00"}
    write_json(layout.current, {"version": "v1", "history": [change]})


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(alerts_app, [str(a) for a in arguments])
    return done.exit_code, done.output


def test_an_old_model_is_told(receiver: Receiver, layout: Layout) -> None:
    serve(layout, 50, webhook=receiver.address)
    status, said = run("check", "--out", layout.root)
    assert (status, "50.0 hours old, 48 are allowed" in said, "An alert was sent" in said) == (1, True, True)
    (told,) = receiver.bodies
    assert told["kind"] == "model_stale"
    assert told["facts"]["version"] == "v1"
    assert told["facts"]["hours"] == 50.0
    assert told["facts"]["in_service_since"] == "2026-01-01T00:00:00+00:00"
    status, said = run("check", "--out", layout.root)
    assert (status, "No alert was sent" in said, len(receiver.got)) == (1, True, 1)


@pytest.mark.parametrize(("hours", "allowed"), [(47, 48), (500, 0), (500, 501)])
def test_a_young_model_is_not(hours: float, allowed: float, receiver: Receiver, layout: Layout) -> None:
    serve(layout, hours, webhook=receiver.address, stale_hours=allowed)
    assert run("check", "--out", layout.root)[0] == 0
    assert receiver.got == []


def test_no_model_is_told_as_well(receiver: Receiver, layout: Layout, tmp_path: Path) -> None:
    config = tmp_path / "alerts.toml"
    config.write_text(to_toml(Config(alerts=settings(receiver))), encoding="utf-8")
    status, said = run("check", "--out", layout.root, "--config", config)
    assert (status, "holds no published build" in said) == (1, True)
    assert receiver.bodies[0]["title"] == "No model is in service."


def test_a_trial(receiver: Receiver, layout: Layout) -> None:
    serve(layout, 1, webhook=receiver.address, retries=0)
    for _ in range(2):  # a trial is not remembered
        assert run("test", "--out", layout.root) == (0, "delivered\n")
    receiver.statuses = [403]
    assert run("test", "--out", layout.root) == (1, "not delivered: 127.0.0.1 answers 403\n")
    assert not layout.alerts.exists()
    with pytest.raises(ConfigError, match=r"alerts\.webhook is not set"):
        CliRunner().invoke(alerts_app, ["test", "--out", str(layout.root / "x")], catch_exceptions=False)
