"""The dashboard and the alert rules speak of metrics, labels and values that the service really has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import promql_parser
import pytest
import yaml

from serving.metrics import Meters, Reason
from serving.recommender import Recommender
from serving.requests import Source
from serving.steps import STORE_STEPS
from serving.store.store import Outcome

FOLDER = Path(__file__).parents[2] / "docs" / "monitoring"
VALUES = {
    "reason": set(get_args(Reason)),
    "source": {*get_args(Source), "empty"},
    "operation": set(STORE_STEPS),
    "outcome": {*get_args(Outcome), "ok", "failed"},
}


class Holder:
    """Refuses nothing."""

    refusals, refuses = 0, False


@pytest.fixture(scope="module")
def exported(model: Recommender) -> dict[str, set[str]]:
    """Names of samples to their labels, each metric observed once."""
    meters = Meters("r1")
    meters.watch_model(lambda: model)
    meters.watch_bundles(Holder())
    meters.answered("GET", "/v1/recommend", 200, 0.1)
    return {sample.name: set(sample.labels) for sample in meters.samples()}


def alerts() -> list[dict[str, str]]:
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in rules["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, object]]:
    return list(json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))["panels"])


def expressions() -> list[str]:
    """As Prometheus gets them: Grafana puts a duration and a pattern in the place of its variables."""
    of_panels = [str(t["expr"]) for p in panels() for t in p.get("targets", [])]  # type: ignore[attr-defined]
    shown = [e.replace("$__rate_interval", "1m").replace("$replica", ".*") for e in of_panels]
    return [*shown, *(rule["expr"] for rule in alerts())]


def selectors(expression: str) -> Iterator[promql_parser.VectorSelector]:
    """Every series that an expression reads; it raises where Prometheus' grammar is not met."""
    left: list[object] = [promql_parser.parse(expression)]
    while left:
        node = left.pop()
        if isinstance(node, promql_parser.VectorSelector):
            yield node
        for name in ("expr", "lhs", "rhs", "param", "vector_selector"):
            if (child := getattr(node, name, None)) is not None and not isinstance(child, str):
                left.append(child)
        left.extend(getattr(node, "args", []))


def test_every_expression_reads_what_there_is(exported: dict[str, set[str]]) -> None:
    assert len(expressions()) > 40
    for expression in expressions():
        found = list(selectors(expression))
        assert len(found) == expression.count("kindling_"), expression
        for selector in found:
            assert selector.name in exported, expression
            for matcher in selector.matchers.matchers:
                assert matcher.name in exported[selector.name], expression
                if matcher.name in VALUES:
                    assert set(matcher.value.split("|")) <= VALUES[matcher.name], expression
        labels = set.union(*(exported[str(selector.name)] for selector in found))
        for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
            assert set(grouped.split(", ")) <= labels, expression


def test_nothing_that_is_counted_is_left_off_the_dashboard(exported: dict[str, set[str]]) -> None:
    shown = " ".join(expressions())
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in exported}
    assert len(families) == 18
    assert {name for name in families if name not in shown} == set()


def test_the_dashboard_can_be_imported() -> None:
    found = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    assert (found["uid"], found["title"]) == ("kindling", "Kindling")
    assert {variable["name"] for variable in found["templating"]["list"]} == {"datasource", "replica"}
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        assert isinstance(at, dict)
        places = {
            (x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
        }
        assert not places & taken, panel["title"]  # none lies on another
        assert max(x for x, _ in places) < 24
        taken |= places
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_every_alert_says_what_to_do() -> None:
    page = (FOLDER.parent / "monitoring.md").read_text(encoding="utf-8")
    names = [rule["alert"] for rule in alerts()]
    assert len(set(names)) == len(names) > 8
    for rule in alerts():
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert f"| `{rule['alert']}` |" in page, rule["alert"]


def test_every_metric_is_explained(exported: dict[str, set[str]]) -> None:
    page = (FOLDER.parent / "monitoring.md").read_text(encoding="utf-8")
    for name in {re.sub("_(bucket|sum|count)$", "", name) for name in exported}:
        assert f"`{name}`" in page, name
