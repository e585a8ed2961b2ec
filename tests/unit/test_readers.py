"""Tables found, cut and read: every row comes back once, or is a bad row with its number."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from pipelines.core import readers, text_files
from pipelines.core.errors import InputError
from pipelines.core.readers import Chunk, cut_chunks, find_files, open_filesystem, read_chunk
from pipelines.core.schema import ROW
from pipelines.core.text_files import BadRow, read_csv, read_json_lines

ROWS = [{"item_id": "a", "title": "茶壶, 青花"}, {"item_id": "b", "title": 'says "hi"'}]
CSV = 'item_id,title\na,"茶壶, 青花"\nb,"says ""hi"""\n'.encode()
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
FORMATS = {
    "items.csv": CSV,
    "items.tsv": CSV.replace(b'a,"', b'a\t"').replace(b"b,", b"b\t").replace(b"id,", b"id\t"),
    "items.jsonl": JSONL,
    "items.ndjson": JSONL,
}
BAD_UTF8 = pa.StringArray.from_buffers(
    2, pa.py_buffer(np.array([0, 1, 2], dtype=np.int32)), pa.py_buffer(b"\xffa")
)


def read_all(uri: str, name: str = "items") -> tuple[list[dict[str, object]], list[BadRow]]:
    """Every row of a table, and the bad ones, over all chunks."""
    rows: list[dict[str, object]] = []
    bad: list[BadRow] = []
    for chunk in cut_chunks(uri, "items", find_files(uri, name)):
        table, bad_here = read_chunk(chunk)
        rows += table.to_pylist()
        bad += bad_here
    return rows, bad


def read_bytes(tmp_path: Path, name: str, raw: bytes) -> tuple[list[dict[str, object]], list[BadRow]]:
    path = tmp_path / name
    path.write_bytes(raw)
    table, bad = read_chunk(Chunk("items", 0, str(tmp_path), str(path), None, 0))
    return table.to_pylist(), bad


def test_parquet_of_several_row_groups_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_ROWS_PER_CHUNK", 5)
    (tmp_path / "items").mkdir()
    pq.write_table(pa.table({"n": range(13)}), tmp_path / "items/a.parquet", row_group_size=3)
    pq.write_table(pa.table({"n": range(13, 17)}), tmp_path / "items/b.parquet", row_group_size=2)
    pq.write_table(pa.table({"n": pa.array([], pa.int64())}), tmp_path / "items/c.parquet")
    chunks = cut_chunks(str(tmp_path), "items", find_files(str(tmp_path), "items"))
    assert [(Path(c.path).name, c.row_groups, c.first_row) for c in chunks] == [
        ("a.parquet", (0, 2), 0), ("a.parquet", (2, 4), 6), ("a.parquet", (4, 5), 12),
        ("b.parquet", (0, 2), 0), ("c.parquet", (0, 1), 0),
    ]  # fmt: skip
    assert [c.number for c in chunks] == list(range(5))
    rows, bad = read_all(str(tmp_path))
    assert not bad
    assert [row["n"] for row in rows] == list(range(17))
    assert [row[ROW] for row in rows] == [*range(1, 14), *range(1, 5)]


def test_parquet_without_row_groups(tmp_path: Path) -> None:
    with pq.ParquetWriter(tmp_path / "items.parquet", pa.schema([("item_id", pa.string())])):
        pass
    assert read_all(str(tmp_path)) == ([], [])


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_text_format(tmp_path: Path, name: str, zipped: bool) -> None:
    raw = FORMATS[name]
    path = tmp_path / (name + ".gz" if zipped else name)
    path.write_bytes(gzip.compress(raw) if zipped else raw)
    rows, bad = read_all(str(tmp_path))
    assert (rows, bad) == ([row | {ROW: n} for n, row in enumerate(ROWS, start=1)], [])


def test_files_of_a_folder_in_order_and_of_any_format(tmp_path: Path) -> None:
    (tmp_path / "items/more").mkdir(parents=True)
    (tmp_path / "items/2.jsonl").write_bytes(b'{"item_id":"b"}\n')
    (tmp_path / "items/1.csv").write_bytes(b"item_id\na\n")
    (tmp_path / "items/more/3.csv.gz").write_bytes(gzip.compress(b"item_id\nc\n"))
    (tmp_path / "items/README.txt").write_text("not data")
    rows, _ = read_all(str(tmp_path))
    assert [row["item_id"] for row in rows] == ["a", "b", "c"]


