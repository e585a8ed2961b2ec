"""Whom a new item would be shown to, by its text: its neighbours, and its place in the lists of a sample of users."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.core import audience as core
from serving.catalogue import Catalogue
from serving.metadata import describe, flatten_texts, is_list
from serving.recommender import Recommender
from serving.requests import Request
from serving.understanding import Understood

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
_SEED = 20
REACH_AT = (1, 5, 10, 20, 50, 100, 500)
"""Places up to which the share of users is told, as far as lists go."""
_MOST_INTERESTS, _MOST_USERS = 8, 20


@dataclass(frozen=True)
class Interest:
    """What users who would see the item want more often than others: see `pipelines.core.audience`."""

    column: str
    value: str
    users: int
    share: float
    typical_share: float


@dataclass(frozen=True)
class Audience:
    """Whom an item would reach.

    Attributes:
        n_users: of the sample.
        reach: n to the share of the sample in whose n best items it would be; empty for too few users.
        median_rank: of it, in the sample; None: beyond the longest list for half of them.
        interests: what those have in common in whose `n` best items it would be.
        users: ids of those who would see it first, with its rank.
        text_ranks: its rank for each text of a user that was given; None: beyond the longest list.

    """

    n_users: int
    reach: dict[int, float]
    median_rank: int | None
    interests: list[Interest]
    users: list[tuple[str, int]]
    text_ranks: list[int | None]


class Sample:
    """Users of one version, drawn once, with what each would see: then an item costs one product."""

    def __init__(self, model: Recommender, most: int) -> None:
        """Draw at most `most` of those of whom something is known."""
        self.version = model.version
        self._depth = model.config.serve.max_n
        user_ids = model.user_ids
        drawn = np.random.default_rng(_SEED).permutation(len(user_ids))[:most]
        asked = model.understand([Request(user_id=user_ids[row], n=self._depth) for row in sorted(drawn)])
        self._users = [u for u in asked if u.wanted is not None]
        self.user_ids = [str(u.request.user_id) for u in self._users]
        self._vectors, self._lists = _rank(model, self._users)
        self._values, self._wants = self._categories(model.catalogue)

    def _categories(self, catalogue: Catalogue) -> tuple[list[tuple[str, str]], BoolArray]:
        """Values of categorical columns, and (U, V) whether a user wanted an item that has it."""
        values: list[tuple[str, str]] = []
        blocks = [np.zeros((len(self._users), 0), dtype=bool)]
        table = catalogue.bundle.table
        liked = [u.known.event_items[u.known.event_weights > 0] for u in self._users]
        liked = [rows[rows < len(table)] for rows in liked]  # of what came since, the next build tells
        for facts in describe(table):
            column = table.column(facts.name)
            if not facts.values or flatten_texts(column) is None or facts.type == "bool":
                continue
            numbers = {value: number for number, value in enumerate(facts.values)}
            has_lists = is_list(column.type)
            block = np.zeros((len(self._users), len(numbers)), dtype=bool)
            for user, rows in enumerate(liked):
                for cell in column.take(rows).to_pylist():
                    for value in (cell or []) if has_lists else [cell]:
                        if value in numbers:
                            block[user, numbers[value]] = True
            values += [(facts.name, value) for value in numbers]
            blocks.append(block)
        return values, np.concatenate(blocks, axis=1)

    def audience(
        self,
        model: Recommender,
        vector: FloatArray,
        n: int,
        texts: Sequence[str],
        forgotten: Mapping[str, float],
    ) -> Audience:
        """Whom the item with this vector would reach.

        Args:
            model: of this version, with what has come since.
            vector: see `Recommender.place_text`.
            n: places of a list that count as seen.
            texts: what users say of themselves.
            forgotten: users, and when they were forgotten: of them nothing from before may be used.

        """
        usable = [model.users.row(user, forgotten.get(user)) is not None for user in self.user_ids]
        kept = np.array(usable, dtype=bool)
        lists = [best for best, is_kept in zip(self._lists, kept, strict=True) if is_kept]
        ranks = core.places(self._vectors[kept] @ vector, lists) if lists else np.zeros(0, dtype=np.int64)
        is_telling = len(ranks) >= core.LEAST_USERS
        reached = (ranks != core.NOT_IN_LIST) & (ranks <= n)
        common = core.interests(self._wants[kept], reached, _MOST_INTERESTS)
        return Audience(
            len(ranks),
            {at: core.reach(ranks, at) for at in REACH_AT if at <= self._depth} if is_telling else {},
            core.median_rank(ranks) if is_telling else None,
            [Interest(*self._values[i.value], i.users, i.share, i.typical_share) for i in common],
            self._first(ranks, kept, n),
            self._for_texts(model, vector, texts),
        )

    def _first(self, ranks: npt.NDArray[np.int64], kept: BoolArray, n: int) -> list[tuple[str, int]]:
        ids = [user for user, is_kept in zip(self.user_ids, kept, strict=True) if is_kept]
        found = sorted((rank, user) for rank, user in zip(ranks.tolist(), ids, strict=True) if 0 < rank <= n)
        return [(user, rank) for rank, user in found[:_MOST_USERS]]

    def _for_texts(self, model: Recommender, vector: FloatArray, texts: Sequence[str]) -> list[int | None]:
        asked = model.understand([Request(user_text=text, n=self._depth) for text in texts])
        known = [u for u in asked if u.wanted is not None]
        vectors, lists = _rank(model, known)
        ranks: list[int | None] = [None] * len(texts)
        if known:
            for u, rank in zip(known, core.places(vectors @ vector, lists).tolist(), strict=True):
                ranks[u.place] = rank or None
        return ranks


def _rank(model: Recommender, users: Sequence[Understood]) -> tuple[FloatArray, list[FloatArray]]:
    """(U, D) vectors of users and the scores of their lists."""
    wanted = [u.wanted for u in users if u.wanted is not None]
    if not wanted:
        return np.zeros((0, 0), dtype=np.float32), []
    return np.stack([w.user for w in wanted]), [ranked.scores for ranked in model.catalogue.best(wanted)]


class Samples:
    """The sample of the version in service; the first who asks makes it, others wait for it.

    What comes while the version is in service hardly changes what users would see, and is left out of it.
    """

    def __init__(self, most: int) -> None:
        """Of at most `most` users."""
        self._most = most
        self._lock = threading.Lock()
        self._sample: Sample | None = None

    def of(self, model: Recommender) -> Sample:
        """The sample of this version."""
        with self._lock:
            if self._sample is None or self._sample.version != model.version:
                self._sample = Sample(model, self._most)
            return self._sample
