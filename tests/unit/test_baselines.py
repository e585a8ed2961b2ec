"""Baselines: known answers, the libraries' own results, and nothing learnt from what training does not know.

Dimensions as in `scoring`: U users and I items of training, n users of a block, m candidates, E text embedding.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Sequence
from dataclasses import replace

import bm25s
import numpy as np
import pytest
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from pipelines.core import als, blend
from pipelines.core.baselines import BASELINES, BaselineSettings, fit_baseline, unavailable
from pipelines.core.baselines.matrix import AlsScorer, AlsTextScorer
from pipelines.core.errors import ConfigError
from pipelines.core.scoring import Asked, FloatArray, Scorer, Training
from pipelines.core.tokens import tokenize

N_EMBEDDING = 6
SETTINGS = BaselineSettings(
    n_factors=8, als_alpha=5.0, als_regularization=0.5, als_text_ridge=0.1, irspack_reg=1e-3,
    irspack_user_ridge=0.01, irspack_item_ridge=0.01, cmfrec_lambda=1.0, cmfrec_w_item=10.0, cmfrec_w_user=10.0,
)  # fmt: skip


def only(*names: str) -> pytest.MarkDecorator:
    reasons = {name: unavailable(name) for name in names}
    marks = {name: pytest.mark.skipif(bool(why), reason=f"{name}: {why}") for name, why in reasons.items()}
    return pytest.mark.parametrize("name", [pytest.param(name, marks=marks[name]) for name in names])


everything = only(*BASELINES)


def csr(rows: object) -> sp.csr_matrix:
    return sp.csr_matrix(np.array(rows, dtype=np.float32))


def asked(
    history: sp.csr_matrix,
    own: FloatArray | None = None,
    queries: FloatArray | None = None,
    own_texts: Sequence[str] | None = None,
    query_texts: Sequence[str] | None = None,
    n_embedding: int = N_EMBEDDING,
) -> Asked:
    n = history.shape[0]
    nothing = np.zeros((n, n_embedding), dtype=np.float32)
    return Asked(
        history,
        nothing if own is None else own,
        nothing if queries is None else queries,
        [""] * n if own_texts is None else own_texts,
        [""] * n if query_texts is None else query_texts,
    )


def training(
    pairs: sp.csr_matrix,
    item_profiles: FloatArray | None = None,
    own_profiles: FloatArray | None = None,
    item_texts: Sequence[str] | None = None,
) -> Training:
    n_users, n_items = pairs.shape
    return Training(
        pairs,
        np.zeros((n_items, N_EMBEDDING), dtype=np.float32) if item_profiles is None else item_profiles,
        np.zeros((n_users, N_EMBEDDING), dtype=np.float32) if own_profiles is None else own_profiles,
        [""] * n_items if item_texts is None else item_texts,
    )


WORDS = ("tent", "stove", "lamp", "帐篷", "rope", "boots")


def groups(n_users: int = 30, n_items: int = 18, n_unknown: int = 6) -> Training:
    """Users and items of three groups, each user wanting most of their group; the text tells the group.

    The last `n_unknown` items have text and no pairs; the last two users have words and no pairs.
    """
    rng = np.random.default_rng(3)
    item_group, user_group = np.arange(n_items) % 3, np.arange(n_users) % 3
    wants = (user_group[:, None] == item_group) & (rng.random((n_users, n_items)) < 0.8)
    wants[:, n_items - n_unknown :] = False
    wants[n_users - 2 :] = False
    return training(
        csr(wants),
        item_profiles=group_texts(item_group, rng),
        own_profiles=group_texts(user_group, rng),
        item_texts=[f"{WORDS[g]} {WORDS[g + 3]} number {i}" for i, g in enumerate(item_group)],
    )


def group_texts(group: np.typing.NDArray[np.int64], rng: np.random.Generator) -> FloatArray:
    noise = 0.1 * rng.standard_normal((len(group), N_EMBEDDING))
    return blend.normalize((np.eye(N_EMBEDDING)[group] + noise).astype(np.float32))


def block(of: Training) -> Asked:
    """Users with a history of both signs, with words only, a query only, both, nothing, an unknown item only."""
    n_items = of.pairs.shape[1]
    history = np.zeros((6, n_items), dtype=np.float32)
    history[0, :2], history[0, 2:3] = 1, -1
    history[3, :1] = 2
    history[5, -1] = 1
    own, queries = (np.zeros((6, of.item_profiles.shape[1]), dtype=np.float32) for _ in range(2))
    own[1, :1], own[3, :1], queries[2, :1], queries[3, :1] = 1, 1, 1, 1
    own_texts = ["", "tent rope", "", "tent", "", ""]
    query_texts = ["", "", "帐篷 lamp", "unheard-of", "", ""]
    return asked(csr(history), own, queries, own_texts, query_texts)


def check(scorer: Scorer, of: Training) -> FloatArray:
    """Scores of the block for all items, in the form the contract asks for."""
    candidates = np.arange(of.pairs.shape[1])[::-1].copy()
    scores = scorer.scores(block(of), candidates)
    assert scores.dtype == np.float32
    assert scores.shape == (6, len(candidates))
    assert np.isfinite(scores).all()
    none = np.zeros(0, dtype=np.int64)
    assert scorer.scores(block(of), none).shape == (6, 0)
    nobody = asked(of.pairs[:0])
    assert scorer.scores(nobody, candidates).shape == (0, len(candidates))
    return scores


# ---------------------------------------------------------------- every baseline


@everything
def test_same_seed_same_scores_and_picklable(name: str) -> None:
    data = groups()
    scorer = fit_baseline(name, data, SETTINGS, 7)
    scores = check(scorer, data)
    assert scores.any()
    np.testing.assert_array_equal(scores, check(fit_baseline(name, data, SETTINGS, 7), data))
    np.testing.assert_array_equal(scores, check(pickle.loads(pickle.dumps(scorer)), data))  # noqa: S301


@everything
def test_candidates_are_columns(name: str) -> None:
    data = groups()
    scorer = fit_baseline(name, data, SETTINGS, 0)
    full = scorer.scores(block(data), np.arange(18))
    some = np.array([11, 3, 17])
    np.testing.assert_allclose(scorer.scores(block(data), some), full[:, some], atol=1e-6)


@everything
def test_users_do_not_depend_on_their_block(name: str) -> None:
    data = groups()
    scorer = fit_baseline(name, data, SETTINGS, 0)
    together, one = block(data), slice(3, 4)
    alone = Asked(
        together.history[one], together.own_profiles[one], together.queries[one],
        together.own_texts[one], together.query_texts[one],
    )  # fmt: skip
    everybody = scorer.scores(together, np.arange(18))
    np.testing.assert_allclose(scorer.scores(alone, np.arange(18)), everybody[one], rtol=1e-4, atol=1e-5)


@everything
@pytest.mark.parametrize("shape", [(5, 4), (0, 4), (5, 1)])
def test_nothing_to_learn_from(name: str, shape: tuple[int, int]) -> None:
    empty = training(csr(np.zeros(shape)))
    assert not check(fit_baseline(name, empty, SETTINGS, 0), empty).any()


@everything
def test_only_dislikes(name: str) -> None:
    data = training(csr([[-1, -1, 0], [0, -2, 0]]))
    assert (check(fit_baseline(name, data, SETTINGS, 0), data) <= 0).all()


@everything
@pytest.mark.parametrize("pairs", [[[1], [1]], [[3]]])
def test_one_item(name: str, pairs: list[list[float]]) -> None:
    data = training(csr(pairs), item_texts=["tent"])
    check(fit_baseline(name, data, SETTINGS, 0), data)


@everything
def test_no_texts_at_all(name: str) -> None:
    data = training(groups().pairs)
    scores = check(fit_baseline(name, data, SETTINGS, 0), data)
    assert scores.any() == (name not in {"bm25", "content"})


@everything
def test_some_texts_missing(name: str) -> None:
    data = groups()
    profiles = data.item_profiles.copy()
    profiles[[0, 1, 17]] = 0
    texts = [t if p.any() else "" for t, p in zip(data.item_texts, profiles, strict=True)]
    data = replace(data, item_profiles=profiles, item_texts=texts)
    check(fit_baseline(name, data, SETTINGS, 0), data)


@everything
def test_what_training_does_not_know_teaches_nothing(name: str) -> None:
    """New texts of unknown items and new words of unknown users change no score of a known item."""
    data = groups()
    rng = np.random.default_rng(9)
    profiles, own = data.item_profiles.copy(), data.own_profiles.copy()
    profiles[12:], own[28:] = group_texts(np.full(6, 4), rng), group_texts(np.full(2, 5), rng)
    texts = [*data.item_texts[:12], *(["unheard-of lamp lamp"] * 6)]
    changed = replace(data, item_profiles=profiles, own_profiles=own, item_texts=texts)
    rows, known = block(data), np.arange(12)
    rows.history.data[rows.history.indices == 17] = 0  # an unknown item, whose text has changed
    before = fit_baseline(name, data, SETTINGS, 0).scores(rows, known)
    after = fit_baseline(name, changed, SETTINGS, 0).scores(rows, known)
    np.testing.assert_array_equal(before, after)


@only("bm25", "content", "als_text", "irspack", "cmfrec")
def test_text_places_newcomers(name: str) -> None:
    """An unknown item goes to the users of its group; words, a query or one liked item tell a user's group."""
    data = groups()
    scorer = fit_baseline(name, data, SETTINGS, 0)
    history = np.zeros((12, 18), dtype=np.float32)
    texts, empty = np.eye(N_EMBEDDING, dtype=np.float32)[np.arange(12) % 3], [""] * 3
    words = [WORDS[g] for g in range(3)]
    own, queries = (
        np.where(np.arange(12)[:, None] < 3, texts, 0),
        np.where(np.arange(12)[:, None] // 3 == 1, texts, 0),
    )
    history[np.arange(6, 9), np.arange(3)] = 1
    history[np.arange(9, 12), np.arange(15, 18)] = 1  # items that training does not know
    people = asked(
        csr(history),
        own.astype(np.float32),
        queries.astype(np.float32),
        words + empty * 3,
        empty + words + empty * 2,
    )
    for candidates in (np.arange(12), np.arange(12, 15)):
        scores = scorer.scores(people, candidates)
        group = scores.reshape(12, -1, 3).mean(axis=1).argmax(axis=1)
        np.testing.assert_array_equal(group, np.arange(12) % 3)


# ---------------------------------------------------------------- factors


def checkerboard(n: int) -> sp.csr_matrix:
    """User i wants every item of i's colour but item i (the test of benfred/implicit)."""
    board = (np.add.outer(np.arange(n), np.arange(n)) % 2 == 0).astype(np.float32)
    return csr(board - np.eye(n))


@only("als", "als_text", "irspack", "cmfrec")
def test_checkerboard(name: str) -> None:
    board = checkerboard(20)
    scorer = fit_baseline(name, training(board), SETTINGS.model_copy(update={"n_factors": 3}), 0)
    scores = np.where(board.toarray() > 0, -np.inf, scorer.scores(asked(board), np.arange(20)))
    np.testing.assert_array_equal(scores.argmax(axis=1), np.arange(20))


def fitted_by_implicit(
    pairs: sp.csr_matrix, settings: BaselineSettings, seed: int
) -> AlternatingLeastSquares:
    weights = sp.csr_matrix(pairs, copy=True)
    weights.data = als.confidences(weights.data, settings.als_alpha)
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=settings.n_factors, regularization=settings.als_regularization, alpha=1.0,
            iterations=settings.iterations, use_cg=False, num_threads=1, random_state=seed,
        )  # fmt: skip
        model.fit(weights, show_progress=False)
    return model


