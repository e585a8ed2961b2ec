"""The place of an item nobody has touched: in lists, among users, by what they have in common."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.core.audience import (
    LEAST_USERS,
    NOT_IN_LIST,
    interests,
    median_rank,
    place_item,
    places,
    reach,
)
from pipelines.core.config import BlendConfig


def test_the_vector_is_that_of_a_cold_item() -> None:
    rng = np.random.default_rng(3)
    profile, item_map = rng.normal(size=5).astype(np.float32), rng.normal(size=(6, 3)).astype(np.float32)
    settings = BlendConfig(gamma=0.25, cold_scale=2.0, text_fade=0.7)
    direction = np.append(profile / np.linalg.norm(profile), 1.0)
    expected = 2.0 * np.concatenate([direction @ item_map, 0.5 * profile])
    np.testing.assert_allclose(place_item(profile, item_map, settings), expected, rtol=1e-5)


def test_places_are_those_of_a_sorted_list() -> None:
    rng = np.random.default_rng(4)
    lists = [np.sort(rng.integers(0, 9, size=n).astype(np.float32))[::-1] for n in (8, 8, 3, 8, 0)]
    scores = np.array([4, 9, 1, -1, 0], dtype=np.float32)
    expected = [1 + sum(bool(other >= s) for other in best) for s, best in zip(scores, lists, strict=True)]
    expected = [rank if rank <= 8 else NOT_IN_LIST for rank in expected]
    assert NOT_IN_LIST in expected
    assert places(scores, lists).tolist() == expected


def test_reach_and_median() -> None:
    ranks = np.array([1, NOT_IN_LIST, 7, 3])
    assert [reach(ranks, n) for n in (1, 3, 6, 7)] == [0.25, 0.5, 0.5, 0.75]
    assert median_rank(ranks) == 3
    assert median_rank(np.array([2, NOT_IN_LIST, NOT_IN_LIST])) is None
    empty = np.zeros(0, dtype=np.int64)
    assert (reach(empty, 5), median_rank(empty)) == (0.0, None)


def test_what_those_who_are_reached_have_in_common() -> None:
    reached = np.arange(20) < 2 * LEAST_USERS
    wants = np.zeros((20, 4), dtype=bool)
    wants[: 2 * LEAST_USERS, 0] = True  # all of them, and nobody else
    wants[:LEAST_USERS, 1] = True  # half of them
    wants[: LEAST_USERS - 1, 2] = True  # too few to be spoken of
    wants[:, 3] = True  # everybody
    found = interests(wants, reached, 9)
    assert [i.value for i in found] == [0, 1]
    assert (found[0].users, found[0].share, found[0].typical_share) == (10, 1.0, 0.5)
    assert len(interests(wants, reached, 1)) == 1


@pytest.mark.parametrize("n", [0, LEAST_USERS - 1])
def test_of_few_users_nothing_is_told(n: int) -> None:
    assert interests(np.ones((20, 1), dtype=bool), np.arange(20) < n, 9) == []
