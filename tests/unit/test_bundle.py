"""A bundle is checked before anything is read from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipelines.core.bundle import (
    OLDEST_SCHEMA,
    SCHEMA_VERSION,
    BundlePaths,
    check_bundle,
    current_version,
    finish_directory,
    point_current,
    write_manifest,
)
from pipelines.core.errors import ArtefactError
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json, write_json, write_tensors, write_text


def make_bundle(root: Path, version: str = "v1", says: str = "") -> BundlePaths:
    paths = BundlePaths(root)
    write_tensors(paths.item_arrays, {"factors": np.ones((50, 4), dtype=np.float32)})
    write_text(paths.config, "[blend]\ngamma = 0.5\n")
    write_json(paths.metrics, {"version": version})
    write_text(paths.encoder / "config.json", "{}")
    write_manifest(paths, version, {"counts": {"items": 50}, **({"says": says} if says else {})})
    return paths


def test_every_file_has_its_own_name() -> None:
    paths = BundlePaths(Path("b"))
    found = [
        getattr(paths, name) for name, member in vars(BundlePaths).items() if isinstance(member, property)
    ]
    assert len(set(found)) == len(found) == 12
    assert all(path.parent == Path("b") for path in found)


def test_a_whole_bundle_passes_and_its_manifest_comes_back(tmp_path: Path) -> None:
    manifest = check_bundle(make_bundle(tmp_path / "v1").root)
    assert manifest["schema_version"] == SCHEMA_VERSION
    assert manifest["version"] == "v1"
    assert manifest["counts"] == {"items": 50}
    assert set(manifest["files"]) == {
        "item_arrays.safetensors", "config.toml", "metrics.json", "encoder/config.json",
    }  # fmt: skip


def truncate(paths: BundlePaths) -> None:
    paths.item_arrays.write_bytes(paths.item_arrays.read_bytes()[:-1])


def flip_a_byte(paths: BundlePaths) -> None:
    content = bytearray(paths.item_arrays.read_bytes())
    content[-3] ^= 1
    paths.item_arrays.write_bytes(content)


def change_schema(paths: BundlePaths) -> None:
    write_json(paths.manifest, read_json(paths.manifest) | {"schema_version": SCHEMA_VERSION + 1})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda paths: paths.item_arrays.unlink(), r"item_arrays\.safetensors is missing or not \d+ bytes"),
        (truncate, r"item_arrays\.safetensors is missing or not \d+ bytes long"),
        (flip_a_byte, r"item_arrays\.safetensors does not have the checksum"),
        (lambda paths: (paths.encoder / "config.json").write_text("[]"), "encoder/config.json does not have"),
        (
            change_schema,
            rf"schema version {SCHEMA_VERSION + 1}, this program reads {OLDEST_SCHEMA} to {SCHEMA_VERSION}: a newer",
        ),
        (lambda paths: paths.manifest.unlink(), r"manifest\.json cannot be read"),
        (lambda paths: paths.manifest.write_text('{"schema'), r"manifest\.json cannot be read"),
        (lambda paths: paths.manifest.write_text("[1]"), r"manifest\.json is no manifest"),
        (
            lambda paths: write_manifest(paths, "v2", {}),
            "is of version 'v2', expected 'v1'",
        ),
        (
            lambda paths: paths.manifest.write_text('{"schema_version": 1}'),
            "schema version 1, this program reads 2",
        ),
        (lambda paths: paths.manifest.write_text('{"schema_version": 3}'), r"manifest\.json is no manifest"),
        (lambda paths: paths.manifest.write_text('{"version": "v1"}'), r"manifest\.json is no manifest"),
    ],
)
def test_damage_is_refused_and_named(
    tmp_path: Path, damage: Callable[[BundlePaths], object], message: str
) -> None:
    paths = make_bundle(tmp_path / "v1")
    damage(paths)
    with pytest.raises(ArtefactError, match=message):
        check_bundle(paths.root)


def published(root: Path, version: str = "v1") -> Layout:
    layout = Layout(root)
    make_bundle(layout.bundle(version), version)
    return layout


def test_pointing_puts_a_version_and_its_metrics_into_service(tmp_path: Path) -> None:
    layout = published(tmp_path)
    make_bundle(layout.bundle("v2"), "v2")
    for version in ("v1", "v2", "v1"):
        point_current(layout, version)
        assert current_version(layout) == version
        assert read_json(layout.metrics) == {"version": version}
        assert (
            layout.root / read_json(layout.current)["metrics"] == BundlePaths(layout.bundle(version)).metrics
        )


def test_nothing_published_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"holds no published build.*kindling build"):
        current_version(Layout(tmp_path))


@pytest.mark.parametrize("pointer", [{"version": "v9"}, {"version": 1}, {}, ["v1"]])
def test_a_pointer_to_nothing_is_refused(tmp_path: Path, pointer: object) -> None:
    layout = published(tmp_path)
    write_json(layout.current, pointer)
    with pytest.raises(ArtefactError, match="CURRENT points to"):
        current_version(layout)


def test_a_pointer_that_is_not_json_and_a_bundle_without_manifest_are_refused(tmp_path: Path) -> None:
    layout = published(tmp_path)
    point_current(layout, "v1")
    BundlePaths(layout.bundle("v1")).manifest.unlink()
    with pytest.raises(ArtefactError, match="points to 'v1'"):
        current_version(layout)
    layout.current.write_text("v1")
    with pytest.raises(ArtefactError, match="CURRENT cannot be read"):
        current_version(layout)


def test_a_finished_directory_takes_the_place_of_an_unfinished_one(tmp_path: Path) -> None:
    temporary = make_bundle(tmp_path / ".v1.tmp").root
    write_text(tmp_path / "v1" / "left over", "")
    finish_directory(temporary, tmp_path / "v1")
    assert not temporary.exists()
    assert "left over" not in json.dumps(check_bundle(tmp_path / "v1"))
    assert not (tmp_path / "v1" / "left over").exists()
