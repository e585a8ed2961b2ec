"""One user folded in: the same as a stored row, and a sum of parts that mean something."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core import als, blend
from pipelines.core.foldin import FoldedUser, Profile, build_profile, fold_in
from pipelines.core.pairs import row_shard, signs

FloatArray = npt.NDArray[np.float32]
ALPHA, LAM, OWN_TEXT_ITEMS = 4.0, 3.0, 2.0


@dataclass(frozen=True)
class User:
    """A small model and one user's history in it."""

    items: FloatArray
    item_profiles: FloatArray
    user_map: FloatArray
    words: FloatArray
    history: sp.csr_matrix

    @property
    def events(self) -> npt.NDArray[np.int32]:
        """Item rows of the history."""
        return self.history.indices

    def profile(self, power: float = 0.5) -> Profile:
        """P_u in parts."""
        return build_profile(
            self.words, np.full(len(self.words), OWN_TEXT_ITEMS, np.float32),
            self.item_profiles[self.events], np.sign(self.history.data), power,
        )  # fmt: skip

    def folded(self, share: float = 1.0) -> FoldedUser:
        """x_u in parts."""
        return fold_in(
            self.profile(), self.user_map, self.items[self.events],
            als.confidences(self.history.data, ALPHA), als.gramian(self.items).astype(np.float32), LAM, share,
        )  # fmt: skip


def make_user(seed: int, n_events: int, n_words: int = 1) -> User:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> FloatArray:
        return rng.standard_normal(shape).astype(np.float32)

    history = np.zeros((1, 25), dtype=np.float32)
    chosen = rng.choice(25, n_events, replace=False)
    history[0, chosen] = rng.choice([-1.5, 0.5, 1, 3], n_events)
    return User(
        normal(25, 6),
        blend.normalize(normal(25, 8)),
        normal(9, 6),
        blend.normalize(normal(n_words, 8)),
        sp.csr_matrix(history),
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(0, 1), st.sampled_from([0.0, 0.5, 1.0]))
def test_the_profile_is_that_of_a_stored_history(
    seed: int, n_events: int, n_words: int, power: float
) -> None:
    user = make_user(seed, n_events, n_words)
    own = user.words if n_words else np.zeros((1, 8), dtype=np.float32)
    stored = blend.profiles(signs(user.history), user.item_profiles, own, OWN_TEXT_ITEMS, power)
    np.testing.assert_allclose(user.profile(power).total, stored[0], atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(0, 1), st.sampled_from([0.0, 0.3, 1.0]))
def test_the_factor_is_that_of_the_row_solve(seed: int, n_events: int, n_words: int, share: float) -> None:
    """Whatever share of the text's prediction is left."""
    user = make_user(seed, n_events, n_words)
    features = blend.features(user.profile().total.astype(np.float32))[None]
    shard = row_shard(user.history, 0, features, features, ALPHA)
    prior = np.float32(share) * (features @ user.user_map)
    row = als.solve_rows(shard, user.items, als.gramian(user.items), prior, LAM)
    np.testing.assert_allclose(user.folded(share).total, row[0], atol=1e-4)


@pytest.mark.parametrize(("n_events", "n_words"), [(0, 0), (0, 2), (7, 0), (7, 2)])
def test_without_parts_the_total_is_the_same(n_events: int, n_words: int) -> None:
    user = make_user(5, n_events, n_words)
    whole = fold_in(
        user.profile(), user.user_map, user.items[user.events], als.confidences(user.history.data, ALPHA),
        als.gramian(user.items).astype(np.float32), LAM, 0.4, split=False,
    )  # fmt: skip
    assert len(whole.words) == len(whole.events) == 0
    np.testing.assert_allclose(whole.total, user.folded(0.4).total, rtol=0, atol=1e-13)


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_parts_add_up_to_the_total(share: float) -> None:
    folded = make_user(1, 7, 2).folded(share)
    assert folded.words.shape == (2, 6)
    assert folded.events.shape == (7, 6)
    parts = [folded.constant, *folded.words, *folded.events]
    np.testing.assert_allclose(np.sum(parts, axis=0), folded.total, rtol=0, atol=1e-15)


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_an_item_scores_the_sum_of_what_each_part_gives_it(share: float) -> None:
    """The split shown as explanation, against solving with one term on the right-hand side at a time."""
    user = make_user(2, 5, 1)
    folded, profile = user.folded(share), user.profile()
    confidences = als.confidences(user.history.data, ALPHA)
    y = user.items[user.events].astype(np.float64)
    precision = user.items.T.astype(np.float64) @ user.items + LAM * np.eye(6)
    for row, c in zip(y, confidences, strict=True):
        precision += (abs(c) - 1) * np.outer(row, row)
    length = np.linalg.norm(profile.total)
    text_map = user.user_map.astype(np.float64)
    np.testing.assert_allclose(
        folded.constant, np.linalg.solve(precision, share * LAM * text_map[-1]), atol=1e-5
    )
    np.testing.assert_allclose(
        folded.words[0],
        np.linalg.solve(precision, share * LAM * profile.words[0] / length @ text_map[:-1]),
        atol=1e-5,
    )
    for row, c, text, part in zip(y, confidences, profile.events, folded.events, strict=True):
        right = share * LAM * text / length @ text_map[:-1] + max(c, 0) * row
        np.testing.assert_allclose(part, np.linalg.solve(precision, right), atol=1e-5)


@pytest.mark.parametrize("n_words", [0, 1, 3])
def test_without_events_it_is_the_maps_prediction(n_words: int) -> None:
    user = make_user(3, 0, n_words)
    total = user.profile().total.astype(np.float32)
    np.testing.assert_allclose(user.folded().total, blend.features(total) @ user.user_map, atol=1e-5)
    if not n_words:
        np.testing.assert_array_equal(user.folded().total, user.user_map[-1].astype(np.float64))


def test_liking_an_item_scores_it_higher_than_disliking_it() -> None:
    user = make_user(4, 0)
    scores = []
    for weight in (3.0, 1.0, -1.0):
        history = sp.csr_matrix(([np.float32(weight)], ([0], [5])), shape=(1, 25))
        scores.append(replace(user, history=history).folded().total @ user.items[5])
    assert scores[0] > scores[1] > scores[2]
