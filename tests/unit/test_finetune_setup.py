"""A fine-tuning put together from files: what stands beside it in a report, and the folder it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import OPTConfig, OPTModel, PreTrainedTokenizerFast

from jobs.finetuning import print_finetuning
from pipelines.core.config import Config, parse_config
from pipelines.core.encoder import Encoder
from pipelines.core.errors import ConfigError
from pipelines.core.finetune.checkpoint import copy_weights
from pipelines.core.finetune.examples import Examples, Histories
from pipelines.core.finetune.files import ExampleFiles
from pipelines.core.finetune.head import linear_head
from pipelines.core.finetune.network import TextNetwork
from pipelines.core.finetune.setup import beside, export, prepare
from pipelines.core.finetune.tokens import Template, tokenize, write_tokens
from pipelines.core.finetune.trainable import learnable
from pipelines.core.layout import Layout
from tests.unit.tiny_models import catalogue_texts, load_tiny, make_tiny

N_ITEMS, N_USERS = 30, 40
WORDS = ("I love tents and camping in the rain", "我喜欢喝咖啡和茶")
"""What each half of the users says; only the first half likes anything."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny("bert", tmp_path_factory.mktemp("tiny") / "bert")


def settings(model: Path, **changed: Any) -> Config:  # noqa: ANN401
    finetune = {"objective": "rating", "max_tokens": 24, "precision": "float32", "train": "all", **changed}
    return parse_config({"encoder": {"model": str(model), "dtype": "float32"}, "finetune": finetune}, "test")


def ratings(folder: Path, model: Path, words: tuple[str, str]) -> ExampleFiles:
    """Ratings that depend on what a user says and on nothing else."""
    tokenizer, _ = load_tiny("bert", model)
    files, rng = ExampleFiles(folder), np.random.default_rng(0)
    users = np.repeat(np.arange(N_USERS), 5)
    rows = pa.table(
        {
            "user_idx": users,
            "item_idx": rng.integers(N_ITEMS, size=len(users)),
            "label": 1.0 + 4.0 * (users % 2 == 0),
        }
    )
    nothing = Histories(np.zeros(N_USERS + 1, dtype=np.int64), np.zeros(0, dtype=np.int64))
    folder.mkdir()
    files.write(Examples(rows.slice(0, 150), rows.slice(150), nothing, None), 64)
    for name, texts in (
        ("items", catalogue_texts()[:N_ITEMS]),
        ("users", [words[u % 2] for u in range(N_USERS)]),
    ):
        write_tokens(files.tokens(name), [tokenize(tokenizer, texts, [[]] * len(texts), 24)])  # type: ignore[arg-type]
    return files


@pytest.mark.parametrize("words", [WORDS, ("", "")], ids=["words", "silence"])
def test_the_content_baseline_reads_what_users_say(
    model: Path, tmp_path: Path, words: tuple[str, str]
) -> None:
    config, files = settings(model), ratings(tmp_path / "examples", model, words)
    setup = prepare(config, files)
    weights = copy_weights(learnable(setup.learner, config.finetune))
    found: Any = beside(config, setup, files, weights)
    mean, content = (found["baselines"][name]["mae"] for name in ("mean", "content"))
    assert mean == pytest.approx(2.0, abs=0.1)
    if any(words):
        assert content < 0.2
    else:
        assert content > 1.5
    assert set(found["calibration"]) >= {"slope", "offset"}


def test_a_smaller_encoder_is_left_and_embeds(model: Path, tmp_path: Path) -> None:
    config = settings(model, objective="distillation", keep_layers=1, matryoshka=[8])
    files = ratings(tmp_path / "examples", model, WORDS)
    setup = prepare(config, files)
    assert setup.whole is not None
    assert beside(config, setup, files, {}) == {}
    weights = copy_weights(learnable(setup.learner, config.finetune))
    expected = setup.learner.eval()([[1, 5, 7, 9]]).detach()
    (tmp_path / "encoder").mkdir()
    export(setup, weights, tmp_path / "encoder", tmp_path / "head.safetensors", config)
    assert not (tmp_path / "head.safetensors").exists()
    left = Encoder(config.encoder.model_copy(update={"model": str(tmp_path / "encoder")}), device="cpu")
    assert left.model.config.num_hidden_layers == 1
    torch.testing.assert_close(
        left.forward([[1, 5, 7, 9]]), torch.nn.functional.normalize(expected), atol=1e-5, rtol=0
    )