def test_als_answers_as_implicit_does() -> None:
    rng = np.random.default_rng(1)
    weights = np.where(rng.random((40, 25)) < 0.2, rng.choice([1.0, 2.0, -1.0], (40, 25)), 0)
    weights[:, 24], weights[39] = 0, 0
    pairs = csr(weights)
    settings = SETTINGS.model_copy(update={"iterations": 300})
    model = fitted_by_implicit(pairs, settings, 4)
    scorer = fit_baseline("als", training(pairs), settings, 4)
    assert isinstance(scorer, AlsScorer)
    np.testing.assert_allclose(scorer.item_factors, model.item_factors, atol=1e-6)
    weights = sp.csr_matrix(pairs, copy=True)
    weights.data = als.confidences(weights.data, settings.als_alpha)
    folded = scorer.user_factors(pairs)
    with threadpool_limits(1, "blas"):
        np.testing.assert_allclose(
            folded[:39], model.recalculate_user(np.arange(39), weights[:39]), rtol=1e-3, atol=1e-4
        )
    # stored user factors are one half step behind, which no longer matters after so many
    stored = model.user_factors @ model.item_factors.T
    scores = scorer.scores(asked(pairs), np.arange(25))
    np.testing.assert_allclose(scores, stored, atol=5e-3)
    assert not scores[39].any()
    assert not scores[:, 24].any()


