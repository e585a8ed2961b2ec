"""Intervals against scipy, by hand and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipelines.core import intervals, metrics
from pipelines.core.intervals import (
    Jackknife,
    bootstrap_means,
    exposure_jackknife,
    jackknife_interval,
    percentile_interval,
)


def test_resampled_means_are_means_of_drawn_users() -> None:
    """One user in three has 1: every resampled mean is a number of thirds, and 1/3 on average."""
    means = bootstrap_means(np.array([[1.0], [0.0], [0.0]]), 3000, 0)
    assert means.shape == (3000, 1)
    assert set(np.round(3 * means.ravel(), 9)) == {0.0, 1.0, 2.0, 3.0}
    share_of_none = np.mean(means == 0)
    assert share_of_none == pytest.approx((2 / 3) ** 3, abs=0.03)
    assert means.mean() == pytest.approx(1 / 3, abs=0.02)


def test_columns_share_their_resamples() -> None:
    rng = np.random.default_rng(0)
    one = rng.random(50)
    means = bootstrap_means(np.stack([one, one, one + 0.125, 3 * one], axis=1), 200, 1)
    np.testing.assert_allclose(means[:, 0], means[:, 1], rtol=1e-14)
    np.testing.assert_allclose(percentile_interval(means[:, 2] - means[:, 0]), (0.125, 0.125), rtol=1e-12)
    np.testing.assert_allclose(means[:, 3], 3 * means[:, 0])
    assert np.ptp(means[:, 0]) > 0.05


def test_a_surer_interval_is_wider() -> None:
    means = bootstrap_means(np.random.default_rng(0).random((50, 1)), 2000, 0)[:, 0]
    np.testing.assert_allclose(percentile_interval(means, 0.8), np.quantile(means, [0.1, 0.9]))
    without = np.random.default_rng(1).random(10)
    usual, surer = (np.subtract(*jackknife_interval(0.5, without, level)[::-1]) for level in (0.95, 0.99))
    assert surer / usual == pytest.approx(2.575829 / 1.959964)


def test_the_seed_alone_decides() -> None:
    values = np.random.default_rng(0).random((40, 2))
    np.testing.assert_array_equal(bootstrap_means(values, 100, 5), bootstrap_means(values, 100, 5))
    assert (bootstrap_means(values, 100, 5) != bootstrap_means(values, 100, 6)).any()
    # the resamples of another model's values are the same ones
    np.testing.assert_allclose(
        bootstrap_means(values[:, 1:], 100, 5), bootstrap_means(values, 100, 5)[:, 1:], rtol=1e-12
    )


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_resamples_do_not_depend_on_how_many_are_held_at_once(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).random((33, 3))
    usual = bootstrap_means(values, 150, 2)
    monkeypatch.setattr(intervals, "_AT_ONCE", at_once)
    np.testing.assert_allclose(bootstrap_means(values, 150, 2), usual, rtol=1e-12)


def test_fewer_resamples_are_the_first_of_more() -> None:
    values = np.random.default_rng(0).random((20, 1))
    np.testing.assert_allclose(
        bootstrap_means(values, 70, 3), bootstrap_means(values, 200, 3)[:70], rtol=1e-12
    )
    assert bootstrap_means(values, 0, 3).shape == (0, 1)


@pytest.mark.parametrize("a", [0.3, 2.0])
def test_the_interval_is_scipys_percentile_interval(a: float) -> None:
    values = np.random.default_rng(7).beta(a, 3, size=120)
    low, high = percentile_interval(bootstrap_means(values[:, None], 20_000, 0)[:, 0])
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    error = 0.1 * values.std() / np.sqrt(len(values))  # four Monte Carlo errors of a difference of quantiles
    assert low == pytest.approx(theirs.low, abs=error)
    assert high == pytest.approx(theirs.high, abs=error)


def test_one_user_and_equal_users_have_no_spread() -> None:
    for values in (np.array([[0.25, 0.5]]), np.full((9, 2), 0.25)):
        means = bootstrap_means(values, 70, 0)
        np.testing.assert_allclose(means, np.broadcast_to(values[0], (70, 2)), rtol=1e-15)


def test_the_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        low, high = percentile_interval(bootstrap_means(rng.beta(1, 4, size=(80, 1)), 200, trial)[:, 0])
        assert low < high
        covered += low <= 0.2 <= high
    assert 0.90 <= covered / 300 <= 0.98


# ---------------------------------------------------------------- jackknife

LISTED = np.array([[0, 1], [0, 2], [0, -1]])


def test_three_users_by_hand() -> None:
    """Without user 0 item 1 is covered by nobody, without user 1 item 2, without user 2 nothing is missing."""
    found = exposure_jackknife(LISTED, 5, np.array([3, 2, 1, 0]), metrics.coverage, 0)
    assert found.value == 3 / 4
    assert sorted(found.without) == [2 / 4, 2 / 4, 3 / 4]
    spread = np.sqrt(2 / 3 * (2 * (1 / 12) ** 2 + (1 / 6) ** 2))
    np.testing.assert_allclose(found.interval(), [0.75 - 1.959964 * spread, 0.75 + 1.959964 * spread])


def test_gini_of_three_users_by_hand() -> None:
    found = exposure_jackknife(LISTED, 3, np.arange(3), metrics.gini, 0)
    assert found.value == pytest.approx(metrics.gini(np.array([3.0, 1, 1])))
    expected = [metrics.gini(np.array(left)) for left in ([2.0, 0, 1], [2.0, 1, 0], [2.0, 1, 1])]
    np.testing.assert_allclose(np.sort(found.without), np.sort(expected))


def test_items_that_are_no_candidates_do_not_count() -> None:
    listed = np.array([[4, 0], [4, 1]])
    assert exposure_jackknife(listed, 5, np.array([0, 1]), metrics.coverage, 0).value == 1
    assert exposure_jackknife(listed, 5, np.array([2, 3]), metrics.coverage, 0).value == 0


@pytest.mark.parametrize("n", [0, 1])
def test_nobody_or_one_user_is_a_point(n: int) -> None:
    found = exposure_jackknife(np.full((n, 2), 1), 4, np.arange(4), metrics.coverage, 0)
    assert found.value == n / 4
    assert found.interval() == (found.value, found.value)


def test_many_users_are_left_out_by_groups_of_like_size() -> None:
    """User u has an item alone: leaving a group out uncovers as many items as the group has users."""
    n = 203
    found = exposure_jackknife(np.arange(n)[:, None], n, np.arange(n), metrics.coverage, 3)
    assert found.value == 1
    sizes = np.round(n * (1 - found.without)).astype(int)
    assert sizes.sum() == n
    assert set(sizes) <= {n // len(sizes), n // len(sizes) + 1}
    assert len(sizes) == 20


def test_models_are_compared_on_the_same_groups() -> None:
    rng = np.random.default_rng(0)
    listed = rng.integers(0, 30, (100, 5))
    one, same, other = (
        exposure_jackknife(lists, 30, np.arange(30), metrics.gini, 1)
        for lists in (listed, listed, listed[::-1])
    )
    np.testing.assert_array_equal(one.without, same.without)
    assert (one.without != other.without).any()
    assert one.value == other.value
    assert jackknife_interval(0.0, one.without - same.without) == (0.0, 0.0)


def test_the_jackknife_of_a_mean_is_its_textbook_interval() -> None:
    """For means, and one user a group, the delete-one variance is s^2 / n exactly."""
    values = np.random.default_rng(0).random(17)
    without = (values.sum() - values) / 16
    low, high = Jackknife(values.mean(), without).interval()
    error = values.std(ddof=1) / np.sqrt(17)
    np.testing.assert_allclose([low, high], values.mean() + 1.959964 * error * np.array([-1, 1]))


def test_the_jackknife_covers_gini_about_as_often_as_it_says() -> None:
    """Users list items by a known chance; the figure of very many users is the truth."""
    rng = np.random.default_rng(0)
    n_items, n_users = 12, 400
    chance = np.arange(1.0, n_items + 1) / np.arange(1.0, n_items + 1).sum()
    truth = metrics.gini(chance)
    covered = 0
    for trial in range(200):
        listed = rng.choice(n_items, (n_users, 3), p=chance)
        low, high = exposure_jackknife(listed, n_items, np.arange(n_items), metrics.gini, trial).interval()
        covered += low <= truth <= high
    assert 0.88 <= covered / 200 <= 0.99
