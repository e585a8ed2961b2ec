"""Which weights learn and how fast: by name, for every policy; LoRA leaves the others and merges without a trace."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import OPTConfig, OPTModel

from pipelines.core.config import EncoderConfig, FinetuneConfig
from pipelines.core.encoder import load_pretrained
from pipelines.core.errors import ConfigError
from pipelines.core.finetune.network import Learner, TextNetwork
from pipelines.core.finetune.trainable import (
    add_lora,
    freeze,
    learnable,
    n_layers,
    optimizer,
    rate_at,
    recompute_activations,
    set_dropout,
)
from tests.unit.tiny_models import MODELS, load_tiny

BATCH = [[2, 40, 41, 42, 3], [2, 50, 3], [2, 60, 61, 3]]


def learner_of(family: str = "bert", *, pack: bool = True) -> Learner:
    """An encoder without dropout, far from its small initial values, and a head of one number."""
    _, model = load_tiny(family)
    set_dropout(model, 0.0)
    torch.manual_seed(0)
    network = TextNetwork(model, "mean", 0, pack=pack)
    return Learner(network, nn.Linear(network.n_dimensions, 1))


def moved(learner: Learner, settings: FinetuneConfig, first: int = 0, n: int = 2) -> set[str]:
    """Names of the weights that steps change."""
    before = {name: weight.detach().clone() for name, weight in learner.named_parameters()}
    steps = optimizer(learner, settings)
    for step in range(first, first + n):
        freeze(learner, settings, step)
        steps.zero_grad()
        learner(BATCH).square().sum().backward()
        steps.step()
    return {name for name, weight in learner.named_parameters() if not torch.equal(weight, before[name])}


def names(learner: Learner, pattern: str) -> set[str]:
    return {
        name for name, _ in learner.named_parameters() if re.search(pattern, name) and "pooler" not in name
    }


@pytest.mark.parametrize(
    ("train", "pattern"),
    [
        ("all", "."),
        ("layers", r"encoder\.layer|^head"),
        ("top", r"encoder\.layer\.1\.|^head"),
        ("head", "^head"),
    ],
)
def test_exactly_the_named_weights_learn(train: str, pattern: str) -> None:
    learner = learner_of()
    expected = names(learner, pattern)
    assert len(expected) >= 2
    settings = FinetuneConfig.model_validate({"train": train, "top_layers": 1, "weight_decay": 0.0})
    assert set(learnable(learner, settings)) == expected
    # the bias of keys shifts all scores of a query alike, which softmax does not see: its gradient is rounding
    assert moved(learner, settings) | names(learner, r"key\.bias") >= expected
    assert moved(learner, settings) <= expected


@pytest.mark.parametrize(
    ("family", "below", "top"),
    [
        ("gpt2", r"wte|wpe", r"\.h\.1\.|ln_f|^head"),
        ("qwen2", r"embed_tokens", r"\.layers\.1\.|\.norm\.weight|^head"),
        (
            "xlnet",
            r"word_embedding|mask_emb|seg_embed|r_s_bias",
            r"\.layer\.1\.(?!.*(seg_embed|r_s_bias))|^head",
        ),
        ("xlm-roberta", r"embeddings", r"encoder\.layer\.1\.|^head"),
    ],
)
def test_policies_know_the_names_of_other_families(family: str, below: str, top: str) -> None:
    learner = learner_of(family)
    assert n_layers(learner) == 2
    found = learnable(learner, FinetuneConfig(train="layers"))
    assert set(found) == names(learner, ".") - names(learner, below)
    found = learnable(learner, FinetuneConfig(train="top", top_layers=1))
    assert set(found) == names(learner, top)


@pytest.mark.parametrize("family", MODELS)
def test_all_that_learns_has_a_gradient(family: str) -> None:
    """Else workers would wait for one that never comes."""
    learner = learner_of(family)
    settings = FinetuneConfig(train="all")
    freeze(learner, settings, 0)
    learner(BATCH).sum().backward()
    assert {name for name, weight in learner.named_parameters() if weight.grad is not None} == set(
        learnable(learner, settings)
    )


def test_gradual_unfreezing_goes_down_a_layer_at_a_time() -> None:
    learner = learner_of()
    settings = FinetuneConfig(train="gradual", steps=8)
    one, both = names(learner, r"encoder\.layer\.1\.|^head"), names(learner, r"encoder\.layer|^head")
    frozen = [(freeze(learner, settings, step), learns(learner)) for step in range(8)]
    assert [changed for changed, _ in frozen] == [True, False, True, False, False, False, False, False]
    assert [found for _, found in frozen] == [one] * 2 + [both] * 6
    fresh = learner_of()
    assert moved(fresh, settings, first=0) <= one
    assert names(fresh, r"layer\.0\.attention\.output\.dense\.weight") <= moved(fresh, settings, first=4)


def learns(learner: Learner) -> set[str]:
    return {name for name, weight in learner.named_parameters() if weight.requires_grad}


def test_nothing_to_learn_is_refused() -> None:
    network = learner_of().network
    with pytest.raises(ConfigError, match="train = 'head' leaves nothing to learn"):
        learnable(Learner(network, nn.Identity()), FinetuneConfig(train="head"))


# LoRA


@pytest.mark.parametrize("family", ["bert", "gpt2", "qwen2", "xlm-roberta"])
def test_lora_leaves_the_base_and_merges_without_a_trace(family: str, tmp_path: Path) -> None:
    settings = FinetuneConfig(train="all", lora_rank=2, learning_rate=0.1, weight_decay=0.0)
    tokenizer, model = load_tiny(family)
    set_dropout(model, 0.0)
    torch.manual_seed(0)
    adapter = add_lora(model, settings)
    network = TextNetwork(model, "mean", 0)
    learner = Learner(network, nn.Linear(network.n_dimensions, 1))
    with torch.no_grad():
        before = network(BATCH)
    # B begins at zero, so A has a gradient from the second step on
    changed = moved(learner, settings, n=3)
    assert changed == names(learner, r"lora_|^head")
    assert len(names(learner, "lora_")) >= 4
    with torch.no_grad():
        trained = network(BATCH)
    assert (trained - before).norm() > 0.05 * before.norm()

    merged = adapter.merge_and_unload()
    assert not [name for name, _ in merged.named_parameters() if "lora_" in name]
    with torch.no_grad():
        torch.testing.assert_close(network(BATCH), trained, rtol=1e-3, atol=1e-4)
    merged.set_attn_implementation("eager")
    merged.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    _, again = load_pretrained(EncoderConfig(model=str(tmp_path)), "float32")
    with torch.no_grad():
        torch.testing.assert_close(TextNetwork(again, "mean", 0)(BATCH), trained, rtol=1e-3, atol=1e-4)


def test_lora_asks_for_matrices_it_does_not_know() -> None:
    _, model = load_tiny("bert")
    with pytest.raises(
        ConfigError, match=r"Name matrices in finetune\.lora_targets, of: dense, key, query, value"
    ):
        add_lora(model, FinetuneConfig(train="all", lora_rank=2, lora_targets=("nothing",)))
    add_lora(model, FinetuneConfig(train="all", lora_rank=2, lora_targets=("key",)))
    assert all(".key." in name for name, _ in model.named_parameters() if "lora_" in name)


# rates


def test_each_layer_learns_slower_than_the_one_after_it() -> None:
    learner = learner_of()
    settings = FinetuneConfig(train="all", learning_rate=0.01, head_learning_rate=0.5, layer_decay=0.5)
    steps = optimizer(learner, settings)
    of = {id(weight): name for name, weight in learner.named_parameters()}
    rate = {of[id(w)]: group["lr"] for group in steps.param_groups for w in group["params"]}
    expected = {
        r"^head": 0.5,
        r"encoder\.layer\.1\.": 0.01,
        r"encoder\.layer\.0\.": 0.005,
        "embeddings": 0.0025,
    }
    for pattern, value in expected.items():
        assert {rate[name] for name in names(learner, pattern)} == {value}
    assert set(rate) == names(learner, ".")


@pytest.mark.parametrize("family", MODELS)
def test_biases_and_norms_do_not_decay(family: str) -> None:
    learner = learner_of(family)
    steps = optimizer(learner, FinetuneConfig(train="all", weight_decay=0.3))
    of = {id(weight): name for name, weight in learner.named_parameters()}
    decay = {of[id(w)]: group["weight_decay"] for group in steps.param_groups for w in group["params"]}
    free = names(learner, r"bias$|(?i:norm|\.ln_\w+)\.weight$|layernorm\.weight$") & set(decay)
    assert {name for name, value in decay.items() if value == 0.0} == free
    assert set(decay.values()) == {0.0, 0.3}


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [1 / 3, 2 / 3, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [1 / 3, 2 / 3, 1.0, 0.5 + 2**-1.5, 0.5, 0.5 - 2**-1.5]),
        ("constant", [1 / 3, 2 / 3, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_rates_rise_over_the_warm_up_and_fall(schedule: str, expected: list[float]) -> None:
    settings = FinetuneConfig.model_validate({"schedule": schedule, "steps": 6, "warmup": 0.34})
    assert [rate_at(step, settings) for step in range(6)] == pytest.approx(expected)
    none = settings.model_copy(update={"warmup": 0.0})
    assert rate_at(0, none) == 1.0


# dropout, and activations that are computed twice


def test_dropout_is_set_wherever_it_is_kept() -> None:
    _, bert = load_tiny("bert")
    assert {m.p for m in bert.modules() if isinstance(m, nn.Dropout)} == {0.1}
    set_dropout(bert, 0.25)
    assert {m.p for m in bert.modules() if isinstance(m, nn.Dropout)} == {0.25}
    _, qwen = load_tiny("qwen2")
    set_dropout(qwen, 0.25)
    assert {layer.self_attn.attention_dropout for layer in qwen.layers} == {0.25}
    small = {"hidden_size": 16, "num_hidden_layers": 1, "ffn_dim": 16, "num_attention_heads": 2}
    opt = OPTModel(OPTConfig(vocab_size=20, word_embed_proj_dim=16, **small))
    set_dropout(opt, 0.25)
    assert opt.decoder.layers[0].dropout == opt.decoder.layers[0].self_attn.dropout == 0.25


@pytest.mark.parametrize(
    ("family", "pack", "differs"), [("bert", True, True), ("qwen2", True, False), ("qwen2", False, True)]
)
def test_packed_attention_has_no_dropout_of_its_own(family: str, pack: bool, differs: bool) -> None:
    """Qwen2 has no other: packed, two passes are the same."""
    _, model = load_tiny(family)
    set_dropout(model, 0.3)
    network = TextNetwork(model, "mean", 0, pack=pack).train()
    with torch.no_grad():
        assert torch.allclose(network(BATCH), network(BATCH)) != differs


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "gpt2", "qwen2"])
def test_activations_computed_twice_make_the_same_gradient(family: str, dropout: float) -> None:
    def gradients(twice: bool) -> tuple[dict[str, torch.Tensor], int]:
        _, model = load_tiny(family)
        set_dropout(model, dropout)
        if twice:
            recompute_activations(model)
        network = TextNetwork(model, "mean", 0, pack=not dropout and not twice).train()
        assert not (twice and network.is_packed)
        passes: list[int] = []
        last = [m for m in model.modules() if isinstance(m, nn.LayerNorm) or "RMSNorm" in type(m).__name__][1]
        last.register_forward_hook(lambda *_: passes.append(1))
        torch.manual_seed(3)
        network(BATCH).square().sum().backward()
        return {n: w.grad for n, w in model.named_parameters() if w.grad is not None}, len(passes)

    (once, n), (again, m) = gradients(False), gradients(True)
    assert m == 2 * n
    assert set(once) == set(again)
    for name, gradient in once.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_a_recomputing_network_is_never_packed() -> None:
    """Packed attention's layout is gone when the backward pass wants it."""
    _, model = load_tiny("bert")
    recompute_activations(model)
    assert not TextNetwork(model, "mean", 0).is_packed


def test_a_model_that_cannot_recompute_says_so() -> None:
    _, model = load_tiny("xlnet")
    with pytest.raises(ConfigError, match="checkpoint_activations: XLNetModel"):
        recompute_activations(model)
