"""Single columns as callers write them: what they become, and which rows are rejected, with what words."""

from __future__ import annotations

import datetime as dt
import sys
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from pipelines.core.columns import (
    Rejects,
    csv_values,
    hidden_flags,
    id_values,
    number_values,
    string_values,
    timestamp_values,
)
from pipelines.core.readers import Chunk
from pipelines.core.schema import REJECTS, ROW
from pipelines.core.text_files import BadRow

CHUNK = Chunk("items", 0, "data", "data/items.csv", None, 0)


def table_of(name: str, array: pa.Array) -> tuple[pa.Table, Rejects]:
    table = pa.table({name: array, ROW: pa.array(range(1, len(array) + 1), pa.int64())})
    return table, Rejects(CHUNK, table)


def ids_of(array: pa.Array) -> tuple[list[str | None], dict[int, str]]:
    table, rejects = table_of("item_id", array)
    return id_values(table, "item_id", rejects).to_pylist(), rejects.reasons


def seconds_of(array: pa.Array) -> tuple[list[float], dict[int, str]]:
    table, rejects = table_of("timestamp", array)
    return timestamp_values(table, rejects).tolist(), rejects.reasons


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array(["a", " 茶 ", "x y"]), ["a", "茶", "x y"]),
        (pa.array([1, -2, 2**62]), ["1", "-2", str(2**62)]),
        (pa.array([2**63], pa.uint64()), [str(2**63)]),
        (pa.array([1.0, 1e15]), ["1", "1000000000000000"]),
        (pa.array([Decimal("12"), Decimal("-3")], pa.decimal128(20, 2)), ["12", "-3"]),
        (pa.array(["é" * 256]), ["é" * 256]),
    ],
)
def test_ids_that_are_taken(array: pa.Array, expected: list[str]) -> None:
    assert ids_of(array) == (expected, {})


def test_ids_are_stripped_as_python_strips() -> None:
    spaces = [chr(c) for c in range(sys.maxunicode + 1) if chr(c).isspace()]
    assert len(spaces) > 20
    found, reasons = ids_of(pa.array([f"{space}a {space}" for space in spaces] + [" ".join(spaces)]))
    assert found == ["a"] * len(spaces) + [None]
    assert list(reasons.values()) == ["item_id is missing"]


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (pa.array([None], pa.string()), "item_id is missing"),
        (pa.array([None]), "item_id is missing"),
        (pa.array([""]), "item_id is missing"),
        (pa.array([" \t\u3000"]), "item_id is missing"),
        (pa.array([float("nan")]), "item_id is missing"),
        (pa.array([1.5]), "item_id is a float, expected a string or a whole number"),
        (pa.array([float("inf")]), "item_id is a float, expected a string or a whole number"),
        (pa.array([Decimal("1.5")]), "item_id is a Decimal, expected a string or a whole number"),
        (pa.array([True]), "item_id is a bool, expected a string or a whole number"),
        (pa.array([["a"]]), "item_id is a list, expected a string or a whole number"),
        (pa.array([{"a": 1}]), "item_id is a dict, expected a string or a whole number"),
        (pa.array([dt.date(2024, 1, 1)]), "item_id is a date, expected a string or a whole number"),
        (pa.array([b"a"]), "item_id is bytes that are not declared text"),
        (pa.array(["x" * 10_000]), "item_id is longer than 512 bytes"),
        (pa.array(["é" * 257]), "item_id is longer than 512 bytes"),
        (pa.array(["a\0b"]), "item_id has a control character"),
        (pa.array(["茶\n叶"]), "item_id has a control character"),
    ],
)
def test_ids_that_are_not(array: pa.Array, reason: str) -> None:
    assert ids_of(array) == ([None], {0: reason})


def test_hidden_words() -> None:
    words = ["true", "TRUE ", "yes", "1", "1.0", "false", "No", "0", "0.0", "", None, "maybe"]
    table, rejects = table_of("is_hidden", pa.array(words))
    assert hidden_flags(table, rejects).to_pylist() == [True] * 5 + [False] * 7
    assert rejects.reasons == {11: "is_hidden is 'maybe', expected true or false"}


