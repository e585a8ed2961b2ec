"""With which settings a service starts: the build's, where the caller's file says nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.core.bundle import BundlePaths, current_version
from pipelines.core.config import Config, PublishConfig, load_config
from pipelines.core.layout import Layout
from pipelines.core.sections.rules import RulesConfig
from serving.mirroring import fetch_current
from serving.rules import check_against


@dataclass(frozen=True)
class Choices:
    """Settings of a service.

    Attributes:
        settings: of which serve, explore and ray count.
        rules: in place of those of every version; None: each keeps its own.
        publish: says where versions are taken from.

    """

    settings: Config
    rules: RulesConfig | None
    publish: PublishConfig


def choose(layout: Layout, config: Path | None) -> Choices:
    """The settings of a service over `layout`; with a registry, what is in service there is fetched first.

    Raises:
        ConfigError: the file is none, or its rules do not fit what is published.
        ArtefactError: nothing is published.

    """
    if config is not None and (wanted := load_config(config).publish).registry:
        fetch_current(layout, wanted)
    published = BundlePaths(layout.bundle(current_version(layout)))
    settings = load_config(config or published.config)
    publish = settings.publish if config else settings.publish.model_copy(update={"allow_code": False})
    rules = settings.rules if config and "rules" in settings.model_fields_set else None
    check_against(published, rules)
    return Choices(settings, rules, publish)
