"""The HTTP routes over a `Recommender` and a `Store`. Knows FastAPI; knows nothing of Ray."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.concurrency import run_in_threadpool

from pipelines.core.config import ExploreConfig, ServeConfig
from pipelines.core.layout import Layout
from serving import requests
from serving.answering import Answering, Current, in_service
from serving.bodies import (
    FIELDS,
    Asking,
    Bounds,
    Id,
    RankBody,
    RecommendAnswer,
    RecommendBody,
)
from serving.catalogue_routes import add_catalogue
from serving.experiments.participation import Part, Participation
from serving.experiments.routes import add_experiments
from serving.experiments.versions import OtherVersions
from serving.feedback import Feedback
from serving.guard import Guard
from serving.items import add_item_changes, add_items
from serving.limits import check_count, check_text
from serving.pages import add_pages
from serving.people import add_people
from serving.problems import PROBLEMS, add_errors
from serving.store.keys import SCOPES
from serving.store.store import Store
from serving.versions import add_versions


def create_app(
    current: Current,
    store: Store,
    limits: ServeConfig,
    others: OtherVersions | None = None,
    explore: ExploreConfig | None = None,
    layout: Layout | None = None,
) -> FastAPI:
    """Routes that ask `current()` for the version in service on each request.

    Args:
        current: the loaded version, or None while there is none.
        store: of events, users and keys.
        limits: sizes a request may have, and who may ask.
        others: versions beside the one in service, for experiments; None: there are none.
        explore: what lists may try, and whether they are logged; None: neither.
        layout: where the versions lie, for routes that change what is in service; None: there are no such routes.

    """
    feedback = Feedback(store, explore or ExploreConfig())

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(feedback.close)

    app: FastAPI = FastAPIOffline(
        title="Kindling",
        version="1",
        summary="Recommendations when there is little to go on.",
        lifespan=lifespan,
    )
    add_errors(app, limits)
    answering = Answering(current, store, limits.max_events, feedback.passed)
    guard = Guard(store.keys, limits)
    participation = Participation(store.experiments, current, others, limits.experiment_seconds)
    reading, writing, administering = (guard.router(scope) for scope in SCOPES)

    async def answer(request: Request, asked: requests.Request) -> Response:
        request_id = request.state.request_id
        asked, part = await participation(asked)
        version, items = await answering(feedback.prepare(asked, request_id), part.model if part else None)
        if part is not None:
            participation.note(part)
        feedback.record(asked, request_id, version, items, part.variant if part else None)
        return _Json(_answer(request_id, version, items, part))

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
        rules: bool = True,
        fields: Annotated[list[str] | None, Query(description=FIELDS)] = None,
    ) -> Response:
        """The n best items for a user, by all that is known of them."""
        wanted = list(dict.fromkeys(fields or []))
        asked = requests.Request(
            user_id=user_id, n=n, offset=offset, explain=explain, rules=rules, fields=wanted
        )
        return await answer(request, asked)

    @reading.post("/rank", response_model=RecommendAnswer)
    async def rank(body: RankBody, request: Request) -> Response:
        """These items and no others, best first; those that the version in service does not know are left out."""
        check_count("item_ids", len(body.item_ids), limits.max_n)
        return await answer(request, _to_request(body, limits))

    add_items(reading, current, limits)
    add_item_changes(reading, writing, current, store)
    add_people(writing, current, store, limits)
    add_experiments(administering, store.experiments, current, participation, others)
    add_catalogue(reading, administering, current, store, limits)
    if layout is not None:
        add_versions(administering, layout)
    for router in (reading, writing, administering):
        app.include_router(router)
    add_pages(app)

    _add_health(app, current)
    return app


def _add_health(app: FastAPI, current: Current) -> None:
    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @app.get("/health/ready", responses={503: PROBLEMS[503]})
    async def ready() -> dict[str, str]:
        """A version is loaded and answers."""
        return {"status": "ready", "model_version": in_service(current).version}


class _Json(Response):
    """A `RecommendAnswer` without the cost of validating what was just made."""

    media_type = "application/json"


def _answer(request_id: str, version: str, items: requests.Answer, part: Part | None) -> bytes:
    """The JSON of a `RecommendAnswer`."""
    rows = [{k: v for k, v in vars(item).items() if v is not None} for item in items]
    answer: dict[str, object] = {"request_id": request_id, "model_version": version, "items": rows}
    if part is not None:
        answer |= {"experiment": part.experiment, "variant": part.variant}
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
        fields=list(dict.fromkeys(body.fields)),
    )
    if isinstance(body, RankBody):
        return replace(asked, n=len(body.item_ids), among=body.item_ids, diversity=0.0, rules=body.rules)
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
        rules=body.rules,
    )
