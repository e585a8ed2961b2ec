"""Intervals that hold however often and whenever one looks.

An asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, "Time-uniform central limit
theory and asymptotic confidence sequences", Annals of Statistics 52(6), the normal mixture): with x = n rho^2,

    estimate +- standard error * sqrt((x + 1) / x * log((x + 1) / alpha^2))

covers at all n together with probability 1 - alpha, in the limit of a late first look. Turned round it is the mixture
sequential probability ratio test of Johari, Koomen, Pekelis and Walsh (2022, "Always valid inference", Operations
Research 70(3)).

It holds for estimates that are, nearly, means over users who come one after the other, independent, of finite variance,
of whom nothing changes once they are counted. Hence outcomes within a fixed time after the first exposure, of users
whose time is over; counts that go on growing, of the same users, are no such sequence.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from scipy.special import lambertw


@cache
def rho_squared(planned: int, alpha: float) -> float:
    """The mixture's variance for which the interval is narrowest at `planned` users; fixed before there are data.

    There y - log y = 1 - log alpha^2 with y = x + 1.
    """
    y = -float(np.real(lambertw(-(alpha**2) / math.e, k=-1)))
    return (y - 1) / planned


def always_valid_factor(n: int, planned: int, alpha: float) -> float:
    """Standard errors on each side, where a fixed sample has 1.96."""
    x = n * rho_squared(planned, alpha)
    return math.sqrt((x + 1) / x * math.log((x + 1) / alpha**2))


def always_valid_p(z: float, n: int, planned: int, alpha: float) -> float:
    """The least level at which the sequence leaves 0 out, for an estimate of z standard errors.

    Args:
        z: estimate over standard error.
        n: users.
        planned: as above.
        alpha: for which `rho_squared` was chosen; the p-value is valid whatever it is.

    """
    x = n * rho_squared(planned, alpha)
    return min(1.0, math.sqrt(x + 1) * math.exp(-(z**2) * x / (2 * (x + 1))))
