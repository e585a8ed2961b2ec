"""Lists with pins and caps, against looking through the whole ranking for each place."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.arrange import Capped, arrange

Values = list[list[str] | None]


def slowly(
    ranking: list[int], n: int, caps: list[tuple[Values, int, int]], pins: dict[int, int]
) -> list[int]:
    """By the words of the documentation."""
    found: list[int] = []
    while len(found) < n:
        place = len(found) + 1
        if place in pins:
            found.append(pins[place])
            continue

        def may(row: int, place: int = place) -> bool:
            for values, most, within in caps:
                if within and place > within:
                    continue
                pinned = [r for p, r in pins.items() if not within or p <= within]
                others = [r for r in found if r not in pins.values()]
                for value in set(values[row] or []):
                    if sum(value in (values[r] or []) for r in pinned + others) >= most:
                        return False
            return True

        row = next((r for r in ranking if r not in found and may(r)), None)
        if row is None:
            return (found + [r for p, r in sorted(pins.items()) if p > place])[:n]
        found.append(row)
    return found


@st.composite
def tasks(draw: st.DrawFn) -> tuple[list[int], int, list[tuple[Values, int, int]], dict[int, int]]:
    count = draw(st.integers(0, 14))
    values = st.lists(
        st.none() | st.lists(st.sampled_from("abc"), max_size=3), min_size=count, max_size=count
    )
    caps = draw(st.lists(st.tuples(values, st.integers(1, 3), st.integers(0, 8)), max_size=2))
    ranking = draw(st.permutations(range(count)))
    pinned = draw(st.integers(0, min(3, count)))
    places = draw(st.lists(st.integers(1, 16), min_size=pinned, max_size=pinned, unique=True))
    return ranking[pinned:], draw(st.integers(1, 16)), caps, dict(zip(places, ranking[:pinned], strict=True))


@settings(max_examples=300, deadline=None)
@given(tasks())
def test_each_place_has_the_best_that_may_have_it(
    task: tuple[list[int], int, list[tuple[Values, int, int]], dict[int, int]],
) -> None:
    ranking, n, caps, pins = task
    capped = [
        Capped(pa.chunked_array([pa.array(values, pa.list_(pa.string()))]), most, within)
        for values, most, within in caps
    ]
    expected = slowly(ranking, n, caps, pins)
    assert arrange(ranking, n, capped, pins, is_all=True) == expected
    # of the beginning of a ranking there is the same list, or none
    answers = [arrange(ranking[:k], n, capped, pins, is_all=False) for k in range(len(ranking) + 1)]
    assert all(answer is None or answer == expected for answer in answers)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_cap_on_single_values(kind: pa.DataType) -> None:
    column = pa.chunked_array([["x", "x", None], ["x", None, "y"]], pa.string()).cast(kind)
    capped = Capped(column, 1, 0)
    assert arrange(range(6), 6, [capped], {}, is_all=True) == [0, 2, 4, 5]
    assert arrange(range(6), 6, [Capped(column, 1, 3)], {}, is_all=True) == [0, 2, 4, 1, 3, 5]
    assert arrange(range(6), 2, [Capped(column, 1, 3)], {2: 5}, is_all=True) == [0, 5]
