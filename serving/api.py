"""The HTTP routes over a `Recommender` and a `Store`. Knows FastAPI; knows nothing of Ray."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from fastapi_offline import FastAPIOffline

from pipelines.core.config import ServeConfig
from serving import requests
from serving.answering import Answering, Current, in_service
from serving.bodies import (
    Asking,
    Bounds,
    Id,
    RankBody,
    RecommendAnswer,
    RecommendBody,
)
from serving.guard import Guard
from serving.items import add_item_changes, add_items
from serving.limits import check_count, check_text
from serving.onboarding import add_onboarding
from serving.people import add_people
from serving.problems import PROBLEMS, add_errors
from serving.store.keys import SCOPES
from serving.store.store import Store


def create_app(current: Current, store: Store, limits: ServeConfig) -> FastAPI:
    """Routes that ask `current()` for the version in service on each request.

    Args:
        current: the loaded version, or None while there is none.
        store: of events, users and keys.
        limits: sizes a request may have, and who may ask.

    """
    app: FastAPI = FastAPIOffline(
        title="Kindling", version="1", summary="Recommendations when there is little to go on."
    )
    add_errors(app, limits)
    answering = Answering(current, store, limits.max_events)
    guard = Guard(store.keys, limits)
    reading, writing = (guard.router(scope) for scope in SCOPES[:2])

    async def answer(request: Request, asked: requests.Request) -> Response:
        version, items = await answering(asked)
        return _Json(_answer(request.state.request_id, version, items))

    @reading.post("/recommend", response_model=RecommendAnswer)
    async def recommend(body: RecommendBody, request: Request) -> Response:
        """The n best items for a user, a text, a query, recent events, or any mix of them."""
        return await answer(request, _to_request(body, limits))

    @reading.get("/recommend/{user_id:id}", response_model=RecommendAnswer)
    async def recommend_to(
        user_id: Id,
        request: Request,
        n: Annotated[int, Query(ge=1)] = 10,
        offset: Annotated[int, Query(ge=0)] = 0,
        explain: bool = False,
    ) -> Response:
        """The n best items for a user, by all that is known of them."""
        return await answer(request, requests.Request(user_id=user_id, n=n, offset=offset, explain=explain))

    @reading.post("/rank", response_model=RecommendAnswer)
    async def rank(body: RankBody, request: Request) -> Response:
        """These items and no others, best first; those that the version in service does not know are left out."""
        check_count("item_ids", len(body.item_ids), limits.max_n)
        return await answer(request, _to_request(body, limits))

    add_items(reading, current, limits)
    add_onboarding(reading, current, store, limits)
    add_item_changes(reading, writing, current, store)
    add_people(writing, current, store, limits)
    app.include_router(reading)
    app.include_router(writing)

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @app.get("/health/ready", responses={503: PROBLEMS[503]})
    async def ready() -> dict[str, str]:
        """A version is loaded and answers."""
        return {"status": "ready", "model_version": in_service(current).version}

    return app


class _Json(Response):
    """A `RecommendAnswer` without the cost of validating what was just made."""

    media_type = "application/json"


def _answer(request_id: str, version: str, items: list[requests.Recommended]) -> bytes:
    """The JSON of a `RecommendAnswer`."""
    rows = [{k: v for k, v in vars(item).items() if v is not None} for item in items]
    answer = {"request_id": request_id, "model_version": version, "items": rows}
    return json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _to_request(body: Asking, limits: ServeConfig) -> requests.Request:
    for name, text in (("user_text", body.user_text), ("query", body.query)):
        if text is not None:
            check_text(name, text, limits)
    check_count("events", len(body.events), limits.max_events)
    asked = requests.Request(
        user_id=body.user_id,
        user_text=body.user_text,
        query=body.query,
        events=[requests.Event(e.item_id, e.event, e.weight) for e in body.events],
        explain=body.explain,
    )
    if isinstance(body, RankBody):
        return replace(asked, n=len(body.item_ids), among=body.item_ids, diversity=0.0)
    assert isinstance(body, RecommendBody)  # noqa: S101 - there is no third
    check_count("exclude_ids", len(body.exclude_ids), limits.max_ids)
    conditions = {
        k: v.model_dump(exclude_none=True) if isinstance(v, Bounds) else v for k, v in body.filter.items()
    }
    return replace(
        asked,
        n=body.n,
        offset=body.offset,
        diversity=body.diversity,
        exclude_ids=body.exclude_ids,
        filter=conditions,
    )
