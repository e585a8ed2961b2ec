"""A small shop, built and published without Ray: the same core functions and the same files as a build's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp

from pipelines.core import als, blend
from pipelines.core.bundle import BundlePaths, finish_directory, point_current, write_manifest
from pipelines.core.catalogue import GeneratorConfig, generate
from pipelines.core.config import Config, EncoderConfig, FactorizeConfig, to_toml
from pipelines.core.encoder import Encoder, encoder_fingerprint
from pipelines.core.ids import hash_ids, normal_by_id
from pipelines.core.layout import Layout
from pipelines.core.pairs import row_shard, signs, text_sums, wanted_counts
from pipelines.core.readers import cut_chunks, find_files, read_chunk
from pipelines.core.storage import write_json, write_table, write_tensors, write_text
from pipelines.core.validate import check_entities

FloatArray = npt.NDArray[np.float32]

CONFIG = Config(
    # single precision: the same vectors on every processor; few tokens: soon made
    encoder=EncoderConfig(dtype="float32", max_tokens=48),
    factorize=FactorizeConfig(n_factors=16, iterations=4),
)
N_ITEMS, N_USERS, N_COLD, N_PAIRS = 120, 80, 20, 1500
HIDDEN = (3, 50, 119)


@dataclass(frozen=True)
class Shop:
    """The published shop and what it was made from.

    `history` maps the users to {item_id: weight}; `described` and `bare` are users without history, with and
    without a description.
    """

    out: Path
    items: pa.Table
    user_ids: list[str]
    user_texts: list[str]
    history: dict[str, dict[str, float]]
    user_factors: FloatArray
    described: str = "newcomer"
    bare: str = "nobody"

    @property
    def item_ids(self) -> list[str]:
        """All, in row-number order."""
        return list(self.items.column("item_id").to_pylist())

    @property
    def cold_ids(self) -> list[str]:
        """Without interactions."""
        counts = self.items.column("n_interactions").to_pylist()
        return [item for item, n in zip(self.item_ids, counts, strict=True) if n == 0]

    @property
    def bundle(self) -> Path:
        """Directory of the published version."""
        return Layout(self.out).bundle("v1")


@dataclass(frozen=True)
class _Fitted:
    items: FloatArray
    users: FloatArray
    maps: dict[str, npt.NDArray[np.generic]]
    item_profiles: FloatArray
    own_texts: FloatArray


def build_shop(data: Path, out: Path, encoder: Encoder) -> Shop:
    """Generate tables in `data`, clean them, fit a model and publish it under `out`."""
    catalogue = generate(GeneratorConfig(n_items=N_ITEMS, n_users=N_USERS, n_interactions=N_PAIRS))
    catalogue.items_df.assign(**_extra_columns()).to_parquet(data / "items.parquet", index=False)
    users_df = pd.concat(
        [
            catalogue.users_df,
            pd.DataFrame(
                {"user_id": ["newcomer", "nobody"], "description": ["I love camping and tents", ""]}
            ),
        ]
    )
    users_df.to_parquet(data / "users.parquet", index=False)
    items, users = _clean(data, "items"), _clean(data, "users")
    item_ids, user_ids = items.column("item_id").to_pylist(), users.column("user_id").to_pylist()
    weights = _weights(catalogue.interactions_df, item_ids, user_ids)
    fitted = _fit(weights, items, users, encoder)
    counts = np.bincount(weights.indices, minlength=N_ITEMS)
    items = items.append_column("n_interactions", pa.array(counts.astype(np.int64)))
    wanted = np.bincount(weights.indices[weights.data > 0], minlength=N_ITEMS)
    items = items.append_column("n_wanted", pa.array(wanted.astype(np.int64)))
    _publish(Layout(out), items, users.select(["user_id"]), fitted, weights)
    history = {
        user: {item_ids[i]: float(w) for i, w in zip(weights[row].indices, weights[row].data, strict=True)}
        for row, user in enumerate(user_ids)
    }
    return Shop(out, items, user_ids, users.column("text").to_pylist(), history, fitted.users)


def _extra_columns() -> dict[str, object]:
    """Metadata of every type a filter may meet, with gaps."""
    rows = range(N_ITEMS)
    return {
        "is_hidden": [row in HIDDEN for row in rows],
        "in_stock": pd.array([None if row % 10 == 0 else row % 2 == 0 for row in rows], dtype="boolean"),
        "stock": pd.array([None if row % 7 == 0 else row for row in rows], dtype="Int64"),
        "serial": [2**60 + row for row in rows],
        "released": [datetime(2024, 1, 1 + row % 28, tzinfo=UTC) for row in rows],
        "note": [None] * N_ITEMS,
        "size": [{"width": row} for row in rows],
        "ratings": [None if row % 3 == 0 else [row % 5, 4] for row in rows],
    }


def _clean(data: Path, table: str) -> pa.Table:
    (chunk,) = cut_chunks(str(data), table, find_files(str(data), table))
    checked = check_entities(chunk, *read_chunk(chunk), CONFIG)
    assert not checked.rejects.num_rows
    return checked.table.drop_columns(["_source", "_row"])


def _weights(interactions_df: pd.DataFrame, item_ids: list[str], user_ids: list[str]) -> sp.csr_matrix:
    """(users, items) weights with one dislike for each fifth user; the last items stay cold."""
    rows = interactions_df["user_id"].map({u: i for i, u in enumerate(user_ids)}).to_numpy()
    columns = interactions_df["item_id"].map({u: i for i, u in enumerate(item_ids)}).to_numpy()
    warm = columns < N_ITEMS - N_COLD
    weights = sp.coo_matrix(
        (np.ones(warm.sum(), dtype=np.float32), (rows[warm], columns[warm])), (len(user_ids), N_ITEMS)
    ).tocsr()
    weights.data[weights.indptr[np.arange(0, N_USERS, 5)]] = -1.0
    weights.sort_indices()
    return weights


def _fit(weights: sp.csr_matrix, items: pa.Table, users: pa.Table, encoder: Encoder) -> _Fitted:
    """What factorize does, with one shard for each side."""
    settings, blending = CONFIG.factorize, CONFIG.blend
    by_item = weights.T.tocsr()
    by_item.sort_indices()
    item_texts = encoder.encode(items.column("text").to_pylist())
    user_texts = encoder.encode(users.column("text").to_pylist())
    item_mean = _mean(item_texts, by_item)
    user_mean = _mean(user_texts, weights)
    item_profiles, own = blend.centre(item_texts, item_mean), blend.centre(user_texts, user_mean)
    features, own_features = blend.features(item_profiles), blend.own_features(own)
    counts = wanted_counts(by_item)
    item_shard = row_shard(by_item, 0, features, features * counts[:, None], settings.alpha)
    profile = blend.profiles(
        signs(weights), item_profiles, own, blending.own_text_items, blending.history_power
    )
    sums = text_sums(weights, features, own_features)
    user_shard = row_shard(weights, 0, blend.features(profile), sums, settings.alpha)
    item_gram = als.map_gram(features, counts)
    user_gram = item_gram + als.map_gram(own_features, wanted_counts(weights))
    drawn = normal_by_id(hash_ids(items.column("item_id").to_numpy()), settings.n_factors, settings.seed)
    y = np.where((item_shard.evidence > 0)[:, None], 0.01 * drawn, 0.0).astype(np.float32)
    a = b = np.zeros((features.shape[1], settings.n_factors), dtype=np.float32)
    for _ in range(settings.iterations):
        x = _solve(user_shard, y, a, settings.user_regularization)
        a = als.ridge_map(user_gram, als.map_cross(user_shard, x), settings.user_ridge)
        y = _solve(item_shard, x, b, settings.item_regularization)
        b = als.ridge_map(item_gram, als.map_cross(item_shard, y), settings.item_ridge)
    x = _solve(user_shard, y, a, settings.user_regularization)
    maps = {
        "item_mean": item_mean,
        "user_mean": user_mean,
        "user_map": a,
        "item_map": b,
        "user_gramian": als.gramian(x).astype(np.float32),
        "item_gramian": als.gramian(y).astype(np.float32),
    }
    return _Fitted(
        als.fill_cold(y, item_shard.evidence, item_shard.features @ b),
        als.fill_cold(x, user_shard.evidence, user_shard.features @ a),
        maps,
        item_profiles,
        own,
    )


def _mean(texts: FloatArray, pairs: sp.csr_matrix) -> FloatArray:
    total, count = blend.mean_statistics(texts, np.diff(pairs.indptr) > 0)
    return np.asarray(total / count, dtype=np.float32)


def _solve(
    shard: als.RowShard, opposite: FloatArray, text_map: FloatArray, regularization: float
) -> FloatArray:
    prior = shard.features @ text_map
    return als.solve_rows(shard, opposite, als.gramian(opposite), prior, regularization)


def _publish(
    layout: Layout, items: pa.Table, users: pa.Table, fitted: _Fitted, weights: sp.csr_matrix
) -> None:
    """The files of a bundle, under a temporary name, then under its own, then the pointer."""
    temporary = layout.bundles / ".v1.tmp"
    temporary.mkdir(parents=True)
    paths = BundlePaths(temporary)
    write_table(paths.items, items)
    write_table(paths.users, users)
    write_tensors(paths.item_arrays, {"factors": fitted.items, "profiles": fitted.item_profiles})
    history = {
        "indptr": weights.indptr.astype(np.int64),
        "indices": weights.indices.astype(np.int32),
        "weights": weights.data,
    }
    write_tensors(paths.user_arrays, {"factors": fitted.users, "own_texts": fitted.own_texts} | history)
    write_tensors(paths.text_maps, fitted.maps)
    write_text(paths.config, to_toml(CONFIG))
    write_json(paths.metrics, {"version": "v1"})
    fingerprint = encoder_fingerprint(CONFIG.encoder)
    write_manifest(paths, "v1", {"encoder": {"model": CONFIG.encoder.model, "fingerprint": fingerprint}})
    finish_directory(temporary, layout.bundle("v1"))
    point_current(layout, "v1")