def test_other_names_are_other_tables(tmp_path: Path) -> None:
    (tmp_path / "items_old.csv").write_bytes(CSV)
    (tmp_path / "my.items.csv").write_bytes(CSV)
    assert find_files(str(tmp_path), "items") == []
    assert len(find_files(str(tmp_path), "my.items")) == 1


def test_a_changed_file_is_another_file(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_bytes(CSV)
    before = find_files(str(tmp_path), "items")
    path.write_bytes(CSV + b"c,d\n")
    assert find_files(str(tmp_path), "items") != before


@pytest.mark.parametrize("second", ["items.jsonl", "items/part.csv"])
def test_a_table_given_twice(tmp_path: Path, second: str) -> None:
    (tmp_path / "items.csv").write_bytes(CSV)
    (tmp_path / second).parent.mkdir(exist_ok=True)
    (tmp_path / second).write_bytes(JSONL)
    with pytest.raises(InputError, match=r"'items' more than once: items\.csv, items.*Keep one"):
        find_files(str(tmp_path), "items")


def test_addresses_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ftp://host/data.*Give a folder"):
        open_filesystem("ftp://host/data")
    with pytest.raises(InputError, match="cannot be listed"):
        find_files(str(tmp_path / "absent"), "items")
    file = tmp_path / "items.csv"
    file.write_bytes(CSV)
    with pytest.raises(InputError, match="cannot be listed"):
        find_files(str(file), "items")


def test_a_file_address_is_a_local_path(tmp_path: Path) -> None:
    (tmp_path / "茶 items").mkdir()
    (tmp_path / "茶 items/items.csv").write_bytes(CSV)
    assert len(read_all(str(tmp_path / "茶 items"))[0]) == 2
    assert len(read_all(f"file://{quote(str(tmp_path / '茶 items'))}")[0]) == 2


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("items.parquet", b"PAR1 this is not Parquet PAR1"),
        ("items.parquet", b""),
        ("items.csv.gz", b"not gzip"),
        ("items.csv.gz", gzip.compress(CSV * 999, mtime=0)[:-20]),
        ("items.jsonl.gz", gzip.compress(JSONL * 99, mtime=0)[:12] + b"\xff" * 30),
        ("items.csv", CSV.decode().encode("utf-16")),
        ("items.csv", b"\xff,title\n1,2\n"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_bad_row(tmp_path: Path, name: str, raw: bytes) -> None:
    (tmp_path / name).write_bytes(raw)
    assert len(cut_chunks(str(tmp_path), "items", find_files(str(tmp_path), "items"))) == 1
    rows, bad = read_all(str(tmp_path))
    assert rows == []
    assert [b.row for b in bad] == [0]
    assert bad[0].reason.startswith("the file cannot be read: ")


def test_truncated_parquet_is_one_chunk_and_one_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"n": range(1000)}), path, row_group_size=100)
    path.write_bytes(path.read_bytes()[:-100])
    rows, bad = read_all(str(tmp_path))
    assert (rows, [b.row for b in bad]) == ([], [0])


def test_corrupt_pages_spoil_their_chunk_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_ROWS_PER_CHUNK", 1)
    path = tmp_path / "items.parquet"
    words = pa.table({"t": [f"some text {n % 7}" * 30 for n in range(200)]})
    pq.write_table(words, path, row_group_size=100, compression="zstd", use_dictionary=False)
    raw = bytearray(path.read_bytes())
    first = pq.read_metadata(path).row_group(0).column(0).data_page_offset
    raw[first : first + 60] = b"\xff" * 60
    path.write_bytes(raw)
    rows, bad = read_all(str(tmp_path))
    assert [row[ROW] for row in rows] == list(range(101, 201))
    assert [b.row for b in bad] == [0]


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["茶", None], pa.large_string()),
        pa.array(["茶", None], pa.string_view()),
        pa.array(["茶", None]).dictionary_encode(),
    ],
    ids=lambda a: str(a.type)[:12],
)
def test_every_kind_of_string_is_one_kind(tmp_path: Path, array: pa.Array) -> None:
    pq.write_table(pa.table({"title": array}), tmp_path / "items.parquet")
    (chunk,) = cut_chunks(str(tmp_path), "items", find_files(str(tmp_path), "items"))
    table, _ = read_chunk(chunk)
    assert table.column("title").type == pa.string()
    assert table.column("title").to_pylist() == ["茶", None]


