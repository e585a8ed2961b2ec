"""`cmfrec`'s collective factorization of implicit feedback: the factors must also explain the texts.

Dimensions: U users and K items that training knows, I items, E text embedding, F factors, n users of a block,
m candidates.

    sum_all c_ui (p_ui - x_u . y_i)^2 + w_user |T_u - C x_u|^2 + w_item |T_i - D y_i|^2 + lambda (all)^2

with c = 1 + alpha w (Cortes 2018, "Cold-start recommendations in collective matrix factorization"). Texts are the
dependent side here, where the model and irspack have them as the independent one. T_i is an item's text, T_u
the direction of the user's text profile, own words and what they liked; no text is a missing row.
cmfrec knows no unwanted pairs: they are left out, but for the profile.
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
from pipelines.core.baselines.wanted import empty_rows, known_part, wanted
from pipelines.core.scoring import Asked, FloatArray, IntArray, Scorer, Training


@dataclass(frozen=True)
class CmfrecScorer:
    """Factors of cmfrec, which itself answers users with a history, with text, or with both.

    Attributes:
        items: (K,) rows of the items that training knows, the library's columns.
        item_factors: (I, F) fitted for known items, from the text for the others, zero without text.
        item_profiles: (I, E) to make the profile of a user.
        model: cmfrec's CMF_implicit, whose state is arrays and numbers.
        reads_users: whether it was fitted with the users' texts.
        settings: weights of words and query, power of the history.

    """

    items: IntArray
    item_factors: FloatArray
    item_profiles: FloatArray
    model: Any
    reads_users: bool
    settings: BaselineSettings

    def scores(self, asked: Asked, candidates: IntArray) -> FloatArray:
        """(n, m) x_u . y_i; 0 for a user with neither a history that training knows nor text."""
        if not asked.history.shape[0]:
            return np.zeros((0, len(candidates)), dtype=np.float32)
        history = sp.csr_matrix(wanted(asked.history)[:, self.items])
        profiles = user_profiles(asked, self.item_profiles, self.settings)
        factors = self.model.factors_multiple(X=history, U=_texts(profiles) if self.reads_users else None)
        return np.asarray(np.nan_to_num(factors) @ self.item_factors[candidates].T, dtype=np.float32)


def fit(training: Training, settings: BaselineSettings, seed: int) -> Scorer:
    """Fit on the wanted pairs of known users and items; the other items are folded in from their text.

    Raises:
        ImportError: cmfrec is not installed.

    """
    part = known_part(training, settings)
    if not part.wanted.nnz:
        return ZeroScorer()
    reads_users, reads_items = bool(part.user_profiles.any()), bool(part.item_profiles.any())
    model = load("cmfrec").CMF_implicit(
        k=settings.n_factors, lambda_=settings.cmfrec_lambda, alpha=settings.cmfrec_alpha,
        w_user=settings.cmfrec_w_user, w_item=settings.cmfrec_w_item, niter=settings.cmfrec_iterations,
        use_float=True, verbose=False, handle_interrupt=False, random_state=seed, nthreads=settings.n_threads,
    )  # fmt: skip
    model.fit(
        part.wanted.tocoo(),
        U=_texts(part.user_profiles) if reads_users else None,
        I=_texts(part.item_profiles) if reads_items else None,
    )
    item_factors = np.zeros((len(training.item_profiles), model.B_.shape[1]), dtype=np.float32)
    item_factors[part.items] = model.B_
    unknown = np.flatnonzero(~training.knows_item & training.item_profiles.any(axis=1))
    if reads_items and len(unknown):
        # as item_factors_cold, all at once: items become the rows, and these have no pairs
        no_pairs = empty_rows(len(unknown), part.wanted.shape[0])
        swapped = model.swap_users_and_items()
        item_factors[unknown] = swapped.factors_multiple(
            X=no_pairs, U=_texts(training.item_profiles[unknown])
        )
    return CmfrecScorer(part.items, item_factors, training.item_profiles, model, reads_users, settings)


def _texts(profiles: FloatArray) -> FloatArray:
    """Directions of profiles; a row without text is missing, not zero."""
    has_text = profiles.any(axis=1, keepdims=True)
    return np.where(has_text, blend.normalize(profiles), np.float32(np.nan)).astype(np.float32)
