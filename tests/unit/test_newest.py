"""Pairs that a published version has not seen: against a loop, and what is read of a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.core import newest
from pipelines.core.bundle import BundlePaths
from pipelines.core.errors import ArtefactError
from pipelines.core.newest import Seen, newest_pairs
from pipelines.core.storage import write_table, write_tensors

USERS, ITEMS = [f"u{n}" for n in range(30)], [f"i{n}" for n in range(40)]


def seen_by(history: dict[str, list[str]], item_ids: list[str]) -> Seen:
    row = {item: n for n, item in enumerate(item_ids)}
    indices = [row[item] for items in history.values() for item in items]
    indptr = np.concatenate([[0], np.cumsum([len(items) for items in history.values()])])
    return Seen(
        pa.array(list(history), pa.string()), pa.array(item_ids, pa.string()), indptr.astype(np.int64),
        np.array(indices, dtype=np.int32),
    )  # fmt: skip


def test_the_newest_are_what_a_loop_does_not_find_in_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other users, items and orders on both sides; histories are not sorted; more pairs than are looked up at once."""
    monkeypatch.setattr(newest, "_AT_ONCE", 64)
    rng = np.random.default_rng(0)
    theirs = [*rng.permutation(USERS)[:20].tolist(), "gone"]
    their_items = [*rng.permutation(ITEMS)[:25].tolist(), "withdrawn"]
    history = {u: rng.permutation(their_items)[: rng.integers(0, 12)].tolist() for u in theirs}
    pairs = sorted(
        {(int(u), int(i)) for u, i in zip(rng.integers(0, 30, 400), rng.integers(0, 40, 400), strict=True)}
    )
    user, item = (np.array(side, dtype=np.int32) for side in zip(*pairs, strict=True))
    found = newest_pairs(user, item, pa.array(USERS), pa.array(ITEMS), seen_by(history, their_items))
    expected = [ITEMS[i] not in history.get(USERS[u], []) for u, i in pairs]
    assert found.tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_of_a_version_without_history_all_are_new_and_without_pairs_none() -> None:
    none = np.zeros(0, dtype=np.int32)
    user, item = np.array([0, 3], dtype=np.int32), np.array([1, 2], dtype=np.int32)
    for seen in (seen_by({}, []), seen_by({"u0": []}, ["i1"])):
        assert newest_pairs(user, item, pa.array(USERS), pa.array(ITEMS), seen).all()
        assert not len(newest_pairs(none, none, pa.array(USERS), pa.array(ITEMS), seen))


def test_the_history_is_read_from_the_directory_of_a_version(tmp_path: Path) -> None:
    paths, seen = BundlePaths(tmp_path), seen_by({"a": ["x", "y"], "b": []}, ["x", "y"])
    write_table(paths.users, pa.table({"user_id": seen.user_ids}))
    write_table(paths.items, pa.table({"item_id": seen.item_ids, "title": ["X", "Y"]}))
    with pytest.raises(ArtefactError, match=f"version {tmp_path.name} has seen cannot be read"):
        Seen.read(tmp_path)
    write_tensors(
        paths.user_arrays, {"indptr": seen.indptr, "indices": seen.indices, "factors": np.zeros((2, 3))}
    )
    read = Seen.read(tmp_path)
    assert (read.user_ids, read.item_ids) == (seen.user_ids, seen.item_ids)
    np.testing.assert_array_equal(read.indptr, [0, 2, 2])
    np.testing.assert_array_equal(read.indices, [0, 1])
