"""What becomes of a request on its way to a list: its texts as vectors, its user's history, what may be answered."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipelines.core.aggregate import ROUNDING
from pipelines.core.foldin import FoldedUser, Profile
from pipelines.core.ranking import Wanted
from serving.requests import Request
from serving.rules import Ruled

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
_DEEPER = 4
"""Times more items are ranked where caps have left too few."""


@dataclass(frozen=True)
class Known:
    """What a request amounts to: words and events with their vectors, and what must not be shown.

    `touched` are the items that the user has seen, `event_items` those whose weights do not cancel. New events take
    part when they change what the history alone says. `passed_items` were shown and not touched, `passed_looks` says
    how surely they were looked at.
    """

    word_names: list[str]
    words: FloatArray
    word_weights: FloatArray
    event_items: npt.NDArray[np.int64]
    event_weights: FloatArray
    touched: npt.NDArray[np.int64]
    stored_row: int | None
    new_take_part: bool
    passed_items: npt.NDArray[np.int64]
    passed_looks: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Words:
    """The texts of one request: what each is, its vector and how many liked items it counts as."""

    names: list[str]
    vectors: FloatArray
    weights: list[float]


@dataclass(frozen=True)
class Understood:
    """A request ready to be ranked; where nothing is known of the user, `wanted` and `parts` are None.

    Attributes:
        place: among the requests of the batch.
        request: as it came.
        known: what it amounts to.
        allowed: (I,) items that meet its filter; None: it has none.
        left_out: rows of items that are hidden, excluded or known to the user, and of pins.
        depth: how many items to rank.
        ruled: what business rules make of it.
        wanted: what to ask the ranker.
        parts: of the user, to explain scores by.

    """

    place: int
    request: Request
    known: Known
    allowed: BoolArray | None
    left_out: npt.NDArray[np.int64]
    depth: int
    ruled: Ruled
    wanted: Wanted | None = None
    parts: tuple[Profile, FoldedUser] | None = None


def look_deeper(asked: Understood) -> Understood:
    """The same request, a longer ranking."""
    depth = _DEEPER * asked.depth
    wanted = None if asked.wanted is None else replace(asked.wanted, n=depth)
    return replace(asked, depth=depth, wanted=wanted)


def merge_events(
    rows: npt.NDArray[np.int64], weights: FloatArray
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Sum the weights of each item; an item whose weights cancel says nothing."""
    unique, inverse = np.unique(rows, return_inverse=True)
    summed = np.bincount(inverse, weights=weights, minlength=len(unique))
    size = np.bincount(inverse, weights=np.abs(weights), minlength=len(unique))
    kept = np.abs(summed) > ROUNDING * size
    return unique[kept], summed[kept].astype(np.float32)
