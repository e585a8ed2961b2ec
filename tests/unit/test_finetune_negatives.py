"""Hard negatives are the nearest items that are not copies; a slow search says the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from pipelines.core.finetune.negatives import nearest_others


def slow(vectors: npt.NDArray[np.float32], m: int, same: float) -> list[list[int]]:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = []
    for i, own in enumerate(unit):
        near = sorted(
            (j for j in range(len(unit)) if j != i and own @ unit[j] <= same), key=lambda j: -own @ unit[j]
        )
        found.append(near[:m])
    return found


def at_angles(*degrees: float) -> npt.NDArray[np.float32]:
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_the_nearest_come_first_and_copies_are_passed_over() -> None:
    vectors = at_angles(0, 5, 30, 70, 120) * np.array([[1], [3], [0.2], [1], [9]], dtype=np.float32)
    assert nearest_others(vectors, 2, same=0.99).tolist() == [[2, 3], [2, 3], [1, 0], [2, 4], [3, 2]]
    assert nearest_others(vectors, 2, same=1.1).tolist()[0] == [1, 2]


@pytest.mark.parametrize("exact", [1000, 0])
def test_it_finds_what_a_slow_search_finds(exact: int) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 16)).astype(np.float32)
    vectors[200:] = vectors[:100] + 0.05 * rng.normal(size=(100, 16)).astype(np.float32)
    found, expected = nearest_others(vectors, 5, exact=exact), slow(vectors, 5, 0.95)
    shared = np.mean([len({*a} & {*b}) / 5 for a, b in zip(found.tolist(), expected, strict=True)])
    assert shared == 1.0 if exact else shared > 0.97
    assert all(i not in row for i, row in enumerate(found.tolist()))
    assert nearest_others(vectors, 5).tolist() == nearest_others(vectors, 5).tolist()


@pytest.mark.parametrize("exact", [1000, 0])
def test_items_without_text_are_nobodys_neighbours_and_get_others_at_random(exact: int) -> None:
    vectors = at_angles(0, 40, 80, 120, 160, 200)
    vectors[3:] = 0
    found = nearest_others(vectors, 2, exact=exact)
    assert {tuple(sorted(row)) for row in found[:3].tolist()} == {(1, 2), (0, 2), (0, 1)}
    assert all(i not in row for i, row in enumerate(found.tolist()))
    assert ((found >= 0) & (found < 6)).all()


def test_where_all_are_copies_others_at_random_take_their_place() -> None:
    vectors = np.ones((50, 4), dtype=np.float32)
    found = nearest_others(vectors, 3)
    assert found.shape == (50, 3)
    assert all(i not in row for i, row in enumerate(found.tolist()))
    assert len(np.unique(found)) > 30


@pytest.mark.parametrize(
    ("n", "m", "shape"), [(0, 5, (0, 0)), (1, 5, (1, 0)), (3, 5, (3, 2)), (3, 0, (3, 0))]
)
def test_few_items_have_few_neighbours(n: int, m: int, shape: tuple[int, int]) -> None:
    assert nearest_others(at_angles(*range(0, 90 * n, 90)), m).shape == shape
