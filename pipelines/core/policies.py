"""Lists that try something, and with what probability each item is where it is.

Dimensions: c candidates, n places, m draws.

A policy is given the candidates of one list, best first, and shows n of them. What it reports beside each is the
propensity: the probability that this policy shows this item at this place, given the request. Both kinds are exact
(docs/decisions/0019):

- Places drawn at random (`mix`) have a closed form: which places are drawn, and which items of a pool they get, is
  uniform.
- Thompson sampling draws m lists from the belief and shows one of them, each with probability 1/m. Given the m lists,
  which depend on the seed alone, the propensity is the share of them with this item at this place.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrc

from pipelines.core.belief import Belief
from pipelines.core.config import ExploreConfig
from pipelines.core.list_guard import affordable, best_by, loss, may_be_listed, most_loss, near_best
from pipelines.core.thompson import draw_lists

DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_NEARER = (1.0, 0.5, 0.25, 0.0)
"""What might be counts so much, until the list does not cost too much."""


@dataclass(frozen=True)
class Shown:
    """A list.

    Attributes:
        places: (n,) which candidate is at each place.
        propensities: (n,) of just this item at just this place.
        bonus: (n,) what was added to a candidate's score for its place.

    """

    places: IntArray
    propensities: DoubleArray
    bonus: DoubleArray


def rng_of(seed: int, request_id: str) -> np.random.Generator:
    """The draws of one request: the same on every replica."""
    digest = hashlib.blake2b(request_id.encode(), digest_size=16).digest()
    return np.random.default_rng([seed, int.from_bytes(digest, "little")])


def show(
    belief: Belief, is_cold: BoolArray, n: int, settings: ExploreConfig, rng: np.random.Generator
) -> Shown:
    """A list of n by the policy of the settings.

    Args:
        belief: about the candidates; their means fall but for those that are there only because they are cold.
        is_cold: (c,) may take one of the places that are kept for items seldom shown.
        n: at most c.
        settings: which policy, and its bounds.
        rng: of the request.

    """
    best = best_by(belief.means, n)
    if settings.policy == "none" or n <= settings.protected:
        return Shown(best, np.ones(n), np.zeros(n))
    if settings.policy == "thompson":
        return _thompson(belief, best, is_cold, settings, rng)
    if settings.policy == "ucb":
        return _upper_bound(belief, best, is_cold, settings, rng)
    return mix(belief.means, best, is_cold, settings.epsilon, settings, rng)


def mix(
    means: DoubleArray, base: IntArray, is_cold: BoolArray, epsilon: float, settings: ExploreConfig,
    rng: np.random.Generator, spent: float = 0.0,
) -> Shown:  # fmt: skip
    """A list in which some places, drawn uniformly, show others than `base` would.

    So many as there is room for show a cold item, of the rest each with probability epsilon another candidate; both
    drawn without replacement from what the guard leaves. A place that is not drawn keeps its item. Then an item of a
    pool is at a place with probability (expected number of such places) / (places x items of the pool).

    Args:
        means: (c,) scores.
        base: (n,) what each place shows when it is not drawn.
        is_cold: (c,).
        epsilon: of places that are not cold.
        settings: bounds.
        rng: of the request.
        spent: what `base` has lost already of what a list may lose.

    """
    n, free = len(base), np.arange(settings.protected, len(base))
    outside = np.ones(len(means), dtype=bool)
    outside[base] = False
    pool = np.flatnonzero(outside & near_best(means, settings))
    left = most_loss(means, best_by(means, n), settings) - spent
    pool, most = affordable(pool, means, base, left, settings)
    cold = pool[is_cold[pool]]
    cold = cold[np.argsort(-means[cold], kind="stable")[: settings.cold_candidates]]
    other = pool[~is_cold[pool]] if settings.cold_share > 0 else pool
    most = min(most, len(free))
    wanted = min(max(settings.cold_share * n - int(is_cold[base].sum()), 0.0), most, len(cold))
    n_cold = int(wanted) + int(rng.random() < wanted - int(wanted))
    n_other = min(int(rng.binomial(len(free) - n_cold, epsilon)), most - n_cold, len(other))
    drawn = rng.permutation(free)
    places, propensities = base.copy(), np.ones(n)
    expected = _expected_others(wanted, len(free), most, len(other), epsilon)
    propensities[free] = 1.0 - (wanted + expected) / max(len(free), 1)
    for some, chosen, count in (
        (cold, drawn[:n_cold], wanted),
        (other, drawn[n_cold : n_cold + n_other], expected),
    ):
        if len(chosen):
            places[chosen] = rng.choice(some, len(chosen), replace=False)
            propensities[chosen] = count / (len(free) * len(some))
    return Shown(places, propensities, np.zeros(n))


def _expected_others(wanted: float, free: int, most: int, pool: int, epsilon: float) -> float:
    """Expected number of places that `mix` draws beside the cold ones."""
    total, whole = 0.0, int(wanted)
    for n_cold, share in ((whole, 1.0 - (wanted - whole)), (whole + 1, wanted - whole)):
        limit = min(most - n_cold, pool)
        if share <= 0 or limit <= 0:
            continue
        # E min(X, l) is the sum over j < l of P(X > j)
        some = np.arange(min(limit, free - n_cold))
        total += share * float(bdtrc(some, free - n_cold, epsilon).sum())
    return total


def _thompson(
    belief: Belief, best: IntArray, is_cold: BoolArray, settings: ExploreConfig, rng: np.random.Generator
) -> Shown:
    """One of m lists, each as likely as another."""
    lists, added = draw_lists(belief, best, is_cold, settings, rng)
    shown = int(rng.integers(len(lists)))
    return Shown(lists[shown], (lists == lists[shown]).mean(axis=0), added[shown])


def _upper_bound(
    belief: Belief, best: IntArray, is_cold: BoolArray, settings: ExploreConfig, rng: np.random.Generator
) -> Shown:
    """The best by what they might be; which items that is does not change from request to request."""
    means, might = belief.means, settings.ucb_width * belief.sd
    for share in _NEARER:
        scores = np.where(may_be_listed(means, best, is_cold, settings), means + share * might, -np.inf)
        base = _best_of(scores[None], best, settings)[0]
        spent = float(loss(means, base[None], best)[0])
        if spent <= most_loss(means, best, settings):
            break
    mixed = mix(means, base, is_cold, 0.0, settings, rng, spent)
    bonus = np.where(mixed.places == base, _bonus(share * might, base, best, settings), 0.0)
    return Shown(mixed.places, mixed.propensities, bonus)


def _best_of(scores: DoubleArray, best: IntArray, settings: ExploreConfig) -> IntArray:
    """(m, n) the best by each row of (m, c) scores, after the protected places of `best`."""
    kept, rest = best[: settings.protected], scores.copy()
    rest[:, kept] = -np.inf
    n = len(best) - len(kept)
    top = np.argpartition(-rest, n - 1, axis=1)[:, :n]
    order = np.argsort(-np.take_along_axis(rest, top, axis=1), axis=1, kind="stable")
    lists = np.take_along_axis(top, order, axis=1)
    return np.concatenate([np.broadcast_to(kept, (len(scores), len(kept))), lists], axis=1)


def _bonus(added: DoubleArray, places: IntArray, best: IntArray, settings: ExploreConfig) -> DoubleArray:
    """(n,) what was added to the scores of a list, nothing at protected places."""
    bonus = added[places].copy()
    bonus[: min(settings.protected, len(best))] = 0.0
    return bonus
