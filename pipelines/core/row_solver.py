"""The row solves of ALS, many rows at a time, in coordinates where what all rows share is a diagonal.

Dimensions: F factors, m opposite rows, N solved rows; B rows of one batch, n entries of its longest row.

A row with entries S, confidences C = I + E, wants p and its own lam and e, the share of Y'Y that it knows, solves

    (e Y'Y + lam I + Y_S' E Y_S) x = Y_S' C p + lam prior.

With Y'Y = Q W Q', found once, D = e W + lam is diagonal whatever lam and e are, and x = Q D^-1/2 z where

    (I + A'A) z = z0 + A't,    A = E^1/2 Y_S Q D^-1/2,    t = E^-1/2 C p,    z0 = D^-1/2 lam Q'prior.

The zero confidences' part of the problem has become the identity: nothing of size (F, F) is touched per row unless
the row is long, priors and a lam for every row cost nothing, and conjugate gradients start well conditioned (they are
preconditioned by (Y'Y + lam I)^-1). A row of n < F entries has an exact solution through an (n, n) matrix:

    z = z0 + A'v,    (I + AA') v = t - A z0        (the push-through identity; Woodbury)

and a longer one through I + A'A itself. Rows are sorted by length and padded to the longest of their batch with
entries of E = 0, which add nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from pipelines.core import row_systems

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.integer]

_BATCH_FLOATS = 1 << 20
"""Gathered factors of one batch: 4 MB stay in a cache between readings, and keep two threads out of each other's way:
the interpreter runs one of them at a time between numpy's calls."""

_LONG_FLOATS = 1 << 22
"""Gathered factors of one row that is longer than a batch: 16 MB at most are worth gathering for CG."""

_LOT_ROWS = 1024
_LOT_BATCHES = 16
"""Batches whose vectors are rotated together: products of a few rows would be spent on reading Q."""

_MOST_NOISE = 0.1
"""Rounding of the longest entry of A, beside the identity it stands next to: above this a solution means nothing."""

_LITTLE_NOISE = 1e-6
"""The same of a rotation in single precision: below this it is lost in the rounding of the solve itself."""

_ROTATED_ROWS = 2048

_LEAST_EXCESS = 1e-12
"""Least E of a real entry: keeps t finite where a weight of 0 makes C = 1; E^1/2 t = C p holds all the same."""


_EPS = float(np.finfo(np.float32).eps)


class UnsolvableRowsError(ValueError):
    """The rows' matrices are beyond single precision."""


@dataclass(frozen=True)
class Rows:
    """Sparse rows to be solved.

    Attributes:
        indptr: (N + 1,) into `indices`.
        indices: opposite rows.
        confidences: C of wanted entries, -C of unwanted ones; |C| >= 1.
        exposure: (N,) e, from 0 to 1; 1 for all if absent.

    """

    indptr: IntArray
    indices: IntArray
    confidences: FloatArray
    exposure: FloatArray | None = None


@dataclass(frozen=True)
class _Whitened:
    """What all batches share.

    Attributes:
        rows: the sparse rows.
        opposite: (m, F) Y Q.
        basis: (F, F) Q.
        spectrum: (F,) W, in single precision like all that follows once it is found.
        exposure: (N,) e.
        lam: (N,).
        prior: (N, F), not rotated.
        start: (N, F) where CG starts, not rotated.

    """

    rows: Rows
    opposite: FloatArray
    basis: FloatArray
    spectrum: FloatArray
    exposure: FloatArray
    lam: FloatArray
    prior: FloatArray
    start: FloatArray


