"""Something that is done again and again beside the answers."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Repeating:
    """A thread of its own that calls `do`, which must not raise, every so many seconds until it is closed."""

    def __init__(self, do: Callable[[], None], seconds: float, name: str) -> None:
        """Begin; the first call is after the first pause."""
        self._do, self._seconds = do, seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it, and wait a while for a call that is under way."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self._do()
