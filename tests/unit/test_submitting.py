"""What travels to a cluster with a submitted command, and what is refused before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.submitting import check_paths, pack
from pipelines.core.errors import ConfigError, InputError


def test_what_travels_runs_by_itself_and_is_the_program_and_the_configuration_alone(tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text("[factorize]\nn_factors = 17\n")
    arguments = ["--data", "/shared/tables", "--config", str(config), "--out=/shared/out"]
    work = tmp_path / "work"
    sent = pack(work, arguments)
    assert sent == ["--data", "/shared/tables", "--out=/shared/out", "--config", "config.toml"]
    assert {p.name for p in work.iterdir()} == {"jobs", "pipelines", "serving", "config.toml"}
    assert not [p for p in work.rglob("*") if p.name == "__pycache__" or p.name.startswith(".")]
    assert sum(p.stat().st_size for p in work.rglob("*") if p.is_file()) < 20_000_000
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "doctor", "--help"],
        cwd=work,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "doctor" in done.stdout
    where = subprocess.run(
        [sys.executable, "-c", "import pipelines; print(pipelines.__file__)"], cwd=work, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert str(work) in where.stdout


def test_a_configuration_given_with_an_equals_sign_travels_too(tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text("")
    assert pack(tmp_path / "work", [f"--config={config}", "--trials", "3"]) == [
        "--trials", "3", "--config", "config.toml",
    ]  # fmt: skip


def test_a_wrong_configuration_is_told_before_anything_travels(tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text("[factorize]\nn_factors = -1\n")
    with pytest.raises(ConfigError, match="n_factors"):
        pack(tmp_path / "work", ["--config", str(config)])


@pytest.mark.parametrize(
    "arguments", [["--out", "out"], ["--out=out"], ["--data", "./tables", "--out", "/out"]]
)
def test_a_path_that_others_cannot_know_is_refused(arguments: list[str]) -> None:
    with pytest.raises(InputError, match="a job runs elsewhere"):
        check_paths(arguments)


@pytest.mark.parametrize("data", ["s3://bucket/tables", "gs://bucket/tables", "/shared/tables"])
def test_paths_that_all_can_see_are_taken(data: str) -> None:
    check_paths(["--data", data, "--out", "/shared/out", "--until-stage", "embed"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--out", "/out"], "'serve' cannot be submitted"),
        (["build", "--out", "/out", "--data", "/d", "--env", "NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE"),
    ],
)
def test_what_cannot_be_submitted_is_said(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["submit", *arguments])
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "--out", "/out"], "Missing option '--data'"),
        (["build", "--data", "/d", "--ouut", "/out"], "No such option: --ouut"),
    ],
)
def test_options_are_those_of_the_command(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["submit", *arguments])
    assert result.exit_code == 2
    assert message in result.output
