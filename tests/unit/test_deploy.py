"""What is in deploy/ is accepted by what it is for, as far as can be told without it; its commands are ours."""

from __future__ import annotations

import copy
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import typer
import yaml
from cronsim import CronSim

from jobs.cli import app
from pipelines.core.config import load_config
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
CRON_LINE = re.compile(r"^(?P<cron>(?:\S+ ){5})(?P<command>.*)$", re.MULTILINE)


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of the manifests with its file."""
    for path in KUBERNETES:
        for found in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            yield path.name, found


def of_kind(kind: str) -> dict[str, Any]:
    (found,) = (document for _, document in documents() if document["kind"] == kind)
    return found


# --- commands


def parse(command: str | list[str]) -> None:
    """Read a command line as `kindling` itself does, without running it; what is wrong is raised."""
    words = shlex.split(command, comments=True) if isinstance(command, str) else command
    words = words[: next((n for n, w in enumerate(words) if w in (">>", ">", "||", "|", "&", "&&")), None)]
    assert words[0] == "kindling", command
    known, rest, path = typer.main.get_command(app), words[1:], "kindling"
    while hasattr(known, "commands"):
        assert rest, f"{path} wants a command"
        assert rest[0] in known.commands, f"{path} has no command {rest[0]}"
        path, known, rest = f"{path} {rest[0]}", known.commands[rest[0]], rest[1:]
    context = known.make_context(path, list(rest))
    if path == "kindling submit":
        parse(["kindling", context.params["command"], *context.args])


def commands_of(found: object) -> Iterator[list[str]]:
    """Whatever of a manifest runs our program."""
    if isinstance(found, dict):
        words = [*found.get("command", []), *found.get("args", [])] if "image" in found else []
        if words[:1] == ["kindling"]:
            yield words
        if isinstance(found.get("entrypoint"), str):
            yield shlex.split(found["entrypoint"])
    for part in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from commands_of(part)


def test_commands_of_the_manifests_are_ours() -> None:
    found = [(name, words) for name, document in documents() for words in commands_of(document)]
    assert {name for name, _ in found} == {"cronjob.yaml", "rayjob.yaml", "raycronjob.yaml"}
    for _, words in found:
        parse(words)


def test_commands_of_the_crontab_and_of_systemd_are_ours() -> None:
    lines = [
        line["command"]
        for line in CRON_LINE.finditer((DEPLOY / "crontab").read_text())
        if "#" not in line["cron"]
    ]
    services = [path.read_text() for path in sorted((DEPLOY / "systemd").glob("*.service"))]
    lines += re.findall(r"^ExecStart=/opt/kindling/.venv/bin/(.*)$", "\n".join(services), re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        parse(line)


def test_commands_of_the_guide_are_ours() -> None:
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    lines = re.findall(r"^ {4}(kindling .*)$", text, re.MULTILINE) + re.findall(
        r"`(kindling [a-z]+ [^`]*--out [^`]*)`", text
    )
    assert len(lines) > 20
    for line in lines:
        parse(re.sub(r" \[.*?\]", "", line))


@pytest.mark.parametrize(
    "command",
    ["kindling nightly --data a --out b --adress c", "kindling nights show --out b", "kindling nightly --data a",
     "kindling submit nightly --data a --out b --rtry"],
)  # fmt: skip
def test_a_command_that_is_not_ours_is_found_out(command: str) -> None:
    with pytest.raises((typer.TyperException, AssertionError)):
        parse(command)


# --- cron and systemd


def test_times_of_all_schedules_are_times() -> None:
    lines = [
        line["cron"]
        for line in CRON_LINE.finditer((DEPLOY / "crontab").read_text())
        if "#" not in line["cron"]
    ]
    for cron in [*lines, of_kind("CronJob")["spec"]["schedule"], of_kind("RayCronJob")["spec"]["schedule"]]:
        assert next(CronSim(cron.strip(), datetime(2026, 5, 1, tzinfo=UTC))).hour == 3


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for path in (DEPLOY / "systemd").iterdir():
        here = path.read_text().replace("/opt/kindling/.venv/bin/kindling", sys.executable)
        (tmp_path / path.name).write_text(here)

    def verify() -> str:
        units = sorted(map(str, tmp_path.iterdir()))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
        )
        return "\n".join(
            line for line in done.stderr.splitlines() if str(tmp_path) in line or "kindling" in line
        )

    assert verify() == ""
    timer = tmp_path / "kindling-nightly.timer"
    timer.write_text(timer.read_text().replace("Persistent", "Persistant"))
    assert "Persistant" in verify()


# --- Kubernetes

POD: dict[str, Any] = {"type": "object", "required": ["spec"]}
"""Its insides are checked by Kubernetes' own schema."""


def fields(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object", "required": list(required), "additionalProperties": False,
        "properties": {**required, **(optional or {})},
    }  # fmt: skip


