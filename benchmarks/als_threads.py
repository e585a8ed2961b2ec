"""Shards as threads of one process: what `pipelines.factorize` does in tasks, without Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any


class Threads:
    """Runs functions of shards; a reference is a future."""

    def __init__(self, n: int) -> None:
        """Start `n` threads."""
        self.pool = ThreadPoolExecutor(n)

    def submit(self, function: Callable[..., Any], *arguments: object, n_results: int = 1) -> list[Any]:
        """Run it when its arguments are there; they were submitted earlier, so that waiting cannot be for ever."""
        done = self.pool.submit(lambda: function(*(_value(a) for a in arguments)))
        return [done] if n_results == 1 else [_Part(done, at) for at in range(n_results)]

    def fetch(self, refs: Sequence[Any]) -> list[Any]:
        """Wait."""
        return [_value(ref) for ref in refs]

    def share(self, value: object) -> object:
        """Nothing to share."""
        return value

    def blocks(self, refs: Sequence[Any]) -> _Each:
        """Values to be waited for one after the other."""
        return _Each(tuple(refs))


@dataclass(frozen=True)
class _Each:
    """Several values, in turn."""

    refs: tuple[Any, ...]

    def __iter__(self) -> Iterator[Any]:
        """Wait for the next."""
        return (_value(ref) for ref in self.refs)


@dataclass(frozen=True)
class _Part:
    """One of several results."""

    whole: Future[Any]
    at: int


def _value(ref: object) -> Any:  # noqa: ANN401 - whatever the function returns
    if isinstance(ref, _Part):
        return ref.whole.result()[ref.at]
    return ref.result() if isinstance(ref, Future) else ref
