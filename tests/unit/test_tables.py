"""What concerns all parts of a clean table: duplicates, one schema, numbers for users."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.errors import InputError
from pipelines.core.schema import REJECTS, USER_IDX
from pipelines.core.tables import (
    bare_users,
    common_schema,
    conform,
    distinct_ids,
    encode_users,
    find_duplicates,
    new_ids,
    number_users,
    read_parts,
)


def write_parts(folder: Path, *parts: dict[str, object]) -> list[Path]:
    """Clean parts as ingest stages them; `_source` and `_row` are added to item rows."""
    paths = []
    for number, columns in enumerate(parts):
        table = pa.table(columns)
        if "item_id" in columns:
            table = table.append_column("_source", pa.array([f"{number}.csv"] * table.num_rows, pa.string()))
            table = table.append_column("_row", pa.array(range(1, table.num_rows + 1), pa.int64()))
        paths.append(folder / f"part-{number:06d}.parquet")
        pq.write_table(table, paths[-1])
    return paths


def test_the_first_row_of_an_id_stays(tmp_path: Path) -> None:
    paths = write_parts(
        tmp_path,
        {"item_id": ["茶", "b", "茶", "b"], "text": ["tea", "x", "tea", "y"]},
        {"item_id": ["c", "b", "茶"], "text": ["", "x", "coffee"]},
    )
    found = find_duplicates(paths, "items")
    assert found.ids.to_pydict() == {"item_id": ["茶", "b", "c"]}
    assert [k.tolist() for k in found.keep] == [[True, True, False, False], [True, False, False]]
    assert found.n_merged == 2
    assert found.rejects.schema == REJECTS
    assert [(r["source"], r["row"], r["record"]) for r in found.rejects.to_pylist()] == [
        ("0.csv", 4, "b"),
        ("1.csv", 3, "茶"),
    ]


def test_no_parts_have_no_duplicates() -> None:
    found = find_duplicates([], "users")
    assert (found.ids.to_pydict(), found.keep, found.rejects.num_rows) == ({"user_id": []}, [], 0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy")), min_size=1), max_size=3))
def test_duplicates_add_up(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[tuple[str, str]]]
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    columns = [{"item_id": [i for i, _ in part], "text": [t for _, t in part]} for part in parts]
    found = find_duplicates(write_parts(folder, *columns), "items")
    assert sum(map(len, parts)) == found.ids.num_rows + found.rejects.num_rows + found.n_merged
    assert sum(int(k.sum()) for k in found.keep) == found.ids.num_rows
    first: dict[str, str] = {}
    for part in parts:
        for item, text in part:
            first.setdefault(item, text)
    assert found.ids.column(0).to_pylist() == list(first)
    assert found.rejects.num_rows == sum(text != first[item] for part in parts for item, text in part)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (pa.array([1]), pa.array(["x"]), ["1", "x"]),
        (pa.array(["x"]), pa.array([1]), ["x", "1"]),
        (pa.array([1]), pa.array([0.5]), [1.0, 0.5]),
        (pa.array([2**60 + 1]), pa.array([0.5]), [2.0**60, 0.5]),
        (pa.array([True]), pa.array([2]), ["True", "2"]),
        (pa.array([None]), pa.array([2]), [None, 2]),
        (pa.array([2**63], pa.uint64()), pa.array([-1]), [str(2**63), "-1"]),
        (pa.array([["x"]]), pa.array([[]], pa.list_(pa.null())), [["x"], []]),
        (pa.array([["x"]]), pa.array(["x"]), ["['x']", "x"]),
        (pa.array([{"a": 1}]), pa.array([{"b": "x"}]), [{"a": 1, "b": None}, {"a": None, "b": "x"}]),
        (pa.array([1], pa.date32()), pa.array(["soon"]), ["1970-01-02", "soon"]),
        (
            pa.array([10**11], pa.timestamp("ms")),
            pa.array([0], pa.timestamp("ns")),
            ["1973-03-03 09:46:40", "1970-01-01 00:00:00"],
        ),
    ],
)
def test_types_that_clash_between_files(
    tmp_path: Path, first: pa.Array, second: pa.Array, expected: list[object]
) -> None:
    paths = write_parts(tmp_path, {"item_id": ["a"], "x": first}, {"item_id": ["b"], "x": second})
    schema = common_schema(paths)
    assert schema.names == ["item_id", "x"]
    parts = [conform(pq.read_table(p), schema, np.array([True])) for p in paths]
    assert pa.concat_tables(parts).column("x").to_pylist() == expected


def test_values_that_no_common_type_holds(tmp_path: Path) -> None:
    big = pa.array([[2**63]], pa.list_(pa.uint64()))
    paths = write_parts(tmp_path, {"item_id": ["a"], "x": pa.array([[1]])}, {"item_id": ["b"], "x": big})
    schema = pa.schema([("item_id", pa.string()), ("x", pa.list_(pa.int64()))])
    with pytest.raises(InputError, match=r"column 'x' is list.* one type in all files"):
        conform(pq.read_table(paths[1]), schema, np.array([True]))


def test_parts_may_lack_columns(tmp_path: Path) -> None:
    paths = write_parts(tmp_path, {"item_id": ["a", "b"], "x": [1, 2]}, {"item_id": ["c"], "y": ["茶"]})
    schema = common_schema(paths)
    parts = [
        conform(pq.read_table(p), schema, np.array([True, False][:n]))
        for p, n in zip(paths, (2, 1), strict=True)
    ]
    assert pa.concat_tables(parts).to_pylist() == [
        {"item_id": "a", "x": 1, "y": None},
        {"item_id": "c", "x": None, "y": "茶"},
    ]


def test_no_parts_have_no_columns() -> None:
    assert common_schema([]).names == []


def test_users_known_by_interactions_alone() -> None:
    known = pa.array(["a"])
    newcomers = new_ids(pa.array(["z", "a", "m", "茶"]), known)
    assert newcomers.to_pylist() == ["m", "z", "茶"]
    assert bare_users(newcomers).to_pydict() == {"user_id": ["m", "z", "茶"], "text": ["", "", ""]}
    assert new_ids(pa.array([], pa.string()), known).to_pylist() == []
    assert new_ids(known, known).to_pylist() == []


def test_a_part_keeps_its_users_apart_until_all_are_numbered() -> None:
    part = pa.table({"user_id": pa.chunked_array([["z", "a"], ["z", "茶"]]), "weight": [1.0, 2.0, 3.0, 4.0]})
    coded, own = encode_users(part)
    assert coded.to_pydict() == {USER_IDX: [0, 1, 0, 2], "weight": [1.0, 2.0, 3.0, 4.0]}
    assert own.to_pydict() == {"user_id": ["z", "a", "茶"]}
    numbered = number_users(coded, own.column(0), pa.array(["a", "m", "z", "茶"]))
    assert numbered.to_pydict() == {USER_IDX: [2, 0, 2, 3], "weight": [1.0, 2.0, 3.0, 4.0]}
    assert numbered.schema.field(USER_IDX).type == pa.int64()
    empty, nobody = encode_users(part.slice(0, 0))
    assert number_users(empty, nobody.column(0), pa.array(["a"])).num_rows == 0


def test_distinct_ids_over_files(tmp_path: Path) -> None:
    lists = [["b", "a"], ["c"], [], ["a", "茶", "d", "e", "f"], ["b", "g"]]
    paths = write_parts(tmp_path, *({"user_id": pa.array(ids, pa.string())} for ids in lists))
    assert sorted(distinct_ids(paths).to_pylist()) == ["a", "b", "c", "d", "e", "f", "g", "茶"]
    assert distinct_ids([]).to_pylist() == []


def test_reading_parts(tmp_path: Path) -> None:
    write_parts(tmp_path, {"user_id": ["a"], "x": [1]}, {"user_id": ["b"]})
    assert read_parts(tmp_path).to_pylist() == [{"user_id": "a", "x": 1}, {"user_id": "b", "x": None}]
    assert read_parts(tmp_path, ["x", "user_id"]).to_pydict() == {"x": [1, None], "user_id": ["a", "b"]}
    assert read_parts(tmp_path / "absent").num_rows == 0