TEXT, WHOLE, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
PARAMETERS = {"type": "object", "additionalProperties": TEXT}
CLUSTER = fields(
    {
        "rayVersion": TEXT,
        "headGroupSpec": fields({"rayStartParams": PARAMETERS, "template": POD}),
        "workerGroupSpecs": {
            "type": "array",
            "items": fields(
                {"groupName": TEXT, "minReplicas": WHOLE, "maxReplicas": WHOLE, "replicas": WHOLE,
                 "rayStartParams": PARAMETERS, "template": POD}
            ),
        },
    },
    {
        "authOptions": fields({"mode": {"enum": ["token", "disabled"]}}),
        "enableInTreeAutoscaling": FLAG,
        "autoscalerOptions": fields(
            {}, {"idleTimeoutSeconds": WHOLE, "upscalingMode": {"enum": ["Default", "Aggressive", "Conservative"]}}
        ),
    },
)  # fmt: skip
JOB = fields(
    {"entrypoint": TEXT, "rayClusterSpec": CLUSTER},
    {"submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]}, "backoffLimit": WHOLE,
     "shutdownAfterJobFinishes": FLAG, "ttlSecondsAfterFinished": WHOLE},
)  # fmt: skip
RAY_KINDS = {
    "RayCluster": CLUSTER,
    "RayJob": JOB,
    "RayService": fields({"serveConfigV2": TEXT, "rayClusterConfig": CLUSTER}),
    "RayCronJob": fields({"schedule": TEXT, "jobTemplate": JOB}, {"suspend": FLAG}),
}
"""Of ray.io/v1 the fields that our manifests use, as KubeRay has them: its schemas are in no package. A field
that is not here is a typing mistake, or is to be looked up there and added."""


def pod_templates(found: object) -> Iterator[dict[str, Any]]:
    if isinstance(found, dict) and "containers" in found.get("template", {}).get("spec", {}):
        yield found["template"]
    for part in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from pod_templates(part)


def check(document: dict[str, Any]) -> None:
    """Raise what is wrong with an object."""
    latest = kubernetes_validate.latest_version()
    if document["kind"] not in RAY_KINDS:
        kubernetes_validate.validate(document, latest, strict=True)
        return
    assert document["apiVersion"] == "ray.io/v1"
    jsonschema.validate(document["spec"], RAY_KINDS[document["kind"]])
    templates = list(pod_templates(document["spec"]))
    assert templates
    for template in templates:
        whole = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template}
        kubernetes_validate.validate(whole, latest, strict=True)


def test_objects_are_as_their_schemas_say() -> None:
    kinds = [document["kind"] for _, document in documents()]
    assert set(kinds) == {"PersistentVolumeClaim", "ConfigMap", "CronJob", *RAY_KINDS}
    for _, document in documents():
        check(document)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("CronJob", "spec.concurencyPolicy", "Forbid"),
        ("CronJob", "spec.jobTemplate.spec.template.spec.containers.0.comand", ["kindling"]),
        ("RayCluster", "spec.workerGroupSpecs.0.minReplica", 1),
        ("RayCluster", "spec.workerGroupSpecs.1.template.spec.containers.0.resources.limit", {}),
        ("RayJob", "spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus", 0),
        ("RayService", "spec.serveConfig", ""),
        ("RayCronJob", "spec.jobTemplate.schedule", "0 3 * * *"),
    ],
)
def test_what_is_not_is_found_out(kind: str, path: str, value: object) -> None:
    broken = copy.deepcopy(of_kind(kind))
    place: Any = broken
    *steps, last = path.split(".")
    for step in steps:
        place = place[int(step)] if step.isdigit() else place[step]
    place[last] = value
    with pytest.raises((kubernetes_validate.ValidationError, jsonschema.ValidationError)):
        check(broken)


def test_nights_of_a_cron_job_do_not_meet_and_have_one_date() -> None:
    spec = of_kind("CronJob")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    (container,) = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert {"name": "TZ", "value": spec["timeZone"]} in container["env"]
    assert "--wait" in container["args"]


def test_mounted_files_and_secrets_are_those_of_the_other_manifests(tmp_path: Path) -> None:
    claim, config, cluster = of_kind("PersistentVolumeClaim"), of_kind("ConfigMap"), of_kind("RayCluster")
    for _, document in documents():
        for template in pod_templates(document):
            for volume in template["spec"]["volumes"]:
                if "configMap" in volume:
                    assert volume["configMap"]["name"] == config["metadata"]["name"]
                else:
                    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    (path,) = config["data"]
    (tmp_path / path).write_text(config["data"][path])
    load_config(tmp_path / path)
    (container,) = of_kind("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert f"--config=/etc/kindling/{path}" in container["args"]
    assert f"--address=http://{cluster['metadata']['name']}-head-svc:8265" in container["args"]