def test_repeated_values_in_lists_of_several_row_groups(tmp_path: Path) -> None:
    """Categories of categories, as data frames write them; Arrow cannot read two such groups at once."""
    tags = pa.ListArray.from_arrays(pa.array([0, 2, 2, 3]), pa.array(["茶", "伞", "茶"]).dictionary_encode())
    pq.write_table(pa.table({"tags": tags}), tmp_path / "items.parquet", row_group_size=1)
    (chunk,) = cut_chunks(str(tmp_path), "items", find_files(str(tmp_path), "items"))
    table, bad = read_chunk(chunk)
    assert not bad
    assert table.column("tags").to_pylist() == [["茶", "伞"], [], ["茶"]]
    assert table.column("tags").type == pa.list_(pa.string())
    assert table.column(ROW).to_pylist() == [1, 2, 3]


def test_every_kind_of_list_bytes_and_fraction_is_one_kind(tmp_path: Path) -> None:
    columns = pa.table(
        {
            "a": pa.array([["x"], None], pa.large_list(pa.large_string())),
            "b": pa.array([["x"], ["y"]], pa.list_(pa.string(), 1)),
            "c": pa.array([b"x", None], pa.large_binary()),
            "d": pa.array([1.5, None], pa.float16()),
        }
    )
    pq.write_table(columns, tmp_path / "items.parquet")
    (chunk,) = cut_chunks(str(tmp_path), "items", find_files(str(tmp_path), "items"))
    table, _ = read_chunk(chunk)
    assert table.schema.types[:4] == [pa.list_(pa.string()), pa.list_(pa.string()), pa.binary(), pa.float32()]


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (BAD_UTF8, "column x is not UTF-8"),
        (pa.ListArray.from_arrays([0, 1, 2], BAD_UTF8), "column x is not UTF-8"),
        (pa.array([2**62, 0], pa.timestamp("ms")), "column x cannot be read"),
        (pa.array([2**30, 0], pa.date32()), "column x cannot be read"),
        (pa.array([[2**62], [0]], pa.list_(pa.timestamp("ms"))), "column x cannot be read"),
        (pa.StructArray.from_arrays([BAD_UTF8], names=["y"]), "column x is not UTF-8"),
    ],
    ids=["text", "list", "timestamp", "date", "list of timestamps", "text in a structure"],
)
def test_unreadable_values_in_parquet_spoil_their_row_only(
    tmp_path: Path, column: pa.Array, reason: str
) -> None:
    pq.write_table(pa.table({"x": column}), tmp_path / "items.parquet")
    rows, bad = read_all(str(tmp_path))
    assert [row[ROW] for row in rows] == [2]
    assert [b.row for b in bad] == [1]
    assert bad[0].reason.startswith(reason)


@pytest.mark.parametrize("name", ["items.csv", "items.parquet"])
def test_two_columns_of_one_name(tmp_path: Path, name: str) -> None:
    if name == "items.csv":
        (tmp_path / name).write_bytes(b"item_id,title,title\n1,2,3\n")
    else:
        arrays = [pa.array(["1"]), pa.array(["2"]), pa.array(["3"])]
        pq.write_table(pa.Table.from_arrays(arrays, names=["item_id", "title", "title"]), tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}: 2 columns are named 'title'\. Rename"):
        read_all(str(tmp_path))


def test_the_readers_own_column_name_is_taken(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_bytes(b'{"__row": 7}\n')
    with pytest.raises(InputError, match="'__row' is a name Kindling uses itself"):
        read_all(str(tmp_path))


def test_json_lines_that_are_no_rows(tmp_path: Path) -> None:
    lines = [
        b'{"a": 1}',
        b"{bad",
        b"[1]",
        b'"text"',
        b"null",
        b'{"a": "\xff"}',
        b"",
        b"  ",
        b'{"a": 2} {"a": 3}',
    ]
    lines += [b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b'{"a": 4}\r', b"{}"]
    rows, bad = read_bytes(tmp_path, "items.jsonl", b"\n".join(lines))
    assert rows == [{"a": 1, ROW: 1}, {"a": 4, ROW: 12}, {"a": None, ROW: 13}]
    assert [b.row for b in bad] == [2, 3, 4, 5, 6, 9, 10, 11]
    assert [b.reason.split(":")[0] for b in bad] == [
        "not JSON", "expected a JSON object, got list", "expected a JSON object, got str",
        "expected a JSON object, got NoneType", "not UTF-8 at byte 7 of the line", "not JSON", "not JSON", "not JSON",
    ]  # fmt: skip


def test_json_lines_without_any_key_are_rows_all_the_same() -> None:
    table, bad = read_json_lines(b"{}\n{}\n")
    assert (table.num_rows, bad) == (2, [])
    assert read_json_lines(b"")[0].num_rows == 0


def test_lone_surrogates_stay_visible() -> None:
    table, bad = read_json_lines(
        b'{"id": "a\\ud800", "x": {"\\udfff": 1}, "\\ud800": "\\ud83d\\ude00"}\n{"id": "a"}'
    )
    assert not bad
    assert table.to_pylist()[0] == {"id": "a�", "x": '{"�": 1}', "�": "😀", ROW: 1}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, "x", None, [1], {"b": "茶"}, True], ["1", "x", None, "[1]", '{"b": "茶"}', "true"]),
        ([2**64, 1.5], ["18446744073709551616", "1.5"]),
        ([2**63, -1], ["9223372036854775808", "-1"]),
        ([{}], ["{}"]),
        ([[[]], [[{}]]], ["[[]]", "[[{}]]"]),
        ([None, None], [None, None]),
        ([1, 2.5], [1.0, 2.5]),
        ([{"a": 1}, {"b": "x"}], [{"a": 1, "b": None}, {"a": None, "b": "x"}]),
    ],
)
def test_json_types_that_clash_become_text(
    tmp_path: Path, values: list[object], expected: list[object]
) -> None:
    raw = "".join(json.dumps({"x": v}) + "\n" for v in values).encode()
    table, bad = read_json_lines(raw)
    assert not bad
    assert table.column("x").to_pylist() == expected
    pq.write_table(table, tmp_path / "written.parquet")


