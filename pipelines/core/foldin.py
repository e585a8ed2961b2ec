"""One user, now: their factor from the text they gave and the things they did, and where it came from.

Dimensions: n events, E embedding, D = E + 1, F factors.

The row solve of ALS is a Gaussian posterior. For a user with text prediction A f and events S,

    H = G + sum_S (c - 1) y y' + lam I        x = H^-1 (lam s A f + sum_{wanted} c y)

so x is a sum of one term for the text and one per event: the split of a score that is shown as explanation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError
from scipy.linalg.lapack import dposv

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Profile:
    """P_u as a sum: each part is already scaled, so that they add up to the profile.

    Attributes:
        words: (w, E) one row per text given (own words, query).
        events: (n, E) one row per event.

    """

    words: DoubleArray
    events: DoubleArray

    @property
    def total(self) -> DoubleArray:
        """(E,) P_u."""
        return np.asarray(self.words.sum(axis=0) + self.events.sum(axis=0))


@dataclass(frozen=True)
class FoldedUser:
    """x_u as a sum.

    Attributes:
        constant: (F,) what the map's intercept predicts for everybody.
        words: (w, F) what each text adds through the map.
        events: (n, F) what each event adds, through the map (its text is part of the profile) and by itself.

    """

    constant: DoubleArray
    words: DoubleArray
    events: DoubleArray

    @property
    def total(self) -> DoubleArray:
        """(F,) x_u."""
        return np.asarray(self.constant + self.words.sum(axis=0) + self.events.sum(axis=0))


def build_profile(
    words: FloatArray,
    word_weights: FloatArray,
    event_profiles: FloatArray,
    event_amounts: FloatArray,
    power: float,
) -> Profile:
    """Parts of P_u; the same sum as `blend.profiles` makes for a stored history.

    Args:
        words: (w, E) centred embeddings of texts.
        word_weights: (w,) how many liked items each counts as.
        event_profiles: (n, E) centred embeddings of the events' items.
        event_amounts: (n,) see `blend.amounts`.
        power: of 1 + n.

    """
    scale = float((1.0 + len(event_amounts)) ** -power)
    return Profile(
        scale * word_weights[:, None].astype(np.float64) * words,
        scale * event_amounts[:, None].astype(np.float64) * event_profiles,
    )


def fold_in(
    profile: Profile, user_map: FloatArray, item_factors: FloatArray, confidences: FloatArray,
    gramian: FloatArray | DoubleArray, regularization: float, share: float = 1.0, *, split: bool = True,
) -> FoldedUser:  # fmt: skip
    """Solve one user's row exactly and keep the terms apart.

    Args:
        profile: of this user.
        user_map: (D, F) A, the last row the intercept.
        item_factors: (n, F) factors of the events' items.
        confidences: (n,) c for wanted, -c for unwanted items.
        gramian: (F, F) of the hot items.
        regularization: lam of a user with n events, see `als.row_regularization`.
        share: s, what is left of the text's prediction after n events, see `als.prior_share`.
        split: without it the whole sum is in `constant`, for a fraction of the time; nobody asked where it came from.

    """
    length = float(np.linalg.norm(profile.total))
    scale = share / length if length > 1e-9 else 0.0
    wide_map = user_map.astype(np.float64, copy=False)
    text_map, intercept = wide_map[:-1], share * wide_map[-1]
    if split:
        words, events = scale * profile.words @ text_map, scale * profile.events @ text_map
    else:
        intercept = intercept + scale * profile.total @ text_map
        words = events = np.zeros((0, len(intercept)))
    if not len(confidences):
        return FoldedUser(intercept, words, events)
    y = item_factors.astype(np.float64)
    precision = row_precision(y, confidences, gramian, regularization)
    wanted = np.maximum(confidences, 0.0).astype(np.float64)
    if not split:
        return FoldedUser(_solve(precision, regularization * intercept + wanted @ y), words, events)
    sides = np.concatenate(
        [
            regularization * intercept[None],
            regularization * words,
            regularization * events + wanted[:, None] * y,
        ]
    )
    solved = _solve(precision, sides.T).T
    return FoldedUser(solved[0], solved[1 : 1 + len(words)], solved[1 + len(words) :])


def row_precision(
    item_factors: FloatArray | DoubleArray,
    confidences: FloatArray,
    gramian: FloatArray | DoubleArray,
    regularization: float,
) -> DoubleArray:
    """H (F, F) of one user's row; arguments as for `fold_in`, no events leave G + lam I."""
    y = item_factors.astype(np.float64, copy=False)
    precision = gramian.astype(np.float64, copy=False) + (y.T * (np.abs(confidences) - 1.0)) @ y
    precision.flat[:: len(precision) + 1] += regularization
    return np.asarray(precision)


def _solve(precision: DoubleArray, sides: DoubleArray) -> DoubleArray:
    """What times `precision` is `sides`; LAPACK itself, for SciPy's checks take longer than the solution."""
    _, solution, failed = dposv(precision, sides)
    if failed:
        raise LinAlgError(
            f"a user's precision matrix is not positive definite (LAPACK's dposv says {failed})"
        )
    return np.asarray(solution)
