"""`kindling doctor`: whether this machine has what a build and the service need."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from pipelines.core.bundle import check_bundle, current_version
from pipelines.core.config import EncoderConfig
from pipelines.core.encoder import Encoder, resolve_dtype
from pipelines.core.errors import KindlingError
from pipelines.core.layout import Layout

_PACKAGES = ("ray", "torch", "transformers", "implicit", "pyarrow", "pandas", "numpy")
_FREE_GB = 5


def run_checks(out: Path | None) -> bool:
    """Print one line per check; True when all passed."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("Python", lambda: sys.version.split()[0]),
        ("packages", lambda: ", ".join(f"{p} {importlib.metadata.version(p)}" for p in _PACKAGES)),
        ("processor", lambda: f"{os.cpu_count()} CPUs, encoder in {resolve_dtype('auto')}"),
        ("GPU", _gpu),
        ("encoder", _encode),
        ("shared memory", lambda: _space(Path("/dev/shm"), 1)),  # noqa: S108 - where Ray keeps its objects
        ("disk", lambda: _space(out if out and out.exists() else Path.cwd(), _FREE_GB)),
    ]
    if out is not None:
        checks.append(("published build", lambda: _bundle(out)))
    console = Console(highlight=False, markup=False, soft_wrap=True)
    passed = True
    for name, check in checks:
        try:
            console.print(f"ok   {name}: {check()}")
        except (KindlingError, OSError, importlib.metadata.PackageNotFoundError) as e:
            passed = False
            console.print(f"FAIL {name}: {e}", style="red")
    return passed


class _CheckError(KindlingError):
    """A check did not pass."""


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        return "none; texts are encoded on the CPU"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def _encode() -> str:
    vector = Encoder(EncoderConfig()).encode(["a small test"])
    return f"all-MiniLM-L6-v2 gives vectors of {vector.shape[1]} numbers"


def _space(path: Path, least_gb: float) -> str:
    if not path.exists():
        return f"{path} is not there; Ray will use temporary files"
    free = shutil.disk_usage(path).free / 1e9
    if free < least_gb:
        raise _CheckError(f"{free:.1f} GB free on {path}; at least {least_gb} are needed")
    return f"{free:.0f} GB free on {path}"


def _bundle(out: Path) -> str:
    layout = Layout(out)
    version = current_version(layout)
    manifest = check_bundle(layout.bundle(version))
    return f"{version}, all {len(manifest['files'])} files whole"