def test_nothing_smaller_is_nothing_to_learn(model: Path, tmp_path: Path) -> None:
    files = ratings(tmp_path / "examples", model, WORDS)
    with pytest.raises(ConfigError, match="keep_layers = 2 are all the layers"):
        prepare(settings(model, objective="distillation", keep_layers=2), files)


def test_the_prefix_is_read_while_learning_too(model: Path, tmp_path: Path) -> None:
    files = ratings(tmp_path / "examples", model, WORDS)
    config = settings(model, objective="distillation", keep_layers=1)
    with_prefix = config.model_copy(
        update={"encoder": config.encoder.model_copy(update={"prefix": "tent: "})}
    )
    rows = pa.table({"table": [0], "row": [3]})
    (plain,), (prefixed,) = (
        prepare(c, files).objective.prepare(rows, None).sequences for c in (config, with_prefix)
    )
    tokenizer, _ = load_tiny("bert", model)
    whole = tokenizer("tent: " + catalogue_texts()[3], truncation=True, max_length=24)["input_ids"]
    assert prefixed == whole != plain


def test_lengths_beyond_the_vector(model: Path, tmp_path: Path) -> None:
    files = ratings(tmp_path / "examples", model, WORDS)
    config = settings(model, objective="distillation", matryoshka=[8, 99])
    with pytest.raises(ConfigError, match=r"matryoshka = 99, and a vector of this encoder has 32 numbers"):
        prepare(config, files)


def test_more_tokens_than_the_encoder_reads(model: Path, tmp_path: Path) -> None:
    files = ratings(tmp_path / "examples", model, WORDS)
    most = load_tiny("bert", model)[1].config.max_position_embeddings
    prepare(settings(model, max_tokens=most), files)
    said = f"max_tokens = {most + 1}, and this encoder reads {most} tokens at most"
    with pytest.raises(ConfigError, match=said):
        prepare(settings(model, max_tokens=most + 1), files)


def test_an_empty_text_and_a_tokenizer_without_special_tokens() -> None:
    unknown = {"unk_token": "[UNK]"}
    raw = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, **unknown))
    template = Template.of(PreTrainedTokenizerFast(tokenizer_object=raw, **unknown))
    assert template.one([], 8) == [0]
    assert template.several([[], []], 8) == [0]
    assert template.one([1, 1], 8) == [1, 1]


def test_a_report_without_some_figures_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = {
        "objective": "rating", "metric": "a", "before": {"a": None, "b": 0.5}, "after": {"a": 0.25}, "steps": 2,
        "best_step": 1, "stopped": None, "examples_per_second": 3.0,
    }  # fmt: skip
    print_finetuning(report, Layout(tmp_path))
    said = capsys.readouterr().out
    assert "0.2500" in said
    assert "0.5000" in said
    assert "2 steps at 3 examples/s" in said


def test_a_head_fits_vectors_shorter_than_the_states_inside() -> None:
    opt = OPTModel(
        OPTConfig(
            vocab_size=60, hidden_size=32, word_embed_proj_dim=16, num_hidden_layers=2, num_attention_heads=2,
            ffn_dim=32, max_position_embeddings=64, do_layer_norm_before=False,
        )
    )  # fmt: skip
    network = TextNetwork(opt, "mean", 1)
    assert network.n_dimensions == 16
    assert linear_head(network.n_dimensions, [0.0, 0.0])(network([[1, 2, 3]])).shape == (1, 2)
