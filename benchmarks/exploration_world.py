"""The world of `exploration.py`: a generated shop whose true click rates are known, its model, and its visitors.

Dimensions: I items, V visitors, F factors.

Users of training have histories; visitors come with their own words alone. A quarter of the items has never been shown.
Texts are read by their words (`pipelines.core.lexical`), so that a world is made in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.special import expit

from pipelines.core import als, blend, lexical
from pipelines.core.belief import Belief, believe, item_deviation, text_residuals
from pipelines.core.catalogue import GeneratorConfig, generate
from pipelines.core.catalogue.behaviour import draw_counts
from pipelines.core.config import BlendConfig, ExploreConfig, FactorizeConfig, LexicalConfig
from pipelines.core.foldin import build_profile, fold_in, row_precision
from pipelines.core.ids import hash_ids
from pipelines.core.model import FittedModel, asked_of, fit
from pipelines.core.passing import Evidence, looks, with_passed
from pipelines.core.scoring import Training

DoubleArray = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

BLEND = BlendConfig()
FIT = FactorizeConfig(n_factors=32, iterations=4)
_ZIPF = 0.5
_COLD = 0.25


@dataclass(frozen=True)
class Size:
    """How large a world, and how long it is watched."""

    items: int = 1200
    users: int = 1500
    interactions: int = 24_000
    visitors: int = 150
    visits: int = 30
    refit_every: int = 10
    n: int = 10


@dataclass(frozen=True)
class World:
    """What is true, and what a model may know of it.

    Attributes:
        wants: (V, I) probability that a visitor clicks on an item that they look at.
        pairs: (U + V, I) interactions of training, the visitors' rows empty.
        item_profiles: (I, E).
        own_profiles: (U + V, E).
        is_new: (I,) never shown before.
        looks: (n,) probability that a visitor looks at a place.

    """

    wants: DoubleArray
    pairs: sp.csr_matrix
    item_profiles: FloatArray
    own_profiles: FloatArray
    is_new: BoolArray
    looks: DoubleArray

    @property
    def n_users(self) -> int:
        """U."""
        return int(self.pairs.shape[0]) - len(self.wants)


def make_world(size: Size, seed: int) -> World:
    """A shop of its own for each seed."""
    rng = np.random.default_rng([seed, 1])
    n_people = size.users + size.visitors
    shop = generate(
        GeneratorConfig(n_items=size.items, n_users=n_people, n_interactions=3 * n_people, seed=seed)
    )
    popularity = -_ZIPF * np.log1p(rng.permutation(size.items))
    logits = (shop.user_tastes @ shop.item_tastes.T).astype(np.float64) + popularity
    is_new = rng.permutation(size.items) < _COLD * size.items
    pairs = _draw_pairs(logits[: size.users], is_new, size, rng)
    texts = [f"{t}\n{d}" for t, d in zip(shop.items_df["title"], shop.items_df["description"], strict=True)]
    known = [text for text, new in zip(texts, is_new, strict=True) if not new]
    words = lexical.fit(known, LexicalConfig(), seed)
    items = words.transform(texts)
    own = words.transform(shop.users_df["description"].tolist())
    seen = logits[size.users :]
    # one shift for all, at which the ten best items of a visitor are clicked on half the times they are looked at
    low, high = -30.0, 30.0
    for _ in range(40):
        middle = (low + high) / 2
        top = np.sort(expit(seen + middle), axis=1)[:, -size.n :].mean()
        low, high = (middle, high) if top < 0.5 else (low, middle)
    return World(
        expit(seen + low), sp.vstack([pairs, sp.csr_matrix(seen.shape, dtype=np.float32)]).tocsr(),
        blend.centre(items, items[~is_new].mean(axis=0)), blend.centre(own, own[: size.users].mean(axis=0)),
        is_new, looks(size.n),
    )  # fmt: skip


def _draw_pairs(
    logits: DoubleArray, is_new: BoolArray, size: Size, rng: np.random.Generator
) -> sp.csr_matrix:
    """(U, I) by the Gumbel top-k trick, as `catalogue.behaviour` draws them."""
    counts = draw_counts(size.users, size.interactions, int((~is_new).sum()), rng)
    keys = np.where(is_new, -np.inf, logits - np.log(rng.standard_exponential(logits.shape) + 1e-30))
    order = np.argsort(-keys, axis=1)
    columns = np.concatenate([row[:count] for row, count in zip(order, counts, strict=True)])
    rows = np.repeat(np.arange(size.users), counts)
    shape = (size.users, size.items)
    made = sp.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape)
    made.sort_indices()
    return made


@dataclass(frozen=True)
class Served:
    """A fitted model as the service holds it.

    Attributes:
        model: as it was fitted.
        vectors: (I, F + E) of its items.
        residuals: (F, F) see `belief.text_residuals`.
        user_gramian: (F, F) of the users' rows.

    """

    model: FittedModel
    vectors: FloatArray
    residuals: DoubleArray
    user_gramian: DoubleArray

    @property
    def scale(self) -> DoubleArray:
        """(I,) of the scores."""
        evidence = self.model.item_evidence
        return np.where(evidence > 0, 1.0, self.model.blending.cold_scale)


def publish(
    world: World, clicks: sp.csr_matrix | None = None, settings: FactorizeConfig = FIT,
    exposure: FloatArray | None = None,
) -> Served:  # fmt: skip
    """Fit on the training's pairs and what visitors have clicked on."""
    pairs = world.pairs if clicks is None else (world.pairs + clicks).tocsr()
    pairs.sort_indices()
    training = Training(pairs, world.item_profiles, world.own_profiles, [""] * pairs.shape[1], exposure)
    hashes = hash_ids(np.array([f"i{n}" for n in range(pairs.shape[1])], dtype=object))
    model = fit(training, hashes, settings, BLEND)
    predicted = _predicted(model)
    vectors = blend.item_vectors(model.item_factors, model.item_profiles, model.item_evidence, BLEND)
    people = model.user_vectors(asked_of(pairs, world.own_profiles))[:, : settings.n_factors]
    known = people[np.diff(pairs.indptr) > 0]
    residuals = text_residuals(model.item_factors, predicted, model.item_evidence)
    return Served(model, vectors, residuals, als.gramian(known))


