"""What an answer is worth, against Bayes' rule done the slow way."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.onboarding import Answered, Survey, answer_gain, choose_batch, condition, joint_covariance
from pipelines.core.respondents import familiarity, hypothetical_users, screen

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
S, M, N = 12, 6, 9
KIND = 40
"""Items of a kind: more than a list is long."""
NOTHING = Answered(np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=bool))


def belief(seed: int) -> tuple[DoubleArray, FloatArray, FloatArray]:
    """Weights (S,), chances of a like (S, M), wants (S, N)."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(S))
    likes = rng.uniform(0.02, 0.98, (S, M)).astype(np.float32)
    return weights, likes, rng.standard_normal((S, N)).astype(np.float32)


def best(wanted: DoubleArray, k: int) -> float:
    return float(np.sort(wanted)[-k:].mean())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, N))
def test_the_gain_is_what_bayes_rule_makes_of_each_answer(seed: int, k: int) -> None:
    weights, likes, wants = belief(seed)
    found = answer_gain(joint_covariance(weights, likes, wants), k)
    for j in range(M):
        expected = -best(weights @ wants, k)
        for chance in (likes[:, j].astype(np.float64), 1.0 - likes[:, j].astype(np.float64)):
            joint = weights * chance
            expected += joint.sum() * best(joint / joint.sum() @ wants, k)
        assert found[j] == pytest.approx(max(expected, 0.0), abs=1e-5)
        assert found[j] >= 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.permutations(range(M)))
def test_rank_one_updates_are_the_conditional_covariance(seed: int, order: list[int]) -> None:
    """Of answers and wants given the first three answers, against one solve with all of the joint covariance."""
    weights, likes, wants = belief(seed)
    columns = np.concatenate([likes, wants], axis=1).astype(np.float64)
    centred = columns - weights @ columns
    full = (weights[:, None] * centred).T @ centred
    chance = weights @ likes
    full[np.arange(M), np.arange(M)] = chance * (1 - chance)
    asked, joint = order[:3], joint_covariance(weights, likes, wants)
    for question in asked:
        condition(joint, question)
    left = full - full[:, asked] @ np.linalg.solve(full[np.ix_(asked, asked)], full[asked])
    np.testing.assert_allclose(joint.with_answers, left[:M, :M], atol=1e-5)
    np.testing.assert_allclose(joint.with_wants, left[:M, M:], atol=1e-5)
    # what is left of the uncertainty of the wants: the trace falls by the same amount
    fall = np.trace(full[M:, M:]) - np.trace(left[M:, M:])
    assert fall > 0


def test_a_batch_holds_no_question_that_another_answers() -> None:
    """Two items that are liked by the same people, and one that is liked by others."""
    likes = np.full((40, 3), 0.02, dtype=np.float32)
    likes[:10, :2], likes[10:18, 2] = 0.98, 0.98
    wants = np.zeros((40, 4), dtype=np.float32)
    wants[:10, 0], wants[10:18, 1], wants[:, 2] = 3.0, 3.0, 1.0
    joint = joint_covariance(np.full(40, 1 / 40), likes, wants)
    alone = answer_gain(joint, 1)
    assert alone[0] == pytest.approx(alone[1])
    assert alone[0] > alone[2] > 0
    chosen = choose_batch(joint, np.ones(3), 1, 3)
    assert [j for j, _ in chosen] == [0, 2, 1]
    assert chosen[2][1] < 0.1 * alone[1]
    # what few know is passed over; and where the first may not be known, its twin is still worth asking about
    assert choose_batch(joint, np.array([0.01, 0.01, 1.0]), 1, 1)[0][0] == 2
    assert choose_batch(joint, np.array([0.5, 0.5, 0.001]), 1, 2)[1][1] > 0.1 * alone[1]


def clusters(per_cluster: int = KIND, n_clusters: int = 3) -> tuple[FloatArray, FloatArray]:
    """Users (S, 4) and items (I, 4) of a few kinds; a user wants one kind."""
    kinds = np.eye(n_clusters, 4, dtype=np.float32)
    rng = np.random.default_rng(0)
    items = np.repeat(kinds, per_cluster, axis=0) + 0.05 * rng.standard_normal((n_clusters * per_cluster, 4))
    users = np.repeat(kinds, 20, axis=0) + 0.05 * rng.standard_normal((n_clusters * 20, 4))
    return users.astype(np.float32), items.astype(np.float32)


def survey(known: DoubleArray | None = None) -> tuple[Survey, FloatArray]:
    users, items = clusters()
    chance = np.ones(len(items)) if known is None else known
    return Survey(users, np.arange(len(items)), items, chance, items, len(items)), items


