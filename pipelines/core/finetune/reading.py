"""A network that only reads: outputs without gradients, shared out among all workers."""

from __future__ import annotations

import torch

from pipelines.core.finetune.network import Learner, Network
from pipelines.core.finetune.objective import Encode, Sequences
from pipelines.core.finetune.parallel import Workers


def reader(module: Learner | Network, *, bfloat16: bool, workers: Workers | None = None) -> Encode:
    """A function of sequences; to be called by all workers, and the same on each of them."""
    everyone = workers or Workers()

    def encode(sequences: Sequences) -> torch.Tensor:
        own = everyone.share(sequences)
        device = next(module.parameters()).device
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            most = module.at_once
            parts = [module(own[at : at + most]).float() for at in range(0, len(own), most)]
        outputs = torch.cat(parts) if parts else torch.zeros(0, 0, device=device)
        return everyone.gather(outputs).cpu()

    return encode
