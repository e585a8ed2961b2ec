"""The only module that knows Ray Serve: the routes as a deployment."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig
from threadpoolctl import threadpool_limits

from pipelines.core.config import ServeConfig
from pipelines.core.errors import ConfigError
from pipelines.core.layout import Layout
from serving.api import create_app
from serving.holder import CurrentRecommender
from serving.live import LiveRecommender
from serving.store.store import Store, open_store, store_url

APP_NAME = "kindling"
_MOST_THREADS = 8
"""More wait for memory, not for each other."""
_SWITCH_SECONDS = 0.0005
_REPLICA = {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0"}
"""Routes on the loop that reads requests, not on one of their own beside it: the routes never block."""


def build_routes(out: Path, settings: ServeConfig) -> FastAPI:
    """The routes over the version in service under `out`; called in each replica."""
    threads = settings.threads or max(1, min((os.cpu_count() or 1) // settings.replicas, _MOST_THREADS))
    # the ranker has threads of its own, and what else is multiplied here is too small to be worth more than one
    threadpool_limits(1, "blas")
    # a short text gains little from a second thread of torch, which spins while it waits: on a busy machine one
    # request costs twenty times the CPU time
    torch.set_num_threads(1)
    # the loop that reads requests and the threads that answer them take turns more often than every 5 ms
    sys.setswitchinterval(_SWITCH_SECONDS)
    store = Store(store_url(settings.store, out))
    version = CurrentRecommender(out, settings.reload_seconds, threads)
    live = LiveRecommender(version, store, settings.items_seconds, settings.max_events)
    return create_app(live, store, settings, Layout(out))


def build_deployment(out: Path, settings: ServeConfig) -> serve.Application:
    """The deployment, bound to an output directory; nothing is loaded until a replica starts."""

    class Ingress:
        """Holds nothing: Serve sends every request to the routes."""

    deployment = serve.deployment(
        name="recommender",
        num_replicas=settings.replicas,
        max_ongoing_requests=settings.max_ongoing_requests,
        max_queued_requests=settings.max_queued_requests,
        # a line a request costs a third of what HTTP and Serve cost together
        logging_config=LoggingConfig(enable_access_log=settings.access_log),
        ray_actor_options={"num_cpus": 1, "runtime_env": {"env_vars": _REPLICA}},
        graceful_shutdown_timeout_s=20,
    )
    ingress: Any = serve.ingress(lambda: build_routes(out, settings))(Ingress)
    return deployment(ingress).bind()


def start(out: Path, settings: ServeConfig) -> str:
    """Start Serve on the connected cluster; returns the base address once requests are answered."""
    _check_port(settings)
    open_store(store_url(settings.store, out)).close()
    serve.start(
        http_options=HTTPOptions(
            host=settings.host, port=settings.port, request_timeout_s=settings.request_timeout_s
        )
    )
    serve.run(build_deployment(out, settings), name=APP_NAME, route_prefix="/")
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
    serve.shutdown()
