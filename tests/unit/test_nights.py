"""A night is done once, by one process at a time, and goes on after whatever killed it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.keeping import keep_night
from jobs.nightly import night_id
from jobs.nights import LEASE_SECONDS, Held, Night, begin, list_nights, read_night
from pipelines.core.errors import ArtefactError, BusyError, InputError, KindlingError, ReleaseRefused
from pipelines.core.layout import Layout
from pipelines.core.storage import write_json, write_text

NIGHT = date(2026, 3, 14)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@dataclass(frozen=True)
class Ended:
    """What a rebuild says of itself."""

    outcome: Literal["published", "unchanged", "refused"]
    version: str
    reasons: list[str]
    figures: dict[str, Any]


def ends(outcome: Any, *reasons: str) -> Callable[[], Ended]:  # noqa: ANN401 - parametrized
    return lambda: Ended(outcome, "v1", list(reasons), {"cold": 0.2})


def never() -> Ended:
    raise AssertionError("there was nothing to do")


def fails(error: BaseException) -> Callable[[], Ended]:
    def work() -> Ended:
        raise error

    return work


def write(layout: Layout, **facts: object) -> Night:
    """A record as another process would have left it."""
    night = Night(**{  # type: ignore[arg-type]
        "date": NIGHT.isoformat(), "state": "running", "started": time.time(), "host": "elsewhere", "pid": 7,
        "lease": None, **facts,
    })  # fmt: skip
    write_json(layout.night(night.date), asdict(night))
    return night


@contextmanager
def running(layout: Layout, night: date, *, renew: float = 60.0) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of a night."""
    program = """
import sys, time
from datetime import date
from pathlib import Path
from jobs.keeping import keep_night
from jobs.stopping import terminate_cleanly
from pipelines.core.layout import Layout

def work():
    print("at it", flush=True)
    time.sleep(60)

with terminate_cleanly():
    layout = Layout(Path(sys.argv[1]))
    keep_night(layout, date.fromisoformat(sys.argv[2]), work, renew_seconds=float(sys.argv[3]))
"""
    arguments = [sys.executable, "-c", program, str(layout.root), night.isoformat(), str(renew)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stdout.readline() == "at it\n", process.communicate()[1]
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("outcome", ["published", "unchanged"])
def test_a_night_is_done_once(layout: Layout, outcome: str) -> None:
    night, is_new = keep_night(layout, NIGHT, ends(outcome))
    assert is_new
    assert (night.state, night.version, night.tries, night.exit_code) == (outcome, "v1", 1, 0)
    assert night.figures == {"cold": 0.2}
    assert night.ended is not None
    assert night.ended >= night.started
    for retry in (False, True):
        assert keep_night(layout, NIGHT, never, retry=retry) == (night, False)
    assert list_nights(layout) == [night]


def test_a_refused_night_is_done_again_only_if_that_is_said(layout: Layout) -> None:
    night, _ = keep_night(layout, NIGHT, ends("refused", "cold items are found less often"))
    assert (night.exit_code, night.reasons) == (
        ReleaseRefused.exit_code,
        ["cold items are found less often"],
    )
    assert keep_night(layout, NIGHT, never) == (night, False)
    again, is_new = keep_night(layout, NIGHT, ends("published"), retry=True)
    assert (is_new, again.state, again.tries, again.reasons) == (True, "published", 2, [])


@pytest.mark.parametrize(
    ("error", "status"),
    [(InputError("no items"), 3), (ArtefactError("half a file"), 5), (OSError(28, "No space left"), 5),
     (ZeroDivisionError(), 1)],
)  # fmt: skip
def test_a_failed_night_says_why_and_is_done_again_only_if_that_is_said(
    layout: Layout, error: Exception, status: int
) -> None:
    with pytest.raises(type(error)):
        keep_night(layout, NIGHT, fails(error))
    night, is_new = keep_night(layout, NIGHT, never)
    assert (is_new, night.state, night.exit_code, night.lease) == (False, "failed", status, None)
    assert str(error) in night.reasons[0]
    assert keep_night(layout, NIGHT, ends("published"), retry=True)[0].tries == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(15), BusyError("a build by hand")])
