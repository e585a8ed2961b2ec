"""Requests are answered together when they come together, and each gets its own answer."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Sequence

import pytest

from serving.batching import Batcher


class Gate:
    """Work that waits to be let through, and remembers its batches."""

    def __init__(self) -> None:
        """Closed."""
        self.open = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, values: Sequence[int]) -> list[int | Exception]:
        """Halves; odd numbers have none."""
        assert self.open.wait(20)
        self.batches.append(list(values))
        return [ValueError(f"{value} is odd") if value % 2 else value // 2 for value in values]


async def ask_while_busy(batcher: Batcher[int, int], gate: Gate, values: Sequence[int]) -> list[object]:
    """One request that is held up, the others while it is."""
    asked = [asyncio.ensure_future(batcher(values[0]))]
    await asyncio.sleep(0.05)
    asked += [asyncio.ensure_future(batcher(value)) for value in values[1:]]
    await asyncio.sleep(0)
    gate.open.set()
    return list(await asyncio.gather(*asked, return_exceptions=True))


def test_what_comes_while_busy_is_one_batch() -> None:
    gate = Gate()
    answers = asyncio.run(ask_while_busy(Batcher(gate, 3, "test"), gate, [0, 2, 4, 6, 8, 10]))
    assert answers == [0, 1, 2, 3, 4, 5]
    assert gate.batches == [[0], [2, 4, 6], [8, 10]]


def test_an_error_is_that_of_its_own_request() -> None:
    gate = Gate()
    answers = asyncio.run(ask_while_busy(Batcher(gate, 8, "test"), gate, [0, 1, 2]))
    assert answers[0] == 0
    assert answers[2] == 1
    with pytest.raises(ValueError, match="1 is odd"):
        raise answers[1]  # type: ignore[misc]


def test_a_batch_that_fails_is_tried_one_by_one() -> None:
    def work(values: Sequence[int]) -> list[int]:
        if 3 in values:
            raise RuntimeError("three")
        return list(values)

    async def ask() -> list[object]:
        batcher = Batcher(work, 8, "test")
        return list(await asyncio.gather(*(batcher(v) for v in (1, 2, 3, 4)), return_exceptions=True))

    answers = asyncio.run(ask())
    assert [a for a in answers if not isinstance(a, Exception)] == [1, 2, 4]
    assert isinstance(answers[2], RuntimeError)


def test_who_has_left_is_not_worked_for() -> None:
    gate = Gate()

    async def ask() -> None:
        batcher = Batcher(gate, 8, "test")
        first = asyncio.ensure_future(batcher(0))
        await asyncio.sleep(0.05)
        gone, waiting = (asyncio.ensure_future(batcher(value)) for value in (2, 4))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        gate.open.set()
        assert await asyncio.gather(first, waiting) == [0, 2]
        assert await batcher(6) == 3

    asyncio.run(ask())
    assert gate.batches == [[0], [4], [6]]


@pytest.mark.parametrize(
    "work",
    [
        lambda values: [][len(values) :],
        lambda _: next(iter(())),
        lambda values: [StopIteration() for _ in values],
        lambda _: sys.exit(1),
    ],
    ids=["too few answers", "StopIteration raised", "StopIteration as an answer", "SystemExit"],
)
def test_whatever_work_does_every_request_ends(
    work: Callable[[Sequence[int]], list[int | Exception]],
) -> None:
    async def ask() -> list[object]:
        batcher = Batcher(work, 2, "test")
        asked = asyncio.gather(*(batcher(value) for value in range(5)), return_exceptions=True)
        return list(await asyncio.wait_for(asked, 20))

    assert [type(answer) for answer in asyncio.run(ask())] == [RuntimeError] * 5


def test_requests_end_with_the_task_that_runs_them() -> None:
    gate = Gate()

    async def ask() -> list[object]:
        batcher = Batcher(gate, 1, "test")
        asked = [asyncio.ensure_future(batcher(value)) for value in (0, 2)]
        await asyncio.sleep(0.05)
        assert batcher._running is not None
        batcher._running.cancel()
        ended = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 20)
        gate.open.set()
        return list(ended)

    assert [type(answer) for answer in asyncio.run(ask())] == [asyncio.CancelledError] * 2
