"""MLflow and Weights & Biases, where the configuration asks for them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Protocol

from pipelines.core.config import FinetuneConfig
from pipelines.core.errors import ConfigError


class Tracker(Protocol):
    """Keeps figures somewhere else."""

    def log(self, step: int, figures: dict[str, float]) -> None:
        """Figures after a step."""

    def close(self) -> None:
        """No more will come."""


def check_trackers(settings: FinetuneConfig) -> None:
    """Say now what would only fail on a worker.

    Raises:
        ConfigError: a tracker is asked for that is not installed.

    """
    for name, wanted in (("mlflow", settings.mlflow), ("wandb", settings.wandb)):
        if wanted and find_spec(name) is None:
            raise ConfigError(
                f"finetune.{name} = '{wanted}': {name} is not installed. pip install 'kindling[tracking]'."
            )


def start_trackers(settings: FinetuneConfig, name: str) -> list[Tracker]:
    """Those that are configured; a run of the same name goes on."""
    trackers: list[Tracker] = []
    if settings.mlflow:
        trackers.append(_MLflow(settings, name))
    if settings.wandb:
        trackers.append(_WandB(settings, name))
    return trackers


class _MLflow:
    def __init__(self, settings: FinetuneConfig, name: str) -> None:
        import mlflow  # noqa: PLC0415 - an extra

        self._client: Any = mlflow.MlflowClient(settings.mlflow)
        found = self._client.get_experiment_by_name("kindling")
        experiment = found.experiment_id if found else self._client.create_experiment("kindling")
        before = self._client.search_runs([experiment], f"attributes.run_name = '{name}'")
        run = before[0] if before else self._client.create_run(experiment, run_name=name)
        self._run = run.info.run_id
        if not before:
            for key, value in settings.model_dump(mode="json").items():
                self._client.log_param(self._run, key, value)

    def log(self, step: int, figures: dict[str, float]) -> None:
        for key, value in figures.items():
            # MLflow knows no @ in a name
            self._client.log_metric(self._run, key.replace("@", "_at_"), value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run)


class _WandB:
    def __init__(self, settings: FinetuneConfig, name: str) -> None:
        import wandb  # noqa: PLC0415 - an extra

        self._run: Any = wandb.init(
            project=settings.wandb, id=name, resume="allow", config=settings.model_dump(mode="json")
        )

    def log(self, step: int, figures: dict[str, float]) -> None:
        self._run.log(figures, step=step)

    def close(self) -> None:
        self._run.finish()
