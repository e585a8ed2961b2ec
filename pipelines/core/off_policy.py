"""What another policy would have earned, from what a logged one has shown: importance weighting by propensities.

Dimensions: N lists, R rows (a place of a list each).

What comes of an item at a place is taken to depend on the user, the item and the place, not on what else the list has
(the item-position click model; Li et al. 2018, Offline Evaluation of Ranking Policies with Click Models). Then each
place counts by itself, weighted by w = target's probability of this item there / logged propensity, and the value of
a policy is the expected sum of rewards of a list:

    IPS    mean over lists of sum_k w_k r_k
    SNIPS  sum over places of (sum w_k r_k / sum w_k) x share of lists with that place
    DR     mean over lists of (sum_k q(target at k) + sum_k w_k (r_k - q(shown at k)))

IPS and DR have no bias where each item that the target may show could have been shown; the diagnostics tell where
not: there the mean weight is below 1. Intervals are normal, of sums over clusters (users), for one user's lists are
alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.core.errors import InputError

DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_NORMAL = 1.959964
"""97.5 % quantile of the normal distribution."""


@dataclass(frozen=True)
class LoggedRows:
    """What was shown and what came of it.

    Attributes:
        n_lists: N, those without rows included.
        list_idx: (R,) the list of each row, 0 to N - 1.
        place: (R,) from 0.
        propensity: (R,) above 0, at most 1: of this item at this place under the policy that answered.
        reward: (R,) what came of it, such as 1 for a click.
        cluster: (N,) whose list it is, any whole numbers; lists of one cluster need not be independent. None: all are.

    Raises:
        InputError: shapes that do not fit, a propensity that is none.

    """

    n_lists: int
    list_idx: IntArray
    place: IntArray
    propensity: DoubleArray
    reward: DoubleArray
    cluster: IntArray | None = None

    def __post_init__(self) -> None:
        """Check."""
        sizes = {len(self.list_idx), len(self.place), len(self.propensity), len(self.reward)}
        if len(sizes) != 1 or (self.cluster is not None and len(self.cluster) != self.n_lists):
            raise InputError(
                "logged rows: list_idx, place, propensity and reward differ in length, or cluster from N."
            )
        bad = ~((self.propensity > 0) & (self.propensity <= 1 + 1e-9))
        if bad.any():
            row = int(bad.argmax())
            raise InputError(
                f"logged rows: propensity {self.propensity[row]} of row {row}; expected above 0 and at most 1. "
                "Rows that no policy has drawn say nothing of others: leave them out."
            )


@dataclass(frozen=True)
class Model:
    """What is expected without looking at the rewards that it is used with.

    Attributes:
        shown: (R,) q of the item that was shown where it was shown.
        target: (N,) sum over places of the q expected of what the target shows there.

    """

    shown: DoubleArray
    target: DoubleArray


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval and standard error."""

    value: float
    low: float
    high: float
    standard_error: float


@dataclass(frozen=True)
class Diagnostics:
    """Whether the weights can be trusted.

    Attributes:
        mean_weight: over rows; 1 is expected, and less where the target shows what never was shown.
        mean_weight_error: its standard error.
        effective_rows: (sum w)^2 / sum w^2, of `rows`.
        rows: R.
        largest_weight: before clipping.
        clipped: share of the rows whose weight was clipped.

    """

    mean_weight: float
    mean_weight_error: float
    effective_rows: float
    rows: int
    largest_weight: float
    clipped: float

    @property
    def is_supported(self) -> bool:
        """Whether the mean weight is 1 as far as can be told, and rests on more than a handful of rows."""
        near = abs(self.mean_weight - 1.0) <= max(3.0 * self.mean_weight_error, 1e-9)
        return near and self.effective_rows >= 30.0


@dataclass(frozen=True)
class Evaluation:
    """A target policy's value by each estimator; `dr` is None without a model."""

    ips: Estimate
    snips: Estimate
    dr: Estimate | None
    diagnostics: Diagnostics


def evaluate(
    logged: LoggedRows, target: DoubleArray, model: Model | None = None, clip: float | None = None
) -> Evaluation:
    """The value of a policy.

    Args:
        logged: by the policy that answered.
        target: (R,) the target's probability of the item of each row at its place, given the request.
        model: for the doubly robust estimate.
        clip: weights above it count as it; less variance for some bias.

    Raises:
        InputError: no lists, or a probability that is none.

    """
    if logged.n_lists < 1:
        raise InputError("there are no lists to evaluate; serve some with explore.log = true first.")
    if len(target) != len(logged.place) or not ((target >= 0) & (target <= 1 + 1e-9)).all():
        raise InputError("the target's probabilities: expected one of 0 to 1 for each row that was logged.")
    raw = target / logged.propensity
    weights = raw if clip is None else np.minimum(raw, clip)
    ips = _sums(logged, weights * logged.reward)
    dr = None
    if model is not None:
        dr = _mean(logged, model.target + _sums(logged, weights * (logged.reward - model.shown)))
    return Evaluation(
        _mean(logged, ips), _self_normalised(logged, weights), dr, _diagnose(logged, raw, weights)
    )


