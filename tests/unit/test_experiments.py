"""A/B tests: users stay where they are, figures are those of textbooks and resampling, looking often does no harm."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipelines.core.errors import InputError
from pipelines.core.experiments.assignment import N_SLOTS, is_in, owner_of, reallocate, share_of, slot_of
from pipelines.core.experiments.comparison import Estimate, Sums, compare, estimate, sample_ratio_p
from pipelines.core.experiments.planning import detectable_effect, users_needed
from pipelines.core.experiments.sequential import always_valid_factor, always_valid_p, rho_squared

DoubleArray = npt.NDArray[np.float64]
SHARES = st.lists(st.floats(0, 0.25), min_size=4, max_size=4)


def sums(x: DoubleArray, d: DoubleArray) -> Sums:
    return Sums(len(x), x.sum(), (x * x).sum(), d.sum(), (d * d).sum(), (x * d).sum())


def mean_of(x: DoubleArray) -> Estimate:
    found = estimate(sums(x, np.ones(len(x))))
    assert found is not None
    return found


def test_slots_are_uniform_and_of_two_salts_independent() -> None:
    users = [f"用户-{n}" for n in range(50_000)]
    one, other = (np.array([slot_of(salt, user) for user in users]) for salt in ("a", "b"))
    assert stats.chisquare(np.bincount(one // 100, minlength=100)).pvalue > 1e-4
    table = np.histogram2d(one, other, bins=10, range=[[0, N_SLOTS]] * 2)[0]
    assert stats.chi2_contingency(table).pvalue > 1e-4
    assert one.min() >= 0
    assert one.max() < N_SLOTS


def test_a_slot_is_what_it_was() -> None:
    """Users of running experiments would change sides with another hash."""
    assert [slot_of("salt", user) for user in ("anna", "鲍勃", "")] == [3557, 4644, 3793]


@settings(max_examples=100, deadline=None)
@given(st.lists(SHARES, min_size=2, max_size=4))
def test_whose_share_does_not_fall_keeps_every_slot(rounds: list[list[float]]) -> None:
    held = reallocate({}, dict(zip("abcd", rounds[0], strict=True)))
    for shares in rounds[1:]:
        after = reallocate(held, dict(zip("abcd", shares, strict=True)))
        slots = {o: {s for first, end in i for s in range(first, end)} for o, i in after.items()}
        for owner, share in zip("abcd", shares, strict=True):
            before = {s for first, end in held[owner] for s in range(first, end)}
            assert before <= slots[owner] or slots[owner] < before
            assert share_of(after[owner]) == pytest.approx(share, abs=1 / N_SLOTS)
        assert sum(map(len, slots.values())) == len(set().union(*slots.values()))
        assert all(owner_of(after, s) == owner for owner, found in slots.items() for s in list(found)[:50])
        held = after


def test_all_slots_and_no_more() -> None:
    half = reallocate({}, {"a": 0.5, "b": 0.5})
    assert half == {"a": ((0, 5000),), "b": ((5000, 10_000),)}
    assert reallocate(half, {"b": 0.5, "c": 0.25}) == {"b": ((5000, 10_000),), "c": ((0, 2500),)}
    assert owner_of({"b": half["b"]}, 4999) is None
    assert is_in(half["b"], 5000)
    with pytest.raises(InputError, match=r"shares of 1\.1"):
        reallocate(half, {"a": 0.6, "b": 0.5})


def test_a_mean_is_compared_as_welch_does() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.exponential(2.0, 300), rng.exponential(2.3, 900)
    found = compare(mean_of(a), mean_of(b), 0.05, 1000, 100)
    expected = stats.ttest_ind(b, a, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx((interval.low, interval.high))
    alone = stats.ttest_1samp(a, 0.0).confidence_interval(0.95)
    assert mean_of(a).interval(0.05) == pytest.approx((alone.low, alone.high))


def test_the_delta_method_is_what_resampling_says() -> None:
    """Clicks per impression; a user with many impressions clicks less often, so neither part may be held fixed."""
    rng = np.random.default_rng(1)

    def draw(n: int, lift: float) -> tuple[DoubleArray, DoubleArray]:
        shown = 1.0 + rng.poisson(rng.gamma(1.0, 6.0, n))
        return rng.binomial(shown.astype(int), lift * 0.4 / np.sqrt(shown)).astype(float), shown

    def resampled(x: DoubleArray, d: DoubleArray) -> DoubleArray:
        weights = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), size=3000)
        return (weights @ x) / (weights @ d)

    control, treatment = draw(1500, 1.0), draw(1500, 1.2)
    first, second = (estimate(sums(*drawn)) for drawn in (control, treatment))
    assert first is not None
    assert second is not None
    found = compare(first, second, 0.05, 3000, 100)
    a, b = resampled(*control), resampled(*treatment)
    assert math.sqrt(first.variance) == pytest.approx(a.std(), rel=0.06)
    assert found.interval == pytest.approx(np.quantile(b - a, [0.025, 0.975]), abs=0.1 * (b - a).std())
    assert found.lift_interval == pytest.approx(
        np.quantile(b / a - 1, [0.025, 0.975]), abs=0.15 * (b / a).std()
    )
    # as if impressions were the unit, the usual mistake, the error is another
    naive = math.sqrt(first.value * (1 - first.value) / control[1].sum())
    assert abs(naive / a.std() - 1) > 0.1


def test_nothing_to_compare() -> None:
    assert estimate(Sums(1, 1.0, 1.0, 1.0, 1.0, 1.0)) is None
    assert estimate(Sums(5, 0.0, 0.0, 0.0, 0.0, 0.0)) is None
    nothing = mean_of(np.zeros(200))
    found = compare(nothing, nothing, 0.05, 1000, 100)
    assert (found.difference, found.p_value, found.always, found.lift) == (0.0, 1.0, None, None)
    few = compare(mean_of(np.arange(99.0)), mean_of(np.arange(200.0)), 0.05, 1000, 100)
    assert few.always is None


def test_a_sample_ratio_by_hand() -> None:
    """(55 - 50)^2 / 50 twice is 1: 0.3173 of a chi-square of one degree lie above."""
    assert sample_ratio_p([55, 45], [1, 1]) == pytest.approx(0.31731, abs=1e-5)
    # 821,588 and 815,482 users at half and half, the example of Kohavi, Tang and Xu 2020, chapter 3
    assert sample_ratio_p([821_588, 815_482], [0.5, 0.5]) == pytest.approx(1.8e-6, rel=0.05)
    assert sample_ratio_p([100, 200, 300], [1, 2, 3]) == pytest.approx(1.0)
    assert sample_ratio_p([0, 0], [1, 1]) == 1.0


def test_the_sequence_is_narrowest_where_it_was_planned() -> None:
    widths = {n: always_valid_factor(n, 10_000, 0.05) for n in (5000, 9000, 10_000, 11_000, 20_000)}
    assert min(widths, key=widths.__getitem__) == 10_000
    assert widths[10_000] == pytest.approx(3.035, abs=0.002)
    x = 10_000 * rho_squared(10_000, 0.05)
    assert x + 1 - math.log(x + 1) == pytest.approx(1 - math.log(0.05**2))
    for n in (100, 10_000, 10**7):  # interval and p-value are the same statement
        edge = always_valid_factor(n, 10_000, 0.05)
        assert always_valid_p(edge, n, 10_000, 0.05) == pytest.approx(0.05)
        assert always_valid_p(0.0, n, 10_000, 0.05) == 1.0


def test_a_sequence_covers_at_all_looks_together_and_a_fixed_interval_does_not() -> None:
    rng = np.random.default_rng(2)
    n = np.arange(200, 5001)
    values = rng.exponential(1.0, (600, 5000)) - 1.0
    mean, square = ((values**power).cumsum(axis=1)[:, 199:] / n for power in (1, 2))
    z = np.abs(mean) / np.sqrt((square - mean**2) / n)
    factors = np.array([always_valid_factor(int(i), 5000, 0.05) for i in n])
    assert np.mean(np.any(z > factors, axis=1)) <= 0.05
    assert np.mean(np.any(z > 1.96, axis=1)) > 0.25


def test_as_many_users_as_textbooks_want() -> None:
    """Lehr's rule, 16 sd^2 / effect^2 in each of two halves, gives 80 % power at 5 %."""
    needed = users_needed(1.0, 0.1, (1, 1), 0.05, 0.8, peeking=False)
    assert needed == pytest.approx(2 * 16 / 0.1**2, rel=0.02)
    assert detectable_effect(1.0, needed, (1, 1), 0.05, 0.8, peeking=False) == pytest.approx(0.1, rel=1e-3)
    assert users_needed(1.0, 0.1, (9, 1), 0.05, 0.8, peeking=False) == pytest.approx(needed / 0.36, rel=0.01)
    assert 1.5 * needed < users_needed(1.0, 0.1, (1, 1), 0.05, 0.8, peeking=True) < 2.5 * needed
