"""What every model, ours or a baseline, is given and asked: the contract of the evaluation.

Dimensions: U users and I items of training, n users of one block, m candidates, E text embedding.

A model is fitted on a `Training` and becomes a `Scorer`, which answers an `Asked`. Nothing else passes between
them, so that all models see the same pairs, the same texts and the same masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Training:
    """Everything a model may learn from.

    Attributes:
        pairs: (U, I) weights; below zero where the user is known not to want the item. Rows and columns
            without entries are users and items that training does not know.
        item_profiles: (I, E) item texts as centred vectors of length 1, zero where there is no text. Rows of
            items unknown to training may be read to score them, never to fit anything.
        own_profiles: (U, E) the users' own words likewise.
        item_texts: (I,) the texts themselves, for models that count words.
        item_exposure: (I,) see `pipelines.core.exposure`; absent where nothing is known of it, or it is not to count.

    """

    pairs: sp.csr_matrix
    item_profiles: FloatArray
    own_profiles: FloatArray
    item_texts: Sequence[str]
    item_exposure: FloatArray | None = None

    @property
    def knows_item(self) -> BoolArray:
        """(I,) items with pairs."""
        return np.bincount(self.pairs.indices, minlength=self.pairs.shape[1]) > 0


@dataclass(frozen=True)
class Asked:
    """A block of users to rank items for; none of them need be known to training.

    Attributes:
        history: (n, I) weights of what each did; empty rows are users without history.
        own_profiles: (n, E) their own words, centred, zero where there are none.
        queries: (n, E) what they typed, centred, zero where they typed nothing.
        own_texts: (n,) the own words themselves, "" where there are none.
        query_texts: (n,) the queries themselves.

    """

    history: sp.csr_matrix
    own_profiles: FloatArray
    queries: FloatArray
    own_texts: Sequence[str]
    query_texts: Sequence[str]


class Scorer(Protocol):
    """A fitted model. Picklable: it travels to the tasks that rank."""

    def scores(self, asked: Asked, candidates: IntArray) -> FloatArray:
        """(n, m) scores of the candidate rows, higher is better; the history is not masked here."""
