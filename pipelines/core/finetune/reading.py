"""A network that only reads: outputs without gradients, shared out among all workers."""

from __future__ import annotations

import torch
from torch import nn

from pipelines.core.finetune.objective import Encode, Sequences
from pipelines.core.finetune.parallel import Workers

_AT_ONCE = 256
"""Sequences of one forward pass."""


def reader(module: nn.Module, *, bfloat16: bool, workers: Workers | None = None) -> Encode:
    """A function of sequences; to be called by all workers, and the same on each of them."""
    everyone = workers or Workers()

    def encode(sequences: Sequences) -> torch.Tensor:
        own = everyone.share(sequences)
        device = next(module.parameters()).device
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            parts = [module(own[at : at + _AT_ONCE]).float() for at in range(0, len(own), _AT_ONCE)]
        outputs = torch.cat(parts) if parts else torch.zeros(0, 0, device=device)
        return everyone.gather(outputs).cpu()

    return encode
