"""From pairs and profiles to the shards that are solved, and their shares of the maps' regressions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from pipelines.core import als, blend
from pipelines.core.als import RowShard
from pipelines.core.config import BlendConfig, FactorizeConfig
from pipelines.core.pairs import row_shard, signs, text_sums, wanted_counts

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]


def item_shard(
    weights: sp.csr_matrix, profile: FloatArray, start: int, settings: FactorizeConfig,
    exposure: FloatArray | None = None,
) -> tuple[RowShard, DoubleArray, DoubleArray]:  # fmt: skip
    """Rows of items.

    Args:
        weights: (n, U) pairs.
        profile: (n, E) their profiles.
        start: number of the first row.
        settings: alpha, the power of the evidence and that of the exposure.
        exposure: (n,) see `core.exposure`; absent where nothing is known of it.

    Returns:
        The shard; its share of G'WG (D, D) for the users' map, where an item counts once per user who wants it;
        and that for the items' map, where the count is taken to `evidence_power`.

    """
    features = blend.features(profile)
    counts = wanted_counts(weights)
    weighed = np.where(counts > 0, counts**settings.evidence_power, 0.0).astype(np.float32)
    shard = row_shard(weights, start, features, features * weighed[:, None], settings.alpha)
    if exposure is not None and settings.exposure_power:
        shard = replace(shard, exposure=exposure ** np.float32(settings.exposure_power))
    by_count = als.map_gram(features, counts)
    return shard, by_count, by_count if settings.evidence_power == 1 else als.map_gram(features, weighed)


def user_shard(
    weights: sp.csr_matrix, item_profiles: FloatArray, own: FloatArray, start: int, settings: FactorizeConfig,
    blending: BlendConfig,
) -> tuple[RowShard, DoubleArray]:  # fmt: skip
    """Rows of users with features from own words and liked items, and the own words' share of F'WF.

    Args:
        weights: (n, I) pairs.
        item_profiles: (I, E).
        own: (n, E) profiles of own words, zero rows where there are none.
        start: number of the first row.
        settings: alpha.
        blending: how a profile adds up.

    """
    liked = signs(weights, blending.unwanted_items)
    profile = blend.profiles(liked, item_profiles, own, blending.own_text_items, blending.history_power)
    own_features = blend.own_features(own)
    sums = text_sums(weights, blend.features(item_profiles), own_features)
    shard = row_shard(weights, start, blend.features(profile), sums, settings.alpha)
    return shard, als.map_gram(own_features, wanted_counts(weights))
