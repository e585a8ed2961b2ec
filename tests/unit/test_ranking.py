"""The best rows, against scoring every one of them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core import ranking
from pipelines.core.errors import ArtefactError
from pipelines.core.ranking import Additions, ExactRanker, Ranked, Threads, Wanted, choose, score
from pipelines.core.screening import find_narrow, share_along

FloatArray = npt.NDArray[np.float32]
NOTHING = np.zeros(0, dtype=np.int64)


def rows_of(*rows: int) -> npt.NDArray[np.int64]:
    return np.array(rows, dtype=np.int64)


def every_score(vectors: FloatArray, wanted: Wanted) -> FloatArray:
    scores = np.einsum("ij,j->i", vectors, wanted.user)
    if wanted.additions is not None:
        scores = scores + np.float32(wanted.unit) * wanted.additions.values
    return np.asarray(scores)


def slowly(vectors: FloatArray, wanted: Wanted) -> list[int]:
    """All scores, sorted."""
    scores = every_score(vectors, wanted)
    may = np.ones(len(vectors), dtype=bool) if wanted.allowed is None else wanted.allowed.copy()
    may[wanted.left_out] = False
    order = np.argsort(-scores, kind="stable")
    return [int(row) for row in order if may[row]][: wanted.n]


def assert_is_exact(vectors: FloatArray, wanted: list[Wanted], threads: int = 1) -> None:
    for ranked, asked in zip(ExactRanker(vectors, threads).best(wanted), wanted, strict=True):
        assert ranked.rows.tolist() == slowly(vectors, asked)
        np.testing.assert_array_equal(ranked.scores, every_score(vectors, asked)[ranked.rows])


def test_known_answers() -> None:
    vectors = np.array([[1, 0], [0, 2], [3, 3], [-5, 1]], dtype=np.float32)
    user = np.array([1, 1], dtype=np.float32)
    ranker = ExactRanker(vectors)
    (all_of_them,) = ranker.best([Wanted(user, 4, None, NOTHING)])
    assert all_of_them.rows.tolist() == [2, 1, 0, 3]
    assert all_of_them.scores.tolist() == [6, 2, 1, -4]
    (two,) = ranker.best([Wanted(user, 2, None, rows_of(2))])
    assert two.rows.tolist() == [1, 0]
    (allowed,) = ranker.best([Wanted(user, 2, np.array([True, False, True, True]), rows_of(2, 2))])
    assert allowed.rows.tolist() == [0, 3]
    (none,) = ranker.best([Wanted(user, 2, np.zeros(4, dtype=bool), NOTHING)])
    assert none.rows.tolist() == []
    assert ranker.best([]) == []


def test_no_rows() -> None:
    (nothing,) = ExactRanker(np.zeros((0, 3), dtype=np.float32), 2).best(
        [Wanted(np.ones(3, np.float32), 5, None, NOTHING)]
    )
    assert len(nothing.rows) == len(nothing.scores) == 0


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(1, 40), st.integers(1, 20), st.integers(1, 3),
    st.sampled_from(["normal", "heavy", "whole", "tiny", "offset"]),
)  # fmt: skip
def test_nothing_is_missed(seed: int, n_rows: int, width: int, n: int, threads: int, shape: str) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n_rows, width)).astype(np.float32)
    if shape == "heavy":  # one number so large that rounding leaves nothing of the others
        vectors[:, 0] *= 1e4
    elif shape == "whole":  # ties
        vectors = np.rint(vectors).astype(np.float32)
    elif shape == "tiny":
        vectors *= rng.choice([1e-30, 1e-3, 1.0], (n_rows, 1)).astype(np.float32)
    elif shape == "offset":  # all alike but for the last digits
        vectors = 100.0 + np.float32(0.01) * vectors
    wanted = [
        Wanted(
            rng.standard_normal(width).astype(np.float32),
            n,
            None if b % 2 else rng.random(n_rows) < 0.5,
            rng.integers(0, n_rows, min(3, n_rows)),
        )
        for b in range(3)
    ]
    assert_is_exact(vectors, wanted, threads)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 600), st.integers(1, 40), st.integers(1, 20),
    st.sampled_from(["few", "all", "opposed"]), st.sampled_from([0.01, 1.0, 30.0]),
)  # fmt: skip
def test_nothing_is_missed_with_additions(
    seed: int, n_rows: int, width: int, n: int, kind: str, size: float
) -> None:
    """To a few rows, to each another, or such that the sums are what is left of large numbers."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n_rows, width)).astype(np.float32)
    users = rng.standard_normal((3, width)).astype(np.float32)
    wanted = []
    for b, user in enumerate(users):
        scores = vectors @ user
        values = size * rng.standard_normal(n_rows)
        if kind == "few":
            values = np.where(rng.random(n_rows) < 0.1, np.rint(values), 0.0)
        elif kind == "opposed":
            values = -scores / max(scores.std(), 1e-3) + 1e-6 * values
        additions = Additions.of(values.astype(np.float32))
        allowed = None if b % 2 else rng.random(n_rows) < 0.5
        wanted.append(Wanted(user, n, allowed, rows_of(0), additions, float(scores.std())))
    wanted.append(Wanted(users[0], n, None, rows_of()))
    assert_is_exact(vectors, wanted)


