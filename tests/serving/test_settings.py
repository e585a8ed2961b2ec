"""Every setting that bends a score, off its default: the service still answers as the evaluation measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp

from pipelines.core import lexical
from pipelines.core.bundle import BundlePaths
from pipelines.core.config import BlendConfig, Config, FactorizeConfig, LexicalConfig
from pipelines.core.encoder import Encoder
from pipelines.core.model import FittedModel
from pipelines.core.scoring import Asked
from pipelines.core.storage import read_tensors
from serving.recommender import Recommender
from serving.requests import Event, Request
from tests.serving.shop import CONFIG, N_ITEMS, N_USERS, Shop, build_shop

FloatArray = npt.NDArray[np.float32]

BENT = Config(
    encoder=CONFIG.encoder,
    lexical=LexicalConfig(weight=0.9, n_dims=40),
    factorize=FactorizeConfig(
        n_factors=16,
        iterations=4,
        text_weight=0.8,
        user_regularization=4.0,
        item_regularization=20.0,
        alpha=7.0,
        user_frequency_power=0.5,
        item_frequency_power=0.7,
        user_text_fade=6.0,
        item_text_fade=20.0,
        user_ridge=2.0,
        item_ridge=5.0,
        cold_ridge=30.0,
        evidence_power=0.6,
    ),
    blend=BlendConfig(
        gamma=0.7,
        text_fade=0.4,
        cold_scale=1.7,
        history_power=0.6,
        own_text_items=2.0,
        query_items=1.5,
        unwanted_items=0.4,
    ),
)
PLAIN = CONFIG.model_copy(update={"lexical": LexicalConfig(weight=0.0)})


@pytest.fixture(scope="module")
def bent_shop(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Shop:
    return build_shop(tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("out"), encoder, BENT)


@pytest.fixture(scope="module")
def bent(bent_shop: Shop, encoder: Encoder) -> Recommender:
    return Recommender(bent_shop.bundle, encoder)


@pytest.fixture(scope="module")
def without_words(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Recommender:
    """A shop built with `lexical.weight` 0: its table of terms is empty."""
    shop = build_shop(tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("out"), encoder, PLAIN)
    return Recommender(shop.bundle, encoder)


def measured(shop: Shop) -> FittedModel:
    """The model as the evaluation would load it."""
    paths = BundlePaths(shop.bundle)
    items, maps = read_tensors(paths.item_arrays), read_tensors(paths.text_maps)
    counts = shop.items.column("n_interactions").to_numpy()
    return FittedModel(
        items["factors"], items["profiles"], counts, maps["user_map"], maps["item_gramian"].astype(float),
        BENT.factorize, BENT.blend,
    )  # fmt: skip


def history(shop: Shop, likes: Sequence[dict[str, float]]) -> sp.csr_matrix:
    row_of = {item: row for row, item in enumerate(shop.item_ids)}
    weights = np.zeros((len(likes), N_ITEMS), dtype=np.float32)
    for row, liked in enumerate(likes):
        for item, weight in liked.items():
            weights[row, row_of[item]] = weight
    return sp.csr_matrix(weights)


def expected(shop: Shop, likes: dict[str, float], own: FloatArray, query: FloatArray) -> FloatArray:
    asked = Asked(history(shop, [likes]), own[None], query[None], [""], [""])
    return measured(shop).scores(asked, np.arange(N_ITEMS))[0]


def answered(model: Recommender, request: Request) -> dict[str, float]:
    return {item.item_id: item.score for item in model.recommend(request)}


def assert_scores(found: dict[str, float], scores: FloatArray, shop: Shop) -> None:
    assert found
    every = dict(zip(shop.item_ids, scores.tolist(), strict=True))
    assert found == pytest.approx({item: every[item] for item in found}, abs=2e-5)


def test_a_known_user_is_the_stored_factor(bent: Recommender, bent_shop: Shop) -> None:
    for row in range(N_USERS + 2):  # and the two without history
        request = Request(user_id=bent_shop.user_ids[row])
        known = bent.users.understand(request, *bent.users.words([request]), bent.catalogue)
        _, folded = bent.users.solve(known, bent.catalogue)
        np.testing.assert_allclose(folded.total, bent_shop.user_factors[row], atol=3e-5)


def test_known_users_get_the_scores_that_are_measured(bent: Recommender, bent_shop: Shop) -> None:
    own = read_tensors(BundlePaths(bent_shop.bundle).user_arrays)["own_texts"]
    for row in (0, 3, 5, 17, N_USERS):
        user = bent_shop.user_ids[row]
        scores = expected(bent_shop, bent_shop.history[user], own[row], np.zeros_like(own[row]))
        assert_scores(answered(bent, Request(user_id=user, n=500)), scores, bent_shop)


@pytest.mark.parametrize("weights", [{}, {0: 1.0}, {0: 3.0, 7: -1.0, 9: 1.0, 30: 1.0, 119: 1.0}])
def test_newcomers_get_the_scores_that_are_measured(
    bent: Recommender, bent_shop: Shop, weights: dict[int, float]
) -> None:
    likes = {bent_shop.item_ids[row]: w for row, w in weights.items()}
    words, query = bent.users._encode(["I camp by the sea", "tent"], ["your words", "your query"])
    events = [
        Event(item, "dislike") if weight < 0 else Event(item, weight=weight) for item, weight in likes.items()
    ]
    request = Request(user_text="I camp by the sea", query="tent", events=events, n=500)
    assert_scores(answered(bent, request), expected(bent_shop, likes, words, query), bent_shop)


@pytest.mark.parametrize(
    "request_",
    [
        Request(user_text="I love hiking", query="tent", n=60, explain=True),
        Request(query="茶", n=60, explain=True),
        Request(user_id="user-000002", n=60, explain=True),
        Request(user_id="user-000005", query="tea", n=60, explain=True,
                events=[Event("item-000004", "dislike"), Event("item-000119")]),
        Request(user_id="newcomer", n=60, explain=True),
    ],
)  # fmt: skip
def test_parts_add_up_to_the_score(bent: Recommender, bent_shop: Shop, request_: Request) -> None:
    answer = bent.recommend(request_)
    assert {item.item_id in bent_shop.cold_ids for item in answer} == {True, False}
    for item in answer:
        assert sum((item.parts or {}).values()) == pytest.approx(item.score, abs=1e-6)


def test_cold_items_are_scaled_and_no_others(bent: Recommender, bent_shop: Shop) -> None:
    cold = np.isin(bent_shop.item_ids, bent_shop.cold_ids)
    arrays = read_tensors(BundlePaths(bent_shop.bundle).item_arrays)
    level_vectors = np.concatenate([arrays["factors"], np.sqrt(0.7) * arrays["profiles"]], axis=1)
    np.testing.assert_allclose(
        bent.catalogue.bundle.vectors[cold], 1.7 * level_vectors[cold], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(bent.catalogue.bundle.vectors[~cold, :16], arrays["factors"][~cold], rtol=1e-6)


def test_words_count_beside_their_meaning(model: Recommender, without_words: Recommender, shop: Shop) -> None:
    """Both profiles of a text have a part of length 1 for what it means; only one has a part for its words."""
    words = lexical.load(BundlePaths(shop.bundle).lexical)
    assert words.width > 0
    query = model.title(shop.item_ids[0])
    profile, plain = (m.users._encode([query], ["your query"])[0] for m in (model, without_words))
    assert len(profile) == len(plain) + words.width
    np.testing.assert_allclose(profile[: len(plain)], plain, atol=1e-6)
    assert np.linalg.norm(plain) == pytest.approx(1.0, abs=1e-5)
    assert np.linalg.norm(profile[len(plain) :]) == pytest.approx(CONFIG.lexical.weight, abs=1e-5)
    unheard = model.users._encode(["qwertz"], ["your query"])[0]
    assert not unheard[len(plain) :].any()


def test_without_words_there_are_answers_too(without_words: Recommender) -> None:
    assert without_words.users._lexical.width == 0
    answer = without_words.recommend(Request(query="tea", n=5, explain=True))
    assert len(answer) == 5
