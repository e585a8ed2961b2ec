"""The HTTP routes over a `Recommender`. Knows FastAPI; knows nothing of Ray."""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Callable, Sequence
from http import HTTPStatus
from itertools import groupby
from typing import Annotated, Literal

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.core.config import ServeConfig
from pipelines.core.errors import InputError
from pipelines.core.schema import MAX_WEIGHT
from serving import requests
from serving.batching import Batcher
from serving.recommender import Recommender

log = logging.getLogger(__name__)

_ID_BYTES = 512
_MOST_IN_WORDS, _MOST_KNOWN = 16, 32
"""Requests of one batch, so that the first does not wait long for the last."""
Id = Annotated[str, StringConstraints(min_length=1, max_length=_ID_BYTES)]
_REQUEST_ID = re.compile("[0-9A-Za-z-]{8,64}")
FilterScalar = str | int | float | bool


class Strict(BaseModel):
    """Base of request bodies: an unknown field is an error, not a silently ignored wish."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class EventBody(Strict):
    """One thing the user did."""

    item_id: Id
    event: str | None = Field(None, max_length=64, description="kind of event, as in data.event_weights")
    weight: float = Field(1.0, gt=0, le=MAX_WEIGHT)


class Bounds(Strict):
    """min <= value <= max."""

    min: float | None = None
    max: float | None = None


class RecommendBody(Strict):
    """Who asks for what; everything is optional."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_text": "I spend most weekends hiking and like light, simple gear", "n": 5},
                {"query": "waterproof tent for two", "filter": {"price": {"max": 200}}},
                {"user_id": "u00042", "events": [{"item_id": "i00007", "event": "click"}]},
            ]
        }
    )

    user_id: Id | None = None
    user_text: str | None = Field(None, description="who the user says they are")
    query: str | None = Field(None, description="what they look for now")
    events: list[EventBody] = Field(default_factory=list, description="what they did just now, oldest first")
    n: int = Field(10, ge=1)
    exclude_ids: list[Id] = Field(default_factory=list)
    filter: dict[str, FilterScalar | list[FilterScalar] | Bounds] = Field(
        default_factory=dict, description="column: value, list of values, or {min, max}"
    )
    explain: bool = False


class ItemAnswer(BaseModel):
    """One place of the list."""

    item_id: str
    score: float
    rank: int
    source: Literal["text", "fold_in", "hot", "fallback"]
    parts: dict[str, float] | None = None


class RecommendAnswer(BaseModel):
    """The list and what made it."""

    request_id: str
    model_version: str
    items: list[ItemAnswer]


class Problem(BaseModel):
    """An error, after RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str


def create_app(current: Callable[[], Recommender | None], limits: ServeConfig) -> FastAPI:
    """Routes that ask `current()` for the version in service on each request.

    Args:
        current: the loaded version, or None while there is none.
        limits: sizes a request may have.

    """
    app: FastAPI = FastAPIOffline(
        title="Kindling", version="1", summary="Recommendations when there is little to go on."
    )
    _add_errors(app, limits)
    problems: dict[int | str, dict[str, object]] = {
        code: {"model": Problem, "content": {"application/problem+json": {}}} for code in (422, 503)
    }

    # encoding takes several times what ranking does: who is known without it does not wait for it
    in_words = Batcher(_recommend, _MOST_IN_WORDS, "kindling-words")
    known = Batcher(_recommend, _MOST_KNOWN, "kindling-known")

    @app.post("/v1/recommend", response_model=RecommendAnswer, responses=problems)
    async def recommend(body: RecommendBody, request: Request) -> Response:
        """The n best items for a user, a text, a query, recent events, or any mix of them."""
        model = current()
        if model is None:
            raise NotReadyError
        asked = _to_request(body, limits)
        items = await (in_words if asked.user_text or asked.query else known)((model, asked))
        return _Json(_answer(request.state.request_id, model.version, items))

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @app.get("/health/ready", responses={503: problems[503]})
    async def ready() -> dict[str, str]:
        """A version is loaded and answers."""
        model = current()
        if model is None:
            raise NotReadyError
        return {"status": "ready", "model_version": model.version}

    return app


_ProblemMaker = Callable[[Request, int, str, str], Response]


class NotReadyError(Exception):
    """No version is loaded yet."""


_Asked = tuple[Recommender, requests.Request]
_Answered = list[requests.Recommended]


def _recommend(batch: Sequence[_Asked]) -> Sequence[_Answered | Exception]:
    """One answer each; at most a few versions of the model meet in a batch, while one takes another's place."""
    answers: list[_Answered | Exception] = []
    for _, group in groupby(batch, key=lambda asked: id(asked[0])):
        asked = list(group)
        answers += asked[0][0].recommend_many([request for _, request in asked])
    return answers


