"""The loop does what it says: the same on any number of workers, in pieces, and after an interruption."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.distributed import FileStore
from torch.multiprocessing import get_context, start_processes
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_pre_hook

from pipelines.core.config import FinetuneConfig
from pipelines.core.finetune.augment import Augmentation
from pipelines.core.finetune.checkpoint import Standing, State
from pipelines.core.finetune.contrastive import Contrastive
from pipelines.core.finetune.loop import Training
from pipelines.core.finetune.network import Learner, TextNetwork
from pipelines.core.finetune.order import Order
from pipelines.core.finetune.parallel import Workers
from pipelines.core.finetune.tokens import Template
from pipelines.core.finetune.trainable import set_dropout
from tests.unit.tiny_models import catalogue_texts, load_tiny, make_tiny, token_table
from tests.unit.trainings import Numbers, Recorder

N_ITEMS = 40
ALMOST_NONE = 1e-12
"""Dropout that drops nothing, so that R-Drop can be compared between numbers of workers."""


class Disagreeing(Numbers):
    """Better each time for the first worker, worse for the others."""

    figure = 0.0

    def measure(self, encode: Any, rows: pa.Table) -> dict[str, float]:  # noqa: ANN401, ARG002
        """One more, or one less."""
        is_other = torch.distributed.is_initialized() and torch.distributed.get_rank() > 0
        self.figure += -1 if is_other else 1
        return {self.metric: self.figure}


def make(
    objective: str = "contrastive",
    watch: Recorder | None = None,
    workers: Workers | None = None,
    family: str = "bert",
    models: Path | None = None,
    **changed: Any,  # noqa: ANN401 - any setting
) -> Training:
    """A small training, the same every time; items are texts of the catalogue, half of them Chinese.

    `models` has a tiny model for each family; without, one is made.
    """
    settings = FinetuneConfig.model_validate(
        {
            "objective": "contrastive", "steps": 6, "batch_size": 10, "learning_rate": 2e-3, "evaluate_every": 3,
            "precision": "float32", "max_tokens": 16, "max_history": 3, "seed": 5, **changed,
        }
    )  # fmt: skip
    tokenizer, model = load_tiny(family, models / family if models else None)
    set_dropout(model, settings.dropout)
    network = TextNetwork(model, "mean", tokenizer.pad_token_id or 0)
    items, template = token_table(tokenizer, catalogue_texts()[:N_ITEMS]), Template.of(tokenizer)
    random = np.random.default_rng(0)
    made: Any
    if objective == "contrastive":
        neighbours = random.integers(N_ITEMS, size=(N_ITEMS, 6))
        made = Contrastive(items, template, random.dirichlet(np.ones(N_ITEMS)), neighbours, settings)
    else:
        augment = Augmentation(settings.token_dropout, settings.span_dropout)
        kind = Disagreeing if objective == "disagreeing" else Numbers
        made = kind(items, template, random.normal(size=N_ITEMS).tolist(), augment)
    torch.manual_seed(1)
    learner = Learner(network, made.head(network))
    order = Order(len(ROWS), settings.batch_size, 16, settings.seed)
    return Training(
        learner, made, settings, order, ROWS.slice(0, 15), workers or Workers(), watch or Recorder()
    )


def _rows() -> pa.Table:
    random = np.random.default_rng(1)
    users = [random.choice(N_ITEMS, size=random.integers(2, 6), replace=False).tolist() for _ in range(47)]
    return pa.table({"item_idx": [u[0] for u in users], "history": [u[1:] for u in users]})


ROWS = _rows()


def run(training: Training, resume: State | None = None) -> Standing:
    part = training.order.part(training.workers.rank, training.workers.world)

    def rows_from(first: int) -> Iterator[pa.Table]:
        return (ROWS.take(numbers[part]) for numbers in training.order.steps(first))

    return training.run(rows_from, resume)


def losses_of(training: Training) -> list[float]:
    assert isinstance(training.watch, Recorder)
    return training.watch.losses


def weights_of(training: Training) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in training.learner.named_parameters()}


# workers

SHARED: dict[str, dict[str, Any]] = {
    "contrastive": {},
    "in pieces of which workers have different numbers": {"micro_batch": 4},
    "hard negatives in pieces": {"hard_negatives": 2, "micro_batch": 8, "label_smoothing": 0.1},
    "augmented": {"token_dropout": 0.2, "span_dropout": 0.1},
    "adversarial": {"fgm": 0.5, "train": "all", "micro_batch": 4},
    "two passes": {"r_drop": 1.0, "dropout": ALMOST_NONE, "micro_batch": 4},
    "xlnet": {"family": "xlnet", "train": "all"},
    "an example's own loss": {"objective": "numbers"},
    "an example's own loss in pieces": {"objective": "numbers", "micro_batch": 2},
    "gradual": {"objective": "numbers", "train": "gradual"},
    "measured differently by each": {"objective": "disagreeing", "evaluate_every": 1, "patience": 1},
    "an example's own loss, two passes": {"objective": "numbers", "r_drop": 1.0, "dropout": ALMOST_NONE},
}


def share(rank: int, folder: str) -> None:
    """One process: all cases as one of 4 workers, then, if it is among them, as one of 2."""
    torch.set_num_threads(1)
    for world in (4, 2):
        if rank >= world:
            return
        store = FileStore(f"{folder}/store{world}", world)
        patience = timedelta(seconds=60)  # a worker that waits for nobody fails
        torch.distributed.init_process_group("gloo", None, patience, world, rank, store)
        found = {}
        for name, case in SHARED.items():
            training = make(**case, workers=Workers(rank, world), models=Path(folder))
            standing = run(training)
            found[name] = [losses_of(training), [point.figures for point in standing.curve]]
        # torch waits for the group's threads where its last user goes, and they for the interpreter: what holds the
        # group by the way, the reducer of gradients, has to go first
        del training, standing
        gc.collect()
        torch.distributed.destroy_process_group()
        Path(f"{folder}/{world}-{rank}.json").write_text(json.dumps(found), encoding="utf-8")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of what each worker reported."""
    folder = tmp_path_factory.mktemp("workers")
    for family in ("bert", "xlnet"):
        make_tiny(family, folder / family)
    # one process imports everything, the others are copies of it
    get_context("forkserver").set_forkserver_preload([__name__, "transformers.models.bert.modeling_bert"])
    start_processes(share, (str(folder),), nprocs=4, start_method="forkserver")
    return folder


