"""What the service explores by, and what it writes down of its answers: between the routes and the store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from pipelines.core.config import ExploreConfig
from serving.answering import Passed
from serving.exploring import Exploration
from serving.logging_lists import ListLog
from serving.requests import Answer, Request
from serving.store.impressions import Impression, ShownItem
from serving.store.store import Store

_MOST_LISTS = 50
"""Of a user that are read at a request: 0.5 ms."""


class Feedback:
    """Tells requests how to explore, and logs lists where `explore.log` says so."""

    def __init__(self, store: Store, settings: ExploreConfig) -> None:
        """Start the log's thread where there is a log."""
        self._settings = settings
        self._store = store
        self._lists = ListLog(store.impressions, settings) if settings.log else None

    @property
    def passed(self) -> Passed | None:
        """What users were shown, where it counts."""
        return self._passed if self._settings.passed_weight > 0 else None

    def _passed(self, user_ids: Sequence[str]) -> dict[str, dict[str, float]]:
        weight = self._settings.passed_weight
        found = self._store.impressions.passed(user_ids, _MOST_LISTS)
        return {
            user: {item: weight * looked for item, looked in seen.items()} for user, seen in found.items()
        }

    def prepare(self, request: Request, request_id: str) -> Request:
        """The request with what its list may try."""
        if self._settings.policy == "none":
            return request
        shown = self._lists.shown if self._lists else {}
        return replace(request, exploration=Exploration(self._settings, request_id, shown))

    def record(
        self, request: Request, request_id: str, version: str, answer: Answer, variant: str | None = None
    ) -> None:
        """Have a list written down; returns at once."""
        if self._lists is None or not answer:
            return
        items = [
            ShownItem(item.item_id, score, 1.0 if item.propensity is None else item.propensity)
            for item, score in zip(answer, answer.scores, strict=True)
        ]
        self._lists.put(
            Impression(
                request_id, request.user_id, time.time(), version, answer.policy, variant, 1 + request.offset,
                request.is_plain, items, answer.best,
            )
        )  # fmt: skip

    def close(self) -> None:
        """Write what waits."""
        if self._lists is not None:
            self._lists.close()
