"""Regressions on vectors that do not move: what fine-tuning begins with, and what it has to beat."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.linear_model import LogisticRegressionCV, RidgeCV

from pipelines.core.finetune.examples import LABEL
from pipelines.core.schema import ITEM_IDX, USER_IDX

DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Folds = list[tuple[IntArray, IntArray]] | int

_RIDGES = np.logspace(0, 6, 13)
_INVERSE_PENALTIES = np.logspace(-5, 0, 6)
_FOLDS = 3
_LEAST_LABELS = 2
"""That a fold has; a regression of one label says nothing."""


class Line(NamedTuple):
    """features (n, F) @ weights (F,) + offset: numbers, or logits."""

    weights: DoubleArray
    offset: float

    def __call__(self, features: DoubleArray) -> DoubleArray:
        """(n,) what it says."""
        said: DoubleArray = features @ self.weights + self.offset
        return said


def fit_line(features: DoubleArray, labels: DoubleArray, folds: Folds, *, logistic: bool) -> Line:
    """Ridge regression of labels (n,), or a logistic one of 0 and 1; its penalty is chosen by `folds`."""
    if logistic:
        model = LogisticRegressionCV(
            Cs=_INVERSE_PENALTIES, cv=folds, scoring="neg_log_loss", l1_ratios=(0.0,),
            use_legacy_attributes=False, max_iter=200,
        ).fit(features, labels)  # fmt: skip
    else:
        model = RidgeCV(_RIDGES, cv=folds).fit(features, labels)
    return Line(np.ravel(model.coef_), float(np.ravel(model.intercept_)[0]))


def unseen_folds(rows: pa.Table) -> Folds:
    """Rows to learn from and to try on: of users and items that the others do not have; any rows where that leaves few.

    Folds of rows alone would choose a penalty for pairs whose user and item are known from other pairs.

    Args:
        rows: with user_idx, item_idx and label.

    """
    users, items, labels = (rows.column(c).to_numpy() for c in (USER_IDX, ITEM_IDX, LABEL))
    found = []
    for fold in range(_FOLDS):
        of_user, of_item = users % _FOLDS == fold, items % _FOLDS == fold
        learn, tried = np.flatnonzero(~of_user & ~of_item), np.flatnonzero(of_user & of_item)
        if min(len(np.unique(labels[learn])), len(np.unique(labels[tried]))) < _LEAST_LABELS:
            return _FOLDS
        found.append((learn, tried))
    return found
