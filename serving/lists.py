"""Routes that answer with lists: from what a request says to who is asked, tried, logged and told."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from pipelines.core.config import ServeConfig
from serving import requests
from serving.answering import Answering
from serving.bodies import FIELDS, Asking, Bounds, Id, RankBody, RecommendAnswer, RecommendBody
from serving.experiments.participation import Part, Participation
from serving.feedback import Feedback
from serving.limits import check_count, check_text


@dataclass(frozen=True)
class Lists:
    """The way of a list: its experiment, the answer, the log."""

    participation: Participation
    answering: Answering
    feedback: Feedback

    async def __call__(self, request: Request, asked: requests.Request) -> Response:
        """A `RecommendAnswer`."""
        request_id = request.state.request_id
        asked, part = await self.participation(asked)
        prepared = self.feedback.prepare(asked, request_id)
        version, items = await self.answering(prepared, part.model if part else None)
        if part is not None:
            self.participation.note(part)
        self.feedback.record(asked, request_id, version, items, part.variant if part else None)
        return _Json(_answer(request_id, version, items, part))


def add_lists(router: APIRouter, answer: Lists, limits: ServeConfig) -> None:
    """`/recommend` and `/rank`."""

    @router.post("/recommend", response_model=RecommendAnswer)
    async def recommend(body: RecommendBody, request: Request) -> Response:
        """The n best items for a user, a text, a query, recent events, or any mix of them."""
        return await answer(request, _to_request(body, limits))

    @router.get("/recommend/{user_id:id}", response_model=RecommendAnswer)
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

    @router.post("/rank", response_model=RecommendAnswer)
    async def rank(body: RankBody, request: Request) -> Response:
        """These items and no others, best first; those that the version in service does not know are left out."""
        check_count("item_ids", len(body.item_ids), limits.max_n)
        return await answer(request, _to_request(body, limits))


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
