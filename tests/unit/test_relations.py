"""Smoothing along relations against a loop over items; what it may look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from pipelines.core.blend import normalize
from pipelines.core.errors import ConfigError
from pipelines.core.relations import Relation, check_names, given_links, shared_values, smooth
from pipelines.core.schema import RELATIONS

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Pairs = list[tuple[int, str, int]]

N = 40


def table(pairs: Pairs) -> pa.Table:
    columns = list(zip(*pairs, strict=True)) or [(), (), ()]
    return pa.table(list(map(pa.array, map(list, columns))), schema=RELATIONS)


def profiles(seed: int = 0, n: int = N) -> FloatArray:
    found = normalize(np.random.default_rng(seed).standard_normal((n, 6)).astype(np.float32))
    found[[3, 17]] = 0  # no text
    return found


def smoothed(
    own: FloatArray,
    related: Sequence[Relation],
    sources: BoolArray | None = None,
    weight: float = 0.4,
    weights: dict[str, float] | None = None,
    cuts: Sequence[tuple[int, int]] | None = None,
) -> FloatArray:
    """Every shard of `cuts`, looking at the catalogue in the same pieces."""
    cuts = cuts or [(0, len(own))]
    sources = own.any(axis=1) if sources is None else sources
    shards = []
    for cut in cuts:
        pieces = ((start, own[start:stop]) for start, stop in cuts)
        shards.append(
            smooth(own[slice(*cut)], cut, related, sources, pieces, weight=weight, weights=weights or {})
        )
    return np.concatenate(shards)


def slowly(
    own: FloatArray, pairs: Pairs, values: dict[str, list[set[str]]], sources: BoolArray, weight: float,
    weights: dict[str, float], max_group: int,
) -> FloatArray:  # fmt: skip
    """One item, one relation, one neighbour after the other."""
    found = own.copy()
    for i in range(len(own)):
        total, norm = np.zeros(own.shape[1]), 0.0
        for name in sorted({r for _, r, _ in pairs}):
            neighbours = {b for a, r, b in pairs if r == name and a == i} | {
                a for a, r, b in pairs if r == name and b == i
            }
            neighbours = {j for j in neighbours if sources[j]}
            if neighbours and weights.get(name, 1.0) > 0:
                total += weights.get(name, 1.0) * np.mean([own[j] for j in neighbours], axis=0)
                norm += weights.get(name, 1.0)
        for name, of_item in values.items():
            means = []
            for value in of_item[i]:
                members = [j for j in range(len(own)) if value in of_item[j] and sources[j]]
                others = [j for j in members if j != i]
                if others and len(members) <= max_group:
                    means.append(np.mean([own[j] for j in others], axis=0))
            if means and weights.get(name, 1.0) > 0:
                total += weights.get(name, 1.0) * np.mean(means, axis=0)
                norm += weights.get(name, 1.0)
        if norm:
            mixed = (1 - weight) * own[i].astype(np.float64) + weight * total / norm
            found[i] = mixed / np.linalg.norm(mixed)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_it_equals_a_loop_over_items(seed: int) -> None:
    rng = np.random.default_rng(seed)
    own = profiles(seed)
    pairs = [
        (int(a), str(r), int(b))
        for a, b, r in zip(
            rng.integers(0, N, 60), rng.integers(0, N, 60), rng.choice(["cites", "part_of"], 60), strict=True
        )
        if a != b
    ]
    brands = [{v} - {""} for v in rng.choice(["", "a", "b", "c", "d"], N)]
    tags = [set(map(str, rng.choice(12, rng.integers(0, 4)))) for _ in range(N)]
    sources = own.any(axis=1) & (rng.random(N) < 0.7)
    weights = {"cites": 2.0, "brand": 0.5, "part_of": float(seed % 2)}
    related = [
        *given_links(table(pairs), N, symmetric=True),
        shared_values("brand", [pa.chunked_array([[next(iter(b), "") for b in brands]])], N, 9),
        shared_values("tags", [pa.chunked_array([[sorted(t) for t in tags]])], N, 9),
    ]
    expected = slowly(own, pairs, {"brand": brands, "tags": tags}, sources, 0.4, weights, 9)
    assert not np.allclose(expected, own)
    np.testing.assert_allclose(smoothed(own, related, sources, 0.4, weights), expected, atol=1e-6)
    pieces = smoothed(own, related, sources, 0.4, weights, cuts=[(0, 7), (7, 8), (8, 31), (31, N)])
    np.testing.assert_allclose(pieces, expected, atol=1e-6)


def test_two_linked_items_meet_half_way() -> None:
    own = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    found = smoothed(own, given_links(table([(0, "goes_with", 1)]), 3, symmetric=True), weight=0.5)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(found, [[half, half], [half, half], [1, 0]], atol=1e-6)


def test_a_relation_may_hold_in_one_direction_only() -> None:
    own = np.array([[1, 0], [0, 1]], dtype=np.float32)
    found = smoothed(own, given_links(table([(0, "part_of", 1)]), 2, symmetric=False), weight=0.25)
    np.testing.assert_allclose(found[0], np.array([3, 1]) / np.sqrt(10), atol=1e-6)
    np.testing.assert_array_equal(found[1], own[1])


def test_a_pair_given_both_ways_or_twice_counts_once() -> None:
    own = profiles()
    once = smoothed(own, given_links(table([(0, "r", 1), (0, "r", 2)]), N, symmetric=True))
    twice = given_links(table([(0, "r", 1), (1, "r", 0), (0, "r", 1), (2, "r", 0)]), N, symmetric=True)
    np.testing.assert_allclose(smoothed(own, twice), once, atol=1e-7)


def test_isolated_items_are_returned_bit_for_bit() -> None:
    own = profiles()
    # 5 has a brand of its own, 6 is linked only to 3, which has no text; 3 takes over what its neighbour says
    brands = pa.chunked_array([["x", "x", *[f"own {i}" for i in range(2, N)]]])
    related = [
        shared_values("brand", [brands], N, 10),
        *given_links(table([(6, "r", 3)]), N, symmetric=True),
    ]
    found = smoothed(own, related)
    changed = np.flatnonzero((found != own).any(axis=1))
    np.testing.assert_array_equal(changed, [0, 1, 3])
    np.testing.assert_allclose(found[3], own[6], atol=1e-6)


def test_profiles_keep_length_one_and_opposites_do_not_erase_each_other() -> None:
    own = np.array([[1, 0], [-1, 0], [0, 1]], dtype=np.float32)
    found = smoothed(own, given_links(table([(0, "r", 1)]), 3, symmetric=True), weight=0.5)
    np.testing.assert_array_equal(found, own)
    links = given_links(table([(i, "r", (i + 1) % N) for i in range(N)]), N, symmetric=True)
    lengths = np.linalg.norm(smoothed(profiles(), links), axis=1)
    np.testing.assert_allclose(lengths, 1.0, atol=1e-6)


def test_large_groups_are_passed_over_by_the_number_of_sources() -> None:
    own = profiles()
    column = pa.chunked_array([["all"] * N])
    n_sources = int(own.any(axis=1).sum())
    assert (
        smoothed(own, [shared_values("c", [column], N, n_sources)]) != own
    ).any(axis=1).sum() == N  # fmt: skip
    np.testing.assert_array_equal(smoothed(own, [shared_values("c", [column], N, n_sources - 1)]), own)


def test_a_weight_of_zero_turns_a_relation_off_and_weights_are_relative() -> None:
    own = profiles()
    links = given_links(table([(0, "a", 1), (0, "b", 2)]), N, symmetric=True)
    only_a = given_links(table([(0, "a", 1)]), N, symmetric=True)
    np.testing.assert_array_equal(smoothed(own, links, weights={"b": 0.0}), smoothed(own, only_a))
    np.testing.assert_allclose(
        smoothed(own, links, weights={"a": 6.0, "b": 2.0}),
        smoothed(own, links, weights={"a": 3.0}),
        atol=1e-6,
    )


def test_a_relation_counts_by_its_weight_however_many_neighbours_it_gives() -> None:
    own = np.zeros((12, 3), dtype=np.float32)
    own[0, 0], own[1, 1], own[2:, 2] = 1, 1, 1
    pairs = [(0, "cites", 1), *((0, "like", j) for j in range(2, 12))]
    found = smoothed(own, given_links(table(pairs), 12, symmetric=True), weight=0.5)
    np.testing.assert_allclose(found[0], np.array([2, 1, 1]) / np.sqrt(6), atol=1e-6)


def test_what_is_not_a_source_reaches_nobody() -> None:
    """The cold rule: neither text nor presence of a cold item touches a warm profile."""
    own = profiles()
    cold = np.arange(N) >= 30
    pairs = [(i, "r", i + 15) for i in range(20)] + [(i, "r", i + 3) for i in range(0, 30, 2)]
    brands = [f"brand {i % 4}" for i in range(N)]
    sources = own.any(axis=1) & ~cold

    def related(brands: list[str], pairs: Pairs) -> list[Relation]:
        return [
            *given_links(table(pairs), N, symmetric=True),
            shared_values("brand", [pa.chunked_array([brands])], N, 12),
        ]

    before = smoothed(own, related(brands, pairs), sources)
    other = own.copy()
    other[cold] = -own[cold][::-1]
    after = smoothed(other, related(brands, pairs), sources)
    np.testing.assert_array_equal(after[~cold], before[~cold])
    assert (after[cold] != before[cold]).any(axis=1).all()
    assert (before[cold] != own[cold]).any(axis=1).all(), "a cold item is smoothed by the warm ones"
    # as if the cold items did not exist
    moved = [b if i < 30 else "brand 0" for i, b in enumerate(brands)]
    without = smoothed(own, related(moved, [p for p in pairs if max(p[0], p[2]) < 30]), sources)
    np.testing.assert_array_equal(without[~cold], before[~cold])


def test_shared_values_of_every_type() -> None:
    def groups(*chunks: pa.Array) -> set[frozenset[int]]:
        n = sum(map(len, chunks))
        matrix = shared_values("c", [pa.chunked_array([c]) for c in chunks], n, 500).matrix.tocsc()
        return {frozenset(matrix[:, g].indices.tolist()) for g in range(matrix.shape[1])}

    assert groups(pa.array(["a", " a ", "b", None, "", "  "]), pa.array(["b", "c", None])) == {
        frozenset({0, 1}),
        frozenset({2, 6}),
    }
    lists = pa.array([["户外", "tent"], None, ["户外"], [], ["tent", "tent", None]])
    assert groups(lists.slice(0, 2), lists.slice(2)) == {frozenset({0, 2}), frozenset({0, 4})}
    assert groups(pa.array([7, 7, None, 8])) == {frozenset({0, 1})}
    assert groups(pa.array([None, None], pa.string())) == set()
    assert groups(pa.array([], pa.string())) == set()


def test_no_items_no_relations_and_no_pairs() -> None:
    own = profiles()
    np.testing.assert_array_equal(smoothed(own, []), own)
    assert given_links(table([]), N, symmetric=True) == []
    nothing = np.zeros((0, 6), dtype=np.float32)
    assert smoothed(nothing, [shared_values("c", [], 0, 5)]).shape == (0, 6)


def test_a_weight_for_no_relation_is_an_error() -> None:
    check_names({"cites": 2.0}, ["brand", "cites"])
    with pytest.raises(ConfigError, match=r"weights\.sites .* there are brand, cites"):
        check_names({"sites": 2.0}, ["brand", "cites"])
    with pytest.raises(ConfigError, match="there are no relations"):
        check_names({}, [])
