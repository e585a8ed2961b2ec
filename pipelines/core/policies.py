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

DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_NEARER = (0.5, 0.25, 0.0)
"""A draw that costs too much is tried again so much nearer to the mean; at last as the mean."""


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
    best = _best(belief.means, n)
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
    pool = np.flatnonzero(outside & _near_best(means, settings))
    left = _most_loss(means, _best(means, n), settings) - spent
    pool, most = _affordable(pool, means, base, left, settings)
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
    """One of m lists, each the best by a draw from the belief."""
    means, m, n = belief.means, settings.draws, len(best)
    noise = belief.draw(m, rng) - means
    wanted = settings.cold_share * n
    n_cold = int(wanted) + (rng.random(m) < wanted - int(wanted))
    order, may = rng.random((m, n)), _may_be_listed(means, best, is_cold, settings)
    scores = np.where(may, means + noise, -np.inf)
    lists = _give_places(_best_of(scores, best, settings), scores, is_cold, n_cold, order, settings)
    for share in _NEARER:
        dear = np.flatnonzero(_loss(means, lists, best) > _most_loss(means, best, settings))
        if not len(dear):
            break
        scores[dear] = np.where(may, means + share * noise[dear], -np.inf)
        nearer, some = _best_of(scores[dear], best, settings), n_cold[dear] * (share > 0)
        lists[dear] = _give_places(nearer, scores[dear], is_cold, some, order[dear], settings)
    shown = int(rng.integers(m))
    places = lists[shown]
    return Shown(
        places, (lists == places).mean(axis=0), _bonus(scores[shown] - means, places, best, settings)
    )


def _upper_bound(
    belief: Belief, best: IntArray, is_cold: BoolArray, settings: ExploreConfig, rng: np.random.Generator
) -> Shown:
    """The best by what they might be; which items that is does not change from request to request."""
    means, might = belief.means, settings.ucb_width * belief.sd
    for share in (1.0, *_NEARER):
        scores = np.where(_may_be_listed(means, best, is_cold, settings), means + share * might, -np.inf)
        base = _best_of(scores[None], best, settings)[0]
        spent = float(_loss(means, base[None], best)[0])
        if spent <= _most_loss(means, best, settings):
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


def _give_places(
    lists: IntArray, scores: DoubleArray, is_cold: BoolArray, wanted: IntArray, order: DoubleArray,
    settings: ExploreConfig,
) -> IntArray:  # fmt: skip
    """Lists with at least so many cold items, where there are any left: the best of them at places drawn uniformly.

    Args:
        lists: (m, n) changed in place.
        scores: (m, c) by which cold items are chosen.
        is_cold: (c,).
        wanted: (m,) cold items in each list.
        order: (m, n) uniform numbers; the smallest places are given.
        settings: how many places are protected.

    """
    missing = wanted - is_cold[lists].sum(axis=1)
    width = min(int(missing.max(initial=0)), int(is_cold.sum()), lists.shape[1] - settings.protected)
    if width <= 0:
        return lists
    left = np.where(is_cold, scores, -np.inf)
    np.put_along_axis(left, lists, -np.inf, axis=1)
    chosen = np.argsort(-left, axis=1, kind="stable")[:, :width]
    keys = np.where(is_cold[lists], np.inf, order)
    keys[:, : settings.protected] = np.inf
    places = np.argsort(keys, axis=1, kind="stable")[:, :width]
    given = np.arange(width) < missing[:, None]
    given &= np.isfinite(np.take_along_axis(left, chosen, axis=1))
    given &= np.isfinite(np.take_along_axis(keys, places, axis=1))
    there = np.take_along_axis(lists, places, axis=1)
    np.put_along_axis(lists, places, np.where(given, chosen, there), axis=1)
    return lists


def _may_be_listed(
    means: DoubleArray, best: IntArray, is_cold: BoolArray, settings: ExploreConfig
) -> BoolArray:
    """(c,) near enough to the best, and of the cold ones the best few; what is listed anyway may stay."""
    may = _near_best(means, settings)
    cold = np.flatnonzero(is_cold)
    may[cold[np.argsort(-means[cold], kind="stable")[settings.cold_candidates :]]] = False
    may[best] = True
    return may


def _near_best(means: DoubleArray, settings: ExploreConfig) -> BoolArray:
    top = float(means.max())
    return np.asarray(means >= top - settings.margin * abs(top))


def _discounts(n: int) -> DoubleArray:
    """(n,) how much of a place is looked at, as DCG has it."""
    return np.asarray(1.0 / np.log2(2.0 + np.arange(n)))


def _loss(means: DoubleArray, lists: IntArray, best: IntArray) -> DoubleArray:
    """(m,) what lists (m, n) score less than the best one, discounted by place."""
    return np.asarray((means[best] - means[lists]) @ _discounts(len(best)))


def _most_loss(means: DoubleArray, best: IntArray, settings: ExploreConfig) -> float:
    """What a list may lose; what rounding makes of no loss is none."""
    return (settings.max_loss + 1e-9) * float(np.abs(means[best]) @ _discounts(len(best)))


def _affordable(
    pool: IntArray, means: DoubleArray, base: IntArray, left: float, settings: ExploreConfig
) -> tuple[IntArray, int]:
    """Of the pool what one place may cost, and how many places may be drawn whatever they then show."""
    if not len(pool) or len(base) <= settings.protected:
        return pool[:0], 0
    dearest = float(means[base[settings.protected :]].max())
    share = float(_discounts(len(base))[settings.protected])
    pool = pool[share * (dearest - means[pool]) <= left]
    if not len(pool):
        return pool, 0
    shortfall = share * (dearest - float(means[pool].min()))
    return pool, len(base) if shortfall <= 0 else int(min(left / shortfall, len(base)))


def _best(means: DoubleArray, n: int) -> IntArray:
    return np.argsort(-means, kind="stable")[:n]


def _bonus(added: DoubleArray, places: IntArray, best: IntArray, settings: ExploreConfig) -> DoubleArray:
    """(n,) what was added to the scores of a list, nothing at protected places."""
    bonus = added[places].copy()
    bonus[: min(settings.protected, len(best))] = 0.0
    return bonus
