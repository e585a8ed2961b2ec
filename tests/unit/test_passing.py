"""What was passed over, against the dense solve that it stands for."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.core.foldin import Profile, fold_in
from pipelines.core.passing import Evidence, looks, with_passed

F, E = 5, 3


def evidence(n: int) -> Evidence:
    rng = np.random.default_rng(0)
    profile = Profile(rng.standard_normal((1, E)), rng.standard_normal((n, E)))
    factors = rng.standard_normal((n, F)).astype(np.float32)
    return Evidence(profile, factors, np.full(n, 16.0, dtype=np.float32), 3.0 * np.eye(F))


@pytest.mark.parametrize("n", [0, 4])
@pytest.mark.parametrize("split", [True, False])
def test_it_is_a_surer_zero_in_the_users_row(n: int, split: bool) -> None:
    rng = np.random.default_rng(1)
    known, passed = evidence(n), rng.standard_normal((2, F)).astype(np.float32)
    user_map = rng.standard_normal((E + 1, F)).astype(np.float32)
    looked = np.array([1.5, 0.4])
    more = with_passed(known, passed, looked, 2.0)
    found = fold_in(
        more.profile, user_map, more.factors, more.confidences, more.gramian, 0.7, 0.9, split=split
    )
    total = known.profile.total
    prior = 0.9 * (total / np.linalg.norm(total) @ user_map[:-1] + user_map[-1])
    y, p = known.factors.astype(float), passed.astype(float)
    # who has no events was never solved against all items
    precision = 0.7 * np.eye(F) + (3.0 * np.eye(F) if n else 0) + 15.0 * y.T @ y + (p.T * 2.0 * looked) @ p
    np.testing.assert_allclose(
        found.total, np.linalg.solve(precision, 0.7 * prior + 16.0 * y.sum(axis=0)), rtol=1e-4
    )
    if split:
        np.testing.assert_allclose(found.events[n:], 0.0, atol=1e-12)  # no part of a score is theirs


def test_without_weight_or_lists_nothing_changes() -> None:
    known = evidence(4)
    for more in (
        with_passed(known, np.ones((1, F), dtype=np.float32), np.ones(1), 0.0),
        with_passed(known, np.zeros((0, F), dtype=np.float32), np.zeros(0), 5.0),
    ):
        assert more.factors is known.factors
        assert more.confidences is known.confidences
        np.testing.assert_array_equal(more.gramian, known.gramian)


def test_places_are_looked_at_less_and_less() -> None:
    np.testing.assert_allclose(looks(3), [1.0, 1 / np.log2(3), 0.5])
    np.testing.assert_allclose(looks(2, first_rank=3), [0.5, 1 / np.log2(5)])
