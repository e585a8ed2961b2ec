"""`kindling nightly`: the rebuild of a date, once, however often and from wherever it is called."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table

from jobs.keeping import keep_night
from jobs.nights import Night, list_nights
from pipelines.core.config import Config
from pipelines.core.errors import ReleaseRefused
from pipelines.core.layout import Layout

if TYPE_CHECKING:
    from jobs.rebuilding import Rebuilt

console = Console(highlight=False, soft_wrap=True, markup=False)
_errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def run_nightly(settings: Config, data: str, out: Path, wanted: date, *, retry: bool) -> int:
    """The night of a date on this machine, or on the cluster it belongs to; the exit status.

    Raises:
        ReleaseRefused: what was built does not go into service.
        KindlingError: as `keep_night`.

    """
    layout = Layout(out)

    def work() -> Rebuilt:  # a call that finds nothing to do waits for no torch
        from jobs.rebuilding import rebuild
        from pipelines.cluster import shutdown
        from pipelines.progress import Progress

        try:
            return rebuild(settings, data, out, night=wanted, progress=Progress(settings.logs))
        finally:
            shutdown()

    night, is_new = keep_night(layout, wanted, work, retry=retry)
    if night.state == "refused":
        raise ReleaseRefused(f"{_told(night, is_new=is_new)}. The version in service stays.{_again(is_new)}")
    if night.state == "failed":  # before: what fails now is raised
        _errors.print(f"{_told(night, is_new=is_new)}.{_again(is_new)}", style="red")
    else:
        console.print(_told(night, is_new=is_new))
    return night.exit_code or 0


def _told(night: Night, *, is_new: bool) -> str:
    """How a night ended, and that it had where nothing was done."""
    ended = night.ended or time.time()
    when = f"in {ended - night.started:.0f} s" if is_new else f"before, {_date(ended)} UTC"
    version = f", version {night.version}" if night.version else ""
    reasons = f": {'; '.join(night.reasons).rstrip('.')}" if night.reasons else ""
    return f"night {night.date} {'has' if night.state == 'failed' else 'was'} {night.state} {when}{version}{reasons}"


def _again(is_new: bool) -> str:
    return "" if is_new else " --retry does it again."


def night_id(wanted: date, out: str) -> str:
    """Name of the job of a night: the same for the same date and directory."""
    place = hashlib.blake2b(out.rstrip("/").encode(), digest_size=4).hexdigest()
    return f"kindling-night-{wanted.isoformat()}-{place}"


def print_nights(out: Path, *, as_json: bool) -> None:
    """One line a night, the newest first; below, what there is to be said of some."""
    nights, now = list_nights(Layout(out.resolve())), time.time()
    if as_json:
        print(json.dumps([asdict(night) for night in nights], indent=2, ensure_ascii=False))
        return
    table = Table(*(Column(name, no_wrap=True) for name in ("night", "state", "began, UTC", "s", "version")))
    for night in nights:
        state = "killed" if night.is_killed(now) else night.state
        seconds = f"{night.ended - night.started:.0f}" if night.ended else ""
        table.add_row(night.date, state, _date(night.started), seconds, night.version or "")
    console.print(table)
    for night in nights:  # below: a column would leave reasons no room
        if notes := _notes(night):
            console.print(f"{night.date}: {notes}")


def _notes(night: Night) -> str:
    """Where it runs, how often it was begun, why it ended as it did, which nights there were none."""
    where = [f"on {night.host}, process {night.pid}"] if night.state == "running" else []
    tries = [f"{night.tries} tries"] if night.tries > 1 else []
    passed = [f"passed over: {', '.join(night.passed_over)}"] if night.passed_over else []
    return "; ".join([*where, *tries, *night.reasons, *passed])


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%m-%d %H:%M}"
