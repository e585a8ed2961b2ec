"""Builds by hand, without Ray: the artefacts that drift reads, from tables; hashed words stand for an encoder."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp
from sklearn.feature_extraction.text import HashingVectorizer

from pipelines.core.blend import centre
from pipelines.core.bundle import BundlePaths, write_manifest
from pipelines.core.catalogue import GeneratorConfig, generate
from pipelines.core.config import Config, parse_config, to_toml
from pipelines.core.ids import hash_ids
from pipelines.core.layout import Layout, ModelName
from pipelines.core.model import asked_of, fit
from pipelines.core.scoring import Training
from pipelines.core.storage import write_json, write_rows, write_table, write_tensors, write_text

WIDTH = 24
VERSION = "v1"


@dataclass(frozen=True)
class Shop:
    """Tables of one night; `interactions` has user_id, item_id, weight."""

    items: pd.DataFrame
    users: pd.DataFrame
    interactions: pd.DataFrame
    encoder: str = "words"
    rejected: int = 0
    settings: dict[str, object] = field(default_factory=dict)

    def config(self) -> Config:
        """The settings, small."""
        return parse_config({"factorize": {"n_factors": 8, "iterations": 2}, **self.settings}, "test")

    def __or__(self, changes: dict[str, object]) -> Shop:
        """With other tables or settings."""
        return replace(self, **changes)  # type: ignore[arg-type]


def a_shop(n_items: int = 240, n_users: int = 200, n_interactions: int = 3000) -> Shop:
    made = generate(GeneratorConfig(n_items=n_items, n_users=n_users, n_interactions=n_interactions))
    items = pd.DataFrame(
        {
            "item_id": made.items_df["item_id"],
            "text": made.items_df["title"] + "\n" + made.items_df["description"].fillna(""),
            "is_hidden": False,
        }
    )
    users = pd.DataFrame(
        {"user_id": made.users_df["user_id"], "text": made.users_df["description"].fillna("")}
    )
    return Shop(items, users, made.interactions_df[["user_id", "item_id", "weight"]])


def until(shop: Shop, share: float) -> Shop:
    """The shop when it had so much of its events; items and users that nobody had met are not there yet."""
    events = shop.interactions.iloc[: round(share * len(shop.interactions))]
    items = shop.items[shop.items["item_id"].isin(events["item_id"])]
    users = shop.users[shop.users["user_id"].isin(events["user_id"])]
    return shop | {"items": items, "users": users, "interactions": events}


def build(shop: Shop, root: Path, model: ModelName = "full") -> Layout:
    """The stages that drift reads."""
    layout, config = Layout(root), shop.config()
    arrays = _fit(shop, config)
    write_table(layout.ids("items"), pa.table({"item_id": pa.array(shop.items["item_id"], pa.string())}))
    write_table(layout.ids("users"), pa.table({"user_id": pa.array(shop.users["user_id"], pa.string())}))
    half = len(shop.items) // 2
    for number, part in enumerate((shop.items.iloc[:half], shop.items.iloc[half:])):
        table = pa.Table.from_pandas(part, preserve_index=False)
        write_table(layout.tables / "items" / f"part-{number:06d}.parquet", table)
    pairs = arrays.pairs.tocoo()
    columns = {"user_idx": pairs.row.astype(np.int64), "item_idx": pairs.col.astype(np.int64)}
    write_table(layout.pairs(model, "user"), pa.table({**columns, "weight": pairs.data}))
    write_rows(layout.text_embeddings("items"), 0, arrays.embeddings)
    write_rows(layout.item_profiles(model), 0, arrays.item_profiles)
    write_rows(layout.own_profiles(model), 0, arrays.own_profiles)
    write_rows(layout.factors(model, "item"), 0, arrays.item_factors)
    write_rows(layout.factors(model, "user"), 0, arrays.user_factors)
    write_tensors(layout.profile_means(model), {"item_mean": arrays.mean, "user_mean": arrays.mean})
    write_json(layout.ingest_report, _counts(shop))
    write_json(layout.embed_report, {"encoder": shop.encoder})
    return layout


def publish(shop: Shop, layout: Layout, facts: dict[str, object] | None = None) -> None:
    """The files of a version that drift reads, as version `VERSION`."""
    config, paths = shop.config(), BundlePaths(layout.bundle(VERSION))
    arrays = _fit(shop, config)
    counts = np.bincount(arrays.pairs.indices, minlength=len(shop.items))
    items = pa.Table.from_pandas(shop.items, preserve_index=False)
    write_table(paths.items, items.append_column("n_interactions", pa.array(counts, pa.int64())))
    write_table(paths.users, pa.table({"user_id": pa.array(shop.users["user_id"], pa.string())}))
    write_tensors(paths.item_arrays, {"factors": arrays.item_factors, "profiles": arrays.item_profiles})
    write_tensors(
        paths.user_arrays,
        {
            "factors": arrays.user_factors, "own_texts": arrays.own_profiles,
            "indptr": arrays.pairs.indptr.astype(np.int64), "indices": arrays.pairs.indices.astype(np.int32),
            "weights": arrays.pairs.data,
        },
    )  # fmt: skip
    write_tensors(paths.text_maps, {"item_mean": arrays.mean, "user_mean": arrays.mean})
    write_text(paths.config, to_toml(config))
    about = {"model": "full", "encoder": {"fingerprint": shop.encoder}, "counts": _counts(shop)}
    write_manifest(paths, VERSION, about if facts is None else facts)


@dataclass(frozen=True)
class _Arrays:
    pairs: sp.csr_matrix
    embeddings: np.ndarray
    mean: np.ndarray
    item_profiles: np.ndarray
    own_profiles: np.ndarray
    item_factors: np.ndarray
    user_factors: np.ndarray


def _fit(shop: Shop, config: Config) -> _Arrays:
    embeddings, own = _encode(shop.items["text"]), _encode(shop.users["text"])
    mean = embeddings[embeddings.any(axis=1)].mean(axis=0) if embeddings.any() else embeddings[0]
    item_profiles, own_profiles = centre(embeddings, mean), centre(own, mean)
    rows = pd.Index(shop.users["user_id"]).get_indexer(shop.interactions["user_id"])
    columns = pd.Index(shop.items["item_id"]).get_indexer(shop.interactions["item_id"])
    weights = shop.interactions["weight"].to_numpy().astype(np.float32)
    pairs = sp.csr_matrix((weights, (rows, columns)), shape=(len(shop.users), len(shop.items)))
    pairs.sum_duplicates()
    fitted = fit(
        Training(pairs, item_profiles, own_profiles, list(shop.items["text"])),
        hash_ids(shop.items["item_id"].to_numpy()), config.factorize, config.blend,
    )  # fmt: skip
    users = fitted.user_vectors(asked_of(pairs, own_profiles))[:, : config.factorize.n_factors]
    return _Arrays(
        pairs, embeddings, mean, item_profiles, own_profiles, fitted.item_factors, np.ascontiguousarray(users)
    )


def _encode(texts: pd.Series) -> np.ndarray:
    words = HashingVectorizer(n_features=1 << 12, norm=None, alternate_sign=False).transform(["", *texts])[1:]
    directions = np.random.default_rng(0).standard_normal((1 << 12, WIDTH)).astype(np.float32)
    vectors = np.asarray(words @ directions, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(lengths > 0, vectors / np.maximum(lengths, 1e-9), 0.0).astype(np.float32)


def _counts(shop: Shop) -> dict[str, object]:
    kept = {"items": len(shop.items), "users": len(shop.users), "interactions": len(shop.interactions)}
    counts: dict[str, object] = {name: {"read": n, "kept": n} for name, n in kept.items()}
    n = len(shop.interactions)
    counts["interactions"] = {"read": n + shop.rejected, "kept": n, "rejected": shop.rejected}
    return {**counts, "relations": {}, "reasons": {}}
