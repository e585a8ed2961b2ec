"""In which order examples are met, as a function of where one is: nothing to store, nothing to restore.

Examples lie in storage in one random order. An epoch visits windows of them in an order of its own, and the rows of a
window likewise, so that no more than windows are ever held. Epochs follow one another without a seam; a step takes
the next `batch` of this endless sequence, and worker r of n its part of that: what a batch holds does not depend on
how many workers there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
BATCHES_PER_WINDOW = 64
_OF_WINDOWS, _OF_ROWS = 0, 1
"""Concerns of one seed."""


@dataclass(frozen=True)
class Order:
    """The sequence of examples.

    Attributes:
        n_rows: examples of an epoch, one or more.
        batch: examples of a step.
        window: rows that are shuffled, and held, together.
        seed: of the order.

    """

    n_rows: int
    batch: int
    window: int
    seed: int

    def steps(self, first: int) -> Iterator[IntArray]:
        """(batch,) row numbers of step `first` and every one after it."""
        epoch, skipped = divmod(first * self.batch, self.n_rows)
        held = np.zeros(0, dtype=np.int64)
        while True:
            for window in self._windows(epoch).tolist():
                start = window * self.window
                size = min(self.window, self.n_rows - start)
                if skipped >= size:
                    skipped -= size
                    continue
                shuffled = np.random.default_rng([self.seed, epoch, _OF_ROWS, window]).permutation(size)
                held = np.concatenate([held, start + shuffled[skipped:]])
                skipped = 0
                while len(held) >= self.batch:
                    yield held[: self.batch]
                    held = held[self.batch :]
            epoch += 1

    def _windows(self, epoch: int) -> IntArray:
        n = -(-self.n_rows // self.window)
        return np.random.default_rng([self.seed, epoch, _OF_WINDOWS]).permutation(n)

    def part(self, rank: int, world: int) -> slice:
        """Which part of a batch belongs to worker `rank` of `world`; sizes differ by one at most."""
        return slice(self.batch * rank // world, self.batch * (rank + 1) // world)
