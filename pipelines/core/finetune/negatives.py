"""Hard negatives: items whose text the present model takes for alike, and which are not the same thing.

An item that is nearly another one's copy (a colour, a size) would be a right answer under another number, so those
above a cosine are left out (as in Moreira et al. 2024, NV-Retriever, where the limit is relative to the right answer).

Dimensions: I items, E dimensions of a vector, m neighbours.
"""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
import torch

from pipelines.core.config import EncoderConfig
from pipelines.core.index import build_index
from pipelines.core.screening import round_rows

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

SAME = 0.95
"""Cosine above which two items are taken for one."""
EXACT = 100_000
"""Items up to which all cosines are computed: a minute or two of products on a few cores."""
_AT_ONCE = 1 << 26
"""Cosines held at a time: 256 MB."""
_SPARE = 4
"""Times more are fetched from a graph than wanted, for the copies among them and for the coarseness of its codes."""
_QUERIES = 512


def as_mined(encoder: EncoderConfig) -> EncoderConfig:
    """As hard negatives are found: by all numbers of a vector, however a build cuts and rounds them afterwards."""
    return encoder.model_copy(update={"dimensions": 0, "dtype": "auto"})


def nearest_others(vectors: FloatArray, m: int, same: float = SAME, exact: int = EXACT) -> IntArray:
    """(I, min(m, I - 1)) rows that are alike but not the same, nearest first; deterministic up to `exact` items.

    Beyond, a graph finds nearly all of them (core/index.py), built by several threads, so that a few may differ from
    one time to the next. Where a row has fewer such neighbours, as one without text has none, others at random take
    their place.

    Args:
        vectors: (I, E), of any length; zeros for an item without text.
        m: neighbours of each.
        same: cosine above which a neighbour is a copy.
        exact: items up to which all cosines are computed.

    """
    m = max(min(m, len(vectors) - 1), 0)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.ascontiguousarray(vectors / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)
    has_text = lengths[:, 0] > 0
    if m == 0:
        return np.zeros((len(unit), 0), dtype=np.int64)
    found = _exact(unit, has_text, m, same) if len(unit) <= exact else _from_graph(unit, has_text, m, same)
    return _filled(found)


def _exact(unit: FloatArray, has_text: npt.NDArray[np.bool_], m: int, same: float) -> IntArray:
    """-1 where a row has fewer."""
    rows, textless = torch.from_numpy(unit), torch.from_numpy(~has_text)
    step = max(1, _AT_ONCE // len(unit))
    found = []
    for start in range(0, len(unit), step):
        cosines = rows[start : start + step] @ rows.T
        cosines[cosines > same] = -torch.inf
        cosines[:, textless] = -torch.inf
        cosines[textless[start : start + step]] = -torch.inf
        own = torch.arange(len(cosines))
        cosines[own, start + own] = -torch.inf
        best = torch.topk(cosines, m)
        found.append(torch.where(torch.isneginf(best.values), -1, best.indices).numpy())
    return np.concatenate(found)


def _from_graph(unit: FloatArray, has_text: npt.NDArray[np.bool_], m: int, same: float) -> IntArray:
    """-1 where a row has fewer among what the graph gave."""
    threads = os.cpu_count() or 1
    places = np.flatnonzero(has_text)
    rows = unit[places]
    index = build_index(rows, threads)
    count = min(_SPARE * m + 1, len(rows))
    found = np.full((len(unit), m), -1, dtype=np.int64)
    for start in range(0, len(rows), _QUERIES):
        asked = rows[start : start + _QUERIES]
        matches = index.search(round_rows(asked).codes, count, threads=threads)
        keys = matches.keys.astype(np.int64).reshape(len(asked), count)
        cosines = np.einsum("qe,qce->qc", asked, rows[keys])
        unfit = (cosines > same) | (keys == start + np.arange(len(asked))[:, None])
        cosines[unfit] = -np.inf
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :m]
        best = np.where(
            np.isneginf(np.take_along_axis(cosines, order, axis=1)),
            -1,
            places[np.take_along_axis(keys, order, axis=1)],
        )
        found[places[start : start + _QUERIES], : best.shape[1]] = best
    return found


def _filled(found: IntArray) -> IntArray:
    """Other rows at random for -1; the same ones each time."""
    n = len(found)
    row, place = np.nonzero(found < 0)
    others = np.random.default_rng(0).integers(1, n, size=len(row))  # so far behind oneself, never oneself
    found[row, place] = (row + others) % n
    return found