def test_questions_spread_over_the_catalogue_and_follow_the_answers() -> None:
    asked, items = survey()
    everything = np.ones(len(items), dtype=bool)
    batch = asked.ask(NOTHING, 2, everything)
    assert len({question.row // KIND for question in batch}) == 2
    # somebody likes one kind: nothing is left to be asked, and more of that kind would be liked
    like = Answered(items[:2], np.array([True, True]))
    after = asked.ask(like, len(items), everything)
    assert max(q.gain for q in after) < 0.5 * batch[0].gain
    chances = {q.row: q.like_chance for q in after}
    assert min(chances[row] for row in range(KIND)) > max(chances[row] for row in range(KIND, 3 * KIND))
    # somebody does not: the other two kinds are told apart
    dislike = asked.ask(Answered(items[:2], np.array([False, False])), 1, everything)
    assert dislike[0].row >= KIND
    assert [q.row for q in asked.ask(NOTHING, 3, np.arange(len(items)) == 5)] == [5]
    assert asked.ask(NOTHING, 3, np.zeros(len(items), dtype=bool)) == []


def test_the_belief_is_bayes_rule_with_words_and_answers() -> None:
    asked, items = survey()
    likes = asked.like_chances.astype(np.float64)
    np.testing.assert_allclose(asked.weights(NOTHING), 1 / 60, rtol=1e-6)
    expected = likes[:, 3] * (1 - likes[:, 50])
    found = asked.weights(Answered(items[[3, 50]], np.array([True, False])))
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-4)
    spoken = asked.weights(Answered(NOTHING.items, NOTHING.liked, np.eye(4, dtype=np.float32)[1]))
    assert spoken[20:40].sum() > 0.9  # who speaks of the second kind is like those who want it


def test_a_long_history_leaves_a_belief_of_several_users() -> None:
    asked, items = survey()
    many = Answered(np.tile(items[:8], (50, 1)), np.ones(400, dtype=bool))
    weights = asked.weights(many)
    assert 1 / np.square(weights).sum() >= 10
    assert weights[:20].sum() > 0.99


def test_what_nobody_knows_is_not_asked_about() -> None:
    known = np.full(3 * KIND, 0.001)
    known[[4, 60]] = 1.0
    asked, _ = survey(known)
    assert {q.row for q in asked.ask(NOTHING, 2, np.ones(3 * KIND, dtype=bool))} == {4, 60}


def test_hypothetical_users_are_known_ones_and_else_imagined() -> None:
    history = sp.csr_matrix(np.array([[1, 0, 2], [0, 0, 0], [0, -1, 0], [0, 1, 1]], dtype=np.float32))
    own = np.arange(8, dtype=np.float32).reshape(4, 2)
    some, told = hypothetical_users(history, own, 2)
    np.testing.assert_array_equal(some.toarray(), history.toarray()[[0, 3]])
    np.testing.assert_array_equal(told, own[[0, 3]])
    more, told = hypothetical_users(history, own, 5)
    np.testing.assert_array_equal(more.toarray()[:3], history.toarray()[[0, 2, 3]])
    np.testing.assert_array_equal(np.sort(more.toarray()[3:].sum(axis=1)), [1, 1])
    assert not told[3:].any()
    nobody = sp.csr_matrix((0, 3), dtype=np.float32)
    alone, told = hypothetical_users(nobody, own[:0], 9)
    np.testing.assert_array_equal(alone.toarray(), np.eye(3))
    assert told.shape == (3, 2)


def test_familiarity_rises_with_use_and_is_no_matter_where_there_is_none() -> None:
    chance = familiarity(np.array([0, 4, 9, 90]))
    assert (np.diff(chance) > 0).all()
    assert chance[2] == pytest.approx(10 / 19)
    np.testing.assert_array_equal(familiarity(np.zeros(3, dtype=np.int64)), 1)


def test_screening_keeps_what_people_know_and_differ_on() -> None:
    users, items = clusters(8)
    dull = np.concatenate([items, np.zeros((30, 4), dtype=np.float32)])
    everything = np.ones(len(dull), dtype=bool)
    assert set(screen(users, dull, np.ones(54), everything, 24)) == set(range(24))
    known = np.where(np.arange(54) % 2, 1.0, 0.01)
    assert set(screen(users, dull, known, everything, 12)) == set(range(1, 24, 2))
    np.testing.assert_array_equal(screen(users, dull, known, everything, 60), np.arange(54))
    np.testing.assert_array_equal(screen(users, dull, known, np.arange(54) == 7, 60), [7])
