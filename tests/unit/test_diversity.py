"""Maximal marginal relevance, against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.core.diversity import diversify


def candidates(rng: np.random.Generator, n: int = 30) -> tuple[np.ndarray, np.ndarray]:
    scores = np.sort(rng.normal(size=n))[::-1].astype(np.float32)
    return scores, rng.normal(size=(n, 4)).astype(np.float32)


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
def test_each_choice_is_the_best_that_is_left(weight: float) -> None:
    scores, vectors = candidates(np.random.default_rng(0))
    found = diversify(scores, vectors, 10, weight).tolist()
    assert found[0] == 0
    worth = (scores - scores.min()) / (scores.max() - scores.min())
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for place in range(1, 10):
        chosen = found[:place]
        value = {
            c: (1 - weight) * worth[c] - weight * max(float(unit[c] @ unit[b]) for b in chosen)
            for c in range(30)
            if c not in chosen
        }
        assert value[found[place]] == pytest.approx(max(value.values()), abs=1e-5)


def test_no_weight_leaves_the_order() -> None:
    scores, vectors = candidates(np.random.default_rng(1))
    assert diversify(scores, vectors, 5, 0.0).tolist() == [0, 1, 2, 3, 4]


def test_the_same_thing_twice_is_shown_apart() -> None:
    scores = np.array([1.0, 0.99, 0.5], dtype=np.float32)
    vectors = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    assert diversify(scores, vectors, 3, 0.5).tolist() == [0, 2, 1]


def test_few_equal_and_empty() -> None:
    scores, vectors = np.ones(3, dtype=np.float32), np.zeros((3, 2), dtype=np.float32)
    assert sorted(diversify(scores, vectors, 10, 0.5).tolist()) == [0, 1, 2]
    assert diversify(scores[:0], vectors[:0], 5, 0.5).tolist() == []
    assert diversify(scores[:1], vectors[:1], 5, 1.0).tolist() == [0]
