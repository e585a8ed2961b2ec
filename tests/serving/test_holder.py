"""The version in service: it changes when another is published, whole or not at all."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.bundle import BundlePaths, point_current, write_manifest
from pipelines.core.config import Config, load_config, to_toml
from pipelines.core.encoder import encoder_fingerprint
from pipelines.core.errors import ArtefactError
from pipelines.core.layout import Layout
from pipelines.core.registry.folder import Folder
from pipelines.core.registry.registry import Registry
from pipelines.core.storage import read_json, read_tensors, write_json, write_table, write_tensors, write_text
from serving.holder import CurrentRecommender
from serving.recommender import Recommender
from serving.requests import Request

Array = npt.NDArray[Any]
NEVER = 3600.0
"""Seconds between looks of a thread that these tests do not wait for; they call `refresh` themselves."""


@pytest.fixture
def holder(out: Path) -> Iterator[CurrentRecommender]:
    holder = CurrentRecommender(out, NEVER)
    yield holder
    holder.close()


def add_version(out: Path, version: str, config: Config | None = None) -> BundlePaths:
    """A copy of v1 whose item ids end in `version`, and look like no other's; with another configuration if given."""
    layout = Layout(out)
    paths = BundlePaths(layout.bundle(version))
    shutil.copytree(layout.bundle("v1"), paths.root)
    items = pq.read_table(paths.items)
    ids = [f"{item}@{version}" for item in items.column("item_id").to_pylist()]
    write_table(paths.items, items.set_column(0, "item_id", pa.array(ids)))
    if config is not None:
        write_text(paths.config, to_toml(config))
    write_manifest(paths, version, {"encoder": read_json(paths.manifest)["encoder"]})
    return paths


def publish(out: Path, version: str) -> BundlePaths:
    """Put such a copy into service."""
    paths = add_version(out, version)
    point_current(Layout(out), version)
    return paths


