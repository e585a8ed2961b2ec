"""The version in service with what has come since it was built; kept up to date from the store.

    PUT /v1/items -> store -> every replica, twice a second: changes and events after the last it knows -> late items

One object takes another's place, so that no answer mixes two. A replica keeps nothing that the store does not have.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from serving.late import FirstEvents, LateItems
from serving.recommender import Recommender
from serving.repeating import Repeating
from serving.requests import Event, Request
from serving.store.items import StoredItem
from serving.store.store import Store, StoredEvent

FloatArray = npt.NDArray[np.float32]
_AT_ONCE = 5000
"""Rows of one statement."""
_MOST_EVENTS = 200
"""Of an item, the newest, that its factor is solved from; who has more waits for a build to count them all."""
_AGAIN_SECONDS = 60.0
"""After which all first events are looked at again: their users have done other things."""
log = logging.getLogger(__name__)


class LiveRecommender:
    """What `create_app` asks for the version in service, late items and all."""

    def __init__(
        self, version: Callable[[], Recommender], store: Store, seconds: float, most_events: int
    ) -> None:
        """Read all that is late, then look for more from a thread of its own.

        Args:
            version: the published one, without late items.
            store: of items and events.
            seconds: between two looks.
            most_events: of a user, the newest, that are read.

        """
        self._version = version
        self._store = store
        self._most_events = most_events
        self._view = _View(version(), store, most_events)
        self._model = self._view.read()
        self._complaint = ""
        self._looking = Repeating(self.refresh, seconds, "kindling-late")

    def __call__(self) -> Recommender:
        """The version in service."""
        return self._model

    def close(self) -> None:
        """Stop looking."""
        self._looking.close()

    def refresh(self) -> None:
        """Look once; while the store does not answer the last of it stands."""
        try:
            version = self._version()
            view = (
                self._view if self._view.base is version else _View(version, self._store, self._most_events)
            )
            self._model, self._view = view.read(), view
            self._complaint = ""
        except Exception as e:  # this thread must live to read what comes after
            told = repr(e.__cause__ or e)
            if told != self._complaint:
                log.error("what came since the build cannot be read, the last of it stands: %s", told)
            self._complaint = told


class _View:
    """One version, and what has been read so far of what is late beside it."""

    def __init__(self, base: Recommender, store: Store, most_events: int) -> None:
        self.base = base
        self._store = store
        self._most_events = most_events
        self._late = LateItems(base)
        self._model = base
        known = base.store_point.of(store.store_id)
        self._change = known.items
        self._seq = known.events
        self._changes: dict[str, StoredItem] = {}
        self._touched: dict[str, FirstEvents] = {}
        self._last_forgotten = 0.0
        # what has been read and not been made into items: nothing of it is lost where the store fails in between
        self._is_changed = False
        self._to_solve: set[str] = set()
        self._unknown: set[str] = set()
        self._all_solved_at, self._all_solved_to = -np.inf, 0

    def read(self) -> Recommender:
        """The version with all that is late, made anew only where there is something new."""
        self._read_changes()
        self._read_events()
        last_forgotten = self._store.forgotten.last()
        if (
            last_forgotten != self._last_forgotten or self._is_long_ago()
        ):  # nothing of who is forgotten may remain
            self._to_solve |= self._touched.keys()
        if self._to_solve:
            self._solve()
        if self._to_solve or self._is_changed:
            late = self._late.make(self._changes.values(), self._touched)
            self._model = self.base.with_late(late)
        self._to_solve, self._is_changed, self._last_forgotten = set(), False, last_forgotten
        return self._model

    def _read_changes(self) -> None:
        while part := self._store.items.since(self._change, _AT_ONCE):
            found = {item.item_id: item for item in part}
            self._changes |= found
            self._is_changed = True
            # of what the version has not, events may be known that were there before it was built
            self._to_solve |= {
                item for item in found if item in self._unknown or item not in self.base.catalogue
            }
            self._unknown -= found.keys()
            self._change = part[-1].change

    def _read_events(self) -> None:
        """Note the items without behaviour in this version that have events it has not seen."""
        last = -1
        while last != self._seq:
            last = self._seq
            found = set()
            for event in self._store.read_from(last, _AT_ONCE):
                self._seq = event.seq
                found.add(event.item_id)
            self._to_solve |= {item for item in found if not self._has_behaviour(item)}

    def _has_behaviour(self, item_id: str) -> bool:
        items = self.base.catalogue
        return item_id in items and bool(items.has_behaviour(items.rows_of([item_id]))[0])

    def _solve(self) -> None:
        """Who touched these items, folded in while late items stand where their texts place them."""
        placed = self.base.with_late(self._late.make(self._changes.values(), {}))
        known = [item for item in self._to_solve if item in placed.catalogue]
        self._unknown |= self._to_solve.difference(known)
        for item_id in self._to_solve:
            self._touched.pop(item_id, None)
        factors: dict[str, FloatArray] = {}
        for item_id, events in self._store.who_had(known, _MOST_EVENTS).items():
            weights = self._weights(events)
            if not weights:
                continue
            missing = [user for user in weights if user not in factors]
            for user, person in self._store.people(missing, self._most_events).items():
                stored = [Event(e.item_id, e.event, e.weight, e.seq) for e in person.events]
                factors[user] = placed.user_factor(
                    Request(
                        user,
                        person.description,
                        stored=stored,
                        store_id=person.store_id,
                        forgotten_at=person.forgotten_at,
                    )
                )
            self._touched[item_id] = FirstEvents(
                np.stack([factors[user] for user in weights]),
                np.array(list(weights.values()), dtype=np.float32),
            )

    def _weights(self, events: Iterable[StoredEvent]) -> dict[str, float]:
        """User to the sum of their events' weights, where it is not 0."""
        kinds = self.base.config.data.event_weights
        found: dict[str, float] = {}
        for e in events:
            factor = 1.0 if e.event is None else kinds.get(e.event, 0.0)
            found[e.user_id] = found.get(e.user_id, 0.0) + factor * e.weight
        return {user: weight for user, weight in found.items() if weight}

    def _is_long_ago(self) -> bool:
        """Whether all first events are to be looked at again; if so, notes when."""
        now = time.monotonic()
        if now - self._all_solved_at < _AGAIN_SECONDS or self._seq == self._all_solved_to:
            return False
        self._all_solved_at, self._all_solved_to = now, self._seq
        return True
