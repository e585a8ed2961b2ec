"""Relations and vector columns as they come in; `kindling data validate` with both."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.validation import print_validation
from pipelines.core.config import Config, parse_config
from pipelines.core.errors import ConfigError, InputError
from pipelines.core.readers import Chunk, cut_chunks, find_files, read_chunk
from pipelines.core.schema import RELATIONS, ROW
from pipelines.core.tables import first_of_each
from pipelines.core.validate import check_entities, check_relations

ITEM_IDS = pa.array(["a", "b", "茶"])
CHUNK = Chunk("relations", 0, "data", "data/relations.csv", None, 0)


def numbered(columns: dict[str, list[object]]) -> pa.Table:
    table = pa.table(columns)
    return table.append_column(ROW, pa.array(range(1, table.num_rows + 1), pa.int64()))


def test_good_rows_become_row_numbers_and_bad_ones_say_why() -> None:
    rows: list[tuple[object, object, object, str]] = [
        ("a", " goes_with ", "b", ""),
        ("a", "goes_with", "茶", ""),
        ("a", "goes_with", "nowhere", "other_id is not in the items table"),
        ("nowhere", "goes_with", "a", "item_id is not in the items table"),
        (None, "goes_with", "a", "item_id is missing"),
        ("a", "goes_with", "", "other_id is missing"),
        ("b", "goes_with", "b", "item_id and other_id are the same item"),
        ("a", None, "b", "relation is missing"),
        ("a", "  ", "b", "relation is missing"),
        ("茶", "cites", " a", ""),
    ]
    item, relation, other, expected = (list(column) for column in zip(*rows, strict=True))
    table = numbered({"item_id": item, "relation": relation, "other_id": other})
    checked = check_relations(CHUNK, table, [], Config(), ITEM_IDS)
    assert checked.table.schema == RELATIONS
    assert checked.table.to_pylist() == [
        {"item_idx": 0, "relation": "goes_with", "other_idx": 1},
        {"item_idx": 0, "relation": "goes_with", "other_idx": 2},
        {"item_idx": 2, "relation": "cites", "other_idx": 0},
    ]
    found = dict(zip(checked.rejects["row"].to_pylist(), checked.rejects["reason"].to_pylist(), strict=True))
    assert found == {row: str(reason) for row, reason in enumerate(expected, start=1) if reason}
    assert checked.counts == {"read": 10, "rejected": 7}


def test_an_empty_table_and_a_missing_column() -> None:
    nothing = check_relations(CHUNK, numbered({"item_id": []}), [], Config(), ITEM_IDS)
    assert nothing.table.equals(RELATIONS.empty_table())
    with pytest.raises(InputError, match="column 'other_id' is missing"):
        check_relations(CHUNK, numbered({"item_id": ["a"], "relation": ["r"]}), [], Config(), ITEM_IDS)


def test_rows_said_before_are_found_across_parts(tmp_path: Path) -> None:
    parts = [[(0, "r", 1), (0, "r", 1), (1, "r", 0)], [], [(0, "s", 1), (0, "r", 1)]]
    paths = [tmp_path / f"part-{number}.parquet" for number in range(len(parts))]
    for path, rows in zip(paths, parts, strict=True):
        names = RELATIONS.names
        pq.write_table(
            pa.Table.from_pylist([dict(zip(names, r, strict=True)) for r in rows], schema=RELATIONS), path
        )
    assert [mask.tolist() for mask in first_of_each(paths)] == [[True, False, True], [], [True, False]]
    assert first_of_each([]) == []


VECTORS = parse_config({"data": {"vectors": {"image": 0.5}}}, "test")


def test_a_vector_column_is_numbers_whatever_the_file(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text('item_id,title,image\na,pot,0.5 1\nb,pan,"[2, 3]"\nc,cup,\nd,jar,x\n')
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "items.jsonl").write_text(
        '{"item_id": "a", "title": "pot", "image": [0.5, 1]}\n{"item_id": "b", "title": "pan", "image": [2, 3]}\n'
        '{"item_id": "c", "title": "cup", "image": null}\n{"item_id": "d", "title": "jar", "image": "x"}\n'
    )
    for folder in (tmp_path, tmp_path / "more"):
        (chunk,) = cut_chunks(str(folder), "items", find_files(str(folder), "items"))
        checked = check_entities(chunk, *read_chunk(chunk), VECTORS)
        assert checked.table.column("image").type == pa.list_(pa.float32())
        assert checked.table.column("image").to_pylist() == [[0.5, 1], [2, 3], None]
        assert checked.rejects["reason"].to_pylist() == ["image is 'x', expected numbers"]


@pytest.mark.parametrize("name", ["title", "item_id", "is_hidden", "text"])
def test_a_vector_column_is_no_other_column(name: str) -> None:
    with pytest.raises(ConfigError, match=f"data.vectors names {name}"):
        parse_config({"data": {"vectors": {name: 1.0}}}, "test")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "items.csv").write_text("item_id,title,image\na,pot,1 2\nb,pan,3 4\nc,cup,5 6 7\n")
    (tmp_path / "interactions.csv").write_text("user_id,item_id\nu,a\nv,b\n")
    (tmp_path / "relations.csv").write_text(
        "item_id,relation,other_id\na,r,b\na,r,b\na,r,a\na,r,x\nb,s,a\n,,\n"
    )
    return tmp_path


def test_validation_covers_both(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    config = VECTORS.model_copy(update={"data": VECTORS.data.model_copy(update={"max_reject_share": 0.6})})
    assert print_validation(str(folder), config)
    said = " ".join(capsys.readouterr().out.split())
    assert "items: 1 × image has 3 numbers, the first of the table 2" in said
    assert "relations: 1 × other_id is not in the items table" in said
    assert "relations: 1 × item_id and other_id are the same item" in said
    assert "identical_duplicates_merged 1" in said
    assert not print_validation(str(folder), Config())
    assert "table 'relations': 3 of 6 rows were rejected" in " ".join(capsys.readouterr().out.split())


def test_validation_misses_a_column_without_vectors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = parse_config({"data": {"vectors": {"sound": 1.0}, "max_reject_share": 0.6}}, "test")
    assert not print_validation(str(folder), config)
    assert "the column 'sound', where no item has a vector" in " ".join(capsys.readouterr().out.split())
