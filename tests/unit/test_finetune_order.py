"""The order of examples: every row once an epoch, whatever the batch, the window and the workers."""

from __future__ import annotations

from itertools import islice

import numpy as np
import numpy.typing as npt
import pytest

from pipelines.core.finetune.order import Order

SHAPES = [(10, 5, 5), (10, 4, 3), (7, 3, 100), (23, 5, 6), (3, 8, 2), (1, 2, 1), (64, 64, 64), (65, 16, 32)]
"""Rows, batch, window: each divides the next or does not; a batch of several epochs; a single row."""


def first_rows(order: Order, n: int, first: int = 0) -> npt.NDArray[np.int64]:
    """The first `n` rows that are met from step `first` on."""
    return np.concatenate(list(islice(order.steps(first), -(-n // order.batch))))[:n]


@pytest.mark.parametrize(("n_rows", "batch", "window"), SHAPES)
def test_an_epoch_holds_every_row_once(n_rows: int, batch: int, window: int) -> None:
    met = first_rows(Order(n_rows, batch, window, seed=3), 4 * n_rows).reshape(4, n_rows)
    for epoch in met:
        assert sorted(epoch) == list(range(n_rows))


@pytest.mark.parametrize(("n_rows", "batch", "window"), SHAPES)
def test_steps_from_later_on_are_the_same_steps(n_rows: int, batch: int, window: int) -> None:
    order = Order(n_rows, batch, window, seed=3)
    whole = list(islice(order.steps(0), 20))
    assert all(len(step) == batch for step in whole)
    for first in (1, 7, 19):
        np.testing.assert_array_equal(list(islice(order.steps(first), 20 - first)), whole[first:])


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [4, 10, 13])
def test_workers_share_a_batch(batch: int, world: int) -> None:
    order = Order(100, batch, 16, seed=0)
    parts = [order.part(rank, world) for rank in range(world)]
    step = next(order.steps(5))
    np.testing.assert_array_equal(np.concatenate([step[part] for part in parts]), step)
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_epochs_and_seeds_differ_and_rows_are_mixed() -> None:
    order = Order(200, 10, 50, seed=0)
    met = first_rows(order, 400).reshape(2, 200)
    assert (met[0] == met[1]).mean() < 0.1
    assert (met[0] == first_rows(Order(200, 10, 50, seed=1), 200)).mean() < 0.1
    assert (np.diff(met[0]) == 1).mean() < 0.1
    windows = met[0].reshape(4, 50) // 50
    assert (windows == windows[:, :1]).all()  # no more than a window is held
    assert windows[:, 0].tolist() != sorted(windows[:, 0].tolist())
