"""The protocol of held-out pairs: DESIGN, section 5."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipelines.core.config import SplitConfig
from pipelines.core.errors import InputError
from pipelines.core.splits import Split, random_split, time_split

IntArray = npt.NDArray[np.int64]
N_USERS, N_ITEMS = 60, 50


def random_pairs(seed: int = 0, n: int = 900) -> tuple[IntArray, IntArray]:
    """Distinct pairs; some items and users have none."""
    rng = np.random.default_rng(seed)
    cells = rng.choice((N_USERS - 3) * (N_ITEMS - 3), n, replace=False)
    return cells // (N_ITEMS - 3), cells % (N_ITEMS - 3)


def check_masks(split: Split, n: int) -> None:
    """What holds for every split."""
    assert not (split.train & split.validation).any()
    assert not (split.train & split.test).any()
    assert not (split.validation & split.test).any()
    assert int(split.train.sum() + split.validation.sum() + split.test.sum()) + split.left_out == n


def check_random(split: Split, user: IntArray, item: IntArray) -> None:
    check_masks(split, len(item))
    cold = split.cold_items
    known_users, known_items = set(user[split.train]), set(item[split.train])
    assert not cold[item[split.train]].any()
    # cold halves are disjoint by item
    halves = [set(item[mask & cold[item]]) for mask in (split.validation, split.test)]
    assert not halves[0] & halves[1]
    for mask in (split.validation, split.test):
        assert set(user[mask]) <= known_users
        assert set(item[mask & ~cold[item]]) <= known_items
    # all that is left out is cold, and of users training does not know
    left_out = ~(split.train | split.validation | split.test)
    assert cold[item[left_out]].all()
    assert not set(user[left_out]) & known_users
    # every warm item with pairs is trained on
    assert set(item[~cold[item]]) == known_items


def test_random_split_has_its_shares() -> None:
    user, item = random_pairs()
    split = random_split(user, item, N_USERS, N_ITEMS, SplitConfig())
    check_random(split, user, item)
    n_seen = len(np.unique(item))
    assert split.cold_items.sum() == round(0.2 * n_seen)
    assert not split.cold_items[np.setdiff1d(np.arange(N_ITEMS), item)].any()
    warm = ~split.cold_items[item]
    # a few rows move back into training
    for mask in (split.validation, split.test):
        assert 0.08 * warm.sum() <= (mask & warm).sum() <= 0.1 * warm.sum() + 1
    halves = [len(set(item[mask & ~warm])) for mask in (split.validation, split.test)]
    assert abs(halves[0] - halves[1]) <= 1
    assert split.cuts is None


def test_the_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    user, item = random_pairs()
    first, again, other = (
        random_split(user, item, N_USERS, N_ITEMS, SplitConfig(seed=seed)) for seed in (1, 1, 2)
    )
    for name in ("train", "validation", "test", "cold_items"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
        assert (getattr(first, name) != getattr(other, name)).any()


def test_rows_of_users_and_items_absent_from_training_move_into_it() -> None:
    """Every user and every item has one pair only: nothing can be held out."""
    n = 40
    split = random_split(
        np.arange(n), np.arange(n), n, n, SplitConfig(cold_items=0, validation=0.3, test=0.3)
    )
    assert split.train.all()
    assert split.left_out == 0


def test_cold_pairs_of_users_unknown_to_training_are_left_out_and_counted() -> None:
    """Each user has one item; those of cold items are unknown to training."""
    item = np.repeat(np.arange(10), 6)
    user = np.arange(60)
    split = random_split(user, item, 60, 10, SplitConfig(cold_items=0.4, validation=0, test=0))
    check_random(split, user, item)
    assert split.left_out == 4 * 6
    assert split.train.sum() == 6 * 6


def test_nothing_held_out_leaves_everything_in_training() -> None:
    user, item = random_pairs()
    nothing = SplitConfig(cold_items=0, validation=0, test=0)
    assert random_split(user, item, N_USERS, N_ITEMS, nothing).train.all()
    moment = np.random.default_rng(0).integers(0, 100, len(item)).astype(np.float64)
    assert time_split(user, item, moment, N_USERS, N_ITEMS, nothing).train.all()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 400), st.floats(0, 0.9), st.floats(0, 0.45), st.floats(0, 0.45)
)
def test_random_split_keeps_the_protocol(
    seed: int, n: int, cold: float, validation: float, test: float
) -> None:
    user, item = random_pairs(seed, n)
    config = SplitConfig(cold_items=cold, validation=validation, test=test, seed=seed)
    check_random(random_split(user, item, N_USERS, N_ITEMS, config), user, item)


def check_time(split: Split, user: IntArray, item: IntArray, moment: npt.NDArray[np.float64]) -> None:
    check_masks(split, len(item))
    assert split.cuts is not None
    first, second = split.cuts
    assert (moment[split.train] < first).all()
    assert (moment[~split.train] >= first).all()
    assert ((moment[split.validation] >= first) & (moment[split.validation] < second)).all()
    assert (moment[split.test] >= second).all()
    known_users = set(user[split.train])
    cold = set(item) - set(item[split.train])
    assert set(np.flatnonzero(split.cold_items)) == cold
    for row in np.flatnonzero(~split.train):
        held_out = split.validation[row] or split.test[row]
        assert held_out == (user[row] in known_users)


def test_time_split_by_hand() -> None:
    moment = np.arange(10, dtype=np.float64)
    item = np.array([0, 1, 0, 1, 0, 1, 2, 0, 2, 3])
    user = np.array([0, 1, 0, 1, 0, 1, 0, 1, 4, 1])
    split = time_split(user, item, moment, 5, 5, SplitConfig(kind="time", validation=0.2, test=0.2))
    check_time(split, user, item, moment)
    np.testing.assert_array_equal(np.flatnonzero(split.train), range(6))
    np.testing.assert_array_equal(np.flatnonzero(split.validation), [6, 7])
    np.testing.assert_array_equal(np.flatnonzero(split.test), [9])  # user 4 was never seen before
    np.testing.assert_array_equal(np.flatnonzero(split.cold_items), [2, 3])
    assert split.left_out == 1
    assert split.cuts == pytest.approx((5.4, 7.2))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 400),
    st.integers(2, 1000),
    st.floats(0, 0.45),
    st.floats(0, 0.45),
)
def test_time_split_keeps_the_protocol(
    seed: int, n: int, n_moments: int, validation: float, test: float
) -> None:
    user, item = random_pairs(seed, n)
    moment = np.random.default_rng(seed).integers(0, n_moments, n).astype(np.float64)
    config = SplitConfig(kind="time", validation=validation, test=test)
    try:
        split = time_split(user, item, moment, N_USERS, N_ITEMS, config)
    except InputError:
        # only where the first share of the pairs is all at the first moment
        assume(np.mean(moment == moment.min()) < 1 - validation - test - 1 / n)
        raise
    check_time(split, user, item, moment)


def test_one_moment_for_all_is_refused() -> None:
    user, item = random_pairs()
    with pytest.raises(InputError, match="timestamps are alike"):
        time_split(user, item, np.full(len(item), 5.0), N_USERS, N_ITEMS, SplitConfig(kind="time"))


def test_missing_timestamps_are_refused_and_counted() -> None:
    user, item = random_pairs()
    moment = np.arange(len(item), dtype=np.float64)
    moment[[3, 5]] = np.nan
    with pytest.raises(InputError, match=r"2 of 900 have none"):
        time_split(user, item, moment, N_USERS, N_ITEMS, SplitConfig(kind="time"))
