"""Since when items have been there, the share of the interactions since then, and what it does to a young item."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp

from pipelines.core.config import BlendConfig, FactorizeConfig
from pipelines.core.exposure import exposure, read_arrivals, read_exposure, write_exposure
from pipelines.core.ids import hash_ids
from pipelines.core.layout import Layout
from pipelines.core.model import FittedModel, asked_of, fit
from pipelines.core.scoring import Training
from pipelines.core.storage import part_name, write_table

NAN = np.nan


@pytest.mark.parametrize(
    ("arrivals", "expected"),
    [
        pytest.param([0, 0, 0], [1, 1, 1], id="always there"),
        pytest.param([NAN, NAN, NAN], [1, 1, 1], id="nobody says"),
        pytest.param([NAN, 35, 0], [1, 0.4, 1], id="three of five were before"),
        pytest.param([0, 40, 0], [1, 0.4, 1], id="the first interaction itself counts"),
        pytest.param([0, 45, 0], [1, 0.4, 1], id="its first interaction knows better than its date"),
        pytest.param([0, 0, 1e9], [1, 1, 0.2], id="still to come: as if the last had been after it"),
    ],
)
def test_exposure_is_the_share_of_the_interactions_since_an_item_came(
    arrivals: list[float], expected: list[float]
) -> None:
    items, moments = np.array([0, 0, 0, 1, 1]), np.array([10.0, 20, 30, 40, 50])
    order = np.array([3, 0, 4, 2, 1])
    found = exposure(np.array(arrivals, dtype=float), items[order], moments[order])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected)


def test_interactions_without_a_moment_are_as_old_as_the_first_and_without_any_all_is_as_ever() -> None:
    """Tables without timestamps beside dated events of the service: who is in the tables was there before."""
    items = np.array([0, 0, 1, 1, 2])
    found = exposure(np.array([15.0, 15.0, 15.0, 5.0]), items, np.array([NAN, NAN, 10.0, 20.0, 20.0]))
    np.testing.assert_allclose(found, [1, 1, 0.4, 1])
    np.testing.assert_array_equal(exposure(np.array([0.0, 15.0, NAN]), items, np.full(5, NAN)), 1)
    np.testing.assert_array_equal(exposure(np.array([5.0]), items[:0], np.zeros(0)), 1)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([5.0, None, 7.0]), [5, NAN, 7]),
        (pa.array([5, 6, None]), [5, 6, NAN]),
        (pa.array(["1970-01-01T00:00:05Z", "", "soon"]), [5, NAN, NAN]),
        (pa.array(["1776189944", " 2026-04-14 ", "1776189944.5"]), [1776189944, 1776124800, 1776189944.5]),
        (pa.array(["20260414", "1776189944000", None]), [1776124800, NAN, NAN]),
        (pa.array([20260414, 2026, 1776189944]), [NAN, NAN, 1776189944]),  # neither is a moment of 1970
        (pa.array([float("inf"), -1e15, -5.0]), [NAN, NAN, -5]),
        (pa.array([5_000, None, 7_000], pa.timestamp("ms", "UTC")), [5, NAN, 7]),
        (pa.array([1, 0, None], pa.date32()), [86_400, 0, NAN]),
        (pa.array([1_790_000_000_000, 6, 7]), [NAN, 6, 7]),  # milliseconds
        (pa.array([True, False, None]), [NAN, NAN, NAN]),
        (pa.array([["a"], [], None]), [NAN, NAN, NAN]),
        (pa.nulls(3), [NAN, NAN, NAN]),
    ],
)
def test_an_arrival_is_read_as_it_is_written(tmp_path: Path, column: pa.Array, expected: list[float]) -> None:
    layout = Layout(tmp_path)
    ids = pa.array(["a", "b", "c"])
    for number, rows in enumerate((slice(0, 2), slice(2, 3))):
        part = pa.table({"item_id": ids[rows], "created_at": column[rows]})
        write_table(layout.tables / "items" / part_name(number), part)
    found = read_arrivals(layout)
    np.testing.assert_array_equal(found.seconds, np.array(expected, dtype=float))
    dated = int((~np.isnan(expected)).sum())
    there = sum(value not in (None, "") for value in column.to_pylist())
    assert found.summary().get("created_at_unreadable", 0) == there - dated


def test_without_a_date_the_service_knows_when_it_was_told_of_an_item(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    table = pa.table({"item_id": ["old", "dated", "told", "undated"], "created_at": [1.0, 2.0, None, None]})
    write_table(layout.tables / "items" / part_name(0), table)
    write_table(layout.ids("items"), table.select(["item_id"]))
    told = {"item_id": ["told", "dated", "set aside"], "updated_at": [8.0, 9.0, 7.0]}
    write_table(layout.announced, pa.table(told))
    np.testing.assert_array_equal(read_arrivals(layout).seconds, [1, 2, 8, NAN])


def test_it_is_kept_row_by_row_and_absent_where_nobody_wrote_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert read_exposure(layout, "full", 0, 3) is None
    write_exposure(layout, "full", np.array([0.5, 1, 0.25], dtype=np.float32))
    found = read_exposure(layout, "full", 1, 3)
    assert found is not None
    np.testing.assert_array_equal(found, [1, 0.25])
    assert read_exposure(layout, "train", 0, 3) is None


def shop(exposure_power: float, exposed: np.ndarray | None) -> tuple[FittedModel, Training]:
    """Two halves of users with tastes that texts tell; item 0 has one click of one of the first half."""
    rng = np.random.default_rng(0)
    n_users, n_items = 60, 40
    taste, kind = np.arange(n_users) % 2, np.arange(n_items) % 2
    likes = rng.random((n_users, n_items)) < np.where(taste[:, None] == kind[None], 0.5, 0.05)
    likes[:, 0] = False
    likes[0, 0] = True
    profiles = np.eye(2, dtype=np.float32)[kind]
    own = np.zeros((n_users, 2), dtype=np.float32)
    training = Training(sp.csr_matrix(likes.astype(np.float32)), profiles, own, [], exposed)
    settings = FactorizeConfig(n_factors=4, iterations=4, exposure_power=exposure_power)
    hashes = hash_ids(np.array([f"i{n}" for n in range(n_items)], dtype=object))
    return fit(training, hashes, settings, BlendConfig(gamma=0.0)), training


def place_of_item_0(model: FittedModel, training: Training) -> float:
    """Among the items of its kind, in the mean of users of this kind who have not touched it; 0 is the first."""
    asked = asked_of(training.pairs[2::2], training.own_profiles[2::2])
    scores = model.scores(asked, np.arange(0, 40, 2))
    return float((scores[:, 1:] > scores[:, :1]).sum(axis=1).mean())


def test_one_click_on_an_item_of_today_is_worth_more_than_one_on_an_item_of_last_year() -> None:
    young = np.ones(40, dtype=np.float32)
    young[0] = 1 / 15
    old, as_old = place_of_item_0(*shop(1.0, None)), place_of_item_0(*shop(0.0, young))
    assert old == as_old > 17, "one click in a year: nobody wants it"
    assert place_of_item_0(*shop(1.0, young)) < 12, "as many as others have in a day"


def test_items_that_have_always_been_there_are_fitted_as_without_dates() -> None:
    (dated, _), (undated, _) = shop(1.0, np.ones(40, dtype=np.float32)), shop(1.0, None)
    np.testing.assert_array_equal(dated.item_factors, undated.item_factors)
    np.testing.assert_array_equal(dated.item_gramian, undated.item_gramian)
