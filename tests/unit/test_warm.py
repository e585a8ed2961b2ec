"""Where a rebuild's factors start, and that a fit from there ends where one from nothing does.

Dimensions: U users, I items, F factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp

from pipelines.core import als, lexical, storage
from pipelines.core.als import RowShard
from pipelines.core.alternate import Here, SideState, alternate, begin, first_factors, pull
from pipelines.core.bundle import BundlePaths
from pipelines.core.catalogue import GeneratorConfig, generate
from pipelines.core.config import BlendConfig, Config, FactorizeConfig, LexicalConfig, parse_config
from pipelines.core.encoder import encoder_fingerprint
from pipelines.core.forgetting import NOBODY, Forgotten, user_hash
from pipelines.core.ids import hash_ids
from pipelines.core.incumbent import Incumbent
from pipelines.core.layout import Layout, ModelName
from pipelines.core.measure import SliceResult, measure
from pipelines.core.model import FittedModel, asked_of
from pipelines.core.pairs import Side
from pipelines.core.scoring import Training
from pipelines.core.shards import item_shard, user_shard
from pipelines.core.slices import Slice
from pipelines.core.storage import write_json, write_table, write_tensors, write_text
from pipelines.core.warm import choose_start, known_factors

FloatArray = npt.NDArray[np.float32]
VERSION = "v20260101-000000-00000000"


def rows_of(n: int, width: int = 3) -> FloatArray:
    """Rows that differ from one another and from zero."""
    return np.arange(1, n * width + 1, dtype=np.float32).reshape(n, width)


def write_version(
    paths: BundlePaths, user_ids: pa.Table, items: Sequence[str], users_by_f: FloatArray, items_by_f: FloatArray
) -> None:  # fmt: skip
    """What a warm start reads of a published version."""
    write_table(paths.users, user_ids)
    write_table(paths.items, pa.table({"item_id": list(items), "text": [""] * len(items)}))
    write_tensors(paths.user_arrays, {"factors": users_by_f})
    write_tensors(paths.item_arrays, {"factors": items_by_f})


# ---------------------------------------------------------------- rows by id


@pytest.mark.parametrize("rows_at_once", [1, 2, 1000])
@pytest.mark.parametrize("side", ["user", "item"])
def test_a_row_has_the_factors_of_its_id(
    side: Side, rows_at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_ROWS_OF_A_PIECE", rows_at_once)
    paths, before = BundlePaths(tmp_path), rows_of(5)
    write_version(
        paths, pa.table({"user_id": ["a", "b", "李", "d", "e"]}), ["a", "b", "李", "d", "e"], before, before
    )
    drawn = -rows_of(6)
    found = known_factors(paths, side, pa.chunked_array([["e", "new", "李"], ["a", "d", "A"]]), drawn, NOBODY)
    np.testing.assert_array_equal(found, [before[4], drawn[1], before[2], before[0], before[3], drawn[5]])
    nobody = known_factors(paths, side, pa.array(["x", "y"]), drawn[:2], NOBODY)
    np.testing.assert_array_equal(nobody, drawn[:2])
    assert known_factors(paths, side, pa.array([], pa.string()), drawn[:0], NOBODY).shape == (0, 3)


def test_who_was_forgotten_is_not_known_unless_by_what_came_later(tmp_path: Path) -> None:
    paths, before, drawn = BundlePaths(tmp_path), rows_of(3), -rows_of(3)
    users = pa.table({"user_id": ["gone", "back", "stays"], "forgotten_at": [None, 7.0, None]})
    write_version(paths, users, ["i"], before, before[:1])
    forgotten = Forgotten({user_hash("gone"): 7.0, user_hash("back"): 7.0})
    found = known_factors(paths, "user", users.column("user_id"), drawn, forgotten)
    np.testing.assert_array_equal(found, [drawn[0], before[1], before[2]])


# ---------------------------------------------------------------- whether to


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Eight passes from nothing, two from a version; the encoder is a folder with next to nothing in it."""
    write_text(tmp_path / "encoder" / "config.json", "{}")
    encoder = {"model": str(tmp_path / "encoder"), "dtype": "float32"}
    factorize = {"n_factors": 3, "iterations": 8}
    return parse_config({"factorize": factorize, "rebuild": {"iterations": 2}, "encoder": encoder}, "test")


