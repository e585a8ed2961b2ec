"""Words as vectors against scikit-learn and by hand."""

from __future__ import annotations

import warnings
from itertools import combinations
from math import log
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from pipelines.core import lexical
from pipelines.core.config import LexicalConfig
from pipelines.core.errors import ArtefactError
from pipelines.core.lexical import LexicalModel, terms_of
from pipelines.core.storage import write_table
from pipelines.core.tokens import tokenize

FloatArray = npt.NDArray[np.float32]
EVERY_TERM = LexicalConfig(min_texts=1, max_share=1.0, n_dims=4)
TEXTS = [
    "Two-person tent, waterproof; a tent for two in the rain",
    "Gas stove for camping",
    "Camping lamp with battery, the lamp lasts",
    "双人帐篷，防水",
    "帐篷灯",
    "tent pegs for a camping tent in rain, rain, rain",
    "",
    "Stove and pan, gas and wood",
]


def test_terms_are_tokens_without_stop_words() -> None:
    assert terms_of("The Tent of 2 is for the XL-200 帐篷") == ["tent", "2", "xl", "200", "帐", "篷", "帐篷"]
    assert terms_of("the and of") == terms_of("") == []


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("a-b_c 1.5kg", ["a", "b", "c", "1", "5kg"]),
        ("ÉTÉ Straße", ["été", "straße"]),
        ("帐", ["帐"]),
        ("帐篷 帐", ["帐", "篷", "帐篷", "帐"]),
        ("\U00020000\u3400", ["\U00020000", "\u3400", "\U00020000\u3400"]),
        ("кофе чай", ["кофе", "чай"]),
        ("🏕 _ !", []),
    ],
)
def test_tokens(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


def by_sklearn(
    texts: list[str], more: list[str], n_dims: int, seed: int = 0
) -> tuple[FloatArray, FloatArray]:
    """Vectors of `texts`, which are learnt from, and of `more`; not made to length 1."""
    vectorizer = TfidfVectorizer(analyzer=terms_of, sublinear_tf=True)
    weighed = vectorizer.fit_transform(texts)
    # arpack's directions are exact; the randomised ones are too where so few are left out
    svd = TruncatedSVD(n_dims, algorithm="arpack", random_state=seed).fit(weighed)
    return svd.transform(weighed), svd.transform(vectorizer.transform(more))


def cosines(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """All pairs; signs and the order of directions do not matter here. 0 for a vector that is zero but for rounding."""
    lengths = [np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b)]
    (a, b) = (np.where(n > 1e-6, v / np.maximum(n, 1e-6), 0) for v, n in zip((a, b), lengths, strict=True))
    return a @ b.T


@pytest.mark.parametrize("n_dims", [2, 4, 7])
def test_vectors_are_those_of_tf_idf_and_svd(n_dims: int) -> None:
    model = lexical.fit(TEXTS, EVERY_TERM.model_copy(update={"n_dims": n_dims}), 0)
    new = ["a tent in the rain", "gas", "防水灯", "unheard-of", ""]
    expected, expected_new = by_sklearn(TEXTS, new, n_dims)
    assert model.width == n_dims
    found, found_new = model.transform(TEXTS), model.transform(new)
    assert found.dtype == np.float32
    np.testing.assert_allclose(cosines(found, found), cosines(expected, expected), atol=1e-4)
    np.testing.assert_allclose(cosines(found_new, found), cosines(expected_new, expected), atol=1e-4)
    lengths = np.linalg.norm(found, axis=1)
    assert lengths[6] == 0
    np.testing.assert_allclose(lengths[[0, 1, 2, 5, 7]], 1, rtol=1e-5)
    # the first two directions hold no Chinese: rounding must not be taken for it
    np.testing.assert_allclose(lengths[[3, 4]], 0 if n_dims == 2 else 1, rtol=1e-5)


def test_terms_and_idf_by_hand() -> None:
    model = lexical.fit(TEXTS, EVERY_TERM, 0)
    assert model.terms == sorted({t for text in TEXTS for t in terms_of(text)})
    for term, idf in zip(model.terms, model.idf, strict=True):
        n = sum(term in terms_of(text) for text in TEXTS)
        assert idf == pytest.approx(log((1 + 8) / (1 + n)) + 1, rel=1e-6)
    # directions are orthonormal
    np.testing.assert_allclose(model.directions.T @ model.directions, np.eye(4), atol=1e-5)


def test_a_repeated_word_counts_by_its_logarithm() -> None:
    """Two terms that nothing else shares: the cosine of two texts follows from tf and idf alone."""
    model = LexicalModel(["pan", "tent"], np.array([1.0, 2.0], np.float32), np.eye(2, dtype=np.float32))
    (found,) = model.transform(["tent pan, Tent, TENT and a thing unheard of"])
    raw = np.array([1.0, 2 * (1 + log(3))])
    np.testing.assert_allclose(found, raw / np.linalg.norm(raw), rtol=1e-6)


def test_rare_and_common_terms_are_passed_over() -> None:
    texts = [f"common even{n % 2} triple{n % 3} once{n}" for n in range(12)]
    model = lexical.fit(texts, LexicalConfig(min_texts=2, max_share=0.5), 0)
    assert model.terms == ["even0", "even1", "triple0", "triple1", "triple2"]
    fewer = lexical.fit(texts, LexicalConfig(min_texts=5, max_share=0.5), 0)
    assert fewer.terms == ["even0", "even1"]
    # a share of few texts may be less than the least number of texts
    tiny = lexical.fit(["red pan", "red pot", "blue pan", "blue pot"], LexicalConfig(max_share=0.01), 0)
    assert tiny.terms == ["blue", "pan", "pot", "red"]


def test_the_most_frequent_terms_are_kept_and_of_equals_the_first() -> None:
    texts = [
        "zebra zebra apple",
        "zebra berry",
        "zebra cherry apple",
        "berry",
        "cherry",
        "dog dog dog",
        "dog",
    ]
    model = lexical.fit(texts, EVERY_TERM.model_copy(update={"max_terms": 3}), 0)
    assert model.terms == ["apple", "berry", "zebra"], (
        "zebra in 3 texts; the others in 2 each, not by their count"
    )


@pytest.mark.parametrize(
    ("texts", "width"),
    [
        ([], 0),
        (["tent pan", "tent pan"], 0),
        (["", "", "", ""], 0),
        (["the", "of", "and", "!"], 0),
        (["tent", "tent", "pan only once"], 0),  # one usable term
        (["tent pan", "tent", "pan"], 1),
        (["tent pan gas", "tent pan", "pan gas", "tent gas"], 2),  # no more than terms less one
        (["a1 a2 a3 a4 a5 a6", "a1 a2 a3 a4 a5 a6 a7", "a1 a7"], 2),  # nor than texts less one
    ],
)
def test_as_many_directions_as_the_texts_carry(texts: list[str], width: int) -> None:
    model = lexical.fit(texts, LexicalConfig(max_share=1.0), 0)
    assert model.width == width
    if not width:
        assert model.terms == []
        assert len(model.idf) == 0
    found = model.transform([*texts, "tent", "unheard"])
    assert found.shape == (len(texts) + 2, width)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert not found[-1].any()


def test_weight_0_learns_nothing() -> None:
    assert lexical.fit(TEXTS, EVERY_TERM.model_copy(update={"weight": 0.0}), 0).width == 0


def test_texts_that_are_all_alike_are_no_cause_for_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = lexical.fit(["red tent big"] * 4, EVERY_TERM, 0)
    found = model.transform(["red tent big", "red tent"])
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[0] @ found[0], 1, rtol=1e-5)


