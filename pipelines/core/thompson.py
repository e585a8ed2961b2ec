"""Lists drawn from a belief, one of which is shown (Thompson 1933): each place has a draw of its own.

Dimensions: c candidates, n places, m draws.

With one draw for a whole list all its places bet on the same guess of what the user wants; with one for each place a
list has several, which the user answers together. The m draws are shared: place k of list d is by draw d + k, so that a
list's draws are independent and m lists cost m draws.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.core.belief import Belief
from pipelines.core.config import ExploreConfig
from pipelines.core.list_guard import loss, may_be_listed, most_loss

DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_NEARER = (0.5, 0.25, 0.0)
"""A list that costs too much is drawn again so much nearer to the mean; at last as the mean."""


def draw_lists(
    belief: Belief, best: IntArray, is_cold: BoolArray, settings: ExploreConfig, rng: np.random.Generator
) -> tuple[IntArray, DoubleArray]:
    """M lists (m, n), and what the draws have added to the scores of their items (m, n).

    Args:
        belief: about the candidates.
        best: (n,) by their means.
        is_cold: (c,).
        settings: how many draws, bounds.
        rng: of the request.

    """
    means, m, n = belief.means, settings.draws, len(best)
    noise = belief.draw(m, rng) - means
    wanted = settings.cold_share * n
    n_cold = int(wanted) + (rng.random(m) < wanted - int(wanted))
    order, may = rng.random((m, n)), may_be_listed(means, best, is_cold, settings)
    every, share = np.arange(m), np.ones(m)
    lists = _by_draws(means, noise, may, every, share, best, settings)
    lists = give_places(lists, np.where(may, means + noise, -np.inf), is_cold, n_cold, order, settings)
    for nearer in _NEARER:
        dear = np.flatnonzero(loss(means, lists, best) > most_loss(means, best, settings))
        if not len(dear):
            break
        share[dear] = nearer
        again = _by_draws(means, noise, may, dear, share[dear], best, settings)
        scores = np.where(may, means + nearer * noise[dear], -np.inf)
        lists[dear] = give_places(again, scores, is_cold, n_cold[dear] * (nearer > 0), order[dear], settings)
    draws = (every[:, None] + np.arange(n)) % m
    added = share[:, None] * noise[draws, lists]
    added[:, : settings.protected] = 0.0
    return lists, added


def _by_draws(
    means: DoubleArray, noise: DoubleArray, may: BoolArray, which: IntArray, share: DoubleArray, best: IntArray,
    settings: ExploreConfig,
) -> IntArray:  # fmt: skip
    """(w, n) lists: after the protected places of `best` each place has the best that is left by its own draw.

    Args:
        means: (c,).
        noise: (m, c) of the draws.
        may: (c,) be listed.
        which: (w,) of the m lists.
        share: (w,) of the noise.
        best: (n,).
        settings: how many places are protected.

    """
    n, kept, rows = len(best), settings.protected, np.arange(len(which))
    lists = np.empty((len(which), n), dtype=np.int64)
    lists[:, :kept] = best[:kept]
    taken = np.tile(~may, (len(which), 1))
    taken[:, best[:kept]] = True
    for place in range(kept, n):
        scores = means + share[:, None] * noise[(which + place) % len(noise)]
        scores[taken] = -np.inf
        lists[:, place] = scores.argmax(axis=1)
        taken[rows, lists[:, place]] = True
    return lists


def give_places(
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
