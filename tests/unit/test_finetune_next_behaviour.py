"""A decoder learns what comes next: its loss by hand, an obvious rule, and answers as a list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM, BertConfig, BertForMaskedLM

from pipelines.core.config import FinetuneConfig
from pipelines.core.errors import ConfigError
from pipelines.core.finetune.continuation import ContinuationNetwork, Pair
from pipelines.core.finetune.loop import Training
from pipelines.core.finetune.network import Learner
from pipelines.core.finetune.next_behaviour import NextBehaviour, Reading
from pipelines.core.finetune.objective import draws_of
from pipelines.core.finetune.order import Order
from pipelines.core.finetune.parallel import Workers
from pipelines.core.finetune.trainable import add_lora, set_dropout
from tests.unit.tiny_models import DECODERS, catalogue_titles, make_tiny, make_tokenizer, token_table
from tests.unit.trainings import Recorder

N = 12
PAIRS: list[Pair] = [([0, 7, 9], [4, 5, 6]), ([3], [8]), ([0, 7, 9], [10, 11]), ([0, 7, 9], [4])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("decoders")
    for family in DECODERS:
        make_tiny(family, root / family)
    return root


def network(folder: Path, family: str = "gpt2", scale: float = 4.0) -> ContinuationNetwork:
    model = AutoModelForCausalLM.from_pretrained(folder / family, dtype=torch.float32)
    set_dropout(model, 0.0)
    with torch.no_grad():  # far from the small initial values, so that a wrong place shows
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(scale)
    return ContinuationNetwork(model)


def objective(titles: Sequence[str], family: str = "gpt2", **changed: Any) -> NextBehaviour:  # noqa: ANN401
    settings = FinetuneConfig.model_validate(
        {
            "objective": "next_behaviour", "steps": 80, "batch_size": 12, "learning_rate": 1e-2, "train": "all",
            "precision": "float32", "evaluate_every": 80, "max_tokens": 48, "max_history": 2, **changed,
        }
    )  # fmt: skip
    tokenizer = make_tokenizer(family)
    return NextBehaviour(token_table(tokenizer, titles), Reading.of(tokenizer), settings)


def by_hand(model: Any, pair: Pair) -> list[float]:  # noqa: ANN401
    """One pair, token by token, by the whole model."""
    prompt, target = pair
    total = 0.0
    for i, token in enumerate(target):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *target[:i]]])).logits[0, -1]
        total += float(logits.log_softmax(0)[token])
    return [total, len(target)]


@pytest.mark.parametrize("family", DECODERS)
def test_only_the_target_counts_and_each_token_by_what_is_before_it(folder: Path, family: str) -> None:
    net = network(folder, family)
    expected = torch.tensor([by_hand(net.model, pair) for pair in PAIRS])
    torch.testing.assert_close(net(PAIRS).detach(), expected, rtol=1e-4, atol=1e-4)
    # a prompt that neighbours share is read once, which changes nothing
    torch.testing.assert_close(net.read(PAIRS), expected, rtol=1e-4, atol=1e-4)
    shared = [PAIRS[0], PAIRS[2], PAIRS[3], PAIRS[1]]
    torch.testing.assert_close(net.read(shared), expected[[0, 2, 3, 1]], rtol=1e-4, atol=1e-4)
    assert net.read([]).shape == (0, 2)


def test_the_loss_by_hand(folder: Path) -> None:
    """Mean log-likelihood of the right item's tokens, and its share among the candidates."""
    outputs = torch.tensor([[[-6.0, 3.0], [-8.0, 2.0]], [[-1.0, 1.0], [-6.0, 2.0]]])
    assert float(objective(["a"]).loss(outputs[:, :1], {})) == pytest.approx(2 + 1)
    told_apart = -np.log(np.exp(-2) / (np.exp(-2) + np.exp(-4))) - np.log(
        np.exp(-1) / (np.exp(-1) + np.exp(-3))
    )
    both = objective(["a"], candidate_loss=0.5, negatives=1).loss(outputs, {})
    assert float(both) == pytest.approx(3 + 0.5 * told_apart)
    # means -2, -4, -1, -3 against themselves and one more
    other = outputs + torch.tensor([1.0, 0.0])
    assert float(objective(["a"]).disagreement(outputs, other)) == pytest.approx(
        (1 / 9 + 1 / 4) / 2 + (1 + 1 / 4) / 2
    )


def test_what_is_read_and_what_is_said() -> None:
    titles = ["red chair", "blue sofa", "", "木椅子"]
    made = objective(titles, max_history=2)
    line = made.reading.separator
    assert made.reading.tokenizer.decode(list(line)) == "\n"
    rows = pa.table({"item_idx": [3, 2], "history": [[2, 0, 1], []]})
    prepared = made.prepare(rows, draws_of(0, 0))
    text = [made.items[i].tolist() for i in range(4)]
    assert prepared.sequences == [
        ([*made.reading.start, *text[0], *line, *text[1], *line], text[3]),
        (list(made.reading.start), list(line)),  # nothing read, and an item without text
    ]
    several = objective(titles, candidate_loss=1.0, negatives=2).prepare(rows, draws_of(0, 0)).sequences
    assert len(several) == 6
    assert all(prompt == several[0][0] for prompt, _ in several[:3])
    # nor is the right one among the others
    assert {tuple(target) for _, target in several[4:]} <= {tuple(t) for i, t in enumerate(text) if i != 2}


