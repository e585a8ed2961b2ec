"""A generated shop, a model fitted without some of its users, and what these would answer when they are asked.

What a user wants is their true affinity, which no model sees. Asked "do you like this?" they know the item with a
chance that rises with its rank in popularity, and then say whether their affinity, standardised over the catalogue and
bent by chance, is above a bar. Items are asked about from one half of the catalogue and found in the other, so that no
way of asking gains or loses by what it takes out of the list.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from pipelines.core import blend, lexical
from pipelines.core.catalogue import GeneratorConfig, generate
from pipelines.core.config import Config
from pipelines.core.encoder import Encoder
from pipelines.core.ids import hash_ids
from pipelines.core.metrics import list_metrics, top_k
from pipelines.core.model import FittedModel, asked_of, fit
from pipelines.core.scoring import Training
from pipelines.core.text import compose_text

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

COLUMNS = ("title", "brand", "categories", "description")
K = 20


@dataclass(frozen=True)
class Sizes:
    """How large the shop is."""

    items: int = 2000
    users: int = 2000
    pairs: int = 40_000
    newcomers: int = 300
    factors: int = 64
    relevant: int = 20
    """Items of the half to be found that a user truly wants most."""


QUICK = Sizes(items=300, users=200, pairs=4000, newcomers=60, factors=16, relevant=10)


@dataclass(frozen=True)
class People:
    """How newcomers answer.

    Attributes:
        bar: standard deviations of affinity above which an item is liked.
        noise: of one answer, in the same unit.
        least, most: chance to know the least and the most popular item.

    """

    bar: float = 1.0
    noise: float = 0.5
    least: float = 0.2
    most: float = 0.9


@dataclass(frozen=True)
class Shop:
    """The shop and n newcomers that its model has not seen.

    Attributes:
        model: fitted on the other users.
        history: (U, I) of these.
        own: (U, E) their own words.
        words: (n, E) the newcomers' own words.
        likes: (n, I) whether a newcomer would say that they like an item.
        knows: (n, I) whether they could say.
        wanted: (n, I) affinity, standardised by user.
        may_ask: (I,) the half that is asked about; the other is to be found.
        relevant: how many items of that half a user truly wants.

    """

    model: FittedModel
    history: sp.csr_matrix
    own: FloatArray
    words: FloatArray
    likes: BoolArray
    knows: BoolArray
    wanted: FloatArray
    may_ask: BoolArray
    relevant: int

    @property
    def to_find(self) -> IntArray:
        """Rows of the half that is not asked about."""
        return np.flatnonzero(~self.may_ask)

    def answers(self, user: int, item: int) -> float | None:
        """+1 liked, -1 disliked, None: does not know it."""
        if not self.knows[user, item]:
            return None
        return 1.0 if self.likes[user, item] else -1.0

    def measure(
        self, weights: sp.csr_matrix, with_words: bool, own: FloatArray | None = None
    ) -> dict[str, DoubleArray]:
        """Metrics at 20 of each newcomer, given (n, I) weights of what they answered; `own` in place of their words."""
        if own is None:
            own = self.words if with_words else np.zeros_like(self.words)
        scores = self.model.scores(asked_of(weights, own), self.to_find)
        if not with_words:  # of whom nothing is known, the service shows what is most popular
            nothing = np.diff(weights.indptr) == 0
            scores[nothing] = self.model.item_evidence[self.to_find]
        truth = self.wanted[:, self.to_find]
        best = np.argsort(-truth, axis=1)[:, : self.relevant]
        rows = np.repeat(np.arange(len(best)), self.relevant)
        relevant = sp.csr_matrix((np.ones(best.size), (rows, best.ravel())), shape=truth.shape)
        top = top_k(scores, K)
        found = list_metrics(top, relevant, [K])
        found["wanted"] = np.take_along_axis(truth, top, axis=1).mean(axis=1).astype(np.float64)
        return found


def make_shop(seed: int, sizes: Sizes, people: People, cache: Path | None) -> Shop:
    """Generate, embed and fit; texts are embedded once where there is a cache."""
    catalogue = generate(
        GeneratorConfig(n_items=sizes.items, n_users=sizes.users, n_interactions=sizes.pairs, seed=seed)
    )
    rng = np.random.default_rng([seed, 1])
    config = Config()
    item_texts = [compose_text(r, COLUMNS) for r in catalogue.items_df.to_dict("records")]
    user_texts = catalogue.users_df["description"].tolist()
    meaning = embed([*item_texts, *user_texts], cache, f"onboarding_{seed}_{sizes.items}_{sizes.users}")
    item = pd.Index(catalogue.items_df["item_id"]).get_indexer(catalogue.interactions_df["item_id"])
    user = pd.Index(catalogue.users_df["user_id"]).get_indexer(catalogue.interactions_df["user_id"])
    weight = catalogue.interactions_df["event"].map(config.data.event_weights).to_numpy(np.float32)
    is_new = np.zeros(sizes.users, dtype=bool)
    is_new[rng.permutation(sizes.users)[: sizes.newcomers]] = True
    pairs = sp.csr_matrix((weight, (user, item)), shape=(sizes.users, sizes.items))[~is_new].tocsr()
    pairs.sort_indices()
    training, words = _profiles(config, meaning, pairs, item_texts, user_texts, is_new)
    factorize = config.factorize.model_copy(update={"n_factors": sizes.factors})
    hashes = hash_ids(catalogue.items_df["item_id"].to_numpy(dtype=object))
    model = fit(training, hashes, factorize, config.blend)
    affinity = catalogue.user_tastes[is_new] @ catalogue.item_tastes.T
    wanted = affinity - affinity.mean(axis=1, keepdims=True)
    wanted /= wanted.std(axis=1, keepdims=True)
    place = model.item_evidence.argsort(kind="stable").argsort() / (sizes.items - 1)
    chance = people.least + (people.most - people.least) * place
    may_ask = np.zeros(sizes.items, dtype=bool)
    may_ask[rng.permutation(sizes.items)[: sizes.items // 2]] = True
    return Shop(
        model, pairs, training.own_profiles, words,
        wanted + people.noise * rng.standard_normal(wanted.shape) > people.bar,
        rng.random(wanted.shape) < chance, wanted.astype(np.float32), may_ask, sizes.relevant,
    )  # fmt: skip


def embed(texts: list[str], cache: Path | None, name: str) -> FloatArray:
    """(n, E) by the packaged encoder."""
    path = cache / f"{name}.npy" if cache else None
    if path and path.exists():
        return np.asarray(np.load(path))
    vectors = Encoder(Config().encoder).encode(texts)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, vectors)
    return vectors


def _profiles(
    config: Config, meaning: FloatArray, pairs: sp.csr_matrix, item_texts: list[str],
    user_texts: list[str], is_new: BoolArray,
) -> tuple[Training, FloatArray]:  # fmt: skip
    """What a build makes of the texts, and the newcomers' words in the same way."""
    known = np.bincount(pairs.indices, minlength=len(item_texts)) > 0
    model = lexical.fit([item_texts[i] for i in np.flatnonzero(known)], config.lexical, config.factorize.seed)
    raw = np.concatenate([meaning, model.transform([*item_texts, *user_texts])], axis=1)
    items, users, width = raw[: len(item_texts)], raw[len(item_texts) :], meaning.shape[1]
    item_profiles = blend.text_profile(items, _mean(items, known, width), width, config.lexical.weight)
    mean = _mean(users, ~is_new, width)
    own = blend.text_profile(users, mean, width, config.lexical.weight)
    return Training(pairs, item_profiles, own[~is_new], item_texts), own[is_new]


def _mean(raw: FloatArray, rows: BoolArray, width: int) -> FloatArray:
    """Of meanings and of words, each over the rows that have one."""
    found = [blend.mean_statistics(part, rows) for part in (raw[:, :width], raw[:, width:])]
    return np.concatenate([total / max(count, 1) for total, count in found]).astype(np.float32)
