"""What all trials of a study share: training, slices of validation, and what their users tell."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from pipelines.core.ids import hash_ids
from pipelines.core.layout import Layout, ModelName
from pipelines.core.scoring import Asked, Training
from pipelines.core.slices import Slice, SliceName, ask, load_slices, load_training


@dataclass(frozen=True)
class Material:
    """Computed once; nothing in it is ever written to.

    Attributes:
        trainings: of the models that answer some slice.
        item_hashes: (I,) `hash_ids` of the item ids.
        questions: slices with users, and what these tell.

    """

    trainings: dict[ModelName, Training]
    item_hashes: npt.NDArray[np.uint64]
    questions: dict[SliceName, tuple[Slice, Asked]]


def load_material(
    layout: Layout, slices: Collection[SliceName], max_users: int, *, with_texts: bool
) -> Material:
    """Read what stages up to `profile` have left; slices without users are passed over.

    Args:
        layout: of the build.
        slices: of the validation set, which alone is read: test figures stay unseen.
        max_users: of each slice.
        with_texts: whether the model counts words; otherwise item texts are left behind.

    """
    wanted = {
        n: s for n, s in load_slices(layout, "validation", max_users).items() if n in slices and len(s.users)
    }
    trainings = {m: load_training(layout, m) for m in dict.fromkeys(s.model for s in wanted.values())}
    if not with_texts:
        trainings = {m: replace(t, item_texts=[]) for m, t in trainings.items()}
    ids = pq.read_table(layout.ids("items")).column(0).to_pandas().to_numpy(dtype=object)
    return Material(trainings, hash_ids(ids), {n: (s, ask(layout, s)) for n, s in wanted.items()})