def test_deep_nesting_becomes_text(tmp_path: Path) -> None:
    raw = b'{"x": ' + b"[" * 500 + b"]" * 500 + b', "y": ' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}\n"
    table, _ = read_json_lines(raw)
    assert table.schema.types[:2] == [pa.string(), pa.string()]
    pq.write_table(table, tmp_path / "written.parquet")


def test_csv_rows_of_other_lengths_keep_their_numbers(tmp_path: Path) -> None:
    raw = b'a,b\n"x\ny",2\n3\n\n"p\nq\nr",6\n7,8,9\n10,11\n'
    rows, bad = read_bytes(tmp_path, "items.csv", raw)
    assert [(row[ROW], row["a"]) for row in rows] == [(1, "x\ny"), (3, "p\nq\nr"), (5, "10")]
    assert bad == [BadRow(2, "1 columns, expected 2"), BadRow(4, "3 columns, expected 2")]


def test_csv_in_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "_CSV_BLOCK_BYTES", 24)
    raw = b"a,b\n" + b"".join(b"%d,x\n" % i if i % 3 else b"%d\n" % i for i in range(1, 40))
    table, bad = read_csv(raw, ",")
    assert table.column("a").to_pylist() == [str(i) for i in range(1, 40) if i % 3]
    assert table.column(ROW).to_pylist() == [i for i in range(1, 40) if i % 3]
    assert [b.row for b in bad] == list(range(3, 40, 3))


@pytest.mark.parametrize(
    "raw",
    [
        b"\xef\xbb\xbfa,b\n1,2\n3,4\n",
        b"a,b\r\n1,2\r\n3,4\r\n",
        b"a,b\n1,2\n3,4",
        b"\n\na,b\n\n1,2\n\n\n3,4\n\n",
    ],
    ids=["bom", "crlf", "no last newline", "blank lines"],
)
def test_csv_however_it_was_saved(raw: bytes) -> None:
    table, bad = read_csv(raw, ",")
    assert table.to_pylist() == [{"a": "1", "b": "2", ROW: 1}, {"a": "3", "b": "4", ROW: 2}]
    assert not bad


@pytest.mark.parametrize("raw", [b"", b"\xef\xbb\xbf", b"\n\n", b"a,b", b"a,b\n", b"a,b\r\n"])
def test_csv_without_rows(raw: bytes) -> None:
    table, bad = read_csv(raw, ",")
    assert (table.num_rows, bad) == (0, [])


def test_csv_cells_are_text_and_empty_ones_absent() -> None:
    table, _ = read_csv(b'a,b,c\n007,NA,""\ntrue,,1e5\n', ",")
    assert table.to_pylist() == [
        {"a": "007", "b": "NA", "c": None, ROW: 1},
        {"a": "true", "b": None, "c": "1e5", ROW: 2},
    ]


def test_csv_other_delimiters() -> None:
    table, _ = read_csv("a;b\n1,5;茶\n".encode(), ";")
    assert table.to_pylist() == [{"a": "1,5", "b": "茶", ROW: 1}]


