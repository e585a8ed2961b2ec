"""Whom to forget: which rows are left out, which vectors are dropped, and where an id is found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.config import Config
from pipelines.core.errors import ArtefactError
from pipelines.core.forgetting import NOBODY, Forgotten, sweep_embeddings, user_hash
from pipelines.core.layout import Layout
from pipelines.core.left_out import LeftOut
from pipelines.core.readers import Chunk
from pipelines.core.schema import ROW, TableName
from pipelines.core.searching import find_in_files
from pipelines.core.storage import part_paths, write_json, write_table, write_tensors, write_text
from pipelines.core.validate import Checked, check_entities, check_interactions

NOON = 1_700_000_000.0
LI = Forgotten({user_hash("李"): NOON, user_hash("7"): NOON})


def check(table: TableName, columns: dict[str, object], forgotten: Forgotten) -> Checked:
    rows = pa.table(columns)
    rows = rows.append_column(ROW, pa.array(range(1, rows.num_rows + 1), pa.int64()))
    chunk = Chunk(table, 0, "data", f"data/{table}.jsonl", None, 0)
    if table == "interactions":
        return check_interactions(chunk, rows, [], Config(), pa.array(["a"]), LeftOut(forgotten))
    return check_entities(chunk, rows, [], Config(), LeftOut(forgotten))


def test_rows_of_who_is_forgotten_are_left_out_and_counted() -> None:
    users = {"user_id": ["李", "b", " 李 "], "description": ["爱喝茶", "climbs", "drinks tea"]}
    checked = check("users", users, LI)
    assert checked.table.column("user_id").to_pylist() == ["b"]
    assert checked.table.column("_row").to_pylist() == [2]
    assert dict(checked.counts) == {"read": 3, "forgotten": 2, "rejected": 0, "without_text": 0}


def test_what_they_do_after_they_came_back_is_kept() -> None:
    columns = {
        "user_id": ["李"] * 4 + ["b"],
        "item_id": ["a"] * 5,
        "timestamp": [NOON - 1, NOON, NOON + 1, None, NOON - 1],
    }
    checked = check("interactions", columns, LI)
    assert checked.table.column("timestamp").to_pylist() == [NOON + 1, NOON - 1]
    assert checked.counts["forgotten"] == 3
    undated = check("interactions", {"user_id": ["李", "b"], "item_id": ["a", "a"]}, LI)
    assert undated.table.column("user_id").to_pylist() == ["b"]


def test_no_reject_tells_of_who_is_forgotten() -> None:
    columns = {"user_id": ["李", "b"], "item_id": ["nowhere", "nowhere"], "weight": [1.0, 1.0]}
    checked = check("interactions", columns, LI)
    assert [json.loads(r)["user_id"] for r in checked.rejects.column("record").to_pylist()] == ["b"]
    assert check("interactions", columns, NOBODY).rejects.num_rows == 2


def test_ids_that_are_numbers_are_known_by_their_digits() -> None:
    checked = check("interactions", {"user_id": [7, 8], "item_id": ["a", "a"]}, LI)
    assert checked.table.column("user_id").to_pylist() == ["8"]


def test_everybody_forgotten_leaves_an_empty_table() -> None:
    assert check("users", {"user_id": ["李"], "description": ["茶"]}, LI).table.num_rows == 0
    assert check("interactions", {"user_id": ["李"], "item_id": ["a"]}, LI).table.num_rows == 0


def test_a_note_is_read_back_and_never_forgets_whom_to_forget(tmp_path: Path) -> None:
    path = tmp_path / "forgotten.parquet"
    assert not Forgotten.read(path)
    LI.write(path)
    assert Forgotten.read(path).moments == LI.moments
    both = Forgotten.read(path) | Forgotten({user_hash("7"): NOON - 5, user_hash("x"): 3.0})
    assert both.moments == {user_hash("李"): NOON, user_hash("7"): NOON, user_hash("x"): 3.0}
    assert both.digest() != LI.digest() != NOBODY.digest() == ""
    before = path.stat().st_mtime_ns
    LI.write(path)
    assert path.stat().st_mtime_ns == before


def test_moments_of_ids_in_pieces_and_of_none_at_all() -> None:
    moments = LI.moments_of(pa.chunked_array([pa.array(["李", None]), pa.array(["b", "7"])]))
    np.testing.assert_array_equal(moments, [NOON, np.nan, np.nan, NOON])
    assert len(LI.moments_of(pa.array([], pa.string()))) == 0


def vectors(*names: bytes) -> pa.Table:
    rows = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(2 * len(names), np.float32)), 2)
    return pa.table({"hash": pa.array([n.ljust(16) for n in names], pa.binary(16)), "vector": rows})


def kept(cache: Path) -> list[bytes]:
    tables = [pq.read_table(p) for p in part_paths(cache)]
    return sorted(h.strip() for t in tables for h in t.column("hash").to_pylist())


def test_vectors_that_no_text_needs_leave_every_cache_once(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    one, other = layout.embedding_cache("one"), layout.embedding_cache("other")
    write_table(one / "a.parquet", vectors(b"used", b"gone"))
    write_table(one / "b.parquet", vectors(b"gone too"))
    write_table(other / "a.parquet", vectors(b"used", b"gone"))
    used = vectors(b"used").column("hash").combine_chunks()
    assert sweep_embeddings(layout, NOBODY, used) == 0
    assert sweep_embeddings(layout, LI, used) == 3
    assert kept(one) == kept(other) == [b"used"]
    write_table(one / "c.parquet", vectors(b"new"))  # of another day's tables: not swept for nothing
    assert sweep_embeddings(layout, LI, used) == 0
    later = LI | Forgotten({user_hash("x"): NOON})
    assert sweep_embeddings(layout, later, used) == 1
    assert kept(one) == [b"used"]


def test_an_id_is_found_in_whatever_was_written(tmp_path: Path) -> None:
    write_table(tmp_path / "ids.parquet", pa.table({"n": [1, 2], "user_id": ["u1", "u12"]}))
    write_table(tmp_path / "lists.parquet", pa.table({"who": [["u2"], ["u1", None], None]}))
    write_table(tmp_path / "codes.parquet", pa.table({"who": pa.array(["u1", "b"]).dictionary_encode()}))
    write_table(tmp_path / "rejects.parquet", pa.table({"record": ['{"user_id": "u1"}', None]}))
    write_json(tmp_path / "run.json", {"a": 1, "who": "u1"})
    write_text(tmp_path / "error.txt", "first\nuser u1, and so on")
    write_tensors(tmp_path / "a.safetensors", {"u1": np.zeros(3, np.float32)})
    found = {path.name: place for path, place in find_in_files(tmp_path, "u1")}
    assert found == {
        "ids.parquet": "column user_id", "lists.parquet": "column who", "codes.parquet": "column who",
        "rejects.parquet": "column record", "run.json": "line 3", "error.txt": "line 2", "a.safetensors": "byte 9",
    }  # fmt: skip


def test_what_only_resembles_an_id_is_not_it(tmp_path: Path) -> None:
    write_table(tmp_path / "ids.parquet", pa.table({"user_id": ["u12", "xu1"], "u1": [1, 2]}))
    write_json(tmp_path / "a.json", ["u12", "u1-x", "xu1", "x-u1"])
    (tmp_path / "empty.bin").write_bytes(b"")
    assert list(find_in_files(tmp_path, "u1")) == []


def test_what_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "half.parquet").write_bytes(b"PAR1 half")
    with pytest.raises(ArtefactError, match=r"half\.parquet cannot be searched"):
        list(find_in_files(tmp_path, "u1"))
