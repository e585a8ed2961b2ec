"""What needs no fine-tuning, on the same rows: the mean of training, and a regression on frozen embeddings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.special import logit
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipelines.core.blend import normalize
from pipelines.core.finetune.calibration import DoubleArray
from pipelines.core.finetune.examples import HISTORY, LABEL
from pipelines.core.finetune.pairwise import Pairwise, Purchase, labels_of
from pipelines.core.schema import ITEM_IDX, USER_IDX

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

_RIDGES = np.logspace(0, 6, 13)
_INVERSE_PENALTIES = np.logspace(-5, 0, 6)
_FOLDS = 3
_LEAST_LABELS = 2
"""That a fold has; a regression of one label says nothing."""
_MOST_ROWS = 20_000
"""To learn from; a few hundred coefficients need no more."""


def baselines(
    objective: Pairwise,
    train: pa.Table,
    rows: pa.Table,
    item_vectors: FloatArray,
    user_vectors: FloatArray | None = None,
) -> dict[str, DoubleArray]:
    """Outputs (n,) for `rows`, as `objective.figures` reads them: of "mean" and of "content".

    Content is a ridge regression, or a logistic one for purchases, on the embeddings of user and item and their cosine;
    its penalty is chosen by cross-validation on users and items that are both unseen, as those of `rows` are. The user
    is the mean of what they say and of what they liked.

    Args:
        objective: a rating or a purchase.
        train: to learn from, as `rows`.
        rows: with user_idx, item_idx, label and history.
        item_vectors: (I, E) of the encoder as it is, of length 1.
        user_vectors: (U, E) of what users say; zeros where they say nothing.

    """
    labels = labels_of(train)
    features = _features(rows, item_vectors, user_vectors)
    given = _features(train.slice(0, _MOST_ROWS), item_vectors, user_vectors)
    own = labels[: len(given)]
    folds = _folds(train.slice(0, _MOST_ROWS))
    if isinstance(objective, Purchase):
        mean = logit(labels.mean())
        model = LogisticRegressionCV(
            Cs=_INVERSE_PENALTIES, cv=folds, scoring="neg_log_loss", l1_ratios=(0.0,),
            use_legacy_attributes=False, max_iter=200,
        )  # fmt: skip
        content = make_pipeline(StandardScaler(), model).fit(given, own).decision_function(features)
    else:
        mean = labels.mean()
        content = (
            make_pipeline(StandardScaler(), RidgeCV(_RIDGES, cv=folds)).fit(given, own).predict(features)
        )
    return {"mean": np.full(len(rows), mean), "content": content}


def _folds(rows: pa.Table) -> list[tuple[IntArray, IntArray]] | int:
    """Rows to learn from and to try on: of users and items that the others do not have; any rows where that leaves few.

    Folds of rows alone would choose a penalty for pairs whose user and item are known from other pairs.
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


def _features(rows: pa.Table, item_vectors: FloatArray, user_vectors: FloatArray | None) -> DoubleArray:
    """(n, 2E + 1) user, item, cosine."""
    users = np.zeros((len(rows), item_vectors.shape[1]), dtype=np.float32)
    if user_vectors is not None:
        users += user_vectors[rows.column(USER_IDX).to_numpy()]
    histories = rows.column(HISTORY).combine_chunks()
    of_row = np.repeat(np.arange(len(rows)), histories.value_lengths().to_numpy())
    np.add.at(users, of_row, item_vectors[histories.flatten().to_numpy()])
    users = normalize(users)
    items = item_vectors[rows.column(ITEM_IDX).to_numpy()]
    return np.hstack([users, items, (users * items).sum(axis=1, keepdims=True)]).astype(np.float64)
