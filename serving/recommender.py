"""A published bundle in, ranked items out. Plain Python: the service and the command line both use it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from pipelines.core.als import confidences, prior_share, row_regularization
from pipelines.core.blend import blend, item_vectors, pad, text_profile
from pipelines.core.bundle import BundlePaths, check_bundle, current_version
from pipelines.core.config import Config, load_config
from pipelines.core.diversity import diversify
from pipelines.core.encoder import Encoder, encoder_fingerprint
from pipelines.core.errors import ArtefactError, InputError
from pipelines.core.foldin import FoldedUser, Profile, build_profile, fold_in
from pipelines.core.index import ApproximateRanker, load_index
from pipelines.core.layout import Layout
from pipelines.core.lexical import load as load_lexical
from pipelines.core.ranking import ExactRanker, Ranked, Ranker, Wanted
from pipelines.core.schema import MAX_WEIGHT, N_INTERACTIONS, N_WANTED, USER_ID
from pipelines.core.storage import read_json, read_tensors
from pipelines.core.text import clean_text, truncate_text
from serving.catalogue import Catalogue, Items
from serving.interview import Answer, Asked, Interviewer
from serving.remembering import Remembered
from serving.requests import Event, Recommended, Request, Source
from serving.understanding import Known, Understood, Words, merge_events

FloatArray = npt.NDArray[np.float32]
Matrix = npt.NDArray[Any]
_MOST_TEXTS = 4096
"""Whose profiles are remembered: 8 MB at 512 numbers each."""


class Recommender:
    """One version of the model, immutable; loading another version makes another object.

    Raises:
        ArtefactError: the bundle is incomplete, corrupt, or was made with another encoder.

    """

    def __init__(self, root: Path, encoder: Encoder | None = None, threads: int = 1) -> None:
        """Load and check the bundle in `root`.

        Args:
            root: of the bundle.
            encoder: shared if it is the one the bundle was made with.
            threads: that rank.

        """
        self.manifest: dict[str, Any] = check_bundle(root)
        paths = BundlePaths(root)
        self.config: Config = load_config(paths.config)
        self.version: str = self.manifest["version"]
        self._user_rows = {
            u: row for row, u in enumerate(pq.read_table(paths.users).column(USER_ID).to_pylist())
        }
        self._users = read_tensors(paths.user_arrays)
        del self._users["factors"]  # a user's factor is solved again for each request
        self._maps = read_tensors(paths.text_maps)
        for name in (
            "user_map",
            "item_map",
            "user_gramian",
            "item_gramian",
        ):  # as a user is solved for, not once a request
            self._maps[name] = self._maps[name].astype(np.float64)
        self._lexical = load_lexical(paths.lexical)
        self._texts: Remembered[tuple[bool, str], FloatArray] = Remembered(_MOST_TEXTS)
        self.catalogue = self._load_items(paths, threads)
        self._interviewer = Interviewer(self.config, self.catalogue.bundle, self._maps, self._users)
        self.encoder = encoder or self._load_encoder(paths)

    def _load_items(self, paths: BundlePaths, threads: int) -> Catalogue:
        table, arrays = pq.read_table(paths.items), read_tensors(paths.item_arrays)
        factors, profiles = arrays["factors"], arrays["profiles"]
        evidence = table.column(N_INTERACTIONS).to_numpy()
        vectors = item_vectors(factors, profiles, evidence, self.config.blend)
        ranker: Ranker = (
            ApproximateRanker(vectors, load_index(paths.item_index, vectors.shape[1]))
            if paths.item_index.exists()
            else ExactRanker(vectors, threads)
        )
        typical = factors @ self._maps["user_map"][-1]
        self._least_typical = float(typical.min(initial=np.inf))
        self._typical_spread = (float(np.ptp(typical)) if len(typical) else 1.0) or 1.0
        popularity = self.popularity(table.column(N_WANTED).to_numpy(), factors)
        return Catalogue.of(Items(table, factors, profiles, vectors, popularity), ranker)

    def _load_encoder(self, paths: BundlePaths) -> Encoder:
        settings = self.config.encoder
        if paths.encoder.is_dir():
            return Encoder(settings.model_copy(update={"model": str(paths.encoder)}))
        expected, found = self.manifest["encoder"]["fingerprint"], encoder_fingerprint(settings)
        if found != expected:
            raise ArtefactError(
                f"the bundle was made with encoder {settings.model} of fingerprint {expected}, here it is {found}: "
                "other weights, or a processor without bfloat16. Install the same, or build again here; "
                "encoder.dtype = 'float32' is the same on every machine."
            )
        return Encoder(settings)

    def uses_encoder_of(self, root: Path) -> bool:
        """Whether the bundle in `root` was made with the very encoder of this one."""
        theirs = read_json(BundlePaths(root).manifest).get("encoder")
        return bool(theirs == self.manifest["encoder"])

    def knows_user(self, user_id: str) -> bool:
        """Whether the build has seen this user."""
        return user_id in self._user_rows

    def with_late(self, items: Items | None) -> Recommender:
        """The same version with these items beside its own; shares everything else."""
        other = copy.copy(self)
        other.catalogue = self.catalogue.with_late(items)
        return other

    @property
    def item_map(self) -> Matrix:
        """(E + 1, F) B: from an item's text features to the factor they predict."""
        return self._maps["item_map"]

    @property
    def user_gramian(self) -> Matrix:
        """(F, F) X'X."""
        return self._maps["user_gramian"]

    @property
    def n_users(self) -> int:
        """Of this version."""
        return len(self._user_rows)

    @property
    def n_text(self) -> int:
        """Columns of a profile that are of its text; extra blocks come after them."""
        return len(self._maps["item_mean"])

    def item_profiles(self, texts: Sequence[str]) -> FloatArray:
        """(texts, E) as in a build, with nothing in extra blocks."""
        return self._text_profiles(texts, [self._maps["item_mean"]] * len(texts))

    def popularity(self, wanted: npt.NDArray[np.int64], factors: FloatArray) -> FloatArray:
        """(n,) scores: most wanted first; items nobody touched in the order of the model's mean user."""
        typical = factors @ self._maps["user_map"][-1]
        part = np.clip((typical - self._least_typical) / (2.0 * self._typical_spread), 0.0, 0.5)
        return np.asarray(wanted.astype(np.float32) + part, dtype=np.float32)

    def user_factor(self, request: Request) -> FloatArray:
        """(F,) of who asks, folded in."""
        (words,) = self._words([request])
        _, folded = self._user(self._understand(request, words), split=False)
        return folded.total.astype(np.float32)

    @property
    def encoder_name(self) -> str:
        """What the build calls its encoder, and which weights those are."""
        encoder = self.manifest["encoder"]
        return f"{self.config.encoder.model} {encoder['fingerprint']}"

    def similar(self, item_id: str, n: int) -> list[tuple[str, float]]:
        """The items that may be shown with the largest cosines to a known one, by what both are served by.

        Raises:
            InputError: n out of range.

        """
        self._check_n(n)
        best = self.catalogue.similar(self.catalogue.row(item_id), n)
        return [
            (self.catalogue.id(row), score)
            for row, score in zip(best.rows.tolist(), best.scores.tolist(), strict=True)
        ]

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """(texts, E) of length 1, zeros for an empty text: the encoder's vectors, as it reads texts in a build."""
        limit = self.config.serve.max_text_chars
        return self.encoder.encode([truncate_text(clean_text(text), limit) for text in texts])

    def title(self, item_id: str) -> str:
        """An item's title, or the beginning of its text where it has none."""
        return self.catalogue.title(self.catalogue.row(item_id))

    def tags(self, item_id: str) -> dict[str, dict[str, float]]:
        """What the encoder made of an item: attribute to label to confidence; empty for a build without labels."""
        record = self.catalogue.record(self.catalogue.row(item_id))
        return {
            name: dict(zip(record[name] or (), record[f"{name}_confidence"] or (), strict=True))
            for name in self.config.attributes.labels
        }

    def recommend(self, request: Request) -> list[Recommended]:
        """The n best items for this request, best first; fewer when filters leave fewer.

        Raises:
            InputError: n out of range, an unknown item in events, an unknown event or filter.

        """
        (answer,) = self.recommend_many([request])
        if isinstance(answer, InputError):
            raise answer
        return answer

    def recommend_many(self, requests: Sequence[Request]) -> list[list[Recommended] | InputError]:
        """What `recommend` answers to each, or what it raises: texts are encoded and items ranked in one go."""
        answers: list[list[Recommended] | InputError] = [[] for _ in requests]
        understood: list[Understood] = []
        for place, (request, words) in enumerate(zip(requests, self._words(requests), strict=True)):
            try:
                understood.append(self._prepare(place, request, words))
            except InputError as e:
                answers[place] = e
        ranked = self.catalogue.best([u.wanted for u in understood if u.wanted is not None])
        lists = iter(ranked)
        for u in understood:
            best = next(lists) if u.wanted is not None else self._most_popular(u)
            answers[u.place] = self._answer(u, self._page(u, best))
        return answers

    def questions(self, request: Request, answers: Sequence[Answer]) -> list[Asked]:
        """The n items to ask this user about next, see `core.onboarding`; fewer when filters leave fewer.

        Args:
            request: who is asked; a query, offset and explanations have no meaning here.
            answers: what they said so far.

        Raises:
            InputError: n out of range, an unknown or repeated item in answers, an unknown filter.

        """
        self._check_n(request.n)
        (words,) = self._words([request])
        known = self._understand(request, words)
        return self._interviewer.ask(self.catalogue, request, known, self._words_alone(known), answers)

    def _words_alone(self, known: Known) -> FloatArray | None:
        """(F + E) of somebody of whom these words are all that is known; None: there are none."""
        if not len(known.words):
            return None
        none = np.zeros(0, dtype=np.int64)
        silent = replace(known, event_items=none, event_weights=none.astype(np.float32))
        profile, folded = self._user(silent, split=False)
        return blend(
            folded.total.astype(np.float32), profile.total.astype(np.float32), self.config.blend.gamma
        )

    def _prepare(self, place: int, request: Request, words: Words) -> Understood:
        """Who asks, as a vector, and what may be answered."""
        self._check_n(request.n, request.offset)
        known = self._understand(request, words)
        items = self.catalogue
        allowed = items.mask(request.filter) if request.filter else None
        left_out = np.concatenate([items.hidden, known.touched, items.rows_of(request.exclude_ids)])
        if request.among is not None:
            allowed, left_out = items.among(items.rows_of(request.among)), np.zeros(0, dtype=np.int64)
        if not len(known.words) and not len(known.event_items) and not self._has_own_text(known.stored_row):
            return Understood(place, request, known, allowed, left_out)
        profile, folded = self._user(known, request.explain)
        user = blend(
            folded.total.astype(np.float32), profile.total.astype(np.float32), self.config.blend.gamma
        )
        wanted = Wanted(user, self._depth(request), allowed, left_out)
        return Understood(place, request, known, allowed, left_out, wanted, (profile, folded))

    def _check_n(self, n: int, offset: int = 0) -> None:
        most = self.config.serve.max_n
        if not 1 <= n <= most:
            raise InputError(f"n is {n}, expected 1 to {most} (serve.max_n).")
        if not 0 <= offset <= most - n:
            raise InputError(
                f"offset is {offset}, expected 0 to {most - n}: with n at most {most} (serve.max_n)."
            )

    def _diversity(self, request: Request) -> float:
        return self.config.serve.diversity if request.diversity is None else request.diversity

    def _depth(self, request: Request) -> int:
        """Items to rank: up to the end of the page; to choose various ones from, always as many, or pages would mix."""
        return self.config.serve.max_n if self._diversity(request) > 0 else request.offset + request.n

    def _page(self, asked: Understood, best: Ranked) -> Ranked:
        """The places that the request is about."""
        request = asked.request
        end, weight = request.offset + request.n, self._diversity(request)
        places = np.arange(min(end, len(best.rows)))
        if weight > 0:
            places = diversify(best.scores, self.catalogue.vectors(best.rows), end, weight)
        places = places[request.offset :]
        return Ranked(best.rows[places], best.scores[places])

    def _answer(self, asked: Understood, best: Ranked) -> list[Recommended]:
        explain = asked.request.explain
        places = zip(best.rows.tolist(), best.scores.tolist(), self._sources(best.rows, asked), strict=True)
        return [
            Recommended(
                self.catalogue.id(row),
                score,
                rank,
                source,
                self._explain(row, score, asked) if explain else None,
            )
            for rank, (row, score, source) in enumerate(places, 1 + asked.request.offset)
        ]

    def _words(self, requests: Sequence[Request]) -> list[Words]:
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

    def _understand(self, request: Request, given: Words) -> Known:
        row = None
        if request.user_id is not None and not request.is_forgotten:
            row = self._user_rows.get(request.user_id)
        names, words, weights = given.names, given.vectors, given.weights
        if row is not None and "your words" not in names and self._has_own_text(row):
            names, weights = ["your profile", *names], [self.config.blend.own_text_items, *weights]
            words = np.concatenate([self._users["own_texts"][row][None], words])
        items, amounts = self._history(row)
        items = self.catalogue.current(items)
        touched, old = items, merge_events(items, amounts)
        merged, new_take_part = old, False
        events = [*(e for e in request.stored if self._knows_event(e)), *request.events]
        if events:
            new_items, new_amounts = self._new_events(events)
            touched = np.concatenate([items, new_items])
            merged = merge_events(touched, np.concatenate([amounts, new_amounts]))
            new_take_part = not (np.array_equal(merged[0], old[0]) and np.array_equal(merged[1], old[1]))
        return Known(names, words, np.array(weights, dtype=np.float32), *merged, touched, row, new_take_part)

    def _encode(self, texts: list[str], names: list[str]) -> FloatArray:
        """Text profiles: a user's words less the users' mean, a query less the items'; zeros in extra blocks.

        Of texts that come again, as what a known user says of themselves, the encoder is not asked again.
        """
        width = self.catalogue.bundle.profiles.shape[1]
        keys = [(name == "your words", text) for name, text in zip(names, texts, strict=True)]
        found = {key: vector for key in set(keys) if (vector := self._texts.get(key)) is not None}
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        if missing:
            means = [self._maps["user_mean" if is_own else "item_mean"] for is_own, _ in missing]
            profiles = self._text_profiles([text for _, text in missing], means)
            for key, vector in zip(missing, profiles, strict=True):
                found[key] = vector
                self._texts.put(key, vector)
        return np.array([found[key] for key in keys], dtype=np.float32).reshape(len(keys), width)

    def _text_profiles(self, texts: Sequence[str], means: Sequence[FloatArray]) -> FloatArray:
        width = self.catalogue.bundle.profiles.shape[1]
        if not texts:
            return np.zeros((0, width), dtype=np.float32)
        meaning = self.encoder.encode(texts)
        raw = np.concatenate([meaning, self._lexical.transform(texts)], axis=1)
        profiles = text_profile(raw, np.stack(means), meaning.shape[1], self.config.lexical.weight)
        return pad(profiles, width)

    def _has_own_text(self, row: int | None) -> bool:
        return row is not None and bool(np.any(self._users["own_texts"][row]))

    def _history(self, row: int | None) -> tuple[npt.NDArray[np.int64], FloatArray]:
        if row is None:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        cut = slice(self._users["indptr"][row], self._users["indptr"][row + 1])
        return self._users["indices"][cut].astype(np.int64), self._users["weights"][cut]

    def _knows_event(self, event: Event) -> bool:
        known = event.event is None or event.event in self.config.data.event_weights
        return known and event.item_id in self.catalogue

    def _new_events(self, events: Sequence[Event]) -> tuple[npt.NDArray[np.int64], FloatArray]:
        rows, weights = [], []
        for event in events:
            if event.item_id not in self.catalogue:
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
            rows.append(self.catalogue.row(event.item_id))
            weights.append(factor * event.weight)
        return np.array(rows, dtype=np.int64), np.array(weights, dtype=np.float32)

    def _user(self, known: Known, split: bool = True) -> tuple[Profile, FoldedUser]:
        settings = self.config
        profile = build_profile(
            known.words, known.word_weights, self.catalogue.profiles(known.event_items),
            np.sign(known.event_weights), settings.blend.history_power,
        )  # fmt: skip
        n_events = np.array([len(known.event_items)], dtype=np.int32)
        fit = settings.factorize
        lam = row_regularization(n_events, fit.user_regularization, fit.user_frequency_power)
        share = prior_share(n_events, fit.user_text_fade)
        folded = fold_in(
            profile, self._maps["user_map"], self.catalogue.factors(known.event_items),
            confidences(known.event_weights, settings.factorize.alpha), self._maps["item_gramian"],
            float(lam[0]), float(share[0]), split=split,
        )  # fmt: skip
        return profile, folded

    def _most_popular(self, asked: Understood) -> Ranked:
        return self.catalogue.most_popular(self._depth(asked.request), asked.allowed, asked.left_out)

    def _sources(self, rows: npt.NDArray[np.int64], asked: Understood) -> list[Source]:
        known = asked.known
        if asked.parts is None:
            return ["fallback"] * len(rows)
        if not len(known.event_items):
            return ["text"] * len(rows)
        behaviour: Source = "fold_in" if known.new_take_part else "hot"
        return [behaviour if is_hot else "text" for is_hot in self.catalogue.has_behaviour(rows)]

    def _explain(self, row: int, score: float, asked: Understood) -> dict[str, float]:
        """Shares of one score: what everybody gets, each text, each event."""
        if asked.parts is None:
            return {"popularity": score}
        known, (profile, folded) = asked.known, asked.parts
        n_factors = self.catalogue.bundle.factors.shape[1]
        vector = self.catalogue.vectors(np.array([row]))[0].astype(np.float64)
        y, p = vector[:n_factors], np.sqrt(self.config.blend.gamma) * vector[n_factors:]
        parts = {"typical user": float(folded.constant @ y)}
        for name, x_part, p_part in zip(known.word_names, folded.words, profile.words, strict=True):
            parts[name] = float(x_part @ y + p_part @ p)
        for event, x_part, p_part in zip(known.event_items, folded.events, profile.events, strict=True):
            parts[f"item {self.catalogue.id(event)}"] = float(x_part @ y + p_part @ p)
        return parts


def load_current(out: Path, encoder: Encoder | None = None, threads: int = 1) -> Recommender:
    """The version in service under `out`.

    Raises:
        ArtefactError: nothing published, or it is not whole.

    """
    layout = Layout(out)
    return Recommender(layout.bundle(current_version(layout)), encoder, threads)
