"""The HTTP routes over a `Recommender` and a `Store`. Knows FastAPI; knows nothing of Ray."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.concurrency import run_in_threadpool

from pipelines.core.config import ExploreConfig, ServeConfig
from pipelines.core.layout import Layout
from pipelines.core.registry.folder import Folder
from pipelines.core.registry.registry import Registry
from serving.answering import Answering, Current, in_service
from serving.catalogue_routes import add_catalogue
from serving.experiments.participation import Participation
from serving.experiments.routes import add_experiments
from serving.experiments.versions import OtherVersions
from serving.feedback import Feedback
from serving.guard import Guard
from serving.items import add_item_changes, add_items
from serving.lists import Lists, add_lists
from serving.metrics import Meters
from serving.monitoring import add_metrics
from serving.onboarding import add_onboarding
from serving.pages import add_pages
from serving.people import add_people
from serving.problems import PROBLEMS, add_errors
from serving.steps import Watch
from serving.store.keys import SCOPES
from serving.store.store import Store
from serving.tracing import Traced, Traces, open_traces
from serving.versions import add_versions


def create_app(
    current: Current,
    store: Store,
    limits: ServeConfig,
    *,
    others: OtherVersions | None = None,
    explore: ExploreConfig | None = None,
    layout: Layout | None = None,
    registry: Registry | None = None,
    meters: Meters | None = None,
) -> FastAPI:
    """Routes that ask `current()` for the version in service on each request.

    Args:
        current: the loaded version, or None while there is none.
        store: of events, users and keys.
        limits: sizes a request may have, and who may ask.
        others: versions beside the one in service, for experiments; None: there are none.
        explore: what lists may try, and whether they are logged; None: neither.
        layout: where the versions lie, for routes that change what is in service; None: there are no such routes.
        registry: where they are published, if that is elsewhere.
        meters: what is counted; None: new ones, which `/metrics` shows.

    Raises:
        ConfigError: `serve.traces` is set and OpenTelemetry is not installed.

    """
    meters = meters or Meters()
    meters.watch_model(current)
    provider = open_traces(limits.traces) if limits.traces else None
    traces = Traces(provider, meters) if provider else None
    watch: Watch = traces or meters
    feedback = Feedback(store, explore or ExploreConfig())

    app: FastAPI = FastAPIOffline(
        title="Kindling",
        version="1",
        summary="Recommendations when there is little to go on.",
        lifespan=_closing(feedback, traces),
    )
    add_errors(app, limits)
    answering = Answering(current, store, limits.max_events, meters, watch, feedback.passed)
    guard = Guard(store.keys, limits, watch)
    participation = Participation(store.experiments, current, others, limits.experiment_seconds)
    reading, writing, administering = (guard.router(scope) for scope in SCOPES)
    watching = guard.router("read", "")
    add_metrics(app, watching, meters)
    if provider:
        app.add_middleware(Traced, provider=provider)

    add_lists(reading, Lists(participation, answering, feedback), limits)
    add_items(reading, current, limits, watch)
    add_onboarding(reading, current, store, limits)
    add_item_changes(reading, writing, current, store)
    add_people(writing, current, store, limits, meters, watch)
    add_experiments(administering, store.experiments, current, participation, others)
    add_catalogue(reading, administering, current, store, limits)
    if layout is not None:
        add_versions(administering, registry or Registry(Folder(layout)))
    for router in (watching, reading, writing, administering):
        app.include_router(router)
    add_pages(app)
    _add_health(app, current)
    return app


def _closing(
    feedback: Feedback, traces: Traces | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """What waits to be written is written when the service stops; whoever stops it has waited for the requests."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(feedback.close)
        if traces is not None:
            await run_in_threadpool(traces.close)

    return lifespan


def _add_health(app: FastAPI, current: Current) -> None:
    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @app.get("/health/ready", responses={503: PROBLEMS[503]})
    async def ready() -> dict[str, str]:
        """A version is loaded and answers."""
        return {"status": "ready", "model_version": in_service(current).version}
