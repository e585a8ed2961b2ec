"""The best rows of a matrix by inner product, exactly: screened as 8-bit codes, settled in single precision.

Dimensions: B users at once, I rows, D columns.

A screen (core/screening.py) reads little of each row and bounds what it did not read. The n rows that look best are
scored as they are; every row whose bound reaches the least of these could still be among the n best, and is scored too:
a few hundred of 100,000. The answer is that of scoring all rows, whatever they hold; only the time depends on how much
the screens can tell apart. The narrow one comes first; whoever it leaves too many rows for gets the whole one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from pipelines.core.errors import ArtefactError
from pipelines.core.screening import Rounded, Screen, find_narrow, round_rows, share_along

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
In = TypeVar("In")
Out = TypeVar("Out")

_CHUNK = 4096
"""Rows that are gathered at once."""
_MANY = 32
"""A narrow screen that leaves more than one row in so many has told too little."""
_ALONG = 0.5
"""Share of a user's squared length along the narrow screen's directions, from which it is worth a try."""
_MORE = 128
"""Rows that are scored first beyond those wanted: the better the n best of them, the fewer others remain."""
_LOWEST = np.finfo(np.float32).min
"""Of a score; what may not be chosen is below."""
_HIGHEST = 8192
"""Rows with the largest additions, which a search by score alone need not find."""


@dataclass(frozen=True, eq=False)
class Additions:
    """What rows get beside their scores, whoever asks.

    Attributes:
        values: (I,) finite.
        highest: rows whose values are above `rest`, rising; at most some thousands.
        rest: the largest value of all other rows.

    """

    values: FloatArray
    highest: IntArray
    rest: float

    @classmethod
    def of(cls, values: FloatArray) -> Additions:
        """Find the highest."""
        if len(values) <= _HIGHEST:
            return cls(values, np.arange(len(values)), -np.inf)
        rest = float(np.partition(values, len(values) - _HIGHEST - 1)[len(values) - _HIGHEST - 1])
        return cls(values, np.flatnonzero(values > rest), rest)

    def first(self, n: int) -> Additions:
        """Those of the first n rows."""
        return Additions(self.values[:n], self.highest[self.highest < n], self.rest)


@dataclass(frozen=True)
class Wanted:
    """What one user asks of the rows.

    Attributes:
        user: (D,) finite.
        n: how many rows; fewer come back where fewer are allowed.
        allowed: (I,) rows that may be chosen; None: all.
        left_out: rows that may not, whatever `allowed` says.
        additions: to the scores; None: nothing.
        unit: how much an addition of 1 is to this user.

    """

    user: FloatArray
    n: int
    allowed: BoolArray | None
    left_out: IntArray
    additions: Additions | None = None
    unit: float = 0.0


@dataclass(frozen=True)
class Ranked:
    """The chosen rows and their scores, best first; equal scores in the order of rows."""

    rows: IntArray
    scores: FloatArray


class Ranker(Protocol):
    """Chooses rows for several users at once."""

    def best(self, wanted: Sequence[Wanted]) -> list[Ranked]:
        """The n best rows of each."""
        ...


def score(vectors: FloatArray, rows: IntArray, user: FloatArray) -> FloatArray:
    """Scores of some rows; each by itself, so that equal rows score the same whatever is scored beside them."""
    if len(rows) <= _CHUNK:
        return np.asarray(np.einsum("ij,j->i", vectors[rows], user))
    parts = np.array_split(rows, -(-len(rows) // _CHUNK))
    return np.concatenate([np.einsum("ij,j->i", vectors[part], user) for part in parts])


def total(vectors: FloatArray, rows: IntArray, wanted: Wanted) -> FloatArray:
    """Scores of some rows with what is added to them."""
    return add(score(vectors, rows, wanted.user), rows, wanted.additions, wanted.unit)


def add(scores: FloatArray, rows: IntArray, additions: Additions | None, unit: float) -> FloatArray:
    """Scores of some rows with what is added to them."""
    if additions is None:
        return scores
    return np.asarray(scores + np.float32(unit) * additions.values[rows])


def choose(rows: IntArray, scores: FloatArray, n: int) -> Ranked:
    """The n largest of `scores`, best first; of equal ones the first row, for which `rows` must rise."""
    if len(rows) > n:
        least = np.partition(scores, len(rows) - n)[len(rows) - n]
        kept = scores >= least
        rows, scores = rows[kept], scores[kept]
    order = np.argsort(-scores, kind="stable")[:n]
    return Ranked(rows[order], scores[order])


class Threads:
    """Runs independent pieces of a batch side by side; what they call releases the GIL."""

    def __init__(self, n: int) -> None:
        """With one thread everything runs in the caller's."""
        self.n = n
        self._pool = ThreadPoolExecutor(n - 1, "kindling-rank") if n > 1 else None

    def map(self, work: Callable[[In], Out], pieces: Iterable[In]) -> list[Out]:
        """Work on each piece, in their order."""
        first, *others = pieces
        if self._pool is None or not others:
            return [work(piece) for piece in (first, *others)]
        running = [self._pool.submit(work, piece) for piece in others]
        return [work(first), *(future.result() for future in running)]


