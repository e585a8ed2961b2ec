"""How many users an experiment needs, or what it can show with those there are; before it begins."""

from __future__ import annotations

import math

from scipy import stats

from pipelines.core.experiments.sequential import always_valid_factor


def users_needed(
    deviation: float, effect: float, shares: tuple[float, float], alpha: float, power: float, *, peeking: bool
) -> int:
    """Users of both variants together that find an effect with this probability.

    Args:
        deviation: standard deviation of the metric among users; of a share p it is sqrt(p (1 - p)).
        effect: difference of the means that is to be found.
        shares: of the control and the variant, to any scale.
        alpha: probability of finding what is not there.
        power: of finding the effect.
        peeking: one looks all the time, with always-valid intervals that are narrowest at the number returned; most
            experiments with a larger effect then end earlier.

    """
    factor = _standard_errors(alpha, power, peeking=peeking)
    return math.ceil((factor * deviation / effect) ** 2 * _spread(shares))


def detectable_effect(
    deviation: float, users: int, shares: tuple[float, float], alpha: float, power: float, *, peeking: bool
) -> float:
    """The least effect that so many users find with this probability; arguments as above."""
    factor = _standard_errors(alpha, power, peeking=peeking)
    return factor * deviation * math.sqrt(_spread(shares) / users)


def _standard_errors(alpha: float, power: float, *, peeking: bool) -> float:
    edge = always_valid_factor(1, 1, alpha) if peeking else float(stats.norm.ppf(1 - alpha / 2))
    return edge + float(stats.norm.ppf(power))


def _spread(shares: tuple[float, float]) -> float:
    """N times the variance of a difference of means of unit variance."""
    total = sum(shares)
    return sum(total / share for share in shares)
