"""Tell people, over a webhook, what happened to a rebuild or to the model in service.

The body is JSON with a `text` that Slack shows as it is. With KINDLING_ALERT_SECRET it is signed as GitHub signs its
webhooks: `X-Hub-Signature-256: sha256=` and the HMAC of the body. Nobody being reached is logged, and fails nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import threading
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import urllib3
from urllib3.util import Retry, Timeout

from pipelines.core.config import AlertsConfig
from pipelines.core.errors import ArtefactError
from pipelines.core.layout import Layout
from pipelines.core.privacy import scrub_personal_data
from pipelines.core.runs import program_version, running_ids
from pipelines.core.storage import read_json, write_json

__all__ = ["Kind", "deliver", "send", "webhook_of"]

log = logging.getLogger(__name__)
Kind = Literal["release_refused", "build_failed", "model_stale", "rebuild_recovered"]
_FAILURES = ("release_refused", "build_failed")
_ADDRESS = "KINDLING_ALERT_WEBHOOK"
_SECRET = "KINDLING_ALERT_SECRET"  # noqa: S105 - the name of a variable
_REPEAT_SECONDS = 24 * 3600
_AGAIN = (429, 500, 502, 503, 504)
_LONGEST = 500
"""Characters of one fact: an alert is read on a telephone."""
_KEPT = 20
_CREDENTIALS = re.compile(r"(?<=://)[^\s/@]+@|(?<=\?)\S+")
"""User and password, or the query, of an address within a message."""


@dataclass(frozen=True)
class _Memory:
    """What was sent: `kind version` -> seconds since 1970; and what could not be, the last one first."""

    sent: dict[str, float]
    undelivered: list[dict[str, str]]

    @classmethod
    def read(cls, layout: Layout) -> _Memory:
        """What cannot be read counts as nothing: better an alert twice than none."""
        try:
            found = read_json(layout.alerts)
            sent = {str(k): float(v) for k, v in found["sent"].items()}
            return cls(sent, [dict(u) for u in found["undelivered"]])
        except (ArtefactError, KeyError, TypeError, ValueError, AttributeError):
            return cls({}, [])

    def write(self, layout: Layout) -> None:
        try:
            write_json(layout.alerts, {"sent": self.sent, "undelivered": self.undelivered[:_KEPT]})
        except OSError as e:
            log.warning("%s cannot be written, the same alert may come twice: %s", layout.alerts, e)


def send(settings: AlertsConfig, layout: Layout, kind: Kind, title: str, facts: Mapping[str, object]) -> bool:
    """Tell people, unless they were told the same within a day; never raises because they cannot be reached.

    `rebuild_recovered` is sent only after a failure was told, so it may be called after every good rebuild. Two
    processes that send at the same moment may both do.

    Args:
        settings: whom, and how patiently.
        layout: of OUT, where it is remembered what was sent.
        kind: of alert.
        title: one sentence; no ids of users, no secrets.
        facts: names with numbers or short texts; `version`, where it is there, tells alerts of one kind apart.

    Returns:
        Whether it was delivered now. Why not is logged, and a failure is remembered in `Layout.alerts`.

    """
    memory, now = _Memory.read(layout), datetime.now(UTC)
    name = f"{kind} {facts.get('version', '')}".strip()
    if kind == "rebuild_recovered" and not any(told.startswith(_FAILURES) for told in memory.sent):
        return False
    if not webhook_of(settings):
        log.warning("alert %s is told nobody, for alerts.webhook is not set: %s", name, _clean(title))
        return False
    if now.timestamp() - memory.sent.get(name, 0.0) < _REPEAT_SECONDS:
        log.info("alert %s was sent within the last day already", name)
        return False
    why = deliver(settings, layout, kind, title, facts)
    if why is None:
        log.info("alert %s is delivered", name)
        recent = {told: at for told, at in memory.sent.items() if now.timestamp() - at < _REPEAT_SECONDS}
        if (
            kind == "rebuild_recovered"
        ):  # the next failure is news again, and this good news is told only once
            recent = {told: at for told, at in recent.items() if not told.startswith(_FAILURES)}
            name = ""
        _Memory(recent | ({name: now.timestamp()} if name else {}), memory.undelivered).write(layout)
        return True
    log.warning("alert %s is not delivered: %s", name, why)
    missed = {"at": now.isoformat(timespec="seconds"), "alert": name, "why": why}
    _Memory(memory.sent, [missed, *memory.undelivered]).write(layout)
    return False


def webhook_of(settings: AlertsConfig) -> str:
    """Where alerts go: KINDLING_ALERT_WEBHOOK, else `alerts.webhook`; empty: nowhere."""
    return os.environ.get(_ADDRESS, "").strip() or settings.webhook


def deliver(
    settings: AlertsConfig, layout: Layout, kind: str, title: str, facts: Mapping[str, object]
) -> str | None:
    """Post one alert, whatever was sent before; None: delivered, else why not, without the address's path."""
    body = json.dumps(_document(settings, layout, kind, title, facts), ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", "User-Agent": f"kindling/{program_version()}"}
    if secret := os.environ.get(_SECRET, ""):
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers["X-Hub-Signature-256"] = f"sha256={digest}"
    return _post(settings, webhook_of(settings), body, headers)


def _post(settings: AlertsConfig, address: str, body: bytes, headers: dict[str, str]) -> str | None:
    again = Retry(
        settings.retries,
        status_forcelist=_AGAIN,
        allowed_methods=None,  # a POST too: an alert that comes twice does no harm
        backoff_factor=settings.backoff_seconds,
        respect_retry_after_header=False,  # a rebuild does not wait an hour for it
        raise_on_status=False,
    )
    tries = f"{settings.retries + 1} tries" if settings.retries else "one try"
    try:
        with _no_lines_of_urllib3(), _pool(address) as pool:
            answer = pool.request(
                "POST", address, body=body, headers=headers, retries=again, redirect=False,
                timeout=Timeout(connect=settings.timeout_seconds, read=settings.timeout_seconds),
            )  # fmt: skip
    except (urllib3.exceptions.HTTPError, ValueError) as e:
        # the reason alone: the whole message has the path in it, which may be a secret
        reason = getattr(e, "reason", None) or e
        return f"{_host(address)} is not reached in {tries}: {type(reason).__name__}"
    if 300 <= answer.status < 400:
        return f"{_host(address)} answers {answer.status}, a redirect, which is not followed. Give its new address."
    if answer.status >= 400:
        return f"{_host(address)} answers {answer.status}" + (f" in {tries}" * (answer.status in _AGAIN))
    return None


@contextmanager
def _no_lines_of_urllib3() -> Iterator[None]:
    """Its lines about tries have the path in them, which may be a secret; those of other threads go on."""
    ours = threading.get_ident()
    speakers = [logging.getLogger(f"urllib3.{name}") for name in ("connectionpool", "util.retry")]

    def is_of_others(record: logging.LogRecord) -> bool:
        return record.thread != ours

    for speaker in speakers:
        speaker.addFilter(is_of_others)
    try:
        yield
    finally:
        for speaker in speakers:
            speaker.removeFilter(is_of_others)


def _pool(address: str) -> urllib3.PoolManager:
    """Through the proxy that the environment names for this address (HTTPS_PROXY, NO_PROXY), if it does."""
    parts = urlsplit(address)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.netloc):
        return urllib3.ProxyManager(proxy)
    return urllib3.PoolManager()


def _host(address: str) -> str:
    """Without the path, which may be a secret."""
    return urlsplit(address).hostname or "the webhook"


def _document(
    settings: AlertsConfig, layout: Layout, kind: str, title: str, facts: Mapping[str, object]
) -> dict[str, Any]:
    shop, said = settings.name or layout.root.resolve().name, _clean(title)
    shown = {name: value for name, raw in facts.items() if (value := _fact(raw)) is not None}
    lines = [f"{name}: {value}" for name, value in (*shown.items(), *running_ids().items())]
    return {
        "text": "\n".join([f"Kindling, {shop}: {said}", *lines]),
        "id": uuid.uuid4().hex,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "kind": kind,
        "shop": shop,
        "title": said,
        "facts": shown,
        **running_ids(),
    }


def _fact(value: object) -> bool | int | float | str | None:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return _clean(str(value))


def _clean(text: str) -> str:
    """Short, and without what an error may have quoted: credentials within addresses, people's mail and numbers."""
    scrubbed, _ = scrub_personal_data(_CREDENTIALS.sub("…", text))
    return scrubbed if len(scrubbed) <= _LONGEST else scrubbed[: _LONGEST - 1] + "…"
