"""The only module that knows Ray Serve: the routes as a deployment."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI
from ray import serve
from ray.serve._private.constants import SERVE_LOGGER_NAME
from ray.serve.config import AutoscalingConfig, HTTPOptions
from ray.serve.schema import LoggingConfig
from ray.util.metrics import Gauge
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from threadpoolctl import threadpool_limits

from pipelines.core.config import ExploreConfig, PublishConfig, ServeConfig
from pipelines.core.errors import ConfigError
from pipelines.core.layout import Layout
from pipelines.core.registry.registry import Registry, open_place
from pipelines.core.sections.rules import RulesConfig
from serving.api import create_app
from serving.experiments.versions import OtherVersions
from serving.holder import CurrentRecommender
from serving.live import LiveRecommender
from serving.metrics import Meters
from serving.mirroring import open_mirror
from serving.proxy import drain_proxy
from serving.recommender import Recommender
from serving.store.connecting import store_url
from serving.store.store import Store, open_store

APP_NAME = "kindling"
_MOST_THREADS = 8
"""More wait for memory, not for each other."""
_SWITCH_SECONDS = 0.0005
_UNBOUNDED = 1_000_000
"""Requests that Serve gives a replica: more than there are connections."""
_GRACE_SECONDS = 2.0
_EXPORT_SECONDS = 5.0
"""Ray's agents are told every ten."""
_UPSCALE_SECONDS, _DOWNSCALE_SECONDS, _LOOK_BACK_SECONDS = 10.0, 300.0, 15.0
log = logging.getLogger(__name__)
_REQUEST_ID = b"x-request-id"
_REPLICA = {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0"}
"""Routes on the loop that reads requests, not on one of their own beside it: the routes never block."""


def build_routes(
    out: Path,
    settings: ServeConfig,
    rules: RulesConfig | None = None,
    explore: ExploreConfig | None = None,
    publish: PublishConfig | None = None,
) -> FastAPI:
    """The routes over the version in service under `out`; called in each replica."""
    _log_as_serve()
    replicas = settings.max_replicas or settings.replicas
    threads = settings.threads or max(1, min((os.cpu_count() or 1) // replicas, _MOST_THREADS))
    # the ranker has threads of its own, and what else is multiplied here is too small to be worth more than one
    threadpool_limits(1, "blas")
    # a short text gains little from a second thread of torch, which spins while it waits: on a busy machine one
    # request costs twenty times the CPU time
    torch.set_num_threads(1)
    # the loop that reads requests and the threads that answer them take turns more often than every 5 ms
    sys.setswitchinterval(_SWITCH_SECONDS)
    store = Store(store_url(settings.store, out))

    def live(version: Callable[[], Recommender]) -> LiveRecommender:
        return LiveRecommender(version, store, settings.items_seconds, settings.max_events)

    mirror = open_mirror(Layout(out), publish, store)
    holder = CurrentRecommender(out, settings.reload_seconds, threads, rules, mirror)
    current = live(holder)
    others = OtherVersions(out, current, lambda model: live(lambda: model), threads, rules, mirror)
    meters = Meters(serve.get_replica_context().replica_id.unique_id)
    meters.watch_bundles(holder)
    app = create_app(
        current, store, settings, others=others, explore=explore, layout=Layout(out), meters=meters,
        registry=Registry(open_place(publish.registry)) if publish and publish.registry else None,
    )  # fmt: skip
    app.add_middleware(_NamedOnce)
    threading.Thread(target=_export_forever, args=(meters,), name="kindling-metrics", daemon=True).start()
    return app


class _ToServe(logging.Handler):
    """Hands records to Serve's logger, with whatever handlers that has by then."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger(SERVE_LOGGER_NAME).handle(record)


def _log_as_serve() -> None:
    """Have what we say in the replica's log, with time and level, which otherwise knows Serve's own lines alone."""
    for name in ("serving", "pipelines"):
        ours = logging.getLogger(name)
        ours.setLevel(logging.INFO)
        ours.propagate = False
        ours.addHandler(_ToServe())


class _NamedOnce:
    """ASGI middleware: Serve puts the id of a request on its answer, so the same one is not put there by us."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        of_serve = [header for header in scope.get("headers", ()) if header[0] == _REQUEST_ID]

        async def send_once(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [h for h in message["headers"] if tuple(h) not in of_serve]
            await send(message)

        await self._app(scope, receive, send_once)


def _export_forever(meters: Meters) -> None:
    """Give Ray the numbers of this replica again and again: the agent of each node shows those of all its replicas.

    As they are, so that a request pays for them once: buckets and sums go as gauges, which is the same to PromQL.
    """
    gauges: dict[str, Gauge] = {}
    while True:
        try:
            for sample in meters.samples():
                name, labels = sample.name, sample.labels
                gauge = gauges.get(name) or gauges.setdefault(name, Gauge(name, tag_keys=tuple(labels)))
                gauge.set(sample.value, labels)
        except Exception:  # whatever Ray has against one number, this thread must live for the next
            log.exception("the metrics could not be given to Ray")
        time.sleep(_EXPORT_SECONDS)


def scaling(settings: ServeConfig) -> dict[str, Any]:
    """How many replicas there are, in the words of Serve: a fixed number, or one that follows the load."""
    most = settings.max_replicas
    if most is None:
        return {"num_replicas": settings.replicas}
    least = settings.min_replicas or 1
    if least == most:
        return {"num_replicas": most}
    limits = AutoscalingConfig(
        min_replicas=least,
        max_replicas=most,
        initial_replicas=min(max(settings.replicas, least), most),
        target_ongoing_requests=settings.target_requests,
        # a replica loads for seconds: one is started at once where they are missed, and kept for some minutes
        upscale_delay_s=_UPSCALE_SECONDS,
        downscale_delay_s=_DOWNSCALE_SECONDS,
        look_back_period_s=_LOOK_BACK_SECONDS,
    )
    return {"autoscaling_config": limits}


def build_deployment(
    out: Path,
    settings: ServeConfig,
    rules: RulesConfig | None = None,
    explore: ExploreConfig | None = None,
    publish: PublishConfig | None = None,
) -> serve.Application:
    """The deployment, bound to an output directory; nothing is loaded until a replica starts."""

    class Ingress:
        """Holds nothing: Serve sends every request to the routes."""

    deployment = serve.deployment(
        name="recommender",
        **scaling(settings),
        # the routes themselves let in, have wait and refuse (serving/overload.py), in the one shape of errors, counted,
        # and never health or metrics. Serve would do it in plain text, and to whoever comes
        max_ongoing_requests=_UNBOUNDED,
        max_queued_requests=-1,
        # a line a request costs a third of what HTTP and Serve cost together
        logging_config=LoggingConfig(enable_access_log=settings.access_log),
        ray_actor_options={"num_cpus": 1, "runtime_env": {"env_vars": _REPLICA}},
        graceful_shutdown_timeout_s=settings.drain_seconds,
    )
    ingress: Any = serve.ingress(lambda: build_routes(out, settings, rules, explore, publish))(Ingress)
    return deployment(ingress).bind()


def start(
    out: Path,
    settings: ServeConfig,
    rules: RulesConfig | None = None,
    explore: ExploreConfig | None = None,
    publish: PublishConfig | None = None,
) -> str:
    """Start Serve on the connected cluster; returns the base address once requests are answered.

    Args:
        out: of the build.
        settings: of the service.
        rules: of the shop, in place of those that a version was published with.
        explore: what lists may try, and whether they are logged; None: neither.
        publish: says where versions are taken from; None: from `out`.

    """
    _check_port(settings)
    open_store(store_url(settings.store, out)).close()
    serve.start(
        http_options=HTTPOptions(
            host=settings.host,
            port=settings.port,
            # the routes give up first, and say it in the one shape of errors
            request_timeout_s=settings.request_timeout_s + _GRACE_SECONDS,
        )
    )
    serve.run(build_deployment(out, settings, rules, explore, publish), name=APP_NAME, route_prefix="/")
    return f"http://{settings.host}:{settings.port}"


def _check_port(settings: ServeConfig) -> None:
    """Say now what Serve would only say in a log of its proxy.

    Raises:
        ConfigError: something else listens there.

    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as e:
            raise ConfigError(
                f"serve.host = '{settings.host}', serve.port = {settings.port} cannot be listened on: {e.strerror}. "
                "Stop what listens there, or set another port in the [serve] section of --config."
            ) from e


def wait_forever() -> None:
    """Keep the process, and with it a cluster of its own, until it is told to stop."""
    while True:
        time.sleep(3600)


def stop() -> None:
    """Drain and stop the service."""
    drain_proxy()  # shutdown alone ends the proxy at once, and with it what is being answered
    serve.shutdown()
