"""Who asks: users of a version and strangers, by their words and by what they did, as a profile and a factor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.core.als import confidences, prior_share, row_regularization
from pipelines.core.blend import amounts, blend, pad, text_profile
from pipelines.core.bundle import BundlePaths
from pipelines.core.bundle_arrays import check_maps, check_users
from pipelines.core.collected import StorePoint
from pipelines.core.config import Config
from pipelines.core.encoder import Encoder
from pipelines.core.errors import InputError
from pipelines.core.foldin import FoldedUser, Profile, build_profile, fold_in
from pipelines.core.kinds import hidden_bits
from pipelines.core.lexical import load as load_lexical
from pipelines.core.passing import Evidence, with_passed
from pipelines.core.rules import Rules
from pipelines.core.schema import FORGOTTEN_AT, MAX_WEIGHT, USER_ID
from pipelines.core.storage import read_table, read_tensors
from pipelines.core.text import clean_text, truncate_text
from serving.catalogue import Catalogue
from serving.remembering import Remembered
from serving.requests import Event, Request
from serving.steps import step
from serving.understanding import Known, Words, merge_events

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
_MOST_TEXTS = 4096
"""Whose profiles are remembered: 8 MB at 512 numbers each."""


class Users:
    """The users' half of a version.

    Attributes:
        rows: of the users of the build, by id.
        arrays: `own_texts` (U, E) and the history as `indptr`, `indices`, `weights`, in new bundles `kinds`.
        maps: the text maps A and B (E + 1, F), the means (E,), the gramians (F, F).

    """

    def __init__(
        self,
        config: Config,
        paths: BundlePaths,
        encoder: Encoder,
        maps: dict[str, npt.NDArray[Any]],
        shape: tuple[int, ...],
        point: StorePoint,
    ) -> None:
        """Load them.

        Args:
            config: of the version.
            paths: of its bundle.
            encoder: that the bundle was made with.
            maps: see `load_maps`.
            shape: (I, E) of the items' profiles.
            point: up to where the version knows the store.

        """
        self.config = config
        self.point = point
        self.encoder = encoder
        users = read_table(paths.users)
        self.arrays = read_tensors(paths.user_arrays)
        check_users(paths, users, self.arrays, *shape)
        self.rows = {u: row for row, u in enumerate(users.column(USER_ID).to_pylist())}
        self._came_back = (
            {} if FORGOTTEN_AT not in users.column_names else _moments(users.column(FORGOTTEN_AT))
        )
        del self.arrays["factors"]  # a user's factor is solved again for each request
        self.maps = maps
        self._width = shape[1]
        self._lexical = load_lexical(paths.lexical)
        self._texts: Remembered[tuple[bool, str], FloatArray] = Remembered(_MOST_TEXTS)

    @property
    def n_text(self) -> int:
        """Columns of a profile that are of its text; extra blocks come after them."""
        return len(self.maps["item_mean"])

    def row(self, user_id: str, forgotten_at: float | None) -> int | None:
        """Of a user of whom this version knows something that may be used.

        Args:
            user_id: theirs.
            forgotten_at: when they were forgotten; what is known from before may not be used. None: they never were.

        """
        row = self.rows.get(user_id)
        if row is None or forgotten_at is None or self._came_back.get(row, -np.inf) >= forgotten_at:
            return row
        return None

    def item_profiles(self, texts: Sequence[str]) -> FloatArray:
        """(texts, E) as in a build, with nothing in extra blocks."""
        return self._text_profiles(texts, [self.maps["item_mean"]] * len(texts))

    def vector(self, request: Request, profile: Profile, folded: FoldedUser) -> FloatArray:
        """(F + E,) what items' vectors are multiplied with."""
        return blend(folded.total.astype(np.float32), profile.total.astype(np.float32), self.gamma(request))

    def words(self, requests: Sequence[Request]) -> list[Words]:
        """The texts of all requests, encoded together."""
        settings, limit = self.config.blend, self.config.serve.max_text_chars
        names, texts, weights, cuts = [], [], [], [0]
        for request in requests:
            for name, text, weight in (
                ("your words", request.user_text, settings.own_text_items),
                ("your query", request.query, settings.query_items),
            ):
                cleaned = truncate_text(clean_text(text), limit) if text else ""
                if cleaned:
                    names.append(name)
                    texts.append(cleaned)
                    weights.append(weight)
            cuts.append(len(names))
        vectors = self._encode(texts, names)
        return [Words(names[a:b], vectors[a:b], weights[a:b]) for a, b in pairwise(cuts)]

    def understand(
        self, request: Request, given: Words, catalogue: Catalogue, rules: Rules | None = None
    ) -> Known:
        """What a request amounts to.

        Args:
            request: as it came.
            given: its texts, see `words`.
            catalogue: the items as they are now.
            rules: that say what counts as seen; None: everything.

        Raises:
            InputError: an unknown item or event among its events.

        """
        row = None if request.user_id is None else self.row(request.user_id, request.forgotten_at)
        names, words, weights = given.names, given.vectors, given.weights
        if row is not None and "your words" not in names and self.has_own_text(row):
            names, weights = ["your profile", *names], [self.config.blend.own_text_items, *weights]
            words = np.concatenate([self.arrays["own_texts"][row][None], words])
        items, amounts = self._history(row)
        items = catalogue.current(items)
        touched, old = items[self._is_hidden(row, rules)], merge_events(items, amounts)
        merged, new_take_part = old, False
        events = [*self._later(request, catalogue), *request.events]
        acted = items
        if events:
            new_items, new_amounts = self._new_events(events, catalogue)
            acted = np.concatenate([items, new_items])
            hides = [rules is None or rules.hides(event.event) for event in events]
            touched = np.concatenate([touched, new_items[hides]])
            merged = merge_events(acted, np.concatenate([amounts, new_amounts]))
            new_take_part = not (np.array_equal(merged[0], old[0]) and np.array_equal(merged[1], old[1]))
        if rules is not None and not rules.settings.hide_seen:
            touched = touched[:0]
        passed = {catalogue.row(i): seen for i, seen in request.passed.items() if i in catalogue}
        over = np.setdiff1d(np.array(list(passed), dtype=np.int64), acted)
        return Known(
            names, words, np.array(weights, dtype=np.float32), *merged, touched, row, new_take_part,
            over, np.array([passed[row] for row in over.tolist()]),
        )  # fmt: skip

    def _encode(self, texts: list[str], names: list[str]) -> FloatArray:
        """Text profiles: a user's words less the users' mean, a query less the items'; zeros in extra blocks.

        Of texts that come again, as what a known user says of themselves, the encoder is not asked again.
        """
        keys = [(name == "your words", text) for name, text in zip(names, texts, strict=True)]
        found = {key: vector for key in set(keys) if (vector := self._texts.get(key)) is not None}
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        if missing:
            means = [self.maps["user_mean" if is_own else "item_mean"] for is_own, _ in missing]
            profiles = self._text_profiles([text for _, text in missing], means)
            for key, vector in zip(missing, profiles, strict=True):
                found[key] = vector
                self._texts.put(key, vector)
        return np.array([found[key] for key in keys], dtype=np.float32).reshape(len(keys), self._width)

    def _text_profiles(self, texts: Sequence[str], means: Sequence[FloatArray]) -> FloatArray:
        if not texts:
            return np.zeros((0, self._width), dtype=np.float32)
        with step("encode", len(texts)):
            meaning = self.encoder.encode(texts)
        raw = np.concatenate([meaning, self._lexical.transform(texts)], axis=1)
        profiles = text_profile(raw, np.stack(means), meaning.shape[1], self.config.lexical.weight)
        return pad(profiles, self._width)

    def has_own_text(self, row: int | None) -> bool:
        """Whether the build knows words of theirs."""
        return row is not None and bool(np.any(self.arrays["own_texts"][row]))

    def _history(self, row: int | None) -> tuple[IntArray, FloatArray]:
        if row is None:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        cut = slice(self.arrays["indptr"][row], self.arrays["indptr"][row + 1])
        return self.arrays["indices"][cut].astype(np.int64), self.arrays["weights"][cut]

    def _is_hidden(self, row: int | None, rules: Rules | None) -> BoolArray | slice:
        """Which items of a user's history the rules keep out of their lists."""
        if row is None or rules is None or not rules.settings.hide_events or "kinds" not in self.arrays:
            return slice(None)
        bits = hidden_bits(self.config.data.event_weights, rules.hides)
        found = self.arrays["kinds"][self.arrays["indptr"][row] : self.arrays["indptr"][row + 1]] & bits
        return np.asarray(found != 0)

    def _later(self, request: Request, catalogue: Catalogue) -> Iterator[Event]:
        """What is stored of who asks and can be made use of, less what their history in this version has of it."""
        built_to = self.point.of(request.store_id).events
        for event in request.stored:
            is_new = not 0 < event.seq <= built_to or not catalogue.is_built(event.item_id)
            if is_new and self._knows_event(event, catalogue):
                yield event

    def _knows_event(self, event: Event, catalogue: Catalogue) -> bool:
        known = event.event is None or event.event in self.config.data.event_weights
        return known and event.item_id in catalogue

    def _new_events(self, events: Sequence[Event], catalogue: Catalogue) -> tuple[IntArray, FloatArray]:
        rows, weights = [], []
        for event in events:
            if event.item_id not in catalogue:
                raise InputError(f"events: item_id {event.item_id[:80]!r} is not in this catalogue.")
            factor = 1.0 if event.event is None else self.config.data.event_weights.get(event.event)
            if factor is None:
                raise InputError(
                    f"events: {event.event!r} is no event of this build; it knows "
                    f"{', '.join(self.config.data.event_weights)}."
                )
            if not 0 < event.weight <= MAX_WEIGHT:
                raise InputError(
                    f"events: weight {event.weight} is not above 0 and at most {MAX_WEIGHT:.0f}."
                )
            rows.append(catalogue.row(event.item_id))
            weights.append(factor * event.weight)
        return np.array(rows, dtype=np.int64), np.array(weights, dtype=np.float32)

    def solve(self, known: Known, catalogue: Catalogue, *, split: bool = True) -> tuple[Profile, FoldedUser]:
        """Who asks as profile and factor; `split` keeps the terms apart."""
        settings = self.config
        profile = build_profile(
            known.words, known.word_weights, catalogue.profiles(known.event_items),
            amounts(known.event_weights, settings.blend.unwanted_items), settings.blend.history_power,
        )  # fmt: skip
        lam, share = self.pull(known)
        evidence = self.evidence(known, profile, catalogue)
        folded = fold_in(
            evidence.profile, self.maps["user_map"], evidence.factors, evidence.confidences, evidence.gramian,
            lam, share, split=split,
        )  # fmt: skip
        # what was passed over moves the user, and is no part of a score by itself
        return profile, replace(folded, events=folded.events[: len(known.event_items)])

    def evidence(self, known: Known, profile: Profile, catalogue: Catalogue) -> Evidence:
        """What the user's row is solved from."""
        events = Evidence(
            profile, catalogue.factors(known.event_items),
            confidences(known.event_weights, self.config.factorize.alpha), self.maps["item_gramian"],
        )  # fmt: skip
        return with_passed(events, catalogue.factors(known.passed_items), known.passed_looks, 1.0)

    def pull(self, known: Known) -> tuple[float, float]:
        """Lam of this user's row, and what is left of the text's prediction."""
        n_events, fit = np.array([len(known.event_items)], dtype=np.int32), self.config.factorize
        lam = row_regularization(n_events, fit.user_regularization, fit.user_frequency_power)
        return float(lam[0]), float(prior_share(n_events, fit.user_text_fade)[0])

    def gamma(self, request: Request) -> float:
        """The users' half of the weight of text: items have sqrt(blend.gamma) already, so users bring the rest."""
        own = self.config.blend.gamma
        if request.gamma is None:
            return own
        if not own:
            raise InputError(
                "gamma: this version was made with blend.gamma = 0, its items have no text in them."
            )
        return request.gamma**2 / own

    def words_alone(self, request: Request, known: Known, catalogue: Catalogue) -> FloatArray | None:
        """(F + E) of somebody of whom these words are all that is known; None: there are none."""
        if not len(known.words):
            return None
        none = np.zeros(0, dtype=np.int64)
        silent = replace(known, event_items=none, event_weights=none.astype(np.float32))
        profile, folded = self.solve(silent, catalogue, split=False)
        return self.vector(request, profile, folded)


def load_maps(paths: BundlePaths) -> dict[str, npt.NDArray[Any]]:
    """The text maps of a bundle; those that rows are solved with in double precision, once and not at every request."""
    maps = read_tensors(paths.text_maps)
    check_maps(paths, maps)
    for name in ("user_map", "item_map", "user_gramian", "item_gramian"):
        maps[name] = maps[name].astype(np.float64)
    return maps


def _moments(column: pa.ChunkedArray) -> dict[int, float]:
    """Row to its number, of the rows that have one."""
    return {row: moment for row, moment in enumerate(column.to_pylist()) if moment is not None}
