"""Packed attention against the model's own, text by text; what it cannot do it leaves to padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    CLIPTextConfig,
    CLIPTextModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    PhimoeConfig,
    PhimoeModel,
    RobertaConfig,
    RobertaModel,
    XLNetConfig,
    XLNetModel,
)

from pipelines.core import packing
from pipelines.core.forward import Forward, length_batches
from pipelines.core.packing import CannotPackError, attention, enable_packing, packed_states

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
SHARED_KEYS = {**SIZES, "num_key_value_heads": 2, "vocab_size": 90}
# lengths with runs of one and of several texts, and a single token
LENGTHS = (17, 17, 17, 9, 9, 8, 1)

PACKED: dict[str, Any] = {
    "bert": lambda: BertModel(BertConfig(vocab_size=90, **SIZES)),
    "roberta": lambda: RobertaModel(RobertaConfig(vocab_size=90, pad_token_id=1, **SIZES)),
    "gpt2": lambda: GPT2Model(GPT2Config(vocab_size=90, n_embd=32, n_layer=2, n_head=4)),
    "llama": lambda: LlamaModel(LlamaConfig(**SHARED_KEYS)),  # causal, rotary, heads share keys
}


def made(make: Any, dtype: torch.dtype = torch.float32) -> Any:  # noqa: ANN401
    torch.manual_seed(1)
    model = make()
    with torch.no_grad():  # far from the small initial values, so that a wrong mask or position shows
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    return model.to(dtype).eval()


def batch() -> list[list[int]]:
    random = torch.Generator().manual_seed(2)
    # the first ids are padding and its kin in some of the models
    return [torch.randint(5, 90, (n,), generator=random).tolist() for n in LENGTHS]


def first_position(name: str) -> int:
    return 2 if name == "roberta" else 0


@torch.inference_mode()
def alone(model: Any) -> torch.Tensor:  # noqa: ANN401
    return torch.cat([model(input_ids=torch.tensor([tokens])).last_hidden_state[0] for tokens in batch()])


@pytest.mark.parametrize("scores_at_once", [1 << 19, 4 * 17 * 17 * 2, 1])
@pytest.mark.parametrize("name", PACKED)
def test_packed_texts_are_as_alone(name: str, scores_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one piece per run, in pieces of two texts, and in pieces of one."""
    monkeypatch.setattr(packing, "_SCORES_AT_ONCE", scores_at_once)
    model = made(PACKED[name])
    expected = alone(model)
    assert enable_packing(model, first_position(name))
    with torch.inference_mode():
        found = packed_states(model, batch(), first_position(name))
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("causal", [False, True])
def test_products_in_bfloat16_are_attention(causal: bool) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, 4, 11, 8) for _ in range(3))
    found = packing._products(q.bfloat16(), k.bfloat16(), v.bfloat16(), causal, 0.3).float()
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=0.3)
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("most_scores", [1 << 23, 0])
@pytest.mark.parametrize("name", PACKED)
def test_bfloat16_packs_too(name: str, most_scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By products and, where a text has too many scores to be held, without."""
    monkeypatch.setattr(packing, "_MOST_SCORES", most_scores)
    model = made(PACKED[name], torch.bfloat16)
    exact = alone(made(PACKED[name]))
    assert enable_packing(model, first_position(name))
    with torch.inference_mode():
        found = packed_states(model, batch(), first_position(name)).float()
    assert torch.nn.functional.cosine_similarity(found, exact, dim=1).min() > 0.98


def test_built_in_attention_is_left_alone() -> None:
    model = made(lambda: XLNetModel(XLNetConfig(vocab_size=90, d_model=32, n_layer=1, n_head=4, d_inner=48)))
    assert not enable_packing(model, 0)
    assert not Forward(model, "mean", 64, pad=0).is_packed


WINDOWS: dict[str, Any] = {
    "told to attention": lambda: MistralModel(MistralConfig(sliding_window=12, **SHARED_KEYS)),
    "in the mask alone": lambda: PhimoeModel(
        PhimoeConfig(sliding_window=12, num_local_experts=2, pad_token_id=0, **SHARED_KEYS)
    ),
}


@pytest.mark.parametrize("window", WINDOWS)
def test_attention_with_a_window_is_left_alone(window: str) -> None:
    """Texts of the check fit the window, so that states alone would not show it."""
    model = made(WINDOWS[window])
    expected = alone(model)
    forward = Forward(model, "mean", 4000, pad=0)
    assert not forward.is_packed
    with torch.inference_mode():
        torch.testing.assert_close(forward._padded_states(batch()), expected, atol=2e-4, rtol=2e-4)


def test_a_model_that_refuses_more_tokens_than_a_text_may_have_is_left_alone() -> None:
    """CLIP does; the batch has 78 tokens, the longest text 17, the check's texts 17 together."""
    sizes = {**SIZES, "vocab_size": 90, "max_position_embeddings": 40, "pad_token_id": 0}
    model = made(lambda: CLIPTextModel(CLIPTextConfig(bos_token_id=1, eos_token_id=2, **sizes)))
    assert not Forward(model, "mean", 4000, pad=0).is_packed
    model = made(lambda: BertModel(BertConfig(**sizes)))
    expected = alone(model)
    forward = Forward(model, "mean", 4000, pad=0)
    assert forward.is_packed
    with torch.inference_mode():
        torch.testing.assert_close(packed_states(model, batch(), 0), expected, atol=2e-4, rtol=2e-4)


def test_a_model_that_counts_positions_otherwise_is_left_alone() -> None:
    model = made(PACKED["roberta"])
    expected = alone(model)
    assert not enable_packing(model, 0)
    torch.testing.assert_close(alone(model), expected)


def test_features_that_are_not_here_are_refused() -> None:
    q = torch.zeros(1, 2, 3, 4)
    with pytest.raises(CannotPackError, match="softcap"):
        attention(torch.nn.Module(), q, q, q, None, softcap=30.0)
    with pytest.raises(CannotPackError, match="a mask of its own"):
        attention(torch.nn.Module(), q, q, q, torch.zeros(1))
    with pytest.raises(CannotPackError, match="a window"):
        packing.no_mask(local_size=128)
    with pytest.raises(CannotPackError, match="a mask of its own"):
        packing.no_mask(use_vmap=True)


def test_batches_keep_to_the_token_budget() -> None:
    lengths = [3, 9, 1, 9, 0, 4, 4, 20]
    packed = length_batches(lengths, 18, padded=False)
    assert [[lengths[i] for i in b] for b in packed] == [[20], [9, 9], [4, 4, 3, 1]]
    padded = length_batches(lengths, 18, padded=True)
    assert [[lengths[i] for i in b] for b in padded] == [[20], [9, 9], [4, 4, 3, 1]]
    assert [[lengths[i] for i in b] for b in length_batches(lengths, 12, padded=True)] == [
        [20], [9], [9], [4, 4, 3], [1],
    ]  # fmt: skip
    assert [[lengths[i] for i in b] for b in length_batches(lengths, 12, padded=False)] == [
        [20], [9], [9], [4, 4, 3, 1],
    ]  # fmt: skip
    assert length_batches([], 18, padded=True) == length_batches([0], 18, padded=False) == []
