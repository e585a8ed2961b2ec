"""The work of a night, done by one process, and recorded whatever end it has."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any, Literal, Protocol

from jobs.nights import RENEW_SECONDS, Held, Night, begin, only_one, settled
from pipelines.core.errors import BusyError, KindlingError, ReleaseRefused
from pipelines.core.layout import Layout

_STOPPED, _NO_STORAGE = 130, 5


class Result(Protocol):
    """What a night wants to know of a rebuild, see `jobs.rebuilding.Rebuilt`."""

    @property
    def outcome(self) -> Literal["published", "unchanged", "refused"]:
        """How it ended."""

    @property
    def version(self) -> str:
        """In service now."""

    @property
    def reasons(self) -> list[str]:
        """Why it was refused."""

    @property
    def figures(self) -> dict[str, Any]:
        """Of the release gate."""


def keep_night(
    layout: Layout,
    wanted: date,
    work: Callable[[], Result],
    *,
    retry: bool = False,
    renew_seconds: float = RENEW_SECONDS,
) -> tuple[Night, bool]:
    """Do the work of a night unless it is done, and record what became of it.

    Args:
        layout: of the build.
        wanted: the night.
        work: what it does; its errors are recorded and go on.
        retry: also if it was refused or failed before.
        renew_seconds: between two renewals of the lease.

    Returns:
        The night, and whether it was worked on now.

    Raises:
        BusyError: a night runs already.
        InputError: a date that cannot be done.
        KindlingError: whatever the work has to say.

    """
    known = settled(layout, wanted, retry=retry)
    if known is not None:
        return known, False
    with only_one(layout):
        known = settled(layout, wanted, retry=retry)  # somebody may have done it meanwhile
        if known is not None:
            return known, False
        held = Held(layout, begin(layout, wanted), renew_seconds)
        _work(held, work)
        return held.night, True


def _work(held: Held, work: Callable[[], Result]) -> None:
    try:
        rebuilt = work()
    except BusyError as e:  # a build by hand: the night has not had its turn
        held.end("stopped", reasons=[str(e)], exit_code=e.exit_code)
        raise
    except KindlingError as e:
        held.end("failed", reasons=[str(e)], exit_code=e.exit_code)
        raise
    except (KeyboardInterrupt, SystemExit):  # the latter is Ray's answer to SIGTERM
        held.end("stopped", exit_code=_STOPPED)
        raise
    except BaseException as e:
        status = _NO_STORAGE if isinstance(e, OSError) else 1
        held.end("failed", reasons=[f"{type(e).__name__}: {e}"], exit_code=status)
        raise
    status = ReleaseRefused.exit_code if rebuilt.outcome == "refused" else 0
    held.end(
        rebuilt.outcome, version=rebuilt.version, reasons=list(rebuilt.reasons), figures=dict(rebuilt.figures),
        exit_code=status,
    )  # fmt: skip
