"""From a ranking to a list: items at places of their own, and no more than so many of one kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.columns import one_array

IntArray = npt.NDArray[np.int64]


class Capped:
    """At most `most` of the first `within` places (0: of all) hold items of one value.

    Attributes:
        most: items.
        within: places.

    """

    def __init__(self, column: pa.ChunkedArray, most: int, within: int) -> None:
        """Number the values of a column over the items; where it holds lists, an item has several."""
        self.most = most
        self.within = within
        values = one_array(column)
        if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
            rows = pc.list_parent_indices(values).to_numpy()
            values = values.flatten()
        else:
            rows = np.arange(len(values))
        numbers = pc.fill_null(values.dictionary_encode().indices, -1).to_numpy(zero_copy_only=False)
        is_there = numbers >= 0
        self._values = numbers[is_there].astype(np.int64)
        self._cuts = np.searchsorted(rows[is_there], np.arange(len(column) + 1))

    def values(self, row: int) -> list[int]:
        """Numbers of an item's values, each once; it is in no cap's way without one."""
        found: list[int] = self._values[self._cuts[row] : self._cuts[row + 1]].tolist()
        return list(dict.fromkeys(found))

    def holds_at(self, place: int) -> bool:
        """Whether it has a say in who gets this place, from 1."""
        return not self.within or place <= self.within


def arrange(
    ranking: Sequence[int], n: int, caps: Sequence[Capped], pins: Mapping[int, int], *, is_all: bool
) -> list[int] | None:
    """The first n rows of the list; fewer where there are no more. None: the ranking has to be longer.

    Each place goes to its pin or else to the first of the ranking that is not in the list and that no cap forbids. Who
    was passed over gets another look once a cap holds no more. Pins count before anything else, and no cap keeps one
    away. A place that nobody may have ends the list, but for the pins beyond.

    Whatever the ranking goes on with, the answer stands: its rows are taken from the beginning on.

    Args:
        ranking: rows, best first; none of the pins.
        n: places.
        caps: on what the list holds.
        pins: place to row.
        is_all: whether the ranking does not go on.

    """
    counts = [_Count(cap, pins) for cap in caps]
    found: list[int] = []
    waiting, passed, at = list(ranking), list[int](), 0
    holding = [c for c in counts if c.cap.holds_at(1)]
    while len(found) < n:
        place = len(found) + 1
        if place in pins:
            found.append(pins[place])
            continue
        still = [c for c in holding if c.cap.holds_at(place)]
        if len(still) < len(holding):
            holding, waiting, passed, at = still, passed + waiting[at:], [], 0
        while at < len(waiting) and any(c.is_full(waiting[at]) for c in holding):
            passed.append(waiting[at])
            at += 1
        if at == len(waiting):
            if not is_all:
                return None
            found += [row for beyond, row in sorted(pins.items()) if beyond > place]
            break
        for c in holding:
            c.add(waiting[at])
        found.append(waiting[at])
        at += 1
    return found[:n]


class _Count:
    """How many of each value a list has so far."""

    def __init__(self, cap: Capped, pins: Mapping[int, int]) -> None:
        self.cap = cap
        self._found: Counter[int] = Counter()
        for place, row in pins.items():
            if cap.holds_at(place):
                self.add(row)

    def add(self, row: int) -> None:
        self._found.update(self.cap.values(row))

    def is_full(self, row: int) -> bool:
        return any(self._found[value] >= self.cap.most for value in self.cap.values(row))
