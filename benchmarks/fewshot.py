"""Fine-tuning from labels on generated data: classes from a hundred reviews, ratings and purchases of unseen pairs.

    python benchmarks/fewshot.py [--labels N] [--seeds N] [--threads N] [--ratings OUT] [--quick] [--out FILE]
    python benchmarks/fewshot.py --only pairs [--shop-seed N] [--set steps=800 learning_rate=1e-4 ...]

Reviews: each seed draws its own labels and its own order; what is measured is the same for all of them. Pairs: what is
measured is of users and items that training has not seen; intervals are over its rows. Both are generated, so the
truth is known: reviews have one right answer each, and of pairs the best that could be said is in the table. OUT is a
build of ratings, of which the same is measured as of the generated pairs; it needs no stage after split. On a GPU where
torch sees one. --shop-seed and --set: to choose settings of pairs on another shop than the one that is reported.
"""

from __future__ import annotations

import argparse
import os
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from fewshot_pairs import Pairs, Task, Texts, make_pairs, make_shop, ratings_of
from quality import circumstances
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from pipelines.core.catalogue.reviews import SENTIMENTS, ReviewConfig, generate_reviews
from pipelines.core.config import EncoderConfig, FinetuneConfig
from pipelines.core.encoder import Encoder, load_pretrained, resolve_dtype
from pipelines.core.finetune.calibration import DoubleArray
from pipelines.core.finetune.checkpoint import Point, State, Weights, set_weights
from pipelines.core.finetune.classification import Classification
from pipelines.core.finetune.examples import LABEL
from pipelines.core.finetune.labels import TEXT_IDX
from pipelines.core.finetune.loop import Training
from pipelines.core.finetune.network import Learner, TextNetwork
from pipelines.core.finetune.objective import Encode, Objective
from pipelines.core.finetune.order import Order
from pipelines.core.finetune.pairwise import Pairwise, Purchase, Rating, labels_of
from pipelines.core.finetune.parallel import Workers
from pipelines.core.finetune.plain import baselines
from pipelines.core.finetune.reading import reader
from pipelines.core.finetune.tokens import Template, TokenTable, tokenize
from pipelines.core.finetune.trainable import add_lora, learnable, set_dropout

IntArray = npt.NDArray[np.int64]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ObjectiveOf = Callable[[Any, FinetuneConfig], Objective]
"""Of a tokenizer and settings."""
PEER = "logistic regression, frozen embeddings"
TASKS: tuple[Task, ...] = ("rating", "purchase")
HELD_OUT_SEED = 1_000_000
RESAMPLES = 1000
MOST_TO_BEGIN = 10_000
"""Pairs that a head's first weights come from, as in the product."""

FEW: dict[str, dict[str, Any]] = {
    "head only": {"train": "head", "head_learning_rate": 1e-2},
    "LoRA": {"train": "all", "lora_rank": 8, "learning_rate": 3e-3, "head_learning_rate": 3e-3},
    "full": {"train": "layers", "learning_rate": 5e-4, "head_learning_rate": 3e-3},
    "full, augmented": {
        "train": "layers", "learning_rate": 5e-4, "head_learning_rate": 3e-3, "token_dropout": 0.1,
        "label_smoothing": 0.1,
    },
}  # fmt: skip
"""What differs between the ways to learn from few labels; rates were chosen on other seeds' reviews."""
Settings = dict[str, Any]
PAIRWISE: Settings = {
    "batch_size": 64, "max_tokens": 64, "max_history": 8, "learning_rate": 5e-5, "head_learning_rate": 1e-4,
    "train": "top", "top_layers": 3,
}  # fmt: skip
"""How pairs are learnt; chosen on ratings of another seed's shop."""


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    few_steps: int = 100
    held_out: int = 1000
    users: int = 2000
    items: int = 1500
    pairs_a_user: int = 12
    pair_steps: int = 200


QUICK = Sizes(few_steps=30, held_out=200, users=150, items=200, pairs_a_user=8, pair_steps=20)


@dataclass(frozen=True)
class Trained:
    """One finished training: what was learnt, its outputs for rows it has not seen, and seconds it took."""

    objective: Objective
    outputs: DoubleArray
    seconds: float


class Last:
    """Keeps the weights of the last validation, whichever is the best."""

    weights: Weights

    def on_step(self, step: int, loss: float) -> None:
        """Nothing."""

    def on_validation(self, point: Point, state: State | None) -> str | None:  # noqa: ARG002
        """Go on."""
        assert state is not None  # noqa: S101 - the only worker is the first
        self.weights = state.weights
        return None


