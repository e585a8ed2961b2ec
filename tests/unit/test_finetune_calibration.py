"""Calibration error by hand, and lines that mend what was made too sure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit, logit

from pipelines.core.finetune.calibration import (
    Calibration,
    DoubleArray,
    affine,
    expected_calibration_error,
    platt,
    rating_calibration_error,
    temperature,
    top_class_error,
)


def test_error_by_hand() -> None:
    happened, said = np.array([1.0, 0, 1, 1]), np.array([0.15, 0.12, 0.95, 1.0])
    # in ten bins: two said 0.135 of which a half happened, two said 0.975 of which all did
    assert expected_calibration_error(happened, said, bins=10) == pytest.approx((2 * 0.365 + 2 * 0.025) / 4)


def test_error_of_ratings_by_hand() -> None:
    # bins by what was predicted: (1, 2) and (4, 5); means of the truth 2 and 4
    found = rating_calibration_error(np.array([5.0, 3, 3, 1]), np.array([4.0, 5, 1, 2]), bins=2)
    assert found == pytest.approx(0.5)


def test_too_sure_a_model_is_brought_back() -> None:
    rng = np.random.default_rng(0)
    true = rng.standard_normal(2000)
    happened = (rng.random(2000) < expit(true)).astype(float)
    found = platt(3 * true + 1, happened)
    assert found.before > 0.1
    assert found.after < 0.4 * found.before
    assert found.slope == pytest.approx(1 / 3, rel=0.15)
    assert found.offset == pytest.approx(-1 / 3, abs=0.12)
    fixed = expected_calibration_error(happened, expit(found(3 * true + 1)))
    assert fixed == pytest.approx(found.after, abs=0.02)


def test_what_is_right_already_stays() -> None:
    rng = np.random.default_rng(1)
    true = rng.standard_normal(3000)
    found = platt(true, (rng.random(3000) < expit(true)).astype(float))
    assert found.slope == pytest.approx(1, abs=0.15)
    assert found.offset == pytest.approx(0, abs=0.15)


def test_ratings_get_a_line() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.uniform(1, 5, 500)
    found = affine(predicted, 0.5 * predicted + 1 + 0.01 * rng.standard_normal(500))
    assert (found.slope, found.offset) == pytest.approx((0.5, 1.0), abs=0.01)
    assert found.before > 0.4
    assert found.after < 0.02


def test_a_temperature_for_classes() -> None:
    rng = np.random.default_rng(0)
    true = rng.standard_normal((1500, 3))
    odds = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    labels = (odds.cumsum(axis=1) < rng.random((1500, 1))).sum(axis=1)
    found = temperature(4 * true, labels)
    assert found.slope == pytest.approx(0.25, rel=0.15)
    assert found.offset == 0
    assert found.after < 0.3 * found.before


def test_the_error_afterwards_is_of_rows_the_line_has_not_seen() -> None:
    # pure chance: a line that had seen its rows would look better than the mean of the others
    rng = np.random.default_rng(3)
    predicted, ratings = rng.standard_normal(12), rng.standard_normal(12)
    found = affine(predicted, ratings)
    seen = rating_calibration_error(ratings, found(predicted))
    assert found.after > seen


@pytest.mark.parametrize("fit", [platt, affine])
def test_the_opposite_of_the_truth_is_worth_its_mean(
    fit: Callable[[DoubleArray, DoubleArray], Calibration],
) -> None:
    happened = np.array([1.0, 1, 1, 0] * 10)
    found = fit(-happened, happened)
    assert found.slope == 0
    assert found.offset == pytest.approx(logit(0.75) if fit is platt else 0.75)


def test_too_few_rows_or_one_label_change_nothing() -> None:
    assert platt(np.array([1.0, -1.0]), np.array([0.0, 1.0]))(np.array([5.0])) == 5.0
    assert platt(np.arange(20.0), np.ones(20))(np.array([5.0])) == 5.0


def test_no_rows_are_no_error() -> None:
    assert np.isnan(expected_calibration_error(np.zeros(0), np.zeros(0)))
    assert np.isnan(rating_calibration_error(np.zeros(0), np.zeros(0)))
    assert np.isnan(top_class_error(np.zeros(0, dtype=np.int64), np.zeros((0, 3))))
    assert affine(np.zeros(0), np.zeros(0)).slope == 1


def test_perfectly_apart_stays_finite() -> None:
    found = platt(np.repeat([-1.0, 1.0], 20), np.repeat([0.0, 1.0], 20))
    assert np.isfinite([found.slope, found.offset]).all()
