"""Examples of a fine-tuning from a build's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.core.config import FinetuneConfig
from pipelines.core.errors import InputError
from pipelines.core.finetune.examples import field_starts, load_examples, take_rows
from pipelines.core.finetune.files import ExampleFiles
from pipelines.core.layout import HELD_OUT, Layout
from pipelines.core.storage import part_name, write_table

N_USERS, N_ITEMS = 4, 6


def build(
    root: Path, rows: list[tuple[int, int, float, float | None]], **held: list[tuple[int, int]]
) -> Layout:
    """Files of a build: rows are user, item, weight, timestamp; `held` pairs of `validation`, users of `hidden`."""
    layout = Layout(root)
    ordered = sorted({(u, i) for u, i, _, _ in rows if (u, i) not in held.get("validation", [])})
    weight = {(u, i): w for u, i, w, _ in rows}
    write_table(
        layout.pairs("train", "user"),
        table(
            user_idx=[u for u, _ in ordered],
            item_idx=[i for _, i in ordered],
            weight=[weight[p] for p in ordered],
        ),
    )
    times = pa.array([t for *_, t in rows], pa.float64())
    told = table(user_idx=[r[0] for r in rows], item_idx=[r[1] for r in rows]).append_column(
        "timestamp", times
    )
    write_table(layout.tables / "interactions" / part_name(0), told)
    for side, n in (("users", N_USERS), ("items", N_ITEMS)):
        write_table(layout.ids(side), table(id=[str(k) for k in range(n)]))
    for which in HELD_OUT:
        hidden = held.get("hidden", []) if which == "validation" else []
        write_table(
            layout.newcomers(which), table(user_idx=[u for u, _ in hidden], item_idx=[i for _, i in hidden])
        )
    pairs = held.get("validation", [])
    relevant = table(
        user_idx=[u for u, _ in pairs], item_idx=[i for _, i in pairs], slice=["warm"] * len(pairs)
    )
    write_table(layout.relevant("validation"), relevant)
    return layout


def table(**columns: list[Any]) -> pa.Table:
    kinds = {"weight": pa.float32(), "id": pa.string(), "slice": pa.string()}
    return pa.table({name: pa.array(values, kinds.get(name, pa.int64())) for name, values in columns.items()})


def settings(**changed: Any) -> FinetuneConfig:  # noqa: ANN401
    return FinetuneConfig(**{"objective": "contrastive", **changed})


ROWS: list[tuple[int, int, float, float | None]] = [
    (0, 3, 1.0, 30.0), (0, 1, 1.0, 10.0), (0, 2, 1.0, 20.0), (0, 4, -1.0, 5.0),
    (1, 5, 1.0, 40.0), (1, 0, 1.0, 50.0), (2, 1, 1.0, 1.0), (3, 0, 1.0, 2.0), (3, 2, 1.0, 3.0),
]  # fmt: skip


def pairs_of(rows: pa.Table) -> set[tuple[int, int]]:
    return set(zip(rows.column("user_idx").to_pylist(), rows.column("item_idx").to_pylist(), strict=True))


def test_wanted_pairs_of_users_with_two_and_never_hidden_ones(tmp_path: Path) -> None:
    layout = build(tmp_path, ROWS, hidden=[(3, 0)], validation=[(0, 3), (2, 5)])
    found = load_examples(layout, settings())
    # 0 wanted 1 and 2 in training, 1 wanted both; 2 has one item, 3 is hidden, 4 is not wanted
    assert pairs_of(found.train) == {(0, 1), (0, 2), (1, 5), (1, 0)}
    assert pairs_of(found.validation) == {(0, 3), (2, 5)}
    assert found.newest == 50.0


def test_histories_are_in_order_of_time(tmp_path: Path) -> None:
    found = load_examples(build(tmp_path, ROWS), settings())
    assert found.histories[0].tolist() == [1, 2, 3]
    assert found.histories[1].tolist() == [5, 0]
    rows = table(user_idx=[0, 0, 1], item_idx=[3, 1, 9])
    assert found.histories.beside(rows, before=False).column("history").to_pylist() == [
        [1, 2],
        [2, 3],
        [5, 0],
    ]
    assert found.histories.beside(rows, before=True).column("history").to_pylist() == [[1, 2], [], [5, 0]]


def test_without_times_the_place_in_the_table_is_the_order(tmp_path: Path) -> None:
    found = load_examples(build(tmp_path, [(u, i, w, None) for u, i, w, _ in ROWS]), settings())
    assert found.histories[0].tolist() == [3, 1, 2]
    assert found.newest is None


def test_what_comes_next_has_something_before_it(tmp_path: Path) -> None:
    found = load_examples(build(tmp_path, ROWS), settings(objective="next_behaviour"))
    assert pairs_of(found.train) == {(0, 2), (0, 3), (1, 0), (3, 2)}


def test_only_what_is_new_and_a_share_of_the_old(tmp_path: Path) -> None:
    layout = build(tmp_path, ROWS)
    new = {(0, 3), (1, 5), (1, 0)}
    assert pairs_of(load_examples(layout, settings(), since=25.0).train) == new
    replayed = pairs_of(load_examples(layout, settings(replay_share=0.4), since=25.0).train)
    assert new < replayed
    # two of five, of which those that are not wanted, or their user's only one, say nothing
    assert len(replayed) <= len(new) + 2
    with pytest.raises(InputError, match="no interaction is newer"):
        load_examples(layout, settings(), since=60.0)


def test_purchases_have_others_beside_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [(u, int(i), 1.0, None) for u in range(N_USERS) for i in rng.permutation(N_ITEMS)[:3]]
    found = load_examples(build(tmp_path, rows), settings(objective="purchase", negatives=3))
    bought = {(u, i) for u, i, _, _ in rows}
    for part in (found.train, found.validation):
        for pair, label in zip(
            zip(part.column("user_idx").to_pylist(), part.column("item_idx").to_pylist(), strict=True),
            part.column("label").to_pylist(), strict=True,
        ):  # fmt: skip
            assert (pair in bought) == (label == 1.0)


@pytest.mark.parametrize("objective", ["contrastive", "rating", "purchase", "next_behaviour"])
def test_nothing_to_learn_from_is_told(tmp_path: Path, objective: str) -> None:
    with pytest.raises(InputError, match="nothing to learn"):
        load_examples(build(tmp_path, []), settings(objective=objective))


def test_rows_by_number_in_the_order_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_table(path, table(user_idx=list(range(100))), row_group_size=7)
    numbers = np.random.default_rng(0).integers(100, size=50)
    assert take_rows(path, numbers).column(0).to_pylist() == numbers.tolist()


def test_files_give_back_what_was_written(tmp_path: Path) -> None:
    found = load_examples(build(tmp_path / "build", ROWS), settings())
    files = ExampleFiles(tmp_path / "examples")
    files.root.mkdir()
    files.write(found, 2)
    assert files.count("train") == len(found.train)
    taken = files.take(np.array([3, 0]))
    assert taken.column("item_idx").to_pylist() == [found.train.column("item_idx")[k].as_py() for k in (3, 0)]
    assert files.neighbours() is None


@pytest.mark.parametrize(
    ("row", "text", "expected"),
    [
        ({"title": "Tent", "brand": "Acme", "text": "Dry."}, "Tent. Acme. Dry.", [4, 10]),
        ({"title": "Tent", "brand": None, "text": "Dry."}, "Tent. Dry.", [4]),
        ({"title": "帐篷。", "brand": "甲", "text": "乙"}, "帐篷。 甲. 乙", [3, 5]),
        ({"title": "Tent", "brand": "Acme", "text": ""}, "Tent", []),
        ({"title": "Tent", "brand": "Acme", "text": ""}, "something else", []),
    ],
)
def test_where_fields_begin(row: dict[str, Any], text: str, expected: list[int]) -> None:
    assert field_starts(row, text, ["title", "brand", "text"]) == expected