def main() -> None:
    """Measure, then print the page and write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="small, to see that it works")
    parser.add_argument("--only", choices=("reviews", "pairs", "ratings"))
    parser.add_argument("--ratings", type=Path, help="a build whose weights are ratings")
    parser.add_argument("--config", type=Path, help="of that build")
    parser.add_argument("--name", default="a build's", help="whose ratings they are, for the page")
    parser.add_argument("--shop-seed", type=int, default=1, help="of the generated pairs")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="settings of pairs, beside those of this file",
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sizes = QUICK if options.quick else Sizes()
    pairwise = {**PAIRWISE, "steps": sizes.pair_steps, **_settings(options.set)}
    seeds = min(options.seeds, 2) if options.quick else options.seeds
    command = f"python benchmarks/fewshot.py --labels {options.labels} --seeds {options.seeds}"
    command += f" --shop-seed {options.shop_seed}" if options.shop_seed != 1 else ""
    command += f" --set {' '.join(options.set)}" if options.set else ""
    command += f" --ratings OUT --name {options.name}" if options.ratings else ""
    command += f" --only {options.only}" if options.only else ""
    # what is there to read is read first, and each part is told when it is done
    given = ratings_of(options.ratings, options.config, 2 * sizes.held_out) if options.ratings else None
    device = f"{torch.cuda.get_device_name()}," if DEVICE == "cuda" else "No GPU,"
    head = [
        "# Fine-tuning from labels: generated data", "",
        f"{circumstances()} {device} {options.threads} threads, load {os.getloadavg()[0]:.1f} at the start.", "",
        f"Command: `{command}{' --quick' if options.quick else ''}`. Encoder {EncoderConfig().model}.",
    ]  # fmt: skip
    parts: list[Callable[[], list[str]]] = [lambda: head]
    if options.only in (None, "reviews"):
        parts.append(lambda: reviews_page(options.labels, seeds, sizes))
    if options.only in (None, "pairs"):
        parts.append(lambda: pairs_page(sizes, options.shop_seed, pairwise))
    if given is not None:
        parts.append(lambda: _pairs_table(f"Ratings: {options.name}", "rating", *given, pairwise))
    page = ""
    for part in parts:
        told = "\n".join(part()) + "\n"
        print(told, flush=True)
        page += told
        if options.out:
            options.out.write_text(page, encoding="utf-8")


def fit(objective_of: ObjectiveOf, settings: FinetuneConfig, train: pa.Table, held: pa.Table) -> Trained:
    """Train on all of `train` to the last step; outputs are of `held`."""
    tokenizer, model = load_pretrained(EncoderConfig(), "float32")
    set_dropout(model, settings.dropout)
    torch.manual_seed(settings.seed)
    if settings.lora_rank:
        add_lora(model, settings)
    network = TextNetwork(model.to(DEVICE), "mean", tokenizer.pad_token_id)
    objective: Objective = objective_of(tokenizer, settings)
    learner = Learner(network, objective.head(network)).to(DEVICE)
    order = Order(len(train), settings.batch_size, 64 * settings.batch_size, settings.seed)

    def batches(first: int) -> Iterator[pa.Table]:
        return (train.take(pa.array(numbers)) for numbers in order.steps(first))

    # the last weights are measured and none is chosen, so that a validation of two rows decides nothing
    last = Last()
    begin = None
    if isinstance(objective, Pairwise):

        def begin(encode: Encode) -> None:
            objective.begin(learner.head, encode, train.slice(0, MOST_TO_BEGIN))

    training = Training(learner, objective, settings, order, train.slice(0, 2), Workers(), last, begin=begin)
    started = time.perf_counter()
    training.run(batches)
    seconds = time.perf_counter() - started
    set_weights(learnable(learner, settings), last.weights)
    encode = reader(learner.eval(), bfloat16=resolve_dtype("auto") == "bfloat16")
    if isinstance(objective, Classification):
        return Trained(objective, objective.logits(encode, held), seconds)
    assert isinstance(objective, Pairwise)  # noqa: S101 - there is no third kind here
    return Trained(objective, objective.raw(encode, held), seconds)


def _settings(given: Sequence[str]) -> Settings:
    """Of KEY=VALUE, with values as in TOML; a word needs no quotes."""
    pairs = [pair.partition("=") for pair in given]
    found: Settings = {}
    for key, is_there, value in pairs:
        if not is_there:
            raise SystemExit(f"--set {key}: expected KEY=VALUE, as steps=800")
        try:
            found |= tomllib.loads(f"{key} = {value}")
        except tomllib.TOMLDecodeError:
            found[key] = value
    return found


# reviews


def reviews_page(n_labels: int, seeds: int, sizes: Sizes) -> list[str]:
    """Accuracy and macro-F1 of every way to learn, over seeds."""
    held_df = generate_reviews(ReviewConfig(n_reviews=sizes.held_out, seed=HELD_OUT_SEED))
    truth = np.array([SENTIMENTS.index(label) for label in held_df["label"]])
    is_chinese = (held_df["language"] == "zh").to_numpy()
    encoder = Encoder(EncoderConfig())
    held_vectors = encoder.encode(held_df["text"].tolist())
    guesses: dict[str, list[IntArray]] = {}
    seconds: dict[str, list[float]] = {}
    for seed in range(seeds):
        given_df = generate_reviews(ReviewConfig(n_reviews=n_labels, seed=seed))
        labels = np.array([SENTIMENTS.index(label) for label in given_df["label"]])
        texts = [*given_df["text"], *held_df["text"]]
        rows = pa.table({TEXT_IDX: np.arange(len(texts)), LABEL: np.concatenate([labels, truth])})
        most_frequent = np.bincount(labels).argmax()
        guesses.setdefault("most frequent class", []).append(np.full(len(truth), most_frequent))
        started = time.perf_counter()
        vectors = encoder.encode(given_df["text"].tolist())
        logistic = LogisticRegressionCV(
            Cs=10, cv=5, l1_ratios=(0.0,), use_legacy_attributes=False, max_iter=1000, scoring="neg_log_loss"
        ).fit(vectors, labels)
        guesses.setdefault(PEER, []).append(logistic.predict(held_vectors))
        seconds.setdefault(PEER, []).append(time.perf_counter() - started)
        for name, values in FEW.items():
            settings = FinetuneConfig(
                objective="classification", labels="generated", seed=seed, steps=sizes.few_steps, batch_size=16,
                evaluate_every=sizes.few_steps, **values,
            )  # fmt: skip
            found = fit(_classification(texts), settings, rows.slice(0, n_labels), rows.slice(n_labels))
            guesses.setdefault(name, []).append(found.outputs.argmax(axis=1))
            seconds.setdefault(name, []).append(found.seconds)
    lines = [
        "",
        f"## Sentiment of reviews: {n_labels} labels, {len(truth)} others measured",
        "",
        f"Mean [95 % interval] over {seeds} seeds, each with labels of its own; less head only: paired by seed. "
        f"{int(is_chinese.sum())} of the reviews measured are Chinese, of which this encoder knows little. All labels "
        f"are learnt from, {sizes.few_steps} steps of 16, and the last weights are measured. Right answers: 1.000.",
        "",
        "| | accuracy | less head only | macro-F1 | accuracy, English | accuracy, Chinese | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    accuracy = {name: [accuracy_score(truth, g) for g in found] for name, found in guesses.items()}
    for name, found in guesses.items():
        f1 = [f1_score(truth, g, average="macro", zero_division=0.0) for g in found]
        english, chinese = (
            [accuracy_score(truth[m], g[m]) for g in found] for m in (~is_chinese, is_chinese)
        )
        gain = np.subtract(accuracy[name], accuracy["head only"])
        cells = [interval(accuracy[name]), interval(gain, "+"), interval(f1), f"{np.mean(english):.3f}"]
        took = f"{np.mean(seconds[name]):.1f}" if name in seconds else "0"
        lines.append(f"| {name} | {' | '.join(cells)} | {np.mean(chinese):.3f} | {took} |")
    return lines


def _classification(texts: list[str]) -> ObjectiveOf:
    def make(tokenizer: Any, settings: FinetuneConfig) -> Objective:  # noqa: ANN401
        table = TokenTable(
            pa.Table.from_batches([tokenize(tokenizer, texts, [[]] * len(texts), settings.max_tokens)])
        )
        weights = np.ones(len(SENTIMENTS), dtype=np.float32)
        return Classification(table, Template.of(tokenizer), weights, settings)

    return make


def interval(values: Sequence[float] | DoubleArray, sign: str = "") -> str:
    """Mean and Student's 95 % interval."""
    n, mean = len(values), float(np.mean(values))
    half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return f"{mean:{sign}.3f} [{mean - half:{sign}.3f}, {mean + half:{sign}.3f}]"


