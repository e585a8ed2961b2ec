"""Every knob of a build, frozen and validated; `kindling config` prints them all with their comments."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import BaseModel, ValidationError

from pipelines.core.errors import ConfigError
from pipelines.core.sections.base import Positive, Power, Section, Seed, Share, Strength, Weight
from pipelines.core.sections.data import DataConfig, PrivacyConfig, SplitConfig
from pipelines.core.sections.exploring import ExploreConfig
from pipelines.core.sections.finetuning import FinetuneConfig
from pipelines.core.sections.measuring import EvaluateConfig, TuneConfig
from pipelines.core.sections.model import BlendConfig, FactorizeConfig
from pipelines.core.sections.rebuilding import RebuildConfig
from pipelines.core.sections.releasing import ReleaseConfig
from pipelines.core.sections.rules import RulesConfig
from pipelines.core.sections.running import LogsConfig, PublishConfig, RayConfig, ServeConfig
from pipelines.core.sections.texts import (
    AttributesConfig,
    EmbedConfig,
    EncoderConfig,
    LexicalConfig,
    RelationsConfig,
)
from pipelines.core.sections.watching import AlertsConfig, DriftConfig

__all__ = [
    "AlertsConfig",
    "AttributesConfig",
    "BlendConfig",
    "Config",
    "DataConfig",
    "DriftConfig",
    "EmbedConfig",
    "EncoderConfig",
    "EvaluateConfig",
    "ExploreConfig",
    "FactorizeConfig",
    "FinetuneConfig",
    "LexicalConfig",
    "LogsConfig",
    "Positive",
    "Power",
    "PrivacyConfig",
    "PublishConfig",
    "RayConfig",
    "RebuildConfig",
    "RelationsConfig",
    "ReleaseConfig",
    "RulesConfig",
    "Section",
    "Seed",
    "ServeConfig",
    "Share",
    "SplitConfig",
    "Strength",
    "TuneConfig",
    "Weight",
    "load_config",
    "parse_config",
    "to_toml",
]


class Config(Section):
    """One build."""

    data: DataConfig = DataConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    split: SplitConfig = SplitConfig()
    encoder: EncoderConfig = EncoderConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    embed: EmbedConfig = EmbedConfig()
    lexical: LexicalConfig = LexicalConfig()
    relations: RelationsConfig = RelationsConfig()
    attributes: AttributesConfig = AttributesConfig()
    factorize: FactorizeConfig = FactorizeConfig()
    blend: BlendConfig = BlendConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    tune: TuneConfig = TuneConfig()
    rebuild: RebuildConfig = RebuildConfig()
    release: ReleaseConfig = ReleaseConfig()
    publish: PublishConfig = PublishConfig()
    drift: DriftConfig = DriftConfig()
    alerts: AlertsConfig = AlertsConfig()
    serve: ServeConfig = ServeConfig()
    rules: RulesConfig = RulesConfig()
    explore: ExploreConfig = ExploreConfig()
    ray: RayConfig = RayConfig()
    logs: LogsConfig = LogsConfig()

    def fingerprint(self, *sections: str, exclude: frozenset[str] = frozenset()) -> str:
        """Hash of the named sections; `exclude` holds `section.field` names that cannot change a result."""
        chosen = {
            f"{s}.{k}": v
            for s in sections
            for k, v in self.model_dump(mode="json")[s].items()
            if f"{s}.{k}" not in exclude
        }
        return hashlib.blake2b(json.dumps(chosen, sort_keys=True).encode(), digest_size=12).hexdigest()


def load_config(path: Path | None) -> Config:
    """Read a TOML file over the defaults.

    Raises:
        ConfigError: unreadable file, bad TOML, unknown key or value out of range, all of them named.

    """
    if path is None:
        return Config()
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(
            f"cannot read the configuration {path}: {e}. Give the path of a UTF-8 TOML file."
        ) from e
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(
            f"{path} is not valid TOML: {e}. `kindling config` prints a complete example."
        ) from e
    return parse_config(raw, str(path))


def parse_config(raw: dict[str, Any], source: str) -> Config:
    """Validate `raw`; `source` is named in the message.

    Raises:
        ConfigError: every problem on a line of its own.

    """
    try:
        return Config.model_validate(raw)
    except ValidationError as e:
        lines = []
        for error in e.errors():
            key = ".".join(str(part) for part in error["loc"])
            if error["type"] == "extra_forbidden":
                lines.append(f"  {key}: no such setting; `kindling config` lists them all")
            else:
                lines.append(f"  {key} = {error['input']!r}: {error['msg'].removeprefix('Value error, ')}")
        raise ConfigError(f"{source}: {len(lines)} setting(s) cannot be used:\n" + "\n".join(lines)) from e


def toml_value(value: object) -> object:
    """A setting as TOML within one line of its section, however deep it is."""
    if isinstance(value, BaseModel):
        # what is unset has no words in TOML
        value = {k: v for k in type(value).model_fields if (v := getattr(value, k)) is not None}
    if isinstance(value, dict):
        inline = tomlkit.inline_table()
        inline.update({k: toml_value(v) for k, v in value.items()})
        return inline
    if isinstance(value, tuple | list):
        array = tomlkit.array()
        array.extend(toml_value(v) for v in value)
        return array
    return value


def to_toml(config: Config) -> str:
    """All settings of `config` with their descriptions as comments; `load_config` reads it back the same."""
    document = tomlkit.document()
    for name in type(config).model_fields:
        section: Section = getattr(config, name)
        table = tomlkit.table()
        table.comment((type(section).__doc__ or "").strip())
        for key, info in type(section).model_fields.items():
            value = getattr(section, key)
            table.add(tomlkit.comment(info.description or ""))
            if value is None:
                table.add(tomlkit.comment(f"{key} = (unset)"))
            else:
                table.add(key, toml_value(value))
        document.add(name, table)
        document.add(tomlkit.nl())
    return tomlkit.dumps(document)
