"""The only module that knows Ray Serve: the routes as a deployment."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.config import HTTPOptions

from pipelines.core.config import ServeConfig
from pipelines.core.errors import ConfigError
from serving.api import create_app
from serving.holder import CurrentRecommender

APP_NAME = "kindling"


def build_routes(out: Path, settings: ServeConfig) -> FastAPI:
    """The routes over the version in service under `out`; called in each replica."""
    holder = CurrentRecommender(out, settings.reload_seconds)
    return create_app(holder, settings)


def build_deployment(out: Path, settings: ServeConfig) -> serve.Application:
    """The deployment, bound to an output directory; nothing is loaded until a replica starts."""

    class Ingress:
        """Holds nothing: Serve sends every request to the routes."""

    deployment = serve.deployment(
        name="recommender",
        num_replicas=settings.replicas,
        max_ongoing_requests=settings.max_ongoing_requests,
        max_queued_requests=settings.max_queued_requests,
        ray_actor_options={"num_cpus": 1},
        graceful_shutdown_timeout_s=20,
    )
    ingress: Any = serve.ingress(lambda: build_routes(out, settings))(Ingress)
    return deployment(ingress).bind()


def start(out: Path, settings: ServeConfig) -> str:
    """Start Serve on the connected cluster; returns the base address once requests are answered."""
    _check_port(settings)
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
