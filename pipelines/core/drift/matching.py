"""Which rows of two builds are the same items, or the same users, and which of them are looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.core.ids import hash_ids, row_numbers

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Match:
    """Rows of two builds, side by side.

    Attributes:
        to_after: (n,) row in the later build, -1 where it is gone.
        n_after: rows there.
        samples: rows of the earlier and of the later build that are looked at, ascending.
        common: (c,) rows of both that are looked at and are the same.

    """

    to_after: IntArray
    n_after: int
    samples: tuple[IntArray, IntArray]
    common: tuple[IntArray, IntArray]

    @property
    def n_before(self) -> int:
        """Rows of the earlier build."""
        return len(self.to_after)

    @property
    def n_common(self) -> int:
        """Rows that are in both."""
        return int((self.to_after >= 0).sum())


def match(before: pa.Array, after: pa.Array, most: int) -> Match:
    """Find rows by their ids.

    Looked at are about `most` of the larger build, those whose ids have the smallest hashes: the same ones in both
    builds, and in every rebuild.
    """
    to_after = row_numbers(before, after)
    share = most / max(len(before), len(after), 1)
    limit = np.uint64(min(int(share * 2.0**64), 2**64 - 1))
    first, second = (
        np.flatnonzero(hash_ids(ids.to_numpy(zero_copy_only=False)) <= limit) for ids in (before, after)
    )
    both = first[to_after[first] >= 0]
    return Match(to_after, len(after), (first, second), (both, to_after[both]))
