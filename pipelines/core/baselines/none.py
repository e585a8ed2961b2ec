"""The answer of a model that had nothing to learn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.core.scoring import Asked, FloatArray, IntArray


@dataclass(frozen=True)
class ZeroScorer:
    """No preference."""

    def scores(self, asked: Asked, candidates: IntArray) -> FloatArray:
        """(n, m) zeros."""
        return np.zeros((asked.history.shape[0], len(candidates)), dtype=np.float32)
