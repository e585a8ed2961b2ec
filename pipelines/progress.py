"""What a person watching a build sees: one bar per running stage, one line per finished one."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from pipelines.core.config import LogsConfig
from pipelines.core.logs import log_as_json, log_line

_SECONDS_BETWEEN_LINES = 15.0
_SECONDS_BETWEEN_LOOKS = 0.5


class Progress:
    """Bars on a terminal, a line every quarter of a minute elsewhere (a log), nothing when quiet.

    With `logs.format = "json"` each line is one of `core.logs`, on a terminal too.
    """

    def __init__(self, logs: LogsConfig | None = None, *, quiet: bool = False) -> None:
        """Write to standard error, so that results on standard output stay clean."""
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._as_json = logs is not None and logs.format == "json"
        if self._as_json:
            log_as_json()

    def _say(self, event: str, text: str, **fields: object) -> None:
        if self._as_json:
            print(log_line("info", event, **fields), file=sys.stderr, flush=True)
        else:
            self.console.print(text)

    def begin(self, stage: str) -> None:
        """Say that a stage starts."""
        self._say("stage begins", f"[bold]{stage}[/bold] …", stage=stage)

    def end(self, stage: str, seconds: float) -> None:
        """Say that a stage is done."""
        self._say(
            "stage is done",
            f"[bold green]{stage}[/bold green] done in {seconds:.1f} s",
            stage=stage,
            seconds=seconds,
        )

    def reused(self, stage: str) -> None:
        """Say that a stage's earlier result is used again."""
        self._say("stage is unchanged", f"[dim]{stage} unchanged[/dim]", stage=stage)

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Bar]:
        """A bar over `total` units, called with how many more are done."""
        if self.console.quiet or self._as_json or not sys.stderr.isatty():
            yield Bar(self._say, what, total, None)
            return
        columns = (
            TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(),
        )  # fmt: skip
        with Bars(*columns, console=self.console, transient=True) as bars:
            yield Bar(self._say, what, total, bars)

    @contextmanager
    def following(self, log: Path, what: str, total: int) -> Iterator[None]:
        """A bar over `total` steps that others write to `log`: JSON Lines with a step and, after training, its loss."""
        done = threading.Event()
        with self.bar(what, total) as bar:
            thread = threading.Thread(target=_follow, args=(log, bar, done), daemon=True)
            thread.start()
            try:
                yield
            finally:
                done.set()
                thread.join()


def _follow(log: Path, bar: Bar, done: threading.Event) -> None:
    """Tell a bar of new lines until there will be no more."""
    reached = at = 0
    while not done.wait(_SECONDS_BETWEEN_LOOKS):
        if not log.is_file():
            continue
        with log.open("rb") as lines:
            lines.seek(at)
            whole = lines.read().rpartition(b"\n")[0]
        at += len(whole) + 1 if whole else 0
        told = [json.loads(line) for line in whole.splitlines() if line]
        losses = [line for line in told if "loss" in line]
        if losses and losses[-1]["step"] > reached:
            last = losses[-1]
            bar(
                last["step"] - reached,
                f"loss {last['loss']:.4f}, {last['examples_per_second']:.0f} examples/s",
            )
            reached = last["step"]


class Bar:
    """One bar; call it with the number of units just finished."""

    def __init__(self, say: Callable[..., None], what: str, total: int, bars: Bars | None) -> None:
        """Bind to rich's bars, or to plain lines where there is no terminal."""
        self._say, self._what, self._total, self._bars = say, what, total, bars
        self._task = bars.add_task(what, total=total) if bars else None
        self._done = 0
        self._said = self._started = time.monotonic()

    def __call__(self, n: int = 1, note: str = "") -> None:
        """Count `n` more units; `note` is shown beside them."""
        self._done += n
        shown = f"{self._what}: {note}" if note else self._what
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, advance=n, description=shown)
            return
        now = time.monotonic()
        if now - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = now
            rate = self._done / (now - self._started)
            left = (self._total - self._done) / rate if rate else 0.0
            self._say(
                "progress",
                f"  {shown}: {self._done}/{self._total}, {rate:.1f}/s, {left:.0f} s left",
                what=self._what, note=note, done=self._done, total=self._total, seconds_left=round(left),
            )  # fmt: skip
