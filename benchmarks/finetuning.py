"""Training an encoder on a CPU: ours beside the loop most people would write, and where the time goes.

    python benchmarks/finetuning.py [--data DIR] [--batch N] [--steps N] [--rounds N] [--threads N] [--quick]
        [--out FILE]

Both read the same pairs of texts of one user's items (of DIR, else generated), tokenised before, with the same loss
over the negatives of the batch. The usual loop: texts padded to the longest, AutoModel as it comes, dropout on,
bfloat16 by autocast, all weights learn, torch.optim.AdamW as it comes. Ours is the loop of pipelines/core/finetune as
it is, then with the usual choices put back one by one. All take turns in one process; each is given a step to warm up
in every round, and its fastest step counts. FLOP/s count three times the forward pass over real tokens, without
padding, whether a text is computed or found to be there already, over those of a large bfloat16 product. Threads wait
for each other on a busy machine: there trust --threads 1.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from embedding import MATRIX, item_texts, matmul_flops, model_flops
from quality import circumstances
from torch.nn import functional
from torch.profiler import profile
from transformers import AutoModel

from pipelines.core.config import EncoderConfig, FinetuneConfig
from pipelines.core.encoder import PACKAGED, load_pretrained, load_tokenizer, model_path
from pipelines.core.finetune.contrastive import Contrastive
from pipelines.core.finetune.loop import Training
from pipelines.core.finetune.network import Learner, TextNetwork
from pipelines.core.finetune.objective import Encode
from pipelines.core.finetune.order import Order
from pipelines.core.finetune.parallel import Workers
from pipelines.core.finetune.tokens import Template, TokenTable, tokenize
from pipelines.core.finetune.trainable import set_dropout

USUAL, OURS = "the usual loop", "kindling"
TEMPERATURE = 0.05
PARTS = ("forward", "backward", "optimizer")
KINDS = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm", "linear", "matmul"),
    "casts and copies": ("copy_", "_to_copy", "cat"),
    "softmax": ("_softmax", "_softmax_backward_data"),
    "gelu": ("gelu", "gelu_backward"),
    "layer norm": ("native_layer_norm", "native_layer_norm_backward"),
    "sums": ("add", "add_", "sum", "mul", "mul_"),
    "AdamW": ("_fused_adamw_",),
}


@dataclass
class Times:
    """Steps of one contender.

    Attributes:
        steps: seconds of each whole step.
        parts: of each step, seconds by name.

    """

    steps: list[float] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)

    @property
    def best(self) -> int:
        """Number of the fastest step."""
        return int(np.argmin(self.steps))


class Pairs:
    """Items of one user each, as the loop reads them."""

    def __init__(self, options: argparse.Namespace, n_items: int = 2000) -> None:
        """Tokenise texts and draw pairs; of `n_items` generated ones where no data are given."""
        self.tokenizer = load_tokenizer(EncoderConfig(model=options.model))
        texts, liked = _catalogue(options.data, n_items)
        part = tokenize(self.tokenizer, texts, [[]] * len(texts), options.max_tokens)
        self.items, self.template = TokenTable(pa.Table.from_batches([part])), Template.of(self.tokenizer)
        rng = np.random.default_rng(0)
        rows = [(i, [j for j in items if j != i]) for items in liked if len(items) > 1 for i in items]
        chosen = rng.permutation(len(rows))[: options.batch * 64]
        self.rows = pa.table(
            {
                "item_idx": pa.array([rows[k][0] for k in chosen], pa.int64()),
                "history": pa.array([rows[k][1] for k in chosen], pa.list_(pa.int64())),
            }
        )

    def batches(self, settings: FinetuneConfig, first: int = 0) -> Iterator[pa.Table]:
        """Rows of step after step."""
        order = self.order(settings)
        return (self.rows.take(pa.array(numbers)) for numbers in order.steps(first))

    def order(self, settings: FinetuneConfig) -> Order:
        """The same for all contenders."""
        return Order(len(self.rows), settings.batch_size, len(self.rows), settings.seed)

    def objective(self, settings: FinetuneConfig) -> Contrastive:
        """In-batch negatives."""
        shares = np.bincount(self.rows.column("item_idx").to_numpy(), minlength=len(self.items)) / len(
            self.rows
        )
        return Contrastive(self.items, self.template, shares, None, settings)


def _catalogue(data: Path | None, n_items: int) -> tuple[list[str], list[list[int]]]:
    """Texts, and for each user the numbers of the items they have."""
    if data is None:
        from pipelines.core.catalogue import GeneratorConfig, generate  # noqa: PLC0415

        made = generate(GeneratorConfig(n_items=n_items, n_users=n_items // 2, n_interactions=5 * n_items))
        items_df, pairs_df = made.items_df, made.interactions_df
        texts = (items_df["title"] + ". " + items_df["description"].fillna("")).tolist()
    else:
        items_df = pd.read_parquet(data / "items.parquet", columns=["item_id"])
        pairs_df = pd.read_parquet(data / "interactions.parquet", columns=["user_id", "item_id"])
        texts = item_texts(data, len(items_df))
    number = {item: k for k, item in enumerate(items_df["item_id"])}
    known_df = pairs_df[pairs_df["item_id"].isin(number)]
    liked = known_df.groupby("user_id")["item_id"].apply(lambda ids: sorted({number[i] for i in ids}))
    return [t or "nothing" for t in texts], liked.tolist()


class Usual:
    """The loop most people would write."""

    def __init__(self, pairs: Pairs, options: argparse.Namespace) -> None:
        """Load the model as it comes."""
        self._pairs, self._settings = pairs, settings_of(options)
        self._model = AutoModel.from_pretrained(model_path(options.model))
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=5e-5)
        self._pad = pairs.tokenizer.pad_token_id
        self._objective = pairs.objective(self._settings)

    def run(self, steps: int, times: Times) -> None:
        """One step to warm up, then `steps`."""
        self._model.train()
        batches = self._pairs.batches(self._settings)
        for number in range(steps + 1):
            prepared = self._objective.prepare(next(batches), None)
            found = self._step(prepared.sequences)
            if number:
                times.steps.append(found["step"])
                times.parts.append(found)

    def _step(self, sequences: Sequence[Sequence[int]]) -> dict[str, float]:
        start = time.perf_counter()
        ids, mask = _padded(sequences, self._pad)
        with torch.autocast("cpu", torch.bfloat16):
            states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
            pooled = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            vectors = functional.normalize(pooled, dim=1)
            logits = vectors[::2] @ vectors[1::2].T / TEMPERATURE
        loss = functional.cross_entropy(logits.float(), torch.arange(len(logits)))
        forward = time.perf_counter()
        loss.backward()  # type: ignore[no-untyped-call]
        backward = time.perf_counter()
        self._optimizer.step()
        self._optimizer.zero_grad()
        end = time.perf_counter()
        return {
            "step": end - start,
            "forward": forward - start,
            "backward": backward - forward,
            "optimizer": end - backward,
        }


def _padded(sequences: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, sequences))
    ids = torch.tensor([[*s, *[pad] * (width - len(s))] for s in sequences])
    mask = torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in sequences])
    return ids, mask


class _TimedLearner(Learner):
    """Notes how long its forward pass takes."""

    seconds = 0.0

    def forward(self, batch: Sequence[Any]) -> torch.Tensor:
        """As it is."""
        start = time.perf_counter()
        out = super().forward(batch)
        self.seconds = time.perf_counter() - start
        return out


class Unmeasured(Contrastive):
    """Nothing is measured beside the steps, and when the batch was ready is noted."""

    def measure(self, encode: Encode, rows: pa.Table) -> dict[str, float]:  # noqa: ARG002
        """Nothing."""
        return {self.metric: 0.0}


class Ours:
    """The loop of this project; also the one who watches it."""

    def __init__(self, pairs: Pairs, options: argparse.Namespace, **changed: Any) -> None:  # noqa: ANN401
        """Load the encoder and set it up."""
        self._pairs, self._settings = pairs, settings_of(options, **changed)
        _, model = load_pretrained(EncoderConfig(model=options.model), "float32")
        set_dropout(model, self._settings.dropout)
        self._learner = _TimedLearner(
            TextNetwork(model, "mean", pairs.tokenizer.pad_token_id or 0), torch.nn.Identity()
        )
        self._seen: list[dict[str, float]] = []

    def run(self, steps: int, times: Times) -> None:
        """One step to warm up, then `steps`."""
        settings = self._settings.model_copy(update={"steps": steps + 1, "evaluate_every": steps + 1})
        made = self._pairs.objective(settings)
        objective = Unmeasured(made.items, made.template, made.popularity, None, settings)
        training = Training(
            self._learner,
            objective,
            settings,
            self._pairs.order(settings),
            self._pairs.rows.slice(0, 1),
            Workers(),
            self,
        )
        self._seen = []
        with _OptimizerTimed(self._note):
            training.run(self._rows_from)
        for step in self._seen[1:]:
            times.steps.append(step["step"])
            times.parts.append(step)

    def _rows_from(self, first: int) -> Iterator[pa.Table]:
        for rows in self._pairs.batches(self._settings, first):
            self._started = time.perf_counter()
            yield rows

    def _note(self, seconds: float) -> None:
        self._optimizer_seconds = seconds

    def on_step(self, step: int, loss: float) -> None:  # noqa: ARG002 - of Watch
        """Note how long it took. What is no forward pass and no optimizer is backward, loss and preparation."""
        whole = time.perf_counter() - self._started
        forward, optimizer = self._learner.seconds, self._optimizer_seconds
        self._seen.append(
            {
                "step": whole,
                "forward": forward,
                "optimizer": optimizer,
                "backward": whole - forward - optimizer,
            }
        )

    def on_validation(self, point: object, state: object) -> None:
        """Nothing."""


class _OptimizerTimed:
    """Tells how long each step of any optimizer takes."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell, self._handles, self._start = tell, [], 0.0

    def __enter__(self) -> None:
        from torch.optim.optimizer import (  # noqa: PLC0415
            register_optimizer_step_post_hook,
            register_optimizer_step_pre_hook,
        )

        self._handles = [
            register_optimizer_step_pre_hook(self._before),
            register_optimizer_step_post_hook(self._after),
        ]

    def _before(self, *_: object) -> None:
        self._start = time.perf_counter()

    def _after(self, *_: object) -> None:
        self._tell(time.perf_counter() - self._start)

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