@pytest.fixture
def rebuilt(config: Config, tmp_path: Path) -> Layout:
    """A directory with the note of a rebuild that starts warm, and a version whose factors have length 3."""
    layout = Layout(tmp_path / "out")
    paths = BundlePaths(layout.bundle(VERSION))
    write_tensors(paths.text_maps, {"item_map": rows_of(4)})
    write_json(paths.manifest, {"encoder": {"fingerprint": encoder_fingerprint(config.encoder)}})
    Incumbent(VERSION, is_warm=True).write(layout)
    return layout


def test_the_published_model_starts_from_the_version_in_service(config: Config, rebuilt: Layout) -> None:
    start = choose_start(config, rebuilt, "full")
    assert (start.version, start.iterations) == (VERSION, 2)
    assert start.words() == f"from {VERSION}, 2 passes"


@pytest.mark.parametrize("model", ["train", "newcomers"])
def test_what_figures_are_measured_on_starts_from_nothing(
    model: ModelName, config: Config, rebuilt: Layout
) -> None:
    start = choose_start(config, rebuilt, model)
    assert (start.version, start.iterations) == (None, 8)
    assert "measured" in start.words()


def test_no_version_or_one_that_does_not_fit_is_not_started_from(config: Config, rebuilt: Layout) -> None:
    longer = config.model_copy(update={"factorize": FactorizeConfig(n_factors=4)})
    assert "length 4, those in service 3" in choose_start(longer, rebuilt, "full").words()
    Incumbent(VERSION, is_warm=False).write(rebuilt)
    assert "starts anew" in choose_start(config, rebuilt, "full").words()
    Incumbent.clear(rebuilt)
    start = choose_start(config, rebuilt, "full")
    assert (start.version, start.iterations, start.why) == (None, 8, "a plain build")


def test_factors_of_another_encoder_are_not_started_from(config: Config, rebuilt: Layout) -> None:
    write_text(Path(config.encoder.model) / "config.json", '{"taught": true}')
    assert "another encoder" in choose_start(config, rebuilt, "full").words()


# ---------------------------------------------------------------- the same fit

SETTINGS = FactorizeConfig(n_factors=16, iterations=8)
BLENDING = BlendConfig()


@dataclass(frozen=True)
class Shop:
    """A generated catalogue, its texts as vectors of words, and a fifth of its pairs put aside."""

    training: Training
    hidden: sp.csr_matrix
    item_ids: list[str]
    user_ids: list[str]


def shop(seed: int, changed: float, later: float) -> Shop:
    """Before some texts changed and the last pairs came; `seed` decides what the columns of a profile are."""
    made = generate(GeneratorConfig(n_items=400, n_users=300, n_interactions=9000))
    items_df, pairs_df = made.items_df, made.interactions_df
    texts = [f"{t} {d}" for t, d in zip(items_df["title"], items_df["description"], strict=True)]
    for row in np.random.default_rng(5).permutation(len(texts))[: round(changed * len(texts))]:
        texts[row] = f"formerly {texts[row][: len(texts[row]) // 2]}"
    words = lexical.fit(texts, LexicalConfig(n_dims=48), seed)
    own = words.transform(made.users_df["description"].fillna("").tolist())
    at = [
        pd.Index(frame[key]).get_indexer(pairs_df[key])
        for frame, key in ((made.users_df, "user_id"), (items_df, "item_id"))
    ]
    aside = np.random.default_rng(6).random(len(pairs_df)) < 0.2
    there = ~aside & (np.arange(len(pairs_df)) < (1 - later) * len(pairs_df))
    matrices = [
        sp.csr_matrix((np.ones(mask.sum(), np.float32), (at[0][mask], at[1][mask])), (300, 400))
        for mask in (there, aside)
    ]
    training = Training(matrices[0], words.transform(texts), own, texts)
    return Shop(training, matrices[1], items_df["item_id"].tolist(), made.users_df["user_id"].tolist())


@dataclass(frozen=True)
class Fit:
    """A fit, what it minimised and what it lists for who has something to find."""

    users: SideState
    items: SideState
    objective: float
    result: SliceResult