def test_als_takes_dislikes_for_sure_zeros() -> None:
    pairs = csr([[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, -3, 0], [0, 1, 1, 1], [0, 0, 1, 1]])
    scorer = fit_baseline("als", training(pairs), SETTINGS, 0)
    neutral, against = csr([[0, 0, 0, 1]]), csr([[0, 0, -3, 1]])
    both = scorer.scores(asked(sp.vstack([neutral, against]).tocsr()), np.arange(4))
    assert abs(both[1, 2]) < abs(both[0, 2])


def test_als_that_cannot_be_fitted() -> None:
    pairs = csr(np.ones((3, 30)))
    settings = SETTINGS.model_copy(
        update={"n_factors": 64, "als_regularization": 1e-6, "als_alpha": 1e6, "iterations": 30}
    )
    with pytest.raises(ConfigError, match=r"als_regularization"):
        fit_baseline("als", training(pairs), settings, 0).scores(asked(pairs), np.arange(30))


def test_als_that_cannot_fold_in() -> None:
    """A history of single precision's end: the row's matrix is no longer positive."""
    factors = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    settings = SETTINGS.model_copy(update={"als_regularization": 1e-6, "als_alpha": 1e6})
    scorer = AlsScorer(factors, als.gramian(factors), settings)
    with pytest.raises(ConfigError, match=r"als_alpha"):
        scorer.scores(asked(csr([[1, 1, 1]])), np.arange(3))


