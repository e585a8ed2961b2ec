"""Where the time of a request goes: code names its steps, and whoever runs it may watch them.

Nothing is kept where nobody watches, so the recommender and the store name steps without knowing what for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from types import TracebackType
from typing import Literal, ParamSpec, Protocol, TypeVar

import anyio.to_thread

P = ParamSpec("P")
R = TypeVar("R")
Name = Literal["encode", "fold_in", "rank", "look_up", "write_events", "find_key", "change_user"]
STORE_STEPS: frozenset[Name] = frozenset({"look_up", "write_events", "find_key", "change_user"})
"""Those that wait for the store."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of one batch.

    Attributes:
        name: what was done.
        begun_ns: nanoseconds since 1970.
        seconds: it took.
        size: of what it was done to: texts, users, requests.
        has_failed: it ended in an error.

    """

    name: Name
    begun_ns: int
    seconds: float
    size: int
    has_failed: bool


class Watch(Protocol):
    """Told of steps."""

    def batch(self, steps: Sequence[Step]) -> None:
        """Once for each batch, in any thread."""

    def request(self, steps: Sequence[Step]) -> None:
        """Once for each request that was in the batch, in the task of the request."""


class Nobody:
    """Watches nothing."""

    def batch(self, steps: Sequence[Step]) -> None:
        """Nothing to do."""

    def request(self, steps: Sequence[Step]) -> None:
        """Nothing to do."""


class _Seen(threading.local):
    steps: list[Step] | None = None


_seen = _Seen()


class step:
    """`with step("encode", len(texts)):` notes one for whoever watches this thread, unless nothing was to be done."""

    __slots__ = ("_begun_ns", "_name", "_size", "_started")

    def __init__(self, name: Name, size: int = 1) -> None:
        """Name it, with the number of things that it is done to."""
        self._name: Name = name
        self._size = size

    def __enter__(self) -> None:
        """Begin."""
        self._begun_ns = time.time_ns()
        self._started = time.perf_counter()

    def __exit__(
        self, error: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """End."""
        if _seen.steps is not None and self._size:
            seconds = time.perf_counter() - self._started
            _seen.steps.append(Step(self._name, self._begun_ns, seconds, self._size, error is not None))


def is_step(name: Name) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a function that is one step whole."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def stepping(*args: P.args, **kwargs: P.kwargs) -> R:
            with step(name):
                return function(*args, **kwargs)

        return stepping

    return decorate


class watching:
    """`with watching() as steps:` collects the steps of this thread."""

    __slots__ = ("_before",)

    def __enter__(self) -> list[Step]:
        """Begin; the list fills as steps end."""
        steps: list[Step] = []
        self._before, _seen.steps = _seen.steps, steps
        return steps

    def __exit__(
        self, _error: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """End."""
        _seen.steps = self._before


async def in_thread(watch: Watch, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """What a function returns that may block, run in a thread; its steps are watched.

    Whoever gives up waiting is let go at once; the function goes on to its end.
    """
    seen: list[Step] = []

    def run() -> R:
        try:
            with watching() as steps:
                return function(*args, **kwargs)
        finally:
            watch.batch(steps)
            seen.extend(steps)

    try:
        return await anyio.to_thread.run_sync(run, abandon_on_cancel=True)
    finally:
        watch.request(seen)
