"""More requests than can be answered: so many at once, so many that wait, and none for longer than its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastapi import Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.core.config import ServeConfig

_GUARDED = "/v1/"
"""Whoever asks how we are must be told, however busy we are."""


class Admission:
    """ASGI middleware: refuses with 503 what would wait too long, before its body is read.

    Requests are let in one after the other as they came. One whose caller is gone, or whose time is over, gives its
    place up wherever it is.
    """

    def __init__(
        self, app: ASGIApp, problem: Callable[[Request, int, str, str], Response], limits: ServeConfig
    ) -> None:
        """Take the limits of one replica.

        Args:
            app: what answers.
            problem: makes an error of a status, a title and a detail.
            limits: `max_ongoing_requests`, `max_queued_requests` and `request_timeout_s`.

        """
        self._app = app
        self._problem = problem
        self._seconds = limits.request_timeout_s
        self._most_waiting = limits.max_queued_requests
        self._slots = asyncio.Semaphore(limits.max_ongoing_requests)
        self._n_waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in, have wait, or refuse."""
        if scope["type"] != "http" or not scope["path"].startswith(_GUARDED):
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def send_noting(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        if self._slots.locked() and self._n_waiting >= self._most_waiting:
            title, detail = "Too many requests at once", "the service is busy; try again shortly"
            await self._refuse("overload", title, detail, scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._seconds) as deadline:
                await self._wait()
                try:
                    await self._app(scope, receive, send_noting)
                finally:
                    self._slots.release()
        except TimeoutError:
            if has_begun or not deadline.expired():
                raise  # half an answer is out and the connection has to break, or it is not about our time
            detail = (
                f"no answer within {self._seconds:g} seconds; try again shortly; an event with an event_id may "
                "safely be sent again"
            )
            await self._refuse("timeout", "The request took too long", detail, scope, receive, send)

    async def _wait(self) -> None:
        self._n_waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._n_waiting -= 1

    async def _refuse(
        self, reason: str, title: str, detail: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        request = Request(scope)
        request.state.refusal = reason
        await self._problem(request, 503, title, detail)(scope, receive, send)