def test_a_night_that_was_stopped_goes_on_with_the_next_call(layout: Layout, error: BaseException) -> None:
    with pytest.raises(type(error)):
        keep_night(layout, NIGHT, fails(error))
    assert list_nights(layout)[0].state == "stopped"
    assert keep_night(layout, NIGHT, ends("published"))[0].tries == 2


def test_while_a_night_runs_nobody_else_begins_one_and_when_it_is_killed_the_next_goes_on(
    layout: Layout,
) -> None:
    with running(layout, NIGHT) as process:
        before = layout.night(NIGHT.isoformat()).read_bytes()
        for night in (NIGHT, NIGHT + timedelta(days=1)):
            with pytest.raises(BusyError, match=rf"night 2026-03-14 runs .* since .* process {process.pid}"):
                keep_night(layout, night, never)
        assert layout.night(NIGHT.isoformat()).read_bytes() == before
        shown = CliRunner().invoke(app, ["nights", "list", "--out", str(layout.root)], env={"COLUMNS": "150"})
        assert "running" in shown.output
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
        shown = CliRunner().invoke(app, ["nights", "list", "--out", str(layout.root)], env={"COLUMNS": "150"})
        assert "killed" in shown.output
        assert keep_night(layout, NIGHT, ends("published"))[0].tries == 2


def test_a_later_night_writes_a_killed_one_off(layout: Layout) -> None:
    with running(layout, NIGHT) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
    keep_night(layout, NIGHT + timedelta(days=1), ends("published"))
    killed = read_night(layout, NIGHT.isoformat())
    assert killed is not None
    assert (killed.state, killed.exit_code) == ("failed", 137)
    assert killed.reasons == ["it was killed, and night 2026-03-15 came next"]


def test_a_lease_of_another_host_holds_until_it_ends(layout: Layout) -> None:
    write(layout, lease=time.time() + 100, tries=3)
    for night in (NIGHT, NIGHT + timedelta(days=1)):
        with pytest.raises(BusyError, match="on elsewhere, process 7"):
            keep_night(layout, night, never)
    write(layout, lease=time.time() - 1, tries=3)
    assert keep_night(layout, NIGHT, ends("published"))[0].tries == 4


def test_a_lease_is_renewed_while_the_night_runs(layout: Layout) -> None:
    night = begin(layout, NIGHT)
    first = night.lease
    held = Held(layout, night, renew_seconds=0.01)
    deadline = time.monotonic() + 30
    while (known := read_night(layout, NIGHT.isoformat())) is None or known.lease == first:
        assert time.monotonic() < deadline, "it never was"
    assert first is not None
    assert known.lease is not None
    assert first < known.lease <= time.time() + LEASE_SECONDS
    held.end("published")
    assert read_night(layout, NIGHT.isoformat()) == held.night


def test_a_process_whose_night_was_taken_over_stops_and_leaves_it_alone(layout: Layout) -> None:
    with running(layout, NIGHT, renew=0.05) as process:
        theirs = write(layout, lease=time.time() + 100, tries=2)
        assert "KeyboardInterrupt" in process.communicate(timeout=30)[1]
        assert read_night(layout, NIGHT.isoformat()) == theirs


def test_dates_that_cannot_be_done(layout: Layout) -> None:
    with pytest.raises(InputError, match="is in the future"):
        keep_night(layout, (datetime.now(UTC) + timedelta(hours=40)).date(), never)
    keep_night(layout, NIGHT, ends("unchanged"))
    with pytest.raises(InputError, match="older than night 2026-03-14, which is unchanged"):
        keep_night(layout, NIGHT - timedelta(days=1), never)
    assert [night.date for night in list_nights(layout)] == ["2026-03-14"]


