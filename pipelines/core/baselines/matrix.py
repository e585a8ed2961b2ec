"""Plain implicit ALS, and the same with text regressed on afterwards: what the model is without its prior.

Dimensions: U users, I items, F factors, n users of a block, m candidates, D text features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from implicit.recommender_base import ModelFitError
from threadpoolctl import threadpool_limits

from pipelines.core import als, blend
from pipelines.core.baselines.content import user_profiles
from pipelines.core.baselines.settings import BaselineSettings
from pipelines.core.errors import ConfigError
from pipelines.core.pairs import row_shard, text_sums, wanted_counts
from pipelines.core.scoring import Asked, BoolArray, FloatArray, IntArray, Training


@dataclass(frozen=True)
class AlsScorer:
    """Factors of `implicit`; every user, known or not, is solved for from their history.

    That solve is the half step that the fit would make next, so a known user is answered as by the library.

    Attributes:
        item_factors: (I, F) zero for items that training does not know.
        gramian: (F, F) of them.
        settings: alpha and the regularization.

    """

    item_factors: FloatArray
    gramian: als.DoubleArray
    settings: BaselineSettings

    def user_factors(self, history: sp.csr_matrix) -> FloatArray:
        """(n, F) exact fold-in; zero for an empty history."""
        none = np.zeros((history.shape[0], 1), dtype=np.float32)
        shard = row_shard(history, 0, none, none, self.settings.als_alpha)
        prior = np.zeros((history.shape[0], self.item_factors.shape[1]), dtype=np.float32)
        try:
            return als.solve_rows(
                shard, self.item_factors, self.gramian, prior, self.settings.als_regularization,
                num_threads=self.settings.n_threads,
            )  # fmt: skip
        except ConfigError as e:
            raise _unfit(e) from e

    def scores(self, asked: Asked, candidates: IntArray) -> FloatArray:
        """(n, m) x_u . y_i; 0 for a user without history and for an item that training does not know."""
        return self.user_factors(asked.history) @ self.item_factors[candidates].T


@dataclass(frozen=True)
class AlsTextScorer:
    """ALS for what has behaviour, the maps from text for what has none.

    Attributes:
        hot: plain ALS.
        knows_item: (I,) items with pairs.
        item_factors: (I, F) of ALS for known items, B g_i for the others.
        item_profiles: (I, E) to make the profile of a user without history.
        user_map: (E + 1, F) A.

    """

    hot: AlsScorer
    knows_item: BoolArray
    item_factors: FloatArray
    item_profiles: FloatArray
    user_map: FloatArray

    def scores(self, asked: Asked, candidates: IntArray) -> FloatArray:
        """(n, m) x_u . y_i; x_u = A f_u where the user did nothing with an item that training knows."""
        history = known_history(asked.history, self.knows_item)
        from_text = (
            blend.features(user_profiles(asked, self.item_profiles, self.hot.settings)) @ self.user_map
        )
        factors = als.fill_cold(self.hot.user_factors(history), np.diff(history.indptr), from_text)
        return factors @ self.item_factors[candidates].T


def fit_als(training: Training, settings: BaselineSettings, seed: int) -> AlsScorer:
    """Fit `implicit` on the confidences 1 + alpha |w|; a dislike is a sure 0, as the library has it.

    Raises:
        ConfigError: the row solves fail at this regularization and alpha.

    """
    n_items = training.pairs.shape[1]
    item_factors = np.zeros((n_items, settings.n_factors), dtype=np.float32)
    if training.pairs.nnz:
        pairs = sp.csr_matrix(training.pairs, dtype=np.float32, copy=True)
        pairs.data = als.confidences(pairs.data, settings.als_alpha)
        with threadpool_limits(1, "blas"):
            model = AlternatingLeastSquares(
                factors=settings.n_factors, regularization=settings.als_regularization, alpha=1.0,
                iterations=settings.iterations, use_cg=False, use_native=True,
                num_threads=settings.n_threads, random_state=seed,
            )  # fmt: skip
            try:
                model.fit(pairs, show_progress=False)
            except (ValueError, ModelFitError) as e:
                raise _unfit(e) from e
        item_factors[training.knows_item] = model.item_factors[training.knows_item]
    return AlsScorer(item_factors, als.gramian(item_factors), settings)


def fit_als_text(training: Training, settings: BaselineSettings, seed: int) -> AlsTextScorer:
    """Plain ALS, then a ridge regression of its factors on text, each row weighted by its wanted pairs.

    The user map sees one text at a time, as the model's does (`als.map_cross`): the items a user wanted and
    their own words, each against the whole factor.
    """
    hot = fit_als(training, settings, seed)
    known, pairs = training.knows_item, training.pairs
    items, own = blend.features(training.item_profiles), blend.own_features(training.own_profiles)
    item_counts, user_counts = wanted_counts(pairs.T.tocsr()), wanted_counts(pairs)
    gram = als.map_gram(items, item_counts)
    item_cross = (items.astype(np.float64) * item_counts[:, None]).T @ hot.item_factors
    user_cross = text_sums(pairs, items, own).T.astype(np.float64) @ hot.user_factors(pairs)
    item_map = als.ridge_map(gram, item_cross, settings.als_text_ridge)
    user_map = als.ridge_map(gram + als.map_gram(own, user_counts), user_cross, settings.als_text_ridge)
    item_factors = als.fill_cold(hot.item_factors, known.astype(np.int32), items @ item_map)
    return AlsTextScorer(hot, known, item_factors, training.item_profiles, user_map)


def known_history(history: sp.csr_matrix, knows_item: BoolArray) -> sp.csr_matrix:
    """(n, I) the history without items that training does not know."""
    known = sp.csr_matrix(history, copy=True)
    known.data = np.where(knows_item[known.indices], known.data, 0.0).astype(np.float32)
    known.eliminate_zeros()
    return known


def _unfit(error: Exception) -> ConfigError:
    return ConfigError(
        f"the baseline 'als' cannot be fitted ({error}): raise evaluate.als_regularization, lower "
        "evaluate.als_alpha, or leave 'als' and 'als_text' out of evaluate.baselines."
    )