def test_the_highest_additions() -> None:
    few = Additions.of(np.array([1.0, 0.0], dtype=np.float32))
    assert (few.highest.tolist(), few.rest) == ([0, 1], -np.inf)
    values = np.zeros(20_000, dtype=np.float32)
    values[[3, 19_999]] = 2.0, 1.0
    values[5:9] = -4.0
    many = Additions.of(values)
    assert (many.highest.tolist(), many.rest) == ([3, 19_999], 0.0)
    rising = Additions.of(np.arange(20_000, dtype=np.float32))
    assert rising.highest.tolist() == list(range(20_000 - 8192, 20_000))
    assert rising.rest == 20_000 - 8192 - 1


def test_equal_rows_are_in_their_order_wherever_they_are() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((3000, 24)).astype(np.float32)
    vectors[::7] = vectors[0]
    for user in (vectors[0], -vectors[0], np.zeros(24, dtype=np.float32)):
        assert_is_exact(vectors, [Wanted(user, 50, None, NOTHING)], 2)


def test_many_blocks_and_batches_of_any_size_from_several_threads() -> None:
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((40_000, 8)).astype(np.float32)
    ranker = ExactRanker(vectors, 2)

    def ask(size: int) -> list[tuple[list[int], list[int]]]:
        users = np.random.default_rng(size).standard_normal((size, 8)).astype(np.float32)
        wanted = [Wanted(user, 5, None, rows_of(7)) for user in users]
        return [
            (r.rows.tolist(), slowly(vectors, w)) for r, w in zip(ranker.best(wanted), wanted, strict=True)
        ]

    with ThreadPoolExecutor(3) as pool:  # each keeps memory of its own
        for pairs in pool.map(ask, [3, 9, 1, 5, 2, 4]):
            assert all(found == expected for found, expected in pairs)


