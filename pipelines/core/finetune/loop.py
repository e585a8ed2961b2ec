"""The training loop: one step after the other, the same whatever the number of workers.

A step's gradient is that of the whole batch. An objective that compares the examples of a batch has its loss taken over
the vectors of all workers, and each worker then carries the gradient of its own vectors back through the network. Where
memory is short, vectors are made without a graph first and once more, a few at a time, with one (GradCache, Gao et al.
2021): the same gradient in a third more time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import torch
from torch import nn

from pipelines.core.config import FinetuneConfig
from pipelines.core.encoder import resolve_dtype
from pipelines.core.finetune import checkpoint
from pipelines.core.finetune.checkpoint import Point, Standing, State
from pipelines.core.finetune.forgetting import General, GeneralTexts, reason_to_stop
from pipelines.core.finetune.network import Learner, Network
from pipelines.core.finetune.objective import Encode, Objective, Prepared, draws_of
from pipelines.core.finetune.order import Order
from pipelines.core.finetune.parallel import Workers
from pipelines.core.finetune.reading import reader
from pipelines.core.finetune.trainable import freeze, learnable, optimizer, rate_at


class Watch(Protocol):
    """Who is told how a training goes."""

    def on_step(self, step: int, loss: float) -> None:
        """After a step; on the first worker only."""

    def on_validation(self, point: Point, state: State | None) -> str | None:
        """After a validation, on every worker; the first gets a state to store. Returns a reason to stop, or None."""


@dataclass
class Training:
    """One training on one worker.

    Attributes:
        learner: on the worker's device.
        objective: what is learnt.
        settings: how.
        order: of the examples.
        validation: examples, the same on all workers.
        workers: who else trains.
        watch: who is told.
        general: texts to watch forgetting by; None for a network that makes no vectors of texts.
        whole: the encoder before layers were taken out, which forgetting is measured from; None: the learner's.
        begin: sets the head's first weights by what the network makes of examples; None: they are as they should be.

    """

    learner: Learner
    objective: Objective
    settings: FinetuneConfig
    order: Order
    validation: pa.Table
    workers: Workers
    watch: Watch
    general: GeneralTexts | None = None
    whole: Network | None = None
    begin: Callable[[Encode], None] | None = None

    def run(self, rows_from: Callable[[int], Iterator[pa.Table]], resume: State | None = None) -> Standing:
        """Train to the last step, or until it gets no better; leaves the best weights in `learner`.

        Args:
            rows_from: this worker's part of every batch, from a step on.
            resume: where to go on.

        """
        self._named = learnable(self.learner, self.settings)
        self._optimizer = optimizer(self.learner, self.settings)
        self._bfloat16 = resolve_dtype(self.settings.precision) == "bfloat16"
        standing, best = Standing(), checkpoint.copy_weights(self._named)
        self._base: General | None = None
        if self.general is not None:  # as the encoder was, before the weights of a checkpoint
            self.learner.eval()
            self._base = General.of(self._outputs_of(self.whole or self.learner.network), self.general)
        if resume is not None:
            standing, best = resume.standing, resume.best
            checkpoint.set_weights(self._named, resume.weights)
            checkpoint.set_moments(self._optimizer, self._named, resume.optimizer)
        else:
            if self.begin is not None:
                self.learner.eval()
                self.begin(self._outputs_of(self.learner.network))
                best = checkpoint.copy_weights(self._named)
            self._validate(standing, loss=None, rate=0.0, best=best)
        freeze(self.learner, self.settings, standing.step)
        self._parallel = self.workers.parallel(self.learner)
        self._learn(standing, best, rows_from(standing.step))
        checkpoint.set_weights(self._named, best)
        return standing

    def _learn(self, standing: Standing, best: checkpoint.Weights, batches: Iterator[pa.Table]) -> None:
        lost, n, since = 0.0, 0, time.monotonic()
        while standing.step < self.settings.steps and standing.stopped is None:
            if freeze(self.learner, self.settings, standing.step):
                self._parallel = self.workers.parallel(self.learner)
            loss = self._step(standing.step, next(batches))
            standing.step += 1
            lost, n = lost + loss, n + 1
            if self.workers.is_first:
                self.watch.on_step(standing.step, loss)
            if not math.isfinite(loss):  # nor are the weights any more; the best ones are put back
                standing.stopped = f"the loss of step {standing.step} is {loss}: lower finetune.learning_rate"
                checkpoint.set_weights(self._named, best)
                self._tell(standing, best)
                return
            if standing.step % self.settings.evaluate_every == 0 or standing.step == self.settings.steps:
                rate = n * self.order.batch / (time.monotonic() - since)
                self._validate(standing, loss=lost / n, rate=rate, best=best)
                lost, n, since = 0.0, 0, time.monotonic()

    def _validate(
        self, standing: Standing, *, loss: float | None, rate: float, best: checkpoint.Weights
    ) -> None:
        """Measure, note, remember the best, and whether to stop."""
        self.learner.eval()
        figures = self.objective.measure(self._outputs_of(self.learner), self.validation)
        if self.general is not None:
            figures |= General.of(self._outputs_of(self.learner.network), self.general).figures(self._base)
        figures = self.workers.agreed(figures)
        forgot = reason_to_stop(figures, self.settings.max_forgetting)
        standing.curve.append(Point(standing.step, loss, figures, rate))
        figures_of_metric = (point.figures[self.objective.metric] for point in standing.curve)
        values = [-math.inf if math.isnan(value) else value for value in figures_of_metric]
        if len(values) == 1 or (values[-1] > values[standing.best] and not forgot):
            standing.best = len(values) - 1
            best.update(checkpoint.copy_weights(self._named))
        worse = len(values) - 1 - standing.best
        enough = bool(self.settings.patience) and worse >= self.settings.patience
        standing.stopped = f"no better for {worse} validations" if enough else forgot
        self._tell(standing, best)

    def _tell(self, standing: Standing, best: checkpoint.Weights) -> None:
        """Whoever watches, with a state to store; they may stop it too."""
        state = None
        if self.workers.is_first:
            moments = checkpoint.moments_of(self._optimizer, self._named)
            state = State(checkpoint.copy_weights(self._named), dict(best), moments, standing)
        told = self.watch.on_validation(standing.curve[-1], state)
        standing.stopped = standing.stopped or told

    def _outputs_of(self, module: Learner | Network) -> Encode:
        return reader(module, bfloat16=self._bfloat16, workers=self.workers)

    # one step

    def _step(self, step: int, rows: pa.Table) -> float:
        """The batch's mean loss; the weights have moved."""
        self.learner.train()
        factor = rate_at(step, self.settings)
        for group in self._optimizer.param_groups:
            group["lr"] = factor * group["highest"]
        self._optimizer.zero_grad(set_to_none=True)
        first = step * self.order.batch + self.order.part(self.workers.rank, self.workers.world).start
        prepared = self.objective.prepare(rows, draws_of(self.settings.seed, first))
        n = len(rows)
        loss = self._backward(step, prepared, n)
        if self.settings.fgm:
            with self._shifted_words():
                self._backward(step, prepared, n)
        if self.settings.clip:
            nn.utils.clip_grad_norm_(self._named.values(), self.settings.clip)
        self._optimizer.step()
        return loss

    def _backward(self, step: int, prepared: Prepared, n: int) -> float:
        """Add the gradient of the batch's mean loss to the weights; returns the loss."""
        k = len(prepared.sequences) // n
        most = max(self.settings.micro_batch // k, 1) if self.settings.micro_batch else self.order.batch
        chunks = [slice(start, min(start + most, n)) for start in range(0, n, most)]
        if self.objective.compares_examples:
            # the same on all workers: DDP's first passes with a graph talk, and must come before or after a gather
            largest = -(-self.order.batch // self.workers.world)
            return self._compared(step, prepared, chunks, k, once=largest <= most)
        return self._each(step, prepared, chunks, k)

    def _each(self, step: int, prepared: Prepared, chunks: list[slice], k: int) -> float:
        lost = 0.0
        for number, chunk in enumerate(chunks):
            columns = {name: column[chunk] for name, column in prepared.columns.items()}
            with ExitStack() as stack:
                if number + 1 < len(chunks):
                    stack.enter_context(self.workers.quietly(self._parallel))
                loss = self._loss(self._outputs(step, prepared, chunk, k), columns) / self.order.batch
                # gradients are averaged over workers, the batch's loss is a sum
                (loss * self.workers.world).backward()  # type: ignore[no-untyped-call]
            lost += float(loss.detach())
        return self.workers.total(lost)

    def _compared(self, step: int, prepared: Prepared, chunks: list[slice], k: int, *, once: bool) -> float:
        parts = []
        for chunk in chunks:
            with torch.set_grad_enabled(once):
                parts.append(self._outputs(step, prepared, chunk, k))
        own = torch.cat([part.detach() for part in parts])
        everyone = self.workers.gather(own.flatten(1)).view(-1, *own.shape[1:]).requires_grad_()
        columns = {name: self.workers.gather(c.to(own.device)).cpu() for name, c in prepared.columns.items()}
        loss = self._loss(everyone, columns) / self.order.batch
        (gradient,) = torch.autograd.grad(loss, everyone)
        start = self.order.part(self.workers.rank, self.workers.world).start
        for number, chunk in enumerate(chunks):
            with ExitStack() as stack:
                if number + 1 < len(chunks):
                    stack.enter_context(self.workers.quietly(self._parallel))
                outputs = parts[number] if once else self._outputs(step, prepared, chunk, k)
                own_gradient = gradient[start + chunk.start : start + chunk.stop]
                outputs.backward(own_gradient * self.workers.world)  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _outputs(self, step: int, prepared: Prepared, chunk: slice, k: int) -> torch.Tensor:
        """(chunk, k, E), or (chunk, 2, k, E) for R-Drop; the same dropout whenever it is asked for."""
        sequences = prepared.sequences[chunk.start * k : chunk.stop * k]
        if self.settings.r_drop:
            sequences = [*sequences, *sequences]
        torch.manual_seed(hash((self.settings.seed, step, self.workers.rank, chunk.start)) % 2**63)
        with self._precision():
            outputs: torch.Tensor = self._parallel(sequences)
        outputs = outputs.float().view(-1, k, *outputs.shape[1:])
        # what belongs to an example stays beside it, for chunks and workers are put together by examples
        return torch.stack(outputs.chunk(2), dim=1) if self.settings.r_drop else outputs

    def _loss(self, outputs: torch.Tensor, columns: dict[str, torch.Tensor]) -> torch.Tensor:
        if not self.settings.r_drop:
            return self.objective.loss(outputs, columns)
        one, other = outputs.unbind(1)
        both = 0.5 * (self.objective.loss(one, columns) + self.objective.loss(other, columns))
        return both + self.settings.r_drop * self.objective.disagreement(one, other)

    def _precision(self) -> AbstractContextManager[object]:
        device = next(self.learner.parameters()).device.type
        return torch.autocast(device, torch.bfloat16, enabled=self._bfloat16)

    @contextmanager
    def _shifted_words(self) -> Iterator[None]:
        """Word vectors a step of length `fgm` along their gradient, where the loss is larger (Miyato et al. 2017)."""
        words = self.learner.network.model.get_input_embeddings().weight
        norm = float(words.grad.norm()) if words.grad is not None else 0.0
        if not norm:
            yield
            return
        before = words.detach().clone()
        words.data.add_(words.grad, alpha=self.settings.fgm / norm)
        yield
        words.data.copy_(before)