def with_first_clicks(
    world: World, built: Served, clicks: dict[int, list[DoubleArray]], met: IntArray
) -> Served:
    """The version after new items' first clicks, each of which gives its item a factor, as the service does.

    Who was never shown an item is no evidence against it: of the users' Gramian the share counts who were.

    Args:
        world: whose items.
        built: as published.
        clicks: by item, the rows of the visitors who have clicked on it.
        met: (I,) visitors who were shown each item.

    """
    model, fit_ = built.model, built.model.factorize
    factors, evidence, vectors = model.item_factors.copy(), model.item_evidence.copy(), built.vectors.copy()
    for item, rows in clicks.items():
        if not world.is_new[item]:
            continue
        n, x = np.array([len(rows)], dtype=np.int32), np.array(rows)
        lam = float(als.row_regularization(n, fit_.item_regularization, fit_.item_frequency_power)[0])
        share = float(als.prior_share(n, fit_.item_text_fade)[0])
        sure = als.confidences(np.ones(len(x), dtype=np.float32), fit_.alpha)
        precision = row_precision(x, sure, met[item] / world.n_users * built.user_gramian, lam)
        side = lam * share * model.item_factors[item] + sure @ x
        factors[item], evidence[item] = np.linalg.solve(precision, side), len(rows)
        one = slice(item, item + 1)
        vectors[one] = blend.item_vectors(factors[one], model.item_profiles[one], evidence[one], BLEND)
    late = replace(model, item_factors=factors, item_evidence=evidence)
    return replace(built, model=late, vectors=vectors)