def spoil(paths: BundlePaths) -> bytes:
    """Cut a file of the bundle short; returns what it held."""
    whole = paths.item_arrays.read_bytes()
    paths.item_arrays.write_bytes(whole[:-10])
    return whole


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for another thread; the limit is for when it never happens."""
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_nothing_published(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="holds no published build"):
        CurrentRecommender(tmp_path, NEVER)


def test_a_first_version_that_is_not_whole(out: Path) -> None:
    spoil(BundlePaths(Layout(out).bundle("v1")))
    with pytest.raises(ArtefactError, match=r"not .* bytes long"):
        CurrentRecommender(out, NEVER)


def test_another_version_takes_its_place(
    out: Path, holder: CurrentRecommender, caplog: pytest.LogCaptureFixture
) -> None:
    first = holder()
    holder.refresh()
    assert holder() is first
    publish(out, "v2")
    with caplog.at_level(logging.INFO):
        holder.refresh()
    assert holder().version == "v2"
    assert "version v2 takes the place of v1" in caplog.text
    assert first.recommend(Request(query="tea"))  # whoever still holds it can finish


def test_back_to_an_older_version(out: Path, holder: CurrentRecommender) -> None:
    publish(out, "v2")
    holder.refresh()
    point_current(Layout(out), "v1")
    holder.refresh()
    assert holder().version == "v1"


def test_the_same_encoder_is_not_loaded_again(out: Path, holder: CurrentRecommender) -> None:
    first = holder()
    publish(out, "v2")
    holder.refresh()
    assert holder() is not first
    assert holder().encoder is first.encoder


def test_another_encoder_is_loaded(out: Path, holder: CurrentRecommender) -> None:
    first = holder()
    paths = publish(out, "v2")
    config = paths.config.read_text().replace("max_tokens = ", "max_tokens = 1")
    paths.config.write_text(config)
    settings = load_config(paths.config).encoder
    write_manifest(
        paths, "v2", {"encoder": {"model": settings.model, "fingerprint": encoder_fingerprint(settings)}}
    )
    point_current(Layout(out), "v2")
    holder.refresh()
    assert holder().version == "v2"
    assert holder().encoder is not first.encoder


def test_the_thread_looks_by_itself(out: Path) -> None:
    holder = CurrentRecommender(out, 0.01)
    publish(out, "v2")
    eventually(lambda: holder().version == "v2")
    holder.close()


def test_close_ends_the_thread(out: Path) -> None:
    before = threading.active_count()
    holder = CurrentRecommender(out, NEVER)
    assert threading.active_count() == before + 1
    holder.close()
    assert threading.active_count() == before
    assert holder().version == "v1"


def _items(change: Callable[[pa.Table], pa.Table]) -> Callable[[BundlePaths], None]:
    return lambda paths: write_table(paths.items, change(pq.read_table(paths.items)))


def _array(file: str, name: str, change: Callable[[Array], Array | None]) -> Callable[[BundlePaths], None]:
    def edit(paths: BundlePaths) -> None:
        path = paths.root / f"{file}.safetensors"
        arrays = read_tensors(path)
        changed = change(arrays.pop(name))
        write_tensors(path, arrays if changed is None else arrays | {name: changed})

    return edit


def _without_last(array: Array) -> Array:
    return array[:-1]


def _not_finite(array: Array) -> Array:
    return np.concatenate([array[:-1], np.full_like(array[-1:], np.nan)])


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_items(lambda t: t.slice(0, 50)), "expected (50,"),
        (_items(lambda t: t.drop_columns(["is_hidden"])), "no column is_hidden"),
        (_items(lambda t: t.set_column(0, "item_id", pa.array(["x"] * len(t)))), "id is missing or there twice"),
        (_array("item_arrays", "factors", lambda _: None), "factors is not in it"),
        (_array("item_arrays", "profiles", lambda a: a[:, 1:]), "profiles is (120,"),
        (_array("item_arrays", "factors", _not_finite), "factors is not finite"),
        (_array("text_maps", "user_map", _without_last), "user_map is (481,"),
        (_array("text_maps", "user_gramian", lambda _: None), "user_gramian is not in it"),
        (_array("user_arrays", "own_texts", _without_last), "own_texts is (81,"),
        (_array("user_arrays", "indptr", _without_last), "indptr is (82,), expected (83,)"),
        (_array("user_arrays", "indptr", lambda a: a[::-1]), "indptr does not rise"),
        (_array("user_arrays", "indices", lambda a: a + 1000), "expected 0 to 119"),
        (_array("user_arrays", "indices", lambda a: a - 1000), "expected 0 to 119"),
        (_array("user_arrays", "weights", _without_last), "weights is"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_one_another(
    out: Path,
    holder: CurrentRecommender,
    caplog: pytest.LogCaptureFixture,
    edit: Callable[[BundlePaths], None],
    words: str,
) -> None:
    """Each has the checksum of its manifest: somebody has put the bundle together by hand."""
    paths = publish(out, "v2")
    edit(paths)
    write_manifest(paths, "v2", {"encoder": read_json(paths.manifest)["encoder"]})
    holder.refresh()
    assert holder().version == "v1"
    assert words in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"files": []},
        {"files": {"items.parquet": 5}},
        {"version": 2},
        {"version": "v3"},
        {"created_at": "yesterday"},
        {"encoder": "mine"},
        {"model": 5},
    ],
)
def test_a_manifest_that_is_none(
    out: Path, holder: CurrentRecommender, caplog: pytest.LogCaptureFixture, change: dict[str, object]
) -> None:
    paths = publish(out, "v2")
    write_json(paths.manifest, read_json(paths.manifest) | change)
    holder.refresh()
    assert holder().version == "v1"
    assert str(paths.root) in caplog.text or "fingerprint None" in caplog.text
    assert [v.name for v in Registry(Folder(Layout(out))).versions()] == ["v2", "v1"]


def test_a_version_that_is_not_whole_is_refused_once(
    out: Path, holder: CurrentRecommender, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = publish(out, "v2")
    whole = spoil(paths)
    for _ in range(3):
        holder.refresh()
    assert holder().version == "v1"
    assert holder().recommend(Request(query="tea"))
    refusals = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(refusals) == 1
    assert "v1 goes on answering" in refusals[0].getMessage()
    assert "item_arrays" in refusals[0].getMessage()
    tries: list[str] = []
    monkeypatch.setattr(holder, "_load", lambda version, _: tries.append(version))
    holder.refresh()
    assert tries == []  # nobody reads a broken bundle every two seconds
    monkeypatch.undo()
    paths.item_arrays.write_bytes(whole)
    point_current(Layout(out), "v2")


def test_a_refused_version_is_tried_again_when_it_is_published_again(
    out: Path, holder: CurrentRecommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = publish(out, "v2")
    whole = spoil(paths)
    holder.refresh()
    paths.item_arrays.write_bytes(whole)
    holder.refresh()
    assert holder().version == "v1"
    point_current(Layout(out), "v2")
    holder.refresh()
    assert holder().version == "v2"


def test_a_good_version_after_a_refused_one(out: Path, holder: CurrentRecommender) -> None:
    spoil(publish(out, "v2"))
    holder.refresh()
    publish(out, "v3")
    holder.refresh()
    assert holder().version == "v3"


def test_a_pointer_that_is_away_for_a_moment(
    out: Path, holder: CurrentRecommender, caplog: pytest.LogCaptureFixture
) -> None:
    publish(out, "v2")
    current = Layout(out).current
    pointer = current.read_bytes()
    current.unlink()
    for _ in range(3):
        holder.refresh()
    assert holder().version == "v1"
    assert len(caplog.records) == 1
    current.write_bytes(pointer)
    holder.refresh()
    assert holder().version == "v2"
    current.unlink()
    holder.refresh()
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 2


@pytest.mark.parametrize("pointer", [b"", b"{", b"[]", b'{"version": 7}', b'{"version": "v99"}', b"\xff"])
def test_a_pointer_that_leads_nowhere(out: Path, holder: CurrentRecommender, pointer: bytes) -> None:
    Layout(out).current.write_bytes(pointer)
    holder.refresh()
    assert holder().version == "v1"


@pytest.mark.parametrize(
    "manifest", [[], {}, {"schema_version": 1}, {"schema_version": 1, "files": {"a": 1}}]
)
def test_a_manifest_that_makes_no_sense(out: Path, holder: CurrentRecommender, manifest: object) -> None:
    write_json(publish(out, "v2").manifest, manifest)
    holder.refresh()
    assert holder().version == "v1"
    publish(out, "v3")
    holder.refresh()
    assert holder().version == "v3"


def test_a_version_that_cannot_answer_is_refused(
    out: Path, holder: CurrentRecommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no memory left")

    publish(out, "v2")
    with monkeypatch.context() as patched:
        patched.setattr(Recommender, "recommend", fail)
        holder.refresh()
    assert holder().version == "v1"


def test_no_answer_mixes_two_versions(out: Path) -> None:
    holder = CurrentRecommender(out, 0.01)
    stop = threading.Event()
    failures: list[object] = []
    seen: set[str] = set()

    def ask() -> None:
        while not stop.is_set():
            model = holder()
            seen.add(model.version)
            try:
                answer = model.recommend(Request(user_id="user-000002", query="tea", n=20))
            except Exception as e:
                failures.append(e)
                return
            suffixes = {item.item_id.partition("@")[2] or "v1" for item in answer}
            if suffixes != {model.version}:
                failures.append((model.version, suffixes))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in ("v2", "v3", "v4"):
        publish(out, version)
        eventually(lambda version=version: version in seen)  # type: ignore[misc]
    stop.set()
    for thread in threads:
        thread.join()
    holder.close()
    assert failures == []
    assert seen == {"v1", "v2", "v3", "v4"}