def solve(
    rows: Rows, opposite: Iterable[FloatArray], gramian: DoubleArray, prior: FloatArray, lam: DoubleArray,
    *, cg_steps: int | None, start: FloatArray | None = None, num_threads: int = 1,
) -> FloatArray:  # fmt: skip
    """Factors (N, F) of sparse rows; zero where a row has no entries.

    Args:
        rows: the rows.
        opposite: the m opposite rows (each of F) in consecutive blocks, looked at once, one after the other; what is
            kept of a block is the rows that are touched, where those are a part.
        gramian: (F, F) Y'Y; small negative eigenvalues, which rounding makes, count as zero.
        prior: (N, F).
        lam: (N,) above zero.
        cg_steps: steps of conjugate gradients; None for the exact solution. A row of more than 16 MB of factors is
            solved exactly either way: that takes one pass over its entries, and CG several.
        start: (N, F) where CG starts; the prior if absent.
        num_threads: batches at a time.

    Raises:
        UnsolvableRowsError: the matrices are singular in single precision, or the gramian is not finite.

    """
    if not np.isfinite(gramian).all():
        raise UnsolvableRowsError("the other side's factors are not finite")
    spectrum, basis = np.linalg.eigh(np.asarray(gramian, dtype=np.float64))
    spectrum = np.maximum(spectrum, 0.0)
    used, rows = _compact(rows)
    exposure = np.ones(len(lam)) if rows.exposure is None else rows.exposure.astype(np.float64)
    steepness = _steepness(rows, spectrum, exposure, lam)
    with _blas().limit(limits=num_threads, user_api="blas"):
        rotated = _rotate(opposite, used, basis, steepness)
    _check_precision(rotated, steepness)
    shared = _Whitened(
        rows, rotated, basis.astype(np.float32), spectrum.astype(np.float32), exposure.astype(np.float32),
        lam.astype(np.float32), prior, prior if start is None else start,
    )  # fmt: skip
    factors = np.zeros(prior.shape, dtype=np.float32)
    todo = iter(_lots(np.diff(rows.indptr), len(basis)))  # a list's iterator: threads may share it
    with _blas().limit(limits=1, user_api="blas"):
        if num_threads == 1:
            _work(shared, todo, cg_steps, factors)
        else:
            with ThreadPoolExecutor(num_threads) as pool:
                lanes = [pool.submit(_work, shared, todo, cg_steps, factors) for _ in range(num_threads)]
            for lane in lanes:
                lane.result()
    return factors


@cache
def _blas() -> ThreadpoolController:
    """Found once: looking for the libraries takes as long as solving a few thousand rows."""
    return ThreadpoolController()


def _steepness(rows: Rows, spectrum: DoubleArray, exposure: DoubleArray, lam: DoubleArray) -> float:
    """The most that an entry of Y Q can be multiplied by on its way into A; 0 without entries."""
    if len(rows.indices) == 0:
        return 0.0
    excess = max(_largest(rows.confidences) - 1, 0.0)
    return float(np.sqrt(excess / (exposure * spectrum.min() + lam).min()))


def _check_precision(rotated: FloatArray, steepness: float) -> None:
    if rotated.size == 0:
        return
    noise = _EPS * _largest(rotated) * steepness
    if not noise < _MOST_NOISE:
        raise UnsolvableRowsError(f"rounding is {noise:.2g} times the regularization's own part")


def _largest(values: FloatArray) -> float:
    return float(max(values.max(), -values.min()))


def _compact(rows: Rows) -> tuple[npt.NDArray[np.bool_], Rows]:
    """Which opposite rows are touched, up to the last, and entries that count only those."""
    used = np.zeros(int(rows.indices.max(initial=-1)) + 1, dtype=bool)
    used[rows.indices] = True
    if used.all():
        return used, rows
    number = np.cumsum(used, dtype=rows.indices.dtype) - 1
    return used, replace(rows, indices=number[rows.indices])


def _rotate(
    opposite: Iterable[FloatArray], used: npt.NDArray[np.bool_], basis: DoubleArray, steepness: float
) -> FloatArray:
    """Y Q of the rows in use, made in double precision wherever single would be seen in A.

    What is left of a row in a direction of little weight is about to be divided by the root of that weight: rounding
    relative to the whole row, eps |y|, may then drown it.
    """
    rotated = np.empty((np.count_nonzero(used), len(basis)), dtype=np.float32)
    q = basis.astype(np.float32)
    start, done = 0, 0
    for block in opposite:
        taken = np.flatnonzero(used[start : start + len(block)])
        for first in range(0, len(taken), _ROTATED_ROWS):
            few = block[taken[first : first + _ROTATED_ROWS]]
            longest = np.sqrt(np.einsum("mf,mf->m", few, few).max())
            single = _EPS * longest * steepness < _LITTLE_NOISE
            rotated[done : done + len(few)] = few @ q if single else few.astype(np.float64) @ basis
            done += len(few)
        start += len(block)
    return rotated


@dataclass(frozen=True)
class _Lot:
    """Rows (R,), longest first, and (first, last) in them of each batch."""

    rows: npt.NDArray[np.intp]
    batches: list[tuple[int, int]]


