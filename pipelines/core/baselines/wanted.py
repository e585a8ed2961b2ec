"""What libraries that know only wanted pairs are given: known users, known items, and their texts.

Dimensions: U users and K items that training knows, I items, E text embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from pipelines.core.baselines.content import user_profiles
from pipelines.core.baselines.settings import BaselineSettings
from pipelines.core.scoring import Asked, FloatArray, IntArray, Training


@dataclass(frozen=True)
class KnownPart:
    """Training without the rows and columns that it has no pairs of.

    Attributes:
        items: (K,) rows of the known items among all.
        wanted: (U, K) weights above zero.
        item_profiles: (K, E) their texts.
        user_profiles: (U, E) P_u from own words and history, see `content.user_profiles`.

    """

    items: IntArray
    wanted: sp.csr_matrix
    item_profiles: FloatArray
    user_profiles: FloatArray


def known_part(training: Training, settings: BaselineSettings) -> KnownPart:
    """Leave out users and items without pairs: a library would take them for users who want nothing."""
    users, items = np.flatnonzero(np.diff(training.pairs.indptr)), np.flatnonzero(training.knows_item)
    pairs, own = training.pairs[users], training.own_profiles[users]
    nothing = [""] * len(users)
    profiles = user_profiles(
        Asked(pairs, own, np.zeros_like(own), nothing, nothing), training.item_profiles, settings
    )
    return KnownPart(items, sp.csr_matrix(wanted(pairs)[:, items]), training.item_profiles[items], profiles)


def wanted(weights: sp.csr_matrix) -> sp.csr_matrix:
    """The pairs above zero."""
    kept = sp.csr_matrix(weights, dtype=np.float32, copy=True)
    kept.data = np.maximum(kept.data, 0.0)
    kept.eliminate_zeros()
    return kept


def empty_rows(n: int, m: int) -> sp.csr_matrix:
    """(n, m) without a single entry."""
    nothing = np.zeros(0, dtype=np.float32)
    return sp.csr_matrix((nothing, nothing.astype(np.int32), np.zeros(n + 1, dtype=np.int32)), shape=(n, m))
