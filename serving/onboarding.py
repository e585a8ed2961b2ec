"""The route that asks: a few items of which somebody new says whether they like them. It stores nothing."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from pipelines.core.config import ServeConfig
from serving.answering import Current, in_service, told
from serving.bodies import Bounds, FilterScalar, Id, Strict
from serving.interview import Reply
from serving.limits import check_count, check_text
from serving.recommender import Recommender
from serving.requests import Request
from serving.store.store import Store


class AnswerBody(Strict):
    """What they said to one question."""

    item_id: Id
    answer: Literal["like", "dislike", "unknown"] = Field(description="unknown: they do not know the item")


class OnboardingBody(Strict):
    """Who is asked, and what they said so far; everything is optional."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"n": 5},
                {"user_text": "I like hiking", "n": 1, "answers": [{"item_id": "i00007", "answer": "like"}]},
            ]
        }
    )

    user_id: Id | None = Field(None, description="what is stored of them counts, and is not asked about")
    user_text: str | None = Field(None, description="who they say they are")
    answers: list[AnswerBody] = Field(default_factory=list, description="all answers so far")
    n: int = Field(5, ge=1, description="questions; 1 at a time follows the answers best")
    filter: dict[str, FilterScalar | list[FilterScalar] | Bounds] = Field(
        default_factory=dict, description="of what may be asked about, as for /v1/recommend"
    )


class QuestionAnswer(BaseModel):
    """An item to ask about: do you like this."""

    item_id: str
    title: str
    gain: float = Field(
        description="by how much the best items are expected to be wanted more after the answer, in standard "
        "deviations of a user's scores"
    )
    like_chance: float = Field(description="that they like it, if they know it")


class EventKinds(BaseModel):
    """How answers are told to `/v1/events`, `like` as an event without a kind where this is null."""

    like: str | None
    dislike: str | None = Field(description="null: no kind of event of this build means that")


class OnboardingAnswer(BaseModel):
    """The questions, the best first."""

    model_version: str
    questions: list[QuestionAnswer]
    events: EventKinds


def add_onboarding(router: APIRouter, current: Current, store: Store, limits: ServeConfig) -> None:
    """`/onboarding`."""

    @router.post("/onboarding", response_model=OnboardingAnswer)
    async def onboard(body: OnboardingBody) -> OnboardingAnswer:
        """The few items whose answers would tell most about this user, in view of what they said so far.

        Nothing is stored. Send what they answered to `/v1/events`, or as `events` of `/v1/recommend`.
        """
        if body.user_text is not None:
            check_text("user_text", body.user_text, limits)
        check_count("answers", len(body.answers), limits.max_events)
        request = Request(user_id=body.user_id, user_text=body.user_text, n=body.n, filter=_conditions(body))
        return await run_in_threadpool(_ask, in_service(current), store, limits, request, body.answers)


def _ask(
    model: Recommender, store: Store, limits: ServeConfig, request: Request, answers: list[AnswerBody]
) -> OnboardingAnswer:
    if request.user_id is not None:
        request = told(request, store.people([request.user_id], limits.max_events)[request.user_id])
    questions = model.questions(request, [Reply(a.item_id, a.answer) for a in answers])
    return OnboardingAnswer(
        model_version=model.version,
        questions=[QuestionAnswer(**vars(question)) for question in questions],
        events=event_kinds(model.config.data.event_weights),
    )


def event_kinds(weights: dict[str, float]) -> EventKinds:
    """Kinds of event that say what an answer says; for a dislike the mildest kind below zero, if none has that name."""
    unwanted = sorted(
        (kind for kind, weight in weights.items() if weight < 0), key=lambda kind: -weights[kind]
    )
    if "dislike" in unwanted:
        unwanted = ["dislike"]
    return EventKinds(
        like="like" if weights.get("like", 0.0) > 0 else None, dislike=unwanted[0] if unwanted else None
    )


def _conditions(body: OnboardingBody) -> dict[str, Any]:
    return {
        k: v.model_dump(exclude_none=True) if isinstance(v, Bounds) else v for k, v in body.filter.items()
    }
