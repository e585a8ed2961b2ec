"""A small shop, built and published without Ray: the same core functions and the same files as a build's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp

from pipelines.core import als, blend, lexical
from pipelines.core.alternate import Here, alternate, begin, first_factors
from pipelines.core.bundle import BundlePaths, finish_directory, point_current, write_manifest
from pipelines.core.catalogue import GeneratorConfig, generate
from pipelines.core.config import BlendConfig, Config, EncoderConfig, FactorizeConfig, to_toml
from pipelines.core.encoder import Encoder, encoder_fingerprint
from pipelines.core.ids import hash_ids
from pipelines.core.layout import Layout
from pipelines.core.readers import cut_chunks, find_files, read_chunk
from pipelines.core.shards import item_shard, user_shard
from pipelines.core.storage import write_json, write_table, write_tensors, write_text
from pipelines.core.validate import check_entities

FloatArray = npt.NDArray[np.float32]

CONFIG = Config(
    # single precision: the same vectors on every processor; few tokens: soon made
    encoder=EncoderConfig(dtype="float32", max_tokens=48),
    # all that bends a score is named: what the tests expect of the shop does not change with the defaults
    factorize=FactorizeConfig(
        n_factors=16,
        iterations=4,
        user_regularization=10.0,
        item_regularization=90.0,
        alpha=10.0,
        user_frequency_power=0.0,
        item_frequency_power=0.0,
        user_text_fade=0.0,
        item_text_fade=0.0,
        user_ridge=1.0,
        item_ridge=3.0,
        cold_ridge=0.0,
        evidence_power=1.0,
    ),
    blend=BlendConfig(
        gamma=0.2,
        text_fade=0.0,
        cold_scale=1.0,
        history_power=0.5,
        own_text_items=1.0,
        query_items=3.0,
        unwanted_items=1.0,
    ),
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
    words: lexical.LexicalModel


def build_shop(data: Path, out: Path, encoder: Encoder, config: Config = CONFIG) -> Shop:
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
    items, users = _clean(data, "items", config), _clean(data, "users", config)
    item_ids, user_ids = items.column("item_id").to_pylist(), users.column("user_id").to_pylist()
    weights = _weights(catalogue.interactions_df, item_ids, user_ids)
    fitted = _fit(weights, items, users, encoder, config)
    counts = np.bincount(weights.indices, minlength=N_ITEMS)
    items = items.append_column("n_interactions", pa.array(counts.astype(np.int64)))
    wanted = np.bincount(weights.indices[weights.data > 0], minlength=N_ITEMS)
    items = items.append_column("n_wanted", pa.array(wanted.astype(np.int64)))
    _publish(Layout(out), items, users.select(["user_id"]), fitted, weights, config)
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


def _clean(data: Path, table: str, config: Config) -> pa.Table:
    (chunk,) = cut_chunks(str(data), table, find_files(str(data), table))
    checked = check_entities(chunk, *read_chunk(chunk), config)
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


def _fit(
    weights: sp.csr_matrix, items: pa.Table, users: pa.Table, encoder: Encoder, config: Config
) -> _Fitted:
    """What profile and factorize do, with one shard for each side."""
    settings = config.factorize
    by_item = weights.T.tocsr()
    by_item.sort_indices()
    item_texts, user_texts = items.column("text").to_pylist(), users.column("text").to_pylist()
    known = np.flatnonzero(np.diff(by_item.indptr))
    words = lexical.fit([item_texts[i] for i in known], config.lexical, settings.seed)
    item_raw, user_raw = (
        np.concatenate([_embeddings(encoder, tuple(texts)), words.transform(texts)], axis=1)
        for texts in (item_texts, user_texts)
    )
    n_embedding = item_raw.shape[1] - words.width
    item_mean, user_mean = _mean(item_raw, by_item, n_embedding), _mean(user_raw, weights, n_embedding)
    weight = config.lexical.weight
    item_profiles = blend.text_profile(item_raw, item_mean, n_embedding, weight)
    own = blend.text_profile(user_raw, user_mean, n_embedding, weight)
    item_rows, gram, item_gram = item_shard(by_item, item_profiles, 0, settings)
    user_rows, own_gram = user_shard(weights, item_profiles, own, 0, settings, config.blend)
    starts = [
        first_factors(
            hash_ids(table.column(name).to_pandas().to_numpy(dtype=object)), rows.evidence, settings
        )
        for table, name, rows in ((users, "user_id", user_rows), (items, "item_id", item_rows))
    ]
    x, y = alternate(
        begin("user", [user_rows], starts[:1], gram + own_gram, settings.n_factors, Here()),
        begin("item", [item_rows], starts[1:], item_gram, settings.n_factors, Here()),
        settings,
        Here(),
    )
    scale = np.float32(settings.text_weight)
    maps = {
        "item_mean": item_mean,
        "user_mean": user_mean,
        "user_map": scale * x.text_map,
        "item_map": scale * y.text_map,
        "user_gramian": x.gramian.astype(np.float32),
        "item_gramian": y.gramian.astype(np.float32),
    }
    return _Fitted(
        als.fill_cold(y.factors[0], item_rows.evidence, item_rows.features @ maps["item_map"]),
        als.fill_cold(x.factors[0], user_rows.evidence, user_rows.features @ maps["user_map"]),
        maps,
        item_profiles,
        own,
        words,
    )


@cache
def _embeddings(encoder: Encoder, texts: tuple[str, ...]) -> FloatArray:
    """Every shop has the same texts."""
    return encoder.encode(texts)


def _mean(raw: FloatArray, pairs: sp.csr_matrix, n_embedding: int) -> FloatArray:
    """Of meanings and of words over the rows with pairs, each over the rows that have one."""
    parts = [
        blend.mean_statistics(columns, np.diff(pairs.indptr) > 0)
        for columns in (raw[:, :n_embedding], raw[:, n_embedding:])
    ]
    return np.concatenate([total / max(count, 1) for total, count in parts]).astype(np.float32)


def _publish(
    layout: Layout, items: pa.Table, users: pa.Table, fitted: _Fitted, weights: sp.csr_matrix, config: Config
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
    lexical.save(fitted.words, paths.lexical)
    write_text(paths.config, to_toml(config))
    write_json(paths.metrics, {"version": "v1"})
    fingerprint = encoder_fingerprint(config.encoder)
    write_manifest(paths, "v1", {"encoder": {"model": config.encoder.model, "fingerprint": fingerprint}})
    finish_directory(temporary, layout.bundle("v1"))
    point_current(layout, "v1")
