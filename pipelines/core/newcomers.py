"""Users whom training must not know, and in which order what they did is revealed to the model.

Works on aggregated pairs: parallel arrays `user`, `item` and, for a time split, the pair's first `moment`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.signedinteger]
BoolArray = npt.NDArray[np.bool_]

TARGET = -1
"""In place of a number in the order: not revealed but to be found."""
_LEAST_PAIRS = 2


def hide_users(
    user: IntArray, wanted: BoolArray, order: npt.NDArray[np.generic], share: float
) -> npt.NDArray[np.int8]:
    """(U,) 1 for a user hidden for validation, 2 for test, 0 for the others.

    Only users who want two items or more can be hidden: one to be known by, one to be found.

    Args:
        user: (p,) of the pairs.
        wanted: (p,) whether the user wants the item.
        order: (U,) who is hidden before whom; by their ids, so that who comes tomorrow changes little of it.
        share: of those who can be.

    """
    eligible = np.flatnonzero(np.bincount(user[wanted], minlength=len(order)) >= _LEAST_PAIRS)
    chosen = eligible[np.argsort(order[eligible], kind="stable")][: round(share * len(eligible))]
    hidden = np.zeros(len(order), dtype=np.int8)
    hidden[chosen[: len(chosen) // 2]], hidden[chosen[len(chosen) // 2 :]] = 1, 2
    return hidden


def arriving_users(
    user: IntArray,
    wanted: BoolArray,
    moment: npt.NDArray[np.float64],
    cuts: tuple[float, float],
    n_users: int,
) -> npt.NDArray[np.int8]:
    """The same for a time split: who does their first thing after a cut, and enough of it before the next."""
    first = np.full(n_users, np.inf)
    np.minimum.at(first, user, moment)
    hidden = np.zeros(n_users, dtype=np.int8)
    for which, (start, stop) in enumerate([(cuts[0], cuts[1]), (cuts[1], np.inf)], start=1):
        inside = wanted & (moment >= start) & (moment < stop)
        enough = np.bincount(user[inside], minlength=n_users) >= _LEAST_PAIRS
        hidden[enough & (first >= start) & (first < stop)] = which
    return hidden


def reveal(user: IntArray, keys: Sequence[npt.NDArray[np.generic]]) -> tuple[IntArray, IntArray]:
    """Sort the pairs of each user and put the last third, at least one, aside as what is to be found.

    Args:
        user: (n,) of wanted pairs.
        keys: what a user's pairs are ordered by, most important first.

    Returns:
        (n,) positions of the pairs, by user and then in the order in which they are revealed; (n,) at these
        positions the number in that order, from 0, or TARGET.

    """
    order, place, sizes = _places(user, keys)
    return order, np.where(place < sizes - -(-sizes // 3), place, TARGET)


def first_half(user: IntArray, keys: Sequence[npt.NDArray[np.generic]]) -> BoolArray:
    """(n,) whether a pair is among the first half, rounded down, of its user's."""
    order, place, sizes = _places(user, keys)
    result = np.zeros(len(user), dtype=bool)
    result[order] = place < sizes // 2
    return result


def _places(user: IntArray, keys: Sequence[npt.NDArray[np.generic]]) -> tuple[IntArray, IntArray, IntArray]:
    """Positions sorted by user and key; at these, the place within the user's pairs and how many those are."""
    order = np.lexsort((*reversed(keys), user))
    starts = np.flatnonzero(np.diff(user[order], prepend=-1))
    sizes = np.diff(np.append(starts, len(user)))
    return order, np.arange(len(user)) - np.repeat(starts, sizes), np.repeat(sizes, sizes)