def test_als_text_is_als_where_there_is_behaviour_and_a_ridge_map_elsewhere() -> None:
    data = groups()
    plain, scorer = fit_baseline("als", data, SETTINGS, 0), fit_baseline("als_text", data, SETTINGS, 0)
    assert isinstance(plain, AlsScorer)
    assert isinstance(scorer, AlsTextScorer)
    hot = asked(data.pairs[:28])
    np.testing.assert_array_equal(scorer.scores(hot, np.arange(12)), plain.scores(hot, np.arange(12)))
    # the slow way: one row of the regression for each wanted pair
    rows, columns = data.pairs[:, :12].nonzero()
    g = np.hstack([data.item_profiles[columns], np.ones((len(columns), 1))]).astype(np.float64)
    ridge = SETTINGS.als_text_ridge * np.eye(N_EMBEDDING + 1)
    item_map = np.linalg.solve(g.T @ g + ridge, g.T @ plain.item_factors[columns])
    unknown = np.hstack([data.item_profiles[12:], np.ones((6, 1))]) @ item_map
    np.testing.assert_allclose(scorer.item_factors[12:], unknown, atol=1e-4)
    f = np.vstack([g, np.hstack([data.own_profiles[rows], np.ones((len(rows), 1))])])
    x = plain.user_factors(data.pairs)[rows]
    user_map = np.linalg.solve(f.T @ f + ridge, f.T @ np.vstack([x, x]))
    np.testing.assert_allclose(scorer.user_map, user_map, atol=1e-4)


@only("irspack", "cmfrec")
def test_libraries_leave_dislikes_out(name: str) -> None:
    """Beyond the text profile, which no item has here, a disliked pair is as one never seen."""
    data = groups()
    disliked = data.pairs.toarray()
    disliked[0, [1, 2]] = -1
    with_it, without = training(csr(disliked)), training(data.pairs)
    scores = [
        fit_baseline(name, d, SETTINGS, 0).scores(asked(d.pairs), np.arange(12)) for d in (with_it, without)
    ]
    np.testing.assert_array_equal(*scores)


# ---------------------------------------------------------------- counting and text


def test_popularity_counts_wanted_pairs() -> None:
    pairs = csr([[1, 2, -1, 0], [1, 0, -1, 0], [5, 0, 1, 0]])
    scores = fit_baseline("popularity", training(pairs), SETTINGS, 0).scores(
        asked(csr(np.zeros((2, 4)))), np.array([3, 2, 1, 0])
    )
    np.testing.assert_array_equal(scores, [[0, 1, 1, 3]] * 2)


def test_content_is_the_sum_of_its_parts() -> None:
    rng = np.random.default_rng(2)
    profiles = blend.normalize(rng.standard_normal((4, N_EMBEDDING)).astype(np.float32))
    own, query = rng.standard_normal((2, 1, N_EMBEDDING)).astype(np.float32)
    settings = SETTINGS.model_copy(update={"own_text_items": 2.0, "query_items": 3.0, "history_power": 0.7})
    scorer = fit_baseline("content", training(csr(np.ones((1, 4))), profiles), settings, 0)
    scores = scorer.scores(asked(csr([[3, -1, 0, 0]]), own, query), np.arange(4))
    profile = (2 * own[0] + 3 * query[0] + profiles[0] - profiles[1]) / 3**0.7
    np.testing.assert_allclose(scores[0], profiles @ profile, rtol=1e-5)