def _lots(lengths: IntArray, n_factors: int) -> list[_Lot]:
    """Rows with entries, cut into batches that fit their buffer when padded to their first row, and those into lots."""
    order = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
    ordered = lengths[order]
    lots, begun, first, batches = [], 0, 0, []
    while first < len(order):
        n_rows = min(_LOT_ROWS, max(1, _BATCH_FLOATS // (int(ordered[first]) * n_factors)))
        last = min(first + n_rows, len(order))
        batches.append((first - begun, last - begun))
        if last - begun >= _LOT_ROWS or len(batches) == _LOT_BATCHES or last == len(order):
            lots.append(_Lot(order[begun:last], batches))
            begun, batches = last, []
        first = last
    return lots


def _work(shared: _Whitened, todo: Iterator[_Lot], cg_steps: int | None, factors: FloatArray) -> None:
    """Solve lots until none is left; the buffer is one per thread, for fresh memory costs as much as the copy."""
    n_factors = len(shared.basis)
    most = _BATCH_FLOATS if cg_steps is None else _LONG_FLOATS
    buffer = np.empty(max(_BATCH_FLOATS, n_factors), dtype=np.float32)
    indptr = shared.rows.indptr
    for lot in todo:
        lam = shared.lam[lot.rows, None]
        scale = 1 / np.sqrt(shared.exposure[lot.rows, None] * shared.spectrum + lam)  # D^-1/2
        z0 = scale * (lam * (shared.prior[lot.rows] @ shared.basis))
        z = z0 if cg_steps is None else (shared.start[lot.rows] @ shared.basis) / scale
        for first, last in lot.batches:
            batch, part = lot.rows[first:last], slice(first, last)
            n = int(indptr[batch[0] + 1] - indptr[batch[0]])
            if len(buffer) < n * n_factors <= most:
                buffer = np.empty(n * n_factors, dtype=np.float32)  # once: the longest row comes first
            if n * n_factors > len(buffer):
                z[part] = _solve_long(shared, int(batch[0]), scale[part], z0[part], buffer)
            elif cg_steps is None:
                z[part] = row_systems.solve_exactly(_gather(shared, batch, n, buffer), scale[part], z0[part])
            else:
                entries = _gather(shared, batch, n, buffer)
                z[part] = row_systems.descend(entries, scale[part], z0[part], z[part], cg_steps)
        factors[lot.rows] = (scale * z) @ shared.basis.T


def _gather(
    shared: _Whitened, batch: npt.NDArray[np.intp], n: int, buffer: FloatArray
) -> row_systems.Entries:
    first = shared.rows.indptr[batch].astype(np.intp)
    length = shared.rows.indptr[batch + 1] - first
    position = first[:, None] + np.arange(n)
    padded = int(length.min()) < n
    if padded:
        padding = np.arange(n) >= length[:, None]
        np.copyto(position, first[:, None], where=padding)  # the first entry again, at confidence 1
    shape = (*position.shape, len(shared.basis))
    factors = buffer[: int(np.prod(shape))].reshape(shape)
    # there are no indices out of range; "clip" spares numpy a copy of `out` in case there were
    columns = np.take(shared.rows.indices, position, mode="clip")
    np.take(shared.opposite, columns, axis=0, out=factors, mode="clip")
    roots, targets = _split(np.take(shared.rows.confidences, position, mode="clip"))
    if padded:
        roots[padding] = 0
        targets[padding] = 0
    return row_systems.Entries(factors, roots, targets)


def _split(confidences: FloatArray) -> tuple[FloatArray, FloatArray]:
    """E^1/2 and t of entries."""
    size = np.abs(confidences)
    excess = np.maximum(size - np.float32(1), np.float32(_LEAST_EXCESS))
    roots = np.asarray(np.sqrt(excess), dtype=np.float32)
    targets = np.asarray(size / roots, dtype=np.float32)
    targets[confidences < 0] = 0
    return roots, targets


def _solve_long(
    shared: _Whitened, row: int, scale: FloatArray, z0: FloatArray, buffer: FloatArray
) -> FloatArray:
    """One row (1, F) of any length, its matrix (F, F) summed over pieces that fit the buffer."""
    n_factors = len(shared.basis)
    first, last = int(shared.rows.indptr[row]), int(shared.rows.indptr[row + 1])
    step = max(1, len(buffer) // n_factors)
    matrix, right = np.zeros((n_factors, n_factors)), np.zeros(n_factors)
    for at in range(first, last, step):
        piece = slice(at, min(at + step, last))
        a = buffer[: (piece.stop - at) * n_factors].reshape(-1, n_factors)
        np.take(shared.opposite, shared.rows.indices[piece], axis=0, out=a, mode="clip")
        roots, targets = _split(shared.rows.confidences[piece])
        a *= roots[:, None]
        a *= scale
        matrix += a.T @ a
        right += targets @ a
    return row_systems.solve_spd(matrix.astype(np.float32)[None], z0 + right.astype(np.float32))
