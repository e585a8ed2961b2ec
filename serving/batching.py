"""Requests that arrive while others are being answered are answered together, as one batch.

Nobody waits for company: a request that finds nothing in progress starts at once, alone. What arrives meanwhile makes
the next batch, so batches grow with the load and only with the load.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from serving.steps import Nobody, Step, Watch, watching

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(eq=False, slots=True)
class _Waiting(Generic[In, Out]):
    """A request that is to be answered, and the steps of the batch that answered it."""

    value: In
    future: asyncio.Future[Out]
    steps: Sequence[Step] = field(default_factory=list)


class Batcher(Generic[In, Out]):
    """Runs `work` over batches in a thread of its own; the event loop, which is always the same one, stays free.

    Args:
        work: many inputs to as many outputs, or an exception in the place of one. Should it raise instead, each input
            is tried alone, so that only the guilty one fails.
        most: inputs of one batch.
        name: of the thread.
        watch: told of the steps of `work`.

    """

    def __init__(
        self,
        work: Callable[[Sequence[In]], Sequence[Out | Exception]],
        most: int,
        name: str,
        watch: Watch | None = None,
    ) -> None:
        """Start no thread before there is something to do."""
        self._work = work
        self._most = most
        self._thread = ThreadPoolExecutor(1, name)
        self._watch = watch or Nobody()
        self._waiting: deque[_Waiting[In, Out]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, value: In) -> Out:
        """The output for `value`; raises what stands in its place."""
        loop = asyncio.get_running_loop()
        waiting: _Waiting[In, Out] = _Waiting(value, loop.create_future())
        self._waiting.append(waiting)
        if self._running is None:
            self._running = loop.create_task(self._run(loop))
        try:
            return await waiting.future
        finally:
            self._watch.request(waiting.steps)

    async def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        batch: list[_Waiting[In, Out]] = []
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                batch = [one for one in batch if not one.future.cancelled()]  # nobody waits any more
                if batch:
                    values = [one.value for one in batch]
                    outputs, steps = await loop.run_in_executor(self._thread, self._watched, values)
                    for one, output in zip(batch, outputs, strict=True):
                        one.steps = steps
                        _settle(one.future, output)
        finally:
            self._running = None
            # there are some only if this task was cancelled: nobody may wait for ever
            for one in (*batch, *self._waiting):
                one.future.cancel()
            self._waiting.clear()

    def _watched(self, values: Sequence[In]) -> tuple[Sequence[Out | Exception], Sequence[Step]]:
        with watching() as steps:
            outputs = self._attempt(values)
        self._watch.batch(steps)
        return outputs, steps

    def _attempt(self, values: Sequence[In]) -> Sequence[Out | Exception]:
        """As many outputs as values, whatever `work` does."""
        try:
            outputs = self._work(values)
            if len(outputs) == len(values):
                return outputs
            error: Exception = RuntimeError(f"{len(outputs)} answers to {len(values)} requests")
        except BaseException as e:  # it belongs to a request, not to this thread
            error = (
                RuntimeError(repr(e)) if isinstance(e, StopIteration) or not isinstance(e, Exception) else e
            )
        if len(values) == 1:
            return [error]
        return [self._attempt([value])[0] for value in values]


def _settle(future: asyncio.Future[Out], output: Out | Exception) -> None:
    if future.cancelled():
        return
    if isinstance(output, StopIteration):  # a future cannot hold one
        future.set_exception(RuntimeError(repr(output)))
    elif isinstance(output, Exception):
        future.set_exception(output)
    else:
        future.set_result(output)
