"""The contrastive objective by hand: what is right, what must not count as wrong, what is discounted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipelines.core.config import FinetuneConfig
from pipelines.core.finetune.contrastive import Contrastive, _occurs
from pipelines.core.finetune.objective import draws_of
from pipelines.core.finetune.tokens import Template, TokenTable

N_ITEMS = 6
TEMPLATE = Template(prefix=(101,), middle=(102,), suffix=(103,))
POPULARITY = np.array([0.5, 0.25, 0.125, 0.125, 0.0, 0.0])

# queries and candidates as angles: a cosine is the cosine of a difference
QUERIES = (0.0, 1.0, 2.0)
CANDIDATES = (0.1, 0.9, 1.5)
HARD = (0.4, 2.5, 1.9)


def made(neighbours: Any = None, **changed: Any) -> Contrastive:  # noqa: ANN401
    """Items whose text is their own number, twice."""
    tokens = pa.array([[i, i] for i in range(N_ITEMS)], pa.list_(pa.int32()))
    fields = pa.array([[0, 0]] * N_ITEMS, pa.list_(pa.int8()))
    settings = FinetuneConfig.model_validate({"objective": "contrastive", "temperature": 0.5, **changed})
    items = TokenTable(pa.table({"tokens": tokens, "fields": fields}))
    return Contrastive(items, TEMPLATE, POPULARITY, neighbours, settings)


def outputs(*angles: tuple[float, ...]) -> torch.Tensor:
    """(n, k, 2) vectors of the angles of each sequence, of any length."""
    of = torch.tensor(angles).T
    return torch.stack([of.cos(), of.sin()], dim=-1) * 3.0


def by_hand(
    candidates: list[tuple[int, float]],
    right: list[int],
    masked: list[set[int]],
    correction: float = 0.0,
    smoothing: float = 0.0,
) -> float:
    """Example by example: cross-entropy over (item, angle) candidates that are not masked by place."""
    total = 0.0
    for angle, own, not_wrong in zip(QUERIES, right, masked, strict=True):
        logits = {}
        for place, (item, other) in enumerate(candidates):
            if place not in not_wrong:
                share = POPULARITY[item] if POPULARITY[item] else 0.125  # as the rarest that was seen
                logits[place] = np.cos(angle - other) / 0.5 - correction * np.log(share)
        log_sum = np.log(np.sum(np.exp(list(logits.values()))))
        every = [logit - log_sum for logit in logits.values()]
        total -= (1 - smoothing) * (logits[own] - log_sum) + smoothing * np.mean(every)
    return float(total)


PLAIN = list(zip((0, 1, 2), CANDIDATES, strict=True))


@pytest.mark.parametrize("correction", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize(
    ("wanted", "masked"),
    [
        ([[3], [4], [5]], [set(), set(), set()]),
        ([[3, 1], [4, -1], [0, 1]], [{1}, set(), {0, 1}]),  # what the user also wanted; -1 is padding
    ],
)
def test_the_loss_by_hand(
    correction: float, smoothing: float, wanted: list[list[int]], masked: list[set[int]]
) -> None:
    objective = made(popularity_correction=correction, label_smoothing=smoothing)
    columns = {"answers": torch.tensor([[0], [1], [2]]), "wanted": torch.tensor(wanted)}
    loss = objective.loss(outputs(QUERIES, CANDIDATES), columns)
    assert float(loss) == pytest.approx(by_hand(PLAIN, [0, 1, 2], masked, correction, smoothing), rel=1e-5)


def test_one_item_in_two_examples_is_wrong_for_neither() -> None:
    columns = {"answers": torch.tensor([[0], [1], [0]]), "wanted": torch.tensor([[3], [4], [5]])}
    expected = by_hand(list(zip((0, 1, 0), CANDIDATES, strict=True)), [0, 1, 2], [{2}, set(), {0}])
    loss = made(popularity_correction=0.0).loss(outputs(QUERIES, CANDIDATES), columns)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_hard_negatives_are_wrong_for_everyone_who_did_not_want_them() -> None:
    """Candidates lie as (answer, hard) of each example; the second user wanted the third one's hard negative."""
    items, angles = (0, 4, 1, 5, 2, 3), np.stack([CANDIDATES, HARD], axis=1).flatten().tolist()
    columns = {"answers": torch.tensor(items).view(3, 2), "wanted": torch.tensor([[5], [3], [4]])}
    loss = made(popularity_correction=1.0).loss(outputs(QUERIES, CANDIDATES, HARD), columns)
    masked = [{3}, {5}, {1}]
    expected = by_hand(list(zip(items, angles, strict=True)), [0, 2, 4], masked, 1.0)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_disagreement_is_one_less_the_cosine() -> None:
    one, other = outputs(QUERIES, CANDIDATES), outputs(CANDIDATES, CANDIDATES) * 2
    gaps = [1 - np.cos(a - b) for a, b in zip(QUERIES, CANDIDATES, strict=True)]
    assert float(made().disagreement(one, other)) == pytest.approx(sum(gaps), rel=1e-4)


