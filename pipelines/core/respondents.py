"""Whom somebody new may be like, what they may know, and which items are worth asking them about.

Dimensions: S hypothetical users, U users, I items, D a served vector, E a profile.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def hypothetical_users(
    history: sp.csr_matrix, own: FloatArray, n: int, seed: int = 0
) -> tuple[sp.csr_matrix, FloatArray]:
    """Histories (S, I) and own words (S, E) of those whom somebody new may be like.

    Evenly a sample of the users with a history. Where these are fewer than n, imagined ones are added who like one item
    each: in a catalogue that nobody has used yet, a user is taken to be somebody who likes something in it.
    """
    rows = np.flatnonzero(np.diff(history.indptr))
    rows = (
        rows[np.linspace(0, len(rows) - 1, min(n, len(rows))).round().astype(np.int64)] if len(rows) else rows
    )
    missing = min(n - len(rows), history.shape[1])
    items = np.sort(np.random.default_rng(seed).permutation(history.shape[1])[:missing])
    ones = np.ones(len(items), dtype=np.float32)
    imagined = sp.csr_matrix((ones, (np.arange(len(items)), items)), shape=(len(items), history.shape[1]))
    told = np.concatenate([own[rows], np.zeros((len(items), own.shape[1]), dtype=np.float32)])
    return sp.vstack([history[rows], imagined], format="csr"), told


def familiarity(evidence: IntArray) -> DoubleArray:
    """(I,) chance that somebody new knows an item, half at the median of interactions; 1 where there are none."""
    known = evidence[evidence > 0]
    if not len(known):
        return np.ones(len(evidence))
    return np.asarray((1.0 + evidence) / (1.0 + evidence + np.median(known)))


def screen(users: FloatArray, items: FloatArray, chance: DoubleArray, may: BoolArray, most: int) -> IntArray:
    """Rows of at most `most` items worth asking about: those known to many on which users differ.

    Args:
        users: (s, D) a few hypothetical users.
        items: (I, D).
        chance: (I,) that somebody knows the item.
        may: (I,) which may be asked about.
        most: as many.

    """
    rows = np.flatnonzero(may)
    if len(rows) <= most:
        return rows
    centred = users - users.mean(axis=0)
    differ = np.concatenate([(centred @ items[part].T).std(axis=0) for part in _parts(rows)])
    return np.sort(rows[np.argpartition(-(chance[rows] * differ), most - 1)[:most]])


def _parts(rows: IntArray, size: int = 8192) -> Sequence[IntArray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
