"""What the service was told, among the tables of a build."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.collected import INTERACTIONS_TOLD, Collected, StorePoint, write_collected
from pipelines.core.config import Config, DataConfig
from pipelines.core.enough import problems
from pipelines.core.errors import ArtefactError
from pipelines.core.forgetting import Forgotten, user_hash
from pipelines.core.layout import Layout
from pipelines.core.left_out import LeftOut
from pipelines.core.readers import Chunk
from pipelines.core.schema import ROW, TableName
from pipelines.core.storage import write_table
from pipelines.core.told import check_told, tell_items, tell_users
from pipelines.core.validate import check_entities, check_interactions, check_relations

POINT = StorePoint("s1", 7, 3)
CONFIG = Config()


def collected(layout: Layout, **tables: list[dict[str, Any]]) -> Collected:
    batches = {name: [tables.get(name, [])] for name in ("interactions", "users", "items")}
    found = write_collected(layout, POINT, batches)
    assert found is not None
    return found


def change(
    item_id: str, fields: dict[str, Any] | None, *, is_whole: bool = True, at: float = 1e9
) -> dict[str, Any]:
    said = None if fields is None else json.dumps(fields)
    return {"item_id": item_id, "fields": said, "is_whole": is_whole, "updated_at": at}


def staged(path: Path, table: TableName, columns: dict[str, list[Any]]) -> Path:
    rows = pa.table(columns).append_column(
        ROW, pa.array(range(1, len(next(iter(columns.values()))) + 1), pa.int64())
    )
    write_table(path, check_entities(Chunk(table, 0, "", f"{table}.jsonl", None, 0), rows, [], CONFIG).table)
    return path


@pytest.fixture
def items(tmp_path: Path) -> Path:
    columns = {"item_id": ["a", "b", "c"], "title": ["Kettle", "茶壶", "Mug"], "price": [9.5, 20.0, None]}
    return staged(tmp_path / "part-000000.parquet", "items", columns)


def tell(items: Path, told: Collected, written: float = 0.0) -> tuple[dict[str, Any], dict[str, int]]:
    target = items.parent / "part-000001.parquet"
    counts, rejects = tell_items([items], target, told, {"items.jsonl": written}, CONFIG)
    assert counts["told_set_aside"] == rejects.num_rows
    rows = [
        *pq.read_table(items).to_pylist(),
        *(pq.read_table(target).to_pylist() if target.exists() else []),
    ]
    return {row["item_id"]: row for row in rows}, dict(counts)


def test_changed_items_and_new_ones(items: Path, tmp_path: Path) -> None:
    told = collected(
        Layout(tmp_path / "out"),
        items=[
            change("b", {"price": 18}, is_whole=False),
            change("c", {"title": "<b>Big</b> mug"}),
            change("new", {"title": "Teapot", "price": 30, "colour": "a column of another build"}),
            change("lost", {"price": 1}, is_whole=False),
        ],
    )
    rows, counts = tell(items, told)
    assert list(rows) == ["a", "b", "c", "new"], "places stay, new ones come last"
    assert (rows["b"]["price"], rows["b"]["title"], rows["b"]["text"]) == (18.0, "茶壶", "茶壶")
    assert (rows["c"]["text"], rows["c"]["price"]) == ("Big mug", None)
    assert rows["new"]["_source"] == rows["b"]["_source"] == "the service"
    assert (rows["new"]["text"], rows["new"]["price"], rows["new"]["is_hidden"]) == ("Teapot", 30.0, False)
    assert counts == {"told": 4, "told_changed": 2, "told_new": 1, "told_set_aside": 0}


def test_beside_a_table_without_usable_rows_nothing_is_told(tmp_path: Path) -> None:
    told = collected(Layout(tmp_path / "out"), items=[change("new", {"title": "Teapot"})])
    counts, rejects = tell_items([], tmp_path / "part-000000.parquet", told, {}, CONFIG)
    assert (dict(counts), rejects.num_rows) == ({"told": 1}, 0)
    assert not (tmp_path / "part-000000.parquet").exists()


def test_a_file_that_was_written_later_knows_better(items: Path, tmp_path: Path) -> None:
    told = collected(Layout(tmp_path / "out"), items=[change("a", {"title": "Pot"}, at=100.0)])
    assert tell(items, told, written=101.0)[0]["a"]["text"] == "Kettle"
    assert tell(items, told, written=99.0)[0]["a"]["text"] == "Pot"


def test_a_change_that_does_not_fit_is_set_aside_and_the_row_stays(items: Path, tmp_path: Path) -> None:
    told = collected(
        Layout(tmp_path / "out"), items=[change("a", {"price": "dear"}), change("n", {"price": "dear"})]
    )
    rows, counts = tell(items, told)
    assert rows["a"]["price"] == 9.5
    assert "n" not in rows
    assert counts["told_set_aside"] == 2


PART = {"item_id": ["b"], "title": ["Pot"], "price": [9.5]}


@pytest.mark.parametrize("price", [{"price": [9]}, {"price": [None]}, {}], ids=["whole", "empty", "absent"])
def test_what_may_be_said_is_of_the_whole_table_not_of_one_part(
    tmp_path: Path, price: dict[str, list[Any]]
) -> None:
    narrow = {"item_id": ["a"], "title": ["Kettle"], **price}
    paths = [staged(tmp_path / f"part-{n}.parquet", "items", part) for n, part in enumerate((narrow, PART))]
    told = collected(Layout(tmp_path / "out"), items=[change("a", {"price": 31.5}, is_whole=False)])
    counts, _ = tell_items(paths, tmp_path / "part-2.parquet", told, {}, CONFIG)
    assert counts == {"told": 1, "told_changed": 1, "told_new": 0, "told_set_aside": 0}
    (row,) = pq.read_table(paths[0]).to_pylist()
    assert (row["price"], row["title"]) == (31.5, "Kettle")


def test_numbers_of_a_column_that_has_become_one_of_texts(tmp_path: Path) -> None:
    columns = {"item_id": ["a", "b"], "title": ["Kettle", "Pot"], "price": ["9.5", "ask us"]}
    path, target = staged(tmp_path / "part-0.parquet", "items", columns), tmp_path / "part-1.parquet"
    changes = [change("a", {"price": 31.5}, is_whole=False), change("new", {"title": "Tent", "price": None})]
    told = collected(Layout(tmp_path / "out"), items=changes)
    assert tell_items([path], target, told, {}, CONFIG)[0]["told_set_aside"] == 0
    assert pq.read_table(path).column("price").to_pylist() == ["31.5", "ask us"]
    assert pq.read_table(target).column("price").to_pylist() == [None]


def test_vectors_stay_whatever_is_said_of_an_item(tmp_path: Path) -> None:
    """No caller of the service can give them."""
    columns = {"item_id": ["a"], "title": ["Kettle"], "price": [9.5], "look": [[1.0, 2.0]]}
    path = staged(tmp_path / "part-0.parquet", "items", columns)
    told = collected(Layout(tmp_path / "out"), items=[change("a", {"title": "Pot"})])
    config = Config(data=DataConfig(vectors={"look": 1.0}))
    tell_items([path], tmp_path / "part-1.parquet", told, {}, config)
    (row,) = pq.read_table(path).to_pylist()
    assert (row["title"], row["price"], row["look"]) == ("Pot", None, [1.0, 2.0])


def test_words_of_users_take_the_place_of_the_tables(tmp_path: Path) -> None:
    path = staged(
        tmp_path / "part-000000.parquet", "users", {"user_id": ["u", "v"], "description": ["old", "stays"]}
    )
    target = tmp_path / "part-000001.parquet"
    said = [{"user_id": "u", "text": "喜欢茶"}, {"user_id": "w", "text": "new here"}]
    assert tell_users([path], target, collected(Layout(tmp_path / "out"), users=said))["told"] == 2
    assert pq.read_table(path).column("text").to_pylist() == ["喜欢茶", "stays"]
    assert pq.read_table(target).column("user_id").to_pylist() == ["w"]


def test_events_are_weighed_as_the_service_does() -> None:
    events = [
        ("u", "a", "purchase", 2.0, 5.0), ("u", "b", None, 1.0, 6.0), ("v", "a", "dislike", 1.0, 7.0),
        ("v", "unheard", "click", 1.0, 8.0), ("v", "b", "hovered", 1.0, 9.0),
    ]  # fmt: skip
    names = INTERACTIONS_TOLD.names
    rows = pa.Table.from_pylist([dict(zip(names, e, strict=True)) for e in events], INTERACTIONS_TOLD)
    rows = rows.append_column(ROW, pa.array(range(1, 6), pa.int64()))
    config = Config(data=DataConfig(like_threshold=4.0))  # of the ratings in the tables, not of these
    checked = check_told(Chunk("interactions", 0, "", "told", None, 0), rows, config, pa.array(["a", "b"]))
    assert checked.table.column("weight").to_pylist() == [6.0, 1.0, -1.0]
    assert checked.table.column("item_idx").to_pylist() == [0, 1, 0]
    assert dict(checked.counts) == {"told": 5, "told_set_aside": 2}, "no rejects: the tables are not to blame"
    assert "hovered" in checked.rejects.column("record")[1].as_py()


def test_a_store_of_an_older_backup_brings_nobody_back(tmp_path: Path) -> None:
    forgotten = Forgotten({user_hash("u"): 100.0})
    names = INTERACTIONS_TOLD.names
    events = [("u", "a", None, 1.0, 99.0), ("u", "a", None, 1.0, 101.0), ("v", "b", None, 1.0, 99.0)]
    rows = pa.Table.from_pylist([dict(zip(names, e, strict=True)) for e in events], INTERACTIONS_TOLD)
    rows = rows.append_column(ROW, pa.array(range(1, 4), pa.int64()))
    left_out = LeftOut(forgotten, pa.array(["b"]))
    checked = check_told(
        Chunk("interactions", 0, "", "told", None, 0), rows, CONFIG, pa.array(["a"]), left_out
    )
    assert checked.table.column("timestamp").to_pylist() == [101.0], "of later, and of an item that is shown"
    assert dict(checked.counts) == {"told": 3, "forgotten": 1, "withdrawn": 1, "told_set_aside": 0}
    target = tmp_path / "part.parquet"
    for moment, n_told in ((99.0, 0), (101.0, 1)):
        said = [{"user_id": "u", "text": "words", "updated_at": moment}]
        found = collected(Layout(tmp_path / "out"), users=said)
        assert tell_users([], target, found, forgotten)["told"] == n_told
        assert target.exists() == bool(n_told)


def test_withdrawn_items_are_left_out_and_counted(tmp_path: Path) -> None:
    told = collected(Layout(tmp_path), items=[change("b", None), change("c", {"title": "back again"})])
    assert told.withdrawn.to_pylist() == ["b"]
    left_out = LeftOut(withdrawn=told.withdrawn)

    def numbered(columns: dict[str, list[str]]) -> pa.Table:
        return pa.table(columns).append_column(ROW, pa.array(range(1, 3), pa.int64()))

    def chunk(table: TableName) -> Chunk:
        return Chunk(table, 0, "", table, None, 0)

    of_items = check_entities(
        chunk("items"), numbered({"item_id": ["a", " b"], "title": ["A", "B"]}), [], CONFIG, left_out
    )
    touched = numbered({"user_id": ["u", "u"], "item_id": ["a", "b"]})
    of_pairs = check_interactions(chunk("interactions"), touched, [], CONFIG, pa.array(["a"]), left_out)
    related = numbered({"item_id": ["a", "a"], "relation": ["with", "with"], "other_id": ["b", "c"]})
    of_relations = check_relations(chunk("relations"), related, [], CONFIG, pa.array(["a", "c"]), left_out)
    for checked in (of_items, of_pairs, of_relations):
        assert (checked.table.num_rows, checked.counts["withdrawn"], checked.counts["rejected"]) == (1, 1, 0)


def test_a_shop_that_was_withdrawn_to_the_last_item_is_told_so() -> None:
    counts = {"items": Counter(read=3, withdrawn=3, rejected=0), "interactions": Counter(kept=9)}
    ((table, message),) = problems(counts, 5, CONFIG)
    assert (table, "3 read, 0 rejected, 3 withdrawn" in message) == ("items", True)


def test_what_is_collected_is_whole_or_absent(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert Collected.read(layout) is None
    said = [{"user_id": "u", "text": "words"}]
    first = collected(layout, users=said)
    assert collected(layout, users=said).digest == first.digest, "the same again is the same"
    assert collected(layout, users=[*said, *said]).digest != first.digest

    def broken() -> Iterator[list[dict[str, Any]]]:
        yield said
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_collected(layout, POINT, {"interactions": (), "users": broken(), "items": ()})
    found = Collected.read(layout)
    assert found is not None
    assert found.table("users").num_rows == 2
    assert write_collected(layout, StorePoint("s1"), {"interactions": (), "users": (), "items": ()}) is None
    assert not layout.collected.exists()


@pytest.mark.parametrize("said", [7, {}, {"store": "s", "events": "many", "items": 0}])
def test_a_manifest_that_says_nonsense_of_the_store(said: object) -> None:
    with pytest.raises(ArtefactError, match="of the store"):
        StorePoint.of_manifest({"version": "v1", "store": said})
    assert StorePoint.of_manifest({"version": "v1"}).of("s1") == StorePoint()
    assert (POINT.of("s1"), POINT.of("another")) == (POINT, StorePoint())
