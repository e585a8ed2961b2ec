"""`GET /metrics`, and every request counted on its way."""

from __future__ import annotations

import time

from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client.exposition import choose_encoder
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.metrics import Meters, Reason

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_REASONS: dict[int, Reason] = {
    401: "key",
    403: "scope",
    413: "too_large",
    422: "invalid",
    429: "rate_limit",
    500: "error",
}
"""Of a 503 whoever answers it says so in `request.state.refusal`."""


def add_metrics(app: FastAPI, router: APIRouter, meters: Meters) -> None:
    """Count what the app answers, and show it.

    Args:
        app: counted, with whatever was added to it before.
        router: for who may read.
        meters: what is shown.

    """
    app.add_middleware(Measured, meters=meters)

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def metrics(request: Request) -> Response:  # not async: it takes milliseconds, in a thread
        """The numbers of the replica that answers, for Prometheus; those of all are with Ray."""
        write, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(write(meters), headers={"Content-Type": content_type})


class Measured:
    """ASGI middleware that times every request; of a path only its route is kept."""

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        """Take what is told."""
        self._app = app
        self._meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and count the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 499  # the caller went away: nothing was answered

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = time.perf_counter()
        self._meters.in_progress.inc()
        try:
            await self._app(scope, receive, send_noting)
        finally:
            self._meters.in_progress.dec()
            seconds = time.perf_counter() - started
            method = scope["method"] if scope["method"] in _METHODS else "other"  # callers may invent any
            self._meters.answered(method, route_of(scope), status, seconds)
            reason = scope.get("state", {}).get("refusal") or _REASONS.get(status)
            if reason:
                self._meters.refused(reason)


def route_of(scope: Scope) -> str:
    """The path of the route that was chosen, its parameters by name; `other` where none was."""
    path = getattr(scope.get("route"), "path", None)
    return path.replace(":id}", "}") if path else "other"
