"""Options that many commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

OutOption = Annotated[Path, typer.Option("--out", help="Directory of the build.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file; see `kindling config`.")]
