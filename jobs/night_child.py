"""What `kindling schedule` is on a real machine: its clock, signals that stop it, and a process for each night."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from types import FrameType
from typing import Self

from rich.console import Console

import jobs
from jobs.nights import list_nights
from pipelines.core.config import LogsConfig
from pipelines.core.layout import Layout
from pipelines.core.logs import log_line

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class WallClock:
    """The time of this machine, while signals that stop are caught: they end any waiting, and reach the child."""

    def __init__(self) -> None:
        """Catch nothing yet."""
        self._asked = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._reading, self._writing = (
            os.pipe()
        )  # nothing else wakes a thread that waits from within its own handler
        os.set_blocking(self._writing, False)

    def __enter__(self) -> Self:
        """Catch signals from here on."""
        self._previous = {number: signal.signal(number, self._on_signal) for number in _STOPS}
        return self

    def __exit__(self, *_: object) -> None:
        """As before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        os.close(self._reading)
        os.close(self._writing)

    def now(self) -> datetime:
        """In UTC."""
        return datetime.now(UTC)

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until a signal came; whether one has ever come."""
        return bool(select.select([self._reading], [], [], seconds)[0])

    def follow(self, child: subprocess.Popen[bytes]) -> int:
        """Wait for a child, which signals are passed on to; its exit status."""
        self._child = child
        try:
            if self._asked:  # it came while the child was made
                child.terminate()
            return child.wait()
        finally:
            self._child = None

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._asked += 1
        if self._asked == 1:  # one byte is read never, so that every later wait knows, too
            os.write(self._writing, b"x")
        if self._child is not None:
            self._child.send_signal(signal.SIGTERM if self._asked == 1 else signal.SIGKILL)


class NightChild:
    """Each night as a process of its own: what happens to it does not happen to the schedule."""

    def __init__(self, data: str, out: Path, config: Path | None, clock: WallClock) -> None:
        """Nothing runs yet."""
        self._arguments = ["--data", data, "--out", str(out), *(["--config", str(config)] if config else [])]
        self._clock = clock
        # this very program, whatever lies in the directory it was called from
        self._environment = {**os.environ, "PYTHONPATH": _first(str(Path(jobs.__file__).parent.parent))}

    def run(self, night: date) -> int:
        """One night to its end; its exit status, negative: the signal that killed it."""
        arguments = ["-P", "-m", "jobs", "nightly", "--date", night.isoformat(), *self._arguments]
        # of its own session: Ctrl-C would reach it by the terminal too, and a second one is to kill
        child = subprocess.Popen([sys.executable, *arguments], env=self._environment, start_new_session=True)
        return self._clock.follow(child)


def _first(path: str) -> str:
    return os.pathsep.join([path, *filter(None, [os.environ.get("PYTHONPATH")])])


def last_begun(layout: Layout, zone: tzinfo) -> datetime | None:
    """When the newest night began, before its day if it is to be gone on with; None: there is none."""
    newest = next(iter(list_nights(layout)), None)
    if newest is None:
        return None
    if newest.state in ("running", "stopped"):
        return datetime.combine(date.fromisoformat(newest.date), time(), zone) - timedelta(microseconds=1)
    return datetime.fromtimestamp(newest.started, UTC)


def teller(logs: LogsConfig) -> Callable[[str], None]:
    """What writes a line with the time to standard error, in the shape that is configured."""
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

    def say(text: str) -> None:
        if logs.format == "json":
            print(log_line("info", "schedule", message=text), file=sys.stderr, flush=True)
        else:
            console.print(f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S}  {text}")

    return say
