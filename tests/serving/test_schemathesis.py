"""Requests made from the service's own description, sound and broken: every answer is one that it describes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation, BaseSchema
from schemathesis.specs.openapi import checks

from pipelines.core.layout import Layout
from pipelines.core.sections.exploring import ExploreConfig
from serving.api import create_app
from serving.recommender import Recommender
from tests.serving.databases import file_store
from tests.serving.shop import CONFIG, Shop

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
def described(model: Recommender, shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> BaseSchema:
    """With all routes there are, those that change what is in service too."""
    out = Path(shutil.copytree(shop.out, tmp_path_factory.mktemp("described") / "out"))
    app = create_app(
        lambda: model, file_store(out), CONFIG.serve, explore=ExploreConfig(log=True), layout=Layout(out)
    )
    # on this machine alone no key is wanted, and one that is missing is no bad request
    for operations in app.openapi()["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    return schemathesis.openapi.from_asgi("/openapi.json", app)


def test_answers_are_as_described(described: BaseSchema, subtests: pytest.Subtests) -> None:
    """Operation by operation: schemathesis' own way through pytest's nodes is not that of pytest 9.2."""
    operations = [result.ok() for result in described.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:
        with subtests.test(operation.label):
            _try(operation)


def _try(operation: APIOperation) -> None:
    @given(case=st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode)))
    @settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def is_as_described(case: Case) -> None:
        case.call_and_validate(checks=CHECKS)

    is_as_described()
