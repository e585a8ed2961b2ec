"""`kindling tune` as its users run it: what it finds, what it leaves, what a kill costs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.core.config import load_config
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json
from tests.conftest import SMALL_CONFIG, kill_group, kindling, start_kindling
from tests.processes import descendants
from tests.unit.tiny_models import make_tiny

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SPACE = """
[tune]
passes = 3
grace = 2
trials = 4
search = {"factorize.alpha" = [1.0, 60.0], "factorize.item_regularization" = [1.0, 300.0], "blend.gamma" = {choices = [0.0, 0.2, 1.0]}}
"""  # noqa: E501 - an inline table is one line


FINETUNING = """
[finetune]
objective = "contrastive"
steps = 120
evaluate_every = 20
batch_size = 16
max_tokens = 24
precision = "float32"
validation_rows = 100
[tune]
grace = 6
max_concurrent = 1
search = {"finetune.learning_rate" = [1e-5, 3e-3], "finetune.temperature" = [0.02, 0.2]}
"""


@pytest.fixture(scope="module")
def tuning_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tuning") / "tuning.toml"
    path.write_text(SMALL_CONFIG + SPACE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tuned(small_data: Path, tuning_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output directory with one finished study of four trials; tests that change it work on a copy."""
    out = tmp_path_factory.mktemp("tuned") / "out"
    finished = kindling("tune", "--data", small_data, "--out", out, "--config", tuning_config)
    assert finished.status == 0, finished.err
    assert "4 trials, 4 of them now" in finished.out
    return out


@pytest.fixture
def prepared(tuned: Path, tmp_path: Path) -> Path:
    """Everything a study shares, and no study."""
    out = Path(shutil.copytree(tuned, tmp_path / "out"))
    shutil.rmtree(out / "tune")
    return out


def trials(out: Path, model: str = "kindling") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Layout(out).trials(model).read_text(encoding="utf-8").splitlines()]


def journal(out: Path, model: str = "kindling") -> list[dict[str, Any]]:
    """Events of the only study; a last line may be cut short."""
    studies = list((Layout(out).tuning(model) / "studies").glob("*.jsonl"))
    text = studies[0].read_text(encoding="utf-8") if studies else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def test_a_study_leaves_a_table_a_page_and_a_file_of_settings(tuned: Path, tuning_config: Path) -> None:
    told, layout = trials(tuned), Layout(tuned)
    assert [t["number"] for t in told] == [0, 1, 2, 3]
    assert {t["state"] for t in told} <= {"COMPLETE", "PRUNED"}
    best = max((t for t in told if t["state"] == "COMPLETE"), key=lambda t: float(t["objective"]))
    assert best["objective"] >= told[0]["objective"]
    assert told[0]["settings"]["factorize.alpha"] == load_config(tuning_config).factorize.alpha
    assert told[0]["proposed"] == {}
    config, given = load_config(layout.best_config("kindling")), load_config(tuning_config)
    assert config.factorize.alpha == best["settings"]["factorize.alpha"]
    assert config.blend.gamma == best["settings"]["blend.gamma"]
    assert config.factorize.iterations == best["settings"]["factorize.iterations"]
    assert (config.encoder, config.tune, config.factorize.n_factors) == (given.encoder, given.tune, 16)
    text = layout.best_config("kindling").read_text(encoding="utf-8")
    assert "user_ridge" not in text
    assert f"{told[0]['objective']:.4f}" in text
    assert "Made by: kindling tune --data" in text
    assert "factorize.alpha" in layout.tuning_report("kindling").read_text(encoding="utf-8")
    assert not layout.tune_scratch("kindling").exists()
    assert not (tuned / "stages" / "factorize").exists(), (
        "tuning publishes nothing and touches no test figure"
    )


