"""What a build takes from the store, and that a version adds to it just what came later."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from jobs.collecting import collect
from pipelines.core.bundle import BundlePaths
from pipelines.core.collected import StorePoint
from pipelines.core.config import Config, DataConfig
from pipelines.core.encoder import Encoder
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json, read_table, write_json
from serving.answering import told
from serving.items import _known_item
from serving.live import LiveRecommender
from serving.recommender import Recommender
from serving.requests import Request
from serving.store.snapshot import read_snapshot
from serving.store.store import Store, StoredEvent
from tests.serving.databases import file_store
from tests.serving.shop import Shop

NEVER = 1e6
TENT = {"title": "A tent for two", "description": "light and waterproof, for hiking"}


def click(number: int, user: str, item: str) -> StoredEvent:
    return StoredEvent(f"e{number}", user, item, "click")


def version_of(out: Path, encoder: Encoder, point: StorePoint) -> Recommender:
    """The version in `out` as a build makes it that had read a store up to there."""
    paths = BundlePaths(Layout(out).bundle("v1"))
    write_json(paths.manifest, read_json(paths.manifest) | {"store": asdict(point)})
    return Recommender(paths.root, encoder)


def listed(model: Recommender, store: Store, user: str) -> list[str]:
    return [i.item_id for i in model.recommend(told(Request(user, n=20), store.people([user], 100)[user]))]


def test_a_snapshot_is_of_one_moment(store: Store, url: URL) -> None:
    store.add([click(1, "anna", "a"), StoredEvent("e2", "鲍勃", "b", None, 2.5, 1000.0)])
    store.put_user("鲍勃", "喜欢喝茶")
    store.items.put("a", {"title": "Kettle"})
    store.items.withdraw("b")
    with read_snapshot(url) as snapshot:
        store.add([click(3, "anna", "c")])
        store.put_user("anna", "later")
        store.items.put("c", {})
        assert snapshot.point == StorePoint(store.store_id, 2, 2)
        events = [row for part in snapshot.events() for row in part]
        assert [(e["user_id"], e["item_id"], e["event"], e["weight"]) for e in events] == [
            ("anna", "a", "click", 1.0), ("鲍勃", "b", None, 2.5),
        ]  # fmt: skip
        assert events[1]["timestamp"] == 1000.0
        assert events[0]["timestamp"] == pytest.approx(events[0]["timestamp"], abs=60), "when it was received"
        (said,) = [row for part in snapshot.users() for row in part]
        assert (said["user_id"], said["text"]) == ("鲍勃", "喜欢喝茶")
        assert said["updated_at"] == pytest.approx(events[0]["timestamp"], abs=60)
        items = {row["item_id"]: row["fields"] for part in snapshot.items() for row in part}
        assert items == {"a": '{"title": "Kettle"}', "b": None}


def test_collecting_from_a_service_and_from_none(tmp_path: Path) -> None:
    layout, config = Layout(tmp_path), Config()
    assert collect(config, layout) is None
    assert not (tmp_path / "store.sqlite").exists(), "a build makes no store"
    store = file_store(tmp_path)
    assert collect(config, layout) is None, "nobody has said anything"
    store.add([click(1, "anna", "a")])
    found = collect(config, layout)
    assert found is not None
    assert found.point.events == 1
    assert read_table(layout.collected / "interactions.parquet").num_rows == 1
    # tables that have the events themselves: they count as known, and are not taken twice
    without = collect(Config(data=DataConfig(service_events=False)), layout)
    assert without is not None
    assert without.point.events == 1
    assert read_table(layout.collected / "interactions.parquet").num_rows == 0


def test_a_version_counts_what_it_was_built_with_once(
    model: Recommender, shop: Shop, out: Path, encoder: Encoder, store: Store
) -> None:
    user, (cold, other) = shop.user_ids[0], shop.cold_ids[:2]
    store.add([click(1, user, cold), click(2, user, other)])
    knows_both = version_of(out, encoder, StorePoint(store.store_id, 2, 0))
    assert listed(knows_both, store, user) == [i.item_id for i in model.recommend(Request(user, n=20))]
    knows_one = version_of(out, encoder, StorePoint(store.store_id, 1, 0))
    theirs = store.people([user], 100)[user]
    theirs.events = theirs.events[1:]
    expected = [i.item_id for i in model.recommend(told(Request(user, n=20), theirs))]
    assert listed(knows_one, store, user) == expected
    assert expected != listed(knows_both, store, user)
    stranger = version_of(out, encoder, StorePoint("another store", 2, 0))
    assert listed(stranger, store, user) == listed(model, store, user), "its numbers are of another store"


def test_events_that_move_are_new_to_who_gets_them(
    model: Recommender, shop: Shop, out: Path, encoder: Encoder, store: Store
) -> None:
    user, cold = shop.user_ids[0], shop.cold_ids[0]
    store.add([click(1, "visitor", cold)])
    built = version_of(out, encoder, StorePoint(store.store_id, 1, 0))
    assert store.merge(user, "visitor") == 1
    assert listed(built, store, user) == listed(model, store, user)
    assert cold not in listed(built, store, user)


def test_items_from_before_and_after_the_build(shop: Shop, out: Path, encoder: Encoder, store: Store) -> None:
    """An item's first event may be older than the build, and the item younger."""
    a, b = shop.item_ids[:2]
    store.add([click(1, shop.user_ids[0], "tent")])
    store.items.patch(a, {"title": "said before the build"}, is_known=True)
    built = version_of(out, encoder, StorePoint(store.store_id, 1, 1))
    store.items.put("tent", TENT)
    store.items.patch(b, {"title": "said after it"}, is_known=True)
    live = LiveRecommender(lambda: built, store, NEVER, 100)
    try:
        late = live().catalogue
        assert late.record(late.row("tent"))["n_interactions"] == 1
        assert late.record(late.row(b))["title"] == "said after it"
        assert late.record(late.row(a)) == built.catalogue.record(built.catalogue.row(a))
        title = shop.items.column("title")[0].as_py()
        assert _known_item(live(), store, a).fields["title"] == title, "as the version was built with it"
        assert _known_item(live(), store, b).fields["title"] == "said after it"
    finally:
        live.close()
