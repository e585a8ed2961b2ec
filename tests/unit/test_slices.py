"""Slices read from a small build laid out by hand, against loops over its users."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import scipy.sparse as sp

from pipelines.core import slices
from pipelines.core.ids import hash_ids, sampled
from pipelines.core.layout import Layout, ModelName
from pipelines.core.newcomers import TARGET
from pipelines.core.schema import ITEM_IDX, PLACE, TEXT, USER_IDX, WEIGHT
from pipelines.core.slices import (
    KNOWN_SLICES,
    NEWCOMER_SLICES,
    SLICES,
    Slice,
    ask,
    load_slices,
    load_training,
)
from pipelines.core.storage import part_name, write_json, write_rows, write_table

N_ITEMS, WIDTH = 30, 3
ALL_USERS = 10_000
"""More than there are."""
Pair = tuple[int, int, float]


@dataclass
class Build:
    """What earlier stages would have left; `write` puts it on disk.

    `revealed` holds the items of each newcomer in their order and then those to be found.
    """

    user_texts: list[str]
    train: list[Pair] = field(default_factory=list)
    relevant: list[tuple[int, int, str]] = field(default_factory=list)
    known: list[Pair] = field(default_factory=list)
    revealed: dict[int, tuple[list[int], list[int]]] = field(default_factory=dict)
    model: ModelName = "newcomers"
    n_items: int = N_ITEMS
    queries_per_part: int = 2

    @property
    def roles(self) -> list[str]:
        """Every third item is cold, the last two are unseen."""
        roles = ["cold" if i % 3 == 2 else "warm" for i in range(self.n_items)]
        return roles[:-2] + ["unseen"] * min(2, self.n_items)

    @property
    def item_ids(self) -> list[str]:
        """The caller's."""
        return [f"项-{i}" for i in range(self.n_items)]

    def profile(self, table: str, model: str, row: int) -> npt.NDArray[np.float32]:
        """Each row of each table has a vector of its own."""
        number = 1000 * ("items", "users", "queries").index(table) + 100 * (model == "newcomers") + row
        return np.full(WIDTH, number, dtype=np.float32)

    def write(self, root: Path) -> Layout:
        """Lay everything out under `root`."""
        layout, n_users = Layout(root), len(self.user_texts)
        write_table(layout.ids("users"), pa.table({"user_id": [f"u{u}" for u in range(n_users)]}))
        write_table(layout.ids("items"), pa.table({"item_id": pa.array(self.item_ids, pa.string())}))
        write_table(layout.item_roles, pa.table({"role": pa.array(self.roles, pa.string())}))
        write_json(layout.split_report, {"newcomers_model": self.model})
        texts = {"items": [f"text of item {i}" for i in range(self.n_items)], "users": self.user_texts}
        for table, of in texts.items():
            for number, start in enumerate(range(0, len(of), 4)):
                part = pa.table({TEXT: pa.array(of[start : start + 4], pa.string())})
                write_table(layout.tables / table / part_name(number), part)
        models: tuple[ModelName, ...] = ("train", "newcomers")
        for model in models:
            self._pairs(layout.pairs(model, "user"), self.train)
            for table, directory, n in (
                ("items", layout.item_profiles(model), self.n_items),
                ("users", layout.own_profiles(model), n_users),
                ("queries", layout.query_profiles(model), len(self.revealed)),
            ):
                rows = np.array([self.profile(table, model, r) for r in range(n)]).reshape(n, WIDTH)
                write_rows(directory, 0, rows[: n // 2].astype(np.float32))
                write_rows(directory, n // 2, rows[n // 2 :].astype(np.float32))
        self._pairs(layout.known("test"), self.known)
        users, items, names = ([row[k] for row in self.relevant] for k in range(3))
        write_table(
            layout.relevant("test"),
            pa.table(
                {
                    USER_IDX: pa.array(users, pa.int64()),
                    ITEM_IDX: pa.array(items, pa.int64()),
                    "slice": pa.array(names, pa.string()),
                }
            ),
        )
        self._newcomers(layout)
        return layout

    def _pairs(self, path: Path, pairs: list[Pair], places: list[int] | None = None) -> None:
        order = sorted(range(len(pairs)), key=lambda k: pairs[k][0])
        columns = {
            USER_IDX: pa.array([pairs[k][0] for k in order], pa.int64()),
            ITEM_IDX: pa.array([pairs[k][1] for k in order], pa.int64()),
            WEIGHT: pa.array([pairs[k][2] for k in order], pa.float64()),
        }
        if places is not None:
            columns[PLACE] = pa.array([places[k] for k in order], pa.int64())
        write_table(path, pa.table(columns))

    def _newcomers(self, layout: Layout) -> None:
        pairs: list[Pair] = []
        places: list[int] = []
        for user, (known, to_find) in self.revealed.items():
            pairs += [(user, i, 2.0 + place) for place, i in enumerate(known)]
            places += range(len(known))
            pairs += [(user, i, 1.0) for i in to_find]
            places += [TARGET] * len(to_find)
        self._pairs(layout.newcomers("test"), pairs, places)
        who = list(self.revealed)
        for number, start in enumerate(range(0, max(len(who), 1), self.queries_per_part)):
            some = who[start : start + self.queries_per_part]
            part = pa.table(
                {USER_IDX: pa.array(some, pa.int64()), TEXT: pa.array([f"找 {u}" for u in some], pa.string())}
            )
            write_table(layout.queries / part_name(number), part)


USER_TEXTS = ["", "I camp", "", "茶", "walks", "", "bakes", "", "reads", "", "sings", "x"]
BUILD = Build(
    USER_TEXTS,
    train=[(0, 0, 1.0), (0, 4, -1.0), (1, 1, 2.0), (2, 3, 1.0), (3, 0, 1.0), (4, 1, 5.0)],
    relevant=[(0, 2, "cold"), (0, 6, "warm"), (1, 3, "warm"), (2, 5, "cold"), (2, 8, "cold"), (5, 1, "warm")],
    known=[(0, 9, 3.0), (5, 2, 1.0)],
    revealed={
        11: ([5, 3], [29]),  # an unseen item is to be found
        6: ([12, 1, 7, 0, 20, 9, 4, 2, 8, 15, 16, 17], [18, 19, 21, 22]),
        8: ([10], [1]),
        7: ([1, 2, 3], [4, 5]),
        10: ([8, 6, 4, 2, 0], [1, 3]),
    },
)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return BUILD.write(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def found(layout: Layout) -> dict[str, Slice]:
    return dict(load_slices(layout, "test", ALL_USERS))


def as_sets(matrix: sp.csr_matrix) -> list[set[int]]:
    return [set(row.nonzero()[0].tolist()) for row in matrix.toarray()]


def test_every_slice_is_there(found: dict[str, Slice]) -> None:
    assert tuple(found) == SLICES == (*KNOWN_SLICES, *NEWCOMER_SLICES)
    for name, part in found.items():
        assert part.name == name
        assert part.model == ("train" if name in KNOWN_SLICES else "newcomers")
        assert np.all(np.diff(part.users) > 0)
        for matrix in (part.history, part.relevant, part.masked):
            assert matrix.shape == (len(part.users), N_ITEMS)
        assert (np.diff(part.relevant.indptr) > 0).all()


def test_users_of_training_by_hand(found: dict[str, Slice]) -> None:
    expected = {
        "cold": {0: {2}, 2: {5, 8}},
        "warm": {0: {6}, 1: {3}, 5: {1}},
        "all": {0: {2, 6}, 1: {3}, 2: {5, 8}, 5: {1}},
    }
    # training, and with a time split what they did since: user 5 is known by that alone
    history = {0: {0: 1.0, 4: -1.0, 9: 3.0}, 1: {1: 2.0}, 2: {3: 1.0}, 5: {2: 1.0}}
    for name, relevant in expected.items():
        part = found[name]
        assert part.users.tolist() == list(relevant)
        assert as_sets(part.relevant) == list(relevant.values())
        for row, user in enumerate(part.users):
            dense = np.zeros(N_ITEMS)
            dense[list(history[user])] = list(history[user].values())
            np.testing.assert_array_equal(part.history[row].toarray()[0], dense)
        assert as_sets(part.masked) == as_sets(part.history)
        assert part.query_rows is None
        assert part.with_words


def test_candidates_are_shuffled_by_id(found: dict[str, Slice]) -> None:
    roles = np.array(BUILD.roles)
    order = np.argsort(hash_ids(np.array(BUILD.item_ids, dtype=object)))
    np.testing.assert_array_equal(found["cold"].candidates, order[roles[order] == "cold"])
    np.testing.assert_array_equal(found["warm"].candidates, order[roles[order] == "warm"])
    for name in ("all", *NEWCOMER_SLICES):
        np.testing.assert_array_equal(found[name].candidates, order)
    assert (order != np.arange(N_ITEMS)).any()


@pytest.mark.parametrize("n", [1, 3, 5, 10])
def test_exactly_n_are_revealed_and_everything_known_is_masked(found: dict[str, Slice], n: int) -> None:
    part = found[f"revealed_{n}"]
    assert part.users.tolist() == [u for u in sorted(BUILD.revealed) if len(BUILD.revealed[u][0]) >= n]
    for row, user in enumerate(part.users):
        known, to_find = BUILD.revealed[user]
        dense = np.zeros(N_ITEMS)
        dense[known[:n]] = [2.0 + place for place in range(n)]
        np.testing.assert_array_equal(part.history[row].toarray()[0], dense)
        np.testing.assert_array_equal(np.flatnonzero(part.masked[row].toarray()), sorted(known))
        np.testing.assert_array_equal(np.flatnonzero(part.relevant[row].toarray()), sorted(to_find))
        assert set(part.relevant[row].data) == {1.0}


def test_the_curve_asks_for_the_same_whatever_is_revealed(found: dict[str, Slice]) -> None:
    base = found["query_only"]
    for name in NEWCOMER_SLICES:
        part = found[name]
        rows = np.searchsorted(base.users, part.users)
        np.testing.assert_array_equal(base.users[rows], part.users)
        for matrix in ("relevant", "masked"):
            difference = getattr(part, matrix) != getattr(base, matrix)[rows]
            assert difference.nnz == 0, (name, matrix)


def test_strangers_have_no_history(found: dict[str, Slice]) -> None:
    assert found["text_only"].users.tolist() == [6, 8, 10, 11], "user 7 writes nothing"
    assert found["query_only"].users.tolist() == [6, 7, 8, 10, 11]
    for name in ("text_only", "query_only"):
        assert found[name].history.nnz == 0
        assert found[name].with_words == (name == "text_only")


def test_what_known_users_tell(layout: Layout, found: dict[str, Slice]) -> None:
    asked = ask(layout, found["all"])
    assert asked.history is found["all"].history
    assert list(asked.own_texts) == [USER_TEXTS[u] for u in (0, 1, 2, 5)]
    np.testing.assert_array_equal(
        asked.own_profiles, [BUILD.profile("users", "train", u) for u in (0, 1, 2, 5)]
    )
    assert not asked.queries.any()
    assert list(asked.query_texts) == [""] * 4


def test_newcomers_tell_their_words_as_the_model_that_does_not_know_them_sees_them(
    layout: Layout, found: dict[str, Slice]
) -> None:
    for name in ("text_only", "revealed_3"):
        part = found[name]
        asked = ask(layout, part)
        expected = [BUILD.profile("users", "newcomers", u) for u in part.users]
        np.testing.assert_array_equal(asked.own_profiles, expected)
        assert list(asked.own_texts) == [USER_TEXTS[u] for u in part.users]
        assert not asked.queries.any()


def test_a_query_is_all_that_is_told(layout: Layout, found: dict[str, Slice]) -> None:
    """Queries lie in several parts in an order of their own; here users 11, 6 | 8, 7 | 10."""
    part = found["query_only"]
    asked = ask(layout, part)
    assert list(asked.query_texts) == [f"找 {u}" for u in part.users]
    row_of = {user: row for row, user in enumerate(BUILD.revealed)}
    np.testing.assert_array_equal(part.query_rows, [row_of[u] for u in part.users])
    expected = [BUILD.profile("queries", "newcomers", row_of[u]) for u in part.users]
    np.testing.assert_array_equal(asked.queries, expected)
    assert not asked.own_profiles.any()
    assert list(asked.own_texts) == [""] * 5


@pytest.mark.parametrize("name", SLICES)
def test_blocks_ask_what_the_slice_asks(layout: Layout, found: dict[str, Slice], name: str) -> None:
    part = found[name]
    whole = ask(layout, part)
    for start in range(len(part.users)):
        block = part.block(start, start + 1)
        one = ask(layout, block)
        np.testing.assert_array_equal(block.candidates, part.candidates)
        np.testing.assert_array_equal(block.relevant.toarray()[0], part.relevant[start].toarray()[0])
        np.testing.assert_array_equal(block.masked.toarray()[0], part.masked[start].toarray()[0])
        np.testing.assert_array_equal(one.history.toarray()[0], whole.history[start].toarray()[0])
        np.testing.assert_array_equal(one.own_profiles[0], whole.own_profiles[start])
        np.testing.assert_array_equal(one.queries[0], whole.queries[start])
        assert (one.own_texts[0], one.query_texts[0]) == (whole.own_texts[start], whole.query_texts[start])


def test_training_is_read_whole(layout: Layout) -> None:
    training = load_training(layout, "newcomers")
    dense = np.zeros((12, N_ITEMS))
    for user, item, weight in BUILD.train:
        dense[user, item] = weight
    np.testing.assert_array_equal(training.pairs.toarray(), dense)
    np.testing.assert_array_equal(
        training.item_profiles, [BUILD.profile("items", "newcomers", i) for i in range(N_ITEMS)]
    )
    np.testing.assert_array_equal(
        training.own_profiles, [BUILD.profile("users", "newcomers", u) for u in range(12)]
    )
    assert list(training.item_texts) == [f"text of item {i}" for i in range(N_ITEMS)]
    np.testing.assert_array_equal(training.knows_item, dense.any(axis=0))


def test_a_time_split_has_its_newcomers_answered_by_the_model_of_training(tmp_path: Path) -> None:
    build = Build(USER_TEXTS, train=BUILD.train, revealed=BUILD.revealed, model="train")
    layout = build.write(tmp_path)
    parts = load_slices(layout, "test", ALL_USERS)
    assert {part.model for part in parts.values()} == {"train"}
    asked = ask(layout, parts["query_only"])
    np.testing.assert_array_equal(asked.queries[0], build.profile("queries", "train", 1))


def test_a_large_slice_is_sampled_and_a_small_one_is_not(tmp_path: Path) -> None:
    """At most 100 users mean about a third of 300 of training, and every one of 20 newcomers."""
    n = 300
    build = Build(
        [f"words {u}" for u in range(n + 20)],
        train=[(u, u % N_ITEMS, 1.0) for u in range(n)],
        relevant=[(u, (u + 1) % N_ITEMS, "warm") for u in range(n)],
        revealed={n + u: ([1, 2], [3]) for u in range(20)},
    )
    layout = build.write(tmp_path)
    parts = load_slices(layout, "test", 100)
    chosen = parts["warm"].users
    np.testing.assert_array_equal(chosen, np.flatnonzero(sampled(np.arange(n), 1 / 3)))
    assert 70 <= len(chosen) <= 130
    np.testing.assert_array_equal(parts["all"].users, chosen)
    assert len(parts["revealed_1"].users) == 20
    few = load_slices(layout, "test", 10)
    assert set(few["warm"].users) < set(chosen)
    assert 0 < len(few["text_only"].users) < 20
    for part in few.values():
        for row, user in enumerate(part.users):
            expected = {3} if user >= n else {(user + 1) % N_ITEMS}
            assert set(part.relevant[row].indices) == expected, "a user is in it whole or not at all"


def test_the_users_of_a_sample_do_not_depend_on_their_number_of_pairs(tmp_path: Path) -> None:
    """Users, not pairs, are counted against the limit."""
    build = Build(
        ["" for _ in range(10)],
        train=[(u, 0, 1.0) for u in range(10)],
        relevant=[(u, i, "warm") for u in range(10) for i in (1, 3, 4, 6, 7)],
    )
    assert len(load_slices(build.write(tmp_path), "test", 10)["warm"].users) == 10


@pytest.mark.parametrize("n_users", [0, 3])
def test_nothing_held_out(tmp_path: Path, n_users: int) -> None:
    layout = Build([""] * n_users).write(tmp_path)
    parts = load_slices(layout, "test", ALL_USERS)
    assert tuple(parts) == SLICES
    for part in parts.values():
        assert len(part.users) == 0
        assert part.relevant.shape == part.history.shape == (0, N_ITEMS)
        asked = ask(layout, part)
        assert asked.own_profiles.shape == asked.queries.shape == (0, WIDTH)
        assert list(asked.own_texts) == list(asked.query_texts) == []
    assert len(parts["all"].candidates) == N_ITEMS


def test_no_items(tmp_path: Path) -> None:
    layout = Build([""], n_items=0).write(tmp_path)
    parts = load_slices(layout, "test", ALL_USERS)
    assert all(len(part.users) == len(part.candidates) == 0 for part in parts.values())
    assert load_training(layout, "train").item_profiles.shape == (0, WIDTH)


def test_nobody_writes(tmp_path: Path) -> None:
    build = Build([""] * 12, train=BUILD.train, revealed=BUILD.revealed)
    parts = load_slices(build.write(tmp_path), "test", ALL_USERS)
    assert len(parts["text_only"].users) == 0
    assert len(parts["query_only"].users) == 5


def test_pairs_of_others_are_left_out() -> None:
    """The last user of all is looked for beyond the end of the slice's users."""
    table = pa.table({USER_IDX: [0, 3, 5, 9], ITEM_IDX: [1, 2, 3, 4], WEIGHT: [1.0, 2.0, 3.0, 4.0]})
    found = slices._weights(table.to_pandas(), np.array([3, 7]), 6).toarray()
    np.testing.assert_array_equal(found, [[0, 0, 2, 0, 0, 0], [0] * 6])
    none = slices._weights(table.to_pandas(), np.zeros(0, dtype=np.int64), 6)
    assert none.shape == (0, 6)
