"""A finished fine-tuning to be asked: classes of texts, scores of items for somebody, what comes next.

It is put together from the folder that the stage left, as it was for training, with what it learnt in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import load_file
from scipy.special import expit, softmax

from pipelines.core.config import Config, load_config
from pipelines.core.errors import ArtefactError, InputError
from pipelines.core.finetune.calibration import Calibration
from pipelines.core.finetune.classification import Classification
from pipelines.core.finetune.examples import HISTORY
from pipelines.core.finetune.files import ExampleFiles
from pipelines.core.finetune.next_behaviour import NextBehaviour
from pipelines.core.finetune.pairwise import Pairwise, Purchase
from pipelines.core.finetune.reading import reader
from pipelines.core.finetune.setup import prepare
from pipelines.core.ids import row_numbers
from pipelines.core.layout import Layout
from pipelines.core.schema import ITEM_IDX, USER_IDX
from pipelines.core.sections.finetuning import VECTOR_OBJECTIVES
from pipelines.core.storage import read_json
from pipelines.core.text import clean_text

DoubleArray = npt.NDArray[np.float64]
Scored = list[tuple[str, float]]
"""Item ids with scores, best first."""


class Taught:
    """What an objective with a model of its own has left."""

    def __init__(self, layout: Layout) -> None:
        """Load it.

        Raises:
            ArtefactError: there is none in this build.

        """
        if not layout.finetune_report.is_file():
            raise ArtefactError(f"nothing is fine-tuned in {layout.root}. Run `kindling finetune` first.")
        config, report = load_config(layout.finetune_config), read_json(layout.finetune_report)
        self.objective: str = config.finetune.objective
        if self.objective in VECTOR_OBJECTIVES:
            raise ArtefactError(
                f"{layout.root}: objective = '{self.objective}' left an encoder, which the build embeds with. There is "
                "nothing else to ask it; `kindling recommend` asks the build."
            )
        self._layout = layout
        self._files = ExampleFiles(layout.examples, histories_end=self.objective == "next_behaviour")
        setup = prepare(_as_it_is_now(config, layout), self._files)
        if layout.tuned_head.is_file():
            setup.learner.head.load_state_dict(load_file(layout.tuned_head))
        setup.learner.eval()
        self._most, self._tokenizer = config.finetune.max_tokens, setup.tokenizer
        self._asked, self._encode = setup.objective, reader(setup.learner, bfloat16=False)
        line = report.get("calibration")
        self._calibrated = Calibration(**line) if line else Calibration(1.0, 0.0, 0.0, 0.0)

    def classes(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Probability of each class for each text, calibrated, the likeliest class first.

        Raises:
            InputError: it was not taught to classify.

        """
        objective = cast(Classification, self._is("classification"))
        names: list[str] = read_json(self._files.classes)
        sequences = [objective.template.one(self._tokens(text), self._most) for text in texts]
        logits = self._encode(sequences).double().numpy().reshape(-1, len(names))
        found: DoubleArray = softmax(self._calibrated(logits), axis=1)
        return [{names[c]: float(row[c]) for c in np.argsort(-row, kind="stable")} for row in found]

    def scores(self, items: Sequence[str], words: str = "", user_id: str | None = None) -> Scored:
        """Ratings, or probabilities of a purchase, of these items; of somebody new by their words alone.

        Raises:
            InputError: it was not taught to score, or an item or the user is not in the build.

        """
        objective = cast(Pairwise, self._is("rating", "purchase"))
        rows = self.rows("items", items)
        own: Sequence[int] | npt.NDArray[np.int32] = self._tokens(words)
        liked: list[list[int]] = [[] for _ in rows]
        if user_id is not None:
            (user,) = self.rows("users", [user_id])
            asked = pa.table({USER_IDX: np.full(len(rows), user), ITEM_IDX: rows})
            liked = self._files.histories().beside(asked, before=False).column(HISTORY).to_pylist()
            if not words and objective.users is not None:
                own = objective.users[user]
        sequences = [
            sequence
            for row, titles in zip(rows.tolist(), liked, strict=True)
            for sequence in objective.sequences(own, titles, objective.items[row])
        ]
        raw = self._calibrated(objective.said(self._encode, sequences))
        values: DoubleArray = expit(raw) if isinstance(objective, Purchase) else raw
        order = np.argsort(-values, kind="stable")
        return [(items[i], float(values[i])) for i in order]

    def next(
        self, n: int, query: str = "", user_id: str | None = None, among: Sequence[str] | None = None
    ) -> Scored:
        """The items most likely to come next, by the mean log-likelihood of their titles' tokens.

        Args:
            n: items at most.
            query: words of somebody new.
            user_id: whose history to go on from, where there is no query.
            among: items to choose from; None: all, a pass through the decoder for each.

        Raises:
            InputError: it was not taught what comes next, or an item or the user is not in the build.

        """
        objective = cast(NextBehaviour, self._is("next_behaviour"))
        asked: str | list[int] = clean_text(query)
        if not asked and user_id is not None:
            (user,) = self.rows("users", [user_id])
            asked = self._files.histories()[user].tolist()
        rows = None if among is None else self.rows("items", among).tolist()
        ids = self._ids("items")
        return [(ids[row], score) for row, score in objective.answer(self._encode, asked, n, rows)]

    def rows(self, table: str, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Row numbers of ids of items or users.

        Raises:
            InputError: one is not in the build.

        """
        known = pq.read_table(self._layout.ids(table)).column(0).combine_chunks()
        # the argument of a command may be no Unicode: an id of nothing
        told = [name if name.encode("utf-8", "ignore").decode() == name else None for name in ids]
        found = row_numbers(pa.array(told, known.type), known)
        if len(found) and found.min() < 0:
            missing = ids[int(np.argmin(found))]
            raise InputError(f"{table.removesuffix('s')} '{missing}' is not in this build.")
        return found

    def _ids(self, table: str) -> list[str]:
        ids: list[str] = pq.read_table(self._layout.ids(table)).column(0).to_pylist()
        return ids

    def _is(self, *objectives: str) -> object:
        if self.objective not in objectives:
            raise InputError(
                f"this build was taught '{self.objective}', which cannot be asked for {' or '.join(objectives)}."
            )
        return self._asked

    def _tokens(self, text: str) -> list[int]:
        """Of a text as a build reads it: without markup, with single spaces."""
        found: list[int] = self._tokenizer(
            clean_text(text), add_special_tokens=False, truncation=True, max_length=self._most
        )["input_ids"]
        return found


def _as_it_is_now(config: Config, layout: Layout) -> Config:
    """The encoder is what was left: whole, with LoRA merged, and nothing is to be learnt any more."""
    done: dict[str, Any] = {"lora_rank": 0, "keep_layers": 0, "dropout": 0.0, "checkpoint_activations": False}
    encoder = config.encoder.model_copy(update={"model": str(layout.tuned_encoder)})
    return config.model_copy(update={"encoder": encoder, "finetune": config.finetune.model_copy(update=done)})
