"""What the report draws: calibration, exposure and the map."""

from __future__ import annotations

import json
import warnings

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp

from pipelines.core import diagnostics
from pipelines.core.diagnostics import calibration, calibration_gap, embedding_map, exposure
from pipelines.core.measure import SliceResult
from pipelines.core.slices import Slice

IntArray = npt.NDArray[np.int64]


def part_of(relevant: npt.NDArray[np.floating]) -> Slice:
    matrix = sp.csr_matrix(relevant)
    nothing = sp.csr_matrix(matrix.shape)
    candidates = np.arange(matrix.shape[1])
    return Slice("all", "train", np.arange(matrix.shape[0]), nothing, matrix, nothing, candidates)


def result_of(listed: IntArray, scores: npt.NDArray[np.floating] | None = None) -> SliceResult:
    if scores is None:
        scores = np.zeros(listed.shape)
    return SliceResult(np.arange(len(listed)), {}, listed, scores.astype(np.float32))


# ---------------------------------------------------------------- calibration


def test_calibration_of_twenty_places_by_hand() -> None:
    """Scores 0 to 19 in ten bins of two; the items of even rows are cold; hits are where they are put."""
    listed = np.arange(20).reshape(2, 10)
    scores = np.arange(20, dtype=np.float32).reshape(2, 10)
    relevant = np.zeros((2, 20))
    relevant[0, [0, 1, 4]] = 1
    relevant[1, [18, 3]] = 1  # item 3 is to be found by user 1, but listed for user 0
    counts = np.where(np.arange(20) % 2 == 0, 0, 7)
    found = calibration(result_of(listed, scores), part_of(relevant), counts)
    assert found is not None
    assert found["cold"]["n"] == found["warm"]["n"] == [1] * 10
    assert found["cold"]["score"] == list(range(0, 20, 2))
    assert found["warm"]["score"] == list(range(1, 20, 2))
    assert found["cold"]["rate"] == [1, 0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert found["warm"]["rate"] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]


def test_calibration_equals_a_loop_over_places() -> None:
    rng = np.random.default_rng(0)
    listed = np.array([rng.permutation(30)[:8] for _ in range(40)])
    listed[rng.random(listed.shape) < 0.2] = -1
    scores = np.where(listed >= 0, rng.standard_normal(listed.shape), np.nan)
    relevant, counts = rng.random((40, 30)) < 0.3, rng.integers(0, 2, 30)
    found = calibration(result_of(listed, scores), part_of(relevant.astype(float)), counts)
    assert found is not None
    assert json.loads(json.dumps(found)) == found
    single = scores.astype(np.float32)
    edges = np.quantile(single[listed >= 0], np.linspace(0.1, 0.9, 9))
    for name, is_cold in (("cold", True), ("warm", False)):
        bins: list[list[tuple[float, bool]]] = [[] for _ in range(10)]
        for user in range(40):
            for item, score in zip(listed[user], single[user], strict=True):
                if item >= 0 and (counts[item] == 0) == is_cold:
                    bins[int((edges < score).sum())].append((float(score), bool(relevant[user, item])))
        filled = [b for b in bins if b]
        assert found[name]["n"] == [len(b) for b in filled]
        np.testing.assert_allclose(
            found[name]["score"], [np.mean([s for s, _ in b]) for b in filled], atol=1e-5
        )
        np.testing.assert_allclose(
            found[name]["rate"], [np.mean([h for _, h in b]) for b in filled], atol=1e-5
        )
    assert sum(found["cold"]["n"]) + sum(found["warm"]["n"]) == (listed >= 0).sum()


def test_calibration_where_there_is_one_kind_one_score_or_nothing() -> None:
    listed = np.array([[0, 1]])
    found = calibration(result_of(listed, np.ones((1, 2))), part_of(np.eye(1, 3)), np.array([3, 4, 5]))
    assert found == {
        "cold": {"score": [], "rate": [], "n": []},
        "warm": {"score": [1.0], "rate": [0.5], "n": [2]},
    }
    assert (
        calibration(result_of(np.full((3, 2), -1)), part_of(np.ones((3, 3))), np.ones(3, dtype=int)) is None
    )
    assert (
        calibration(result_of(np.zeros((0, 2), dtype=int)), part_of(np.ones((0, 3))), np.ones(3, dtype=int))
        is None
    )