CORPUS = (
    "Two-person tent, waterproof. A tent for two.",
    "Gas stove",
    "双人帐篷，防水",
    "Lamp with a battery; the lamp lasts",
    "",
    "tent pegs for a tent",
)


def test_tokens() -> None:
    assert tokenize("Two-person TENT, 2.5 kg!") == ["two", "person", "tent", "2", "5", "kg"]
    assert tokenize("双人帐篷 XL帐") == ["双", "人", "帐", "篷", "双人", "人帐", "帐篷", "xl", "帐"]
    assert tokenize("Café _ naïve") == ["café", "naïve"]
    assert tokenize(" ... ") == []


@pytest.mark.parametrize(
    "query", ["tent for two", "防水帐篷", "the lamp", "tent tent stove", "nothing of it"]
)
@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (2.0, 0.3)])
def test_bm25_agrees_with_bm25s(query: str, k1: float, b: float) -> None:
    settings = SETTINGS.model_copy(update={"bm25_k1": k1, "bm25_b": b, "query_items": 1.0})
    data = training(csr(np.ones((1, len(CORPUS)))), item_texts=CORPUS)
    people = asked(csr(np.zeros((1, len(CORPUS)))), query_texts=[query])
    ours = fit_baseline("bm25", data, settings, 0).scores(people, np.arange(len(CORPUS)))[0]
    retriever = bm25s.BM25(k1=k1, b=b, method="lucene")
    retriever.index([tokenize(text) for text in CORPUS], show_progress=False)
    terms = tokenize(query)
    present = [t for t in terms if t in retriever.vocab_dict]
    theirs = retriever.get_scores(present) if present else np.zeros(len(CORPUS))
    length = np.sqrt(sum(terms.count(t) ** 2 for t in set(terms)))
    np.testing.assert_allclose(ours * length, theirs, rtol=1e-5, atol=1e-6)
    assert ours.any() == (query != "nothing of it")


def test_bm25_takes_statistics_from_known_items_only() -> None:
    """The idf and mean length of items 0 to 3 weigh the words of item 5."""
    data = training(csr([[1, 1, 1, 1, 0, 0]]), item_texts=CORPUS)
    people = asked(csr(np.zeros((2, 6))), query_texts=["tent", "pegs"])
    scores = fit_baseline("bm25", data, SETTINGS.model_copy(update={"query_items": 1.0}), 0).scores(
        people, np.array([5])
    )
    lengths = [len(tokenize(text)) for text in CORPUS]
    damping = 1.2 * (0.25 + 0.75 * lengths[5] / np.mean(lengths[:4]))
    tent = np.log(1 + (4 - 1 + 0.5) / (1 + 0.5)) * 2 / (2 + damping)
    pegs = np.log(1 + (4 + 0.5) / 0.5) * 1 / (1 + damping)
    np.testing.assert_allclose(scores[:, 0], [tent, pegs], rtol=1e-5)


def test_bm25_history_is_rocchios_query() -> None:
    data = training(csr(np.ones((1, 6))), item_texts=CORPUS)
    scorer = fit_baseline("bm25", data, SETTINGS, 0)
    scores = scorer.scores(
        asked(csr([[1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, -1], [0, 0, 0, 0, 1, 0]])), np.arange(6)
    )
    assert scores[0].argsort()[-2:].tolist() == [5, 0]  # itself, then the other tent
    assert scores[1, 5] < scores[0, 5]
    assert not scores[2].any()  # an item without words says nothing
    strongest = fit_baseline("bm25", data, SETTINGS.model_copy(update={"bm25_terms": 1}), 0)
    narrow = strongest.scores(asked(csr([[1, 0, 0, 0, 0, 0]])), np.arange(6))
    assert np.count_nonzero(narrow) < np.count_nonzero(scores[0])


# ---------------------------------------------------------------- names


def test_names() -> None:
    assert list(BASELINES) == ["popularity", "bm25", "content", "als", "als_text", "irspack", "cmfrec"]
    with pytest.raises(ConfigError, match=r"'svd'.*popularity"):
        fit_baseline("svd", groups(), SETTINGS, 0)


@pytest.mark.parametrize("name", ["irspack", "cmfrec"])
def test_absent_library(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # what import makes of a package that is not there
    assert unavailable(name) == "not installed: pip install 'kindling[bench]'"
    assert unavailable("als") is None
    with pytest.raises(ConfigError, match=r"kindling\[bench\]"):
        fit_baseline(name, groups(), SETTINGS, 0)
