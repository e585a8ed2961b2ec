"""Versions in a registry that know who was forgotten: deleted unless in use, and gone from mirrors; on S3 too."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from jobs.models import forget_in_registry
from pipelines.core.bundle import BundlePaths, write_manifest
from pipelines.core.collected import StorePoint, write_collected
from pipelines.core.config import Config, PublishConfig
from pipelines.core.forgetting import Forgotten, user_hash
from pipelines.core.layout import Layout
from pipelines.core.registry.folder import Folder
from pipelines.core.registry.forgetting import find_id, knows_withdrawn
from pipelines.core.registry.mirror import Mirror
from pipelines.core.registry.place import Place
from pipelines.core.registry.registry import Registry, open_place
from pipelines.core.storage import read_json, write_json, write_table
from tests.unit.test_bundle import make_bundle

NOON = 1_700_000_000.0
POINT = StorePoint("a store", events=0, items=5)


def no_use() -> dict[str, list[str]]:
    return {}


@pytest.fixture(params=("folder", "s3"))
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "registry")
    return str(request.getfixturevalue("s3_folder"))


@pytest.fixture
def out(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "out")
    layout.root.mkdir()
    (layout.root / "store.sqlite").touch()  # a service has run here; it has no experiments
    return layout


def publish(
    address: str, made: Path, version: str, users: list[str], items: list[str], known: int = 0
) -> Place:
    """A version that knows these."""
    paths = make_bundle(made / version, version)
    write_table(paths.users, pa.table({"user_id": users}))
    write_table(paths.items, pa.table({"item_id": items, "text": ["about " + i for i in items]}))
    write_manifest(paths, version, {"store": {"store": "a store", "events": 0, "items": known}})
    place = open_place(address)
    Registry(place).publish(version, paths.root)
    return place


def settings(address: str, layout: Layout) -> Config:
    (layout.root / "store.sqlite").unlink()  # serve.store names one that is yet to be made
    return Config.model_validate(
        {"publish": {"registry": address}, "serve": {"store": f"sqlite:///{layout.root / 'other.sqlite'}"}}
    )


def test_what_knows_them_is_deleted_and_mirrors_follow(address: str, out: Layout, tmp_path: Path) -> None:
    made, here = tmp_path / "made", Layout(tmp_path / "here")
    config = settings(address, out)
    place = publish(address, made, "v1", ["li", "bo"], ["pot"])
    publish(address, made, "v2", ["bo"], ["pot"])
    publish(address, made, "v3", ["li"], ["pot"])
    mirror = Mirror(here, place, PublishConfig(keep=9), no_use)
    for version in ("v1", "v2", "v3"):
        Registry(place).promote(version)
        mirror.refresh()
    assert Folder(here).names() == ["v3", "v2", "v1"]
    forget_in_registry(config, out)  # nobody is forgotten
    assert not out.registry_searched.exists()
    Forgotten({user_hash("li"): NOON}).write(out.forgotten)
    forget_in_registry(config, out)
    assert place.names() == ["v3", "v2"]  # v3 is in service
    assert list(find_id(place, "li")) == [f"{place.where('v3')}/users.parquet, column user_id"]
    publish(address, made, "v4", ["bo"], ["pot"])
    forget_in_registry(config, out)
    assert place.names() == ["v4", "v2"]
    assert list(find_id(place, "li")) == []
    mirror.refresh()
    assert Folder(here).names() == ["v4", "v2"]
    assert Registry(place).rollback() == ("v2", "v4")


def test_what_was_searched_is_not_searched_again_until_somebody_else_is_forgotten(
    address: str, out: Layout, tmp_path: Path
) -> None:
    config = settings(address, out)
    place = publish(address, tmp_path / "made", "v1", ["bo"], ["pot"])
    publish(address, tmp_path / "made", "v2", ["an"], ["pot"])
    Forgotten({user_hash("li"): NOON}).write(out.forgotten)
    forget_in_registry(config, out)
    assert read_json(out.registry_searched)["versions"] == ["v2", "v1"]
    note = read_json(out.registry_searched)
    Forgotten({user_hash("bo"): NOON}).write(out.forgotten)
    write_json(out.registry_searched, note | {"registry": "another"})
    forget_in_registry(config, out)
    assert place.names() == ["v2"]


def test_versions_with_withdrawn_items_go_but_not_those_that_know_them_anew(
    address: str, out: Layout, tmp_path: Path
) -> None:
    config = settings(address, out)
    place = publish(address, tmp_path / "made", "v1", ["bo"], ["pot", "pan"], known=3)
    publish(address, tmp_path / "made", "v2", ["bo"], ["pot", "pan"], known=6)
    publish(address, tmp_path / "made", "v3", ["bo"], ["pan"], known=5)
    assert knows_withdrawn(place, "v1", {"pot"}, POINT)
    assert knows_withdrawn(place, "v2", {"pot"}, StorePoint("another store", 0, 1))
    told = {"item_id": "pot", "fields": None, "is_whole": True, "updated_at": 1.0}
    write_collected(out, POINT, {"interactions": [], "users": [], "items": [[told]]})
    forget_in_registry(config, out)
    assert place.names() == ["v3", "v2"]


def test_a_version_that_cannot_be_read_is_told_of_and_looked_at_again(
    out: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = str(tmp_path / "registry")
    config = settings(address, out)
    place = publish(address, tmp_path / "made", "v1", ["li"], ["pot"])
    BundlePaths(Path(place.where("v1"))).users.write_bytes(b"PAR1 half")
    Forgotten({user_hash("li"): NOON}).write(out.forgotten)
    forget_in_registry(config, out)
    said = capsys.readouterr().err
    assert "may still know who was forgotten" in said
    assert "users.parquet is no Parquet" in said
    assert not out.registry_searched.exists()
