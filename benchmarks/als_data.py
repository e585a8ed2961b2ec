"""The generated catalogue of `als.py`: tastes and kinds of items in 24 dimensions, Zipf items, log-normal users.

Texts of 384 dimensions are a noisy linear image of the kinds, so that they predict a part of behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from pipelines.core import als, blend

FloatArray = npt.NDArray[np.float32]
ALPHA = 15.0
N_TEXT, N_TASTE = 384, 24


@dataclass(frozen=True)
class Data:
    """Training pairs (U, I) by user and by item, held-out pairs, item profiles (I, 384)."""

    train: sp.csr_matrix
    by_item: sp.csr_matrix
    held_out: sp.csr_matrix
    profiles: FloatArray


def generate(n_users: int, n_items: int, n_pairs: int, seed: int = 0) -> Data:
    """Pairs drawn by activity times popularity, kept by affinity; 2 % held out."""
    rng = np.random.default_rng(seed)
    taste, kind = (
        blend.normalize(rng.standard_normal((n, N_TASTE), dtype=np.float32)) for n in (n_users, n_items)
    )
    popularity = np.cumsum(rng.permutation(np.arange(1, n_items + 1) ** -0.8))
    activity = rng.lognormal(0, 1, n_users)
    keys = np.zeros(0, dtype=np.int64)
    while len(keys) < n_pairs:
        n = 2 * n_pairs
        u = np.repeat(np.arange(n_users), rng.multinomial(n, activity / activity.sum()))
        i = np.minimum(np.searchsorted(popularity, rng.random(n) * popularity[-1]), n_items - 1)
        kept = np.zeros(n, dtype=bool)
        for at in range(0, n, 1 << 20):
            block = slice(at, at + (1 << 20))
            affinity = np.einsum("nk,nk->n", taste[u[block]], kind[i[block]]) * np.sqrt(N_TASTE)
            kept[block] = rng.random(len(affinity)) < np.exp(1.5 * (np.minimum(affinity, 1.5) - 1.5))
        keys = np.unique(np.concatenate([keys, u[kept] * n_items + i[kept]]))
    keys = rng.permutation(keys)[:n_pairs]
    cut = n_pairs // 50
    held_out, train = (_csr(np.sort(part), n_users, n_items) for part in (keys[:cut], keys[cut:]))
    by_item = train.T.tocsr()
    by_item.sort_indices()
    noise = rng.standard_normal((n_items, N_TEXT), dtype=np.float32)
    image = kind @ rng.standard_normal((N_TASTE, N_TEXT), dtype=np.float32) + noise
    return Data(train, by_item, held_out, blend.normalize(image.astype(np.float32)))


def _csr(keys: npt.NDArray[np.int64], n_users: int, n_items: int) -> sp.csr_matrix:
    ones = np.ones(len(keys), dtype=np.float32)
    return sp.csr_matrix((ones, (keys // n_items, keys % n_items)), shape=(n_users, n_items))


def confident(pairs: sp.csr_matrix) -> sp.csr_matrix:
    """C of wanted pairs."""
    return sp.csr_matrix((als.confidences(pairs.data, ALPHA), pairs.indices, pairs.indptr), pairs.shape)


def recall(x: FloatArray, y: FloatArray, data: Data, n_asked: int = 2000) -> float:
    """Recall@20 of held-out pairs, mean over the first users that have any."""
    asked = np.flatnonzero(np.diff(data.held_out.indptr))[:n_asked]
    total = 0.0
    for at in range(0, len(asked), 250):
        users = asked[at : at + 250]
        scores = x[users] @ y.T
        for row, user in enumerate(users):
            scores[row, data.train[user].indices] = -np.inf
        top = np.argpartition(-scores, 20, axis=1)[:, :20]
        for row, user in enumerate(users):
            wanted = data.held_out[user].indices
            total += np.isin(wanted, top[row]).sum() / len(wanted)
    return total / len(asked)