@pytest.mark.parametrize("name", SHARED)
def test_workers_change_nothing(name: str, shared: Path) -> None:
    alone = make(**SHARED[name], models=shared)
    standing = run(alone)
    losses = losses_of(alone)
    still = make(**SHARED[name], models=shared, learning_rate=1e-9, head_learning_rate=1e-9)
    run(still)
    assert not np.allclose(
        losses[3:], losses_of(still)[3:], rtol=2e-3
    )  # it matters that gradients are shared
    for world in (2, 4):
        reports = [json.loads((shared / f"{world}-{rank}.json").read_text())[name] for rank in range(world)]
        # the first one tells of each step, the others of none; all agree on what was measured
        assert [len(report[0]) for report in reports] == [6] + [0] * (world - 1)
        np.testing.assert_allclose(reports[0][0], losses, rtol=2e-4)
        for report in reports:
            for found, expected in zip(report[1], standing.curve, strict=True):
                assert found == pytest.approx(expected.figures, abs=0.02)


# pieces


def gradients(**changed: Any) -> list[dict[str, torch.Tensor]]:  # noqa: ANN401
    """Of each step."""
    found: list[dict[str, torch.Tensor]] = []

    def keep() -> None:
        named = training.learner.named_parameters()
        found.append({name: w.grad.clone() for name, w in named if w.grad is not None})

    training = make(watch=Recorder(after_step=keep), **changed)
    run(training)
    return found


@pytest.mark.parametrize("objective", ["contrastive", "numbers"])
@pytest.mark.parametrize("micro_batch", [1, 7, 1000])
def test_pieces_make_the_same_gradient(objective: str, micro_batch: int) -> None:
    usual: dict[str, Any] = {"objective": objective, "hard_negatives": 1, "clip": 0.0, "steps": 3}
    whole, pieces = gradients(**usual), gradients(**usual, micro_batch=micro_batch)
    for one, other in zip(whole, pieces, strict=True):
        assert set(one) == set(other)
        for name, gradient in one.items():
            torch.testing.assert_close(other[name], gradient, rtol=1e-2, atol=2e-4, msg=name)
    assert sum(float(g.norm()) for g in whole[0].values()) > 0.1


def test_pieces_see_the_same_dropout_in_both_of_their_passes() -> None:
    """Else the gradient would be that of vectors that nobody compared: one piece, with and without a graph first."""
    usual: dict[str, Any] = {"dropout": 0.3, "clip": 0.0, "steps": 2, "r_drop": 0.5}
    seen: list[torch.Tensor] = []
    training = make(**usual, micro_batch=4)
    encode = training.learner.network.register_forward_hook(lambda *a: seen.append(a[2].detach().clone()))
    training.settings = training.settings.model_copy(update={"steps": 1})
    run(training)
    encode.remove()
    trained = [vectors for vectors in seen if len(vectors) == 8]  # 2 examples, 2 sequences, twice
    assert len(trained) == 10
    for first, again in zip(trained[:5], trained[5:], strict=True):
        torch.testing.assert_close(again, first)
    assert not torch.allclose(trained[0][:4], trained[0][4:])  # the two passes of R-Drop differ


