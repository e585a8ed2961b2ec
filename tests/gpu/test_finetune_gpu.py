"""A training on a CUDA device has the losses it has on the CPU, and bfloat16 stays near them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipelines.core.config import FinetuneConfig
from pipelines.core.finetune.contrastive import Contrastive
from pipelines.core.finetune.loop import Training
from pipelines.core.finetune.network import Learner, TextNetwork
from pipelines.core.finetune.order import Order
from pipelines.core.finetune.parallel import Workers
from pipelines.core.finetune.tokens import Template
from pipelines.core.finetune.trainable import set_dropout
from tests.unit.tiny_models import catalogue_texts, load_tiny, token_table
from tests.unit.trainings import Recorder

pytestmark = pytest.mark.gpu
N = 32


def losses(device: str, precision: str, micro_batch: int = 0) -> list[float]:
    settings = FinetuneConfig.model_validate(
        {
            "objective": "contrastive", "steps": 8, "batch_size": 16, "learning_rate": 1e-3, "train": "all",
            "precision": precision, "evaluate_every": 8, "max_tokens": 24, "micro_batch": micro_batch,
        }
    )  # fmt: skip
    tokenizer, model = load_tiny("bert")
    set_dropout(model, 0.0)
    network = TextNetwork(model.to(device), "mean", tokenizer.pad_token_id)
    items = token_table(tokenizer, catalogue_texts()[:N])
    rows = pa.table({"item_idx": np.arange(N), "history": [[i ^ 1] for i in range(N)]})
    objective = Contrastive(items, Template.of(tokenizer), np.full(N, 1 / N), None, settings)
    order, watch = Order(N, settings.batch_size, N, seed=0), Recorder()

    def rows_from(first: int) -> Iterator[pa.Table]:
        return (rows.take(numbers) for numbers in order.steps(first))

    Training(Learner(network, torch.nn.Identity()), objective, settings, order, rows, Workers(), watch).run(
        rows_from
    )
    return watch.losses


def test_the_cpu_agrees_with_itself_in_pieces() -> None:
    assert losses("cpu", "float32", micro_batch=8) == pytest.approx(losses("cpu", "float32"), rel=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_gpu_equals_cpu() -> None:
    exact = losses("cpu", "float32")
    assert losses("cuda", "float32") == pytest.approx(exact, rel=5e-3)
    assert losses("cuda", "float32", micro_batch=8) == pytest.approx(exact, rel=5e-3)
    assert losses("cuda", "bfloat16") == pytest.approx(exact, rel=5e-2)
