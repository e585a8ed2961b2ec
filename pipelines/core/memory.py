"""How much memory this process and those it has started take at most, looked at again and again."""

from __future__ import annotations

import threading

import psutil

_SECONDS_BETWEEN_LOOKS = 1.0
_MEGA = 1e6


class PeakMemory:
    """Looks from its start to its end, once a second and at both ends.

    Memory that processes share (Ray's objects, libraries) is not counted, for it would be counted again and again.
    Processes on other machines, and of a cluster that was there before, are not seen.
    """

    def __init__(self) -> None:
        """Nothing is looked at yet."""
        self._peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="kindling-memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look a last time."""
        self._done.set()
        self._thread.join()

    @property
    def megabytes(self) -> float:
        """The most so far, in MB (10^6 bytes)."""
        return round(self._peak / _MEGA, 1)

    def _watch(self) -> None:
        self._look()
        while not self._done.wait(_SECONDS_BETWEEN_LOOKS):
            self._look()
        self._look()

    def _look(self) -> None:
        own = psutil.Process()
        total = 0
        for process in (own, *own.children(recursive=True)):
            try:
                found = process.memory_info()
            except psutil.Error:  # it ended, or is not ours to look at
                continue
            total += found.rss - getattr(found, "shared", 0)
        self._peak = max(self._peak, total)