def test_the_gap_of_cold_and_known_items_by_hand() -> None:
    """Two bins: in the first 1 of 4 cold and 2 of 4 known are right, in the second 3 of 6 and 1 of 2."""
    counts = np.array([[[4, 6, 5], [1, 3, 0]], [[4, 2, 0], [2, 1, 0]]], dtype=np.float64)
    weights, rate = np.array([2.0, 1.5]), 7 / 21
    assert calibration_gap(counts) == pytest.approx((weights @ [0.25, 0.0]) / weights.sum() / rate)
    nothing_right = counts * np.array([1, 0])[None, :, None]
    one_kind = counts * np.array([1, 0])[:, None, None]
    assert calibration_gap(nothing_right) is None
    assert calibration_gap(one_kind) is None


# ---------------------------------------------------------------- exposure


def test_exposure_by_hand() -> None:
    """Twenty known items, the least popular first, make deciles of two; items 20 and 21 are cold."""
    counts = np.array([*range(1, 21), 0, 0])
    listed = np.array([[0, 19, 18], [19, 20, 3], [-1, -1, 2]])
    relevant = np.zeros((3, 22))
    relevant[0, 21], relevant[1, 10], relevant[2, 11], relevant[2, 0] = 1, 1, 1, 1
    found = exposure({"ours": result_of(listed)}, part_of(relevant), counts, 2)
    assert found["labels"][0] == "0–10 %"  # type: ignore[index]
    assert found["labels"][9:] == ["90–100 %", "cold"]  # type: ignore[index]
    ours = found["models"]["ours"]  # type: ignore[index]
    # in the first two places: items 0, 19, 19, 20
    np.testing.assert_allclose(ours, [0.25, 0, 0, 0, 0, 0, 0, 0, 0, 0.5, 0.25])
    np.testing.assert_allclose(found["relevant"], [0.25, 0, 0, 0, 0, 0.5, 0, 0, 0, 0, 0.25])


def test_exposure_does_not_depend_on_the_order_of_the_items() -> None:
    rng = np.random.default_rng(0)
    order = rng.permutation(22)
    counts = np.array([*range(1, 21), 0, 0])
    listed = rng.integers(0, 22, (9, 4))
    relevant = (rng.random((9, 22)) < 0.3).astype(float)
    straight = exposure({"m": result_of(listed)}, part_of(relevant), counts, 4)
    place = np.argsort(order)
    moved = exposure({"m": result_of(place[listed])}, part_of(relevant[:, order]), counts[order], 4)
    assert moved == straight


@pytest.mark.parametrize("n_known", [0, 1, 3, 10, 57])
def test_shares_add_up_to_one(n_known: int) -> None:
    rng = np.random.default_rng(n_known)
    counts = rng.permutation(np.append(rng.integers(1, 5, n_known), np.zeros(6, dtype=int)))
    listed = rng.integers(0, len(counts), (11, 5))
    found = exposure(
        {"a": result_of(listed), "b": result_of(listed[:, ::-1])},
        part_of(np.ones((11, len(counts)))),
        counts,
        3,
    )
    for shares in (*found["models"].values(), found["relevant"]):  # type: ignore[attr-defined]
        assert len(shares) == 11
        assert sum(shares) == pytest.approx(1, abs=1e-5)
    cold = np.mean(counts[listed[:, :3]] == 0)
    assert found["models"]["a"][10] == pytest.approx(cold, abs=1e-6)  # type: ignore[index]


def test_nothing_listed_is_exposed_nowhere() -> None:
    found = exposure(
        {"a": result_of(np.full((2, 3), -1))}, part_of(np.zeros((2, 4))), np.ones(4, dtype=int), 3
    )
    assert found["models"] == {"a": [0.0] * 11}
    assert found["relevant"] == [0.0] * 11


# ---------------------------------------------------------------- the map


def groups(n: int = 24, seed: int = 0) -> npt.NDArray[np.float32]:
    """Two groups of texts, far from each other."""
    rng = np.random.default_rng(seed)
    profiles = 0.2 * rng.standard_normal((n, 6))
    profiles[np.arange(n), np.arange(n) % 2] += 1
    return profiles.astype(np.float32)