ROWS = pa.table({"item_idx": [0, 1], "history": [[2, 3, 4], [5]]})


def test_what_is_prepared() -> None:
    single = made(history_share=0.0).prepare(ROWS, draws_of(0, 0))
    assert len(single.sequences) == 4
    assert single.sequences[1] == [101, 0, 0, 103]
    assert single.sequences[2:] == [[101, 5, 5, 103], [101, 1, 1, 103]]
    assert single.sequences[0][1] in {2, 3, 4}
    assert len(single.sequences[0]) == 4
    assert single.columns["answers"].tolist() == [[0], [1]]
    assert [set(row) - {-1} for row in single.columns["wanted"].tolist()] == [{2, 3, 4}, {5}]
    several = made(history_share=1.0, max_history=2).prepare(ROWS, draws_of(0, 0))
    read = several.sequences[0]
    assert (read[0], read[3], read[-1], len(read)) == (101, 102, 103, 7)
    assert len({read[1], read[4]} & {2, 3, 4}) == 2


def test_chance_is_a_matter_of_the_row_alone() -> None:
    """Workers that share a batch draw what one of them would."""
    objective = made(token_dropout=0.5)
    whole = objective.prepare(ROWS, draws_of(3, 10))
    parts = [objective.prepare(ROWS.slice(i, 1), draws_of(3, 10 + i)) for i in (0, 1)]
    assert [s for part in parts for s in part.sequences] == list(whole.sequences)
    assert whole.sequences != objective.prepare(ROWS, draws_of(3, 12)).sequences


def test_hard_negatives_are_like_the_item_and_not_the_users() -> None:
    neighbours = np.array([[2, 5, 1]] + [[0, 2, 3]] * 5)
    objective = made(neighbours, hard_negatives=2)
    for seed in range(10):
        prepared = objective.prepare(ROWS, draws_of(seed, 0))
        (first, *hard), (second, *others) = prepared.columns["answers"].tolist()
        assert (first, second) == (0, 1)
        assert set(hard) == {5, 1}  # 2 is in the history
        assert set(others) < {0, 2, 3}
        assert len(prepared.sequences) == 8
    few = made(np.zeros((N_ITEMS, 1), dtype=np.int64), hard_negatives=2)
    assert few.prepare(ROWS, draws_of(0, 0)).columns["answers"].shape == (2, 3)


def told(sequences: Any) -> torch.Tensor:  # noqa: ANN401
    """Vectors of items 0 to 5: angles that grow with the number, but 5 lies between 0 and 1."""
    angles = torch.tensor([0.0, 0.3, 0.7, 1.2, 1.8, 0.1])[[tokens[1] for tokens in sequences]]
    return torch.stack([angles.cos(), angles.sin()], dim=1) * 2.0


def rows(*examples: tuple[int, list[int], str], sliced: bool) -> pa.Table:
    columns = {"item_idx": [e[0] for e in examples], "history": [e[1] for e in examples]}
    return pa.table(columns | ({"slice": [e[2] for e in examples]} if sliced else {}))


def test_validation_ranks_within_a_slice() -> None:
    # the user of each row liked item 0; nearest first the others are 5, 1, 2, 3, 4
    examples = ((1, [0], "warm"), (3, [0], "warm"), (5, [0], "cold"))
    figures = made().measure(told, rows(*examples, sliced=True))
    # warm: 1 is first of {1, 3}, 3 second; cold: 5 is alone
    assert figures["recall@20"] == 1.0
    assert figures["ndcg@20"] == pytest.approx(((1 + 1 / np.log2(3)) / 2 + 1) / 2)
    whole = made().measure(told, rows(*examples, sliced=False))
    # among {1, 3, 5}: second, third, first
    assert whole["ndcg@20"] == pytest.approx((1 / np.log2(3) + 0.5 + 1) / 3)


def test_validation_leaves_out_what_the_user_has() -> None:
    figures = made().measure(told, rows((1, [0, 5], ""), (5, [3], ""), (3, [4], ""), sliced=False))
    # 5 is nearer to the first user than 1 is, but theirs; the second is at 3: 3 is theirs, then 1, then 5
    assert figures["ndcg@20"] == pytest.approx((1 + 1 / np.log2(3) + 1) / 3)


def test_what_a_list_holds_is_found_however_often_it_comes() -> None:
    draw = torch.Generator().manual_seed(0)
    for n, width, m in ((1, 1, 1), (5, 3, 7), (40, 6, 80)):
        lists = torch.randint(-1, 30, (n, width), generator=draw)  # -1 fills up
        items = torch.randint(0, 30, (m,), generator=draw)
        expected = (lists[:, :, None] == items[None, None, :]).any(dim=1)
        torch.testing.assert_close(_occurs(lists, items), expected)
