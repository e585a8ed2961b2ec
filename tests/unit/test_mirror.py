"""A service's copies of what a registry has: whole or not there, and enough to go on while the registry is away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.core.bundle import BundlePaths, check_bundle, current_version, write_manifest
from pipelines.core.config import PublishConfig
from pipelines.core.errors import ArtefactError, InputError
from pipelines.core.layout import Layout
from pipelines.core.registry.mirror import Mirror
from pipelines.core.registry.place import Place
from pipelines.core.registry.registry import Registry
from pipelines.core.storage import read_json, write_text
from tests.unit.test_registry import bundles, empty, no_use, registry, spoil

__all__ = ["bundles", "empty", "registry"]


@pytest.fixture
def here(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "here")


def test_it_follows_the_registry(registry: Registry, here: Layout) -> None:
    mirror = Mirror(here, registry.place, PublishConfig(keep=2), no_use)
    mirror.refresh()
    assert current_version(here) == "v3"
    check_bundle(here.bundle("v3"))
    assert read_json(here.metrics) == {"version": "v3"}
    written = here.current.stat().st_mtime_ns
    mirror.refresh()
    assert here.current.stat().st_mtime_ns == written
    registry.promote("v1")
    mirror.refresh()
    assert current_version(here) == "v1"
    registry.rollback()
    registry.rollback()
    mirror.refresh()
    assert current_version(here) == "v2"
    assert {path.name for path in here.bundles.iterdir()} == {"v2", "v3"}  # keep = 2
    written = here.current.stat().st_mtime_ns
    mirror.refresh()
    assert here.current.stat().st_mtime_ns == written


def test_a_registry_in_which_nothing_is_in_service(empty: Place, here: Layout) -> None:
    with pytest.raises(ArtefactError, match="nothing is in service"):
        Mirror(here, empty, PublishConfig(), no_use).refresh()


def test_what_is_not_whole_is_not_put_into_service(registry: Registry, here: Layout) -> None:
    mirror = Mirror(here, registry.place, PublishConfig(), no_use)
    registry.promote("v1")
    mirror.refresh()
    spoil(registry.place, "v2")
    registry.place.update(lambda pointer: pointer.promoted("v2"))
    with pytest.raises(ArtefactError, match="checksum"):
        mirror.refresh()
    assert current_version(here) == "v1"
    assert [path.name for path in here.bundles.iterdir()] == ["v1"]


def test_a_copy_that_broke_is_fetched_again(registry: Registry, here: Layout) -> None:
    Mirror(here, registry.place, PublishConfig(), no_use).refresh()
    BundlePaths(here.bundle("v3")).item_arrays.write_bytes(b"")
    Mirror(here, registry.place, PublishConfig(), no_use).refresh()
    check_bundle(here.bundle("v3"))


def test_versions_of_experiments_are_fetched_and_stay(registry: Registry, here: Layout) -> None:
    mirror = Mirror(here, registry.place, PublishConfig(keep=1), lambda: {"v1": ["some"]})
    mirror.fetch("v1")
    mirror.fetch("v2")
    mirror.refresh()
    assert {path.name for path in here.bundles.iterdir()} == {"v1", "v3"}
    mirror.fetch("v2")  # it was deleted here, not there
    check_bundle(here.bundle("v2"))
    mirror.check("v2")
    with pytest.raises(InputError, match="v3, v2, v1"):
        mirror.check("v7")
    with pytest.raises(ArtefactError):
        mirror.fetch("v7")


def test_code_is_not_taken_unless_that_is_wanted(
    registry: Registry, bundles: Callable[[str], Path], here: Layout
) -> None:
    root = bundles("v4")
    write_text(
        BundlePaths(root).config, "[encoder]\ntrust_remote_code = true\n[publish]\nallow_code = true\n"
    )
    write_manifest(BundlePaths(root), "v4", {})
    registry.publish("v4", root)
    with pytest.raises(ArtefactError, match=r"brings Python code.*publish\.allow_code"):
        Mirror(here, registry.place, PublishConfig(), no_use).refresh()
    assert not here.bundle("v4").exists()
    Mirror(here, registry.place, PublishConfig(allow_code=True), no_use).refresh()
    assert current_version(here) == "v4"
