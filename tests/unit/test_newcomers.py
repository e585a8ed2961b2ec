"""Hidden users, and what they reveal, against a loop over users and by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.config import SplitConfig
from pipelines.core.ids import hash_ids, mixed
from pipelines.core.newcomers import TARGET, arriving_users, first_half, hide_users, reveal
from pipelines.core.splits import random_split

IntArray = npt.NDArray[np.int64]
users_strategy = st.lists(st.integers(0, 7), max_size=40).map(lambda u: np.array(u, dtype=np.int64))


def order_of(n: int, seed: int) -> npt.NDArray[np.uint64]:
    return mixed(hash_ids(np.array([f"user-{i}" for i in range(n)], dtype=object)), seed)


def test_who_comes_later_changes_little_of_who_is_hidden() -> None:
    few, more = (
        hide_users(np.repeat(np.arange(n), 2), np.ones(2 * n, dtype=bool), order_of(n, 3), 0.2) > 0
        for n in (1000, 1010)
    )
    assert (few[:1000] != more[:1000]).sum() <= 4, "the first 1000 are the same users"


def test_only_users_who_want_two_items_are_hidden() -> None:
    user = np.array([0, 0, 1, 1, 2, 3, 3, 3])
    wanted = np.array([1, 1, 1, 0, 1, 1, 0, 1], dtype=bool)
    hidden = hide_users(user, wanted, np.arange(5), 0.999)
    assert sorted(hidden[[0, 3]]) == [1, 2]
    np.testing.assert_array_equal(hidden[[1, 2, 4]], 0)


def test_half_of_the_share_is_for_validation() -> None:
    user = np.repeat(np.arange(100), 2)
    hidden = hide_users(user, np.ones(200, dtype=bool), order_of(100, 42), 0.2)
    np.testing.assert_array_equal(np.bincount(hidden), [80, 10, 10])
    assert hidden.dtype == np.int8
    odd = hide_users(user, np.ones(200, dtype=bool), order_of(100, 42), 0.05)
    np.testing.assert_array_equal(np.bincount(odd), [95, 2, 3])


def test_the_seed_decides_who_and_a_larger_share_hides_the_same_and_more() -> None:
    user = np.repeat(np.arange(100), 2)
    wanted = np.ones(200, dtype=bool)
    few, again, other = (hide_users(user, wanted, order_of(100, seed), 0.2) > 0 for seed in (1, 1, 2))
    np.testing.assert_array_equal(few, again)
    assert (few != other).any()
    more = hide_users(user, wanted, order_of(100, 1), 0.5) > 0
    assert (more[few]).all()
    assert more.sum() == 50


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_nobody_to_hide(share: float) -> None:
    nobody = hide_users(np.array([0, 1, 2]), np.ones(3, dtype=bool), np.arange(4), share)
    np.testing.assert_array_equal(nobody, np.zeros(4))
    none = np.zeros(0, dtype=np.int64)
    assert len(hide_users(none, none.astype(bool), none, share)) == 0


def test_whether_users_are_hidden_changes_no_pair_of_the_split() -> None:
    rng = np.random.default_rng(0)
    cells = rng.choice(60 * 50, 900, replace=False)
    splits = [
        random_split(cells // 50, cells % 50, 60, 50, SplitConfig(newcomers=share)) for share in (0, 0.2, 0.9)
    ]
    for name in ("train", "validation", "test", "cold_items"):
        for split in splits[1:]:
            np.testing.assert_array_equal(getattr(split, name), getattr(splits[0], name))


def test_who_is_hidden_has_nothing_to_do_with_what_is_cold() -> None:
    """As many users as items, and one seed: with one stream for both, the same rows would be chosen."""
    n = 100
    user, item = np.divmod(np.arange(n * n), n)
    cold = random_split(user, item, n, n, SplitConfig(seed=5, cold_items=0.2)).cold_items
    hidden = hide_users(user, np.ones(n * n, dtype=bool), order_of(n, 5), 0.2) > 0
    assert cold.sum() == hidden.sum() == 20
    assert (cold & hidden).sum() < 10


def test_who_comes_after_a_cut_by_hand() -> None:
    """Cuts at 10 and 20. The user's number says what they do."""
    moments: dict[int, list[float]] = {
        0: [1, 11, 12, 25, 26],  # was there before
        1: [10, 19],  # arrives with the first cut, two things before the second
        2: [12, 21, 22],  # one thing only before the second cut
        3: [20, 30],  # arrives with the second cut
        4: [25],  # one thing
        5: [11, 12, 13],  # of which one is wanted
        6: [9, 21, 22],  # before both
        7: [15, 16, 21],  # two, then more
    }
    user = np.array([u for u, when in moments.items() for _ in when])
    moment = np.array([m for when in moments.values() for m in when], dtype=np.float64)
    wanted = ~((user == 5) & (moment > 11))
    hidden = arriving_users(user, wanted, moment, (10.0, 20.0), 9)
    np.testing.assert_array_equal(hidden, [0, 1, 0, 2, 0, 0, 0, 1, 0])


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 80))
def test_arriving_users_equal_a_loop(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    user, moment = rng.integers(0, 12, n), rng.integers(0, 30, n).astype(np.float64)
    wanted, cuts = rng.random(n) < 0.7, (12.0, 20.0)
    found = arriving_users(user, wanted, moment, cuts, 12)
    for u in range(12):
        mine = sorted(zip(moment[user == u], wanted[user == u], strict=True))
        expected = 0
        for which, (start, stop) in enumerate([(12, 20), (20, np.inf)], start=1):
            if mine and start <= mine[0][0] < stop and sum(w for m, w in mine if start <= m < stop) >= 2:
                expected = which
        assert found[u] == expected


def test_reveal_by_hand() -> None:
    """User 4 has five pairs, user 1 one, user 2 two, in another order than the key's."""
    user = np.array([4, 2, 4, 1, 4, 4, 2, 4])
    key = np.array([50, 7, 10, 3, 40, 20, 6, 30])
    order, place = reveal(user, (key,))
    np.testing.assert_array_equal(user[order], [1, 2, 2, 4, 4, 4, 4, 4])
    np.testing.assert_array_equal(key[order], [3, 6, 7, 10, 20, 30, 40, 50])
    np.testing.assert_array_equal(place, [TARGET, 0, TARGET, 0, 1, 2, TARGET, TARGET])


@pytest.mark.parametrize(("n", "targets"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 2), (7, 3), (30, 10)])
def test_the_last_third_rounded_up_is_to_be_found(n: int, targets: int) -> None:
    order, place = reveal(np.zeros(n, dtype=np.int64), (np.arange(n)[::-1],))
    np.testing.assert_array_equal(order, np.arange(n)[::-1])
    np.testing.assert_array_equal(place, [*range(n - targets), *[TARGET] * targets])