def test_the_seed_alone_decides() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{w}" for w in rng.zipf(1.3, 12) % 300) for _ in range(200)]
    one, again, other = (lexical.fit(texts, LexicalConfig(n_dims=8), seed) for seed in (3, 3, 4))
    assert one.terms == again.terms == other.terms
    np.testing.assert_array_equal(one.directions, again.directions)
    assert (one.directions != other.directions).any()
    np.testing.assert_array_equal(one.transform(texts[:5]), again.transform(texts[:5]))


def test_a_text_does_not_depend_on_its_company() -> None:
    model = lexical.fit(TEXTS, EVERY_TERM, 0)
    together = model.transform(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(model.transform([text])[0], vector, atol=1e-6)


def test_like_words_are_like_vectors() -> None:
    groups = ["tent pole canvas", "piano key pedal", "帐篷防水"]
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.permutation(terms_of(groups[n % 3]))[:4]) for n in range(60)]
    vectors = lexical.fit(texts, LexicalConfig(n_dims=3, max_share=0.5), 0).transform(groups)
    for a, b in combinations(range(3), 2):
        assert vectors[a] @ vectors[b] < 0.2


@pytest.mark.parametrize("texts", [TEXTS, []])
def test_it_comes_back_from_storage(tmp_path: Path, texts: list[str]) -> None:
    model = lexical.fit(texts, EVERY_TERM, 0)
    path = tmp_path / "lexical.parquet"
    lexical.save(model, path)
    found = lexical.load(path)
    assert found.terms == model.terms
    assert "帐篷" in found.terms or not texts
    for name in ("idf", "directions"):
        np.testing.assert_array_equal(getattr(found, name), getattr(model, name))
        assert getattr(found, name).dtype == np.float32
    assert found.width == model.width
    np.testing.assert_array_equal(found.transform(TEXTS), model.transform(TEXTS))
    assert found.transform([]).shape == (0, model.width)


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    for name, content in (("absent", None), ("broken", b"PAR1 no more"), ("empty", b"")):
        path = tmp_path / f"{name}.parquet"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ArtefactError, match=rf"{name}\.parquet cannot be read.*kindling build"):
            lexical.load(path)
    other = tmp_path / "other.parquet"
    write_table(other, pa.table({"term": ["a"], "idf": [1.0]}))
    with pytest.raises(ArtefactError, match=r"other\.parquet cannot be read"):
        lexical.load(other)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=8), st.lists(st.text(max_size=30), max_size=3))
def test_any_texts_give_vectors_of_length_one_or_zero(texts: list[str], more: list[str]) -> None:
    model = lexical.fit(texts, EVERY_TERM, 0)
    found = model.transform([*texts, *more])
    lengths = np.linalg.norm(found, axis=1)
    assert np.all(np.isclose(lengths, 1, atol=1e-4) | (lengths == 0))
