"""From a request to a list: the version in service, with what the store knows of who asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby

from sqlalchemy.exc import SQLAlchemyError

from serving.batching import Batcher
from serving.metrics import Meters
from serving.problems import NotReadyError
from serving.recommender import Recommender
from serving.requests import Answer, Event, Request
from serving.steps import Watch
from serving.store.store import Person, Store

_MOST_IN_WORDS, _MOST_KNOWN = 16, 32
"""Requests of one batch, so that the first does not wait long for the last."""

Passed = Callable[[Sequence[str]], dict[str, dict[str, float]]]
"""What each of some users was shown, see `Request.passed`."""
Current = Callable[[], Recommender | None]
_Asked = tuple[Recommender, Request]


def in_service(current: Current) -> Recommender:
    """The version in service.

    Raises:
        NotReadyError: there is none.

    """
    model = current()
    if model is None:
        raise NotReadyError
    return model


class Answering:
    """Answers requests, those that come meanwhile together: one look into the store, one pass of the encoder."""

    def __init__(
        self,
        current: Current,
        store: Store,
        most_events: int,
        meters: Meters,
        watch: Watch,
        passed: Passed | None = None,
    ) -> None:
        """Take the version in service, anew for each request, and the newest `most_events` events of a user.

        Args:
            current: see `Current`.
            store: of events and users.
            most_events: of a user.
            meters: count lists.
            watch: times what batches take.
            passed: what users were shown, where that counts.

        """
        self._passed = passed
        self._meters = meters
        self._current = current
        self._store = store
        self._most_events = most_events
        # each has a thread: strangers do not wait for the store, nor who needs no encoder for one
        self._people = Batcher(self._look_up, _MOST_KNOWN, "kindling-people", watch)
        self._in_words = Batcher(_recommend, _MOST_IN_WORDS, "kindling-words", watch)
        self._known = Batcher(_recommend, _MOST_KNOWN, "kindling-known", watch)

    async def __call__(self, request: Request, other: Recommender | None = None) -> tuple[str, Answer]:
        """The version that answers, and its list; `other` answers in place of the version in service.

        Raises:
            NotReadyError: there is none.
            InputError: the request cannot be answered as given.
            SQLAlchemyError: the store does not say who asks.

        """
        if request.user_id is not None:
            request = told(request, await self._people(request.user_id))
        model = other or in_service(self._current)
        batcher = self._in_words if request.user_text or request.query else self._known
        items = await batcher((model, request))
        self._meters.listed(model, items)
        return model.version, items

    def _look_up(self, user_ids: Sequence[str]) -> Sequence[Person | Exception]:
        try:
            people = self._store.people(user_ids, self._most_events)
            for user_id, passed in (self._passed(user_ids) if self._passed else {}).items():
                people[user_id].passed = passed
        except SQLAlchemyError as e:  # nobody is guilty: to try each alone would only take longer
            return [e] * len(user_ids)
        return [people[user_id] for user_id in user_ids]


def _recommend(batch: Sequence[_Asked]) -> Sequence[Answer | Exception]:
    """One answer each; at most a few versions of the model meet in a batch, while one takes another's place."""
    answers: list[Answer | Exception] = []
    for _, group in groupby(batch, key=lambda asked: id(asked[0])):
        asked = list(group)
        answers += asked[0][0].recommend_many([request for _, request in asked])
    return answers


def told(request: Request, person: Person) -> Request:
    """The request of somebody of whom this is stored; what they say now goes before what they said."""
    return replace(
        request,
        user_text=request.user_text or person.description,
        stored=[Event(e.item_id, e.event, e.weight, e.seq) for e in person.events],
        store_id=person.store_id,
        passed=person.passed,
        forgotten_at=person.forgotten_at,
    )
