"""From a request to a list: the version in service, with what the store knows of who asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby

from serving.batching import Batcher
from serving.problems import NotReadyError
from serving.recommender import Recommender
from serving.requests import Event, Recommended, Request
from serving.store.store import Person, Store

_MOST_IN_WORDS, _MOST_KNOWN = 16, 32
"""Requests of one batch, so that the first does not wait long for the last."""

Current = Callable[[], Recommender | None]
_Asked = tuple[Recommender, Request]
_Answered = list[Recommended]


class Answering:
    """Answers requests, those that come meanwhile together: one look into the store, one pass of the encoder."""

    def __init__(self, current: Current, store: Store, most_events: int) -> None:
        """Take the version in service, anew for each request, and the newest `most_events` events of a user."""
        self._current = current
        self._store = store
        self._most_events = most_events
        # encoding takes several times what ranking does: who is known without it does not wait for it
        self._in_words = Batcher(self._answers, _MOST_IN_WORDS, "kindling-words")
        self._known = Batcher(self._answers, _MOST_KNOWN, "kindling-known")

    async def __call__(self, request: Request) -> tuple[str, _Answered]:
        """The version that answers, and its list.

        Raises:
            NotReadyError: there is none.
            InputError: the request cannot be answered as given.

        """
        model = self._current()
        if model is None:
            raise NotReadyError
        batcher = self._in_words if request.user_text or request.query else self._known
        return model.version, await batcher((model, request))

    def _answers(self, batch: Sequence[_Asked]) -> Sequence[_Answered | Exception]:
        """One answer each; at most a few versions of the model meet in a batch, while one takes another's place."""
        asking = [request.user_id for _, request in batch if request.user_id is not None]
        people = self._store.people(asking, self._most_events) if asking else {}
        answers: list[_Answered | Exception] = []
        for _, group in groupby(batch, key=lambda asked: id(asked[0])):
            asked = list(group)
            requests = [r if r.user_id is None else _told(r, people[r.user_id]) for _, r in asked]
            answers += asked[0][0].recommend_many(requests)
        return answers


def _told(request: Request, person: Person) -> Request:
    """The request of somebody of whom this is stored; what they say now goes before what they said."""
    return replace(
        request,
        user_text=request.user_text or person.description,
        stored=[Event(e.item_id, e.event, e.weight) for e in person.events],
        is_forgotten=person.is_forgotten,
    )