def test_few_rows_are_scored_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The screen is what makes it fast: were it loose, every row would be scored and no answer would change."""
    rng = np.random.default_rng(2)
    vectors = rng.standard_normal((20_000, 256)).astype(np.float32)
    scored: list[int] = []

    def counting(vectors: FloatArray, rows: npt.NDArray[np.int64], user: FloatArray) -> FloatArray:
        scored.append(len(rows))
        return score(vectors, rows, user)

    monkeypatch.setattr(ranking, "score", counting)
    user = rng.standard_normal(256).astype(np.float32)
    ExactRanker(vectors).best([Wanted(user, 10, None, NOTHING)])
    assert scored[0] == 10 + 128
    assert 10 <= scored[1] < 200


def near_few_directions(rng: np.random.Generator, n_rows: int, width: int) -> FloatArray:
    """Rows of very different lengths that all but lie in 40 dimensions."""
    rows = rng.standard_normal((n_rows, 40)) @ rng.standard_normal((40, width))
    rows += 0.5 * rng.standard_normal((n_rows, width))
    return (rows * rng.pareto(2.0, (n_rows, 1))).astype(np.float32)


def test_a_narrow_screen_misses_nothing_either() -> None:
    rng = np.random.default_rng(5)
    vectors = near_few_directions(rng, 9000, 520)
    vectors[4000:4020] = vectors[17]
    along = vectors[rng.integers(0, 9000, 6)] + 0.1 * rng.standard_normal((6, 520)).astype(np.float32)
    narrow = find_narrow(vectors)
    assert narrow is not None
    # users across the directions, and one nobody is near to, cannot be told by them: they get the whole screen
    across = rng.standard_normal((3, 520))
    across -= across @ narrow.directions @ narrow.directions.T
    users = np.concatenate([along, across.astype(np.float32), np.zeros((1, 520), np.float32)])
    half = rng.random(9000) < 0.5
    additions = Additions.of(rng.choice([-1.0, 0.0, 0.5], 9000, p=[0.1, 0.8, 0.1]).astype(np.float32))
    wanted = [
        Wanted(user, n, half if b % 2 else None, rows_of(3, 17), added, float((vectors @ user).std()))
        for n in (1, 20)
        for b, user in enumerate(users)
        for added in (None, additions)
    ]
    assert_is_exact(vectors, wanted, 2)


def test_a_narrow_screen_leaves_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    vectors = near_few_directions(rng, 9000, 520)
    ranker = ExactRanker(vectors)

    def refuse(*_: object) -> None:
        raise AssertionError("the whole screen was asked")

    monkeypatch.setattr(ranker._whole, "score", refuse)
    wanted = Wanted(vectors[5], 10, None, NOTHING)
    (ranked,) = ranker.best([wanted])
    assert ranked.rows.tolist() == slowly(vectors, wanted)


def test_a_shortened_product_is_never_too_small() -> None:
    rng = np.random.default_rng(7)
    vectors = near_few_directions(rng, 9000, 520)
    narrow = find_narrow(vectors)
    assert narrow is not None
    users = rng.standard_normal((20, 520)).astype(np.float32)
    bounds = narrow.shorten(users).astype(np.float64) @ narrow.shorten(vectors).astype(np.float64).T
    products = users.astype(np.float64) @ vectors.astype(np.float64).T
    lengths = np.linalg.norm(users, axis=1)[:, None] * np.linalg.norm(vectors, axis=1)
    assert np.all(bounds >= products - 1e-6 * lengths)
    assert np.all(np.abs(share_along(narrow.shorten(vectors)) - 1.0) < 0.1)
    assert share_along(np.zeros((1, 256), np.float32)).tolist() == [1.0]


@pytest.mark.parametrize(
    "vectors",
    [
        np.zeros((9000, 520), np.float32),
        np.random.default_rng(8).standard_normal((9000, 520)).astype(np.float32),  # no direction matters more
        near_few_directions(np.random.default_rng(8), 8000, 520),  # few rows
        near_few_directions(np.random.default_rng(8), 9000, 500),  # few columns
    ],
    ids=["nothing", "noise", "few rows", "few columns"],
)
def test_no_narrow_screen_where_it_would_not_help(vectors: FloatArray) -> None:
    assert find_narrow(vectors) is None


def test_scores_of_many_rows_are_those_of_few() -> None:
    rng = np.random.default_rng(3)
    vectors, user = (rng.standard_normal(shape).astype(np.float32) for shape in ((9000, 8), (8,)))
    rows = np.arange(9000)
    np.testing.assert_array_equal(
        score(vectors, rows, user)[5000:5003], score(vectors, rows[5000:5003], user)
    )


def test_choosing() -> None:
    scores = np.array([1, 2, 1, 1, 3], dtype=np.float32)
    chosen = choose(rows_of(0, 1, 2, 4, 7), scores, 3)
    assert (chosen.rows.tolist(), chosen.scores.tolist()) == ([7, 1, 0], [3, 2, 1])
    assert choose(rows_of(5), scores[:1], 9).rows.tolist() == [5]
    assert isinstance(choose(NOTHING, scores[:0], 2), Ranked)


def test_threads_keep_the_order_and_pass_errors_on() -> None:
    names = set()

    def work(piece: int) -> int:
        names.add(threading.current_thread().name)
        return 2 * piece

    assert Threads(3).map(work, range(20)) == list(range(0, 40, 2))
    assert Threads(1).map(work, [4]) == [8]
    assert any(name.startswith("kindling-rank") for name in names)
    with pytest.raises(ZeroDivisionError):
        Threads(2).map(lambda x: 1 // x, [1, 0])


@pytest.mark.parametrize(
    ("row_scale", "user_scale"), [(1e-44, 1.0), (1e-42, 1e-3), (1.0, 1e-44), (1e30, 1.0), (0.0, 1.0)]
)
def test_numbers_near_the_ends_of_single_precision(row_scale: float, user_scale: float) -> None:
    rows = np.random.default_rng(0).standard_normal((300, 8))
    vectors = np.vstack([np.full((300, 8), 1e-44), row_scale * rows]).astype(np.float32)
    user = (user_scale * rows[0]).astype(np.float32)
    (found,) = ExactRanker(vectors).best([Wanted(user, 20, None, np.zeros(0, dtype=np.int64))])
    scores = np.einsum("ij,j->i", vectors, user)
    np.testing.assert_array_equal(found.rows, np.argsort(-scores, kind="stable")[:20])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused(value: float) -> None:
    vectors = np.zeros((5, 3), dtype=np.float32)
    vectors[3, 1] = value
    with pytest.raises(ArtefactError, match="row 3"):
        ExactRanker(vectors)
