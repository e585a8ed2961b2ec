"""Which rows may be among the best by inner product: all rows read as 8-bit codes, with a bound on what that hides.

Dimensions: B users at once, I rows, D columns, W columns of a screen.

Reading the rows is what ranking costs, so they are read as 8-bit numbers, once for all users of a batch. What rounding
can do to a score is bounded: with q' and v' the rounded user and row,

    |q . v - q' . v'| <= |q'| |v - v'| + |q - q'| |v|        (Cauchy and Schwarz, twice)

and |v - v'| is known row by row.

Real rows lie near few directions: of factors and text, the first 200 of 1,000 principal directions hold nine tenths. A
narrow screen keeps a row's part along those, and of the rest its length only: with P the projection,

    q . v <= Pq . Pv + |q - Pq| |v - Pv|                     (Cauchy and Schwarz once more)

which is the inner product of rows with one column more. It reads a quarter of the bytes and never says too little.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numkong
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
CodeArray = npt.NDArray[np.int8]

_LARGEST = 127
"""Of an 8-bit code; -128 is not used, so that the codes of a row and of its negative are the same."""
_LEAST = np.float32(_LARGEST * np.finfo(np.float32).tiny)
"""Of the largest number of a vector; below it a scale has lost digits."""
_CHUNK = 4096
"""Rows that are rounded at once."""
_BLOCK = 16_384
"""Rows of one product: what it writes for a batch stays in the processor's cache."""
_FEW = 8192
"""Rows that are read at once as fast as a part of them."""
_SAMPLE = 16_384
"""Rows whose principal directions are taken."""
_HELD = 0.93
"""Share of the squared lengths that the directions of a narrow screen have to hold."""
_STEP = 256
"""A narrow screen's columns are a multiple of this; with fewer, the rows it leaves take longer than it does."""
_REST = 8
"""Columns over which the rest's length is spread: one alone would be the largest number, and codes too coarse."""
_TINY = float(np.finfo(np.float64).tiny)


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
    """Codes of (n, D) vectors, each scaled by its largest number; finite ones."""
    largest = np.abs(vectors).max(axis=1, initial=0.0)
    # numbers so small that their scale would lose its digits all round to zero
    scales = np.where(largest >= _LEAST, largest / _LARGEST, _LEAST).astype(np.float32)
    scaled = vectors / scales[:, None]  # lengths are taken of these: the squares of tiny numbers vanish
    codes = np.rint(scaled)
    errors = scales * np.linalg.norm(scaled - codes, axis=1)
    return Rounded(codes.astype(np.int8), scales, errors, scales * np.linalg.norm(scaled, axis=1))


@dataclass(frozen=True)
class Narrow:
    """Rows along the directions that matter, and the length of what is left; its inner product is never too small.

    Attributes:
        directions: (D, W - 8) orthonormal columns.

    """

    directions: DoubleArray

    def shorten(self, vectors: FloatArray) -> FloatArray:
        """(n, W) of (n, D); in double precision, for a bound has to hold."""
        wide = vectors.astype(np.float64)
        along = wide @ self.directions
        rest = np.einsum("ij,ij->i", wide, wide) - np.einsum("ij,ij->i", along, along)
        spread = np.sqrt(np.maximum(rest, 0.0) / _REST)
        return np.hstack([along, np.repeat(spread[:, None], _REST, axis=1)]).astype(np.float32)


def share_along(shortened: FloatArray) -> DoubleArray:
    """(n,) how much of the squared length of vectors that a narrow screen has shortened is not in the rest."""
    squares = np.square(shortened, dtype=np.float64)
    whole = squares.sum(axis=1)
    return np.asarray(1.0 - squares[:, -_REST:].sum(axis=1) / np.maximum(whole, _TINY))