def test_ties_go_by_the_next_key_and_then_stay_in_order() -> None:
    user = np.zeros(6, dtype=np.int64)
    moment, item = np.array([2.0, 1, 1, 2, 1, 2]), np.array([5, 9, 3, 1, 9, 5])
    order, place = reveal(user, (moment, item))
    np.testing.assert_array_equal(order, [2, 1, 4, 3, 0, 5])
    np.testing.assert_array_equal(place, [0, 1, 2, 3, TARGET, TARGET])


@settings(deadline=None)
@given(users_strategy, st.integers(0, 2**32 - 1))
def test_what_is_revealed_and_what_is_to_be_found_are_everything(user: IntArray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 4, len(user)), rng.random(len(user))
    order, place = reveal(user, keys)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(user)))
    half = first_half(user, keys)
    for u in set(user.tolist()):
        mine = [int(p) for p in order if user[p] == u]
        assert mine == sorted(np.flatnonzero(user == u), key=lambda p: (keys[0][p], keys[1][p]))
        places = [int(n) for p, n in zip(order, place, strict=True) if user[p] == u]
        n_targets = places.count(TARGET)
        assert n_targets == max(1, -(-len(mine) // 3))
        assert places == [*range(len(mine) - n_targets), *[TARGET] * n_targets]
        assert [bool(half[p]) for p in mine] == [n < len(mine) // 2 for n in range(len(mine))]


def test_first_half_by_hand() -> None:
    user = np.array([1, 0, 1, 1, 0, 2, 1, 1])
    np.testing.assert_array_equal(
        first_half(user, (np.array([5, 2, 1, 3, 1, 0, 2, 4]),)), [0, 0, 1, 0, 1, 0, 1, 0]
    )
    none = np.zeros(0, dtype=np.int64)
    assert len(first_half(none, (none,))) == 0
