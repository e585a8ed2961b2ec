"""A published bundle in, ranked items out. Plain Python: the service and the command line both use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.als import confidences, prior_share, row_regularization
from pipelines.core.blend import blend, item_vectors, pad, text_profile
from pipelines.core.bundle import BundlePaths, check_bundle, current_version
from pipelines.core.config import Config, load_config
from pipelines.core.encoder import Encoder, encoder_fingerprint
from pipelines.core.errors import ArtefactError, InputError
from pipelines.core.foldin import FoldedUser, Profile, build_profile, fold_in
from pipelines.core.layout import Layout
from pipelines.core.lexical import load as load_lexical
from pipelines.core.schema import IS_HIDDEN, ITEM_ID, MAX_WEIGHT, N_INTERACTIONS, N_WANTED, TEXT, USER_ID
from pipelines.core.storage import read_json, read_tensors
from pipelines.core.text import clean_text, truncate_text
from serving.filters import filter_mask
from serving.requests import Event, Recommended, Request, Source

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Known:
    """What a request amounts to: words and events with their vectors, and what must not be shown.

    `touched` are all items of the user, `event_items` those whose weights do not cancel. New events take part
    when they change what the history alone says.
    """

    word_names: list[str]
    words: FloatArray
    word_weights: FloatArray
    event_items: npt.NDArray[np.int64]
    event_weights: FloatArray
    touched: npt.NDArray[np.int64]
    stored_row: int | None
    new_take_part: bool


class Recommender:
    """One version of the model, immutable; loading another version makes another object.

    Raises:
        ArtefactError: the bundle is incomplete, corrupt, or was made with another encoder.

    """

    def __init__(self, root: Path, encoder: Encoder | None = None) -> None:
        """Load and check the bundle in `root`; share `encoder` if it is the one the bundle was made with."""
        self.manifest: dict[str, Any] = check_bundle(root)
        paths = BundlePaths(root)
        self.config: Config = load_config(paths.config)
        self.version: str = self.manifest["version"]
        self.items: pa.Table = pq.read_table(paths.items)
        self.item_ids: list[str] = self.items.column(ITEM_ID).to_pylist()
        self._item_rows = {item: row for row, item in enumerate(self.item_ids)}
        self._user_rows = {
            u: row for row, u in enumerate(pq.read_table(paths.users).column(USER_ID).to_pylist())
        }
        arrays, self._users = read_tensors(paths.item_arrays), read_tensors(paths.user_arrays)
        del self._users["factors"]  # a user's factor is solved again for each request
        self._item_factors: FloatArray = arrays["factors"]
        self._item_profiles: FloatArray = arrays["profiles"]
        self._maps = read_tensors(paths.text_maps)
        self._lexical = load_lexical(paths.lexical)
        self._popularity = self.items.column(N_WANTED).to_numpy().astype(np.float32)
        evidence = self.items.column(N_INTERACTIONS).to_numpy()
        self._is_hot = evidence > 0
        self._vectors = item_vectors(self._item_factors, self._item_profiles, evidence, self.config.blend)
        self._shown = ~np.asarray(self.items.column(IS_HIDDEN).to_numpy(zero_copy_only=False), dtype=bool)
        self.encoder = encoder or self._load_encoder(paths)

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

    def title(self, item_id: str) -> str:
        """An item's title, or the beginning of its text where it has none."""
        row = self._item_rows[item_id]
        name = "title" if "title" in self.items.column_names else TEXT
        return str(self.items.column(name)[row].as_py() or "")

    def tags(self, item_id: str) -> dict[str, dict[str, float]]:
        """What the encoder made of an item: attribute to label to confidence; empty for a build without labels."""
        row = self._item_rows[item_id]
        found = {}
        for name in self.config.attributes.labels:
            labels = self.items.column(name)[row].as_py()
            found[name] = dict(zip(labels, self.items.column(f"{name}_confidence")[row].as_py(), strict=True))
        return found

    def recommend(self, request: Request) -> list[Recommended]:
        """The n best items for this request, best first; fewer when filters leave fewer.

        Raises:
            InputError: n out of range, an unknown item in events, an unknown event or filter.

        """
        if not 1 <= request.n <= self.config.serve.max_n:
            raise InputError(f"n is {request.n}, expected 1 to {self.config.serve.max_n} (serve.max_n).")
        known = self._understand(request)
        allowed = self._allowed(request, known)
        if not len(known.words) and not len(known.event_items) and not self._has_own_text(known.stored_row):
            return self._fallback(request, allowed)
        profile, folded = self._user(known)
        user = blend(
            folded.total.astype(np.float32), profile.total.astype(np.float32), self.config.blend.gamma
        )
        scores = self._vectors @ user
        rows = _best(np.where(allowed, scores, -np.inf), request.n)
        return [
            Recommended(
                self.item_ids[row],
                float(scores[row]),
                rank,
                self._source(row, known),
                self._explain(row, known, profile, folded) if request.explain else None,
            )
            for rank, row in enumerate(rows, start=1)
        ]

    def _understand(self, request: Request) -> _Known:
        row = self._user_rows.get(request.user_id) if request.user_id is not None else None
        names, texts, weights = [], [], []
        settings, limit = self.config.blend, self.config.serve.max_text_chars
        for name, text, weight in (
            ("your words", request.user_text, settings.own_text_items),
            ("your query", request.query, settings.query_items),
        ):
            cleaned = truncate_text(clean_text(text), limit) if text else ""
            if cleaned:
                names.append(name)
                texts.append(cleaned)
                weights.append(weight)
        words = self._encode(texts, names)
        if row is not None and "your words" not in names and self._has_own_text(row):
            names, weights = ["your profile", *names], [settings.own_text_items, *weights]
            words = np.concatenate([self._users["own_texts"][row][None], words])
        items, amounts = self._history(row)
        new_items, new_amounts = self._new_events(request.events)
        touched = np.concatenate([items, new_items])
        merged = _merge_events(touched, np.concatenate([amounts, new_amounts]))
        old = _merge_events(items, amounts)
        new_take_part = not (np.array_equal(merged[0], old[0]) and np.array_equal(merged[1], old[1]))
        return _Known(names, words, np.array(weights, dtype=np.float32), *merged, touched, row, new_take_part)

    def _encode(self, texts: list[str], names: list[str]) -> FloatArray:
        """Text profiles: a user's words less the users' mean, a query less the items'; zeros in extra blocks."""
        width = self._item_profiles.shape[1]
        if not texts:
            return np.zeros((0, width), dtype=np.float32)
        means = [self._maps["user_mean" if name == "your words" else "item_mean"] for name in names]
        meaning = self.encoder.encode(texts)
        raw = np.concatenate([meaning, self._lexical.transform(texts)], axis=1)
        return pad(text_profile(raw, np.stack(means), meaning.shape[1], self.config.lexical.weight), width)

    def _has_own_text(self, row: int | None) -> bool:
        return row is not None and bool(np.any(self._users["own_texts"][row]))

    def _history(self, row: int | None) -> tuple[npt.NDArray[np.int64], FloatArray]:
        if row is None:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        cut = slice(self._users["indptr"][row], self._users["indptr"][row + 1])
        return self._users["indices"][cut].astype(np.int64), self._users["weights"][cut]

    def _new_events(self, events: Sequence[Event]) -> tuple[npt.NDArray[np.int64], FloatArray]:
        rows, weights = [], []
        for event in events:
            if event.item_id not in self._item_rows:
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
            rows.append(self._item_rows[event.item_id])
            weights.append(factor * event.weight)
        return np.array(rows, dtype=np.int64), np.array(weights, dtype=np.float32)

    def _allowed(self, request: Request, known: _Known) -> BoolArray:
        allowed = self._shown & filter_mask(self.items, request.filter)
        allowed[known.touched] = False
        allowed[[self._item_rows[i] for i in request.exclude_ids if i in self._item_rows]] = False
        return allowed

    def _user(self, known: _Known) -> tuple[Profile, FoldedUser]:
        settings = self.config
        profile = build_profile(
            known.words, known.word_weights, self._item_profiles[known.event_items],
            np.sign(known.event_weights), settings.blend.history_power,
        )  # fmt: skip
        n_events = np.array([len(known.event_items)], dtype=np.int32)
        fit = settings.factorize
        lam = row_regularization(n_events, fit.user_regularization, fit.user_frequency_power)
        share = prior_share(n_events, fit.user_text_fade)
        folded = fold_in(
            profile, self._maps["user_map"], self._item_factors[known.event_items],
            confidences(known.event_weights, settings.factorize.alpha), self._maps["item_gramian"],
            float(lam[0]), float(share[0]),
        )  # fmt: skip
        return profile, folded

    def _fallback(self, request: Request, allowed: BoolArray) -> list[Recommended]:
        """Most popular first; items nobody touched in the order of the model's mean user."""
        typical = self._item_factors @ self._maps["user_map"][-1]
        spread = float(np.ptp(typical)) or 1.0
        scores = self._popularity + (typical - typical.min()) / (2.0 * spread)
        rows = _best(np.where(allowed, scores, -np.inf), request.n)
        return [
            Recommended(
                self.item_ids[row], float(scores[row]), rank, "fallback",
                {"popularity": float(scores[row])} if request.explain else None,
            )
            for rank, row in enumerate(rows, start=1)
        ]  # fmt: skip

    def _source(self, row: int, known: _Known) -> Source:
        if not len(known.event_items) or not self._is_hot[row]:
            return "text"
        return "fold_in" if known.new_take_part else "hot"

    def _explain(self, row: int, known: _Known, profile: Profile, folded: FoldedUser) -> dict[str, float]:
        """Shares of one score: what everybody gets, each text, each event."""
        n_factors = self._item_factors.shape[1]
        vector = self._vectors[row].astype(np.float64)
        y, p = vector[:n_factors], np.sqrt(self.config.blend.gamma) * vector[n_factors:]
        parts = {"typical user": float(folded.constant @ y)}
        for name, x_part, p_part in zip(known.word_names, folded.words, profile.words, strict=True):
            parts[name] = float(x_part @ y + p_part @ p)
        for event, x_part, p_part in zip(known.event_items, folded.events, profile.events, strict=True):
            parts[f"item {self.item_ids[event]}"] = float(x_part @ y + p_part @ p)
        return parts


def _merge_events(
    rows: npt.NDArray[np.int64], weights: FloatArray
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Sum the weights of each item; an item whose weights cancel says nothing."""
    unique, inverse = np.unique(rows, return_inverse=True)
    summed = np.bincount(inverse, weights=weights, minlength=len(unique)).astype(np.float32)
    return unique[summed != 0], summed[summed != 0]


def _best(scores: FloatArray, n: int) -> list[int]:
    """Rows of the n largest scores, best first, ties by row; -inf is never chosen."""
    rows = np.flatnonzero(np.isfinite(scores))
    if len(rows) > n:
        least = np.partition(scores[rows], len(rows) - n)[len(rows) - n]
        rows = rows[scores[rows] >= least]
    return [int(row) for row in rows[np.argsort(-scores[rows], kind="stable")][:n]]


def load_current(out: Path, encoder: Encoder | None = None) -> Recommender:
    """The version in service under `out`.

    Raises:
        ArtefactError: nothing published, or it is not whole.

    """
    layout = Layout(out)
    return Recommender(layout.bundle(current_version(layout)), encoder)
