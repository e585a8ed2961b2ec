"""A small shop, built and published without Ray: the same core functions and the same files as a build's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
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
from serving.recommender import Recommender

FloatArray = npt.NDArray[np.float32]

CONFIG = Config(
    # single precision: the same vectors on every processor
    encoder=EncoderConfig(dtype="float32"),
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
        return list(self.items.column("item_id").to_pylist())

    @property
    def cold_ids(self) -> list[str]:
        return self.item_ids[-N_COLD:]

    @property
    def bundle(self) -> Path:
        return Layout(self.out).bundle("v1")


@dataclass(frozen=True)
class _Fitted:
    items: FloatArray
    users: FloatArray
    maps: dict[str, npt.NDArray[np.generic]]
    item_profiles: FloatArray
    own_texts: FloatArray


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return Encoder(CONFIG.encoder, device="cpu")


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Shop:
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("out")
    catalogue = generate(GeneratorConfig(n_items=N_ITEMS, n_users=N_USERS, n_interactions=N_PAIRS))
    catalogue.items_df.assign(**_extra_columns()).to_parquet(data / "items.parquet", index=False)
    users_df = pd.concat(
        [
            catalogue.users_df,
            pd.DataFrame({"user_id": ["newcomer", "nobody"], "description": ["I love camping and tents", ""]}),
        ]
    )
    users_df.to_parquet(data / "users.parquet", index=False)
    items, users = _clean(data, "items"), _clean(data, "users")
    item_ids, user_ids = items.column("item_id").to_pylist(), users.column("user_id").to_pylist()
    weights = _weights(catalogue.interactions_df, item_ids, user_ids)
    fitted = _fit(weights, items, users, encoder)
    counts = np.bincount(weights.indices, minlength=N_ITEMS)
    items = items.append_column("n_interactions", pa.array(counts.astype(np.int64)))
    users_part = users.select(["user_id"])
    publish(out, "v1", items, users_part, fitted, weights)
    history = {
        user: {
            item_ids[i]: float(w)
            for i, w in zip(weights[row].indices, weights[row].data, strict=True)
        }
        for row, user in enumerate(user_ids)
    }
    return Shop(out, items, user_ids, users.column("text").to_pylist(), history, fitted.users)


@pytest.fixture(scope="session")
def model(shop: Shop, encoder: Encoder) -> Recommender:
    return Recommender(shop.bundle, encoder)


@pytest.fixture
def out(shop: Shop, tmp_path: Path) -> Iterator[Path]:
    """An output directory of its own, with the shop published in it as v1."""
    raise NotImplementedError


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
