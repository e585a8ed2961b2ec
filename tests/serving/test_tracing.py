"""Traces reach a real collector over HTTP: which spans, below which, and nothing of anybody in them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from pipelines.core.config import ServeConfig
from pipelines.core.errors import ConfigError
from serving.api import create_app
from serving.recommender import Recommender
from tests.serving.databases import file_store
from tests.serving.test_api import check_answer


class Collector(ThreadingHTTPServer):
    """Takes spans as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        """On a free port of this machine."""
        self.received: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                assert self.headers["Content-Type"] == "application/x-protobuf"
                collector.received.append(self.rfile.read(int(self.headers["Content-Length"])))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """For serve.traces."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def traces(self) -> dict[str, dict[str, Span]]:
        """All spans that came, by trace and name."""
        sent = [ExportTraceServiceRequest.FromString(body) for body in self.received]
        resources = [resource for request in sent for resource in request.resource_spans]
        for resource in resources:
            values = {a.key: a.value.string_value for a in resource.resource.attributes}
            assert values["service.name"] == "kindling"
        spans = [span for r in resources for scope in r.scope_spans for span in scope.spans]
        found: dict[str, dict[str, Span]] = {}
        for span in spans:
            found.setdefault(span.trace_id.hex(), {})[span.name] = span
        assert sum(len(of_trace) for of_trace in found.values()) == len(spans)
        return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join(10)


def values(span: Span) -> dict[str, object]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


def test_a_request_its_steps_and_its_caller(collector: Collector, model: Recommender, tmp_path: Path) -> None:
    app = create_app(lambda: model, file_store(tmp_path), ServeConfig(traces=collector.url))
    trace, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with TestClient(app) as client:
        body = {"user_id": "secret-anna", "query": "my secret wish"}
        headers = {"traceparent": f"00-{trace}-{caller}-01", "X-Request-Id": "12345678-abcd"}
        check_answer(client.post("/v1/recommend", json=body, headers=headers))
        client.get("/v1/users/secret-anna?x=secret")
        client.get("/health/ready")
        client.get("/metrics")
    # what was not sent yet is sent when the app stops; of health and metrics there is nothing
    traces = collector.traces()
    spans = traces.pop(trace)
    assert set(spans) == {"POST /v1/recommend", "look_up", "encode", "rank"}
    assert [set(of_trace) for of_trace in traces.values()] == [{"GET /v1/users/{user_id}", "look_up"}]
    asked = spans["POST /v1/recommend"]
    assert asked.parent_span_id.hex() == caller
    assert asked.kind == Span.SPAN_KIND_SERVER
    assert values(asked) == {
        "http.request.method": "POST", "http.response.status_code": 200, "http.route": "/v1/recommend",
        "kindling.request_id": "12345678-abcd",
    }  # fmt: skip
    for name in ("look_up", "encode", "rank"):
        step = spans[name]
        assert (step.trace_id, step.parent_span_id) == (asked.trace_id, asked.span_id)
        assert asked.start_time_unix_nano <= step.start_time_unix_nano <= step.end_time_unix_nano
        assert values(step) == {"kindling.batch_size": 1}
    assert all(b"secret" not in body for body in collector.received)


def test_a_collector_that_is_away_costs_nobody_an_answer(
    collector: Collector, model: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "1")  # a stop tries for so long
    url = collector.url
    collector.server_close()
    with TestClient(create_app(lambda: model, file_store(tmp_path), ServeConfig(traces=url))) as client:
        for _ in range(3):
            check_answer(client.post("/v1/recommend", json={"query": "tea"}))


def test_without_opentelemetry_it_says_what_to_install(
    model: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    store = file_store(tmp_path)
    create_app(lambda: model, store, ServeConfig())
    with pytest.raises(ConfigError, match=r"kindling\[traces\]"):
        create_app(lambda: model, store, ServeConfig(traces="http://collector:4318"))