def test_a_night_says_which_were_passed_over(layout: Layout) -> None:
    assert keep_night(layout, NIGHT, ends("published"))[0].passed_over == []
    with pytest.raises(KindlingError):
        keep_night(layout, date(2026, 3, 16), fails(KindlingError("no")))
    night, _ = keep_night(layout, date(2026, 3, 17), ends("published"))
    assert night.passed_over == ["2026-03-15", "2026-03-16"]


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"date": "2026-03-14"}', "no record of a night"), ("{", "cannot be read"),
     ('{"schema_version": 99}', "newer Kindling")],
)  # fmt: skip
def test_a_record_that_is_none_is_said(layout: Layout, text: str, message: str) -> None:
    write_text(layout.night("2026-03-14"), text)
    with pytest.raises(ArtefactError, match=message):
        keep_night(layout, NIGHT, never)


def test_records_do_not_pile_up(layout: Layout) -> None:
    text = layout.night(write(layout, state="published").date).read_text()
    for n in range(405):
        day = (NIGHT - timedelta(days=n + 1)).isoformat()
        layout.night(day).write_text(text.replace(NIGHT.isoformat(), day))
    layout.night(NIGHT.isoformat()).unlink()
    keep_night(layout, NIGHT, ends("published"))
    assert len(list_nights(layout)) == 401


def nightly(layout: Layout, *arguments: str) -> tuple[int, str]:
    """The command; its status and what it said."""
    given = ["nightly", "--date", "2026-03-14", "--data", "/nowhere", "--out", str(layout.root), *arguments]
    result = CliRunner().invoke(app, given)
    error = result.exception
    if isinstance(error, KindlingError):
        return error.exit_code, str(error)
    return result.exit_code, result.output


def test_the_command_tells_what_became_of_a_night(layout: Layout) -> None:
    keep_night(layout, NIGHT, ends("published"))
    status, said = nightly(layout)
    assert (status, said.splitlines()[0].split(" before")[0]) == (0, "night 2026-03-14 was published")


def test_the_command_ends_with_the_status_of_then(layout: Layout, tmp_path: Path) -> None:
    keep_night(layout, NIGHT, ends("refused", "one.", "two."))
    status, said = nightly(layout)
    assert status == 7
    assert said.endswith(": one.; two. The version in service stays. --retry does it again.")
    other = Layout(tmp_path / "other")
    with pytest.raises(InputError):
        keep_night(other, NIGHT, fails(InputError("no items.")))
    status, said = nightly(other)
    assert status == 3
    assert said.endswith(": no items. --retry does it again.\n")


def test_a_night_on_a_cluster_is_one_job_for_each_date_and_directory() -> None:
    assert night_id(NIGHT, "/shared/out") == night_id(NIGHT, "/shared/out/")
    names = {night_id(night, out) for night in (NIGHT, date(2026, 3, 15)) for out in ("/a", "/b")}
    assert len(names) == 4
    assert all(name.startswith("kindling-night-2026-03-1") for name in names)


def test_a_night_on_a_cluster_wants_paths_that_it_can_see(layout: Layout) -> None:
    status, said = nightly(layout, "--out", "here", "--address", "http://127.0.0.1:1")
    assert (status, "--out here: a job runs elsewhere" in said) == (3, True)


def test_nights_are_listed_for_programs_too(layout: Layout) -> None:
    keep_night(layout, NIGHT, ends("refused", "too few items"))
    result = CliRunner().invoke(app, ["nights", "list", "--out", str(layout.root), "--json"])
    assert '"reasons": [\n      "too few items"\n    ]' in result.output


def test_reasons_are_read_in_a_narrow_terminal(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    keep_night(layout, NIGHT, ends("refused", "cold items are worse", "texts have changed"))
    found = CliRunner().invoke(app, ["nights", "list", "--out", str(layout.root)])
    assert f"{NIGHT}: cold items are worse; texts have changed" in found.output
    assert max(map(len, found.output.splitlines()[:5])) <= 80