def test_like_texts_lie_together_and_points_tell_their_item() -> None:
    categories = [["goods", "tents" if n % 2 else "pianos"] for n in range(24)]
    counts = np.where(np.arange(24) < 5, 0, 3)
    found = embedding_map(groups(), categories, counts, 0)
    assert found is not None
    assert json.loads(json.dumps(found)) == found
    assert set(found) == {"x", "y", "category", "cold"}
    assert found["category"] == [c[1] for c in categories]
    assert found["cold"] == [n < 5 for n in range(24)]
    plane = np.stack([found["x"], found["y"]], axis=1)  # type: ignore[list-item]
    gap = np.linalg.norm(plane[::2].mean(axis=0) - plane[1::2].mean(axis=0))
    spread = max(plane[g::2].std() for g in (0, 1))
    assert gap > spread
    assert embedding_map(groups(), categories, counts, 0) == found


def test_items_without_text_have_no_place() -> None:
    profiles = groups()
    profiles[[3, 8]] = 0
    found = embedding_map(profiles, [[f"c{n}"] for n in range(24)], np.arange(24), 1)
    assert found is not None
    assert found["category"] == [f"c{n}" for n in range(24) if n not in (3, 8)]
    assert found["cold"] == [n == 0 for n in range(24) if n not in (3, 8)]


def test_a_large_catalogue_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnostics, "_MAP_ITEMS", 15)
    chosen = []
    for seed in (0, 0, 1):
        found = embedding_map(groups(), [[f"c{n}"] for n in range(24)], np.ones(24, dtype=int), seed)
        assert found is not None
        chosen.append(found["category"])
        assert len(found["category"]) == len(set(found["category"])) == 15  # type: ignore[arg-type]
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize("n", [0, 1, 9])
def test_fewer_than_ten_texts_make_no_map(n: int) -> None:
    profiles = np.zeros((20, 6), dtype=np.float32)
    profiles[:n] = groups()[:n]
    assert embedding_map(profiles, [[]] * 20, np.ones(20, dtype=int), 0) is None
    assert embedding_map(profiles[:0], [], np.ones(0, dtype=int), 0) is None


def test_ten_texts_make_one() -> None:
    found = embedding_map(groups(10), [[]] * 10, np.ones(10, dtype=int), 0)
    assert found is not None
    assert found["category"] == [""] * 10
    assert np.isfinite(found["x"]).all()  # type: ignore[call-overload]


@pytest.mark.parametrize("different", [1, 2, 9])
def test_many_items_of_few_texts_make_none(different: int) -> None:
    """One text for all would crash t-SNE and the process with it."""
    profiles = np.repeat(groups()[:different], 30, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert embedding_map(profiles, [[]] * len(profiles), np.ones(len(profiles), dtype=int), 0) is None


@pytest.mark.parametrize(
    ("categories", "told"),
    [
        # what most items have tells nothing; of the others an item's most frequent one
        ([["a", "b"], ["a", "b"], ["a", "c"], ["a"], ["a", "c", "b"], ["a"]], ["b", "b", "c", "", "b", ""]),
        # equally frequent: the last by name, whatever the order
        ([["x", "y"], ["y", "x"], [], []], ["y", "y", "", ""]),
        # half of the items is not yet too many; a category repeated on one item counts once
        ([["p", "p", "p"], ["p"], ["q"], []], ["p", "p", "q", ""]),
        ([["户外", "帐篷"], ["户外", "帐篷"], ["户外", "炉具"], ["户外"]], ["帐篷", "帐篷", "炉具", ""]),
        ([["only"], []], ["only", ""]),
        ([["only"]], [""]),
        ([[], []], ["", ""]),
    ],
)
def test_the_telling_category(categories: list[list[str]], told: list[str]) -> None:
    assert diagnostics._telling(categories, np.arange(len(categories))) == told


def test_categories_of_items_that_are_not_shown_do_not_count() -> None:
    categories = [["a"], ["a", "b"], ["b"], ["b"], ["b"], []]
    assert diagnostics._telling(categories, np.array([0, 1, 5])) == ["", "b", ""]
    assert diagnostics._telling(categories, np.array([0, 1, 5, 5])) == ["a", "a", "", ""]
