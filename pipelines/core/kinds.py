"""Which kinds of events a user's history with an item is made of, as bits: what rules hide is asked by kind.

Bit 0 stands for rows without a kind, the others for the kinds of `data.event_weights` in the order of their names; what
is beyond the last bit shares it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.sparse as sp

from pipelines.core.schema import EVENT, ITEM_IDX, USER_IDX

KindArray = npt.NDArray[np.int64]
_LAST_BIT = 62


def kind_bits(kinds: Iterable[str]) -> dict[str | None, int]:
    """The bit of each kind, and of None."""
    return {None: 1} | {kind: 1 << min(n, _LAST_BIT) for n, kind in enumerate(sorted(kinds), 1)}


def hidden_bits(kinds: Iterable[str], hides: Callable[[str | None], bool]) -> int:
    """All bits of kinds that hide an item."""
    found = 0
    for kind, bit in kind_bits(kinds).items():
        found |= bit if hides(kind) else 0
    return found


def kinds_of_pairs(
    history: sp.csr_matrix, interactions: Iterable[pa.Table], kinds: Iterable[str]
) -> KindArray:
    """(p,) bits of each stored pair of `history`, users by items, indices sorted within a row.

    Args:
        history: (U, I).
        interactions: parts of the clean table, with `user_idx`, `item_idx` and `event`.
        kinds: that there are.

    """
    n_items, bits = history.shape[1], kind_bits(kinds)
    users = np.repeat(np.arange(history.shape[0], dtype=np.int64), np.diff(history.indptr))
    keys = users * n_items + history.indices
    found = np.zeros(len(keys), dtype=np.int64)
    if not len(keys):
        return found
    for part in interactions:
        coded = part.column(EVENT).combine_chunks().dictionary_encode()
        of_kind = np.array([*(bits.get(kind, 1) for kind in coded.dictionary.to_pylist()), 1], dtype=np.int64)
        row_bits = of_kind[coded.indices.fill_null(len(of_kind) - 1).to_numpy(zero_copy_only=False)]
        wanted = part.column(USER_IDX).to_numpy() * n_items + part.column(ITEM_IDX).to_numpy()
        places = np.searchsorted(keys, wanted)
        is_there = keys[np.minimum(places, len(keys) - 1)] == wanted
        np.bitwise_or.at(found, places[is_there], row_bits[is_there])
    return found
