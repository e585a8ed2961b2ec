"""Routes for what users do and what they say of themselves: written down before they are acknowledged."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import partial

from fastapi import APIRouter
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pipelines.core.config import Config, ServeConfig
from pipelines.core.errors import InputError
from pipelines.core.privacy import scrub_personal_data
from pipelines.core.text import clean_text
from serving.answering import Current, in_service
from serving.batching import Batcher
from serving.bodies import (
    Acknowledged,
    EventsAnswer,
    EventsBody,
    Forgotten,
    Id,
    MergeBody,
    Merged,
    UserAnswer,
    UserBody,
)
from serving.limits import check_count, check_text
from serving.metrics import Meters
from serving.steps import Watch, in_thread
from serving.store.store import Outcome, Store, StoredEvent

_MOST_TOGETHER = 32
"""Requests whose events are written in one transaction: a disk makes few of them a second."""


def add_people(
    router: APIRouter, current: Current, store: Store, limits: ServeConfig, meters: Meters, watch: Watch
) -> None:
    """`/events` and `/users`."""
    events = Batcher(partial(_write, store), _MOST_TOGETHER, "kindling-events", watch)

    @router.post("/events", response_model=EventsAnswer)
    async def add_events(body: EventsBody) -> EventsAnswer:
        """Write down what users did: all of these events or, where one is not as it should be, none.

        An event counts in the user's next list. Sent again with the same `event_id` it is one event still, so a caller
        that had no answer sends it again. Items that no version knows yet are welcome.
        """
        given = _events(body, in_service(current).config, limits)
        outcomes = await events(given)
        meters.acknowledged(given, outcomes)
        return EventsAnswer(
            events=[
                Acknowledged(event_id=event.event_id, outcome=outcome)
                for event, outcome in zip(given, outcomes, strict=True)
            ]
        )

    @router.post("/users/{user_id:id}/merge", response_model=Merged)
    async def merge_users(user_id: Id, body: MergeBody) -> Merged:
        """Give a user the events and words of another id, such as a session's after they have logged in.

        Done again it moves what has come since.
        """
        if body.former_id == user_id:
            raise InputError("former_id is the user itself; expected the id that they had before.")
        moved = await in_thread(watch, store.merge, user_id, body.former_id)
        return Merged(user_id=user_id, moved_events=moved)

    @router.get("/users/{user_id:id}", response_model=UserAnswer)
    async def get_user(user_id: Id) -> UserAnswer:
        """What is stored of a user: what they say of themselves, and their newest events."""
        person = (await in_thread(watch, store.people, [user_id], limits.max_events))[user_id]
        return UserAnswer(
            user_id=user_id,
            description=person.description,
            is_forgotten=person.forgotten_at is not None,
            events=[
                {"event_id": e.event_id, "item_id": e.item_id, "event": e.event, "weight": e.weight,
                 "user_id": user_id, "timestamp": e.occurred_at, "request_id": e.request_id}
                for e in person.events
            ],
        )  # fmt: skip

    @router.put("/users/{user_id:id}", response_model=UserAnswer)
    async def put_user(user_id: Id, body: UserBody) -> UserAnswer:
        """Write down what a user says of themselves, in place of what they said; personal data is taken out."""
        text = _without_personal_data(body.description, in_service(current).config, limits)
        await in_thread(watch, store.put_user, user_id, text)
        return await get_user(user_id)

    @router.delete("/users/{user_id:id}", response_model=Forgotten)
    async def forget_user(user_id: Id) -> Forgotten:
        """Delete a user's events and words; what a published version knows of them is not used any more."""
        return Forgotten(user_id=user_id, deleted_events=await in_thread(watch, store.forget, user_id))


def _write(store: Store, batch: Sequence[list[StoredEvent]]) -> Sequence[list[Outcome] | Exception]:
    try:
        outcomes = iter(store.add([event for given in batch for event in given]))
    except (OperationalError, PoolTimeoutError) as e:  # of the store, not of one request
        return [e] * len(batch)
    return [[next(outcomes) for _ in given] for given in batch]


def _events(body: EventsBody, config: Config, limits: ServeConfig) -> list[StoredEvent]:
    check_count("events", len(body.events), limits.max_events)
    kinds = config.data.event_weights
    for number, event in enumerate(body.events):
        if event.event is not None and event.event not in kinds:
            raise InputError(
                f"events.{number}.event: {event.event!r} is no event of this build; it knows {', '.join(kinds)}. "
                "None of these events is stored."
            )
    return [
        StoredEvent(
            e.event_id or uuid.uuid4().hex, e.user_id, e.item_id, e.event, e.weight, e.timestamp, e.request_id
        )
        for e in body.events
    ]


def _without_personal_data(text: str, config: Config, limits: ServeConfig) -> str:
    check_text("description", text, limits)
    text = clean_text(text)  # as in a build: what hides behind markup or invisible characters is found too
    if config.privacy.scrub_user_text:
        text, _ = scrub_personal_data(text, regions=config.privacy.phone_regions)
    return text
