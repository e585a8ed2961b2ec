"""A text that occurs again in a batch is computed once, unless chance tells its passes apart."""

from __future__ import annotations

import pytest
import torch

from pipelines.core.finetune.network import TextNetwork
from pipelines.core.finetune.trainable import set_dropout
from tests.unit.tiny_models import load_tiny

BATCH = [[5, 6, 7], [8, 9], [5, 6, 7], [8, 9, 10, 11], [8, 9], [5, 6, 7]]


def network(dropout: float) -> TextNetwork:
    tokenizer, model = load_tiny("bert")
    set_dropout(model, dropout)
    made = TextNetwork(model, "mean", tokenizer.pad_token_id)
    made.train()
    return made


def gradient(made: TextNetwork, loss: torch.Tensor) -> torch.Tensor:
    weight = next(w for n, w in made.named_parameters() if "attention" in n and w.ndim > 1)
    return torch.autograd.grad(loss, weight)[0]


def test_vectors_and_gradients_are_those_of_each_text_alone() -> None:
    made = network(0.0)
    factors = torch.arange(1.0, 7.0)[:, None]
    together, alone = made(BATCH), torch.cat([made([text]) for text in BATCH])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    a, b = (gradient(made, (factors * vectors.sin()).sum()) for vectors in (together, alone))
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_what_occurs_again_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made, read = network(0.0), []
    pooled = made._forward.pooled
    monkeypatch.setattr(made._forward, "pooled", lambda batch: (read.append(list(batch)), pooled(batch))[1])
    made(BATCH)
    assert read == [[[8, 9, 10, 11], [5, 6, 7], [8, 9]]]


def test_with_dropout_two_passes_of_a_text_differ() -> None:
    made = network(0.3)
    found = made(BATCH)
    assert not torch.allclose(found[0], found[2])
    made.eval()
    assert torch.equal(made(BATCH)[0], made(BATCH)[2])


def test_several_texts_are_the_mean_of_their_directions() -> None:
    made = network(0.0)
    a, b, c = made([[5, 6, 7], [8, 9], [8, 9, 10, 11]])
    found = made([([5, 6, 7], [8, 9]), [8, 9, 10, 11], ([8, 9],)])
    torch.testing.assert_close(found[0], (a / a.norm() + b / b.norm()) / 2, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1], c, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[2], b / b.norm(), rtol=1e-4, atol=1e-5)
    weight = gradient(made, found[0].sin().sum())
    assert weight.abs().sum() > 0


def test_reading_any_number_of_texts_in_batches_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    made = network(0.0).eval()
    texts = [[5 + k % 20, 6 + k // 20] for k in range(300)]
    with torch.no_grad():
        whole = made(texts)
        made._forward.budget, read, pooled = 64, [], made._forward.pooled
        monkeypatch.setattr(
            made._forward, "pooled", lambda batch: (read.append(len(batch)), pooled(batch))[1]
        )
        torch.testing.assert_close(made([*texts, *texts])[300:], whole, rtol=1e-4, atol=1e-5)
    assert sum(read) == 300
    assert max(read) <= 32
