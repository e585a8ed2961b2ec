"""Augmentation leaves out the shares it is told to, whole, and never everything."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipelines.core.finetune.augment import Augmentation
from pipelines.core.finetune.tokens import TokenTable


def table(*texts: list[tuple[int, int]]) -> TokenTable:
    """Texts as (token, field) each."""
    tokens = [[token for token, _ in text] for text in texts]
    fields = [[field for _, field in text] for text in texts]
    return TokenTable(
        pa.table(
            {
                "tokens": pa.array(tokens, pa.list_(pa.int32())),
                "fields": pa.array(fields, pa.list_(pa.int8())),
            }
        )
    )


PLAIN = table([(token, 0) for token in range(100)], [], [(5, 0)])
FIELDS = table([(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 2)])


def draws(augment: Augmentation, source: TokenTable, row: int, n: int = 300) -> list[list[int]]:
    return [augment(source, row, np.random.default_rng(seed)).tolist() for seed in range(n)]


def test_nothing_is_left_out_unless_asked_for() -> None:
    assert draws(Augmentation(), PLAIN, 0, 2) == [list(range(100))] * 2


@pytest.mark.parametrize(
    "augment", [Augmentation(tokens=0.9), Augmentation(span=1.0), Augmentation(1.0, 1.0, 1.0)]
)
def test_one_token_stays_of_a_text_and_none_is_made_up(augment: Augmentation) -> None:
    assert draws(augment, PLAIN, 1, 20) == [[]] * 20
    assert draws(augment, PLAIN, 2, 20) == [[5]] * 20
    found = draws(augment, PLAIN, 0)
    assert all(text and text == sorted(set(text)) for text in found)


def test_tokens_are_left_out_each_by_itself() -> None:
    found = draws(Augmentation(tokens=0.3), PLAIN, 0)
    assert np.mean([len(text) for text in found]) == pytest.approx(70, abs=1)
    missing = np.array([~np.isin(np.arange(100), text) for text in found])
    assert np.abs(missing.mean(axis=0) - 0.3).max() < 0.12  # wherever it stands
    together = (missing[:, :-1] & missing[:, 1:]).mean()
    assert together == pytest.approx(0.09, abs=0.01)  # whether its neighbour stays or not


def test_a_span_is_one_piece_that_may_lie_anywhere() -> None:
    starts = set()
    for text in draws(Augmentation(span=0.2), PLAIN, 0):
        missing = sorted(set(range(100)) - set(text))
        assert len(text) == 80
        assert missing == list(range(missing[0], missing[0] + 20))
        starts.add(missing[0])
    assert len(starts) > 60


def test_fields_are_left_out_whole_but_the_first_never() -> None:
    found = draws(Augmentation(fields=0.25), FIELDS, 0, 1000)
    assert {tuple(text) for text in found} == {(1, 2), (1, 2, 3, 4), (1, 2, 5, 6), (1, 2, 3, 4, 5, 6)}
    assert np.mean([3 not in text for text in found]) == pytest.approx(0.25, abs=0.04)
    assert draws(Augmentation(fields=1.0), FIELDS, 0, 3) == [[1, 2]] * 3


def test_the_same_draws_leave_out_the_same() -> None:
    augment = Augmentation(0.2, 0.2, 0.2)
    assert draws(augment, FIELDS, 0, 30) == draws(augment, FIELDS, 0, 30)
    assert len({tuple(text) for text in draws(augment, FIELDS, 0, 30)}) > 5
