"""Results of several models to figures, intervals and differences."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp

from pipelines.core import metrics
from pipelines.core.evaluation import OURS, SliceSummary, metric_names, summarize
from pipelines.core.intervals import bootstrap_means, exposure_jackknife, percentile_interval
from pipelines.core.measure import SliceResult
from pipelines.core.slices import Slice

DoubleArray = npt.NDArray[np.float64]
N_USERS, N_ITEMS = 50, 12
CANDIDATES = np.array([7, 1, 4, 0, 9, 10])


def part_of(n: int = N_USERS) -> Slice:
    relevant = sp.csr_matrix((np.ones(n), (np.arange(n), CANDIDATES[np.arange(n) % 6])), shape=(n, N_ITEMS))
    nothing = sp.csr_matrix((n, N_ITEMS))
    return Slice("all", "train", np.arange(n), nothing, relevant, nothing, CANDIDATES)


def result_of(values: Mapping[str, DoubleArray], seed: int = 0) -> SliceResult:
    """Lists of three are drawn; they are there for coverage and Gini."""
    n = len(next(iter(values.values())))
    rng = np.random.default_rng(seed)
    listed = np.array([rng.permutation(CANDIDATES[:5])[:3] for _ in range(n)]).reshape(n, 3)
    return SliceResult(np.arange(n), dict(values), listed, np.zeros((n, 3), dtype=np.float32))


def run(results: Mapping[str, SliceResult], resamples: int = 200, seed: int = 4) -> SliceSummary:
    return summarize(list(results), results, part_of(), (2, 3), 2, resamples, seed)


@pytest.fixture
def values() -> dict[str, DoubleArray]:
    rng = np.random.default_rng(0)
    return {
        "recall@2": rng.random(N_USERS),
        "ndcg@2": rng.random(N_USERS),
        "novelty@2": 5 * rng.random(N_USERS),
    }


def test_figures_are_means_with_their_intervals(values: dict[str, DoubleArray]) -> None:
    result = result_of(values)
    found = run({OURS: result})
    assert list(found.figures) == list(found.intervals) == [OURS]
    assert list(found.figures[OURS]) == list(found.intervals[OURS]) == [*values, "coverage@2", "gini@2"]
    for name, of_users in values.items():
        assert found.figures[OURS][name] == pytest.approx(of_users.mean(), abs=1e-6)
        interval = percentile_interval(bootstrap_means(of_users[:, None], 200, 4)[:, 0])
        assert found.intervals[OURS][name] == pytest.approx(list(interval), abs=2e-6)
    for name, statistic in (("coverage", metrics.coverage), ("gini", metrics.gini)):
        exposure = np.bincount(result.listed[:, :2].ravel(), minlength=N_ITEMS)[CANDIDATES].astype(float)
        assert found.figures[OURS][f"{name}@2"] == pytest.approx(statistic(exposure), abs=1e-6)
        jackknife = exposure_jackknife(result.listed[:, :2], N_ITEMS, CANDIDATES, statistic, 4)
        assert found.intervals[OURS][f"{name}@2"] == pytest.approx(list(jackknife.interval()), abs=1e-6)
    assert found.differences == {}


def test_figures_are_rounded_and_ready_for_json(values: dict[str, DoubleArray]) -> None:
    found = run({OURS: result_of(values), "als": result_of(values)})
    for part in (found.figures, found.intervals, found.differences):
        assert json.loads(json.dumps(part)) == part
    for value in found.figures[OURS].values():
        assert value == round(value, 6)  # type: ignore[arg-type]


def test_the_seed_and_the_number_of_resamples_decide(values: dict[str, DoubleArray]) -> None:
    results = {OURS: result_of(values), "als": result_of({n: v**2 for n, v in values.items()}, 1)}
    assert run(results) == run(results)
    assert run(results, seed=5).intervals != run(results).intervals
    assert run(results, seed=5).figures == run(results).figures


def test_differences_are_from_the_best_baseline_of_each_metric(values: dict[str, DoubleArray]) -> None:
    results = {
        "popularity": result_of(
            values | {"recall@2": values["recall@2"] - 0.5, "ndcg@2": values["ndcg@2"] - 0.1}
        ),
        OURS: result_of(values),
        "als": result_of(values | {"recall@2": values["recall@2"] + 0.25, "ndcg@2": values["ndcg@2"] - 0.2}),
    }
    found = run(results).differences
    assert list(found) == ["recall@2", "ndcg@2"], "what users do not get better from has no best"
    assert found["recall@2"]["baseline"] == "als"
    assert found["recall@2"]["difference"] == -0.25
    assert found["ndcg@2"]["baseline"] == "popularity"
    assert found["ndcg@2"]["difference"] == pytest.approx(0.1)
    # each user's difference is the same, however different the users are: the interval is a point
    assert found["recall@2"]["interval"] == [-0.25, -0.25]
    assert found["ndcg@2"]["interval"] == [0.1, 0.1]


def test_the_interval_of_a_difference_is_paired(values: dict[str, DoubleArray]) -> None:
    noise = 0.01 * np.random.default_rng(3).standard_normal(N_USERS)
    ours, theirs = values["recall@2"], values["recall@2"] + noise
    found = run({OURS: result_of({"recall@2": ours}), "bm25": result_of({"recall@2": theirs})})
    low, high = found.differences["recall@2"]["interval"]  # type: ignore[misc]
    expected = percentile_interval(bootstrap_means(np.stack([ours - theirs], axis=1), 200, 4)[:, 0])
    assert [low, high] == pytest.approx(list(expected), abs=2e-6)
    own = found.intervals[OURS]["recall@2"]
    assert high - low < (own[1] - own[0]) / 5


def test_equal_baselines_are_told_by_the_first(values: dict[str, DoubleArray]) -> None:
    results = {name: result_of(values) for name in (OURS, "content", "als")}
    found = run(results).differences
    assert {d["baseline"] for d in found.values()} == {"content"}
    assert {d["difference"] for d in found.values()} == {0.0}


def test_baselines_alone_have_no_difference(values: dict[str, DoubleArray]) -> None:
    found = run({"als": result_of(values), "content": result_of(values)})
    assert found.differences == {}
    assert list(found.figures) == ["als", "content"]


def test_without_resamples_there_are_no_intervals(values: dict[str, DoubleArray]) -> None:
    results = {OURS: result_of(values), "als": result_of(values)}
    found = run(results, resamples=0)
    assert found.figures == run(results).figures
    assert found.intervals == {OURS: {}, "als": {}}
    assert found.differences["recall@2"] == {"baseline": "als", "difference": 0.0}


def test_a_slice_without_users_has_names_and_no_values() -> None:
    found = summarize([OURS, "als"], {}, part_of(0), (2, 3), 2, 100, 0)
    for model in (OURS, "als"):
        assert found.figures[model] == dict.fromkeys(metric_names((2, 3), 2))
        assert found.intervals[model] == {}
    assert found.differences == {}


def test_one_user_is_a_point(values: dict[str, DoubleArray]) -> None:
    one = {name: v[:1] for name, v in values.items()}
    found = summarize([OURS], {OURS: result_of(one)}, part_of(1), (2,), 2, 50, 0)
    for name, interval in found.intervals[OURS].items():
        assert interval == [found.figures[OURS][name]] * 2


def test_names_in_the_order_of_the_tables() -> None:
    assert metric_names((5, 20), 20) == [
        "recall@5", "ndcg@5", "map@5", "mrr@5", "hit_rate@5",
        "recall@20", "ndcg@20", "map@20", "mrr@20", "hit_rate@20",
        "novelty@20", "diversity@20", "cold_share@20", "popularity_bias@20", "coverage@20", "gini@20",
    ]  # fmt: skip