def test_a_prompt_keeps_the_newest() -> None:
    reading = Reading(None, (0,), (9,))
    texts = [[1, 1], [2, 2, 2], [3]]
    assert reading.prompt(texts, 20) == [0, 1, 1, 9, 2, 2, 2, 9, 3, 9]
    assert reading.prompt(texts, 9) == [0, 2, 2, 2, 9, 3, 9]
    assert reading.prompt(texts, 6) == [0, 3, 9]
    assert reading.prompt(texts[:2], 4) == [0, 2, 2, 9]
    assert reading.prompt([], 4) == [0]


def test_augmentation_leaves_what_is_to_be_said_alone() -> None:
    made = objective(catalogue_titles(False)[:N], token_dropout=0.5)
    rows = pa.table({"item_idx": [1], "history": [[0, 2]]})
    plain = made.prepare(rows, None).sequences
    changed = [made.prepare(rows, draws_of(seed, 0)).sequences for seed in range(5)]
    assert all(target == plain[0][1] for ((_, target),) in changed)
    assert all(len(prompt) < len(plain[0][0]) for ((prompt, _),) in changed)


@pytest.mark.parametrize(
    ("family", "chinese", "changed"),
    [
        ("gpt2", False, {}),
        ("qwen2", True, {"candidate_loss": 1.0, "negatives": 3, "discount": 1.0}),
    ],
)
def test_it_learns_that_b_comes_after_a(
    folder: Path, family: str, chinese: bool, changed: dict[str, Any]
) -> None:
    """A circle of items: after each comes the one beside it."""
    titles = catalogue_titles(chinese)[:N]
    made = objective(titles, family, max_history=1, **changed)
    rows = pa.table({"item_idx": [(i + 1) % N for i in range(N)], "history": [[i] for i in range(N)]})
    net = network(folder, family, scale=1.0)
    order = Order(N, made.settings.batch_size, N, seed=0)

    def rows_from(first: int) -> Iterator[pa.Table]:
        return (rows.take(numbers) for numbers in order.steps(first))

    learner, watch = Learner(net, made.head(net)), Recorder()
    standing = Training(learner, made, made.settings, order, rows, Workers(), watch).run(rows_from)
    before, after = (point.figures for point in standing.curve)
    assert after["loss"] < 0.7 * before["loss"]
    assert after["ndcg@20"] > max(0.9, before["ndcg@20"] + 0.3)
    right = 0
    for i in range(N):
        found = made.answer(net.read, [i], 3)
        assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
        right += found[0][0] == (i + 1) % N
    assert right >= 0.9 * N
    # somebody new, who says the words of an item
    (best, _), *_ = made.answer(net.read, titles[4], 2)
    assert best == 5
    assert {item for item, _ in made.answer(net.read, titles[4], 9, among=[3, 5, 7])} == {3, 5, 7}
    assert 4 not in {item for item, _ in made.answer(net.read, [4], N)}


class Told:
    """A decoder whose likelihoods are known, by the first token of a target."""

    def __init__(self, alone: dict[int, float], after: dict[int, float]) -> None:
        """By first token, without and with a history."""
        self._alone, self._after = alone, after

    def __call__(self, pairs: Sequence[Any]) -> torch.Tensor:
        """Of each pair."""
        found = []
        for prompt, target in pairs:
            table = self._alone if len(prompt) == 1 else self._after
            found.append([table[target[0]] * len(target), len(target)])
        return torch.tensor(found)


def test_a_discount_undoes_what_is_likely_anyway() -> None:
    """Item 2 is likely after anything; item 1 becomes more so by the history."""
    made = objective(["red chair", "木椅子", "blue sofa", "blue sofa"])
    first = [int(made.items[i][0]) for i in range(4)]
    told = Told({first[1]: -5.0, first[2]: -1.0}, {first[1]: -2.0, first[2]: -0.9})
    rows = pa.table({"item_idx": [1, 2, 3], "history": [[0], [0], [0]]})
    figures = made.measure(told, rows)
    # item 1 is third of three without discount, and first with it; the others share places 0.5 and 1.5
    shared = 1 / np.log2(2.5), 1 / np.log2(3.5)
    assert figures["ndcg@20_plain"] == pytest.approx((1 / np.log2(4) + 2 * shared[0]) / 3)
    assert figures["ndcg@20_discounted"] == pytest.approx((1 + 2 * shared[1]) / 3)
    assert figures["ndcg@20"] == figures["ndcg@20_plain"]
    assert figures["loss"] == pytest.approx((2.0 + 0.9 + 0.9) / 3)
    assert [i for i, _ in made.answer(told, [0], 1)] == [2]
    pmi = objective(["red chair", "木椅子", "blue sofa", "blue sofa"], discount=1.0)
    assert pmi.answer(told, [0], 2) == [(1, pytest.approx(3.0)), (2, pytest.approx(0.1))]


def test_lora_learns_here_too(folder: Path) -> None:
    settings = FinetuneConfig(lora_rank=2, train="all")
    net = network(folder)
    add_lora(net.model, settings)
    again = ContinuationNetwork(net.model)
    again(PAIRS).sum().backward()
    assert {n for n, w in again.named_parameters() if w.grad is not None and "lora_" not in n} == set()


def test_a_network_that_looks_ahead_is_refused() -> None:
    model = BertForMaskedLM(
        BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    )
    with pytest.raises(ConfigError, match="BertForMaskedLM looks ahead"):
        ContinuationNetwork(model)


def test_a_tokenizer_without_a_beginning_is_refused() -> None:
    with pytest.raises(ConfigError, match="no token that begins or ends"):
        Reading.of(make_tokenizer("bert"))
