"""How sure the scores of one user's candidates are: the posterior of a user's row, and what texts leave open of items.

Dimensions: c candidates, F factors, m draws, I items.

The row solve of a user is the mean of a Gaussian with precision H (see `foldin`), up to the scale sigma of what users
do around it; so the scores Y x vary by sigma^2 Y H^-1 Y'. The factor of an item that is known by text alone lies
around its text's prediction as the factors of known items lie around theirs: an empirical prior with covariance R.
For a user x that is one variance, x' R x, which shrinks with what is learnt of the item.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Belief:
    """Independent Gaussians behind c scores.

    Attributes:
        means: (c,) the scores as they are served.
        loadings: (F, c) what a standard normal of F numbers, the user's, adds to each.
        item_sd: (c,) standard deviation of each that is the item's own.

    """

    means: DoubleArray
    loadings: DoubleArray
    item_sd: DoubleArray

    @property
    def sd(self) -> DoubleArray:
        """(c,) standard deviation of each score."""
        return np.asarray(np.sqrt((self.loadings**2).sum(axis=0) + self.item_sd**2))

    def draw(self, m: int, rng: np.random.Generator) -> DoubleArray:
        """(m, c) scores as they may be; within a draw all items meet the same user."""
        user = rng.standard_normal((m, len(self.loadings))) @ self.loadings
        item = rng.standard_normal((m, len(self.means))) * self.item_sd
        return np.asarray(self.means + user + item)


def believe(
    means: FloatArray | DoubleArray,
    factors: FloatArray,
    precision: DoubleArray,
    noise: float,
    item_sd: DoubleArray,
) -> Belief:
    """The belief about the scores of some items for one user.

    Args:
        means: (c,) scores.
        factors: (c, F) of the items as they are served, the factors' half alone.
        precision: (F, F) H of the user's row, see `foldin.row_precision`.
        noise: sigma.
        item_sd: (c,) see `item_deviation`.

    """
    lower = cholesky(precision, lower=True, check_finite=False)
    # x + sigma L'^-1 z has covariance sigma^2 H^-1; its scores vary by sigma Y L'^-1 z = sigma (L^-1 Y')' z
    whitened = solve_triangular(lower, factors.T.astype(np.float64), lower=True, check_finite=False)
    return Belief(np.asarray(means, dtype=np.float64), noise * whitened, item_sd)


def text_residuals(factors: FloatArray, predicted: FloatArray, evidence: IntArray) -> DoubleArray:
    """R (F, F): mean of r r' over the items with interactions, r what behaviour has added to the text's prediction.

    An item weighs n / (1 + n), for the factor of few interactions has been left near its prediction. Zero where no item
    has interactions.

    Args:
        factors: (I, F).
        predicted: (I, F) what the texts predict.
        evidence: (I,) interactions n.

    """
    known = np.flatnonzero(evidence > 0)
    weights = evidence[known] / (1.0 + evidence[known])
    moved = (factors[known] - predicted[known]).astype(np.float64)
    return np.asarray((moved.T * weights) @ moved / max(float(weights.sum()), 1.0))


def item_deviation(
    user: DoubleArray,
    residuals: DoubleArray,
    known: DoubleArray,
    scale: DoubleArray,
    half_known: float,
    noise: float,
) -> DoubleArray:
    """(c,) standard deviation of the items' own part of their scores.

    Args:
        user: (F,) x.
        residuals: (F, F) R.
        known: (c,) interactions and times shown.
        scale: (c,) of the scores, see `blend.item_vectors`.
        half_known: how many of them leave half the variance.
        noise: factor on all of it.

    """
    variance = max(float(user @ residuals @ user), 0.0) / (1.0 + known / half_known)
    return np.asarray(noise * scale * np.sqrt(variance))
