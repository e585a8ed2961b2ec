"""Where the versions of a build are published, as its settings say."""

from __future__ import annotations

from pathlib import Path

from pipelines.core.bundle import BundlePaths, current_version
from pipelines.core.config import Config, load_config
from pipelines.core.errors import ArtefactError
from pipelines.core.layout import Layout
from pipelines.core.registry.place import Place
from pipelines.core.registry.registry import open_place


def settings_of(layout: Layout, config: Path | None) -> Config:
    """Of a file, else of the version in service, else the defaults."""
    if config is None:
        try:
            config = BundlePaths(layout.bundle(current_version(layout))).config
        except ArtefactError:
            return Config()
    return load_config(config)


def place_of(out: str, config: Path | None) -> Place:
    """Where versions are published.

    Args:
        out: directory of a build, whose settings may name another place; or `s3://bucket/prefix` itself.
        config: TOML file in place of its settings.

    Raises:
        ConfigError: no such place.

    """
    if "://" in out:
        return open_place(out)
    layout = Layout(Path(out).resolve())
    return open_place(settings_of(layout, config).publish.registry or str(layout.root))
