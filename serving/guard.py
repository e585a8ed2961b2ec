"""Who may ask for what, and how often."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.concurrency import run_in_threadpool

from pipelines.core.config import ServeConfig
from serving.remembering import Remembered
from serving.store.keys import Key, Keys, Scope

REMEMBERED_SECONDS = 5.0
"""A key that is revoked opens for so long still, where it was just used; in exchange a request asks no store for it."""
_MOST_REMEMBERED = 10_000
_WINDOW_SECONDS = 10
_scheme = HTTPBearer(auto_error=False, description="a key of `kindling keys add`")
Guarded = Callable[..., Awaitable[None]]


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

    def __init__(self, keys: Keys, settings: ServeConfig) -> None:
        """Keys of the store that the service uses."""
        self._keys = keys
        self._is_on = is_guarded(settings)
        self._remembered: Remembered[str, tuple[float, Key]] = Remembered(_MOST_REMEMBERED)
        # a window of ten seconds lets a second's worth of haste pass
        rate = settings.rate_limit
        self._limit = RateLimitItemPerSecond(rate * _WINDOW_SECONDS, _WINDOW_SECONDS) if rate else None
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def wants(self, scope: Scope) -> Guarded:
        """A dependency of routes that want this scope."""

        async def check(
            request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)]
        ) -> None:
            who = request.client.host if request.client else ""
            if self._is_on:
                who = (await self._allowed(given, scope)).key_id
            self._count(who)

        return check

    async def _allowed(self, given: HTTPAuthorizationCredentials | None, scope: Scope) -> Key:
        if given is None:
            raise _unknown("show a key: Authorization: Bearer kd_...")
        key = await self._find(given.credentials)
        if key is None or key.has_expired:
            raise _unknown("this key is not known here, or not any more")
        if not key.may(scope):
            raise HTTPException(
                403, f"key {key.key_id} has the scopes {', '.join(key.scopes)}; this wants {scope}"
            )
        return key

    async def _find(self, shown: str) -> Key | None:
        now = time.monotonic()
        remembered = self._remembered.get(shown)
        if remembered is not None and now - remembered[0] < REMEMBERED_SECONDS:
            return remembered[1]
        key = await run_in_threadpool(self._keys.find, shown)
        if key is not None:  # of what is no key nothing is kept: there is no end to it
            self._remembered.put(shown, (now, key))
        return key

    def _count(self, who: str) -> None:
        if self._limit is None or self._limiter.hit(self._limit, who):
            return
        reset = self._limiter.get_window_stats(self._limit, who).reset_time
        wait = max(1, min(_WINDOW_SECONDS, round(reset - time.time())))
        raise HTTPException(429, "too many requests; slow down", {"Retry-After": str(wait)})


def _unknown(detail: str) -> HTTPException:
    return HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})