def settings_of(options: argparse.Namespace, **changed: Any) -> FinetuneConfig:  # noqa: ANN401
    """Of the loop: those of the command, and what is changed."""
    return FinetuneConfig.model_validate(
        {
            "objective": "contrastive", "batch_size": options.batch, "max_tokens": options.max_tokens,
            "history_share": 0.0, "temperature": TEMPERATURE, "warmup": 0.0, **changed,
        }
    )  # fmt: skip


def by_kind(ours: Ours) -> Mapping[str, float]:
    """Share of the time of one step by what is computed; of two, for the first of a run warms up."""
    with profile() as found:
        ours.run(1, Times())
    spent = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in found.key_averages()}
    total = sum(spent.values())
    shares = {kind: sum(spent.get(name, 0.0) for name in names) / total for kind, names in KINDS.items()}
    return {**shares, "the rest": 1.0 - sum(shares.values())}


def main() -> None:
    """Compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="folder with items.parquet and interactions.parquet; else generated"
    )
    parser.add_argument("--batch", type=int, default=128, help="examples of a step, two texts each")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4, help="of a round, after one to warm up")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--model", default=PACKAGED)
    parser.add_argument("--quick", action="store_true", help="batch of 32, 1 step, 2 rounds")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.batch, options.steps, options.rounds = 32, 1, 2
    torch.set_num_threads(options.threads)
    pairs, load = Pairs(options), os.getloadavg()[0]
    contenders: dict[str, Usual | Ours] = {
        USUAL: Usual(pairs, options),
        OURS: Ours(pairs, options),
        f"{OURS}, the table of words learns too": Ours(pairs, options, train="all"),
        f"{OURS}, that and dropout": Ours(pairs, options, train="all", dropout=0.1),
    }
    times = {name: Times() for name in contenders}
    speed = 0.0
    for _ in range(options.rounds):
        for name, contender in contenders.items():
            contender.run(options.steps, times[name])
            print(f"{name}: {times[name].steps[-1]:.2f} s", flush=True)
        speed = max(speed, matmul_flops("cpu")[0])
    page = "\n".join(_page(options, pairs, times, by_kind(contenders[OURS]), speed, load))  # type: ignore[arg-type]
    print(page)
    if options.out:
        options.out.write_text(page + "\n", encoding="utf-8")


def _page(
    options: argparse.Namespace, pairs: Pairs, times: Mapping[str, Times], kinds: Mapping[str, float], speed: float,
    load: float,
) -> list[str]:  # fmt: skip
    settings = settings_of(options)
    prepared = pairs.objective(settings).prepare(next(pairs.batches(settings)), None)
    lengths = np.array([len(s) for s in prepared.sequences])
    distinct = len({tuple(s) for s in prepared.sequences}) / len(lengths)
    full = lengths.sum() / (len(lengths) * lengths.max())
    work = 3 * model_flops(lengths, options.model)
    usual = min(times[USUAL].steps)
    data = "--data DIR " if options.data else ""
    lines = [
        "# Fine-tuning on a CPU", "", circumstances(), "",
        f"Command: `python benchmarks/finetuning.py {data}--batch {options.batch} --max-tokens {options.max_tokens} "
        f"--steps {options.steps} --rounds {options.rounds} --threads {options.threads}`. Load of the machine at the "
        f"start: {load:.1f}.", "",
        f"{options.batch} examples of two texts a step: {lengths.sum()} tokens, {full:.0%} of the padded rectangle; "
        f"{distinct:.0%} of the texts are distinct. A product of {MATRIX['cpu']} squared in "
        f"bfloat16: {speed / 1e9:.0f} GFLOP/s.", "",
        "| | examples/s | times the usual | forward s | backward s | optimizer s | of the product's FLOP/s |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, found in times.items():
        seconds, parts = min(found.steps), found.parts[found.best]
        lines.append(
            f"| {name} | {options.batch / seconds:.1f} | {usual / seconds:.2f} | "
            + " | ".join(f"{parts[part]:.2f}" for part in PARTS)
            + f" | {work / seconds / speed:.0%} |"
        )
    lines += ["", "Backward is with loss and, of ours, preparation of the batch and clipping of gradients."]
    lines += ["", f"**{usual / min(times[OURS].steps):.2f} times the examples/s of the usual loop.**", ""]
    shares = ", ".join(f"{kind} {share:.0%}" for kind, share in kinds.items())
    return [*lines, f"A step of ours by what is computed: {shares}."]


if __name__ == "__main__":
    main()