@pytest.mark.parametrize(
    "array", [pa.array([True, False, None]), pa.array([1, 0, None]), pa.array([1.0, 0.0, None])]
)
def test_hidden_flags_of_other_types(array: pa.Array) -> None:
    table, rejects = table_of("is_hidden", array)
    assert hidden_flags(table, rejects).to_pylist() == [True, False, False]
    assert not rejects.reasons


def test_nothing_is_hidden_without_the_column() -> None:
    table, rejects = table_of("x", pa.array([1, 2]))
    assert hidden_flags(table, rejects).to_pylist() == [False, False]


@pytest.mark.parametrize(
    ("array", "expected", "wrong"),
    [
        (pa.array([1, None]), [1, np.nan], []),
        (pa.array([2**63], pa.uint64()), [2.0**63], []),
        (pa.array([0.5, None, float("nan")]), [0.5, np.nan, np.nan], []),
        (pa.array(["3.5", " 2 ", "-1e3", None, ""]), [3.5, 2, -1000, np.nan, np.nan], []),
        (
            pa.array(["0.1", "-12345.67891", "+3", "123456789012345"]),
            [0.1, -12345.67891, 3, 123456789012345],
            [],
        ),
        (pa.array(["abc", "1_000", "true", "0x10"]), [np.nan] * 4, [0, 1, 2, 3]),
        (pa.array(["nan", "NaN "]), [np.nan] * 2, [0, 1]),
        (pa.array([True, False]), [np.nan] * 2, [0, 1]),
        (pa.array([[1]]), [np.nan], [0]),
        (pa.array([{"a": 1}]), [np.nan], [0]),
        (pa.array([b"1x"]), [np.nan], [0]),
        (pa.array([dt.timedelta(1)]), [np.nan], [0]),
        (pa.array([Decimal("1.5")]), [1.5], []),
        (pa.array([None, None]), [np.nan] * 2, []),
    ],
)
def test_numbers(array: pa.Array, expected: list[float], wrong: list[int]) -> None:
    table, rejects = table_of("weight", array)
    np.testing.assert_array_equal(number_values(table.column("weight"), "weight", rejects), expected)
    assert sorted(rejects.reasons) == wrong


def test_numbers_too_large_for_integers() -> None:
    table, rejects = table_of("weight", pa.array(["99999999999999999999999", "1e400"]))
    assert number_values(table.column("weight"), "weight", rejects).tolist() == [1e23, np.inf]


def test_no_timestamps_without_the_column() -> None:
    table, rejects = table_of("x", pa.array([1]))
    assert np.isnan(timestamp_values(table, rejects)).all()


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1577836800]),
        pa.array([1577836800.0]),
        pa.array(["1577836800"]),
        pa.array(["2020-01-01"]),
        pa.array(["2020-01-01T08:00:00+08:00"]),
        pa.array(["2020-01-01 00:00:00.000Z"]),
        pa.array([dt.date(2020, 1, 1)]),
        pa.array([dt.date(2020, 1, 1)], pa.date64()),
        pa.array([1577836800], pa.timestamp("s")),
        pa.array([1577836800_000], pa.timestamp("ms", "Asia/Shanghai")),
        pa.array([1577836800_000_000], pa.timestamp("us", "UTC")),
        pa.array([1577836800_000_000_000], pa.timestamp("ns")),
        pa.array([Decimal(1577836800)]),
    ],
    ids=lambda a: str(a.type),
)
def test_one_moment_however_it_is_written(array: pa.Array) -> None:
    assert seconds_of(array) == ([1577836800.0], {})


@pytest.mark.parametrize(
    "array",
    [
        pa.array([None], pa.string()),
        pa.array([None], pa.timestamp("us")),
        pa.array([None], pa.date32()),
        pa.array([None], pa.int64()),
        pa.array([None]),
        pa.array([float("nan")]),
    ],
    ids=lambda a: str(a.type),
)
def test_absent_moments(array: pa.Array) -> None:
    seconds, reasons = seconds_of(array)
    assert np.isnan(seconds).all()
    assert not reasons


