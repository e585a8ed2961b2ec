"""Raw rows to clean rows and rejects: every row read is kept, rejected or left out by a rule that counts it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.config import Config, DataConfig, PrivacyConfig
from pipelines.core.errors import InputError
from pipelines.core.readers import Chunk, cut_chunks, find_files, read_chunk
from pipelines.core.schema import INTERACTIONS, REJECTS, ROW, TableName
from pipelines.core.text_files import BadRow, json_array
from pipelines.core.validate import Checked, check_entities, check_interactions, rename_columns

ITEM_IDS = pa.array(["a", "b", "茶"])
RATINGS = Config(data=DataConfig(like_threshold=4.0))


def balanced(checked: Checked) -> Checked:
    """`checked`, after the books were found to add up."""
    counts = checked.counts
    left_out = counts["below_like_threshold"]
    assert counts["read"] == checked.table.num_rows + counts["rejected"] + left_out
    assert counts["rejected"] == checked.rejects.num_rows
    assert checked.rejects.schema == REJECTS
    return checked


def numbered(columns: dict[str, object]) -> pa.Table:
    table = pa.table(columns)
    return table.append_column(ROW, pa.array(range(1, table.num_rows + 1), pa.int64()))


def check(
    table: TableName, columns: dict[str, object], config: Config | None = None, bad: Sequence[BadRow] = ()
) -> Checked:
    chunk, rows, settings = (
        Chunk(table, 0, "data", f"data/{table}.csv", None, 0),
        numbered(columns),
        config or Config(),
    )
    if table == "interactions":
        return balanced(check_interactions(chunk, rows, list(bad), settings, ITEM_IDS))
    return balanced(check_entities(chunk, rows, list(bad), settings))


def clicks(n: int, **columns: object) -> dict[str, object]:
    """`n` rows of one user and one item, and other columns."""
    return {"user_id": ["u"] * n, "item_id": ["a"] * n, **columns}


def reasons(checked: Checked) -> dict[int, str]:
    return dict(
        zip(
            checked.rejects.column("row").to_pylist(),
            checked.rejects.column("reason").to_pylist(),
            strict=True,
        )
    )


def test_an_item_becomes_its_text() -> None:
    columns = {
        "item_id": ["a", "b", None],
        "title": ["<b>青花</b>茶壶", None, "lost"],
        "brand": ["Acme", "", None],
        "categories": [["Kitchen", "Tea"], None, []],
        "description": ["Holds 1 l", None, None],
        "price": [3.5, None, 1.0],
    }
    checked = check("items", columns)
    assert checked.table.column("text").to_pylist() == ["青花茶壶. Acme. Kitchen, Tea. Holds 1 l", ""]
    assert checked.table.column("title").to_pylist() == ["青花茶壶", None]
    assert checked.table.column("price").to_pylist() == [3.5, None]
    assert checked.table.column("_row").to_pylist() == [1, 2]
    assert checked.table.column("is_hidden").to_pylist() == [False, False]
    assert checked.counts["without_text"] == 1
    assert reasons(checked) == {3: "item_id is missing"}


def test_hidden_items_stay_and_are_marked() -> None:
    checked = check("items", {"item_id": ["a", "b", "c"], "is_hidden": ["yes", None, "perhaps"]})
    assert checked.table.column("is_hidden").to_pylist() == [True, False]
    assert reasons(checked) == {3: "is_hidden is 'perhaps', expected true or false"}


def test_long_texts_are_cut_and_counted() -> None:
    checked = check("items", {"item_id": ["a", "b"], "title": ["short", "word " * 200_000]})
    texts = checked.table.column("text").to_pylist()
    assert checked.counts["texts_cut"] == 1
    assert 19_970 < len(texts[1]) <= 20_000


@pytest.mark.parametrize(
    ("values", "kind"),
    [([b"x", None], "bytes"), ([{"en": "x"}, None], "dict"), ([[{"en": "x"}], None], "dict")],
)
def test_what_has_no_reading_as_text_is_rejected(values: list[object], kind: str) -> None:
    checked = check("items", {"item_id": ["a", "b"], "title": values})
    assert list(reasons(checked)) == [1]
    assert f"column 'title' holds a {kind}" in reasons(checked)[1]


def test_personal_data_leaves_user_texts() -> None:
    columns = {
        "user_id": ["u", "v"],
        "description": ["write to jane@example.com or +44 20 7946 0958", "喜欢喝茶"],
        "age": [30, 40],
    }
    checked = check("users", columns)
    assert checked.table.column("text").to_pylist() == ["write to [email] or [phone]", "喜欢喝茶"]
    assert "description" not in checked.table.column_names
    assert checked.table.column("age").to_pylist() == [30, 40]
    assert (checked.counts["scrubbed_email"], checked.counts["scrubbed_phone"]) == (1, 1)
    assert "is_hidden" not in checked.table.column_names


def test_rejected_users_leave_no_text_behind() -> None:
    checked = check("users", {"user_id": ["u" * 600, "v"], "description": ["jane@example.com", ""]})
    (record,) = checked.rejects.column("record").to_pylist()
    assert "example.com" not in record
    assert checked.rejects.column("table").to_pylist() == ["users"]


def test_scrubbing_can_be_switched_off() -> None:
    config = Config(privacy=PrivacyConfig(scrub_user_text=False))
    checked = check("users", {"user_id": ["u"], "description": ["jane@example.com"]}, config)
    assert checked.table.column("text").to_pylist() == ["jane@example.com"]


def test_items_are_not_scrubbed() -> None:
    checked = check("items", {"item_id": ["a"], "title": ["support@example.com sticker"]})
    assert checked.table.column("text").to_pylist() == ["support@example.com sticker"]


def test_bad_rows_of_the_reader_are_rejects_too() -> None:
    bad = [BadRow(7, "not JSON"), BadRow(0, "the file cannot be read")]
    for table in ("items", "users", "interactions"):
        columns = clicks(1) if table == "interactions" else {f"{table[:-1]}_id": ["a"]}
        checked = check(table, columns, bad=bad)
        assert (checked.counts["read"], checked.counts["rejected"]) == (3, 2)
        empty = check(table, {}, bad=bad)
        assert (empty.counts["read"], empty.counts["rejected"], empty.table.num_rows) == (2, 2, 0)


def test_a_missing_column_says_what_to_do() -> None:
    with pytest.raises(InputError) as error:
        check("items", {"asin": ["a"], "title": ["x"]})
    message = str(error.value)
    assert message.startswith("data/items.csv: column 'item_id' is missing; the file has: asin, title.")
    assert 'data.columns = {item_id = "<your column>"}' in message
    with pytest.raises(InputError, match="'user_id' is missing; the file has: item_id"):
        check("interactions", {"item_id": ["a"]})


def test_an_empty_table_misses_nothing() -> None:
    checked = check("items", {"asin": pa.array([], pa.string())})
    assert (checked.table.num_rows, dict(checked.counts)) == (0, {})
    assert check("interactions", {"x": pa.array([], pa.string())}).table.schema == INTERACTIONS


@pytest.mark.parametrize("name", ["n_interactions", "_source", "_row"])
def test_names_that_are_taken(name: str) -> None:
    with pytest.raises(
        InputError, match=rf"column '{name}' has a name Kindling uses itself. Rename it, or set"
    ):
        check("items", {"item_id": ["a"], name: [1]})
    renamed = Config(data=DataConfig(columns={"mine": name}))
    assert check("items", {"item_id": ["a"], name: [1]}, renamed).table.column("mine").to_pylist() == [1]


def test_renamed_columns() -> None:
    config = Config(data=DataConfig(columns={"item_id": "asin", "user_id": "uid", "weight": "stars"}))
    checked = check("interactions", {"uid": ["u"], "asin": ["b"], "stars": [3.0]}, config)
    assert checked.table.select(["user_id", "item_idx", "weight"]).to_pylist() == [
        {"user_id": "u", "item_idx": 1, "weight": 3.0}
    ]


def test_a_renamed_column_wins_over_one_of_our_name() -> None:
    config = Config(data=DataConfig(columns={"item_id": "asin"}))
    checked = check("items", {"item_id": [1, 2], "asin": ["a", "b"]}, config)
    assert checked.table.column("item_id").to_pylist() == ["a", "b"]


def test_two_columns_can_swap_names() -> None:
    config = Config(data=DataConfig(columns={"item_id": "title", "title": "item_id"}))
    checked = check("items", {"item_id": ["Teapot"], "title": ["a"]}, config)
    assert checked.table.select(["item_id", "title"]).to_pylist() == [{"item_id": "a", "title": "Teapot"}]


@pytest.mark.parametrize("order", [("item_id", "user_id"), ("user_id", "item_id")])
def test_one_name_of_theirs_for_several_of_ours(order: tuple[str, str]) -> None:
    columns = dict.fromkeys(order, "id")
    for table, expected in (("items", "item_id"), ("users", "user_id")):
        chunk = Chunk(table, 0, "", f"{table}.csv", None, 0)  # type: ignore[arg-type]
        assert rename_columns(numbered({"id": ["a"]}), columns, chunk).column_names == [expected, ROW]


def test_interactions() -> None:
    columns = {
        "user_id": [1, 2, 2, 3],
        "item_id": ["a", "茶", " b ", "unknown"],
        "weight": [2.0, None, 1.0, 1.0],
        "timestamp": ["2020-01-01", None, "1577836801", None],
        "event": ["click", "purchase", None, "click"],
        "note": ["not", "kept", "at", "all"],
    }
    checked = check("interactions", columns)
    assert checked.table.schema == INTERACTIONS
    assert checked.table.to_pylist() == [
        {"user_id": "1", "item_idx": 0, "weight": 2.0, "timestamp": 1577836800.0, "event": "click"},
        {"user_id": "2", "item_idx": 2, "weight": 3.0, "timestamp": None, "event": "purchase"},
        {"user_id": "2", "item_idx": 1, "weight": 1.0, "timestamp": 1577836801.0, "event": None},
    ]
    assert reasons(checked) == {4: "item_id is not in the items table"}


def test_weights() -> None:
    weights = [1.0, None, 0.0, -0.0, -1.0, float("nan"), float("inf"), 1e300, 1e-300, 1e6, 1.1e6]
    checked = check("interactions", clicks(len(weights), weight=weights))
    assert checked.table.column("weight").to_pylist() == [1.0, 1.0, 1e6]
    assert reasons(checked) == {
        3: "weight is 0, which says nothing; leave the row out",
        4: "weight is 0, which says nothing; leave the row out",
        5: "weight is negative; say 'dislike' with an event instead",
        6: "weight is not finite",
        7: "weight is not finite",
        8: "weight is above 1000000; divide all weights",
        9: "weight is 0, which says nothing; leave the row out",
        11: "weight is above 1000000; divide all weights",
    }


def test_weights_written_as_text() -> None:
    checked = check("interactions", clicks(5, weight=["3.5", "abc", "nan", None, "true"]))
    assert checked.table.column("weight").to_pylist() == [3.5, 1.0]
    assert reasons(checked) == {
        2: "weight is 'abc', expected a number",
        3: "weight is NaN, expected a finite number",
        5: "weight is 'true', expected a number",
    }


def test_weights_that_are_true_or_false() -> None:
    assert len(reasons(check("interactions", clicks(2, weight=[True, False])))) == 2


def test_events() -> None:
    checked = check(
        "interactions", clicks(5, event=["dislike", "", None, "teleport", "like"], weight=[2.0] * 5)
    )
    assert checked.table.column("weight").to_pylist() == [-2.0, 2.0, 2.0, 4.0]
    assert reasons(checked) == {4: "event 'teleport' has no weight in data.event_weights"}


def test_ratings_become_likes() -> None:
    weights = [5.0, 4.0, 3.9, 0.0, None, -1.0, 5.0]
    events = [None, None, None, None, None, None, "dislike"]
    checked = check("interactions", clicks(7, weight=weights, event=events), RATINGS)
    assert checked.table.column("weight").to_pylist() == [1.0, 1.0]
    assert checked.counts["below_like_threshold"] == 3
    assert reasons(checked) == {
        5: "weight is missing, and data.like_threshold needs one",
        6: "weight is negative; say 'dislike' with an event instead",
    }


def test_timestamps() -> None:
    times = [1577836800.0, 1577836800000.0, float("inf"), None]
    checked = check("interactions", clicks(4, timestamp=times))
    assert checked.table.column("timestamp").to_pylist() == [1577836800.0, None]
    assert list(reasons(checked)) == [2, 3]


def test_rejects_name_the_row_and_show_no_more_than_ids_and_numbers() -> None:
    checked = check("interactions", clicks(1, weight=["x"], note=["jane@example.com"]))
    (row,) = checked.rejects.to_pylist()
    assert (row["table"], row["source"], row["row"]) == ("interactions", "data/interactions.csv", 1)
    assert json.loads(row["record"]) == {"user_id": "u", "item_id": "a", "weight": "x"}


def test_chinese_from_file_to_clean_table(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("商品,title\n茶-1,<p>青花茶壶</p>\n,无\n", encoding="utf-8")
    config = Config(data=DataConfig(columns={"item_id": "商品"}))
    (chunk,) = cut_chunks(str(tmp_path), "items", find_files(str(tmp_path), "items"))
    checked = balanced(check_entities(chunk, *read_chunk(chunk), config))
    assert checked.table.select(["item_id", "text"]).to_pylist() == [{"item_id": "茶-1", "text": "青花茶壶"}]
    assert reasons(checked) == {2: "item_id is missing"}


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5) | st.binary(max_size=3)
    | st.datetimes() | st.dates() | st.timedeltas() | st.decimals(places=2, min_value=-999, max_value=999)
    | st.sampled_from(["a", "b", "click", "dislike", "3.5", "1e7", "nan", "2024-01-01", "yes", 1.0, 5])
)  # fmt: skip
VALUES = (
    SCALARS
    | st.lists(SCALARS, max_size=2)
    | st.dictionaries(st.text(max_size=2), SCALARS, min_size=1, max_size=2)
)


@st.composite
def any_columns(draw: st.DrawFn, names: tuple[str, ...]) -> dict[str, pa.Array]:
    """Columns of any type Arrow has for the values; some are missing."""
    n = draw(st.integers(0, 4))
    columns = {}
    for name in draw(st.lists(st.sampled_from(names), unique=True)):
        values = draw(st.lists(VALUES, min_size=n, max_size=n) | st.lists(SCALARS, min_size=1, max_size=1).map(lambda v, n=n: v * n))  # fmt: skip  # noqa: E501
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            columns[name] = json_array([None if v is None else str(v) for v in values])
    return columns


@settings(max_examples=150, deadline=None)
@given(
    any_columns(("item_id", "user_id", "title", "description", "is_hidden", "weight", "timestamp", "event")),
    st.sampled_from(["items", "users", "interactions"]),
    st.booleans(),
)
def test_any_rows_are_kept_rejected_or_refused_as_input(
    tmp_path_factory: pytest.TempPathFactory, columns: dict[str, object], table: TableName, ratings: bool
) -> None:
    folder = tmp_path_factory.mktemp("any")
    pq.write_table(pa.table(columns), folder / f"{table}.parquet")
    (chunk,) = cut_chunks(str(folder), table, find_files(str(folder), table))
    config = RATINGS if ratings else Config()
    rows, bad = read_chunk(chunk)
    try:
        if table == "interactions":
            checked = balanced(check_interactions(chunk, rows, bad, config, ITEM_IDS))
        else:
            checked = balanced(check_entities(chunk, rows, bad, config))
    except InputError:
        return
    assert checked.counts["read"] == len(next(iter(columns.values()), []))
    if checked.table.num_columns:
        pq.write_table(checked.table, folder / "clean.parquet")
