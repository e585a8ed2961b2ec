"""Requests made from the service's own description, sound and broken: every answer is one that it describes."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi import checks

from serving.api import create_app
from serving.recommender import Recommender
from tests.serving.databases import file_store
from tests.serving.shop import CONFIG

CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]


@pytest.fixture(scope="module")
def described(model: Recommender, tmp_path_factory: pytest.TempPathFactory) -> BaseSchema:
    app = create_app(lambda: model, file_store(tmp_path_factory.mktemp("store")), CONFIG.serve)
    return schemathesis.openapi.from_asgi("/openapi.json", app)


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_answers_are_as_described(case: Case) -> None:
    case.call_and_validate(checks=CHECKS)
