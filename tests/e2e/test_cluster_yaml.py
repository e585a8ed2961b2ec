"""cluster.yaml, as it stands and with each commented provider switched on, passes Ray's own check."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from serving import proxy
from tests.conftest import ROOT

TEXT = (ROOT / "cluster.yaml").read_text(encoding="utf-8")


def validated(config: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config, validate_config  # noqa: PLC0415 - starts slowly

    prepared: dict[str, Any] = prepare_config(config)
    validate_config(prepared)
    return prepared


def variant(name: str) -> dict[str, Any]:
    """The file's sections with those of one commented block in their place."""
    block = re.split(r"^# --- (.+?) -+$", TEXT, flags=re.MULTILINE)
    commented = block[block.index(name) + 1]
    switched_on = yaml.safe_load(
        "\n".join(line.removeprefix("#").removeprefix(" ") for line in commented.splitlines())
    )
    base = yaml.safe_load(TEXT)
    base.pop("min_workers")  # belongs to the local provider; elsewhere each node type has its own
    return {**base, **switched_on}


def test_as_it_stands() -> None:
    prepared = validated(yaml.safe_load(TEXT))
    assert prepared["provider"]["type"] == "local"
    assert prepared["max_workers"] == 2


@pytest.mark.parametrize("place", ["head", "worker"])
def test_nodes_start_as_the_service_needs_them(place: str) -> None:
    start = yaml.safe_load(TEXT)[f"{place}_start_ray_commands"][-1]
    settings = dict(word.split("=", 1) for word in start.split("ray start")[0].split() if "=" in word)
    assert settings[proxy._ENABLE] == "1"
    assert settings[proxy._NICENESS] == "0"


@pytest.mark.parametrize("name", ["AWS", "Google Cloud"])
def test_cloud_variants(name: str) -> None:
    prepared = validated(variant(name))
    assert prepared["head_node_type"] == "head"
    kinds = prepared["available_node_types"]
    assert kinds.keys() == {"head", "cpu", "gpu"}
    assert kinds["gpu"]["resources"]["GPU"] == 1
    for kind in ("cpu", "gpu"):
        assert kinds[kind]["min_workers"] < kinds[kind]["max_workers"] <= prepared["max_workers"]
        assert re.search("spot|preemptible': True", str(kinds[kind]["node_config"]))


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ({"max_wrokers": 3}, "max_wrokers"),
        ({"provider": {}}, "type"),
    ],
)
def test_the_check_can_fail(broken: dict[str, Any], named: str) -> None:
    with pytest.raises(Exception, match=named):
        validated({**yaml.safe_load(TEXT), **broken})
