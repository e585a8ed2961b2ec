"""The fitted model as arrays: whom it is asked for is folded in, known or not, and items are ranked by one product.

Dimensions: n users asked for, I items, F factors, E profile, D = E + 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from pipelines.core import als, blend
from pipelines.core.alternate import Here, SideState, alternate, begin, first_factors, place_cold
from pipelines.core.config import BlendConfig, FactorizeConfig
from pipelines.core.pairs import row_shard, signs
from pipelines.core.scoring import Asked, IntArray, Training
from pipelines.core.shards import item_shard, user_shard

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FittedModel:
    """A `Scorer`.

    Attributes:
        item_factors: (I, F); of an item without interactions, what its text predicts.
        item_profiles: (I, E).
        item_evidence: (I,) interactions.
        user_map: (D, F) A, times `text_weight`.
        item_gramian: (F, F) of the items with interactions.
        factorize: settings of the fit.
        blending: how the parts of a score add up.

    """

    item_factors: FloatArray
    item_profiles: FloatArray
    item_evidence: npt.NDArray[np.int64]
    user_map: FloatArray
    item_gramian: npt.NDArray[np.float64]
    factorize: FactorizeConfig
    blending: BlendConfig

    def user_vectors(self, asked: Asked) -> FloatArray:
        """(n, F + E) [x ; sqrt(gamma) P_u] from the text's prediction and the exact solve of each history."""
        words = (
            np.float32(self.blending.own_text_items) * asked.own_profiles
            + np.float32(self.blending.query_items) * asked.queries
        )
        history = asked.history
        liked = signs(history, self.blending.unwanted_items)
        profile = blend.profiles(liked, self.item_profiles, words, 1.0, self.blending.history_power)
        features = blend.features(profile)
        shard = row_shard(history, 0, features, features[:, :0], self.factorize.alpha)
        settings, evidence = self.factorize, shard.evidence
        predicted = features @ self.user_map
        solved = als.solve_rows(
            shard,
            self.item_factors,
            self.item_gramian,
            als.prior_share(evidence, settings.user_text_fade)[:, None] * predicted,
            als.row_regularization(evidence, settings.user_regularization, settings.user_frequency_power),
        )
        return blend.blend(als.fill_cold(solved, evidence, predicted), profile, self.blending.gamma)

    def scores(self, asked: Asked, candidates: IntArray) -> FloatArray:
        """(n, m) scores of the candidates; the history is not masked."""
        items = blend.item_vectors(
            self.item_factors[candidates],
            self.item_profiles[candidates],
            self.item_evidence[candidates],
            self.blending,
        )
        return np.asarray(self.user_vectors(asked) @ items.T, dtype=np.float32)


def fit(
    training: Training,
    item_hashes: npt.NDArray[np.uint64],
    factorize: FactorizeConfig,
    blending: BlendConfig,
    on_pass: Callable[[int, FittedModel], None] | None = None,
) -> FittedModel:
    """Fit in this process, one shard a side; the same numbers as the stage's to rounding.

    Args:
        training: what may be learnt from.
        item_hashes: (I,) `hash_ids` of the item ids, which the first factors are drawn by.
        factorize: settings of the fit.
        blending: how a profile adds up.
        on_pass: given the number of each pass, from 1, and the model as it would be then; may raise to stop.

    """
    by_item = training.pairs.T.tocsr()
    by_item.sort_indices()
    items, gram, item_gram = item_shard(by_item, training.item_profiles, 0, factorize, training.item_exposure)
    users, own_gram = user_shard(
        training.pairs, training.item_profiles, training.own_profiles, 0, factorize, blending
    )
    runner, n_factors = Here(), factorize.n_factors
    item_start = first_factors(item_hashes, items.evidence, factorize)
    user_start = np.zeros((users.n_rows, n_factors), dtype=np.float32)
    evidence = items.evidence.astype(np.int64)

    def snapshot(user_side: SideState, item_side: SideState) -> FittedModel:
        scale = np.float32(factorize.text_weight)
        factors = als.fill_cold(
            item_side.factors[0], items.evidence, scale * (items.features @ item_side.text_map)
        )
        return FittedModel(
            factors,
            training.item_profiles,
            evidence,
            scale * user_side.text_map,
            item_side.gramian,
            factorize,
            blending,
        )

    def after_pass(number: int, user_side: SideState, item_side: SideState) -> None:
        if on_pass is not None:
            on_pass(number, snapshot(user_side, place_cold(item_side, factorize, runner)))

    fitted = alternate(
        begin("user", [users], [user_start], gram + own_gram, n_factors, runner),
        begin("item", [items], [item_start], item_gram, n_factors, runner),
        factorize, runner, after_pass,
    )  # fmt: skip
    return snapshot(*fitted)


def asked_of(history: sp.csr_matrix, own_profiles: FloatArray) -> Asked:
    """The question of users with a history and own words, and without a query."""
    n = history.shape[0]
    return Asked(history, own_profiles, np.zeros_like(own_profiles), [""] * n, [""] * n)