def test_a_build_with_the_best_settings_reaches_what_the_study_says(
    tuned: Path, small_data: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(tuned, tmp_path / "out"))
    best = max((t for t in trials(out) if t["state"] == "COMPLETE"), key=lambda t: float(t["objective"]))
    finished = kindling(
        "build", "--data", small_data, "--out", out, "--config", Layout(out).best_config("kindling")
    )
    assert finished.status == 0, finished.err
    measured = read_json(Layout(out).evaluation)["validation"]["kindling"]
    for name, figures in best["figures"].items():
        for metric, value in figures.items():
            assert measured[name][metric] == pytest.approx(value, abs=1e-4), (name, metric)


def test_a_finished_study_is_told_again_and_goes_on_when_more_is_asked(
    tuned: Path, small_data: Path, tuning_config: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(tuned, tmp_path / "out"))
    options = ("tune", "--data", small_data, "--out", out, "--config", tuning_config)
    again = kindling(*options)
    assert again.status == 0, again.err
    assert "4 trials, 0 of them now" in again.out
    assert trials(out) == trials(tuned)
    copy = tmp_path / "committed" / "best.toml"
    more = kindling(*options, "--trials", "5", "--write", copy)
    assert more.status == 0, more.err
    assert "5 trials, 1 of them now" in more.out
    assert trials(out)[:4] == trials(tuned)
    assert copy.read_bytes() == Layout(out).best_config("kindling").read_bytes()
    fewer = kindling(*options, "--trials", "2")
    assert "5 trials, 0 of them now" in fewer.out