# interruption

INTERRUPTED: dict[str, dict[str, Any]] = {
    "plain": {},
    "chance": {"dropout": 0.2, "token_dropout": 0.2, "r_drop": 0.3, "micro_batch": 6},
    "gradual": {"objective": "numbers", "train": "gradual", "dropout": 0.1, "span_dropout": 0.2},
    "adversarial": {"train": "all", "fgm": 0.3, "schedule": "cosine", "layer_decay": 0.8},
}


@pytest.mark.parametrize("name", INTERRUPTED)
def test_after_an_interruption_it_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    whole = make(**INTERRUPTED[name], watch=Recorder(tmp_path), steps=9)
    expected = run(whole)
    assert isinstance(whole.watch, Recorder)
    for step in (0, 3, 6, 9):
        resumed = make(**INTERRUPTED[name], steps=9)
        standing = run(resumed, whole.watch.states[step])
        assert losses_of(resumed) == whole.watch.losses[step:]
        assert (standing.step, standing.best, standing.stopped) == (9, expected.best, None)
        assert [(p.step, p.figures) for p in standing.curve] == [(p.step, p.figures) for p in expected.curve]
        assert [p.loss for p in standing.curve[1:]] == [p.loss for p in expected.curve[1:]]
        for weight, found in weights_of(resumed).items():
            assert torch.equal(found, weights_of(whole)[weight]), weight
    assert len({round(loss, 4) for loss in whole.watch.losses}) == 9


# stopping, and the best weights


class Scripted(Numbers):
    """Measures what it is told to."""

    figures: tuple[float, ...] = ()

    def measure(self, encode: Any, rows: pa.Table) -> dict[str, float]:  # noqa: ANN401, ARG002
        """The next of the script."""
        value, *rest = self.figures
        self.figures = tuple(rest)
        return {self.metric: value}


def scripted(figures: list[float], watch: Recorder, **changed: Any) -> Training:  # noqa: ANN401
    training = make("numbers", watch, evaluate_every=1, steps=len(figures) - 1, **changed)
    training.objective.__class__ = Scripted
    training.objective.figures = tuple(figures)  # type: ignore[attr-defined]
    return training


@pytest.mark.parametrize(
    ("figures", "patience", "steps", "best"),
    [
        ([0.1, 0.5, 0.3, 0.2, 0.9], 2, 3, 1),
        ([0.1, 0.5, 0.3, 0.6, 0.5, 0.5], 2, 5, 3),
        ([0.1, 0.5, 0.5, 0.5, 0.9], 0, 4, 4),
        ([0.5, 0.5, 0.4, 0.1], 0, 3, 0),  # no better than the untrained: its weights come back
        ([math.nan, 0.1, math.nan, 0.05], 0, 3, 1),
    ],
)
def test_it_stops_and_gives_the_best_weights(
    figures: list[float], patience: int, steps: int, best: int, tmp_path: Path
) -> None:
    watch = Recorder(tmp_path)
    training = scripted(figures, watch, patience=patience)
    before = weights_of(training)
    standing = run(training)
    assert (standing.step, standing.best) == (steps, best)
    assert standing.stopped == (
        "no better for 2 validations" if steps < len(figures) - 1 or patience else None
    )
    expected = {**before, **watch.states[best].weights}
    for name, weight in weights_of(training).items():
        assert torch.equal(weight, expected[name]), name
    last = watch.states[steps]
    assert last.standing.best == best
    assert all(torch.equal(weight, expected[name]) for name, weight in last.best.items())
    # and where it is asked to go on, it does not
    if patience:
        again = scripted(figures, Recorder(), patience=patience)
        assert run(again, last).step == steps
        assert losses_of(again) == []


def test_whoever_watches_can_stop_it() -> None:
    watch = Recorder()
    watch.reasons[2] = "it forgets"
    standing = run(scripted([0.1, 0.2, 0.3, 0.4], watch))
    assert (standing.step, standing.stopped) == (2, "it forgets")


