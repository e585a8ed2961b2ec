"""Being told to stop: SIGTERM is as good as Ctrl-C."""

from __future__ import annotations

import signal
from types import FrameType


class terminate_cleanly:
    """Turns SIGTERM into KeyboardInterrupt, so that a stop from outside runs the same clean-up as Ctrl-C."""

    def __enter__(self) -> None:
        """From here on."""

        def interrupt(_signal: int, _frame: FrameType | None) -> None:
            raise KeyboardInterrupt

        self._previous = signal.signal(signal.SIGTERM, interrupt)

    def __exit__(self, *_: object) -> None:
        """As before."""
        signal.signal(signal.SIGTERM, self._previous)
