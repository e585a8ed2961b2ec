"""Which users are in an experiment and which variant each of them sees: by hash, so that nothing is kept of anybody.

A user's hash falls into one of `N_SLOTS` slots. Owners, which are the experiments or the variants of one, hold slots.
An owner that grows takes slots nobody holds, so all others keep every user they have (Bakshy, Eckles and Bernstein
2014, "Designing and deploying online field experiments": segments of a namespace).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from itertools import groupby

from pipelines.core.errors import InputError

N_SLOTS = 10_000
Slots = tuple[tuple[int, int], ...]
"""Intervals [first, end) in order, apart from one another."""
_ROUNDING = 1e-6


def slot_of(salt: str, user_id: str) -> int:
    """The slot of a user: uniform, and independent from one salt to another.

    Args:
        salt: of what is shared out; no line ends.
        user_id: any text.

    """
    digest = hashlib.blake2b(f"{salt}\n{user_id}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) * N_SLOTS) >> 64


def owner_of(held: Mapping[str, Slots], slot: int) -> str | None:
    """Who holds a slot; None: nobody."""
    return next((owner for owner, slots in held.items() if is_in(slots, slot)), None)


def is_in(slots: Slots, slot: int) -> bool:
    """Whether a slot is one of these."""
    return any(first <= slot < end for first, end in slots)


def share_of(slots: Slots) -> float:
    """Share of all slots."""
    return sum(end - first for first, end in slots) / N_SLOTS


def reallocate(held: Mapping[str, Slots], shares: Mapping[str, float]) -> dict[str, Slots]:
    """Slots by new shares. Whose share does not fall keeps all it has; what is given up is what came last.

    Shares are rounded down to slots, each by itself: no other owner's share changes it.

    Args:
        held: what each owner holds now; who is not in `shares` gives all of it up.
        shares: of all slots, 0 to 1, together at most 1.

    Raises:
        InputError: together they are more than all.

    """
    total = math.fsum(shares.values())
    if total > 1 + _ROUNDING or any(share < 0 for share in shares.values()):
        raise InputError(f"shares of {total:.4g} in all: expected each 0 or more, and 1 at most together.")
    wanted = {owner: math.floor(share * N_SLOTS + _ROUNDING) for owner, share in shares.items()}
    kept = {owner: _slots(held.get(owner, ()))[:n] for owner, n in wanted.items()}
    taken = {slot for slots in kept.values() for slot in slots}
    free = (slot for slot in range(N_SLOTS) if slot not in taken)
    return {
        owner: _intervals(slots + [next(free) for _ in range(wanted[owner] - len(slots))])
        for owner, slots in kept.items()
    }


def _slots(intervals: Slots) -> list[int]:
    return [slot for first, end in intervals for slot in range(first, end)]


def _intervals(slots: list[int]) -> Slots:
    runs = groupby(enumerate(sorted(slots)), key=lambda numbered: numbered[1] - numbered[0])
    found = [[slot for _, slot in run] for _, run in runs]
    return tuple((run[0], run[-1] + 1) for run in found)