def fit(of: Shop, iterations: int, seed: int = 0, version: BundlePaths | None = None) -> Fit:
    """As `factorize` does it, in one shard."""
    s, runner = SETTINGS.model_copy(update={"iterations": iterations, "seed": seed}), Here()
    by_item = of.training.pairs.T.tocsr()
    by_item.sort_indices()
    items, gram, item_gram = item_shard(by_item, of.training.item_profiles, 0, s)
    users, own = user_shard(
        of.training.pairs, of.training.item_profiles, of.training.own_profiles, 0, s, BLENDING
    )
    starts = {}
    sides: tuple[tuple[Side, list[str], RowShard], ...] = (
        ("user", of.user_ids, users), ("item", of.item_ids, items)
    )  # fmt: skip
    for side, ids, shard in sides:
        start = first_factors(hash_ids(np.array(ids, dtype=object)), shard.evidence, s)
        if version:
            start = known_factors(version, side, pa.array(ids), start, NOBODY)
            start[shard.evidence == 0] = 0
        starts[side] = start
    ended = alternate(
        begin("user", [users], [starts["user"]], gram + own, s.n_factors, runner),
        begin("item", [items], [starts["item"]], item_gram, s.n_factors, runner),
        s, runner, starts_warm=version is not None,
    )  # fmt: skip
    return Fit(*ended, objective(of, *ended, item_gram), listed(of, *ended))


def objective(of: Shop, users: SideState, items: SideState, item_gram: npt.NDArray[np.float64]) -> float:
    """What ALS minimises, over every pair, without the ridges of the maps."""
    wanted = of.training.pairs.toarray() > 0
    scores = users.factors[0] @ items.factors[0].T
    confidence = np.where(wanted, 1 + SETTINGS.alpha, 1.0)
    total = float((confidence * (wanted - scores) ** 2).sum())
    # the map that places cold items is another than the prior's
    item_map = als.ridge_map(item_gram, als.map_cross(items.shards[0], items.factors[0]), SETTINGS.item_ridge)
    for side in (users, replace(items, text_map=item_map)):
        shard = side.shards[0]
        lam, share = pull(side.side, shard.evidence, SETTINGS)
        away = side.factors[0] - share[:, None] * (shard.features @ side.text_map)
        total += float((lam * (away**2).sum(axis=1))[shard.evidence > 0].sum())
    return total


def stored_items(items: SideState) -> FloatArray:
    """As they are published: cold ones by their text."""
    shard = items.shards[0]
    return als.fill_cold(items.factors[0], shard.evidence, shard.features @ items.text_map)


def listed(of: Shop, users: SideState, items: SideState) -> SliceResult:
    """Lists of 20 of all items, for users with something put aside."""
    training, evidence = of.training, items.shards[0].evidence.astype(np.int64)
    model = FittedModel(
        stored_items(items),
        training.item_profiles,
        evidence,
        users.text_map,
        items.gramian,
        SETTINGS,
        BLENDING,
    )
    rows = np.flatnonzero(np.diff(of.hidden.indptr))
    history = training.pairs[rows]
    part = Slice("all", "full", rows, history, of.hidden[rows], history, np.arange(len(evidence)))
    return measure(model, part, asked_of(history, training.own_profiles[rows]), [20])


def in_common(a: Fit, b: Fit) -> float:
    return float(
        np.mean([len(set(x) & set(y)) / 20 for x, y in zip(a.result.listed, b.result.listed, strict=True)])
    )


def ndcg(of: Fit) -> float:
    return float(of.result.values["ndcg@20"].mean())


def test_two_passes_from_the_version_in_service_are_as_good_as_all_from_nothing(tmp_path: Path) -> None:
    """The tolerance of decision 0029; other columns of the profiles, other rows, and rows nobody knew."""
    before, after = shop(seed=1, changed=0.01, later=0.01), shop(seed=2, changed=0.0, later=0.0)
    old = fit(before, 8)
    order = np.random.default_rng(8).permutation(300)[:296], np.random.default_rng(9).permutation(400)[:396]
    write_version(
        BundlePaths(tmp_path), pa.table({"user_id": [before.user_ids[u] for u in order[0]]}),
        [before.item_ids[i] for i in order[1]], old.users.factors[0][order[0]], stored_items(old.items)[order[1]],
    )  # fmt: skip
    cold, other, warm = fit(after, 8), fit(after, 8, seed=1), fit(after, 2, version=BundlePaths(tmp_path))
    assert warm.objective <= 1.002 * cold.objective
    assert abs(ndcg(warm) - ndcg(cold)) <= 0.01
    # as near as a fit from other random factors, which is no worse a model
    assert in_common(warm, cold) >= max(0.85, in_common(other, cold) - 0.05)
    # and the version is what does it
    short = fit(after, 2)
    assert short.objective > 1.02 * cold.objective
    assert in_common(short, cold) < 0.8
