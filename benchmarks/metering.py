"""What counting, timing and letting in cost a request, in microseconds of one process.

    python benchmarks/metering.py [--rounds N] [--quick] [--out FILE.md]

A request is one call of each of these: through the two middlewares, a list of ten counted, the steps of a batch of
one. Each is called many times in a row; the figure is the best of the rounds, which other work disturbs least.
Nothing is random here, so there are no seeds.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from fastapi import Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from quality import circumstances
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.core.config import ServeConfig
from serving.metrics import Meters
from serving.monitoring import Measured
from serving.overload import Admission
from serving.recommender import Recommender
from serving.requests import Recommended
from serving.steps import Step, step, watching
from serving.store.store import StoredEvent

N_CALLS = 5000
ROUTES = ("/v1/recommend", "/v1/recommend/{user_id}", "/v1/rank", "/v1/events", "/v1/users/{user_id}")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="three rounds")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rounds = 3 if options.quick else options.rounds
    page = render(rounds, measure(rounds))
    print(page)
    if options.out:
        options.out.write_text(page, encoding="utf-8")


def measure(rounds: int) -> list[tuple[str, float]]:
    """Microseconds of each part."""
    meters = Meters("r1")
    model = cast(Recommender, SimpleNamespace(count_cold=lambda ids: len(ids) // 2))
    items = [Recommended(f"item-{n}", 1.0, n, "text" if n % 2 else "hot") for n in range(10)]
    names = ("look_up", "encode", "fold_in", "rank")
    steps = [Step(name, 0, 0.001, 1, False) for name in names]
    event = StoredEvent("e", "u", "i", "click", 1.0, time.time())
    for route in ROUTES:
        for status in (200, 401, 422, 429, 503):
            meters.answered("POST", route, status, 0.01)

    def name_steps() -> None:
        with watching():
            for name in names:
                with step(name):
                    pass

    return [
        ("time and count the answer (middleware)", through(rounds, lambda app: Measured(app, meters))),
        ("let in, with a deadline (middleware)", through(rounds, admission)),
        ("count a list of ten", per_call(rounds, lambda: meters.listed(model, items))),
        ("name and time four steps", per_call(rounds, name_steps)),
        ("count four steps, once a batch", per_call(rounds, lambda: meters.batch(steps))),
        ("count one event", per_call(rounds, lambda: meters.acknowledged([event], ["stored"]))),
        (
            "write /metrics out, a scrape",
            per_call(rounds, lambda: generate_latest(cast(CollectorRegistry, meters)), 20),
        ),
    ]


def admission(app: ASGIApp) -> ASGIApp:
    """The middleware with its usual limits."""

    def problem(_request: Request, status: int, _title: str, _detail: str) -> Response:
        return Response(status_code=status)

    return Admission(app, problem, ServeConfig())


def per_call(rounds: int, call: Callable[[], object], n_calls: int = N_CALLS) -> float:
    """Best microseconds of one call."""
    best = float("inf")
    for _ in range(rounds):
        begun = time.perf_counter()
        for _ in range(n_calls):
            call()
        best = min(best, time.perf_counter() - begun)
    return 1e6 * best / n_calls


def through(rounds: int, wrap: Callable[[ASGIApp], ASGIApp]) -> float:
    """Best microseconds that a middleware adds to an app that answers at once."""

    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def run(app: ASGIApp) -> float:
        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(_message: Message) -> None:
            return

        best = float("inf")
        for _ in range(rounds):
            begun = time.perf_counter()
            for _ in range(N_CALLS):
                route = SimpleNamespace(path="/v1/recommend")
                scope: Scope = {
                    "type": "http", "method": "POST", "path": "/v1/recommend", "route": route, "state": {},
                }  # fmt: skip
                await app(scope, receive, send)
            best = min(best, time.perf_counter() - begun)
        return 1e6 * best / N_CALLS

    return asyncio.run(run(wrap(answer))) - asyncio.run(run(answer))


def render(rounds: int, found: list[tuple[str, float]]) -> str:
    """The page."""
    total = sum(us for name, us in found if "event" not in name and "/metrics" not in name)
    lines = [
        "# What metrics and admission cost", "", circumstances(), "",
        f"Command: `python benchmarks/metering.py --rounds {rounds}`. Best of {rounds} rounds.", "",
        "| part | microseconds |", "|---|---|",
        *(f"| {name} | {us:.1f} |" for name, us in found),
        f"| **a request for a list, answered alone** | **{total:.1f}** |",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
