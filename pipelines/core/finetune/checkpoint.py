"""All that a training needs to go on where it was: weights that learn, the optimizer, and how far it has come.

Safetensors and JSON, never pickle. Random numbers need no storing: each is a function of seed, step and row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from pipelines.core.errors import ArtefactError
from pipelines.core.storage import read_json, write_json

Weights = dict[str, torch.Tensor]

_WEIGHTS, _BEST, _OPTIMIZER, _PROGRESS = (
    "weights.safetensors", "best.safetensors", "optimizer.safetensors", "progress.json",
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One validation.

    Attributes:
        step: after so many.
        loss: mean of the training examples since the validation before; None before any step.
        figures: of the validation examples.
        rate: examples a second since the validation before, all workers together.

    """

    step: int
    loss: float | None
    figures: dict[str, float]
    rate: float


@dataclass
class Standing:
    """How far a training has come.

    Attributes:
        step: optimizer steps done.
        curve: its validations; the first is before any step.
        best: number in `curve` of the best one.
        stopped: why it ended before its last step.

    """

    step: int = 0
    curve: list[Point] = field(default_factory=list)
    best: int = 0
    stopped: str | None = None


@dataclass
class State:
    """What a checkpoint holds; all tensors are on the CPU."""

    weights: Weights
    best: Weights
    optimizer: Weights
    standing: Standing


def save(folder: Path, state: State) -> None:
    """Write a state into a folder that is there; what reads it checks that the last file came."""
    for name, tensors in ((_WEIGHTS, state.weights), (_BEST, state.best), (_OPTIMIZER, state.optimizer)):
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / name)
    write_json(folder / _PROGRESS, without_nan(asdict(state.standing)))


def load(folder: Path) -> State:
    """Read what `save` wrote.

    Raises:
        ArtefactError: it is not whole.

    """
    try:
        weights, best, moments = (load_file(folder / name) for name in (_WEIGHTS, _BEST, _OPTIMIZER))
    except (OSError, SafetensorError) as e:
        raise ArtefactError(
            f"the checkpoint {folder} cannot be read: {e}. Remove it: `kindling finetune` goes on from the one before."
        ) from e
    raw = read_json(folder / _PROGRESS)
    curve = [Point(**point | {"figures": _with_nan(point["figures"])}) for point in raw.pop("curve")]
    return State(weights, best, moments, Standing(curve=curve, **raw))


def without_nan(value: Any) -> Any:  # noqa: ANN401 - JSON
    """JSON has no NaN, which a figure may be: null stands for it."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(figures: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in figures.items()}


def copy_weights(named: Mapping[str, nn.Parameter]) -> Weights:
    """Copies on the CPU that later steps do not change."""
    return {name: weight.detach().to("cpu", copy=True) for name, weight in named.items()}


def set_weights(named: Mapping[str, nn.Parameter], weights: Weights) -> None:
    """Put copies back.

    Raises:
        ArtefactError: they are of other weights.

    """
    if set(named) != set(weights):
        raise ArtefactError(
            f"a checkpoint holds {len(weights)} weights, of which {len(set(weights) - set(named))} are not among the "
            f"{len(named)} that learn: it is of other settings. Remove it."
        )
    with torch.no_grad():
        for name, weight in named.items():
            weight.copy_(weights[name])


def moments_of(optimizer: torch.optim.Optimizer, named: Mapping[str, nn.Parameter]) -> Weights:
    """The optimizer's tensors, by the name of the weight and their own."""
    return {
        f"{name}|{key}": value.detach().to("cpu", copy=True)
        for name, weight in named.items()
        for key, value in optimizer.state.get(weight, {}).items()
    }


def set_moments(
    optimizer: torch.optim.Optimizer, named: Mapping[str, nn.Parameter], moments: Weights
) -> None:
    """Put them back."""
    for full, value in moments.items():
        name, key = full.rsplit("|", 1)
        # the count of steps stays where fused AdamW wants it: beside the weight
        optimizer.state[named[name]][key] = value.to(named[name].device)
