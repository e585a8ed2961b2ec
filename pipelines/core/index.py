"""The best rows of a very large matrix by inner product, nearly always: a graph of neighbours, and exact scores.

Dimensions: I rows, D columns.

A graph (HNSW, Malkov and Yashunin 2018) is walked by the inner product itself, over 8-bit codes that share one scale.
The usual detour, one column more that makes all rows equally long so that the closest in angle is the largest product,
was tried and lost: the added column is most of every row, all angles are alike, and a quarter of the best rows was
found instead of 99.5 % (docs/decisions/0012).

What the graph finds is scored again as it is, and conditions are checked row by row: nothing that is not allowed is
ever answered. Where too little of what was found is allowed, more is asked for, at last all allowed rows are scored.

With additions to the scores the graph does not know of, the rows of the largest additions are looked at too, and the
answer stands once no other row can reach it (the threshold algorithm of Fagin, Lotem and Naor 2001): a row in neither
list has a score below what the graph found, and one of the smaller additions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from usearch.index import Index

from pipelines.core.config import ServeConfig
from pipelines.core.errors import ArtefactError
from pipelines.core.ranking import FloatArray, IntArray, Ranked, Wanted, choose, score, total
from pipelines.core.screening import round_rows

_CHUNK = 65_536
_LINKS, _EXPANSION_ADD, _EXPANSION_SEARCH = 16, 128, 400
"""Of the graph: links of a row, candidates looked at when one is added and when one is looked for."""
_WITHIN = 0.9999
"""Share of the numbers that fit the codes' scale; the few beyond are cut, and count in full when scored again."""
_SPARE = 4
"""Times more rows are fetched than wanted, for the order of codes is not quite that of scores."""
_MORE = 32
"""Times more when conditions left too few."""
_FEW = 20_000
"""Allowed rows up to which all of them are scored: it takes no longer than a search that mostly finds others."""


def wants_index(settings: ServeConfig, n_items: int) -> bool:
    """Whether a build of so many items is served from a graph, by `serve.index`."""
    return settings.index == "approximate" or (settings.index == "auto" and n_items > settings.index_items)


def build_index(vectors: FloatArray, threads: int) -> Index:
    """The graph over (I, D) vectors; its keys are row numbers."""
    index = _empty(vectors.shape[1])
    chunks = [vectors[a : a + _CHUNK] for a in range(0, len(vectors), _CHUNK)]
    largest = max((float(np.quantile(np.abs(rows), _WITHIN)) for rows in chunks), default=0.0)
    start = 0
    for rows in chunks:
        codes = np.clip(np.rint(rows * (127.0 / (largest or 1.0))), -127, 127).astype(np.int8)
        index.add(np.arange(start, start + len(rows)), codes, threads=threads)
        start += len(rows)
    return index


def load_index(path: Path, width: int) -> Index:
    """A graph written by `Index.save`, over vectors of `width` columns; read as it is needed, not at once.

    Raises:
        ArtefactError: the file is no such graph.

    """
    index = _empty(width)
    try:
        index.view(str(path))
    except RuntimeError as e:
        raise ArtefactError(f"{path} cannot be read: {e}. Run `kindling build` again.") from e
    return index


def _empty(width: int) -> Index:
    return Index(
        ndim=width, metric="ip", dtype="i8", connectivity=_LINKS, expansion_add=_EXPANSION_ADD,
        expansion_search=_EXPANSION_SEARCH,
    )  # fmt: skip


class ApproximateRanker:
    """A `ranking.Ranker` that may miss a few of the best; time grows with the logarithm of the rows."""

    def __init__(self, vectors: FloatArray, index: Index) -> None:
        """Answer from `index`, built over `vectors` (I, D).

        Raises:
            ArtefactError: it was built over others.

        """
        if len(index) != len(vectors):
            raise ArtefactError(
                f"the index is of {len(index)} items, the bundle has {len(vectors)}. Build again or roll back."
            )
        self._vectors = vectors
        self._index = index

    def best(self, wanted: Sequence[Wanted]) -> list[Ranked]:
        """The n best rows of each, by exact scores of what was found."""
        if not wanted or not len(self._vectors):
            return [Ranked(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)) for _ in wanted]
        found = self._search(np.stack([w.user for w in wanted]), _SPARE * max(w.n for w in wanted))
        return [self._settle(w, rows) for w, rows in zip(wanted, found, strict=True)]

    def _search(self, users: FloatArray, count: int) -> list[IntArray]:
        codes = round_rows(users).codes
        # one thread: a search takes less time than threads take to start
        found = [self._index.search(code, min(count, len(self._vectors)), threads=1).keys for code in codes]
        return [np.sort(keys).astype(np.int64) for keys in found]

    def _settle(self, wanted: Wanted, found: IntArray) -> Ranked:
        if wanted.allowed is not None and np.count_nonzero(wanted.allowed) <= _FEW:
            return self._choose(np.flatnonzero(wanted.allowed), wanted)
        best = self._choose(found, wanted)
        if not self._stands(best, found, wanted):
            (found,) = self._search(wanted.user[None], _MORE * _SPARE * wanted.n)
            best = self._choose(found, wanted)
            if not self._stands(best, found, wanted):
                best = self._choose(np.arange(len(self._vectors)), wanted)
        return best

    def _choose(self, rows: IntArray, wanted: Wanted) -> Ranked:
        """The best of some rows and of those with the largest additions."""
        if wanted.additions is not None:
            rows = np.union1d(rows, wanted.additions.highest)
        rows = _allowed(rows, wanted)
        return choose(rows, total(self._vectors, rows, wanted), wanted.n)

    def _stands(self, best: Ranked, found: IntArray, wanted: Wanted) -> bool:
        """Whether no row that the graph did not find belongs among the best, as far as the graph can tell."""
        if len(found) == len(self._vectors):
            return True
        if len(best.rows) < wanted.n:
            return False
        if wanted.additions is None:
            return True
        least = float(score(self._vectors, found, wanted.user).min())
        return float(best.scores[-1]) >= least + wanted.unit * wanted.additions.rest


def _allowed(rows: IntArray, wanted: Wanted) -> IntArray:
    if wanted.allowed is not None:
        rows = rows[wanted.allowed[rows]]
    return rows[~np.isin(rows, wanted.left_out)]
