"""Nights over a store that was told a lot: what comes into the next version, what is refused, what stays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipelines.core.bundle import BundlePaths, current_version
from pipelines.core.layout import Layout
from pipelines.core.storage import part_paths, read_json
from serving.answering import told
from serving.recommender import Recommender
from serving.requests import Request
from serving.store.connecting import store_url
from serving.store.store import Store, StoredEvent, open_store
from tests.conftest import SMALL_CONFIG, Finished, kindling

pytestmark = [pytest.mark.ray, pytest.mark.slow]

KETTLE = {
    "title": "A copper kettle for one",
    "description": "boils water for tea on any stove",
    "price": 31.5,
}


def a_day(store: Store, data: Path, day: int) -> None:
    """Most users touch something new to them; somebody arrives, and so does an item that they touch first."""
    items = pd.read_parquet(data / "items.parquet")["item_id"]
    pairs_df = pd.read_parquet(data / "interactions.parquet")
    rng = np.random.default_rng(day)
    events = []
    for user, theirs in pairs_df.groupby("user_id")["item_id"]:
        # more of what those like who share an item with them: what a model can find
        alike = pairs_df[pairs_df["item_id"].isin(theirs)]["user_id"]
        liked = pairs_df[pairs_df["user_id"].isin(alike)]["item_id"]
        new = liked[~liked.isin(theirs)]
        chosen = rng.choice(new if len(new) else items, 2)
        events += [StoredEvent(f"{day} {user} {k}", str(user), str(i), "click") for k, i in enumerate(chosen)]
    events.append(StoredEvent(f"{day} 小明", "小明", f"kettle-{day}", "purchase"))
    store.add(events)
    store.put_user("小明", "我喜欢喝茶, and camping")
    store.items.put(f"kettle-{day}", KETTLE)


def texts_of(layout: Layout) -> set[str]:
    """Everything that is embedded."""
    folders = (layout.tables / "items", layout.tables / "users", layout.queries)
    return {
        t for f in folders for p in part_paths(f) for t in pd.read_parquet(p, columns=["text"])["text"] if t
    }


def nightly(night: str, data: Path, out: Path, config: Path) -> Finished:
    return kindling("nightly", "--date", night, "--data", data, "--out", out, "--config", config)


def check_what_was_told(layout: Layout, store: Store, versions: tuple[str, str], gone: str) -> None:
    """The second version knows the store, and neither of the two a withdrawn item."""
    first, second = versions
    n_events = len(list(store.read_from(0, 10**6)))
    manifest = read_json(BundlePaths(layout.bundle(second)).manifest)
    assert manifest["store"] == {"store": store.store_id, "events": n_events, "items": 2}
    assert manifest["rebuilt"]["version"] == first
    model = Recommender(layout.bundle(second))
    assert model.knows_user("小明")
    assert gone not in model.catalogue
    for version in (first, second):
        texts = pq.read_table(BundlePaths(layout.bundle(version)).items).column("item_id").to_pylist()
        assert gone not in texts, "earlier versions lose a withdrawn item, too"
    kettle = model.catalogue.record(model.catalogue.row("kettle-1"))
    assert (kettle["title"], kettle["n_interactions"]) == (KETTLE["title"], 1)
    # what it was built with counts once: the store adds nothing to it
    theirs = told(Request("小明", n=10), store.people(["小明"], 100)["小明"])
    assert [i.item_id for i in model.recommend(theirs)] == [
        i.item_id for i in model.recommend(Request("小明", n=10))
    ]
    report = read_json(layout.ingest_report)
    assert report["interactions"]["told"] == n_events
    assert report["items"]["withdrawn"] == 1


def test_nights_take_in_what_was_told_and_refuse_what_is_broken(
    small_data: Path, built_copy: Path, tmp_path: Path
) -> None:
    data, out, config = Path(shutil.copytree(small_data, tmp_path / "data")), built_copy, tmp_path / "c.toml"
    config.write_text(
        SMALL_CONFIG.replace("bootstrap = 50", "bootstrap = 0\nbaselines = []"), encoding="utf-8"
    )
    layout, first = Layout(out), current_version(Layout(out))
    store = open_store(store_url("", out))
    gone = str(pd.read_parquet(data / "items.parquet")["item_id"][7])
    a_day(store, data, 1)
    store.items.withdraw(gone)

    # a good night
    before = texts_of(layout)
    done = nightly("2026-03-02", data, out, config)
    assert done.status == 0, done.err
    second = current_version(layout)
    assert second != first
    assert read_json(layout.embed_report)["to_encode"] == len(texts_of(layout) - before), (
        "what is new, no more"
    )
    summary = {o["stage"]: o["summary"] for o in read_json(layout.run_record)}["factorize"]
    assert summary["starts"]["full"] == f"from {first}, 2 passes"
    assert all(summary["starts"][m].startswith("from nothing") for m in ("train", "newcomers"))
    check_what_was_told(layout, store, (first, second), gone)
    again = nightly("2026-03-02", data, out, config)
    assert again.status == 0
    assert "before" in again.out

    # a night whose export broke off: nothing changes, and it can be tried again
    whole = (data / "items.parquet").read_bytes()
    (data / "items.parquet").write_bytes(whole[: len(whole) // 2])
    broken = nightly("2026-03-03", data, out, config)
    assert broken.status == 3
    assert "items.parquet" in broken.err
    assert current_version(layout) == second

    # texts that have slipped by one row: every check of the tables passes, the gate does not
    items_df = pd.read_parquet(small_data / "items.parquet")
    words = ["title", "description", "brand", "categories"]
    items_df.assign(**{w: np.roll(items_df[w].to_numpy(), 1) for w in words}).to_parquet(
        data / "items.parquet"
    )
    a_day(store, data, 2)
    refused = nightly("2026-03-04", data, out, config)
    assert refused.status == 7, refused.out + refused.err
    assert current_version(layout) == second
    nights = json.loads(kindling("nights", "list", "--out", out, "--json").out)
    assert [night["state"] for night in nights] == ["refused", "failed", "published"]
    assert nights[0]["reasons"]

    # the next day all is well again, and an unchanged night builds nothing
    (data / "items.parquet").write_bytes(whole)
    good = nightly("2026-03-05", data, out, config)
    assert good.status == 0, good.err
    third = current_version(layout)
    assert third not in (first, second)
    idle = nightly("2026-03-06", data, out, config)
    assert idle.status == 0
    assert "unchanged" in idle.out
    assert current_version(layout) == third
    measured = kindling("evaluate", "--out", out)
    assert measured.status == 0, measured.err
    store.close()
