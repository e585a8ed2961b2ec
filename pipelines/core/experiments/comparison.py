"""What variants did, with intervals; the user is the unit, for users are what is drawn by lot.

A metric is a ratio of sums over users, sum x / sum d. Where d is 1 for everybody it is a mean, and all formulas become
those of means. The variance of a ratio is by the delta method (Deng, Knoblich and Lu 2018, "Applying the delta method
in metric analytics"): that of the mean of r_i = (x_i - R d_i) / mean(d).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from pipelines.core.experiments.sequential import always_valid_factor, always_valid_p

LEAST_SHARE_P = 0.001
"""Below it the numbers of users do not fit the shares; strict, for it is looked at often."""


@dataclass(frozen=True)
class Sums:
    """Of the users of one variant.

    Attributes:
        n: users.
        x: sum of what is above the line; x_x: of its squares.
        d: sum of what is below it, n for a mean; d_d: of its squares; x_d: of both multiplied.

    """

    n: int
    x: float
    x_x: float
    d: float
    d_d: float
    x_d: float


@dataclass(frozen=True)
class Estimate:
    """A metric of one variant.

    Attributes:
        n: users.
        value: the mean or ratio.
        variance: of that, by its standard error squared.

    """

    n: int
    value: float
    variance: float

    def interval(self, alpha: float) -> tuple[float, float]:
        """Bounds of confidence 1 - alpha, for one look, by Student's distribution."""
        half = float(stats.t.ppf(1 - alpha / 2, self.n - 1)) * math.sqrt(self.variance)
        return self.value - half, self.value + half


@dataclass(frozen=True)
class Comparison:
    """A variant less the control.

    Attributes:
        difference: of their values.
        interval: of the difference, for one look at a time fixed beforehand (Welch).
        p_value: the same.
        always: bounds that hold at all looks together, see `sequential`; None: too few users yet.
        always_p: the same as a p-value.
        lift: difference over the control's value; None: that is 0.
        lift_interval: for one look, by the delta method.

    """

    difference: float
    interval: tuple[float, float]
    p_value: float
    always: tuple[float, float] | None
    always_p: float | None
    lift: float | None
    lift_interval: tuple[float, float] | None


def estimate(sums: Sums) -> Estimate | None:
    """A variant's figure; None where there are not two users, or nothing below the line."""
    if sums.n < 2 or sums.d <= 0:
        return None
    ratio = sums.x / sums.d
    # rounding may leave a little less than nothing
    squares = max(0.0, sums.x_x - 2 * ratio * sums.x_d + ratio**2 * sums.d_d)
    return Estimate(sums.n, ratio, squares / (sums.n - 1) * sums.n / sums.d**2)


def compare(
    control: Estimate, treatment: Estimate, alpha: float, planned: int, least_users: int
) -> Comparison:
    """A variant beside the control.

    Args:
        control: its figure.
        treatment: the variant's.
        alpha: 1 less the confidence of every interval.
        planned: users of both, at which the always-valid interval is narrowest; fixed before the first look.
        least_users: of each, below which there is no always-valid interval.

    """
    difference = treatment.value - control.value
    variance = control.variance + treatment.variance
    error = math.sqrt(variance)
    low, high, p_value = difference, difference, 1.0
    always, always_p = None, None
    if variance > 0:
        degrees = variance**2 / sum(e.variance**2 / (e.n - 1) for e in (control, treatment))
        half = float(stats.t.ppf(1 - alpha / 2, degrees)) * error
        low, high = difference - half, difference + half
        p_value = 2 * float(stats.t.sf(abs(difference) / error, degrees))
        if min(control.n, treatment.n) >= least_users:
            n = control.n + treatment.n
            half = always_valid_factor(n, planned, alpha) * error
            always = difference - half, difference + half
            always_p = always_valid_p(difference / error, n, planned, alpha)
    lift, lift_interval = _lift(control, treatment, alpha)
    return Comparison(difference, (low, high), p_value, always, always_p, lift, lift_interval)


def _lift(
    control: Estimate, treatment: Estimate, alpha: float
) -> tuple[float | None, tuple[float, float] | None]:
    if control.value == 0:
        return None, None
    ratio = treatment.value / control.value
    error = math.sqrt(treatment.variance + ratio**2 * control.variance) / abs(control.value)
    half = float(stats.norm.ppf(1 - alpha / 2)) * error
    return ratio - 1, (ratio - 1 - half, ratio - 1 + half)


def sample_ratio_p(counts: Sequence[int], shares: Sequence[float]) -> float:
    """How likely numbers of users at least as far from the shares are (Pearson's chi-square); 1 without users.

    A mismatch says that who is counted depends on the variant: a bug, and no metric is to be believed (Fabijan et al.
    2019, "Diagnosing sample ratio mismatch in online controlled experiments").

    Args:
        counts: users of each variant.
        shares: expected, to any scale.

    """
    n, total = sum(counts), math.fsum(shares)
    if not n:
        return 1.0
    return float(stats.chisquare(counts, [n * share / total for share in shares]).pvalue)
