"""Settings of replicas, limits and traces: what Ray Serve is told, and what is refused before it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipelines.core.config import ServeConfig, parse_config
from pipelines.core.errors import ConfigError
from serving.app import build_deployment, scaling


def settings(**values: object) -> ServeConfig:
    return ServeConfig.model_validate(values)


@pytest.mark.parametrize(
    ("values", "number"),
    [
        ({}, 1),
        ({"replicas": 3}, 3),
        ({"replicas": 1, "max_replicas": 4, "min_replicas": 4}, 4),
        ({"max_replicas": 1}, 1),
    ],
)
def test_a_fixed_number(values: dict[str, int], number: int) -> None:
    assert scaling(settings(**values)) == {"num_replicas": number}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"max_replicas": 4}, (1, 1, 4)),
        ({"max_replicas": 4, "min_replicas": 2}, (2, 2, 4)),
        ({"max_replicas": 4, "min_replicas": 2, "replicas": 3}, (2, 3, 4)),
        ({"max_replicas": 4, "min_replicas": 2, "replicas": 9}, (2, 4, 4)),
    ],
)
def test_a_number_that_follows_the_load(values: dict[str, int], expected: tuple[int, int, int]) -> None:
    found = scaling(settings(target_requests=5.0, **values))["autoscaling_config"]
    assert (found.min_replicas, found.initial_replicas, found.max_replicas) == expected
    assert found.target_ongoing_requests == 5.0


def test_serve_takes_the_deployment_and_refuses_nothing_before_the_routes_do() -> None:
    limits = settings(max_ongoing_requests=10, max_queued_requests=20, drain_seconds=7.0, max_replicas=2)
    made = build_deployment(Path("out"), limits)._bound_deployment
    assert made.max_ongoing_requests > 100_000
    assert made._deployment_config.max_queued_requests == -1
    assert made._deployment_config.graceful_shutdown_timeout_s == 7.0
    assert made._deployment_config.autoscaling_config.max_replicas == 2


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"min_replicas": 2}, "max_replicas is not set"),
        ({"min_replicas": 3, "max_replicas": 2}, "at most max_replicas, 2"),
        ({"max_replicas": 0}, "greater than or equal to 1"),
        ({"target_requests": 0}, "greater than 0"),
        ({"drain_seconds": 0}, "greater than 0"),
        ({"traces": "collector:4318"}, "http://host:4318"),
        ({"traces": "http://me:secret@collector:4318"}, "OTEL_EXPORTER_OTLP_HEADERS"),
        ({"traces": "http://collector:4318?key=1"}, "without a user or a query"),
    ],
)
def test_what_cannot_be_is_said_with_the_name_of_the_setting(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        settings(**values)
    with pytest.raises(ConfigError) as raised:
        parse_config({"serve": values}, "a.toml")
    assert "serve" in str(raised.value)


@pytest.mark.parametrize("url", ["", "http://collector:4318", "https://[::1]:4318/otlp"])
def test_addresses_of_collectors(url: str) -> None:
    assert settings(traces=url).traces == url
