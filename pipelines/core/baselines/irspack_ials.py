"""`irspack`'s feature-aware iALS: the nearest relative of the model, with regularization scaled by evidence.

Dimensions: U users and K items that training knows, I items, E text embedding, F factors, n users of a block,
m candidates.

    sum_S w (x_u . y_i - 1)^2 + alpha0 sum_all (x_u . y_i)^2
      + reg sum_u (N_u + alpha0 K)^nu |x_u - A f_u|^2 + reg sum_i (N_i + alpha0 U)^nu |y_i - B g_i|^2 + ridge (A, B)

Rendle et al. 2021, "Revisiting the performance of iALS on item recommendation benchmarks"; the features are
irspack's own, called experimental there. They are what the model is given too: an item's text; of a user the
direction of the text profile, own words and what they liked; each with a constant 1. Text alone decides where
nothing was done: A f and B g as they are, which measured better than the library's other offer, a solve against
"nobody wanted it". irspack knows no unwanted pairs: they are left out, but for the profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from pipelines.core import blend
from pipelines.core.baselines.content import user_profiles
from pipelines.core.baselines.libraries import load
from pipelines.core.baselines.none import ZeroScorer
from pipelines.core.baselines.settings import BaselineSettings
from pipelines.core.baselines.wanted import KnownPart, known_part, wanted
from pipelines.core.scoring import Asked, FloatArray, IntArray, Scorer, Training


@dataclass(frozen=True)
class IrspackScorer:
    """Factors of irspack, whose own solver folds users in.

    Attributes:
        items: (K,) rows of the items that training knows, the library's columns.
        item_factors: (I, F) fitted for known items, B g_i for the others.
        item_profiles: (I, E) to make the profile of a user.
        trainer: irspack's IALSTrainer; pickled, it is the factors, the maps and the solver's settings.
        settings: weights of words and query, power of the history.

    """

    items: IntArray
    item_factors: FloatArray
    item_profiles: FloatArray
    trainer: Any
    settings: BaselineSettings

    def scores(self, asked: Asked, candidates: IntArray) -> FloatArray:
        """(n, m) x_u . y_i; x_u = A f_u where the user wanted nothing that training knows."""
        if not asked.history.shape[0]:
            return np.zeros((0, len(candidates)), dtype=np.float32)
        history = sp.csr_matrix(wanted(asked.history)[:, self.items])
        features = blend.features(user_profiles(asked, self.item_profiles, self.settings))
        solved = self.trainer.transform_user(history, user_features=features)
        from_text = self.trainer.transform_user_feature(features)
        factors = np.where(np.diff(history.indptr)[:, None] > 0, solved, from_text)
        return np.asarray(factors @ self.item_factors[candidates].T, dtype=np.float32)


def fit(training: Training, settings: BaselineSettings, seed: int) -> Scorer:
    """Fit on the wanted pairs of known users and items; the other items get B g.

    Raises:
        ImportError: irspack is not installed.

    """
    part = known_part(training, settings)
    if not part.wanted.nnz:
        return ZeroScorer()
    trainer = _trained(part, settings, seed)
    features = blend.features(training.item_profiles)
    item_factors = np.array(trainer.transform_item_feature(features), dtype=np.float32)
    item_factors[part.items] = trainer.core_trainer.item
    return IrspackScorer(part.items, item_factors, training.item_profiles, trainer, settings)


def _trained(part: KnownPart, settings: BaselineSettings, seed: int) -> Any:  # noqa: ANN401 - the library has no types
    recommender = load("irspack.recommenders.ials").IALSRecommender(
        part.wanted.astype(np.float64), n_components=settings.n_factors, alpha0=settings.irspack_alpha0,
        reg=settings.irspack_reg, nu=settings.irspack_nu, loss_type="IALSPP", solver_type="CG",
        user_features=blend.features(part.user_profiles), item_features=blend.features(part.item_profiles),
        lambda_user_feature=settings.irspack_user_ridge, lambda_item_feature=settings.irspack_item_ridge,
        random_seed=seed, n_threads=settings.n_threads,
    )  # fmt: skip
    recommender.start_learning()  # and not learn(), which prints a bar
    for _ in range(settings.irspack_epochs):
        recommender.run_epoch()
    return recommender.trainer
