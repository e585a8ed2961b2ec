"""Lists of items that are not all alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


def diversify(scores: FloatArray, vectors: FloatArray, n: int, weight: float) -> IntArray:
    """Places of n items, chosen one after the other by maximal marginal relevance (Carbonell and Goldstein 1998).

    Each time the one that is best by (1 - weight) * score - weight * its largest cosine with those chosen before.
    Scores are brought to 0..1 over the candidates first, for they have no unit.

    Args:
        scores: (c,) of the candidates, best first.
        vectors: (c, E) of the candidates.
        n: items to choose; all are, where there are fewer.
        weight: 0 leaves the order as it is, 1 looks at likeness alone, after the first.

    """
    count = min(n, len(scores))
    if weight <= 0 or count < 2:
        return np.arange(count)
    spread = float(scores[0] - scores.min()) or 1.0
    worth = (1.0 - weight) * (scores - scores.min()) / spread
    directions = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    likeness = np.full(len(scores), -np.inf)
    left = np.ones(len(scores), dtype=bool)
    chosen = [0]
    while len(chosen) < count:
        left[chosen[-1]] = False
        likeness = np.maximum(likeness, directions @ directions[chosen[-1]])
        chosen.append(int(np.argmax(np.where(left, worth - weight * likeness, -np.inf))))
    return np.array(chosen)
