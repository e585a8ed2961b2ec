"""Sizes that the shape of a body does not say, for they are settings."""

from __future__ import annotations

from pipelines.core.config import ServeConfig
from pipelines.core.errors import InputError


def check_text(name: str, text: str, limits: ServeConfig) -> None:
    """Raise InputError where a text is too long."""
    if len(text) > limits.max_text_chars:
        raise InputError(f"{name} has {len(text)} characters, expected at most {limits.max_text_chars}.")


def check_count(name: str, entries: int, most: int) -> None:
    """Raise InputError where there are too many of something."""
    if entries > most:
        raise InputError(f"{name} has {entries} entries, expected at most {most}.")
