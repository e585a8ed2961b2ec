"""When nights begin: the loop of `kindling schedule`, over a clock that tests and simulations may bring.

Times are cron's, by `cronsim`, which does what Debian's cron does when clocks change: a time that they leave out comes
right after, one that they repeat comes once.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, tzinfo
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from tzlocal import get_localzone

from pipelines.core.errors import ConfigError

LOOK_SECONDS = 30.0
"""Between two looks at the clock: a machine that slept has lost no more than that of its waiting."""
_ENDED = {0: "well", 4: "with status 4: another one runs", 7: "with status 7: what was built is refused"}


class Clock(Protocol):
    """What time it is, and waiting."""

    def now(self) -> datetime:
        """With its time zone."""

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until the schedule is to stop; whether it is."""


def run_schedule(
    cron: str,
    run_night: Callable[[date], int],
    clock: Clock,
    *,
    zone: tzinfo = UTC,
    since: datetime | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Run the night of the date whenever it is time, until the clock says to stop.

    One night at a time, and one for all times that were missed: while another night ran, the machine slept, or, from
    `since` on, nothing ran here. A night that fails is told, and the next one comes.

    Args:
        cron: minute, hour, day, month and weekday.
        run_night: does it; its exit status. It may be called again with the date of an earlier call.
        clock: of all waiting.
        zone: of the times of `cron`, and of the dates.
        since: the last time that was not missed; None: now.
        say: is told what happens and what is next.

    Raises:
        ConfigError: no such times.

    """
    check_cron(cron)
    last = since or clock.now()
    while True:
        due = _next(cron, last, zone)
        if due is None:
            say(f"no time of '{cron}' is left")
            return
        if due > clock.now():
            say(f"the next night begins at {due:%Y-%m-%d %H:%M %Z}")
        if _is_stopped_before(due, clock):
            return
        last = _newest(cron, due, clock.now(), zone)
        night = last.date()
        late = "" if last == due else f", for all times since {due:%Y-%m-%d %H:%M}"
        say(f"night {night} begins{late}")
        try:
            status = run_night(night)
        except OSError as e:  # no process to be had; the next night may have one
            say(f"night {night} could not begin: {e}")
            continue
        say(f"night {night} ended {_ENDED.get(status, f'with status {status}')}")


def check_cron(cron: str) -> None:
    """See that times can be told from it.

    Raises:
        ConfigError: they cannot.

    """
    try:
        CronSim(cron, datetime.now(UTC))
    except CronSimError as e:
        raise ConfigError(
            f"--cron '{cron[:80]}' says no times: {e}. Expected minute, hour, day, month and weekday, as "
            "'0 3 * * *' for every night at three."
        ) from e


def zone_of(name: str | None) -> tzinfo:
    """A time zone by its name; None: this machine's.

    Raises:
        ConfigError: there is none such.

    """
    try:
        return get_localzone() if name is None else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as e:
        raise ConfigError(
            f"--timezone {name or 'of this machine'!r:.80} is not known here. Expected a name as Europe/Berlin; if "
            "that is one, install your system's tzdata."
        ) from e


def _next(cron: str, last: datetime, zone: tzinfo) -> datetime | None:
    """The first time after `last`; None: there is none in fifty years."""
    return next(CronSim(cron, last.astimezone(zone)), None)


def _newest(cron: str, due: datetime, now: datetime, zone: tzinfo) -> datetime:
    """The last time from `due` to `now`."""
    later = _next(cron, due, zone)
    while (
        later is not None and later.astimezone(UTC) <= now
    ):  # two of one zone are compared by what clocks show
        due, later = later, _next(cron, later, zone)
    return due


def _is_stopped_before(due: datetime, clock: Clock) -> bool:
    while (left := (due.astimezone(UTC) - clock.now()).total_seconds()) > 0:
        if clock.wait(min(left, LOOK_SECONDS)):
            return True
    return clock.wait(0.0)
