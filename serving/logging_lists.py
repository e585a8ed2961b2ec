"""Writes answered lists down after they were answered, in groups, and knows how often items have been shown.

No request waits for it. What a process that is killed had not yet written is lost: the lists of about the last
`_GROUP_SECONDS`, or, while the store does not answer, all that wait, at most `_MOST_WAITING`; beyond that new ones are
dropped and counted in the log. A list is in the store whole or not at all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping

from sqlalchemy.exc import SQLAlchemyError

from pipelines.core.config import ExploreConfig
from serving.store.impressions import Impression, Impressions

_GROUP_SECONDS = 0.2
_MOST_WAITING = 20_000
"""About 40 MB of lists of ten."""
_MOST_AT_ONCE = 500
_RETRY_SECONDS = 2.0
_COUNT_SECONDS = 5.0
"""Between two looks at how often items were shown."""
_PRUNE_SECONDS = 3600.0
log = logging.getLogger(__name__)


class ListLog:
    """Takes lists, and gives counts that are a few seconds old; its thread does the work."""

    def __init__(self, impressions: Impressions, settings: ExploreConfig) -> None:
        """Read the counts once, then start the thread; what the store cannot tell is asked again."""
        self._impressions = impressions
        self._keep_seconds = settings.keep_days * 86400.0
        self._waiting: deque[Impression] = deque()
        self._dropped = 0
        self._shown: dict[str, int] = {}
        self._counted = self._pruned = 0.0
        self._is_failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kindling-lists", daemon=True)
        self._thread.start()

    @property
    def shown(self) -> Mapping[str, int]:
        """How often each item has been shown, by the lists that are logged; absent: never."""
        return self._shown

    def put(self, impression: Impression) -> None:
        """Have a list written; returns at once."""
        if len(self._waiting) >= _MOST_WAITING:
            self._dropped += 1
        else:
            self._waiting.append(impression)

    def close(self, timeout: float = 10.0) -> None:
        """Write what waits, and end; what the store does not take within the timeout is lost."""
        self._stop.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._attempt()
            self._stop.wait(_RETRY_SECONDS if self._is_failing else _GROUP_SECONDS)
        self._attempt()

    def _attempt(self) -> None:
        """Everything that is due; the thread outlives whatever goes wrong."""
        try:
            self._write()
            self._look()
            if self._is_failing:
                log.info("the log of lists is written again")
            self._is_failing = False
        except Exception as e:
            # the message of the store quotes the statement, and with it what users were shown
            reason = type(e).__name__ if isinstance(e, SQLAlchemyError) else repr(e)
            if not self._is_failing:
                log.error("the log of lists cannot be written, %d wait: %s", len(self._waiting), reason)
            self._is_failing = True

    def _write(self) -> None:
        if self._dropped:
            log.error("%d lists were not logged: more than %d waited", self._dropped, _MOST_WAITING)
            self._dropped = 0
        while self._waiting:
            group = [self._waiting[k] for k in range(min(len(self._waiting), _MOST_AT_ONCE))]
            self._impressions.add(group)
            for _ in group:  # only now: what could not be written is tried again
                self._waiting.popleft()

    def _look(self) -> None:
        now = time.time()
        if now - self._counted >= _COUNT_SECONDS:
            # another object in its place: whoever reads the old one meanwhile is not disturbed
            changed = self._impressions.counts_since(self._counted)
            if changed.items() - self._shown.items():
                self._shown = self._shown | changed
            self._counted = now
        if now - self._pruned >= _PRUNE_SECONDS:
            deleted = self._impressions.prune(now - self._keep_seconds)
            if deleted:
                log.info("%d lists were older than explore.keep_days and are deleted", deleted)
            self._pruned = now
