"""`kindling models` over real versions, and services that take them from a registry."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.models import prune_after_build
from jobs.models_cli import models_app
from pipelines.core.bundle import BundlePaths, write_manifest
from pipelines.core.config import Config, PublishConfig, load_config, to_toml
from pipelines.core.errors import ArtefactError, ConfigError, InputError
from pipelines.core.layout import Layout
from pipelines.core.registry.folder import Folder
from pipelines.core.registry.registry import Registry, open_place
from pipelines.core.storage import read_json, write_json, write_text
from serving.experiments.checking import begin
from serving.experiments.definition import Definition
from serving.experiments.in_use import in_use_by_store
from serving.experiments.versions import OtherVersions
from serving.holder import CurrentRecommender
from serving.live import LiveRecommender
from serving.mirroring import fetch_current, open_mirror
from serving.recommender import Recommender, load_current
from serving.requests import Request
from serving.store.connecting import store_url
from serving.store.store import open_store
from tests.serving.databases import file_store
from tests.serving.shop import CONFIG
from tests.serving.test_holder import NEVER, eventually, publish

FIGURES = {"models": {"kindling": {"all": {"recall@20": 0.25, "ndcg@20": 0.125}}}}


@pytest.fixture
def versions(out: Path) -> Path:
    """The shop with v2, which has figures and another gamma, and v3, in service."""
    paths = publish(out, "v2")
    settings = load_config(paths.config)
    blend = settings.blend.model_copy(update={"gamma": 0.5})
    write_text(paths.config, to_toml(settings.model_copy(update={"blend": blend})))
    write_json(paths.metrics, {"version": "v2", **FIGURES})
    write_manifest(paths, "v2", {"encoder": read_json(paths.manifest)["encoder"]})
    publish(out, "v3")
    return out


def models(*arguments: str | Path) -> str:
    done = CliRunner().invoke(models_app, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def as_json(*arguments: str | Path) -> Any:  # noqa: ANN401 - JSON
    return json.loads(models(*arguments, "--json"))


def try_version(out: Path, version: str) -> None:
    """Begin an experiment with a version, as a service does."""
    store = open_store(store_url("", out))
    definition = {
        "name": "trial",
        "variants": [{"name": "control"}, {"name": "other", "settings": {"version": version}}],
        "metrics": [{"name": "buyers", "measure": "users", "event": "purchase"}],
    }
    store.experiments.start(Definition.model_validate(definition))
    store.close()


def test_versions_are_listed(versions: Path) -> None:
    try_version(versions, "v1")
    listed = as_json("list", "--out", versions)
    assert [(v["version"], v["is_current"], v["experiments"]) for v in listed["versions"]] == [
        ("v3", True, []), ("v2", False, []), ("v1", False, ["trial"]),
    ]  # fmt: skip
    assert listed["versions"][1]["headline"] == ["all ndcg@20", 0.125]
    assert listed["versions"][1]["schema_version"] == 3
    assert listed["versions"][1]["bytes"] > 10_000
    assert listed["earlier"] == ["v2", "v1"]
    text = models("list", "--out", versions)
    assert "0.1250" in text
    assert "trial" in text


def test_one_version_is_shown(versions: Path) -> None:
    shown = as_json("show", "v2", "--out", versions)
    assert shown["settings"]["blend.gamma"] == 0.5
    assert shown["metrics"]["models"] == FIGURES["models"]
    text = models("show", "v2", "--out", versions)
    assert "blend.gamma = 0.5" in text
    assert "0.2500" in text
    with pytest.raises(InputError, match="v3, v2, v1"):
        models("show", "v9", "--out", versions)


def test_two_versions_are_compared(versions: Path) -> None:
    found = as_json("diff", "v1", "v2", "--out", versions)
    assert found["settings"] == {"blend.gamma": [0.2, 0.5]}
    assert found["figures"]["all ndcg@20"] == [None, 0.125, None]
    assert found["items"] == {"kept": 0, "added": 120, "removed": 120}  # each has a new name
    assert found["users"]["kept"] > 0
    assert (found["users"]["added"], found["users"]["removed"]) == (0, 0)
    assert "blend.gamma" in models("diff", "v1", "v2", "--out", versions)
    assert as_json("diff", "v1", "v1", "--out", versions)["settings"] == {}


def test_there_and_back(versions: Path) -> None:
    assert as_json("promote", "v1", "--out", versions) == {"version": "v1", "former_version": "v3"}
    assert load_current(versions).version == "v1"
    assert "in place of v1" in models("rollback", "--out", versions)
    assert as_json("rollback", "--out", versions) == {"version": "v2", "former_version": "v3"}
    assert "already" in models("promote", "v2", "--out", versions)


def test_versions_of_experiments_are_never_deleted(versions: Path) -> None:
    try_version(versions, "v1")
    assert "would delete v2" in models("prune", "--out", versions, "--keep", "1", "--dry-run")
    assert Registry(Folder(Layout(versions))).place.names() == ["v3", "v2", "v1"]
    settings = Config(publish=PublishConfig(keep=1))
    prune_after_build(settings, Layout(versions))
    assert Registry(Folder(Layout(versions))).place.names() == ["v3", "v1"]
    store = open_store(store_url("", versions))
    store.experiments.stop("trial")
    store.close()
    assert as_json("prune", "--out", versions, "--older-than", "1") == {"deleted": [], "dry_run": False}
    assert as_json("prune", "--out", versions, "--keep", "1") == {"deleted": ["v1"], "dry_run": False}
    assert "nothing to delete" in models("prune", "--out", versions)


def test_nothing_is_deleted_while_nobody_knows_what_is_in_use(
    versions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (versions / "store.sqlite").write_bytes(b"no database" * 1000)
    prune_after_build(Config(publish=PublishConfig(keep=1)), Layout(versions))
    assert "are not deleted" in capsys.readouterr().err
    assert Folder(Layout(versions)).names() == ["v3", "v2", "v1"]


def test_an_experiment_whose_version_is_being_deleted_does_not_begin(versions: Path, tmp_path: Path) -> None:
    """It was there when it was looked for, and marked before the experiment could be seen."""
    store, place = file_store(tmp_path), Folder(Layout(versions))
    definition = Definition.model_validate(
        {
            "name": "late",
            "variants": [{"name": "control"}, {"name": "other", "settings": {"version": "v1"}}],
            "metrics": [{"name": "buyers", "measure": "users", "event": "purchase"}],
        }
    )
    looks = []

    def check(version: str) -> None:
        looks.append(version)
        if len(looks) == 2:
            raise InputError(f"{version} is being deleted")

    with pytest.raises(InputError, match="is being deleted"):
        begin(store.experiments, definition, CONFIG.data.event_weights, check)
    assert store.experiments.running() == []
    assert place.names() == ["v3", "v2", "v1"]
    store.close()


@pytest.fixture
def elsewhere(versions: Path, s3_folder: str) -> str:
    """A registry on S3 with the three versions, v3 in service."""
    registry = Registry(open_place(s3_folder))
    for version in ("v1", "v2", "v3"):
        registry.publish(version, Layout(versions).bundle(version))
    return s3_folder


@pytest.fixture
def service(elsewhere: str, tmp_path: Path) -> Path:
    """Directory and settings of a service on another machine."""
    write_text(tmp_path / "serve.toml", f'[publish]\nregistry = "{elsewhere}"\n')
    return tmp_path / "service"


def test_the_commands_work_on_s3(elsewhere: str, service: Path) -> None:
    by_address, by_settings = (
        ("--out", elsewhere),
        ("--out", service, "--config", service.parent / "serve.toml"),
    )
    assert [v["version"] for v in as_json("list", *by_address)["versions"]] == ["v3", "v2", "v1"]
    assert as_json("promote", "v2", *by_settings) == {"version": "v2", "former_version": "v3"}
    assert as_json("rollback", *by_address) == {"version": "v3", "former_version": "v2"}
    assert as_json("diff", "v1", "v2", *by_address)["settings"] == {"blend.gamma": [0.2, 0.5]}
    for arguments in (by_address, by_settings):
        with pytest.raises(ConfigError, match=r"Set serve\.store"):  # whose experiments nobody here knows
            models("prune", *arguments, "--keep", "1")
    service.mkdir()
    try_version(service, "v1")
    assert as_json("prune", *by_settings, "--keep", "1") == {"deleted": ["v2"], "dry_run": False}
    assert [v["version"] for v in as_json("list", *by_address)["versions"]] == ["v3", "v1"]


@pytest.fixture
def following(service: Path) -> Iterator[tuple[CurrentRecommender, OtherVersions]]:
    """A replica that takes its versions from the registry."""
    publish_settings = load_config(service.parent / "serve.toml").publish
    fetch_current(Layout(service), publish_settings)
    store = file_store(service)
    mirror = open_mirror(Layout(service), publish_settings, store)
    holder = CurrentRecommender(service, NEVER, mirror=mirror)

    def live(model: Recommender) -> LiveRecommender:
        return LiveRecommender(lambda: model, store, NEVER, 10)

    yield holder, OtherVersions(service, holder, live, mirror=mirror)
    holder.close()
    store.close()


def test_a_service_follows_the_registry(
    following: tuple[CurrentRecommender, OtherVersions], elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, others = following
    assert holder().version == "v3"
    Registry(open_place(elsewhere)).promote("v1")
    holder.refresh()
    assert holder().version == "v1"
    assert holder().recommend(Request(query="tent", n=3))
    others.check("v2")
    others.keep(frozenset({"v2"}))
    eventually(lambda: others("v2") is not None)
    others.keep(frozenset())


def test_a_service_starts_and_goes_on_while_the_registry_is_away(
    following: tuple[CurrentRecommender, OtherVersions], service: Path
) -> None:
    holder, _ = following
    away = PublishConfig(registry="s3://gone/x?endpoint_override=127.0.0.1:9&scheme=http")
    store = file_store(service.parent)
    again = CurrentRecommender(service, NEVER, mirror=open_mirror(Layout(service), away, store))
    again.refresh()
    assert again().version == holder().version == "v3"
    assert again.refuses
    again.close()
    with pytest.raises(ArtefactError, match="network"):
        fetch_current(Layout(service.parent / "empty"), away)
    store.close()


def test_a_version_of_the_schema_before_is_read(out: Path) -> None:
    paths = BundlePaths(Layout(out).bundle("v1"))
    lines = paths.config.read_text(encoding="utf-8").splitlines()
    new = ("keep_days", "registry", "allow_code")
    write_text(paths.config, "\n".join(line for line in lines if not line.startswith(new)))
    write_manifest(paths, "v1", {"encoder": read_json(paths.manifest)["encoder"]})
    write_json(paths.manifest, read_json(paths.manifest) | {"schema_version": 2})
    write_json(Layout(out).current, {"version": "v1", "metrics": "bundles/v1/metrics.json"})
    assert len(load_current(out).recommend(Request(query="tent", n=3))) == 3
    assert as_json("list", "--out", out)["versions"][0]["problem"] is None


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (open, ("/nonexistent/this/was/run",))


@pytest.mark.parametrize(
    "name", ["item_arrays", "user_arrays", "text_maps", "items", "users", "lexical", "config"]
)
def test_a_pickle_in_the_place_of_a_file_is_refused(out: Path, tmp_path: Path, name: str) -> None:
    """The manifest is in order, and so are the checksums: whoever made it wants it to be loaded."""
    paths = BundlePaths(Layout(out).bundle("v1"))
    file: Path = getattr(paths, name)
    file.write_bytes(pickle.dumps({"factors": _Payload()}))
    write_manifest(paths, "v1", {"encoder": read_json(paths.manifest)["encoder"]})
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each reader has its own
        load_current(out)
    assert "this/was/run" not in str(caught.value)
    assert not isinstance(caught.value, FileNotFoundError)


def test_experiments_of_no_store_are_none(tmp_path: Path) -> None:
    assert in_use_by_store(Layout(tmp_path), "") == {}
    assert not (tmp_path / "store.sqlite").exists()
