"""What to ask somebody new, over the items of one version: `core.onboarding` made for a bundle and kept with it.

Asked about are items of the bundle, which people have had time to hear of; not those that came or changed since.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from pipelines.core.config import Config
from pipelines.core.errors import InputError
from pipelines.core.model import FittedModel, asked_of
from pipelines.core.onboarding import Answered, Survey
from pipelines.core.respondents import familiarity, hypothetical_users, screen
from pipelines.core.schema import N_INTERACTIONS
from serving.catalogue import Catalogue, Items
from serving.filters import Filter
from serving.remembering import Remembered
from serving.requests import Request
from serving.understanding import Known

FloatArray = npt.NDArray[np.float32]
Matrix = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
AnswerKind = Literal["like", "dislike", "unknown"]

_HYPOTHETICAL, _FEW = 1000, 200
"""Hypothetical users in all, and those whom items are screened by."""
_ASKABLE, _SHOWN = 1000, 1000
"""Items that may be asked about, and a sample of those to recommend from: 12 MB of scores."""
_MOST_FILTERS = 8
"""Whose items are remembered."""


@dataclass(frozen=True)
class Reply:
    """What somebody said of an item they were asked about."""

    item_id: str
    answer: AnswerKind


@dataclass(frozen=True)
class Asked:
    """One question.

    Attributes:
        item_id: "do you like this?"
        title: of the item, or the beginning of its text.
        gain: by how much the best items would be wanted more, in standard deviations of a user's scores.
        like_chance: that the answer is "like", where the user knows the item.

    """

    item_id: str
    title: str
    gain: float
    like_chance: float


class Interviewer:
    """Made with a version and shared by all its states; the hypothetical users are folded in at the first question."""

    def __init__(
        self, config: Config, items: Items, maps: Mapping[str, Matrix], users: Mapping[str, Matrix]
    ) -> None:
        """Take what a version knows.

        Args:
            config: of the build.
            items: of the bundle.
            maps: `user_map` (D, F) and `item_gramian` (F, F).
            users: `own_texts` (U, E), and the history as `indptr`, `indices`, `weights`.

        """
        evidence = items.table.column(N_INTERACTIONS).to_numpy().astype(np.int64)
        self._model = FittedModel(
            items.factors, items.profiles, evidence, maps["user_map"].astype(np.float32),
            maps["item_gramian"].astype(np.float64), config.factorize, config.blend,
        )  # fmt: skip
        self._items = items
        self._known = familiarity(evidence)
        self._own_texts = users["own_texts"]
        shape = (len(self._own_texts), len(items))
        self._history = sp.csr_matrix((users["weights"], users["indices"], users["indptr"]), shape)
        self._surveys: Remembered[str, Survey] = Remembered(_MOST_FILTERS)
        self._users: FloatArray | None = None
        self._lock = threading.Lock()

    def ask(
        self, catalogue: Catalogue, request: Request, known: Known, words: FloatArray | None,
        answers: Sequence[Reply],
    ) -> list[Asked]:  # fmt: skip
        """The n best questions, or fewer where there are fewer.

        Args:
            catalogue: as it is now.
            request: how many, and the filter on what is asked about.
            known: what is known of the user without the answers.
            words: (F + E) the user's vector if their words were all that is known; None: there are none.
            answers: what they said so far.

        Raises:
            InputError: an unknown or repeated item in answers, a filter that makes no sense.

        """
        said = _rows_of(catalogue, answers)
        survey = self._survey(catalogue, request.filter)
        kinds = [(said[a.item_id], a.answer == "like") for a in answers if a.answer != "unknown"]
        rows = np.array([*known.event_items, *(row for row, _ in kinds)], dtype=np.int64)
        liked = np.array([*(known.event_weights > 0), *(is_liked for _, is_liked in kinds)], dtype=bool)
        left_out = np.concatenate(
            [catalogue.hidden, known.touched, np.array(list(said.values()), dtype=np.int64)]
        )
        found = survey.ask(
            Answered(catalogue.vectors(rows), liked, words), request.n, ~np.isin(survey.rows, left_out)
        )
        return [Asked(catalogue.id(q.row), catalogue.title(q.row), q.gain, q.like_chance) for q in found]

    def _survey(self, catalogue: Catalogue, conditions: Filter) -> Survey:
        key = json.dumps(conditions, sort_keys=True)
        found = self._surveys.get(key)
        if found is not None:
            return found
        allowed = catalogue.mask(conditions)[: len(self._items)]
        with self._lock:  # who comes meanwhile waits for the same
            found = self._surveys.get(key)
            if found is None:
                found = self._make(allowed)
                self._surveys.put(key, found)
        return found

    def _make(self, allowed: BoolArray) -> Survey:
        if self._users is None:
            history, own = hypothetical_users(self._history, self._own_texts, _HYPOTHETICAL)
            self._users = self._model.user_vectors(asked_of(history, own))
        users, vectors, may_show = self._users, self._items.vectors, self._items.is_shown
        few = users[np.linspace(0, len(users) - 1, min(_FEW, len(users))).round().astype(np.int64)]
        rows = screen(few, vectors, self._known, may_show & allowed, _ASKABLE)
        visible = np.flatnonzero(may_show)
        shown = np.sort(np.random.default_rng(0).permutation(visible)[:_SHOWN])
        return Survey(users, rows, vectors[rows], self._known[rows], vectors[shown], len(visible))


def _rows_of(catalogue: Catalogue, answers: Sequence[Reply]) -> dict[str, int]:
    """Item to row of what was answered."""
    rows: dict[str, int] = {}
    for number, answer in enumerate(answers):
        name = answer.item_id
        if name not in catalogue:
            raise InputError(
                f"answers.{number}: item_id {name[:80]!r} is not in this catalogue; leave it out."
            )
        if name in rows:
            raise InputError(
                f"answers.{number}: item_id {name[:80]!r} is answered twice; expected once an item."
            )
        rows[name] = catalogue.row(name)
    return rows
