"""Who may ask for what, and how often."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from sqlalchemy.exc import SQLAlchemyError

from pipelines.core.config import ServeConfig
from serving.problems import PROBLEMS
from serving.remembering import Remembered
from serving.steps import Nobody, Watch, in_thread
from serving.store.keys import Key, Keys, Scope

REMEMBERED_SECONDS = 5.0
"""A key that is revoked opens for so long still, where it was just used; in exchange a request asks no store for it."""
_TRUSTED_SECONDS = 600.0
"""While the store does not answer, a key that was seen opens for so long."""
_MOST_REMEMBERED = 10_000
_WINDOW_SECONDS = 10
_scheme = HTTPBearer(auto_error=False, description="a key of `kindling keys add`")
_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def is_guarded(settings: ServeConfig) -> bool:
    """Whether callers must show a key: as `serve.auth` says, or where others than this machine can call."""
    return settings.auth == "keys" or (settings.auth == "auto" and not _is_loopback(settings.host))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Lets requests through, or answers 401, 403 or 429."""

    def __init__(self, keys: Keys, settings: ServeConfig, watch: Watch | None = None) -> None:
        """Keys of the store that the service uses."""
        self._keys = keys
        self._watch = watch or Nobody()
        self._is_on = is_guarded(settings)
        self._remembered: Remembered[str, tuple[float, Key]] = Remembered(_MOST_REMEMBERED)
        # a window of ten seconds lets a second's worth of haste pass
        rate = settings.rate_limit
        self._limit = RateLimitItemPerSecond(rate * _WINDOW_SECONDS, _WINDOW_SECONDS) if rate else None
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def router(self, scope: Scope, prefix: str = "/v1") -> APIRouter:
        """For routes below a prefix that want this scope."""
        guard = self

        class GuardedRoute(APIRoute):
            """Sees to it before the body is read, which a dependency would not."""

            def get_route_handler(self) -> _Handler:
                answer = super().get_route_handler()

                async def checked(request: Request) -> Response:
                    await guard.check(request, scope)
                    return await answer(request)

                return checked

        return APIRouter(
            prefix=prefix, route_class=GuardedRoute, responses=PROBLEMS, dependencies=[Depends(_scheme)]
        )

    async def check(self, request: Request, scope: Scope) -> None:
        """Raise HTTPException unless whoever asks may, now."""
        address = f"address {request.client.host if request.client else ''}"
        if not self._is_on:
            self._count(address)
            return
        credentials = await _scheme(request)
        key = await self._find(credentials.credentials if credentials else "", address)
        self._count(key.key_id)
        if not key.may(scope):
            raise HTTPException(
                403, f"key {key.key_id} has the scopes {', '.join(key.scopes)}; this wants {scope}"
            )

    async def _find(self, shown: str, address: str) -> Key:
        now = time.monotonic()
        at, key = self._remembered.get(shown) or (-_TRUSTED_SECONDS, None)
        if key is None or now - at >= REMEMBERED_SECONDS:
            if (
                key is None
            ):  # who tries one after the other is slowed down; not who was seen, by others of an address
                self._count(address, is_one_more=False)
            try:
                key = await in_thread(self._watch, self._keys.find, shown)
            except SQLAlchemyError:
                if key is None or now - at >= _TRUSTED_SECONDS:
                    raise
            else:
                if key is not None:  # of what is no key nothing is kept: there is no end to it
                    self._remembered.put(shown, (now, key))
        if key is None or key.has_expired:
            self._count(address)
            raise _unknown(
                "this key is not known here, or not any more"
                if shown
                else "show a key: Authorization: Bearer kd_..."
            )
        return key

    def _count(self, who: str, *, is_one_more: bool = True) -> None:
        if self._limit is None or (self._limiter.hit if is_one_more else self._limiter.test)(
            self._limit, who
        ):
            return
        reset = self._limiter.get_window_stats(self._limit, who).reset_time
        wait = max(1, math.ceil(reset - time.time()))
        raise HTTPException(429, "too many requests; slow down", {"Retry-After": str(wait)})


def _unknown(detail: str) -> HTTPException:
    return HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})
