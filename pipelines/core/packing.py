"""Texts one behind the other through a Hugging Face model: no padding, hence nothing computed for nobody.

A batch of texts is usually a rectangle, padded to the longest. Here it is one row that holds the tokens of all
texts, positions starting anew with each. All layers but attention look at one token at a time and never
know; attention is replaced, through transformers' own registry, by one that keeps each text to itself.

Dimensions: T tokens of all texts, H heads, D numbers per head, n texts of L tokens each in a run.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

NAME = "kindling_packed"
"""What the attention is called in transformers' registry."""

_SCORES_AT_ONCE = 1 << 19
"""Attention scores computed together on a CPU, so that they stay in its cache: 1 MB in bfloat16."""

_MOST_SCORES = 1 << 23
"""Of a text, that are written down on a CPU: 16 MB in bfloat16; a text of 8,192 tokens would need 1.6 GB."""

_CAPTION = 256
"""Tokens: what can read no more than this is made for captions."""

_HARMLESS = frozenset(
    {"position_ids", "output_attentions", "use_cache", "dropout", "is_causal", "cache_position"}
)
"""Arguments of attention that change nothing here; any other that is set is a feature this one lacks."""

_TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""How far, relatively, the packed states of a text may be from the ordinary ones: rounding."""

log = logging.getLogger(__name__)
_current = threading.local()


class CannotPackError(Exception):
    """The model's attention does what packed attention does not."""


def packed_states(model: Any, batch: Sequence[Sequence[int]], first_position: int) -> torch.Tensor:  # noqa: ANN401
    """(T, E) last hidden states of all tokens of the batch, text after text.

    `model` must have passed `enable_packing`. Texts of equal length should be neighbours: attention is
    computed for a run of them at once.
    """
    lengths = [len(tokens) for tokens in batch]
    ids = torch.tensor(list(itertools.chain.from_iterable(batch)))
    positions = torch.cat([torch.arange(n) for n in lengths]) + first_position
    _current.layout = _Layout(lengths, model.device)
    try:
        states: torch.Tensor = model(
            input_ids=ids[None].to(model.device), position_ids=positions[None].to(model.device)
        ).last_hidden_state[0]
    finally:
        del _current.layout
    return states


def enable_packing(model: Any, first_position: int, most_tokens: int = 0) -> bool:  # noqa: ANN401
    """Give `model` packed attention, if it then still says of short texts what it said before.

    False leaves the model as it was: its attention is built in (XLNet), or has features that are not
    here, such as windows. `most_tokens` are those of the largest batch it will be given.
    """
    from transformers import (  # noqa: PLC0415 - seconds; who packs has it already
        AttentionInterface,
        AttentionMaskInterface,
    )

    usual = getattr(model.config, "_attn_implementation", None)
    n_tokens = min(int(getattr(model.config, "vocab_size", 0)), 1000)
    if not getattr(model, "_supports_attention_backend", False) or not usual or not n_tokens:
        return False
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, no_mask)
    random = torch.Generator().manual_seed(0)
    probes = [torch.randint(n_tokens, (n,), generator=random).tolist() for n in (7, 7, 3)]
    with torch.inference_mode():
        alone = [model(input_ids=torch.tensor([p], device=model.device)).last_hidden_state[0] for p in probes]
        # models of captions refuse a batch of more tokens than a text may have (CLIP, 77), so the check has more; those
        # of 512 and above do not, and would be a second about it
        longest = int(getattr(model.config, "max_position_embeddings", None) or 0)
        times = 1 + longest // sum(map(len, probes)) if longest < min(most_tokens, _CAPTION) else 1
        expected = torch.cat(alone * times)
        try:
            model.set_attn_implementation(NAME)
            found = packed_states(model, probes * times, first_position)
            gap = (found - expected).norm() / expected.norm()
            if gap <= _TOLERANCE[model.dtype]:
                return True
            reason = f"the states of its tokens differ by {float(gap):.2g}"
        except (CannotPackError, ImportError, TypeError, ValueError, RuntimeError, IndexError) as e:
            reason = str(e)
    log.info("%s is run with padding: %s", type(model).__name__, reason)
    model.set_attn_implementation(usual)
    return False


