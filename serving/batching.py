"""Requests that arrive while others are being answered are answered together, as one batch.

Nobody waits for company: a request that finds nothing in progress starts at once, alone. What arrives meanwhile makes
the next batch, so batches grow with the load and only with the load.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


class Batcher(Generic[In, Out]):
    """Runs `work` over batches in a thread of its own; the event loop, which is always the same one, stays free.

    Args:
        work: many inputs to as many outputs, or an exception in the place of one. Should it raise instead, each input
            is tried alone, so that only the guilty one fails.
        most: inputs of one batch.
        name: of the thread.

    """

    def __init__(
        self, work: Callable[[Sequence[In]], Sequence[Out | Exception]], most: int, name: str
    ) -> None:
        """Start no thread before there is something to do."""
        self._work = work
        self._most = most
        self._thread = ThreadPoolExecutor(1, name)
        self._waiting: deque[tuple[In, asyncio.Future[Out]]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, value: In) -> Out:
        """The output for `value`; raises what stands in its place."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Out] = loop.create_future()
        self._waiting.append((value, future))
        if self._running is None:
            self._running = loop.create_task(self._run(loop))
        return await future

    async def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        batch: list[tuple[In, asyncio.Future[Out]]] = []
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                batch = [
                    (value, future) for value, future in batch if not future.cancelled()
                ]  # nobody waits any more
                if batch:
                    outputs = await loop.run_in_executor(self._thread, self._attempt, [v for v, _ in batch])
                    for (_, future), output in zip(batch, outputs, strict=True):
                        _settle(future, output)
        finally:
            self._running = None
            # there are some only if this task was cancelled: nobody may wait for ever
            for _, future in (*batch, *self._waiting):
                future.cancel()
            self._waiting.clear()

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