class ExactRanker:
    """A `Ranker` that misses nothing."""

    def __init__(self, vectors: FloatArray, threads: int = 1) -> None:
        """Round the rows; keeps `vectors` (I, D) and a quarter to three eighths of their size beside them.

        Raises:
            ArtefactError: a number is not finite; its row could not be ranked, and would hide what to bound others by.

        """
        finite = np.isfinite(np.einsum("ij->i", vectors, dtype=np.float64))
        if not finite.all():
            raise ArtefactError(
                f"item vectors: row {int(finite.argmin())} is not finite. Run `kindling build` again."
            )
        self._vectors = vectors
        self._threads = Threads(threads)
        self._memory = threading.local()
        narrow = find_narrow(vectors)
        self._narrow = None if narrow is None else Screen(vectors, threads, narrow)
        self._whole = Screen(vectors, threads)

    def best(self, wanted: Sequence[Wanted]) -> list[Ranked]:
        """The n best rows of each; one pass over the rows for all."""
        if not wanted or not len(self._vectors):
            return [Ranked(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)) for _ in wanted]
        users = np.stack([w.user for w in wanted])
        answers: dict[int, Ranked] = {}
        if self._narrow is not None:
            shortened = self._narrow.shorten(users)
            places = np.flatnonzero(share_along(shortened) >= _ALONG)
            self._answer(wanted, places, shortened[places], self._narrow, answers)
        places = np.array([place for place in range(len(wanted)) if place not in answers], dtype=np.int64)
        self._answer(wanted, places, users[places], self._whole, answers)
        return [answers[place] for place in range(len(wanted))]

    def _answer(
        self,
        wanted: Sequence[Wanted],
        places: IntArray,
        seen: FloatArray,
        screen: Screen,
        answers: dict[int, Ranked],
    ) -> None:
        """Add the answers at `places`, where the users are `seen`, unless the screen leaves too many rows."""
        if not len(places):
            return
        most = len(self._vectors) // (1 if screen is self._whole else _MANY)
        users = round_rows(seen)
        screened = self._room(len(places))
        self._threads.map(lambda share: screen.score(share, users, screened), screen.shares)
        for b, place in enumerate(places.tolist()):
            rows = self._may_be_best(wanted[place], screen, screened[b], users, b)
            if len(rows) <= most:
                scores = total(self._vectors, rows, wanted[place])
                answers[place] = choose(rows, scores, wanted[place].n)

    def _room(self, n_users: int) -> FloatArray:
        """(n_users, I) to write scores to; kept by the calling thread, for new memory has to be cleared first."""
        room: FloatArray | None = getattr(self._memory, "room", None)
        if room is None or len(room) < n_users:
            room = self._memory.room = np.empty((n_users, len(self._vectors)), dtype=np.float32)
        return room[:n_users]

    def _may_be_best(
        self, wanted: Wanted, screen: Screen, screened: FloatArray, users: Rounded, b: int
    ) -> IntArray:
        """Every row that may be among the n best by exact scores, rising.

        Args:
            wanted: by user b.
            screen: that made the scores.
            screened: (I,) of user b; overwritten.
            users: rounded, of the batch.
            b: which of them.

        """
        if wanted.additions is not None:  # known as they are: the bounds hold for the sums as for the scores
            screened += np.float32(wanted.unit / float(users.scales[b])) * wanted.additions.values
        screened[wanted.left_out] = -np.inf
        if wanted.allowed is not None:
            screened[~wanted.allowed] = -np.inf
        first = min(wanted.n + _MORE, len(screened))
        lowest = np.partition(screened, len(screened) - first)[len(screened) - first]
        rows = np.flatnonzero(screened >= max(lowest, _LOWEST))[:first]
        if len(rows) <= wanted.n:  # no more are allowed than wanted
            return rows
        scores = total(self._vectors, rows, wanted)
        least = np.partition(scores, len(rows) - wanted.n)[len(rows) - wanted.n]
        return screen.reaching(float(least), screened, users, b)