def _predicted(model: FittedModel) -> FloatArray:
    """(I, F) what texts say of factors, by ridge regression over known items, as new ones are placed."""
    features, evidence = blend.features(model.item_profiles), model.item_evidence
    weight = np.sqrt(evidence).astype(np.float32)
    gram = als.map_gram(features, weight)
    cross = (features * weight[:, None]).T @ model.item_factors
    return features @ als.ridge_map(gram, cross.astype(np.float64), model.factorize.cold_ridge)


@dataclass
class Visitor:
    """One who comes again and again.

    Attributes:
        row: among the visitors.
        clicked: items, each once.
        passed: (I,) how often each was looked at, by place, when it was shown and not clicked on.

    """

    row: int
    passed: DoubleArray
    clicked: list[int] = field(default_factory=list)


def candidates_of(
    world: World, served: Served, visitor: Visitor, shown: IntArray, settings: ExploreConfig, n: int
) -> tuple[IntArray, Belief, BoolArray, DoubleArray]:
    """Rows of the candidates, the belief about them, which are cold, and the visitor's row: as the service has them."""
    model = served.model
    items = np.array(sorted(visitor.clicked), dtype=np.int64)
    fit_ = model.factorize
    count = np.array([len(items)], dtype=np.int32)
    lam = float(als.row_regularization(count, fit_.user_regularization, fit_.user_frequency_power)[0])
    share = float(als.prior_share(count, fit_.user_text_fade)[0])
    own = world.own_profiles[world.n_users + visitor.row][None]
    profile = build_profile(
        own, np.array([BLEND.own_text_items], dtype=np.float32), model.item_profiles[items],
        np.ones(len(items), dtype=np.float32), BLEND.history_power,
    )  # fmt: skip
    sure = als.confidences(np.ones(len(items), dtype=np.float32), fit_.alpha)
    over = np.setdiff1d(np.flatnonzero(visitor.passed), items)
    known = with_passed(
        Evidence(profile, model.item_factors[items], sure, model.item_gramian),
        model.item_factors[over], visitor.passed[over], settings.passed_weight,
    )  # fmt: skip
    folded = fold_in(
        known.profile,
        model.user_map,
        known.factors,
        known.confidences,
        known.gramian,
        lam,
        share,
        split=False,
    )
    user = blend.blend(folded.total.astype(np.float32), profile.total.astype(np.float32), BLEND.gamma)
    scores = served.vectors @ user
    scores[items] = -np.inf
    is_cold = (model.item_evidence == 0) & (shown < settings.cold_impressions)
    rows = choose_candidates(scores, is_cold, n, settings)
    belief = believe(
        scores[rows], served.vectors[rows, : fit_.n_factors],
        row_precision(known.factors, known.confidences, known.gramian, lam), settings.noise,
        item_deviation(
            folded.total, served.residuals, (model.item_evidence + shown)[rows].astype(np.float64),
            served.scale[rows], settings.half_known, settings.item_noise,
        ),
    )  # fmt: skip
    return rows, belief, is_cold[rows], folded.total


def choose_candidates(scores: FloatArray, is_cold: BoolArray, n: int, settings: ExploreConfig) -> IntArray:
    """The best n + candidates and, where some places are theirs, the best cold ones; best first."""
    best = np.argpartition(-scores, n + settings.candidates)[: n + settings.candidates]
    if settings.cold_share > 0:
        cold = np.flatnonzero(is_cold)
        few = settings.cold_candidates
        best = np.union1d(best, cold[np.argsort(-scores[cold])[:few]])
    return best[np.argsort(-scores[best], kind="stable")]


def without_exploring(settings: ExploreConfig) -> ExploreConfig:
    """The same, with nothing tried."""
    return replace_settings(settings, policy="none", cold_share=0.0)


def replace_settings(settings: ExploreConfig, **values: object) -> ExploreConfig:
    """A validated copy."""
    return ExploreConfig.model_validate(settings.model_dump() | values)
