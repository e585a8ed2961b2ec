"""Popularity: the same list for everybody."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.core.baselines.settings import BaselineSettings
from pipelines.core.pairs import wanted_counts
from pipelines.core.scoring import Asked, FloatArray, IntArray, Training


@dataclass(frozen=True)
class PopularityScorer:
    """Counts of the wanted training pairs.

    Attributes:
        counts: (I,) 0 for items that training does not know.

    """

    counts: FloatArray

    def scores(self, asked: Asked, candidates: IntArray) -> FloatArray:
        """(n, m) the counts, once per user."""
        return np.tile(self.counts[candidates], (asked.history.shape[0], 1))


def fit(training: Training, settings: BaselineSettings, seed: int) -> PopularityScorer:  # noqa: ARG001
    """Count the pairs whose weight is above zero."""
    return PopularityScorer(wanted_counts(training.pairs.T.tocsr()))
