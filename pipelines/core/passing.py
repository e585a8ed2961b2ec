"""What a user was shown and passed over: it says a little of what they do not want.

A row solve takes an item that was shown and not touched for one that nobody has seen: a zero of confidence 1. It was
looked at, so its zero is surer: c = 1 + weight * looks. A policy that shows the best items learns nothing from a list
without this, and shows it again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipelines.core.foldin import Profile

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """What a user's row is solved from, see `foldin.fold_in`: n events."""

    profile: Profile
    factors: FloatArray
    confidences: FloatArray
    gramian: DoubleArray


def looks(n: int, first_rank: int = 1) -> DoubleArray:
    """(n,) how likely a place is looked at, beginning with `first_rank`: as DCG discounts places."""
    return np.asarray(1.0 / np.log2(1.0 + first_rank + np.arange(n)))


def with_passed(evidence: Evidence, factors: FloatArray, looked: DoubleArray, weight: float) -> Evidence:
    """The same user, of whom it is also known what they passed over.

    The profile stays: to pass over an item is not to dislike its text. Of a user without events the text's prediction
    is not solved against all items, and what they passed over does not change that.

    Args:
        evidence: of their events.
        factors: (p, F) of items that were shown and are not among the events.
        looked: (p,) how often each was looked at, see `looks`.
        weight: how much a look counts.

    """
    gramian = evidence.gramian if len(evidence.confidences) else np.zeros_like(evidence.gramian)
    if not len(looked) or weight <= 0:
        return replace(evidence, gramian=gramian)
    nothing = np.zeros((len(looked), evidence.profile.events.shape[1]))
    return Evidence(
        Profile(evidence.profile.words, np.concatenate([evidence.profile.events, nothing])),
        np.concatenate([evidence.factors, factors]),
        np.concatenate([evidence.confidences, -(1.0 + weight * looked)]).astype(np.float32),
        gramian,
    )
