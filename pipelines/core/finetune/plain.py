"""What needs no fine-tuning, on the same rows: the mean of training, and a regression on frozen embeddings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.special import logit
from sklearn.preprocessing import StandardScaler

from pipelines.core.blend import normalize
from pipelines.core.finetune.calibration import DoubleArray
from pipelines.core.finetune.examples import HISTORY
from pipelines.core.finetune.linear import fit_line, unseen_folds
from pipelines.core.finetune.pairwise import Pairwise, Purchase, labels_of
from pipelines.core.schema import ITEM_IDX, USER_IDX

FloatArray = npt.NDArray[np.float32]

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
    mean = logit(labels.mean()) if isinstance(objective, Purchase) else labels.mean()
    given = train.slice(0, _MOST_ROWS)
    scaler = StandardScaler()
    line = fit_line(
        scaler.fit_transform(_features(given, item_vectors, user_vectors)),
        labels[: len(given)],
        unseen_folds(given),
        logistic=isinstance(objective, Purchase),
    )
    content = line(scaler.transform(_features(rows, item_vectors, user_vectors)))
    return {"mean": np.full(len(rows), mean), "content": content}


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
