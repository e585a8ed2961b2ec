"""What became of each night: a record a date in OUT, and who may work on one now.

A night is held twice. The kernel gives a lock back when its process dies, which tells at once on the same host. A lease
in the record, renewed while the night runs, tells hosts that cannot see each other's locks or processes.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import psutil
from filelock import FileLock, Timeout

from pipelines.core.errors import ArtefactError, BusyError, InputError
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json, write_json

NIGHT_SCHEMA = 1
LEASE_SECONDS = 600.0
RENEW_SECONDS = 60.0
_ASKING_SECONDS = 5.0
"""For which the lock may be held by somebody who only looks."""
_MOST_NIGHTS = 400
_FIRST_ON_EARTH = timedelta(hours=14)
"""By which the earliest time zone is ahead of UTC."""
State = Literal["running", "published", "unchanged", "refused", "failed", "stopped"]
DONE: tuple[State, ...] = ("published", "unchanged", "refused")
log = logging.getLogger(__name__)


@dataclass
class Night:
    """One night.

    Attributes:
        date: ISO 8601; its name.
        state: the next call goes on with one that is `stopped`, or `running` by nobody; `--retry` with one that is
            `failed` or `refused`.
        started: seconds since 1970, of the last try.
        host: it ran on.
        pid: there.
        lease: until then nobody else takes it over, seconds since 1970; null: it has ended.
        tries: how often it was begun.
        ended: seconds since 1970; null: it has not.
        version: that it published or found in service.
        reasons: why it was refused or failed.
        figures: of the release gate; empty where it was not asked.
        exit_code: of the command.
        passed_over: nights since the last one done that were not, and will not be.
        schema_version: of this file.

    """

    date: str
    state: State
    started: float
    host: str
    pid: int
    lease: float | None
    tries: int = 1
    ended: float | None = None
    version: str | None = None
    reasons: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    passed_over: list[str] = field(default_factory=list)
    schema_version: int = NIGHT_SCHEMA

    @property
    def owner(self) -> tuple[str, int, int]:
        """Who works on it, and in which try."""
        return self.host, self.pid, self.tries

    def is_held(self, now: float) -> bool:
        """Whether its lease is good."""
        return self.state == "running" and self.lease is not None and self.lease > now

    def is_killed(self, now: float) -> bool:
        """Whether it should run, and does not as far as can be told from here."""
        if self.state != "running":
            return False
        is_gone = self.host == socket.gethostname() and not psutil.pid_exists(self.pid)
        return is_gone or not self.is_held(now)


def read_night(layout: Layout, name: str) -> Night | None:
    """What is known of a date; None: nothing.

    Raises:
        ArtefactError: its file cannot be read, or a newer program wrote it.

    """
    path = layout.night(name)
    if not path.is_file():
        return None
    found = read_json(path)
    if isinstance(found, dict) and found.get("schema_version", 0) > NIGHT_SCHEMA:
        raise ArtefactError(
            f"{path} has schema version {found['schema_version']}, this program knows {NIGHT_SCHEMA}: a newer Kindling "
            "wrote it. Install that."
        )
    try:
        return Night(**found)
    except TypeError as e:
        raise ArtefactError(f"{path} is no record of a night: {e}. Delete it.") from e


def list_nights(layout: Layout) -> list[Night]:
    """All that are kept, the newest date first.

    Raises:
        ArtefactError: one cannot be read.

    """
    found = (read_night(layout, path.stem) for path in _files(layout))
    return [night for night in found if night is not None]


def settled(layout: Layout, wanted: date, *, retry: bool) -> Night | None:
    """What became of a night for which nothing is to be done; None: it is to be done.

    Raises:
        InputError: no date that can be done.
        ArtefactError: a record cannot be read.

    """
    name = wanted.isoformat()
    if wanted > (datetime.now(UTC) + _FIRST_ON_EARTH).date():
        raise InputError(f"night {name} is in the future. Give a date that has begun, or leave --date out.")
    known = read_night(layout, name)
    if known and known.state in ("published", "unchanged"):
        return known
    if known and known.state in ("refused", "failed") and not retry:
        return known
    newest = next(iter(list_nights(layout)), None)
    if newest and newest.date > name:
        raise InputError(
            f"night {name} is older than night {newest.date}, which is {newest.state}. A night builds from the tables "
            f"as they are now, so only the newest matters. Give {newest.date} or a later date."
        )
    return None


@contextmanager
def only_one(layout: Layout) -> Iterator[None]:
    """Keep other nights of this host, and of others where the file system's locks reach, from beginning.

    Raises:
        BusyError: one runs.

    """
    layout.nights.mkdir(parents=True, exist_ok=True)
    running = _running(layout)
    lock = FileLock(layout.nights_lock, timeout=0 if running else _ASKING_SECONDS)
    try:
        lock.acquire()
    except Timeout as e:
        raise _busy(layout, running or _running(layout)) from e
    try:
        yield
    finally:
        lock.release()


def begin(layout: Layout, wanted: date) -> Night:
    """The record of a night that starts now; to be called while `only_one` is held, which it does not write.

    Raises:
        BusyError: one runs on another host.

    """
    name, now = wanted.isoformat(), time.time()
    for night in list_nights(layout):
        if night.state != "running":
            continue
        if night.host != socket.gethostname() and night.is_held(now):
            raise _busy(layout, night)
        if night.date != name:
            _write_off(layout, night, f"it was killed, and night {name} came next")
    before = read_night(layout, name)
    for path in _files(layout)[_MOST_NIGHTS:]:
        path.unlink(missing_ok=True)
    return Night(
        name, "running", now, socket.gethostname(), os.getpid(), now + LEASE_SECONDS,
        tries=before.tries + 1 if before else 1, passed_over=_passed_over(layout, wanted),
    )  # fmt: skip


class Held:
    """A night that this process works on: its lease is renewed until it is told how the night ended."""

    def __init__(self, layout: Layout, night: Night, renew_seconds: float = RENEW_SECONDS) -> None:
        """Write that it runs."""
        self.night = night
        self._layout = layout
        self._over = threading.Event()
        self._write()
        self._renewing = threading.Thread(target=self._renew, args=(renew_seconds,), daemon=True)
        self._renewing.start()

    def end(self, state: State, **facts: Any) -> None:  # noqa: ANN401 - fields of a night
        """Write how it ended, unless another host has taken it over."""
        self._over.set()
        self._renewing.join()
        if not self._is_ours():
            return
        self.night.state, self.night.lease, self.night.ended = state, None, time.time()
        for name, value in facts.items():
            setattr(self.night, name, value)
        self._write()

    def _renew(self, seconds: float) -> None:
        while not self._over.wait(seconds):
            try:
                if not self._is_ours():
                    log.error("night %s was taken over by another host; this one stops", self.night.date)
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                self.night.lease = time.time() + LEASE_SECONDS
                self._write()
            except (OSError, ArtefactError) as e:  # the next time may do: a lease is ten times as long
                log.warning("the lease of night %s could not be renewed: %s", self.night.date, e)

    def _is_ours(self) -> bool:
        known = read_night(self._layout, self.night.date)
        return known is None or known.owner == self.night.owner

    def _write(self) -> None:
        write_json(self._layout.night(self.night.date), asdict(self.night))


def _files(layout: Layout) -> list[Path]:
    return sorted(layout.nights.glob("????-??-??.json"), reverse=True)


def _running(layout: Layout) -> Night | None:
    return next((night for night in list_nights(layout) if night.state == "running"), None)


def _busy(layout: Layout, night: Night | None) -> BusyError:
    if night is None:
        return BusyError(f"another night is about to run in {layout.root}. Try again.")
    since = datetime.fromtimestamp(night.started, UTC)
    return BusyError(
        f"night {night.date} runs in {layout.root} since {since:%Y-%m-%d %H:%M:%S} UTC, on {night.host}, process "
        f"{night.pid}. Wait for it; if that host is lost, until {LEASE_SECONDS / 60:.0f} minutes after it was."
    )


def _write_off(layout: Layout, night: Night, reason: str) -> None:
    night.state, night.lease, night.ended, night.reasons = "failed", None, time.time(), [reason]
    night.exit_code = 128 + signal.SIGKILL
    write_json(layout.night(night.date), asdict(night))


def _passed_over(layout: Layout, wanted: date) -> list[str]:
    done = [date.fromisoformat(night.date) for night in list_nights(layout) if night.state in DONE]
    last = max((day for day in done if day < wanted), default=None)
    if last is None:
        return []
    return [(last + timedelta(days=n)).isoformat() for n in range(1, (wanted - last).days)]
