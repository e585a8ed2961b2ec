"""The graph finds nearly all of the best rows, and nothing that is not allowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pipelines.core import index as module
from pipelines.core import ranking
from pipelines.core.config import ServeConfig
from pipelines.core.index import ApproximateRanker, build_index, load_index, wants_index
from pipelines.core.ranking import Additions, ExactRanker, Wanted, score, total

FloatArray = npt.NDArray[np.float32]
NOTHING = np.zeros(0, dtype=np.int64)
N_ROWS, WIDTH = 3000, 24


def make_rows(n: int = N_ROWS) -> FloatArray:
    """Topics, with lengths that differ by a factor of ten: closest is not largest."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, WIDTH))[rng.integers(0, 40, n)] + 0.4 * rng.standard_normal((n, WIDTH))
    return (rows * rng.uniform(0.2, 2.0, (n, 1))).astype(np.float32)


@pytest.fixture(scope="module")
def rows() -> FloatArray:
    return make_rows()


@pytest.fixture(scope="module")
def ranker(rows: FloatArray) -> ApproximateRanker:
    return ApproximateRanker(rows, build_index(rows, 1))


def users(rows: FloatArray, n: int) -> FloatArray:
    rng = np.random.default_rng(1)
    return rows[rng.integers(0, len(rows), n)] + rng.standard_normal((n, WIDTH)).astype(np.float32)


def test_nearly_all_are_found_with_exact_scores_in_order(rows: FloatArray, ranker: ApproximateRanker) -> None:
    wanted = [Wanted(user, 20, None, NOTHING) for user in users(rows, 40)]
    shares = []
    for asked, found, best in zip(wanted, ranker.best(wanted), ExactRanker(rows).best(wanted), strict=True):
        shares.append(len(np.intersect1d(found.rows, best.rows)) / 20)
        np.testing.assert_array_equal(found.scores, score(rows, found.rows, asked.user))
        assert found.scores.tolist() == sorted(found.scores, reverse=True)
    assert np.mean(shares) >= 0.98


@pytest.mark.parametrize("few", [0, 20_000])
def test_conditions_hold_exactly(
    rows: FloatArray, ranker: ApproximateRanker, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether few allowed rows are scored at once or only when the graph has not found enough."""
    monkeypatch.setattr(module, "_FEW", few)
    rng = np.random.default_rng(2)
    for share in (0.5, 0.05, 0.001, 0.0):
        allowed = rng.random(N_ROWS) < share
        wanted = [Wanted(user, 20, allowed, rng.integers(0, N_ROWS, 500)) for user in users(rows, 5)]
        for asked, found, best in zip(
            wanted, ranker.best(wanted), ExactRanker(rows).best(wanted), strict=True
        ):
            assert len(found.rows) == len(best.rows)
            assert allowed[found.rows].all()
            assert not np.isin(found.rows, asked.left_out).any()
            if share <= 0.001 or few:
                assert found.rows.tolist() == best.rows.tolist()


def test_left_out_rows_are_made_up_for(rows: FloatArray, ranker: ApproximateRanker) -> None:
    user = users(rows, 1)[0]
    (best,) = ExactRanker(rows).best([Wanted(user, 200, None, NOTHING)])
    (found,) = ranker.best([Wanted(user, 20, None, best.rows)])
    assert len(found.rows) == 20
    assert not np.isin(found.rows, best.rows).any()


@pytest.mark.parametrize("kind", ["few raised", "many raised", "best lowered", "each another"])
def test_additions_that_the_graph_does_not_know_of(
    rows: FloatArray, ranker: ApproximateRanker, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "_HIGHEST", 100)
    rng = np.random.default_rng(3)
    shares = []
    for user in users(rows, 20):
        scores = rows @ user
        values = {
            "few raised": np.where(rng.random(N_ROWS) < 0.02, 3.0, 0.0),
            "many raised": np.where(rng.random(N_ROWS) < 0.3, 1.0, 0.0),
            "best lowered": np.where(scores > np.quantile(scores, 0.9), -5.0, 0.0),
            "each another": rng.exponential(0.5, N_ROWS),
        }[kind]
        additions = Additions.of(values.astype(np.float32))
        asked = Wanted(user, 20, None, NOTHING, additions, float(scores.std()))
        (found,), (best,) = ranker.best([asked]), ExactRanker(rows).best([asked])
        shares.append(len(np.intersect1d(found.rows, best.rows)) / 20)
        np.testing.assert_array_equal(found.scores, total(rows, found.rows, asked))
    # below the best tenth, where the best are now, the graph itself finds a little less
    assert np.mean(shares) >= (0.92 if kind == "best lowered" else 0.98)


def test_it_is_the_same_from_a_file(rows: FloatArray, ranker: ApproximateRanker, tmp_path: Path) -> None:
    build_index(rows, 1).save(str(tmp_path / "index"))
    loaded = ApproximateRanker(rows, load_index(tmp_path / "index", WIDTH))
    wanted = [Wanted(user, 20, None, NOTHING) for user in users(rows, 5)]
    for found, again in zip(ranker.best(wanted), loaded.best(wanted), strict=True):
        assert found.rows.tolist() == again.rows.tolist()


@pytest.mark.parametrize("n", [0, 1, 5])
def test_fewer_rows_than_wanted(n: int) -> None:
    rows = make_rows(9)[:n]
    (found,) = ApproximateRanker(rows, build_index(rows, 1)).best(
        [Wanted(np.ones(WIDTH, np.float32), 20, None, NOTHING)]
    )
    assert sorted(found.rows) == list(range(n))


def test_zero_rows_and_zero_users() -> None:
    rows = np.zeros((30, WIDTH), dtype=np.float32)
    ranker = ApproximateRanker(rows, build_index(rows, 1))
    (found,) = ranker.best([Wanted(np.zeros(WIDTH, np.float32), 20, None, NOTHING)])
    assert len(found.rows) == 20
    assert ranker.best([]) == []


def test_which_builds_want_one() -> None:
    assert not wants_index(ServeConfig(), 500_000)
    assert wants_index(ServeConfig(), 500_001)
    assert wants_index(ServeConfig(index="approximate"), 1)
    assert not wants_index(ServeConfig(index="exact"), 10**9)
