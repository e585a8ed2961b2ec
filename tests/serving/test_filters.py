"""Conditions on item metadata, for every type a column may have."""

from __future__ import annotations

import contextlib
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.errors import InputError
from serving.filters import filter_mask

ITEMS = pa.table(
    {
        "item_id": ["a", "b", "茶"],
        "brand": ["Acme", None, "茶具"],
        "price": [1.5, float("nan"), None],
        "cents": pa.array([Decimal("1.50"), Decimal("2.00"), None], pa.decimal128(9, 2)),
        "stock": pa.array([1, None, 2**60 + 1], pa.int64()),
        "count": pa.array([1, 2, 2**64 - 1], pa.uint64()),
        "new": [True, False, None],
        "released": pa.array([datetime(2024, 1, 1, tzinfo=UTC), None, datetime(2024, 1, 2, tzinfo=UTC)]),
        "day": [date(1970, 1, 2), None, date(2024, 1, 2)],
        "categories": [["Kitchen", "Tea"], None, ["茶", None]],
        "sizes": pa.array([[1, 2], [], [2]], pa.large_list(pa.int64())),
        "empty": pa.nulls(3),
        "raw": [b"x", b"y", None],
        "box": [{"w": 1}, None, {"w": 2}],
    }
)


@pytest.mark.parametrize(
    ("column", "condition", "rows"),
    [
        ("brand", "Acme", [0]),
        ("brand", ["茶具", "Acme", "Nobody"], [0, 2]),
        ("brand", "", []),
        ("brand", [], []),
        ("price", 1.5, [0]),
        ("price", {"min": 0}, [0]),
        ("price", {"max": 1.4}, []),
        ("price", {"min": 2, "max": 1}, []),
        ("price", {"min": 1.5, "max": 1.5}, [0]),
        ("price", {"min": float("nan")}, []),
        ("price", {"min": float("-inf"), "max": float("inf")}, [0]),
        ("cents", 1.5, [0]),
        ("cents", {"max": 2}, [0, 1]),
        ("stock", 1, [0]),
        ("stock", 1.0, [0]),
        ("stock", 1.5, []),
        ("stock", [1.5, 2**60 + 1], [2]),
        ("stock", {"min": 2}, [2]),
        ("stock", {"max": 1e30}, [0, 2]),
        ("count", 2**64 - 1, [2]),
        ("count", {"min": 3}, [2]),
        ("new", True, [0]),
        ("new", [True, False], [0, 1]),
        ("released", 1704067200, [0]),
        ("released", {"min": 1704067201}, [2]),
        ("day", 86400, [0]),
        ("day", {"max": 86400.5}, [0]),
        ("categories", "Tea", [0]),
        ("categories", ["Kitchen", "茶"], [0, 2]),
        ("categories", "Te", []),
        ("sizes", 2, [0, 2]),
        ("sizes", 1.5, []),
        ("empty", {"min": 1}, []),
    ],
)
def test_conditions(column: str, condition: Any, rows: list[int]) -> None:  # noqa: ANN401 - any condition
    assert np.flatnonzero(filter_mask(ITEMS, {column: condition})).tolist() == rows


@pytest.mark.parametrize(
    ("column", "condition"),
    [
        ("brand", 1),
        ("brand", True),
        ("brand", ["Acme", 1]),
        ("brand", "\ud800"),
        ("brand", {"min": 1}),
        ("price", "1.5"),
        ("price", True),
        ("cents", "cheap"),
        ("stock", "1"),
        ("stock", True),
        ("stock", 2**63),
        ("stock", 10**400),
        ("count", -1),
        ("new", "true"),
        ("new", 1),
        ("new", {"min": 0}),
        ("released", "2024-01-01"),
        ("categories", 1),
        ("categories", {"min": 1}),
        ("empty", "x"),
        ("box", 1),
        ("box", {"min": 1}),
        ("price", {}),
        ("price", {"least": 1}),
    ],
)
def test_conditions_that_make_no_sense(column: str, condition: Any) -> None:  # noqa: ANN401 - any condition
    with pytest.raises(InputError, match=r"^filter: "):
        filter_mask(ITEMS, {column: condition})


def test_all_conditions_must_hold() -> None:
    assert filter_mask(ITEMS, {}).all()
    assert filter_mask(ITEMS, {"new": True, "brand": "Acme"}).tolist() == [True, False, False]
    assert not filter_mask(ITEMS, {"new": True, "brand": "茶具"}).any()


def test_unknown_columns_are_named_with_those_there_are() -> None:
    with pytest.raises(InputError, match="no column 'colour'; the items have item_id, brand, price"):
        filter_mask(ITEMS, {"colour": "red"})


def test_lists_in_several_chunks() -> None:
    items = pa.concat_tables([ITEMS.slice(1, 2), ITEMS.slice(0, 1), ITEMS.slice(0, 0)])
    assert filter_mask(items, {"categories": "Tea"}).tolist() == [False, False, True]
    assert filter_mask(ITEMS.slice(0, 0), {"categories": "Tea"}).tolist() == []


SCALARS = (
    st.text(st.characters(exclude_categories=()), max_size=4) | st.integers() | st.floats() | st.booleans()
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(ITEMS.column_names),
    SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.sampled_from(["min", "max"]), st.floats()),
)
def test_any_condition_is_a_mask_or_an_input_error(column: str, condition: Any) -> None:  # noqa: ANN401
    with contextlib.suppress(InputError):
        assert filter_mask(ITEMS, {column: condition}).shape == (3,)


def test_a_bound_is_rounded_as_a_single_precision_column_is() -> None:
    items = pa.table({"price": pa.array([19.99, 25.0], pa.float32())})
    assert filter_mask(items, {"price": {"min": 19.99, "max": 19.99}}).tolist() == [True, False]