def wait_until_ended(out: Path, n: int, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while sum(e["event"] == "ended" for e in journal(out)) < n:
        assert time.monotonic() < deadline, journal(out)
        time.sleep(0.02)


@pytest.mark.parametrize("how", ["killed", "terminated"])
def test_a_study_that_was_stopped_goes_on(
    how: str, small_data: Path, tuning_config: Path, prepared: Path
) -> None:
    out = prepared
    options = ("tune", "--data", small_data, "--out", out, "--config", tuning_config, "--trials", "6")
    victim = start_kindling(*options)
    try:
        wait_until_ended(out, 2)
        if how == "terminated":
            victim.send_signal(signal.SIGTERM)
            assert victim.wait(timeout=120) == 130
    finally:
        if victim.poll() is None:
            kill_group(victim)
    before = [e["trial"] for e in journal(out) if e["event"] == "ended"]
    begun = {e["number"]: e["proposed"] for e in journal(out) if e["event"] == "started"}
    assert len(before) < 6, "it was over before it could be stopped"
    finished = kindling(*options)
    assert finished.status == 0, finished.err
    assert f"6 trials, {6 - len(before)} of them now" in finished.out
    assert [t["number"] for t in trials(out)] == list(range(6))
    for trial in before:  # what had ended was not tried again
        assert trial in trials(out)
    ended = [e["trial"]["number"] for e in journal(out) if e["event"] == "ended"]
    assert sorted(ended) == list(range(6))
    started = [e["number"] for e in journal(out) if e["event"] == "started"]
    assert sorted(started) == list(range(1, 6)), "more was started than was asked for"
    for number, proposed in begun.items():
        assert trials(out)[number]["proposed"] == proposed
    assert not Layout(out).tune_scratch("kindling").exists()


def test_a_lost_worker_costs_no_trial(small_data: Path, tuning_config: Path, prepared: Path) -> None:
    out = prepared
    study = start_kindling(
        "tune", "--data", small_data, "--out", out, "--config", tuning_config, "--trials", "8"
    )
    try:
        wait_until_ended(out, 2)
        victims = [pid for pid, name in descendants(study.pid) if "ImplicitFunc" in name or "_trial" in name]
        assert victims, [name for _, name in descendants(study.pid) if "ray::" in name]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        assert study.wait(timeout=300) == 0
    finally:
        if study.poll() is None:
            kill_group(study)
    assert [t["number"] for t in trials(out)] == list(range(8))
    assert {t["state"] for t in trials(out)} <= {"COMPLETE", "PRUNED"}


def test_unsolvable_settings_fail_alone(small_data: Path, prepared: Path, tmp_path: Path) -> None:
    config = tmp_path / "hard.toml"
    config.write_text(
        # more factors than items, next to no regularization and enormous confidences
        SMALL_CONFIG.replace("n_factors = 16", "n_factors = 256\nuser_regularization = 1e-6\nalpha = 1e6")
        + '[tune]\npasses = 2\ntrials = 4\nsearch = {"factorize.item_regularization" = {choices = [1e-6, 30.0]}, '
        '"factorize.user_regularization" = {choices = [1e-6, 1e-5]}}\n',
        encoding="utf-8",
    )
    out = prepared
    finished = kindling("tune", "--data", small_data, "--out", out, "--config", config)
    told = trials(out)
    failed = [t for t in told if t["state"] == "ERROR"]
    assert finished.status == 0, finished.err
    assert failed, told
    assert all("cannot be solved" in t["error"] and t["objective"] is None for t in failed)
    assert len(told) == 4


def test_a_baseline_is_tuned_by_the_same_command(tuned: Path, small_data: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(tuned, tmp_path / "out"))
    config = tmp_path / "plain.toml"
    config.write_text(SMALL_CONFIG, encoding="utf-8")
    finished = kindling(
        "tune", "--data", small_data, "--out", out, "--config", config, "--model", "als", "--trials", "3"
    )
    assert finished.status == 0, finished.err
    best = max(trials(out, "als"), key=lambda t: float(t["objective"]))
    settings = load_config(Layout(out).best_config("als")).evaluate.baseline_settings
    assert settings.keys() <= {"als_alpha", "als_regularization"}
    for name, value in settings.items():
        assert value == best["settings"][f"evaluate.baseline_settings.{name}"]
    assert all(t["state"] == "COMPLETE" for t in trials(out, "als"))
    assert trials(out) == trials(tuned), "another model's study was touched"


def test_other_settings_are_another_study_and_the_first_is_kept(
    tuned: Path, small_data: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(tuned, tmp_path / "out"))
    changed = tmp_path / "changed.toml"
    changed.write_text(
        SMALL_CONFIG + SPACE + "objective = {cold = 1.0, revealed_1 = 0.5}\n", encoding="utf-8"
    )
    finished = kindling("tune", "--data", small_data, "--out", out, "--config", changed, "--trials", "2")
    assert finished.status == 0, finished.err
    assert "2 trials, 2 of them now" in finished.out
    assert all(set(t["figures"]) == {"cold", "revealed_1"} for t in trials(out))
    assert len(list((Layout(out).tuning("kindling") / "studies").glob("*.jsonl"))) == 2


def test_chinese_texts_and_a_slice_without_users(tmp_path: Path, tuning_config: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    items = [
        {"item_id": f"商品{i}", "title": f"{('红茶', '帐篷', '面包')[i % 3]} 第{i}种"} for i in range(60)
    ]
    rows = [
        {"user_id": f"用户{u}", "item_id": f"商品{i}"}
        for u in range(40)
        for i in range(60)
        if i % 3 == u % 3 and (u + i) % 4
    ]
    pd.DataFrame(items).to_parquet(data / "items.parquet")
    pd.DataFrame(rows).to_parquet(data / "interactions.parquet")  # nobody has words: no slice text_only
    config = tmp_path / "chinese.toml"
    config.write_text(
        tuning_config.read_text(encoding="utf-8") + "objective = {all = 1.0, text_only = 1.0}\n",
        encoding="utf-8",
    )
    out = tmp_path / "输出"
    finished = kindling("tune", "--data", data, "--out", out, "--config", config, "--trials", "3")
    assert finished.status == 0, finished.err
    assert "passed over: text_only" in finished.out
    assert all(set(t["figures"]) == {"all"} for t in trials(out))
    config.write_text(
        tuning_config.read_text(encoding="utf-8") + "objective = {text_only = 1.0}\n", encoding="utf-8"
    )
    refused = kindling("tune", "--data", data, "--out", out, "--config", config)
    assert refused.status == 3, refused.err
    assert "none of the slices text_only of tune.objective has users" in refused.err
    assert "Traceback" not in refused.err


def test_what_cannot_be_searched_is_refused_before_any_work(small_data: Path, tmp_path: Path) -> None:
    config = tmp_path / "wrong.toml"
    config.write_text('[tune]\nsearch = {"factorize.alpha" = [60.0, 1.0]}\n', encoding="utf-8")
    out = tmp_path / "out"
    wrong = kindling("tune", "--data", small_data, "--out", out, "--config", config)
    assert (wrong.status, "factorize.alpha = [60.0, 1.0]; expected" in wrong.err) == (2, True)
    for options, said in (
        (("--model", "svd"), "no model is called 'svd'"),
        (("--stage", "fitting"), "--stage fitting; expected model or finetune"),
        (("--stage", "finetune", "--model", "als"), "Leave one of them out"),
        (("--stage", "finetune"), "finetune.objective = 'none': nothing is learnt"),
        (("--trials", "0"), "'--trials': Input should be"),
    ):
        refused = kindling("tune", "--data", small_data, "--out", out, *options)
        assert (refused.status, said in refused.err) == (2, True), refused.err
    assert not out.exists()


def test_a_build_and_a_study_keep_out_of_each_others_way(
    small_data: Path, tuning_config: Path, prepared: Path
) -> None:
    out = prepared
    study = start_kindling(
        "tune", "--data", small_data, "--out", out, "--config", tuning_config, "--trials", "30"
    )
    try:
        wait_until_ended(out, 1)
        refused = kindling("build", "--data", small_data, "--out", out, "--config", tuning_config)
        assert refused.status == 4, refused.err
    finally:
        kill_group(study)


def test_a_study_of_fine_tuning_goes_on_in_the_middle_of_a_trial(small_data: Path, tmp_path: Path) -> None:
    model, config, out = make_tiny("bert", tmp_path / "model"), tmp_path / "finetuning.toml", tmp_path / "out"
    base = SMALL_CONFIG.replace("[encoder]", f'[encoder]\nmodel = "{model}"')
    config.write_text(base + FINETUNING, encoding="utf-8")
    options = ("tune", "--stage", "finetune", "--data", small_data, "--out", out, "--config", config)
    studies = Layout(out).tuning("finetune") / "studies"
    victim = start_kindling(*options, "--trials", "3")
    try:
        deadline = time.monotonic() + 200
        while not (len(journal(out, "finetune")) > 2 and list(studies.glob("*/*.0000000[468]0"))):
            assert victim.poll() is None, "it was over before it could be killed"
            assert time.monotonic() < deadline, journal(out, "finetune")
            time.sleep(0.02)
    finally:
        kill_group(victim)
    (opened, present, begun) = journal(out, "finetune")
    assert opened["users"] == {"validation": 100}
    finished = kindling(*options, "--trials", "3")
    assert finished.status == 0, finished.err
    assert "3 trials, 2 of them now" in finished.out
    told, layout = trials(out, "finetune"), Layout(out)
    assert told[0] == present["trial"], "what had ended was not tried again"
    assert told[1]["proposed"] == begun["proposed"] != told[2]["proposed"]
    assert begun["proposed"]["finetune.learning_rate"] != told[0]["settings"]["finetune.learning_rate"]
    for trial in told:
        assert trial["state"] == "COMPLETE"
        assert len(trial["curve"]) == 6
        assert trial["objective"] == trial["curve"][-1] == trial["figures"]["validation"]["ndcg@20"]
    best = max(told, key=lambda t: float(t["objective"]))
    settings = load_config(layout.best_config("finetune")).finetune
    assert settings.learning_rate == best["settings"]["finetune.learning_rate"]
    assert "ndcg@20 of the best validation" in layout.tuning_report("finetune").read_text(encoding="utf-8")
    assert not list(studies.glob("*/")), "what trials kept is of no use any more"
    assert not layout.stage("finetune").exists()
