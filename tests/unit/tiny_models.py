"""Tiny language models of every kind, made on the spot: random weights, a tokenizer that knows the generated catalogue.

A folder holds what `load_pretrained` and `AutoModelForCausalLM` want: config.json, model.safetensors, a tokenizer with
the special tokens of its family. All are two layers of 32 numbers; they know nothing, and learn in a few steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
    XLNetConfig,
    XLNetModel,
)

from pipelines.core.catalogue import GeneratorConfig, generate
from pipelines.core.config import EncoderConfig
from pipelines.core.encoder import load_pretrained
from pipelines.core.finetune.tokens import TokenTable, tokenize

N_TOKENS = 1500
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_ROBERTA_POSITIONS = 130
"""Two more than the others have: they start behind the padding index."""


@cache
def catalogue_texts() -> tuple[str, ...]:
    """Title and description of 120 generated items, half of them Chinese."""
    made = generate(GeneratorConfig(n_items=120, n_users=20, n_interactions=200, chinese_share=0.5)).items_df
    return tuple(f"{t}. {d}" for t, d in zip(made["title"], made["description"], strict=True))


@cache
def catalogue_titles(chinese: bool) -> tuple[str, ...]:
    """Distinct titles of generated items of one language."""
    config = GeneratorConfig(n_items=120, n_users=20, n_interactions=200, chinese_share=float(chinese))
    return tuple(dict.fromkeys(generate(config).items_df["title"]))


def make_tiny(family: str, folder: Path) -> Path:
    """Write the tiny model of a family into `folder`, which is made, and give it back."""
    tokenizer = make_tokenizer(family)
    torch.manual_seed(0)
    model = MODELS[family](tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def load_tiny(family: str, made: Path | None = None) -> tuple[Any, Any]:
    """Tokenizer and encoder of a family, in single precision, as a build loads them; from `made` if it is there."""
    if made is not None:
        return load_pretrained(EncoderConfig(model=str(made)), "float32")
    with TemporaryDirectory() as folder:
        return load_tiny(family, make_tiny(family, Path(folder)))


def token_table(tokenizer: Any, texts: Sequence[str], most: int = 32) -> TokenTable:  # noqa: ANN401
    """Texts of one field each as a token table in memory."""
    return TokenTable(pa.Table.from_batches([tokenize(tokenizer, texts, [[]] * len(texts), most)]))


@cache
def make_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """As its family has them: what words are split into, and which special tokens stand where.

    The same within a process only: where two merges are as frequent, which one comes first is a matter of chance.
    """
    make, special = TOKENIZERS[family]
    raw: Tokenizer = make(list(special.values()))
    token = {name: (text, raw.token_to_id(text)) for name, text in special.items()}
    single, pair, around = {
        "bert": ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", ("cls", "sep")),
        "roberta": ("<s> $A </s>", "<s> $A </s> </s> $B </s>", ("bos", "eos")),
        "xlm-roberta": ("<s> $A </s>", "<s> $A </s> </s> $B </s>", ("bos", "eos")),
        "xlnet": ("$A <sep> <cls>", "$A <sep> $B <sep> <cls>", ("sep", "cls")),
    }.get(family, ("", "", ()))
    if single:
        raw.post_processor = processors.TemplateProcessing(
            single=single, pair=pair, special_tokens=[token[name] for name in around]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, **{f"{name}_token": text for name, (text, _) in token.items()}
    )


def _word_pieces(special: Sequence[str]) -> Tokenizer:
    raw = Tokenizer(models.WordPiece(unk_token=_BERT["unk"]))
    raw.normalizer = normalizers.BertNormalizer()
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _trained(raw, trainers.WordPieceTrainer, special)


def _byte_pairs(special: Sequence[str]) -> Tokenizer:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return _trained(raw, trainers.BpeTrainer, special, initial_alphabet=alphabet)


def _sentence_pieces(special: Sequence[str]) -> Tokenizer:
    raw = Tokenizer(models.Unigram())
    raw.normalizer = normalizers.NFKC()
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    return _trained(raw, trainers.UnigramTrainer, special, unk_token=_ROBERTA["unk"])


def _trained(raw: Tokenizer, trainer: Any, special: Sequence[str], **more: Any) -> Tokenizer:  # noqa: ANN401
    settings = {
        "vocab_size": N_TOKENS,
        "special_tokens": list(special),
        "show_progress": False,
        **more,
    }
    raw.train_from_iterator(catalogue_texts(), trainer(**settings))
    return raw


_BERT = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]"}
_ROBERTA = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>"}

TOKENIZERS: dict[str, tuple[Callable[[Sequence[str]], Tokenizer], dict[str, str]]] = {
    "bert": (_word_pieces, _BERT),
    "roberta": (_byte_pairs, _ROBERTA),
    "xlm-roberta": (_sentence_pieces, _ROBERTA),
    "xlnet": (_sentence_pieces, {"unk": "<unk>", "pad": "<pad>", "sep": "<sep>", "cls": "<cls>"}),
    "gpt2": (_byte_pairs, {"eos": "<|endoftext|>"}),
    "qwen2": (_byte_pairs, {"eos": "<|endoftext|>", "pad": "<|pad|>"}),
}

MODELS: dict[str, Callable[[Any], Any]] = {
    "bert": lambda t: BertModel(BertConfig(vocab_size=len(t), max_position_embeddings=128, **_SIZES)),
    "roberta": lambda t: RobertaModel(
        RobertaConfig(
            vocab_size=len(t), pad_token_id=1, max_position_embeddings=_ROBERTA_POSITIONS, **_SIZES
        )
    ),
    "xlm-roberta": lambda t: XLMRobertaModel(
        XLMRobertaConfig(
            vocab_size=len(t), pad_token_id=1, max_position_embeddings=_ROBERTA_POSITIONS, **_SIZES
        )
    ),
    "xlnet": lambda t: XLNetModel(
        XLNetConfig(
            vocab_size=len(t), d_model=32, n_layer=2, n_head=2, d_inner=64, pad_token_id=t.pad_token_id
        )
    ),
    "gpt2": lambda t: GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(t), n_positions=128, n_embd=32, n_layer=2, n_head=2,
            bos_token_id=t.eos_token_id, eos_token_id=t.eos_token_id,
        )
    ),
    "qwen2": lambda t: Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(t), max_position_embeddings=128, num_key_value_heads=1, bos_token_id=None,
            eos_token_id=t.eos_token_id, pad_token_id=t.pad_token_id, tie_word_embeddings=True, **_SIZES,
        )
    ),
}  # fmt: skip
DECODERS = ("gpt2", "qwen2")
"""Families whose folder is a causal language model."""
