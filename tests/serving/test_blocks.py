"""Profiles with extra blocks: words meet the text alone, things done meet everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.core.blend import join_blocks, pad
from pipelines.core.bundle import BundlePaths, write_manifest
from pipelines.core.encoder import Encoder
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json, read_tensors, write_tensors
from serving.recommender import Recommender
from serving.requests import Event, Request
from tests.serving.shop import Shop

WIDTH = 5
"""Columns of the extra block."""


@pytest.fixture
def wide(out: Path, encoder: Encoder) -> Recommender:
    """The shop again, its items with a block of random numbers, its maps with rows for it."""
    paths = BundlePaths(Layout(out).bundle("v1"))
    rng = np.random.default_rng(3)
    items, users, maps = (read_tensors(p) for p in (paths.item_arrays, paths.user_arrays, paths.text_maps))
    n, width = items["profiles"].shape
    block = rng.standard_normal((n, WIDTH)).astype(np.float32)
    items["profiles"] = join_blocks(items["profiles"], [(0.8, block, np.zeros(WIDTH, np.float32))])
    users["own_texts"] = pad(users["own_texts"], width + WIDTH)
    for name in ("user_map", "item_map"):
        rows = rng.standard_normal((WIDTH, maps[name].shape[1])).astype(np.float32)
        maps[name] = np.insert(maps[name], [width], rows, axis=0)
    write_tensors(paths.item_arrays, items)
    write_tensors(paths.user_arrays, users)
    write_tensors(paths.text_maps, maps)
    facts = {k: v for k, v in read_json(paths.manifest).items() if k == "encoder"}
    write_manifest(paths, "v1", facts)
    return Recommender(paths.root, encoder)


@pytest.mark.parametrize(
    "request_",
    [
        Request(query="a tent", n=30),
        Request(user_text="I brew coffee", query="茶叶", n=30),
        Request(user_id="newcomer", n=30),
    ],
)
def test_words_are_answered_as_without_blocks(
    wide: Recommender, model: Recommender, request_: Request
) -> None:
    with_blocks, without = wide.recommend(request_), model.recommend(request_)
    assert [item.item_id for item in with_blocks] == [item.item_id for item in without]
    np.testing.assert_allclose(
        [item.score for item in with_blocks], [item.score for item in without], rtol=1e-4, atol=1e-5
    )


def test_things_done_are_answered_with_blocks_and_explained_in_full(
    wide: Recommender, model: Recommender, shop: Shop
) -> None:
    events = (Event(item_id=shop.cold_ids[0]), Event(item_id=shop.item_ids[1]))
    request = Request(user_text="I brew coffee", events=events, n=30, explain=True)
    answer = wide.recommend(request)
    for item in answer:
        assert item.parts is not None
        assert sum(item.parts.values()) == pytest.approx(item.score, abs=1e-4)
    plain = {item.item_id: item.score for item in model.recommend(request)}
    assert any(abs(plain.get(item.item_id, np.inf) - item.score) > 0.01 for item in answer)
