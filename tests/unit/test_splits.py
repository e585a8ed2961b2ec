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
    somewhere = split.train | split.validation | split.test | split.known_validation | split.known_test
    assert int(somewhere.sum()) + split.left_out == n
    # what is known by then is neither training nor what is to be found
    assert not (split.known_validation & (split.train | split.validation | split.test)).any()
    assert not (split.known_test & (split.train | split.test)).any()


def check_random(split: Split, user: IntArray, item: IntArray) -> None:
    check_masks(split, len(item))
    assert not split.known_validation.any()
    assert not split.known_test.any()
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
    """The protocol, user by user."""
    check_masks(split, len(item))
    assert split.cuts is not None
    first, second = split.cuts
    np.testing.assert_array_equal(split.train, moment < first)
    assert set(np.flatnonzero(split.cold_items)) == set(item) - set(item[split.train])
    windows = [
        (first, second, split.validation, split.known_validation),
        (second, np.inf, split.test, split.known_test),
    ]
    left_out = 0
    for start, stop, to_find, known in windows:
        inside = (moment >= start) & (moment < stop)
        before = (moment >= first) & (moment < start)
        assert not (to_find & ~inside).any()
        for u in set(user[inside]):
            mine = sorted(np.flatnonzero(inside & (user == u)), key=lambda p: (moment[p], item[p]))
            half = len(mine) // 2
            assert known[mine[:half]].all()
            assert not known[mine[half:]].any()
            done_before = (user[moment < start] == u).any()
            assert not to_find[mine[:half]].any()
            assert (to_find[mine[half:]] == (half > 0 or done_before)).all()
            lost = [p for p in mine[half:] if not to_find[p]]
            left_out += len(lost) if stop == np.inf else 0
        np.testing.assert_array_equal(known & ~inside, before)
    # what nobody is asked about in the validation window is history by the time of the test
    assert split.left_out == left_out


def test_time_split_by_hand() -> None:
    """Cuts at 6 and 10. Of what a user does in a window the first half is known, the rest is to be found."""
    moment = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9.5, 10, 11, 12, 13, 14], dtype=np.float64)
    user = np.array([0, 1, 0, 1, 0, 1, 0, 1, 4, 0, 0, 1, 5, 4, 5, 6])
    item = np.array([0, 1, 0, 1, 0, 1, 2, 0, 2, 3, 1, 3, 0, 1, 4, 4])
    config = SplitConfig(kind="time", validation=0.31, test=0.33)
    split = time_split(user, item, moment, 8, 6, config)
    check_time(split, user, item, moment)
    assert split.cuts is not None
    assert 5 < split.cuts[0] <= 6
    assert 9.5 < split.cuts[1] <= 10
    np.testing.assert_array_equal(np.flatnonzero(split.train), range(6))
    # user 0 has done three things (one known), user 1 one, user 4 the first of their life
    np.testing.assert_array_equal(np.flatnonzero(split.known_validation), [6])
    np.testing.assert_array_equal(np.flatnonzero(split.validation), [7, 9, 10])
    # by then all of the validation window is known; user 5 arrives with two things, user 6 with one
    np.testing.assert_array_equal(np.flatnonzero(split.known_test), [6, 7, 8, 9, 10, 12])
    np.testing.assert_array_equal(np.flatnonzero(split.test), [11, 13, 14])
    assert split.left_out == 1
    np.testing.assert_array_equal(np.flatnonzero(split.cold_items), [2, 3, 4])


def test_ties_in_a_window_are_known_by_item() -> None:
    user, item = np.zeros(6, dtype=np.int64), np.array([0, 1, 5, 3, 4, 2])
    moment = np.array([0, 1, 9, 9, 9, 9], dtype=np.float64)
    split = time_split(user, item, moment, 1, 6, SplitConfig(kind="time", validation=0.0, test=0.5))
    np.testing.assert_array_equal(item[split.known_test], [3, 2])
    np.testing.assert_array_equal(item[split.test], [5, 4])


def test_nothing_of_the_future_leaks_into_training_or_what_is_known() -> None:
    """Whatever happens after a cut, what came before it is split and known as it would be without."""
    user, item = random_pairs(3)
    rng = np.random.default_rng(3)
    moment = rng.permutation(len(item)).astype(np.float64)
    config = SplitConfig(kind="time", validation=0.2, test=0.2)
    split = time_split(user, item, moment, N_USERS, N_ITEMS, config)
    assert split.cuts is not None
    for cut, names in [
        (split.cuts[0], ["train"]),
        (split.cuts[1], ["train", "validation", "known_validation"]),
    ]:
        later = np.flatnonzero(moment >= cut)
        other_user, other_item = user.copy(), item.copy()
        other_user[later] = rng.integers(0, N_USERS, len(later))
        other_item[later] = rng.integers(0, N_ITEMS, len(later))
        other = time_split(other_user, other_item, moment, N_USERS, N_ITEMS, config)
        for name in names:
            np.testing.assert_array_equal(getattr(other, name), getattr(split, name), err_msg=name)
    # what is known of a user when they are asked precedes all that they are asked for
    for to_find, known in [
        (split.validation, split.known_validation | split.train),
        (split.test, split.known_test | split.train),
    ]:
        for u in set(user[to_find]):
            assert moment[known & (user == u)].max() < moment[to_find & (user == u)].min()


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
