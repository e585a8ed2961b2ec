"""Estimators against values worked out by hand, and their intervals against the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.core.errors import InputError
from pipelines.core.off_policy import LoggedRows, Model, compare, evaluate, place_model

# two lists of two places and one of one; the target shows what the last column says
BY_HAND = LoggedRows(
    3, np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 0]), np.array([0.5, 0.25, 0.5, 0.5, 0.25]),
    np.array([1.0, 1.0, 0.0, 1.0, 1.0]),
)  # fmt: skip
TARGET = np.array([1.0, 0.5, 0.0, 1.0, 0.5])
WEIGHTS = [2.0, 2.0, 0.0, 2.0, 2.0]


def test_by_hand() -> None:
    found = evaluate(BY_HAND, TARGET)
    assert found.ips.value == pytest.approx((4 + 2 + 2) / 3)
    error = np.std([4, 2, 2], ddof=1) / np.sqrt(3)
    assert found.ips.standard_error == pytest.approx(error)
    assert (found.ips.low, found.ips.high) == pytest.approx(
        (8 / 3 - 1.959964 * error, 8 / 3 + 1.959964 * error)
    )
    # place 1: (2 + 0 + 2) / (2 + 0 + 2), in every list; place 2: (2 + 2) / (2 + 2), in two of three
    assert found.snips.value == pytest.approx(1 + 2 / 3)
    assert found.snips.standard_error == pytest.approx(0.0)  # every reward that counts is 1
    assert found.dr is None
    told = found.diagnostics
    assert (told.mean_weight, told.rows, told.largest_weight, told.clipped) == (8 / 5, 5, 2.0, 0.0)
    assert told.effective_rows == pytest.approx(8**2 / 16)


def test_doubly_robust_by_hand() -> None:
    model = Model(np.array([0.5, 0.25, 0.5, 0.25, 0.5]), np.array([0.75, 0.75, 0.5]))
    found = evaluate(BY_HAND, TARGET, model)
    corrections = [2 * 0.5 + 2 * 0.75, 2 * 0.75, 2 * 0.5]
    assert found.dr is not None
    assert found.dr.value == pytest.approx((2.0 + sum(corrections)) / 3)


def test_clipped_by_hand() -> None:
    found = evaluate(BY_HAND, TARGET, clip=1.5)
    assert found.ips.value == pytest.approx(1.5 * 4 / 3)
    assert found.diagnostics.clipped == pytest.approx(4 / 5)
    assert found.diagnostics.mean_weight == pytest.approx(
        8 / 5
    )  # whether it is near 1 is told before clipping


def test_lists_of_one_user_count_as_one() -> None:
    doubled = LoggedRows(
        6, np.concatenate([BY_HAND.list_idx, 3 + BY_HAND.list_idx]),
        *(np.tile(a, 2) for a in (BY_HAND.place, BY_HAND.propensity, BY_HAND.reward)), np.arange(6) % 3,
    )  # fmt: skip
    target = np.tile(TARGET, 2)
    once, twice = evaluate(BY_HAND, TARGET), evaluate(doubled, target)
    naive = evaluate(replace(doubled, cluster=None), target)
    for name in ("ips", "snips"):
        a, b, c = (getattr(found, name) for found in (once, twice, naive))
        assert (a.value, a.standard_error) == pytest.approx((b.value, b.standard_error))
        assert a.value == pytest.approx(c.value)
    assert naive.ips.standard_error < 0.7 * once.ips.standard_error


def test_a_policy_beside_itself_differs_by_nothing() -> None:
    same = compare(BY_HAND, TARGET, TARGET)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    other = compare(BY_HAND, TARGET, BY_HAND.propensity)
    assert other.value == pytest.approx(8 / 3 - 4 / 3)


def simulate(rng: np.random.Generator, n: int = 300) -> tuple[LoggedRows, np.ndarray, float]:
    """Lists of 4 out of 8 items in places of falling attention, the logged policy and the target both random."""
    rates = np.linspace(0.05, 0.9, 8)
    looks = 1.0 / np.log2(2.0 + np.arange(4))
    logged, target = np.full((4, 8), 1 / 8), rng.dirichlet(np.ones(8), 4)
    shown = np.array([rng.choice(8, n, p=logged[k]) for k in range(4)]).T
    clicks = rng.random((n, 4)) < looks * rates[shown]
    place = np.tile(np.arange(4), n)
    rows = LoggedRows(
        n, np.repeat(np.arange(n), 4), place, logged[place, shown.ravel()], clicks.ravel().astype(float)
    )  # fmt: skip
    return rows, target[place, shown.ravel()], float(looks @ target @ rates)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held, errors = np.zeros(3), np.zeros(3)
    for _ in range(400):
        rows, target, truth = simulate(rng)
        model = place_model(rows, np.full(rows.n_lists, 4))
        found = evaluate(rows, target, model)
        assert found.dr is not None
        for k, estimate in enumerate((found.ips, found.snips, found.dr)):
            held[k] += estimate.low <= truth <= estimate.high
            errors[k] += (estimate.value - truth) / 400
    assert (held / 400 > 0.915).all(), held
    assert (held / 400 < 0.985).all(), held
    assert np.abs(errors).max() < 0.02


def test_what_was_never_shown_shows() -> None:
    """The mean weight tells of a target whose items the logged policy could not have shown."""
    rng = np.random.default_rng(1)
    rows, target, _ = simulate(rng, 2000)
    assert evaluate(rows, target).diagnostics.is_supported
    half = target * (rng.random(len(target)) < 0.5)
    assert not evaluate(rows, half).diagnostics.is_supported


def test_a_list_without_rows_earned_nothing() -> None:
    more = replace(BY_HAND, n_lists=6)
    assert evaluate(more, TARGET).ips.value == pytest.approx(8 / 6)


@pytest.mark.parametrize("propensity", [0.0, -0.1, 1.5, float("nan")])
def test_a_propensity_that_is_none(propensity: float) -> None:
    broken = BY_HAND.propensity.copy()
    broken[3] = propensity
    with pytest.raises(InputError, match=f"{propensity} of row 3"):
        replace(BY_HAND, propensity=broken)


def test_nothing_to_evaluate() -> None:
    nothing = np.zeros(0)
    empty = LoggedRows(0, nothing.astype(int), nothing.astype(int), nothing, nothing)
    with pytest.raises(InputError, match=r"explore\.log"):
        evaluate(empty, nothing)
    with pytest.raises(InputError, match="0 to 1"):
        evaluate(BY_HAND, 3 * TARGET)
