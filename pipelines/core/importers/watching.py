"""How an import tells how far it is."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Advance(Protocol):
    """Called with how many more units are done."""

    def __call__(self, n: int = 1, note: str = "") -> None:
        """Count them."""


class Bars(Protocol):
    """Makes a bar over so many units, as `pipelines.progress.Progress.bar` does."""

    def __call__(self, what: str, total: int) -> AbstractContextManager[Advance]:
        """Begin one."""
