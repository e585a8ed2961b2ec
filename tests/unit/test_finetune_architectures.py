"""Every kind of encoder learns: contrastive steps on tiny models, English and Chinese, float32 and bfloat16."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from pipelines.core.config import FinetuneConfig
from pipelines.core.finetune.contrastive import Contrastive
from pipelines.core.finetune.loop import Training
from pipelines.core.finetune.network import Learner, TextNetwork
from pipelines.core.finetune.order import Order
from pipelines.core.finetune.parallel import Workers
from pipelines.core.finetune.tokens import Template
from pipelines.core.finetune.trainable import set_dropout
from tests.unit.tiny_models import MODELS, catalogue_titles, load_tiny, token_table
from tests.unit.trainings import Recorder

PACKED = {"bert", "roberta", "xlm-roberta", "gpt2", "qwen2"}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("chinese", [False, True], ids=["english", "chinese"])
@pytest.mark.parametrize("family", MODELS)
def test_each_architecture_learns(family: str, chinese: bool, precision: str) -> None:
    """Items 2i and 2i + 1 belong together: the loss falls, and each finds its partner more often than before."""
    settings = FinetuneConfig.model_validate(
        {
            "objective": "contrastive", "steps": 20, "batch_size": 16, "learning_rate": 1e-2, "train": "all",
            "precision": precision, "evaluate_every": 20, "max_tokens": 24, "popularity_correction": 0.0,
            "temperature": 0.2,
        }
    )  # fmt: skip
    titles = catalogue_titles(chinese)[:32]
    tokenizer, model = load_tiny(family)
    set_dropout(model, 0.0)
    network = TextNetwork(model, "mean", tokenizer.pad_token_id or 0)
    assert network.is_packed == (family in PACKED)
    items = np.arange(len(titles))
    rows = pa.table({"item_idx": items, "history": [[int(i) ^ 1] for i in items]})
    objective = Contrastive(
        token_table(tokenizer, titles), Template.of(tokenizer), np.full(len(titles), 1 / 32), None, settings
    )
    order, watch = Order(len(rows), settings.batch_size, len(rows), seed=0), Recorder()
    learner = Learner(network, objective.head(network))

    def rows_from(first: int) -> Iterator[pa.Table]:
        return (rows.take(numbers) for numbers in order.steps(first))

    standing = Training(learner, objective, settings, order, rows, Workers(), watch).run(rows_from)
    assert np.mean(watch.losses[-2:]) < 0.5 * watch.losses[0]
    assert standing.best == 1
    assert standing.curve[1].figures["ndcg@20"] > standing.curve[0].figures["ndcg@20"] + 0.15