def test_a_loss_that_is_no_number_ends_it_with_the_best_weights(tmp_path: Path) -> None:
    watch = Recorder(tmp_path)
    training = make("numbers", watch, steps=6, evaluate_every=2)
    training.objective._values = [1e20] * N_ITEMS  # type: ignore[attr-defined]  # its square is infinite
    before = weights_of(training)
    standing = run(training)
    assert standing.step == 1
    assert standing.stopped == "the loss of step 1 is inf: lower finetune.learning_rate"
    assert all(torch.equal(weight, before[name]) for name, weight in weights_of(training).items())
    stored = watch.states[0].standing  # told once more, for whoever goes on from it
    assert (stored.stopped, stored.curve[0].loss) == (standing.stopped, None)
    assert math.isnan(stored.curve[0].figures["agreement"])  # infinite, which JSON cannot say


# gradients that are changed


def test_a_gradient_is_clipped_to_its_norm() -> None:
    def norm(step: dict[str, torch.Tensor]) -> float:
        return float(torch.stack([g.norm() for g in step.values()]).norm())

    (free,), (clipped,) = (gradients(steps=1, clip=clip) for clip in (0.0, 0.01))
    assert norm(free) > 0.1
    assert norm(clipped) == pytest.approx(0.01, rel=1e-3)
    for name, gradient in free.items():
        torch.testing.assert_close(clipped[name], gradient * 0.01 / norm(free), rtol=1e-3, atol=1e-7)
    (loose,) = gradients(steps=1, clip=100.0)
    assert all(torch.equal(loose[name], gradient) for name, gradient in free.items())


def test_the_adversarial_pass_sees_shifted_words_which_are_put_back() -> None:
    length = 0.7
    training = make("numbers", fgm=length, train="all", steps=1, clip=0.0, learning_rate=1e-9)
    words = training.learner.network.model.get_input_embeddings().weight
    passes: list[torch.Tensor] = []
    seen = training.learner.network.register_forward_pre_hook(
        lambda *_: passes.append(words.detach().clone()) if torch.is_grad_enabled() else None
    )
    stepped: list[torch.Tensor] = []
    step = register_optimizer_step_pre_hook(lambda *_: stepped.append(words.detach().clone()))
    keep: list[torch.Tensor] = []
    training.watch = Recorder(after_step=lambda: keep.append(words.grad.clone()))
    run(training)
    seen.remove()
    step.remove()
    assert len(passes) == 2
    assert torch.equal(passes[0], stepped[0])  # put back exactly before the step

    (plain,) = gradients(objective="numbers", train="all", steps=1, clip=0.0)
    name = next(n for n in plain if n.endswith("word_embeddings.weight"))
    first = plain[name]
    torch.testing.assert_close(passes[1] - passes[0], length * first / first.norm(), atol=1e-6, rtol=1e-4)
    # the step follows the sum of both gradients, that at the shifted words by hand
    other = make("numbers", train="all")
    shifted = other.learner.network.model.get_input_embeddings().weight
    shifted.data.copy_(passes[1])
    rows = ROWS.take(next(other.order.steps(0)))
    prepared = other.objective.prepare(rows, None)
    outputs = other.learner.train()(prepared.sequences)[:, None]
    (other.objective.loss(outputs, prepared.columns) / len(rows)).backward()
    torch.testing.assert_close(keep[0], first + shifted.grad, atol=1e-6, rtol=1e-3)


def test_two_passes_are_held_together() -> None:
    """R-Drop: mean of both losses, and how far the two passes are apart."""
    training = make("numbers", r_drop=0.7, dropout=0.3, steps=1, micro_batch=4)
    told: list[torch.Tensor] = []
    training.learner.register_forward_hook(
        lambda *a: told.append(a[2].detach().clone()) if torch.is_grad_enabled() else None
    )
    run(training)
    assert [len(outputs) for outputs in told] == [8, 8, 4]
    one = torch.cat([outputs[: len(outputs) // 2] for outputs in told])
    other = torch.cat([outputs[len(outputs) // 2 :] for outputs in told])
    assert not torch.allclose(one, other)
    rows = ROWS.take(next(training.order.steps(0)))
    values = training.objective.prepare(rows, None).columns["values"]
    mse = functional.mse_loss
    expected = 0.5 * (mse(one, values) + mse(other, values)) + 0.7 * mse(one, other)
    assert losses_of(training) == [pytest.approx(float(expected), rel=1e-4)]


@pytest.mark.parametrize("changed", [{"train": "layers"}, {"train": "all", "lora_rank": 2}])
def test_words_that_do_not_learn_have_no_adversary(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"fgm = 1\.0 follows the gradient of word vectors"):
        FinetuneConfig.model_validate({"fgm": 1.0, **changed})
