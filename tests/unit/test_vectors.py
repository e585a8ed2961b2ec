"""Precomputed vectors: what is taken, what is refused, and how they are read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.columns import Rejects
from pipelines.core.errors import InputError
from pipelines.core.readers import Chunk
from pipelines.core.schema import REJECTS, ROW
from pipelines.core.storage import write_rows
from pipelines.core.vectors import Block, VectorLengths, vector_values


def parsed(column: pa.Array | list[object]) -> tuple[list[list[float] | None], dict[int, str]]:
    array = column if isinstance(column, pa.Array | pa.ChunkedArray) else pa.array(column)
    chunked = array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
    chunk = Chunk("items", 0, "data", "items.parquet", None, 0)
    rejects = Rejects(chunk, pa.table({ROW: pa.array(range(1, len(chunked) + 1), pa.int64())}))
    found = vector_values(chunked, "image", rejects)
    assert found.type == pa.list_(pa.float32())
    assert len(found) == len(chunked)
    return found.to_pylist(), rejects.reasons


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.float16(), pa.int64(), pa.int8()])
def test_lists_of_numbers(kind: pa.DataType) -> None:
    values = pa.array([[1, 2], None, [3, -4], []], pa.list_(pa.float64())).cast(pa.list_(kind))
    assert parsed(values) == ([[1, 2], None, [3, -4], None], {})
    chunks = pa.chunked_array([values.slice(1, 2), values.slice(0, 1)])
    assert parsed(chunks) == ([None, [3, -4], [1, 2]], {})


def test_text_as_csv_has_it() -> None:
    found, reasons = parsed(["0.5 -1e-1", " [0.5, 1] ", None, "", "   ", "[]", "1"])
    assert reasons == {}
    np.testing.assert_allclose(found[0], [0.5, -0.1], rtol=1e-6)
    assert found[1:] == [[0.5, 1.0], None, None, None, None, [1.0]]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("0.1, 0.2", "expected numbers"),
        ("[0.1, 0.2", "expected numbers"),
        ("红 0.2", "expected numbers"),
        ('[1, "2"]', "expected numbers"),
        ("[1, true]", "expected numbers"),
        ("[1, null]", "expected numbers"),
        ("[[1], [2]]", "expected numbers"),
        ("nan 1", "not finite"),
        ("[1, NaN]", "not finite"),
        ("[1e39]", "not finite"),
        ("1 -inf", "not finite"),
        (f"[{'9' * 400}]", "not finite"),
    ],
)
def test_a_bad_vector_costs_its_row(bad: str, reason: str) -> None:
    found, reasons = parsed(["1 2", bad, "3 4"])
    assert found[0] == [1, 2]
    assert found[2] == [3, 4]
    assert list(reasons) == [1]
    assert reason in reasons[1]
    assert reasons[1].startswith("image ")


@pytest.mark.parametrize("bad", [[1.0, None], [1.0, float("nan")], [float("inf"), 1.0], [1e39, 0.0]])
def test_a_bad_list_costs_its_row(bad: list[float]) -> None:
    found, reasons = parsed(pa.array([None, [1.0, 2.0], bad, [3.0, 4.0]], pa.list_(pa.float64())))
    assert [found[i] for i in (0, 1, 3)] == [None, [1, 2], [3, 4]]
    assert list(reasons) == [2]


@pytest.mark.parametrize("column", [[1.5], [["a"]], [[True, False]], [{"x": 1}]])
def test_what_is_no_list_of_numbers(column: list[object]) -> None:
    found, reasons = parsed(column)
    assert found == [None]
    assert list(reasons) == [0]


def test_a_column_of_nothing() -> None:
    assert parsed(pa.array([None, None], pa.null())) == ([None, None], {})
    assert parsed(pa.chunked_array([], pa.string())) == ([], {})


def clean(ids: list[str], vectors: list[list[float] | None]) -> pa.Table:
    n = len(ids)
    return pa.table(
        {
            "item_id": ids,
            "image": pa.array(vectors, pa.list_(pa.float32())),
            "_source": ["items.csv"] * n,
            "_row": pa.array(range(1, n + 1), pa.int64()),
        }
    )


def test_the_first_vector_decides_the_length_in_all_parts() -> None:
    lengths = VectorLengths(["image"])
    first, none = lengths.check(clean(["a", "b"], [None, [1, 2, 3]]))
    assert (first.num_rows, none.num_rows) == (2, 0)
    second, rejects = lengths.check(clean(["c", "d", "e"], [[1, 2, 3], [1, 2], None]))
    assert second.column("item_id").to_pylist() == ["c", "e"]
    assert rejects.schema == REJECTS
    assert rejects.to_pylist() == [
        {
            "table": "items", "source": "items.csv", "row": 2, "record": "d",
            "reason": "image has 2 numbers, the first of the table 3",
        }
    ]  # fmt: skip
    fixed = lengths.fix(second).column("image")
    assert fixed.type == pa.list_(pa.float32(), 3)
    assert fixed.to_pylist() == [[1, 2, 3], [0, 0, 0]]


def test_a_column_without_any_vector_is_an_error() -> None:
    lengths = VectorLengths(["image"])
    table = clean(["a"], [None])
    assert lengths.check(table) == (table, REJECTS.empty_table())
    assert "'image'" in lengths.problem()
    with pytest.raises(InputError, match="no item has a vector"):
        lengths.fix(table)
    assert VectorLengths([]).problem() == ""
    assert VectorLengths([]).fix(table) is table


@pytest.mark.parametrize("cut", [(0, 10), (0, 3), (2, 7), (4, 5), (9, 10), (4, 4), (0, 0)])
def test_rows_are_read_across_parts(tmp_path: Path, cut: tuple[int, int]) -> None:
    rows = np.random.default_rng(1).standard_normal((10, 3)).astype(np.float32)
    for number, (start, stop) in enumerate([(0, 4), (4, 4), (4, 9), (9, 10)]):
        part = pa.FixedSizeListArray.from_arrays(pa.array(rows[start:stop].ravel()), 3)
        pq.write_table(pa.table({"x": part}), tmp_path / f"part-{number:06d}.parquet", row_group_size=2)
    write_rows(tmp_path / "rows", 0, rows)
    found = Block(0.5, tmp_path, "x").read(*cut)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, rows[slice(*cut)])
    np.testing.assert_array_equal(Block(0.5, tmp_path / "rows").read(*cut), rows[slice(*cut)])


def test_numbers_whose_length_is_infinite_are_refused() -> None:
    _, reasons = parsed([[1.0, 2.0], [1e38, 0.0], [1e15, -1e15]])
    assert reasons == {1: "image has numbers beyond 1e+15; scale the column down"}