def test_moments_before_1970_and_fractions() -> None:
    assert seconds_of(pa.array([-1.5, 0.25])) == ([-1.5, 0.25], {})
    assert seconds_of(pa.array(["1969-12-31T23:59:58.5Z", "0001-01-01", "2500-01-01"])) == (
        [-1.5, -62135596800.0, 16725225600.0],
        {},
    )
    assert seconds_of(pa.array([-1500, 1], pa.timestamp("ms"))) == ([-1.5, 0.001], {})


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (pa.array(["yesterday"]), "timestamp is 'yesterday', expected seconds or ISO 8601"),
        (pa.array([""]), "timestamp is '', expected seconds or ISO 8601"),
        (pa.array(["nan"]), "timestamp is 'nan', expected seconds or ISO 8601"),
        (pa.array(["2020-13-01"]), "timestamp is '2020-13-01', expected seconds or ISO 8601"),
        (pa.array([1577836800_000]), "timestamp is too large for seconds; divide milliseconds by 1000"),
        (pa.array(["1577836800000"]), "timestamp is too large for seconds; divide milliseconds by 1000"),
        (
            pa.array([10**12], pa.timestamp("s")),
            "timestamp is too large for seconds; divide milliseconds by 1000",
        ),
        (pa.array([float("inf")]), "timestamp is not finite"),
        (pa.array(["-inf"]), "timestamp is not finite"),
        (pa.array([True]), "timestamp is true/false, expected a number"),
        (pa.array([[1]]), "timestamp is '[1]', expected a number"),
    ],
)
def test_moments_that_are_none(array: pa.Array, reason: str) -> None:
    _, reasons = seconds_of(array)
    assert reasons == {0: reason}


def test_the_first_reason_counts_and_records_are_short() -> None:
    table, rejects = table_of("item_id", pa.array(["茶" * 900, "b", "c"]))
    rejects.add([0], "first")
    rejects.add(np.array([0, 2]), "second")
    assert rejects.keep_mask().tolist() == [False, True, False]
    rows = rejects.to_table(table, [BadRow(9, "not JSON")], ["item_id", "absent"])
    assert rows.schema == REJECTS
    assert rows.column("row").to_pylist() == [1, 3, 9]
    assert rows.column("reason").to_pylist() == ["first", "second", "not JSON"]
    assert rows.column("record").to_pylist() == ['{"item_id": "' + "茶" * 487, '{"item_id": "c"}', ""]
    assert set(rows.column("source").to_pylist()) == {"data/items.csv"}


def test_a_reason_for_each_row() -> None:
    table, rejects = table_of("item_id", pa.array(["a", "b", "c", "d"]))
    rejects.add([1], "first")
    rejects.add_each([3, 1, 0], np.array([1, 0, 0]), ["x", "y"])
    rejects.add_each(np.array([], dtype=np.int64), np.array([], dtype=np.int64), [])
    assert rejects.reasons == {0: "x", 1: "first", 3: "y"}
    assert rejects.keep_mask().tolist() == [False, False, True, False]
    assert rejects.to_table(table, [], ["item_id"]).column("reason").to_pylist() == ["x", "first", "y"]


def test_values_as_strings() -> None:
    for values, expected in (
        (["a", None], ["a", None]),
        ([1, None], ["1", None]),
        ([1.0, None], ["1.0", None]),
        ([True, None], ["True", None]),
    ):
        assert string_values(pa.chunked_array([pa.array(values)])).to_pylist() == expected
    assert string_values(pa.chunked_array([], pa.string())).to_pylist() == []


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["5.5", " 7 ", None], [5.5, 7.0, None]),
        (["3", "-4"], [3, -4]),
        (["+3", "4"], [3, 4]),
        (["+3.5", "4"], [3.5, 4.0]),
        (["007", "8"], ["007", "8"]),
        (["1e5", "2"], ["1e5", "2"]),
        (["12345678901234567", "1"], ["12345678901234567", "1"]),
        (["3", "three"], ["3", "three"]),
        ([None, None], [None, None]),
    ],
)
def test_numbers_in_text_files(cells: list[str | None], expected: list[object]) -> None:
    assert csv_values(pa.chunked_array([pa.array(cells, pa.string())])).to_pylist() == expected
