"""Nights begin when they should, over clocks that are sped up, change, sleep and stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from jobs.night_child import last_begun
from jobs.nights import Night
from jobs.scheduling import run_schedule, zone_of
from pipelines.core.errors import ConfigError
from pipelines.core.layout import Layout
from pipelines.core.storage import write_json

BERLIN = ZoneInfo("Europe/Berlin")


class SimulatedClock:
    """Time that passes by waiting alone, until it ends."""

    def __init__(self, begin: datetime, end: datetime) -> None:
        """Nothing has passed yet."""
        self.moment, self.end = begin.astimezone(UTC), end.astimezone(UTC)

    def now(self) -> datetime:
        """Where it is."""
        return self.moment

    def wait(self, seconds: float) -> bool:
        """At once."""
        self.moment += timedelta(seconds=seconds)
        return self.moment >= self.end


class SleepyClock(SimulatedClock):
    """A machine that is closed at a moment, and opened later."""

    def __init__(self, begin: datetime, end: datetime, closed: datetime, opened: datetime) -> None:
        """Sleeps from `closed` to `opened`."""
        super().__init__(begin, end)
        self.closed, self.opened = closed, opened

    def wait(self, seconds: float) -> bool:
        """At once, and through the sleep."""
        is_over = super().wait(seconds)
        if self.closed <= self.moment < self.opened:
            self.moment = self.opened
        return is_over


def nights_of(
    clock: SimulatedClock, cron: str, run: Callable[[date], int] = lambda _night: 0, **options: object
) -> list[tuple[date, datetime]]:
    """Which nights were run, and when each began."""
    found: list[tuple[date, datetime]] = []

    def run_night(night: date) -> int:
        found.append((night, clock.now()))
        return run(night)

    run_schedule(cron, run_night, clock, **{"say": lambda _text: None, **options})  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(
    "begin", [datetime(2026, 3, 22, 12, tzinfo=BERLIN), datetime(2026, 10, 18, 12, tzinfo=BERLIN)]
)
@pytest.mark.parametrize("cron", ["0 3 * * *", "30 2 * * *"])
def test_a_fortnight_in_which_clocks_change_has_fourteen_nights(begin: datetime, cron: str) -> None:
    clock = SimulatedClock(begin, begin + timedelta(days=14))
    found = nights_of(clock, cron, zone=BERLIN)
    assert [night for night, _ in found] == [begin.date() + timedelta(days=n) for n in range(1, 15)]
    hours = {(at.astimezone(BERLIN).hour, at.astimezone(BERLIN).minute) for _, at in found}
    minute, hour = (int(word) for word in cron.split()[:2])
    assert hours <= {(hour, minute), (3, 0)}  # half past two does not exist in the night of March 29


def test_the_date_is_that_of_the_time_zone() -> None:
    clock = SimulatedClock(datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC))
    (found,) = nights_of(clock, "0 3 * * *", zone=ZoneInfo("Asia/Shanghai"))
    assert found == (date(2026, 5, 2), datetime(2026, 5, 1, 19, tzinfo=UTC))


def test_a_night_that_fails_or_cannot_begin_does_not_end_the_schedule() -> None:
    clock = SimulatedClock(datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 5, tzinfo=UTC))
    said: list[str] = []

    def run(night: date) -> int:
        if night.day == 2:
            raise OSError(12, "Cannot allocate memory")
        return 3 if night.day == 1 else 0

    found = nights_of(clock, "0 3 * * *", run, say=said.append)
    assert [night.day for night, _ in found] == [1, 2, 3, 4]
    assert "night 2026-05-01 ended with status 3" in said
    assert "night 2026-05-02 could not begin: [Errno 12] Cannot allocate memory" in said
    assert said.count("the next night begins at 2026-05-03 03:00 UTC") == 1


def test_a_machine_that_slept_catches_up_once_with_the_newest() -> None:
    day = datetime(2026, 5, 1, tzinfo=UTC)
    clock = SleepyClock(
        day, day + timedelta(days=7), day + timedelta(hours=12), day + timedelta(days=4, hours=9)
    )
    found = nights_of(clock, "0 3 * * *")
    assert [night.day for night, _ in found] == [1, 5, 6, 7]
    assert found[1][1] == clock.opened


def test_nights_do_not_overlap_and_what_a_long_one_missed_is_one_night() -> None:
    clock = SimulatedClock(datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 7, tzinfo=UTC))

    def run(night: date) -> int:
        if night.day == 1:
            clock.wait(3600 * 60)  # until the afternoon of the third
        return 0

    assert [(night.day, at.day) for night, at in nights_of(clock, "0 3 * * *", run)] == [
        (1, 1), (3, 3), (4, 4), (5, 5), (6, 6),
    ]  # fmt: skip


def test_what_was_missed_before_it_was_started_is_one_night_too() -> None:
    begin = datetime(2026, 5, 4, 8, tzinfo=UTC)
    clock = SimulatedClock(begin, begin + timedelta(hours=2))
    assert nights_of(clock, "0 3 * * *", since=datetime(2026, 5, 1, 5, tzinfo=UTC)) == [
        (date(2026, 5, 4), begin)
    ]
    clock = SimulatedClock(begin, begin + timedelta(hours=2))
    assert nights_of(clock, "0 3 * * *", since=datetime(2026, 5, 4, 3, tzinfo=UTC)) == []


def test_it_stops_before_a_night_that_is_due() -> None:
    moment = datetime(2026, 5, 4, 8, tzinfo=UTC)
    assert nights_of(SimulatedClock(moment, moment), "0 3 * * *", since=moment - timedelta(days=2)) == []


def test_times_that_never_come_end_it() -> None:
    clock = SimulatedClock(datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC))
    said: list[str] = []
    never = "0 3 */29 2 MON#5"  # the first is no fifth Monday, and the thirtieth is not there
    assert nights_of(clock, never, say=said.append) == []
    assert said == [f"no time of '{never}' is left"]


def test_what_says_no_time_is_refused() -> None:
    clock = SimulatedClock(datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC))
    with pytest.raises(ConfigError, match=r"--cron '99 3 \* \* \*' says no times"):
        nights_of(clock, "99 3 * * *")
    for name in ("Europe/Berln", "", "Europe", "../etc/passwd"):
        with pytest.raises(ConfigError, match="--timezone"):
            zone_of(name)
    assert zone_of("Europe/Berlin") == BERLIN
    assert zone_of(None).utcoffset(datetime(2026, 5, 1)) == datetime(2026, 5, 1).astimezone().utcoffset()  # noqa: DTZ001


def record(out: Path, day: date, state: str, started: datetime) -> None:
    facts = Night(day.isoformat(), state, started.timestamp(), "here", 7, None, exit_code=0)  # type: ignore[arg-type]
    write_json(Layout(out).night(facts.date), vars(facts))


def test_a_schedule_goes_on_from_the_newest_night(tmp_path: Path) -> None:
    assert last_begun(Layout(tmp_path), BERLIN) is None
    began = datetime(2026, 5, 3, 1, tzinfo=UTC)
    record(tmp_path, date(2026, 5, 2), "failed", began - timedelta(days=1))
    record(tmp_path, date(2026, 5, 3), "published", began)
    assert last_begun(Layout(tmp_path), BERLIN) == began
    record(tmp_path, date(2026, 5, 3), "stopped", began)
    since = last_begun(Layout(tmp_path), BERLIN)
    clock = SimulatedClock(began + timedelta(hours=1), began + timedelta(hours=3))
    assert [night for night, _ in nights_of(clock, "0 3 * * *", zone=BERLIN, since=since)] == [
        date(2026, 5, 3)
    ]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_child_and_ends_the_waiting(how: signal.Signals) -> None:
    program = """
