"""Errors in one shape, RFC 9457, and a request id on every answer."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.core.config import ServeConfig
from pipelines.core.errors import InputError, UnknownError
from serving.overload import Admission

log = logging.getLogger(__name__)


class _IdConvertor(Convertor[str]):
    """An id in a path. It may have slashes, and a line end at its end is a part of it, which `path` would drop."""

    regex = "(?s:.+)"

    def convert(self, value: str) -> str:
        """As it is."""
        return value

    def to_string(self, value: str) -> str:
        """As it is."""
        return value


register_url_convertor("id", _IdConvertor())

_REQUEST_ID = re.compile("[0-9A-Za-z-]{8,64}")


class Problem(BaseModel):
    """An error, after RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str


PROBLEMS: dict[int | str, dict[str, object]] = {
    code: {"model": Problem, "content": {"application/problem+json": {}}}
    for code in (400, 401, 403, 413, 422, 429, 503)
}
"""What any route may answer instead, for the OpenAPI page."""

_UNREADABLE = (
    "the body cannot be read; expected JSON in UTF-8, not compressed, with numbers of a few hundred digits at most and "
    "lists no deeper than a few hundred"
)
_ProblemMaker = Callable[[Request, int, str, str], Response]


class NotReadyError(Exception):
    """No version is loaded yet."""


def add_errors(app: FastAPI, limits: ServeConfig) -> None:
    """One shape for every error, and a request id on every answer."""

    def problem(request: Request, status: int, title: str, detail: str) -> Response:
        detail = detail.encode("utf-8", "replace").decode()  # it may quote lone surrogates
        content = Problem(title=title, status=status, detail=detail, request_id=request.state.request_id)
        headers = {"Retry-After": "1"} if status == 503 else None
        return JSONResponse(content.model_dump(), status, headers, media_type="application/problem+json")

    app.add_middleware(Admission, problem=problem, limits=limits)
    app.add_middleware(_Identify, problem=problem, most_bytes=limits.max_body_bytes)

    @app.exception_handler(InputError)
    async def bad_input(request: Request, error: InputError) -> Response:
        if isinstance(error, UnknownError):
            return problem(request, 404, "It is not there", str(error))
        return problem(request, 422, "The request cannot be answered as given", str(error))

    @app.exception_handler(RequestValidationError)
    async def bad_body(request: Request, error: RequestValidationError) -> Response:
        errors = error.errors()[:10]
        details = "; ".join(map(_told, errors))
        is_json = "json" in request.headers.get("content-type", "")
        if not is_json and any(e["loc"][0] == "body" for e in errors):
            details += "; send it with Content-Type: application/json"
        return problem(request, 422, "The request is not well-formed", details)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        status = error.status_code
        detail = _UNREADABLE if status == 400 else str(error.detail)  # nobody but FastAPI says 400
        response = problem(request, status, HTTPStatus(status).phrase, detail)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(SQLAlchemyError)
    async def store_fails(request: Request, error: SQLAlchemyError) -> Response:
        # its message quotes the statement, and with it what users did
        request.state.refusal = "store"
        log.error("request %s: the store fails: %s", request.state.request_id, type(error).__name__)
        return problem(
            request,
            503,
            "The store does not answer",
            "try again shortly; an event with an event_id may safely be sent again",
        )

    @app.exception_handler(NotReadyError)
    async def not_ready(request: Request, _error: NotReadyError) -> Response:
        request.state.refusal = "not_ready"
        return problem(request, 503, "Not ready", "no version of the model is loaded yet; try again shortly")


def _told(error: Mapping[str, Any]) -> str:
    """One error of a request, as pydantic has it, for people."""
    _, *place = error["loc"]
    if error["type"] == "json_invalid":
        return f"the body is not JSON: {error['ctx']['error']} at character {place[0]}"
    return f"{'.'.join(map(str, place)) or 'body'}: {error['msg']}"


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
        if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > self._most_bytes):
            detail = f"the body has {length[:18]} bytes or more, expected at most {self._most_bytes}"
            refusal = self._problem(request, 413, "The request is too large", detail)
            await refusal(scope, receive, send_with_id)
            return
        received = 0

        async def receive_within() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most_bytes:  # of a body that did not say how long it is
                raise HTTPException(413, f"the body has more than {self._most_bytes} bytes")
            return message

        try:
            await self._app(scope, receive_within, send_with_id)
        except Exception:
            log.exception("request %s failed", request_id)
            if started:
                raise  # half an answer is out; the connection has to break
            detail = "the request failed; its id is in the log"
            await self._problem(request, 500, "Internal error", detail)(scope, receive, send_with_id)
