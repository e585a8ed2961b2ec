"""Libraries that only the comparison needs, the extra `bench`: imported when a baseline is fitted, not before."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType


def load(name: str) -> ModuleType:
    """Import a module, without the warnings that its own code gives on import.

    Raises:
        ImportError: it is not installed, or not for this machine.

    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # irspack's pydantic settings are written in the style before 2.0
        return importlib.import_module(name)
