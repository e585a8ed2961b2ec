"""A published bundle in, ranked items out. Plain Python: the service and the command line both use it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.core.audience import place_item
from pipelines.core.bundle import BundlePaths, check_manifest, current_version
from pipelines.core.collected import StorePoint
from pipelines.core.encoder import Encoder
from pipelines.core.errors import InputError
from pipelines.core.foldin import row_precision
from pipelines.core.layout import Layout
from pipelines.core.ranking import Ranked, Wanted
from pipelines.core.sections.rules import RulesConfig
from pipelines.core.storage import read_json
from pipelines.core.text import clean_text, truncate_text
from serving.catalogue import Catalogue, Items
from serving.explaining import explain, sources
from serving.exploring import Chosen, Exploration, Explorer, Solved, as_ranked
from serving.interview import Asked, Interviewer, Reply
from serving.loading import load
from serving.metadata import Json, metadata
from serving.paging import check_page, depth, diversity, page
from serving.requests import Answer, Recommended, Request
from serving.rules import Ruled, Ruling
from serving.steps import step
from serving.understanding import Understood, Words, look_deeper

FloatArray = npt.NDArray[np.float32]
Matrix = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]


class Recommender:
    """One version of the model, immutable; loading another version makes another object.

    Raises:
        ArtefactError: the bundle is incomplete, corrupt, or was made with another encoder.
        ConfigError: a business rule does not fit the items.

    """

    def __init__(
        self,
        root: Path,
        encoder: Encoder | None = None,
        threads: int = 1,
        rules: RulesConfig | None = None,
    ) -> None:
        """Load and check the bundle in `root`.

        Args:
            root: of the bundle.
            encoder: shared if it is the one the bundle was made with.
            threads: that rank.
            rules: of the shop, in place of the bundle's.

        """
        loaded = load(root, encoder, threads)
        self.manifest, self.config = loaded.manifest, loaded.config
        self.version: str = self.manifest["version"]
        self.store_point = StorePoint.of_manifest(self.manifest)
        self.catalogue, self.popularity = loaded.catalogue, loaded.popularity
        self.encoder, self.users = loaded.encoder, loaded.users
        self._maps = loaded.maps
        kinds = self.config.data.event_weights
        self._ruling = Ruling(self.config.rules if rules is None else rules, kinds)
        self._ruling.over(self.catalogue)
        self._explorer = Explorer(self.config, self.catalogue.bundle, self._maps["item_map"])
        self._interviewer = Interviewer(self.config, self.catalogue.bundle, self._maps, self.users.arrays)

    def uses_encoder_of(self, root: Path) -> bool:
        """Whether the bundle in `root` was made with the very encoder of this one."""
        theirs = check_manifest(read_json(BundlePaths(root).manifest), str(root)).get("encoder")
        return bool(theirs == self.manifest["encoder"])

    def knows_user(self, user_id: str) -> bool:
        """Whether the build has seen this user."""
        return user_id in self.users.rows

    def with_late(self, items: Items | None) -> Recommender:
        """The same version with these items beside its own; shares everything else."""
        return self._over(self.catalogue.with_late(items))

    def showing(self, item_ids: Sequence[str]) -> Recommender:
        """The same version in a shop that shows these of its items, hidden or not, and no others."""
        return self._over(self.catalogue.showing(self.catalogue.rows_of(item_ids)))

    def _over(self, catalogue: Catalogue) -> Recommender:
        other = copy.copy(self)
        other.catalogue = catalogue
        other._ruling = self._ruling.following(catalogue)
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
    def user_ids(self) -> list[str]:
        """Of this version, in row-number order."""
        return list(self.users.rows)

    @property
    def n_users(self) -> int:
        """Of this version."""
        return len(self.users.rows)

    @property
    def n_text(self) -> int:
        """Columns of a profile that are of its text; extra blocks come after them."""
        return self.users.n_text

    def item_profiles(self, texts: Sequence[str]) -> FloatArray:
        """(texts, E) as in a build, with nothing in extra blocks."""
        return self.users.item_profiles(texts)

    def user_factor(self, request: Request) -> FloatArray:
        """(F,) of who asks, folded in."""
        (words,) = self.users.words([request])
        known = self.users.understand(request, words, self.catalogue)
        _, folded = self.users.solve(known, self.catalogue, split=False)
        return folded.total.astype(np.float32)

    def count_cold(self, item_ids: Sequence[str]) -> int:
        """How many of these items nobody had touched in training."""
        rows = self.catalogue.rows_of(item_ids)
        return int(np.count_nonzero(~self.catalogue.has_behaviour(rows)))

    @property
    def built_at(self) -> float:
        """When this version was made, seconds since 1970."""
        return datetime.fromisoformat(self.manifest["created_at"]).timestamp()

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
        check_page(self.config.serve, n)
        rules = self._ruling.over(self.catalogue)
        allowed = rules.may_show if rules else None
        return self._named(self.catalogue.similar(self.catalogue.row(item_id), n, allowed))

    def nearest(self, vector: FloatArray, n: int) -> list[tuple[str, float]]:
        """The items that may be shown with the largest cosines to a vector, see `place_text`.

        Raises:
            InputError: n out of range.

        """
        check_page(self.config.serve, n)
        rules = self._ruling.over(self.catalogue)
        return self._named(self.catalogue.near(vector, n, rules.may_show if rules else None))

    def _named(self, best: Ranked) -> list[tuple[str, float]]:
        pairs = zip(best.rows.tolist(), best.scores.tolist(), strict=True)
        return [(self.catalogue.id(row), score) for row, score in pairs]

    def place_text(self, text: str) -> FloatArray:
        """(F + E,) what a new item with this text, which nobody has touched, would be served by."""
        return place_item(self.item_profiles([text])[0], self.item_map, self.config.blend)

    def understand(self, requests: Sequence[Request]) -> list[Understood]:
        """What each request amounts to before it is ranked.

        Raises:
            InputError: what is wrong with the first that cannot be answered.

        """
        asked = zip(requests, self.users.words(requests), strict=True)
        return [self._prepare(place, request, words) for place, (request, words) in enumerate(asked)]

    def metadata(self, item_id: str, fields: Sequence[str]) -> dict[str, Json]:
        """These columns of an item of this catalogue.

        Raises:
            InputError: an unknown column.

        """
        self._check_fields(fields)
        return metadata(self.catalogue, self.catalogue.row(item_id), fields)

    def _check_fields(self, fields: Sequence[str]) -> None:
        known = self.catalogue.columns
        for name in fields:
            if name not in known:
                raise InputError(f"fields: no column {name[:80]!r}; the items have {', '.join(known)}.")

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """(texts, E) of length 1, zeros for an empty text: the encoder's vectors, as it reads texts in a build."""
        limit = self.config.serve.max_text_chars
        with step("encode", len(texts)):
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

    def recommend(self, request: Request) -> Answer:
        """The n best items for this request, best first; fewer when filters leave fewer.

        Raises:
            InputError: n out of range, an unknown item in events, an unknown event or filter.

        """
        (answer,) = self.recommend_many([request])
        if isinstance(answer, InputError):
            raise answer
        return answer

    def recommend_many(self, requests: Sequence[Request]) -> list[Answer | InputError]:
        """What `recommend` answers to each, or what it raises: texts are encoded and items ranked in one go."""
        answers: list[Answer | InputError] = [Answer() for _ in requests]
        understood: list[Understood] = []
        for place, (request, words) in enumerate(zip(requests, self.users.words(requests), strict=True)):
            try:
                understood.append(self._prepare(place, request, words))
            except InputError as e:
                answers[place] = e
        while understood:
            wanted = [self._wanted(u) for u in understood]
            every = [w for several in wanted for w in several]
            with step("rank", len(every)):
                found = iter(self.catalogue.best(every))
            too_short = []
            for u, several in zip(understood, wanted, strict=True):
                chosen = self._choose(u, [next(found) for _ in several] or [self._most_popular(u)])
                if chosen is None:
                    too_short.append(look_deeper(u))
                else:
                    answers[u.place] = self._answer(u, chosen)
            understood = too_short
        return answers

    def _wanted(self, asked: Understood) -> list[Wanted]:
        """What to ask the ranker for; nothing for somebody of whom nothing is known."""
        if asked.wanted is None:
            return []
        exploration = self._exploration(asked)
        if exploration is None:
            return [asked.wanted]
        return self._explorer.wanted(asked.wanted, exploration, self.catalogue)

    def _exploration(self, asked: Understood) -> Exploration | None:
        """How this list explores; later pages, various lists, the caller's candidates and strangers' do not.

        Nor do lists with caps or pins: what those leave has no simple probability.
        """
        request, exploration = asked.request, asked.request.exploration
        if exploration is None or exploration.settings.policy == "none" or asked.wanted is None:
            return None
        if asked.ruled.caps or asked.ruled.pins:
            return None
        may = not request.offset and request.among is None and diversity(self.config.serve, request) == 0
        return exploration if may else None

    def _choose(self, asked: Understood, best: Sequence[Ranked]) -> Chosen | None:
        """The places of the list, from what the ranker found; None: more items have to be ranked to say."""
        exploration = self._exploration(asked)
        if exploration is None:
            shown = page(self.config.serve, asked, best[0], self.catalogue)
            return None if shown is None else as_ranked(shown)
        return self._explorer.choose(
            best, asked.request.n, exploration, self.catalogue, lambda: self._solved(asked)
        )

    def _solved(self, asked: Understood) -> Solved:
        """The user's row with its precision."""
        assert asked.parts is not None  # noqa: S101 - of somebody who is known
        profile, folded = asked.parts
        lam, _ = self.users.pull(asked.known)
        known = self.users.evidence(asked.known, profile, self.catalogue)
        return Solved(folded.total, row_precision(known.factors, known.confidences, known.gramian, lam))

    def questions(self, request: Request, answers: Sequence[Reply]) -> list[Asked]:
        """The n items to ask this user about next, see `core.onboarding`; fewer when filters leave fewer.

        Args:
            request: who is asked; a query, offset and explanations have no meaning here.
            answers: what they said so far.

        Raises:
            InputError: n out of range, an unknown or repeated item in answers, an unknown filter.

        """
        check_page(self.config.serve, request.n)
        (words,) = self.users.words([request])
        known = self.users.understand(request, words, self.catalogue)
        alone = self.users.words_alone(request, known, self.catalogue)
        return self._interviewer.ask(self.catalogue, request, known, alone, answers)

    def _prepare(self, place: int, request: Request, words: Words) -> Understood:
        """Who asks, as a vector, and what may be answered."""
        check_page(self.config.serve, request.n, request.offset)
        self._check_fields(request.fields)
        items = self.catalogue
        rules = self._ruling.over(items) if request.rules else None
        known = self.users.understand(request, words, items, rules)
        allowed = items.mask(request.filter) if request.filter else None
        left_out = np.concatenate([items.hidden, known.touched, items.rows_of(request.exclude_ids)])
        if request.among is not None:
            allowed, left_out = items.among(items.rows_of(request.among)), np.zeros(0, dtype=np.int64)
        user, parts, ruled = None, None, Ruled()
        if len(known.words) or len(known.event_items) or self.users.has_own_text(known.stored_row):
            with step("fold_in"):
                parts = self.users.solve(known, items, split=request.explain)
            user = self.users.vector(request, *parts)
        if rules is not None:
            ruled, allowed, left_out = self._ruling.rule(
                rules, user, allowed, left_out, whole=request.among is not None
            )
        n_ranked = depth(self.config.serve, request, ruled)
        wanted = None
        if user is not None:
            wanted = Wanted(user, n_ranked, allowed, left_out, ruled.additions, ruled.unit)
        return Understood(place, request, known, allowed, left_out, n_ranked, ruled, wanted, parts)

    def _answer(self, asked: Understood, chosen: Chosen) -> Answer:
        wants_parts, fields, best = asked.request.explain, asked.request.fields, chosen.ranked
        answer = Answer()
        answer.policy, answer.scores = chosen.policy, best.scores.tolist()
        answer.best = [self.catalogue.id(row) for row in chosen.best.tolist()]
        places = zip(
            best.rows.tolist(), answer.scores, chosen.bonus.tolist(), chosen.propensities.tolist(),
            sources(best.rows, asked, self.catalogue), strict=True,
        )  # fmt: skip
        for rank, (row, score, bonus, propensity, source) in enumerate(places, 1 + asked.request.offset):
            parts = self._explain(row, asked) if wants_parts else None
            if parts is not None and bonus:
                parts["exploration"] = bonus
            told = None if chosen.policy == "none" else propensity
            beside = metadata(self.catalogue, row, fields) if fields else None
            answer.append(
                Recommended(self.catalogue.id(row), score + bonus, rank, source, parts, told, beside)
            )
        return answer

    def _explain(self, row: int, asked: Understood) -> dict[str, float]:
        gamma = self.users.gamma(asked.request)
        return explain(row, asked, self.catalogue, self.item_map, gamma)

    def _most_popular(self, asked: Understood) -> Ranked:
        ruled = asked.ruled
        return self.catalogue.most_popular(
            asked.depth, asked.allowed, asked.left_out, ruled.additions, ruled.unit
        )


def load_current(
    out: Path, encoder: Encoder | None = None, threads: int = 1, rules: RulesConfig | None = None
) -> Recommender:
    """The version in service under `out`.

    Raises:
        ArtefactError: nothing published, or it is not whole.

    """
    layout = Layout(out)
    return Recommender(layout.bundle(current_version(layout)), encoder, threads, rules)
