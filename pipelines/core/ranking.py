"""The best rows of a matrix by inner product, exactly: screened as 8-bit integers, settled in single precision.

Dimensions: B users at once, I rows, D columns.

Reading the rows is what ranking costs, so they are read as 8-bit numbers, a quarter of the bytes, once for all users of
a batch. What rounding can do to a score is bounded: with q' and v' the rounded user and row,

    |q . v - q' . v'| <= |q'| |v - v'| + |q - q'| |v|        (Cauchy and Schwarz, twice)

and |v - v'| is known row by row. Every row that could still be among the n best is scored again as it is: a few hundred
of 100,000. The answer is that of scoring all rows, whatever they hold; only the time depends on how well they round.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeVar

import numkong
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
CodeArray = npt.NDArray[np.int8]
In = TypeVar("In")
Out = TypeVar("Out")

_LARGEST = 127
"""Of an 8-bit code; -128 is not used, so that the codes of a row and of its negative are the same."""
_CHUNK = 4096
"""Rows that are gathered at once."""
_BLOCK = 16_384
"""Rows of one product: what it writes for a batch stays in the processor's cache."""
_LOWEST = np.finfo(np.float32).min
"""Of a score; what may not be chosen is below."""


@dataclass(frozen=True)
class Wanted:
    """What one user asks of the rows.

    Attributes:
        user: (D,) finite.
        n: how many rows; fewer come back where fewer are allowed.
        allowed: (I,) rows that may be chosen; None: all.
        left_out: rows that may not, whatever `allowed` says.

    """

    user: FloatArray
    n: int
    allowed: BoolArray | None
    left_out: IntArray


@dataclass(frozen=True)
class Ranked:
    """The chosen rows and their scores, best first; equal scores in the order of rows."""

    rows: IntArray
    scores: FloatArray


class Ranker(Protocol):
    """Chooses rows for several users at once."""

    def best(self, wanted: Sequence[Wanted]) -> list[Ranked]:
        """The n best rows of each."""
        ...