# pairs


def pairs_page(sizes: Sizes, seed: int, settings: Settings) -> list[str]:
    """Ratings and purchases beside the mean, the content baseline and the truth."""
    shop = make_shop(sizes.items, sizes.users, seed)
    lines: list[str] = []
    for task in TASKS:
        pairs = make_pairs(shop, task, sizes.pairs_a_user, 2 * sizes.held_out, seed)
        lines += _pairs_table(f"{task.capitalize()}: the generated shop", task, shop.texts, pairs, settings)
    return lines


def _pairs_table(title: str, task: Task, texts: Texts, pairs: Pairs, given: Settings) -> list[str]:
    encoder = Encoder(EncoderConfig())
    vectors = encoder.encode(texts.item_texts), encoder.encode(texts.user_texts)
    settings = FinetuneConfig.model_validate({"objective": task, "evaluate_every": given["steps"], **given})
    kind = Rating if task == "rating" else Purchase
    mean = float(labels_of(pairs.train).mean())

    def make(tokenizer: Any, settings: FinetuneConfig) -> Objective:  # noqa: ANN401
        items, users = texts.tables(tokenizer, settings.max_tokens)
        return kind(items, users, Template.of(tokenizer), mean, settings)

    found = fit(make, settings, pairs.train, pairs.test)
    objective, truth = found.objective, labels_of(pairs.test)
    assert isinstance(objective, Pairwise)  # noqa: S101 - of `kind`
    started = time.perf_counter()
    outputs = {
        f"{name} of training" if name == "mean" else name: raw
        for name, raw in baselines(objective, pairs.train, pairs.test, *vectors).items()
    }
    took = {"content": time.perf_counter() - started, "fine-tuned": found.seconds}
    outputs["fine-tuned"] = found.outputs
    line = objective.line(outputs["fine-tuned"], truth)
    if pairs.told is not None and pairs.best is not None:
        outputs["best by the text's part of affinity"] = pairs.told
        outputs["best by all affinity"] = pairs.best
    figures = {name: objective.figures(truth, raw) for name, raw in outputs.items()}
    names = [name for name in figures["fine-tuned"] if not name.startswith("negative")]
    shown = "mae" if task == "rating" else "auc"
    lines = [
        "",
        f"## {title}",
        "",
        f"{len(pairs.train)} pairs to learn from, {len(truth)} measured. Those measured are of users and items that "
        f"training has not seen; user and item are read {settings.pair}. Their mean label is "
        f"{truth.mean():.3f}. {settings.steps} steps of {settings.batch_size} at {settings.max_tokens} "
        f"tokens, {settings.steps * settings.batch_size / found.seconds:.0f} pairs/s. {shown} less content: "
        f"95 % interval over {RESAMPLES} resamples of the measured pairs.",
        "",
        f"| | {' | '.join(names)} | {shown} less content | seconds |",
        "|" + "---|" * (len(names) + 3),
    ]
    for name, raw in outputs.items():
        cells = [f"{figures[name][figure]:.3f}" for figure in names]
        lines.append(
            f"| {name} | {' | '.join(cells)} | {_gain(task, truth, raw, outputs['content'])} | "
            f"{took.get(name, 0):.0f} |"
        )
    return [
        *lines,
        "",
        f"Calibration of the fine-tuned outputs by a line: error {line.before:.3f} before, {line.after:.3f} after, of "
        f"pairs the line has not seen (slope {line.slope:.2f}, offset {line.offset:+.2f}).",
    ]


def _gain(task: Task, truth: DoubleArray, raw: DoubleArray, other: DoubleArray) -> str:
    """Figure less that of `other`, with a bootstrap interval over rows."""

    def figure(rows: IntArray, values: DoubleArray) -> float:
        if task == "rating":
            return float(np.abs(values[rows] - truth[rows]).mean())
        return float(roc_auc_score(truth[rows], values[rows]))

    draws = np.random.default_rng(0).integers(len(truth), size=(RESAMPLES, len(truth)))
    everyone = np.arange(len(truth))
    low, high = np.quantile([figure(d, raw) - figure(d, other) for d in draws], [0.025, 0.975])
    return f"{figure(everyone, raw) - figure(everyone, other):+.3f} [{low:+.3f}, {high:+.3f}]"


if __name__ == "__main__":
    main()
