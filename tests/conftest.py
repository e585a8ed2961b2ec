"""What several kinds of test need: a small catalogue, a small configuration, the command line as a process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.core.catalogue import GeneratorConfig, generate, write
from tests.s3_server import new_bucket, s3_server

ROOT = Path(__file__).parent.parent
REAL_DATA = Path(os.environ.get("KINDLING_REAL_DATA", ROOT.parent / "shared" / "data"))

SMALL_CONFIG = """
[encoder]
dtype = "float32"      # so that a text's vector does not depend on its batch
max_tokens = 48
[lexical]
n_dims = 32
[embed]
texts_per_task = 64
[factorize]
n_factors = 16
iterations = 4
[evaluate]
bootstrap = 50
users_per_task = 100
"""


@pytest.fixture(autouse=True)
def _same_numbers_in_every_run() -> None:
    """Numbers that a test draws without a seed of its own do not decide whether it passes."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def _s3() -> Iterator[str]:
    with s3_server() as server:
        yield server


@pytest.fixture
def s3_folder(_s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of an empty folder on a real S3 interface, of the test's own."""
    return new_bucket(_s3, monkeypatch)


@dataclass(frozen=True)
class Finished:
    """A command that ended."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of a generated catalogue: 240 items, 200 users, 3,000 interactions."""
    directory = tmp_path_factory.mktemp("small") / "data"
    write(generate(GeneratorConfig(n_items=240, n_users=200, n_interactions=3000)), directory)
    return directory


@pytest.fixture(scope="session")
def small_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration that builds the small catalogue in seconds."""
    path = tmp_path_factory.mktemp("config") / "small.toml"
    path.write_text(SMALL_CONFIG, encoding="utf-8")
    return path


def command(*arguments: str | Path) -> list[str]:
    """The command line of `kindling` with these arguments."""
    return [str(Path(sys.executable).parent / "kindling"), *map(str, arguments)]


def kindling(*arguments: str | Path, env: dict[str, str] | None = None, timeout: float = 400) -> Finished:
    """Run `kindling` to its end."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=timeout, check=False,
        env={**os.environ, "COLUMNS": "200", **(env or {})},
    )  # fmt: skip
    return Finished(done.returncode, done.stdout, done.stderr)


def start_kindling(*arguments: str | Path) -> subprocess.Popen[bytes]:
    """Start `kindling` in a process group of its own, so that everything it starts can be killed with it."""
    return subprocess.Popen(
        command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process and its group, as the kernel does when memory is out."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)


@pytest.fixture(scope="session")
def built(small_data: Path, small_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output directory with one finished build; tests that change it work on a copy."""
    out = tmp_path_factory.mktemp("built") / "out"
    finished = kindling("build", "--data", small_data, "--out", out, "--config", small_config)
    assert finished.status == 0, finished.err
    return out


@pytest.fixture
def built_copy(built: Path, tmp_path: Path) -> Path:
    """The same, of the test's own."""
    return Path(shutil.copytree(built, tmp_path / "out"))


@pytest.fixture(scope="session")
def run_python() -> Callable[[str, Sequence[str]], Finished]:
    """Run a program in a fresh interpreter: Ray starts once per process, with whatever nodes it likes."""

    def run(program: str, arguments: Sequence[str]) -> Finished:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return run
