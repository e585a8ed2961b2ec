"""What a Serve config starts, deploy/kubernetes/rayservice.yaml for one, is the service, and wants keys."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from pipelines.core.errors import ArtefactError, ConfigError
from pipelines.core.layout import Layout
from serving import application
from serving.choices import choose
from tests.conftest import ROOT


def test_ray_serve_takes_the_configuration_of_the_manifest() -> None:
    manifest = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "rayservice.yaml").read_text())
    said = ServeDeploySchema.model_validate(yaml.safe_load(manifest["spec"]["serveConfigV2"]))
    (ours,) = said.applications
    module, name = ours.import_path.split(":")
    assert module == application.__name__
    assert callable(getattr(application, name))
    assert ours.args.keys() == {"out", "config"}


def test_an_application_of_what_is_published(out: Path, tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text("[serve]\nmin_replicas = 2\nmax_replicas = 5\n")
    made = application.build({"out": str(out), "config": str(config)})._bound_deployment
    assert made._deployment_config.autoscaling_config.max_replicas == 5
    assert (out / "store.sqlite").is_file()
    assert application.build({"out": str(out)})._bound_deployment.num_replicas == 1


@pytest.mark.parametrize("args", [{}, {"out": "x", "confg": "y"}])
def test_other_arguments_are_refused(args: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="Expected out, and config"):
        application.build(args)


def test_nothing_published_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no published build"):
        application.build({"out": str(tmp_path)})


def test_what_a_version_says_of_code_and_rules_does_not_count_for_a_service(
    out: Path, tmp_path: Path
) -> None:
    chosen = choose(Layout(out), None)
    assert (chosen.rules, chosen.publish.allow_code) == (None, False)
    config = tmp_path / "mine.toml"
    config.write_text("[rules]\n[publish]\nallow_code = true\n")
    chosen = choose(Layout(out), config)
    assert chosen.rules is not None
    assert chosen.publish.allow_code
