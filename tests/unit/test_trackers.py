"""Figures of a fine-tuning, told to MLflow and Weights & Biases; both are extras, each skipped where it is absent."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipelines.core.config import FinetuneConfig
from pipelines.core.errors import ConfigError
from pipelines.trackers import check_trackers, start_trackers


def test_one_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ConfigError, match="tracking"):
        check_trackers(FinetuneConfig(mlflow="sqlite:///x.db"))


def test_none_is_asked_for() -> None:
    check_trackers(FinetuneConfig())
    assert start_trackers(FinetuneConfig(), "run") == []


def test_mlflow_goes_on_with_a_run_of_the_same_name(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="pip install 'kindling[tracking]'")
    settings = FinetuneConfig(mlflow=f"sqlite:///{tmp_path}/runs.db")
    for step in (1, 2):
        (tracker,) = start_trackers(settings, "run")
        tracker.log(step, {"loss": 1.0 / step, "validation/ndcg@20": 0.5})
        tracker.close()
    client = mlflow.MlflowClient(settings.mlflow)
    (run,) = client.search_runs([client.get_experiment_by_name("kindling").experiment_id])
    assert run.data.metrics == {"loss": 0.5, "validation/ndcg_at_20": 0.5}
    assert run.data.params["seed"] == "0"


def test_wandb_writes_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="pip install 'kindling[tracking]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    (tracker,) = start_trackers(FinetuneConfig(wandb="kindling"), "run")
    tracker.log(1, {"loss": 1.0})
    tracker.close()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