def score(vectors: FloatArray, rows: IntArray, user: FloatArray) -> FloatArray:
    """Scores of some rows; each by itself, so that equal rows score the same whatever is scored beside them."""
    if len(rows) <= _CHUNK:
        return np.asarray(np.einsum("ij,j->i", vectors[rows], user))
    parts = np.array_split(rows, -(-len(rows) // _CHUNK))
    return np.concatenate([np.einsum("ij,j->i", vectors[part], user) for part in parts])


def choose(rows: IntArray, scores: FloatArray, n: int) -> Ranked:
    """The n largest of `scores`, best first; of equal ones the first row, for which `rows` must rise."""
    if len(rows) > n:
        least = np.partition(scores, len(rows) - n)[len(rows) - n]
        kept = scores >= least
        rows, scores = rows[kept], scores[kept]
    order = np.argsort(-scores, kind="stable")[:n]
    return Ranked(rows[order], scores[order])


class Threads:
    """Runs independent pieces of a batch side by side; what they call releases the GIL."""

    def __init__(self, n: int) -> None:
        """With one thread everything runs in the caller's."""
        self.n = n
        self._pool = ThreadPoolExecutor(n - 1, "kindling-rank") if n > 1 else None

    def map(self, work: Callable[[In], Out], pieces: Iterable[In]) -> list[Out]:
        """Work on each piece, in their order."""
        first, *others = pieces
        if self._pool is None or not others:
            return [work(piece) for piece in (first, *others)]
        running = [self._pool.submit(work, piece) for piece in others]
        return [work(first), *(future.result() for future in running)]


@dataclass(frozen=True)
class Rounded:
    """Vectors as codes times a scale each, and what that leaves out.

    Attributes:
        codes: (n, D).
        scales: (n,).
        errors: (n,) length of what rounding took from each vector.
        lengths: (n,) of the vectors.

    """

    codes: CodeArray
    scales: FloatArray
    errors: FloatArray
    lengths: FloatArray


def round_rows(vectors: FloatArray) -> Rounded:
    """Codes of (n, D) vectors, each scaled by its largest number."""
    largest = np.abs(vectors).max(axis=1, initial=0.0)
    scales = np.where(largest > 0, largest / _LARGEST, 1.0).astype(np.float32)
    scaled = vectors / scales[:, None]  # lengths are taken of these: the squares of tiny numbers vanish
    codes = np.rint(scaled)
    errors = scales * np.linalg.norm(scaled - codes, axis=1)
    return Rounded(codes.astype(np.int8), scales, errors, scales * np.linalg.norm(scaled, axis=1))


@dataclass(frozen=True)
class _Block:
    """Consecutive rows, laid out for the product."""

    start: int
    stop: int
    codes: numkong.PackedMatrix


class ExactRanker:
    """A `Ranker` that misses nothing."""

    def __init__(self, vectors: FloatArray, threads: int = 1) -> None:
        """Round the rows; keeps `vectors` (I, D) and a quarter of their size beside them."""
        self._vectors = vectors
        self._threads = Threads(threads)
        n_rows, width = vectors.shape
        self._scales, self._errors, self._lengths = (np.zeros(n_rows, dtype=np.float32) for _ in range(3))
        cuts = np.linspace(0, n_rows, threads + 1).astype(int)
        self._memory = threading.local()
        self._shares = [
            [self._pack(start, min(start + _BLOCK, int(b))) for start in range(int(a), int(b), _BLOCK)]
            for a, b in pairwise(cuts)
        ]
        self._most_error = float(self._errors.max(initial=0.0))
        self._most_length = float(self._lengths.max(initial=0.0))
        # of sums of D products in single precision, ours and those of `score`
        self._rounding = 2.0 * width * float(np.finfo(np.float32).eps)

    def _pack(self, start: int, stop: int) -> _Block:
        codes = np.empty((stop - start, self._vectors.shape[1]), dtype=np.int8)
        for a in range(start, stop, _CHUNK):
            b = min(a + _CHUNK, stop)
            rounded = round_rows(self._vectors[a:b])
            codes[a - start : b - start] = rounded.codes
            self._scales[a:b], self._errors[a:b] = rounded.scales, rounded.errors
            self._lengths[a:b] = rounded.lengths
        return _Block(start, stop, numkong.dots_pack(codes, dtype="int8"))

    def best(self, wanted: Sequence[Wanted]) -> list[Ranked]:
        """The n best rows of each; one pass over the rows for all."""
        if not wanted or not len(self._vectors):
            return [Ranked(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)) for _ in wanted]
        users = round_rows(np.stack([w.user for w in wanted]))
        screened = self._room(len(wanted))

        def screen(share: list[_Block]) -> None:
            for block in share:
                products = np.asarray(numkong.dots_packed(users.codes, block.codes))
                part = slice(block.start, block.stop)
                np.multiply(
                    products, self._scales[part], out=screened[:, part], dtype=np.float32, casting="unsafe"
                )

        self._threads.map(screen, self._shares)
        return self._threads.map(lambda b: self._settle(wanted[b], screened[b], users, b), range(len(wanted)))

    def _room(self, n_users: int) -> FloatArray:
        """(n_users, I) to write scores to; kept by the calling thread, for new memory has to be cleared first."""
        room: FloatArray | None = getattr(self._memory, "room", None)
        if room is None or len(room) < n_users:
            room = self._memory.room = np.empty((n_users, len(self._vectors)), dtype=np.float32)
        return room[:n_users]

    def _settle(self, wanted: Wanted, screened: FloatArray, users: Rounded, b: int) -> Ranked:
        """The n best by exact scores of all rows that may be among them.

        Args:
            wanted: by user b.
            screened: (I,) scores of the codes, in units of the user's scale; overwritten.
            users: the users of the batch.
            b: which of them.

        """
        screened[wanted.left_out] = -np.inf
        if wanted.allowed is not None:
            screened[~wanted.allowed] = -np.inf
        n = min(wanted.n, len(screened))
        least_screened = np.partition(screened, len(screened) - n)[len(screened) - n]
        first = np.flatnonzero(screened >= max(least_screened, _LOWEST))[:n]
        if len(first) < n:  # fewer are allowed than wanted
            return choose(first, score(self._vectors, first, wanted.user), n)
        unit, length = float(users.scales[b]), float(users.lengths[b])
        least = float(score(self._vectors, first, wanted.user).min()) / unit
        least -= self._rounding * abs(least)
        by_error = (length + float(users.errors[b])) / unit
        by_length = (float(users.errors[b]) + self._rounding * length) / unit
        # most rows are too far below for any bound, the rest get their own
        rows = np.flatnonzero(screened >= least - by_error * self._most_error - by_length * self._most_length)
        bounds = by_error * self._errors[rows] + by_length * self._lengths[rows]
        rows = rows[screened[rows] + bounds >= least]
        return choose(rows, score(self._vectors, rows, wanted.user), n)