def compare(
    logged: LoggedRows, target: DoubleArray, other: DoubleArray, clip: float | None = None
) -> Estimate:
    """IPS of a target less that of another, over the same lists, so that what they share drops out."""
    most = np.inf if clip is None else clip
    difference = np.minimum(target / logged.propensity, most) - np.minimum(other / logged.propensity, most)
    return _mean(logged, _sums(logged, difference * logged.reward))


def place_model(logged: LoggedRows, target_places: IntArray, folds: int = 2, seed: int = 0) -> Model:
    """A model that knows places alone: the mean reward of each in the other folds of the clusters.

    Args:
        logged: rows.
        target_places: (N,) how many places, from the first, the target fills in each list.
        folds: so that no reward is predicted by itself.
        seed: of the folds.

    """
    most = int(max(logged.place.max(initial=-1) + 1, target_places.max(initial=0)))
    clusters = np.arange(logged.n_lists) if logged.cluster is None else logged.cluster
    unique, inverse = np.unique(clusters, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(unique))[inverse] % folds
    shown, target = np.zeros(len(logged.place)), np.zeros(logged.n_lists)
    for number in range(folds):
        learnt = fold[logged.list_idx] != number
        counts = np.bincount(logged.place[learnt], minlength=most)
        rewards = np.bincount(logged.place[learnt], logged.reward[learnt], minlength=most)
        means = rewards / np.maximum(counts, 1)
        inside = fold[logged.list_idx] == number
        shown[inside] = means[logged.place[inside]]
        total = np.concatenate([[0.0], np.cumsum(means)])
        target[fold == number] = total[target_places[fold == number]]
    return Model(shown, target)


def _sums(logged: LoggedRows, values: DoubleArray) -> DoubleArray:
    """(N,) of the rows of each list."""
    return np.asarray(np.bincount(logged.list_idx, values, minlength=logged.n_lists), dtype=np.float64)


def _mean(logged: LoggedRows, values: DoubleArray) -> Estimate:
    mean = float(values.mean())
    return _estimate(mean, _standard_error(logged, values - mean))


def _self_normalised(logged: LoggedRows, weights: DoubleArray) -> Estimate:
    """The error is that of the ratios' first order: sum over places of share_k w (r - v_k) / mean weight_k."""
    total = np.bincount(logged.place, weights)
    gain = np.bincount(logged.place, weights * logged.reward)
    values = gain / np.where(total > 0, total, 1.0)
    share = np.bincount(logged.place) / logged.n_lists
    pull = share * logged.n_lists / np.where(total > 0, total, np.inf)
    around = weights * (logged.reward - values[logged.place]) * pull[logged.place]
    return _estimate(float(values @ share), _standard_error(logged, _sums(logged, around)))


def _standard_error(logged: LoggedRows, centred: DoubleArray) -> float:
    """Of the mean of (N,) values whose mean is zero, summed by cluster."""
    sums = centred
    if logged.cluster is not None:
        _, inverse = np.unique(logged.cluster, return_inverse=True)
        sums = np.asarray(np.bincount(inverse, centred), dtype=np.float64)
    groups = len(sums)
    if groups < 2:
        return float("inf")
    return float(np.sqrt((sums**2).sum() * groups / (groups - 1)) / logged.n_lists)


def _estimate(value: float, error: float) -> Estimate:
    return Estimate(value, value - _NORMAL * error, value + _NORMAL * error, error)


def _diagnose(logged: LoggedRows, raw: DoubleArray, weights: DoubleArray) -> Diagnostics:
    rows, squares = len(raw), float((weights**2).sum())
    mean = float(raw.mean()) if rows else 0.0
    # a list's sum of weights less its rows: clusters as for the values
    error = _standard_error(logged, _sums(logged, raw - mean)) * logged.n_lists / max(rows, 1)
    return Diagnostics(
        mean, error, float(weights.sum()) ** 2 / squares if squares else 0.0, rows, float(raw.max(initial=0.0)),
        float((weights < raw).mean()) if rows else 0.0,
    )  # fmt: skip
