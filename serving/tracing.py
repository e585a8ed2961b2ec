"""Traces for an OpenTelemetry collector, where `serve.traces` names one.

A request is a span of its own, below that of the caller if they send `traceparent`; the steps of the batch that
answered it are spans below it. Routes and numbers are said, never ids or texts: FastAPI's own instrumentation sends
whole paths, and the ids of users are in them, which is why it is not used here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.core.errors import ConfigError
from serving.monitoring import route_of
from serving.steps import Step, Watch

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_SERVICE = "kindling"
_TOLD = frozenset({"look_up", "write_events", "encode", "rank"})
_QUIET = ("/health/", "/metrics")


def open_traces(endpoint: str) -> TracerProvider:
    """What sends spans to a collector, from a thread of its own, so that a request never waits for it.

    OpenTelemetry's environment variables count, such as OTEL_TRACES_SAMPLER and OTEL_EXPORTER_OTLP_HEADERS.

    Args:
        endpoint: of the collector, OTLP over HTTP, without /v1/traces.

    Raises:
        ConfigError: OpenTelemetry is not installed.

    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - optional
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as e:
        raise ConfigError(
            f"serve.traces = '{endpoint}' wants OpenTelemetry, which is not installed ({e}). "
            "pip install 'kindling[traces]', or leave serve.traces empty."
        ) from e
    name = os.environ.get("OTEL_SERVICE_NAME", _SERVICE)
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


class Traces:
    """Makes spans of requests and of their steps; a `Watch` that hands on to another."""

    def __init__(self, provider: TracerProvider, then: Watch) -> None:
        """Take where spans go, and who else is told of steps."""
        self._tracer = provider.get_tracer(_SERVICE)
        self._provider = provider
        self._then = then

    def close(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()

    def batch(self, steps: Sequence[Step]) -> None:
        """Handed on: a batch belongs to several requests."""
        self._then.batch(steps)

    def request(self, steps: Sequence[Step]) -> None:
        """The steps of a batch, below the span of a request that was in it."""
        self._then.request(steps)
        from opentelemetry.trace import StatusCode, get_current_span  # noqa: PLC0415

        if not get_current_span().is_recording():
            return
        for step in steps:
            if step.name in _TOLD:
                span = self._tracer.start_span(
                    step.name, start_time=step.begun_ns, attributes={"kindling.batch_size": step.size}
                )
                if step.has_failed:
                    span.set_status(StatusCode.ERROR)
                span.end(step.begun_ns + round(1e9 * step.seconds))


class Traced:
    """ASGI middleware: a span for every request that is no question after our health."""

    def __init__(self, app: ASGIApp, provider: TracerProvider) -> None:
        """Take where spans go."""
        self._app = app
        self._tracer = provider.get_tracer(_SERVICE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer within a span."""
        if scope["type"] != "http" or scope["path"].startswith(_QUIET):
            await self._app(scope, receive, send)
            return
        from opentelemetry.trace import SpanKind, StatusCode  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        caller = TraceContextTextMapPropagator().extract(Headers(scope=scope))
        attributes = {"http.request.method": scope["method"]}
        with self._tracer.start_as_current_span(
            scope["method"], caller, SpanKind.SERVER, attributes, record_exception=False
        ) as span:

            async def send_noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(StatusCode.ERROR)
                await send(message)

            try:
                await self._app(scope, receive, send_noting)
            finally:
                route = route_of(scope)
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.route", route)
                if request_id := scope.get("state", {}).get("request_id"):
                    span.set_attribute("kindling.request_id", request_id)
