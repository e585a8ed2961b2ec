"""Who interacts with what, when and how, given the affinities.

A user's items are drawn without replacement with odds exp(affinity + log popularity + log share of the period
in which the item was on sale): the Gumbel top-k trick draws a whole block of users at once.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipelines.core.catalogue.tastes import Floats, Ints

DAY = 86_400.0
END = 1_780_272_000.0
"""2026-06-01 00:00 UTC, in seconds: nothing happens at or after it."""
PERIOD = 548 * DAY
"""About eighteen months: nothing happens before END - PERIOD."""

MIN_INTERACTIONS = 3
MAX_SHARE_OF_ITEMS = 0.5
"""No user interacts with more than this share of the items."""

EVENT_SHARES = {"view": 0.58, "click": 0.25, "cart": 0.10, "purchase": 0.07}
"""Events from the shallowest to the deepest, with their shares."""

Doubles = npt.NDArray[np.float64]

_ZIPF_EXPONENT = 0.5
_ACTIVITY_SIGMA = 1.0
_BLOCK = 512
_TINY = np.float32(1e-30)


def draw_created_at(n_items: int, rng: np.random.Generator) -> Doubles:
    """Draw when each item went on sale, in whole seconds UTC.

    Half are older than the period, 15 % appear in its last fifth (the last day excepted), the rest between.
    """
    place = rng.permutation(n_items) / n_items
    since_start = np.select(
        [place < 0.5, place < 0.85],
        [rng.uniform(-700 * DAY, 0.0, n_items), rng.uniform(0.0, 0.8 * PERIOD, n_items)],
        default=rng.uniform(0.8 * PERIOD, PERIOD - DAY, n_items),
    )
    return np.floor(END - PERIOD + since_start)


def draw_counts(n_users: int, n_interactions: int, n_items: int, rng: np.random.Generator) -> Ints:
    """Share out the interactions: long-tailed, at least `MIN_INTERACTIONS` each, adding up exactly."""
    limit = max(MIN_INTERACTIONS, int(MAX_SHARE_OF_ITEMS * n_items))
    activity = rng.lognormal(sigma=_ACTIVITY_SIGMA, size=n_users)
    counts = np.full(n_users, MIN_INTERACTIONS, dtype=np.int64)
    while (left := n_interactions - int(counts.sum())) > 0:
        odds = np.where(counts < limit, activity, 0.0)
        counts = np.minimum(counts + rng.multinomial(left, odds / odds.sum()), limit)
    return counts


def draw_interactions(
    user_tastes: Floats,
    item_tastes: Floats,
    created_at: Doubles,
    n_interactions: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Draw the interactions as `user_idx`, `item_idx`, `weight`, `timestamp`, `event`, oldest first.

    Pairs are distinct; a timestamp (whole seconds UTC) is never earlier than the item's `created_at`.
    """
    n_users, n_items = len(user_tastes), len(item_tastes)
    counts = draw_counts(n_users, n_interactions, n_items, rng)
    popularity = -_ZIPF_EXPONENT * np.log1p(rng.permutation(n_items))
    on_sale = np.minimum(1.0, (END - created_at) / PERIOD)
    item_idx, affinity = _draw_pairs(
        user_tastes, item_tastes, (popularity + np.log(on_sale)).astype(np.float32), counts, rng
    )
    user_idx = np.repeat(np.arange(n_users), counts)
    frame = pd.DataFrame(
        {
            "user_idx": user_idx,
            "item_idx": item_idx,
            "weight": 1.0,
            "timestamp": _draw_times(user_idx, created_at[item_idx], n_users, rng),
            "event": _draw_events(affinity, counts, rng),
        }
    )
    return frame.sort_values(["timestamp", "user_idx", "item_idx"], ignore_index=True)


def _draw_pairs(
    user_tastes: Floats, item_tastes: Floats, item_logits: Floats, counts: Ints, rng: np.random.Generator
) -> tuple[Ints, Floats]:
    """Draw counts[u] distinct items for every user; give them user by user, with their affinities."""
    items: list[Ints] = []
    affinities: list[Floats] = []
    # Blocks keep the user-by-item matrix small for any number of users.
    for start in range(0, len(user_tastes), _BLOCK):
        block = slice(start, start + _BLOCK)
        affinity = user_tastes[block] @ item_tastes.T
        # Gumbel noise: minus the log of an exponential variate. The k largest sums are the draw.
        noise = -np.log(rng.standard_exponential(affinity.shape, dtype=np.float32) + _TINY)
        keys = affinity + item_logits + noise
        widest = int(counts[block].max())
        top = np.argpartition(-keys, widest - 1, axis=1)[:, :widest]
        top = np.take_along_axis(top, np.argsort(-np.take_along_axis(keys, top, axis=1), axis=1), axis=1)
        wanted = np.arange(widest) < counts[block][:, None]
        items.append(top[wanted])
        affinities.append(np.take_along_axis(affinity, top, axis=1)[wanted])
    return np.concatenate(items), np.concatenate(affinities)


def _draw_times(user_idx: Ints, created_at: Doubles, n_users: int, rng: np.random.Generator) -> Doubles:
    """Draw a time for each interaction, after both the item's arrival and the user's."""
    # Most users come early in the period, a few in its last weeks.
    joined = END - PERIOD * (1.0 - 0.9 * rng.beta(1.0, 2.0, size=n_users))
    earliest = np.maximum(created_at, joined[user_idx])
    return np.floor(earliest + rng.random(len(user_idx)) * (END - earliest))


def _draw_events(affinity: Floats, counts: Ints, rng: np.random.Generator) -> npt.NDArray[np.object_]:
    """Give each interaction an event, in exact shares; a higher affinity makes a deeper one likelier.

    Affinity counts relative to the user's own mean: some users like everything more.
    """
    starts = np.cumsum(counts) - counts
    relative = affinity - np.repeat(np.add.reduceat(affinity, starts) / counts, counts)
    depth = relative / (relative.std() + 1e-6) + rng.standard_normal(len(affinity))
    place = np.empty(len(depth))
    place[np.argsort(depth, kind="stable")] = (np.arange(len(depth)) + 0.5) / len(depth)
    bounds = np.cumsum(list(EVENT_SHARES.values()))[:-1]
    return np.array(list(EVENT_SHARES), dtype=object)[np.searchsorted(bounds, place)]