class _Json(Response):
    """A `RecommendAnswer` without the cost of validating what was just made."""

    media_type = "application/json"


def _answer(request_id: str, version: str, items: _Answered) -> bytes:
    """The JSON of a `RecommendAnswer`."""
    rows = [{k: v for k, v in vars(item).items() if v is not None} for item in items]
    answer = {"request_id": request_id, "model_version": version, "items": rows}
    return json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _to_request(body: RecommendBody, limits: ServeConfig) -> requests.Request:
    for name, text in (("user_text", body.user_text), ("query", body.query)):
        if text is not None and len(text) > limits.max_text_chars:
            raise InputError(f"{name} has {len(text)} characters, expected at most {limits.max_text_chars}.")
    for name, entries, most in (
        ("events", len(body.events), limits.max_events),
        ("exclude_ids", len(body.exclude_ids), limits.max_ids),
    ):
        if entries > most:
            raise InputError(f"{name} has {entries} entries, expected at most {most}.")
    return requests.Request(
        user_id=body.user_id,
        user_text=body.user_text,
        query=body.query,
        events=[requests.Event(e.item_id, e.event, e.weight) for e in body.events],
        n=body.n,
        exclude_ids=body.exclude_ids,
        filter={
            k: v.model_dump(exclude_none=True) if isinstance(v, Bounds) else v for k, v in body.filter.items()
        },
        explain=body.explain,
    )


def _add_errors(app: FastAPI, limits: ServeConfig) -> None:
    """One shape for every error, and a request id on every answer."""

    def problem(request: Request, status: int, title: str, detail: str) -> Response:
        detail = detail.encode("utf-8", "replace").decode()  # it may quote lone surrogates
        content = Problem(title=title, status=status, detail=detail, request_id=request.state.request_id)
        headers = {"Retry-After": "1"} if status == 503 else None
        return JSONResponse(content.model_dump(), status, headers, media_type="application/problem+json")

    app.add_middleware(_Identify, problem=problem, most_bytes=limits.max_body_bytes)

    @app.exception_handler(InputError)
    async def bad_input(request: Request, error: InputError) -> Response:
        return problem(request, 422, "The request cannot be answered as given", str(error))

    @app.exception_handler(RequestValidationError)
    async def bad_body(request: Request, error: RequestValidationError) -> Response:
        details = "; ".join(
            f"{'.'.join(str(p) for p in e['loc'][1:]) or 'body'}: {e['msg']}" for e in error.errors()[:10]
        )
        if "json" not in request.headers.get("content-type", ""):
            details += "; send it with Content-Type: application/json"
        return problem(request, 422, "The request is not well-formed", details)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        response = problem(
            request, error.status_code, HTTPStatus(error.status_code).phrase, str(error.detail)
        )
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(NotReadyError)
    async def not_ready(request: Request, _error: NotReadyError) -> Response:
        return problem(request, 503, "Not ready", "no version of the model is loaded yet; try again shortly")


class _Identify:
    """ASGI middleware: an id for every request, a limit to its size, and an answer to what nobody expected.

    Written against ASGI itself, for Starlette's `BaseHTTPMiddleware` costs a task and two streams a request.
    """

    def __init__(self, app: ASGIApp, problem: _ProblemMaker, most_bytes: int) -> None:
        self._app = app
        self._problem = problem
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        given = request.headers.get("x-request-id", "")  # Serve has made one, or whoever stands before it
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        request.state.request_id = request_id
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._most_bytes:
            detail = f"the body has {length} bytes, expected at most {self._most_bytes}"
            refusal = self._problem(request, 413, "The request is too large", detail)
            await refusal(scope, receive, send_with_id)
            return
        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            log.exception("request %s failed", request_id)
            if started:
                raise  # half an answer is out; the connection has to break
            detail = "the request failed; its id is in the log"
            await self._problem(request, 500, "Internal error", detail)(scope, receive, send_with_id)
