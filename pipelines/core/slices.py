"""Slices of the held-out users: whom to ask for, what they are known by, and what is to be found.

Dimensions: n users of a slice, I items, E profile.

| slice | users | known by | candidates |
|---|---|---|---|
| cold | of training | training, and what they did since | items that training does not know but somebody touched |
| warm | of training | the same | items that training knows |
| all | of training | the same | every item |
| text_only | hidden from training | own words | every item |
| query_only | hidden | one typed query, the title of an item they liked | every item |
| revealed_n | hidden | own words and exactly n interactions | every item |

With a time split, "of training" includes who came after the cut: see `splits.time_split`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
import scipy.sparse as sp

from pipelines.core.exposure import read_exposure
from pipelines.core.ids import hash_ids, sampled
from pipelines.core.layout import HeldOut, Layout, ModelName
from pipelines.core.newcomers import TARGET
from pipelines.core.pairs import read_pairs
from pipelines.core.schema import ITEM_IDX, PLACE, USER_IDX, WEIGHT
from pipelines.core.scoring import Asked, Training
from pipelines.core.storage import part_paths, read_json, read_rows
from pipelines.core.tables import read_texts

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
SliceName = Literal[
    "cold", "warm", "all", "text_only", "query_only", "revealed_1", "revealed_3", "revealed_5", "revealed_10"
]
KNOWN_SLICES: tuple[SliceName, ...] = ("cold", "warm", "all")
NEWCOMER_SLICES: tuple[SliceName, ...] = (
    "text_only", "query_only", "revealed_1", "revealed_3", "revealed_5", "revealed_10",
)  # fmt: skip
SLICES: tuple[SliceName, ...] = (*KNOWN_SLICES, *NEWCOMER_SLICES)


@dataclass(frozen=True)
class Slice:
    """One slice of one held-out set.

    Attributes:
        name: of the slice.
        model: who answers: `train`, or `newcomers` where the slice's users are hidden from it.
        users: (n,) rows of the users table, ascending.
        history: (n, I) weights of what they are known by.
        relevant: (n, I) 1 for what is to be found; every row has some.
        masked: (n, I) nonzero for what is never ranked.
        candidates: item rows that compete, in an order that helps nobody.
        query_rows: (n,) rows of the queries table, or None where nobody types anything.
        with_words: whether the users' own words are told.

    """

    name: SliceName
    model: ModelName
    users: IntArray
    history: sp.csr_matrix
    relevant: sp.csr_matrix
    masked: sp.csr_matrix
    candidates: IntArray
    query_rows: IntArray | None = None
    with_words: bool = True

    def block(self, start: int, stop: int) -> Slice:
        """The same for some of the users."""
        return replace(
            self, users=self.users[start:stop], history=self.history[start:stop],
            relevant=self.relevant[start:stop], masked=self.masked[start:stop],
            query_rows=None if self.query_rows is None else self.query_rows[start:stop],
        )  # fmt: skip


def load_training(layout: Layout, model: ModelName) -> Training:
    """What `model` may learn from, whole."""
    n_users, n_items = _count(layout, "users"), _count(layout, "items")
    texts = read_texts(layout.tables / "items", np.arange(n_items))
    return Training(
        read_pairs(layout.pairs(model, "user"), "user", 0, n_users, n_items),
        read_rows(layout.item_profiles(model), 0, n_items),
        read_rows(layout.own_profiles(model), 0, n_users),
        texts,
        read_exposure(layout, model, 0, n_items),
    )


def load_slices(layout: Layout, which: HeldOut, max_users: int) -> dict[SliceName, Slice]:
    """Every slice of one held-out set; of more than about `max_users` users a sample by row number.

    A slice may have no users. A user is in a slice when there is something to find among its candidates.
    """
    candidates = candidate_rows(layout)
    return _known_slices(layout, which, candidates, max_users) | _newcomer_slices(
        layout, which, candidates["all"], max_users
    )


def candidate_rows(layout: Layout) -> dict[str, IntArray]:
    """Who competes in each slice of known users, shuffled by id so that ties favour nobody."""
    roles = pq.read_table(layout.item_roles).column(0).to_pandas().to_numpy()
    ids = pq.read_table(layout.ids("items")).column(0).to_pandas().to_numpy(dtype=object)
    shuffled = np.argsort(hash_ids(ids), kind="stable")
    return {
        "cold": shuffled[roles[shuffled] == "cold"],
        "warm": shuffled[roles[shuffled] == "warm"],
        "all": shuffled,
    }


def _known_slices(
    layout: Layout, which: HeldOut, candidates: dict[str, IntArray], max_users: int
) -> dict[SliceName, Slice]:
    n_users, n_items = _count(layout, "users"), _count(layout, "items")
    found_df = pq.read_table(layout.relevant(which)).to_pandas()
    known = read_pairs(layout.pairs("train", "user"), "user", 0, n_users, n_items)
    known = known + read_pairs(layout.known(which), "user", 0, n_users, n_items)
    found_df = _sample(found_df, max_users)
    result: dict[SliceName, Slice] = {}
    for name in KNOWN_SLICES:
        rows_df = found_df if name == "all" else found_df[found_df["slice"] == name]
        users = np.unique(rows_df[USER_IDX].to_numpy())
        history = known[users]
        result[name] = Slice(
            name, "train", users, history, _ones(rows_df, users, n_items), history, candidates[name]
        )
    return result


def _newcomer_slices(
    layout: Layout, which: HeldOut, candidates: IntArray, max_users: int
) -> dict[SliceName, Slice]:
    n_users, n_items = _count(layout, "users"), _count(layout, "items")
    pairs_df = pq.read_table(layout.newcomers(which)).to_pandas()
    pairs_df = _sample(pairs_df, max_users)
    model: ModelName = read_json(layout.split_report)["newcomers_model"]
    to_find_df, known_df = pairs_df[pairs_df[PLACE] == TARGET], pairs_df[pairs_df[PLACE] != TARGET]
    n_known = np.bincount(known_df[USER_IDX].to_numpy(), minlength=n_users)
    everybody = np.unique(to_find_df[USER_IDX].to_numpy())
    writes = _has_text(layout, everybody) if len(everybody) else np.zeros(0, dtype=bool)
    query_of = _query_rows(layout, n_users)
    result: dict[SliceName, Slice] = {}
    for name in NEWCOMER_SLICES:
        n = int(name.removeprefix("revealed_")) if name.startswith("revealed_") else 0
        users = everybody[writes] if name == "text_only" else everybody[n_known[everybody] >= n]
        revealed_df = known_df[known_df[PLACE] < n]
        result[name] = Slice(
            name, model, users,
            _weights(revealed_df, users, n_items),
            _ones(to_find_df, users, n_items),
            _ones(known_df, users, n_items),  # the same for every n, or the curve would compare different tasks
            candidates,
            query_of[users] if name == "query_only" else None,
            with_words=name != "query_only",
        )  # fmt: skip
    return result


def ask(layout: Layout, part: Slice) -> Asked:
    """What the users of a slice, or of a block of it, tell."""
    n = len(part.users)
    width = read_rows(layout.item_profiles(part.model), 0, min(1, _count(layout, "items"))).shape[1]
    nothing, silent = np.zeros((n, width), dtype=np.float32), [""] * n
    own, own_texts = nothing, silent
    if part.with_words and n:
        own = _gather(layout.own_profiles(part.model), part.users)
        own_texts = read_texts(layout.tables / "users", part.users)
    if part.query_rows is None or not n:
        return Asked(part.history, own, nothing, own_texts, silent)
    queries = _gather(layout.query_profiles(part.model), part.query_rows)
    return Asked(part.history, own, queries, own_texts, read_texts(layout.queries, part.query_rows))


def _sample(pairs_df: pd.DataFrame, max_users: int) -> pd.DataFrame:
    """The pairs of all users or, where these are too many, of a share of them."""
    users = pairs_df[USER_IDX].to_numpy()
    return pairs_df[sampled(users, max_users / max(len(np.unique(users)), 1))]


def _gather(directory: Path, rows: IntArray) -> FloatArray:
    """Some rows of a matrix in parts; reads from the first to the last of them."""
    first = int(rows.min())
    return read_rows(directory, first, int(rows.max()) + 1)[rows - first]


def _has_text(layout: Layout, users: IntArray) -> npt.NDArray[np.bool_]:
    return np.array([bool(t) for t in read_texts(layout.tables / "users", users)], dtype=bool)


def _query_rows(layout: Layout, n_users: int) -> IntArray:
    """(U,) row of each user's query, -1 where there is none."""
    rows = np.full(n_users, -1, dtype=np.int64)
    start = 0
    for path in part_paths(layout.queries):
        users = pq.read_table(path, columns=[USER_IDX]).column(0).to_numpy()
        rows[users] = start + np.arange(len(users))
        start += len(users)
    return rows


def _weights(pairs_df: pd.DataFrame, users: IntArray, n_items: int) -> sp.csr_matrix:
    """(n, I) weights of the pairs of `users`; pairs of others are left out."""
    row = np.searchsorted(users, pairs_df[USER_IDX].to_numpy())
    mine = (row < len(users)) & (np.append(users, -1)[row] == pairs_df[USER_IDX].to_numpy())
    values = pairs_df[WEIGHT].to_numpy(dtype=np.float32)[mine]
    return sp.csr_matrix(
        (values, (row[mine], pairs_df[ITEM_IDX].to_numpy()[mine])), shape=(len(users), n_items)
    )


def _ones(pairs_df: pd.DataFrame, users: IntArray, n_items: int) -> sp.csr_matrix:
    return _weights(pairs_df.assign(**{WEIGHT: 1.0}), users, n_items)


def _count(layout: Layout, table: str) -> int:
    return int(pq.read_metadata(layout.ids(table)).num_rows)
