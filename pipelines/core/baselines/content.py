"""Content: how near an item's text is to the texts of what the user liked, and to what they wrote.

Dimensions: n users of a block, m candidates, I items, E text embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.core import blend
from pipelines.core.baselines.settings import BaselineSettings
from pipelines.core.pairs import signs
from pipelines.core.scoring import Asked, FloatArray, IntArray, Training


def user_profiles(asked: Asked, item_profiles: FloatArray, settings: BaselineSettings) -> FloatArray:
    """P_u (n, E) = (own_text_items * own words + query_items * query + signed history) / (1 + n_history)^power.

    A dislike takes its item's text away. The arithmetic is the model's own, see `blend.profiles`.
    """
    words = settings.own_text_items * asked.own_profiles + settings.query_items * asked.queries
    return blend.profiles(signs(asked.history), item_profiles, words, 1.0, settings.history_power)


@dataclass(frozen=True)
class ContentScorer:
    """Nearest texts.

    Attributes:
        item_profiles: (I, E).
        settings: weights of words and query, power of the history.

    """

    item_profiles: FloatArray
    settings: BaselineSettings

    def scores(self, asked: Asked, candidates: IntArray) -> FloatArray:
        """(n, m) P_u . P_i."""
        return user_profiles(asked, self.item_profiles, self.settings) @ self.item_profiles[candidates].T


def fit(training: Training, settings: BaselineSettings, seed: int) -> ContentScorer:  # noqa: ARG001
    """Nothing is learnt beyond the mean that the profiles are centred on already."""
    return ContentScorer(training.item_profiles, settings)
