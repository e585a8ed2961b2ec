"""Published versions without a user: what is gone, what stays, and a process that is killed in between."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.forgetting import find_user, forget_beside_service
from pipelines.core.bundle import BundlePaths, check_bundle, write_manifest
from pipelines.core.collected import StorePoint, write_collected
from pipelines.core.encoder import Encoder
from pipelines.core.forgetting import Forgotten, forget_in_versions, user_hash
from pipelines.core.layout import Layout
from pipelines.core.registry.folder import Folder
from pipelines.core.schema import FORGOTTEN_AT
from pipelines.core.searching import find_in_files
from pipelines.core.storage import read_json, write_table
from serving.recommender import Recommender
from serving.requests import Request
from serving.store.store import Store
from tests.serving.shop import Shop

NOON = 1_700_000_000.0


@pytest.fixture
def user(shop: Shop) -> str:
    return next(u for u, items in list(shop.history.items())[10:] if items)


def forgotten(*users: str) -> Forgotten:
    return Forgotten({user_hash(u): NOON for u in users})


def test_a_version_without_a_user_is_the_same_to_others(
    out: Path, shop: Shop, model: Recommender, encoder: Encoder, user: str, store: Store
) -> None:
    layout = Layout(out)
    before = read_json(BundlePaths(layout.bundle("v1")).manifest)
    assert list(find_user(store, layout, user))
    assert forget_in_versions(layout, ["v1"], forgotten(user, "of another shop")) == ["v1"]
    assert list(find_user(store, layout, user)) == []
    assert [p.name for p in layout.bundles.iterdir()] == ["v1"]
    after = check_bundle(layout.bundle("v1"))
    assert after.keys() == before.keys()
    assert {name for name in before["files"] if before["files"][name] != after["files"][name]} == {
        "users.parquet",
        "user_arrays.safetensors",
    }
    assert after["created_at"] == before["created_at"]
    assert after["schema_version"] == before["schema_version"]
    assert after["version"] == "v1"
    smaller = Recommender(layout.bundle("v1"), encoder)
    assert smaller.n_users == model.n_users - 1
    for other in (u for u in shop.user_ids if u != user):
        assert smaller.recommend(Request(other, n=5)) == model.recommend(Request(other, n=5))
    assert smaller.recommend(Request(user, n=5)) == model.recommend(Request("a stranger", n=5))


def test_nothing_is_written_where_nobody_is_known(out: Path) -> None:
    layout = Layout(out)
    inode = layout.bundle("v1").stat().st_ino
    assert forget_in_versions(layout, ["v1"], forgotten("nobody here")) == []
    assert forget_in_versions(layout, ["v1"], Forgotten()) == []
    assert layout.bundle("v1").stat().st_ino == inode


def test_a_rebuild_that_publishes_nothing_forgets_beside_what_is_in_service(
    out: Path, shop: Shop, user: str
) -> None:
    layout, item = Layout(out), shop.item_ids[0]
    assert Folder(layout).pointer().version == "v1"
    shutil.copytree(layout.bundle("v1"), layout.bundle("v0"))
    write_manifest(
        BundlePaths(layout.bundle("v0")),
        "v0",
        {"encoder": read_json(BundlePaths(layout.bundle("v1")).manifest)["encoder"]},
    )
    assert forget_beside_service(layout) == []
    forgotten(user).write(layout.forgotten)
    gone = {"item_id": item, "fields": None, "is_whole": True, "updated_at": 1.0}
    write_collected(layout, StorePoint("s", 0, 1), {"interactions": [], "users": [], "items": [[gone]]})
    assert forget_beside_service(layout) == ["v0", "v0"]
    left = find_in_files(layout.bundles, user), find_in_files(layout.bundles, item)
    assert {path.parent.name for found in left for path, _ in found} == {"v1"}


def came_back(layout: Layout, user: str, moment: float) -> BundlePaths:
    """The version, as a build makes it of what a user did after they were forgotten."""
    paths = BundlePaths(layout.bundle("v1"))
    users = pq.read_table(paths.users)
    moments = [moment if u == user else None for u in users.column("user_id").to_pylist()]
    write_table(paths.users, users.append_column(FORGOTTEN_AT, pa.array(moments, pa.float64())))
    write_manifest(paths, "v1", {"encoder": read_json(paths.manifest)["encoder"]})
    return paths


def test_who_came_back_is_known_until_they_are_forgotten_again(
    out: Path, model: Recommender, encoder: Encoder, user: str
) -> None:
    paths = came_back(Layout(out), user, NOON)
    back = Recommender(paths.root, encoder)
    known, stranger = model.recommend(Request(user, n=5)), model.recommend(Request("a stranger", n=5))
    assert known != stranger
    assert back.recommend(Request(user, forgotten_at=NOON, n=5)) == known
    assert back.recommend(Request(user, forgotten_at=NOON + 1, n=5)) == stranger
    assert model.recommend(Request(user, forgotten_at=NOON, n=5)) == stranger  # a version of before
    assert forget_in_versions(Layout(out), ["v1"], forgotten(user)) == []
    again = Forgotten({user_hash(user): NOON + 1})
    assert forget_in_versions(Layout(out), ["v1"], again) == ["v1"]
    assert Recommender(paths.root, encoder).n_users == model.n_users - 1


@pytest.mark.parametrize("n_renames", range(5))
def test_killed_at_any_rename_the_version_is_there_and_the_next_build_ends_it(
    out: Path, user: str, n_renames: int
) -> None:
    layout = Layout(out)
    child = os.fork()
    if child == 0:
        rename, done = Path.rename, []

        def or_die(self: Path, target: Path) -> Path:
            if len(done) == n_renames:
                os._exit(9)
            done.append(target)
            return rename(self, target)

        Path.rename = Path.replace = or_die  # type: ignore[method-assign, assignment]
        forget_in_versions(layout, ["v1"], forgotten(user))
        os._exit(0)
    (_, status) = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == (9 if n_renames < 5 else 0)
    forget_in_versions(layout, [], Forgotten())  # of a build that knows nothing of it
    check_bundle(layout.bundle("v1"))
    forget_in_versions(layout, ["v1"], forgotten(user))
    check_bundle(layout.bundle("v1"))
    assert user not in pq.read_table(BundlePaths(layout.bundle("v1")).users).column("user_id").to_pylist()
    assert [p.name for p in layout.bundles.iterdir()] == ["v1"]


def test_histories_stay_with_those_whose_they_are(out: Path, shop: Shop, encoder: Encoder, user: str) -> None:
    forget_in_versions(Layout(out), ["v1"], forgotten(user, shop.user_ids[0], shop.user_ids[-1]))
    users = Recommender(Layout(out).bundle("v1"), encoder).users
    for other, row in users.rows.items():
        a, b = users.arrays["indptr"][row : row + 2]
        items = [shop.item_ids[i] for i in users.arrays["indices"][a:b]]
        assert dict(zip(items, users.arrays["weights"][a:b], strict=True)) == shop.history[other]
    assert users.arrays["indptr"][-1] == len(users.arrays["indices"])
    assert np.all(np.diff(users.arrays["indptr"]) >= 0)


def test_the_store_says_where_an_id_is(store: Store, user: str, tmp_path: Path) -> None:
    store.put_user(user, "likes tea")
    store.put_user(user + "2", "likes tea")
    assert store.forgotten.places_of(user) == ["column user_id of table users"]
    store.forget(user)
    assert store.forgotten.places_of(user) == []
    assert store.forgotten.places_of(user + "2") == ["column user_id of table users"]
    assert list(find_user(store, Layout(tmp_path), "100%_")) == []
    assert list(store.forgotten.all().moments) == [user_hash(user)]