class _Layout:
    """Where each text lies among the T tokens."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.longest = max(lengths)
        self.runs: list[tuple[int, int]] = [(n, len(list(group))) for n, group in itertools.groupby(lengths)]
        ends = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
        self.ends = ends.to(device) if device.type == "cuda" else ends


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **features: Any,  # noqa: ANN401
) -> tuple[torch.Tensor, None]:
    """Attention as transformers asks for it, of (1, H, T, D): (1, T, H, D), each text for itself.

    Raises:
        CannotPackError: a mask or a feature is asked for that is not here.

    """
    unknown = [k for k, v in features.items() if v is not None and k not in _HARMLESS]
    if attention_mask is not None or unknown:
        raise CannotPackError(f"its attention has {', '.join(unknown) or 'a mask of its own'}")
    layout: _Layout = _current.layout
    causal = bool(features.get("is_causal") or getattr(module, "is_causal", False))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if key.shape[1] != query.shape[1]:  # heads that share keys
        key, value = (x.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for x in (key, value))
    if query.is_cuda and query.dtype != torch.float32:
        return _flash(query, key, value, layout, causal, scale), None
    return _by_runs(query, key, value, layout, causal, scale), None


def no_mask(*, local_size: int | None = None, use_vmap: bool = False, **_: Any) -> None:  # noqa: ANN401
    """The mask as transformers asks for it: nothing, for each text is by itself anyway.

    Windows are not always among the features that attention is told of (Phi-MoE); here they are.

    Raises:
        CannotPackError: a window, or a rule of the model's own, is asked for.

    """
    if local_size is not None or use_vmap:
        raise CannotPackError(f"its attention has {'a window' if local_size else 'a mask of its own'}")


def _flash(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: _Layout, causal: bool, scale: float
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415 - from torch 2.10 on

    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    ends, longest = layout.ends, layout.longest
    window = (-1, 0) if causal else (-1, -1)
    states: torch.Tensor = varlen_attn(  # type: ignore[assignment]  # a pair where more is asked for
        q, k, v, ends, ends, longest, longest, scale=scale, window_size=window
    )
    return states[None]


def _by_runs(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: _Layout, causal: bool, scale: float
) -> torch.Tensor:
    """A run of texts of one length is a rectangle; computed in pieces whose scores stay in the cache."""
    n_heads, _, width = query.shape[1:]
    shapes = []
    for length, n in layout.runs:
        step = n if query.is_cuda else max(1, _SCORES_AT_ONCE // (n_heads * length * length))
        shapes += [(min(step, n - first), length) for first in range(0, n, step)]
    # (T, H, D), where the tokens of a text are neighbours; split, whose gradient is one copy, not one per piece
    sizes = [m * length for m, length in shapes]
    pieces = zip(*(torch.split(x[0].transpose(0, 1), sizes) for x in (query, key, value)), strict=True)
    half_on_cpu = query.dtype == torch.bfloat16 and not query.is_cuda
    found = []
    for shape, piece in zip(shapes, pieces, strict=True):
        # flash attention of a CPU without matrix tiles multiplies bfloat16 slowly; products of whole matrices do not,
        # but hold all scores of a text
        one = _products if half_on_cpu and n_heads * shape[1] ** 2 <= _MOST_SCORES else _sdpa
        q, k, v = (x.view(*shape, n_heads, width).transpose(1, 2) for x in piece)
        found.append(one(q, k, v, causal, scale).transpose(1, 2))
    return torch.cat([piece.reshape(-1, n_heads, width) for piece in found])[None]


def _sdpa(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, scale: float) -> torch.Tensor:
    return functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)


def _products(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, scale: float) -> torch.Tensor:
    m, n_heads, length, _ = q.shape
    q, k, v = (x.reshape(m * n_heads, length, -1) for x in (q, k, v))
    # beta = 0: the first argument is not read
    scores = torch.baddbmm(q.new_empty(1), q, k.transpose(1, 2), beta=0, alpha=scale)
    if causal:
        scores += scores.new_full((length, length), -torch.inf).triu(1)
    return torch.bmm(torch.softmax(scores, dim=-1), v).view(m, n_heads, length, -1)
