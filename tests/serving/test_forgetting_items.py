"""Published versions without items that were withdrawn, and where an item still is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.forgetting import find_item
from pipelines.core.bundle import BundlePaths, check_bundle, write_manifest
from pipelines.core.collected import StorePoint, write_collected
from pipelines.core.encoder import Encoder
from pipelines.core.forgetting_items import forget_items_in_versions, withdrawn_items
from pipelines.core.index import build_index
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json, read_table, read_tensors
from serving.recommender import Recommender
from serving.requests import Request
from serving.store.store import Store
from tests.serving.shop import Shop

POINT = StorePoint("a store", events=7, items=5)


@pytest.fixture
def item(shop: Shop) -> str:
    """One that a stranger is shown, and that is in histories."""
    counts = shop.items.column("n_interactions").to_numpy()
    return str(shop.item_ids[int(np.argmax(counts))])


def answers(model: Recommender, request: Request) -> list[tuple[str, float]]:
    return [(found.item_id, round(found.score, 4)) for found in model.recommend(request)]


def test_a_version_without_an_item_is_the_same_but_for_it(
    out: Path, shop: Shop, model: Recommender, encoder: Encoder, item: str
) -> None:
    layout = Layout(out)
    before = read_json(BundlePaths(layout.bundle("v1")).manifest)
    assert forget_items_in_versions(layout, ["v1"], {item, "of another shop"}, POINT) == ["v1"]
    after = check_bundle(layout.bundle("v1"))
    assert [p.name for p in layout.bundles.iterdir()] == ["v1"]
    assert {name for name in before["files"] if before["files"][name] != after["files"][name]} == {
        "items.parquet", "item_arrays.safetensors", "user_arrays.safetensors",
    }  # fmt: skip
    assert after["created_at"] == before["created_at"]
    smaller = Recommender(layout.bundle("v1"), encoder)
    assert len(smaller.catalogue.bundle.vectors) == len(model.catalogue.bundle.vectors) - 1
    others = [user for user, history in shop.history.items() if item not in history]
    for user in [*others, "a stranger"]:  # to whom had it, what else they did says more now
        full = [answer for answer in answers(model, Request(user, n=6)) if answer[0] != item]
        assert answers(smaller, Request(user, n=5)) == full[:5]


def test_histories_name_the_items_they_named(out: Path, shop: Shop, encoder: Encoder, item: str) -> None:
    gone = {item, shop.item_ids[0], shop.item_ids[-1]}
    forget_items_in_versions(Layout(out), ["v1"], gone)
    paths = BundlePaths(Layout(out).bundle("v1"))
    ids = pq.read_table(paths.items).column("item_id").to_pylist()
    assert ids == [i for i in shop.item_ids if i not in gone]
    arrays = read_tensors(paths.user_arrays)
    for row, history in enumerate(shop.history.values()):
        a, b = arrays["indptr"][row : row + 2]
        named = [ids[i] for i in arrays["indices"][a:b]]
        left = {i: w for i, w in history.items() if i not in gone}
        assert dict(zip(named, arrays["weights"][a:b], strict=True)) == left
    Recommender(paths.root, encoder)  # what was written fits together


def test_a_graph_is_built_anew(out: Path, encoder: Encoder, model: Recommender, item: str) -> None:
    paths = BundlePaths(Layout(out).bundle("v1"))
    build_index(model.catalogue.bundle.vectors, 1).save(str(paths.item_index))
    write_manifest(paths, "v1", {"encoder": read_json(paths.manifest)["encoder"]})
    forget_items_in_versions(Layout(out), ["v1"], {item})
    smaller = Recommender(paths.root, encoder)
    assert item not in [i for i, _ in answers(smaller, Request("a stranger", n=20))]


def test_what_nobody_withdrew_and_what_was_put_again_stays(out: Path, item: str) -> None:
    layout = Layout(out)
    paths = BundlePaths(layout.bundle("v1"))
    inode = paths.root.stat().st_ino
    assert forget_items_in_versions(layout, ["v1"], set(), POINT) == []
    assert forget_items_in_versions(layout, ["v1"], {"of another shop"}, POINT) == []
    later = {"store": "a store", "events": 7, "items": 6}
    write_manifest(paths, "v1", {"encoder": read_json(paths.manifest)["encoder"], "store": later})
    assert forget_items_in_versions(layout, ["v1"], {item}, POINT) == []  # it may know it anew
    assert paths.root.stat().st_ino == inode
    other = StorePoint("another store", events=0, items=1)  # of which this version knows nothing
    assert forget_items_in_versions(layout, ["v1"], {item}, other) == ["v1"]
    assert item not in read_table(paths.items).column("item_id").to_pylist()


def test_all_items_withdrawn_leave_a_version_that_can_be_served(
    out: Path, shop: Shop, encoder: Encoder
) -> None:
    forget_items_in_versions(Layout(out), ["v1"], set(shop.item_ids))
    empty = Recommender(Layout(out).bundle("v1"), encoder)
    assert answers(empty, Request(shop.user_ids[0], n=5)) == []


def told(item_id: str, fields: str | None) -> dict[str, object]:
    return {"item_id": item_id, "fields": fields, "is_whole": True, "updated_at": 1.0}


def test_only_what_is_withdrawn_at_last_is(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert withdrawn_items(layout) == (set(), StorePoint())
    rows = [told("gone", None), told("again", '{"title": "back"}')]
    write_collected(layout, POINT, {"interactions": [], "users": [], "items": [rows]})
    assert withdrawn_items(layout) == ({"gone"}, POINT)


def test_the_search_for_an_item_leaves_out_what_has_to_stay(store: Store, out: Path, item: str) -> None:
    layout = Layout(out)
    store.items.put(item, {"title": "a pot"})
    places = list(find_item(store, layout, item))
    assert places[0] == "the store, where it is not withdrawn"
    assert any("items.parquet, column item_id" in place for place in places)
    store.items.withdraw(item)
    write_collected(layout, POINT, {"interactions": [], "users": [], "items": [[told(item, None)]]})
    forget_items_in_versions(layout, ["v1"], *withdrawn_items(layout))
    assert list(find_item(store, layout, item)) == []
