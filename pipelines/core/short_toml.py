"""A configuration as a person would have written it: only what differs from the defaults."""

from __future__ import annotations

from collections.abc import Sequence

import tomlkit

from pipelines.core.config import Config, Section, toml_value


def short_toml(config: Config, remarks: Sequence[str]) -> str:
    """TOML that `load_config` reads back the same, below `remarks` as comments."""
    document = tomlkit.document()
    for remark in remarks:
        # a comment ends with its line and TOML allows no control characters in it
        document.add(tomlkit.comment("".join(c if c.isprintable() else "?" for c in remark)))
    for name in type(config).model_fields:
        section: Section = getattr(config, name)
        usual = type(section)()
        changed = {
            k: getattr(section, k)
            for k in type(section).model_fields
            if getattr(section, k) != getattr(usual, k)
        }
        if not changed:
            continue
        table = tomlkit.table()
        for key, value in changed.items():
            table.add(key, toml_value(value))
        document.add(tomlkit.nl())
        document.add(name, table)
    return tomlkit.dumps(document)
