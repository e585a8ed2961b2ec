"""The encoder on a CUDA device gives the vectors it gives on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.core.catalogue import GeneratorConfig, generate
from pipelines.core.config import EncoderConfig
from pipelines.core.encoder import Encoder

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


def test_gpu_equals_cpu() -> None:
    items_df = generate(GeneratorConfig(n_items=200, n_users=80, n_interactions=1000)).items_df
    texts = (items_df["title"] + ". " + items_df["description"].fillna("")).tolist()
    exact = Encoder(EncoderConfig(dtype="float32"), device="cpu").encode(texts)
    for dtype in ("float32", "bfloat16"):
        ours = Encoder(EncoderConfig(dtype=dtype), device="cuda").encode(texts)
        assert np.sum(ours * exact, axis=1).min() >= 0.999, dtype