def test_csv_cells_that_are_not_utf8_spoil_their_row_only(tmp_path: Path) -> None:
    raw = b"a,b\n1,2\n\xd6\xd0,3\n\xff\n\xe4\xb8\xad,\n"
    rows, bad = read_bytes(tmp_path, "items.csv", raw)
    assert rows == [{"a": "1", "b": "2", ROW: 1}, {"a": "中", "b": None, ROW: 4}]
    assert bad == [
        BadRow(3, "1 columns, expected 2"),
        BadRow(2, "column a is not UTF-8; save the file as UTF-8"),
    ]


@pytest.mark.parametrize(
    "raw", [b'a,b\n1,2\n3,"x\n5,6\n7,8\n', b'a,b\n1,2\n"3,x\n5,6\n7,8', b'a,b\n1,2\n3,"']
)
def test_csv_quote_that_never_closes_is_not_swallowed_in_silence(raw: bytes) -> None:
    table, bad = read_csv(raw, ",")
    assert [row["a"] for row in table.to_pylist()] == ["1"]
    assert [b.row for b in bad] == [2]
    assert "never closed" in bad[0].reason


def test_csv_quotes_inside_a_cell_are_characters() -> None:
    table, bad = read_csv(b'a,b\n5" pipe,6\n7,8\n', ",")
    assert (table.column("a").to_pylist(), bad) == (['5" pipe', "7"], [])


def test_csv_with_a_megabyte_in_its_first_row() -> None:
    table, bad = read_csv(b"a,b\n1," + b"x" * 2_000_000 + b"\n3,4\n", ",")
    assert (table.column("a").to_pylist(), bad) == (["1", "3"], [])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=8),
            min_size=2,
            max_size=2,
        ),
        max_size=6,
    )
)
def test_csv_gives_back_what_was_written(rows: list[list[str]]) -> None:
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    table, bad = read_csv("\n".join(['"p","q"', *quoted]).encode(), ",")
    assert not bad
    assert [[row["p"] or "", row["q"] or ""] for row in table.to_pylist()] == rows
    assert table.column(ROW).to_pylist() == list(range(1, len(rows) + 1))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='a",\n\r\t\x00 茶', max_size=40).map(str.encode), st.sampled_from(
    ["items.csv", "items.tsv", "items.jsonl", "items.parquet", "items.csv.gz", "items.jsonl.gz"]
))  # fmt: skip
def test_any_bytes_are_read_or_refused_as_input(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, name: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") and len(raw) % 2 else raw)
    try:
        rows, bad = read_all(str(folder))
    except InputError:
        return
    numbers = [int(str(row[ROW])) for row in rows] + [b.row for b in bad]
    assert len(set(numbers)) == len(numbers)


@pytest.fixture
def s3_uri(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server on loopback with items in two files; the address to read them by."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
    client.create_bucket(Bucket="shop")
    client.put_object(Bucket="shop", Key="data/items/1.csv", Body=CSV)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"item_id": ["c", "d"], "title": ["伞", None]}), sink, row_group_size=1)
    client.put_object(Bucket="shop", Key="data/items/2.parquet", Body=sink.getvalue().to_pybytes())
    client.put_object(Bucket="shop", Key="data/items/3.parquet", Body=b"PAR1 no")
    try:
        yield f"s3://shop/data/?endpoint_override={host}:{port}&scheme=http&allow_bucket_creation=false"
    finally:
        server.stop()


def test_s3(s3_uri: str) -> None:
    rows, bad = read_all(s3_uri)
    assert [(row["item_id"], row[ROW]) for row in rows] == [("a", 1), ("b", 2), ("c", 1), ("d", 2)]
    assert [b.row for b in bad] == [0]
    assert find_files(s3_uri, "users") == []
    with pytest.raises(InputError, match="cannot be listed"):
        find_files(s3_uri.replace("shop/data", "absent/data"), "items")


def test_unfinished_files_of_other_programs_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "items"
    for name in ("a.jsonl", ".b.jsonl", "_c.jsonl", "_temporary/d.jsonl", ".hidden/e.jsonl", "x=1/f.jsonl"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"item_id": "1"}\n')
    found = [f.path.removeprefix(str(folder)) for f in find_files(str(tmp_path), "items")]
    assert found == ["/a.jsonl", "/x=1/f.jsonl"]


def test_spaces_around_csv_column_names_are_not_part_of_them(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id, title \n1,a pot\n")
    (chunk,) = cut_chunks(str(tmp_path), "items", find_files(str(tmp_path), "items"))
    table, bad = read_chunk(chunk)
    assert table.column_names[:2] == ["item_id", "title"]
    assert not bad
