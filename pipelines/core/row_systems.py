"""Padded batches of whitened rows, (I + A'A) z = z0 + A't with A = E^1/2 Y D^-1/2: exactly and by conjugate gradients.

Dimensions: B rows, n entries of the longest, F factors. Where this form comes from is said in `row_solver`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

_TINY = np.finfo(np.float32).tiny.astype(np.float32)


@dataclass(frozen=True)
class Entries:
    """A padded batch: factors (B, n, F) Y_S Q, roots (B, n) E^1/2 and targets (B, n) t."""

    factors: FloatArray
    roots: FloatArray
    targets: FloatArray


def solve_exactly(entries: Entries, scale: FloatArray, z0: FloatArray) -> FloatArray:
    """Z (B, F) to rounding; `entries.factors` is overwritten."""
    a = entries.factors  # becomes A, in place
    a *= entries.roots[:, :, None]
    a *= scale[:, None, :]
    transposed = a.transpose(0, 2, 1)
    if a.shape[1] < a.shape[2]:
        right = entries.targets - _product(a, z0)
        return z0 + _product(transposed, solve_spd(np.matmul(a, transposed), right))
    return solve_spd(np.matmul(transposed, a), z0 + _product(transposed, entries.targets))


def solve_spd(matrices: FloatArray, right: FloatArray) -> FloatArray:
    """(I + M) x = right for each M (k, k) of a batch; LU, because numpy has no batched Cholesky solve."""
    k = matrices.shape[-1]
    matrices.reshape(len(matrices), -1)[:, :: k + 1] += 1
    return np.asarray(np.linalg.solve(matrices, right[:, :, None])[:, :, 0])


def descend(entries: Entries, scale: FloatArray, z0: FloatArray, z: FloatArray, steps: int) -> FloatArray:
    """Z (B, F) after `steps` conjugate gradients from `z`; the scales go to the vectors, A is never formed.

    The length of a step needs d'(I + A'A)d = |d|^2 + |Ad|^2 alone, so the last one is spared a product with A'.
    """
    y, y_transposed, roots = entries.factors, entries.factors.transpose(0, 2, 1), entries.roots
    missing = entries.targets - roots * _product(y, scale * z)
    residual = z0 - z + scale * _product(y_transposed, roots * missing)
    direction, length = residual, _dot(residual, residual)
    for step in range(steps):
        image = roots * _product(y, scale * direction)  # A d
        along = _ratio(length, _dot(direction, direction) + _dot(image, image))
        z = z + along * direction
        if step + 1 < steps:
            residual = residual - along * (direction + scale * _product(y_transposed, roots * image))
            before, length = length, _dot(residual, residual)
            direction = residual + _ratio(length, before) * direction
    return z


def _product(matrices: FloatArray, vectors: FloatArray) -> FloatArray:
    """Each matrix (B, r, c) times its vector (B, c)."""
    return np.asarray(np.matmul(matrices, vectors[:, :, None])[:, :, 0])


def _dot(left: FloatArray, right: FloatArray) -> FloatArray:
    """(B, 1) of rows."""
    return np.asarray(np.einsum("bf,bf->b", left, right)[:, None])


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """0 where a row has nothing left to do."""
    return np.asarray(part / np.maximum(whole, _TINY), dtype=np.float32)