import subprocess, sys
from jobs.night_child import WallClock

with WallClock() as clock:
    print("waiting", clock.wait(0), flush=True)
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    print(child.pid, flush=True)
    print("child", clock.follow(child), "stops", clock.wait(60), clock.wait(60), flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "waiting False\n"
    assert int(process.stdout.readline()) > 0
    process.send_signal(how)
    assert process.communicate(timeout=30)[0] == "child -15 stops True True\n"
    assert process.returncode == 0


def test_a_second_signal_kills_a_child_that_does_not_listen() -> None:
    program = """
import subprocess, sys
from jobs.night_child import WallClock

deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
with WallClock() as clock:
    child = subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True)
    print(child.pid, flush=True)
    print("child", clock.follow(child), flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    heard = {process.stdout.readline().strip(), process.stdout.readline().strip()}
    (child,) = (int(word) for word in heard - {"deaf"})
    try:
        process.terminate()
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            process.terminate()
        assert process.communicate(timeout=30)[0] == "child -9\n"
    finally:
        process.kill()
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_the_command_runs_a_night_that_was_missed_and_stops_when_it_is_told_to(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    record(tmp_path, now.date(), "published", now - timedelta(days=2))  # so the child has nothing to do
    arguments = [
        "schedule", "--cron", "0 0 * * *", "--timezone", "UTC", "--data", "/nowhere", "--out", str(tmp_path),
    ]  # fmt: skip
    (tmp_path / "jobs").mkdir()  # the child is this program, whatever lies here
    command = [str(Path(sys.executable).parent / "kindling"), *arguments]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    said: list[str] = []
    assert process.stderr
    for line in process.stderr:
        said.append(line[21:].strip())
        if "the next night begins" in line:
            process.terminate()
    assert process.wait(timeout=30) == 0
    assert said[0].startswith(f"night {now:%Y-%m-%d} begins, for all times since")
    assert said[1] == f"night {now:%Y-%m-%d} ended well"
    assert said[-1] == "stopped"
    assert process.communicate()[0].startswith(f"night {now:%Y-%m-%d} was published before")
