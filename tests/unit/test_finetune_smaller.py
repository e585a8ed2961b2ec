"""Encoders made smaller: layers taken out, what is left taught by the whole one, vectors cut, numbers of 8 bits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional
from transformers import AlbertConfig, AlbertModel, GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

from pipelines.core.config import EncoderConfig, FinetuneConfig
from pipelines.core.encoder import Encoder, encoder_fingerprint, load_pretrained
from pipelines.core.errors import ConfigError, InputError
from pipelines.core.finetune.continuation import ContinuationNetwork
from pipelines.core.finetune.contrastive import Contrastive
from pipelines.core.finetune.distillation import ROW, TABLE, Distillation, text_rows
from pipelines.core.finetune.loop import Training
from pipelines.core.finetune.negatives import as_mined
from pipelines.core.finetune.network import Learner, TextNetwork
from pipelines.core.finetune.order import Order
from pipelines.core.finetune.parallel import Workers
from pipelines.core.finetune.pruning import keep_layers
from pipelines.core.finetune.reading import reader
from pipelines.core.finetune.tokens import Template, TokenTable
from pipelines.core.finetune.trainable import learnable, n_layers, set_dropout
from tests.unit.tiny_models import MODELS, catalogue_texts, load_tiny, make_tiny, token_table
from tests.unit.trainings import Recorder

CHINESE_AND_ENGLISH = ["防水双人帐篷", "a waterproof tent for two", "手冲咖啡壶"]
SMALL: dict[str, Any] = {
    "hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 16,
}  # fmt: skip


def taught(length: int = 12, **changed: Any) -> FinetuneConfig:  # noqa: ANN401
    return FinetuneConfig.model_validate(
        {
            "objective": "distillation", "steps": 40, "batch_size": 32, "learning_rate": 5e-3, "train": "all",
            "precision": "float32", "evaluate_every": 20, "max_tokens": length, "validation_rows": 100, **changed,
        }
    )  # fmt: skip


# layers


@pytest.mark.parametrize("family", MODELS)
def test_what_is_left_is_a_model_like_any_other(family: str, tmp_path: Path) -> None:
    tokenizer, model = load_tiny(family)
    first = next(w for name, w in model.named_parameters() if ".0." in name and w.ndim == 2).clone()
    keep_layers(model, 1)
    network = TextNetwork(model, "mean", tokenizer.pad_token_id or 0)
    assert n_layers(Learner(network, torch.nn.Identity())) == 1
    tokens = tokenizer(CHINESE_AND_ENGLISH)["input_ids"]
    expected = network.eval()(tokens).detach()
    model.set_attn_implementation("eager")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    _, again = load_pretrained(EncoderConfig(model=str(tmp_path)), "float32")
    assert again.config.num_hidden_layers == 1
    assert any(torch.equal(first, w) for _, w in again.named_parameters())
    vectors = TextNetwork(again, "mean", tokenizer.pad_token_id or 0).eval()(tokens).detach()
    torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("n", "kept"), [(1, [0]), (2, [0, 5]), (3, [0, 2, 5]), (6, [0, 1, 2, 3, 4, 5])])
def test_what_is_kept_lies_evenly_between_first_and_last(n: int, kept: list[int]) -> None:
    _, model = load_pretrained(EncoderConfig(), "float32")
    layers = list(model.encoder.layer)
    keep_layers(model, n)
    assert [layers.index(layer) for layer in model.encoder.layer] == kept


def test_more_layers_than_there_are() -> None:
    _, model = load_tiny("bert")
    with pytest.raises(ConfigError, match=r"keep_layers = 3, and the encoder has 2 layers"):
        keep_layers(model, 3)


def test_layers_that_are_one_and_the_same() -> None:
    albert = AlbertModel(
        AlbertConfig(vocab_size=50, embedding_size=8, hidden_size=16, num_hidden_layers=3, num_attention_heads=2)
    )  # fmt: skip
    with pytest.raises(ConfigError, match="no list of 3 layers is found in a AlbertModel"):
        keep_layers(albert, 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=5, n_head=2)),
        lambda: Qwen2ForCausalLM(Qwen2Config(vocab_size=50, num_hidden_layers=5, **SMALL)),
    ],
)
def test_a_decoder_of_fewer_layers_keeps_keys_and_values(make: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    model = make().eval()
    keep_layers(model, 2)
    network = ContinuationNetwork(model)
    pairs = [([1, 2, 3], [4, 5, 6]), ([1, 2, 3], [7, 8])]
    apart = torch.cat([network.read([pair]) for pair in pairs])
    torch.testing.assert_close(network.read(pairs), apart, atol=1e-4, rtol=1e-4)


def test_more_top_layers_than_are_left() -> None:
    tokenizer, model = load_tiny("bert")
    network = TextNetwork(model, "mean", tokenizer.pad_token_id)
    all_layers, more = (
        set(
            learnable(Learner(network, torch.nn.Identity()), taught(keep_layers=2, train="top", top_layers=n))
        )
        for n in (2, 5)
    )
    assert more == all_layers
    assert not any("embeddings" in name for name in more)


# the whole encoder as a teacher


def distillation(settings: FinetuneConfig) -> tuple[Learner, Distillation, Any]:
    """A tiny encoder of one layer, taught by itself with two."""
    tokenizer, model = load_tiny("bert")
    set_dropout(model, 0.0)
    with torch.no_grad():  # fresh weights are so small that a layer hardly changes anything
        for name, weight in model.named_parameters():
            if ".layer." in name and weight.ndim == 2:
                weight.mul_(5)
    whole = TextNetwork(copy.deepcopy(model), "mean", 0).eval().requires_grad_(requires_grad=False)
    if settings.keep_layers:
        keep_layers(model, settings.keep_layers)
    items = token_table(tokenizer, catalogue_texts())
    words = token_table(tokenizer, [*CHINESE_AND_ENGLISH, ""])
    objective = Distillation((items, words), Template.of(tokenizer), whole, settings)
    network = TextNetwork(model, "mean", 0)
    return Learner(network, objective.head(network)), objective, tokenizer


def test_a_smaller_encoder_comes_nearer_to_the_whole_one() -> None:
    settings = taught(keep_layers=1, matryoshka=[8])
    learner, objective, _ = distillation(settings)
    train, _ = text_rows(objective.tables, settings)
    order = Order(len(train), settings.batch_size, len(train), settings.seed)

    def rows_from(first: int) -> Iterator[pa.Table]:
        return (train.take(numbers) for numbers in order.steps(first))

    before = [w.clone() for w in objective.teacher.parameters()]
    standing = Training(learner, objective, settings, order, train, Workers(), Recorder()).run(rows_from)
    figures = [point.figures for point in standing.curve]
    assert standing.step == settings.steps
    assert figures[-1]["cosine"] > figures[0]["cosine"] + 0.005
    # of so few texts one of the two may be as good as it gets before anything is learnt
    names = ("neighbours@10", "neighbours@10 of 8")
    assert any(max(f[name] for f in figures[1:]) > figures[0][name] for name in names)
    assert all(torch.equal(a, b) for a, b in zip(before, objective.teacher.parameters(), strict=True))


def test_nothing_is_lost_where_both_are_the_same() -> None:
    settings = taught(keep_layers=2)
    learner, objective, _ = distillation(settings)
    rows = pa.table({TABLE: [0, 0, 1], ROW: [3, 4, 1]})
    prepared = objective.prepare(rows, None)
    outputs = learner(prepared.sequences)[:, None, :].detach()
    assert float(objective.loss(outputs, prepared.columns)) == pytest.approx(0.0, abs=1e-4)


def test_the_loss_by_hand() -> None:
    _, objective, _ = distillation(taught(keep_layers=1, matryoshka=[2]))
    own = torch.tensor([[1.0, 0.0, 1.0], [0.0, 2.0, 0.0]])
    wanted = functional.normalize(torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]), dim=1)
    cosine = float(wanted[0] @ wanted[1])
    distance = (1 - np.sqrt(0.5)) + (1 - np.sqrt(0.5))
    # both lengths have cosine 0 between the two rows; each row's mean is over itself, without error, and the other
    errors = 2 * cosine**2 / 2
    lost = objective.loss(own[:, None, :], {"teacher": wanted})
    assert float(lost) == pytest.approx(distance + 20.0 * errors, abs=1e-5)


def test_every_text_is_learnt_from_or_held_out_and_empty_ones_are_neither() -> None:
    settings = taught(keep_layers=1)
    _, objective, _ = distillation(settings)
    train, held = text_rows(objective.tables, settings)
    places = [tuple(row.values()) for part in (train, held) for row in part.to_pylist()]
    assert len(set(places)) == len(places) == 120 + len(CHINESE_AND_ENGLISH)
    assert len(held) == len(places) // 10
    few = token_table(load_tiny("bert")[0], CHINESE_AND_ENGLISH)
    with pytest.raises(InputError, match="3 texts of items and users; expected 20 or more"):
        text_rows([few], settings)


@pytest.mark.parametrize("validation_rows", [1, 100])
def test_the_fewest_texts_can_be_measured(validation_rows: int) -> None:
    settings = taught(keep_layers=1, validation_rows=validation_rows)
    _, whole, tokenizer = distillation(settings)
    texts = token_table(tokenizer, catalogue_texts()[:20])
    objective = Distillation((texts,), whole.template, whole.teacher, settings)
    train, held = text_rows([texts], settings)
    assert (len(train), len(held)) == (18, 2)
    assert objective.measure(reader(whole.teacher, bfloat16=False), held)[objective.metric] == 1.0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"objective": "distillation"}, "say what is smaller"),
        ({"objective": "distillation", "keep_layers": 1, "train": "head"}, "has no head"),
        ({"objective": "rating", "matryoshka": [8]}, "does not shape vectors"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        FinetuneConfig.model_validate(settings)


# shorter vectors


def test_items_and_their_first_numbers_are_told_apart_together() -> None:
    tokens = pa.array([[i, i] for i in range(4)], pa.list_(pa.int32()))
    table = TokenTable(pa.table({"tokens": tokens, "fields": pa.array([[0, 0]] * 4, pa.list_(pa.int8()))}))
    outputs = torch.randn(3, 2, 8, generator=torch.Generator().manual_seed(1))
    columns = {"answers": torch.tensor([[0], [1], [2]]), "wanted": torch.tensor([[3], [0], [1]])}

    def loss(vectors: torch.Tensor, **changed: object) -> float:
        settings = FinetuneConfig.model_validate({"objective": "contrastive", **changed})
        objective = Contrastive(table, Template((1,), (2,), (3,)), np.full(4, 0.25), None, settings)
        return float(objective.loss(vectors, columns))

    expected = (loss(outputs) + loss(outputs[..., :4]) + loss(outputs[..., :2])) / 3
    assert loss(outputs, matryoshka=[4, 2]) == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_tiny("bert", tmp_path_factory.mktemp("tiny") / "bert"))


def test_a_vector_is_cut_and_has_length_1_again(tiny: str) -> None:
    texts = [*CHINESE_AND_ENGLISH, ""]
    whole = Encoder(EncoderConfig(model=tiny, dtype="float32"))
    cut = Encoder(EncoderConfig(model=tiny, dtype="float32", dimensions=8))
    assert cut.n_dimensions == 8
    vectors = cut.encode(texts)
    first = whole.encode(texts)[:, :8]
    lengths = np.linalg.norm(first, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, first / np.where(lengths > 0, lengths, 1), atol=1e-6)
    assert not vectors[-1].any()
    assert encoder_fingerprint(cut.config) != encoder_fingerprint(whole.config)
    with pytest.raises(ConfigError, match=r"dimensions = 64, and a vector of this encoder has 32 numbers"):
        Encoder(EncoderConfig(model=tiny, dimensions=64))


def test_hard_negatives_are_found_by_whole_vectors() -> None:
    cut = EncoderConfig(dimensions=8, dtype="int8", pooling="cls")
    assert as_mined(cut) == EncoderConfig(pooling="cls")


def test_xlnet_computes_in_single_precision(tmp_path: Path) -> None:
    folder = str(make_tiny("xlnet", tmp_path / "xlnet"))
    assert Encoder(EncoderConfig(model=folder, dtype="float32"), device="cpu").encode(["a"]).any()
    with pytest.raises(
        ConfigError, match=r"cannot compute in bfloat16, as XLNet: encoder\.dtype = 'float32'"
    ):
        Encoder(EncoderConfig(model=folder, dtype="bfloat16"), device="cpu")


# 8 bits


def test_8_bits_stay_near_32() -> None:
    texts = [*CHINESE_AND_ENGLISH, *catalogue_texts()[:20], ""]
    exact = Encoder(EncoderConfig(dtype="float32"), device="cpu").encode(texts)
    rounded = Encoder(EncoderConfig(dtype="int8"), device="cpu").encode(texts)
    cosines = (exact * rounded).sum(axis=1)[:-1]
    assert cosines.min() > 0.9
    assert (cosines < 0.99999).any(), "nothing was rounded"
    assert not rounded[-1].any()


def test_a_model_without_linear_layers_has_nothing_to_round(tmp_path: Path) -> None:
    folder = make_tiny("gpt2", tmp_path / "gpt2")
    with pytest.raises(ConfigError, match="has no linear layers to round"):
        Encoder(EncoderConfig(model=str(folder), dtype="int8"), device="cpu")