def find_narrow(vectors: FloatArray) -> Narrow | None:
    """The narrowest transform that holds enough of (I, D) rows; None for few rows, or if half the columns do not."""
    n_rows, width = vectors.shape
    if n_rows < _FEW or width < 2 * _STEP:
        return None
    sample = vectors[:: -(-n_rows // _SAMPLE)].astype(np.float64)
    energies, directions = np.linalg.eigh(sample.T @ sample)
    held = np.cumsum(energies[::-1]) / max(float(energies.sum()), _TINY)
    for columns in range(_STEP, width // 2 + 1, _STEP):
        if held[columns - _REST - 1] >= _HELD:
            return Narrow(np.ascontiguousarray(directions[:, ::-1][:, : columns - _REST]))
    return None


@dataclass(frozen=True)
class _Block:
    """Consecutive rows, laid out for the product."""

    start: int
    stop: int
    codes: numkong.PackedMatrix


class Screen:
    """Rounded rows in shares, one for each thread.

    Attributes:
        shares: each the blocks of consecutive rows.

    """

    def __init__(self, vectors: FloatArray, shares: int, narrow: Narrow | None = None) -> None:
        """Round (I, D) `vectors`, or what `narrow` makes of them."""
        n_rows, width = vectors.shape
        self._narrow = narrow
        self._scales, self._errors, self._lengths = (np.zeros(n_rows, dtype=np.float32) for _ in range(3))
        cuts = np.linspace(0, n_rows, shares + 1).astype(int)
        self.shares = [
            [
                self._pack(vectors, start, min(start + _BLOCK, int(b)))
                for start in range(int(a), int(b), _BLOCK)
            ]
            for a, b in pairwise(cuts)
        ]
        self._most_error = float(self._errors.max(initial=0.0))
        self._most_length = float(self._lengths.max(initial=0.0))
        # of sums of D products in single precision, ours and those of exact scores
        self._rounding = 2.0 * width * float(np.finfo(np.float32).eps)

    def _pack(self, vectors: FloatArray, start: int, stop: int) -> _Block:
        parts = []
        for a in range(start, stop, _CHUNK):
            b = min(a + _CHUNK, stop)
            rounded = round_rows(self.shorten(vectors[a:b]))
            parts.append(rounded.codes)
            self._scales[a:b], self._errors[a:b] = rounded.scales, rounded.errors
            self._lengths[a:b] = rounded.lengths
        return _Block(start, stop, numkong.dots_pack(np.concatenate(parts), dtype="int8"))

    def shorten(self, vectors: FloatArray) -> FloatArray:
        """Rows or users (n, D) as this screen sees them, before they are rounded."""
        return vectors if self._narrow is None else self._narrow.shorten(vectors)

    def score(self, share: list[_Block], users: Rounded, screened: FloatArray) -> None:
        """Write the scores of a share's rows, in units of each user's scale, into (B, I) `screened`."""
        for block in share:
            products = np.asarray(numkong.dots_packed(users.codes, block.codes))
            rows = slice(block.start, block.stop)
            np.multiply(
                products, self._scales[rows], out=screened[:, rows], dtype=np.float32, casting="unsafe"
            )

    def reaching(self, least: float, screened: FloatArray, users: Rounded, b: int) -> IntArray:
        """Every row whose score may be `least` or more, and a few others.

        Args:
            least: an exact score.
            screened: (I,) of user b, see `score`.
            users: of the batch.
            b: which of them.

        """
        unit, length = float(users.scales[b]), float(users.lengths[b])
        least = (least - self._rounding * abs(least)) / unit
        by_error = (length + float(users.errors[b])) / unit
        by_length = (float(users.errors[b]) + self._rounding * length) / unit
        # most rows are too far below for any bound, the rest get their own
        rows = np.flatnonzero(screened >= least - by_error * self._most_error - by_length * self._most_length)
        bounds = by_error * self._errors[rows] + by_length * self._lengths[rows]
        return np.asarray(rows[screened[rows] + bounds >= least])
